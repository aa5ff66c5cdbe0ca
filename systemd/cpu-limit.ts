/** CPU limits of live cgroups, as the kernel has them: the quota in each period, and the weight in contention. */
import { join } from 'node:path';
import type { CgroupFs } from './cgroup-fs.ts';
import type { CgroupVersion } from './cgroup-use.ts';
import { CPU_PERIOD_USEC, cpuWeight, quotaUsec } from './properties.ts';

/** sched-bwc.rst of cgroup v1 calls it shares: 1024 where v2 and systemd have a weight of 100. */
const SHARES_OF_WEIGHT = 1_024 / 100;
const SHARES_MIN = 2;

/** A CPU limit, and the version of the interface that it goes through. */
export interface CpuLimit {
  readonly version: CgroupVersion;
  readonly cpuMillis: number;
}

/**
 * Puts a quota in force, at once.
 *
 * @throws as node:fs; `EINVAL` on v1 if a cgroup below has a greater one, or the one above a smaller
 */
export function writeQuota(fs: CgroupFs, directory: string, limit: CpuLimit): void {
  const quota = String(quotaUsec(limit.cpuMillis));
  // A period that was never changed is 100 ms on v1, as on v2, where it is written along.
  if (limit.version === 'v1') fs.write(join(directory, 'cpu.cfs_quota_us'), quota);
  else fs.write(join(directory, 'cpu.max'), `${quota} ${CPU_PERIOD_USEC}`);
}

/** Whether the quota is in force. */
export function hasQuota(fs: CgroupFs, directory: string, limit: CpuLimit): boolean {
  const file = limit.version === 'v1' ? 'cpu.cfs_quota_us' : 'cpu.max';
  return fs.read(join(directory, file))?.split(/\s/)[0] === String(quotaUsec(limit.cpuMillis));
}

/** Sets the weight as systemd does for `CPUWeight=`. */
export function writeWeight(fs: CgroupFs, directory: string, limit: CpuLimit): void {
  const weight = cpuWeight(limit.cpuMillis);
  if (limit.version === 'v2') return fs.write(join(directory, 'cpu.weight'), String(weight));
  const shares = Math.max(Math.floor(weight * SHARES_OF_WEIGHT), SHARES_MIN);
  fs.write(join(directory, 'cpu.shares'), String(shares));
}
