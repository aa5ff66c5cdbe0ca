/**
 * The unix socket of a node's agent: a path at which nobody or one agent listens, and pipes between it and executors. What
 * was written before its writer died is still read by the other side; what was on its way on a pipe that breaks is lost.
 */
import type { AgentToExecutor, ExecutorMessage } from '../../protocol/executor-messages.ts';
import type { Process, World } from './world.ts';

/** Longest time from one end to the other, milliseconds. */
const DELAY_MAX_MS = 1;

/** Who is at one end of a pipe. */
export interface PipeEnd<T> {
  readonly process: Process;
  line(message: T): void;
  /** The other end is gone. Not told to who has closed it. */
  closed(): void;
}

/** The path: an agent listens on it, or there is only a file without anybody behind it. */
export class SocketFile {
  #listener: ((pipe: Pipe) => PipeEnd<ExecutorMessage>) | undefined;
  readonly #pipes = new Set<Pipe>();
  readonly #world: World;

  constructor(world: World) {
    this.#world = world;
  }

  /** Until the process dies. */
  listen(process: Process, accept: (pipe: Pipe) => PipeEnd<ExecutorMessage>): void {
    this.#listener = accept;
    process.onDeath(() => {
      if (this.#listener === accept) this.#listener = undefined;
    });
  }

  /** @returns undefined if nobody listens */
  connect(client: PipeEnd<AgentToExecutor>): Pipe | undefined {
    if (!this.#listener) return undefined;
    const pipe = new Pipe(this.#world, client, () => {
      this.#pipes.delete(pipe);
    });
    this.#pipes.add(pipe);
    pipe.attach(this.#listener(pipe));
    return pipe;
  }

  /** The connection of one of those who are connected breaks. */
  breakOne(): boolean {
    if (this.#pipes.size === 0) return false;
    this.#world.random.pick([...this.#pipes]).break();
    return true;
  }
}

/** One connection: in order, there and back. */
export class Pipe {
  readonly #world: World;
  readonly #client: PipeEnd<AgentToExecutor>;
  readonly #onClosed: () => void;
  #server: PipeEnd<ExecutorMessage> | undefined;
  /** Who has closed it. */
  #closed: 'client' | 'server' | 'fault' | undefined;
  #atServerMs = 0;
  #atClientMs = 0;

  constructor(world: World, client: PipeEnd<AgentToExecutor>, onClosed: () => void) {
    this.#world = world;
    this.#client = client;
    this.#onClosed = onClosed;
    client.process.onDeath(() => {
      this.closeByClient();
    });
  }

  attach(server: PipeEnd<ExecutorMessage>): void {
    this.#server = server;
    server.process.onDeath(() => {
      this.closeByServer();
    });
  }

  get isOpen(): boolean {
    return this.#closed === undefined;
  }

  toServer(message: ExecutorMessage): void {
    const server = this.#server;
    if (!this.isOpen || !server) return;
    this.#atServerMs = this.#after(this.#atServerMs, server.process, () => {
      if (this.#isHeardBy('server')) server.line(message);
    });
  }

  toClient(message: AgentToExecutor): void {
    if (!this.isOpen) return;
    const client = this.#client;
    this.#atClientMs = this.#after(this.#atClientMs, client.process, () => {
      if (this.#isHeardBy('client')) client.line(message);
    });
  }

  /** Who has closed its own end reads no more. */
  #isHeardBy(end: 'client' | 'server'): boolean {
    return this.#closed !== end && this.#closed !== 'fault';
  }

  closeByServer(): void {
    if (!this.#close('server')) return;
    this.#after(this.#atClientMs, this.#client.process, () => {
      this.#client.closed();
    });
  }

  closeByClient(): void {
    const server = this.#server;
    if (!this.#close('client') || !server) return;
    this.#after(this.#atServerMs, server.process, () => {
      server.closed();
    });
  }

  /** Both ends see that the other one is gone. */
  break(): void {
    const server = this.#server;
    if (!this.#close('fault') || !server) return;
    this.#world.at(0, () => {
      this.#client.process.run(() => {
        this.#client.closed();
      });
      server.process.run(() => {
        server.closed();
      });
    });
  }

  #close(by: 'client' | 'server' | 'fault'): boolean {
    if (!this.isOpen) return false;
    this.#closed = by;
    this.#onClosed();
    return true;
  }

  /** @returns when it arrives: what is said later does not arrive before it */
  #after(notBeforeMs: number, process: Process, run: () => void): number {
    const { nowMs, random } = this.#world;
    const atMs = Math.max(notBeforeMs, nowMs + random.next() * DELAY_MAX_MS);
    this.#world.at(atMs - nowMs, () => {
      process.run(run);
    });
    return atMs;
  }
}
