/**
 * The store on a real Redis: streams, hashes and the scripts of `scripts.ts`. One connection for commands, and one
 * for each kind of blocking read, because a blocked connection answers nothing else.
 */
import type { Redis } from 'ioredis';
import type { AgentId, MasterId, SessionId } from '../protocol/ids.ts';
import type { ClientName, Keys } from '../protocol/keys.ts';
import { keysOf, REGISTRY_NAMES } from '../protocol/keys.ts';
import { CLIENT_STREAM_MAX_ENTRIES, INBOX_MAX_ENTRIES } from '../protocol/limits.ts';
import { encodeCommit } from './commit-encoding.ts';
import { LeaderChanges } from './leader-changes.ts';
import type { Log } from './log.ts';
import { connectOrFail, connectRedis } from './redis-connection.ts';
import { ACQUIRE, APPEND, COMMIT, HEARTBEAT, RELEASE, RENEW } from './scripts.ts';
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
  Store,
  StreamEntry,
  StreamId,
} from './store.ts';

/** Entries that one read brings at most. */
const READ_COUNT = 1000;
/** An answer that nobody reads is dropped after this time, seconds. */
const OUTPUT_EXPIRE_S = 60;
const REQUESTS_MAX_ENTRIES = 1000;

type Script = (args: (string | number)[]) => Promise<unknown>;

/** Where the store is, which cluster of it, and who asks. */
export interface RedisStoreOptions {
  readonly url: string;
  readonly cluster: string;
  readonly log: Log;
  /** Shown in `CLIENT LIST`: `master`, `agent`, `cli`. */
  readonly name: string;
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
  readonly #options: RedisStoreOptions;
  readonly #scripts: Readonly<
    Record<'append' | 'heartbeat' | 'acquire' | 'renew' | 'release' | 'commit', Script>
  >;
  readonly #readers = new Map<string, Redis>();
  readonly #leaderChanges: LeaderChanges;
  #closed = false;

  constructor(options: RedisStoreOptions) {
    this.#options = options;
    this.keys = keysOf(options.cluster);
    this.redis = connectRedis(options);
    const subscriber = { ...options, name: `${options.name}-leader` };
    this.#leaderChanges = new LeaderChanges(subscriber, this.keys.leaderChannel);
    this.#scripts = {
      append: defineScript(this.redis, 'kaonAppend', APPEND, 2),
      heartbeat: defineScript(this.redis, 'kaonHeartbeat', HEARTBEAT, 4),
      acquire: defineScript(this.redis, 'kaonAcquire', ACQUIRE, 2),
      renew: defineScript(this.redis, 'kaonRenew', RENEW, 1),
      release: defineScript(this.redis, 'kaonRelease', RELEASE, 1),
      commit: defineScript(this.redis, 'kaonCommit', COMMIT, undefined),
    };
  }

  async connect(): Promise<void> {
    await connectOrFail(this.redis, this.#options.url);
  }

  async nowMs(): Promise<number> {
    const [seconds, micros] = await this.redis.time();
    return Number(seconds) * 1000 + Math.floor(Number(micros) / 1000);
  }

  async append(append: Append): Promise<AppendResult> {
    const { client, session, sequence, messages } = append;
    const keys = [this.keys.sequence(session), this.keys.inbox];
    const args = [sequence, INBOX_MAX_ENTRIES, client, session, messages];
    const reply = await this.#scripts.append([...keys, ...args]);
    return reply as AppendResult;
  }

  async heartbeat(
    client: ClientName,
    session: SessionId,
    cursor: StreamId,
  ): Promise<HeartbeatResult> {
    const { liveness, sessions } = this.keys;
    const keys = [
      liveness,
      sessions,
      this.keys.client(client, session),
      this.keys.sequence(session),
    ];
    return (await this.#scripts.heartbeat([...keys, client, session, cursor])) as HeartbeatResult;
  }

  async readClient(
    client: ClientName,
    session: SessionId,
    cursor: StreamId,
    blockMs: number,
  ): Promise<StreamEntry[]> {
    return this.#readMessages('client', this.keys.client(client, session), cursor, blockMs);
  }

  async acquireLease(masterId: MasterId, leaseMs: number): Promise<Lease | undefined> {
    const epoch = await this.#scripts.acquire([
      this.keys.leader,
      this.keys.epoch,
      masterId,
      leaseMs,
    ]);
    return epoch === null ? undefined : { masterId, epoch: Number(epoch) };
  }

  async renewLease(lease: Lease, leaseMs: number): Promise<number | undefined> {
    const time = await this.#scripts.renew([this.keys.leader, tokenOf(lease), leaseMs]);
    return time === null ? undefined : Number(time);
  }

  async releaseLease(lease: Lease): Promise<void> {
    await this.#scripts.release([this.keys.leader, tokenOf(lease), this.keys.leaderChannel]);
  }

  async leader(): Promise<(Lease & { readonly remainingMs: number }) | undefined> {
    // Both on one connection without waiting: an expiry in between only makes the rest of the lease negative.
    const [token, remainingMs] = await Promise.all([
      this.redis.get(this.keys.leader),
      this.redis.pttl(this.keys.leader),
    ]);
    const match = /^(\d+) (.*)$/.exec(token ?? '');
    if (!match) return undefined;
    return { epoch: Number(match[1]), masterId: match[2] as MasterId, remainingMs };
  }

  async waitForLeaderChange(timeoutMs: number): Promise<void> {
    await this.#leaderChanges.wait(timeoutMs);
  }

  async loadSnapshot(): Promise<Snapshot> {
    const at = (await this.redis.get(this.keys.cursor)) ?? '0 0-0';
    const [commits = '0', cursor = '0-0'] = at.split(' ');
    const entries = await Promise.all(
      REGISTRY_NAMES.map(async (name) => {
        const records = await this.redis.hgetall(this.keys.registry[name]);
        return [name, new Map(Object.entries(records))] as const;
      }),
    );
    const registry = Object.fromEntries(entries) as unknown as Snapshot['registry'];
    return { commitNumber: Number(commits), cursor, registry };
  }

  async readInbox(cursor: StreamId, count: number, blockMs: number): Promise<InboxEntry[]> {
    const reader = this.#reader('inbox');
    const reply =
      blockMs > 0
        ? await reader.xread('COUNT', count, 'BLOCK', blockMs, 'STREAMS', this.keys.inbox, cursor)
        : await reader.xread('COUNT', count, 'STREAMS', this.keys.inbox, cursor);
    return entriesOf(reply).map(([id, fields]) => {
      const field = fieldsOf(fields);
      return {
        id,
        from: field['from'] ?? '',
        session: field['session'] ?? '',
        messages: field['messages'] ?? '',
      };
    });
  }

  async commit(commit: Commit): Promise<CommitResult> {
    const { keys, args, sendTo } = encodeCommit(commit, this.keys);
    const fixed = [this.keys.leader, this.keys.cursor, this.keys.inbox];
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
    return { ok: false, code: code as 'fenced' | 'out-of-order', found: String(rest[0]) };
  }

  async silentClients(beforeMs: number): Promise<ClientName[]> {
    const names = await this.redis.zrangebyscore(
      this.keys.liveness,
      '-inf',
      `(${String(beforeMs)}`,
    );
    return names as ClientName[];
  }

  async requestAgent(agentId: AgentId, messages: string): Promise<void> {
    const key = this.keys.agentRequests(agentId);
    await this.redis.xadd(key, 'MAXLEN', '~', REQUESTS_MAX_ENTRIES, '*', 'messages', messages);
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

  async writeOutput(readId: SessionId, chunks: readonly OutputChunk[]): Promise<number> {
    const key = this.keys.output(readId);
    const pipeline = this.redis.pipeline();
    for (const chunk of chunks) {
      if (chunk.kind === 'end') pipeline.xadd(key, '*', 'end', chunk.error);
      else pipeline.xadd(key, '*', chunk.kind, chunk.bytes, 'offset', chunk.offset);
    }
    pipeline.expire(key, OUTPUT_EXPIRE_S).xlen(key);
    const replies = (await pipeline.exec()) ?? [];
    for (const [error] of replies) if (error) throw error;
    return Number(replies.at(-1)?.[1]);
  }

  async readOutput(
    readId: SessionId,
    cursor: StreamId,
    blockMs: number,
  ): Promise<{ id: StreamId; chunk: OutputChunk }[]> {
    const key = this.keys.output(readId);
    const reply = (await this.#reader('output').callBuffer(
      'XREAD',
      ...[
        'COUNT',
        '100',
        ...(blockMs > 0 ? ['BLOCK', String(blockMs)] : []),
        'STREAMS',
        key,
        cursor,
      ],
    )) as [Buffer, [Buffer, Buffer[]][]][] | null;
    const chunks = entriesOf(reply).map(([id, fields]) => ({
      id: id.toString(),
      chunk: chunkOf(fields),
    }));
    // What was read goes at once: the agent writes on when it sees the stream shrink.
    if (chunks.length > 0) await this.redis.xdel(key, ...chunks.map(({ id }) => id));
    return chunks;
  }

  async endOutput(readId: SessionId): Promise<void> {
    await this.redis.unlink(this.keys.output(readId));
  }

  close(): Promise<void> {
    // A second `disconnect` of ioredis would keep the process alive for two seconds.
    if (this.#closed) return Promise.resolve();
    this.#closed = true;
    for (const reader of this.#readers.values()) reader.disconnect();
    this.#leaderChanges.close();
    this.redis.disconnect();
    return Promise.resolve();
  }

  /** @returns the connection for one kind of blocking read; a closed store's reads fail instead of hanging. */
  #reader(kind: string): Redis {
    let reader = this.#readers.get(kind);
    if (!reader) {
      reader = connectRedis({ ...this.#options, name: `${this.#options.name}-${kind}` });
      if (this.#closed) reader.disconnect();
      this.#readers.set(kind, reader);
    }
    return reader;
  }

  async #readMessages(
    kind: string,
    key: string,
    cursor: StreamId,
    blockMs: number,
  ): Promise<StreamEntry[]> {
    const reader = this.#reader(kind);
    const reply =
      blockMs > 0
        ? await reader.xread('COUNT', READ_COUNT, 'BLOCK', blockMs, 'STREAMS', key, cursor)
        : await reader.xread('COUNT', READ_COUNT, 'STREAMS', key, cursor);
    return entriesOf(reply).map(([id, fields]) => ({
      id,
      messages: fieldsOf(fields)['messages'] ?? '',
    }));
  }
}

function defineScript(
  redis: Redis,
  name: string,
  lua: string,
  keyCount: number | undefined,
): Script {
  redis.defineCommand(name, keyCount === undefined ? { lua } : { lua, numberOfKeys: keyCount });
  const commands = redis as unknown as Record<string, Script>;
  const script = commands[name];
  if (!script) throw new Error(`ioredis did not define ${name}`);
  // As one array, which ioredis takes apart itself: tens of thousands of arguments of a call overflow the stack.
  return (args) => script.call(redis, args);
}

function tokenOf(lease: Lease): string {
  return `${String(lease.epoch)} ${lease.masterId}`;
}

/** The entries of the only stream of an XREAD reply; null means that the wait ended without any. */
function entriesOf<T>(reply: [T, [T, T[]][]][] | null): [T, T[]][] {
  return reply?.[0]?.[1] ?? [];
}

function fieldsOf(pairs: readonly string[]): Record<string, string> {
  const fields: Record<string, string> = {};
  for (let index = 0; index + 1 < pairs.length; index += 2) {
    fields[pairs[index] ?? ''] = pairs[index + 1] ?? '';
  }
  return fields;
}

function chunkOf(pairs: readonly Buffer[]): OutputChunk {
  const [name, value = Buffer.alloc(0), , offset] = pairs;
  const kind = name?.toString();
  if (kind === 'stdout' || kind === 'stderr') {
    return { kind, bytes: value, offset: Number(offset?.toString()) };
  }
  return { kind: 'end', error: value.toString() };
}
