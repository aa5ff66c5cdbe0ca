/**
 * The store on a real Redis: streams, hashes and the scripts of `scripts.ts`. One connection for commands, and one
 * for each kind of blocking read, because a blocked connection answers nothing else.
 */
import type { Redis } from 'ioredis';
import type { AgentId, FrameworkId, MasterId, SessionId } from '../protocol/ids.ts';
import { numberedSession } from '../protocol/ids.ts';
import type { ClientName, Keys } from '../protocol/keys.ts';
import { frameworkName, keysOf, REGISTRY_NAMES } from '../protocol/keys.ts';
import { CLIENT_STREAM_MAX_ENTRIES, INBOX_MAX_ENTRIES } from '../protocol/limits.ts';
import { encodeCommit } from './commit-encoding.ts';
import type { Script } from './define-script.ts';
import { defineScript } from './define-script.ts';
import { endConnection } from './end-connection.ts';
import { LeaderChanges } from './leader-changes.ts';
import { findSilent, noteHeard } from './liveness.ts';
import type { Log } from './log.ts';
import { replacePrincipal } from './principals.ts';
import { connectOrFail, connectRedis, hidePassword } from './redis-connection.ts';
import { RedisFaults } from './redis-faults.ts';
import { readHash } from './redis-hash.ts';
import { RedisLease, tokenOf } from './redis-lease.ts';
import type { StreamReply } from './redis-replies.ts';
import { readOutput, writeOutput } from './redis-output.ts';
import { entriesOf, fieldsOfSignature, inboxEntryOf, messagesIn } from './redis-replies.ts';
import { APPEND, COMMIT, HEARTBEAT, OPEN_SESSION, SEND_TO_FRAMEWORK } from './scripts.ts';
import { ClientSigner } from './signing.ts';
import type {
  Append,
  AppendResult,
  Commit,
  CommitRefusal,
  CommitResult,
  FrameworkSendResult,
  HeartbeatResult,
  InboxEntry,
  Lease,
  OutputChunk,
  SealedPrincipals,
  SilentClient,
  Snapshot,
  Store,
  StreamEntry,
  StreamId,
  TermBegin,
} from './store.ts';
import type { Token } from './tokens.ts';
import { DIRECT_ENTRIES_MAX, START } from './store.ts';

/** Entries that one read brings at most. */
const READ_COUNT = 1000;
/** What executors said to a framework that does not read it is dropped after this time, seconds. */
const DIRECT_EXPIRE_S = 3600;
const REQUESTS_MAX_ENTRIES = 1000;

/** Where the store is, which cluster of it, and who asks. */
export interface RedisStoreOptions {
  readonly url: string;
  readonly cluster: string;
  readonly log: Log;
  /** Shown in `CLIENT LIST`: `master`, `agent`, `cli`. */
  readonly name: string;
  /** By which what is written into the inbox is signed, and an agent knows its master; absent: an open cluster. */
  readonly token?: Token | undefined;
}

/**
 * Connects and checks that Redis answers.
 *
 * @throws KaonError `redis-unreachable`, `redis-url`
 */
export async function openRedisStore(options: RedisStoreOptions): Promise<RedisStore> {
  const store = new RedisStore(options);
  await store.connect();
  return store;
}

/** `Store` on a Redis server. Calls wait while the connection is down, and are sent again when it is back. */
export class RedisStore implements Store {
  readonly keys: Keys;
  /** The command connection, for read-only tools. */
  readonly redis: Redis;
  readonly #options: RedisStoreOptions & { readonly faults: RedisFaults };
  readonly #scripts: Readonly<
    Record<'openSession' | 'append' | 'heartbeat' | 'commit' | 'sendToFramework', Script>
  >;
  readonly #lease: RedisLease;
  readonly #readers = new Map<string, Redis>();
  readonly #leaderChanges: LeaderChanges;
  /** How far the stream of what executors say was read. */
  #direct: { readonly key: string; readonly cursor: StreamId } = { key: '', cursor: START };
  readonly isSecured: boolean;
  readonly #signer: ClientSigner | undefined;
  #closed = false;

  constructor(options: RedisStoreOptions) {
    // One record of faults for all connections: a Redis that is gone is one line of the log, not five.
    const faults = new RedisFaults({ log: options.log, url: hidePassword(options.url) });
    this.#options = { ...options, faults };
    this.keys = keysOf(options.cluster);
    const { token, log } = options;
    this.isSecured = token !== undefined;
    this.#signer = token && new ClientSigner(token, this.keys.prefix, log);
    this.redis = connectRedis(this.#options);
    const subscriber = { ...this.#options, name: `${options.name}-leader` };
    this.#leaderChanges = new LeaderChanges(subscriber, this.keys.leaderChannel);
    this.#lease = new RedisLease(this.redis, this.keys, () => {
      this.#leaderChanges.note();
    });
    this.#scripts = {
      openSession: defineScript(this.redis, OPEN_SESSION, 2),
      append: defineScript(this.redis, APPEND, 2),
      heartbeat: defineScript(this.redis, HEARTBEAT, 4),
      commit: defineScript(this.redis, COMMIT, undefined),
      sendToFramework: defineScript(this.redis, SEND_TO_FRAMEWORK, 1),
    };
  }

  async connect(): Promise<void> {
    await connectOrFail(this.redis, this.#options.url);
  }

  async nowMs(): Promise<number> {
    const [seconds, micros] = await this.redis.time();
    return Number(seconds) * 1000 + Math.floor(Number(micros) / 1000);
  }

  async openSession(client: ClientName): Promise<SessionId> {
    const keys = [this.keys.sessionFloor, this.keys.sessionNumber(client)];
    return numberedSession(Number(await this.#scripts.openSession(keys)));
  }

  async append(append: Append): Promise<AppendResult> {
    const { client, session, sequence, messages, signature } = append;
    const keys = [this.keys.sequence(client, session), this.keys.inbox];
    const args = [sequence, INBOX_MAX_ENTRIES, client, session, messages];
    const proof = fieldsOfSignature(signature ?? this.#signer?.sign(append));
    const reply = await this.#scripts.append([...keys, ...args, ...proof]);
    return reply as AppendResult;
  }

  async heartbeat(
    client: ClientName,
    session: SessionId,
    cursor: StreamId,
  ): Promise<HeartbeatResult> {
    const keys = [
      this.keys.sessions,
      this.keys.alive(client),
      this.keys.client(client, session),
      this.keys.sequence(client, session),
    ];
    return (await this.#scripts.heartbeat([...keys, client, session, cursor])) as HeartbeatResult;
  }

  async readClient(
    client: ClientName,
    session: SessionId,
    cursor: StreamId,
    blockMs: number,
  ): Promise<StreamEntry[]> {
    const key = this.keys.client(client, session);
    if (!client.startsWith('framework:')) {
      const entries = await this.#readMessages('client', key, cursor, blockMs);
      if (!this.#signer || !client.startsWith('agent:')) return entries;
      return [...this.#signer.check(client, session, entries)];
    }
    const direct = this.keys.direct(client, session);
    if (this.#direct.key !== direct) this.#direct = { key: direct, cursor: START };
    const ids = [cursor, this.#direct.cursor];
    const reply = await this.#read('client', [key, direct], ids, blockMs);
    const told = messagesIn(reply, key);
    const said = messagesIn(reply, direct);
    const last = said.at(-1);
    if (last) {
      this.#direct = { key: direct, cursor: last.id };
      // Best effort: what stays is read no more, and goes with its stream.
      this.redis.xdel(direct, ...said.map(({ id }) => id)).catch(() => undefined);
    }
    return [...told, ...said.map((entry) => ({ ...entry, isDirect: true }))];
  }

  acquireLease(masterId: MasterId, leaseMs: number, instead?: Lease): Promise<Lease | undefined> {
    return this.#lease.acquire(masterId, leaseMs, instead);
  }

  beginTerm(lease: Lease): Promise<TermBegin> {
    return this.#lease.begin(lease);
  }

  renewLease(lease: Lease, leaseMs: number): Promise<number | 'server-changed' | undefined> {
    return this.#lease.renew(lease, leaseMs);
  }

  raiseEpoch(lease: Lease, epoch: number): Promise<Lease | undefined> {
    return this.#lease.raise(lease, epoch);
  }

  releaseLease(lease: Lease): Promise<void> {
    return this.#lease.release(lease);
  }

  releaseLeaseOf(masterId: MasterId): Promise<boolean> {
    return this.#lease.releaseOf(masterId);
  }

  leader(): Promise<(Lease & { readonly remainingMs: number }) | undefined> {
    return this.#lease.holder();
  }

  isLeaderGone(lease: Lease): Promise<boolean> {
    return this.#lease.isHolderGone(lease);
  }

  waitForLeaderChange(timeoutMs: number, signal?: AbortSignal): Promise<boolean> {
    return this.#leaderChanges.wait(timeoutMs, signal);
  }

  async loadSnapshot(): Promise<Snapshot> {
    const at = (await this.redis.get(this.keys.cursor)) ?? '0 0-0';
    const [commits = '0', cursor = '0-0'] = at.split(' ');
    const entries = await Promise.all(
      REGISTRY_NAMES.map(
        async (name) => [name, await readHash(this.redis, this.keys.registry[name])] as const,
      ),
    );
    const registry = Object.fromEntries(entries) as unknown as Snapshot['registry'];
    const heard = await readHash(this.redis, this.keys.heard);
    return { commitNumber: Number(commits), cursor, registry, heard };
  }

  async readPrincipals(known?: string): Promise<SealedPrincipals | undefined> {
    const version = (await this.redis.get(this.keys.principalChanges)) ?? '0';
    if (version === known) return undefined;
    return { version, sealed: await readHash(this.redis, this.keys.principals) };
  }

  changePrincipal(name: string, before: string, sealed: string): Promise<boolean> {
    return replacePrincipal(this.redis, this.keys, { name, before, sealed });
  }

  async readInbox(
    cursor: StreamId,
    count: number,
    blockMs: number,
    signal?: AbortSignal,
  ): Promise<InboxEntry[]> {
    const stream = ['STREAMS', this.keys.inbox, cursor] as const;
    const reply = await this.#interruptible('inbox', signal, async (reader) =>
      blockMs > 0
        ? reader.xread('COUNT', count, 'BLOCK', blockMs, ...stream)
        : reader.xread('COUNT', count, ...stream),
    );
    return entriesOf(reply).map(([id, fields]) => inboxEntryOf(id, fields));
  }

  async commit(commit: Commit): Promise<CommitResult> {
    const { keys, args, sendTo } = encodeCommit(commit, this.keys);
    const fixed = [this.keys.leader, this.keys.cursor, this.keys.inbox, this.keys.server];
    const head = [tokenOf(commit.lease), commit.number, commit.cursor, CLIENT_STREAM_MAX_ENTRIES];
    const reply = (await this.#scripts.commit([
      fixed.length + keys.length,
      ...fixed,
      ...keys,
      ...head,
      ...args,
    ])) as [string, ...(string | number)[]];
    const [code, ...rest] = reply;
    if (code === 'ok') {
      const overflowing = rest.flatMap((position) => sendTo.get(Number(position)) ?? []);
      return { ok: true, overflowing: [...new Set(overflowing)] };
    }
    return { ok: false, code: code as CommitRefusal, found: String(rest[0]) };
  }

  async silentClients(beforeMs: number): Promise<SilentClient[]> {
    const { silent, heard } = await findSilent(this.redis, this.keys, beforeMs);
    await noteHeard(this.redis, this.keys, heard);
    return silent;
  }

  async requestAgent(agentId: AgentId, messages: string): Promise<void> {
    const key = this.keys.agentRequests(agentId);
    await this.redis.xadd(key, 'MAXLEN', '~', REQUESTS_MAX_ENTRIES, '*', 'messages', messages);
  }

  async sendToFramework(frameworkId: FrameworkId, messages: string): Promise<FrameworkSendResult> {
    const client = frameworkName(frameworkId);
    const streams = this.keys.direct(client, '' as SessionId);
    const args = [this.keys.sessions, client, streams, DIRECT_ENTRIES_MAX, messages];
    return (await this.#scripts.sendToFramework([...args, DIRECT_EXPIRE_S])) as FrameworkSendResult;
  }

  async readAgentRequests(
    agentId: AgentId,
    cursor: StreamId,
    blockMs: number,
  ): Promise<StreamEntry[]> {
    return this.#readMessages('requests', this.keys.agentRequests(agentId), cursor, blockMs);
  }

  async removeAgentRequest(agentId: AgentId, id: StreamId): Promise<void> {
    await this.redis.xdel(this.keys.agentRequests(agentId), id);
  }

  writeOutput(readId: SessionId, chunks: readonly OutputChunk[]): Promise<number> {
    return writeOutput(this.redis, this.keys.output(readId), chunks);
  }

  readOutput(
    readId: SessionId,
    cursor: StreamId,
    blockMs: number,
  ): Promise<{ id: StreamId; chunk: OutputChunk }[]> {
    const connections = { redis: this.redis, reader: this.#reader('output') };
    return readOutput(connections, this.keys.output(readId), cursor, blockMs);
  }

  async endOutput(readId: SessionId): Promise<void> {
    await this.redis.unlink(this.keys.output(readId));
  }

  close(): Promise<void> {
    // A second `disconnect` of ioredis would keep the process alive for two seconds.
    if (this.#closed) return Promise.resolve();
    this.#closed = true;
    for (const reader of this.#readers.values()) endConnection(reader);
    this.#readers.clear();
    this.#leaderChanges.close();
    endConnection(this.redis);
    return Promise.resolve();
  }

  /** @returns the connection for one kind of blocking read; a closed store's reads fail instead of hanging. */
  #reader(kind: string): Redis {
    let reader = this.#readers.get(kind);
    if (!reader) {
      reader = connectRedis({ ...this.#options, name: `${this.#options.name}-${kind}` });
      if (this.#closed) endConnection(reader);
      this.#readers.set(kind, reader);
    }
    return reader;
  }

  /** A read that ends when `signal` does: with the connection that it blocks. @returns null if it has */
  async #interruptible<T>(
    kind: string,
    signal: AbortSignal | undefined,
    read: (reader: Redis) => Promise<T>,
  ): Promise<T | null> {
    const isOver = (): boolean => signal?.aborted === true;
    if (isOver()) return null;
    const reader = this.#reader(kind);
    const drop = (): void => {
      if (this.#readers.get(kind) !== reader) return;
      this.#readers.delete(kind);
      endConnection(reader);
    };
    signal?.addEventListener('abort', drop);
    try {
      return await read(reader);
    } catch (error) {
      if (isOver()) return null;
      throw error;
    } finally {
      signal?.removeEventListener('abort', drop);
    }
  }

  async #readMessages(
    kind: string,
    key: string,
    cursor: StreamId,
    blockMs: number,
  ): Promise<StreamEntry[]> {
    return messagesIn(await this.#read(kind, [key], [cursor], blockMs), key);
  }

  /** Without a wait if `blockMs` is 0, which Redis would take for an endless one. */
  async #read(
    kind: string,
    keys: readonly string[],
    ids: readonly StreamId[],
    blockMs: number,
  ): Promise<StreamReply> {
    const block = blockMs > 0 ? ['BLOCK', blockMs] : [];
    const args = ['COUNT', READ_COUNT, ...block, 'STREAMS', ...keys, ...ids];
    return (await this.#reader(kind).call('XREAD', ...args)) as StreamReply;
  }
}
