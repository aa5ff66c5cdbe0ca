/**
 * What the leaves of a round still want. Needs of the same size and attributes are of one shape: what does not fit on an
 * agent is found out once for a shape, and not for each of a thousand frameworks. Of the shapes that need no more CPU than
 * there is, and of those that need no more memory, the fewer are looked at.
 */
import type { Resources } from '../../../protocol/resources.ts';
import { fits } from '../../../protocol/resources.ts';
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
  readonly byCpu: readonly Shape[];
  /** The same, those with the least memory first. */
  readonly byMem: readonly Shape[];
  /** Whether anybody takes whatever there is. */
  readonly isAnyTaker: boolean;
  /** Units that are still to be offered; infinite if somebody takes whatever there is. */
  unmet: number;
}

/** Cost: needs, sorted. */
export function wantsOf(leaves: readonly Node[]): Wants {
  const shapes = new Map<string, Shape>();
  const needs = new Map<Node, readonly Need[] | undefined>();
  const gangs = new Map<Node, readonly Need[]>();
  let unmet = 0;
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
      return one;
    });
    needs.set(leaf, some);
  }
  const isAnyTaker = leaves.some(({ leaf }) => !leaf?.needs);
  if (isAnyTaker) unmet = Infinity;
  const byCpu = [...shapes.values()].sort((a, b) => cpuOf(a) - cpuOf(b));
  const byMem = byCpu.toSorted((a, b) => memOf(a) - memOf(b));
  return { needs, gangs, byCpu, byMem, isAnyTaker, unmet };
}

const cpuOf = ({ resources }: Shape): number => resources.cpuMillis;
const memOf = ({ resources }: Shape): number => resources.memMib;

/** No other need is of its shape: nobody looks for it there. */
function gangOf(leaf: Node, need: NeedView): Need {
  const { resources, attributes, count } = need;
  const shape = { resources, attributes, needs: [], left: count };
  return { leaf, need, shape, left: count };
}

function shapeOf(shapes: Map<string, Shape>, { resources, attributes, count }: NeedView): Shape {
  const key = JSON.stringify([resources, attributes]);
  const shape = shapes.get(key) ?? { resources, attributes, needs: [], left: 0 };
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

/** Whether a unit of anything that a leaf needs fits into what is left of an agent. */
export function canUse(
  needs: readonly Need[],
  { attributes }: AgentView,
  left: Resources,
): boolean {
  for (const { need, left: count } of needs) {
    if (count === 0 || !fits(need.resources, left)) continue;
    if (hasAttributes(attributes, need.attributes)) return true;
  }
  return false;
}

/**
 * Looks for those of whom a unit of anything fits into what is left of an agent.
 *
 * @param most no more of them
 * @returns them, each once; undefined: there are more. Cost: shapes that need no more CPU, or no more memory, than is left
 */
export function leavesFor(
  { byCpu, byMem }: Wants,
  { attributes }: AgentView,
  left: Resources,
  most: number,
): Node[] | undefined {
  const ofCpu = countUpTo(byCpu, cpuOf, left.cpuMillis);
  const ofMem = countUpTo(byMem, memOf, left.memMib);
  const [shapes, count] = ofCpu < ofMem ? [byCpu, ofCpu] : [byMem, ofMem];
  const leaves: Node[] = [];
  for (let index = 0; index < count; index += 1) {
    const shape = shapes[index] as Shape;
    if (shape.left === 0 || !fits(shape.resources, left)) continue;
    if (!hasAttributes(attributes, shape.attributes)) continue;
    for (const need of shape.needs) {
      if (need.left === 0 || leaves.includes(need.leaf)) continue;
      if (leaves.length === most) return undefined;
      leaves.push(need.leaf);
    }
  }
  return leaves;
}

/** @returns how many shapes, of those in order, have no more than so much. Cost: logarithmic */
function countUpTo(
  shapes: readonly Shape[],
  amountOf: (shape: Shape) => number,
  amount: number,
): number {
  let [from, to] = [0, shapes.length];
  while (from < to) {
    const middle = (from + to) >>> 1;
    if (amountOf(shapes[middle] as Shape) <= amount) from = middle + 1;
    else to = middle;
  }
  return from;
}
