/**
 * Which tasks go onto which offers: first-fit-decreasing, large tasks first. Pure, and the same for the same arguments; a
 * scheduler with other ideas needs none of it.
 *
 * An agent's room is the sum of its offers. An executor's own resources are taken out of it once, where it is not there yet.
 */
import type { AgentId, OfferId } from '../protocol/ids.ts';
import { OFFERS_PER_CALL_MAX, TASKS_PER_LAUNCH_MAX } from '../protocol/limits.ts';
import type { Resources } from '../protocol/resources.ts';
import { addResources, fits, subtractResources, sumResources } from '../protocol/resources.ts';
import type { Offer } from '../protocol/task.ts';
import { REQUESTS_PER_CALL_MAX } from './calls.ts';
import type { ResourceDescription } from './descriptions.ts';

/** What there is to know of a task that is to be placed; every `TaskDescription` has it. */
export interface PackableTask {
  readonly resources: Resources;
  readonly executor?: { readonly executorId: string; readonly resources: Resources } | undefined;
  /** Tasks of one group go onto one agent, or none of them goes anywhere. */
  readonly groupId?: string | undefined;
  /** Default 0. */
  readonly priority?: number | undefined;
}

/** Where a task may go. */
export interface PackConstraints {
  /** Only onto agents that have all of these. */
  readonly attributes?: Readonly<Record<string, string>>;
  /** Onto no agent that has one of these. */
  readonly notAttributes?: Readonly<Record<string, string>>;
  /** At most so many tasks of its kind on one agent. */
  readonly maxPerAgent?: number;
}

/** How tasks are placed. */
export interface PackOptions<T> {
  /**
   * `pack` (default): onto the first agent, in the order of the offers, that has room. `spread`: onto the one with the
   * fewest tasks of the same kind.
   */
  readonly strategy?: 'pack' | 'spread';
  /** Of all tasks, or of each its own. Default: none. */
  readonly constraints?: PackConstraints | ((task: T) => PackConstraints);
  /** Tasks of one kind count together for `maxPerAgent` and `spread`. Default: all tasks are of one kind. */
  readonly kindOf?: (task: T) => string;
  /** How many tasks of that kind are on the agent already. Default: none. */
  readonly running?: (agentId: AgentId, kind: string) => number;
}

/** What goes onto one agent: the arguments of one `launchTasks`. */
export interface AgentLaunch<T> {
  readonly agentId: AgentId;
  readonly hostname: string;
  /** All that there are of this agent. What the tasks leave of them goes back with the launch. */
  readonly offerIds: readonly OfferId[];
  readonly tasks: readonly T[];
  /** Of all the tasks, and of the executors that they start. */
  readonly resources: Resources;
}

/** Each task is in one launch or unplaced; each offer is in one launch or unused. */
export interface Packing<T> {
  readonly launches: readonly AgentLaunch<T>[];
  /** In the order in which they were given. */
  readonly unplaced: readonly T[];
  readonly unusedOffers: readonly Offer[];
}

/** Offers of each agent; agents and offers in the order in which they come. */
export function offersByAgent(offers: Iterable<Offer>): Map<AgentId, Offer[]> {
  const byAgent = new Map<AgentId, Offer[]>();
  for (const offer of offers) {
    const list = byAgent.get(offer.agentId);
    if (list) list.push(offer);
    else byAgent.set(offer.agentId, [offer]);
  }
  return byAgent;
}

/** All that is offered. */
export function totalOf(offers: Iterable<Offer>): Resources {
  return sumResources([...offers].map(({ resources }) => resources));
}

/**
 * Places tasks on offers. Cost: tasks times agents.
 *
 * @returns launches that are within their offers and keep the constraints. What is unplaced fits nowhere any more
 */
export function packTasks<T extends PackableTask>(
  offers: readonly Offer[],
  tasks: readonly T[],
  options: PackOptions<T> = {},
): Packing<T> {
  const rooms = [...offersByAgent(offers)].map(([agentId, own]) => roomOf<T>(agentId, own));
  const total = totalOf(offers);
  const units = unitsOf(tasks, options).sort((a, b) => sizeOf(b, total) - sizeOf(a, total));
  const unplaced = new Set<number>();
  for (const unit of units) {
    const room = choose(rooms, unit, options);
    if (room) place(room, unit);
    else for (const position of unit.positions) unplaced.add(position);
  }
  const used = rooms.filter((room) => room.tasks.length > 0);
  const usedOffers = new Set(used.flatMap((room) => room.offers));
  return {
    launches: used.map(({ agentId, hostname, offers: own, tasks: placed, taken }) => ({
      agentId,
      hostname,
      offerIds: own.map(({ offerId }) => offerId),
      tasks: placed,
      resources: taken,
    })),
    unplaced: tasks.filter((_task, position) => unplaced.has(position)),
    unusedOffers: offers.filter((offer) => !usedOffers.has(offer)),
  };
}

/**
 * What to ask for so that all of these tasks can be placed: for `requestResources`. Tasks that need the same are one request.
 * An executor's own resources are asked for with each of its tasks (or groups), because each may come onto another agent.
 *
 * @returns at most 1000 requests, of the first tasks; the rest is to be asked for when they have been placed
 */
export function requestsOf<T extends PackableTask>(
  tasks: readonly T[],
  options: Pick<PackOptions<T>, 'constraints'> = {},
): ResourceDescription[] {
  const requests = new Map<string, ResourceDescription & { count: number }>();
  for (const unit of unitsOf(tasks, options)) {
    const resources = addResources(unit.need, sumResources(unit.executors.values()));
    const attributes = Object.assign(
      {},
      ...unit.constraints.map((each) => each.attributes),
    ) as Record<string, string>;
    const priority = Math.max(...unit.tasks.map((task) => task.priority ?? 0));
    const key = JSON.stringify([resources, Object.entries(attributes).sort(), priority]);
    const known = requests.get(key);
    if (known) known.count += 1;
    else if (requests.size < REQUESTS_PER_CALL_MAX) {
      requests.set(key, {
        ...{ resources, count: 1, attributes },
        ...(priority !== 0 && { priority }),
      });
    }
  }
  return [...requests.values()];
}

/** What is left of an agent's offers, and what has been put there. */
interface Room<T> {
  readonly agentId: AgentId;
  readonly hostname: string;
  readonly attributes: Readonly<Record<string, string>>;
  readonly offers: readonly Offer[];
  readonly executors: Set<string>;
  readonly tasks: T[];
  readonly countOf: Map<string, number>;
  free: Resources;
  taken: Resources;
}

/** What is placed as a whole: a task alone, or a group. */
interface Unit<T> {
  readonly tasks: T[];
  /** Of the tasks, among those that were given. */
  readonly positions: number[];
  readonly constraints: PackConstraints[];
  readonly countOf: Map<string, number>;
  /** Own resources of each executor that is needed. */
  readonly executors: Map<string, Resources>;
  /** Of the tasks alone. */
  need: Resources;
}

function roomOf<T>(agentId: AgentId, all: readonly Offer[]): Room<T> {
  // One launch takes no more offers; a further one stays unused.
  const offers = all.slice(0, OFFERS_PER_CALL_MAX);
  const [first] = offers;
  return {
    agentId,
    hostname: first?.hostname ?? '',
    attributes: first?.attributes ?? {},
    offers,
    executors: new Set(offers.flatMap(({ executorIds }) => executorIds)),
    tasks: [],
    countOf: new Map(),
    free: totalOf(offers),
    taken: { cpuMillis: 0, memMib: 0 },
  };
}

function unitsOf<T extends PackableTask>(
  tasks: readonly T[],
  { constraints = {}, kindOf = () => '' }: PackOptions<T>,
): Unit<T>[] {
  const units: Unit<T>[] = [];
  const groups = new Map<string, Unit<T>>();
  tasks.forEach((task, position) => {
    const { groupId, executor, resources } = task;
    let unit = groupId === undefined ? undefined : groups.get(groupId);
    if (!unit) {
      unit = emptyUnit();
      units.push(unit);
      if (groupId !== undefined) groups.set(groupId, unit);
    }
    unit.tasks.push(task);
    unit.positions.push(position);
    unit.constraints.push(typeof constraints === 'function' ? constraints(task) : constraints);
    increase(unit.countOf, kindOf(task), 1);
    if (executor) unit.executors.set(executor.executorId, executor.resources);
    unit.need = addResources(unit.need, resources);
  });
  return units;
}

function emptyUnit<T>(): Unit<T> {
  return {
    tasks: [],
    positions: [],
    constraints: [],
    countOf: new Map(),
    executors: new Map(),
    need: { cpuMillis: 0, memMib: 0 },
  };
}

/** The larger of its shares of all that is offered: what is hardest to place comes first. */
function sizeOf(unit: Unit<unknown>, total: Resources): number {
  const { cpuMillis, memMib } = unit.need;
  return Math.max(cpuMillis / Math.max(1, total.cpuMillis), memMib / Math.max(1, total.memMib));
}

function choose<T>(
  rooms: readonly Room<T>[],
  unit: Unit<T>,
  options: PackOptions<T>,
): Room<T> | undefined {
  const isFit = (room: Room<T>): boolean => hasRoom(room, unit) && isAllowed(room, unit, options);
  if (options.strategy !== 'spread') return rooms.find(isFit);
  let best: { readonly room: Room<T>; readonly load: number } | undefined;
  for (const room of rooms) {
    if (!isFit(room)) continue;
    const load = loadOf(room, unit, options);
    const isBetter =
      !best ||
      load < best.load ||
      (load === best.load && room.tasks.length < best.room.tasks.length);
    if (isBetter) best = { room, load };
  }
  return best?.room;
}

function hasRoom<T>(room: Room<T>, unit: Unit<T>): boolean {
  if (room.tasks.length + unit.tasks.length > TASKS_PER_LAUNCH_MAX) return false;
  // First what most agents fail at, and what costs nothing to find out.
  return fits(unit.need, room.free) && fits(costOf(room, unit), room.free);
}

/** The tasks, and the executors that are not there yet. */
function costOf<T>(room: Room<T>, unit: Unit<T>): Resources {
  if (unit.executors.size === 0) return unit.need;
  const missing = [...unit.executors].filter(([executorId]) => !room.executors.has(executorId));
  return addResources(unit.need, sumResources(missing.map(([, own]) => own)));
}

function isAllowed<T>(room: Room<T>, unit: Unit<T>, options: PackOptions<T>): boolean {
  return unit.constraints.every(({ attributes, notAttributes, maxPerAgent }, index) => {
    const has = ([name, value]: [string, string]): boolean => room.attributes[name] === value;
    if (!Object.entries(attributes ?? {}).every(has)) return false;
    if (Object.entries(notAttributes ?? {}).some(has)) return false;
    if (maxPerAgent === undefined) return true;
    const kind = kindOfTask(unit, index, options);
    return countOn(room, kind, options) + (unit.countOf.get(kind) ?? 0) <= maxPerAgent;
  });
}

function kindOfTask<T>(unit: Unit<T>, index: number, { kindOf }: PackOptions<T>): string {
  const task = unit.tasks[index];
  return task === undefined || !kindOf ? '' : kindOf(task);
}

function countOn<T>(room: Room<T>, kind: string, { running }: PackOptions<T>): number {
  return (room.countOf.get(kind) ?? 0) + (running?.(room.agentId, kind) ?? 0);
}

/** Tasks of the same kinds on the agent. */
function loadOf<T>(room: Room<T>, unit: Unit<T>, options: PackOptions<T>): number {
  let load = 0;
  for (const kind of unit.countOf.keys()) load += countOn(room, kind, options);
  return load;
}

function place<T>(room: Room<T>, unit: Unit<T>): void {
  const cost = costOf(room, unit);
  room.free = subtractResources(room.free, cost);
  room.taken = addResources(room.taken, cost);
  room.tasks.push(...unit.tasks);
  for (const executorId of unit.executors.keys()) room.executors.add(executorId);
  for (const [kind, count] of unit.countOf) increase(room.countOf, kind, count);
}

function increase(counts: Map<string, number>, key: string, by: number): void {
  counts.set(key, (counts.get(key) ?? 0) + by);
}
