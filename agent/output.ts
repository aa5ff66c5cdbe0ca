/**
 * Answers requests for the output of tasks: follows the files of a sandbox and writes their bytes into the reader's
 * stream, past the master. A reader that is slow only makes its own answer wait.
 */
import { watch } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../io/clock.ts';
import type { Log } from '../io/log.ts';
import type { OutputChunk, Store, StreamId } from '../io/store.ts';
import { START } from '../io/store.ts';
import { decodeEntry } from '../protocol/codec.ts';
import { codeOf, messageOf } from '../protocol/errors.ts';
import type { AgentId, FrameworkId, TaskId } from '../protocol/ids.ts';
import type { MessageOf } from '../protocol/messages.ts';

const CHUNK_BYTES = 64 * 1024;
/** Chunks that wait in Redis for a reader before the agent stops to write: 4 MiB. */
const WAITING_CHUNKS_MAX = 64;
/** How often a full stream, and a file that a watch may have missed, are looked at, milliseconds. */
const LOOK_MS = 50;
const FOLLOW_LOOK_MS = 500;
/** How long a request to follow a task may be ahead of the task, and how often that is looked at, milliseconds. */
const LAUNCH_WAIT_MS = 10_000;
const LAUNCH_LOOK_MS = 5;
/** A reader that takes nothing for so long has gone, milliseconds. */
const READER_GONE_MS = 60_000;
const READ_BLOCK_MS = 2000;
const RETRY_MS = 500;

/** What answering takes: the store, and where the output of a task is. */
export interface OutputServerOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Log;
  readonly agentId: AgentId;
  /** The sandbox of a task, running or ended. */
  readonly findSandbox: (frameworkId: FrameworkId, taskId: TaskId) => Promise<string | undefined>;
  /** True while more output may come. */
  readonly isLive: (frameworkId: FrameworkId, taskId: TaskId) => boolean;
}

/**
 * Serves until `signal` is aborted and the store is closed. A request stays in the stream until it has been answered
 * whole, so an agent that was restarted answers it again, and the reader drops the bytes that it has.
 */
export async function serveOutput(
  options: OutputServerOptions,
  signal: AbortSignal,
): Promise<void> {
  const { store, clock, log, agentId } = options;
  let cursor: StreamId = START;
  while (!signal.aborted) {
    try {
      const entries = await store.readAgentRequests(agentId, cursor, READ_BLOCK_MS);
      for (const entry of entries) {
        cursor = entry.id;
        for (const decoded of decodeEntry(entry.messages)) {
          if (decoded.ok && decoded.value.type === 'ReadOutput') {
            answer(options, decoded.value, entry.id, signal);
          } else {
            log.warn('request.bad', {
              entry: entry.id,
              error: decoded.ok ? decoded.value.type : decoded.message,
            });
          }
        }
      }
    } catch (error) {
      if (signal.aborted) return;
      log.warn('request.read-failed', { error: messageOf(error), retryMs: RETRY_MS });
      await clock.sleep(RETRY_MS, signal);
    }
  }
}

function answer(
  options: OutputServerOptions,
  request: MessageOf<'ReadOutput'>,
  id: StreamId,
  signal: AbortSignal,
): void {
  const { store, log, agentId } = options;
  void copyOutput(options, request, signal)
    .catch((error: unknown) => messageOf(error))
    .then(async (problem) => {
      if (signal.aborted) return; // Cut short by us: the next agent answers it whole.
      await store.writeOutput(request.readId, [{ kind: 'end', error: problem ?? '' }]);
      await store.removeAgentRequest(agentId, id);
    })
    .catch((error: unknown) => {
      log.warn('output.failed', { taskId: request.taskId, error: messageOf(error) });
    });
}

/** @returns what went wrong, for the reader */
async function copyOutput(
  options: OutputServerOptions,
  request: MessageOf<'ReadOutput'>,
  signal: AbortSignal,
): Promise<string | undefined> {
  const { taskId } = request;
  const sandbox = await findWhenThere(options, request, signal);
  if (sandbox === undefined)
    return `no output of task ${taskId} here: its sandbox has been removed, or it never ran`;
  const kinds = (['stdout', 'stderr'] as const).filter((kind) => request[kind]);
  await Promise.all(
    kinds.map((kind) => copyFile(options, request, { kind, path: join(sandbox, kind) }, signal)),
  );
  return undefined;
}

/** A reader asks as soon as it has launched the task, and its request does not wait for the master: it may be early. */
async function findWhenThere(
  { findSandbox, clock }: OutputServerOptions,
  { frameworkId, taskId, follow }: MessageOf<'ReadOutput'>,
  signal: AbortSignal,
): Promise<string | undefined> {
  const deadlineMs = clock.monotonicMs() + LAUNCH_WAIT_MS;
  for (;;) {
    const sandbox = await findSandbox(frameworkId, taskId);
    if (sandbox !== undefined || !follow || signal.aborted) return sandbox;
    if (clock.monotonicMs() > deadlineMs) return undefined;
    await clock.sleep(LAUNCH_LOOK_MS, signal);
  }
}

interface OutputFile {
  readonly kind: 'stdout' | 'stderr';
  readonly path: string;
}

async function copyFile(
  options: OutputServerOptions,
  request: MessageOf<'ReadOutput'>,
  { kind, path }: OutputFile,
  signal: AbortSignal,
): Promise<void> {
  const { clock, isLive } = options;
  const isDone = (): boolean =>
    signal.aborted || !request.follow || !isLive(request.frameworkId, request.taskId);
  const file = await openWhenThere(path, isDone, clock);
  if (!file) return;
  const changes = watchFile(path, clock);
  try {
    let offset = Math.max(0, (await file.stat()).size - (request.lastBytes ?? Infinity));
    for (;;) {
      // Asked before the read: what was written until the task ended is then surely part of it.
      const done = isDone();
      const bytes = await readFrom(file, offset);
      if (bytes.length > 0) {
        if (!(await writePaced(options, request, { kind, offset, bytes }, signal))) return;
        offset += bytes.length;
      } else if (done) return;
      else await changes.next();
    }
  } finally {
    changes.close();
    await file.close();
  }
}

/** The files appear with the process: a reader that is early waits for them. */
async function openWhenThere(
  path: string,
  isDone: () => boolean,
  clock: Clock,
): Promise<FileHandle | undefined> {
  for (;;) {
    const done = isDone();
    try {
      return await open(path, 'r');
    } catch (error) {
      if (codeOf(error) !== 'ENOENT') throw error;
    }
    if (done) return undefined;
    await clock.sleep(10);
  }
}

async function readFrom(file: FileHandle, offset: number): Promise<Buffer> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(CHUNK_BYTES), 0, CHUNK_BYTES, offset);
  return buffer.subarray(0, bytesRead);
}

/** @returns false if the reader has gone */
async function writePaced(
  { store, clock }: OutputServerOptions,
  { readId }: MessageOf<'ReadOutput'>,
  chunk: OutputChunk,
  signal: AbortSignal,
): Promise<boolean> {
  let waiting = await store.writeOutput(readId, [chunk]);
  const sinceMs = clock.monotonicMs();
  while (waiting >= WAITING_CHUNKS_MAX) {
    if (signal.aborted || clock.monotonicMs() - sinceMs > READER_GONE_MS) return false;
    await clock.sleep(LOOK_MS, signal);
    waiting = await store.writeOutput(readId, []);
  }
  return true;
}

/** Waits for a change of the file; a look now and then catches what inotify may drop, and the end of the task. */
function watchFile(path: string, clock: Clock): { next: () => Promise<void>; close: () => void } {
  let changed = false;
  let wake = new AbortController();
  const watcher = watch(path, { persistent: false }, () => {
    changed = true;
    wake.abort();
  });
  watcher.on('error', () => undefined); // The look now and then goes on without it.
  return {
    next: async () => {
      if (!changed) await clock.sleep(FOLLOW_LOOK_MS, wake.signal);
      changed = false;
      wake = new AbortController();
    },
    close: () => {
      watcher.close();
    },
  };
}
