/**
 * How entries come into the leader's state and leave it, so that every sum and set beside the records follows. Nothing
 * is decided here, and nothing said to anybody.
 */
import type { AgentId, FrameworkId } from '../../protocol/ids.ts';
import { taskKey } from '../../protocol/ids.ts';
import type {
  AgentRecord,
  ExecutorRecord,
  FrameworkRecord,
  OfferRecord,
  RegistryRecords,
  TaskRecord,
  TaskResize,
} from '../../protocol/records.ts';
import { REGISTRY_FORMAT } from '../../protocol/records.ts';
import type { ExecutorPath } from '../../protocol/replay.ts';
import { executorPath } from '../../protocol/replay.ts';
import type { Resources } from '../../protocol/resources.ts';
import { addResources, NO_RESOURCES, subtractResources } from '../../protocol/resources.ts';
import { isTerminal } from '../../protocol/task-state.ts';
import type { Agent, Framework, MasterState } from './state.ts';

/** Fills an empty state from the registry. An offer whose agent or framework is gone is dropped, and marked so. */
export function loadRecords(state: MasterState, records: RegistryRecords): void {
  const [cluster] = records.cluster;
  // From here on it may hold what an older Kaon cannot read.
  if (cluster) state.cluster = { ...cluster, format: REGISTRY_FORMAT };
  for (const record of records.agents) setAgent(state, record);
  for (const record of records.frameworks) setFramework(state, record);
  for (const record of records.executors) addExecutor(state, record);
  for (const record of records.tasks) addTask(state, record);
  const dropped = records.offers.filter((offer) => !loadOffer(state, offer));
  for (const marks of Object.values(state.dirty)) marks.clear();
  if (cluster?.format !== REGISTRY_FORMAT) state.dirty.cluster.add('state');
  for (const { offerId } of dropped) state.dirty.offers.add(offerId);
}

function loadOffer(state: MasterState, offer: OfferRecord): boolean {
  const isWanted = state.agents.has(offer.agentId) && state.frameworks.has(offer.frameworkId);
  if (isWanted) addOffer(state, offer);
  return isWanted;
}

function emptyUse(): Omit<Agent, 'record'> {
  return {
    used: NO_RESOURCES,
    offered: NO_RESOURCES,
    executors: new Set(),
    tasks: new Set(),
    offers: new Set(),
  };
}

/** Adds an agent, or replaces its record; what it holds stays. */
export function setAgent(state: MasterState, record: AgentRecord): Agent {
  const { agentId } = record.info;
  const known = state.agents.get(agentId);
  if (known?.record.state === 'active') {
    state.total = subtractResources(state.total, known.record.info.resources);
  }
  if (record.state === 'active') state.total = addResources(state.total, record.info.resources);
  const agent = known ?? { record, ...emptyUse() };
  agent.record = record;
  state.agents.set(agentId, agent);
  if (!known) adoptOrphans(state, agent, (of) => of.agentId === agentId);
  state.dirty.agents.add(agentId);
  return agent;
}

/** Forgets an agent. What it holds has to be dealt with before. */
export function removeAgent(state: MasterState, agent: Agent): void {
  const { agentId, resources } = agent.record.info;
  if (agent.record.state === 'active') state.total = subtractResources(state.total, resources);
  state.agents.delete(agentId);
  for (const path of agent.executors) state.orphanExecutors.add(path);
  for (const key of agent.tasks) state.orphans.add(key);
  state.dirty.agents.add(agentId);
}

/** Adds a framework, or replaces its record; what it holds stays. */
export function setFramework(state: MasterState, record: FrameworkRecord): Framework {
  const { frameworkId } = record.info;
  const known = state.frameworks.get(frameworkId);
  const framework = known ?? { record, ...emptyUse() };
  framework.record = record;
  state.frameworks.set(frameworkId, framework);
  if (!known) adoptOrphans(state, framework, (of) => of.frameworkId === frameworkId);
  state.dirty.frameworks.add(frameworkId);
  return framework;
}

/** Forgets a framework. Tasks and executors of it that are still there stay counted on their agents. */
export function removeFramework(state: MasterState, frameworkId: FrameworkId): void {
  const framework = state.frameworks.get(frameworkId);
  for (const path of framework?.executors ?? []) state.orphanExecutors.add(path);
  for (const key of framework?.tasks ?? []) state.orphans.add(key);
  state.frameworks.delete(frameworkId);
  state.dirty.frameworks.add(frameworkId);
}

/** Gives a new holder what is its and there already: after Redis has lost data, or it was torn down before. */
function adoptOrphans(
  state: MasterState,
  holder: Agent | Framework,
  isOwn: (of: Place) => boolean,
): void {
  for (const path of state.orphanExecutors) {
    const executor = state.executors.get(path);
    if (!executor || !isOwn(executor)) continue;
    holder.executors.add(path);
    holder.used = addResources(holder.used, executor.info.resources);
    if (!isOrphan(state, executor)) state.orphanExecutors.delete(path);
  }
  for (const key of state.orphans) {
    const task = state.tasks.get(key);
    if (!task || !isOwn(task)) continue;
    holder.tasks.add(key);
    if (!isTerminal(task.state)) holder.used = addResources(holder.used, countedOf(task));
    if (!isOrphan(state, task)) state.orphans.delete(key);
  }
}

/** Where something is, and whose. */
interface Place {
  readonly agentId: AgentId;
  readonly frameworkId: FrameworkId;
}

function isOrphan(state: MasterState, { agentId, frameworkId }: Place): boolean {
  return !state.agents.has(agentId) || !state.frameworks.has(frameworkId);
}

/** Adds an executor and counts its own resources, until `removeExecutor`. There must be none of that id there. */
export function addExecutor(state: MasterState, record: ExecutorRecord): void {
  const path = pathOf(record);
  state.executors.set(path, record);
  for (const holder of holdersOf(state, record)) {
    holder.executors.add(path);
    holder.used = addResources(holder.used, record.info.resources);
  }
  if (isOrphan(state, record)) state.orphanExecutors.add(path);
  state.dirty.executors.add(path);
}

/** Forgets an executor: what it had for itself is free. */
export function removeExecutor(state: MasterState, record: ExecutorRecord): void {
  const path = pathOf(record);
  for (const holder of holdersOf(state, record)) {
    holder.executors.delete(path);
    holder.used = subtractResources(holder.used, record.info.resources);
  }
  state.executors.delete(path);
  state.orphanExecutors.delete(path);
  state.dirty.executors.add(path);
  state.allocationDue = true;
}

function pathOf({ agentId, frameworkId, info }: ExecutorRecord): ExecutorPath {
  return executorPath(agentId, frameworkId, info.executorId);
}

/**
 * What is counted of a task that has not ended: its resources; while its agent has not answered a resize the larger of
 * both in each component, because either may be in force.
 */
function countedOf({ resources, resize }: TaskRecord): Resources {
  if (!resize) return resources;
  return {
    cpuMillis: Math.max(resources.cpuMillis, resize.resources.cpuMillis),
    memMib: Math.max(resources.memMib, resize.resources.memMib),
  };
}

/** Adds a task and counts its resources, unless it has ended. */
export function addTask(state: MasterState, record: TaskRecord): void {
  const key = taskKey(record.frameworkId, record.taskId);
  state.tasks.set(key, record);
  for (const holder of holdersOf(state, record)) {
    holder.tasks.add(key);
    if (!isTerminal(record.state)) holder.used = addResources(holder.used, countedOf(record));
  }
  if (isOrphan(state, record)) state.orphans.add(key);
  state.dirty.tasks.add(key);
}

/** Gives back what a task used. To be called once, when it ends. */
export function releaseTask(state: MasterState, record: TaskRecord): void {
  for (const holder of holdersOf(state, record)) {
    holder.used = subtractResources(holder.used, countedOf(record));
  }
  state.allocationDue = true;
}

/**
 * Counts a task that has not ended anew.
 *
 * @param resources what is in force
 * @param resize a change of it that its agent has not answered
 */
export function recountTask(
  state: MasterState,
  record: TaskRecord,
  resources: Resources,
  resize?: TaskResize,
): void {
  const before = countedOf(record);
  record.resources = resources;
  if (record.info) record.info = { ...record.info, resources };
  if (resize) record.resize = resize;
  else delete record.resize;
  const change = subtractResources(countedOf(record), before);
  for (const holder of holdersOf(state, record)) holder.used = addResources(holder.used, change);
  touchTask(state, record);
  state.allocationDue = true;
}

/** Forgets a task that has ended and been acknowledged. */
export function removeTask(state: MasterState, record: TaskRecord): void {
  const key = taskKey(record.frameworkId, record.taskId);
  for (const holder of holdersOf(state, record)) holder.tasks.delete(key);
  state.tasks.delete(key);
  state.orphans.delete(key);
  state.dirty.tasks.add(key);
}

/** Marks a task's record as changed. */
export function touchTask(state: MasterState, record: TaskRecord): void {
  state.dirty.tasks.add(taskKey(record.frameworkId, record.taskId));
}

function holdersOf(state: MasterState, of: Place): (Agent | Framework)[] {
  const holders: (Agent | Framework)[] = [];
  const agent = state.agents.get(of.agentId);
  if (agent) holders.push(agent);
  const framework = state.frameworks.get(of.frameworkId);
  if (framework) holders.push(framework);
  return holders;
}

/** Adds an offer and counts its resources on both sides. */
export function addOffer(state: MasterState, offer: OfferRecord): void {
  state.offers.set(offer.offerId, offer);
  for (const holder of holdersOf(state, offer)) {
    holder.offers.add(offer.offerId);
    holder.offered = addResources(holder.offered, offer.resources);
  }
  state.dirty.offers.add(offer.offerId);
}

/** Takes an offer back: its resources are free again. */
export function removeOffer(state: MasterState, offer: OfferRecord): void {
  for (const holder of holdersOf(state, offer)) {
    holder.offers.delete(offer.offerId);
    holder.offered = subtractResources(holder.offered, offer.resources);
  }
  state.offers.delete(offer.offerId);
  state.dirty.offers.add(offer.offerId);
  state.allocationDue = true;
}
