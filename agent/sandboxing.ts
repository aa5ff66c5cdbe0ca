/**
 * What this node grants its tasks: which users they may run as, and which parts of the sandbox they may have taken away. The
 * operator's settings decide; a task that asks for more is refused in words that name the setting.
 */
import { existsSync, realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { CommandInfo } from '../protocol/command.ts';
import type { ExecutorInfo } from '../protocol/executor.ts';
import { KaonError } from '../protocol/errors.ts';
import type { Network, Relaxation } from '../protocol/sandboxing.ts';
import { isRelaxation, NETWORKS, RELAXATION_NAMES } from '../protocol/sandboxing.ts';
import type { CgroupVersion } from '../systemd/cgroup-use.ts';
import type { UnitSandbox } from '../systemd/sandboxing.ts';
import { isSafeMount } from '../systemd/sandboxing.ts';
import type { UserIds } from './sandbox.ts';
import { lookUpUser } from './sandbox.ts';

/** The user of tasks where the operator names none, if it is there. */
export const TASK_USER = 'kaon-task';
/** The setting by which each launch has a user of its own, made by systemd. */
export const DYNAMIC = 'dynamic';
/** In a list of users: every one but root. */
export const ANY_USER = '*';

/** What the operator of a node has said; what is absent has a default. */
export interface SandboxSettings {
  /** A user of the node, or `dynamic`. Default: `kaon-task` if there is one, else `dynamic`. */
  readonly taskUser?: string;
  /** Users that a task may ask for besides. Default: none; `*`: all but root. */
  readonly allowUsers?: readonly string[];
  /** Default: no task is root. */
  readonly allowRoot?: boolean;
  /** Parts of the sandbox that a task may have taken away. Default: none. */
  readonly allowRelax?: readonly Relaxation[];
  /** Parts that no task of this node has. Default: none; all of them: there is no sandbox. */
  readonly relax?: readonly Relaxation[];
  /** Paths that every task sees as they are, and writes where its user may. Default: none. */
  readonly expose?: readonly string[];
}

/** The rules of a node, ready to be applied. */
export interface SandboxPolicy {
  /** Of a task that asks for none; `own`: the agent's, which is not root and can give no other. */
  readonly user: { readonly name: string; readonly ids: UserIds } | 'dynamic' | 'own';
  readonly allowUsers: readonly string[];
  readonly allowRoot: boolean;
  readonly allowRelax: readonly Relaxation[];
  readonly relax: readonly Relaxation[];
  readonly expose: readonly string[];
  /** Kaon's own programs, where a sandbox would hide them. */
  readonly programs: readonly string[];
  readonly directory: string;
  readonly cgroupVersion: CgroupVersion;
}

/** What a command is given. */
export interface Grant {
  /** For systemd; absent: none is set. */
  readonly user?: string;
  /** Owner of its files; absent: the agent's own user, or one that nobody knows yet. */
  readonly ids?: UserIds;
  readonly isDynamic: boolean;
  /** Without the paths of this launch; absent: there is no sandbox. */
  readonly sandbox?: UnitSandbox;
}

/** Where the agent is, and what it runs. */
export interface SandboxSurroundings {
  /** The agent's own directory: no task sees more of it than its own sandbox. */
  readonly directory: string;
  /** Directory of Kaon's own programs. */
  readonly programs: string;
  readonly cgroupVersion: CgroupVersion;
  /** Whether the agent may take on other users; default: it is root. */
  readonly isRoot?: boolean;
  /** Whether its systemd can put a sandbox around a task; default: the agent is root. */
  readonly canSandbox?: boolean;
}

/** Of the node's secrets, and what leads out of any sandbox. */
const HIDDEN = ['/etc/kaon', '/run/kaon'];
const BUSES = [
  '/run/dbus',
  '/run/systemd/private',
  '/run/docker.sock',
  '/run/containerd',
  '/run/crio',
  '/run/podman',
];
/** What of them a task of root could read, because it is root's. */
const HIDDEN_FROM_ROOT = ['/etc/shadow', '/etc/gshadow', '/etc/ssh', '/boot'];
/** A program below one of these would not be seen. */
const COVERED = /^\/(home|root|run\/user|tmp|var\/tmp)\//;
/** systemd gives a dynamic user these whatever else is said: systemd.exec(5), `DynamicUser=`. */
const BOUND_TO_DYNAMIC: readonly Relaxation[] = ['filesystem', 'privileges', 'tmp'];

/** @throws KaonError `sandbox-settings` if they contradict each other or the node */
export async function openSandboxPolicy(
  settings: SandboxSettings,
  surroundings: SandboxSurroundings,
): Promise<SandboxPolicy> {
  const { directory, programs, cgroupVersion } = surroundings;
  const { isRoot = process.getuid?.() === 0, canSandbox = isRoot } = surroundings;
  const { allowUsers = [], allowRelax = [], relax: wanted = [], expose = [] } = settings;
  for (const path of expose) refuseUnsafePath(path);
  // Without root systemd has next to none of it to give, unless it can make user namespaces: docs/sandboxing.md.
  const relax = canSandbox ? wanted : RELAXATION_NAMES;
  const user = isRoot ? await taskUser(settings) : ownUser(settings);
  if (user === 'dynamic') refuseUnbound(relax);
  return {
    ...{ user, allowUsers, allowRelax, relax, expose, directory, cgroupVersion },
    allowRoot: settings.allowRoot === true,
    programs: coveredPrograms(programs),
  };
}

function ownUser({ taskUser: wanted }: SandboxSettings): 'own' {
  if (wanted === undefined) return 'own';
  throw wrongSettings(
    `an agent that is not root cannot run tasks as ${wanted}`,
    'leave --task-user out, or run the agent as root',
  );
}

function refuseUnbound(relax: readonly Relaxation[]): void {
  if (!relax.some((name) => BOUND_TO_DYNAMIC.includes(name))) return;
  throw wrongSettings(
    `tasks of dynamic users always have these parts of the sandbox: ${BOUND_TO_DYNAMIC.join(', ')}`,
    `name a --task-user, make a user ${TASK_USER}, or leave them out of --relax`,
  );
}

async function taskUser(settings: SandboxSettings): Promise<SandboxPolicy['user']> {
  const { taskUser: wanted, allowRoot = false } = settings;
  if (wanted === DYNAMIC) return 'dynamic';
  try {
    const name = wanted ?? TASK_USER;
    const ids = await lookUpUser(name);
    if (ids.uid === 0 && !allowRoot) {
      throw wrongSettings(
        `tasks are to run as ${name}, which is root`,
        'say --allow-root as well, or name another --task-user',
      );
    }
    return { name, ids };
  } catch (error) {
    if (wanted === undefined) return 'dynamic';
    if ((error as Partial<KaonError>).code === 'sandbox-settings') throw error;
    throw wrongSettings(
      `tasks are to run as user ${JSON.stringify(wanted)}, which does not exist here`,
      `make it, or say --task-user ${DYNAMIC}`,
    );
  }
}

function refuseUnsafePath(path: string): void {
  if (isSafeMount(path) && path !== '/') return;
  throw wrongSettings(
    `tasks are to see ${JSON.stringify(path)}, which systemd cannot be told of as it is`,
    'expose an absolute path of letters, digits and . _ + = , @ ~ -',
  );
}

function wrongSettings(message: string, hint: string): KaonError {
  return new KaonError('sandbox-settings', message, { hint });
}

function coveredPrograms(programs: string): string[] {
  return [programs, join(dirname(programs), 'node_modules'), process.execPath]
    .filter((path) => existsSync(path))
    .map((path) => realpathSync(path))
    .filter((path) => COVERED.test(path) && isSafeMount(path));
}

/** @returns who a task is that does not ask to be somebody: for people, and for the attributes of the node */
export function userOfTasks({ user }: SandboxPolicy): string {
  return typeof user === 'string' ? user : user.name;
}

/** @returns the rules, for the log */
export function describePolicy(policy: SandboxPolicy): Readonly<Record<string, string>> {
  const { allowRoot, allowUsers, allowRelax, relax, expose } = policy;
  const list = (items: readonly string[]): string =>
    items.length === 0 ? 'none' : items.join(',');
  return {
    user: userOfTasks(policy),
    allowUsers: list([...(allowRoot ? ['root'] : []), ...allowUsers]),
    ...{ allowRelax: list(allowRelax), relax: list(relax), expose: list(expose) },
  };
}

/**
 * What a command may have of what it asks for.
 *
 * @throws KaonError `not-granted` in words for who launched it; `user-unknown`
 */
export async function grant(
  policy: SandboxPolicy,
  { user, sandboxing }: Pick<CommandInfo, 'user' | 'sandboxing'>,
): Promise<Grant> {
  const granted = await grantUser(policy, user);
  const wanted = grantRelaxations(policy, sandboxing?.relax ?? [], granted.isDynamic);
  const network = grantNetwork(policy, sandboxing?.network ?? 'full');
  refuseWithoutRoot(policy, network);
  const relaxed = new Set<Relaxation>([...policy.relax, ...wanted]);
  if (policy.relax.length === RELAXATION_NAMES.length && network === 'full') return granted;
  const isRoot = granted.ids?.uid === 0;
  const { expose, programs, directory } = policy;
  return {
    ...granted,
    sandbox: {
      ...{ relaxed, network, isRoot, isDynamic: granted.isDynamic },
      writable: expose,
      readable: programs,
      emptied: [directory],
      // Each costs systemd a millisecond or more, also where there is nothing to hide.
      hidden: [
        ...HIDDEN,
        ...(isRoot ? HIDDEN_FROM_ROOT : []),
        ...(relaxed.has('bus') ? [] : BUSES),
      ].filter((path) => existsSync(path)),
      writableCgroups: [],
    },
  };
}

/**
 * As `grant`, of an executor.
 *
 * @throws as `grant`
 */
export async function grantExecutor(
  policy: SandboxPolicy,
  { isolation }: Pick<ExecutorInfo, 'isolation'>,
  command: Pick<CommandInfo, 'user' | 'sandboxing'>,
): Promise<Grant> {
  const granted = await grant(policy, command);
  if (!granted.isDynamic || isolation !== 'task') return granted;
  throw notGranted(
    "isolation 'task' needs a user that is there before the executor, and tasks of this node have dynamic ones: name a user",
  );
}

async function grantUser(policy: SandboxPolicy, wanted: string | undefined): Promise<Grant> {
  const { user } = policy;
  if (wanted === undefined) {
    if (typeof user === 'string') return { isDynamic: user === 'dynamic' };
    return { user: user.name, ids: user.ids, isDynamic: false };
  }
  const ids = await lookUpUser(wanted);
  if (user === 'own' && ids.uid === process.getuid?.()) return { isDynamic: false };
  refuseUser(policy, wanted, ids);
  return { user: wanted, ids, isDynamic: false };
}

function refuseUser(policy: SandboxPolicy, wanted: string, { uid }: UserIds): void {
  const { user, allowUsers, allowRoot } = policy;
  if (uid === 0) {
    if (allowRoot) return;
    throw notGranted(
      'it is to run as root, which this node does not allow: its agent would need --allow-root',
    );
  }
  const isUsual = typeof user !== 'string' && user.ids.uid === uid;
  if (isUsual || allowUsers.includes(ANY_USER) || allowUsers.includes(wanted)) return;
  throw notGranted(
    `it is to run as user ${JSON.stringify(wanted)}, which this node does not allow: its agent would need --allow-user ${wanted}`,
  );
}

function grantRelaxations(
  policy: SandboxPolicy,
  wanted: readonly string[],
  isDynamic: boolean,
): Relaxation[] {
  return wanted.map((name) => {
    if (!isRelaxation(name)) {
      throw notGranted(
        `it is to be without ${name}, a part of the sandbox that this agent does not know`,
      );
    }
    if (!policy.allowRelax.includes(name) && !policy.relax.includes(name)) {
      throw notGranted(
        `it is to be without the part of the sandbox called ${name}, which this node does not allow: its agent would need --allow-relax ${name}`,
      );
    }
    if (isDynamic && BOUND_TO_DYNAMIC.includes(name)) {
      throw notGranted(`tasks of dynamic users cannot be without ${name}: name a user`);
    }
    return name;
  });
}

function grantNetwork({ cgroupVersion }: SandboxPolicy, wanted: string): Network {
  const network = NETWORKS.find((known) => known === wanted);
  if (network === undefined) throw notGranted(`network ${wanted} is unknown to this agent`);
  if (network === 'loopback' && cgroupVersion === 'v1') {
    throw notGranted(
      'network loopback needs cgroup v2, and this node has v1: ask for none or full',
    );
  }
  return network;
}

/** systemd would leave it out without a word. */
function refuseWithoutRoot({ user, relax }: SandboxPolicy, network: Network): void {
  if (user !== 'own' || network === 'full') return;
  if (network === 'loopback') {
    throw notGranted('network loopback needs an agent that is root: ask for none or full');
  }
  if (relax.length === RELAXATION_NAMES.length) {
    throw notGranted(
      'network none needs user namespaces, which this agent cannot make: ask for full',
    );
  }
}

/**
 * Who fetches the artifacts of a command. Of a dynamic user nobody, who can read what everybody can, as the task will.
 *
 * @throws KaonError `user-unknown`
 */
export async function fetchingAs({
  ids,
  isDynamic,
}: Grant): Promise<{ ids?: UserIds; isClosed?: boolean }> {
  if (ids) return { ids };
  return isDynamic ? { ids: await lookUpUser('nobody'), isClosed: true } : {};
}

function notGranted(message: string): KaonError {
  return new KaonError('not-granted', message);
}
