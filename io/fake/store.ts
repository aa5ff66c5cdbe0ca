/** The store in memory: `RedisModel` behind the asynchronous interface, with blocking reads. */
import type { AgentId, MasterId, SessionId } from '../../protocol/ids.ts';
import type { ClientName } from '../../protocol/keys.ts';
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
} from '../store.ts';
import type { RedisModel } from './model.ts';

/** What ioredis says of a connection that its owner has closed. */
const CLOSED = 'Connection is closed.';

/** One connection to a `RedisModel`; several may share a model, as processes share a server. */
export class FakeStore implements Store {
  readonly #model: RedisModel;
  readonly #waiting = new Set<() => void>();
  #closed = false;

  constructor(model: RedisModel) {
    this.#model = model;
    const others = model.onWrite;
    model.onWrite = () => {
      others();
      this.#wake();
    };
  }

  nowMs(): Promise<number> {
    return Promise.resolve(this.#model.nowMs());
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

  acquireLease(masterId: MasterId, leaseMs: number): Promise<Lease | undefined> {
    return Promise.resolve(this.#model.acquireLease(masterId, leaseMs));
  }

  renewLease(lease: Lease, leaseMs: number): Promise<number | undefined> {
    return Promise.resolve(this.#model.renewLease(lease, leaseMs));
  }

  releaseLease(lease: Lease): Promise<void> {
    this.#model.releaseLease(lease);
    return Promise.resolve();
  }

  leader(): Promise<(Lease & { readonly remainingMs: number }) | undefined> {
    return Promise.resolve(this.#model.leader());
  }

  async waitForLeaderChange(timeoutMs: number): Promise<void> {
    const before = this.#model.leader()?.epoch;
    await this.#block(() => (this.#model.leader()?.epoch === before ? [] : [true]), timeoutMs);
  }

  loadSnapshot(): Promise<Snapshot> {
    return Promise.resolve(this.#model.loadSnapshot());
  }

  readInbox(cursor: StreamId, count: number, blockMs: number): Promise<InboxEntry[]> {
    return this.#block(() => this.#model.readInbox(cursor, count), blockMs);
  }

  commit(commit: Commit): Promise<CommitResult> {
    return Promise.resolve(this.#model.commit(commit));
  }

  silentClients(beforeMs: number): Promise<ClientName[]> {
    return Promise.resolve(this.#model.silentClients(beforeMs));
  }

  requestAgent(agentId: AgentId, messages: string): Promise<void> {
    this.#model.requestAgent(requestsKey(agentId), messages);
    return Promise.resolve();
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
    this.#wake();
    return Promise.resolve();
  }

  #wake(): void {
    for (const wake of [...this.#waiting]) wake();
  }

  /** Reads until there is something or `blockMs` have passed; a closed store's reads fail, as the real one's do. */
  async #block<T>(read: () => T[], blockMs: number): Promise<T[]> {
    if (this.#closed) throw new Error(CLOSED);
    const found = read();
    if (found.length > 0 || blockMs <= 0) return found;
    return new Promise((resolve, reject) => {
      const end = (): void => {
        clearTimeout(timer);
        this.#waiting.delete(look);
      };
      const look = (): void => {
        const result = this.#closed ? [] : read();
        if (result.length === 0 && !this.#closed) return;
        end();
        if (this.#closed) reject(new Error(CLOSED));
        else resolve(result);
      };
      const timer = setTimeout(() => {
        end();
        resolve([]);
      }, blockMs);
      this.#waiting.add(look);
    });
  }
}

function requestsKey(agentId: AgentId): string {
  return `agent:${agentId}:requests`;
}
