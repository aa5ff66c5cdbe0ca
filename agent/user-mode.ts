/**
 * An agent of a user: what has to be there for it, what it can promise, and what it says of that at its start. Its tasks run
 * in the user's own manager of systemd, as that user, without root having a part in it.
 *
 * It starts only where the limits of tasks will be in force, or where somebody has said that they need not be: systemd takes a
 * limit that it cannot set without a word.
 */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { isAbsolute, join } from 'node:path';
import type { Log } from '../io/log.ts';
import { KaonError } from '../protocol/errors.ts';
import { KERNEL_CGROUPS } from '../systemd/cgroup-fs.ts';
import { detectCgroupVersion } from '../systemd/cgroup-use.ts';
import type { Controller, UserNode } from '../systemd/delegation.ts';
import { delegatedControllers, judgeDelegation } from '../systemd/delegation.ts';
import { readUserManager } from '../systemd/user-manager.ts';
import { canSandbox } from './user-sandbox.ts';

const CGROUP_ROOT = '/sys/fs/cgroup';
/** A file for each user whose manager goes on without a session, loginctl(1), `enable-linger`. */
const LINGER_DIRECTORY = '/var/lib/systemd/linger';

/** The user that an agent and all of its tasks run as. */
export interface OwnUser {
  readonly name: string;
  readonly uid: number;
  /** False: tasks run without limits. */
  readonly holdsLimits: boolean;
}

/** What is different for an agent of a user. */
export interface UserMode {
  readonly user: OwnUser;
  readonly busAddress: string;
  /** Of the user's manager. */
  readonly controlGroup: string;
  /** Limits that are set. */
  readonly held: readonly Controller[];
  /** Whether its systemd can put a sandbox around tasks. */
  readonly canSandbox: boolean;
  /** Changes with each start of the user's manager, with which all of its units are gone. */
  readonly bootId: string;
  /** What frameworks and people see of it; nobody may say otherwise. */
  readonly attributes: Readonly<Record<string, string>>;
}

/** How it was started. */
export interface UserModeOptions {
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Default: the one that the environment names. */
  readonly busAddress?: string | undefined;
  /** Somebody has said that limits need not be held. */
  readonly isUnlimited: boolean;
  readonly log: Log;
}

/**
 * Looks at everything before anything is made.
 *
 * @throws KaonError `user-mode` as root or without a login, `user-bus` if there is no bus of the user, `limits-not-held`, and
 *   `systemd-unreachable`
 */
export async function openUserMode(options: UserModeOptions): Promise<UserMode> {
  const { environment, isUnlimited, log } = options;
  const { name, uid } = ownUser();
  const busAddress = options.busAddress ?? userBusAddress(environment, uid);
  requireBus(busAddress, uid);
  const { controlGroup, startedAtUsec } = await readUserManager(busAddress, log);
  const version = detectCgroupVersion(CGROUP_ROOT);
  const place = { root: CGROUP_ROOT, version, path: controlGroup };
  const delegated = delegatedControllers(KERNEL_CGROUPS, place);
  const held = isUnlimited ? [] : delegated;
  const available = delegatedControllers(KERNEL_CGROUPS, { ...place, path: '' });
  if (!isUnlimited) requireLimits(delegated, { version, uid, available }, log);
  else log.warn('limits.none', { why: '--unlimited: tasks may use all that their user may' });
  if (!existsSync(join(LINGER_DIRECTORY, name))) {
    log.warn('user.no-linger', {
      why: 'the manager of this user ends with its last session, and all tasks with it',
      hint: `loginctl enable-linger ${name}`,
    });
  }
  const isSandboxed = await canSandbox({ ...environment, DBUS_SESSION_BUS_ADDRESS: busAddress });
  if (!isSandboxed) {
    log.warn('sandbox.none', {
      why: 'systemd of this user cannot make user namespaces: tasks may do what their user may',
    });
  }
  const boot = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
  return {
    user: { name, uid, holdsLimits: held.length > 0 },
    ...{ busAddress, controlGroup, held },
    canSandbox: isSandboxed,
    bootId: `${boot}.${String(startedAtUsec)}`,
    attributes: {
      mode: 'user',
      user: name,
      limits: held.length === 0 ? 'none' : held.join(','),
    },
  };
}

function ownUser(): { name: string; uid: number } {
  const uid = process.getuid?.() ?? 0;
  if (uid === 0) {
    throw new KaonError('user-mode', 'kaon agent --user was started as root', {
      hint: 'start it as the user whose tasks it is to run, or leave --user out: as root it is the agent of the node',
    });
  }
  try {
    return { name: userInfo().username, uid };
  } catch {
    return { name: String(uid), uid }; // A user without an entry, as in a container.
  }
}

/**
 * Address of the bus that the user's manager is on.
 *
 * @param environment `DBUS_SESSION_BUS_ADDRESS` comes first, then the socket in `XDG_RUNTIME_DIR`
 * @throws KaonError `user-mode` if neither is there
 */
export function userBusAddress(
  environment: Readonly<Record<string, string | undefined>>,
  uid: number,
): string {
  const address = environment['DBUS_SESSION_BUS_ADDRESS'] ?? '';
  if (address !== '') return address;
  const runtime = environment['XDG_RUNTIME_DIR'] ?? '';
  if (runtime !== '') return `unix:path=${runtime}/bus`;
  throw new KaonError(
    'user-mode',
    'cannot find the systemd of this user: neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR is set',
    {
      hint: `su and sudo do not make a session: log in (ssh, machinectl shell), or after loginctl enable-linger set XDG_RUNTIME_DIR=/run/user/${String(uid)}`,
    },
  );
}

/** Waiting for a bus that does not even have a socket would only hide what is wrong. */
function requireBus(address: string, uid: number): void {
  const path = /^unix:path=([^,;]+)/.exec(address)?.[1];
  if (path === undefined || existsSync(decodeURIComponent(path))) return;
  throw new KaonError('user-bus', `no message bus of user ${String(uid)}: ${path} is not there`, {
    hint: `is user@${String(uid)}.service running, and the package dbus-user-session installed? (systemctl --user status dbus.socket)`,
  });
}

function requireLimits(delegated: readonly Controller[], node: UserNode, log: Log): void {
  const judged = judgeDelegation(delegated, node);
  if (!judged.ok) throw new KaonError('limits-not-held', judged.message, { hint: judged.hint });
  if (judged.lacking.length === 0) return;
  log.warn('limits.lacking', {
    controllers: judged.lacking.join(','),
    why: 'not delegated to this user: tasks may use more of it than they were given',
    hint: 'Delegate=cpu memory pids in a drop-in of user@.service',
  });
}

/**
 * Where an agent of a user keeps its state: `$XDG_STATE_HOME/kaon`, by default `~/.local/state/kaon`.
 *
 * @param home home directory of the user
 * @see XDG Base Directory Specification: a path that is not absolute is ignored
 */
export function userStateDirectory(
  environment: Readonly<Record<string, string | undefined>>,
  home: string,
): string {
  const state = environment['XDG_STATE_HOME'] ?? '';
  return join(isAbsolute(state) ? state : join(home, '.local', 'state'), 'kaon');
}

/**
 * @param wanted the user that a task names, if any
 * @param own absent: the agent may start tasks as anybody
 * @throws KaonError `user-refused` if it is another one than the agent's own
 */
export function refuseOtherUser(wanted: string | undefined, own: OwnUser | undefined): void {
  if (wanted === undefined || own === undefined) return;
  if (wanted === own.name || wanted === String(own.uid)) return;
  throw new KaonError(
    'user-refused',
    `user ${JSON.stringify(wanted)} is refused: this is an agent of user ${own.name} (kaon agent --user), which runs tasks as ${own.name} alone`,
  );
}
