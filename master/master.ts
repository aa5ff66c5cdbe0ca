/**
 * The master's shell: stands by, leads, and stands by again. While it leads it reads the inbox in batches, steps the
 * core, and commits each batch whole; the next batch is read while the commit is on its way. It decides nothing.
 */
import type { Clock } from '../io/clock.ts';
import type { Log } from '../io/log.ts';
import type { CommitResult, InboxEntry, Lease, Store, StreamId } from '../io/store.ts';
import { decodeEntry } from '../protocol/codec.ts';
import { messageOf } from '../protocol/errors.ts';
import type { MasterId } from '../protocol/ids.ts';
import type { MasterEffect } from './core/effects.ts';
import type { MasterOptions, MasterState } from './core/state.ts';
import { createMasterState, loadRecords, takeChanges } from './core/state.ts';
import type { MasterEvent } from './core/step.ts';
import { offerResources, step } from './core/step.ts';
import type { MasterCounters } from './effects.ts';
import { buildCommit, logEffects } from './effects.ts';
import { keepLease, waitForLease } from './lease.ts';
import { decodeSnapshot } from './load.ts';

/** Entries of the inbox that one batch takes at most. */
const BATCH_ENTRIES = 1000;
/** How often offers and timeouts are looked at, milliseconds. */
const TICK_MS = 250;
/** How often the liveness of clients is looked at, milliseconds. */
const LIVENESS_MS = 1000;

/** Times that the master goes by, milliseconds. */
export interface MasterSettings extends MasterOptions {
  /** Default 3 s. */
  readonly leaseMs: number;
  /** An agent that is silent for so long is unreachable. Default 75 s. */
  readonly agentTimeoutMs: number;
  /** A framework that is silent for so long is disconnected. Default 30 s. */
  readonly frameworkTimeoutMs: number;
}
/** The defaults of `MasterSettings`. */
export const MASTER_SETTINGS_DEFAULT: MasterSettings = {
  offerTimeoutMs: 30_000,
  leaseMs: 3000,
  agentTimeoutMs: 75_000,
  frameworkTimeoutMs: 30_000,
};

/** What a master runs on. */
export interface MasterDependencies {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Log;
  readonly masterId: MasterId;
  readonly settings: MasterSettings;
  /** Called each time that this master becomes or stops being the leader. */
  readonly onLeading?: (leading: boolean) => void;
}

/** Runs until `signal` is aborted; then gives the lease up, so that a standby takes over at once. */
export async function runMaster(
  dependencies: MasterDependencies,
  signal: AbortSignal,
): Promise<void> {
  const { store, clock, log, masterId, settings } = dependencies;
  const leaseOptions = { store, clock, log, masterId, leaseMs: settings.leaseMs };
  while (!signal.aborted) {
    const lease = await waitForLease(leaseOptions, signal);
    if (!lease) return;
    const leadership = new Leadership(dependencies, lease);
    const stop = (): void => {
      leadership.stop();
    };
    signal.addEventListener('abort', stop);
    // Aborted while the lease was on its way: the event has been, and would never stop this term.
    if (signal.aborted) stop();
    const keeping = keepLease(leaseOptions, lease, leadership.signal, (storeMs, sentAtMs) => {
      leadership.setTime(storeMs, sentAtMs);
    }).finally(stop);
    try {
      await leadership.run();
    } catch (error) {
      log.error('master.leading.failed', { epoch: lease.epoch, error: messageOf(error) });
      await clock.sleep(500, signal);
    } finally {
      stop();
      signal.removeEventListener('abort', stop);
      dependencies.onLeading?.(false);
    }
    await keeping;
    await releaseQuietly(dependencies, lease);
  }
}

async function releaseQuietly(
  { store, clock, log }: MasterDependencies,
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

/** One term as the leader: its state, its clock, and its place in the inbox. */
class Leadership {
  readonly #dependencies: MasterDependencies;
  readonly #lease: Lease;
  readonly #stop = new AbortController();
  readonly #counters: MasterCounters = { badMessages: 0, ignoredMessages: 0 };
  #state: MasterState;
  #cursor: StreamId = '0-0';
  #commitNumber = 0;
  #inFlight: Promise<boolean> = Promise.resolve(true);
  #overflowing: readonly string[] = [];
  #timeOffsetMs = 0;
  #nowMs = 0;
  #leadingSinceMs = 0;
  #tickAtMs = 0;
  #livenessAtMs = 0;

  constructor(dependencies: MasterDependencies, lease: Lease) {
    this.#dependencies = dependencies;
    this.#lease = lease;
    this.#state = createMasterState(lease, dependencies.settings);
  }

  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  stop(): void {
    this.#stop.abort();
  }

  /** Follows the store's clock, as of the monotonic time `atMs`. */
  setTime(storeMs: number, atMs: number): void {
    this.#timeOffsetMs = storeMs - atMs;
  }

  async run(): Promise<void> {
    const { log, onLeading } = this.#dependencies;
    await this.#load();
    log.info('master.leading', {
      epoch: this.#lease.epoch,
      agents: this.#state.agents.size,
      frameworks: this.#state.frameworks.size,
      tasks: this.#state.tasks.size,
      commits: this.#commitNumber,
    });
    onLeading?.(true);
    while (!this.signal.aborted) await this.#batch();
    await this.#inFlight;
    log.info('master.stepped-down', { epoch: this.#lease.epoch, ...this.#counters });
  }

  async #load(): Promise<void> {
    const { store, clock, log } = this.#dependencies;
    const askedAtMs = clock.monotonicMs();
    this.setTime(await store.nowMs(), askedAtMs);
    const snapshot = await store.loadSnapshot();
    loadRecords(this.#state, decodeSnapshot(snapshot, log));
    this.#cursor = snapshot.cursor;
    this.#commitNumber = snapshot.commitNumber;
    this.#leadingSinceMs = this.#now();
  }

  async #batch(): Promise<void> {
    const { store } = this.#dependencies;
    const waitMs = this.#state.allocationDue ? 0 : Math.max(1, this.#tickAtMs - this.#now());
    const entries = await store.readInbox(this.#cursor, BATCH_ENTRIES, waitMs);
    if (this.signal.aborted) return;
    const nowMs = this.#now();
    const effects: MasterEffect[] = [];
    for (const entry of entries) this.#stepEntry(entry, nowMs, effects);
    await this.#stepTimers(nowMs, effects);
    effects.push(...offerResources(this.#state, nowMs));
    await this.#commit(effects, entries.length > 0);
  }

  #stepEntry(entry: InboxEntry, nowMs: number, effects: MasterEffect[]): void {
    this.#cursor = entry.id;
    for (const decoded of decodeEntry(entry.messages)) {
      if (!decoded.ok) {
        this.#counters.badMessages += 1;
        const { code, message: error } = decoded;
        const { badMessages: count } = this.#counters;
        this.#dependencies.log.warn('inbox.bad-message', {
          entry: entry.id,
          from: entry.from,
          code,
          error,
          count,
        });
        continue;
      }
      const { from, session } = entry;
      effects.push(
        ...step(this.#state, { type: 'message', from, session, message: decoded.value }, nowMs),
      );
    }
  }

  async #stepTimers(nowMs: number, effects: MasterEffect[]): Promise<void> {
    const events: MasterEvent[] = [];
    if (this.#overflowing.length > 0) {
      events.push({ type: 'clients.overflowing', clients: this.#overflowing });
      this.#overflowing = [];
    }
    if (nowMs >= this.#tickAtMs) {
      this.#tickAtMs = nowMs + TICK_MS;
      events.push({ type: 'tick' });
    }
    if (nowMs >= this.#livenessAtMs) {
      this.#livenessAtMs = nowMs + LIVENESS_MS;
      events.push({ type: 'clients.silent', clients: await this.#silentClients(nowMs) });
    }
    for (const event of events) effects.push(...step(this.#state, event, nowMs));
  }

  /** Nobody is called silent before this leader has listened for the whole timeout: Redis may just have been away. */
  async #silentClients(nowMs: number): Promise<string[]> {
    const { store, settings } = this.#dependencies;
    const silentFor = async (kind: string, timeoutMs: number): Promise<string[]> => {
      if (nowMs - this.#leadingSinceMs < timeoutMs) return [];
      const clients = await store.silentClients(nowMs - timeoutMs);
      return clients.filter((client) => client.startsWith(kind));
    };
    const [agents, frameworks] = await Promise.all([
      silentFor('agent:', settings.agentTimeoutMs),
      silentFor('framework:', settings.frameworkTimeoutMs),
    ]);
    return [...agents, ...frameworks];
  }

  async #commit(effects: readonly MasterEffect[], consumed: boolean): Promise<void> {
    const changes = takeChanges(this.#state);
    if (effects.length === 0 && changes.length === 0 && !consumed) return;
    // One commit on its way at a time: it is what the next one builds on.
    if (!(await this.#inFlight) || this.signal.aborted) return;
    this.#commitNumber += 1;
    const position = { lease: this.#lease, number: this.#commitNumber, cursor: this.#cursor };
    const commit = buildCommit(position, effects, changes);
    this.#inFlight = this.#dependencies.store.commit(commit).then(
      (result) => this.#committed(result, effects),
      (error: unknown) => {
        this.#dependencies.log.error('master.commit.failed', {
          number: commit.number,
          error: messageOf(error),
        });
        this.stop();
        return false;
      },
    );
  }

  #committed(result: CommitResult, effects: readonly MasterEffect[]): boolean {
    const { log } = this.#dependencies;
    if (result.ok) {
      if (result.overflowing.length > 0) this.#overflowing = result.overflowing;
      logEffects(log, this.#counters, effects);
      return true;
    }
    // Deposed: everything since the last good commit is dropped with this object's state.
    log.warn('master.commit.refused', {
      code: result.code,
      found: result.found,
      epoch: this.#lease.epoch,
    });
    this.stop();
    return false;
  }

  /** The store's time; it never goes back. */
  #now(): number {
    const nowMs = Math.round(this.#dependencies.clock.monotonicMs() + this.#timeOffsetMs);
    this.#nowMs = Math.max(this.#nowMs, nowMs);
    return this.#nowMs;
  }
}
