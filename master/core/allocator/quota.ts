/**
 * How much one candidate may be given, by the quotas of its role and of those above.
 *
 *   limit:      holds(role) + part <= limit(role), for each role from the candidate's to the top
 *   headroom:   part <= free - kept, where `kept` is what every guarantee but the candidate's own path has to have left
 *   guarantee:  in the first phase, part <= what its path is owed (below)
 *
 * A path is owed, in each resource, the most that one of its roles has been promised and does not hold, less what is kept
 * for others below that role. With the headroom a guarantee can be met whenever it is asked for, as long as the cluster is
 * large enough for all of them.
 */
import type { Resources } from '../../../protocol/resources.ts';
import {
  addResources,
  amountOf,
  isEmpty,
  largerOf,
  NO_RESOURCES,
  otherNames,
  smallerOf,
  subtractResources,
} from '../../../protocol/resources.ts';
import type { PartialResources } from '../../../protocol/roles.ts';
import { fromPartial } from '../../../protocol/roles.ts';
import type { Node } from './tree.ts';
import { unmetGuarantee } from './tree.ts';

/** Who is served: first those whose role has been promised more than it holds, then everybody. */
export type Phase = 'guarantee' | 'share';

/**
 * @param free on all agents
 * @returns the most of each resource that a candidate may be given; nothing, in the first phase, for one that is owed nothing
 */
export function roomOf(leaf: Node, phase: Phase, free: Resources): Resources {
  const headroom = subtractResources(free, keptForOthers(leaf));
  const room = belowLimits(leaf, headroom);
  return phase === 'share' ? room : withinGuarantee(leaf, room);
}

function belowLimits(leaf: Node, headroom: Resources): Resources {
  let room = headroom;
  for (let node = leaf.parent; node; node = node.parent) {
    if (node.limit) room = capped(room, node.limit, leftBelow(node.limit, node.holds));
  }
  return room;
}

function leftBelow(limit: PartialResources, holds: Resources): Resources {
  return subtractResources(fromPartial(limit), holds);
}

/** Of the resources that `named` names, no more than `most`; of all others as much as there is. */
function capped(room: Resources, named: PartialResources, most: Resources): Resources {
  const within = smallerOf(room, most);
  const others = { ...room.others };
  for (const name of otherNames(named)) others[name] = amountOf(within, name);
  return {
    cpuMillis: named.cpuMillis === undefined ? room.cpuMillis : within.cpuMillis,
    memMib: named.memMib === undefined ? room.memMib : within.memMib,
    ...((room.others ?? named.others) && { others }),
  };
}

/** Kept for the siblings of the candidate's path, at every level. */
function keptForOthers(leaf: Node): Resources {
  let others = NO_RESOURCES;
  for (let node = leaf; node.parent; node = node.parent) {
    others = addResources(others, subtractResources(node.parent.keptBelow, node.kept));
  }
  return others;
}

/** A resource that no role of the path has a guarantee of is bounded by the headroom alone. */
function withinGuarantee(leaf: Node, headroom: Resources): Resources {
  let owed = NO_RESOURCES;
  let others = NO_RESOURCES;
  let room = headroom;
  const promises: PartialResources[] = [];
  for (let node = leaf; node.parent; node = node.parent) {
    const { parent } = node;
    others = addResources(others, subtractResources(parent.keptBelow, node.kept));
    owed = largerOf(owed, subtractResources(unmetGuarantee(parent), others));
    if (parent.guarantee) promises.push(parent.guarantee);
  }
  if (isEmpty(owed)) return NO_RESOURCES;
  for (const promise of promises) room = capped(room, promise, owed);
  return room;
}
