/** One call of the hierarchical allocator: what its phases share. */
import type { Resources } from '../../../protocol/resources.ts';
import { addResources, NO_RESOURCES, subtractResources } from '../../../protocol/resources.ts';
import type { AgentView, AllocationRound } from './port.ts';
import type { Node, Tree } from './tree.ts';
import type { Need, Wants } from './wants.ts';

/** What a leaf is given of an agent. */
export interface Portion {
  readonly leaf: Node;
  resources: Resources;
  readonly units: { readonly need: Need; readonly count: number }[];
}

/** One call of the allocator. */
export interface Run {
  readonly round: AllocationRound;
  readonly tree: Tree;
  readonly wants: Wants;
  /** Free on the agents of the round. */
  readonly shown: Resources;
  /** Free on all agents, less what has been given. */
  free: Resources;
  /** Free on the agents that are still to be shared out, if that is done in pieces: `turns.ts`. */
  ahead: Resources;
  turn: number;
  /** What was given of an agent in earlier phases. */
  readonly owed: Map<AgentView, Portion[]>;
}

/** Together with what it has been given of this agent in earlier phases. */
export function isRefused(run: Run, leaf: Node, agent: AgentView, part: Resources): boolean {
  const { leaf: candidate } = leaf;
  if (!candidate?.mayRefuse(agent.agentId)) return false;
  const before = run.owed.get(agent)?.find((portion) => portion.leaf === leaf);
  return candidate.refuses(agent.agentId, before ? addResources(before.resources, part) : part);
}

/** @returns what is left of an agent after the phases before */
export function leftOf({ owed }: Run, agent: AgentView): Resources {
  let left = agent.free;
  for (const { resources } of owed.get(agent) ?? []) left = subtractResources(left, resources);
  return left;
}

/** @returns what a leaf was given of an agent in the phases before, and how many units of a need are in that */
export function givenOf(
  { owed }: Run,
  agent: AgentView,
  leaf: Node,
  need: Need,
): { readonly resources: Resources; readonly units: number } {
  const portion = owed.get(agent)?.find((one) => one.leaf === leaf);
  if (!portion) return { resources: NO_RESOURCES, units: 0 };
  return { resources: portion.resources, units: unitsIn(portion, need) };
}

/** @returns how many units of a need are in a portion */
export function unitsIn({ units }: Portion, need: Need): number {
  return units.reduce((sum, one) => sum + (one.need === need ? one.count : 0), 0);
}
