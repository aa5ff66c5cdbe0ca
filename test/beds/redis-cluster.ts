/**
 * A Redis Cluster of three masters that share all slots, on free loopback ports, with a replica each if that is asked
 * for. A node that stands still is not dead for the others; one that is killed is, once its failover is waited for.
 */
import type { ChildProcess } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  ask,
  endProcess,
  eventually,
  freePorts,
  LOOPBACK,
  startRedisProcess,
} from './redis-process.ts';

const MASTERS = 3;
const SLOTS = 16_384;
/** Longer than any machine stands still: else a replica takes over, or the cluster stops, for no reason of the test's. */
const PATIENT_MS = 600_000;
/** While a replica is to take over. */
const IMPATIENT_MS = 1000;
const FAILOVER_TIMEOUT_MS = 120_000;
const MIGRATE_TIMEOUT_MS = '60000';

export interface RedisClusterBed {
  /** `redis+cluster://...` with all nodes, as `kaon --redis` takes it. */
  readonly url: string;
  /** Of all nodes, masters first. */
  readonly ports: readonly number[];
  /** Port of the master that has the keys of one Kaon cluster. */
  ownerOf(cluster: string): Promise<number>;
  /** SIGKILL to one node. */
  kill(port: number): Promise<void>;
  /** Brings a node that was killed back, with what its append-only file has. */
  restart(port: number): Promise<void>;
  /**
   * Lets the living nodes see that `port` is dead. Resolves when another one has the keys of that Kaon cluster. Needs
   * replicas.
   */
  waitForFailover(cluster: string, port: number): Promise<void>;
  /** Moves all keys of one Kaon cluster to another master, key by key, as an operator does who adds a node. */
  moveSlot(cluster: string): Promise<void>;
  stop(): Promise<void>;
}

export interface RedisClusterBedOptions {
  /** For each master, default 0. */
  readonly replicas?: 0 | 1;
  /** Default `no`: a node that is started again has no data. */
  readonly appendonly?: 'yes' | 'no';
}

interface Node {
  readonly port: number;
  readonly argv: readonly string[];
  child: ChildProcess;
}

export async function startRedisClusterBed({
  replicas = 0,
  appendonly = 'no',
}: RedisClusterBedOptions = {}): Promise<RedisClusterBed> {
  const directory = mkdtempSync(join(tmpdir(), 'kaon-bed-redis-cluster-'));
  const count = MASTERS * (1 + replicas);
  const allPorts = await freePorts(count * 2);
  const ports = allPorts.slice(0, count);
  const nodes = await Promise.all(
    ports.map((port, index) =>
      startNode(directory, [port, allPorts[count + index] ?? 0], appendonly),
    ),
  );
  await form(nodes.slice(0, count).map((node, index) => [node.port, allPorts[count + index] ?? 0]));
  const nodeAt = (port: number): Node => {
    const node = nodes.find((each) => each.port === port);
    if (!node) throw new Error(`no node of this bed has port ${String(port)}`);
    return node;
  };
  const living = (): number[] =>
    nodes.filter(({ child }) => child.signalCode === null).map(({ port }) => port);
  const ownerOf = async (cluster: string): Promise<number> => {
    const [port = 0] = living();
    return (await ownerIn(port, cluster)).port;
  };
  return {
    url: `redis+cluster://${ports.map((port) => `${LOOPBACK}:${String(port)}`).join(',')}`,
    ports,
    ownerOf,
    kill: (port) => endProcess(nodeAt(port).child),
    restart: async (port) => {
      const node = nodeAt(port);
      node.child = await startRedisProcess(node.argv, at(port));
    },
    waitForFailover: async (cluster, port) => {
      await setNodeTimeout(living(), IMPATIENT_MS);
      await eventually(
        'another node has the slot',
        async () => {
          const owners = await Promise.all(living().map((each) => ownerIn(each, cluster)));
          const states = await Promise.all(living().map(isOk));
          return (
            states.every(Boolean) &&
            owners.every((owner) => owner.port === owners[0]?.port && owner.port !== port)
          );
        },
        FAILOVER_TIMEOUT_MS,
      );
      await setNodeTimeout(living(), PATIENT_MS);
    },
    moveSlot: async (cluster) => {
      const from = await ownerIn(living()[0] ?? 0, cluster);
      const masters = (await rangesIn(from.port)).map(([, , [, port]]) => port);
      const to = masters.find((port) => port !== from.port) ?? 0;
      await moveSlot(from, to, living());
    },
    stop: async () => {
      await Promise.all(nodes.map(({ child }) => endProcess(child)));
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

function at(port: number): { host: string; port: number } {
  return { host: LOOPBACK, port };
}

async function startNode(
  directory: string,
  [port, busPort]: readonly [number, number],
  appendonly: 'yes' | 'no',
): Promise<Node> {
  const own = join(directory, String(port));
  mkdirSync(own);
  const argv = ['--port', String(port), '--bind', LOOPBACK, '--dir', own];
  argv.push('--save', '', '--appendonly', appendonly, '--appendfsync', 'always');
  argv.push('--repl-diskless-sync-delay', '0');
  argv.push('--cluster-enabled', 'yes', '--cluster-port', String(busPort));
  argv.push('--cluster-node-timeout', String(PATIENT_MS));
  argv.push('--cluster-replica-validity-factor', '0');
  return { port, argv, child: await startRedisProcess(argv, at(port)) };
}

/** Gives out the slots, makes the nodes known to each other, and the rest of them replicas. */
async function form(
  addresses: readonly (readonly [port: number, busPort: number])[],
): Promise<void> {
  const ports = addresses.map(([port]) => port);
  const [first = 0] = ports;
  for (const [index, port] of ports.slice(0, MASTERS).entries()) {
    const from = Math.floor((index * SLOTS) / MASTERS);
    const to = Math.floor(((index + 1) * SLOTS) / MASTERS) - 1;
    await cluster(port, 'ADDSLOTSRANGE', from, to);
    // Two nodes that began with the same configuration epoch would have to settle who is newer.
    await cluster(port, 'SET-CONFIG-EPOCH', index + 1);
  }
  for (const [port, busPort] of addresses.slice(1)) {
    await cluster(first, 'MEET', LOOPBACK, port, busPort);
  }
  const knowAll = async (port: number): Promise<boolean> =>
    String(await cluster(port, 'INFO')).includes(`cluster_known_nodes:${String(ports.length)}`);
  await eventually('the nodes know each other', async () =>
    (await Promise.all(ports.map(knowAll))).every(Boolean),
  );
  for (const [index, port] of ports.slice(MASTERS).entries()) {
    const master = String(await cluster(ports[index % MASTERS] ?? first, 'MYID'));
    await cluster(port, 'REPLICATE', master);
  }
  await eventually('the cluster is whole', async () =>
    (await Promise.all(ports.map(isOk))).every(Boolean),
  );
}

async function isOk(port: number): Promise<boolean> {
  const info = String(await cluster(port, 'INFO'));
  if (!info.includes('cluster_state:ok')) return false;
  const replication = await ask(at(port), (redis) => redis.info('replication'));
  return replication.includes('role:master') || replication.includes('master_link_status:up');
}

interface Owner {
  readonly port: number;
  readonly slot: number;
  readonly nodeId: string;
}

type SlotRange = [from: number, to: number, master: [host: string, port: number, nodeId: string]];

/** Who has which slots, as the node at `port` sees it. */
async function rangesIn(port: number): Promise<SlotRange[]> {
  return (await cluster(port, 'SLOTS')) as SlotRange[];
}

/** In force at once. */
async function setNodeTimeout(ports: readonly number[], timeoutMs: number): Promise<void> {
  const set = (port: number): Promise<unknown> =>
    ask(at(port), (redis) => redis.config('SET', 'cluster-node-timeout', timeoutMs));
  await Promise.all(ports.map(set));
}

/** Who has the slot of a Kaon cluster, as the node at `port` sees it. */
async function ownerIn(port: number, name: string): Promise<Owner> {
  const slot = Number(await cluster(port, 'KEYSLOT', `kaon:{${name}}:leader`));
  const range = (await rangesIn(port)).find(([from, to]) => from <= slot && slot <= to);
  if (!range) throw new Error(`nobody has slot ${String(slot)}`);
  return { port: range[2][1], slot, nodeId: range[2][2] };
}

async function moveSlot(from: Owner, to: number, all: readonly number[]): Promise<void> {
  const { slot } = from;
  const target = String(await cluster(to, 'MYID'));
  await cluster(to, 'SETSLOT', slot, 'IMPORTING', from.nodeId);
  await cluster(from.port, 'SETSLOT', slot, 'MIGRATING', target);
  await ask(at(from.port), async (redis) => {
    for (;;) {
      const keys = (await redis.call('CLUSTER', 'GETKEYSINSLOT', String(slot), '100')) as string[];
      if (keys.length === 0) return;
      await redis.call(
        'MIGRATE',
        LOOPBACK,
        String(to),
        '',
        '0',
        MIGRATE_TIMEOUT_MS,
        'KEYS',
        ...keys,
      );
    }
  });
  // The new owner first: in the other order there would be a moment without any.
  for (const port of [to, from.port, ...all]) {
    await cluster(port, 'SETSLOT', slot, 'NODE', target).catch((error: unknown) => {
      // Replicas are told by their masters.
      if (!String(error).includes('only with masters')) throw error;
    });
  }
}

function cluster(port: number, ...args: (string | number)[]): Promise<unknown> {
  return ask(at(port), (redis) => redis.call('CLUSTER', ...args.map(String)));
}
