/**
 * Resource vectors: whole numbers only (thousandths of a core, MiB), so sums never drift.
 * Every function returns a new vector and changes none.
 */
import { z } from 'zod';
import { formatCpus, formatMib } from './quantities.ts';

/** Largest amounts of one node: 16,384 cores and 1 PiB; beyond it a number is a mistake. */
export const CPU_MILLIS_MAX = 16_384_000;
export const MEM_MIB_MAX = 1_073_741_824;

/** CPU in thousandths of a core, memory in MiB. */
export const Resources = z.object({
  cpuMillis: z.int().min(0).max(CPU_MILLIS_MAX),
  memMib: z.int().min(0).max(MEM_MIB_MAX),
});
export type Resources = Readonly<z.infer<typeof Resources>>;

/** Nothing of anything. */
export const NO_RESOURCES: Resources = Object.freeze({ cpuMillis: 0, memMib: 0 });

/** @returns a + b */
export function addResources(a: Resources, b: Resources): Resources {
  return { cpuMillis: a.cpuMillis + b.cpuMillis, memMib: a.memMib + b.memMib };
}

/** @returns a - b; may be negative where `b` is over `a` (an over-committed agent has less than nothing free). */
export function subtractResources(a: Resources, b: Resources): Resources {
  return { cpuMillis: a.cpuMillis - b.cpuMillis, memMib: a.memMib - b.memMib };
}

/** @returns the vector `count` times. */
export function scaleResources(a: Resources, count: number): Resources {
  return { cpuMillis: a.cpuMillis * count, memMib: a.memMib * count };
}

/** True if every component of `need` is within `have`. */
export function fits(need: Resources, have: Resources): boolean {
  return need.cpuMillis <= have.cpuMillis && need.memMib <= have.memMib;
}

/** True if both have the same of everything. */
export function areEqual(a: Resources, b: Resources): boolean {
  return a.cpuMillis === b.cpuMillis && a.memMib === b.memMib;
}

/** How many whole units of `need` are in `have`; 0 for none, Infinity if `need` is empty. */
export function unitsIn(need: Resources, have: Resources): number {
  const byCpu = need.cpuMillis > 0 ? Math.floor(have.cpuMillis / need.cpuMillis) : Infinity;
  const byMem = need.memMib > 0 ? Math.floor(have.memMib / need.memMib) : Infinity;
  return Math.max(0, Math.min(byCpu, byMem));
}

/** True if there is nothing of any resource, or less than nothing. */
export function isEmpty(a: Resources): boolean {
  return a.cpuMillis <= 0 && a.memMib <= 0;
}

/** @returns the sum of all; nothing for an empty list */
export function sumResources(all: Iterable<Resources>): Resources {
  let cpuMillis = 0;
  let memMib = 0;
  for (const each of all) {
    cpuMillis += each.cpuMillis;
    memMib += each.memMib;
  }
  return { cpuMillis, memMib };
}

/** As a person writes it: `0.5 cpus, 128M`. */
export function formatResources(a: Resources): string {
  return `${formatCpus(a.cpuMillis)} cpus, ${formatMib(a.memMib)}`;
}
