/** A cluster on a real Redis that is full, read-only, slow, or does not let it in: what is said, and that it goes on. */
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { tmpdir } from 'node:os';
import { Redis } from 'ioredis';
import { systemClock } from '../../io/clock.ts';
import { requireHealthyRedis } from '../../io/redis-health.ts';
import { openRedisStore, type RedisStore } from '../../io/redis-store.ts';
import { bedReason } from '../beds/available.ts';
import { startRedisClusterBed } from '../beds/redis-cluster.ts';
import { endProcess, freePorts, startRedisProcess } from '../beds/redis-process.ts';
import { startTlsRedisBed } from '../beds/redis-tls.ts';
import { startRedisBed, type RedisBed } from '../beds/redis.ts';
import { sessionOf } from '../support/builders.ts';
import type { RedisScene, SceneMasterOptions } from '../support/redis-scene.ts';
import { startRedisScene, startSceneMaster } from '../support/redis-scene.ts';
import { createWatchedLog, type LogLine } from '../support/watch.ts';

const reason = bedReason('redis-tls');
const describeRedis = reason === undefined ? describe : describe.skip;
const suffix = reason === undefined ? '' : ` (skipped: ${reason})`;
const TIMEOUT_MS = 120_000;
/** Below the time for which Kaon lets a server be silent whose certificate it wants to see. */
const STANDSTILL_MS = 4000;

describeRedis(`a cluster on a Redis with troubles${suffix}`, () => {
  let bed: RedisBed;
  let admin: Redis;
  let ends: (() => Promise<void>)[];

  beforeEach(async () => {
    bed = await startRedisBed();
    admin = new Redis(bed.socketPath);
    ends = [];
  });
  afterEach(async () => {
    for (const end of ends.reverse()) await end();
    admin.disconnect();
    await bed.stop();
  }, TIMEOUT_MS);

  async function startScene(options: SceneMasterOptions = {}): Promise<RedisScene> {
    const scene = await startRedisScene(bed.url, options);
    ends.push(() => scene.stop());
    return scene;
  }

  test(
    'waits while the memory of Redis is full, says so once, and goes on when there is room',
    async () => {
      // An offer that times out makes the leader write, whatever the others do.
      const scene = await startScene({ offerTimeoutMs: 1000 });
      await admin.config('SET', 'maxmemory', '1');
      const full = await scene.master.log.lines.first(({ event }) => event === 'redis.memory-full');
      const task = scene.runTask('t');
      await scene.master.leading.first((isLeading) => !isLeading);
      await admin.config('SET', 'maxmemory', '0');
      await task;
      await scene.master.log.lines.first(
        ({ event, fields }) => event === 'redis.recovered' && fields['fault'] === 'memory-full',
      );
      expect(full.fields['hint']).toContain('maxmemory');
      // Its lease is short: on a machine that stands still there is nobody for a moment.
      let leader: Awaited<ReturnType<RedisStore['leader']>>;
      while (!leader) leader = await scene.master.store.leader();
      expect(leader.masterId).toBe('m1');
    },
    TIMEOUT_MS,
  );

  test(
    'waits while its Redis is a replica, says so once, and goes on when that is promoted',
    async () => {
      const other = await startAnotherRedis();
      ends.push(other.stop);
      const scene = await startScene();
      await admin.replicaof('127.0.0.1', other.port);
      await scene.master.log.lines.first(({ event }) => event === 'redis.read-only');
      const task = scene.runTask('t');
      await scene.master.leading.first((isLeading) => !isLeading);
      await admin.replicaof('NO', 'ONE');
      await task;
      const said = scene.master.log.lines.seen.filter(({ event }) => event === 'redis.read-only');
      expect(said).toHaveLength(1);
    },
    TIMEOUT_MS,
  );

  test(
    'waits while Redis answers nothing for seconds, and says how long it took',
    async () => {
      const scene = await startScene();
      await scene.runTask('before');
      await admin.call('CLIENT', 'PAUSE', '2500', 'ALL');
      await scene.runTask('after');
      const slow = await scene.master.log.lines.first(({ event }) => event === 'redis.slow');
      expect(Number(slow.fields['tookMs'])).toBeGreaterThan(1000);
    },
    TIMEOUT_MS,
  );

  test(
    'begins when a wrong password has been corrected',
    async () => {
      await admin.acl('SETUSER', 'ann', 'on', '>right', '~*', '&*', '+@all');
      const master = startSceneMaster(bed.url.replace('unix://', 'unix://ann:wrong@localhost'));
      ends.push(() => master.stop());
      const line = await master.log.lines.first(({ event }) => event === 'redis.login-refused');
      expect(JSON.stringify(line)).not.toContain('wrong@');
      await admin.acl('SETUSER', 'ann', '>wrong');
      await master.leading.first(Boolean);
      await master.log.lines.first(
        ({ event, fields }) => event === 'redis.recovered' && fields['fault'] === 'login-refused',
      );
    },
    TIMEOUT_MS,
  );

  test('says which command a user may not run', async () => {
    await admin.acl('SETUSER', 'ann', 'on', '>pw', '~*', '&*', '+@all', '-evalsha', '-eval');
    const log = createWatchedLog();
    const url = bed.url.replace('unix://', 'unix://ann:pw@localhost');
    const store = await openRedisStore({ url, cluster: 'c', log, name: 'test' });
    ends.push(() => store.close());
    const append = store.append({
      client: 'agent:a1',
      session: sessionOf('s1'),
      sequence: 1,
      messages: '[]',
    });
    await expect(append).rejects.toThrow('NOPERM');
    const said = withoutSlowness(log.lines.seen);
    expect(said.map(({ event }) => event)).toEqual(['redis.no-permission']);
    expect(String(said[0]?.fields['error'])).toMatch(/'eval(sha)?' command/);
  });

  test('is refused by a master if it evicts, and warned about if it keeps nothing', async () => {
    const log = createWatchedLog();
    const store = await openRedisStore({ url: bed.url, cluster: 'c', log, name: 'test' });
    ends.push(() => store.close());
    const check = (): Promise<void> =>
      requireHealthyRedis(
        { redis: store.redis, log, clock: systemClock },
        new AbortController().signal,
      );
    await check();
    expect(withoutSlowness(log.lines.seen).map(({ event }) => event)).toEqual([
      'redis.not-persistent',
    ]);
    await admin.config('SET', 'maxmemory-policy', 'allkeys-lru');
    await expect(check()).rejects.toMatchObject({ code: 'redis-evicts' });
  });
});

describeRedis(`a Redis Cluster${suffix}`, () => {
  test(
    'is followed when the keys of a cluster move, and when their node dies',
    async () => {
      const bed = await startRedisClusterBed({ replicas: 1 });
      const scene = await startRedisScene(bed.url);
      try {
        await scene.runTask('first');
        await bed.moveSlot('scene');
        await scene.runTask('moved');
        const owner = await bed.ownerOf('scene');
        await bed.kill(owner);
        await bed.waitForFailover('scene', owner);
        await scene.runTask('failed-over');
        expect(scene.agent.countOf('RunTask')).toBeGreaterThanOrEqual(3);
      } finally {
        await scene.stop();
        await bed.stop();
      }
    },
    TIMEOUT_MS,
  );
});

describeRedis(`a Redis with TLS${suffix}`, () => {
  test('is an error that says what is wrong with the certificates', async () => {
    const bed = await startTlsRedisBed();
    try {
      const log = createWatchedLog();
      const refusal = async (): Promise<unknown> => {
        const options = { url: bed.bareUrl, cluster: 'c', log, name: 'test' };
        for (;;) {
          const openedMs = performance.now();
          const outcome = await openRedisStore(options).catch((error: unknown) => error);
          // A server that says nothing for seconds is not asked for its certificate: this machine has stood still.
          if (performance.now() - openedMs < STANDSTILL_MS) return outcome;
        }
      };
      expect(await refusal()).toMatchObject({
        code: 'redis-unreachable',
        message: expect.stringContaining('issued by CN=kaon-test-ca') as unknown,
        hint: expect.stringContaining('--redis-ca') as unknown,
      });
    } finally {
      await bed.stop();
    }
  });
});

/** What was said besides that Redis was slow, as it is when the machine stands still. */
function withoutSlowness(lines: readonly LogLine[]): LogLine[] {
  return lines.filter(({ event }) => event !== 'redis.slow');
}

/** An empty Redis that can be followed. */
async function startAnotherRedis(): Promise<{ port: number; stop: () => Promise<void> }> {
  const [port = 0] = await freePorts(1);
  const argv = ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--dir', tmpdir()];
  const child = await startRedisProcess(argv, { host: '127.0.0.1', port });
  return { port, stop: () => endProcess(child) };
}
