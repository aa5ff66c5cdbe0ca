/** Redis as the simulator has it: the model, with an observer that sees each call and its answer as Redis saw it. */
import type { RedisModel } from '../../io/fake/model.ts';
import type { Append, AppendResult, Commit, CommitResult, Lease } from '../../io/store.ts';
import type { MasterId } from '../../protocol/ids.ts';

/** The calls of the model that the simulated daemons make. */
export type SimRedis = Pick<
  RedisModel,
  | 'nowMs'
  | 'append'
  | 'heartbeat'
  | 'readClient'
  | 'acquireLease'
  | 'renewLease'
  | 'releaseLease'
  | 'leader'
  | 'loadSnapshot'
  | 'readInbox'
  | 'commit'
  | 'silentClients'
>;

/** What a checker is told of Redis. `before` and `after` are the number of the last commit. */
export interface RedisObserver {
  appended(append: Append, result: AppendResult): void;
  leaseHeld(lease: Lease, leaseMs: number): void;
  leaseReleased(lease: Lease): void;
  committed(commit: Commit, result: CommitResult, numbers: { before: number; after: number }): void;
}

/** All methods of `inner`, to replace some of them. */
export function passThrough(inner: SimRedis): SimRedis {
  return {
    nowMs: () => inner.nowMs(),
    append: (append) => inner.append(append),
    heartbeat: (client, session, cursor) => inner.heartbeat(client, session, cursor),
    readClient: (client, session, cursor) => inner.readClient(client, session, cursor),
    acquireLease: (masterId: MasterId, leaseMs) => inner.acquireLease(masterId, leaseMs),
    renewLease: (lease, leaseMs) => inner.renewLease(lease, leaseMs),
    releaseLease: (lease) => {
      inner.releaseLease(lease);
    },
    leader: () => inner.leader(),
    loadSnapshot: () => inner.loadSnapshot(),
    readInbox: (cursor, count) => inner.readInbox(cursor, count),
    commit: (commit) => inner.commit(commit),
    silentClients: (beforeMs) => inner.silentClients(beforeMs),
  };
}

/** @returns `inner`, told to the observer */
export function observeRedis(inner: SimRedis, observer: RedisObserver): SimRedis {
  return {
    ...passThrough(inner),
    append: (append) => {
      const result = inner.append(append);
      observer.appended(append, result);
      return result;
    },
    acquireLease: (masterId, leaseMs) => {
      const lease = inner.acquireLease(masterId, leaseMs);
      if (lease) observer.leaseHeld(lease, leaseMs);
      return lease;
    },
    renewLease: (lease, leaseMs) => {
      const nowMs = inner.renewLease(lease, leaseMs);
      if (nowMs !== undefined) observer.leaseHeld(lease, leaseMs);
      return nowMs;
    },
    releaseLease: (lease) => {
      inner.releaseLease(lease);
      observer.leaseReleased(lease);
    },
    commit: (commit) => {
      const before = inner.loadSnapshot().commitNumber;
      const result = inner.commit(commit);
      const after = inner.loadSnapshot().commitNumber;
      observer.committed(commit, result, { before, after });
      return result;
    },
  };
}
