/**
 * Redis as Kaon uses it, in memory and synchronous: the same scripts, in TypeScript. Used by the fake store and by
 * the simulator, which needs to decide itself when a call arrives and whether its answer does. Like the real one it can
 * be restarted, emptied, and replaced by a replica that lacks the last writes.
 */
import type { FrameworkId, MasterId, SessionId } from '../../protocol/ids.ts';
import { numberedSession } from '../../protocol/ids.ts';
import type { ClientName } from '../../protocol/keys.ts';
import { frameworkName, REGISTRY_NAMES } from '../../protocol/keys.ts';
import { INBOX_MAX_ENTRIES } from '../../protocol/limits.ts';
import type {
  Append,
  AppendResult,
  Commit,
  CommitResult,
  FrameworkSendResult,
  HeartbeatResult,
  InboxEntry,
  Lease,
  OutputChunk,
  SealedPrincipals,
  SilentClient,
  Snapshot,
  StreamEntry,
  StreamId,
  TermBegin,
} from '../store.ts';
import { CLOCK_SKEW_MAX_MS, DIRECT_ENTRIES_MAX } from '../store.ts';
import { applyCommit } from './apply-commit.ts';
import type { Data, StoredSnapshot } from './data.ts';
import {
  addEntry,
  copyData,
  emptyData,
  entriesAfter,
  lastIdOf,
  livingStream,
  newStream,
  removeEntry,
  streamKey,
  trimBefore,
  writableStream,
} from './data.ts';

/** All that a Redis held at one moment, as a replica has it. */
export type RedisCopy = { readonly data: Data };

/** The data of one Redis and the calls that are made of it, each done at once. */
export class RedisModel {
  readonly #nowMs: () => number;
  #data: Data = emptyData();
  #servers = 1;
  #connections = 0;
  readonly #connected = new Set<number>();
  /** Called after each write, so that blocked readers look again. */
  onWrite: () => void = () => undefined;

  /** @param lastEpoch of a cluster that has had leaders; a new one begins at the time in seconds */
  constructor(nowMs: () => number, lastEpoch?: number) {
    this.#nowMs = nowMs;
    this.#data.epoch = lastEpoch;
  }

  nowMs(): number {
    return this.#nowMs();
  }

  /** `run_id` of the Redis process: another one after each restart and failover. */
  get serverId(): string {
    return `server${String(this.#servers)}`;
  }

  get events(): readonly string[] {
    return this.#data.events.entries.flatMap(({ value }) => value);
  }

  /** Of the newest entry of the events. */
  get lastEventId(): StreamId {
    return lastIdOf(this.#data.events);
  }

  get history(): readonly string[] {
    return this.#data.history;
  }

  get quarantine(): readonly string[] {
    return this.#data.quarantine;
  }

  get snapshots(): readonly StoredSnapshot[] {
    return this.#data.snapshots;
  }

  /** The process ends and another one starts, with its data or without. */
  restart(keepData: boolean): void {
    this.#become(keepData ? this.#data : emptyData());
  }

  /** `FLUSHALL`: the same process, without its data. */
  flushAll(): void {
    this.#data = emptyData();
    this.onWrite();
  }

  /** What a replica has that stops to hear of writes at this moment. */
  copy(): RedisCopy {
    return { data: copyData(this.#data) };
  }

  /** Fails over to a replica: another process, with what it had heard of. */
  promote(replica: RedisCopy): void {
    this.#become(copyData(replica.data));
  }

  #become(data: Data): void {
    this.#data = data;
    this.#servers += 1;
    this.#connected.clear();
    this.onWrite();
  }

  /** @returns the id of a new connection */
  connect(): number {
    this.#connections += 1;
    this.#connected.add(this.#connections);
    return this.#connections;
  }

  disconnect(connection: number): void {
    this.#connected.delete(connection);
  }

  isConnected(connection: number): boolean {
    return this.#connected.has(connection);
  }

  openSession(client: ClientName): SessionId {
    const { sessionFloor, sessionNumbers } = this.#data;
    const last = Math.max(sessionFloor, sessionNumbers.get(client) ?? 0);
    const number = Math.max(last + 1, this.#nowMs() * 1000);
    sessionNumbers.set(client, number);
    return numberedSession(number);
  }

  append(append: Append): AppendResult {
    const { inbox, sequences } = this.#data;
    const key = streamKey(append.client, append.session);
    const last = sequences.get(key) ?? 0;
    if (append.sequence <= last) return 'duplicate';
    if (append.sequence > last + 1) return 'gap';
    if (inbox.entries.length >= INBOX_MAX_ENTRIES) return 'full';
    const { client: from, ...rest } = append;
    addEntry(inbox, { from, ...rest });
    sequences.set(key, append.sequence);
    this.onWrite();
    return 'appended';
  }

  heartbeat(client: ClientName, session: SessionId, cursor: StreamId): HeartbeatResult {
    const { sessions, liveness, streams } = this.#data;
    const known = sessions.get(client);
    if (known === undefined) return 'unknown';
    if (known < session) return 'unknown';
    if (known !== session) return 'moved';
    liveness.set(client, this.#nowMs());
    if (cursor !== '0-0') trimBefore(streams.get(streamKey(client, session)), cursor);
    return 'ok';
  }

  readClient(client: ClientName, session: SessionId, cursor: StreamId): StreamEntry[] {
    const key = streamKey(client, session);
    const said = entriesAfter(this.#data.directs.get(key), '0-0');
    this.#data.directs.delete(key);
    const direct = said.map(({ id, value }) => ({ id, messages: value, isDirect: true }));
    return [...this.#readStream(key, cursor), ...direct];
  }

  /** @param connection by which the holder writes; undefined: not told, so nobody sees it go */
  acquireLease(
    masterId: MasterId,
    leaseMs: number,
    instead?: Lease,
    connection?: number,
  ): Lease | undefined {
    const held = this.leader();
    const isReplaced = instead !== undefined && this.#holds(instead);
    if (held && held.masterId !== masterId && !isReplaced) return undefined;
    const epoch = (this.#data.epoch ?? Math.floor(this.#nowMs() / 1000)) + 1;
    this.#data.epoch = epoch;
    const lease = { masterId, epoch };
    this.#hold(lease, leaseMs, connection);
    if (held) this.onWrite();
    return lease;
  }

  beginTerm(lease: Lease): TermBegin {
    if (!this.#holds(lease)) return { ok: false };
    const storeMs = this.#nowMs();
    if (this.#data.server === this.serverId && this.#data.isSettled) {
      return { ok: true, storeMs, lostBefore: undefined };
    }
    this.#data.sessions.clear();
    this.#data.server = this.serverId;
    this.#data.isSettled = false;
    const ahead = this.#data.sessionFloor + 1_000_000;
    const lostBefore = Math.max(ahead, (storeMs + CLOCK_SKEW_MAX_MS) * 1000);
    this.#data.sessionFloor = lostBefore;
    return { ok: true, storeMs, lostBefore };
  }

  renewLease(
    lease: Lease,
    leaseMs: number,
    connection?: number,
  ): number | 'server-changed' | undefined {
    if (!this.#holds(lease)) return undefined;
    if (this.#data.server !== this.serverId) return 'server-changed';
    this.#hold(lease, leaseMs, connection);
    return this.#nowMs();
  }

  raiseEpoch(lease: Lease, epoch: number): Lease | undefined {
    const raised = { masterId: lease.masterId, epoch };
    if (this.#holds(raised)) return raised;
    if (!this.#holds(lease) || !this.#data.leader) return undefined;
    this.#data.leader = { ...this.#data.leader, lease: raised };
    this.#data.epoch = Math.max(this.#data.epoch ?? 0, epoch);
    return raised;
  }

  releaseLease(lease: Lease): void {
    if (this.#holds(lease)) this.#release();
  }

  releaseLeaseOf(masterId: MasterId): boolean {
    if (this.leader()?.masterId !== masterId) return false;
    this.#release();
    return true;
  }

  leader(): (Lease & { readonly remainingMs: number }) | undefined {
    const { leader } = this.#data;
    if (!leader || leader.expiresAtMs <= this.#nowMs()) return undefined;
    return { ...leader.lease, remainingMs: leader.expiresAtMs - this.#nowMs() };
  }

  isLeaderGone(lease: Lease): boolean {
    const { leaderConnection } = this.#data;
    if (leaderConnection === undefined || !this.#holds(lease)) return false;
    return !this.#connected.has(leaderConnection);
  }

  #hold(lease: Lease, leaseMs: number, connection: number | undefined): void {
    this.#data.leader = { lease, expiresAtMs: this.#nowMs() + leaseMs };
    this.#data.leaderConnection = connection;
  }

  #release(): void {
    this.#data.leader = undefined;
    this.#data.leaderConnection = undefined;
    this.onWrite();
  }

  #holds(lease: Lease): boolean {
    const held = this.leader();
    return held?.epoch === lease.epoch && held.masterId === lease.masterId;
  }

  loadSnapshot(): Snapshot {
    const { commitNumber, cursor } = this.#data;
    const registry = Object.fromEntries(
      REGISTRY_NAMES.map((name) => [name, new Map(this.#data.registry[name])]),
    ) as unknown as Snapshot['registry'];
    return { commitNumber, cursor, registry, heard: new Map(this.#data.heard) };
  }

  readInbox(cursor: StreamId, count: number): InboxEntry[] {
    return entriesAfter(this.#data.inbox, cursor, count).map(({ id, value }) => ({ id, ...value }));
  }

  commit(commit: Commit): CommitResult {
    const { commitNumber, cursor, server } = this.#data;
    const held = this.leader();
    if (!held || !this.#holds(commit.lease)) {
      const found = held ? `${String(held.epoch)} ${held.masterId}` : 'nobody';
      return { ok: false, code: 'fenced', found };
    }
    if (server !== this.serverId)
      return { ok: false, code: 'server-changed', found: this.serverId };
    if (commitNumber === commit.number) return { ok: true, overflowing: [] };
    if (commitNumber !== commit.number - 1) {
      return { ok: false, code: 'out-of-order', found: `${String(commitNumber)} ${cursor}` };
    }
    const overflowing = applyCommit(this.#data, commit, this.#nowMs());
    this.onWrite();
    return { ok: true, overflowing };
  }

  readPrincipals(known?: string): SealedPrincipals | undefined {
    const { principals } = this.#data;
    return principals.version === known ? undefined : principals;
  }

  changePrincipal(name: string, before: string, sealed: string): boolean {
    const { principals } = this.#data;
    if ((principals.sealed.get(name) ?? '') !== before) return false;
    const version = String(Number(principals.version) + 1);
    this.#data.principals = { version, sealed: new Map(principals.sealed).set(name, sealed) };
    return true;
  }

  silentClients(beforeMs: number): SilentClient[] {
    const silent = [...this.#data.liveness].filter(([, seenMs]) => seenMs < beforeMs);
    return silent.map(([client, seenMs]) => ({ client, seenMs }));
  }

  sendToFramework(frameworkId: FrameworkId, messages: string): FrameworkSendResult {
    const client = frameworkName(frameworkId);
    const session = this.#data.sessions.get(client);
    if (session === undefined) return 'unknown';
    const { directs } = this.#data;
    const key = streamKey(client, session);
    const stream = directs.get(key) ?? newStream<string>();
    directs.set(key, stream);
    if (stream.entries.length >= DIRECT_ENTRIES_MAX) return 'full';
    addEntry(stream, messages);
    this.onWrite();
    return 'sent';
  }

  requestAgent(key: string, messages: string): void {
    addEntry(writableStream(this.#data, key, this.#nowMs()), { messages });
    this.onWrite();
  }

  readRequests(key: string, cursor: StreamId): StreamEntry[] {
    return this.#readStream(key, cursor);
  }

  removeRequest(key: string, id: StreamId): void {
    removeEntry(writableStream(this.#data, key, this.#nowMs()), id);
  }

  writeOutput(readId: SessionId, chunks: readonly OutputChunk[]): number {
    const { outputs } = this.#data;
    let stream = outputs.get(readId);
    if (!stream) outputs.set(readId, (stream = newStream<OutputChunk>()));
    for (const chunk of chunks) addEntry(stream, chunk);
    this.onWrite();
    return stream.entries.length;
  }

  readOutput(readId: SessionId, cursor: StreamId): { id: StreamId; chunk: OutputChunk }[] {
    const stream = this.#data.outputs.get(readId);
    const found = entriesAfter(stream, cursor);
    for (const { id } of found) if (stream) removeEntry(stream, id);
    return found.map(({ id, value }) => ({ id, chunk: value }));
  }

  endOutput(readId: SessionId): void {
    this.#data.outputs.delete(readId);
  }

  #readStream(key: string, cursor: StreamId): StreamEntry[] {
    const stream = livingStream(this.#data, key, this.#nowMs());
    return entriesAfter(stream, cursor).map(({ id, value }) => ({ id, ...value }));
  }
}
