/**
 * The guard of a secured cluster, in the master's shell: who has written an entry of the inbox, and whether it is new; the
 * seals of what agents are sent and of what the registry holds; the principals, which it reads again when they change. It
 * decides nothing about what anybody may do; the core does.
 *
 * It lives as long as the process, not one term: what it has seen of principals it remembers, so that a Redis that has
 * lost them, or has been given older ones, gets them back.
 */
import type { Log } from '../io/log.ts';
import { openPrincipals } from '../io/principals.ts';
import { isSigned, positionOf, sealEntry, sealRecord, unsealRecord } from '../io/signing.ts';
import type { Commit, InboxEntry, Signature, Snapshot, Store } from '../io/store.ts';
import { keyOf } from '../io/tokens.ts';
import { sessionNumber } from '../protocol/ids.ts';
import type { Keys, RegistryName } from '../protocol/keys.ts';
import type { Principal, PrincipalRecord } from '../protocol/principals.ts';
import { problemOfPrincipal } from '../protocol/principals.ts';
import type { MasterEffect } from './core/effects.ts';
import type { PrincipalsChangedEvent } from './core/principals.ts';
import type { EntryProblem } from './core/refusals.ts';
import type { MasterState } from './core/state.ts';
import { agentOf, frameworkOf } from './core/state.ts';

/** The first entry of a session comes so soon after the session was opened, milliseconds, or not at all. */
const BEGIN_MAX_MS = 60_000;
/** As long as the store remembers the numbers of a silent session; see the script `APPEND`. */
const SILENCE_MAX_MS = 86_400_000;
/** Longest name of a client that is remembered. */
const CLIENT_MAX_CHARS = 200;
/** How often sessions that have ended are looked for, milliseconds. */
const FORGET_EVERY_MS = 60_000;

/** Who has written an entry; or why it is not taken, and as whom it was written if that much is certain. */
export type Verified =
  | { readonly ok: true; readonly principal: Principal }
  | { readonly ok: false; readonly code: EntryProblem; readonly principal?: string };

/** How far a session was heard, and when. */
interface Heard {
  readonly sequence: number;
  readonly atMs: number;
}

/** What the guard of a process works with. */
export interface GuardOptions {
  readonly clusterKey: Buffer;
  readonly store: Store;
  readonly keys: Keys;
  readonly log: Log;
}

/** One guard, for all terms of one master process. */
export class Guard {
  readonly #options: GuardOptions;
  /** As Redis has them, or had them. */
  readonly #sealed = new Map<string, string>();
  #records: ReadonlyMap<string, PrincipalRecord> = new Map();
  #forged: readonly string[] = [];
  #version: string | undefined;
  #isNews = false;
  #refreshing: Promise<void> | undefined;
  /** Keys of principals, by name and generation. */
  readonly #keys = new Map<string, Buffer>();
  /** By the client and its session. */
  #heard = new Map<string, Heard>();
  /** Of `#heard`, what the next commit is to write. */
  readonly #changed = new Set<string>();
  #forgetAtMs = 0;

  constructor(options: GuardOptions) {
    this.#options = options;
  }

  /** Begins a term: with what was heard before, by whichever leader, and the principals as they are now. */
  async begin({ heard }: Snapshot): Promise<void> {
    this.#heard = new Map();
    this.#changed.clear();
    this.#isNews = true;
    for (const [key, text] of heard) {
      const [sequence, atMs] = text.split(' ').map(Number);
      this.#heard.set(key, { sequence: sequence ?? 0, atMs: atMs ?? 0 });
    }
    await this.refresh();
  }

  /** Reads the principals, if they have changed since the last time; cost when they have not: one round trip. */
  refresh(): Promise<void> {
    this.#refreshing ??= this.#read().finally(() => {
      this.#refreshing = undefined;
    });
    return this.#refreshing;
  }

  async #read(): Promise<void> {
    const { store, clusterKey, keys, log } = this.#options;
    const found = await store.readPrincipals(this.#version);
    if (!found) return;
    const { records, forged } = openPrincipals(clusterKey, keys.principals, found.sealed);
    const merged = new Map(records);
    this.#version = found.version;
    for (const [name, text] of this.#sealed) {
      const [known, now] = [this.#records.get(name), records.get(name)];
      if (!known || (now && actsOf(now) >= actsOf(known))) continue;
      merged.set(name, known);
      const isBack = await store.changePrincipal(name, found.sealed.get(name) ?? '', text);
      log.warn('principal.restored', { name, found: now ? 'an older record' : 'none', isBack });
      this.#version = undefined;
    }
    for (const name of records.keys()) {
      const text = found.sealed.get(name);
      if (merged.get(name) === records.get(name) && text !== undefined)
        this.#sealed.set(name, text);
    }
    this.#records = merged;
    this.#forged = forged;
    this.#isNews = true;
    log.info('principals.read', { count: merged.size, forged: forged.length });
  }

  /** @returns the principals for the core, once after each change */
  news(): PrincipalsChangedEvent | undefined {
    if (!this.#isNews) return undefined;
    this.#isNews = false;
    return { type: 'principals.changed', records: this.#records, forged: this.#forged };
  }

  /** To be called before the entries are verified: a token that was made a moment ago is good at once. */
  async prepare(entries: readonly InboxEntry[]): Promise<void> {
    const isNew = entries.some((entry) => {
      const { principal = '', generation = 0 } = entry.signature ?? {};
      const known = this.#records.get(principal)?.generation ?? 0;
      return generation > known && entry.signature && this.#isSigned(entry, entry.signature);
    });
    if (isNew) await this.refresh();
  }

  /**
   * Whether an entry is to be taken; one that is counts as heard from then on.
   *
   * @param nowMs by the clock of Redis
   */
  verify(entry: InboxEntry, nowMs: number): Verified {
    const { signature, from, session, sequence } = entry;
    if (!signature) return { ok: false, code: 'unauthenticated' };
    if (!this.#isSigned(entry, signature)) return { ok: false, code: 'forged' };
    const { principal: name, generation } = signature;
    const record = this.#records.get(name);
    const problem = problemOfPrincipal(record, generation, nowMs) ?? this.#problemOfTime(entry);
    if (problem !== undefined || !record) {
      return { ok: false, code: problem ?? 'unknown', principal: name };
    }
    const key = heardKey(from, session);
    this.#heard.set(key, { sequence, atMs: nowMs });
    this.#changed.add(key);
    return { ok: true, principal: record };
  }

  #problemOfTime(entry: InboxEntry): 'replayed' | 'stale' | undefined {
    const heard = this.#heard.get(heardKey(entry.from, entry.session));
    if (heard) return entry.sequence <= heard.sequence ? 'replayed' : undefined;
    return isStale(entry) ? 'stale' : undefined;
  }

  #isSigned(entry: InboxEntry, { principal, generation }: Signature): boolean {
    if (!Number.isSafeInteger(generation) || !Number.isSafeInteger(entry.sequence)) return false;
    if (entry.from.length > CLIENT_MAX_CHARS) return false;
    return isSigned(this.#keyOf(principal, generation), this.#options.keys.prefix, entry);
  }

  /** The same commit with seals, and with what was heard since the last one. */
  seal(commit: Commit, state: MasterState, effects: readonly MasterEffect[]): Commit {
    const { number } = commit;
    const refused = refusedIn(effects);
    let index = 0;
    const sealed = <T extends { readonly client: string; readonly session: string }>(
      to: T,
      messages: string | undefined,
    ): T => {
      const key = messages === undefined ? undefined : this.#keyOfAgent(state, to.client);
      if (!key || messages === undefined || refused.has(`${to.client}:${to.session}`)) return to;
      const place = this.#options.keys.prefix;
      index += 1;
      return { ...to, seal: sealEntry(key, { place, ...to }, positionOf(number, index), messages) };
    };
    return {
      ...commit,
      changes: commit.changes.map((change) => ({
        ...change,
        value: change.value === undefined ? undefined : this.#sealRecord(change, change.value),
      })),
      sends: commit.sends.map((send) => sealed(send, send.messages)),
      endedStreams: commit.endedStreams.map((end) => sealed(end, end.farewell)),
      heard: this.#takeHeard(),
    };
  }

  /** @returns a record of the registry without its seal; undefined if no master of this cluster has written it */
  unseal(registry: RegistryName, key: string, value: string): string | undefined {
    const { clusterKey, keys } = this.#options;
    return unsealRecord(clusterKey, { place: keys.prefix, registry, key }, value);
  }

  /** To be called every second: reads principals that have changed, and forgets sessions that have ended. */
  async look(state: MasterState, nowMs: number): Promise<void> {
    await this.refresh();
    if (nowMs < this.#forgetAtMs) return;
    this.#forgetAtMs = nowMs + FORGET_EVERY_MS;
    for (const [key, { atMs }] of this.#heard) {
      const at = key.indexOf(' ');
      const [session, client] = [key.slice(0, at), key.slice(at + 1)];
      const isOld = nowMs - sessionNumber(session) / 1000 > BEGIN_MAX_MS;
      const isSilent = nowMs - atMs > SILENCE_MAX_MS;
      if (!isOld || (!isSilent && !hasEnded(state, client, session))) continue;
      this.#heard.delete(key);
      this.#changed.add(key);
    }
  }

  #sealRecord(change: Commit['changes'][number], value: string): string {
    const { clusterKey, keys } = this.#options;
    return sealRecord(clusterKey, { place: keys.prefix, ...change }, value);
  }

  #takeHeard(): NonNullable<Commit['heard']> {
    const changes = [...this.#changed].map((session) => {
      const heard = this.#heard.get(session);
      return { session, value: heard && `${String(heard.sequence)} ${String(heard.atMs)}` };
    });
    this.#changed.clear();
    return changes;
  }

  #keyOfAgent(state: MasterState, client: string): Buffer | undefined {
    const { principal, generation } = agentOf(state, client)?.record ?? {};
    if (principal === undefined || generation === undefined) return undefined;
    return this.#keyOf(principal, generation);
  }

  /** Of a principal that is known it is kept; whatever else is named is derived each time. */
  #keyOf(name: string, generation: number): Buffer {
    const id = `${name} ${String(generation)}`;
    const known = this.#keys.get(id);
    if (known) return known;
    const key = keyOf(this.#options.clusterKey, name, generation);
    if (this.#records.get(name)?.generation === generation) this.#keys.set(id, key);
    return key;
  }
}

/** Sessions that were never registered: their clients may have no key that this master knows. */
function refusedIn(effects: readonly MasterEffect[]): ReadonlySet<string> {
  const refused = effects.flatMap((effect) =>
    effect.type === 'stream.end' && effect.isRefusal === true
      ? [`${effect.client}:${effect.session}`]
      : [],
  );
  return new Set(refused);
}

/** A session's number has no space in it. */
function heardKey(client: string, session: string): string {
  return `${session} ${client}`;
}

/** The number of the last act: it grows with each change of a record. */
function actsOf({ acts }: PrincipalRecord): number {
  return acts.at(-1)?.number ?? 0;
}

/** An entry has the time of Redis in its id, and its session in its number; both are out of reach of who replays it. */
function isStale({ id, session }: InboxEntry): boolean {
  const opened = sessionNumber(session);
  return opened === 0 || Number(id.split('-', 1)[0]) - opened / 1000 > BEGIN_MAX_MS;
}

/** The session of an agent or a framework that has another one now, or none. Of an operator nobody keeps account. */
function hasEnded(state: MasterState, client: string, session: string): boolean {
  if (client.startsWith('operator:')) return false;
  const holder = agentOf(state, client) ?? frameworkOf(state, client);
  return holder?.record.session !== session;
}
