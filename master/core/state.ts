/**
 * What the leader knows: agents, frameworks, offers, executors, tasks. Plain data, changed only by the functions of this
 * folder; entries come and go by those of `books.ts`.
 *
 * The `record` of each entry is what the registry in Redis holds; what stands beside it (sums, sets) is derived and
 * rebuilt on load. A changed record is marked in `dirty`, and `takeChanges` turns the marks into one write each,
 * however often a batch touched it.
 */
import type {
  AgentId,
  ExecutorId,
  FrameworkId,
  OfferId,
  TaskId,
  TaskKey,
} from '../../protocol/ids.ts';
import { taskKey } from '../../protocol/ids.ts';
import type { RegistryName } from '../../protocol/keys.ts';
import type { ExecutorPath } from '../../protocol/replay.ts';
import { executorPath } from '../../protocol/replay.ts';
import type { Resources } from '../../protocol/resources.ts';
import { NO_RESOURCES, subtractResources } from '../../protocol/resources.ts';
import { REGISTRY_FORMAT } from '../../protocol/records.ts';
import type { PrincipalRecord } from '../../protocol/principals.ts';
import type { TaskRules } from '../../protocol/task.ts';
import type {
  AgentRecord,
  ClusterRecord,
  ExecutorRecord,
  FrameworkRecord,
  OfferRecord,
  TaskRecord,
} from '../../protocol/records.ts';

/** An agent as the leader sees it: the stored record, and beside it what is derived. */
export interface Agent {
  record: AgentRecord;
  /** Resources of its tasks that have not ended, and the own ones of its executors. */
  used: Resources;
  /** Resources in its outstanding offers. */
  offered: Resources;
  readonly executors: Set<ExecutorPath>;
  readonly tasks: Set<TaskKey>;
  readonly offers: Set<OfferId>;
}

/** A framework as the leader sees it: the stored record, and beside it what is derived. */
export interface Framework {
  record: FrameworkRecord;
  /** Resources of its tasks that have not ended, and the own ones of its executors, on all agents. */
  used: Resources;
  offered: Resources;
  readonly executors: Set<ExecutorPath>;
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
  /** Of a secured cluster; absent in an open one. */
  principals: ReadonlyMap<string, PrincipalRecord> | undefined;
  /** Names of forged principals, each said once. */
  forged: ReadonlySet<string>;
  /** Refusals by what they are about: when the last one was told, and how many came since. */
  readonly refusals: Map<string, { readonly atMs: number; count: number }>;
  cluster: ClusterRecord;
  /** Sum over the agents that are active. */
  total: Resources;
  readonly agents: Map<AgentId, Agent>;
  readonly frameworks: Map<FrameworkId, Framework>;
  readonly offers: Map<OfferId, OfferRecord>;
  readonly executors: Map<ExecutorPath, ExecutorRecord>;
  readonly tasks: Map<TaskKey, TaskRecord>;
  /** Tasks whose agent or framework is not known (any more): counted again if it comes back. */
  readonly orphans: Set<TaskKey>;
  /** The same of executors. */
  readonly orphanExecutors: Set<ExecutorPath>;
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
    principals: undefined,
    forged: new Set(),
    refusals: new Map(),
    cluster: { format: REGISTRY_FORMAT, recoveringUntilMs: 0, isNew: false, tornDown: [] },
    total: NO_RESOURCES,
    agents: new Map(),
    frameworks: new Map(),
    offers: new Map(),
    executors: new Map(),
    tasks: new Map(),
    orphans: new Set(),
    orphanExecutors: new Set(),
    dirty: {
      cluster: new Set(),
      agents: new Set(),
      frameworks: new Set(),
      executors: new Set(),
      tasks: new Set(),
      offers: new Set(),
    },
  };
}

/** What may still be offered of an agent; a component is negative if the agent has shrunk below its tasks. */
export function freeOf(agent: Readonly<Agent>): Resources {
  const { record, used, offered } = agent;
  return subtractResources(subtractResources(record.info.resources, used), offered);
}

/** @returns the agent of that client's name */
export function agentOf(state: MasterState, client: string): Agent | undefined {
  return client.startsWith('agent:') ? state.agents.get(client.slice(6) as AgentId) : undefined;
}

/** @returns the framework of that client's name */
export function frameworkOf(state: MasterState, client: string): Framework | undefined {
  const isOne = client.startsWith('framework:');
  return isOne ? state.frameworks.get(client.slice(10) as FrameworkId) : undefined;
}

/** @returns the task, running or not yet acknowledged; undefined if it was never launched or is history */
export function findTask(
  state: MasterState,
  frameworkId: FrameworkId,
  taskId: TaskId,
): TaskRecord | undefined {
  return state.tasks.get(taskKey(frameworkId, taskId));
}

/** @returns the executor of that framework on that agent; undefined if it is not there, nor on its way */
export function findExecutor(
  state: MasterState,
  agentId: AgentId,
  frameworkId: FrameworkId,
  executorId: ExecutorId,
): ExecutorRecord | undefined {
  return state.executors.get(executorPath(agentId, frameworkId, executorId));
}

/** What was promised of a task's end, as far as it is known. */
export function rulesOf(task: TaskRecord): Partial<TaskRules> {
  return task.info ?? task.rules ?? {};
}

/** One write to the registry. */
export interface RecordChange {
  readonly registry: RegistryName;
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
  take('executors', (key) => state.executors.get(key as ExecutorPath));
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
