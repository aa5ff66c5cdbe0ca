/** Other agents of Kaon on this node, by the slices of their units: each offers the node's resources as if it were alone. */
import { join } from 'node:path';
import type { Log } from '../io/log.ts';
import type { CgroupFs } from '../systemd/cgroup-fs.ts';
import { KERNEL_CGROUPS } from '../systemd/cgroup-fs.ts';
import type { CgroupVersion } from '../systemd/cgroup-use.ts';
import { detectCgroupVersion } from '../systemd/cgroup-use.ts';
import { ROOT_SLICE } from './core/unit-names.ts';

const CGROUP_ROOT = '/sys/fs/cgroup';

/** Where cgroups are, and which manager's are our own. */
export interface NeighbourLook {
  readonly fs: Pick<CgroupFs, 'exists' | 'children'>;
  /** Where cgroupfs is mounted. */
  readonly root: string;
  readonly version: CgroupVersion;
  /** The cgroup of our own manager of systemd; empty for the system's. */
  readonly own: string;
}

/**
 * Agents are known by their keeper, which stays while no task runs and while the agent is restarted.
 *
 * @returns `system`, and `user 1000` for each user with an agent; ourselves left out
 */
export function findNeighbours({ fs, root, version, own }: NeighbourLook): string[] {
  // On cgroup v1 systemd keeps all of its units in a hierarchy of its own.
  const base = version === 'v2' ? root : join(root, 'systemd');
  const found: string[] = [];
  const look = (manager: string, name: string): void => {
    if (manager !== own && fs.exists(join(base, manager, ROOT_SLICE))) found.push(name);
  };
  look('', 'system');
  for (const slice of fs.children(join(base, 'user.slice'))) {
    const uid = /^user-(\d+)\.slice$/.exec(slice)?.[1];
    if (uid === undefined) continue;
    for (const service of fs.children(join(base, 'user.slice', slice))) {
      look(`/user.slice/${slice}/${service}`, `user ${uid}`);
    }
  }
  return found;
}

/** Says in the log who else offers what this node has; nothing is refused, because their limits may have been set apart. */
export function warnOfNeighbours(own: string, log: Log): void {
  const version = detectCgroupVersion(CGROUP_ROOT);
  const others = findNeighbours({ fs: KERNEL_CGROUPS, root: CGROUP_ROOT, version, own });
  if (others.length === 0) return;
  log.warn('agent.neighbours', {
    others: others.join(','),
    why: 'each of these agents offers the memory and CPUs of this node as if it were alone',
    hint: 'give each its part with --resources, or limit the users with MemoryMax= of their slices',
  });
}
