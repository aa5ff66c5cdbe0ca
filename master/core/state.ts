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
  ReservationId,
  TaskId,
  TaskKey,
} from '../../protocol/ids.ts';
import { taskKey } from '../../protocol/ids.ts';
import type { RegistryName } from '../../protocol/keys.ts';
import type { ExecutorPath } from '../../protocol/replay.ts';
import { executorPath } from '../../protocol/replay.ts';
import { TASK_CPU_MILLIS_MIN, TASK_MEM_MIB_MIN } from '../../protocol/limits.ts';
import type { Resources } from '../../protocol/resources.ts';
import { NO_RESOURCES, subtractResources } from '../../protocol/resources.ts';
import { REGISTRY_FORMAT } from '../../protocol/records.ts';
import type { PrincipalRecord } from '../../protocol/principals.ts';
import type { RoleRecord } from '../../protocol/roles.ts';
import type { TaskRules } from '../../protocol/task.ts';
import type {
  AgentRecord,
  ClusterRecord,
  ExecutorRecord,
  FrameworkRecord,
  OfferRecord,
  TaskRecord,
} from '../../protocol/records.ts';
import { allocateHierarchically } from './allocator/hierarchical.ts';
import type { Allocator } from './allocator/port.ts';
import type { Asked } from './demand.ts';
import type { FilterEnds, Filters } from './filters.ts';
import { createFilterEnds } from './filters.ts';

/** What is held of one pool of an agent. */
export interface PoolUse {
  readonly used: Resources;
  readonly offered: Resources;
}

/** An agent as the leader sees it: the stored record, and beside it what is derived. */
export interface Agent {
  record: AgentRecord;
  /** Resources of its tasks that have not ended, and the own ones of its executors. */
  used: Resources;
  /** Resources in its outstanding offers. */
  offered: Resources;
  /** What of both is of reservations, those that nothing is held of left out; `pools.ts` has the rest. */
  readonly pools: Map<ReservationId, PoolUse>;
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
  /** Used and offered, by role. */
  readonly shares: Map<string, Resources>;
  /** What it has declined. Not stored: to the next leader it may decline it again. */
  readonly filters: Filters;
  /**
   * It has let offers run out, so often in a row since it has answered any: until then it is offered nothing, so that who does
   * not look at offers does not keep them from others.
   */
  ignored: { readonly count: number; readonly untilMs: number } | undefined;
  /** Since when it has asked for something and been offered nothing. Looked at only where the master preempts. */
  waitingSinceMs: number | undefined;
  /** What of its demand is in its offers; undefined until somebody wants to know. */
  asked: Asked | undefined;
}

/** A role that somebody holds something under, or that an operator has said something of. */
export interface Role {
  readonly role: string;
  record: RoleRecord | undefined;
  /** Used and offered under this role itself. */
  own: Resources;
  /** The same with the roles below it. */
  holds: Resources;
}

/** What is made free of one agent, for one framework: until it has been offered that, nobody else is offered the agent. */
export interface Preemption {
  readonly frameworkId: FrameworkId;
  readonly role: string;
  /** Given up then, if victims take longer than their grace periods or the framework is not offered it. */
  readonly untilMs: number;
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
  /** Who is offered what. Default: hierarchical weighted DRF. */
  readonly allocator: Allocator;
  /** What is asked for and has not been offered for so long may preempt. Undefined, the default: nothing ever does. */
  readonly preemptAfterMs: number | undefined;
  /** Less than this of any resource is not offered. Default: what the smallest task has. */
  readonly minimumOffer: Resources;
  /** Ids of agents, or patterns of them with `*`: of others nothing is offered. Undefined, the default: all are. */
  readonly whitelist: readonly string[] | undefined;
}
/** The defaults of `MasterOptions`. */
export const MASTER_OPTIONS_DEFAULT: MasterOptions = {
  offerTimeoutMs: 30_000,
  agentTimeoutMs: 75_000,
  agentRemovalsPerMinute: 30,
  unreachableShareMax: 0.5,
  allocator: allocateHierarchically,
  minimumOffer: { cpuMillis: TASK_CPU_MILLIS_MIN, memMib: TASK_MEM_MIB_MIN },
  preemptAfterMs: undefined,
  whitelist: undefined,
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
  /** Where in `agentOrder` the next round begins: it goes round, so that work spreads over the agents. */
  nextAgent: number;
  /** Ids of all agents, sorted: what is decided must not depend on who registered when. */
  readonly agentOrder: AgentId[];
  /** What may have made an offer possible since the last round. */
  readonly changed: Changed;
  /** Settings that this leader has acted on; undefined before its first tick. */
  inForce: Pick<MasterOptions, 'whitelist' | 'minimumOffer'> | undefined;
  /** That of the options, as it is looked up. */
  whitelist: Whitelist | undefined;
  /** A round was refused: none is decided before a tick after that time. 0: there is no pause. */
  allocationPausedUntilMs: number;
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
  /** Used and offered on these. */
  taken: Resources;
  readonly roles: Map<string, Role>;
  /** What is being made free, and for whom. Not stored: the next leader sees who still waits. */
  readonly preemptions: Map<AgentId, Preemption>;
  /** Ends of filters, for the ticks. */
  readonly filterEnds: FilterEnds;
  readonly agents: Map<AgentId, Agent>;
  /** Those of which anything is reserved. */
  readonly reservedAgents: Set<AgentId>;
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

/** Agents that may be offered. */
export interface Whitelist {
  readonly agentIds: ReadonlySet<string>;
  readonly patterns: readonly string[];
}

/** @returns undefined: all agents may be offered */
export function whitelistOf({ whitelist }: MasterOptions): Whitelist | undefined {
  if (!whitelist) return undefined;
  const patterns = whitelist.filter((one) => one.includes('*'));
  return { agentIds: new Set(whitelist), patterns };
}

/** What has to be looked at in the next round of allocation. */
export interface Changed {
  /** Something has become free there, or somebody takes it again. */
  readonly agents: Set<AgentId>;
  /** They want more or something else, or may have more. */
  readonly frameworks: Set<FrameworkId>;
  /** All agents, for all frameworks. */
  everything: boolean;
}

/** @returns whether there is a reason for a round of allocation, and no pause */
export function isAllocationDue({ changed, allocationPausedUntilMs }: MasterState): boolean {
  if (allocationPausedUntilMs > 0) return false;
  return changed.everything || changed.agents.size > 0 || changed.frameworks.size > 0;
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
    agentOrder: [],
    preemptions: new Map(),
    changed: { agents: new Set(), frameworks: new Set(), everything: true },
    inForce: undefined,
    whitelist: whitelistOf(options),
    allocationPausedUntilMs: 0,
    removals: { left: options.agentRemovalsPerMinute, atMs: 0 },
    isSuspicious: false,
    principals: undefined,
    forged: new Set(),
    refusals: new Map(),
    cluster: { format: REGISTRY_FORMAT, recoveringUntilMs: 0, isNew: false, tornDown: [] },
    total: NO_RESOURCES,
    taken: NO_RESOURCES,
    roles: new Map(),
    filterEnds: createFilterEnds(),
    agents: new Map(),
    reservedAgents: new Set(),
    frameworks: new Map(),
    offers: new Map(),
    executors: new Map(),
    tasks: new Map(),
    orphans: new Set(),
    orphanExecutors: new Set(),
    dirty: {
      cluster: new Set(),
      roles: new Set(),
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

/** It is being emptied: not offered any more. */
export function isDraining({ record: { drain } }: Readonly<Agent>, nowMs: number): boolean {
  return drain !== undefined && drain.fromMs <= nowMs;
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
  take('roles', (key) => state.roles.get(key)?.record);
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
