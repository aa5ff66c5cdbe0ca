/**
 * What the daemons ask of Redis: the one interface between Kaon and its coordinator.
 *
 * `redis-store.ts` implements it with scripts on a real server, `fake/store.ts` in memory; one contract suite
 * runs against both. Every write may be sent again by the client library when its reply was lost, so every write
 * here is idempotent: appends carry a sequence number, commits carry theirs, and of a lease that is taken twice only the
 * later epoch counts. The two that go past the master are not, and say so.
 */
import type { AgentId, FrameworkId, MasterId, SessionId } from '../protocol/ids.ts';
import type { ClientName, RegistryName } from '../protocol/keys.ts';
import { CLIENT_STREAM_MAX_ENTRIES } from '../protocol/limits.ts';

/** Position in a stream, `MS-SEQUENCE`; `START` is before the first entry. */
export type StreamId = string;
/** Before the first entry of any stream. */
export const START: StreamId = '0-0';

/** As whom an entry of the inbox was written, and the proof of it: see `signing.ts`. */
export interface Signature {
  readonly principal: string;
  readonly generation: number;
  readonly mac: string;
}

/** Proof that an entry of a client's stream is the master's, and in its place: see `signing.ts`. */
export interface Seal {
  readonly position: string;
  readonly mac: string;
}

/** One entry of the inbox. */
export interface InboxEntry {
  readonly id: StreamId;
  readonly from: string;
  readonly session: string;
  /** Its number in the session, as its writer says. */
  readonly sequence: number;
  /** JSON array of messages; not decoded, it may be anything. */
  readonly messages: string;
  /** As it was written; whoever needs it verifies it. */
  readonly signature?: Signature;
}

/** One entry of a client's stream. */
export interface StreamEntry {
  readonly id: StreamId;
  readonly messages: string;
  readonly seal?: Seal;
  /** It came past the master, from an agent: `id` is no position in the client's stream, and only executors speak so. */
  readonly isDirect?: boolean;
}

/** One entry for the inbox. Client, session and sequence make it the same entry, however often it is sent. */
export interface Append {
  readonly client: ClientName;
  readonly session: SessionId;
  /** 1 for the first entry of a session, then one more each time. */
  readonly sequence: number;
  /** JSON array of messages. */
  readonly messages: string;
  readonly signature?: Signature;
}

/**
 * `appended`; `duplicate`: it was appended before; `full`: the inbox is at its limit, try again later;
 * `gap`: the store does not know the entries before this one, so it has lost data: open a new session.
 */
export type AppendResult = 'appended' | 'duplicate' | 'full' | 'gap';

/** What the master has registered under the client's name: this session, nothing, or another session. */
export type HeartbeatResult = 'ok' | 'unknown' | 'moved';

/** The right to write; `epoch` grows each time that it is taken, also when the same master takes it again. */
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
  readonly endedStreams: readonly {
    readonly client: ClientName;
    readonly session: SessionId;
    /** JSON array of messages: the only thing that is left in the stream, for a minute, for whoever still reads it. */
    readonly farewell?: string;
    readonly seal?: Seal;
  }[];
  readonly sends: readonly {
    readonly client: ClientName;
    readonly session: SessionId;
    /** JSON array of messages. */
    readonly messages: string;
    readonly seal?: Seal;
  }[];
  /**
   * What the master has heard of sessions, in a cluster where entries are signed: an entry that it has heard is not taken
   * again, by no later leader either. Undefined: it is forgotten.
   */
  readonly heard?: readonly { readonly session: string; readonly value: string | undefined }[];
  /** JSON of each event, in order. */
  readonly events: readonly string[];
  /** JSON of each task that has ended. */
  readonly history: readonly string[];
  /** JSON of each thing that could not be taken, for people to look at. */
  readonly quarantine: readonly string[];
  /** JSON of the state of the whole cluster after this commit; undefined in most commits. */
  readonly snapshot: string | undefined;
}

/** Whether a commit was written: whole, or nothing of it. */
export type CommitResult =
  | {
      readonly ok: true;
      /** Clients that do not read: their streams are over the limit. */
      readonly overflowing: readonly ClientName[];
    }
  | { readonly ok: false; readonly code: CommitRefusal; readonly found: string };

/**
 * `fenced`: the lease is not ours any more. `server-changed`: Redis has restarted or failed over since the term began,
 * so what the leader has loaded may not be what is stored. `out-of-order`: another commit has this number's place.
 */
export type CommitRefusal = 'fenced' | 'server-changed' | 'out-of-order';

/** What the beginning of a term found; `dataLost`: Redis is another one than in the last term, and may lack writes. */
export type TermBegin =
  | { readonly ok: false }
  | {
      readonly ok: true;
      readonly storeMs: number;
      /** If data may have been lost: only sessions with numbers above this one were opened after that. */
      readonly lostBefore: number | undefined;
    };

/**
 * By so much the clock of a Redis that was replaced may have been ahead, milliseconds: numbers of sessions go on above
 * what it can have given out.
 */
export const CLOCK_SKEW_MAX_MS = 60_000;

/** A client and when it was last heard of, in the time of the store. */
export interface SilentClient {
  readonly client: ClientName;
  readonly seenMs: number;
}

/** From so many entries on, which it has not read, an agent writes nothing more to a framework. */
export const DIRECT_ENTRIES_MAX = CLIENT_STREAM_MAX_ENTRIES / 2;

/**
 * `unknown`: no session of the framework is registered; `full`: it does not read as fast as is written. Nothing was
 * written then.
 */
export type FrameworkSendResult = 'sent' | 'unknown' | 'full';

/** How long the last word to a session that has ended can be read, milliseconds. */
export const FAREWELL_MS = 60_000;

/** What a new leader starts from. */
export interface Snapshot {
  readonly commitNumber: number;
  readonly cursor: StreamId;
  readonly registry: Readonly<Record<RegistryName, ReadonlyMap<string, string>>>;
  readonly heard: ReadonlyMap<string, string>;
}

/** The principals of a secured cluster, as they are stored; `principals.ts` opens them. */
export interface SealedPrincipals {
  /** Another one after each change. */
  readonly version: string;
  readonly sealed: ReadonlyMap<string, string>;
}

/**
 * The coordinator. Every call may fail with an operating error, after which it may or may not have been done.
 */
export interface Store {
  /** What this client writes is signed: it has a token. Absent: it has none. */
  readonly isSecured?: boolean;

  /** Time of the store, milliseconds since 1970. */
  nowMs(): Promise<number>;

  /** Numbers a new session: later than every one of this client before it, also if Redis has lost them all. */
  openSession(client: ClientName): Promise<SessionId>;
  append(append: Append): Promise<AppendResult>;
  /** Notes that the client lives, and drops what it has read of its own stream (entries up to `cursor`). */
  heartbeat(client: ClientName, session: SessionId, cursor: StreamId): Promise<HeartbeatResult>;
  /**
   * Entries after `cursor`; waits up to `blockMs` for the first one. Empty if none came. Of a framework then those that
   * executors have sent, each once.
   */
  readClient(
    client: ClientName,
    session: SessionId,
    cursor: StreamId,
    blockMs: number,
  ): Promise<StreamEntry[]>;

  /**
   * Takes the lease, with a new epoch, if it is free, this process's already, or exactly `instead`.
   *
   * @param instead a lease whose holder seems to have died. That it may live all the same does no harm: every write
   * of its holder is fenced
   * @returns undefined if another holds it
   */
  acquireLease(masterId: MasterId, leaseMs: number, instead?: Lease): Promise<Lease | undefined>;
  /**
   * To be called before anything is loaded. Verifies that Redis is the one that the last term wrote to; if it is not,
   * all sessions are ended, so that every client registers again with all that it has.
   *
   * @returns `ok: false` if the lease is not ours any more
   */
  beginTerm(lease: Lease): Promise<TermBegin>;
  /** @returns the time of the store; undefined if the lease is not ours any more; `server-changed` as in a commit */
  renewLease(lease: Lease, leaseMs: number): Promise<number | 'server-changed' | undefined>;
  /**
   * Changes the epoch of the lease that is ours: after a loss of data it must get above what clients have seen.
   * From the call on the lease is `{ masterId, epoch }`, for whatever is called after it.
   *
   * @param epoch higher than that of the lease
   * @returns the new lease, or undefined if the lease is not ours any more
   */
  raiseEpoch(lease: Lease, epoch: number): Promise<Lease | undefined>;
  /** Gives the lease up if it is ours, and wakes the standbys. */
  releaseLease(lease: Lease): Promise<void>;
  /** Gives up the lease of that master, whoever asks. @returns false if it does not hold it */
  releaseLeaseOf(masterId: MasterId): Promise<boolean>;
  leader(): Promise<(Lease & { readonly remainingMs: number }) | undefined>;
  /**
   * True if the connection is gone by which the holder of that lease writes: the kernel closes it with the process. It
   * may be back in a moment. False also where it cannot be found out: without the permission for `CLIENT LIST`, before
   * Redis 6.2, in a Redis Cluster.
   */
  isLeaderGone(lease: Lease): Promise<boolean>;
  /**
   * Waits until the leadership may have changed, at most `timeoutMs`, and not beyond the abort of `signal`.
   *
   * @returns false if only the time is over
   */
  waitForLeaderChange(timeoutMs: number, signal?: AbortSignal): Promise<boolean>;

  loadSnapshot(): Promise<Snapshot>;
  /** @param signal ends the wait at once when it is aborted; then there are no entries */
  readInbox(
    cursor: StreamId,
    count: number,
    blockMs: number,
    signal?: AbortSignal,
  ): Promise<InboxEntry[]>;
  commit(commit: Commit): Promise<CommitResult>;
  /** @returns undefined if they are still those of version `known` */
  readPrincipals(known?: string): Promise<SealedPrincipals | undefined>;
  /** @param before as it was read; '' if there was none. @returns false if it is another one by now */
  changePrincipal(name: string, before: string, sealed: string): Promise<boolean>;
  /** Clients that were last heard of before `beforeMs`. */
  silentClients(beforeMs: number): Promise<SilentClient[]>;

  /** Past the master: a request to an agent. It may come twice, if the answer to it is lost. */
  requestAgent(agentId: AgentId, messages: string): Promise<void>;
  /**
   * Past the master: what an executor says, into a stream of its own beside that of the session that its framework has
   * registered: an agent may not speak in the name of the master.
   * Unlike all other writes it may come twice, if the answer to it is lost: such messages are delivered as well as may be.
   *
   * @param messages JSON array of messages
   */
  sendToFramework(frameworkId: FrameworkId, messages: string): Promise<FrameworkSendResult>;
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
