/** Liveness: when no fault comes any more, everything comes to its end, and all resources are offered to one who asks. */
import { ENDED_KEEP_MS } from '../../agent/core/ended.ts';
import type { JournalLine } from '../../agent/core/events.ts';
import type { FrameworkId, LaunchId } from '../../protocol/ids.ts';
import type { Resources } from '../../protocol/resources.ts';
import { formatResources, NO_RESOURCES } from '../../protocol/resources.ts';
import type { Cluster } from './cluster.ts';
import { drawCharacter } from './character.ts';
import { Violation } from './violation.ts';

const LOOK_MS = 1000;

/**
 * First all tasks end, and executors that wait for more stay, and nothing else; then their frameworks end these, too.
 *
 * @throws Violation that says what is left
 */
export function settle(cluster: Cluster): void {
  waitUntilNothing(cluster, () => leftOver(cluster));
  cluster.checks.book.checkProjection();
  cluster.endExecutors();
  waitUntilNothing(cluster, () => [...leftOver(cluster), ...executorsOf(cluster)]);
  cluster.checks.book.checkProjection();
  probe(cluster);
  forget(cluster);
}

/** What is kept of executors that are over is kept for a while only. */
function forget({ nodes }: Cluster): void {
  for (const { name, agent, disk, isClosed } of nodes) {
    if (isClosed) continue;
    agent?.passTime(ENDED_KEEP_MS + 1);
    const ended = [...disk.ended].filter(([, { checkpoint }]) => checkpoint.task.executor);
    const left = [...disk.journals.keys(), ...ended.map(([launchId]) => launchId)];
    if (left.length > 0) throw new Violation(`${name} never forgets ${left.slice(0, 5).join()}`);
  }
}

function waitUntilNothing({ world, plan }: Cluster, look: () => string[]): void {
  let left: string[] = [];
  for (let waitedMs = 0; waitedMs < plan.healingMs; waitedMs += LOOK_MS) {
    world.runUntil(world.nowMs + LOOK_MS);
    left = look();
    if (left.length === 0) return;
  }
  throw new Violation(
    `${plan.healingMs / 1000} s after the last fault: ${left.slice(0, 5).join('; ')}`,
  );
}

function executorsOf({ checks }: Cluster): string[] {
  return [...checks.book.executors.keys()].map((path) => `the registry has executor ${path}`);
}

/** What the master believes of executors is what there is. */
function misjudgedExecutors({ checks, nodes }: Cluster): string[] {
  const left: string[] = [];
  const known = new Set<string>();
  for (const { agentId, isClosed } of nodes) {
    for (const { key, spec, info } of isClosed ? [] : checks.executors.runningOn(agentId)) {
      known.add(spec.launchId);
      const path = `${agentId}/${spec.framework.frameworkId}/${info.executorId}`;
      if (checks.book.executors.get(path)?.launchId === spec.launchId) continue;
      left.push(`executor ${key} (${spec.launchId}) runs on ${agentId}, and the registry lacks it`);
    }
  }
  for (const [path, { launchId }] of checks.book.executors)
    if (!known.has(launchId)) left.push(`the registry has executor ${path}, and it does not run`);
  return left;
}

function leftOver(cluster: Cluster): string[] {
  const { checks, frameworks, nodes } = cluster;
  const { tasks, offers } = checks.book;
  const left = [...nodes.flatMap((node) => leftOn(cluster, node)), ...misjudgedExecutors(cluster)];
  for (const { frameworkId, taskId, state, agentId } of tasks.values())
    left.push(`the registry has ${frameworkId}/${taskId} ${state} on ${agentId}`);
  for (const framework of frameworks) {
    for (const { taskId } of framework.open())
      left.push(`${framework.frameworkId} never heard the end of ${taskId}`);
  }
  for (const offerId of offers.keys()) left.push(`offer ${offerId} is out`);
  return left;
}

function leftOn({ checks }: Cluster, node: Cluster['nodes'][number]): string[] {
  const { name, agentId, systemd, disk, agent } = node;
  const record = checks.book.agent(agentId);
  if (node.isClosed) {
    const isThere = record?.state === 'active' || record?.state === 'unreachable';
    return isThere ? [`${name} is dead, and its agent is called ${record.state}`] : [];
  }
  const left: string[] = [];
  if (agent?.process.isAlive !== true) left.push(`agent ${agentId} is not there yet`);
  if (record?.session !== agent?.sessionId) left.push(`agent ${agentId} is not registered`);
  for (const { spec } of checks.processes.runningOn(agentId))
    left.push(`${name} runs ${spec.name}`);
  const executors = new Set(checks.executors.runningOn(agentId).map(({ spec }) => spec.launchId));
  for (const [unit, { spec }] of systemd.units)
    if (!executors.has(spec.launchId)) left.push(`${name} has unit ${unit}`);
  for (const launchId of disk.live.keys())
    if (!executors.has(launchId)) left.push(`${name} has checkpoint ${launchId}`);
  for (const [launchId, { lines }] of disk.journals) {
    if (executors.has(launchId)) continue;
    for (const each of unacknowledgedIn(lines, checks.lostCheckpoints))
      left.push(`${name} has journal ${launchId} for ${each}`);
  }
  left.push(...checks.executors.misfits(name));
  for (const key of agent?.state.tasks.keys() ?? []) left.push(`agent ${agentId} has ${key}`);
  return left;
}

/** Launches of whose ends a journal has yet to be told. */
function unacknowledgedIn(
  lines: readonly JournalLine[],
  lost: ReadonlySet<LaunchId>,
): ReadonlySet<LaunchId> {
  const open = new Set<LaunchId>();
  for (const line of lines) {
    if (line.type === 'launch' && !lost.has(line.launchId)) open.add(line.launchId);
    else if (line.type === 'acknowledged') open.delete(line.launchId);
  }
  return open;
}

/** A framework that takes whatever there is must be offered every node, whole. */
function probe(cluster: Cluster): void {
  const { world, plan, checks } = cluster;
  const character = {
    ...drawCharacter(world.random),
    statesDemand: false,
    accept: 0,
    decline: 0,
    nonsense: 0,
    kill: 0,
    suppress: 0,
    leave: 0,
    executors: 0,
    resize: 0,
    shutdown: 0,
  };
  const asking = cluster.framework('probe', character);
  const seen = new Map<string, Resources>();
  checks.onOffers = (frameworkId: FrameworkId, offers) => {
    if (frameworkId !== asking.frameworkId) return;
    // Each time all that a node has is in one offer, so the last one says it.
    for (const { agentId, resources } of offers) seen.set(agentId, resources);
  };
  let missing: string | undefined;
  for (let waitedMs = 0; waitedMs < plan.healingMs; waitedMs += LOOK_MS) {
    world.runUntil(world.nowMs + LOOK_MS);
    missing = notOffered(cluster, seen);
    if (missing === undefined) return;
  }
  throw new Violation(`all is over, and ${missing}`);
}

function notOffered(
  { nodes }: Cluster,
  offered: ReadonlyMap<string, Resources>,
): string | undefined {
  for (const { agentId, resources, isClosed } of nodes) {
    if (isClosed) continue;
    const part = offered.get(agentId) ?? NO_RESOURCES;
    if (part.cpuMillis === resources.cpuMillis && part.memMib === resources.memMib) continue;
    return `of ${agentId} ${formatResources(part)} of ${formatResources(resources)} are offered`;
  }
  return undefined;
}
