/**
 * Redis as Kaon uses it, in memory and synchronous: the same scripts, in TypeScript. Used by the fake store and by
 * the simulator, which needs to decide itself when a call arrives and whether its answer does.
 */
import type { MasterId, SessionId } from '../../protocol/ids.ts';
import type { ClientName, RegistryName } from '../../protocol/keys.ts';
import { REGISTRY_NAMES } from '../../protocol/keys.ts';
import { CLIENT_STREAM_MAX_ENTRIES, INBOX_MAX_ENTRIES } from '../../protocol/limits.ts';
import type {
  Append,
  AppendResult,
  Commit,
  CommitResult,
  HeartbeatResult,
  InboxEntry,
  Lease,
  OutputChunk,
  Snapshot,
  StreamEntry,
  StreamId,
} from '../store.ts';

interface Stream<T> {
  /** Grows for ever; an id is `1-POSITION`, so that it sorts and reads like a real one. */
  last: number;
  entries: { readonly position: number; readonly value: T }[];
}

const newStream = <T>(): Stream<T> => ({ last: 0, entries: [] });

function add<T>(stream: Stream<T>, value: T): void {
  stream.last += 1;
  stream.entries.push({ position: stream.last, value });
}

const positionOf = (id: StreamId): number => Number(id.split('-')[1]);
const idOf = (position: number): StreamId => `1-${String(position)}`;

function after<T>(
  stream: Stream<T> | undefined,
  cursor: StreamId,
  count = Infinity,
): { id: StreamId; value: T }[] {
  const position = positionOf(cursor);
  const entries = (stream?.entries ?? []).filter((entry) => entry.position > position);
  return entries.slice(0, count).map((entry) => ({ id: idOf(entry.position), value: entry.value }));
}

function trim<T>(stream: Stream<T> | undefined, cursor: StreamId): void {
  const position = positionOf(cursor);
  if (stream) stream.entries = stream.entries.filter((entry) => entry.position >= position);
}

/** @param nowMs the store's own clock */
export class RedisModel {
  readonly #nowMs: () => number;
  #leader: { readonly lease: Lease; readonly expiresAtMs: number } | undefined;
  #epoch = 0;
  #commitNumber = 0;
  #cursor: StreamId = '0-0';
  readonly #inbox = newStream<Omit<InboxEntry, 'id'>>();
  readonly #streams = new Map<string, Stream<string>>();
  readonly #outputs = new Map<string, Stream<OutputChunk>>();
  readonly #sequences = new Map<SessionId, number>();
  readonly #liveness = new Map<ClientName, number>();
  readonly #sessions = new Map<ClientName, SessionId>();
  readonly #registry: Record<RegistryName, Map<string, string>> = {
    agents: new Map(),
    frameworks: new Map(),
    tasks: new Map(),
    offers: new Map(),
  };
  readonly events: string[] = [];
  readonly history: string[] = [];
  /** Called after each write, so that blocked readers look again. */
  onWrite: () => void = () => undefined;

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  nowMs(): number {
    return this.#nowMs();
  }

  append(append: Append): AppendResult {
    const last = this.#sequences.get(append.session) ?? 0;
    if (append.sequence <= last) return 'duplicate';
    if (append.sequence > last + 1) return 'gap';
    if (this.#inbox.entries.length >= INBOX_MAX_ENTRIES) return 'full';
    add(this.#inbox, { from: append.client, session: append.session, messages: append.messages });
    this.#sequences.set(append.session, append.sequence);
    this.onWrite();
    return 'appended';
  }

  heartbeat(client: ClientName, session: SessionId, cursor: StreamId): HeartbeatResult {
    const known = this.#sessions.get(client);
    if (known === undefined) return 'unknown';
    if (known !== session) return 'moved';
    this.#liveness.set(client, this.#nowMs());
    if (cursor !== '0-0') trim(this.#streams.get(streamKey(client, session)), cursor);
    return 'ok';
  }

  readClient(client: ClientName, session: SessionId, cursor: StreamId): StreamEntry[] {
    return this.#readStream(streamKey(client, session), cursor);
  }

  acquireLease(masterId: MasterId, leaseMs: number): Lease | undefined {
    const held = this.leader();
    if (held && held.masterId !== masterId) return undefined;
    if (!held) this.#epoch += 1;
    const lease = { masterId, epoch: this.#epoch };
    this.#leader = { lease, expiresAtMs: this.#nowMs() + leaseMs };
    return lease;
  }

  renewLease(lease: Lease, leaseMs: number): number | undefined {
    if (!this.#holds(lease)) return undefined;
    this.#leader = { lease, expiresAtMs: this.#nowMs() + leaseMs };
    return this.#nowMs();
  }

  releaseLease(lease: Lease): void {
    if (!this.#holds(lease)) return;
    this.#leader = undefined;
    this.onWrite();
  }

  leader(): (Lease & { readonly remainingMs: number }) | undefined {
    if (!this.#leader || this.#leader.expiresAtMs <= this.#nowMs()) return undefined;
    return { ...this.#leader.lease, remainingMs: this.#leader.expiresAtMs - this.#nowMs() };
  }

  loadSnapshot(): Snapshot {
    const registry = Object.fromEntries(
      REGISTRY_NAMES.map((name) => [name, new Map(this.#registry[name])]),
    ) as unknown as Snapshot['registry'];
    return { commitNumber: this.#commitNumber, cursor: this.#cursor, registry };
  }

  readInbox(cursor: StreamId, count: number): InboxEntry[] {
    return after(this.#inbox, cursor, count).map(({ id, value }) => ({ id, ...value }));
  }

  commit(commit: Commit): CommitResult {
    const held = this.leader();
    if (!held || !this.#holds(commit.lease)) {
      const found = held ? `${String(held.epoch)} ${held.masterId}` : 'nobody';
      return { ok: false, code: 'fenced', found };
    }
    if (this.#commitNumber === commit.number) return { ok: true, overflowing: [] };
    if (this.#commitNumber !== commit.number - 1) {
      return {
        ok: false,
        code: 'out-of-order',
        found: `${String(this.#commitNumber)} ${this.#cursor}`,
      };
    }
    const overflowing = this.#apply(commit);
    this.onWrite();
    return { ok: true, overflowing };
  }

  #apply(commit: Commit): ClientName[] {
    for (const { registry, key, value } of commit.changes) {
      if (value === undefined) this.#registry[registry].delete(key);
      else this.#registry[registry].set(key, value);
    }
    for (const { client, session } of commit.sessions) {
      if (session !== undefined) {
        this.#sessions.set(client, session);
        this.#liveness.set(client, this.#nowMs());
      } else {
        this.#sessions.delete(client);
        this.#liveness.delete(client);
      }
    }
    const overflowing = new Set<ClientName>();
    for (const { client, session, messages } of commit.sends) {
      const stream = this.#stream(streamKey(client, session));
      add(stream, messages);
      if (stream.entries.length > CLIENT_STREAM_MAX_ENTRIES) overflowing.add(client);
    }
    for (const { client, session } of commit.endedStreams) {
      this.#streams.delete(streamKey(client, session));
    }
    this.events.push(...commit.events);
    this.history.push(...commit.history);
    this.#commitNumber = commit.number;
    this.#cursor = commit.cursor;
    trim(this.#inbox, commit.cursor);
    return [...overflowing];
  }

  silentClients(beforeMs: number): ClientName[] {
    return [...this.#liveness].filter(([, seenMs]) => seenMs < beforeMs).map(([client]) => client);
  }

  requestAgent(key: string, messages: string): void {
    add(this.#stream(key), messages);
    this.onWrite();
  }

  readRequests(key: string, cursor: StreamId): StreamEntry[] {
    return this.#readStream(key, cursor);
  }

  removeRequest(key: string, id: StreamId): void {
    const stream = this.#stream(key);
    stream.entries = stream.entries.filter((entry) => entry.position !== positionOf(id));
  }

  writeOutput(readId: SessionId, chunks: readonly OutputChunk[]): number {
    let stream = this.#outputs.get(readId);
    if (!stream) this.#outputs.set(readId, (stream = newStream<OutputChunk>()));
    for (const chunk of chunks) add(stream, chunk);
    this.onWrite();
    return stream.entries.length;
  }

  readOutput(readId: SessionId, cursor: StreamId): { id: StreamId; chunk: OutputChunk }[] {
    const found = after(this.#outputs.get(readId), cursor).map(({ id, value }) => ({
      id,
      chunk: value,
    }));
    const last = found.at(-1);
    const stream = this.#outputs.get(readId);
    if (last && stream)
      stream.entries = stream.entries.filter((e) => e.position > positionOf(last.id));
    return found;
  }

  endOutput(readId: SessionId): void {
    this.#outputs.delete(readId);
  }

  #readStream(key: string, cursor: StreamId): StreamEntry[] {
    return after(this.#streams.get(key), cursor).map(({ id, value }) => ({ id, messages: value }));
  }

  #stream(key: string): Stream<string> {
    let stream = this.#streams.get(key);
    if (!stream) this.#streams.set(key, (stream = newStream<string>()));
    return stream;
  }

  #holds(lease: Lease): boolean {
    const held = this.leader();
    return held?.epoch === lease.epoch && held.masterId === lease.masterId;
  }
}

function streamKey(client: ClientName, session: SessionId): string {
  return `${client}:${session}`;
}
