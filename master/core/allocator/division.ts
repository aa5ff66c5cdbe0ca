/**
 * How what is free on one agent is divided: who is next in the tree takes some units, until nobody can use what is left.
 *
 * As the end of an agent nears, most of those that are next can use nothing of it any more. Once some have been asked for
 * nothing, it is looked up of whom anything fits; if they are few, the rest of the agent is divided among them alone.
 */
import type { Resources } from '../../../protocol/resources.ts';
import {
  addResources,
  fits,
  NO_RESOURCES,
  scaleResources,
  smallerOf,
  subtractResources,
} from '../../../protocol/resources.ts';
import { unitsOn } from './needs.ts';
import type { AgentView } from './port.ts';
import type { Phase } from './quota.ts';
import { roomOf } from './quota.ts';
import type { Portion, Run } from './run.ts';
import { givenOf, isRefused, leftOf, unitsIn } from './run.ts';
import type { Node } from './tree.ts';
import { charge, discharge, firstOf, nextLeaf } from './tree.ts';
import { unitsOfPiece, unitsOfTurn } from './turns.ts';
import type { Need } from './wants.ts';
import { canUse, countUnits, leavesFor } from './wants.ts';

/** So many leaves are looked at one by one; among more, the next is looked for in the tree. */
const FEW_LEAVES = 32;
/** Leaves in a row that are asked for nothing before it is looked up who is left; a look-up costs about as much. */
const MISSES_MAX = 4;

/** One agent in one phase. */
interface Filling {
  readonly agent: AgentView;
  readonly phase: Phase;
  /** Who has refused its portion. */
  readonly refusing: readonly Node[];
}

/** What is left of an agent as it is divided. */
interface Division {
  readonly filling: Filling;
  readonly portions: Portion[];
  readonly turn: number;
  left: Resources;
  /** How many beside the one whose turn it is can use anything of what is left; undefined: nobody has looked. */
  others: number | undefined;
}

/** Divides what is free of an agent after the phases before: who is next gets a part, until none can use more. */
export function divide(run: Run, filling: Filling): readonly Portion[] {
  const { tree, round, wants } = run;
  const turn = (run.turn += 1);
  for (const leaf of filling.refusing) leaf.deadIn = turn;
  const left = leftOf(run, filling.agent);
  const division: Division = { filling, portions: [], turn, left, others: undefined };
  let misses = 0;
  while (fits(round.minimum, division.left)) {
    if (misses === MISSES_MAX && !wants.isAnyTaker) {
      const few = leavesFor(wants, filling.agent, division.left, FEW_LEAVES);
      if (few) return divideAmong(run, division, few);
      misses = 0;
    }
    const leaf = nextLeaf(tree.root, turn);
    if (!leaf) break;
    const isServed = serve(run, division, leaf);
    if (!isServed) leaf.deadIn = turn;
    misses = isServed ? 0 : misses + 1;
  }
  return division.portions;
}

/** @param few all of whom anything fits, and maybe some that are dead */
function divideAmong(run: Run, division: Division, few: readonly Node[]): readonly Portion[] {
  const { filling, turn } = division;
  let live = few;
  while (fits(run.round.minimum, division.left)) {
    live = live.filter(
      (leaf) =>
        leaf.deadIn !== turn &&
        canUse(run.wants.needs.get(leaf) ?? [], filling.agent, division.left),
    );
    const first = firstOf(live);
    if (!first) break;
    division.others = live.length - 1;
    if (!serve(run, division, first)) first.deadIn = turn;
  }
  return division.portions;
}

/** @returns false if a leaf can use nothing of what is left */
function serve(run: Run, division: Division, leaf: Node): boolean {
  const { portions, turn } = division;
  const needs = run.wants.needs.get(leaf);
  const taken = nextPart(run, division, leaf, needs);
  if (!taken) return false;
  const { part, need, count } = taken;
  division.left = subtractResources(division.left, part);
  run.free = subtractResources(run.free, part);
  const units = need ? [{ need, count }] : [];
  const before = portionOf(portions, leaf);
  if (before) {
    before.resources = addResources(before.resources, part);
    before.units.push(...units);
  } else portions.push({ leaf, resources: part, units });
  charge(run.tree, leaf, part);
  if (!needs) leaf.deadIn = turn;
  return true;
}

/** What a leaf has been given of the agent in this phase. */
function portionOf(portions: readonly Portion[], leaf: Node): Portion | undefined {
  for (const portion of portions) if (portion.leaf === leaf) return portion;
  return undefined;
}

interface Taken {
  readonly part: Resources;
  readonly need: Need | undefined;
  readonly count: number;
}

/** What a leaf takes next: all that it may have, or some units of the first need that fits. */
function nextPart(
  run: Run,
  division: Division,
  leaf: Node,
  needs: readonly Need[] | undefined,
): Taken | undefined {
  const { left, filling } = division;
  const { agent, phase } = filling;
  const room = run.tree.hasQuota ? smallerOf(left, roomOf(leaf, phase, run.free)) : left;
  if (leaf.leaf?.mayRefuse(agent.agentId) && isHopeless(run, division, leaf, room))
    return undefined;
  if (!needs) {
    return fits(run.round.minimum, room) ? { part: room, need: undefined, count: 0 } : undefined;
  }
  for (const need of needs) {
    const fit = fitOf(run, division, need, room);
    if (fit === 0) continue;
    const { resources } = need.need;
    const count = fit === 1 ? 1 : unitsAtOnce(run, division, need, fit);
    countUnits(run.wants, need, count);
    return { part: count === 1 ? resources : scaleResources(resources, count), need, count };
  }
  return undefined;
}

/** How many units of a need fit, and may be there. */
function fitOf(run: Run, { filling, portions }: Division, need: Need, room: Resources): number {
  const { agent } = filling;
  const { left, leaf, need: wanted } = need;
  if (left === 0 || !fits(wanted.resources, room)) return 0;
  if (wanted.maxPerAgent === undefined) return Math.min(left, unitsOn(wanted, agent, room, 0));
  const before = portionOf(portions, leaf);
  const given = givenOf(run, agent, leaf, need).units + (before ? unitsIn(before, need) : 0);
  return Math.min(left, unitsOn(wanted, agent, room, given));
}

/** How many of the units that fit go to a leaf before it is the turn of another. */
function unitsAtOnce(
  run: Run,
  { turn, filling, others }: Division,
  need: Need,
  fit: number,
): number {
  if (others === 0) return fit;
  const { leaf } = need;
  const { resources } = need.need;
  const piece = unitsOfPiece(leaf, resources, filling.agent.free, run.ahead);
  if (piece >= fit) return fit;
  const units = others === undefined ? unitsOfTurn(run.tree, leaf, resources, turn) : 1;
  return Math.min(fit, Math.max(units, piece));
}

/** Whether even all that it could be given of the agent is within what it has declined: found out before it is given any. */
function isHopeless(run: Run, division: Division, leaf: Node, room: Resources): boolean {
  const { filling, portions } = division;
  const { agent } = filling;
  if (portionOf(portions, leaf)) return false;
  const needs = run.wants.needs.get(leaf);
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

/** A portion is free again, and its units are wanted again. */
export function takeBack(run: Run, { leaf, resources, units }: Portion): void {
  for (const { need, count } of units) countUnits(run.wants, need, -count);
  run.free = addResources(run.free, resources);
  discharge(run.tree, leaf, resources);
}
