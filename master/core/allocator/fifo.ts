/**
 * The other allocator that comes with Kaon: who has registered first is served first, with all that it can use, whatever its
 * share. Limits hold; guarantees and weights mean nothing to it. For a cluster of one framework, or where one goes before all.
 */
import type { Resources } from '../../../protocol/resources.ts';
import {
  addResources,
  fits,
  isEmpty,
  NO_RESOURCES,
  scaleResources,
  smallerOf,
  subtractResources,
  unitsIn,
} from '../../../protocol/resources.ts';
import { rolePath } from '../../../protocol/roles.ts';
import { unitsOn } from './needs.ts';
import type { Ground } from './plan.ts';
import { planOf } from './plan.ts';
import type { AgentView, AllocationRound, CandidateView, Grant, NeedView } from './port.ts';
import { rank } from './ranking.ts';

/** What is left, as it is handed out. */
interface Run {
  readonly round: AllocationRound;
  readonly free: Map<AgentView, Resources>;
  /** By role. */
  readonly holds: Map<string, Resources>;
}

/** Cost: agents times candidates. */
export function allocateInOrder(round: AllocationRound): Grant[] {
  const run: Run = {
    round,
    free: new Map(round.agents.map((agent) => [agent, agent.free])),
    holds: new Map([...round.roles].map(([role, { holds }]) => [role, holds])),
  };
  return [...round.candidates].sort(inOrder).flatMap((candidate) => serve(run, candidate));
}

function inOrder(a: CandidateView, b: CandidateView): number {
  if (a.registeredAtMs !== b.registeredAtMs) return a.registeredAtMs - b.registeredAtMs;
  if (a.frameworkId !== b.frameworkId) return a.frameworkId < b.frameworkId ? -1 : 1;
  return a.role < b.role ? -1 : 1;
}

function serve(run: Run, candidate: CandidateView): Grant[] {
  const { frameworkId, role, needs } = candidate;
  const placed = placeNeeds(run, candidate);
  const left = needs?.map((need) => (isPlaced(need) ? 0 : need.count));
  const grants: Grant[] = [];
  for (const agent of run.round.agents) {
    const before = placed.get(agent) ?? NO_RESOURCES;
    const part = partOf(run, candidate, { agent, before, left });
    const resources = addResources(before, part);
    if (!isEmpty(resources)) grants.push({ frameworkId, role, agentId: agent.agentId, resources });
  }
  return grants;
}

interface Asking {
  readonly agent: AgentView;
  /** What it has of it by its needs with a placement. */
  readonly before: Resources;
  /** Units of each need that are still to be offered. */
  readonly left: number[] | undefined;
}

/** What a candidate gets of an agent beside what was placed there. */
function partOf(run: Run, candidate: CandidateView, { agent, before, left }: Asking): Resources {
  const room = smallerOf(run.free.get(agent) ?? NO_RESOURCES, roomBelowLimits(run, candidate.role));
  if (!fits(run.round.minimum, room)) return NO_RESOURCES;
  const { resources, units } = portionOf(candidate, agent, room, left);
  if (!isWorthwhile(run, candidate, resources)) return NO_RESOURCES;
  if (candidate.refuses(agent.agentId, addResources(before, resources))) return NO_RESOURCES;
  for (const [index, count] of units.entries()) if (left) left[index] = (left[index] ?? 0) - count;
  take(run, candidate.role, agent, resources);
  return resources;
}

/** Who has said what it needs may need less than the least that is offered unasked. */
function isWorthwhile({ round }: Run, { needs }: CandidateView, resources: Resources): boolean {
  return needs ? !isEmpty(resources) : fits(round.minimum, resources);
}

function take(run: Run, role: string, agent: AgentView, part: Resources): void {
  run.free.set(agent, subtractResources(run.free.get(agent) ?? NO_RESOURCES, part));
  for (const name of rolePath(role)) {
    run.holds.set(name, addResources(run.holds.get(name) ?? NO_RESOURCES, part));
  }
}

function isPlaced({ gang, placement }: NeedView): boolean {
  return gang === true || placement !== undefined;
}

/** Needs that say where their units go, and gangs: before the others, on all agents at once. */
function placeNeeds(run: Run, candidate: CandidateView): Map<AgentView, Resources> {
  const placed = new Map<AgentView, Resources>();
  for (const need of candidate.needs?.filter(isPlaced) ?? []) {
    const fit = Math.min(need.count, unitsIn(need.resources, roomBelowLimits(run, candidate.role)));
    if (need.gang && fit < need.count) continue;
    const plan = planOf(need, fit, groundOf(run, candidate, need, placed));
    if (need.gang && plan.count < fit) continue;
    for (const [agent, count] of plan.units) {
      const part = scaleResources(need.resources, count);
      placed.set(agent, addResources(placed.get(agent) ?? NO_RESOURCES, part));
      take(run, candidate.role, agent, part);
    }
  }
  return placed;
}

function groundOf(
  { round, free }: Run,
  candidate: CandidateView,
  { placement }: NeedView,
  placed: ReadonlyMap<AgentView, Resources>,
): Ground {
  const left = (agent: AgentView): Resources => free.get(agent) ?? NO_RESOURCES;
  return {
    agents: placement ? rank(round.agents, placement, left).agents : round.agents,
    left,
    given: (agent) => ({ resources: placed.get(agent) ?? NO_RESOURCES, units: 0 }),
    refuses: ({ agentId }, resources) => candidate.refuses(agentId, resources),
  };
}

function roomBelowLimits({ round, holds }: Run, role: string): Resources {
  let room: Resources = { cpuMillis: Infinity, memMib: Infinity };
  for (const name of rolePath(role)) {
    const { cpuMillis = Infinity, memMib = Infinity } = round.roles.get(name)?.limit ?? {};
    const held = holds.get(name) ?? NO_RESOURCES;
    room = smallerOf(room, subtractResources({ cpuMillis, memMib }, held));
  }
  return room;
}

/** All there is room for, or as many units as fit of each need in turn. */
function portionOf(
  { needs }: CandidateView,
  agent: AgentView,
  room: Resources,
  left: readonly number[] | undefined,
): { readonly resources: Resources; readonly units: readonly number[] } {
  if (!needs) return { resources: room, units: [] };
  let resources = NO_RESOURCES;
  const units = needs.map((need, index) => {
    const fit = unitsOn(need, agent, subtractResources(room, resources), 0);
    const count = Math.min(left?.[index] ?? 0, fit);
    resources = addResources(resources, scaleResources(need.resources, count));
    return count;
  });
  return { resources, units };
}
