/**
 * The executor's end of the agent's unix socket: connected again and again until it is closed, lines in, lines out. Lines
 * that are sent in one turn of the event loop leave in one write. It knows nothing of what the lines say.
 */
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import type { Log } from '../io/log.ts';
import { LineSplitter } from './core/line-splitter.ts';
import { PAUSE_MAX_MS, reconnectPauseMs } from './core/reconnect.ts';

/** Who is told what happens to the connection. */
export interface ConnectionListener {
  /** Connected; `number` counts from 1. */
  opened(number: number): void;
  line(line: string): void;
  /** It was connected, and is not any more. */
  lost(): void;
}

/** Where to, and who listens. */
export interface ConnectionOptions {
  readonly socketPath: string;
  readonly listener: ConnectionListener;
  readonly log: Log;
}

/** One connection at a time to one socket, until `close`. */
export class AgentConnection {
  readonly #options: ConnectionOptions;
  #socket: Socket | undefined;
  #openedAtMs = 0;
  #isOpen = false;
  #isClosed = false;
  #number = 0;
  #failures = 0;
  #retry: NodeJS.Timeout | undefined;
  #unwritten = '';
  #flush: NodeJS.Immediate | undefined;
  /** The kernel takes no more for now. */
  #isFull = false;

  constructor(options: ConnectionOptions) {
    this.#options = options;
  }

  /** Connects now, and again whenever the connection is lost. */
  open(): void {
    const socket = connect(this.#options.socketPath);
    const lines = new LineSplitter();
    this.#socket = socket;
    socket.setEncoding('utf8');
    socket.on('connect', () => {
      this.#isOpen = true;
      this.#openedAtMs = performance.now();
      this.#number += 1;
      this.#options.listener.opened(this.#number);
    });
    // The socket has decoded it: see `setEncoding`.
    socket.on('data', (piece: string) => {
      this.#take(lines.push(piece));
    });
    socket.on('drain', () => {
      this.#isFull = false;
      this.#write();
    });
    socket.on('error', (error) => {
      this.#options.log.debug('agent.connection-failed', { error: error.message });
    });
    socket.on('close', () => {
      this.#closed();
    });
  }

  /** Queues a line, given without its end. On a connection that is lost before it has left it is lost, too. */
  send(line: string): void {
    if (!this.#isOpen || this.#isClosed) return;
    this.#unwritten += `${line}\n`;
    this.#flush ??= setImmediate(() => {
      this.#flush = undefined;
      this.#write();
    });
  }

  /** Gives this connection up and makes another one. */
  reset(): void {
    this.#socket?.destroy();
  }

  /** For good: sends what is queued, and then keeps the process alive no longer. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    clearTimeout(this.#retry);
    clearImmediate(this.#flush);
    this.#isFull = false;
    this.#write();
    this.#socket?.unref();
    // One that is still being made has nothing to send, and is not to be used any more.
    if (this.#isOpen) this.#socket?.destroySoon();
    else this.#socket?.destroy();
  }

  #take(lines: readonly string[] | undefined): void {
    if (!lines) {
      this.#options.log.error('agent.line-too-long');
      this.reset();
      return;
    }
    for (const line of lines) {
      // A line can make its reader close or reset the connection; what comes after it belongs to nobody.
      if (this.#isClosed || this.#socket?.destroyed === true) return;
      if (line !== '') this.#options.listener.line(line);
    }
  }

  #write(): void {
    if (!this.#isOpen || this.#isFull || this.#unwritten === '') return;
    const text = this.#unwritten;
    this.#unwritten = '';
    this.#isFull = this.#socket?.write(text) === false;
  }

  #closed(): void {
    const wasOpen = this.#isOpen;
    const hasLasted = wasOpen && performance.now() - this.#openedAtMs >= PAUSE_MAX_MS;
    this.#isOpen = false;
    this.#isFull = false;
    this.#unwritten = '';
    if (this.#isClosed) return;
    this.#failures = hasLasted ? 1 : this.#failures + 1;
    const pauseMs = reconnectPauseMs(this.#failures, Math.random());
    this.#retry = setTimeout(() => {
      this.open();
    }, pauseMs);
    if (wasOpen) this.#options.listener.lost();
  }
}
