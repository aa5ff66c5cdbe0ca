/** The store in memory: `RedisModel` behind the asynchronous interface, with blocking reads. */
import type { AgentId, FrameworkId, MasterId, SessionId } from '../../protocol/ids.ts';
import type { ClientName } from '../../protocol/keys.ts';
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
  Store,
  StreamEntry,
  StreamId,
  TermBegin,
} from '../store.ts';
import type { RedisModel } from './model.ts';

/** What ioredis says of a connection that its owner has closed. */
const CLOSED = 'Connection is closed.';

/** One connection to a `RedisModel`; several may share a model, as processes share a server. */
export class FakeStore implements Store {
  readonly #model: RedisModel;
  readonly #waiting = new Set<() => void>();
  #connection: number;
  #closed = false;

  constructor(model: RedisModel) {
    this.#model = model;
    this.#connection = model.connect();
    const others = model.onWrite;
    model.onWrite = () => {
      others();
      this.#wake();
    };
  }

  nowMs(): Promise<number> {
    return Promise.resolve(this.#model.nowMs());
  }

  openSession(client: ClientName): Promise<SessionId> {
    return Promise.resolve(this.#model.openSession(client));
  }

  append(append: Append): Promise<AppendResult> {
    return Promise.resolve(this.#model.append(append));
  }

  heartbeat(client: ClientName, session: SessionId, cursor: StreamId): Promise<HeartbeatResult> {
    return Promise.resolve(this.#model.heartbeat(client, session, cursor));
  }

  readClient(
    client: ClientName,
    session: SessionId,
    cursor: StreamId,
    blockMs: number,
  ): Promise<StreamEntry[]> {
    return this.#block(() => this.#model.readClient(client, session, cursor), blockMs);
  }

  acquireLease(masterId: MasterId, leaseMs: number, instead?: Lease): Promise<Lease | undefined> {
    const connection = this.#connected();
    return Promise.resolve(this.#model.acquireLease(masterId, leaseMs, instead, connection));
  }

  beginTerm(lease: Lease): Promise<TermBegin> {
    return Promise.resolve(this.#model.beginTerm(lease));
  }

  renewLease(lease: Lease, leaseMs: number): Promise<number | 'server-changed' | undefined> {
    return Promise.resolve(this.#model.renewLease(lease, leaseMs, this.#connected()));
  }

  raiseEpoch(lease: Lease, epoch: number): Promise<Lease | undefined> {
    return Promise.resolve(this.#model.raiseEpoch(lease, epoch));
  }

  releaseLease(lease: Lease): Promise<void> {
    this.#model.releaseLease(lease);
    return Promise.resolve();
  }

  releaseLeaseOf(masterId: MasterId): Promise<boolean> {
    return Promise.resolve(this.#model.releaseLeaseOf(masterId));
  }

  leader(): Promise<(Lease & { readonly remainingMs: number }) | undefined> {
    return Promise.resolve(this.#model.leader());
  }

  isLeaderGone(lease: Lease): Promise<boolean> {
    return Promise.resolve(this.#model.isLeaderGone(lease));
  }

  async waitForLeaderChange(timeoutMs: number, signal?: AbortSignal): Promise<boolean> {
    const before = this.#model.leader()?.epoch;
    const look = (): true[] => (this.#model.leader()?.epoch === before ? [] : [true]);
    return (await this.#block(look, timeoutMs, signal)).length > 0;
  }

  loadSnapshot(): Promise<Snapshot> {
    return Promise.resolve(this.#model.loadSnapshot());
  }

  readInbox(
    cursor: StreamId,
    count: number,
    blockMs: number,
    signal?: AbortSignal,
  ): Promise<InboxEntry[]> {
    return this.#block(() => this.#model.readInbox(cursor, count), blockMs, signal);
  }

  commit(commit: Commit): Promise<CommitResult> {
    return Promise.resolve(this.#model.commit(commit));
  }

  readPrincipals(known?: string): Promise<SealedPrincipals | undefined> {
    return Promise.resolve(this.#model.readPrincipals(known));
  }

  changePrincipal(name: string, before: string, sealed: string): Promise<boolean> {
    return Promise.resolve(this.#model.changePrincipal(name, before, sealed));
  }

  silentClients(beforeMs: number): Promise<SilentClient[]> {
    return Promise.resolve(this.#model.silentClients(beforeMs));
  }

  requestAgent(agentId: AgentId, messages: string): Promise<void> {
    this.#model.requestAgent(requestsKey(agentId), messages);
    return Promise.resolve();
  }

  sendToFramework(frameworkId: FrameworkId, messages: string): Promise<FrameworkSendResult> {
    return Promise.resolve(this.#model.sendToFramework(frameworkId, messages));
  }

  readAgentRequests(agentId: AgentId, cursor: StreamId, blockMs: number): Promise<StreamEntry[]> {
    return this.#block(() => this.#model.readRequests(requestsKey(agentId), cursor), blockMs);
  }

  removeAgentRequest(agentId: AgentId, id: StreamId): Promise<void> {
    this.#model.removeRequest(requestsKey(agentId), id);
    return Promise.resolve();
  }

  writeOutput(readId: SessionId, chunks: readonly OutputChunk[]): Promise<number> {
    return Promise.resolve(this.#model.writeOutput(readId, chunks));
  }

  readOutput(
    readId: SessionId,
    cursor: StreamId,
    blockMs: number,
  ): Promise<{ id: StreamId; chunk: OutputChunk }[]> {
    return this.#block(() => this.#model.readOutput(readId, cursor), blockMs);
  }

  endOutput(readId: SessionId): Promise<void> {
    this.#model.endOutput(readId);
    return Promise.resolve();
  }

  close(): Promise<void> {
    this.#closed = true;
    this.#model.disconnect(this.#connection);
    this.#wake();
    return Promise.resolve();
  }

  /** @returns the id of the connection, which is a new one after the server has restarted */
  #connected(): number {
    if (!this.#model.isConnected(this.#connection)) this.#connection = this.#model.connect();
    return this.#connection;
  }

  #wake(): void {
    for (const wake of [...this.#waiting]) wake();
  }

  /** Reads until there is something or `blockMs` have passed; a closed store's reads fail, as the real one's do. */
  async #block<T>(read: () => T[], blockMs: number, signal?: AbortSignal): Promise<T[]> {
    if (this.#closed) throw new Error(CLOSED);
    if (signal?.aborted === true) return [];
    const found = read();
    if (found.length > 0 || blockMs <= 0) return found;
    return new Promise((resolve, reject) => {
      const end = (result: T[] | Error): void => {
        clearTimeout(timer);
        this.#waiting.delete(look);
        signal?.removeEventListener('abort', giveUp);
        if (result instanceof Error) reject(result);
        else resolve(result);
      };
      const giveUp = (): void => {
        end([]);
      };
      const look = (): void => {
        const result = this.#closed ? new Error(CLOSED) : read();
        if (result instanceof Error || result.length > 0) end(result);
      };
      const timer = setTimeout(giveUp, blockMs);
      signal?.addEventListener('abort', giveUp);
      this.#waiting.add(look);
    });
  }
}

function requestsKey(agentId: AgentId): string {
  return `agent:${agentId}:/requests`;
}
