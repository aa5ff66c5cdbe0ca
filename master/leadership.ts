/**
 * One term as the leader: reads the inbox in batches, steps the core, and commits each batch whole; the next batch is
 * read while the commit is on its way. Whatever was not committed when the term ends goes with this object.
 */
import { randomName } from '../io/clock.ts';
import type {
  Commit,
  CommitResult,
  InboxEntry,
  Lease,
  SilentClient,
  Snapshot,
  StreamId,
} from '../io/store.ts';
import { decodeEntry } from '../protocol/codec.ts';
import { messageOf } from '../protocol/errors.ts';
import type { MasterEffect } from './core/effects.ts';
import type { MasterState } from './core/state.ts';
import { loadRecords } from './core/books.ts';
import { createMasterState, isAllocationDue, takeChanges } from './core/state.ts';
import type { MasterEvent } from './core/step.ts';
import { offerResources, step } from './core/step.ts';
import type { MasterCounters } from './effects.ts';
import { buildCommit, logEffects } from './effects.ts';
import type { LeaseEnd } from './lease.ts';
import type { BadRecord, LoadedRecords } from './load.ts';
import { decodeInParts, unreadableClients } from './load.ts';
import { SNAPSHOT_COMMITS, snapshotOf } from './snapshot.ts';
import type { MasterDependencies } from './master.ts';

/** Entries of the inbox that one read takes at most. */
const READ_ENTRIES = 1000;
/**
 * A batch takes no more entries once it has so much of them, characters: some thousand messages. Its commit keeps Redis,
 * and its decisions keep this process, from renewing the lease; and nobody is served faster by a larger one.
 */
const BATCH_CHARS = 1_000_000;
/** How often offers and timeouts are looked at, milliseconds. */
const TICK_MS = 250;
/** How often the liveness of clients is looked at, milliseconds. */
const LIVENESS_MS = 1000;
/** So much of an entry that cannot be read is kept for people, characters. */
const QUARANTINE_MAX_CHARS = 65_536;
/** Drawn for each term, characters; ids that are made of it must not repeat even if Redis has lost all epochs. */
const TERM_CHARS = 6;

/** What a term runs on, and the lease that it was begun with. */
export interface LeadershipOptions extends Omit<MasterDependencies, 'onLeading'> {
  readonly lease: Lease;
  /** Inbox entries on which earlier terms of this process have failed: they go into quarantine. */
  readonly poisoned: Set<StreamId>;
  readonly onLeading?: ((leading: boolean) => void) | undefined;
}

/** Its state, its clock, and its place in the inbox. */
export class Leadership {
  readonly #options: LeadershipOptions;
  readonly #stop = new AbortController();
  readonly #counters: MasterCounters = { badMessages: 0, ignoredMessages: 0 };
  readonly #state: MasterState;
  #lease: Lease;
  #end: LeaseEnd | undefined;
  #cursor: StreamId = '0-0';
  #commitNumber = 0;
  #hasCommitted = false;
  /** The last one with a snapshot in this term. */
  #snapshotCommit = -Infinity;
  #inFlight: Promise<boolean> = Promise.resolve(true);
  /** Read, and too much for the last batch. */
  #waiting: InboxEntry[] = [];
  /** What happened outside of the inbox, for the next batch. */
  #events: MasterEvent[] = [];
  /** What could not be read, for the next commit: kept for whoever looks into it. */
  #quarantine: string[] = [];
  #timeOffsetMs = 0;
  #nowMs = 0;
  #leadingSinceMs = 0;
  #tickAtMs = 0;
  #livenessAtMs = 0;

  constructor(options: LeadershipOptions) {
    this.#options = options;
    this.#lease = options.lease;
    const identity = { ...options.lease, term: randomName(TERM_CHARS) };
    this.#state = createMasterState(identity, options.settings);
  }

  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  /** The lease as it is now: its epoch may have been raised. */
  get lease(): Lease {
    return this.#lease;
  }

  /** Why the term has ended; undefined if it has not. */
  get end(): LeaseEnd | undefined {
    return this.#end;
  }

  /** Ends the term: what is in flight is waited for, and nothing new is begun. The first reason counts. */
  stop(end: LeaseEnd): void {
    this.#end ??= end;
    this.#stop.abort();
  }

  /** Follows the store's clock, as of the monotonic time `atMs`. */
  setTime(storeMs: number, atMs: number): void {
    this.#timeOffsetMs = storeMs - atMs;
  }

  /** Resolves when the term has ended. */
  async run(): Promise<void> {
    const { log, onLeading } = this.#options;
    if (!(await this.#load())) return;
    log.info('master.leading', {
      epoch: this.#lease.epoch,
      agents: this.#state.agents.size,
      frameworks: this.#state.frameworks.size,
      tasks: this.#state.tasks.size,
      commits: this.#commitNumber,
    });
    onLeading?.(true);
    while (!this.signal.aborted) {
      await this.#batch();
      this.#tellRound();
    }
    await this.#inFlight;
    const { epoch } = this.#lease;
    log.info('master.stepped-down', { epoch, reason: this.#end, ...this.#counters });
  }

  #tellRound(): void {
    const { agents, frameworks, tasks } = this.#state;
    this.#options.onRound?.({
      ...{ state: 'leading', epoch: this.#lease.epoch },
      ...{ agents: agents.size, frameworks: frameworks.size, tasks: tasks.size },
    });
  }

  /** @returns false if the term has ended before everything was loaded */
  async #load(): Promise<boolean> {
    const { store, clock, log } = this.#options;
    const askedAtMs = clock.monotonicMs();
    const term = await store.beginTerm(this.#lease);
    if (!term.ok) {
      this.stop('lost');
      return false;
    }
    this.setTime(term.storeMs, askedAtMs);
    const snapshot = await store.loadSnapshot();
    await this.#options.guard?.begin(snapshot);
    const records = await this.#decode(snapshot);
    if (!records) return false;
    loadRecords(this.#state, records);
    this.#cursor = snapshot.cursor;
    this.#commitNumber = snapshot.commitNumber;
    this.#leadingSinceMs = this.#now();
    const isLost = term.lostBefore !== undefined;
    if (isLost) {
      const { epoch } = this.#lease;
      const commits = this.#commitNumber;
      if (commits > 0) log.warn('redis.data-lost', { epoch, commits });
      else log.info('cluster.empty', { epoch, meaning: 'new, or Redis has lost everything' });
    }
    this.#setAside(records.bad);
    if (isLost || records.bad.length > 0) {
      const unreadable = unreadableClients(records.bad);
      // Who finds out while this master still loads opens a new session then, and must be heard.
      const from = isLost ? { lostBefore: term.lostBefore } : {};
      this.#events.push({ type: 'data.lost', unreadable, ...from });
    }
    return true;
  }

  /** Gives way now and then, so that the lease is renewed meanwhile. @returns undefined if the term ended before it was done */
  async #decode(snapshot: Snapshot): Promise<LoadedRecords | undefined> {
    const { log, clock } = this.#options;
    const { guard } = this.#options;
    const parts = decodeInParts(snapshot, log, guard && guard.unseal.bind(guard));
    while (!this.signal.aborted) {
      const part = parts.next();
      if (part.done === true) return part.value;
      await clock.sleep(0, this.signal);
    }
    return undefined;
  }

  /** Records that cannot be read leave the registry with the next commit, which keeps them in the quarantine. */
  #setAside(bad: readonly BadRecord[]): void {
    const atMs = this.#now();
    for (const { registry, key, value, error } of bad) {
      this.#state.dirty[registry].add(key);
      this.#quarantine.push(JSON.stringify({ atMs, registry, key, value, error }));
    }
  }

  async #batch(): Promise<void> {
    const entries = await this.#nextEntries();
    await this.#options.guard?.prepare(entries);
    if (this.signal.aborted) return;
    const nowMs = this.#now();
    const effects: MasterEffect[] = [];
    const principals = this.#options.guard?.news();
    if (principals) effects.push(...step(this.#state, principals, nowMs));
    for (const event of this.#events.splice(0)) effects.push(...step(this.#state, event, nowMs));
    for (const entry of entries) this.#stepEntry(entry, nowMs, effects);
    await this.#stepTimers(nowMs, effects);
    effects.push(...offerResources(this.#state, nowMs));
    await this.#commit(effects, entries.length > 0);
  }

  /** @returns what the next batch consumes, in order; empty if nothing came before there is something else to do */
  async #nextEntries(): Promise<InboxEntry[]> {
    if (this.#waiting.length === 0) {
      const waitMs = isAllocationDue(this.#state) ? 0 : Math.max(1, this.#tickAtMs - this.#now());
      const { store } = this.#options;
      this.#waiting = await store.readInbox(this.#cursor, READ_ENTRIES, waitMs, this.signal);
    }
    let chars = 0;
    const count = this.#waiting.findIndex(
      ({ messages }) => (chars += messages.length) > BATCH_CHARS,
    );
    return this.#waiting.splice(0, count === -1 ? this.#waiting.length : count + 1);
  }

  #stepEntry(entry: InboxEntry, nowMs: number, effects: MasterEffect[]): void {
    this.#cursor = entry.id;
    if (this.#options.poisoned.has(entry.id)) {
      const message = 'a master has failed on it';
      this.#refuse(entry, { code: 'poisoned', message });
      this.#keep(entry, message);
      return;
    }
    const verified = this.#options.guard?.verify(entry, nowMs);
    const { from, session } = entry;
    if (verified?.ok === false) {
      const { ok: _ok, ...why } = verified;
      const refused = { type: 'entry.refused', from, session, ...why } as const;
      effects.push(...step(this.#state, refused, nowMs));
      return;
    }
    const by = verified && { principal: verified.principal };
    // Taken back below: if the core throws, its state is lost with this term, and the next one leaves the entry out.
    this.#options.poisoned.add(entry.id);
    let isSound = true;
    for (const decoded of decodeEntry(entry.messages)) {
      if (!decoded.ok) {
        this.#refuse(entry, decoded);
        if (isSound) this.#keep(entry, decoded.message);
        isSound = false;
        continue;
      }
      const message = { type: 'message', from, session, message: decoded.value, ...by } as const;
      effects.push(...step(this.#state, message, nowMs));
    }
    this.#options.poisoned.delete(entry.id);
  }

  /** Named and counted; what is sound of the entry is acted on. */
  #refuse(entry: InboxEntry, why: { readonly code: string; readonly message: string }): void {
    this.#counters.badMessages += 1;
    const { id, from } = entry;
    const { code, message: error } = why;
    const { badMessages: count } = this.#counters;
    this.#options.log.warn('inbox.bad-message', { entry: id, from, code, error, count });
  }

  /** The next commit puts the entry into the quarantine, as far as it is not absurdly long. */
  #keep({ id, from, session, messages }: InboxEntry, error: string): void {
    const atMs = this.#now();
    const start = messages.slice(0, QUARANTINE_MAX_CHARS);
    const kept = { atMs, entry: id, from, session, error, messages: start };
    this.#quarantine.push(JSON.stringify(kept));
  }

  async #stepTimers(nowMs: number, effects: MasterEffect[]): Promise<void> {
    const events: MasterEvent[] = [];
    if (nowMs >= this.#tickAtMs) {
      this.#tickAtMs = nowMs + TICK_MS;
      events.push({ type: 'tick' });
    }
    if (nowMs >= this.#livenessAtMs) {
      this.#livenessAtMs = nowMs + LIVENESS_MS;
      events.push({ type: 'clients.silent', clients: await this.#silentClients(nowMs) });
      await this.#options.guard?.look(this.#state, nowMs);
    }
    for (const event of events) effects.push(...step(this.#state, event, nowMs));
  }

  /** Nobody is called silent before this leader has listened for the whole timeout: Redis may just have been away. */
  async #silentClients(nowMs: number): Promise<SilentClient[]> {
    const { store, settings } = this.#options;
    const silentFor = async (kind: string, timeoutMs: number): Promise<SilentClient[]> => {
      if (nowMs - this.#leadingSinceMs < timeoutMs) return [];
      const clients = await store.silentClients(nowMs - timeoutMs);
      return clients.filter(({ client }) => client.startsWith(kind));
    };
    const [agents, frameworks] = await Promise.all([
      silentFor('agent:', settings.agentTimeoutMs),
      silentFor('framework:', settings.frameworkTimeoutMs),
    ]);
    return [...agents, ...frameworks];
  }

  async #commit(effects: readonly MasterEffect[], consumed: boolean): Promise<void> {
    const changes = takeChanges(this.#state);
    const isIdle = effects.length === 0 && changes.length === 0 && !consumed;
    // The first one in any case: it shows that this leader can write, and settles what Redis process it is.
    if (isIdle && this.#hasCommitted && !this.#isSnapshotDue()) return;
    // One commit on its way at a time: it is what the next one builds on.
    if (!(await this.#inFlight) || this.signal.aborted) return;
    if (this.#state.epoch > this.#lease.epoch && !(await this.#raiseEpoch())) return;
    this.#commitNumber += 1;
    const position = { lease: this.#lease, number: this.#commitNumber, cursor: this.#cursor };
    const commit = {
      ...buildCommit(position, effects, changes),
      quarantine: this.#quarantine,
      // Not with the first one, on which all wait: of a large cluster it is megabytes.
      snapshot: this.#hasCommitted ? this.#takeSnapshot() : undefined,
    };
    this.#quarantine = [];
    this.#hasCommitted = true;
    this.#inFlight = this.#options.store.commit(this.#seal(commit, effects)).then(
      (result) => this.#committed(result, effects),
      (error: unknown) => {
        this.#options.log.error('master.commit.failed', {
          number: commit.number,
          error: messageOf(error),
        });
        this.stop('lost');
        return false;
      },
    );
  }

  #seal(commit: Commit, effects: readonly MasterEffect[]): Commit {
    return this.#options.guard?.seal(commit, this.#state, effects) ?? commit;
  }

  #isSnapshotDue(): boolean {
    return this.#commitNumber - this.#snapshotCommit >= SNAPSHOT_COMMITS;
  }

  /** @returns the state for the commit that is being made, if it is time for one */
  #takeSnapshot(): string | undefined {
    if (!this.#isSnapshotDue()) return undefined;
    this.#snapshotCommit = this.#commitNumber;
    return snapshotOf(this.#state);
  }

  /** The core has learnt of a higher epoch, of a leader that Redis has forgotten. @returns false if the term is over */
  async #raiseEpoch(): Promise<boolean> {
    const { store, log } = this.#options;
    const before = this.#lease;
    // At once and not with the answer: a renewal that is sent meanwhile arrives after this, and must name the new epoch.
    this.#lease = { masterId: before.masterId, epoch: this.#state.epoch };
    if (await store.raiseEpoch(before, this.#state.epoch)) {
      log.warn('master.epoch-raised', { from: before.epoch, to: this.#lease.epoch });
      return !this.signal.aborted;
    }
    this.stop('lost');
    return false;
  }

  #committed(result: CommitResult, effects: readonly MasterEffect[]): boolean {
    const { log } = this.#options;
    if (result.ok) {
      if (result.overflowing.length > 0) {
        this.#events.push({ type: 'clients.overflowing', clients: result.overflowing });
      }
      logEffects(log, this.#counters, effects);
      return true;
    }
    // Deposed: everything since the last good commit is dropped with this object's state.
    log.warn('master.commit.refused', {
      code: result.code,
      found: result.found,
      epoch: this.#lease.epoch,
    });
    this.stop(result.code === 'server-changed' ? result.code : 'lost');
    return false;
  }

  /** The store's time; it never goes back. */
  #now(): number {
    const nowMs = Math.round(this.#options.clock.monotonicMs() + this.#timeOffsetMs);
    this.#nowMs = Math.max(this.#nowMs, nowMs);
    return this.#nowMs;
  }
}
