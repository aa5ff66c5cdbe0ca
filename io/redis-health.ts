/**
 * Whether a Redis may carry a cluster, asked once when a master starts. One that would drop keys, takes no writes, or
 * is too old is refused; one that keeps nothing on disk is warned about.
 */
import type { Redis } from 'ioredis';
import { KaonError, messageOf } from '../protocol/errors.ts';
import type { Clock } from './clock.ts';
import type { Log } from './log.ts';
import { explainRedisError } from './redis-errors.ts';

/** XAUTOCLAIM, `CLIENT LIST ID`, `XTRIM MINID` and `GETDEL` came with it. */
const VERSION_MIN = [6, 2] as const;
const ASK_AGAIN_MS = 1000;

/** What a look at a Redis found; `undefined` is what it does not tell. */
export interface RedisHealth {
  readonly version: string | undefined;
  readonly evictionPolicy: string | undefined;
  readonly isReplica: boolean;
  /** False only if neither an append-only file nor snapshots are on. */
  readonly keepsData: boolean;
}

/** Who is asked, and who is told. */
export interface RedisHealthOptions {
  readonly redis: Redis;
  readonly log: Log;
  readonly clock: Clock;
}

/**
 * Waits for Redis as long as it takes, and checks it; does nothing about one that may not be asked.
 *
 * @throws KaonError `redis-evicts`, `redis-read-only`, `redis-too-old`
 */
export async function requireHealthyRedis(
  { redis, log, clock }: RedisHealthOptions,
  signal: AbortSignal,
): Promise<void> {
  for (;;) {
    try {
      const health = await readHealth(redis);
      if (!health.keepsData) log.warn('redis.not-persistent', { hint: NOT_PERSISTENT_HINT });
      const refusal = refusalOf(health);
      if (!refusal) return;
      throw refusal;
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof KaonError) throw error;
      // A wrong password may be corrected; a right that is missing is one that Kaon can do without.
      if (explainRedisError(error).code === 'no-permission') {
        log.warn('redis.health-unknown', { error: messageOf(error), hint: 'allow INFO' });
        return;
      }
      await clock.sleep(ASK_AGAIN_MS, signal);
    }
  }
}

const NOT_PERSISTENT_HINT =
  'set appendonly yes: after a restart of this Redis the cluster is built up again from its agents and frameworks';

async function readHealth(redis: Redis): Promise<RedisHealth> {
  const info = await redis.info();
  // What is forbidden is in the log of Redis each time: not asked where the answer changes nothing.
  const save = /^aof_enabled:1/m.test(info) ? undefined : await readSave(redis);
  return redisHealthOf(info, save);
}

/** Setting `save`; CONFIG is often forbidden, and INFO then has to do. */
async function readSave(redis: Redis): Promise<string | undefined> {
  try {
    const reply = await redis.config('GET', 'save');
    return reply[1];
  } catch {
    return undefined; // That it could not be read is all there is to know.
  }
}

/**
 * @param info the reply of INFO
 * @param save setting `save`; '' means no snapshots, undefined that it could not be read: then a Redis that has saved
 *   since it started is taken to do so
 */
export function redisHealthOf(info: string, save: string | undefined): RedisHealth {
  const field = (name: string): string | undefined =>
    new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(info)?.[1];
  const hasSnapshots = save === undefined ? Number(field('rdb_saves') ?? 0) > 0 : save !== '';
  return {
    version: field('redis_version'),
    evictionPolicy: field('maxmemory_policy'),
    isReplica: field('role') === 'slave',
    keepsData: field('aof_enabled') === '1' || hasSnapshots,
  };
}

/** @returns why no master may run on it; undefined if one may */
export function refusalOf(health: RedisHealth): KaonError | undefined {
  const { version, evictionPolicy, isReplica } = health;
  if (version !== undefined && isOlder(version)) {
    const message = `Redis is version ${version}, and at least ${VERSION_MIN.join('.')} is needed`;
    return new KaonError('redis-too-old', message, { hint: 'install a newer redis-server' });
  }
  if (isReplica) {
    return new KaonError('redis-read-only', 'this Redis is a replica and takes no writes', {
      hint: 'give the address of its master, or redis+sentinel:// which finds it',
    });
  }
  if (evictionPolicy !== undefined && evictionPolicy !== 'noeviction') {
    const message = `Redis has maxmemory-policy ${evictionPolicy}, and would drop keys of the cluster when its memory is full`;
    return new KaonError('redis-evicts', message, {
      hint: 'redis-cli CONFIG SET maxmemory-policy noeviction, and the same in redis.conf',
    });
  }
  return undefined;
}

function isOlder(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return major < VERSION_MIN[0] || (major === VERSION_MIN[0] && minor < VERSION_MIN[1]);
}
