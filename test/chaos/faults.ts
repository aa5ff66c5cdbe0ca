/** How each fault is done. A fault that lasts is over when its promise resolves, and has put everything back. */
import { rmSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Cluster } from './cluster.ts';
import type { Master } from './masters.ts';
import type { Node } from './node.ts';
import type { FaultKind, PlannedFault } from './plan.ts';

const AGENT = 'kaon-agent.service';
const HOUR_MS = 3_600_000;

type Injection<On> = (on: On, fault: PlannedFault, cluster: Cluster) => Promise<void> | void;

const ON_MASTER: Partial<Record<FaultKind, Injection<Master>>> = {
  'leader-killed': (master) => master.signal('SIGKILL'),
  'standby-killed': (master) => master.signal('SIGKILL'),
  'leader-restarted': (master) => master.signal('SIGTERM'),
  'leader-paused-past-its-lease': async (master, { forMs }) => {
    master.signal('SIGSTOP');
    await sleep(forMs);
    master.signal('SIGCONT');
  },
  'leader-cut-off': async (master, { forMs }) => {
    master.gateway.stall();
    await sleep(forMs);
    master.gateway.resume();
  },
};

const ON_NODE: Partial<Record<FaultKind, Injection<Node>>> = {
  'agent-killed': async (node) => {
    await node.systemctl('kill', '--signal=KILL', AGENT);
  },
  'agent-paused': async (node, { forMs }) => {
    await node.systemctl('kill', '--signal=STOP', AGENT);
    await sleep(forMs);
    await node.systemctl('kill', '--signal=CONT', AGENT);
  },
  'agent-restarted': async (node) => {
    await node.systemctl('restart', AGENT);
  },
  'agent-cut-off': cutOff,
  'agent-cut-off-past-its-timeout': cutOff,
  'agent-reply-cut': (node) => node.gateway.cutNextReply(),
  'agent-slowed': async (node, { forMs, whom }) => {
    node.gateway.delay(50 + Math.round(whom * 300));
    await sleep(forMs);
    node.gateway.delay(0);
  },
  'disk-full': async (node, { forMs }) => {
    node.fillDisk();
    await sleep(forMs);
    node.clearDisk();
  },
  'systemd-reexecuted': async (node) => {
    await node.systemctl('daemon-reexec');
  },
  'systemd-reloaded': async (node) => {
    await node.systemctl('daemon-reload');
  },
  'bus-killed': (node) => node.killBus(),
  'node-rebooted': (node, { forMs }) => node.reboot(forMs),
};

const ON_CLUSTER: Partial<Record<FaultKind, Injection<Cluster>>> = {
  'framework-killed': ({ child }, { forMs }) => child.crash(forMs),
  'framework-paused': async ({ child }, { forMs }) => {
    child.signal('SIGSTOP');
    await sleep(forMs);
    child.signal('SIGCONT');
  },
  'redis-killed': ({ redis }, { forMs }) => redis.crash(forMs),
  'redis-paused': ({ redis }, { forMs }) => redis.pause(forMs),
  'redis-connections-dropped': (cluster) => cluster.dropConnections(),
  'redis-failed-over': failOver,
  'redis-failed-over-to-the-past': failOver,
  'redis-emptied': async ({ redis, watch }) => {
    // Commits of a new life that began unseen would count as some of the old one.
    await watch.ready();
    await redis.call('FLUSHALL');
  },
  'clock-stepped': async ({ clockPath }, { forMs, whom }) => {
    writeFileSync(clockPath, String(whom < 0.5 ? -HOUR_MS : HOUR_MS));
    await sleep(forMs);
    rmSync(clockPath);
  },
};

async function cutOff(node: Node, { forMs }: PlannedFault): Promise<void> {
  node.gateway.stall();
  await sleep(forMs);
  node.gateway.resume();
}

async function failOver(cluster: Cluster, { forMs }: PlannedFault): Promise<void> {
  // Where Sentinel watches, clients find the way themselves, and the watch is told by whom it asks.
  await cluster.redis.failOver(forMs, () => {
    // At once: a connection to the new primary that the watch made before this would count it into the old life.
    cluster.watch.follow();
    cluster.dropConnections();
  });
}

/** @returns whom it met, for the log; the fault itself follows in `done` */
export async function inject(
  fault: PlannedFault,
  cluster: Cluster,
): Promise<{ readonly whom: string; readonly done: Promise<void> }> {
  const { kind, on } = fault;
  if (on === 'leader' || on === 'standby') {
    const master = await cluster.findMaster(on);
    if (!master) return { whom: 'nobody: there was no such master', done: Promise.resolve() };
    const done = Promise.resolve(ON_MASTER[kind]?.(master, fault, cluster));
    return { whom: `${master.name} (pid ${String(master.pid)})`, done };
  }
  if (on === 'node') {
    const node = cluster.nodeOf(fault);
    return { whom: node.agentId, done: Promise.resolve(ON_NODE[kind]?.(node, fault, cluster)) };
  }
  const done = Promise.resolve(ON_CLUSTER[kind]?.(cluster, fault, cluster));
  return { whom: on, done };
}
