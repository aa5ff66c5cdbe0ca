/**
 * Cgroups of single tasks inside the unit of an executor. systemd knows nothing of them; it leaves them alone and ends
 * what is in them with the unit.
 *
 * On cgroup v1 a group is a directory beside the service, in the hierarchies of memory, CPU and processes. In systemd's own
 * hierarchies its processes stay in the service. Tried with 252: reloads, re-execution, changed limits and other units do
 * not touch them; only another unit with limits that somebody puts into this very slice makes systemd take the processes
 * out of the group again (then the limits of the container hold for them).
 *
 * On v2 a group is below the service, which is delegated for that. A cgroup that passes controllers on may have no
 * processes of its own, so what is in the service moves to a leaf first; systemd does that by itself (`DelegateSubgroup=`)
 * only from 254 on.
 */
import { dirname, join } from 'node:path';
import { KaonError, codeOf, messageOf } from '../protocol/errors.ts';
import { isGoneError, type CgroupFs } from './cgroup-fs.ts';
import { endCgroups } from './cgroup-end.ts';
import { readCgroupUse, type CgroupVersion } from './cgroup-use.ts';
import { writeQuota, writeWeight } from './cpu-limit.ts';
import type { MemoryLimits } from './memory-limit.ts';
import { sliceCgroup, taskSliceName } from './names.ts';
import type { CgroupUse, LiveLimits, ResizeResult, TaskGroupOptions } from './port.ts';

const BYTES_PER_MIB = 1_048_576;
const CONTROLLERS = ['cpu', 'memory', 'pids'] as const;
/** Where the processes of a delegated service are that belong to no group. */
const EXECUTOR_LEAF = 'executor';
const GROUP_PATTERN = /^[A-Za-z0-9_.:-]{1,200}$/;
/** Forks may put new processes where the old ones have just been moved away from. */
const MOVES_MAX = 100;
/** chown(2): leave it as it is. */
const SAME_ID = -1;

/** Where the cgroups are, and how memory limits are changed. */
export interface TaskGroupsOptions {
  readonly fs: CgroupFs;
  readonly root: string;
  readonly version: CgroupVersion;
  readonly memory: MemoryLimits;
}

/** A group of one unit. */
export interface GroupName {
  /** The slice that the unit was started in. */
  readonly slice: string;
  readonly unit: string;
  readonly group: string;
}

/** Cgroups of tasks; one call for a group at a time, the caller sees to that. */
export interface TaskGroups {
  open(name: GroupName, options: TaskGroupOptions): Promise<{ procs: string[] }>;
  resize(name: GroupName, limits: LiveLimits): Promise<ResizeResult>;
  read(name: GroupName): CgroupUse | undefined;
  close(name: GroupName): Promise<void>;
  /** Removes what is left of a unit's groups, once systemd has let go of the unit and of the slice that it had for itself. */
  sweep(taskSlice: string): Promise<void>;
}

/** @param options as `TaskGroupsOptions` says */
export function createTaskGroups(options: TaskGroupsOptions): TaskGroups {
  const { fs, root, version, memory } = options;

  return {
    open: async (name, wanted) => {
      const { unit, group } = name;
      const refuse = (reason: string, cause?: unknown): KaonError =>
        new KaonError(
          'task-cgroup-unavailable',
          `no cgroup of its own for ${group} in ${unit}: ${reason}`,
          { cause },
        );
      if (!GROUP_PATTERN.test(group))
        throw refuse('its name has other signs than A-Z a-z 0-9 _ . : -');
      try {
        const reason =
          version === 'v2' ? delegate(options, name, wanted) : missingV1(options, name);
        if (reason !== undefined) throw refuse(reason);
        return { procs: await make(options, name, wanted) };
      } catch (error) {
        if (codeOf(error) === 'task-cgroup-unavailable') throw error;
        throw refuse(explain(error, unit), error);
      }
    },
    resize: async (name, { cpuMillis, memoryMib }) => {
      const { cpu, memory: directory } = directoriesOf(options, name);
      try {
        writeQuota(fs, cpu, { version, cpuMillis });
        writeWeight(fs, cpu, { version, cpuMillis });
        const outcome = await memory.set([directory], memoryMib * BYTES_PER_MIB);
        if (outcome === undefined) return { ok: false, message: `${name.group} has no cgroup` };
        const { limitBytes, inUseBytes } = outcome;
        const inUse = inUseBytes === undefined ? {} : { inUseBytes };
        return { ok: true, memoryMib: Math.floor(limitBytes / BYTES_PER_MIB), ...inUse };
      } catch (error) {
        return { ok: false, message: `${name.group}: ${explain(error, name.unit)}` };
      }
    },
    read: (name) => {
      if (!fs.exists(directoriesOf(options, name).memory)) return undefined;
      return readCgroupUse(root, version, join(parentGroup(version, name), leafName(name.group)));
    },
    close: async (name) => {
      const directories = directoriesOf(options, name);
      await endCgroups(fs, Object.values(directories), `task ${name.group} in ${name.unit}`);
      memory.forget(directories.memory);
    },
    sweep: (taskSlice) => {
      const group = sliceCgroup(taskSlice);
      const places = version === 'v2' ? [''] : HIERARCHIES_V1;
      const directories = places.map((place) => join(root, place, group));
      return endCgroups(fs, directories, taskSlice);
    },
  };
}

/** With `cpuacct`, which systemd has in one hierarchy with `cpu`; a host that mounts it apart has no accounts of CPU time. */
const HIERARCHIES_V1 = [...CONTROLLERS, 'cpuacct'] as const;

/** Cgroup path of what the groups of a unit are in. */
function parentGroup(version: CgroupVersion, { slice, unit }: GroupName): string {
  const group = sliceCgroup(taskSliceName(slice, unit));
  return version === 'v1' ? group : join(group, unit);
}

/** Apart from names of the kernel's files, of systemd's units, and of the leaf. */
function leafName(group: string): string {
  return `task-${group}`;
}

type Directories = Readonly<Record<(typeof HIERARCHIES_V1)[number], string>>;

/** The directory of a group in each hierarchy, whether it is there or not; on v2 all of them are the same one. */
function directoriesOf({ root, version }: TaskGroupsOptions, name: GroupName): Directories {
  const path = join(parentGroup(version, name), leafName(name.group));
  const inHierarchy = (hierarchy: string): string =>
    version === 'v2' ? join(root, path) : join(root, hierarchy, path);
  return {
    cpu: inHierarchy('cpu'),
    memory: inHierarchy('memory'),
    pids: inHierarchy('pids'),
    cpuacct: inHierarchy('cpuacct'),
  };
}

/** @returns why there can be no group here; undefined if there can */
function missingV1(options: TaskGroupsOptions, name: GroupName): string | undefined {
  const directories = directoriesOf(options, name);
  const missing = CONTROLLERS.filter((one) => !options.fs.exists(dirname(directories[one])));
  if (missing.length === 0) return undefined;
  return missing.length === CONTROLLERS.length
    ? 'the unit is gone'
    : `this node has no cgroup hierarchy for ${missing.join(' and ')}`;
}

/** Makes the service a cgroup that can have groups below it. @returns why it cannot be; undefined if it is one */
function delegate(
  { fs, root }: TaskGroupsOptions,
  name: GroupName,
  { uid, gid }: TaskGroupOptions,
): string | undefined {
  const service = join(root, parentGroup('v2', name));
  const controllers = wordsOf(fs.read(join(service, 'cgroup.controllers')));
  if (controllers === undefined) return 'the unit is gone';
  const lacking = CONTROLLERS.filter((one) => !controllers.includes(one));
  if (lacking.length > 0) {
    return `its unit was started without delegation, or this node has no controller for ${lacking.join(' and ')}`;
  }
  // A process moves if its user may write here, to the group that is above both the old place and the new one.
  if (uid !== undefined || gid !== undefined) {
    fs.changeOwner(join(service, 'cgroup.procs'), uid ?? SAME_ID, gid ?? SAME_ID);
  }
  const enabled = wordsOf(fs.read(join(service, 'cgroup.subtree_control'))) ?? [];
  if (CONTROLLERS.every((one) => enabled.includes(one))) return undefined;
  const leaf = join(service, EXECUTOR_LEAF);
  if (!fs.exists(leaf)) fs.makeDirectory(leaf);
  for (let move = 0; move < MOVES_MAX; move += 1) {
    moveProcesses(fs, service, leaf);
    if (enableControllers(fs, service)) return undefined;
  }
  return 'processes keep appearing in the cgroup of its unit';
}

function wordsOf(text: string | undefined): string[] | undefined {
  return text?.trim().split(/\s+/);
}

function moveProcesses(fs: CgroupFs, from: string, to: string): void {
  for (const pid of (fs.read(join(from, 'cgroup.procs')) ?? '').trim().split('\n')) {
    try {
      if (pid !== '') fs.write(join(to, 'cgroup.procs'), pid);
    } catch (error) {
      if (codeOf(error) !== 'ESRCH') throw error; // It has ended: nothing to move.
    }
  }
}

/** @returns false if there are processes in it */
function enableControllers(fs: CgroupFs, directory: string): boolean {
  try {
    const all = CONTROLLERS.map((one) => `+${one}`).join(' ');
    fs.write(join(directory, 'cgroup.subtree_control'), all);
    return true;
  } catch (error) {
    if (codeOf(error) === 'EBUSY') return false;
    throw error;
  }
}

/** @returns the files to join the group with; what was made is removed again if it cannot be completed */
async function make(
  options: TaskGroupsOptions,
  name: GroupName,
  wanted: TaskGroupOptions,
): Promise<string[]> {
  const { fs, version, memory } = options;
  const { cpuMillis, memoryMib, tasksMax, uid, gid } = wanted;
  const directories = directoriesOf(options, name);
  const places = distinct(fs, Object.values(directories));
  const made = places.filter((directory) => !fs.exists(directory));
  try {
    made.forEach((directory) => fs.makeDirectory(directory));
    writeQuota(fs, directories.cpu, { version, cpuMillis });
    writeWeight(fs, directories.cpu, { version, cpuMillis });
    fs.write(join(directories.pids, 'pids.max'), String(tasksMax));
    const bytes = memoryMib * BYTES_PER_MIB;
    if (made.includes(directories.memory)) memory.setFirst(directories.memory, bytes);
    else await memory.set([directories.memory], bytes);
    if (version === 'v2') limitV2(fs, directories.memory);
    const procs = places.map((directory) => join(directory, 'cgroup.procs'));
    if (uid !== undefined || gid !== undefined) {
      for (const file of [...procs, ...homesOf(options, name, places)]) {
        fs.changeOwner(file, uid ?? SAME_ID, gid ?? SAME_ID);
      }
    }
    return procs;
  } catch (error) {
    made.forEach((directory) => fs.removeTree(directory));
    throw error;
  }
}

/**
 * Where the processes of a unit are that are in no group. Whoever has done something in a group and stays for the next task goes
 * back there, and needs the right to.
 *
 * @param groups directories of a group, one in each hierarchy
 */
function homesOf(
  { fs, root, version }: TaskGroupsOptions,
  name: GroupName,
  groups: readonly string[],
): string[] {
  const procsOf = (directory: string): string => join(directory, 'cgroup.procs');
  if (version === 'v2') return [procsOf(join(root, parentGroup('v2', name), EXECUTOR_LEAF))];
  return groups.map((group) => {
    // systemd makes no directory for a service in hierarchies in which only its slice has limits.
    const service = join(dirname(group), name.unit);
    return procsOf(fs.exists(service) ? service : dirname(group));
  });
}

/** What only v2 has: no way out into swap, and a task that is out of memory ends as a whole, as a unit of its own would. */
function limitV2(fs: CgroupFs, directory: string): void {
  for (const [file, value] of [
    ['memory.swap.max', '0'],
    ['memory.oom.group', '1'],
  ] as const) {
    // The one is not there on kernels without swap.
    if (fs.exists(join(directory, file))) fs.write(join(directory, file), value);
  }
}

/** Directories whose parents are there, each of them once. */
function distinct(fs: CgroupFs, directories: readonly string[]): string[] {
  const byParent = new Map<string, string>();
  for (const directory of directories) {
    const parent = dirname(directory);
    if (!fs.exists(parent)) continue;
    const identity = fs.identity(parent);
    if (!byParent.has(identity)) byParent.set(identity, directory);
  }
  return [...byParent.values()];
}

/** In words that help: what the kernel said to a write. */
function explain(error: unknown, unit: string): string {
  if (isGoneError(error)) return `it is gone, or ${unit} is`;
  if (codeOf(error) === 'EINVAL') return `its CPU limit is above that of ${unit}`;
  return messageOf(error);
}
