/** A call that waits for Redis ends with its connection, in whatever state Redis and the connection are. */
import { afterEach, beforeEach, expect, describe, test } from '@jest/globals';
import { endConnection } from '../../io/end-connection.ts';
import { silentLog } from '../../io/log.ts';
import { connectRedis } from '../../io/redis-connection.ts';
import { bedReason } from '../beds/available.ts';
import { startRedisBed, type RedisBed } from '../beds/redis.ts';

const reason = bedReason('redis');
const suite = reason === undefined ? describe : describe.skip;

suite(`the end of a connection${reason === undefined ? '' : ` (skipped: ${reason})`}`, () => {
  let bed: RedisBed;

  beforeEach(async () => {
    bed = await startRedisBed();
  });
  afterEach(() => bed.stop());

  test.each(['ready', 'reconnecting', 'connecting', 'connect'] as const)(
    'ends a read that was sent before, when the connection is %s',
    async (status) => {
      const redis = connectRedis({ url: bed.url, log: silentLog, name: 'test' });
      await redis.ping();
      const read = redis.xread('BLOCK', 60_000, 'STREAMS', 'stream', '0-0');
      const outcome = read.then(String, (error: unknown) => (error as Error).message);
      if (status !== 'ready') {
        const reached = new Promise<void>((resolve) => {
          redis.on(status, () => resolve());
        });
        await bed.restart();
        await reached;
      }
      endConnection(redis);
      expect(await outcome).toBe('Connection is closed.');
    },
  );
});
