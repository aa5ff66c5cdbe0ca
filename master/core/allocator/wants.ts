/**
 * What the leaves of a round still want. Needs of the same size and attributes are of one shape: what does not fit on an
 * agent is found out once for a shape, and not for each of a thousand frameworks.
 */
import type { Resources } from '../../../protocol/resources.ts';
import { fits, largerOf, NO_RESOURCES } from '../../../protocol/resources.ts';
import { hasAttributes } from './needs.ts';
import type { AgentView, NeedView } from './port.ts';
import type { Node } from './tree.ts';

/** Of one size, for agents with the same attributes. */
interface Shape {
  readonly resources: Resources;
  readonly attributes: NeedView['attributes'];
  readonly needs: Need[];
  /** Units of all needs of it that are still to be offered. */
  left: number;
  /** The last search by which one of its units fitted. */
  foundIn: number;
}

/** What is still to be offered of a need. */
export interface Need {
  readonly leaf: Node;
  readonly need: NeedView;
  readonly shape: Shape;
  left: number;
}

/** Of all leaves. */
export interface Wants {
  /** Of leaves that want all or nothing; not among `needs`. */
  readonly gangs: ReadonlyMap<Node, readonly Need[]>;
  /** Undefined for a leaf that takes whatever there is. */
  readonly needs: ReadonlyMap<Node, readonly Need[] | undefined>;
  /** Those with the least CPU first. */
  readonly shapes: readonly Shape[];
  /** Where so much is left, a unit of any shape fits, but for its attributes. */
  readonly largest: Resources;
  /** Whether anybody takes whatever there is. */
  readonly isAnyTaker: boolean;
  /** Units that are still to be offered; infinite if somebody takes whatever there is. */
  unmet: number;
  /** Number of the last search. */
  search: number;
}

/** Cost: needs, sorted. */
export function wantsOf(leaves: readonly Node[]): Wants {
  const shapes = new Map<string, Shape>();
  const needs = new Map<Node, readonly Need[] | undefined>();
  const gangs = new Map<Node, readonly Need[]>();
  let unmet = 0;
  let largest = NO_RESOURCES;
  for (const leaf of leaves) {
    const all = leaf.leaf?.needs;
    const together = all?.filter(({ gang }) => gang).map((need) => gangOf(leaf, need)) ?? [];
    if (together.length > 0) gangs.set(leaf, together);
    const alone = all?.filter(({ gang }) => !gang);
    const some = alone?.map((need): Need => {
      const shape = shapeOf(shapes, need);
      const one = { leaf, need, shape, left: need.count };
      shape.needs.push(one);
      unmet += need.count;
      largest = largerOf(largest, need.resources);
      return one;
    });
    needs.set(leaf, some);
  }
  const isAnyTaker = leaves.some(({ leaf }) => !leaf?.needs);
  const inOrder = [...shapes.values()].sort(
    (a, b) => a.resources.cpuMillis - b.resources.cpuMillis,
  );
  if (isAnyTaker) unmet = Infinity;
  return { needs, gangs, shapes: inOrder, largest, isAnyTaker, unmet, search: 0 };
}

/** No other need is of its shape: nobody looks for it there. */
function gangOf(leaf: Node, need: NeedView): Need {
  const { resources, attributes, count } = need;
  const shape = { resources, attributes, needs: [], left: count, foundIn: 0 };
  return { leaf, need, shape, left: count };
}

function shapeOf(shapes: Map<string, Shape>, { resources, attributes, count }: NeedView): Shape {
  const key = JSON.stringify([resources, attributes]);
  const shape = shapes.get(key) ?? { resources, attributes, needs: [], left: 0, foundIn: 0 };
  shape.left += count;
  shapes.set(key, shape);
  return shape;
}

/**
 * Counts units as offered.
 *
 * @param units negative: they are taken back
 */
export function countUnits(wants: Wants, need: Need, units: number): void {
  need.left -= units;
  need.shape.left -= units;
  wants.unmet -= units;
}

/** Whether nothing of what a leaf needs was found to fit by the last search. */
export function isDry(wants: Wants, needs: readonly Need[] | undefined): boolean {
  return needs?.every(({ left, shape }) => left === 0 || shape.foundIn !== wants.search) ?? false;
}

/**
 * Looks for the shapes of which a unit fits into what is left of an agent.
 *
 * @returns those. Cost: shapes that need no more CPU than is left
 */
export function searchShapes(wants: Wants, { attributes }: AgentView, left: Resources): Shape[] {
  wants.search += 1;
  const found: Shape[] = [];
  for (const shape of wants.shapes) {
    if (shape.resources.cpuMillis > left.cpuMillis) break;
    if (shape.left === 0 || !fits(shape.resources, left)) continue;
    if (!hasAttributes(attributes, shape.attributes)) continue;
    shape.foundIn = wants.search;
    found.push(shape);
  }
  return found;
}

/**
 * @param most no more of them
 * @returns the leaves that need what was found, each once; undefined: there are more
 */
export function leavesOf(shapes: readonly Shape[], most: number): Node[] | undefined {
  const leaves = new Set<Node>();
  for (const { needs } of shapes) {
    if (needs.length > 2 * most) return undefined;
    for (const { leaf, left } of needs) if (left > 0) leaves.add(leaf);
    if (leaves.size > most) return undefined;
  }
  return [...leaves];
}
