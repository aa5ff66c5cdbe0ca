/**
 * A client's side of the streams: the agent and the framework SDK each have one. It sends messages to the inbox in
 * order and exactly once, reads the client's own stream, sends heartbeats, and opens a new session when the master
 * does not know the client any more. What the messages say is not its business.
 */
import { encodeEntries, decodeEntry } from '../protocol/codec.ts';
import { messageOf } from '../protocol/errors.ts';
import type { SessionId } from '../protocol/ids.ts';
import type { ClientName } from '../protocol/keys.ts';
import type { Message } from '../protocol/messages.ts';
import type { Clock } from './clock.ts';
import { randomName } from './clock.ts';
import type { Log } from './log.ts';
import type { Store, StreamId } from './store.ts';
import { START } from './store.ts';

/** How often a client says that it lives, milliseconds. */
export const HEARTBEAT_MS = 5000;
/** A registration that has not been answered for so long is sent again, milliseconds. */
const REGISTER_RETRY_MS = 5000;
const READ_BLOCK_MS = 2000;
const RETRY_MS = 250;

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
  /** Default 5 s. */
  readonly heartbeatMs?: number;
}

/**
 * The connection of one client to the cluster, from `start` to `stop`. A stopped one does not start again.
 */
export class Mailbox {
  readonly #options: MailboxOptions;
  readonly #stop = new AbortController();
  #session: SessionId;
  #started = false;
  #sessionOpenedAtMs = 0;
  #sequence = 0;
  #cursor: StreamId = START;
  /** Not yet appended: the registration of a new session goes before them. */
  #outbox: Message[] = [];
  #entries: string[] = [];
  #flushing: Promise<void> | undefined;
  #loops: Promise<unknown> = Promise.resolve();

  constructor(options: MailboxOptions) {
    this.#options = options;
    this.#session = newSession();
  }

  get session(): SessionId {
    return this.#session;
  }

  /** Registers, and begins to read and to send heartbeats. */
  start(): void {
    this.#started = true;
    this.#open();
    this.#loops = Promise.all([this.#readLoop(), this.#heartbeatLoop()]);
  }

  /** Queues messages. Everything that is queued in one turn of the event loop travels in one entry. */
  send(...messages: readonly Message[]): void {
    if (this.#stop.signal.aborted) return;
    this.#outbox.push(...messages);
    // Before the registration there is no session to send them in; they follow it.
    if (this.#started) this.#flushing ??= this.#flush();
  }

  /** Resolves when all that was queued is in the inbox. */
  async flushed(): Promise<void> {
    while (this.#flushing) await this.#flushing;
  }

  /** Sends nothing and reads nothing any more. Waiting reads end when the store is closed. */
  stop(): void {
    this.#stop.abort();
  }

  /** Resolves when the loops have ended; after `stop`, and the closing of the store. */
  async stopped(): Promise<void> {
    await this.#loops;
  }

  #open(): void {
    this.#session = newSession();
    this.#sessionOpenedAtMs = this.#options.clock.monotonicMs();
    this.#sequence = 0;
    this.#cursor = START;
    // An entry of the old session that was not appended never will be: its messages go again, in this session.
    const waiting = this.#entries.flatMap((entry) => JSON.parse(entry) as Message[]);
    this.#entries = [];
    this.#outbox = [...this.#options.register(this.#session), ...waiting, ...this.#outbox];
    this.#flushing ??= this.#flush();
  }

  async #flush(): Promise<void> {
    try {
      await Promise.resolve(); // The rest of this turn's messages join the entry.
      while (this.#outbox.length > 0 || this.#entries.length > 0) {
        if (this.#entries.length === 0) {
          this.#entries = encodeEntries(this.#outbox);
          this.#outbox = [];
        }
        await this.#appendFirst();
      }
    } finally {
      this.#flushing = undefined;
    }
  }

  async #appendFirst(): Promise<void> {
    const [messages] = this.#entries;
    if (messages === undefined) return;
    const { store, client, clock, log } = this.#options;
    const session = this.#session;
    try {
      const result = await store.append({
        client,
        session,
        sequence: this.#sequence + 1,
        messages,
      });
      if (session !== this.#session) return; // Reopened meanwhile; the new session has taken the entries over.
      if (result === 'appended' || result === 'duplicate') {
        this.#sequence += 1;
        this.#entries.shift();
      } else if (result === 'gap') {
        log.warn('session.lost', {
          client,
          session,
          reason: 'redis does not have what was sent before',
        });
        this.#open();
      } else {
        log.warn('inbox.full', { client, retryMs: RETRY_MS });
        await clock.sleep(RETRY_MS, this.#stop.signal);
      }
    } catch (error) {
      if (this.#stop.signal.aborted) {
        this.#entries = [];
        this.#outbox = [];
        return;
      }
      log.warn('inbox.append-failed', { client, error: messageOf(error), retryMs: RETRY_MS });
      await clock.sleep(RETRY_MS, this.#stop.signal);
    }
  }

  async #readLoop(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      const messages = await this.#read();
      // Outside the guard of `#read`: what a handler throws is a broken assumption, and must not be retried over.
      if (messages.length > 0 && !this.#stop.signal.aborted)
        await this.#options.onMessages(messages);
    }
  }

  async #read(): Promise<Message[]> {
    const { store, client, clock, log } = this.#options;
    const session = this.#session;
    const messages: Message[] = [];
    try {
      const entries = await store.readClient(client, session, this.#cursor, READ_BLOCK_MS);
      if (session !== this.#session) return [];
      for (const entry of entries) {
        this.#cursor = entry.id;
        for (const decoded of decodeEntry(entry.messages)) {
          if (decoded.ok) messages.push(decoded.value);
          else
            log.warn('message.bad', {
              client,
              entry: entry.id,
              code: decoded.code,
              error: decoded.message,
            });
        }
      }
    } catch (error) {
      if (this.#stop.signal.aborted) return [];
      log.warn('stream.read-failed', { client, error: messageOf(error), retryMs: RETRY_MS });
      await clock.sleep(RETRY_MS, this.#stop.signal);
    }
    return messages;
  }

  async #heartbeatLoop(): Promise<void> {
    const { store, client, clock, log, heartbeatMs = HEARTBEAT_MS } = this.#options;
    while (!this.#stop.signal.aborted) {
      await clock.sleep(heartbeatMs, this.#stop.signal);
      if (this.#stop.signal.aborted) return;
      try {
        const session = this.#session;
        const result = await store.heartbeat(client, session, this.#cursor);
        if (session === this.#session) this.#onHeartbeat(result);
      } catch (error) {
        if (!this.#stop.signal.aborted)
          log.warn('heartbeat.failed', { client, error: messageOf(error) });
      }
    }
  }

  #onHeartbeat(result: 'ok' | 'unknown' | 'moved'): void {
    if (result === 'ok') return;
    const { client, clock, log, onMoved } = this.#options;
    const openMs = clock.monotonicMs() - this.#sessionOpenedAtMs;
    // A registration that is still on its way looks the same: first there is nothing, or the session before this one.
    if (openMs < REGISTER_RETRY_MS) return;
    if (result === 'moved' && this.#cursor !== START) {
      log.error('session.moved', { client, session: this.#session });
      this.stop();
      onMoved();
      return;
    }
    log.warn('session.unknown', { client, session: this.#session, action: 'registering again' });
    this.#open();
  }
}

function newSession(): SessionId {
  return `s${randomName(9)}` as SessionId;
}
