/**
 * A Redis and its replica. Clients come through gateways that ask where the primary is, so that a failover looks to
 * them as it does behind a virtual address: the connection ends, and the next one is to another server, with other data.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ask, endProcess, freePorts, type ServerAddress } from '../beds/redis-process.ts';

const START_TIMEOUT_MS = 120_000;
const POLL_MS = 20;

/** The Redis of a campaign, whatever watches over it. */
export interface ChaosRedis {
  /** What daemons are given instead of a way of their own; undefined where each has its gateway. */
  readonly url: string | undefined;
  /** Of the primary at this moment. */
  readonly address: ServerAddress;
  /** One command on the primary, on a connection of its own. */
  call(command: string, ...args: string[]): Promise<unknown>;
  /** SIGSTOP, and SIGCONT after so long. */
  pause(forMs: number): Promise<void>;
  /** SIGKILL, a pause, and a start with what it has kept. */
  crash(downMs: number): Promise<void>;
  /**
   * A replica takes over without what the primary has taken in its last `lostMs`.
   *
   * @param onSwitch called in the moment from which `address` is another one; not where Sentinel decides on it
   */
  failOver(lostMs: number, onSwitch: () => void): Promise<void>;
  stop(): Promise<void>;
}

interface RedisServer {
  readonly directory: string;
  readonly socket: string;
  readonly port: number;
  process: ChildProcess;
}

export class RedisPair implements ChaosRedis {
  readonly url = undefined;
  readonly #directory: string;
  #count = 0;
  #primary!: RedisServer;
  #replica!: RedisServer;

  private constructor(directory: string) {
    this.#directory = directory;
  }

  static async start(directory: string): Promise<RedisPair> {
    const pair = new RedisPair(directory);
    pair.#primary = await pair.#add();
    pair.#replica = await pair.#add(pair.#primary);
    return pair;
  }

  get address(): ServerAddress {
    return { path: this.#primary.socket };
  }

  async call(command: string, ...args: string[]): Promise<unknown> {
    return callAt(this.#primary.socket, command, ...args);
  }

  async pause(forMs: number): Promise<void> {
    const { process } = this.#primary;
    process.kill('SIGSTOP');
    await sleep(forMs);
    process.kill('SIGCONT');
  }

  /** It has its append-only file. */
  async crash(downMs: number): Promise<void> {
    await endProcess(this.#primary.process);
    await sleep(downMs);
    this.#primary.process = spawnServer(this.#primary);
    await answers(this.#primary);
  }

  /** A new replica follows it. */
  async failOver(lostMs: number, onSwitch: () => void): Promise<void> {
    const [old, next] = [this.#primary, this.#replica];
    await follows(next);
    await callAt(next.socket, 'REPLICAOF', 'NO', 'ONE');
    await sleep(lostMs);
    await endProcess(old.process);
    this.#primary = next;
    onSwitch();
    this.#replica = await this.#add(next);
  }

  async stop(): Promise<void> {
    await Promise.all([endProcess(this.#primary.process), endProcess(this.#replica.process)]);
  }

  async #add(of?: RedisServer): Promise<RedisServer> {
    this.#count += 1;
    const directory = join(this.#directory, `redis-${String(this.#count)}`);
    mkdirSync(directory);
    const [port = 0] = await freePorts(1);
    const rest = { directory, socket: join(directory, 'redis.sock'), port };
    const server = { ...rest, process: spawnServer(rest, of) };
    await answers(server);
    if (of) await follows(server);
    return server;
  }
}

function spawnServer(server: Omit<RedisServer, 'process'>, of?: RedisServer): ChildProcess {
  const argv = ['--port', String(server.port), '--bind', '127.0.0.1', '--dir', server.directory];
  argv.push('--unixsocket', server.socket, '--save', '', '--appendonly', 'yes');
  argv.push('--repl-diskless-sync-delay', '0', '--maxmemory-policy', 'noeviction');
  argv.push('--logfile', join(server.directory, 'redis.log'));
  if (of) argv.push('--replicaof', '127.0.0.1', String(of.port));
  return spawn('setpriv', ['--pdeathsig', 'KILL', 'redis-server', ...argv], {
    stdio: 'ignore',
    detached: true,
  });
}

async function answers(server: RedisServer): Promise<void> {
  await bounded(`redis-server in ${server.directory} answers`, async () => {
    return (await callAt(server.socket, 'PING').catch(() => undefined)) === 'PONG';
  });
}

async function follows(server: RedisServer): Promise<void> {
  await bounded(`the replica in ${server.directory} has caught up`, async () => {
    const info = String(await callAt(server.socket, 'INFO', 'replication'));
    return info.includes('master_link_status:up');
  });
}

async function bounded(what: string, holds: () => Promise<boolean>): Promise<void> {
  const deadlineMs = performance.now() + START_TIMEOUT_MS;
  while (!(await holds())) {
    if (performance.now() > deadlineMs) throw new Error(`not so in time: ${what}`);
    await sleep(POLL_MS);
  }
}

function callAt(socket: string, command: string, ...args: string[]): Promise<unknown> {
  return ask({ path: socket }, (redis) => redis.call(command, ...args));
}
