/**
 * Reads what a cgroup has used straight from cgroupfs, on cgroup v1, hybrid and v2.
 *
 * systemd 252 has no properties for these (memory.peak, OOM kills, throttled time). Reads are
 * synchronous on purpose: the files live in kernel memory and take microseconds, and one turn of the
 * event loop gives one consistent picture.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { CgroupUse } from './port.ts';

/** Which hierarchy has the controllers; hybrid counts as v1. */
export type CgroupVersion = 'v1' | 'v2';

/** @param root where cgroupfs is mounted, usually `/sys/fs/cgroup` */
export function detectCgroupVersion(root: string): CgroupVersion {
  return existsSync(join(root, 'cgroup.controllers')) ? 'v2' : 'v1';
}

/**
 * @param root as for `detectCgroupVersion`
 * @param path as systemd gives it, `/kaon.slice/...`
 */
export function readCgroupUse(root: string, version: CgroupVersion, path: string): CgroupUse {
  return version === 'v2' ? readV2(join(root, path)) : readV1(root, path);
}

/** Kernel documentation, admin-guide/cgroup-v1/{memory,cpuacct}.rst, scheduler/sched-bwc.rst. */
function readV1(root: string, path: string): CgroupUse {
  // systemd takes cpu and cpuacct for one hierarchy and leaves cpuacct out where the host mounts them apart; on a
  // hybrid host the v2 tree accounts CPU time without any controller.
  const cpuNsec = readNumber(join(root, 'cpuacct', path, 'cpuacct.usage'));
  const cpuUsec = toUsec(cpuNsec) ?? readKey(join(root, 'unified', path, 'cpu.stat'), 'usage_usec');
  const throttledNsec = readKey(join(root, 'cpu', path, 'cpu.stat'), 'throttled_time');
  return defined({
    cpuUsec,
    memoryPeakBytes: readNumber(join(root, 'memory', path, 'memory.max_usage_in_bytes')),
    oomKills: readKey(join(root, 'memory', path, 'memory.oom_control'), 'oom_kill'),
    throttledUsec: toUsec(throttledNsec),
  });
}

/** Kernel documentation, admin-guide/cgroup-v2.rst; `memory.peak` came with Linux 5.19. */
function readV2(directory: string): CgroupUse {
  return defined({
    cpuUsec: readKey(join(directory, 'cpu.stat'), 'usage_usec'),
    memoryPeakBytes: readNumber(join(directory, 'memory.peak')),
    oomKills: readOomKillsV2(directory),
    throttledUsec: readKey(join(directory, 'cpu.stat'), 'throttled_usec'),
  });
}

/**
 * Processes that the kernel ended because the limit of this cgroup was reached. v1 counts kills where they happen; v2 counts
 * them in all cgroups above as well, so those of task groups too, but "out of memory" only where the limit was.
 */
function readOomKillsV2(directory: string): number | undefined {
  const kills = readKey(join(directory, 'memory.events'), 'oom_kill');
  // Since Linux 5.2; before that no difference can be seen.
  const isOwn = readKey(join(directory, 'memory.events.local'), 'oom') !== 0;
  if (kills === undefined || kills === 0) return kills;
  if (!isOwn) return 0;
  // Of a whole group that is ended (`memory.oom.group`), the process that is chosen first is counted twice: alone, and as
  // one of the group. `oom_group_kill` came with Linux 5.17.
  const groups = readKey(join(directory, 'memory.events'), 'oom_group_kill') ?? 0;
  return Math.max(1, kills - groups);
}

function toUsec(nsec: number | undefined): number | undefined {
  return nsec === undefined ? undefined : Math.round(nsec / 1_000);
}

function readText(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    // No such cgroup, controller or kernel feature: the field stays unknown.
    return undefined;
  }
}

function readNumber(file: string): number | undefined {
  const text = readText(file)?.trim();
  return text === undefined || !/^\d+$/.test(text) ? undefined : Number(text);
}

/** The number behind `key` in a file of `key value` lines. */
function readKey(file: string, key: string): number | undefined {
  const line = readText(file)
    ?.split('\n')
    .find((candidate) => candidate.startsWith(`${key} `));
  return line === undefined ? undefined : Number(line.slice(key.length + 1));
}

/** Leaves out what is undefined, as `exactOptionalPropertyTypes` wants it. */
function defined(use: { readonly [Key in keyof CgroupUse]-?: number | undefined }): CgroupUse {
  const entries = Object.entries(use).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries);
}
