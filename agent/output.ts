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
import type { OutputChunk, Store, StreamEntry, StreamId } from '../io/store.ts';
import { START } from '../io/store.ts';
import { decodeEntry } from '../protocol/codec.ts';
import { codeOf, KaonError, messageOf } from '../protocol/errors.ts';
import type { AgentId, FrameworkId, SessionId, TaskId } from '../protocol/ids.ts';
import type { MessageOf } from '../protocol/messages.ts';
import { OUTPUT_FLAGS } from './sandbox.ts';

const CHUNK_BYTES = 64 * 1024;
/** Chunks that wait in Redis for a reader before the agent stops to write: 4 MiB. */
const WAITING_CHUNKS_MAX = 64;
/** How often a full stream, and a file that a watch may have missed, are looked at, milliseconds. */
const LOOK_MS = 50;
const FOLLOW_LOOK_MS = 500;
/** How long a request to follow a task may be ahead of the task, and how often that is looked at, milliseconds. */
const LAUNCH_WAIT_MS = 10_000;
const LAUNCH_LOOK_MS = 5;
/** A reader that takes nothing of what waits for it for so long has gone, milliseconds; how often that is looked at. */
const READER_GONE_MS = 60_000;
const READER_LOOK_MS = 5000;
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
  /** The agent's session, which is a new one when Redis is not the one that it was. */
  readonly session: () => SessionId;
  /** Anything else that was sent straight to this agent: best effort, and gone from the stream once it is handed over. */
  readonly onMessage: (message: MessageOf<'FrameworkToExecutor'>) => void;
}

/**
 * Serves until `signal` is aborted and the store is closed. A request stays in the stream until it has been answered
 * whole, so an agent that was restarted answers it again, and the reader drops the bytes that it has. With each session
 * the stream is read from its start: another Redis may have given later requests earlier ids.
 */
export async function serveOutput(
  options: OutputServerOptions,
  signal: AbortSignal,
): Promise<void> {
  const { store, clock, log, agentId } = options;
  const serving: Serving = { answering: new Map(), fromStart: false };
  let cursor: StreamId = START;
  let session = options.session();
  while (!signal.aborted) {
    try {
      const entries = await store.readAgentRequests(agentId, cursor, READ_BLOCK_MS);
      for (const entry of entries) {
        cursor = entry.id;
        takeRequests(options, serving, entry, signal);
      }
      if (options.session() !== session || serving.fromStart) {
        session = options.session();
        serving.fromStart = false;
        cursor = START;
      }
    } catch (error) {
      if (signal.aborted) return;
      log.warn('request.read-failed', { error: messageOf(error), retryMs: RETRY_MS });
      await clock.sleep(RETRY_MS, signal);
    }
  }
}

interface Serving {
  /** Readers that are being answered, with the id of the request where it was found last: it is not answered twice. */
  readonly answering: Map<SessionId, StreamId>;
  /** An answer could not be brought to its end: its request is to be found again. */
  fromStart: boolean;
}

function takeRequests(
  options: OutputServerOptions,
  serving: Serving,
  { id, messages }: StreamEntry,
  signal: AbortSignal,
): void {
  for (const decoded of decodeEntry(messages)) {
    if (decoded.ok && decoded.value.type === 'FrameworkToExecutor') {
      // Anybody may have written it; in a secured cluster the master brings what its framework has signed.
      if (options.store.isSecured === true) options.log.warn('request.refused', { entry: id });
      else options.onMessage(decoded.value);
      removeRequest(options, id);
      continue;
    }
    if (!decoded.ok || decoded.value.type !== 'ReadOutput') {
      const error = decoded.ok ? decoded.value.type : decoded.message;
      options.log.warn('request.bad', { entry: id, error });
      continue;
    }
    const { readId } = decoded.value;
    const { answering } = serving;
    const isFollowed = answering.has(readId);
    answering.set(readId, id);
    if (isFollowed) continue;
    const currentId = (): StreamId => answering.get(readId) ?? id;
    void answer(options, decoded.value, currentId, signal).then((isAnswered) => {
      answering.delete(readId);
      serving.fromStart ||= !isAnswered;
    });
  }
}

function removeRequest({ store, agentId, log }: OutputServerOptions, id: StreamId): void {
  store.removeAgentRequest(agentId, id).catch((error: unknown) => {
    // It is heard once more after the next session begins: best effort is no exactly-once.
    log.debug('request.remove-failed', { entry: id, error: messageOf(error) });
  });
}

/** @returns false if the reader has not been told the end, so that it still waits */
async function answer(
  options: OutputServerOptions,
  request: MessageOf<'ReadOutput'>,
  currentId: () => StreamId,
  signal: AbortSignal,
): Promise<boolean> {
  const { store, log, agentId } = options;
  const { readId, taskId } = request;
  const problem = await copyOutput(options, request, signal).catch(messageOf);
  if (signal.aborted) return false; // Cut short by us: the next agent answers it whole.
  try {
    await store.writeOutput(readId, [{ kind: 'end', error: problem ?? '' }]);
    await store.removeAgentRequest(agentId, currentId());
    return true;
  } catch (error) {
    log.warn('output.failed', { taskId, error: messageOf(error) });
    return false;
  }
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
  const reader = new Reader(options, request.readId, signal);
  await Promise.all(
    kinds.map((kind) =>
      copyFile(options, request, { kind, path: join(sandbox, kind), reader }, signal),
    ),
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
  readonly reader: Reader;
}

async function copyFile(
  options: OutputServerOptions,
  request: MessageOf<'ReadOutput'>,
  { kind, path, reader }: OutputFile,
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
        await reader.write({ kind, offset, bytes });
        offset += bytes.length;
      } else if (done) return;
      else {
        await changes.next();
        await reader.look();
      }
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
      const file = await open(path, OUTPUT_FLAGS);
      if ((await file.stat()).isFile()) return file;
      await file.close();
      throw new KaonError(
        'output-replaced',
        `${path} is no file: the task has put something else there`,
      );
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

/**
 * The other end of one answer. What it has taken is what was written less what waits in the stream; nobody says goodbye,
 * so a reader is gone when it takes nothing for a while. (Its stream going counts as taking: it does not happen twice.)
 */
class Reader {
  readonly #options: OutputServerOptions;
  readonly #readId: SessionId;
  readonly #signal: AbortSignal;
  #written = 0;
  #taken = 0;
  #waiting = 0;
  #tookAtMs: number;
  #lookedAtMs: number;

  constructor(options: OutputServerOptions, readId: SessionId, signal: AbortSignal) {
    this.#options = options;
    this.#readId = readId;
    this.#signal = signal;
    this.#tookAtMs = this.#lookedAtMs = options.clock.monotonicMs();
  }

  /** Waits until there is room for more. @throws KaonError `reader-gone` */
  async write(chunk: OutputChunk): Promise<void> {
    // What comes after a quiet time can only be taken from now on.
    if (this.#waiting === 0) this.#tookAtMs = this.#options.clock.monotonicMs();
    this.#written += 1;
    await this.#exchange([chunk]);
    while (this.#waiting >= WAITING_CHUNKS_MAX && !this.#signal.aborted) {
      await this.#options.clock.sleep(LOOK_MS, this.#signal);
      await this.#exchange([]);
    }
  }

  /** Now and then, while something waits that may never be taken. @throws KaonError `reader-gone` */
  async look(): Promise<void> {
    const nowMs = this.#options.clock.monotonicMs();
    if (this.#waiting > 0 && nowMs - this.#lookedAtMs >= READER_LOOK_MS) await this.#exchange([]);
  }

  async #exchange(chunks: readonly OutputChunk[]): Promise<void> {
    const { store, clock } = this.#options;
    this.#waiting = await store.writeOutput(this.#readId, chunks);
    const nowMs = clock.monotonicMs();
    this.#lookedAtMs = nowMs;
    const taken = this.#written - this.#waiting;
    if (taken > this.#taken) {
      this.#taken = taken;
      this.#tookAtMs = nowMs;
    } else if (this.#waiting > 0 && nowMs - this.#tookAtMs > READER_GONE_MS) {
      const words = `its reader took nothing for ${String(READER_GONE_MS / 1000)} s`;
      throw new KaonError('reader-gone', words);
    }
  }
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
