/**
 * The cgroups that a private systemd lives in: one child of our own cgroup in each mounted
 * hierarchy, made before the boot and removed after the end.
 *
 * Children hang below the cgroup that this process is in, never elsewhere, so that limits which the
 * host put on us keep holding. A death by SIGKILL leaves empty cgroups; the next boot sweeps them.
 */
import {
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmdirSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';

const NAME_PREFIX = 'kaon-dev-';

/** One mounted cgroup hierarchy of the host, and where this process is in it. */
export interface Hierarchy {
  /** Mount point on the host, e.g. `/sys/fs/cgroup/memory`; systemd sees its subtree at the same path. */
  readonly mountPoint: string;
  readonly version: 'v1' | 'v2';
  /** Options that mount the same hierarchy again, e.g. `cpu,cpuacct` or `none,name=systemd`; empty on v2. */
  readonly options: string;
  /** Directory of our own cgroup, under `mountPoint`. */
  readonly ownDirectory: string;
}

interface CgroupMount {
  readonly root: string;
  readonly mountPoint: string;
  readonly type: string;
  readonly options: readonly string[];
}

/** Lists the hierarchies from `/proc/self/mountinfo` and `/proc/self/cgroup`, proc(5) and cgroups(7). */
export function listHierarchies(): Hierarchy[] {
  const paths = readOwnPaths(readFileSync('/proc/self/cgroup', 'utf8'));
  const seen = new Set<string>();
  const hierarchies: Hierarchy[] = [];
  for (const mount of readCgroupMounts(readFileSync('/proc/self/mountinfo', 'utf8'))) {
    const version = mount.type === 'cgroup2' ? 'v2' : 'v1';
    const key = version === 'v2' ? '' : mount.options.join(',');
    const path = paths.get(key);
    if (path === undefined || seen.has(key)) continue;
    seen.add(key);
    const below = path.startsWith(mount.root) ? path.slice(mount.root.length) : path;
    const options = key.startsWith('name=') ? `none,${key}` : key;
    hierarchies.push({
      mountPoint: mount.mountPoint,
      version,
      options,
      ownDirectory: join(mount.mountPoint, below),
    });
  }
  return hierarchies;
}

/** Lines `5:cpu,cpuacct:/path`; the key is the controller list as written, empty for v2. */
function readOwnPaths(text: string): Map<string, string> {
  const paths = new Map<string, string>();
  for (const line of text.split('\n')) {
    const [, controllers, ...path] = line.split(':');
    if (controllers === undefined || path.length === 0) continue;
    paths.set(controllers.split(',').sort().join(','), path.join(':'));
  }
  return paths;
}

/** The cgroup rows of mountinfo; of the super options only those that name the hierarchy are kept. */
function readCgroupMounts(text: string): CgroupMount[] {
  const mounts: CgroupMount[] = [];
  for (const line of text.split('\n')) {
    const [left, right] = line.split(' - ');
    const [, , , root, mountPoint] = left?.split(' ') ?? [];
    const [type, , superOptions] = right?.split(' ') ?? [];
    if (root === undefined || mountPoint === undefined || !type?.startsWith('cgroup')) continue;
    const flags =
      /^(rw|ro|xattr|noprefix|clone_children|release_agent=.*|nsdelegate|memory_.*|favordynmods)$/;
    const options = (superOptions ?? '')
      .split(',')
      .filter((option) => !flags.test(option))
      .sort();
    mounts.push({ root, mountPoint, type, options });
  }
  return mounts;
}

/** A name that says who made it; `kaon-dev-<pid>-<random>`. */
export function cgroupName(pid: number, random: string): string {
  return `${NAME_PREFIX}${pid}-${random}`;
}

/** The process that made a cgroup or directory of this name; undefined if the name is not of ours. */
export function ownerPid(name: string): number | undefined {
  const pid = /^kaon-dev-(\d+)-[0-9a-z]+$/.exec(name)?.[1];
  return pid === undefined ? undefined : Number(pid);
}

/**
 * Makes the child cgroup in every hierarchy, removing what it made if one of them refuses.
 *
 * @returns the directories, in the order of `hierarchies`
 */
export function makeCgroups(hierarchies: readonly Hierarchy[], name: string): string[] {
  const made: string[] = [];
  try {
    for (const hierarchy of hierarchies) {
      const directory = join(hierarchy.ownDirectory, name);
      mkdirSync(directory);
      made.push(directory);
      // On v2 an empty cpuset is that of the cgroup above, and the root has no file to copy.
      if (hierarchy.version === 'v1') copyCpuset(hierarchy.ownDirectory, directory);
    }
  } catch (error) {
    made.forEach(removeTree);
    throw error;
  }
  return made;
}

/** A v1 cpuset without CPUs and memory nodes takes no process: cpusets(7), "cpuset.cpus". */
function copyCpuset(parent: string, child: string): void {
  for (const file of ['cpuset.cpus', 'cpuset.mems']) {
    const target = join(child, file);
    if (!existsSync(target) || readFileSync(target, 'utf8').trim() !== '') continue;
    const value = readFileSync(join(parent, file), 'utf8').trim();
    if (value !== '') writeFileSync(target, value);
  }
}

/**
 * Passes the controllers of a unified host on to our child as far as the kernel lets us.
 *
 * @returns the controllers that systemd will lack (our own cgroup holds processes, so the kernel
 *   refuses to enable them below it unless it is the root); empty on v1 and hybrid hosts
 */
export function passControllersOn(hierarchies: readonly Hierarchy[]): string[] {
  if (hierarchies.some((hierarchy) => hierarchy.version === 'v1')) return [];
  const lacking: string[] = [];
  for (const { ownDirectory } of hierarchies) {
    const enabled = readFileSync(join(ownDirectory, 'cgroup.subtree_control'), 'utf8').split(/\s+/);
    for (const controller of ['cpu', 'memory', 'pids']) {
      if (enabled.includes(controller)) continue;
      try {
        writeFileSync(join(ownDirectory, 'cgroup.subtree_control'), `+${controller}`);
      } catch {
        // EBUSY or ENOENT: not ours to change; the caller warns that this limit will not hold.
        lacking.push(controller);
      }
    }
  }
  return lacking;
}

/** Removes cgroups that a dead Kaon left behind: ours by name, their maker gone, and empty. */
export function sweepCgroups(hierarchies: readonly Hierarchy[]): string[] {
  const swept: string[] = [];
  for (const { ownDirectory } of hierarchies) {
    for (const name of readdirSync(ownDirectory)) {
      const pid = ownerPid(name);
      if (pid === undefined || existsSync(`/proc/${pid}`)) continue;
      const directory = join(ownDirectory, name);
      // A pid that we cannot see may live in another PID namespace: only what is empty is left over.
      if (isEmptyTree(directory) && removeTree(directory)) swept.push(directory);
    }
  }
  return swept;
}

/** Whether no process is in a cgroup or below it; those of other PID namespaces count (they are listed as 0). */
function isEmptyTree(directory: string): boolean {
  try {
    if (readFileSync(join(directory, 'cgroup.procs'), 'utf8').trim() !== '') return false;
    const entries = readdirSync(directory, { withFileTypes: true });
    return entries.every(
      (entry) => !entry.isDirectory() || isEmptyTree(join(directory, entry.name)),
    );
  } catch {
    // It changes under our eyes, so it is somebody's.
    return false;
  }
}

/**
 * Removes a cgroup and those below it, leaves first.
 *
 * @returns false if something in it still lives (the kernel then refuses with EBUSY)
 */
export function removeTree(directory: string): boolean {
  try {
    rmdirSync(directory);
    return true;
  } catch {
    // Something is in it: cgroups below, which may go first, or processes.
  }
  try {
    for (const entry of readdirSync(directory, { withFileTypes: true })) {
      if (entry.isDirectory()) removeTree(join(directory, entry.name));
    }
    rmdirSync(directory);
    return true;
  } catch {
    // Gone already is success; EBUSY is for the caller to retry.
    return !existsSync(directory);
  }
}
