/**
 * The kernel's own files for memory limits, on cgroup v1 and v2. `memory-limit.ts` says when they are used, and why by us.
 */
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { codeOf } from '../protocol/errors.ts';
import type { CgroupFs } from './cgroup-fs.ts';

/** `MEMCG_CHARGE_BATCH` of 64 pages: so much of what the kernel says of a cgroup may be off, for each CPU. */
export const CHARGE_BATCH_BYTES = 64 * 4_096;
/** How often the kernel is asked to reclaim in one attempt; what it has not found by then is in use. */
const RECLAIMS_MAX = 3;
/** Least room on v2, where the limit cannot be refused any more once it is written. */
const ROOM_MIN_BYTES = Math.min(CHARGE_BATCH_BYTES * availableParallelism(), 1_048_576);

/** How one version of the interface reads and changes the limit of a cgroup. */
export interface MemoryKernel {
  /** Bytes; Infinity for none, undefined if there is no such cgroup. */
  readLimit(directory: string): number | undefined;
  /** Memory that the kernel could not give back at once, bytes: all but clean file pages (and, on v2, slab caches). */
  readInUse(directory: string): number;
  raise(directory: string, bytes: number): void;
  /**
   * Lowers the limit of cgroups within each other, outermost first, if that leaves `marginBytes` of it free of memory that
   * cannot be given back; else leaves it as it is.
   */
  tryLower(directories: readonly string[], bytes: number, marginBytes: number): Promise<void>;
}

/** Kernel documentation, admin-guide/cgroup-v1/memory.rst. */
export function memoryKernelV1(fs: CgroupFs): MemoryKernel {
  const limitOf = (directory: string): string => join(directory, 'memory.limit_in_bytes');

  return {
    readLimit: (directory) => readNumber(fs, limitOf(directory)),
    readInUse: (directory) => {
      const stat = readTable(fs, join(directory, 'memory.stat'));
      const usage = readNumber(fs, join(directory, 'memory.usage_in_bytes')) ?? 0;
      const files = stat('total_inactive_file') + stat('total_active_file');
      const unwritten = stat('total_dirty') + stat('total_writeback');
      return Math.max(usage - Math.max(files - unwritten, 0), 0);
    },
    raise: (directory, bytes) => fs.write(limitOf(directory), String(bytes)),
    tryLower: async (directories, bytes, marginBytes) => {
      for (const directory of directories.toReversed()) {
        const stat = readTable(fs, join(directory, 'memory.stat'));
        // Caches of the kernel's own are in no figure here. The attempt finds out how much of them can go.
        if (stat('total_rss') + stat('total_shmem') + marginBytes > bytes) return;
        if (!(await writeIfTaken(fs, limitOf(directory), bytes))) return;
      }
    },
  };
}

/** Kernel documentation, admin-guide/cgroup-v2.rst, "Memory". */
export function memoryKernelV2(fs: CgroupFs): MemoryKernel {
  const currentOf = (directory: string): number =>
    readNumber(fs, join(directory, 'memory.current')) ?? 0;

  const readInUse = (directory: string): number => {
    const stat = readTable(fs, join(directory, 'memory.stat'));
    const clean =
      stat('inactive_file') + stat('active_file') - stat('file_dirty') - stat('file_writeback');
    return Math.max(currentOf(directory) - Math.max(clean, 0) - stat('slab_reclaimable'), 0);
  };

  const reclaim = async (directory: string, toBytes: number): Promise<void> => {
    for (let round = 0; round < RECLAIMS_MAX; round += 1) {
      const excess = currentOf(directory) - toBytes;
      // Since Linux 5.19; without it `memory.high` alone has to do.
      if (excess <= 0 || !fs.exists(join(directory, 'memory.reclaim'))) return;
      await writeIfTaken(fs, join(directory, 'memory.reclaim'), excess);
    }
  };

  return {
    readLimit: (directory) => {
      const text = fs.read(join(directory, 'memory.max'))?.trim();
      return text === 'max' ? Infinity : numberOf(text);
    },
    readInUse,
    raise: (directory, bytes) => {
      fs.write(join(directory, 'memory.max'), String(bytes));
      // Of an agent that was ended while it lowered the limit.
      fs.write(join(directory, 'memory.high'), 'max');
    },
    tryLower: async (directories, bytes, marginBytes) => {
      const [outermost = ''] = directories;
      const room = Math.max(marginBytes, ROOM_MIN_BYTES);
      if (readInUse(outermost) + room > bytes) return;
      const high = join(outermost, 'memory.high');
      try {
        // From here on nobody grows far past the new limit: who does is slowed down and reclaimed from, never killed.
        await fs.writeSlowly(high, String(bytes));
        await reclaim(outermost, bytes - room);
        // Half of the room may have been taken meanwhile.
        const fits = currentOf(outermost) <= bytes && readInUse(outermost) + room / 2 <= bytes;
        if (!fits) return;
        for (const directory of directories.toReversed()) {
          await fs.writeSlowly(join(directory, 'memory.max'), String(bytes));
        }
      } finally {
        fs.write(high, 'max');
      }
    },
  };
}

/** @returns false if the kernel says that it could not reclaim as much */
async function writeIfTaken(fs: CgroupFs, file: string, bytes: number): Promise<boolean> {
  try {
    await fs.writeSlowly(file, String(bytes));
    return true;
  } catch (error) {
    if (['EBUSY', 'EAGAIN', 'EINTR'].includes(codeOf(error) ?? '')) return false;
    throw error;
  }
}

function readNumber(fs: CgroupFs, file: string): number | undefined {
  return numberOf(fs.read(file)?.trim());
}

function numberOf(text: string | undefined): number | undefined {
  return text === undefined || !/^\d+$/.test(text) ? undefined : Number(text);
}

/** A file of `key value` lines; what is not there counts as 0. */
function readTable(fs: CgroupFs, file: string): (key: string) => number {
  const lines = (fs.read(file) ?? '').split('\n').map((line) => line.split(' '));
  const table = new Map(lines.map(([key = '', value]) => [key, Number(value)]));
  return (key) => table.get(key) ?? 0;
}
