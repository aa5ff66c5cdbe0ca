/**
 * Which jobs are taken next, and onto which offers they go; and what to ask for, so that offers come for them.
 *
 * Jobs whose tasks have the higher priority go first: an offer may be there because a task was ended for one of them, and who
 * is of less would be ended for it again. Of one priority, between queues: the one that holds least for its weight is served
 * first (weighted max-min, as dominant resource fairness does it between frameworks). Within a queue: its groups in turn, the
 * one that was served longest ago first, and within a group the order of BullMQ. A job that fits nowhere is passed over, but
 * not for ever: `patienceMs` after others have begun to overtake it, its queue takes nothing else of its priority or less
 * until it is placed, unless no agent could ever hold it.
 *
 * Pure; it changes nothing but the rooms it is given and the turns of the groups.
 */
import type { Resources } from '../../../protocol/resources.ts';
import {
  addResources,
  fits,
  NO_RESOURCES,
  otherNames,
  subtractResources,
} from '../../../protocol/resources.ts';
import type { PartialResources } from '../../../protocol/roles.ts';
import { isBeyond } from '../../../protocol/roles.ts';
import { PRIORITY_DEFAULT } from '../../../protocol/task.ts';

/** A job that waits. */
export interface Candidate {
  readonly jobId: string;
  readonly group: string;
  readonly resources: Resources;
  /** Of its task. */
  readonly priority: number;
  readonly attributes: Readonly<Record<string, string>>;
  /** Shared by several jobs on one agent, and started with the first of them. */
  readonly executor?: { readonly executorId: string; readonly resources: Resources } | undefined;
  /** When the first job behind it was taken because this one had no room. */
  overtakenSinceMs?: number | undefined;
}

/** One queue at this moment. */
export interface QueueState {
  readonly name: string;
  /** > 0; twice the weight, twice the resources. */
  readonly weight: number;
  /** How many more of its jobs may be taken; 0 for one that is paused or limited. */
  readonly room: number;
  /** Held by its jobs, of at most `quota`. */
  readonly held: Resources;
  readonly quota: PartialResources | undefined;
  /** Jobs of one group at the same time. */
  readonly groupLimit: number | undefined;
  /** In the order of BullMQ. */
  readonly candidates: readonly Candidate[];
  /** Running jobs of each group. */
  readonly running: ReadonlyMap<string, number>;
  /** Changed here. */
  readonly turns: Turns;
}

/** When each group was served last. */
export interface Turns {
  count: number;
  /** Its number among all turns. */
  readonly of: Map<string, number>;
}

/** Groups whose turns are remembered; one that is forgotten is served as a new one. */
const TURNS_MAX = 10_000;

/** What is offered of one agent, and not used yet. */
export interface Room {
  readonly agentId: string;
  readonly attributes: Readonly<Record<string, string>>;
  readonly executorIds: Set<string>;
  free: Resources;
}

/** A job and its place. */
export interface Pick {
  readonly queue: QueueState;
  readonly candidate: Candidate;
  readonly room: Room;
}

/** Rules and facts that hold for all queues. */
export interface SelectionRules {
  readonly nowMs: number;
  readonly patienceMs: number;
  /** Could any agent of the cluster hold it, if it were empty? True where nobody knows. */
  readonly isPlaceable: (candidate: Candidate) => boolean;
}

/** A queue while jobs are picked of it. */
interface Turn {
  readonly queue: QueueState;
  readonly running: Map<string, number>;
  /** Those of the priority that is served now. */
  groups: Map<string, Candidate[]>;
  /** Of higher ones, those that had no room. */
  passed: Candidate[];
  /** The job besides which nothing is taken any more. */
  blocker: Candidate | undefined;
  held: Resources;
  left: number;
  lastServed: number;
}

/**
 * Picks jobs for what is offered.
 *
 * Cost: jobs times rooms in the worst case, jobs alone where most fit.
 *
 * @param rooms what is free in them becomes less with each pick
 * @returns picks in the order in which they should be taken
 */
export function select(
  queues: readonly QueueState[],
  rooms: readonly Room[],
  rules: SelectionRules,
): Pick[] {
  const picks: Pick[] = [];
  const turns = queues.filter(({ room }) => room > 0).map(turnOf);
  for (const priority of prioritiesOf(turns.flatMap(({ queue }) => queue.candidates))) {
    let open = turns.filter((turn) => turn.left > 0 && enterPriority(turn, priority, rules));
    while (open.length > 0) {
      const turn = open.reduce((best, each) => (isBefore(each, best) ? each : best));
      const pick = pickOf(turn, rooms, rules);
      if (pick) {
        picks.push(pick);
        turn.lastServed = picks.length;
      }
      open = open.filter((each) => each.left > 0 && (each !== turn || pick !== undefined));
    }
  }
  return picks;
}

/** The highest first. */
function prioritiesOf(candidates: readonly Candidate[]): number[] {
  return [...new Set(candidates.map(({ priority }) => priority))].sort((a, b) => b - a);
}

/** @returns whether anything of this priority may be taken: not while one of a higher is waited for */
function enterPriority(turn: Turn, priority: number, rules: SelectionRules): boolean {
  if (turn.blocker) return false;
  const candidates = turn.queue.candidates.filter((each) => each.priority === priority);
  turn.groups = groupsOf(candidates);
  turn.blocker = blockerOf(candidates, rules);
  return candidates.length > 0;
}

/** The smallest share for its weight; of equals, whoever was served longest ago. */
function isBefore(a: Turn, b: Turn): boolean {
  const [shareA, shareB] = [shareOf(a), shareOf(b)];
  return shareA === shareB ? a.lastServed < b.lastServed : shareA < shareB;
}

/** Cores, or quarters of a GiB if those are more: what a node usually has of both for each other. */
function shareOf({ held, queue }: Turn): number {
  return Math.max(held.cpuMillis / 1000, held.memMib / 4096) / queue.weight;
}

function turnOf(queue: QueueState): Turn {
  const { held, room } = queue;
  return {
    ...{ queue, held, left: room, lastServed: 0, blocker: undefined },
    ...{ running: new Map(queue.running), groups: new Map(), passed: [] },
  };
}

function groupsOf(candidates: readonly Candidate[]): Map<string, Candidate[]> {
  const groups = new Map<string, Candidate[]>();
  for (const candidate of candidates) {
    const group = groups.get(candidate.group);
    if (group) group.push(candidate);
    else groups.set(candidate.group, [candidate]);
  }
  return groups;
}

/** The job that has been overtaken for longest, if that is too long and it can be placed at all. */
function blockerOf(candidates: readonly Candidate[], rules: SelectionRules): Candidate | undefined {
  let blocker: Candidate | undefined;
  for (const candidate of candidates) {
    const sinceMs = candidate.overtakenSinceMs;
    if (sinceMs === undefined || rules.nowMs - sinceMs < rules.patienceMs) continue;
    if (blocker && sinceMs >= (blocker.overtakenSinceMs ?? 0)) continue;
    if (rules.isPlaceable(candidate)) blocker = candidate;
  }
  return blocker;
}

function pickOf(turn: Turn, rooms: readonly Room[], rules: SelectionRules): Pick | undefined {
  const { queue, blocker } = turn;
  const passed = [...turn.passed];
  for (const group of groupsInTurn(turn)) {
    const waiting = turn.groups.get(group) ?? [];
    for (const [position, candidate] of waiting.entries()) {
      if (blocker && candidate !== blocker) continue;
      if (!isWithinQuota(turn, candidate)) break;
      const room = roomFor(rooms, candidate);
      if (!room) {
        passed.push(candidate);
        continue;
      }
      for (const overtaken of passed) overtaken.overtakenSinceMs ??= rules.nowMs;
      waiting.splice(position, 1);
      serve(turn, group, candidate.resources);
      occupy(room, candidate);
      if (candidate === blocker) turn.blocker = blockerOf([...turn.groups.values()].flat(), rules);
      return { queue, candidate, room };
    }
  }
  turn.passed = passed;
  return undefined;
}

/** Groups that may have one more, the one that was served longest ago first; new ones before all others. */
function groupsInTurn({ queue, groups, running }: Turn): string[] {
  const { groupLimit = Infinity, turns } = queue;
  const may = [...groups].filter(
    ([group, waiting]) => waiting.length > 0 && (running.get(group) ?? 0) < groupLimit,
  );
  if (may.length === 1) return may.map(([group]) => group);
  return may
    .map(([group], position) => ({ group, turn: turns.of.get(group) ?? 0, position }))
    .sort((a, b) => a.turn - b.turn || a.position - b.position)
    .map(({ group }) => group);
}

function serve(turn: Turn, group: string, resources: Resources): void {
  const { turns } = turn.queue;
  turn.held = addResources(turn.held, resources);
  turn.left -= 1;
  turn.running.set(group, (turn.running.get(group) ?? 0) + 1);
  turns.count += 1;
  // Taken out and put in again, the first of the map is the one whose turn was longest ago.
  turns.of.delete(group);
  turns.of.set(group, turns.count);
  const [oldest] = turns.of.keys();
  if (turns.of.size > TURNS_MAX && oldest !== undefined) turns.of.delete(oldest);
}

function isWithinQuota({ queue, held }: Turn, { resources }: Candidate): boolean {
  return !queue.quota || !isBeyond(addResources(held, resources), queue.quota, resources);
}

function hasRoom(room: Room, candidate: Candidate): boolean {
  if (!fits(candidate.resources, room.free)) return false;
  if (!hasAttributes(room.attributes, candidate.attributes)) return false;
  return fits(costIn(room, candidate), room.free);
}

/** The job, and its executor if that is not there yet. */
function costIn({ executorIds }: Room, { resources, executor }: Candidate): Resources {
  if (!executor || executorIds.has(executor.executorId)) return resources;
  return addResources(resources, executor.resources);
}

/** Takes the place of a job in a room; also for one that was chosen in another way. */
export function occupy(room: Room, candidate: Pick['candidate']): void {
  room.free = subtractResources(room.free, costIn(room, candidate));
  if (candidate.executor) room.executorIds.add(candidate.executor.executorId);
}

/** Gives back what `occupy` has taken for a job that does not come. Its executor stays counted until the next offers. */
export function vacate(room: Room, { resources }: Candidate): void {
  room.free = addResources(room.free, resources);
}

/** @returns the first room that a job fits into */
export function roomFor(rooms: readonly Room[], candidate: Candidate): Room | undefined {
  return rooms.find((room) => hasRoom(room, candidate));
}

/** Does an agent have all the wanted attributes, each with exactly that value? */
export function hasAttributes(
  has: Readonly<Record<string, string>>,
  wanted: Readonly<Record<string, string>>,
): boolean {
  return Object.entries(wanted).every(([key, value]) => has[key] === value);
}

/** What to ask the master for: so often so much. */
export interface Demand {
  readonly resources: Resources;
  /** Absent: as for a task that does not say. */
  readonly priority?: number;
  readonly attributes: Readonly<Record<string, string>>;
  readonly count: number;
}

/**
 * What to ask for, so that offers come for the jobs that would be picked if there were room.
 *
 * @param first jobs that have been taken already and wait for a place
 * @param hasExecutor is there an agent that runs this executor? Then its own resources are not asked for again
 * @param jobsMax of how many jobs at most; with more than that the demand stays the same while they are worked off
 */
export function demandOf(
  queues: readonly QueueState[],
  first: readonly Candidate[],
  options: {
    readonly rules: SelectionRules;
    readonly hasExecutor: (executorId: string) => boolean;
    readonly jobsMax: number;
  },
): Demand[] {
  const { rules, jobsMax, hasExecutor } = options;
  const picked = queues.map((queue) => wantedOf(queue, rules, jobsMax)).flat();
  return summed([...first, ...picked].slice(0, jobsMax), hasExecutor);
}

/** Room for all of them, on an agent that has whatever is wanted. */
function anywhereFor(candidates: readonly Candidate[]): Room {
  const names = candidates.flatMap(({ resources }) => otherNames(resources));
  const others = Object.fromEntries(names.map((name) => [name, Infinity]));
  const free = { cpuMillis: Infinity, memMib: Infinity, others };
  return { agentId: '', attributes: {}, executorIds: new Set(), free };
}

/** Jobs of a queue that would be taken now, if there were room for all. */
function wantedOf(queue: QueueState, rules: SelectionRules, jobsMax: number): Candidate[] {
  const room = Math.min(queue.room, jobsMax);
  const candidates = inLine(queue.candidates, rules).slice(0, jobsMax);
  // Without limits the first are as good as any.
  if (queue.quota === undefined && queue.groupLimit === undefined) return candidates.slice(0, room);
  // Attributes say on which agents, and here every agent is meant. Nobody's turn is over by being asked for.
  const plain = new Map(
    candidates.map((candidate) => [{ ...candidate, attributes: {} }, candidate]),
  );
  const turns = { count: queue.turns.count, of: new Map(queue.turns.of) };
  const state = { ...queue, room, turns, candidates: [...plain.keys()] };
  return select([state], [anywhereFor(candidates)], rules).flatMap(
    ({ candidate }) => plain.get(candidate) ?? [],
  );
}

/** Jobs in the order in which they would be taken, up to one that is waited for. */
function inLine(candidates: readonly Candidate[], rules: SelectionRules): Candidate[] {
  const line: Candidate[] = [];
  for (const priority of prioritiesOf(candidates)) {
    const level = candidates.filter((each) => each.priority === priority);
    const blocker = blockerOf(level, rules);
    if (blocker) return [...line, blocker];
    line.push(...level.filter(rules.isPlaceable));
  }
  return line;
}

function summed(
  wanted: readonly Candidate[],
  hasExecutor: (executorId: string) => boolean,
): Demand[] {
  const counts = new Map<string, { readonly candidate: Candidate; count: number }>();
  for (const candidate of wanted) {
    const shape = shapeOf(candidate);
    const known = counts.get(shape);
    if (known) known.count += 1;
    else counts.set(shape, { candidate, count: 1 });
  }
  return [...counts.values()].map(({ candidate, count }) => {
    const { resources, priority, attributes, executor } = candidate;
    const own = executor && !hasExecutor(executor.executorId) ? executor.resources : NO_RESOURCES;
    return {
      ...{ resources: addResources(resources, own), attributes, count },
      ...(priority !== PRIORITY_DEFAULT && { priority }),
    };
  });
}

const shapes = new WeakMap<Candidate, string>();

/** The same for jobs that need the same. Made once for each, because there are many and they are asked for often. */
function shapeOf(candidate: Candidate): string {
  const known = shapes.get(candidate);
  if (known !== undefined) return known;
  const { resources, priority, attributes, executor } = candidate;
  const wanted = Object.entries(attributes).sort();
  const shape = JSON.stringify([resources, priority, wanted, executor]);
  shapes.set(candidate, shape);
  return shape;
}
