/**
 * What is done to cgroups of units that run: their limits, and cgroups of single tasks in them. One thing at a time for each.
 */
import { KERNEL_CGROUPS } from './cgroup-fs.ts';
import type { CgroupVersion } from './cgroup-use.ts';
import { createMemoryLimits } from './memory-limit.ts';
import type { Systemd } from './port.ts';
import type { SystemdLink } from './systemd-link.ts';
import { createTaskGroups } from './task-groups.ts';
import { createTurns, type Turns } from './turns.ts';
import { createUnitLimits } from './unit-limits.ts';

/** The part of the port that is about cgroups of running units, and what the manager needs to end them. */
export interface LiveCgroups extends Pick<
  Systemd,
  'resizeUnit' | 'openTaskGroup' | 'resizeTaskGroup' | 'readTaskGroup' | 'closeTaskGroup'
> {
  /** Changes of a unit's limits run in it, by the unit's name; a release has to as well. */
  readonly inTurn: Turns;
  /** Removes what systemd may have left of a unit that is gone, by the slice that it had for itself. */
  release(taskSlice: string): Promise<void>;
}

/** Where the cgroups are, and the connection to systemd. */
export interface LiveCgroupsOptions {
  /** Where cgroupfs is mounted. */
  readonly root: string;
  readonly version: CgroupVersion;
  readonly link: SystemdLink;
  /** CPU limits can be set. Default true; false under a manager of a user that was not given the controller. */
  readonly hasCpu?: boolean;
}

/** @param options where the cgroups are, and the connection to systemd */
export function createLiveCgroups(options: LiveCgroupsOptions): LiveCgroups {
  const { root, version, link, hasCpu = true } = options;
  const fs = KERNEL_CGROUPS;
  const memory = createMemoryLimits(fs, version, () => performance.now());
  const limits = createUnitLimits({ fs, root, version, memory, link, hasCpu });
  const groups = createTaskGroups({ fs, root, version, memory });
  const inTurn = createTurns();
  const ofGroup = (unit: string, group: string): string => `${unit}/${group}`;

  return {
    inTurn,
    release: async (taskSlice) => {
      limits.forget(taskSlice);
      await groups.sweep(taskSlice);
    },
    resizeUnit: (slice, name, wanted) => inTurn(name, () => limits.resize(slice, name, wanted)),
    openTaskGroup: (slice, unit, group, options) =>
      inTurn(ofGroup(unit, group), () => groups.open({ slice, unit, group }, options)),
    resizeTaskGroup: (slice, unit, group, wanted) =>
      inTurn(ofGroup(unit, group), () => groups.resize({ slice, unit, group }, wanted)),
    readTaskGroup: (slice, unit, group) => groups.read({ slice, unit, group }),
    closeTaskGroup: (slice, unit, group) =>
      inTurn(ofGroup(unit, group), () => groups.close({ slice, unit, group })),
  };
}
