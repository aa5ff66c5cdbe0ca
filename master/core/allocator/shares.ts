/** Shares of the cluster, by which who holds least is told. */
import type { Resources } from '../../../protocol/resources.ts';
import { amountOf } from '../../../protocol/resources.ts';

/**
 * Dominant share of a framework or role: the largest of its per-resource shares of the cluster total.
 *
 * @param holds resources of its tasks and outstanding offers (thousandths of a core, MiB)
 * @param total cluster total in the same units; a resource whose total is 0 is ignored
 * @returns share in [0, 1]; 0 for one that holds nothing
 * @see Ghodsi et al., "Dominant Resource Fairness", NSDI 2011, Algorithm 1
 */
export function dominantShare(holds: Resources, total: Resources): number {
  const cpu = total.cpuMillis > 0 ? holds.cpuMillis / total.cpuMillis : 0;
  const mem = total.memMib > 0 ? holds.memMib / total.memMib : 0;
  let share = cpu > mem ? cpu : mem;
  for (const name in holds.others) {
    const all = amountOf(total, name);
    if (all > 0) share = Math.max(share, amountOf(holds, name) / all);
  }
  return share;
}

/**
 * How many units can be added before a share is larger than another.
 *
 * Solves (holds + units * unit) / total / weight <= share for each resource, rounded down.
 *
 * @returns 0 or more; Infinity if no resource of the unit is one that the cluster has
 */
export function unitsUpToShare(
  unit: Resources,
  holds: Resources,
  { total, weight, share }: { readonly total: Resources; readonly weight: number; share: number },
): number {
  const scale = share * weight;
  const of = (needed: number, held: number, all: number): number =>
    needed > 0 && all > 0 ? Math.floor((scale * all - held) / needed) : Infinity;
  let units = Math.min(
    of(unit.cpuMillis, holds.cpuMillis, total.cpuMillis),
    of(unit.memMib, holds.memMib, total.memMib),
  );
  for (const name in unit.others) {
    units = Math.min(units, of(amountOf(unit, name), amountOf(holds, name), amountOf(total, name)));
  }
  return Math.max(0, units);
}
