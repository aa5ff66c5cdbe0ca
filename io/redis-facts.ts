/** What a Redis is, as far as an operator of Kaon cares: its version, and whether it would keep its data. */
import type { Redis } from 'ioredis';

/** Version, how data is kept, and what is wrong with that. */
export interface RedisFacts {
  readonly version: string;
  /** `append-only file`, `snapshots`, `no persistence`, or what of it is not known. */
  readonly persistence: string;
  /** Settings that would cost data or availability, one sentence each. */
  readonly warnings: readonly string[];
}

/** Reads `INFO`, and the snapshot settings where the user of this connection may read them. */
export async function readRedisFacts(redis: Redis): Promise<RedisFacts> {
  const info = await redis.info();
  // What is forbidden is in the log of Redis each time: not asked where the answer changes little.
  const save = /^aof_enabled:1/m.test(info) ? undefined : await readSave(redis);
  return redisFactsOf(info, save);
}

/** `CONFIG` is often forbidden; whether there are snapshots is then not known. */
async function readSave(redis: Redis): Promise<string | undefined> {
  try {
    const reply = await redis.config('GET', 'save');
    return reply[1];
  } catch {
    return undefined;
  }
}

/**
 * @param info the reply of `INFO`
 * @param save setting `save`; '' means no snapshots, undefined that it could not be read
 */
export function redisFactsOf(info: string, save: string | undefined): RedisFacts {
  const field = (name: string): string | undefined =>
    new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(info)?.[1];
  const hasLog = field('aof_enabled') === '1';
  const hasSnapshots = save === undefined ? undefined : save !== '';
  const warnings: string[] = [];
  if (!hasLog && hasSnapshots === false) {
    warnings.push(
      'a restart of this Redis forgets the cluster; agents and frameworks would build it up again',
    );
  }
  const policy = field('maxmemory_policy');
  if (policy !== undefined && policy !== 'noeviction' && field('maxmemory') !== '0') {
    warnings.push(
      `maxmemory-policy ${policy} lets this Redis drop keys of the cluster; set noeviction`,
    );
  }
  if (field('role') === 'slave') warnings.push('this Redis is a replica and takes no writes');
  if (field('aof_last_write_status') === 'err' || field('rdb_last_bgsave_status') === 'err') {
    warnings.push('this Redis failed to write to its disk');
  }
  return {
    version: field('redis_version') ?? 'unknown',
    persistence: persistenceOf(hasLog, hasSnapshots),
    warnings,
  };
}

function persistenceOf(hasLog: boolean, hasSnapshots: boolean | undefined): string {
  if (hasLog) return hasSnapshots === true ? 'append-only file and snapshots' : 'append-only file';
  if (hasSnapshots === undefined) return 'no append-only file';
  return hasSnapshots ? 'snapshots, no append-only file' : 'no persistence';
}
