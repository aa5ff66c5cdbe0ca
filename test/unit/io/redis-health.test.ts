import { describe, expect, test } from '@jest/globals';
import { redisHealthOf, refusalOf } from '../../../io/redis-health.ts';

const HEALTHY = [
  '# Server',
  'redis_version:7.0.15',
  '# Persistence',
  'aof_enabled:1',
  'rdb_saves:0',
  '# Replication',
  'role:master',
  '# Memory',
  'maxmemory_policy:noeviction',
].join('\r\n');

const infoWith = (...changes: [string, string][]): string =>
  changes.reduce((info, [from, to]) => info.replace(from, to), HEALTHY);

test('a Redis that keeps and takes everything may carry a cluster', () => {
  const health = redisHealthOf(HEALTHY, '');
  expect(health).toEqual({
    version: '7.0.15',
    evictionPolicy: 'noeviction',
    isReplica: false,
    keepsData: true,
  });
  expect(refusalOf(health)).toBeUndefined();
});

test('one that does not tell about itself is not refused', () => {
  expect(refusalOf(redisHealthOf('', undefined))).toBeUndefined();
});

test.each<[string, [string, string], string, string]>([
  ['evicts', ['noeviction', 'allkeys-lru'], 'redis-evicts', 'CONFIG SET maxmemory-policy'],
  ['is a replica', ['role:master', 'role:slave'], 'redis-read-only', 'redis+sentinel://'],
  ['has version 6.0', ['7.0.15', '6.0.16'], 'redis-too-old', 'newer'],
  ['has version 5', ['7.0.15', '5.0.14'], 'redis-too-old', 'newer'],
])('one that %s is refused, with what to do', (_what, change, code, hint) => {
  expect(refusalOf(redisHealthOf(infoWith(change), ''))).toMatchObject({
    code,
    hint: expect.stringContaining(hint) as unknown,
  });
});

test.each(['6.2.0', '6.10.1', '7.0.0', '8.2.1', '10.0.0'])(
  'version %s is new enough',
  (version) => {
    expect(refusalOf(redisHealthOf(infoWith(['7.0.15', version]), ''))).toBeUndefined();
  },
);

describe('without an append-only file', () => {
  test.each<[string, string | undefined, string, boolean]>([
    ['snapshots are on', '3600 1 300 100', '0', true],
    ['snapshots are off', '', '0', false],
    ['the setting may not be read, and it has saved', undefined, '2', true],
    ['the setting may not be read, and it has not saved', undefined, '0', false],
  ])('and when %s: keepsData', (_what, save, saves, keepsData) => {
    const info = infoWith(
      ['aof_enabled:1', 'aof_enabled:0'],
      ['rdb_saves:0', `rdb_saves:${saves}`],
    );
    expect(redisHealthOf(info, save).keepsData).toBe(keepsData);
  });
});
