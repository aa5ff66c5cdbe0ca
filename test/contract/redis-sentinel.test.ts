/** A cluster on a Redis that Sentinel watches, through failovers of Redis. */
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { silentLog } from '../../io/log.ts';
import { openRedisStore } from '../../io/redis-store.ts';
import { bedReason } from '../beds/available.ts';
import { startSentinelBed, type SentinelBed } from '../beds/redis-sentinel.ts';
import { startRedisScene, type RedisScene } from '../support/redis-scene.ts';

const reason = bedReason('redis');
const describeRedis = reason === undefined ? describe : describe.skip;
const suffix = reason === undefined ? '' : ` (skipped: ${reason})`;
const TIMEOUT_MS = 120_000;

describeRedis(`a cluster on Sentinel${suffix}`, () => {
  let bed: SentinelBed;
  let scene: RedisScene;

  beforeEach(async () => {
    bed = await startSentinelBed();
    scene = await startRedisScene(bed.url);
  }, TIMEOUT_MS);
  afterEach(async () => {
    bed.resume();
    await scene.stop();
    await bed.stop();
  }, TIMEOUT_MS);

  test(
    'goes on when the Redis master is killed and its replica takes over',
    async () => {
      await scene.runTask('before');
      const { lines } = scene.master.log;
      await bed.killMaster();
      await lines.first(({ event }) => event === 'redis.unreachable');
      await bed.waitForFailover();
      await scene.runTask('after');
      expect(await bed.masterPort()).toBe(Number(new URL(bed.replicaUrl).port));
      await lines.first(({ event }) => event === 'redis.reachable');
    },
    TIMEOUT_MS,
  );

  test(
    'goes on when the Redis master hangs, and when that one is back as a replica',
    async () => {
      await scene.runTask('before');
      await bed.pauseMaster();
      await bed.waitForFailover();
      await scene.runTask('after');
      bed.resume();
      await scene.runTask('later');
      const store = await openRedisStore({
        url: bed.url,
        cluster: 'scene',
        log: silentLog,
        name: 'test',
      });
      const history = await store.redis.xlen(store.keys.history);
      await store.close();
      expect(history).toBeGreaterThanOrEqual(2);
    },
    TIMEOUT_MS,
  );

  test(
    'goes on when the replica that takes over lacks the last writes',
    async () => {
      await scene.runTask('before');
      await bed.pauseReplication();
      await scene.runTask('lost');
      await bed.killMaster();
      await bed.waitForFailover();
      await scene.runTask('after');
      expect(scene.agent.countOf('RunTask')).toBeGreaterThanOrEqual(3);
    },
    TIMEOUT_MS,
  );
});
