/**
 * The way to Redis: connections that keep order, delay, break, and come back. As with the real client library, a call
 * whose reply was lost with its connection is sent again, so it may be executed twice; calls of different connections
 * arrive in any order.
 */
import type { Faults } from './faults.ts';
import type { Process, World } from './world.ts';

/** No process is started again sooner than so long after its death. */
export const SUCCESSOR_MIN_MS = 50;

interface Call {
  readonly execute: () => unknown;
  readonly reply: (result: unknown) => void;
  /** A read that waits for something to read, at most so long; undefined for a write. */
  readonly blockMs: number | undefined;
}

/** The network of one run. */
export class Network {
  readonly world: World;
  readonly faults: Faults;
  readonly #connections = new Set<Connection>();
  /** Blocked reads; each looks again after a write. */
  readonly #waiting = new Set<() => void>();

  constructor(world: World, faults: Faults) {
    this.world = world;
    this.faults = faults;
  }

  connect(process: Process): Connection {
    for (const connection of this.#connections) {
      if (!connection.process.isAlive) this.#connections.delete(connection);
    }
    const connection = new Connection(this, process);
    this.#connections.add(connection);
    return connection;
  }

  /** Cuts a process off from Redis. */
  partition(process: Process, forMs: number): void {
    for (const connection of this.#connections) {
      if (connection.process === process) connection.break(forMs);
    }
  }

  /** To be called after each write. */
  wake(): void {
    for (const look of [...this.#waiting]) look();
  }

  /** Calls `done` with the first result that is not empty, or with the empty one after `blockMs`. */
  block(read: () => unknown[], blockMs: number, done: (result: unknown) => void): void {
    const first = read();
    if (first.length > 0 || blockMs <= 0) {
      done(first);
      return;
    }
    const finish = (result: unknown[]): void => {
      if (this.#waiting.delete(look)) done(result);
    };
    const look = (): void => {
      const found = read();
      if (found.length > 0) finish(found);
    };
    this.#waiting.add(look);
    this.world.at(blockMs, () => {
      finish([]);
    });
  }
}

/** One connection of one process: first in, first out, there and back. */
export class Connection {
  readonly process: Process;
  readonly #network: Network;
  readonly #outstanding: Call[] = [];
  /** One more each time that it breaks: what belongs to an earlier one is lost. */
  #generation = 0;
  #isUp = true;
  #arrivesAtMs = 0;
  #repliesAtMs = 0;

  constructor(network: Network, process: Process) {
    this.#network = network;
    this.process = process;
  }

  /** Sends a call until it is answered. */
  call<T>(execute: () => T, reply: (result: T) => void): void {
    this.#send({ execute, reply: reply as Call['reply'], blockMs: undefined });
  }

  /** Reads until there is something, or for `blockMs`. A connection with a blocked read has nothing else. */
  read<T>(execute: () => T[], blockMs: number, reply: (result: T[]) => void): void {
    this.#send({ execute, reply: reply as Call['reply'], blockMs });
  }

  break(downMs: number): void {
    if (!this.#isUp) return;
    this.#isUp = false;
    this.#generation += 1;
    const { world } = this.#network;
    world.at(downMs, () => {
      this.#isUp = true;
      this.#arrivesAtMs = 0;
      this.#repliesAtMs = 0;
      if (!this.process.isAlive) return;
      for (const call of this.#outstanding) this.#transmit(call);
    });
  }

  #send(call: Call): void {
    this.#outstanding.push(call);
    if (this.#isUp) this.#transmit(call);
  }

  #transmit(call: Call): void {
    const { world, faults } = this.#network;
    const { random } = world;
    const generation = this.#generation;
    this.#arrivesAtMs = Math.max(this.#arrivesAtMs, world.nowMs + this.#latencyMs());
    const arrivesInMs = this.#arrivesAtMs - world.nowMs;
    world.at(arrivesInMs, () => {
      if (this.#isBuried) return;
      if (generation === this.#generation) this.#execute(call, generation);
      else if (call.blockMs === undefined && random.chance(faults.lateCall)) {
        world.at(random.exponential(300), () => {
          if (!this.#isBuried) call.execute();
        });
      }
    });
    if (random.chance(faults.breakCall)) {
      world.at(random.next() * 2 * arrivesInMs, () => {
        this.break(random.exponential(300));
      });
    }
  }

  #execute(call: Call, generation: number): void {
    const answer = (result: unknown): void => {
      this.#answer(call, generation, result);
    };
    if (call.blockMs === undefined) answer(call.execute());
    else this.#network.block(call.execute as () => unknown[], call.blockMs, answer);
  }

  #answer(call: Call, generation: number, result: unknown): void {
    const { world } = this.#network;
    this.#repliesAtMs = Math.max(this.#repliesAtMs, world.nowMs + this.#latencyMs());
    world.at(this.#repliesAtMs - world.nowMs, () => {
      if (generation !== this.#generation) return;
      this.#outstanding.splice(this.#outstanding.indexOf(call), 1);
      this.process.after(0, () => {
        call.reply(result);
      });
    });
  }

  /**
   * What a process sent just before it died still arrives, but not after its successor has begun to speak.
   * That it may is a known hole: a registration of the dead one would then replace that of the living one.
   */
  get #isBuried(): boolean {
    return this.process.diedAtMs + SUCCESSOR_MIN_MS <= this.#network.world.nowMs;
  }

  #latencyMs(): number {
    const { world, faults } = this.#network;
    if (world.random.chance(faults.slowCall)) return world.random.next() * faults.slowCallMs;
    return world.random.next() * 2 * faults.latencyMs;
  }
}
