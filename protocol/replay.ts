/**
 * The cluster as the event log tells it: a *projection* is who is there and what is where, without what only decisions
 * need. `projectionOf` makes it of the registry's records, `applyEvent` brings it one event further; after the events of
 * a commit it is what the records after that commit give. So a projection that was stored and the events since are
 * enough to see any moment again.
 */
import { z } from 'zod';
import { AgentId, ExecutorId, FrameworkId, LaunchId, OfferId, taskKey } from './ids.ts';
import type { TaskKey } from './ids.ts';
import { AgentRecord, FrameworkRecord, KILL_REQUESTERS } from './records.ts';
import type {
  ClusterEvent,
  ClusterRecord,
  ExecutorRecord,
  OfferRecord,
  TaskRecord,
} from './records.ts';
import { NO_RESOURCES, Resources } from './resources.ts';
import { TaskState } from './task-state.ts';

/** Key of an executor in the whole cluster, and in the registry. */
export type ExecutorPath = string & { readonly __brand: 'ExecutorPath' };

/** @returns `agentId/frameworkId/executorId` */
export function executorPath(
  agentId: AgentId,
  frameworkId: FrameworkId,
  executorId: ExecutorId,
): ExecutorPath {
  return `${agentId}/${frameworkId}/${executorId}` as ExecutorPath;
}

/** An agent; `connected`: it has a session. */
export const ProjectedAgent = z.object({
  agentId: AgentId,
  hostname: z.string(),
  state: AgentRecord.shape.state,
  resources: Resources,
  connected: z.boolean(),
});
export type ProjectedAgent = Readonly<z.infer<typeof ProjectedAgent>>;

/** A framework; `connected` as of an agent. */
export const ProjectedFramework = z.object({
  frameworkId: FrameworkId,
  name: z.string(),
  role: z.string(),
  state: FrameworkRecord.shape.state,
  connected: z.boolean(),
});
export type ProjectedFramework = Readonly<z.infer<typeof ProjectedFramework>>;

/** An outstanding offer. */
export const ProjectedOffer = z.object({
  offerId: OfferId,
  frameworkId: FrameworkId,
  agentId: AgentId,
  resources: Resources,
});
export type ProjectedOffer = Readonly<z.infer<typeof ProjectedOffer>>;

/** An executor that is on an agent or on its way there, with its own resources. */
export const ProjectedExecutor = z.object({
  /** `agentId/frameworkId/executorId` */
  path: z.string().transform((path) => path as ExecutorPath),
  launchId: LaunchId,
  name: z.string(),
  resources: Resources,
});
export type ProjectedExecutor = Readonly<z.infer<typeof ProjectedExecutor>>;

/**
 * A task that has not been forgotten; `unacknowledged` counts updates that wait for its framework, `wished` is a change
 * of its resources that its agent has not answered.
 */
export const ProjectedTask = z.object({
  /** `frameworkId/taskId` */
  key: z.string().transform((key) => key as TaskKey),
  launchId: LaunchId,
  agentId: AgentId,
  name: z.string(),
  executorId: ExecutorId.optional(),
  resources: Resources,
  wished: Resources.optional(),
  state: TaskState,
  killRequested: z.enum(KILL_REQUESTERS).optional(),
  unacknowledged: z.int().min(0),
});
export type ProjectedTask = Readonly<z.infer<typeof ProjectedTask>>;

/** The cluster at one moment. Entries are replaced, never changed: two projections may share them. */
export interface Projection {
  /** Redis has lost data, and agents may still come back with tasks that are not known. */
  recovering: boolean;
  readonly agents: Map<AgentId, ProjectedAgent>;
  readonly frameworks: Map<FrameworkId, ProjectedFramework>;
  readonly offers: Map<OfferId, ProjectedOffer>;
  readonly executors: Map<ExecutorPath, ProjectedExecutor>;
  readonly tasks: Map<TaskKey, ProjectedTask>;
}

/** What the registry holds, in any order. */
export interface ProjectionSource {
  readonly cluster: Iterable<ClusterRecord>;
  readonly agents: Iterable<AgentRecord>;
  readonly frameworks: Iterable<FrameworkRecord>;
  readonly offers: Iterable<OfferRecord>;
  readonly executors: Iterable<ExecutorRecord>;
  readonly tasks: Iterable<TaskRecord>;
}

/** @returns the projection of a cluster that nobody has ever come to */
export function emptyProjection(): Projection {
  return {
    recovering: false,
    agents: new Map(),
    frameworks: new Map(),
    offers: new Map(),
    executors: new Map(),
    tasks: new Map(),
  };
}

/** @returns the projection of these records; cost: one small object a record */
export function projectionOf(records: ProjectionSource): Projection {
  const projection = emptyProjection();
  for (const { recoveringUntilMs, isNew } of records.cluster) {
    projection.recovering = recoveringUntilMs !== 0 && !isNew;
  }
  for (const { info, state, session } of records.agents) {
    const { agentId, hostname, resources } = info;
    const connected = session !== undefined;
    projection.agents.set(agentId, { agentId, hostname, state, resources, connected });
  }
  for (const { info, state, session } of records.frameworks) {
    const { frameworkId, name, role } = info;
    const connected = session !== undefined;
    projection.frameworks.set(frameworkId, { frameworkId, name, role, state, connected });
  }
  for (const { offerId, frameworkId, agentId, resources } of records.offers) {
    projection.offers.set(offerId, { offerId, frameworkId, agentId, resources });
  }
  for (const { agentId, frameworkId, launchId, info } of records.executors) {
    const { name, resources } = info;
    const path = executorPath(agentId, frameworkId, info.executorId);
    projection.executors.set(path, { path, launchId, name, resources });
  }
  for (const record of records.tasks) {
    const task = projectTask(record);
    projection.tasks.set(task.key, task);
  }
  return projection;
}

function projectTask(record: TaskRecord): ProjectedTask {
  const { launchId, agentId, name, resources, state, killRequested, executorId, resize } = record;
  return {
    key: taskKey(record.frameworkId, record.taskId),
    launchId,
    agentId,
    name,
    ...(executorId !== undefined && { executorId }),
    resources,
    ...(resize && { wished: resize.resources }),
    state,
    ...(killRequested && { killRequested }),
    unacknowledged: record.unacknowledged.length,
  };
}

/**
 * What an event changes. Events that change nothing of what is projected (a refusal, a doubt) pass, and so do those of
 * a newer version.
 *
 * @param projection changed in place, and nothing else is
 */
export function applyEvent(projection: Projection, event: ClusterEvent): void {
  const [kind] = event.type.split('.');
  if (kind === 'task') applyTaskEvent(projection, event);
  else if (kind === 'executor') applyExecutorEvent(projection, event);
  else if (kind === 'offer') applyOfferEvent(projection, event);
  else if (kind === 'agent') applyAgentEvent(projection, event);
  else if (kind === 'framework') applyFrameworkEvent(projection, event);
  else if (kind === 'cluster') applyClusterEvent(projection, event);
}

function applyTaskEvent({ tasks }: Projection, event: ClusterEvent): void {
  const { frameworkId, taskId, state } = event;
  if (frameworkId === undefined || taskId === undefined) return;
  const key = taskKey(frameworkId, taskId);
  const task = tasks.get(key);
  switch (event.type) {
    case 'task.launched':
    case 'task.adopted':
      addTask(tasks, key, event);
      return;
    case 'task.updated':
      if (!task || state === undefined) return;
      tasks.set(key, { ...task, state, unacknowledged: event.unacknowledged ?? 0 });
      return;
    case 'task.acknowledged':
      if (task) tasks.set(key, { ...task, unacknowledged: Math.max(0, task.unacknowledged - 1) });
      return;
    case 'task.kill-requested': {
      const by = KILL_REQUESTERS.find((one) => one === event.reason) ?? 'framework';
      if (task) tasks.set(key, { ...task, killRequested: task.killRequested ?? by });
      return;
    }
    case 'task.forgotten':
      tasks.delete(key);
      return;
    default:
      if (task) tasks.set(key, resizedBy(task, event));
  }
}

function addTask(tasks: Projection['tasks'], key: TaskKey, event: ClusterEvent): void {
  const { launchId, agentId, name = '', resources = NO_RESOURCES, state, executorId } = event;
  if (launchId === undefined || agentId === undefined || state === undefined) return;
  const ofExecutor = executorId !== undefined && { executorId };
  const task = { key, launchId, agentId, name, ...ofExecutor, resources, state };
  tasks.set(key, { ...task, unacknowledged: 0 });
}

/** `task.resize-refused` is no change: the master has not even tried. */
function resizedBy(task: ProjectedTask, { type, resources }: ClusterEvent): ProjectedTask {
  const { wished, ...rest } = task;
  switch (type) {
    case 'task.resize-requested':
      return { ...rest, ...(resources && { wished: resources }) };
    case 'task.resources-corrected':
      return { ...task, resources: resources ?? task.resources };
    case 'task.resized':
    case 'task.resize-failed':
      return { ...rest, resources: resources ?? rest.resources };
    default:
      return task;
  }
}

function applyExecutorEvent({ executors }: Projection, event: ClusterEvent): void {
  const { agentId, frameworkId, executorId, launchId, name = '', resources } = event;
  if (agentId === undefined || frameworkId === undefined || executorId === undefined) return;
  const path = executorPath(agentId, frameworkId, executorId);
  switch (event.type) {
    case 'executor.launched':
    case 'executor.adopted':
      if (launchId === undefined || resources === undefined) return;
      executors.set(path, { path, launchId, name, resources });
      return;
    case 'executor.removed':
      executors.delete(path);
      return;
    default:
  }
}

function applyOfferEvent({ offers }: Projection, event: ClusterEvent): void {
  const { offerId, frameworkId, agentId, resources = NO_RESOURCES } = event;
  if (offerId === undefined) return;
  if (event.type !== 'offer.made') offers.delete(offerId);
  else if (frameworkId !== undefined && agentId !== undefined) {
    offers.set(offerId, { offerId, frameworkId, agentId, resources });
  }
}

function applyAgentEvent({ agents }: Projection, event: ClusterEvent): void {
  const { agentId, name: hostname = '', resources = NO_RESOURCES } = event;
  const agent = agentId === undefined ? undefined : agents.get(agentId);
  if (agentId === undefined) return;
  switch (event.type) {
    case 'agent.registered':
    case 'agent.reregistered':
      agents.set(agentId, { agentId, hostname, state: 'active', resources, connected: true });
      return;
    case 'agent.disconnected':
      if (agent) agents.set(agentId, { ...agent, connected: false });
      return;
    case 'agent.unreachable':
    case 'agent.removed': {
      const state = event.type === 'agent.removed' ? 'gone' : 'unreachable';
      if (agent) agents.set(agentId, { ...agent, state, connected: false });
      return;
    }
    case 'agent.forgotten':
      agents.delete(agentId);
      return;
    default:
  }
}

function applyFrameworkEvent({ frameworks }: Projection, event: ClusterEvent): void {
  const { frameworkId, name = '', role = '*', detached = false } = event;
  const framework = frameworkId === undefined ? undefined : frameworks.get(frameworkId);
  if (frameworkId === undefined) return;
  switch (event.type) {
    case 'framework.registered':
    case 'framework.reregistered':
      frameworks.set(frameworkId, { frameworkId, name, role, state: 'active', connected: true });
      return;
    case 'framework.recovered': {
      const state = detached ? 'detached' : 'disconnected';
      frameworks.set(frameworkId, { frameworkId, name, role, state, connected: false });
      return;
    }
    case 'framework.disconnected':
    case 'framework.detached': {
      const state = event.type === 'framework.detached' ? 'detached' : 'disconnected';
      if (framework) frameworks.set(frameworkId, { ...framework, state, connected: false });
      return;
    }
    case 'framework.removed':
      frameworks.delete(frameworkId);
      return;
    default:
  }
}

function applyClusterEvent(projection: Projection, event: ClusterEvent): void {
  if (event.type === 'cluster.recovering') projection.recovering = true;
  if (event.type === 'cluster.begun' || event.type === 'cluster.recovered') {
    projection.recovering = false;
  }
}

/** A projection as lists, each in the order in which its entries came: what is stored and what `--json` prints. */
export const ProjectionLists = z.object({
  recovering: z.boolean(),
  agents: z.array(ProjectedAgent),
  frameworks: z.array(ProjectedFramework),
  offers: z.array(ProjectedOffer),
  /** Absent in what an older Kaon has stored, which had none. */
  executors: z.array(ProjectedExecutor).default([]),
  tasks: z.array(ProjectedTask),
});
export type ProjectionLists = z.infer<typeof ProjectionLists>;

/** @returns the lists of a projection */
export function toLists(projection: Projection): ProjectionLists {
  const { recovering, agents, frameworks, offers, executors, tasks } = projection;
  return {
    recovering,
    agents: [...agents.values()],
    frameworks: [...frameworks.values()],
    offers: [...offers.values()],
    executors: [...executors.values()],
    tasks: [...tasks.values()],
  };
}

/** @returns the projection of such lists */
export function fromLists(lists: ProjectionLists): Projection {
  return {
    recovering: lists.recovering,
    agents: new Map(lists.agents.map((agent) => [agent.agentId, agent])),
    frameworks: new Map(lists.frameworks.map((framework) => [framework.frameworkId, framework])),
    offers: new Map(lists.offers.map((offer) => [offer.offerId, offer])),
    executors: new Map(lists.executors.map((executor) => [executor.path, executor])),
    tasks: new Map(lists.tasks.map((task) => [task.key, task])),
  };
}

/** An entry that two projections do not have alike; undefined: one of them does not have it. */
export interface Difference {
  /** `agents`, `frameworks`, `offers`, `executors`, `tasks`, or `cluster` */
  readonly kind: string;
  readonly id: string;
  readonly first: object | undefined;
  readonly second: object | undefined;
}

/** @returns what differs; none if both are the same cluster. The order of entries does not count */
export function compareProjections(first: Projection, second: Projection): Difference[] {
  const differences: Difference[] = [];
  if (first.recovering !== second.recovering) {
    const [a, b] = [{ recovering: first.recovering }, { recovering: second.recovering }];
    differences.push({ kind: 'cluster', id: 'state', first: a, second: b });
  }
  for (const kind of ['agents', 'frameworks', 'offers', 'executors', 'tasks'] as const) {
    const [a, b] = [first[kind] as ReadonlyMap<string, object>, second[kind]];
    const others = b as ReadonlyMap<string, object>;
    for (const id of new Set([...a.keys(), ...others.keys()])) {
      const [one, other] = [a.get(id), others.get(id)];
      if (canonical(one) !== canonical(other)) {
        differences.push({ kind, id, first: one, second: other });
      }
    }
  }
  return differences;
}

/** Text that is the same for the same fields, in whatever order they stand. */
function canonical(value: object | undefined): string {
  const sorted = (_key: string, part: unknown): unknown =>
    typeof part === 'object' && part !== null
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part;
  return JSON.stringify(value, sorted) ?? '';
}
