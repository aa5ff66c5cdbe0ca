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
import type { OfferFilter } from '../../../protocol/records.ts';
import type { Resources } from '../../../protocol/resources.ts';
import {
  addResources,
  fits,
  NO_RESOURCES,
  scaleResources,
  subtractResources,
  unitsIn,
} from '../../../protocol/resources.ts';
import type { Labels, ResourceRequest } from '../../../protocol/task.ts';
import type { Agent, Framework, MasterState } from '../state.ts';
import { freeOf } from '../state.ts';

/** Resources of one agent for one framework. */
export interface Grant {
  readonly frameworkId: FrameworkId;
  readonly agentId: AgentId;
  readonly resources: Resources;
}

/** A framework in this round: what it holds and what it still needs. */
interface Candidate {
  readonly framework: Framework;
  holds: Resources;
  /** Undefined: whatever there is. */
  readonly needs: { readonly request: ResourceRequest; left: number }[] | undefined;
}

/** Less than this of either is of no use to any task. */
const SMALLEST: Resources = { cpuMillis: TASK_CPU_MILLIS_MIN, memMib: TASK_MEM_MIB_MIN };

/**
 * One round over all agents with something free.
 *
 * Cost: agents with free resources times frameworks that want some.
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
): { request: ResourceRequest; left: number }[] {
  const needs = demand.map((request) => ({ request, left: request.count }));
  for (const offerId of framework.offers) {
    let offered = state.offers.get(offerId)?.resources ?? NO_RESOURCES;
    for (const need of needs) {
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

/** Hands out one agent's free resources, always to the candidate with the smallest share that can use some. */
function grantAgent(round: Round): void {
  const { state, agent, grants } = round;
  const { agentId } = agent.record.info;
  let free = freeOf(agent);
  const granted = new Map<Candidate, Resources>();
  const waiting = new Set(round.candidates);
  while (waiting.size > 0 && fits(SMALLEST, free)) {
    const next = smallestShare(waiting, state.total);
    const part = partFor(next, agent, free, waiting.size);
    if (!part || isFiltered(next.framework.record.filters, agentId, part, round.nowMs)) {
      waiting.delete(next);
      continue;
    }
    if (!next.needs) waiting.delete(next);
    free = subtractResources(free, part);
    next.holds = addResources(next.holds, part);
    granted.set(next, addResources(granted.get(next) ?? NO_RESOURCES, part));
  }
  for (const [{ framework }, resources] of granted) {
    grants.push({ frameworkId: framework.record.info.frameworkId, agentId, resources });
  }
}

function smallestShare(candidates: Iterable<Candidate>, total: Resources): Candidate {
  let best: Candidate | undefined;
  let bestShare = Infinity;
  for (const candidate of candidates) {
    const share = dominantShare(candidate.holds, total);
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

/**
 * What this candidate would take of the agent now: everything, or some units of the first need that fits.
 * With others waiting it takes a part of the units at a time, so that shares stay close while the agent fills.
 */
function partFor(
  candidate: Candidate,
  agent: Agent,
  free: Resources,
  waiting: number,
): Resources | undefined {
  if (!candidate.needs) return free;
  for (const need of candidate.needs) {
    if (need.left === 0 || !hasAttributes(agent.record.info.attributes, need.request.attributes))
      continue;
    const fit = Math.min(need.left, unitsIn(need.request.resources, free));
    if (fit === 0) continue;
    const units = Math.max(1, Math.ceil(fit / waiting));
    need.left -= units;
    return scaleResources(need.request.resources, units);
  }
  return undefined;
}

/** Does an agent have all the wanted attributes, each with exactly that value? */
function hasAttributes(has: Labels, wanted: Labels): boolean {
  return Object.entries(wanted).every(([key, value]) => has[key] === value);
}

/** A filter hides only offers within what was refused: more than that may be of use after all. */
function isFiltered(
  filters: readonly OfferFilter[],
  agentId: AgentId,
  resources: Resources,
  nowMs: number,
): boolean {
  return filters.some(
    (filter) =>
      filter.agentId === agentId && filter.untilMs > nowMs && fits(resources, filter.resources),
  );
}
