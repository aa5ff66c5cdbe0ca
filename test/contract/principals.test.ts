/** Principals on a real Redis: how they come, change and end, and what is believed of them. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { silentLog } from '../../io/log.ts';
import {
  addPrincipal,
  readPrincipals,
  revokePrincipal,
  rotatePrincipal,
  verifyToken,
} from '../../io/principals.ts';
import type { NewPrincipal } from '../../io/principals.ts';
import type { RedisStore } from '../../io/redis-store.ts';
import { openRedisStore } from '../../io/redis-store.ts';
import { keyOf, makeToken } from '../../io/tokens.ts';
import { codeOf } from '../../protocol/errors.ts';
import type { PrincipalRecord } from '../../protocol/principals.ts';
import { bedReason } from '../beds/available.ts';
import { startRedisBed, type RedisBed } from '../beds/redis.ts';
import { agentIdOf } from '../support/builders.ts';

const reason = bedReason('redis');
const suite = reason === undefined ? describe : describe.skip;
const clusterKey = Buffer.alloc(32, 7);
const by = 'root@desk';
const op = { name: 'op', by };

suite(`principals${reason === undefined ? '' : ` (${reason})`}`, () => {
  let bed: RedisBed;
  let store: RedisStore;

  beforeAll(async () => {
    bed = await startRedisBed();
    store = await openRedisStore({ url: bed.url, cluster: 'c', log: silentLog, name: 'test' });
  });
  afterAll(async () => {
    await store.close();
    await bed.stop();
  });
  beforeEach(async () => {
    await store.redis.flushall();
  });

  const add = (more: Partial<NewPrincipal> = {}): Promise<PrincipalRecord> =>
    addPrincipal(store.redis, store.keys, clusterKey, { kind: 'operator', ...op, ...more });
  const rotate = (): Promise<PrincipalRecord> =>
    rotatePrincipal(store.redis, store.keys, clusterKey, op);
  const revoke = (name = 'op'): Promise<PrincipalRecord> =>
    revokePrincipal(store.redis, store.keys, clusterKey, { name, by });
  const tokenOf = ({ name, generation }: PrincipalRecord): string =>
    makeToken(clusterKey, name, generation);
  const verdictOn = async (token: string, inMs = 0): Promise<string> => {
    const principals = await readPrincipals(store.redis, store.keys, clusterKey);
    const verdict = verifyToken(clusterKey, principals, token, (await store.nowMs()) + inMs);
    return verdict.ok ? verdict.principal.name : verdict.code;
  };
  const failure = async (act: Promise<unknown>): Promise<string | undefined> =>
    act.then(() => undefined, codeOf);

  test('are there when they were added, with who has done it', async () => {
    const record = await add({ kind: 'framework', roles: ['ci'], users: ['bob'] });
    const { records, forged } = await readPrincipals(store.redis, store.keys, clusterKey);
    expect(forged).toEqual([]);
    expect(records.get('op')).toEqual(record);
    expect(record.acts).toEqual([{ number: 1, type: 'created', by, atMs: record.createdAtMs }]);
    expect(await verdictOn(tokenOf(record))).toBe('op');
  });

  test('have nothing in Redis by which a token could be made', async () => {
    const record = await add();
    const stored = JSON.stringify(await store.redis.hgetall(store.keys.principals));
    const key = keyOf(clusterKey, 'op', record.generation);
    for (const form of ['base64url', 'base64', 'hex'] as const) {
      expect(stored).not.toContain(key.toString(form));
    }
  });

  test('have names that are taken once, also by two at a time', async () => {
    const outcomes = await Promise.all([failure(add()), failure(add()), failure(add())]);
    expect(outcomes.filter((code) => code === undefined)).toHaveLength(1);
    expect(new Set(outcomes)).toEqual(new Set([undefined, 'principal-exists']));
  });

  test('that are rotated have another token, and the old one is known to be old', async () => {
    const before = await add();
    const after = await rotate();
    expect([await verdictOn(tokenOf(before)), await verdictOn(tokenOf(after))]).toEqual([
      'rotated',
      'op',
    ]);
  });

  test('that are revoked are so for good: who takes the name has another token', async () => {
    const before = await add();
    await revoke();
    expect(await verdictOn(tokenOf(before))).toBe('revoked');
    expect(await failure(rotate())).toBe('principal-unknown');
    expect((await revoke()).acts).toHaveLength(2);
    const after = await add({ kind: 'viewer' });
    expect(after.generation).toBeGreaterThan(before.generation);
    expect(after.acts.map(({ number, type }) => [number, type])).toEqual([
      [1, 'created'],
      [2, 'revoked'],
      [3, 'created'],
    ]);
    expect([await verdictOn(tokenOf(before)), await verdictOn(tokenOf(after))]).toEqual([
      'rotated',
      'op',
    ]);
  });

  test('expire, and a new token lives as long as the last one did', async () => {
    const expiresAtMs = (await store.nowMs()) + 60_000;
    const record = await add({ expiresAtMs });
    expect(await verdictOn(tokenOf(record))).toBe('op');
    expect(await verdictOn(tokenOf(record), 60_000)).toBe('expired');
    const next = await rotate();
    expect(next.expiresAtMs).toBeGreaterThanOrEqual(expiresAtMs);
    expect(await verdictOn(tokenOf(next))).toBe('op');
  });

  test('that nobody knows are neither rotated nor revoked', async () => {
    expect([await failure(rotate()), await failure(revoke('nobody'))]).toEqual([
      'principal-unknown',
      'principal-unknown',
    ]);
  });

  test.each<Partial<NewPrincipal>>([
    { kind: 'framework' },
    { kind: 'agent' },
    { kind: 'operator', agentId: agentIdOf('a1') },
    { kind: 'operator', roles: ['ci'] },
    { kind: 'viewer', users: ['bob'] },
  ])('are not made of what does not go together: %j', async (more) => {
    expect(await failure(add(more))).toBe('principal-invalid');
    expect(await store.redis.exists(store.keys.principals)).toBe(0);
  });

  test('that were written without the key, or moved, count nothing and cannot be changed', async () => {
    await add();
    const { redis, keys } = store;
    const sealed = (await redis.hget(keys.principals, 'op')) ?? '';
    await redis.hset(keys.principals, {
      other: sealed,
      raised: sealed.replace('"operator"', '"admin"'),
      junk: 'x',
    });
    const { records, forged } = await readPrincipals(redis, keys, clusterKey);
    expect([[...records.keys()], [...forged].sort()]).toEqual([
      ['op'],
      ['junk', 'other', 'raised'],
    ]);
    const code = failure(revokePrincipal(redis, keys, Buffer.alloc(32, 8), { name: 'op', by }));
    expect(await code).toBe('principal-forged');
  });

  test('are of one cluster: the same record in another says nothing', async () => {
    await add();
    const other = await openRedisStore({
      url: bed.url,
      cluster: 'd',
      log: silentLog,
      name: 'test',
    });
    const sealed = (await store.redis.hget(store.keys.principals, 'op')) ?? '';
    await other.redis.hset(other.keys.principals, 'op', sealed);
    const { forged } = await readPrincipals(other.redis, other.keys, clusterKey);
    await other.close();
    expect(forged).toEqual(['op']);
  });

  test('are asked by their tokens alone: whatever is no token of this cluster is told from one', async () => {
    const record = await add();
    const foreign = makeToken(Buffer.alloc(32, 8), 'op', record.generation);
    const never = makeToken(clusterKey, 'nobody', 1);
    const ahead = makeToken(clusterKey, 'op', record.generation + 1);
    const asked = ['kaon1_x', foreign, never, ahead].map((token) => verdictOn(token));
    expect(await Promise.all(asked)).toEqual(['malformed', 'forged', 'unknown', 'unknown']);
  });
});
