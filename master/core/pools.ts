/**
 * What an agent has, in pools: one for each reservation, and one of what is not reserved. Whatever is offered or used is of
 * one of them, and goes back there.
 *
 *   capacity(pool) = what it was given - what is reserved further of it
 *   unused(pool)   = capacity - used - lacking,    free(pool) = unused - offered,    and at least nothing
 *
 * where `lacking` is what other pools use beyond their capacity: an agent that has shrunk, or came with tasks that nobody
 * knew. So the pools together never give out more than the agent has.
 */
import type { ReservationId } from '../../protocol/ids.ts';
import type { AgentRecord } from '../../protocol/records.ts';
import type { Reservation, ReservedPart } from '../../protocol/reservations.ts';
import { isReservedFor, reservationsOf } from '../../protocol/reservations.ts';
import type { Resources } from '../../protocol/resources.ts';
import {
  addResources,
  areEqual,
  atLeastNothing,
  isEmpty,
  NO_RESOURCES,
  smallerOf,
  subtractResources,
} from '../../protocol/resources.ts';
import type { Agent, PoolUse } from './state.ts';

/** One pool of an agent. */
export interface Pool {
  /** Undefined: what is not reserved. */
  readonly reservation: Reservation | undefined;
  /** Negative where an agent has become smaller than what is reserved of it. */
  readonly capacity: Resources;
  readonly used: Resources;
  readonly offered: Resources;
  /** What could be used if all offers of it were taken back. */
  readonly unused: Resources;
  readonly free: Resources;
}

/** True if anything of it is reserved. */
export function hasReservations({ info, reservations }: AgentRecord): boolean {
  return (info.reservations?.length ?? 0) + (reservations?.length ?? 0) > 0;
}

/** Counts what is held of a reservation; negative: less of it. Changes `pools`. */
export function holdPool(
  pools: Agent['pools'],
  kind: keyof PoolUse,
  { reservationId, resources }: ReservedPart,
): void {
  const before = pools.get(reservationId) ?? { used: NO_RESOURCES, offered: NO_RESOURCES };
  const after = { ...before, [kind]: addResources(before[kind], resources) };
  if (areEqual(after.used, NO_RESOURCES) && areEqual(after.offered, NO_RESOURCES)) {
    pools.delete(reservationId);
  } else pools.set(reservationId, after);
}

/** @returns the pools of an agent: reservations, those of the deepest roles first, and last what is not reserved */
export function poolsOf(agent: Readonly<Agent>): readonly Pool[] {
  const { record, used, offered, pools } = agent;
  const reservations = reservationsOf(record);
  const capacities = capacitiesOf(record.info.resources, reservations);
  const held: Held[] = [];
  let open: Pick<Held, 'used' | 'offered'> = { used, offered };
  for (const reservation of inOrder(reservations)) {
    const { reservationId } = reservation;
    const use = pools.get(reservationId) ?? { used: NO_RESOURCES, offered: NO_RESOURCES };
    const capacity = capacities.get(reservationId) ?? NO_RESOURCES;
    held.push({ reservation, capacity, ...use });
    open = {
      used: subtractResources(open.used, use.used),
      offered: subtractResources(open.offered, use.offered),
    };
  }
  held.push({
    reservation: undefined,
    capacity: capacities.get(undefined) ?? NO_RESOURCES,
    ...open,
  });
  return withRest(held);
}

type Held = Pick<Pool, 'reservation' | 'capacity' | 'used' | 'offered'>;

function capacitiesOf(
  total: Resources,
  reservations: readonly Reservation[],
): ReadonlyMap<ReservationId | undefined, Resources> {
  const capacities = new Map<ReservationId | undefined, Resources>([[undefined, total]]);
  for (const { reservationId, resources } of reservations) capacities.set(reservationId, resources);
  for (const { parentId, resources } of reservations) {
    // One whose parent is gone (the settings of the agent have changed) is of what is not reserved.
    const from = capacities.has(parentId) ? parentId : undefined;
    capacities.set(from, subtractResources(capacities.get(from) ?? NO_RESOURCES, resources));
  }
  return capacities;
}

function inOrder(reservations: readonly Reservation[]): Reservation[] {
  const depth = ({ role }: Reservation): number => role.split('/').length;
  return [...reservations].sort(
    (a, b) => depth(b) - depth(a) || (a.reservationId < b.reservationId ? -1 : 1),
  );
}

function withRest(held: readonly Held[]): Pool[] {
  let lacking = NO_RESOURCES;
  for (const { capacity, used } of held) {
    lacking = addResources(lacking, atLeastNothing(subtractResources(used, capacity)));
  }
  return held.map((pool) => {
    const left = subtractResources(subtractResources(pool.capacity, pool.used), lacking);
    const unused = atLeastNothing(left);
    return { ...pool, unused, free: atLeastNothing(subtractResources(unused, pool.offered)) };
  });
}

/** @returns the pool of that reservation, or of what is not reserved; undefined if there is none */
export function poolOf(agent: Readonly<Agent>, id: ReservationId | undefined): Pool | undefined {
  return poolsOf(agent).find(({ reservation }) => reservation?.reservationId === id);
}

/** True if what is in offers is not there (any more). */
export function isOverOffered(agent: Readonly<Agent>): boolean {
  if (agent.offers.size === 0) return false;
  return poolsOf(agent).some(
    ({ offered, unused }) => !isEmpty(atLeastNothing(subtractResources(offered, unused))),
  );
}

/** Something to take from: a pool, and what is left of it. */
export interface Purse {
  /** Undefined: what is not reserved. */
  readonly reservationId: ReservationId | undefined;
  left: Resources;
}

/** What was taken of which pool; `lacking`: what none had. */
export interface Taken {
  readonly parts: readonly {
    readonly reservationId: ReservationId | undefined;
    readonly resources: Resources;
  }[];
  readonly lacking: Resources;
}

/** Takes as much as there is of each, in their order, and makes them smaller. */
export function takeFrom(purses: readonly Purse[], resources: Resources): Taken {
  const parts: { reservationId: ReservationId | undefined; resources: Resources }[] = [];
  let lacking = resources;
  for (const purse of purses) {
    const part = atLeastNothing(smallerOf(purse.left, lacking));
    if (isEmpty(part)) continue;
    purse.left = subtractResources(purse.left, part);
    lacking = subtractResources(lacking, part);
    parts.push({ reservationId: purse.reservationId, resources: part });
  }
  return { parts, lacking };
}

/** @returns as much of what a pool has unused as there is of each, as purses */
export function pursesOf(pools: readonly Pool[]): Purse[] {
  return pools.map(({ reservation, unused }) => {
    return { reservationId: reservation?.reservationId, left: unused };
  });
}

/** The field of a record that says what it has taken of reservations; no field if that is nothing. */
export function reservedIn({ parts }: Pick<Taken, 'parts'>): { reserved?: ReservedPart[] } {
  const sums = new Map<ReservationId, Resources>();
  for (const { reservationId, resources } of parts) {
    if (reservationId === undefined) continue;
    const before = sums.get(reservationId) ?? NO_RESOURCES;
    sums.set(reservationId, addResources(before, resources));
  }
  if (sums.size === 0) return {};
  return {
    reserved: [...sums].map(([reservationId, resources]) => ({ reservationId, resources })),
  };
}

/**
 * Of something that is on an agent and of which nobody knows any more which pools it was taken from: the reservations whose
 * directories it has, and others for its role, as in a launch.
 */
export function claimOf(
  agent: Readonly<Agent>,
  role: string,
  { resources, directories = [] }: Claim,
): { reserved?: ReservedPart[] } {
  if (!hasReservations(agent.record)) return {};
  const own = poolsOf(agent).filter(({ reservation }) => {
    return reservation && isReservedFor(reservation, role);
  });
  const isCertain = ({ reservation }: Pool): boolean => {
    return reservation !== undefined && directories.includes(reservation.reservationId);
  };
  const inTurn = [...own.filter(isCertain), ...own.filter((pool) => !isCertain(pool))];
  return reservedIn(takeFrom(pursesOf(inTurn), resources));
}

/** What has to be counted of something that turned up. */
interface Claim {
  readonly resources: Resources;
  /** Reservations whose directories it has. */
  readonly directories?: readonly ReservationId[] | undefined;
}

/** @returns the parts as far as they are within what is counted: what is given back first is not reserved */
export function partsWithin(
  parts: readonly ReservedPart[],
  counted: Resources,
): readonly ReservedPart[] {
  const purses: Purse[] = parts.map(({ reservationId, resources: left }) => ({
    reservationId,
    left,
  }));
  return reservedIn(takeFrom(purses, counted)).reserved ?? [];
}
