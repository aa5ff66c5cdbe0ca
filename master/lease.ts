/**
 * Holding the leadership: takes the lease, keeps it, and stops in time when it cannot be kept.
 *
 * The fence in the commit script is what makes two leaders harmless; this only makes sure that a leader that has lost
 * its lease notices soon. It gives up at two thirds of the lease, counted on the monotonic clock from *before* a
 * renewal was sent, so that it has stopped acting before another master can begin.
 *
 * A standby need not wait for the end of the lease of a leader that has died: the kernel closes the connection of a
 * process that ends, however it ends, and Redis says whether it is there. A leader that lives and was only reconnecting
 * loses its lease by this, and nothing else: whatever it writes after that is refused.
 */
import type { Clock } from '../io/clock.ts';
import type { Log } from '../io/log.ts';
import { retryLevel } from '../io/redis-errors.ts';
import type { Lease, Store } from '../io/store.ts';
import { messageOf } from '../protocol/errors.ts';
import type { MasterId } from '../protocol/ids.ts';

/** How often a standby looks whether the leader is connected, milliseconds. */
const LOOK_MS = 100;
/** A leader that is not there on so many looks in a row has died; one look may fall into a reconnection. */
const GONE_LOOKS = 2;

/** Who wants to lead, and for how long at a time. */
export interface LeaseOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Log;
  readonly masterId: MasterId;
  /** Default 3000. */
  readonly leaseMs: number;
  /** Called each time that a standby has looked, with the one that leads. */
  readonly onStandby?: (leader?: MasterId) => void;
}

/** Why a leadership has ended. */
export type LeaseEnd = 'lost' | 'server-changed' | 'stopped';

/** Stands by until the lease is ours. @returns undefined if `signal` was aborted first */
export async function waitForLease(
  options: LeaseOptions,
  signal: AbortSignal,
): Promise<Lease | undefined> {
  const { store, clock, log, masterId, leaseMs, onStandby } = options;
  let announced = false;
  let abandoned: Lease | undefined;
  let seen: MasterId | undefined;
  while (!signal.aborted) {
    try {
      onStandby?.(seen);
      const lease = await store.acquireLease(masterId, leaseMs, abandoned);
      if (lease) return lease;
      const leader = await store.leader();
      seen = leader?.masterId;
      if (leader && !announced) {
        log.info('master.standby', { leader: leader.masterId, epoch: leader.epoch });
        announced = true;
      }
      abandoned = leader ? await watchLeader(options, leader, signal) : undefined;
      if (abandoned) {
        log.warn('master.leader-gone', { leader: abandoned.masterId, epoch: abandoned.epoch });
      }
    } catch (error) {
      log[retryLevel(error)]('master.standby.failed', { error: messageOf(error) });
      await clock.sleep(500, signal);
    }
  }
  return undefined;
}

/**
 * Waits until the lease may be free. Sleeping for what is left of it, and not polling for it: the takeover comes a
 * millisecond after its end.
 *
 * @returns the lease to replace, if its holder has died before its end
 */
async function watchLeader(
  { store, clock, onStandby }: LeaseOptions,
  leader: Lease & { readonly remainingMs: number },
  signal: AbortSignal,
): Promise<Lease | undefined> {
  const endMs = clock.monotonicMs() + Math.max(1, leader.remainingMs + 1);
  let goneLooks = 0;
  for (;;) {
    const leftMs = endMs - clock.monotonicMs();
    if (leftMs <= 0 || signal.aborted) return undefined;
    onStandby?.(leader.masterId);
    if (await store.waitForLeaderChange(Math.min(LOOK_MS, leftMs), signal)) return undefined;
    goneLooks = (await store.isLeaderGone(leader)) ? goneLooks + 1 : 0;
    if (goneLooks >= GONE_LOOKS) return { masterId: leader.masterId, epoch: leader.epoch };
  }
}

/**
 * Renews the lease until it is lost or `signal` is aborted; at once when somebody says that it may have changed hands.
 *
 * @param lease the lease as it is now: its epoch may be raised meanwhile
 * @param onRenewed called with the time of the store and the monotonic time at which the renewal was sent
 */
export async function keepLease(
  options: LeaseOptions,
  lease: () => Lease,
  signal: AbortSignal,
  onRenewed: (storeMs: number, sentAtMs: number) => void,
): Promise<LeaseEnd> {
  const { clock, log, leaseMs } = options;
  let renewedAtMs = clock.monotonicMs();
  while (!signal.aborted) {
    await untilRenewal(options, signal);
    if (signal.aborted) break;
    const sentAtMs = clock.monotonicMs();
    const deadlineMs = renewedAtMs + (leaseMs * 2) / 3;
    try {
      const storeMs = await renewBefore(deadlineMs, options, lease());
      if (typeof storeMs !== 'number') {
        log.warn('master.lease.lost', { epoch: lease().epoch, reason: storeMs });
        return storeMs === 'server-changed' ? storeMs : 'lost';
      }
      renewedAtMs = sentAtMs;
      onRenewed(storeMs, sentAtMs);
    } catch (error) {
      log.warn('master.lease.renewal-failed', { epoch: lease().epoch, error: messageOf(error) });
      if (clock.monotonicMs() >= deadlineMs) return 'lost';
    }
  }
  return 'stopped';
}

async function untilRenewal(
  { store, clock, log, leaseMs }: LeaseOptions,
  signal: AbortSignal,
): Promise<void> {
  try {
    await store.waitForLeaderChange(leaseMs / 6, signal);
  } catch (error) {
    log.debug('master.lease.not-listening', { error: messageOf(error) });
    await clock.sleep(leaseMs / 6, signal);
  }
}

/** @returns the time of the store, or why the lease is not ours any more */
async function renewBefore(
  deadlineMs: number,
  { store, clock, leaseMs }: LeaseOptions,
  lease: Lease,
): Promise<number | 'server-changed' | 'taken' | 'late'> {
  const answered = new AbortController();
  const late = clock
    .sleep(deadlineMs - clock.monotonicMs(), answered.signal)
    .then(() => 'late' as const);
  try {
    return (await Promise.race([store.renewLease(lease, leaseMs), late])) ?? 'taken';
  } finally {
    answered.abort();
  }
}
