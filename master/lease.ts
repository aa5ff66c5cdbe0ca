/**
 * Holding the leadership: takes the lease, keeps it, and stops in time when it cannot be kept.
 *
 * The fence in the commit script is what makes two leaders harmless; this only makes sure that a leader that has lost
 * its lease notices soon. It gives up at two thirds of the lease, counted on the monotonic clock from *before* a
 * renewal was sent, so that it has stopped acting before another master can begin.
 */
import type { Clock } from '../io/clock.ts';
import type { Log } from '../io/log.ts';
import type { Lease, Store } from '../io/store.ts';
import { messageOf } from '../protocol/errors.ts';
import type { MasterId } from '../protocol/ids.ts';

/** Who wants to lead, and for how long at a time. */
export interface LeaseOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Log;
  readonly masterId: MasterId;
  /** Default 3000. */
  readonly leaseMs: number;
}

/** Why a leadership has ended. */
export type LeaseEnd = 'lost' | 'stopped';

/** Stands by until the lease is ours. @returns undefined if `signal` was aborted first */
export async function waitForLease(
  options: LeaseOptions,
  signal: AbortSignal,
): Promise<Lease | undefined> {
  const { store, clock, log, masterId, leaseMs } = options;
  let announced = false;
  while (!signal.aborted) {
    try {
      const lease = await store.acquireLease(masterId, leaseMs);
      if (lease) return lease;
      const leader = await store.leader();
      if (leader && !announced) {
        log.info('master.standby', { leader: leader.masterId, epoch: leader.epoch });
        announced = true;
      }
      // Sleeping for what is left of the lease, and not polling: the takeover comes a millisecond after its end.
      await Promise.race([
        store.waitForLeaderChange(leader ? Math.max(1, leader.remainingMs + 1) : 1),
        aborted(signal),
      ]);
    } catch (error) {
      log.warn('master.standby.failed', { error: messageOf(error) });
      await clock.sleep(500, signal);
    }
  }
  return undefined;
}

/**
 * Renews the lease until it is lost or `signal` is aborted.
 *
 * @param onRenewed called with the time of the store and the monotonic time at which the renewal was sent
 */
export async function keepLease(
  options: LeaseOptions,
  lease: Lease,
  signal: AbortSignal,
  onRenewed: (storeMs: number, sentAtMs: number) => void,
): Promise<LeaseEnd> {
  const { store, clock, log, leaseMs } = options;
  let renewedAtMs = clock.monotonicMs();
  while (!signal.aborted) {
    await clock.sleep(leaseMs / 6, signal);
    if (signal.aborted) break;
    const sentAtMs = clock.monotonicMs();
    const deadlineMs = renewedAtMs + (leaseMs * 2) / 3;
    const timeout = new AbortController();
    try {
      const storeMs = await Promise.race([
        store.renewLease(lease, leaseMs),
        clock.sleep(deadlineMs - sentAtMs, timeout.signal).then(() => 'late' as const),
      ]);
      if (storeMs === undefined || storeMs === 'late') {
        log.warn('master.lease.lost', { epoch: lease.epoch, late: storeMs === 'late' });
        return 'lost';
      }
      renewedAtMs = sentAtMs;
      onRenewed(storeMs, sentAtMs);
    } catch (error) {
      log.warn('master.lease.renewal-failed', { epoch: lease.epoch, error: messageOf(error) });
      if (clock.monotonicMs() >= deadlineMs) return 'lost';
    } finally {
      timeout.abort();
    }
  }
  return 'stopped';
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else
      signal.addEventListener(
        'abort',
        () => {
          resolve();
        },
        { once: true },
      );
  });
}
