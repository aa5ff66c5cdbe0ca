/**
 * The way of one client to Redis: a unix socket that passes everything on, until it is told to stall, to delay, to
 * refuse, or to break off in the middle of a reply. A network partition for one process, without a network.
 */
import { connect, createServer, type Server, type Socket } from 'node:net';
import type { ServerAddress } from '../beds/redis-process.ts';

interface Pair {
  readonly client: Socket;
  server: Socket | undefined;
}

export class Gateway {
  readonly path: string;
  readonly #target: () => ServerAddress;
  readonly #server: Server;
  readonly #pairs = new Set<Pair>();
  #isStalled = false;
  #delayMs = 0;
  #cutsNextReply = false;

  private constructor(path: string, target: () => ServerAddress) {
    this.path = path;
    this.#target = target;
    this.#server = createServer((client) => this.#accept(client));
  }

  /** @param target where new connections go */
  static async open(path: string, target: () => ServerAddress): Promise<Gateway> {
    const gateway = new Gateway(path, target);
    await new Promise<void>((resolve, reject) => {
      gateway.#server.once('error', reject);
      gateway.#server.listen(path, resolve);
    });
    return gateway;
  }

  get url(): string {
    return `unix://${this.path}`;
  }

  /** Nothing passes, and nobody is told: what a network does that drops packets. */
  stall(): void {
    this.#isStalled = true;
    for (const { client, server } of this.#pairs) {
      client.pause();
      server?.pause();
    }
  }

  resume(): void {
    this.#isStalled = false;
    for (const pair of this.#pairs) {
      if (pair.server) pair.server.resume();
      else this.#connect(pair);
      pair.client.resume();
    }
  }

  /** @param delayMs on each way, from now on; 0 ends it */
  delay(delayMs: number): void {
    this.#delayMs = delayMs;
  }

  /** The next reply arrives in half, and its connection ends. */
  cutNextReply(): void {
    this.#cutsNextReply = true;
  }

  /** Ends all connections; clients come again. */
  drop(): void {
    for (const pair of [...this.#pairs]) this.#end(pair);
  }

  async close(): Promise<void> {
    this.drop();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  #accept(client: Socket): void {
    const pair: Pair = { client, server: undefined };
    this.#pairs.add(pair);
    client.on('error', () => this.#end(pair));
    client.on('close', () => this.#end(pair));
    if (this.#isStalled) client.pause();
    else this.#connect(pair);
  }

  #connect(pair: Pair): void {
    const server = connectTo(this.#target());
    pair.server = server;
    server.on('error', () => this.#end(pair));
    server.on('close', () => this.#end(pair));
    pair.client.on('data', (chunk: Buffer) => this.#pass(server, chunk));
    server.on('data', (chunk: Buffer) => {
      if (!this.#cutsNextReply) return this.#pass(pair.client, chunk);
      this.#cutsNextReply = false;
      pair.client.write(chunk.subarray(0, chunk.length / 2), () => this.#end(pair));
    });
  }

  #pass(to: Socket, chunk: Buffer): void {
    if (this.#delayMs === 0) to.write(chunk);
    else
      setTimeout(() => {
        if (!to.destroyed) to.write(chunk);
      }, this.#delayMs);
  }

  #end(pair: Pair): void {
    this.#pairs.delete(pair);
    pair.client.destroy();
    pair.server?.destroy();
  }
}

/** A connection to a unix socket or a port. */
export function connectTo({ path, host, port }: ServerAddress): Socket {
  return path === undefined ? connect(port ?? 0, host) : connect(path);
}
