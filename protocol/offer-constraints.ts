/**
 * Offer constraints: what a framework says, role by role, of the attributes that an agent must have to be offered to it at all.
 * The agent is offered if it satisfies any of the role's groups; a group is satisfied if all of its constraints are.
 */
import { z } from 'zod';
import type { Labels } from './fields.ts';
import { GLOB_MAX_CHARS, matchesGlob } from './glob.ts';
import { RoleName } from './roles.ts';

/** Groups of a role, constraints of a group, and constraints of a framework: each is held against every agent in a round. */
export const CONSTRAINT_GROUPS_MAX = 64;
export const CONSTRAINTS_PER_GROUP_MAX = 64;
export const CONSTRAINTS_MAX = 200;

const AttributeName = z.string().min(1).max(128);

/** One thing that is asked of an attribute. An agent without it satisfies `notExists`, `notEquals` and `notMatches`. */
export const AttributeConstraint = z.discriminatedUnion('predicate', [
  z.object({ attribute: AttributeName, predicate: z.literal('exists') }),
  z.object({ attribute: AttributeName, predicate: z.literal('notExists') }),
  z.object({
    attribute: AttributeName,
    predicate: z.literal('equals'),
    value: z.string().max(1024),
  }),
  z.object({
    attribute: AttributeName,
    predicate: z.literal('notEquals'),
    value: z.string().max(1024),
  }),
  /** `pattern`: with `*` for any characters, see `glob.ts`; of the whole value. */
  z.object({
    attribute: AttributeName,
    predicate: z.literal('matches'),
    pattern: z.string().max(GLOB_MAX_CHARS),
  }),
  z.object({
    attribute: AttributeName,
    predicate: z.literal('notMatches'),
    pattern: z.string().max(GLOB_MAX_CHARS),
  }),
]);
export type AttributeConstraint = Readonly<z.infer<typeof AttributeConstraint>>;

const Group = z.array(AttributeConstraint).min(1).max(CONSTRAINTS_PER_GROUP_MAX);

/** By role. A role that is not named has no constraints. */
export const OfferConstraints = z
  .record(RoleName, z.array(Group).min(1).max(CONSTRAINT_GROUPS_MAX))
  .refine((byRole) => Object.values(byRole).flat(2).length <= CONSTRAINTS_MAX, {
    message: `at most ${String(CONSTRAINTS_MAX)} constraints`,
  });
export type OfferConstraints = z.infer<typeof OfferConstraints>;

/** @returns the groups of a role; undefined: it may be offered any agent */
export function groupsOf(
  constraints: OfferConstraints | undefined,
  role: string,
): OfferConstraints[string] | undefined {
  return constraints && Object.hasOwn(constraints, role) ? constraints[role] : undefined;
}

/** @returns a role that they name and that is none of these; undefined: there is none */
export function strangeRole(
  constraints: OfferConstraints | undefined,
  roles: readonly string[],
): string | undefined {
  return Object.keys(constraints ?? {}).find((role) => !roles.includes(role));
}

/** Whether an agent with these attributes may be offered. Cost: constraints. */
export function satisfies(
  attributes: Labels,
  groups: readonly (readonly AttributeConstraint[])[],
): boolean {
  return groups.some((group) => group.every((constraint) => holds(attributes, constraint)));
}

/** @returns of each group, in words, the first constraint that does not hold; empty if one group is satisfied */
export function unsatisfied(
  attributes: Labels,
  groups: readonly (readonly AttributeConstraint[])[],
): string[] {
  if (satisfies(attributes, groups)) return [];
  return groups.flatMap((group) => {
    const broken = group.find((constraint) => !holds(attributes, constraint));
    return broken ? [`${describe(broken)}, ${describeValue(attributes, broken.attribute)}`] : [];
  });
}

function holds(attributes: Labels, constraint: AttributeConstraint): boolean {
  const { attribute } = constraint;
  const value = Object.hasOwn(attributes, attribute) ? attributes[attribute] : undefined;
  switch (constraint.predicate) {
    case 'exists':
      return value !== undefined;
    case 'notExists':
      return value === undefined;
    case 'equals':
      return value === constraint.value;
    case 'notEquals':
      return value !== constraint.value;
    case 'matches':
      return value !== undefined && matchesGlob(constraint.pattern, value);
    case 'notMatches':
      return value === undefined || !matchesGlob(constraint.pattern, value);
    default:
      return constraint satisfies never;
  }
}

function describe(constraint: AttributeConstraint): string {
  const { attribute } = constraint;
  switch (constraint.predicate) {
    case 'exists':
      return `${attribute} must be there`;
    case 'notExists':
      return `${attribute} must not be there`;
    case 'equals':
      return `${attribute} must be ${constraint.value}`;
    case 'notEquals':
      return `${attribute} must not be ${constraint.value}`;
    case 'matches':
      return `${attribute} must match ${constraint.pattern}`;
    case 'notMatches':
      return `${attribute} must not match ${constraint.pattern}`;
    default:
      return constraint satisfies never;
  }
}

function describeValue(attributes: Labels, attribute: string): string {
  if (!Object.hasOwn(attributes, attribute)) return 'it has none';
  return `it has ${String(attributes[attribute])}`;
}
