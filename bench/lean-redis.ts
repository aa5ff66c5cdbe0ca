/**
 * The least that a load generator needs of a Redis client: commands in order over a unix socket, everything of one turn
 * in one write. No reconnection, no types: what it costs is taken from the cores that are measured.
 */
import { connect } from 'node:net';
import type { Socket } from 'node:net';

/** Strings, numbers, null, and lists of them. */
export type Reply = string | number | null | Reply[];

interface Waiting {
  readonly resolve: (reply: Reply) => void;
  readonly reject: (error: Error) => void;
}

const CR = 13;
const LF_WIDTH = 2;

/** One connection. */
export class LeanRedis {
  readonly #socket: Socket;
  readonly #waiting: Waiting[] = [];
  #outgoing: string[] = [];
  #incoming: Buffer = Buffer.alloc(0);
  #at = 0;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('data', (chunk) => {
      this.#receive(chunk);
    });
  }

  static open(path: string): Promise<LeanRedis> {
    return new Promise((resolve, reject) => {
      const socket = connect(path);
      socket.once('error', reject);
      socket.once('connect', () => {
        resolve(new LeanRedis(socket));
      });
    });
  }

  call(...args: readonly (string | number)[]): Promise<Reply> {
    let text = `*${args.length}\r\n`;
    for (const arg of args) {
      const part = String(arg);
      text += `$${Buffer.byteLength(part)}\r\n${part}\r\n`;
    }
    if (this.#outgoing.length === 0) {
      setImmediate(() => {
        this.#socket.write(this.#outgoing.join(''));
        this.#outgoing = [];
      });
    }
    this.#outgoing.push(text);
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  close(): void {
    this.#socket.destroy();
  }

  #receive(chunk: Buffer): void {
    this.#incoming = this.#incoming.length === 0 ? chunk : Buffer.concat([this.#incoming, chunk]);
    this.#at = 0;
    let taken = 0;
    while (taken < this.#incoming.length) {
      const reply = this.#parse();
      if (reply === undefined) break;
      taken = this.#at;
      const waiting = this.#waiting.shift();
      if (reply instanceof Error) waiting?.reject(reply);
      else waiting?.resolve(reply);
    }
    this.#incoming = this.#incoming.subarray(taken);
  }

  /** @returns undefined if the rest has not arrived yet */
  #parse(): Reply | Error | undefined {
    const kind = String.fromCharCode(this.#incoming[this.#at] ?? 0);
    const line = this.#line();
    if (line === undefined) return undefined;
    if (kind === '+') return line;
    if (kind === '-') return new Error(line);
    const length = Number(line);
    if (kind === ':') return length;
    if (length < 0) return null;
    return kind === '$' ? this.#text(length) : this.#list(length);
  }

  #text(length: number): string | undefined {
    const end = this.#at + length;
    if (end + LF_WIDTH > this.#incoming.length) return undefined;
    const text = this.#incoming.toString('utf8', this.#at, end);
    this.#at = end + LF_WIDTH;
    return text;
  }

  #list(length: number): Reply[] | Error | undefined {
    const list: Reply[] = [];
    for (let index = 0; index < length; index += 1) {
      const item = this.#parse();
      if (item === undefined || item instanceof Error) return item;
      list.push(item);
    }
    return list;
  }

  #line(): string | undefined {
    const end = this.#incoming.indexOf(CR, this.#at);
    if (end === -1 || end + 1 >= this.#incoming.length) return undefined;
    const line = this.#incoming.toString('latin1', this.#at + 1, end);
    this.#at = end + LF_WIDTH;
    return line;
  }
}
