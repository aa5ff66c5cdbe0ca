/**
 * The shell around a client's session, as `io/mailbox.ts` is in production: appends one entry at a time, reads the
 * client's stream, sends heartbeats. The rules are those of `io/session.ts`.
 */
import type { ClientSession } from '../../io/session.ts';
import {
  appendAnswered,
  createSession,
  entriesRead,
  heartbeatAnswered,
  nextAppend,
  openSession,
} from '../../io/session.ts';
import type { SessionId } from '../../protocol/ids.ts';
import type { ClientName } from '../../protocol/keys.ts';
import type { Message } from '../../protocol/messages.ts';
import type { Connection, Network } from './network.ts';
import type { SimRedis } from './redis.ts';
import type { Process } from './world.ts';

/** Shorter than in production, like all times of the simulation, so that a minute holds many of everything. */
export const HEARTBEAT_MS = 1000;
const READ_BLOCK_MS = 2000;
const RETRY_MS = 250;

export interface ClientOptions {
  readonly network: Network;
  readonly redis: SimRedis;
  readonly process: Process;
  readonly client: ClientName;
  readonly register: (session: SessionId) => readonly Message[];
  readonly onMessage: (message: Message) => void;
  readonly onMoved: () => void;
}

export class SimClient {
  readonly #options: ClientOptions;
  readonly #session: ClientSession;
  readonly #commands: Connection;
  readonly #reads: Connection;
  #stopped = false;
  #isLeaving = false;
  #isAppending = false;

  constructor(options: ClientOptions) {
    this.#options = options;
    const { network, process } = options;
    this.#session = createSession(this.#newId());
    this.#commands = network.connect(process);
    this.#reads = network.connect(process);
  }

  get sessionId(): SessionId {
    return this.#session.id;
  }

  start(): void {
    this.#open('first');
    this.#read();
    this.#heartbeat();
  }

  stop(): void {
    this.#stopped = true;
  }

  send(...messages: readonly Message[]): void {
    if (this.#stopped) return;
    this.#session.outbox.push(...messages);
    this.#flush();
  }

  /** Sends a farewell and then nothing more: a heartbeat must not register anew what has just left. */
  sendLast(message: Message): void {
    this.send(message);
    this.#isLeaving = true;
  }

  #open(why: string): void {
    const { network, process, register } = this.#options;
    const id = this.#newId();
    network.world.log(process.name, `opens session ${id}: ${why}`);
    openSession(this.#session, { id, registration: register(id) }, network.world.nowMs);
    this.#flush();
  }

  /** What is sent in one turn travels in one entry. */
  #flush(): void {
    if (this.#isAppending) return;
    this.#isAppending = true;
    this.#options.process.after(0, () => {
      this.#append();
    });
  }

  #append(): void {
    const { redis, client, process } = this.#options;
    const next = nextAppend(this.#session);
    if (!next || this.#stopped) {
      this.#isAppending = false;
      return;
    }
    const session = this.#session.id;
    this.#commands.call(
      () => redis.append({ client, session, ...next }),
      (result) => {
        const then = appendAnswered(this.#session, result);
        if (then === 'reopen') this.#open(`append answered ${result}`);
        process.after(then === 'wait' ? RETRY_MS : 0, () => {
          this.#append();
        });
      },
    );
  }

  #read(): void {
    const { redis, client } = this.#options;
    if (this.#stopped) return;
    const { id, cursor } = this.#session;
    this.#reads.read(
      () => redis.readClient(client, id, cursor),
      READ_BLOCK_MS,
      (entries) => {
        this.#take(entriesRead(this.#session, id, entries).messages);
        this.#read();
      },
    );
  }

  #take(messages: readonly Message[]): void {
    const { network, process, onMessage } = this.#options;
    const isTwice = messages.length > 0 && network.world.random.chance(network.faults.redeliver);
    for (const message of isTwice ? [...messages, ...messages] : messages) {
      if (this.#stopped || !process.isAlive) return;
      onMessage(message);
    }
  }

  #heartbeat(): void {
    const { network, redis, client, process, onMoved } = this.#options;
    process.after(HEARTBEAT_MS, () => {
      if (this.#stopped || this.#isLeaving) return;
      const { id, cursor } = this.#session;
      this.#commands.call(
        () => redis.heartbeat(client, id, cursor),
        (result) => {
          if (this.#stopped || this.#isLeaving) return;
          const then = heartbeatAnswered(
            this.#session,
            { id, cursor },
            result,
            network.world.nowMs,
          );
          if (then === 'moved') {
            network.world.log(process.name, `session ${id} has moved`);
            this.stop();
            onMoved();
          } else if (then === 'reopen') this.#open(result);
          this.#heartbeat();
        },
      );
    });
  }

  #newId(): SessionId {
    return `s${this.#options.network.world.random.name(5)}` as SessionId;
  }
}
