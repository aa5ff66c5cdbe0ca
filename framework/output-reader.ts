/**
 * Reads a task's output from its agent, past the master: sends the request, puts the answer's pieces in order, drops
 * what came before. Where the bytes go is the caller's business.
 *
 * An agent that is started again answers an open request again, from its beginning; by their offsets the bytes that
 * are already here are dropped, so the reader sees each byte once.
 */
import { randomName, systemClock } from '../io/clock.ts';
import type { OutputChunk, Store, StreamId } from '../io/store.ts';
import { START } from '../io/store.ts';
import { encodeEntries } from '../protocol/codec.ts';
import type { AgentId, FrameworkId, SessionId, TaskId } from '../protocol/ids.ts';

/** One wait for the next piece, milliseconds; shorter only means more calls. */
const READ_BLOCK_MS = 1000;
/** The first pause of a reader that does not block, and the longest one while nothing comes, milliseconds. */
const POLL_MIN_MS = 5;
const POLL_MAX_MS = 1000;
/** No answer at all for so long is worth a word, milliseconds. */
const SILENT_MS = 5000;

/** The removal of what was not read may take so long, milliseconds. */
const REMOVE_MS = 500;

/** The two files of a task's output. */
export type OutputKind = 'stdout' | 'stderr';

/** What to read, and whom to give it. */
export interface ReadTaskOutputOptions {
  readonly store: Store;
  /**
   * For a store that many readers share: none of them blocks it. Each looks for its next piece after pauses of 5 ms, and
   * twice as long each time that there is nothing, to 1 s. Waits for so many milliseconds, less if `signal` is aborted;
   * true: begin with short pauses again. Absent: a wait for a piece keeps the store's connection for output, so every
   * reader needs a store of its own.
   */
  readonly pause?: (ms: number) => Promise<boolean>;
  readonly agentId: AgentId;
  readonly frameworkId: FrameworkId;
  readonly taskId: TaskId;
  /** Go on until the task has ended; else to what is there now. */
  readonly follow: boolean;
  readonly stdout: boolean;
  readonly stderr: boolean;
  /** Begin so many bytes before the end of each file; absent: from the beginning. */
  readonly lastBytes?: number;
  /** Gets each byte once, in order within its kind; the next piece waits for its promise. */
  readonly onChunk: (kind: OutputKind, bytes: Buffer) => Promise<void> | void;
  /** Bytes that the agent never sent: what comes next begins after a hole. */
  readonly onGap?: (kind: OutputKind, missingBytes: number) => void;
  /** Called once if nothing has come for 5 s; a task that is followed may only be quiet. */
  readonly onSilence?: () => Promise<void> | void;
  /** Ends the reading. */
  readonly signal?: AbortSignal;
}

/**
 * @returns when everything was given to `onChunk`, or `signal` was aborted; `error` says why the agent could not go on,
 *   '' if it could
 * @throws what `onChunk` throws, and errors of the store
 */
export async function readTaskOutput(options: ReadTaskOutputOptions): Promise<{ error: string }> {
  const { store, agentId, frameworkId, taskId, follow, stdout, stderr, lastBytes } = options;
  const readId = `r${randomName(12)}` as SessionId;
  const [request = '[]'] = encodeEntries([
    {
      type: 'ReadOutput',
      ...{ readId, frameworkId, taskId, stdout, stderr, follow },
      ...(lastBytes !== undefined && { lastBytes }),
    },
  ]);
  try {
    await store.requestAgent(agentId, request);
    return await receive(options, readId);
  } finally {
    await dropAnswer(store, readId);
  }
}

async function receive(
  options: ReadTaskOutputOptions,
  readId: SessionId,
): Promise<{ error: string }> {
  const { lastBytes, signal } = options;
  const isAborted = (): boolean => signal?.aborted === true;
  const begin = lastBytes === undefined ? 0 : undefined;
  const expected: Record<OutputKind, number | undefined> = { stdout: begin, stderr: begin };
  const startedAtMs = performance.now();
  let cursor: StreamId = START;
  let hasTold = false;
  const next = nextPieces(options, readId);
  while (!isAborted()) {
    const entries = await unlessAborted(next(cursor), signal);
    for (const { id, chunk } of entries ?? []) {
      cursor = id;
      if (chunk.kind === 'end') return { error: chunk.error };
      const bytes = takeNew(chunk, expected, options.onGap);
      if (bytes.length > 0) await options.onChunk(chunk.kind, bytes);
      if (isAborted()) break;
    }
    if (hasTold || cursor !== START || performance.now() - startedAtMs < SILENT_MS) continue;
    hasTold = true;
    await options.onSilence?.();
  }
  return { error: '' };
}

/** @returns a read of what there is after a cursor; nothing after a wait, or a pause */
function nextPieces(
  { store, pause }: ReadTaskOutputOptions,
  readId: SessionId,
): (cursor: StreamId) => ReturnType<Store['readOutput']> {
  if (!pause) return (cursor) => store.readOutput(readId, cursor, READ_BLOCK_MS);
  let pauseMs = POLL_MIN_MS;
  return async (cursor) => {
    const entries = await store.readOutput(readId, cursor, 0);
    if (entries.length > 0 || (await pause(pauseMs))) pauseMs = POLL_MIN_MS;
    else pauseMs = Math.min(2 * pauseMs, POLL_MAX_MS);
    return entries;
  };
}

/** The rest of an answer expires by itself, only later: without Redis nobody waits for its removal. */
async function dropAnswer(store: Store, readId: SessionId): Promise<void> {
  const patience = new AbortController();
  const removed = store.endOutput(readId).catch(() => undefined);
  await Promise.race([removed, systemClock.sleep(REMOVE_MS, patience.signal)]);
  patience.abort();
}

/** @returns the part of the piece that has not been here, and notes where the next one should begin */
function takeNew(
  chunk: Exclude<OutputChunk, { kind: 'end' }>,
  expected: Record<OutputKind, number | undefined>,
  onGap: ReadTaskOutputOptions['onGap'],
): Buffer {
  // The first piece of a tail begins wherever the agent begins.
  const from = expected[chunk.kind] ?? chunk.offset;
  if (chunk.offset > from) onGap?.(chunk.kind, chunk.offset - from);
  const bytes = chunk.bytes.subarray(Math.max(0, from - chunk.offset));
  expected[chunk.kind] = Math.max(from, chunk.offset + chunk.bytes.length);
  return bytes;
}

/**
 * A read that waits in Redis must not hold up an abort. Not `Promise.race` with one promise of the abort: that would keep
 * something of every read until the end.
 *
 * @returns what the promise has; undefined if the abort came first
 */
function unlessAborted<T>(
  promise: Promise<T>,
  signal: AbortSignal | undefined,
): Promise<T | undefined> {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    const onAbort = (): void => {
      resolve(undefined);
    };
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    promise.then(resolve, reject).finally(() => {
      signal.removeEventListener('abort', onAbort);
    });
  });
}
