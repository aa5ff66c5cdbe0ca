/**
 * How many units go to a leaf in one piece when it is its turn.
 *
 * Handing them out one by one is exact, and makes of every agent slivers for as many frameworks as have room on it. A leaf
 * is sure of a part of what is still to be handed out, by its weight and those of its siblings: `due`. As long as nobody gets
 * more than a tenth of that ahead of others, what is left makes it even again, and as it runs out pieces become units
 * (guided self-scheduling: Polychronopoulos and Kuck, IEEE Transactions on Computers 36(12), 1987):
 *
 *   piece <= due(leaf) * units in all that is still to be handed out / 10, and half of the agent
 *
 * So larger pieces end where single units do, within one unit.
 */
import type { Resources } from '../../../protocol/resources.ts';
import { addResources, scaleResources, unitsIn } from '../../../protocol/resources.ts';
import type { AgentView } from './port.ts';
import { dominantShare, unitsUpToShare } from './shares.ts';
import type { Node, Tree } from './tree.ts';
import { runnerUp } from './tree.ts';

/** With fewer agents in a round everything is handed out one by one. */
const AGENTS_MIN = 50;
/** Every fifth agent comes last: what makes it even again is then of all kinds, and not of those with the last ids. */
const LAST_EVERY = 5;
/** Not all of an agent: what one leaves of CPU and another of memory goes together. */
const PIECES_PER_AGENT = 2;
const PIECES_OF_DUE = 10;

/** Whether pieces are worth it. */
export function isInPieces(agents: number, leaves: number): boolean {
  return agents >= AGENTS_MIN && leaves > 1;
}

/** @returns the agents in the order in which they are handed out in pieces */
export function inOrder(agents: readonly AgentView[]): AgentView[] {
  const isLast = (index: number): boolean => index % LAST_EVERY === LAST_EVERY - 1;
  return [
    ...agents.filter((_agent, index) => !isLast(index)),
    ...agents.filter((_agent, index) => isLast(index)),
  ];
}

/**
 * @param free on the agent, at the beginning of the round
 * @param ahead free on all agents that are still to be handed out, with this one; nothing: one by one
 * @returns units that a leaf may have of an agent in one piece; less than 1 if it is not sure of that many
 */
export function unitsOfPiece(
  { due }: Node,
  unit: Resources,
  free: Resources,
  ahead: Resources,
): number {
  const ofDue = Math.floor((due * unitsIn(unit, ahead)) / PIECES_OF_DUE);
  return ofDue < 1 ? 0 : Math.min(ofDue, Math.ceil(unitsIn(unit, free) / PIECES_PER_AGENT));
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
