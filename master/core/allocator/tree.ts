/**
 * The tree of a round: roles below roles, candidates at the leaves. Children of a node are kept in the order of their
 * shares, so that who is next is found from the root by taking the first child that still wants something.
 *
 * A role with candidates and with roles below has these candidates as one child among them, as in Mesos: its own work
 * competes with that of a role below it, and not each of its frameworks.
 */
import type { Resources } from '../../../protocol/resources.ts';
import {
  addResources,
  atLeastNothing,
  largerOf,
  NO_RESOURCES,
  subtractResources,
} from '../../../protocol/resources.ts';
import type { PartialResources } from '../../../protocol/roles.ts';
import { fromPartial, parentRole } from '../../../protocol/roles.ts';
import type { AllocationRound, CandidateView, RoleView } from './port.ts';
import type { ShareOrder } from './share-order.ts';
import { orderByShare, setShare } from './share-order.ts';
import { dominantShare } from './shares.ts';

/** A role, or a candidate, in which case `leaf` is there. */
export interface Node {
  readonly parent: Node | undefined;
  readonly depth: number;
  readonly since: number;
  readonly name: string;
  /** Among its siblings: at equal shares the smaller goes first. By `since`, then by name. */
  rank: number;
  readonly weight: number;
  readonly guarantee: PartialResources | undefined;
  readonly limit: PartialResources | undefined;
  readonly leaf: CandidateView | undefined;
  holds: Resources;
  /** Dominant share by weight. */
  share: number;
  /** By their rank. */
  readonly children: Node[];
  /** The same in the order of shares, by rank. */
  order: ShareOrder;
  /** Part of the cluster that it gets if everybody wants everything: by the weights of it and of those above. */
  due: number;
  /** Kept free for its guarantee, or for those below if they come to more. */
  kept: Resources;
  /** Sum of what is kept for its children. */
  keptBelow: Resources;
  /** Turn in which nothing below wants more. */
  deadIn: number;
  /** A place in `order`: in turn `cursorIn`, every child before it is dead. */
  cursor: number;
  cursorIn: number;
}

/** A tree, and what all of its nodes are measured by. */
export interface Tree {
  readonly root: Node;
  readonly total: Resources;
  readonly leaves: readonly Node[];
  /** Whether any role has a guarantee or a limit. */
  readonly hasQuota: boolean;
}

/** Of a role that nobody has said anything of, and that holds nothing. */
const PLAIN = { weight: 1, own: NO_RESOURCES, holds: NO_RESOURCES };

/** Cost: candidates and roles with a quota, sorted. */
export function growTree({ candidates, roles, total }: AllocationRound): Tree {
  const root = createNode({ parent: undefined, name: '', total });
  const nodes = new Map<string, Node>();
  const roleNode = (role: string): Node => {
    const known = nodes.get(role);
    if (known) return known;
    const above = parentRole(role);
    const parent = above === undefined ? root : roleNode(above);
    const view: Omit<RoleView, 'role'> = roles.get(role) ?? PLAIN;
    const node = createNode({ parent, name: role, view, total });
    nodes.set(role, node);
    parent.children.push(node);
    return node;
  };
  for (const { role, guarantee } of roles.values()) if (guarantee) roleNode(role);
  const byRole = groupByRole(candidates);
  for (const role of byRole.keys()) roleNode(role);
  const leaves: Node[] = [];
  for (const [role, some] of byRole) {
    const node = roleNode(role);
    const own = roles.get(role)?.own ?? NO_RESOURCES;
    const parent =
      node.children.length === 0
        ? node
        : createNode({ parent: node, name: role, view: { weight: 1, holds: own }, total });
    if (parent !== node) node.children.push(parent);
    for (const leaf of some) leaves.push(createLeaf(parent, leaf, total));
  }
  const all = [root, ...nodes.values(), ...leaves.flatMap(({ parent }) => parent ?? [])];
  for (const node of new Set(all)) rankChildren(node);
  setDue(root);
  const hasQuota = [...nodes.values()].some(({ guarantee, limit }) => guarantee ?? limit);
  if (hasQuota) keep(root);
  return { root, total, leaves, hasQuota };
}

function rankChildren(node: Node): void {
  const { children } = node;
  children.sort((a, b) => a.since - b.since || (a.name < b.name ? -1 : 1));
  for (const [rank, child] of children.entries()) child.rank = rank;
  node.order = orderByShare(children.map(({ share }) => share));
}

function setDue({ due, children }: Node): void {
  const weights = children.reduce((sum, { weight }) => sum + weight, 0);
  for (const child of children) {
    child.due = (due * child.weight) / weights;
    setDue(child);
  }
}

function groupByRole(candidates: readonly CandidateView[]): Map<string, CandidateView[]> {
  const byRole = new Map<string, CandidateView[]>();
  for (const candidate of candidates) {
    const some = byRole.get(candidate.role);
    if (some) some.push(candidate);
    else byRole.set(candidate.role, [candidate]);
  }
  return byRole;
}

/** Until its children are known. */
const NO_ORDER = orderByShare([]);

interface NewNode {
  readonly parent: Node | undefined;
  readonly name: string;
  readonly view?: Pick<RoleView, 'weight' | 'holds' | 'guarantee' | 'limit'>;
  readonly total: Resources;
  readonly leaf?: CandidateView;
}

function createNode({ parent, name, view = PLAIN, total, leaf }: NewNode): Node {
  return {
    parent,
    depth: (parent?.depth ?? -1) + 1,
    name,
    since: leaf?.registeredAtMs ?? 0,
    rank: 0,
    weight: view.weight,
    guarantee: view.guarantee,
    limit: view.limit,
    leaf,
    holds: view.holds,
    share: dominantShare(view.holds, total) / view.weight,
    children: [],
    order: NO_ORDER,
    due: 1,
    kept: NO_RESOURCES,
    keptBelow: NO_RESOURCES,
    deadIn: 0,
    cursor: 0,
    cursorIn: 0,
  };
}

function createLeaf(parent: Node, leaf: CandidateView, total: Resources): Node {
  const view = { weight: 1, holds: leaf.holds };
  const node = createNode({ parent, name: leaf.frameworkId, view, total, leaf });
  parent.children.push(node);
  return node;
}

/** Of two siblings. */
function comesBefore(a: Node, b: Node): boolean {
  return a.share === b.share ? a.rank < b.rank : a.share < b.share;
}

/**
 * Whose turn it is: from the root, always the child with the smallest share that is not dead.
 *
 * @param turn number of this turn: of one agent, in one phase
 * @returns undefined when all are dead
 */
export function nextLeaf(node: Node, turn: number): Node | undefined {
  if (node.leaf) return node;
  for (;;) {
    const child = firstAlive(node, turn);
    if (!child) {
      node.deadIn = turn;
      return undefined;
    }
    const leaf = nextLeaf(child, turn);
    if (leaf) return leaf;
  }
}

/** Those before the cursor stay dead: who is given something moves away from the front, never to it. */
function firstAlive(node: Node, turn: number): Node | undefined {
  if (node.cursorIn !== turn) {
    node.cursorIn = turn;
    node.cursor = 0;
  }
  node.cursor = nextAlive(node, node.cursor, turn);
  return childAt(node, node.cursor);
}

/** Who would be next among its siblings; undefined if it is alone. To be asked of the one whose turn it is. */
export function runnerUp({ parent }: Node, turn: number): Node | undefined {
  return parent && childAt(parent, nextAlive(parent, parent.cursor + 1, turn));
}

/** @returns the first place from this one on whose child is not dead */
function nextAlive(node: Node, from: number, turn: number): number {
  let place = from;
  while (childAt(node, place)?.deadIn === turn) place += 1;
  return place;
}

function childAt({ children, order: { members } }: Node, place: number): Node | undefined {
  return place < members.length ? children[members[place] as number] : undefined;
}

/** Which of some leaves `nextLeaf` would come to first, if it looked at no others. Cost: them. */
export function firstOf(leaves: readonly Node[]): Node | undefined {
  let first = leaves[0];
  for (const leaf of leaves) if (first && isServedBefore(leaf, first)) first = leaf;
  return first;
}

/** By the first level at which their paths part. */
function isServedBefore(a: Node, b: Node): boolean {
  if (a.parent === b.parent) return comesBefore(a, b);
  let [one, other] = [a, b];
  while (one.depth > other.depth && one.parent) one = one.parent;
  while (other.depth > one.depth && other.parent) other = other.parent;
  while (one.parent !== other.parent && one.parent && other.parent) {
    one = one.parent;
    other = other.parent;
  }
  return comesBefore(one, other);
}

/** Counts resources for a leaf that is not dead and all above it, and moves each to where its new share belongs. */
export function charge(tree: Tree, leaf: Node, part: Resources): void {
  for (let node: Node | undefined = leaf; node; node = node.parent) {
    setHolds(tree, node, addResources(node.holds, part));
  }
  if (tree.hasQuota) keepAlong(leaf);
}

/** Takes charges back. Who is next has to be asked in another turn then: cursors may be past those that move forward. */
export function discharge(tree: Tree, leaf: Node, part: Resources): void {
  for (let node: Node | undefined = leaf; node; node = node.parent) {
    setHolds(tree, node, subtractResources(node.holds, part));
  }
  if (tree.hasQuota) keepAlong(leaf);
}

function setHolds({ total }: Tree, node: Node, holds: Resources): void {
  node.holds = holds;
  node.share = dominantShare(holds, total) / node.weight;
  if (node.parent) setShare(node.parent.order, node.rank, node.share);
}

/**
 * What has to stay free so that every guarantee can be met:
 *
 *   kept(node) = max(guarantee(node) - holds(node), sum of kept(child)), and at least nothing
 *
 * The guarantee of a role includes those of the roles below it: whichever is more is kept.
 */
function keep(node: Node): Resources {
  let below = NO_RESOURCES;
  for (const child of node.children) below = addResources(below, keep(child));
  node.keptBelow = below;
  node.kept = largerOf(unmetGuarantee(node), below);
  return node.kept;
}

/** The same, after a change to a leaf and all above it. */
function keepAlong(leaf: Node): void {
  for (let node = leaf.parent; node; node = node.parent) {
    const kept = largerOf(unmetGuarantee(node), node.keptBelow);
    if (node.parent) {
      const change = subtractResources(kept, node.kept);
      node.parent.keptBelow = addResources(node.parent.keptBelow, change);
    }
    node.kept = kept;
  }
}

/** What a role has been promised and does not hold; nothing for one without a guarantee. */
export function unmetGuarantee({ guarantee, holds }: Node): Resources {
  if (!guarantee) return NO_RESOURCES;
  return atLeastNothing(subtractResources(fromPartial(guarantee), holds));
}
