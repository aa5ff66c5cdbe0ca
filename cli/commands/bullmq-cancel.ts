/** `kaon bullmq cancel`: has a job cancelled, and waits until it is. */
import type { Redis } from 'ioredis';
import { systemClock } from '../../io/clock.ts';
import { endConnection } from '../../io/end-connection.ts';
import { silentLog } from '../../io/log.ts';
import { connectOrFail, connectRedis } from '../../io/redis-connection.ts';
import { cancelJob } from '../../schedulers/bullmq/cancel.ts';
import type { BullmqCancelOptions } from '../bullmq-options.ts';

/** A grace period is usually shorter than that, milliseconds. */
const PATIENCE_MS = 15_000;
const LOOK_MS = 100;
const EXIT_NO_SUCH = 3;

/** @returns the exit code */
export async function bullmqCancel(options: BullmqCancelOptions): Promise<number> {
  const { queueRedis, prefix, queue, jobId, reason } = options;
  const redis = connectRedis({ url: queueRedis, log: silentLog, name: 'bullmq-cancel' });
  await connectOrFail(redis, queueRedis);
  try {
    const key = `${prefix}:${queue}:${jobId}`;
    const before = await look(redis, key);
    if (!before.exists) return say(`queue ${queue} has no job ${jobId}`, EXIT_NO_SUCH);
    if (before.end !== undefined) return say(`job ${jobId} has ended already: ${before.end}`, 1);
    await cancelJob(redis, { queue, jobId, prefix, reason });
    return await waitForEnd(redis, key, jobId);
  } finally {
    endConnection(redis);
  }
}

async function waitForEnd(redis: Redis, key: string, jobId: string): Promise<number> {
  for (let waitedMs = 0; waitedMs < PATIENCE_MS; waitedMs += LOOK_MS) {
    const { exists, end, isCancelled } = await look(redis, key);
    if (isCancelled || !exists) return print(`job ${jobId}: cancelled`);
    if (end !== undefined) return say(`job ${jobId} ended before: ${end}`, 1);
    await systemClock.sleep(LOOK_MS);
  }
  const seconds = String(PATIENCE_MS / 1000);
  return say(
    `job ${jobId} has not ended in ${seconds}s; the wish is kept. Does kaon bullmq run for this queue?`,
    1,
  );
}

interface Look {
  readonly exists: boolean;
  /** How it ended; undefined if it has not. */
  readonly end: string | undefined;
  readonly isCancelled: boolean;
}

async function look(redis: Redis, key: string): Promise<Look> {
  const [name, finishedOn, failedReason] = await redis.hmget(
    key,
    ...['name', 'finishedOn', 'failedReason'],
  );
  const hasEnded = finishedOn !== null && finishedOn !== undefined;
  return {
    exists: name !== null && name !== undefined,
    end: hasEnded ? (failedReason ?? 'completed') : undefined,
    isCancelled: hasEnded && /^cancelled\b/.test(failedReason ?? ''),
  };
}

function print(text: string): number {
  process.stdout.write(`${text}\n`);
  return 0;
}

function say(text: string, exitCode: number): number {
  process.stderr.write(`kaon: ${text}\n`);
  return exitCode;
}
