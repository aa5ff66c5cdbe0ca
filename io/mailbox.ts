/**
 * A client's side of the streams: the agent and the framework SDK each have one. It sends messages to the inbox in
 * order and exactly once, reads the client's own stream, sends heartbeats, and opens a new session when the master
 * does not know the client any more. What the messages say is not its business.
 */
import { messageOf } from '../protocol/errors.ts';
import type { SessionId } from '../protocol/ids.ts';
import type { ClientName } from '../protocol/keys.ts';
import type { Message } from '../protocol/messages.ts';
import { Backoff, spreadInterval } from './backoff.ts';
import type { Clock, Random } from './clock.ts';
import { systemRandom } from './clock.ts';
import type { Log } from './log.ts';
import { isForbidden, retryLevel } from './redis-errors.ts';
import type { ClientSession, Heartbeat } from './session.ts';
import {
  appendAnswered,
  createSession,
  entriesRead,
  heartbeatAnswered,
  isAnswered,
  nextAppend,
  openSession,
  renewSession,
} from './session.ts';
import type { HeartbeatResult, Store } from './store.ts';

/** How often a client says that it lives, milliseconds; each time up to 20 % sooner or later. */
export const HEARTBEAT_MS = 5000;
const READ_BLOCK_MS = 2000;

/** Whose mailbox it is, and what it does with what arrives. */
export interface MailboxOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Log;
  readonly client: ClientName;
  /** First messages of a session: the registration. */
  readonly register: (session: SessionId) => readonly Message[];
  /** One call for each batch, one at a time, in order. */
  readonly onMessages: (messages: readonly Message[]) => void | Promise<void>;
  /** Another process has registered under this client's name; the mailbox has stopped. */
  readonly onMoved: () => void;
  /**
   * The user of Redis may not say anything: told instead of trying for ever, as long as nothing was ever said. The mailbox
   * has stopped. Absent: it is tried again.
   */
  readonly onForbidden?: (error: unknown) => void;
  /** Told of each heartbeat that was answered: whether the session is known, and how long the answer took. */
  readonly onHeartbeat?: (isOk: boolean, tookMs: number) => void;
  /** Default 5 s. */
  readonly heartbeatMs?: number;
  /** What spreads heartbeats and retries. Default that of the process. */
  readonly random?: Random;
}

/**
 * The connection of one client to the cluster, from `start` to `stop`. A stopped one does not start again.
 */
export class Mailbox {
  readonly #options: MailboxOptions;
  readonly #stop = new AbortController();
  readonly #session: ClientSession = createSession();
  readonly #random: Random;
  readonly #appendBackoff: Backoff;
  readonly #readBackoff: Backoff;
  #started = false;
  #hasSpoken = false;
  #leaving = false;
  #opening: Promise<void> | undefined;
  #flushing: Promise<void> | undefined;
  #loops: Promise<unknown> = Promise.resolve();

  constructor(options: MailboxOptions) {
    this.#options = options;
    this.#random = options.random ?? systemRandom;
    this.#appendBackoff = new Backoff(this.#random);
    this.#readBackoff = new Backoff(this.#random);
  }

  /** The session that was opened last; one that is no session before the first. */
  get session(): SessionId {
    return this.#session.id;
  }

  /** Whether there is a session, and in it somebody has answered. */
  get isRegistered(): boolean {
    return isAnswered(this.#session);
  }

  /** Opens a session, registers, and begins to read and to send heartbeats. */
  start(): void {
    this.#started = true;
    this.#flushing ??= this.#flush();
    this.#loops = Promise.all([this.#readLoop(), this.#heartbeatLoop()]);
  }

  /** Registers anew, in a new session: what the client says of itself has changed. Before the first one it is said anyway. */
  registerAgain(): void {
    if (renewSession(this.#session)) this.#flushing ??= this.#flush();
  }

  /** Queues messages. Everything that is queued in one turn of the event loop travels in one entry. */
  send(...messages: readonly Message[]): void {
    if (this.#stop.signal.aborted) return;
    this.#session.outbox.push(...messages);
    // Before the registration there is no session to send them in; they follow it.
    if (this.#started) this.#flushing ??= this.#flush();
  }

  /** Resolves when all that was queued is in the inbox. */
  async flushed(): Promise<void> {
    while (this.#flushing) await this.#flushing;
  }

  /**
   * Says the last messages, and resolves when they are in the inbox. From here on no heartbeat opens a new session: the
   * master does not know a client that has left, and must not be told of it again.
   */
  async sendLast(...messages: readonly Message[]): Promise<void> {
    this.#leaving = true;
    this.send(...messages);
    await this.flushed();
  }

  /** Sends nothing and reads nothing any more. Waiting reads end when the store is closed. */
  stop(): void {
    this.#stop.abort();
  }

  /** Resolves when the loops have ended; after `stop`, and the closing of the store. */
  async stopped(): Promise<void> {
    await this.#loops;
  }

  /** @returns false if the mailbox was stopped before there was a session */
  async #isOpen(): Promise<boolean> {
    while (!this.#session.isOpen && !this.#stop.signal.aborted) {
      this.#opening ??= this.#open().finally(() => {
        this.#opening = undefined;
      });
      await this.#opening;
    }
    return this.#session.isOpen;
  }

  /** Tries once; after a failure it waits. */
  async #open(): Promise<void> {
    const { store, client, clock, log, register } = this.#options;
    try {
      const id = await store.openSession(client);
      if (this.#stop.signal.aborted) return;
      openSession(this.#session, { id, registration: register(id) }, clock.monotonicMs());
      this.#appendBackoff.reset();
    } catch (error) {
      if (this.#stop.signal.aborted || this.#givesUp(error)) return;
      const retryMs = this.#appendBackoff.next();
      log.warn('session.open-failed', { client, error: messageOf(error), retryMs });
      await clock.sleep(retryMs, this.#stop.signal);
    }
  }

  /** Of who has been heard the rights may come back; who never was has the wrong user. */
  #givesUp(error: unknown): boolean {
    const { onForbidden } = this.#options;
    if (!onForbidden || this.#hasSpoken || !isForbidden(error)) return false;
    this.stop();
    this.#dropUnsaid();
    onForbidden(error);
    return true;
  }

  #dropUnsaid(): void {
    this.#session.entries = [];
    this.#session.outbox = [];
  }

  async #flush(): Promise<void> {
    try {
      await Promise.resolve(); // The rest of this turn's messages join the entry.
      while (await this.#isOpen()) {
        const next = nextAppend(this.#session);
        if (next) await this.#append(next);
        else if (this.#session.isOpen) return;
      }
    } finally {
      this.#flushing = undefined;
    }
  }

  async #append(next: { readonly sequence: number; readonly messages: string }): Promise<void> {
    const { store, client, clock, log } = this.#options;
    const session = this.#session.id;
    try {
      const result = await store.append({ client, session, ...next });
      const then = appendAnswered(this.#session, result);
      if (then === 'next') {
        this.#hasSpoken = true;
        this.#appendBackoff.reset();
        return;
      }
      log.warn('inbox.append-refused', { client, session, reason: result, action: then });
      if (then === 'wait') await clock.sleep(this.#appendBackoff.next(), this.#stop.signal);
    } catch (error) {
      if (this.#stop.signal.aborted) {
        this.#dropUnsaid();
        return;
      }
      if (this.#givesUp(error)) return;
      const retryMs = this.#appendBackoff.next();
      log[retryLevel(error)]('inbox.append-failed', { client, error: messageOf(error), retryMs });
      await clock.sleep(retryMs, this.#stop.signal);
    }
  }

  async #readLoop(): Promise<void> {
    while (await this.#isOpen()) {
      if (this.#stop.signal.aborted) return;
      const messages = await this.#read();
      // Outside the guard of `#read`: what a handler throws is a broken assumption, and must not be retried over.
      if (messages.length > 0 && !this.#stop.signal.aborted)
        await this.#options.onMessages(messages);
    }
  }

  async #read(): Promise<readonly Message[]> {
    const { store, client, clock, log } = this.#options;
    const { id, cursor } = this.#session;
    try {
      const entries = await store.readClient(client, id, cursor, READ_BLOCK_MS);
      this.#readBackoff.reset();
      const { messages, bad } = entriesRead(this.#session, id, entries);
      for (const { entry, code, message: error } of bad) {
        log.warn('message.bad', { client, entry, code, error });
      }
      return messages;
    } catch (error) {
      if (this.#stop.signal.aborted) return [];
      const retryMs = this.#readBackoff.next();
      log[retryLevel(error)]('stream.read-failed', { client, error: messageOf(error), retryMs });
      await clock.sleep(retryMs, this.#stop.signal);
      return [];
    }
  }

  async #heartbeatLoop(): Promise<void> {
    const { store, client, clock, log, heartbeatMs = HEARTBEAT_MS } = this.#options;
    while (!this.#stop.signal.aborted) {
      await clock.sleep(spreadInterval(heartbeatMs, this.#random), this.#stop.signal);
      if (this.#stop.signal.aborted) return;
      const { id, cursor, isOpen } = this.#session;
      if (!isOpen) continue;
      try {
        const sentMs = clock.monotonicMs();
        const result = await store.heartbeat(client, id, cursor);
        this.#options.onHeartbeat?.(result === 'ok', clock.monotonicMs() - sentMs);
        this.#onHeartbeat({ id, cursor }, result);
      } catch (error) {
        if (this.#stop.signal.aborted) return;
        log[retryLevel(error)]('heartbeat.failed', { client, error: messageOf(error) });
      }
    }
  }

  #onHeartbeat(sent: Heartbeat, result: HeartbeatResult): void {
    const { client, clock, log, onMoved } = this.#options;
    if (this.#leaving) return;
    const then = heartbeatAnswered(this.#session, sent, result, clock.monotonicMs());
    if (then === 'ok') return;
    log.warn('session.ended', { client, session: sent.id, reason: result, action: then });
    if (then === 'reopen') this.#flushing ??= this.#flush();
    else {
      this.stop();
      onMoved();
    }
  }
}
