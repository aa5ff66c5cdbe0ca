/**
 * What the leader knows: agents, frameworks, offers, tasks. Plain data, changed only by the functions of this folder.
 *
 * The `record` of each entry is what the registry in Redis holds; what stands beside it (sums, sets) is derived and
 * rebuilt on load. A changed record is marked in `dirty`, and `takeChanges` turns the marks into one write each,
 * however often a batch touched it.
 */
import type { AgentId, FrameworkId, OfferId, TaskId, TaskKey } from '../../protocol/ids.ts';
import { taskKey } from '../../protocol/ids.ts';
import type { Resources } from '../../protocol/resources.ts';
import { addResources, NO_RESOURCES, subtractResources } from '../../protocol/resources.ts';
import { REGISTRY_FORMAT } from '../../protocol/records.ts';
import { isTerminal } from '../../protocol/task-state.ts';
import type { TaskRules } from '../../protocol/task.ts';
import type {
  AgentRecord,
  ClusterRecord,
  FrameworkRecord,
  OfferRecord,
  TaskRecord,
} from '../../protocol/records.ts';

/** An agent as the leader sees it: the stored record, and beside it what is derived. */
export interface Agent {
  record: AgentRecord;
  /** Resources of its tasks that have not ended. */
  used: Resources;
  /** Resources in its outstanding offers. */
  offered: Resources;
  readonly tasks: Set<TaskKey>;
  readonly offers: Set<OfferId>;
}

/** A framework as the leader sees it: the stored record, and beside it what is derived. */
export interface Framework {
  record: FrameworkRecord;
  /** Resources of its tasks that have not ended, on all agents. */
  used: Resources;
  offered: Resources;
  readonly tasks: Set<TaskKey>;
  readonly offers: Set<OfferId>;
}

/** Options of the master that decisions depend on. */
export interface MasterOptions {
  /** How long a framework may sit on an offer. Default 30 s. */
  readonly offerTimeoutMs: number;
  /**
   * An agent that is silent for so long is unreachable; and after Redis has lost data, so long is waited for agents to
   * come back before a task is said to be unknown. Default 75 s.
   */
  readonly agentTimeoutMs: number;
  /** How many agents a minute may become unreachable: their tasks are not all replaced at once. Default 30. */
  readonly agentRemovalsPerMinute: number;
  /**
   * If more than this share of the reachable agents is silent at once, the fault is more likely on this side: none of
   * them is called unreachable. Looked at from three silent agents on. Default 0.5.
   */
  readonly unreachableShareMax: number;
}
/** The defaults of `MasterOptions`. */
export const MASTER_OPTIONS_DEFAULT: MasterOptions = {
  offerTimeoutMs: 30_000,
  agentTimeoutMs: 75_000,
  agentRemovalsPerMinute: 30,
  unreachableShareMax: 0.5,
};

/** Everything that the leader decides on. The maps are in the order of registration, launch and offer. */
export interface MasterState {
  readonly options: MasterOptions;
  /** Of this leader. Raised when an agent has seen a higher one: Redis has lost the epochs in between. */
  epoch: number;
  readonly masterId: string;
  /** Drawn for this term: ids of offers and launches are made of it, so that they never repeat, whatever Redis loses. */
  readonly term: string;
  nextOffer: number;
  nextLaunch: number;
  /** Where the allocator begins to look: it goes round, so that work spreads over the agents. */
  nextAgent: number;
  /** Something changed that may make an offer possible. */
  allocationDue: boolean;
  /** Agents that may become unreachable now: a bucket that fills with time. */
  removals: { left: number; atMs: number };
  /** More agents are silent than this master believes; said once, until they are not. */
  isSuspicious: boolean;
  cluster: ClusterRecord;
  /** Sum over the agents that are active. */
  total: Resources;
  readonly agents: Map<AgentId, Agent>;
  readonly frameworks: Map<FrameworkId, Framework>;
  readonly offers: Map<OfferId, OfferRecord>;
  readonly tasks: Map<TaskKey, TaskRecord>;
  /** Tasks whose agent or framework is not known (any more): counted again if it comes back. */
  readonly orphans: Set<TaskKey>;
  readonly dirty: Readonly<Record<RecordChange['registry'], Set<string>>>;
}

/** Who leads: what clients are told, and what makes ids unique. */
export interface MasterIdentity {
  readonly masterId: string;
  readonly epoch: number;
  /** Some characters drawn for this term. */
  readonly term: string;
}

/** @returns an empty state; `loadRecords` fills it */
export function createMasterState(
  identity: MasterIdentity,
  options: MasterOptions = MASTER_OPTIONS_DEFAULT,
): MasterState {
  return {
    options,
    epoch: identity.epoch,
    masterId: identity.masterId,
    term: identity.term,
    nextOffer: 1,
    nextLaunch: 1,
    nextAgent: 0,
    allocationDue: true,
    removals: { left: options.agentRemovalsPerMinute, atMs: 0 },
    isSuspicious: false,
    cluster: { format: REGISTRY_FORMAT, recoveringUntilMs: 0, isNew: false, tornDown: [] },
    total: NO_RESOURCES,
    agents: new Map(),
    frameworks: new Map(),
    offers: new Map(),
    tasks: new Map(),
    orphans: new Set(),
    dirty: {
      cluster: new Set(),
      agents: new Set(),
      frameworks: new Set(),
      tasks: new Set(),
      offers: new Set(),
    },
  };
}

/** What a registry holds, decoded. */
export interface Records {
  /** At most one. */
  readonly cluster: readonly ClusterRecord[];
  readonly agents: readonly AgentRecord[];
  readonly frameworks: readonly FrameworkRecord[];
  readonly offers: readonly OfferRecord[];
  readonly tasks: readonly TaskRecord[];
}

/** Fills an empty state from the registry. An offer whose agent or framework is gone is dropped, and marked so. */
export function loadRecords(state: MasterState, records: Records): void {
  const [cluster] = records.cluster;
  if (cluster) state.cluster = cluster;
  for (const record of records.agents) setAgent(state, record);
  for (const record of records.frameworks) setFramework(state, record);
  for (const record of records.tasks) addTask(state, record);
  const dropped: OfferId[] = [];
  for (const offer of records.offers) {
    if (state.agents.has(offer.agentId) && state.frameworks.has(offer.frameworkId)) {
      addOffer(state, offer);
    } else dropped.push(offer.offerId);
  }
  for (const marks of Object.values(state.dirty)) marks.clear();
  if (!cluster) state.dirty.cluster.add('state');
  for (const offerId of dropped) state.dirty.offers.add(offerId);
}

function emptyUse(): Omit<Agent, 'record'> {
  return { used: NO_RESOURCES, offered: NO_RESOURCES, tasks: new Set(), offers: new Set() };
}

/** Adds an agent, or replaces its record; tasks and offers stay. */
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
  if (!known) adoptOrphans(state, agent, (task) => task.agentId === agentId);
  state.dirty.agents.add(agentId);
  return agent;
}

/** Forgets an agent. Its tasks and offers have to be dealt with before. */
export function removeAgent(state: MasterState, agent: Agent): void {
  const { agentId, resources } = agent.record.info;
  if (agent.record.state === 'active') state.total = subtractResources(state.total, resources);
  state.agents.delete(agentId);
  for (const key of agent.tasks) state.orphans.add(key);
  state.dirty.agents.add(agentId);
}

/** Adds a framework, or replaces its record; tasks and offers stay. */
export function setFramework(state: MasterState, record: FrameworkRecord): Framework {
  const { frameworkId } = record.info;
  const known = state.frameworks.get(frameworkId);
  const framework = known ?? { record, ...emptyUse() };
  framework.record = record;
  state.frameworks.set(frameworkId, framework);
  if (!known) adoptOrphans(state, framework, (task) => task.frameworkId === frameworkId);
  state.dirty.frameworks.add(frameworkId);
  return framework;
}

/** Forgets a framework. Tasks of it that still run stay counted on their agents. */
export function removeFramework(state: MasterState, frameworkId: FrameworkId): void {
  for (const key of state.frameworks.get(frameworkId)?.tasks ?? []) state.orphans.add(key);
  state.frameworks.delete(frameworkId);
  state.dirty.frameworks.add(frameworkId);
}

/** Gives a new holder the tasks of its that are there already: after Redis has lost data, or it was torn down before. */
function adoptOrphans(
  state: MasterState,
  holder: Agent | Framework,
  isOwn: (task: TaskRecord) => boolean,
): void {
  for (const key of state.orphans) {
    const task = state.tasks.get(key);
    if (!task || !isOwn(task)) continue;
    holder.tasks.add(key);
    if (!isTerminal(task.state)) holder.used = addResources(holder.used, task.resources);
    if (!isOrphan(state, task)) state.orphans.delete(key);
  }
}

function isOrphan(state: MasterState, { agentId, frameworkId }: TaskRecord): boolean {
  return !state.agents.has(agentId) || !state.frameworks.has(frameworkId);
}

/** Adds a task and counts its resources, unless it has ended. */
export function addTask(state: MasterState, record: TaskRecord): void {
  const key = taskKey(record.frameworkId, record.taskId);
  state.tasks.set(key, record);
  for (const holder of holdersOf(state, record)) {
    holder.tasks.add(key);
    if (!isTerminal(record.state)) holder.used = addResources(holder.used, record.resources);
  }
  if (isOrphan(state, record)) state.orphans.add(key);
  state.dirty.tasks.add(key);
}

/** Gives back what a task used. To be called once, when it ends. */
export function releaseTask(state: MasterState, record: TaskRecord): void {
  for (const holder of holdersOf(state, record)) {
    holder.used = subtractResources(holder.used, record.resources);
  }
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

function holdersOf(
  state: MasterState,
  of: { agentId: AgentId; frameworkId: FrameworkId },
): (Agent | Framework)[] {
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

/** What may still be offered of an agent; a component is negative if the agent has shrunk below its tasks. */
export function freeOf(agent: Readonly<Agent>): Resources {
  const { record, used, offered } = agent;
  return subtractResources(subtractResources(record.info.resources, used), offered);
}

/** @returns the task, running or not yet acknowledged; undefined if it was never launched or is history */
export function findTask(
  state: MasterState,
  frameworkId: FrameworkId,
  taskId: TaskId,
): TaskRecord | undefined {
  return state.tasks.get(taskKey(frameworkId, taskId));
}

/** What was promised of a task's end, as far as it is known. */
export function rulesOf(task: TaskRecord): Partial<TaskRules> {
  return task.info ?? task.rules ?? {};
}

/** One write to the registry. */
export interface RecordChange {
  readonly registry: 'cluster' | 'agents' | 'frameworks' | 'tasks' | 'offers';
  readonly key: string;
  /** JSON; undefined deletes. */
  readonly value: string | undefined;
}

/** The registry writes of everything that was marked since the last call. */
export function takeChanges(state: MasterState): RecordChange[] {
  const changes: RecordChange[] = [];
  const take = (registry: RecordChange['registry'], find: (key: string) => unknown): void => {
    for (const key of state.dirty[registry]) {
      const record = find(key);
      changes.push({
        registry,
        key,
        value: record === undefined ? undefined : JSON.stringify(record),
      });
    }
    state.dirty[registry].clear();
  };
  take('cluster', (key) => (key === 'state' ? state.cluster : undefined));
  take('agents', (key) => state.agents.get(key as AgentId)?.record);
  take('frameworks', (key) => state.frameworks.get(key as FrameworkId)?.record);
  take('tasks', (key) => state.tasks.get(key as TaskKey));
  take('offers', (key) => state.offers.get(key as OfferId));
  return changes;
}

/** Changes what is known of the whole cluster. */
export function setCluster(state: MasterState, change: Partial<ClusterRecord>): void {
  state.cluster = { ...state.cluster, ...change };
  state.dirty.cluster.add('state');
}

/** Redis has lost data not long ago: agents may still come back with tasks that are not known. */
export function isRecovering(state: MasterState, nowMs: number): boolean {
  return state.cluster.recoveringUntilMs > nowMs;
}
