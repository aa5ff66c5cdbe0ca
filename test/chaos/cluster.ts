/** All parts of a campaign's cluster, started in order and ended in the other. */
import { spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { FrameworkChild } from './child.ts';
import type { Chronicle } from './chronicle.ts';
import { CommitWatch } from './commits.ts';
import { Gateway } from './gateway.ts';
import { Load, type LoadOptions } from './load.ts';
import { Master } from './masters.ts';
import { Node } from './node.ts';
import type { PlannedFault } from './plan.ts';
import { readRecords, type FrameworkRecord } from './records.ts';
import { RedisPair, type ChaosRedis } from './redis-pair.ts';
import { WatchedRedis } from './redis-sentinel.ts';
import type { Surroundings } from './surroundings.ts';

const MASTERS = 3;
const NODES = 2;
const PREFIX = 'kaon:{default}:';

export interface ClusterOptions {
  readonly directory: string;
  readonly seed: number;
  /** Built programs: `kaon.js`, `clock-shim.mjs`, `framework-child.mjs`. */
  readonly programs: string;
  readonly chronicle: Chronicle;
  /** Redis is watched by Sentinel, and clients find it there. */
  readonly isWatched: boolean;
}

export class Cluster {
  readonly redis: ChaosRedis;
  readonly watch: CommitWatch;
  readonly clockPath: string;
  readonly runsPath: string;
  readonly masters: Master[] = [];
  readonly nodes: Node[] = [];
  child!: FrameworkChild;
  readonly #loads: Load[] = [];
  readonly #recordPaths: string[] = [];
  readonly #gateways: Gateway[] = [];
  readonly #options: ClusterOptions;

  private constructor(options: ClusterOptions, redis: ChaosRedis) {
    this.#options = options;
    this.redis = redis;
    this.watch = new CommitWatch(() => redis.address);
    this.clockPath = join(options.directory, 'clock');
    this.runsPath = join(options.directory, 'runs');
  }

  /** A part that does not start ends those that did. */
  static async start(options: ClusterOptions): Promise<Cluster> {
    mkdirSync(options.directory, { recursive: true });
    let cluster: Cluster | undefined = undefined;
    const redis = options.isWatched
      ? await WatchedRedis.start(() => cluster?.watch.follow())
      : await RedisPair.start(options.directory);
    cluster = new Cluster(options, redis);
    try {
      await cluster.#startDaemons();
      await cluster.#startFrameworks();
      return cluster;
    } catch (error) {
      await cluster.stop();
      throw error;
    }
  }

  /** The master that leads, or one that does not. */
  async findMaster(role: 'leader' | 'standby'): Promise<Master | undefined> {
    const leader = String(await this.redis.call('GET', `${PREFIX}leader`).catch(() => ''));
    const isLeader = ({ masterId }: Master): boolean =>
      masterId !== undefined && leader.endsWith(` ${masterId}`);
    return this.masters.find((master) => isLeader(master) === (role === 'leader'));
  }

  nodeOf(fault: PlannedFault): Node {
    const node = this.nodes[Math.floor(fault.whom * this.nodes.length)];
    if (!node) throw new Error('a cluster without nodes');
    return node;
  }

  dropConnections(): void {
    const ours = [...this.masters, ...this.nodes].map(({ gateway }) => gateway);
    for (const gateway of [...ours, ...this.#gateways]) gateway.drop();
  }

  records(): FrameworkRecord[] {
    return this.#recordPaths.flatMap(readRecords);
  }

  drain(): void {
    for (const load of [...this.#loads, this.child]) load.drain();
  }

  isDrained(): boolean {
    return this.#recordPaths.every((path) =>
      readRecords(path).some(({ type }) => type === 'drained'),
    );
  }

  /** What is still there of tasks and offers, on the nodes and in the registry. */
  async leftovers(): Promise<string[]> {
    const onNodes = await Promise.all(this.nodes.map((node) => node.leftovers()));
    const inRegistry = await Promise.all(['tasks', 'offers'].map((name) => this.registry(name)));
    return [...onNodes.flat(), ...inRegistry.flat()];
  }

  async registry(name: string): Promise<string[]> {
    const fields = (await this.redis.call('HKEYS', `${PREFIX}registry:${name}`)) as string[];
    return fields.map((field) => `registry: ${name} ${field}`);
  }

  async stopFrameworks(): Promise<void> {
    await Promise.all(
      [...this.#loads, ...(this.child ? [this.child] : [])].map((one) => one.stop()),
    );
  }

  async stop(): Promise<void> {
    this.watch.stop();
    await Promise.all(this.nodes.map((node) => node.stop()));
    await Promise.all(this.masters.map((master) => master.stop()));
    await Promise.all(this.#gateways.map((gateway) => gateway.close()));
    await this.redis.stop();
  }

  async #startDaemons(): Promise<void> {
    const { directory, programs, chronicle } = this.#options;
    const shim = `--import=${join(programs, 'clock-shim.mjs')}`;
    const surroundings: Surroundings = {
      directory,
      chronicle,
      redis: this.redis,
      kaon: [process.execPath, join(programs, 'dist', 'kaon.js')],
      environment: { NODE_OPTIONS: shim, CHAOS_CLOCK: this.clockPath },
    };
    for (let index = 1; index <= MASTERS; index += 1)
      this.masters.push(await Master.start(surroundings, index));
    for (let index = 1; index <= NODES; index += 1)
      this.nodes.push(await Node.start(surroundings, index));
  }

  async #startFrameworks(): Promise<void> {
    const { programs } = this.#options;
    for (const style of ['says', 'takes'] as const) {
      const options = await this.#loadOptions(style, style);
      const load = new Load({ ...options, killAsOperator: (id) => this.#killAsOperator(id) });
      load.start();
      this.#loads.push(load);
    }
    const child = await this.#loadOptions('child', 'says');
    this.child = new FrameworkChild(join(programs, 'framework-child.mjs'), child);
  }

  async #loadOptions(name: string, style: 'says' | 'takes'): Promise<LoadOptions> {
    const { directory, seed } = this.#options;
    const path = join(directory, `framework-${name}.sock`);
    const gateway = await Gateway.open(path, () => this.redis.address);
    this.#gateways.push(gateway);
    const recordPath = join(directory, `${name}.jsonl`);
    this.#recordPaths.push(recordPath);
    const index = this.#gateways.length;
    return {
      name,
      redis: this.redis.url ?? gateway.url,
      seed: seed * 10 + index,
      runsPath: this.runsPath,
      recordPath,
      tasksAtOnce: 6,
      style,
    };
  }

  /** Its result does not count: a kill that got lost is asked for again. */
  #killAsOperator(taskId: string): void {
    const { path = '' } = this.redis.address;
    const url = this.redis.url ?? `unix://${path}`;
    const kaon = join(this.#options.programs, 'dist', 'kaon.js');
    const argv = ['--pdeathsig', 'KILL', process.execPath, kaon, 'kill', taskId, '--redis', url];
    const kill = spawn('setpriv', argv, { stdio: 'ignore', timeout: 10_000 });
    kill.once('exit', (code) =>
      this.#options.chronicle.note('operator', `kaon kill ${taskId} ended with ${String(code)}`),
    );
  }
}
