/**
 * A cluster of several nodes: each a private systemd with its agent as its unit file starts it, and a way of its own to Redis.
 * A node can lose its power and be booted again, and it can be cut off. Redis and one master are beside them.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { bootUnitsNode, execLine, type UnitsNode } from './cluster-units.ts';
import { Gateway } from '../chaos/gateway.ts';
import { type Ended, KAON, type Running, startCommand, TREE, until } from './cluster.ts';
import { type RedisBed, startRedisBed } from './redis.ts';

const AGENT = 'kaon-agent.service';

/** Where a node finds Redis: the same on each, and behind it each has its own way. */
export const NODE_REDIS = 'unix:///run/kaon-redis.sock';

export interface NodeOptions {
  /** Also the agent's id. */
  readonly name: string;
  /** As `kaon agent --resources` takes it. */
  readonly resources: string;
  /** `KEY=VALUE`. */
  readonly attributes?: readonly string[];
}

export interface NodesBed {
  readonly redis: RedisBed;
  /** For whatever a test needs; gone after `stop`. */
  readonly directory: string;
  /** Runs `kaon ARGS` to its end. */
  kaon(...args: string[]): Promise<Ended>;
  start(...args: string[]): Running;
  /** The nodes that have power, by name. */
  readonly nodes: ReadonlyMap<string, UnitsNode>;
  /** As a power cut does it: nothing on the node says goodbye. */
  cutPower(name: string): Promise<void>;
  /** A node that has lost its power, or was never there. Resolves when its agent is active. */
  boot(name: string): Promise<void>;
  /** Nothing passes between the node and Redis, until `resume`. */
  cutOff(name: string): void;
  resume(name: string): void;
  stop(): Promise<void>;
}

/** @param masterArgs more arguments of `kaon master` */
export async function startNodesBed(
  options: readonly NodeOptions[],
  masterArgs: readonly string[] = [],
): Promise<NodesBed> {
  const redis = await startRedisBed();
  const directory = mkdtempSync(join(tmpdir(), 'kaon-bed-nodes-'));
  chmodSync(directory, 0o711);
  const start = (...argv: string[]): Running =>
    startCommand([process.execPath, KAON, ...argv], { KAON_REDIS: redis.url });
  const kaon = (...argv: string[]): Promise<Ended> => start(...argv).ended;
  const master = startMaster(redis.url, join(directory, 'master.log'), masterArgs);
  const nodes = new Map<string, UnitsNode>();
  const ways = new Map<string, Gateway>();
  const bed: NodesBed = {
    redis,
    directory,
    kaon,
    start,
    nodes,
    cutPower: async (name) => {
      await nodes.get(name)?.stop();
      nodes.delete(name);
    },
    boot: async (name) => {
      const node = options.find((each) => each.name === name);
      if (!node) throw new Error(`no node ${name}`);
      const way = ways.get(name) ?? (await openWay(join(directory, `${name}.sock`), redis));
      ways.set(name, way);
      nodes.set(name, await bootNode(node, directory, way.path));
      await until(async () => await isActive(bed, name));
    },
    cutOff: (name) => ways.get(name)?.stall(),
    resume: (name) => ways.get(name)?.resume(),
    stop: async () => {
      await Promise.all([...nodes.values()].map((node) => node.stop()));
      await Promise.all([...ways.values()].map((way) => way.close()));
      await endMaster(master);
      await redis.stop();
      rmSync(directory, { recursive: true, force: true });
    },
  };
  try {
    for (const { name } of options) await bed.boot(name);
    return bed;
  } catch (error) {
    const said = readFileSync(join(directory, 'master.log'), 'utf8');
    await bed.stop();
    throw new Error(`the nodes did not come up; the master said: ${said}`, { cause: error });
  }
}

async function isActive(bed: NodesBed, name: string): Promise<boolean> {
  const { stdout } = await bed.kaon('agents', '--json');
  const agents = JSON.parse(stdout === '' ? '[]' : stdout) as {
    info: { agentId: string };
    state: string;
    session?: string;
  }[];
  return agents.some(
    ({ info, state, session }) =>
      info.agentId === name && state === 'active' && session !== undefined,
  );
}

function openWay(path: string, { socketPath }: RedisBed): Promise<Gateway> {
  return Gateway.open(path, () => ({ path: socketPath }));
}

async function bootNode(
  { name, resources, attributes = [] }: NodeOptions,
  directory: string,
  redisPath: string,
): Promise<UnitsNode> {
  const own = join(directory, name);
  mkdirSync(join(own, 'boot'), { recursive: true });
  const node = await bootUnitsNode(join(own, 'boot'));
  await node.run('ln', '-s', redisPath, NODE_REDIS.replace('unix://', ''));
  const argv = [process.execPath, KAON, 'agent', '--redis', NODE_REDIS, '--agent-id', name];
  argv.push('--state-dir', join(own, 'state'), '--resources', resources);
  // The way to Redis leads through the bed's directory, and is root's.
  argv.push('--expose', directory, '--expose', TREE, '--task-user', 'root', '--allow-root');
  argv.push(...attributes.flatMap((each) => ['--attribute', each]));
  const log = `append:${join(own, 'agent.log')}`;
  const lines = ['[Service]', 'ExecStart=', `ExecStart=${execLine(argv)}`];
  lines.push(`StandardOutput=${log}`, `StandardError=${log}`, '');
  await node.install(AGENT, lines.join('\n'));
  await node.systemctl('start', AGENT);
  return node;
}

function startMaster(redis: string, logPath: string, args: readonly string[]): ChildProcess {
  const log = openSync(logPath, 'a');
  const argv = [process.execPath, KAON, 'master', '--redis', redis, ...args];
  // It must not outlive the test, however that ends.
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', ...argv], {
    stdio: ['ignore', log, log],
  });
  closeSync(log);
  return child;
}

async function endMaster(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((done) => child.once('exit', done));
  child.kill('SIGKILL');
  await ended;
}
