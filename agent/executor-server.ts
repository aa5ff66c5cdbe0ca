/**
 * The agent's unix socket, and the executors that are connected to it: lines of JSON, a token first. Nobody is believed
 * before that, nobody can make the agent keep more than a line, and who breaks the protocol is told so and cut off.
 */
import { chmodSync, rmSync } from 'node:fs';
import type { Server, Socket } from 'node:net';
import { createServer } from 'node:net';
import type { Clock } from '../io/clock.ts';
import type { Log } from '../io/log.ts';
import { KaonError, messageOf } from '../protocol/errors.ts';
import { ExecutorMessage } from '../protocol/executor-messages.ts';
import type { AgentToExecutor } from '../protocol/executor-messages.ts';
import type { LaunchId } from '../protocol/ids.ts';
import { EXECUTOR_LINE_MAX_BYTES } from '../protocol/limits.ts';
import { z } from 'zod';
import type { ExecutorRef } from './core/events.ts';

/** Who has connected and not yet said who it is may be silent so long, milliseconds. */
const INTRODUCTION_MS = 5000;
/** So many of them there may be, and what they have sent, bytes: for a new one the oldest has to go. */
const STRANGERS_MAX = 64;
const STRANGERS_MAX_BYTES = 64 * 1024 * 1024;
/** What an executor has not read when it is to be told more, bytes; beyond it is cut off, and comes back when it reads. */
const UNREAD_MAX_BYTES = 64 * 1024 * 1024;
/** From a farewell to the end of a connection whose other side does not close it. */
const FAREWELL_MS = 200;
/** So many messages of one executor are taken in a span; the rest waits in its socket. */
const MESSAGES_A_SPAN = 4000;
const SPAN_MS = 200;
/** Longest path of a unix socket, unix(7). */
const SOCKET_PATH_MAX_BYTES = 107;
const NEWLINE = 10;

type Introduction = Extract<ExecutorMessage, { type: 'RegisterExecutor' | 'ReregisterExecutor' }>;
/** What an executor says once it is known. */
export type KnownMessage = Exclude<ExecutorMessage, Introduction>;

/** Who decides who is who, and gets what they say. */
export interface ExecutorServerOptions {
  /** Absolute path of the socket. */
  readonly path: string;
  readonly clock: Clock;
  readonly log: Log;
  /**
   * @returns the executor that this is; undefined if it is none, or the token is not its own
   * @throws whatever keeps it from finding that out now; it may try again
   */
  readonly authenticate: (introduction: Introduction) => ExecutorRef | undefined;
  readonly onRegistered: (executor: ExecutorRef, introduction: Introduction) => void;
  readonly onMessage: (executor: ExecutorRef, message: KnownMessage) => void;
  readonly onDisconnected: (executor: ExecutorRef) => void;
  /** How long somebody who has not said who it is may be silent, milliseconds. Default 5 s. */
  readonly introductionMs?: number;
  /** What an executor may leave unread, bytes. Default 64 MiB. */
  readonly unreadMaxBytes?: number;
}

interface Connection {
  readonly socket: Socket;
  executor: ExecutorRef | undefined;
  /** The beginning of a line whose end has not come. */
  parts: Buffer[];
  bytes: number;
  outgoing: string[];
  spanEndMs: number;
  spanCount: number;
}

/** The socket from `listen` to `close`. */
export class ExecutorServer {
  readonly #options: ExecutorServerOptions;
  readonly #server: Server;
  readonly #known = new Map<LaunchId, Connection>();
  readonly #strangers = new Set<Connection>();
  readonly #dirty = new Set<Connection>();
  readonly #parse = compiledParser();

  constructor(options: ExecutorServerOptions) {
    this.#options = options;
    this.#server = createServer((socket) => {
      this.#accept(socket);
    });
  }

  /** @throws KaonError `executor-socket` if it cannot be made */
  async listen(): Promise<void> {
    const { path, log } = this.#options;
    if (Buffer.byteLength(path) > SOCKET_PATH_MAX_BYTES) {
      throw new KaonError(
        'executor-socket',
        `the path of the agent's socket is too long: ${path}`,
        {
          hint: `choose a --state-dir that makes it at most ${String(SOCKET_PATH_MAX_BYTES)} bytes`,
        },
      );
    }
    // Of an agent that was killed; this one has the lock on the directory.
    rmSync(path, { force: true });
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', (cause) => {
        const message = `the agent's socket ${path} cannot be made: ${messageOf(cause)}`;
        reject(new KaonError('executor-socket', message, { cause }));
      });
      this.#server.listen(path, resolve);
    });
    // Executors have users of their own; it is the token that counts.
    chmodSync(path, 0o666);
    this.#server.on('error', (error) => {
      log.warn('executor-socket.failed', { error: messageOf(error) });
    });
  }

  /** Tells an executor something, with the next `flush`. To one that is not connected nothing is said. */
  send(launchId: LaunchId, message: AgentToExecutor): void {
    const connection = this.#known.get(launchId);
    if (!connection) return;
    connection.outgoing.push(JSON.stringify(message));
    this.#dirty.add(connection);
  }

  /** Writes what was said in this turn, each executor's in one piece. */
  flush(): void {
    for (const connection of this.#dirty) this.#write(connection);
    this.#dirty.clear();
  }

  close(): void {
    this.#server.close();
    for (const { socket } of [...this.#strangers, ...this.#known.values()]) socket.destroy();
    this.#known.clear();
    this.#strangers.clear();
    this.#dirty.clear();
  }

  #accept(socket: Socket): void {
    const { log, introductionMs = INTRODUCTION_MS } = this.#options;
    const connection: Connection = {
      ...{ socket, executor: undefined, parts: [], bytes: 0, outgoing: [] },
      ...{ spanEndMs: 0, spanCount: 0 },
    };
    this.#strangers.add(connection);
    this.#makeRoom();
    socket.setTimeout(introductionMs, () => {
      this.#silent(connection);
    });
    socket.on('data', (chunk: Buffer) => {
      this.#read(connection, chunk);
    });
    socket.on('error', (error) => {
      log.debug('executor.connection-failed', { error: messageOf(error) });
    });
    socket.on('close', () => {
      this.#leave(connection);
    });
  }

  /** Who waits longest without a word has the least to say: nobody keeps executors away by connecting. */
  #makeRoom(): void {
    let bytes = 0;
    for (const stranger of this.#strangers) bytes += stranger.bytes;
    for (const stranger of this.#strangers) {
      if (this.#strangers.size <= STRANGERS_MAX && bytes <= STRANGERS_MAX_BYTES) return;
      this.#options.log.warn('executor.refused', { reason: 'too many have not said who they are' });
      bytes -= stranger.bytes;
      this.#leave(stranger);
      stranger.socket.destroy();
    }
  }

  /** It may have spoken while this process was busy: then that is read first. */
  #silent(connection: Connection): void {
    const { bytes } = connection;
    setImmediate(() => {
      if (!this.#strangers.has(connection) || connection.bytes !== bytes) return;
      this.#refuse(connection, 'no-registration', 'nobody has registered on this connection');
    });
  }

  #read(connection: Connection, chunk: Buffer): void {
    let start = 0;
    for (;;) {
      const end = chunk.indexOf(NEWLINE, start);
      const piece = chunk.subarray(start, end === -1 ? chunk.length : end);
      if (connection.bytes + piece.length > EXECUTOR_LINE_MAX_BYTES) {
        const limit = String(EXECUTOR_LINE_MAX_BYTES);
        this.#refuse(connection, 'too-large', `a line is longer than ${limit} bytes`);
        return;
      }
      if (end === -1) {
        this.#keep(connection, piece);
        return;
      }
      start = end + 1;
      const { parts } = connection;
      connection.parts = [];
      connection.bytes = 0;
      if (!this.#take(connection, parts.length === 0 ? piece : Buffer.concat([...parts, piece]))) {
        return;
      }
    }
  }

  #keep(connection: Connection, piece: Buffer): void {
    if (piece.length === 0) return;
    connection.parts.push(piece);
    connection.bytes += piece.length;
    if (!connection.executor) this.#makeRoom();
  }

  /** @returns false if the connection is not to be listened to any more */
  #take(connection: Connection, line: Buffer): boolean {
    const message = this.#parse(line.toString('utf8'));
    if ('problem' in message) {
      this.#refuse(connection, 'invalid', message.problem);
      return false;
    }
    this.#count(connection);
    const { executor } = connection;
    if (message.type === 'RegisterExecutor' || message.type === 'ReregisterExecutor') {
      return this.#introduce(connection, message);
    }
    if (!executor) {
      this.#refuse(connection, 'not-registered', `${message.type} before a registration`);
      return false;
    }
    this.#options.onMessage(executor, message);
    return true;
  }

  /** More than an executor may say in a span waits, so that one that floods takes no time from the others. */
  #count(connection: Connection): void {
    const { clock } = this.#options;
    const nowMs = clock.monotonicMs();
    if (nowMs >= connection.spanEndMs) {
      connection.spanEndMs = nowMs + SPAN_MS;
      connection.spanCount = 0;
    }
    connection.spanCount += 1;
    if (connection.spanCount !== MESSAGES_A_SPAN) return;
    connection.socket.pause();
    setTimeout(() => connection.socket.resume(), SPAN_MS).unref();
  }

  #introduce(connection: Connection, introduction: Introduction): boolean {
    const { onRegistered, log } = this.#options;
    const { frameworkId, executorId } = introduction;
    if (connection.executor) {
      this.#refuse(connection, 'registered', 'an executor registers once on a connection');
      return false;
    }
    let executor: ExecutorRef | undefined;
    try {
      executor = this.#options.authenticate(introduction);
    } catch (error) {
      log.error('executor.not-checked', { frameworkId, executorId, error: messageOf(error) });
      // Without a word: one that is refused would not come again.
      connection.socket.destroy();
      return false;
    }
    if (!executor) {
      const message = `there is no executor ${executorId} of framework ${frameworkId} with that token here`;
      this.#refuse(connection, 'not-authenticated', message);
      return false;
    }
    connection.executor = executor;
    connection.socket.setTimeout(0);
    this.#strangers.delete(connection);
    const before = this.#known.get(executor.launchId);
    this.#known.set(executor.launchId, connection);
    before?.socket.destroy();
    onRegistered(executor, introduction);
    return true;
  }

  #refuse(connection: Connection, code: string, message: string): void {
    const { socket, executor } = connection;
    this.#options.log.warn('executor.protocol-error', { code, message, key: executor?.key });
    const farewell = { type: 'ExecutorError' as const, code, message: message.slice(0, 1000) };
    connection.outgoing.push(JSON.stringify(farewell));
    this.#write(connection);
    connection.parts = [];
    socket.removeAllListeners('data');
    socket.end();
    socket.resume();
    // One that does not close its side keeps nothing of ours.
    setTimeout(() => socket.destroy(), FAREWELL_MS).unref();
    this.#leave(connection);
  }

  #write({ socket, outgoing, executor }: Connection): void {
    const { log, unreadMaxBytes = UNREAD_MAX_BYTES } = this.#options;
    if (outgoing.length === 0 || !socket.writable) return;
    const text = `${outgoing.splice(0).join('\n')}\n`;
    if (socket.writableLength <= unreadMaxBytes) socket.write(text);
    else {
      log.warn('executor.not-reading', { key: executor?.key, unreadBytes: socket.writableLength });
      socket.destroy();
    }
  }

  /** Once: from here on nothing is said to it and nothing heard of it. */
  #leave(connection: Connection): void {
    this.#strangers.delete(connection);
    this.#dirty.delete(connection);
    const { executor } = connection;
    if (!executor || this.#known.get(executor.launchId) !== connection) return;
    this.#known.delete(executor.launchId);
    this.#options.onDisconnected(executor);
  }
}

type Parsed = ExecutorMessage | { readonly problem: string };

/** Compiled, because an executor may speak thousands of times a second. */
function compiledParser(): (line: string) => Parsed {
  const compiled = z.compile(ExecutorMessage);
  return (line) => {
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch (error) {
      return { problem: `not a line of JSON: ${messageOf(error)}` };
    }
    const result = compiled.safeParse(value);
    if (result.success) return result.data;
    const [issue] = result.error.issues;
    const where = issue?.path.map(String).join('.') ?? '';
    return { problem: `not a message of an executor: ${where}: ${issue?.message ?? ''}` };
  };
}
