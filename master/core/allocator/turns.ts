/**
 * How many units go to a leaf in one piece when it is its turn.
 *
 * Handing them out one by one is exact, and makes of every agent slivers for as many frameworks as have room on it. A leaf
 * is sure of a part of what is free, by its weight and those of its siblings: `due`. As long as nobody gets more than a tenth
 * of that ahead of others, and a fifth of the agents is left to make it even, larger pieces end where single units do, within
 * one unit:
 *
 *   piece <= due(leaf) * units in all that is free / 10, and half of the agent
 */
import type { Resources } from '../../../protocol/resources.ts';
import { addResources, scaleResources, unitsIn } from '../../../protocol/resources.ts';
import type { AgentView } from './port.ts';
import { dominantShare, unitsUpToShare } from './shares.ts';
import type { Node, Tree } from './tree.ts';
import { runnerUp } from './tree.ts';

/** With fewer agents in a round everything is handed out one by one. */
const AGENTS_MIN = 50;
/** Every fifth agent is left for the end, and handed out one by one. */
const EVEN_EVERY = 5;
const PIECES_PER_AGENT = 2;
const PIECES_OF_DUE = 10;

/** The agents of a round, in two groups. */
export interface Order {
  /** Handed out in pieces. */
  readonly rough: readonly AgentView[];
  /** Handed out one by one, after them. */
  readonly even: readonly AgentView[];
}

/** @returns which agents are handed out in pieces: none, where it is not worth it */
export function orderOf(agents: readonly AgentView[], leaves: number): Order {
  if (agents.length < AGENTS_MIN || leaves < 2) return { rough: [], even: agents };
  const isEven = (index: number): boolean => index % EVEN_EVERY === EVEN_EVERY - 1;
  return {
    rough: agents.filter((_agent, index) => !isEven(index)),
    even: agents.filter((_agent, index) => isEven(index)),
  };
}

/**
 * @param free on all agents of the round, at its beginning
 * @returns units that a leaf may have of an agent in one piece; less than 1 if it is not sure of that many
 */
export function unitsOfPiece(
  { due }: Node,
  agent: AgentView,
  unit: Resources,
  free: Resources,
): number {
  const ofAgent = Math.ceil(unitsIn(unit, agent.free) / PIECES_PER_AGENT);
  return Math.min(ofAgent, Math.floor((due * unitsIn(unit, free)) / PIECES_OF_DUE));
}

/**
 * How many units go to a leaf before it is the turn of another, so that handing them out one by one would give the same: at
 * each level, until it is no longer before the next of its siblings; that unit included which makes it so.
 */
export function unitsOfTurn(tree: Tree, leaf: Node, unit: Resources, turn: number): number {
  let units = Infinity;
  for (let node = leaf; node.parent; node = node.parent) {
    const next = runnerUp(node, turn);
    if (!next) continue;
    units = Math.min(units, unitsBefore(tree, node, unit, next));
    if (units <= 1) return 1;
  }
  return units;
}

function unitsBefore({ total }: Tree, node: Node, unit: Resources, next: Node): number {
  const { weight, holds } = node;
  const { share } = next;
  const units = unitsUpToShare(unit, holds, { total, weight, share });
  if (units === Infinity) return units;
  const reached = dominantShare(addResources(holds, scaleResources(unit, units)), total) / weight;
  const isStillBefore = reached < share || (reached === share && node.rank < next.rank);
  return isStillBefore ? units + 1 : units;
}
