/**
 * Siblings in the order of their shares, as numbers alone. Who is served moves away from the front: its new place is found by
 * halving, and those between move up in one copy of memory. A heap would compare as often, and could not be walked in order,
 * past those that want nothing of an agent.
 */

/** Members are numbered in the order in which they go at equal shares. */
export interface ShareOrder {
  /** By number of the member. */
  readonly shares: Float64Array;
  /** Numbers of the members, the one with the smallest share first. */
  readonly members: Int32Array;
}

/** @param shares by number of the member. Cost: them, sorted */
export function orderByShare(shares: readonly number[]): ShareOrder {
  const members = Int32Array.from(shares.keys());
  members.sort((a, b) => (shares[a] as number) - (shares[b] as number) || a - b);
  return { shares: Float64Array.from(shares), members };
}

/** Moves a member to where its new share belongs. Cost: logarithmic, and one move of memory. */
export function setShare(order: ShareOrder, member: number, share: number): void {
  const { shares, members } = order;
  const before = shares[member] as number;
  const at = placeOf(order, member, 0, members.length);
  shares[member] = share;
  if (share > before) {
    const to = placeOf(order, member, at + 1, members.length) - 1;
    if (to > at) members.copyWithin(at, at + 1, to + 1);
    members[to] = member;
  } else {
    const to = placeOf(order, member, 0, at);
    if (to < at) members.copyWithin(to + 1, to, at);
    members[to] = member;
  }
}

/** @returns where a member belongs by its share, among those whose places are from `first` up to `end` */
function placeOf(
  { shares, members }: ShareOrder,
  member: number,
  first: number,
  end: number,
): number {
  const share = shares[member] as number;
  let [from, to] = [first, end];
  while (from < to) {
    const middle = (from + to) >>> 1;
    const other = members[middle] as number;
    const otherShare = shares[other] as number;
    if (otherShare < share || (otherShare === share && other < member)) from = middle + 1;
    else to = middle;
  }
  return from;
}
