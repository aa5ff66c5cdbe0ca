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
import type { ReservedPart } from '../../protocol/reservations.ts';
import type { Resources } from '../../protocol/resources.ts';
import {
  addResources,
  amountOf,
  areEqual,
  largerOf,
  NO_RESOURCES,
  otherNames,
  subtractResources,
} from '../../protocol/resources.ts';
import { ROLE_DEFAULT } from '../../protocol/roles.ts';
import { isTerminal } from '../../protocol/task-state.ts';
import { noteOffer, noteOfferGone } from './demand.ts';
import { hasReservations, holdPool, partsWithin } from './pools.ts';
import { countRoles, roleOf, setRole } from './role-books.ts';
import type { Agent, Framework, MasterState } from './state.ts';

/** Fills an empty state from the registry. An offer whose agent or framework is gone is dropped, and marked so. */
export function loadRecords(state: MasterState, records: RegistryRecords): void {
  const [cluster] = records.cluster;
  // From here on it may hold what an older Kaon cannot read.
  if (cluster) state.cluster = { ...cluster, format: REGISTRY_FORMAT };
  for (const record of records.roles) setRole(state, record);
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

function emptyUse(): Omit<Agent, 'record' | 'pools'> {
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
  if (known) countAgent(state, known, subtractResources);
  const agent = known ?? { record, ...emptyUse(), pools: new Map() };
  agent.record = record;
  state.agents.set(agentId, agent);
  countAgent(state, agent, addResources);
  noteReservations(state, record);
  if (!known) {
    insertSorted(state.agentOrder, agentId);
    adoptOrphans(state, agent, (of) => of.agentId === agentId);
  }
  state.dirty.agents.add(agentId);
  state.changed.agents.add(agentId);
  return agent;
}

/** What is reserved and idle counts for guarantees: with it, more or less of all other agents has to be kept. */
function noteReservations(state: MasterState, record: AgentRecord): void {
  const { agentId } = record.info;
  const had = state.reservedAgents.delete(agentId);
  const has = hasReservations(record);
  if (has) state.reservedAgents.add(agentId);
  if (!had && !has) return;
  if ([...state.roles.values()].some((role) => role.record?.guarantee)) {
    state.changed.everything = true;
  }
}

/** An agent that is active counts in the sums of the cluster. */
function countAgent(
  state: MasterState,
  { record, used, offered }: Agent,
  count: (sum: Resources, part: Resources) => Resources,
): void {
  if (record.state !== 'active') return;
  state.total = count(state.total, record.info.resources);
  state.taken = count(state.taken, addResources(used, offered));
}

function insertSorted(order: AgentId[], agentId: AgentId): void {
  order.splice(placeOf(order, agentId), 0, agentId);
}

/** Where an id is, or belongs. Cost: logarithmic. */
function placeOf(order: readonly AgentId[], agentId: AgentId): number {
  let [from, to] = [0, order.length];
  while (from < to) {
    const middle = (from + to) >>> 1;
    if ((order[middle] as AgentId) < agentId) from = middle + 1;
    else to = middle;
  }
  return from;
}

/** Forgets an agent. What it holds has to be dealt with before. */
export function removeAgent(state: MasterState, agent: Agent): void {
  const { agentId } = agent.record.info;
  countAgent(state, agent, subtractResources);
  state.agents.delete(agentId);
  state.reservedAgents.delete(agentId);
  state.agentOrder.splice(placeOf(state.agentOrder, agentId), 1);
  for (const path of agent.executors) state.orphanExecutors.add(path);
  for (const key of agent.tasks) state.orphans.add(key);
  state.dirty.agents.add(agentId);
}

/** Adds a framework, or replaces its record; what it holds stays. */
export function setFramework(state: MasterState, record: FrameworkRecord): Framework {
  const { frameworkId } = record.info;
  const known = state.frameworks.get(frameworkId);
  const framework = known ?? {
    record,
    ...emptyUse(),
    shares: new Map(),
    filters: new Map(),
    ignored: undefined,
    waitingSinceMs: undefined,
    asked: undefined,
  };
  framework.record = record;
  state.frameworks.set(frameworkId, framework);
  state.changed.frameworks.add(frameworkId);
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
    const { role, reserved } = executor;
    hold(state, holder, { kind: 'used', role, part: executor.info.resources, reserved });
    if (!isOrphan(state, executor)) state.orphanExecutors.delete(path);
  }
  for (const key of state.orphans) {
    const task = state.tasks.get(key);
    if (!task || !isOwn(task)) continue;
    holder.tasks.add(key);
    if (!isTerminal(task.state)) {
      const { role, reserved } = task;
      hold(state, holder, { kind: 'used', role, part: countedOf(task), reserved });
    }
    if (!isOrphan(state, task)) state.orphans.delete(key);
  }
}

/** Where something is, whose, and under which role. */
interface Place {
  readonly agentId: AgentId;
  readonly frameworkId: FrameworkId;
  readonly role?: string | undefined;
}

/** A change of what is held. */
interface Holding {
  readonly kind: 'used' | 'offered';
  readonly role: string | undefined;
  /** Negative: less of it. */
  readonly part: Resources;
  /** What of that is of reservations; negative as well. */
  readonly reserved?: readonly ReservedPart[] | undefined;
}

/** Counts a change for one holder, and in the sums beside it. */
function hold(state: MasterState, holder: Agent | Framework, holding: Holding): void {
  const { kind, role, part, reserved = [] } = holding;
  holder[kind] = addResources(holder[kind], part);
  if ('shares' in holder) {
    const name = role ?? ROLE_DEFAULT;
    const share = addResources(holder.shares.get(name) ?? NO_RESOURCES, part);
    if (areEqual(share, NO_RESOURCES)) holder.shares.delete(name);
    else holder.shares.set(name, share);
    return;
  }
  if (holder.record.state === 'active') state.taken = addResources(state.taken, part);
  for (const each of reserved) holdPool(holder.pools, kind, each);
}

/** Counts a change for everybody whom it concerns: agent, framework, and the role with those above it. */
function count(
  state: MasterState,
  of: Place,
  { kind, part, reserved }: Omit<Holding, 'role'>,
): void {
  const holding: Holding = { kind, role: of.role, part, reserved };
  for (const holder of holdersOf(state, of)) hold(state, holder, holding);
  const isLess = isAnyLess(part);
  countRoles(state, of.role ?? ROLE_DEFAULT, part, isLess);
  if (isLess) state.changed.agents.add(of.agentId);
}

function isAnyLess(part: Resources): boolean {
  if (part.cpuMillis < 0 || part.memMib < 0) return true;
  return otherNames(part).some((name) => amountOf(part, name) < 0);
}

function isOrphan(state: MasterState, { agentId, frameworkId }: Place): boolean {
  return !state.agents.has(agentId) || !state.frameworks.has(frameworkId);
}

/** Adds an executor and counts its own resources, until `removeExecutor`. There must be none of that id there. */
export function addExecutor(state: MasterState, record: ExecutorRecord): void {
  const path = pathOf(record);
  record.role = roleOf(state, record);
  state.executors.set(path, record);
  for (const holder of holdersOf(state, record)) holder.executors.add(path);
  count(state, record, { kind: 'used', part: record.info.resources, reserved: record.reserved });
  if (isOrphan(state, record)) state.orphanExecutors.add(path);
  state.dirty.executors.add(path);
}

/** Forgets an executor: what it had for itself is free. */
export function removeExecutor(state: MasterState, record: ExecutorRecord): void {
  const path = pathOf(record);
  for (const holder of holdersOf(state, record)) holder.executors.delete(path);
  giveBack(state, record, record.info.resources);
  state.executors.delete(path);
  state.orphanExecutors.delete(path);
  state.dirty.executors.add(path);
}

/** What was counted is free again, in the pools that it was taken from. */
function giveBack(
  state: MasterState,
  of: Place & { readonly reserved?: readonly ReservedPart[] | undefined },
  part: Resources,
): void {
  const reserved = negativeParts(of.reserved);
  count(state, of, { kind: 'used', part: negative(part), reserved });
}

function negativeParts(parts: readonly ReservedPart[] = []): ReservedPart[] {
  return parts.map(({ reservationId, resources }) => ({
    reservationId,
    resources: negative(resources),
  }));
}

function negative(part: Resources): Resources {
  return subtractResources(NO_RESOURCES, part);
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
  return largerOf(resources, resize.resources);
}

/** Adds a task and counts its resources, unless it has ended. */
export function addTask(state: MasterState, record: TaskRecord): void {
  const key = taskKey(record.frameworkId, record.taskId);
  record.role = roleOf(state, record);
  state.tasks.set(key, record);
  for (const holder of holdersOf(state, record)) holder.tasks.add(key);
  const { reserved } = record;
  if (!isTerminal(record.state)) {
    count(state, record, { kind: 'used', part: countedOf(record), reserved });
  }
  if (isOrphan(state, record)) state.orphans.add(key);
  state.dirty.tasks.add(key);
}

/** Gives back what a task used. To be called once, when it ends. */
export function releaseTask(state: MasterState, record: TaskRecord): void {
  giveBack(state, record, countedOf(record));
}

/** What a task has, as it is counted. */
export interface TaskHolding {
  /** In force. */
  readonly resources: Resources;
  /** A change of it that its agent has not answered. */
  readonly resize?: TaskResize | undefined;
  /** What of both is of reservations; absent: as much as it had, if that is not too much now. */
  readonly reserved?: readonly ReservedPart[] | undefined;
}

/** Counts a task that has not ended anew. */
export function recountTask(state: MasterState, record: TaskRecord, holding: TaskHolding): void {
  const { resources, resize } = holding;
  const [before, partsBefore] = [countedOf(record), record.reserved];
  record.resources = resources;
  if (record.info) record.info = { ...record.info, resources };
  if (resize) record.resize = resize;
  else delete record.resize;
  const counted = countedOf(record);
  const reserved = partsWithin(holding.reserved ?? partsBefore ?? [], counted);
  if (reserved.length > 0) record.reserved = [...reserved];
  else delete record.reserved;
  const part = subtractResources(counted, before);
  const moved = [...negativeParts(partsBefore), ...reserved];
  count(state, record, { kind: 'used', part, reserved: moved });
  touchTask(state, record);
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
  for (const holder of holdersOf(state, offer)) holder.offers.add(offer.offerId);
  const framework = state.frameworks.get(offer.frameworkId);
  if (framework) noteOffer(framework, offer);
  count(state, offer, { kind: 'offered', part: offer.resources, reserved: partsOf(offer) });
  state.dirty.offers.add(offer.offerId);
}

function partsOf({ reservation, resources }: OfferRecord): ReservedPart[] {
  return reservation ? [{ reservationId: reservation.reservationId, resources }] : [];
}

/** Takes an offer back: its resources are free again. */
export function removeOffer(state: MasterState, offer: OfferRecord): void {
  for (const holder of holdersOf(state, offer)) holder.offers.delete(offer.offerId);
  const reserved = negativeParts(partsOf(offer));
  count(state, offer, { kind: 'offered', part: negative(offer.resources), reserved });
  state.offers.delete(offer.offerId);
  state.dirty.offers.add(offer.offerId);
  const framework = state.frameworks.get(offer.frameworkId);
  if (framework) noteOfferGone(framework, offer);
  // What it needs is not on its way any more: any other agent may have it.
  if (framework?.record.demand) state.changed.frameworks.add(offer.frameworkId);
}
