/**
 * What frameworks have declined: an agent is not offered again, under a role, to who has declined it, until the filter ends;
 * unless the offer would be more than what was declined. As in Mesos they are kept in memory only.
 */
import type { AgentId, FrameworkId, ReservationId } from '../../protocol/ids.ts';
import type { Resources } from '../../protocol/resources.ts';
import { fits } from '../../protocol/resources.ts';

/** An offer of a framework under `role` that is within `resources` is not made until then. */
export interface Filter {
  readonly role: string;
  readonly resources: Resources;
  readonly untilMs: number;
}

/** By pool of an agent (`poolKey`); of a framework. */
export type Filters = Map<string, readonly Filter[]>;

/** A pool of an agent: a reservation, or what is not reserved. */
interface PoolName {
  readonly agentId: AgentId;
  readonly reservationId?: ReservationId | undefined;
}

/** @returns the key of a pool among filters: of what is not reserved the id of the agent */
export function poolKey({ agentId, reservationId }: PoolName): string {
  return reservationId === undefined ? agentId : `${agentId} ${reservationId}`;
}

/** When a filter ends. */
interface FilterEnd extends PoolName {
  readonly untilMs: number;
  readonly frameworkId: FrameworkId;
}

/** A binary heap, the first end at its top. Ends of filters that are gone already stay until their time. */
export type FilterEnds = FilterEnd[];

/** Filters kept of one framework and agent; the oldest go first. */
const FILTERS_PER_AGENT_MAX = 8;

/** @returns an empty one */
export function createFilterEnds(): FilterEnds {
  return [];
}

/** Remembers a filter; one of the same role and agent that it makes pointless goes. Cost: logarithmic in their number. */
export function addFilter(
  filters: Filters,
  ends: FilterEnds,
  { frameworkId, agentId, reservationId, ...filter }: Filter & FilterEnd,
): void {
  const key = poolKey({ agentId, reservationId });
  const kept = (filters.get(key) ?? []).filter(
    (known) =>
      known.role !== filter.role ||
      known.untilMs > filter.untilMs ||
      !fits(known.resources, filter.resources),
  );
  filters.set(key, [...kept.slice(1 - FILTERS_PER_AGENT_MAX), filter]);
  push(ends, { untilMs: filter.untilMs, frameworkId, agentId, reservationId });
}

/** An offer that might be made. */
export interface FilterQuestion extends PoolName {
  readonly role: string;
  readonly resources: Resources;
  readonly nowMs: number;
}

/** Whether an offer of so much would be within what was declined. */
export function isDeclined(filters: Filters, question: FilterQuestion): boolean {
  return filters.has(poolKey(question)) && filterUntilMs(filters, question) !== undefined;
}

/** Until when an offer of so much is not made; undefined: nothing of the kind was declined. */
export function filterUntilMs(
  filters: Filters,
  { role, resources, nowMs, ...pool }: FilterQuestion,
): number | undefined {
  const some = filters
    .get(poolKey(pool))
    ?.filter(
      (filter) =>
        filter.role === role && filter.untilMs > nowMs && fits(resources, filter.resources),
    );
  return some && some.length > 0 ? Math.max(...some.map(({ untilMs }) => untilMs)) : undefined;
}

/** Forgets the filters of one framework and pool that have ended. */
export function dropEnded(filters: Filters, pool: PoolName, nowMs: number): void {
  const key = poolKey(pool);
  const kept = (filters.get(key) ?? []).filter(({ untilMs }) => untilMs > nowMs);
  if (kept.length === 0) filters.delete(key);
  else filters.set(key, kept);
}

/** Forgets what was declined under these roles. Cost: agents of which anything was declined. */
export function dropRoles(filters: Filters, roles: readonly string[]): void {
  for (const [key, some] of filters) {
    const kept = some.filter(({ role }) => !roles.includes(role));
    if (kept.length === 0) filters.delete(key);
    else filters.set(key, kept);
  }
}

/** Forgets the ends of filters of a framework that has none any more. Cost: all ends. */
export function forgetEnds(ends: FilterEnds, frameworkId: FrameworkId): void {
  const kept = ends.filter((end) => end.frameworkId !== frameworkId);
  ends.length = 0;
  for (const end of kept) push(ends, end);
}

/** Takes the ends that are over. */
export function takeEnded(ends: FilterEnds, nowMs: number): FilterEnd[] {
  const ended: FilterEnd[] = [];
  for (let [first] = ends; first && first.untilMs <= nowMs; [first] = ends) {
    ended.push(first);
    pop(ends);
  }
  return ended;
}

function push(heap: FilterEnds, end: FilterEnd): void {
  let index = heap.length;
  heap.push(end);
  while (index > 0) {
    const parent = (index - 1) >> 1;
    const above = heap[parent] as FilterEnd;
    if (above.untilMs <= end.untilMs) break;
    heap[index] = above;
    index = parent;
  }
  heap[index] = end;
}

function pop(heap: FilterEnds): void {
  const last = heap.pop();
  if (!last || heap.length === 0) return;
  let index = 0;
  for (;;) {
    let child = 2 * index + 1;
    if (child >= heap.length) break;
    const right = heap[child + 1];
    if (right && right.untilMs < (heap[child] as FilterEnd).untilMs) child += 1;
    const below = heap[child] as FilterEnd;
    if (below.untilMs >= last.untilMs) break;
    heap[index] = below;
    index = child;
  }
  heap[index] = last;
}
