/**
 * Reservations: resources of one agent that are kept for a role and the roles below it. They are a stack: what is reserved
 * for `eng` can be reserved further for `eng/prod`, and is `eng`'s again when that ends.
 */
import { z } from 'zod';
import { Labels } from './fields.ts';
import { ReservationId } from './ids.ts';
import { amountOf, DISK, isEmpty, Resources } from './resources.ts';
import { RoleName, rolePath } from './roles.ts';

/** Of one agent, of either kind. */
export const RESERVATIONS_MAX = 100;

const ReservedResources = Resources.refine((resources) => !isEmpty(resources), {
  message: 'nothing is reserved',
});

/** Part of an agent's settings: it says so when it registers, and nobody else can take it away. */
export const StaticReservation = z.object({ role: RoleName, resources: ReservedResources });
export type StaticReservation = Readonly<z.infer<typeof StaticReservation>>;

/** Of an agent, for each role at most one. */
export const StaticReservations = z
  .array(StaticReservation)
  .max(RESERVATIONS_MAX)
  .refine((all) => new Set(all.map(({ role }) => role)).size === all.length, {
    message: 'two reservations for one role',
  });

/** Resources of an agent that are kept for a role. */
export const Reservation = z.object({
  reservationId: ReservationId,
  role: RoleName,
  /** With what is reserved further of it. */
  resources: ReservedResources,
  labels: Labels,
  /** Who has made it; absent in an open cluster. */
  principal: z.string().optional(),
  /** Of which reservation it is a part; absent: of what was not reserved. */
  parentId: ReservationId.optional(),
  /** From the settings of the agent. */
  isStatic: z.boolean(),
});
export type Reservation = Readonly<z.infer<typeof Reservation>>;

/** What a task or executor has taken of one reservation; the rest of what it has is of what is not reserved. */
export const ReservedPart = z.object({ reservationId: ReservationId, resources: Resources });
export type ReservedPart = Readonly<z.infer<typeof ReservedPart>>;

/** Of which reservation an offer is, as its framework sees it. */
export const OfferReservation = Reservation.pick({
  reservationId: true,
  role: true,
  labels: true,
}).extend({
  /** Tasks have had disk of it: its directory has what they have left there. */
  hasDirectory: z.boolean().optional(),
});
export type OfferReservation = Readonly<z.infer<typeof OfferReservation>>;

/** An agent, as far as its reservations go. */
export interface Reserving {
  readonly info: { readonly reservations?: readonly StaticReservation[] | undefined };
  /** Those that operators have made. */
  readonly reservations?: readonly Reservation[] | undefined;
}

/** @returns the reservations of which somebody has disk: he has their directories as well */
export function withDisk(parts: readonly ReservedPart[] = []): ReservationId[] {
  return parts.flatMap(({ reservationId, resources }) =>
    amountOf(resources, DISK) > 0 ? [reservationId] : [],
  );
}

/** @returns `static:ROLE`: the same after every restart of the agent */
export function staticIdOf(role: string): ReservationId {
  return `static:${role}` as ReservationId;
}

/** @returns all reservations of an agent, the static ones first */
export function reservationsOf({ info, reservations = [] }: Reserving): readonly Reservation[] {
  if (!info.reservations) return reservations;
  const fixed = info.reservations.map(({ role, resources }) => ({
    reservationId: staticIdOf(role),
    ...{ role, resources, labels: {}, isStatic: true },
  }));
  return [...fixed, ...reservations];
}

/** Whether what is reserved for one role may be used under another: under the same, and under those below it. */
export function isReservedFor({ role }: { readonly role: string }, user: string): boolean {
  return rolePath(user).includes(role);
}
