/**
 * One suite for both stores: the leader's lease, its terms, and what becomes of them when Redis restarts or loses its
 * data. Held against the fake and a real Redis.
 */
import { beforeEach, describe, expect, test } from '@jest/globals';
import { systemClock } from '../../io/clock.ts';
import type { Store } from '../../io/store.ts';
import { START } from '../../io/store.ts';
import { waitForLease } from '../../master/lease.ts';
import { sessionNumber, sessionNumberAt } from '../../protocol/ids.ts';
import { masterIdOf, sessionOf } from '../support/builders.ts';
import type { StoreHarness } from '../support/store-harness.ts';
import { beginTerm, commitOf, describeStores, LEASE_MS } from '../support/store-harness.ts';
import { createWatchedLog } from '../support/watch.ts';

const client = 'framework:f1';
const session = sessionOf('s1');
const masterId = masterIdOf('m1');
const m2 = masterIdOf('m2');

describeStores('%s', ['FakeStore', 'RedisStore'], ({ open }) => {
  let harness: StoreHarness;
  let store: Store;

  beforeEach(async () => {
    harness = await open();
    store = harness.store;
  });

  describe('the lease', () => {
    test('is given to one master, with an epoch', async () => {
      expect(await store.acquireLease(masterId, LEASE_MS)).toEqual({ masterId: 'm1', epoch: 1 });
      expect(await store.acquireLease(m2, LEASE_MS)).toBeUndefined();
    });

    test('says who has it, and for how long', async () => {
      expect(await store.leader()).toBeUndefined();
      await beginTerm(store);
      const leader = await store.leader();
      expect(leader).toMatchObject({ masterId: 'm1', epoch: 1 });
      expect(leader?.remainingMs).toBeGreaterThan(LEASE_MS / 2);
      expect(leader?.remainingMs).toBeLessThanOrEqual(LEASE_MS);
    });

    test('that is taken again by the same master is another one, and the first cannot write', async () => {
      const first = await beginTerm(store);
      expect(await store.acquireLease(masterId, LEASE_MS)).toEqual({ masterId: 'm1', epoch: 2 });
      expect(await store.renewLease(first, LEASE_MS)).toBeUndefined();
      expect(await store.commit(commitOf(first, 1))).toMatchObject({ ok: false, code: 'fenced' });
    });

    test('is renewed by who has it, who learns the time', async () => {
      const before = await store.nowMs();
      const lease = await beginTerm(store);
      expect(await store.renewLease(lease, LEASE_MS)).toBeGreaterThanOrEqual(before);
    });

    test('that is renewed for longer lasts longer', async () => {
      const lease = await beginTerm(store);
      await store.renewLease(lease, 2 * LEASE_MS);
      expect((await store.leader())?.remainingMs).toBeGreaterThan(LEASE_MS);
    });

    test('that has expired cannot be renewed, and goes to the next with a higher epoch', async () => {
      const lease = await beginTerm(store);
      await harness.expireLease();
      expect(await store.renewLease(lease, LEASE_MS)).toBeUndefined();
      const next = await store.acquireLease(m2, LEASE_MS);
      expect(next).toEqual({ masterId: 'm2', epoch: 2 });
      expect(await store.renewLease(lease, LEASE_MS)).toBeUndefined();
    });

    test('that was lost and is taken again by the same master is another one', async () => {
      await beginTerm(store);
      await harness.expireLease();
      expect(await store.acquireLease(masterId, LEASE_MS)).toEqual({ masterId: 'm1', epoch: 2 });
    });

    test('that is given up is free at once', async () => {
      const lease = await beginTerm(store);
      await store.releaseLease(lease);
      expect(await store.leader()).toBeUndefined();
      expect((await store.acquireLease(m2, LEASE_MS))?.epoch).toBe(2);
    });

    test('of another is not given up', async () => {
      await beginTerm(store);
      await store.releaseLease({ masterId, epoch: 7 });
      await store.releaseLease({ masterId: m2, epoch: 1 });
      expect(await store.leader()).toMatchObject({ masterId: 'm1', epoch: 1 });
    });

    test('wakes who waits for it when it is given up', async () => {
      const lease = await beginTerm(store);
      const standby = await harness.another();
      const noticed = (async () => {
        let changed = false;
        while (await standby.leader()) changed = await standby.waitForLeaderChange(60_000);
        return changed;
      })();
      await harness.hasWaiter();
      await store.releaseLease(lease);
      await expect(noticed).resolves.toBe(true);
    });

    test('that does not change is waited for only as long as was asked for', async () => {
      await beginTerm(store);
      // Beginning to listen counts as a change, whenever it comes about.
      let changed = true;
      while (changed) changed = await store.waitForLeaderChange(20);
      expect(changed).toBe(false);
    });

    test('is no longer waited for by who is told to stop', async () => {
      await beginTerm(store);
      const stop = new AbortController();
      const waiting = store.waitForLeaderChange(60_000, stop.signal);
      stop.abort();
      await expect(waiting).resolves.toBeDefined();
    });

    test('can be given up by another, in the name of who holds it', async () => {
      await beginTerm(store);
      const other = await harness.another();
      expect(await other.releaseLeaseOf(m2)).toBe(false);
      expect(await store.leader()).toMatchObject({ masterId: 'm1', epoch: 1 });
      expect(await other.releaseLeaseOf(masterId)).toBe(true);
      expect(await store.leader()).toBeUndefined();
      expect(await other.releaseLeaseOf(masterId)).toBe(false);
    });
  });

  describe('a raised epoch', () => {
    test('is that of the lease, of its commits and of its renewals', async () => {
      const lease = await beginTerm(store);
      const raised = await store.raiseEpoch(lease, 9);
      expect(raised).toEqual({ masterId: 'm1', epoch: 9 });
      if (!raised) return;
      expect(await store.leader()).toMatchObject(raised);
      expect(await store.renewLease(raised, LEASE_MS)).toBeGreaterThan(0);
      expect(await store.commit(commitOf(raised, 1))).toMatchObject({ ok: true });
    });

    test('is not that of the old lease any more', async () => {
      const lease = await beginTerm(store);
      await store.raiseEpoch(lease, 9);
      expect(await store.renewLease(lease, LEASE_MS)).toBeUndefined();
      expect(await store.commit(commitOf(lease, 1))).toMatchObject({ ok: false, found: '9 m1' });
    });

    test('is below those of all leaders to come', async () => {
      const lease = await beginTerm(store);
      await store.raiseEpoch(lease, 9);
      await harness.expireLease();
      expect((await store.acquireLease(m2, LEASE_MS))?.epoch).toBe(10);
    });

    test('may be asked for twice, because the answer was lost', async () => {
      const lease = await beginTerm(store);
      await store.raiseEpoch(lease, 9);
      expect(await store.raiseEpoch(lease, 9)).toEqual({ masterId: 'm1', epoch: 9 });
    });

    test('is refused to who does not lead', async () => {
      const lease = await beginTerm(store);
      await harness.expireLease();
      await beginTerm(store, 'm2');
      expect(await store.raiseEpoch(lease, 9)).toBeUndefined();
      expect(await store.leader()).toMatchObject({ masterId: 'm2', epoch: 2 });
    });

    test('does not lengthen the lease', async () => {
      await beginTerm(store);
      const lease = await store.acquireLease(masterId, LEASE_MS / 2);
      if (lease) await store.raiseEpoch(lease, 9);
      const leader = await store.leader();
      expect(leader?.epoch).toBe(9);
      expect(leader?.remainingMs).toBeLessThanOrEqual(LEASE_MS / 2);
    });
  });

  describe('a term', () => {
    test('of the first leader finds a Redis that it does not know', async () => {
      const lease = { masterId, epoch: 1 };
      await store.acquireLease(masterId, LEASE_MS);
      const before = await store.nowMs();
      const term = await store.beginTerm(lease);
      expect(term).toMatchObject({ ok: true, lostBefore: expect.any(Number) });
      expect(term.ok && term.storeMs).toBeGreaterThanOrEqual(before);
    });

    test('after one that has committed finds the same Redis, with its sessions', async () => {
      await register(store);
      await harness.expireLease();
      await store.acquireLease(m2, LEASE_MS);
      const term = await store.beginTerm({ masterId: m2, epoch: 2 });
      expect(term).toMatchObject({ ok: true, lostBefore: undefined });
      expect(await store.heartbeat(client, session, START)).toBe('ok');
    });

    test('after one that ended before it had acted on the loss has to act on it', async () => {
      await beginTerm(store);
      await store.acquireLease(masterId, LEASE_MS);
      const term = await store.beginTerm({ masterId, epoch: 2 });
      expect(term).toMatchObject({ ok: true, lostBefore: expect.any(Number) });
    });

    test('is not begun by who does not lead', async () => {
      await register(store);
      expect(await store.beginTerm({ masterId: m2, epoch: 1 })).toEqual({ ok: false });
      expect(await store.heartbeat(client, session, START)).toBe('ok');
    });

    test('ends with the restart of Redis, for nobody knows what it has lost', async () => {
      const lease = await register(store);
      await harness.restartServer();
      expect(await store.renewLease(lease, LEASE_MS)).toBe('server-changed');
      const commit = commitOf(lease, 2, { events: ['{}'] });
      expect(await store.commit(commit)).toMatchObject({ ok: false, code: 'server-changed' });
      expect(await harness.events()).toEqual([]);
    });

    test('that begins after a restart makes every client register again', async () => {
      await register(store);
      await harness.restartServer();
      expect(await store.heartbeat(client, session, START)).toBe('ok');
      const lease = await store.acquireLease(masterId, LEASE_MS);
      const term = lease && (await store.beginTerm(lease));
      expect(term).toMatchObject({ ok: true, lostBefore: expect.any(Number) });
      expect(await store.heartbeat(client, session, START)).toBe('unknown');
      const next = commitOf({ masterId, epoch: 2 }, 2, { sessions: [{ client, session }] });
      expect(await store.commit(next)).toMatchObject({ ok: true });
      expect(await store.heartbeat(client, session, START)).toBe('ok');
      expect(await store.renewLease({ masterId, epoch: 2 }, LEASE_MS)).toBeGreaterThan(0);
    });

    test('ends when Redis loses everything, and so do all sessions', async () => {
      const lease = await register(store);
      await harness.flushServer();
      expect(await store.renewLease(lease, LEASE_MS)).toBeUndefined();
      expect(await store.commit(commitOf(lease, 2))).toMatchObject({ ok: false, code: 'fenced' });
      expect(await store.heartbeat(client, session, START)).toBe('unknown');
      const next = await store.acquireLease(m2, LEASE_MS);
      expect(next && (await store.beginTerm(next))).toMatchObject({
        ok: true,
        lostBefore: expect.any(Number),
      });
    });

    test('does not count its epochs from 1 again after everything was lost', async () => {
      const lease = await register(store);
      await harness.flushServer();
      const next = await store.acquireLease(masterId, LEASE_MS);
      // The time in seconds: no leader of before can have had it.
      expect(next?.epoch).toBeGreaterThan(1_600_000_000);
      expect(await store.renewLease(lease, LEASE_MS)).toBeUndefined();
      expect(await store.commit(commitOf(lease, 2))).toMatchObject({ code: 'fenced' });
    });

    test('has numbers of sessions above all that a Redis with a fast clock can have given out', async () => {
      const lease = await store.acquireLease(masterId, LEASE_MS);
      const term = lease && (await store.beginTerm(lease));
      const lostBefore = (term?.ok === true && term.lostBefore) || Infinity;
      expect(sessionNumber(await store.openSession(client))).toBeGreaterThan(lostBefore);
      expect(lostBefore).toBeGreaterThan(sessionNumberAt((await store.nowMs()) + 50_000));
    });
  });

  describe('a leader', () => {
    test('whose process has gone is seen to be gone, and one that lives is not', async () => {
      const leading = await harness.another();
      const lease = await beginTerm(leading);
      expect(await store.isLeaderGone(lease)).toBe(false);
      await leading.close();
      while (!(await store.isLeaderGone(lease)));
      expect(await store.isLeaderGone({ ...lease, epoch: 7 })).toBe(false);
      expect(await store.leader()).toMatchObject(lease);
    });

    test('that has raised its epoch is looked at under the new one', async () => {
      const leading = await harness.another();
      const raised = await leading.raiseEpoch(await beginTerm(leading), 9);
      if (!raised) throw new Error('not raised');
      expect(await store.isLeaderGone(raised)).toBe(false);
      await leading.close();
      while (!(await store.isLeaderGone(raised)));
    });

    test('is replaced by who names exactly its lease', async () => {
      const lease = await beginTerm(store);
      const other = { masterId, epoch: 7 };
      expect(await store.acquireLease(m2, LEASE_MS, other)).toBeUndefined();
      expect(await store.acquireLease(m2, LEASE_MS, lease)).toEqual({ masterId: m2, epoch: 2 });
      expect(await store.commit(commitOf(lease, 1))).toMatchObject({ code: 'fenced' });
    });

    test('that is replaced hears of it', async () => {
      const lease = await beginTerm(store);
      const heard = (async () => {
        while ((await store.renewLease(lease, LEASE_MS)) !== undefined)
          await store.waitForLeaderChange(60_000);
      })();
      await harness.hasWaiter();
      const other = await harness.another();
      await other.acquireLease(m2, LEASE_MS, lease);
      await expect(heard).resolves.toBeUndefined();
    });

    test('that is killed is replaced long before its lease is over', async () => {
      const leading = await harness.another();
      await beginTerm(leading);
      const log = createWatchedLog();
      const options = { store, clock: systemClock, log, masterId: m2, leaseMs: LEASE_MS };
      const taking = waitForLease(options, new AbortController().signal);
      await log.lines.first(({ event }) => event === 'master.standby');
      await leading.close();
      expect(await taking).toEqual({ masterId: m2, epoch: 2 });
    });
  });
});

/** Registers `framework:f1` with session s1. */
async function register(store: Store): ReturnType<typeof beginTerm> {
  const lease = await beginTerm(store);
  await store.commit(commitOf(lease, 1, { sessions: [{ client, session }] }));
  return lease;
}
