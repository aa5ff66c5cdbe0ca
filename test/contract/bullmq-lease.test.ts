/** The lease of a scheduler of queues, on a real Redis: who works, who stands by, and that a Redis which refuses costs nobody anything. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { Redis } from 'ioredis';
import { systemClock, type Clock } from '../../io/clock.ts';
import { silentLog } from '../../io/log.ts';
import { SchedulerLease } from '../../schedulers/bullmq/lease.ts';
import { frameworkIdOf } from '../../schedulers/bullmq/run.ts';
import type { SchedulerSettings } from '../../schedulers/bullmq/settings.ts';
import { bedReason } from '../beds/available.ts';
import { startRedisBed, type RedisBed } from '../beds/redis.ts';

const KEY = 'bull-kaon:scheduler:bullmq';
const reason = bedReason('redis');
const describeRedis = reason === undefined ? describe : describe.skip;
/** Nobody waits for as long as a lease is renewed. */
const hastyClock: Clock = { ...systemClock, sleep: (_ms, signal) => systemClock.sleep(1, signal) };

describeRedis(
  `the lease of a scheduler${reason === undefined ? '' : ` (skipped: ${reason})`}`,
  () => {
    let bed: RedisBed;
    let redis: Redis;
    const abort = new AbortController();

    beforeAll(async () => {
      bed = await startRedisBed();
      redis = new Redis(bed.socketPath);
    });
    afterEach(async () => {
      await redis.config('SET', 'maxmemory', '0');
      await redis.flushall();
    });
    afterAll(async () => {
      abort.abort();
      redis.disconnect();
      await bed.stop();
    });

    function leaseOf(holder: string, onWarning: (event: string) => void = () => undefined) {
      const log = { ...silentLog, warn: onWarning };
      return new SchedulerLease({ redis, key: KEY, holder, clock: hastyClock, log });
    }

    test('is one’s at a time, and the next one’s when it is released', async () => {
      const first = leaseOf('first');
      // Nobody renews it here, and it must not run out while this machine stands still.
      do expect(await first.acquire(abort.signal)).toBe(true);
      while ((await redis.persist(KEY)) === 0);
      const waits = new Promise<string>((resolve) => {
        const second = leaseOf('second', resolve);
        void second.acquire(abort.signal);
      });
      expect(await waits).toBe('bullmq.standing-by');
      expect(await redis.get(KEY)).toBe('first');
      await first.release();
      while ((await redis.get(KEY)) !== 'second') await systemClock.sleep(1);
    });

    test('is kept through a time in which Redis takes no writes, and lost when somebody else has it', async () => {
      const warned = new Promise<string>((resolve) => {
        const lease = leaseOf('first', resolve);
        void lease.acquire(abort.signal).then(async () => {
          await redis.config('SET', 'maxmemory', '1');
          kept = lease.keep(abort.signal);
        });
      });
      let kept: Promise<boolean> | undefined;
      expect(await warned).toBe('lease.not-renewed');
      await redis.config('SET', 'maxmemory', '0');
      await redis.set(KEY, 'another');
      expect(await kept).toBe(false);
    });
  },
);

test.each([
  ['bullmq', '*', 'bullmq'],
  ['media', '*', 'bullmq.media'],
  ['bullmq', 'media', 'bullmq:media'],
  ['a', 'b/c', 'bullmq.a:b_c'],
])('a scheduler named %s of role %s is framework %s', (name, role, expected) => {
  expect(frameworkIdOf({ name, role } as SchedulerSettings)).toBe(expected);
});
