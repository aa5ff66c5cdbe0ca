/**
 * Cancelling jobs from the side of the queue. A wish is an entry in a stream beside the queue, so anything that can speak to its
 * Redis can have one, a producer in another language too, and it is kept while no scheduler is there.
 *
 * `XADD bull-kaon:QUEUE:cancel * jobId ID reason WORDS`
 */

/** Wishes that are kept while nobody reads them (approximate trimming). */
const WISHES_MAX = 100_000;
const REASON_MAX_CHARS = 500;

/** As much of a connection to Redis as this takes; those of ioredis have it. */
export interface CancelConnection {
  xadd(...args: [string, ...(string | number)[]]): Promise<unknown>;
}

/** Which job of which queue. */
export interface CancelWish {
  readonly queue: string;
  readonly jobId: string;
  /** For `failedReason`: `cancelled: REASON`. Default: none. */
  readonly reason?: string;
  /** Of BullMQ's keys. Default: `bull`. */
  readonly prefix?: string;
}

/** @returns key of the stream of wishes of a queue */
export function cancelKey(prefix: string, queue: string): string {
  return `${prefix}-kaon:${queue}:cancel`;
}

/**
 * Has a job cancelled, whatever it is doing: one that waits fails at once, one that runs is ended, within its grace period and
 * an infinite loop too. Either way it has failed with the reason `cancelled`, and is not tried again; one that has ended, or ends
 * meanwhile by itself, stays as it is.
 *
 * @param connection to the Redis of the queue, as BullMQ has it (`await queue.getBackend().client`, or an ioredis of yours)
 * @returns when the wish is stored; the job's `failed` event tells that it was granted
 * @throws errors of the connection
 */
export async function cancelJob(connection: CancelConnection, wish: CancelWish): Promise<void> {
  const { queue, jobId, reason = '', prefix = 'bull' } = wish;
  const fields = ['jobId', jobId, 'reason', reason.slice(0, REASON_MAX_CHARS)];
  await connection.xadd(cancelKey(prefix, queue), 'MAXLEN', '~', WISHES_MAX, '*', ...fields);
}
