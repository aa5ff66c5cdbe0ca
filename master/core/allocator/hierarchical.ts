/**
 * The default allocator: hierarchical weighted dominant resource fairness, with quota and demand.
 *
 * Agents are filled one after the other. What one has free goes, unit by unit, to whoever is next: from the top of the tree
 * of roles always the one with the smallest dominant share for its weight, down to a framework (Ghodsi et al., "Dominant
 * Resource Fairness", NSDI 2011, Algorithm 1; weights: section 4.3; hierarchy: as in Mesos's sorters). A framework that has
 * stated what it needs gets that and no more, and is not bothered with agents where not one unit of it fits; one that has
 * not is offered all that an agent has left. Guarantees are met first; quota.ts has the equations.
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
  sumResources,
} from '../../../protocol/resources.ts';
import { unitsOn } from './needs.ts';
import { placeNeeds } from './placed.ts';
import type { AgentView, AllocationRound, CandidateView, Grant } from './port.ts';
import type { Phase } from './quota.ts';
import { roomOf } from './quota.ts';
import type { Portion, Run } from './run.ts';
import { givenOf, isRefused, leftOf, unitsIn } from './run.ts';
import type { Node, Tree } from './tree.ts';
import { charge, discharge, firstOf, growTree, nextLeaf } from './tree.ts';
import { orderOf, unitsOfPiece, unitsOfTurn } from './turns.ts';
import type { Need } from './wants.ts';
import { countUnits, isDry, leavesOf, searchShapes, wantsOf } from './wants.ts';

/** So many leaves are looked at one by one; among more, the next is looked for in the tree. */
const FEW_LEAVES = 64;

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
  const run: Run = { round, tree, wants, shown, free: round.free, turn: 0, owed: new Map() };
  if (isAnyOwed(tree)) {
    for (const agent of round.agents) {
      const portions = fill(run, agent, { phase: 'guarantee', isRough: false });
      if (portions.length > 0) run.owed.set(agent, [...portions]);
    }
  }
  placeNeeds(run);
  const grants: Grant[] = [];
  const { rough, even } = orderOf(round.agents, tree.leaves.length);
  for (const [agents, isRough] of [[rough, true] as const, [even, false] as const]) {
    for (const agent of agents) {
      if (wants.unmet === 0 && run.owed.size === 0) break;
      const portions = fill(run, agent, { phase: 'share', isRough });
      for (const portion of merge(run.owed.get(agent), portions))
        grants.push(toGrant(agent, portion));
    }
  }
  return grants;
}

/** Of both phases one grant for each leaf. */
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

/** Whether anything is kept for anybody: only then is the first phase of any use. */
function isAnyOwed({ root, hasQuota }: Tree): boolean {
  return hasQuota && !isEmpty(root.keptBelow);
}

/** How an agent is handed out. */
interface Manner {
  readonly phase: Phase;
  /** In pieces: `turns.ts`. */
  readonly isRough: boolean;
}

/**
 * Hands out what an agent has free in one phase.
 *
 * A filter is held against the whole portion, because a portion is what becomes an offer: one unit of several may be within
 * what was refused while all of them together are not. Who refuses its portion leaves it to the others.
 */
function fill(run: Run, agent: AgentView, manner: Manner): readonly Portion[] {
  const refusing = new Set<Node>();
  for (;;) {
    const portions = divide(run, { ...manner, agent, refusing });
    const refused = portions.filter(({ leaf, resources }) =>
      isRefused(run, leaf, agent, resources),
    );
    if (refused.length === 0) return portions;
    for (const portion of portions) takeBack(run, portion);
    for (const { leaf } of refused) refusing.add(leaf);
  }
}

/** One agent in one phase. */
interface Filling extends Manner {
  readonly agent: AgentView;
  readonly refusing: ReadonlySet<Node>;
}

/** What is left of an agent as it is divided. */
interface Division {
  readonly filling: Filling;
  readonly portions: Portion[];
  readonly turn: number;
  left: Resources;
}

/** Divides what is free: who is next gets a part, until none can use more. */
function divide(run: Run, filling: Filling): readonly Portion[] {
  const { wants } = run;
  const { agent } = filling;
  const turn = (run.turn += 1);
  const left = leftOf(run, agent);
  const division: Division = { filling, portions: [], turn, left };
  const isRoomy = wants.isAnyTaker || fits(wants.largest, left);
  if (isRoomy ? goRound(run, division, false) : true) finish(run, division);
  return division.portions;
}

/**
 * Serves whoever is next in the whole tree.
 *
 * @param isSearched whether it is known which shapes fit
 * @returns whether it has ended because less fits than was known
 */
function goRound(run: Run, division: Division, isSearched: boolean): boolean {
  const { tree, round, wants } = run;
  const { turn, filling } = division;
  let isKnown = isSearched;
  while (fits(round.minimum, division.left)) {
    const leaf = nextLeaf(tree.root, turn);
    if (!leaf) return false;
    const isOut = filling.refusing.has(leaf) || (isSearched && isDry(wants, wants.needs.get(leaf)));
    if (!isOut && serve(run, division, leaf)) {
      isKnown = false;
      continue;
    }
    leaf.deadIn = turn;
    if (!isOut && !isKnown && !wants.isAnyTaker) return true;
  }
  return false;
}

/** As the end of an agent nears: among those alone of whom something fits, if they are few. */
function finish(run: Run, division: Division): void {
  const { wants, round } = run;
  const { filling, turn } = division;
  for (;;) {
    if (!fits(round.minimum, division.left)) return;
    const leaves = leavesOf(searchShapes(wants, filling.agent, division.left), FEW_LEAVES);
    if (!leaves) {
      if (!goRound(run, division, true)) return;
      continue;
    }
    const live = leaves.filter((leaf) => leaf.deadIn !== turn && !filling.refusing.has(leaf));
    const first = firstOf(live);
    if (!first) return;
    const others = live.length - 1;
    if (!serve(run, division, first, others)) first.deadIn = turn;
  }
}

/**
 * @param others who can use anything of what is left; absent: to be looked for in the tree
 * @returns false if a leaf can use nothing of what is left
 */
function serve(run: Run, division: Division, leaf: Node, others?: number): boolean {
  const { portions, turn, left } = division;
  const before = portions.find((portion) => portion.leaf === leaf);
  const needs = run.wants.needs.get(leaf);
  const taken = nextPart(run, division, { leaf, needs, before, others });
  if (!taken) return false;
  const { part } = taken;
  division.left = subtractResources(left, part);
  run.free = subtractResources(run.free, part);
  const portion = before ?? { leaf, resources: NO_RESOURCES, units: [] };
  if (!before) portions.push(portion);
  portion.resources = addResources(portion.resources, part);
  if (taken.need) portion.units.push({ need: taken.need, count: taken.count });
  charge(run.tree, leaf, part);
  if (!needs) leaf.deadIn = turn;
  return true;
}

/** Whose turn it is. */
interface Asking {
  readonly leaf: Node;
  readonly needs: readonly Need[] | undefined;
  /** What it has been given of the agent in this phase. */
  readonly before: Portion | undefined;
  readonly others: number | undefined;
}

interface Taken {
  readonly part: Resources;
  readonly need: Need | undefined;
  readonly count: number;
}

/** What a leaf takes next: all that it may have, or some units of the first need that fits. */
function nextPart(run: Run, division: Division, asking: Asking): Taken | undefined {
  const { left, filling } = division;
  const { leaf, needs } = asking;
  const room = run.tree.hasQuota ? smallerOf(left, roomOf(leaf, filling.phase, run.free)) : left;
  if (isHopeless(run, filling.agent, room, asking)) return undefined;
  if (!needs) {
    return fits(run.round.minimum, room) ? { part: room, need: undefined, count: 0 } : undefined;
  }
  for (const need of needs) {
    const { resources } = need.need;
    if (need.left === 0) continue;
    const given = need.need.maxPerAgent === undefined ? 0 : unitsGiven(run, division, asking, need);
    const fit = Math.min(need.left, unitsOn(need.need, filling.agent, room, given));
    if (fit === 0) continue;
    const count = fit === 1 ? 1 : Math.min(fit, unitsAtOnce(run, division, resources, asking));
    countUnits(run.wants, need, count);
    return { part: count === 1 ? resources : scaleResources(resources, count), need, count };
  }
  return undefined;
}

function unitsGiven(
  run: Run,
  { filling: { agent } }: Division,
  { leaf, before }: Asking,
  need: Need,
): number {
  return givenOf(run, agent, leaf, need).units + (before ? unitsIn(before, need) : 0);
}

function unitsAtOnce(
  run: Run,
  { turn, filling: { isRough, agent } }: Division,
  unit: Resources,
  { leaf, others }: Asking,
): number {
  if (others === 0) return Infinity;
  const units = others === undefined ? unitsOfTurn(run.tree, leaf, unit, turn) : 1;
  return isRough ? Math.max(units, unitsOfPiece(leaf, agent, unit, run.shown)) : units;
}

/** Whether even all that it could be given of the agent is within what it has declined: found out before it is given any. */
function isHopeless(
  run: Run,
  agent: AgentView,
  room: Resources,
  { leaf, needs, before }: Asking,
): boolean {
  if (before || !leaf.leaf?.mayRefuse(agent.agentId)) return false;
  return isRefused(run, leaf, agent, needs ? mostUnits(agent, room, needs) : room);
}

/** If it had the agent for itself. */
function mostUnits(agent: AgentView, room: Resources, needs: readonly Need[]): Resources {
  let most = NO_RESOURCES;
  for (const { need, left } of needs) {
    const units = Math.min(left, unitsOn(need, agent, subtractResources(room, most), 0));
    most = addResources(most, scaleResources(need.resources, units));
  }
  return most;
}

function toGrant(
  { agentId }: AgentView,
  { leaf, resources }: Pick<Portion, 'leaf' | 'resources'>,
): Grant {
  const { frameworkId, role } = leaf.leaf as CandidateView;
  return { frameworkId, role, agentId, resources };
}

function takeBack(run: Run, { leaf, resources, units }: Portion): void {
  for (const { need, count } of units) countUnits(run.wants, need, -count);
  run.free = addResources(run.free, resources);
  discharge(run.tree, leaf, resources);
}
