/**
 * What the daemons ask of Redis: the one interface between Kaon and its coordinator.
 *
 * `redis-store.ts` implements it with scripts on a real server, `fake/store.ts` in memory; one contract suite
 * runs against both. Every write may be sent again by the client library when its reply was lost, so every write
 * here is idempotent: appends carry a sequence number, commits carry theirs, leases belong to one process.
 */
import type { AgentId, MasterId, SessionId } from '../protocol/ids.ts';
import type { ClientName, RegistryName } from '../protocol/keys.ts';

/** Position in a stream, `MS-SEQUENCE`; `START` is before the first entry. */
export type StreamId = string;
/** Before the first entry of any stream. */
export const START: StreamId = '0-0';

/** One entry of the inbox. */
export interface InboxEntry {
  readonly id: StreamId;
  readonly from: string;
  readonly session: string;
  /** JSON array of messages; not decoded, it may be anything. */
  readonly messages: string;
}

/** One entry of a client's stream. */
export interface StreamEntry {
  readonly id: StreamId;
  readonly messages: string;
}

/** One entry for the inbox. Client, session and sequence make it the same entry, however often it is sent. */
export interface Append {
  readonly client: ClientName;
  readonly session: SessionId;
  /** 1 for the first entry of a session, then one more each time. */
  readonly sequence: number;
  /** JSON array of messages. */
  readonly messages: string;
}

/**
 * `appended`; `duplicate`: it was appended before; `full`: the inbox is at its limit, try again later;
 * `gap`: the store does not know the entries before this one, so it has lost data: open a new session.
 */
export type AppendResult = 'appended' | 'duplicate' | 'full' | 'gap';

/** What the master has registered under the client's name: this session, nothing, or another session. */
export type HeartbeatResult = 'ok' | 'unknown' | 'moved';

/** The right to write; `epoch` grows with each new leader. */
export interface Lease {
  readonly masterId: MasterId;
  readonly epoch: number;
}

/** One record of the registry, written or deleted. */
export interface RegistryChange {
  readonly registry: RegistryName;
  readonly key: string;
  /** JSON, or undefined to delete the record. */
  readonly value: string | undefined;
}

/** Everything that one batch of the leader changes: written whole, or not at all. */
export interface Commit {
  readonly lease: Lease;
  /** One more than the last commit of the cluster. */
  readonly number: number;
  /** Last inbox entry consumed. */
  readonly cursor: StreamId;
  readonly changes: readonly RegistryChange[];
  /** Sessions that begin (`session`) or end (undefined); the end of one also forgets the client's liveness. */
  readonly sessions: readonly {
    readonly client: ClientName;
    readonly session: SessionId | undefined;
  }[];
  /** Streams of sessions that have ended. */
  readonly endedStreams: readonly { readonly client: ClientName; readonly session: SessionId }[];
  readonly sends: readonly {
    readonly client: ClientName;
    readonly session: SessionId;
    /** JSON array of messages. */
    readonly messages: string;
  }[];
  /** JSON of each event, in order. */
  readonly events: readonly string[];
  /** JSON of each task that has ended. */
  readonly history: readonly string[];
}

/** Whether a commit was written: whole, or nothing of it. */
export type CommitResult =
  | {
      readonly ok: true;
      /** Clients that do not read: their streams are over the limit. */
      readonly overflowing: readonly ClientName[];
    }
  /** `fenced`: the lease is not ours any more. `out-of-order`: another commit has this number's place. */
  | { readonly ok: false; readonly code: 'fenced' | 'out-of-order'; readonly found: string };

/** What a new leader starts from. */
export interface Snapshot {
  readonly commitNumber: number;
  readonly cursor: StreamId;
  readonly registry: Readonly<Record<RegistryName, ReadonlyMap<string, string>>>;
}

/**
 * The coordinator. Every call may fail with an operating error, after which it may or may not have been done.
 */
export interface Store {
  /** Time of the store, milliseconds since 1970. */
  nowMs(): Promise<number>;

  append(append: Append): Promise<AppendResult>;
  /** Notes that the client lives, and drops what it has read of its own stream (entries up to `cursor`). */
  heartbeat(client: ClientName, session: SessionId, cursor: StreamId): Promise<HeartbeatResult>;
  /** Entries after `cursor`; waits up to `blockMs` for the first one. Empty if none came. */
  readClient(
    client: ClientName,
    session: SessionId,
    cursor: StreamId,
    blockMs: number,
  ): Promise<StreamEntry[]>;

  /** Takes the lease if it is free, or keeps it if it is this process's already. @returns undefined if another holds it */
  acquireLease(masterId: MasterId, leaseMs: number): Promise<Lease | undefined>;
  /** @returns the time of the store, or undefined if the lease is not ours any more */
  renewLease(lease: Lease, leaseMs: number): Promise<number | undefined>;
  /** Gives the lease up if it is ours, and wakes the standbys. */
  releaseLease(lease: Lease): Promise<void>;
  leader(): Promise<(Lease & { readonly remainingMs: number }) | undefined>;
  /** Waits until the leadership may have changed, at most `timeoutMs`. */
  waitForLeaderChange(timeoutMs: number): Promise<void>;

  loadSnapshot(): Promise<Snapshot>;
  readInbox(cursor: StreamId, count: number, blockMs: number): Promise<InboxEntry[]>;
  commit(commit: Commit): Promise<CommitResult>;
  /** Clients that were last heard of before `beforeMs`. */
  silentClients(beforeMs: number): Promise<ClientName[]>;

  /** Past the master: a request to an agent, and the bytes of the answer. */
  requestAgent(agentId: AgentId, messages: string): Promise<void>;
  readAgentRequests(agentId: AgentId, cursor: StreamId, blockMs: number): Promise<StreamEntry[]>;
  /** The request has been answered whole: an agent that starts again does not answer it again. */
  removeAgentRequest(agentId: AgentId, id: StreamId): Promise<void>;
  /** @returns how many chunks the reader has not taken yet */
  writeOutput(readId: SessionId, chunks: readonly OutputChunk[]): Promise<number>;
  /** Takes chunks: what was read is dropped. */
  readOutput(
    readId: SessionId,
    cursor: StreamId,
    blockMs: number,
  ): Promise<{ id: StreamId; chunk: OutputChunk }[]>;
  endOutput(readId: SessionId): Promise<void>;

  close(): Promise<void>;
}

/**
 * A piece of a task's output. `offset` is the position of its first byte in the file: a reader drops what it has
 * already, because a write may be repeated. `end` closes the answer; `error` says what went wrong, '' if nothing.
 */
export type OutputChunk =
  | { readonly kind: 'stdout' | 'stderr'; readonly offset: number; readonly bytes: Buffer }
  | { readonly kind: 'end'; readonly error: string };
