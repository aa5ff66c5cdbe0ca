/** Runs an agent as a process: detects the node, connects to systemd and Redis, recovers, and serves until SIGTERM. */
import { mkdir, readFile, realpath } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { randomName, systemClock } from '../io/clock.ts';
import type { Log, LogLevel } from '../io/log.ts';
import { createLog } from '../io/log.ts';
import { hidePassword } from '../io/redis-connection.ts';
import { RedisStore } from '../io/redis-store.ts';
import { KaonError } from '../protocol/errors.ts';
import { idPart } from '../protocol/ids.ts';
import type { AgentId } from '../protocol/ids.ts';
import type { Resources } from '../protocol/resources.ts';
import { formatResources } from '../protocol/resources.ts';
import { createSystemd } from '../systemd/manager.ts';
import { isSafeRoot } from '../systemd/reread.ts';
import type { AgentDependencies } from './agent.ts';
import { agentDirectory, runAgent } from './agent.ts';
import { findTraces } from './adopt.ts';
import { createFetcher } from './artifacts/index.ts';
import { openCheckpoints } from './checkpoint.ts';
import { detectNode, resourcesToOffer } from './detect.ts';
import { lockDirectory } from './directory-lock.ts';
import { createIntroduction } from './executor-introduction.ts';
import { ExecutorJournals } from './executor-journal.ts';
import { openIdentity } from './identity.ts';

/** What an agent is started with; everything but the address and the state directory has a default. */
export interface AgentProcessOptions {
  readonly redis: string;
  readonly cluster: string;
  /** Absolute; made if it is missing. */
  readonly stateDir: string;
  /** Instead of what was detected. */
  readonly resources?: Partial<Resources>;
  /** Kept for the system; default 512 MiB of memory, and no CPU. */
  readonly reserve?: Partial<Resources>;
  /** Beside those that are detected, or instead of them. */
  readonly attributes?: Readonly<Record<string, string>>;
  /** Default: the one in the state directory, or a new one made of the host name. */
  readonly agentId?: string;
  /** D-Bus address of systemd. Default: the system bus. */
  readonly busAddress?: string;
  /** Of artifacts that tasks may share, bytes. Default 2 GiB. */
  readonly artifactCacheBytes?: number;
  /** Where Kaon's own programs for the node are, absolute. Default: beside the one that runs. */
  readonly programs?: string;
  readonly logLevel?: LogLevel;
}

const ARTIFACT_CACHE_BYTES = 2 * 1024 ** 3;
/** It mostly waits: memory counts more than speed. */
const DEFAULT_EXECUTOR_FLAGS = ['--max-semi-space-size=1', '--lite-mode', '--no-expose-wasm'];

/**
 * Resolves when the agent has stopped; its tasks go on.
 *
 * @throws KaonError `agent-moved` if another agent took over its id, `agent-running`, `no-resources`, `agent-state`,
 *   `systemd-unreachable`, and the master's own codes if it refuses the agent
 */
export async function runAgentProcess(options: AgentProcessOptions): Promise<void> {
  const { redis, cluster, stateDir, logLevel = 'info' } = options;
  const log = createLog({ level: logLevel, journal: process.env['JOURNAL_STREAM'] !== undefined });
  const directory = agentDirectory(stateDir);
  refuseUnsafe(directory);
  await mkdir(directory, { recursive: true, mode: 0o711 });
  // Held until this process is gone, however that comes about.
  await lockDirectory(directory);
  const systemd = createSystemd({
    log,
    ...(options.busAddress !== undefined && { busAddress: options.busAddress }),
  });
  const node = await detectNode(await systemd.describe());
  const resources = resourcesToOffer(node.total, options.resources ?? {}, options.reserve ?? {});
  const checkpoints = await openCheckpoints(directory, log);
  const identity = await openIdentity({
    directory,
    cluster,
    wanted: options.agentId as AgentId | undefined,
    traces: () => findTraces({ directory, cluster, systemd, checkpoints }),
    make: () => `${idPart(node.hostname)}.${randomName(6)}` as AgentId,
  });
  const { agentId } = identity;
  log.info('node.detected', {
    total: formatResources(node.total),
    offers: formatResources(resources),
    redis: hidePassword(redis),
    cluster,
    stateDir,
  });
  const executing = await prepareExecuting(options, { directory, agentId, log });
  const store = new RedisStore({ url: redis, cluster, log, name: 'agent' });
  const stop = new AbortController();
  stopOnSignals(stop, log);
  let end: 'stopped' | 'moved';
  try {
    end = await runAgent(
      {
        store,
        systemd,
        clock: systemClock,
        log,
        checkpoints,
        ...executing,
        identity,
        cluster,
        directory,
        info: {
          ...{ agentId, hostname: node.hostname, resources },
          attributes: { ...node.attributes, ...options.attributes },
        },
        bootId: await readBootId(),
      },
      stop.signal,
    );
  } finally {
    // Open connections would keep an agent alive that has been refused.
    await store.close();
    await systemd.close();
  }
  if (end === 'moved') {
    throw new KaonError(
      'agent-moved',
      `another agent has registered as ${agentId}; this one has stopped`,
      {
        hint: 'two agents must not share a state directory or an --agent-id',
      },
    );
  }
}

function stopOnSignals(stop: AbortController, log: Log): void {
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.once(signal, () => {
      log.info('agent.stopping', { signal });
      stop.abort();
    });
  }
}

/** What executors, artifacts and tasks that are a part of Kaon need of this process and its installation. */
async function prepareExecuting(
  options: AgentProcessOptions,
  { directory, agentId, log }: { directory: string; agentId: AgentId; log: Log },
): Promise<
  Pick<AgentDependencies, 'journals' | 'fetcher' | 'introduction' | 'socketPath' | 'programs'>
> {
  const socketPath = join(directory, 'executors.sock');
  const programs = options.programs ?? dirname(await realpath(process.argv[1] ?? '.'));
  const defaultExecutor = [
    process.execPath,
    ...DEFAULT_EXECUTOR_FLAGS,
    join(programs, 'default-executor.js'),
  ];
  return {
    journals: new ExecutorJournals({ directory, agentId, log }),
    fetcher: createFetcher({
      ...{ directory, log, clock: systemClock },
      cacheMaxBytes: options.artifactCacheBytes ?? ARTIFACT_CACHE_BYTES,
      helperArgv: [process.execPath, join(programs, 'artifact-fetcher.js')],
    }),
    introduction: createIntroduction({ socketPath, agentId, defaultExecutor }),
    socketPath,
    programs: { KAON_NODE: process.execPath, KAON_PROGRAM: join(programs, 'kaon.js') },
  };
}

/** Paths below it are in the units of all tasks, and systemd must read them there as they were meant. */
function refuseUnsafe(directory: string): void {
  if (isSafeRoot(directory)) return;
  const found = `state directory ${JSON.stringify(directory)} has a character that systemd does not keep in a unit`;
  throw new KaonError('agent-state', found, {
    hint: 'choose a --state-dir without control characters, quotes, backslashes, dollars, semicolons and percent signs',
  });
}

/** The kernel's boot and the start of process 1: a systemd in a namespace of its own may end while the kernel goes on. */
async function readBootId(): Promise<string> {
  const boot = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
  const stat = await readFile('/proc/1/stat', 'utf8');
  // proc(5): field 22 is the start time; the second, in parentheses, may hold anything.
  const startTicks = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '0';
  return `${boot}.${startTicks}`;
}
