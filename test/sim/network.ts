/**
 * The way to Redis: connections that keep order, delay, break, and come back. As with the real client library, a call
 * whose reply was lost with its connection is sent again, so it may be executed twice, and not by the same Redis; calls of
 * different connections arrive in any order, and those of a process that has died may arrive long after it.
 */
import type { Faults } from './faults.ts';
import type { RedisHost, RedisHosts, SimRedis } from './redis.ts';
import { Refused } from './redis.ts';
import type { Process, World } from './world.ts';

/** Longest time to connect again when Redis is reachable, milliseconds. */
const RECONNECT_MS = 100;

interface Call {
  readonly execute: (redis: SimRedis) => unknown;
  readonly reply: (result: unknown) => void;
  readonly refused: (() => void) | undefined;
  /** A read waits for that key, at most so long; undefined for a write. */
  readonly block: { readonly key: string; readonly forMs: number } | undefined;
}

/** The network of one run. */
export class Network {
  readonly world: World;
  readonly faults: Faults;
  /** Set right after the hosts have been made. */
  hosts!: RedisHosts;
  readonly #connections = new Map<Process, Set<Connection>>();

  constructor(world: World, faults: Faults) {
    this.world = world;
    this.faults = faults;
  }

  connect(process: Process): Connection {
    let own = this.#connections.get(process);
    if (!own) {
      this.#connections.set(process, (own = new Set()));
      const opened = own;
      process.onDeath(() => {
        for (const connection of opened) connection.abandon();
        this.#connections.delete(process);
      });
    }
    const connection = new Connection(this, process);
    own.add(connection);
    return connection;
  }

  /** Cuts a process off from Redis; `isDeaf`: what it says arrives, and no answer comes back. */
  partition(process: Process, forMs: number, isDeaf: boolean): void {
    for (const connection of this.#connections.get(process) ?? []) {
      if (isDeaf) connection.deafen(forMs);
      else connection.break(forMs);
    }
  }

  /** Every connection to that host breaks; each at its own time within `withinMs`, for `downMs`. */
  breakAll(host: RedisHost, downMs: number, withinMs = 0): void {
    for (const connections of this.#connections.values()) {
      for (const connection of connections) {
        if (connection.host !== host) continue;
        if (withinMs === 0) connection.break(downMs);
        else {
          this.world.at(this.world.random.next() * withinMs, () => {
            if (connection.host === host) connection.break(downMs);
          });
        }
      }
    }
  }

  latencyMs(): number {
    const { world, faults } = this;
    if (world.random.chance(faults.slowCall)) return world.random.next() * faults.slowCallMs;
    return world.random.next() * 2 * faults.latencyMs;
  }
}

/** One connection of one process: first in, first out, there and back. */
export class Connection {
  readonly process: Process;
  readonly #network: Network;
  readonly #outstanding: Call[] = [];
  host: RedisHost;
  /** The id that Redis has given it. */
  id: number;
  /** One more each time that it breaks: what belongs to an earlier one is lost. */
  #generation = 0;
  #isUp = true;
  #isDeaf = false;
  #arrivesAtMs = 0;
  #repliesAtMs = 0;

  constructor(network: Network, process: Process) {
    this.#network = network;
    this.process = process;
    this.host = network.hosts.primary;
    this.id = this.host.model.connect();
  }

  /** Sends a call until it is answered. `refused`: Redis has no memory for it. */
  call<T>(execute: (redis: SimRedis) => T, reply: (result: T) => void, refused?: () => void): void {
    this.#send({ execute, reply: reply as Call['reply'], refused, block: undefined });
  }

  /** Reads until there is something, or for that time. A connection with a blocked read has nothing else. */
  read<T>(
    block: { readonly key: string; readonly forMs: number },
    execute: (redis: SimRedis) => T[],
    reply: (result: T[]) => void,
  ): void {
    this.#send({ execute, reply: reply as Call['reply'], refused: undefined, block });
  }

  break(downMs: number): void {
    if (!this.#isUp) return;
    this.#isUp = false;
    this.#isDeaf = false;
    this.#generation += 1;
    this.host.model.disconnect(this.id);
    this.#reconnect(downMs);
  }

  /** Nothing comes back for that time; then the connection turns out to be dead. */
  deafen(forMs: number): void {
    if (!this.#isUp || this.#isDeaf) return;
    this.#isDeaf = true;
    const generation = this.#generation;
    this.#network.world.at(forMs, () => {
      if (generation === this.#generation) this.break(0);
    });
  }

  /** Its process is gone, and the kernel tells Redis so. */
  abandon(): void {
    this.host.model.disconnect(this.id);
    this.#network.world.at(0, () => {
      this.host.wake('leader');
    });
  }

  #reconnect(downMs: number): void {
    const { world, hosts } = this.#network;
    world.at(downMs + world.random.next() * RECONNECT_MS, () => {
      if (!this.process.isAlive) return;
      if (!hosts.primary.isUp) {
        this.#reconnect(RECONNECT_MS);
        return;
      }
      this.#isUp = true;
      this.host = hosts.primary;
      this.id = this.host.model.connect();
      this.#arrivesAtMs = 0;
      this.#repliesAtMs = 0;
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
    const { host } = this;
    const generation = this.#generation;
    this.#arrivesAtMs = Math.max(
      this.#arrivesAtMs,
      world.nowMs + this.#network.latencyMs(),
      host.slowUntilMs,
    );
    const arrivesInMs = this.#arrivesAtMs - world.nowMs;
    world.at(arrivesInMs, () => {
      if (generation === this.#generation) this.#execute(call, generation);
      else if (!call.block && random.chance(faults.lateCall)) this.#executeLate(call, host);
    });
    if (random.chance(faults.breakCall)) {
      world.at(random.next() * 2 * arrivesInMs, () => {
        this.break(random.exponential(300));
      });
    }
  }

  /** Nobody hears the answer any more. */
  #executeLate(call: Call, host: RedisHost): void {
    const { world } = this.#network;
    world.at(world.random.exponential(world.random.pick([100, 1000, 5000])), () => {
      if (!host.isUp) return;
      try {
        call.execute(host.redis);
      } catch (error) {
        if (!(error instanceof Refused)) throw error;
      }
    });
  }

  #execute(call: Call, generation: number): void {
    const { host } = this;
    const answer = (result: unknown): void => {
      this.#answer(call, generation, result);
    };
    if (call.block) {
      const { key, forMs } = call.block;
      const read = (): unknown[] =>
        generation === this.#generation && this.process.isAlive
          ? (call.execute(host.redis) as unknown[])
          : [];
      host.block(key, read, forMs, answer);
      return;
    }
    try {
      answer(call.execute(host.redis));
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      answer(error);
    }
  }

  #answer(call: Call, generation: number, result: unknown): void {
    const { world } = this.#network;
    this.#repliesAtMs = Math.max(this.#repliesAtMs, world.nowMs + this.#network.latencyMs());
    world.at(this.#repliesAtMs - world.nowMs, () => {
      if (generation !== this.#generation || this.#isDeaf) return;
      this.#outstanding.splice(this.#outstanding.indexOf(call), 1);
      this.process.run(() => {
        if (!(result instanceof Refused)) call.reply(result);
        else if (call.refused) call.refused();
        else throw result;
      });
    });
  }
}
