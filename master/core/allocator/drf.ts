/**
 * Who is offered what: dominant resource fairness over CPU and memory, with demand.
 *
 * A framework's share is the largest of its fractions of the cluster (tasks and outstanding offers). The framework
 * with the smallest share is served first (Ghodsi et al., "Dominant Resource Fairness", NSDI 2011, Algorithm 1); ties
 * go by the order of registration. A framework that has stated what it needs gets that and no more, and is not
 * bothered with agents where not one unit of it fits; one that has not is offered all that an agent has free.
 *
 * Reads the state and changes nothing but the place where the next round begins.
 */
import type { AgentId, FrameworkId } from '../../../protocol/ids.ts';
import { TASK_CPU_MILLIS_MIN, TASK_MEM_MIB_MIN } from '../../../protocol/limits.ts';
import type { Resources } from '../../../protocol/resources.ts';
import {
  addResources,
  fits,
  isEmpty,
  NO_RESOURCES,
  scaleResources,
  subtractResources,
  unitsIn,
} from '../../../protocol/resources.ts';
import type { Labels } from '../../../protocol/fields.ts';
import type { ResourceRequest } from '../../../protocol/task.ts';
import type { Agent, Framework, MasterState } from '../state.ts';
import { freeOf } from '../state.ts';

/** Resources of one agent for one framework. */
export interface Grant {
  readonly frameworkId: FrameworkId;
  readonly agentId: AgentId;
  readonly resources: Resources;
}

/** One request of a framework, and how many units of it are still to be offered. */
interface Need {
  readonly request: ResourceRequest;
  left: number;
}

/** A framework in this round: what it holds and what it still needs. */
interface Candidate {
  readonly framework: Framework;
  holds: Resources;
  /** Undefined: whatever there is. */
  readonly needs: readonly Need[] | undefined;
}

/** What a candidate would get of one agent: `units` of its needs, or all that is free. */
interface Portion {
  resources: Resources;
  readonly units: Map<Need, number>;
}

/** Less than this of either is of no use to any task. */
const SMALLEST: Resources = { cpuMillis: TASK_CPU_MILLIS_MIN, memMib: TASK_MEM_MIB_MIN };

/**
 * One round over all agents with something free.
 *
 * Cost: agents with something free times frameworks that want some; where several can use the same agent, that many
 * squared.
 *
 * @returns at most one grant for each pair of framework and agent
 */
export function allocate(state: MasterState, nowMs: number): Grant[] {
  const candidates = candidatesOf(state);
  if (candidates.length === 0) return [];
  const grants: Grant[] = [];
  const agents = [...state.agents.values()];
  const start = agents.length === 0 ? 0 : state.nextAgent % agents.length;
  state.nextAgent = start + 1;
  for (let index = 0; index < agents.length; index += 1) {
    const agent = agents[(start + index) % agents.length];
    if (agent?.record.state !== 'active' || agent.record.session === undefined) continue;
    grantAgent({ state, agent, candidates, grants, nowMs });
  }
  return grants;
}

function candidatesOf(state: MasterState): Candidate[] {
  const candidates: Candidate[] = [];
  for (const framework of state.frameworks.values()) {
    const { record, used, offered } = framework;
    if (record.state !== 'active' || record.session === undefined || record.suppressed) continue;
    const needs = record.demand && unmetDemand(state, framework, record.demand);
    if (needs?.length === 0) continue;
    candidates.push({ framework, holds: addResources(used, offered), needs });
  }
  return candidates;
}

/** What is asked for, less what is offered already and not yet answered. */
function unmetDemand(
  state: MasterState,
  framework: Framework,
  demand: readonly ResourceRequest[],
): Need[] {
  // A request for nothing would be met by any number of empty offers, again and again.
  const needs = demand
    .filter((request) => !isEmpty(request.resources))
    .map((request) => ({ request, left: request.count }));
  for (const offerId of framework.offers) {
    const offer = state.offers.get(offerId);
    let offered = offer?.resources ?? NO_RESOURCES;
    for (const need of needs) {
      if (!hasAttributes(offer?.attributes ?? {}, need.request.attributes)) continue;
      const units = Math.min(need.left, unitsIn(need.request.resources, offered));
      need.left -= units;
      offered = subtractResources(offered, scaleResources(need.request.resources, units));
    }
  }
  return needs.filter((need) => need.left > 0);
}

interface Round {
  readonly state: MasterState;
  readonly agent: Agent;
  readonly candidates: readonly Candidate[];
  readonly grants: Grant[];
  readonly nowMs: number;
}

/**
 * Hands out one agent's free resources.
 *
 * Filters are held against whole portions, because a portion is what becomes an offer: one unit of several may be
 * within what was refused while all of them together are not. Who refuses its portion leaves it to the others.
 */
function grantAgent(round: Round): void {
  const { agent, grants } = round;
  const { agentId } = agent.record.info;
  const isWelcome = (candidate: Candidate, portion: Portion | undefined): boolean =>
    portion !== undefined && !isFiltered(candidate, agentId, portion.resources, round.nowMs);
  let waiting = round.candidates.filter((candidate) =>
    isWelcome(candidate, divide(round, [candidate]).get(candidate)),
  );
  let portions = divide(round, waiting);
  while ([...portions].some(([candidate, portion]) => !isWelcome(candidate, portion))) {
    const before = portions;
    waiting = waiting.filter((candidate) => {
      const portion = before.get(candidate);
      return portion === undefined || isWelcome(candidate, portion);
    });
    portions = divide(round, waiting);
  }
  for (const [candidate, { resources, units }] of portions) {
    candidate.holds = addResources(candidate.holds, resources);
    for (const [need, count] of units) need.left -= count;
    grants.push({ frameworkId: candidate.framework.record.info.frameworkId, agentId, resources });
  }
}

/** Divides what is free among the candidates: the one with the smallest share goes next, until none can use more. */
function divide(
  { state, agent }: Round,
  candidates: readonly Candidate[],
): Map<Candidate, Portion> {
  let free = freeOf(agent);
  const portions = new Map<Candidate, Portion>();
  const waiting = new Set(candidates);
  while (waiting.size > 0 && fits(SMALLEST, free)) {
    const next = smallestShare(waiting, portions, state.total);
    const portion = portions.get(next) ?? { resources: NO_RESOURCES, units: new Map() };
    const part = nextPart({ candidate: next, portion, agent, free, waiting: waiting.size });
    if (part) {
      free = subtractResources(free, part);
      portion.resources = addResources(portion.resources, part);
      portions.set(next, portion);
    }
    if (!part || !next.needs) waiting.delete(next);
  }
  return portions;
}

function smallestShare(
  candidates: Iterable<Candidate>,
  portions: ReadonlyMap<Candidate, Portion>,
  total: Resources,
): Candidate {
  let best: Candidate | undefined;
  let bestShare = Infinity;
  for (const candidate of candidates) {
    const portion = portions.get(candidate)?.resources ?? NO_RESOURCES;
    const share = dominantShare(addResources(candidate.holds, portion), total);
    if (best === undefined || share < bestShare) {
      best = candidate;
      bestShare = share;
    }
  }
  return best as Candidate;
}

/**
 * Dominant share of a framework: the largest of its per-resource shares of the cluster total.
 *
 * @param holds resources of its tasks and outstanding offers (thousandths of a core, MiB)
 * @param total cluster total in the same units; a resource whose total is 0 is ignored
 * @returns share in [0, 1]; 0 for a framework that holds nothing
 * @see Ghodsi et al., "Dominant Resource Fairness", NSDI 2011, Algorithm 1
 */
export function dominantShare(holds: Resources, total: Resources): number {
  const cpu = total.cpuMillis > 0 ? holds.cpuMillis / total.cpuMillis : 0;
  const mem = total.memMib > 0 ? holds.memMib / total.memMib : 0;
  return Math.max(cpu, mem);
}

interface Asking {
  readonly candidate: Candidate;
  /** What it has been given of this agent; its count of units grows here. */
  readonly portion: Portion;
  readonly agent: Agent;
  readonly free: Resources;
  /** How many candidates share what is free, this one included. */
  readonly waiting: number;
}

/**
 * What a candidate takes next: everything, or some units of the first need that fits.
 * With others waiting it takes a part of the units at a time, so that shares stay close while the agent fills.
 */
function nextPart({ candidate, portion, agent, free, waiting }: Asking): Resources | undefined {
  if (!candidate.needs) return free;
  for (const need of candidate.needs) {
    const { resources, attributes } = need.request;
    if (!hasAttributes(agent.record.info.attributes, attributes)) continue;
    const taken = portion.units.get(need) ?? 0;
    const fit = Math.min(need.left - taken, unitsIn(resources, free));
    if (fit === 0) continue;
    const units = Math.ceil(fit / waiting);
    portion.units.set(need, taken + units);
    return scaleResources(resources, units);
  }
  return undefined;
}

/** Does an agent have all the wanted attributes, each with exactly that value? */
function hasAttributes(has: Labels, wanted: Labels): boolean {
  return Object.entries(wanted).every(([key, value]) => has[key] === value);
}

/** A filter hides only offers within what was refused: more than that may be of use after all. */
function isFiltered(
  { framework }: Candidate,
  agentId: AgentId,
  resources: Resources,
  nowMs: number,
): boolean {
  return framework.record.filters.some(
    (filter) =>
      filter.agentId === agentId && filter.untilMs > nowMs && fits(resources, filter.resources),
  );
}
