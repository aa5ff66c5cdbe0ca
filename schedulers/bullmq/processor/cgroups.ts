/**
 * The way of a child process into a task's cgroup and out of it again. It goes by itself, so everything that it does for a job
 * is the task's; it comes back before the task's end is told, because then the agent ends what is in there.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { homeProcs } from '../core/cgroup-home.ts';

/** cgroups(7): the process that writes. */
const MYSELF = '0';
const OWN_CGROUPS = '/proc/self/cgroup';

/** A place to go back to. */
export interface Home {
  /** `cgroup.procs` of the process's own cgroups, in the hierarchies that it left. */
  readonly procs: readonly string[];
  /** Of a file that is in no hierarchy known here nobody can say how to undo its writing: then this decides. */
  readonly cgroupText: string | undefined;
}

/** Homes by the files that were joined from there: an executor's processes stay where they are while it has tasks. */
export type Homes = Map<string, string | undefined>;

/**
 * Joins the cgroups of a task.
 *
 * @param homes what is known already; changed in place
 * @throws what the kernel says to a process that may not join
 */
export function joinCgroups(cgroupProcs: readonly string[], homes: Homes): Home {
  const found = cgroupProcs.map((file) => homeOf(file, homes));
  const procs = found.filter((file) => file !== undefined);
  const cgroupText = procs.length < found.length ? readFileSync(OWN_CGROUPS, 'utf8') : undefined;
  for (const file of cgroupProcs) writeFileSync(file, MYSELF);
  return { procs, cgroupText };
}

function homeOf(file: string, homes: Homes): string | undefined {
  // Groups of one unit are beside each other.
  const directory = file.slice(0, file.lastIndexOf('/', file.lastIndexOf('/') - 1));
  if (!homes.has(directory)) {
    const mounts = readFileSync('/proc/self/mountinfo', 'utf8');
    homes.set(directory, homeProcs(readFileSync(OWN_CGROUPS, 'utf8'), mounts, file));
  }
  return homes.get(directory);
}

/** @returns false if the process may still be in a cgroup of the task */
export function leaveCgroups({ procs, cgroupText }: Home): boolean {
  try {
    for (const file of procs) writeFileSync(file, MYSELF);
    return cgroupText === undefined || readFileSync(OWN_CGROUPS, 'utf8') === cgroupText;
  } catch {
    // No permission, or its unit is on its way out: the process ends then, which is a way out, too.
    return false;
  }
}
