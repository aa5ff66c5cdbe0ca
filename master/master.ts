/**
 * A master as a process: stands by, leads (`leadership.ts`), and stands by again, until it is stopped. It decides nothing.
 */
import type { Clock } from '../io/clock.ts';
import type { Log } from '../io/log.ts';
import type { Lease, Store, StreamId } from '../io/store.ts';
import { codeOf, messageOf } from '../protocol/errors.ts';
import type { MasterId } from '../protocol/ids.ts';
import type { MasterOptions } from './core/state.ts';
import { MASTER_OPTIONS_DEFAULT } from './core/state.ts';
import type { LeadershipOptions } from './leadership.ts';
import type { Guard } from './guard.ts';
import { Leadership } from './leadership.ts';
import { keepLease, waitForLease } from './lease.ts';

/**
 * A master that has lost its lease lets a standby go first: that is what a step-down is for. One that has not come by then,
 * milliseconds, is not there.
 */
const STAND_BACK_MS = 2000;
/** How often it looks whether one has, milliseconds. */
const STAND_BACK_LOOK_MS = 50;
/** After a term that ended with an error, milliseconds. */
const RETRY_MS = 500;

/** How often a standby looks for principals that have changed, milliseconds; a leader does each second. */
const PRINCIPALS_MS = 5000;

/** Times that the master goes by, milliseconds. */
export interface MasterSettings extends MasterOptions {
  /** Default 3 s. */
  readonly leaseMs: number;
  /** A framework that is silent for so long is disconnected. Default 30 s. */
  readonly frameworkTimeoutMs: number;
}
/** The defaults of `MasterSettings`. */
export const MASTER_SETTINGS_DEFAULT: MasterSettings = {
  ...MASTER_OPTIONS_DEFAULT,
  leaseMs: 3000,
  frameworkTimeoutMs: 30_000,
};

/** What a master runs on. */
export interface MasterDependencies {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Log;
  readonly masterId: MasterId;
  readonly settings: MasterSettings;
  /** Of a secured cluster; absent: the cluster is open. */
  readonly guard?: Guard | undefined;
  /** Called each time that this master becomes or stops being the leader. */
  readonly onLeading?: (leading: boolean) => void;
  /** Called each time that the loop has come round, of a standby or of the leader. */
  readonly onRound?: ((view: MasterView) => void) | undefined;
}

/** What a master is doing. */
export type MasterView =
  /** Absent: it has just begun to stand by. */
  | { readonly state: 'standby'; readonly leader?: MasterId }
  | {
      readonly state: 'leading';
      readonly epoch: number;
      readonly agents: number;
      readonly frameworks: number;
      readonly tasks: number;
    };

/**
 * Runs until `signal` is aborted; then gives the lease up, so that a standby takes over at once.
 *
 * @throws KaonError `registry-too-new` if it came to lead a cluster that a newer Kaon has written
 */
export async function runMaster(
  dependencies: MasterDependencies,
  signal: AbortSignal,
): Promise<void> {
  const { store, clock, log, masterId, settings, onRound } = dependencies;
  const onStandby = (leader?: MasterId): void => {
    onRound?.({ state: 'standby', ...(leader !== undefined && { leader }) });
  };
  const leaseOptions = { store, clock, log, masterId, leaseMs: settings.leaseMs, onStandby };
  const poisoned = new Set<StreamId>();
  const over = new AbortController();
  const isOver = AbortSignal.any([signal, over.signal]);
  // Not waited for at the end: it may wait for a Redis that is gone.
  if (dependencies.guard) void keepFresh(dependencies.guard, dependencies, isOver);
  try {
    while (!signal.aborted) {
      const lease = await waitForLease(leaseOptions, signal);
      if (!lease) return;
      await lead({ ...dependencies, poisoned, lease }, signal);
    }
  } finally {
    over.abort();
  }
}

/** A standby knows the principals too, for a Redis that has lost them when it comes to lead. */
async function keepFresh(
  guard: Guard,
  { clock, log }: MasterDependencies,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    try {
      await guard.refresh();
    } catch (error) {
      // Redis is away, or this process ends; a term that begins reads them anyway.
      log.debug('principals.read-failed', { error: messageOf(error) });
    }
    await clock.sleep(PRINCIPALS_MS, signal);
  }
}

/** One term, from the lease to its end. */
async function lead(options: LeadershipOptions, signal: AbortSignal): Promise<void> {
  const { store, clock, log, masterId, settings, onLeading } = options;
  const leadership = new Leadership(options);
  const stop = (): void => {
    leadership.stop('stopped');
  };
  signal.addEventListener('abort', stop);
  // Aborted while the lease was on its way: the event has been, and would never stop this term.
  if (signal.aborted) stop();
  const keeping = keepLease(
    { store, clock, log, masterId, leaseMs: settings.leaseMs },
    () => leadership.lease,
    leadership.signal,
    (storeMs, sentAtMs) => {
      leadership.setTime(storeMs, sentAtMs);
    },
  ).then((end) => {
    leadership.stop(end);
  });
  let failure: unknown;
  try {
    await leadership.run();
  } catch (error) {
    failure = error;
    log.error('master.leading.failed', {
      epoch: leadership.lease.epoch,
      error: messageOf(error),
    });
  } finally {
    stop();
    signal.removeEventListener('abort', stop);
    onLeading?.(false);
  }
  await keeping;
  await releaseQuietly(options, leadership.lease);
  // To stand by and try again would only keep the newer masters from leading.
  if (codeOf(failure) === 'registry-too-new') throw failure;
  if (failure !== undefined) await clock.sleep(RETRY_MS, signal);
  else if (leadership.end === 'lost') await standBack(options, signal);
}

async function standBack(
  { store, clock, log }: Pick<MasterDependencies, 'store' | 'clock' | 'log'>,
  signal: AbortSignal,
): Promise<void> {
  const untilMs = clock.monotonicMs() + STAND_BACK_MS;
  while (!signal.aborted && clock.monotonicMs() < untilMs) {
    try {
      if (await store.leader()) return;
    } catch (error) {
      log.debug('master.standby.failed', { error: messageOf(error) });
    }
    await clock.sleep(STAND_BACK_LOOK_MS, signal);
  }
}

async function releaseQuietly(
  { store, clock, log }: Pick<MasterDependencies, 'store' | 'clock' | 'log'>,
  lease: Lease,
): Promise<void> {
  // Redis may be gone, and its client waits for it for ever; an unreleased lease only costs the successor its rest.
  const release = store.releaseLease(lease).catch((error: unknown) => {
    log.warn('master.lease.release-failed', { epoch: lease.epoch, error: messageOf(error) });
  });
  const released = new AbortController();
  await Promise.race([release, clock.sleep(1000, released.signal)]);
  released.abort();
}
