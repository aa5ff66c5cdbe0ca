/**
 * A Redis that is watched: one master, one replica, three Sentinels, each on a free loopback port. Sentinel is patient
 * until a failover is wanted, so that a machine that stands still for a while is none; then it is impatient (down after
 * 500 ms), so that the failover takes a second or two.
 */
import type { ChildProcess } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
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

const MASTER_NAME = 'kaon';
/** As whom a replica logs in at its master. */
const REPLICATION_USER = 'replica';
/** Longer than any machine stands still: only a master that the test has ended or stopped is to be down for Sentinel. */
const PATIENT_MS = 600_000;
const DOWN_AFTER_MS = 500;
const FAILOVER_TIMEOUT_MS = 120_000;
/** Sentinel's own rhythms, which in production are seconds. */
const IMPATIENT = [
  // One that finds that it has stood still does nothing for half a minute.
  ...['tilt-trigger', String(PATIENT_MS)],
  ...['ping-period', '100', 'ask-period', '100', 'info-period', '100', 'publish-period', '100'],
  ...[
    'election-timeout',
    '1000',
    'slave-reconf-timeout',
    '1000',
    'min-link-reconnect-period',
    '500',
  ],
];

export interface SentinelBed {
  /** `redis+sentinel://...`, as `kaon --redis` takes it. */
  readonly url: string;
  readonly masterName: string;
  readonly sentinelPorts: readonly number[];
  /** `redis://...` of the server that was the master at first, and of its replica. */
  readonly masterUrl: string;
  readonly replicaUrl: string;
  /** Where Sentinel says that the master is. */
  masterPort(): Promise<number>;
  /** SIGKILL to whichever server Sentinel calls the master. There is no failover before `waitForFailover`. */
  killMaster(): Promise<void>;
  /**
   * SIGSTOP to the master: it is there and says nothing, as a host that hangs. `resume` ends it. The failover begins by
   * itself.
   */
  pauseMaster(): Promise<void>;
  /** Wakes all servers that were paused. */
  resume(): void;
  /** Brings servers that were killed back; Sentinel makes replicas of them. */
  restartKilled(): Promise<void>;
  /** Lets Sentinel see that the master is down. Resolves when another server is the master, and says so itself. */
  waitForFailover(): Promise<void>;
  /**
   * From now on the replica gets no writes, though Sentinel still takes it for one that could be promoted: what is
   * written until `killMaster` is lost by the failover. The function that is returned lets the writes through.
   */
  pauseReplication(): Promise<() => Promise<void>>;
  stop(): Promise<void>;
}

interface Server {
  readonly port: number;
  readonly argv: readonly string[];
  child: ChildProcess;
}

export async function startSentinelBed(): Promise<SentinelBed> {
  const directory = mkdtempSync(join(tmpdir(), 'kaon-bed-sentinel-'));
  const [masterPort = 0, replicaPort = 0, ...sentinelPorts] = await freePorts(5);
  const master = await startServer(directory, masterPort);
  const replica = await startServer(directory, replicaPort, masterPort);
  const servers = [master, replica];
  await eventually('the replica follows the master', async () =>
    (await replicationOf(replicaPort)).includes('master_link_status:up'),
  );
  const sentinels = await Promise.all(
    sentinelPorts.map((port) => startSentinel(directory, port, masterPort)),
  );
  await eventually('the Sentinels know each other and the replica', async () => {
    const views = await Promise.all(sentinelPorts.map(viewOf));
    return views.every((view) => view['num-slaves'] === '1' && view['num-other-sentinels'] === '2');
  });
  let promotedFrom = masterPort;
  const isMaster = async (port: number): Promise<boolean> =>
    (await replicationOf(port)).includes('role:master');
  const currentMaster = async (): Promise<Server> => {
    const port = await masterPortOf(sentinelPorts);
    promotedFrom = port;
    const server = servers.find((each) => each.port === port);
    if (!server)
      throw new Error(`Sentinel names a master that is not of this bed: ${String(port)}`);
    return server;
  };
  return {
    url: `redis+sentinel://${sentinelPorts.map((port) => `${LOOPBACK}:${String(port)}`).join(',')}/${MASTER_NAME}`,
    masterName: MASTER_NAME,
    sentinelPorts,
    masterUrl: `redis://${LOOPBACK}:${String(masterPort)}`,
    replicaUrl: `redis://${LOOPBACK}:${String(replicaPort)}`,
    masterPort: () => masterPortOf(sentinelPorts),
    killMaster: async () => endProcess((await currentMaster()).child),
    // In this order: a Sentinel that is impatient while the master runs could make a failover by itself.
    pauseMaster: async () => {
      (await currentMaster()).child.kill('SIGSTOP');
      await setDownAfter(sentinelPorts, DOWN_AFTER_MS);
    },
    resume: () => {
      for (const { child } of servers) child.kill('SIGCONT');
    },
    restartKilled: async () => {
      for (const server of servers.filter(({ child }) => child.signalCode !== null)) {
        server.child = await startRedisProcess(server.argv, at(server.port));
      }
    },
    waitForFailover: async () => {
      await setDownAfter(sentinelPorts, DOWN_AFTER_MS);
      await eventually(
        'another server is the master',
        async () => {
          const ports = await Promise.all(sentinelPorts.map((port) => masterPortOf([port])));
          const [port = promotedFrom] = ports;
          return port !== promotedFrom && ports.every((each) => each === port) && isMaster(port);
        },
        FAILOVER_TIMEOUT_MS,
      );
      await setDownAfter(sentinelPorts, PATIENT_MS);
    },
    pauseReplication: async () => {
      const master = await currentMaster();
      const resume = await cutReplication(master);
      const replica = servers.find((server) => server !== master);
      if (replica) await forgetLinkLoss(replica, master);
      return resume;
    },
    stop: async () => {
      for (const child of [...sentinels, ...servers.map((server) => server.child)]) {
        await endProcess(child);
      }
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** The replica may not log in any more, and its connection is cut; for Sentinel it is alive all the same. */
async function cutReplication(master: Server): Promise<() => Promise<void>> {
  await ask(at(master.port), async (redis) => {
    await redis.acl('SETUSER', REPLICATION_USER, 'off');
    await redis.call('CLIENT', 'KILL', 'USER', REPLICATION_USER);
  });
  return () =>
    ask(at(master.port), async (redis) => {
      await redis.acl('SETUSER', REPLICATION_USER, 'on');
    });
}

/**
 * Sentinel promotes no replica that has missed its master for more than ten times `down-after`. Becoming a replica
 * anew resets that count and keeps the data; in one transaction, so that nobody sees it as a master meanwhile.
 */
async function forgetLinkLoss(replica: Server, master: Server): Promise<void> {
  await ask(at(replica.port), (redis) =>
    redis.multi().replicaof('NO', 'ONE').replicaof(LOOPBACK, String(master.port)).exec(),
  );
}

function at(port: number): { host: string; port: number } {
  return { host: LOOPBACK, port };
}

async function startServer(directory: string, port: number, masterPort?: number): Promise<Server> {
  const own = join(directory, String(port));
  mkdirSync(own);
  const argv = ['--port', String(port), '--bind', LOOPBACK, '--dir', own, '--save', ''];
  argv.push('--appendonly', 'no', '--repl-diskless-sync-delay', '0');
  argv.push('--user', REPLICATION_USER, 'on', `>${REPLICATION_USER}`, '~*', '&*', '+@all');
  argv.push('--masteruser', REPLICATION_USER, '--masterauth', REPLICATION_USER);
  if (masterPort !== undefined) argv.push('--replicaof', LOOPBACK, String(masterPort));
  return { port, argv, child: await startRedisProcess(argv, at(port)) };
}

async function startSentinel(
  directory: string,
  port: number,
  masterPort: number,
): Promise<ChildProcess> {
  const own = join(directory, `sentinel-${String(port)}`);
  mkdirSync(own);
  const config = join(own, 'sentinel.conf');
  writeFileSync(
    config,
    [
      `port ${String(port)}`,
      `bind ${LOOPBACK}`,
      `dir ${own}`,
      `sentinel monitor ${MASTER_NAME} ${LOOPBACK} ${String(masterPort)} 2`,
      `sentinel down-after-milliseconds ${MASTER_NAME} ${String(PATIENT_MS)}`,
      `sentinel failover-timeout ${MASTER_NAME} 1000`,
      '',
    ].join('\n'),
  );
  const child = await startRedisProcess([config, '--sentinel'], at(port));
  await ask(at(port), (redis) => redis.call('SENTINEL', 'DEBUG', ...IMPATIENT));
  return child;
}

/** Of the master and, with it, of its replica. */
async function setDownAfter(sentinelPorts: readonly number[], downAfterMs: number): Promise<void> {
  const words = ['SET', MASTER_NAME, 'down-after-milliseconds', String(downAfterMs)];
  await Promise.all(
    sentinelPorts.map((port) => ask(at(port), (redis) => redis.call('SENTINEL', ...words))),
  );
}

/** What `SENTINEL MASTER` says, by name. */
async function viewOf(port: number): Promise<Record<string, string>> {
  const pairs = await ask(at(port), (redis) => redis.call('SENTINEL', 'MASTER', MASTER_NAME));
  const view: Record<string, string> = {};
  const flat = pairs as string[];
  for (let index = 0; index + 1 < flat.length; index += 2) {
    view[flat[index] ?? ''] = flat[index + 1] ?? '';
  }
  return view;
}

async function masterPortOf(sentinelPorts: readonly number[]): Promise<number> {
  const [port = 0] = sentinelPorts;
  const reply = await ask(at(port), (redis) =>
    redis.call('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', MASTER_NAME),
  );
  return Number((reply as string[])[1]);
}

function replicationOf(port: number): Promise<string> {
  return ask(at(port), (redis) => redis.info('replication'));
}
