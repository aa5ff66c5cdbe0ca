/** A store whose Redis fails over, by Sentinel, to a replica that lacks the last writes. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { silentLog } from '../../io/log.ts';
import { openRedisStore, type RedisStore } from '../../io/redis-store.ts';
import { START } from '../../io/store.ts';
import { isOlderSession } from '../../protocol/ids.ts';
import { bedReason } from '../beds/available.ts';
import { startSentinelBed, type SentinelBed } from '../beds/redis-sentinel.ts';
import { beginTerm, commitOf, LEASE_MS } from '../support/store-harness.ts';

const reason = bedReason('redis');
const suite = reason === undefined ? describe : describe.skip;
const client = 'framework:f1';

suite(`a store that fails over${reason === undefined ? '' : ` (skipped: ${reason})`}`, () => {
  let bed: SentinelBed;
  let store: RedisStore;

  beforeAll(async () => {
    bed = await startSentinelBed();
    store = await openRedisStore({ url: bed.url, cluster: 'c', log: silentLog, name: 'test' });
  }, 120_000);
  afterAll(async () => {
    await store.close();
    await bed.stop();
  }, 120_000);

  test('says so to the leader and to every client, and goes on from what is left', async () => {
    const lease = await beginTerm(store);
    const session = await store.openSession(client);
    const sessions = [{ client, session }] as const;
    await store.append({ client, session, sequence: 1, messages: '["kept"]' });
    await store.commit(commitOf(lease, 1, { sessions, events: ['{"n":1}'] }));
    // Else what is to be kept could be lost as well.
    while ((await store.redis.wait(1, 5000)) < 1);
    await bed.pauseReplication();
    await store.append({ client, session, sequence: 2, messages: '["lost"]' });
    const lost = { registry: 'tasks', key: 'f1/t1', value: '{}' } as const;
    await store.commit(commitOf(lease, 2, { changes: [lost] }));
    const lostSession = await store.openSession(client);
    await bed.killMaster();
    await bed.waitForFailover();

    expect(await store.renewLease(lease, LEASE_MS)).toBe('server-changed');
    expect(await store.commit(commitOf(lease, 3))).toMatchObject({ code: 'server-changed' });
    expect(await store.append({ client, session, sequence: 3, messages: '[]' })).toBe('gap');
    const next = await beginTerm(store);
    expect(next.epoch).toBe(lease.epoch + 1);
    expect(await store.heartbeat(client, session, START)).toBe('unknown');
    const { commitNumber, registry } = await store.loadSnapshot();
    expect([commitNumber, registry.tasks.size]).toEqual([1, 0]);
    expect(isOlderSession(lostSession, await store.openSession(client))).toBe(true);
    expect(await store.commit(commitOf(next, 2))).toMatchObject({ ok: true });
  }, 120_000);
});
