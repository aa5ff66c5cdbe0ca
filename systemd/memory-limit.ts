/**
 * Memory limits of live cgroups: raised at once, lowered only where nothing in them has to die for it.
 *
 * On cgroup v1 the kernel itself is safe: it takes a lower limit only once what is in use fits below it, reclaims for that,
 * and says EBUSY where it cannot. On v2 it takes any limit and then kills until it fits (admin-guide/cgroup-v2.rst,
 * `memory.max`): so there `memory.high`, which never kills, comes first, and `memory.max` only when all fits below it.
 *
 * Written by us and not by systemd, to which the outcome is told: process 1 would do the reclaiming itself, and stand still
 * for the node meanwhile; it would also believe a limit that the kernel has refused.
 */
import { isGoneError, type CgroupFs } from './cgroup-fs.ts';
import type { CgroupVersion } from './cgroup-use.ts';
import { CHARGE_BATCH_BYTES, memoryKernelV1, memoryKernelV2 } from './memory-kernel.ts';

const BYTES_PER_MIB = 1_048_576;
const MARGIN_MAX_BYTES = 16 * BYTES_PER_MIB;
/** Use that has not grown for so long is at rest. */
const REST_MS = 1_000;

/** What is in force after a change, and what was in use when memory was lowered or was to be. */
export interface MemoryOutcome {
  readonly limitBytes: number;
  readonly inUseBytes?: number;
}

/** The memory limits of one node's cgroups. */
export interface MemoryLimits {
  /**
   * @param directories cgroups that are to have the same limit, each within the one before it: the unit's slice, its service
   * @returns undefined if the first of them is gone
   */
  set(directories: readonly string[], targetBytes: number): Promise<MemoryOutcome | undefined>;
  /** The limit of a cgroup that has just been made, with nothing in it yet. */
  setFirst(directory: string, bytes: number): void;
  /** Whether each of the cgroups has this limit; those that are gone do not count. */
  isInForce(directories: readonly string[], bytes: number): boolean;
  /** The cgroup is gone, and what was below it. */
  forget(directory: string): void;
}

/**
 * How much of a limit has to be free for it to be lowered to that: 1/32, at least 1 MiB, at most 16.
 *
 * A limit exactly at the use would let the very next page be the last one, also if it belongs to a task that is within its
 * request, while memory of a task that has ended is on its way back. With the margin what is being allocated while the limit
 * changes finds room: the kernel charges in batches (256 KiB for each CPU), and heaps grow by steps of a few per cent. It
 * is small because a limit that is held back by it stays above the request by no more than it. And it is asked for only
 * as long as use grows: a container at rest gets its request for a limit however close its use is, as if it had been
 * started with it.
 */
export function shrinkMarginBytes(limitBytes: number): number {
  return Math.min(Math.max(limitBytes / 32, BYTES_PER_MIB), MARGIN_MAX_BYTES);
}

/** @param nowMs a monotonic clock */
export function createMemoryLimits(
  fs: CgroupFs,
  version: CgroupVersion,
  nowMs: () => number,
): MemoryLimits {
  const kernel = version === 'v1' ? memoryKernelV1(fs) : memoryKernelV2(fs);
  /** Cgroups whose limit is above what was asked for, by their first directory. */
  const heldBack = new Map<string, { readonly inUseBytes: number; readonly sinceMs: number }>();

  /** The limit in force, bytes; undefined if there is no such cgroup. */
  const read = (directories: readonly string[]): number | undefined => {
    const limits = directories.map((directory) => kernel.readLimit(directory));
    return limits[0] === undefined
      ? undefined
      : Math.min(...limits.filter((limit) => limit !== undefined));
  };

  /** Whether use has not grown since a change was held back, and that is a while ago. */
  const isAtRest = (directory: string, inUseBytes: number): boolean => {
    const since = heldBack.get(directory);
    if (since !== undefined && inUseBytes <= since.inUseBytes + CHARGE_BATCH_BYTES) {
      return nowMs() - since.sinceMs >= REST_MS;
    }
    heldBack.set(directory, { inUseBytes, sinceMs: nowMs() });
    return false;
  };

  const lower = async (
    directories: readonly string[],
    { targetBytes, inForceBytes }: { readonly targetBytes: number; readonly inForceBytes: number },
  ): Promise<MemoryOutcome> => {
    const first = directories[0] ?? '';
    const isSettled = isAtRest(first, kernel.readInUse(first));
    await kernel.tryLower(directories, targetBytes, isSettled ? 0 : shrinkMarginBytes(targetBytes));
    const inUseBytes = kernel.readInUse(first);
    if ((read(directories) ?? 0) > targetBytes) {
      // As far as it can be: what was never granted is not to be filled by whoever comes first.
      const margin = shrinkMarginBytes(targetBytes);
      const partial = Math.ceil((inUseBytes + margin) / BYTES_PER_MIB) * BYTES_PER_MIB;
      if (partial > targetBytes && partial + margin <= inForceBytes) {
        await kernel.tryLower(directories, partial, margin);
      }
    }
    const limitBytes = read(directories) ?? 0;
    if (limitBytes <= targetBytes) heldBack.delete(first);
    return { limitBytes, inUseBytes };
  };

  return {
    // Whatever is written, nothing has to be reclaimed for it.
    setFirst: (directory, bytes) => kernel.raise(directory, bytes),
    isInForce: (directories, bytes) =>
      directories.every((directory) => (kernel.readLimit(directory) ?? bytes) === bytes),
    forget: (directory) => {
      for (const key of heldBack.keys()) {
        if (key === directory || key.startsWith(`${directory}/`)) heldBack.delete(key);
      }
    },
    set: async (directories, targetBytes) => {
      const inForceBytes = read(directories);
      const there = directories.filter((directory) => fs.exists(directory));
      if (inForceBytes === undefined) return undefined;
      try {
        if (targetBytes < inForceBytes) return await lower(there, { targetBytes, inForceBytes });
        there.forEach((directory) => kernel.raise(directory, targetBytes));
      } catch (error) {
        if (isGoneError(error)) return undefined;
        throw error;
      }
      heldBack.delete(directories[0] ?? '');
      return { limitBytes: targetBytes };
    },
  };
}
