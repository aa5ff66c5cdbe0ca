/**
 * Clients of the master for load generators: registration, one append under way for each client as in production, and
 * streams. Several clients share one connection for commands; each has its own for its stream, as in production.
 */
import { APPEND, HEARTBEAT, OPEN_SESSION } from '../io/scripts.ts';
import type { ClientSession } from '../io/session.ts';
import {
  appendAnswered,
  createSession,
  heartbeatAnswered,
  nextAppend,
  openSession,
} from '../io/session.ts';
import type { AppendResult, HeartbeatResult } from '../io/store.ts';
import type { SessionId } from '../protocol/ids.ts';
import { numberedSession } from '../protocol/ids.ts';
import type { ClientName, Keys } from '../protocol/keys.ts';
import { keysOf } from '../protocol/keys.ts';
import { INBOX_MAX_ENTRIES } from '../protocol/limits.ts';
import type { Message } from '../protocol/messages.ts';
import type { Reply } from './lean-redis.ts';
import { LeanRedis } from './lean-redis.ts';

const HEARTBEAT_MS = 5000;
const BLOCK_MS = 10_000;
const READ_COUNT = 1000;

/** What all clients of one process share. */
export class LeanHub {
  readonly keys: Keys;
  readonly #path: string;
  readonly #commands: LeanRedis;
  readonly #append: string;
  readonly #heartbeat: string;

  private constructor(path: string, cluster: string, commands: LeanRedis, scripts: string[]) {
    this.#path = path;
    this.keys = keysOf(cluster);
    this.#commands = commands;
    [this.#append = '', this.#heartbeat = ''] = scripts;
  }

  /** @param path the unix socket of Redis */
  static async open(path: string, cluster: string): Promise<LeanHub> {
    const commands = await LeanRedis.open(path);
    const load = async (script: string): Promise<string> =>
      String(await commands.call('SCRIPT', 'LOAD', script));
    return new LeanHub(path, cluster, commands, [await load(APPEND), await load(HEARTBEAT)]);
  }

  async openSession(client: ClientName): Promise<SessionId> {
    const keys = [this.keys.sessionFloor, this.keys.sessionNumber(client)];
    return numberedSession(Number(await this.#commands.call('EVAL', OPEN_SESSION, 2, ...keys)));
  }

  async append(
    client: ClientName,
    session: SessionId,
    next: { readonly sequence: number; readonly messages: string },
  ): Promise<AppendResult> {
    const { sequence, messages } = next;
    const keys = [this.keys.sequence(client, session), this.keys.inbox];
    const args = [sequence, INBOX_MAX_ENTRIES, client, session, messages];
    return (await this.#commands.call(
      'EVALSHA',
      this.#append,
      2,
      ...keys,
      ...args,
    )) as AppendResult;
  }

  async heartbeat(
    client: ClientName,
    session: SessionId,
    cursor: string,
  ): Promise<HeartbeatResult> {
    const keys = [
      this.keys.sessions,
      this.keys.alive(client),
      this.keys.client(client, session),
      this.keys.sequence(client, session),
    ];
    const args = [...keys, client, session, cursor];
    return (await this.#commands.call('EVALSHA', this.#heartbeat, 4, ...args)) as HeartbeatResult;
  }

  reader(): Promise<LeanRedis> {
    return LeanRedis.open(this.#path);
  }
}

/** One client: sends in order, reads its stream for ever. */
export class LeanClient {
  readonly #hub: LeanHub;
  readonly #client: ClientName;
  readonly #session: ClientSession;
  readonly #onMessage: (message: Message) => void;

  constructor(hub: LeanHub, client: ClientName, onMessage: (message: Message) => void) {
    this.#hub = hub;
    this.#client = client;
    this.#session = createSession();
    this.#onMessage = onMessage;
  }

  /** Registers and begins to read. Failures end the process: a benchmark has no use for a client that is half there. */
  async start(register: (session: SessionId) => Message): Promise<void> {
    const id = await this.#hub.openSession(this.#client);
    openSession(this.#session, { id, registration: [register(id)] }, performance.now());
    void this.#flush();
    const reader = await this.#hub.reader();
    void this.#readForEver(reader);
    setInterval(() => {
      void this.#beat();
    }, HEARTBEAT_MS);
  }

  send(message: Message): void {
    this.#session.outbox.push(message);
    if (!this.#session.isAppending) void this.#flush();
  }

  /** Nothing here makes a master forget a client. */
  async #beat(): Promise<void> {
    const { id, cursor } = this.#session;
    const result = await this.#hub.heartbeat(this.#client, id, cursor);
    const then = heartbeatAnswered(this.#session, { id, cursor }, result, performance.now());
    if (then !== 'ok') throw new Error(`heartbeat of ${this.#client}: ${result}`);
  }

  async #flush(): Promise<void> {
    this.#session.isAppending = true; // Also while the rest of this turn's messages join the entry.
    await Promise.resolve();
    for (let next = nextAppend(this.#session); next; next = nextAppend(this.#session)) {
      const result = await this.#hub.append(this.#client, this.#session.id, next);
      if (appendAnswered(this.#session, result) !== 'next') {
        throw new Error(`append of ${this.#client}: ${result}`);
      }
    }
  }

  async #readForEver(reader: LeanRedis): Promise<void> {
    const key = this.#hub.keys.client(this.#client, this.#session.id);
    for (;;) {
      const options = ['COUNT', READ_COUNT, 'BLOCK', BLOCK_MS, 'STREAMS', key];
      const reply = await reader.call('XREAD', ...options, this.#session.cursor);
      for (const [id, messages] of entriesOf(reply)) {
        this.#session.cursor = id;
        for (const message of JSON.parse(messages) as Message[]) this.#onMessage(message);
      }
    }
  }
}

/** Ids and messages of the entries of the only stream of an XREAD reply. */
function entriesOf(reply: Reply): [string, string][] {
  const streams = reply as [string, [string, [string, string]][]][] | null;
  return (streams?.[0]?.[1] ?? []).map(([id, [, messages]]) => [id, messages]);
}
