/**
 * Hears when something happens in queues: one blocking read of the event streams that BullMQ writes, and of the streams of
 * wishes to cancel. What the events say does not matter, only that there are some.
 */
import type { Redis } from 'ioredis';
import type { Clock } from '../../io/clock.ts';
import type { Log } from '../../io/log.ts';
import { messageOf } from '../../protocol/errors.ts';
import { cancelKey } from './cancel.ts';
import type { JobQueue } from './queue.ts';

/** One wait, milliseconds; a queue is looked at again after it, whatever was heard. */
const BLOCK_MS = 2000;
/** After an error, milliseconds. */
const PAUSE_MS = 500;
/** Entries that one read takes of each stream. */
const COUNT = 1000;

/** A wish to cancel a job. */
export interface CancelRequest {
  readonly queue: JobQueue;
  readonly jobId: string;
  readonly reason: string;
}

/** What to watch, and who is told. */
export interface QueueWatchOptions {
  /** For this alone: it is blocked nearly always. */
  readonly redis: Redis;
  readonly queues: readonly JobQueue[];
  readonly prefix: string;
  readonly clock: Clock;
  readonly log: Log;
  readonly onChange: (queue: JobQueue) => void;
  /** The wish is forgotten when this has resolved; one that fails comes again. */
  readonly onCancel: (request: CancelRequest) => Promise<void>;
}

type Reply = [string, [string, string[]][]][] | null;

/** Watches until `signal` is aborted; goes on whatever happens to Redis. */
export async function watchQueues(options: QueueWatchOptions, signal: AbortSignal): Promise<void> {
  const { queues, clock, log, onChange } = options;
  let cursors: Map<string, Cursor> | undefined;
  while (!signal.aborted) {
    let changed: ReadonlySet<JobQueue> = new Set();
    try {
      cursors ??= await openCursors(options);
      changed = await readOnce(options, cursors);
    } catch (error) {
      if (signal.aborted) return;
      log.warn('queues.not-watched', { error: messageOf(error) });
      await clock.sleep(PAUSE_MS, signal);
    }
    // All of them after a wait in which nothing came: an event may have been lost with a connection.
    for (const queue of changed.size > 0 ? changed : queues) if (!signal.aborted) onChange(queue);
  }
}

interface Cursor {
  readonly queue: JobQueue;
  readonly isCancel: boolean;
  /** Last entry that was read. */
  at: string;
}

/** Events from now on; wishes from the first that is left. */
async function openCursors({
  queues,
  prefix,
  redis,
}: QueueWatchOptions): Promise<Map<string, Cursor>> {
  const cursors = new Map<string, Cursor>();
  for (const queue of queues) {
    const { eventsKey } = queue;
    const [last] = await redis.xrevrange(eventsKey, '+', '-', 'COUNT', 1);
    cursors.set(eventsKey, { queue, isCancel: false, at: last?.[0] ?? '0-0' });
    cursors.set(cancelKey(prefix, queue.name), { queue, isCancel: true, at: '0-0' });
  }
  return cursors;
}

async function readOnce(
  options: QueueWatchOptions,
  cursors: ReadonlyMap<string, Cursor>,
): Promise<Set<JobQueue>> {
  const keys = [...cursors.keys()];
  const ids = [...cursors.values()].map(({ at }) => at);
  const args = ['COUNT', COUNT, 'BLOCK', BLOCK_MS, 'STREAMS', ...keys, ...ids];
  const reply = (await options.redis.call('XREAD', ...args)) as Reply;
  const changed = new Set<JobQueue>();
  for (const [key, entries] of reply ?? []) {
    const cursor = cursors.get(key);
    const last = entries.at(-1)?.[0];
    if (!cursor || last === undefined) continue;
    changed.add(cursor.queue);
    if (cursor.isCancel) await cancel(options, cursor, key, entries);
    else cursor.at = last;
  }
  return changed;
}

async function cancel(
  { redis, onCancel, log }: QueueWatchOptions,
  cursor: Cursor,
  key: string,
  entries: readonly [string, string[]][],
): Promise<void> {
  for (const [id, fields] of entries) {
    const of = (name: string): string => {
      const at = fields.findIndex((field, index) => index % 2 === 0 && field === name);
      return at < 0 ? '' : (fields[at + 1] ?? '');
    };
    const jobId = of('jobId');
    if (jobId === '') log.warn('cancel.ignored', { queue: cursor.queue.name, entry: id });
    else await onCancel({ queue: cursor.queue, jobId, reason: of('reason') });
    await redis.xdel(key, id);
    cursor.at = id;
  }
}
