/**
 * Which limits a manager of systemd can hold: those whose cgroup controllers it has been given. The system's own has all
 * that the kernel has; one of a user has what was delegated to it, on cgroup v1 nothing. Pure, but for the reads it is handed.
 *
 * systemd sets a limit without a controller and says nothing, so whoever promises limits has to look first.
 */
import { join } from 'node:path';
import type { CgroupFs } from './cgroup-fs.ts';
import type { CgroupVersion } from './cgroup-use.ts';

/** Controllers that Kaon's limits need: CPU time, memory, number of processes. */
export const CONTROLLERS = ['cpu', 'memory', 'pids'] as const;
/** A kind of limit, by the name of its cgroup controller. */
export type Controller = (typeof CONTROLLERS)[number];

/** Where a manager's cgroup is. */
export interface ManagerCgroup {
  /** Where cgroupfs is mounted. */
  readonly root: string;
  readonly version: CgroupVersion;
  /** The cgroup of the manager, `/user.slice/user-1000.slice/user@1000.service`; empty for the system's. */
  readonly path: string;
}

/**
 * Controllers that a user's manager may limit its units with.
 *
 * @returns none on cgroup v1, where systemd delegates to users only its own hierarchy
 * @see systemd.resource-control(5), `Delegate=`; kernel documentation, admin-guide/cgroup-v2.rst, "Delegation"
 */
export function delegatedControllers(
  fs: Pick<CgroupFs, 'read'>,
  { root, version, path }: ManagerCgroup,
): Controller[] {
  if (version === 'v1') return [];
  const words = (fs.read(join(root, path, 'cgroup.controllers')) ?? '').trim().split(/\s+/);
  return CONTROLLERS.filter((controller) => words.includes(controller));
}

/** Controllers without which an agent does not start: a task without them may take everything there is. */
const REQUIRED: readonly Controller[] = ['memory', 'pids'];

/** What an agent of a user may promise. */
export type HeldLimits =
  | { readonly ok: true; readonly lacking: readonly Controller[] }
  | { readonly ok: false; readonly message: string; readonly hint: string };

/** Where it would start. */
export interface UserNode {
  readonly version: CgroupVersion;
  /** Of the user, for the words. */
  readonly uid: number;
  /** Controllers that the node has at all, whoever may use them. */
  readonly available: readonly Controller[];
}

/**
 * @param held as `delegatedControllers` says
 * @returns the controllers that can be done without and are lacking, or why no task may be started, and how to change it
 */
export function judgeDelegation(held: readonly Controller[], node: UserNode): HeldLimits {
  const lacking = CONTROLLERS.filter((controller) => !held.includes(controller));
  if (!lacking.some((controller) => REQUIRED.includes(controller))) return { ok: true, lacking };
  const refused = 'limits of tasks cannot be held:';
  const open = 'start it with --unlimited to run tasks without any limit';
  if (node.version === 'v1') {
    return {
      ok: false,
      message: `${refused} this node uses cgroup v1 (or hybrid), where systemd delegates no controller to users`,
      hint: `boot with systemd.unified_cgroup_hierarchy=1, run the agent as root, or ${open}`,
    };
  }
  const missing = lacking.filter((controller) => !node.available.includes(controller));
  if (missing.length > 0) {
    return {
      ok: false,
      message: `${refused} the kernel of this node has no cgroup controller for ${missing.join(', ')}`,
      hint: `boot without cgroup_disable=${missing.join(',')}, or ${open}`,
    };
  }
  const user = `user ${String(node.uid)}`;
  const has = held.length === 0 ? 'it has none' : `it has ${held.join(', ')}`;
  return {
    ok: false,
    message: `${refused} ${user} was not given the cgroup controllers for ${lacking.join(', ')} (${has})`,
    hint: `as root write the lines [Service] and Delegate=cpu memory pids to /etc/systemd/system/user@.service.d/delegate.conf, then systemctl daemon-reload and systemctl restart user@${String(node.uid)}.service (it ends the user's sessions); or ${open}`,
  };
}
