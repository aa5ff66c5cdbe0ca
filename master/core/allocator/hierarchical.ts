/**
 * The default allocator: hierarchical weighted dominant resource fairness, with quota and demand.
 *
 * Agents are filled one after the other. What one has free goes, unit by unit, to whoever is next: from the top of the tree
 * of roles always the one with the smallest dominant share for its weight, down to a framework (Ghodsi et al., "Dominant
 * Resource Fairness", NSDI 2011, Algorithm 1; weights: section 4.3; hierarchy: as in Mesos's sorters). A framework that has
 * stated what it needs gets that and no more, and is not bothered with agents where not one unit of it fits; one that has
 * not is offered all that an agent has left. Guarantees are met first; quota.ts has the equations.
 *
 * How one agent is divided is in division.ts.
 */
import type { Resources } from '../../../protocol/resources.ts';
import {
  addResources,
  isEmpty,
  NO_RESOURCES,
  subtractResources,
  sumResources,
} from '../../../protocol/resources.ts';
import { divide, takeBack } from './division.ts';
import { placeNeeds } from './placed.ts';
import type { AgentView, AllocationRound, CandidateView, Grant } from './port.ts';
import type { Phase } from './quota.ts';
import type { Portion, Run } from './run.ts';
import { isRefused } from './run.ts';
import type { Node, Tree } from './tree.ts';
import { growTree } from './tree.ts';
import { inOrder, isInPieces } from './turns.ts';
import { wantsOf } from './wants.ts';

/**
 * One round.
 *
 * Cost: candidates, sorted; then for each agent the pieces of it, and the candidates that are looked at before one is found
 * that can use it.
 */
export function allocateHierarchically(round: AllocationRound): Grant[] {
  if (round.candidates.length === 0) return [];
  const tree = growTree(round);
  const wants = wantsOf(tree.leaves);
  const shown = sumResources(round.agents.map(({ free }) => free));
  const { free } = round;
  const owed: Run['owed'] = new Map();
  const run: Run = { round, tree, wants, shown, free, ahead: NO_RESOURCES, turn: 0, owed };
  if (isAnyOwed(tree)) meetGuarantees(run);
  placeNeeds(run);
  return shareOut(run);
}

/** Whether anything is kept for anybody: only then is the first phase of any use. */
function isAnyOwed({ root, hasQuota }: Tree): boolean {
  return hasQuota && !isEmpty(root.keptBelow);
}

function meetGuarantees(run: Run): void {
  for (const agent of run.round.agents) {
    const portions = fill(run, agent, 'guarantee');
    if (portions.length > 0) run.owed.set(agent, [...portions]);
  }
}

/** @returns the grants of all phases */
function shareOut(run: Run): Grant[] {
  const { round, tree, wants, owed, shown } = run;
  const grants: Grant[] = [];
  const inPieces = isInPieces(round.agents.length, tree.leaves.length);
  if (inPieces) run.ahead = shown;
  for (const agent of inPieces ? inOrder(round.agents) : round.agents) {
    if (wants.unmet === 0 && owed.size === 0) break;
    const portions = fill(run, agent, 'share');
    if (inPieces) run.ahead = subtractResources(run.ahead, agent.free);
    for (const portion of merge(owed.get(agent), portions)) grants.push(toGrant(agent, portion));
  }
  return grants;
}

/** Of all phases one grant for each leaf. */
function merge(
  owed: readonly Portion[] | undefined,
  shares: readonly Portion[],
): readonly Pick<Portion, 'leaf' | 'resources'>[] {
  if (!owed) return shares;
  const both = new Map<Node, Resources>();
  for (const { leaf, resources } of [...owed, ...shares]) {
    both.set(leaf, addResources(both.get(leaf) ?? NO_RESOURCES, resources));
  }
  return [...both].map(([leaf, resources]) => ({ leaf, resources }));
}

/**
 * Hands out what an agent has free in one phase.
 *
 * A filter is held against the whole portion, because a portion is what becomes an offer: one unit of several may be within
 * what was refused while all of them together are not. Who refuses its portion leaves it to the others.
 */
function fill(run: Run, agent: AgentView, phase: Phase): readonly Portion[] {
  const refusing: Node[] = [];
  for (;;) {
    const portions = divide(run, { agent, phase, refusing });
    const refused = portions.filter(({ leaf, resources }) =>
      isRefused(run, leaf, agent, resources),
    );
    if (refused.length === 0) return portions;
    for (const portion of portions) takeBack(run, portion);
    for (const { leaf } of refused) refusing.push(leaf);
  }
}

function toGrant(
  { agentId }: AgentView,
  { leaf, resources }: Pick<Portion, 'leaf' | 'resources'>,
): Grant {
  const { frameworkId, role } = leaf.leaf as CandidateView;
  return { frameworkId, role, agentId, resources };
}
