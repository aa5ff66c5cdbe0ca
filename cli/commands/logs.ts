/** `kaon logs ID`: a task's output, byte for byte, from the node where it ran; what the master kept if that node is gone. */
import { once } from 'node:events';
import { readTaskOutput } from '../../framework/output-reader.ts';
import type { OutputKind } from '../../framework/output-reader.ts';
import { lastHeard } from '../../io/liveness.ts';
import type { RedisStore } from '../../io/redis-store.ts';
import { KaonError } from '../../protocol/errors.ts';
import { agentName } from '../../protocol/keys.ts';
import { formatBytes, formatDuration } from '../../protocol/quantities.ts';
import type { AgentRecord } from '../../protocol/records.ts';
import { withStore } from '../connection.ts';
import { EXIT_INTERRUPTED, EXIT_OK } from '../failure.ts';
import type { LogsOptions } from '../options.ts';
import { TerminalFilter } from '../terminal-filter.ts';
import { tellUnreadable } from '../registry.ts';
import type { Unreadable } from '../registry.ts';
import { findTask } from '../task-view.ts';
import type { TaskView } from '../task-view.ts';

/** Agents send a heartbeat every 5 s; one that missed two is not there, milliseconds. */
const HEARTBEAT_MISSED_MS = 12_000;

/** @returns the exit code */
export async function logs(options: LogsOptions, asked: string): Promise<number> {
  const stop = new AbortController();
  const onInterrupt = (): void => {
    // The second time at once, whatever the first one waits for.
    if (stop.signal.aborted) process.exit(EXIT_INTERRUPTED);
    stop.abort();
  };
  process.on('SIGINT', onInterrupt);
  try {
    await withStore(options, { name: 'logs', isPatient: true }, (store) =>
      show(store, options, asked, stop.signal),
    );
  } finally {
    process.off('SIGINT', onInterrupt);
  }
  return stop.signal.aborted ? EXIT_INTERRUPTED : EXIT_OK;
}

async function show(
  store: RedisStore,
  options: LogsOptions,
  asked: string,
  signal: AbortSignal,
): Promise<void> {
  const unreadable: Unreadable[] = [];
  const { task, cluster } = await findTask(store, asked, unreadable);
  tellUnreadable(unreadable);
  const agent = cluster.agents.find(({ info }) => info.agentId === task.agentId);
  if (!agent) {
    await showKept(task, options, `its agent ${task.agentId} is not registered any more`);
    return;
  }
  const received: Record<OutputKind, number> = { stdout: 0, stderr: 0 };
  const writer = createWriter(options);
  const { error } = await readTaskOutput({
    store,
    agentId: task.agentId,
    frameworkId: task.frameworkId,
    taskId: task.taskId,
    follow: options.follow,
    stdout: options.stdout,
    stderr: options.stderr,
    ...(options.lastBytes !== undefined && { lastBytes: options.lastBytes }),
    signal,
    onChunk: async (kind, bytes) => {
      received[kind] += bytes.length;
      await writer.write(kind, bytes);
    },
    onGap: (kind, missingBytes) => {
      say(`${formatBytes(missingBytes)} of ${kind} are missing here`);
    },
    onSilence: () => tellSilence(store, agent, options),
  });
  await writer.end();
  if (error === '') return;
  if (received.stdout + received.stderr > 0) throw new KaonError('output-incomplete', error);
  await showKept(task, options, error);
}

/** A task that is followed may only have nothing to say: then its agent lives, and nothing is said here either. */
async function tellSilence(
  store: RedisStore,
  agent: AgentRecord,
  { follow }: LogsOptions,
): Promise<void> {
  const { agentId, hostname } = agent.info;
  const heardAtMs = await lastHeard(store.redis, store.keys, agentName(agentId));
  const silentMs = heardAtMs === undefined ? undefined : (await store.nowMs()) - heardAtMs;
  const isMissing = silentMs === undefined || silentMs > HEARTBEAT_MISSED_MS;
  if (follow && !isMissing) return;
  const since =
    silentMs === undefined
      ? 'is not connected'
      : `was last heard of ${formatDuration(silentMs)} ago`;
  say(
    `agent ${agentId} (${hostname}) does not answer${isMissing ? ` and ${since}` : ''}; waiting for it`,
  );
}

/** The last lines travelled with the end of the task, so that they exist even when its node does not. */
async function showKept(task: TaskView, options: LogsOptions, problem: string): Promise<void> {
  const { stdoutTail, stderrTail } = task.status?.certificate ?? {};
  const kept = [
    ['stdout', options.stdout ? stdoutTail : undefined],
    ['stderr', options.stderr ? stderrTail : undefined],
  ] as const;
  if (kept.every(([, tail]) => tail === undefined || tail === '')) {
    throw new KaonError('not-found', `no output of task ${task.taskId}: ${problem}`);
  }
  const writer = createWriter(options);
  say(`${problem}; these are the last lines that the master has kept`);
  for (const [kind, tail] of kept) {
    if (tail === undefined || tail === '') continue;
    const bytes = Buffer.from(tail);
    await writer.write(kind, bytes.subarray(-(options.lastBytes ?? bytes.length)));
  }
  await writer.end();
}

interface Writer {
  write(kind: OutputKind, bytes: Buffer): Promise<void>;
  end(): Promise<void>;
}

/** Into a file or a pipe byte for byte; on a terminal nothing that the terminal would obey, unless that is asked for. */
function createWriter({ raw }: LogsOptions): Writer {
  const kinds = ['stdout', 'stderr'] as const;
  const filters = new Map<OutputKind, TerminalFilter>(
    kinds.filter((kind) => !raw && process[kind].isTTY).map((kind) => [kind, new TerminalFilter()]),
  );
  return {
    write: (kind, bytes) => write(kind, filters.get(kind)?.push(bytes) ?? bytes),
    end: async () => {
      for (const [kind, filter] of filters) await write(kind, filter.flush());
    },
  };
}

/** Waits for a slow reader, so that a pipe holds the agent back and nothing piles up here. */
async function write(kind: OutputKind, bytes: Buffer): Promise<void> {
  if (!process[kind].write(bytes)) await once(process[kind], 'drain');
}

function say(text: string): void {
  process.stderr.write(`kaon: ${text}\n`);
}
