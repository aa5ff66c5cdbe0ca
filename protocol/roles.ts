/**
 * Roles: names that frameworks work under, as a tree (`eng/prod` is below `eng`), and what an operator has said of one: its
 * weight and its quota. Everything that the work of a role holds counts for the roles above it as well.
 */
import { z } from 'zod';
import { formatCpus, formatMib } from './quantities.ts';
import { amountOf, formatOthers, otherNames, Resources } from './resources.ts';

/** The role of a framework that names none; a role like any other, at the top of the tree. */
export const ROLE_DEFAULT = '*';
/** Characters of a role's name, and parts of it. */
export const ROLE_MAX_CHARS = 128;
export const ROLE_MAX_PARTS = 8;
/** Of a role without one. */
export const WEIGHT_DEFAULT = 1;
const [WEIGHT_MIN, WEIGHT_MAX] = [0.001, 1_000_000];

/** `*`, or parts between slashes, none of which is `.` or `..`, begins with a dash or has spaces, stars or backslashes. */
export const RoleName = z
  .string()
  .min(1)
  .max(ROLE_MAX_CHARS)
  .refine((name) => problemOfRole(name) === undefined, {
    error: ({ input }) => problemOfRole(String(input)) ?? 'not a role',
  });

/** @returns what is wrong with the name of a role, for who has written it; undefined: nothing */
export function problemOfRole(name: string): string | undefined {
  if (name === ROLE_DEFAULT) return undefined;
  const parts = name.split('/');
  if (parts.length > ROLE_MAX_PARTS) {
    return `role ${name} has ${String(parts.length)} parts, at most ${String(ROLE_MAX_PARTS)} are possible`;
  }
  for (const part of parts) {
    if (part === '') return `role ${JSON.stringify(name)} has an empty part`;
    if (part === '.' || part === '..') return `role ${name} has a part ${part}`;
    if (part.startsWith('-')) return `role ${name} has a part that begins with a dash`;
    if (/[\s*\\\u0000-\u001f\u007f]/u.test(part)) {
      return `role ${JSON.stringify(name)} has a space, a star or a backslash in it`;
    }
  }
  return undefined;
}

/** @returns the role above; undefined for one at the top */
export function parentRole(role: string): string | undefined {
  const at = role.lastIndexOf('/');
  return at === -1 ? undefined : role.slice(0, at);
}

/** @returns the role and those above it, from the top: `eng`, `eng/prod` */
export function rolePath(role: string): string[] {
  const path: string[] = [];
  for (let name: string | undefined = role; name !== undefined; name = parentRole(name)) {
    path.unshift(name);
  }
  return path;
}

/** Of a resource that it does not name there is neither guarantee nor limit. */
export const PartialResources = Resources.partial();
export type PartialResources = Readonly<z.infer<typeof PartialResources>>;

/** @returns what is named of it, as a person writes it: `4 cpus, 8G` */
export function formatPartial({ cpuMillis, memMib, others }: PartialResources): string {
  const parts = [
    ...(cpuMillis === undefined ? [] : [`${formatCpus(cpuMillis)} cpus`]),
    ...(memMib === undefined ? [] : [formatMib(memMib)]),
    ...formatOthers({ others }),
  ];
  return parts.length === 0 ? 'nothing' : parts.join(', ');
}

/** @returns what is named, and nothing of everything else */
export function fromPartial({ cpuMillis = 0, memMib = 0, others }: PartialResources): Resources {
  return { cpuMillis, memMib, ...(others && { others }) };
}

/**
 * Whether any resource that a limit names is above it.
 *
 * @param part what is asked for: a resource that it has none of does not count; default: all of them count
 */
export function isBeyond(held: Resources, limit: PartialResources, part = held): boolean {
  if (part.cpuMillis > 0 && held.cpuMillis > (limit.cpuMillis ?? Infinity)) return true;
  if (part.memMib > 0 && held.memMib > (limit.memMib ?? Infinity)) return true;
  return otherNames(limit).some(
    (name) => amountOf(part, name) > 0 && amountOf(held, name) > amountOf(limit, name),
  );
}

/** Greater than 0; a role of weight 2 earns twice what one of weight 1 does. */
export const Weight = z.number().min(WEIGHT_MIN).max(WEIGHT_MAX);

/** What an operator has said of a role, as the registry holds it under the role's name. */
export const RoleRecord = z.object({
  role: RoleName,
  weight: Weight.optional(),
  /** What it and the roles below it can always have: as much is kept free for them. */
  guarantee: PartialResources.optional(),
  /** What it and the roles below it hold at most. */
  limit: PartialResources.optional(),
});
export type RoleRecord = Readonly<z.infer<typeof RoleRecord>>;
