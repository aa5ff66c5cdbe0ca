/** Reading a hash of a real Redis page by page. */
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { Redis } from 'ioredis';
import { endConnection } from '../../io/end-connection.ts';
import { silentLog } from '../../io/log.ts';
import { connectRedis } from '../../io/redis-connection.ts';
import { readHash } from '../../io/redis-hash.ts';
import { bedReason } from '../beds/available.ts';
import { startRedisBed, type RedisBed } from '../beds/redis.ts';

const reason = bedReason('redis');
const suite = reason === undefined ? describe : describe.skip;

suite(`a hash${reason === undefined ? '' : ` (skipped: ${reason})`}`, () => {
  let bed: RedisBed;
  let redis: Redis;

  beforeEach(async () => {
    bed = await startRedisBed();
    redis = connectRedis({ url: bed.url, log: silentLog, name: 'test' });
  });
  afterEach(async () => {
    endConnection(redis);
    await bed.stop();
  });

  test.each([0, 1, 400, 10_000])('of %d fields is read whole', async (count) => {
    const written = Array.from({ length: count }, (_, index): [string, string] => [
      `field${index}`,
      `value ${index} of some length`,
    ]);
    if (count > 0) await redis.hset('hash', new Map(written));
    const read = await readHash(redis, 'hash');
    expect(read.size).toBe(count);
    expect([...read].sort()).toEqual(written.sort());
  });
});
