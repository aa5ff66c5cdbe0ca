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
import { streamOf } from './redis.ts';
import type { Timing } from './timing.ts';
import type { Process } from './world.ts';

const RETRY_MS = 250;

export interface ClientOptions {
  readonly network: Network;
  readonly timing: Timing;
  readonly process: Process;
  readonly client: ClientName;
  readonly register: (session: SessionId) => readonly Message[];
  readonly onMessage: (message: Message) => void;
  readonly onMoved: () => void;
  readonly onHeartbeat?: (isOk: boolean, tookMs: number) => void;
}

export class SimClient {
  readonly #options: ClientOptions;
  readonly #session: ClientSession = createSession();
  readonly #commands: Connection;
  readonly #reads: Connection;
  #stopped = false;
  #isLeaving = false;
  #isOpening = false;
  #isAppending = false;
  #isReading = false;

  constructor(options: ClientOptions) {
    this.#options = options;
    const { network, process } = options;
    this.#commands = network.connect(process);
    this.#reads = network.connect(process);
  }

  get sessionId(): SessionId {
    return this.#session.id;
  }

  start(): void {
    this.#open('first');
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
    if (this.#isOpening) return;
    this.#isOpening = true;
    const { network, process, client, register } = this.#options;
    this.#commands.call(
      (redis) => redis.openSession(client),
      (id) => {
        this.#isOpening = false;
        if (this.#stopped) return;
        network.world.log(process.name, `opens session ${id}: ${why}`);
        openSession(this.#session, { id, registration: register(id) }, network.world.nowMs);
        this.#flush();
        this.#read();
      },
      () => {
        this.#isOpening = false;
        process.after(RETRY_MS, () => {
          this.#open(why);
        });
      },
    );
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
    const { client, process } = this.#options;
    const next = this.#stopped ? undefined : nextAppend(this.#session);
    if (!next) {
      this.#isAppending = false;
      return;
    }
    const append = { client, session: this.#session.id, ...next };
    this.#commands.call(
      (redis) => redis.append(append),
      (result) => {
        const then = appendAnswered(this.#session, result);
        if (then === 'reopen') this.#open(`append answered ${result}`);
        if (then === 'wait') this.#appendIn(RETRY_MS);
        else this.#append();
      },
      () => {
        this.#appendIn(process.isAlive ? RETRY_MS : 0);
      },
    );
  }

  #appendIn(delayMs: number): void {
    this.#options.process.after(delayMs, () => {
      this.#append();
    });
  }

  #read(): void {
    const { client } = this.#options;
    if (this.#stopped || this.#isReading || !this.#session.isOpen) return;
    this.#isReading = true;
    const { id, cursor } = this.#session;
    this.#reads.read(
      { key: streamOf(client, id), forMs: 2 * this.#options.timing.heartbeatMs },
      (redis) => redis.readClient(client, id, cursor),
      (entries) => {
        this.#isReading = false;
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
    const { network, process, timing } = this.#options;
    const spread = 0.8 + 0.4 * network.world.random.next();
    process.after(timing.heartbeatMs * spread, () => {
      if (this.#stopped || this.#isLeaving) return;
      if (this.#session.isOpen) this.#sendHeartbeat();
      else this.#heartbeat();
    });
  }

  #sendHeartbeat(): void {
    const { network, client, process, onMoved, onHeartbeat } = this.#options;
    const { world } = network;
    const { id, cursor } = this.#session;
    const sentMs = world.nowMs;
    this.#commands.call(
      (redis) => redis.heartbeat(client, id, cursor),
      (result) => {
        if (this.#stopped || this.#isLeaving) return;
        onHeartbeat?.(result === 'ok', world.nowMs - sentMs);
        const then = heartbeatAnswered(this.#session, { id, cursor }, result, world.nowMs);
        if (then === 'moved') {
          world.log(process.name, `session ${id} has moved`);
          this.stop();
          onMoved();
        } else if (then === 'reopen') this.#open(result);
        this.#heartbeat();
      },
      () => {
        this.#heartbeat();
      },
    );
  }
}
