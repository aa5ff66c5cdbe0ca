/**
 * Resource vectors: whole numbers only (thousandths of a core, MiB, units), so sums never drift.
 * Every function returns a new vector and changes none.
 */
import { z } from 'zod';
import { formatCpus, formatMib } from './quantities.ts';

/** Largest amounts of one node: 16,384 cores and 1 PiB; beyond it a number is a mistake. */
export const CPU_MILLIS_MAX = 16_384_000;
export const MEM_MIB_MAX = 1_073_741_824;
/** Of any other resource, and how many of them there may be in a vector. */
export const AMOUNT_MAX = 1_073_741_824;
export const OTHERS_MAX = 32;

/** The other resource that has a unit: MiB. Of all others there are so many, whatever they are. */
export const DISK = 'disk';

/** `gpus`, `ports`, `license.matlab`; never `cpus` or `mem`, which have fields of their own. */
export const ResourceName = z
  .string()
  .regex(/^[a-z][a-z0-9_.-]{0,62}$/, 'a resource is named with a-z, 0-9, dots, dashes')
  // What every object has cannot be a key of one.
  .refine((name) => name !== 'cpus' && name !== 'mem' && !(name in {}), 'not a name of a resource');

/** What somebody means who writes one of these; anything else may be the name of a resource. */
const MEANT: ReadonlyMap<string, string> = new Map([
  ...['cpu', 'core', 'cores'].map((name) => [name, 'cpus'] as const),
  ...['memory', 'ram'].map((name) => [name, 'mem'] as const),
  ['disks', DISK],
  ['gpu', 'gpus'],
  ['port', 'ports'],
]);

/** @returns the name of the resource that is probably meant by a name that could be one as well; undefined: itself */
export function meantResource(name: string): string | undefined {
  return MEANT.get(name);
}

/** Amounts of resources by their names; what is absent is 0. */
export const Amounts = z
  .record(ResourceName, z.int().min(0).max(AMOUNT_MAX))
  .refine((amounts) => Object.keys(amounts).length <= OTHERS_MAX, {
    message: `at most ${String(OTHERS_MAX)} resources beside cpus and mem`,
  });
export type Amounts = Readonly<z.infer<typeof Amounts>>;

/** CPU in thousandths of a core, memory in MiB. */
export const Resources = z.object({
  cpuMillis: z.int().min(0).max(CPU_MILLIS_MAX),
  memMib: z.int().min(0).max(MEM_MIB_MAX),
  /** Everything else that an agent's owner has said it has: disk, gpus, ports, licenses. Absent: nothing. */
  others: Amounts.optional(),
});
export type Resources = Readonly<z.infer<typeof Resources>>;

/** Nothing of anything. */
export const NO_RESOURCES: Resources = Object.freeze({ cpuMillis: 0, memMib: 0 });

/** @returns a + b */
export function addResources(a: Resources, b: Resources): Resources {
  return vector(a.cpuMillis + b.cpuMillis, a.memMib + b.memMib, combine(a, b, plus));
}

/** @returns a - b; may be negative where `b` is over `a` (an over-committed agent has less than nothing free). */
export function subtractResources(a: Resources, b: Resources): Resources {
  return vector(a.cpuMillis - b.cpuMillis, a.memMib - b.memMib, combine(a, b, minus));
}

/** @returns the vector `count` times. */
export function scaleResources(a: Resources, count: number): Resources {
  const others = combine(a, NO_RESOURCES, (amount) => amount * count);
  return vector(a.cpuMillis * count, a.memMib * count, others);
}

/** @returns the smaller of both in each component */
export function smallerOf(a: Resources, b: Resources): Resources {
  return vector(
    Math.min(a.cpuMillis, b.cpuMillis),
    Math.min(a.memMib, b.memMib),
    combine(a, b, Math.min),
  );
}

/** @returns the larger of both in each component */
export function largerOf(a: Resources, b: Resources): Resources {
  return vector(
    Math.max(a.cpuMillis, b.cpuMillis),
    Math.max(a.memMib, b.memMib),
    combine(a, b, Math.max),
  );
}

/** @returns the same with nothing where there is less than nothing */
export function atLeastNothing(a: Resources): Resources {
  return largerOf(a, NO_RESOURCES);
}

/** True if every component of `need` is within `have`. */
export function fits(need: Resources, have: Resources): boolean {
  if (need.cpuMillis > have.cpuMillis || need.memMib > have.memMib) return false;
  const { others } = need;
  if (others)
    for (const name in others) if (amountOf(need, name) > amountOf(have, name)) return false;
  return true;
}

/** True if both have the same of everything. */
export function areEqual(a: Resources, b: Resources): boolean {
  if (a.cpuMillis !== b.cpuMillis || a.memMib !== b.memMib) return false;
  return a.others === b.others || combine(a, b, minus) === undefined;
}

/** How many whole units of `need` are in `have`; 0 for none, Infinity if `need` is empty. */
export function unitsIn(need: Resources, have: Resources): number {
  const byCpu = need.cpuMillis > 0 ? Math.floor(have.cpuMillis / need.cpuMillis) : Infinity;
  const byMem = need.memMib > 0 ? Math.floor(have.memMib / need.memMib) : Infinity;
  let units = Math.min(byCpu, byMem);
  for (const name in need.others) {
    const needed = amountOf(need, name);
    if (needed > 0) units = Math.min(units, Math.floor(amountOf(have, name) / needed));
  }
  return Math.max(0, units);
}

/** True if there is nothing of any resource, or less than nothing. */
export function isEmpty(a: Resources): boolean {
  return a.cpuMillis <= 0 && a.memMib <= 0 && otherNames(a).every((name) => amountOf(a, name) <= 0);
}

/** @returns the sum of all; nothing for an empty list */
export function sumResources(all: Iterable<Resources>): Resources {
  let sum = NO_RESOURCES;
  for (const each of all) sum = addResources(sum, each);
  return sum;
}

/** @returns how much of one of the other resources there is */
export function amountOf(a: Pick<Resources, 'others'>, name: string): number {
  return a.others?.[name] ?? 0;
}

/** Names of the other resources of which there is any, or less than nothing. */
export function otherNames({ others }: Pick<Resources, 'others'>): string[] {
  return others ? Object.keys(others) : [];
}

/** As a person writes it: `0.5 cpus, 128M`, `1 cpus, 2G, disk 10G, gpus 1`. */
export function formatResources(a: Resources): string {
  return [`${formatCpus(a.cpuMillis)} cpus`, formatMib(a.memMib), ...formatOthers(a)].join(', ');
}

/** @returns the other resources, in the order of their names */
export function formatOthers(a: Pick<Resources, 'others'>): string[] {
  return otherNames(a)
    .sort()
    .map((name) => `${name} ${formatAmount(name, amountOf(a, name))}`);
}

/** @returns an amount of one of the other resources */
export function formatAmount(name: string, amount: number): string {
  return name === DISK ? formatMib(amount) : String(amount);
}

const plus = (a: number, b: number): number => a + b;
const minus = (a: number, b: number): number => a - b;

/** Without a field for what there is none of: nearly all vectors are of CPU and memory only. */
function vector(cpuMillis: number, memMib: number, others: Amounts | undefined): Resources {
  return others ? { cpuMillis, memMib, others } : { cpuMillis, memMib };
}

/** @returns undefined if it comes to nothing of everything */
function combine(
  { others: a }: Resources,
  { others: b }: Resources,
  operation: (a: number, b: number) => number,
): Amounts | undefined {
  if (!a && !b) return undefined;
  const all: Record<string, number> = {};
  let isAny = false;
  const enter = (name: string): void => {
    const amount = operation(a?.[name] ?? 0, b?.[name] ?? 0);
    if (amount === 0) return;
    all[name] = amount;
    isAny = true;
  };
  for (const name in a) enter(name);
  for (const name in b) if (!a || !(name in a)) enter(name);
  return isAny ? all : undefined;
}
