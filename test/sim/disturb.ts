/** The faults that come by themselves, each victim's own, each at its own times. */
import type { SimNode } from './agent.ts';
import type { Cluster } from './cluster.ts';
import type { SimFramework } from './framework.ts';
import type { SimMaster } from './master.ts';
import type { Process } from './world.ts';

/**
 * Mean time for which an agent stands still. With the delays of systemd it stays within what a master adds to the time after
 * which a node stops a task: by these short times its own timeout, which is most of that in production, adds little.
 */
const AGENT_PAUSE_MS = 1500;
const EXECUTOR_PAUSE_MS = 2000;

export function disturb(cluster: Cluster): void {
  for (const master of cluster.masters) disturbMaster(cluster, master);
  for (const node of cluster.nodes) disturbNode(cluster, node);
  for (const framework of cluster.frameworks) disturbFramework(cluster, framework);
  disturbRedis(cluster);
}

/** Again and again until the cluster heals; 0 is never. */
function repeat(cluster: Cluster, meanMs: number, act: () => void): void {
  if (meanMs === 0) return;
  const { world } = cluster;
  world.at(world.random.exponential(meanMs), () => {
    if (cluster.isHealed) return;
    act();
    repeat(cluster, meanMs, act);
  });
}

function pause({ world }: Cluster, process: Process, meanMs: number): void {
  const forMs = Math.round(world.random.next() * 2 * meanMs);
  world.log(process.name, `stands still for ${forMs} ms`);
  process.pause(forMs);
}

function cutOff({ world, faults, network }: Cluster, process: Process): void {
  const forMs = Math.round(world.random.next() * 2 * faults.partitionMs);
  const isDeaf = world.random.chance(faults.deafShare);
  world.log(process.name, `is ${isDeaf ? 'deaf' : 'cut off'} for ${forMs} ms`);
  network.partition(process, forMs, isDeaf);
}

function disturbMaster(cluster: Cluster, master: SimMaster): void {
  const { world, faults } = cluster;
  repeat(cluster, faults.masterCrashEveryMs, () => {
    master.crash(world.random.int(50, 5000));
  });
  repeat(cluster, faults.masterPauseEveryMs, () => {
    pause(cluster, master.process, faults.masterPauseMs);
  });
  repeat(cluster, faults.partitionEveryMs, () => {
    cutOff(cluster, master.process);
  });
}

function disturbNode(cluster: Cluster, node: SimNode): void {
  const { world, faults } = cluster;
  const { random } = world;
  repeat(cluster, faults.agentCrashEveryMs, () => {
    node.crashAgent(random.int(50, 12_000));
  });
  repeat(cluster, faults.agentPauseEveryMs, () => {
    if (node.agent) pause(cluster, node.agent.process, AGENT_PAUSE_MS);
  });
  repeat(cluster, faults.rebootEveryMs, () => {
    node.reboot(random.int(1000, 15_000));
  });
  repeat(cluster, faults.partitionEveryMs, () => {
    if (node.agent) cutOff(cluster, node.agent.process);
  });
  repeat(cluster, faults.nodeDeathEveryMs, () => {
    // If more than half of all were silent, no master would believe it.
    const dead = cluster.nodes.filter(({ isClosed }) => isClosed).length;
    if (dead + 1 > cluster.nodes.length / 2) return;
    world.log(node.name, 'dies for good');
    node.isClosed = true;
    node.agent?.process.kill();
    node.systemd.reboot();
  });
  repeat(cluster, faults.handStopEveryMs, () => {
    node.systemd.stopByHand();
  });
  repeat(cluster, faults.checkpointLossEveryMs, () => {
    const launchId = node.disk.loseOne();
    world.log(node.name, () => `loses the checkpoint of ${launchId ?? 'nothing'}`);
  });
  repeat(cluster, faults.diskFullEveryMs, () => {
    const forMs = random.int(500, 6000);
    world.log(node.name, `has a full disk for ${forMs} ms`);
    node.disk.fullUntilMs = world.nowMs + forMs;
  });
  repeat(cluster, faults.executorBreakEveryMs, () => {
    if (node.socket.breakOne()) world.log(node.name, 'the connection of an executor breaks');
  });
  repeat(cluster, faults.executorPauseEveryMs, () => {
    const executors = [...node.systemd.units.values()].flatMap(({ program }) => program ?? []);
    if (executors.length > 0) pause(cluster, random.pick(executors).process, EXECUTOR_PAUSE_MS);
  });
  repeat(cluster, faults.agentGivenUpEveryMs, () => {
    cluster.giveUp(node, random.chance(0.5));
  });
  repeat(cluster, faults.impostorEveryMs, () => {
    cluster.startImpostor(node);
  });
}

function disturbFramework(cluster: Cluster, framework: SimFramework): void {
  const { world, faults } = cluster;
  const { random } = world;
  repeat(cluster, faults.frameworkCrashEveryMs, () => {
    framework.crash(random.int(50, 8000));
  });
  repeat(cluster, faults.frameworkPauseEveryMs, () => {
    const { run } = framework;
    if (!run) return;
    pause(cluster, run.process, faults.frameworkPauseMs);
    if (random.chance(0.3)) framework.start();
  });
  repeat(cluster, faults.partitionEveryMs, () => {
    if (framework.run) cutOff(cluster, framework.run.process);
  });
}

function disturbRedis(cluster: Cluster): void {
  const { world, faults, network } = cluster;
  const { random } = world;
  const { hosts } = network;
  repeat(cluster, faults.redisRestartEveryMs, () => {
    world.log('redis', 'restarts');
    outage(cluster, random.int(50, 3000), () => {
      hosts.restart();
    });
  });
  repeat(cluster, faults.redisCrashEveryMs, () => {
    const copy = hosts.copy();
    world.at(random.next() * 1000, () => {
      if (copy.memory.parent !== hosts.primary.memory) return;
      world.log('redis', 'crashes and loses its last writes');
      outage(cluster, random.int(50, 3000), () => {
        hosts.restart(copy);
      });
    });
  });
  repeat(cluster, faults.redisFlushEveryMs, () => {
    world.log('redis', 'is emptied');
    hosts.flush();
  });
  repeat(cluster, faults.redisFailoverEveryMs, () => {
    failOver(cluster);
  });
  repeat(cluster, faults.redisSlowEveryMs, () => {
    const forMs = random.int(200, 5000);
    world.log('redis', `does nothing for ${forMs} ms`);
    hosts.primary.slowUntilMs = world.nowMs + forMs;
  });
  repeat(cluster, faults.redisFullEveryMs, () => {
    const forMs = random.int(200, 10_000);
    world.log('redis', `takes no writes for ${forMs} ms`);
    hosts.primary.fullUntilMs = world.nowMs + forMs;
  });
}

function outage(cluster: Cluster, downMs: number, change: () => void): void {
  const { world, network } = cluster;
  const host = network.hosts.primary;
  if (!host.isUp) return;
  host.isUp = false;
  network.breakAll(host, downMs);
  world.at(downMs, () => {
    host.isUp = true;
    if (network.hosts.primary === host) change();
  });
}

/** The replica has what was written until `replicaLagMs` ago. Some clients talk to the old one for a while. */
function failOver(cluster: Cluster): void {
  const { world, faults, network } = cluster;
  const { random } = world;
  const { hosts } = network;
  if (hosts.former || !hosts.primary.isUp) return;
  const copy = hosts.copy();
  world.at(random.next() * faults.replicaLagMs, () => {
    const old = hosts.primary;
    if (hosts.former || !old.isUp || copy.memory.parent !== old.memory) return;
    hosts.promote(copy, (2 * random.next() - 1) * faults.clockSkewMs);
    world.log('redis', () => `fails over to ${hosts.primary.name}`);
    network.breakAll(old, random.int(10, 1000), faults.splitBrainMs);
    world.at(faults.splitBrainMs, () => {
      network.breakAll(old, random.int(10, 1000));
      old.isUp = false;
      hosts.former = undefined;
      cluster.checks.lossOverAtMs = world.nowMs;
      world.log('redis', () => `${old.name} is gone`);
    });
  });
}
