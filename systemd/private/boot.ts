/**
 * Boots a real systemd as process 1 of its own PID, mount, UTS, IPC and cgroup namespaces.
 *
 * It is what `kaon dev` and the tests run tasks in where the machine's own process 1 is something
 * else. Network, `/tmp` and the file system are the host's; `/run` and `/proc` are its own. It runs
 * none of the host's units. It dies with the process that booted it, however that dies, and leaves
 * no process, mount, cgroup or file behind. Needs root.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  cgroupName,
  ownerPid,
  listHierarchies,
  makeCgroups,
  passControllersOn,
  removeTree,
  sweepCgroups,
  type Hierarchy,
} from './cgroups.ts';
import { waitForBoot } from './boot-wait.ts';
import { findSystemd, privateSystemdReason } from './reason.ts';
import { BOOT_SCRIPT, ENTER_SCRIPT } from './scripts.ts';
import { findPrivateTemporaries, removePrivateTemporaries } from './temporary.ts';
import { BOOT_TARGET, JOURNALD_CONF, UNIT_FILES } from './unit-files.ts';

const POLL_MS = 5;
const REMOVE_TIMEOUT_MS = 30_000;

export { privateSystemdReason } from './reason.ts';

/** The part of a logger that a boot uses; event name, then fields. */
export interface BootLog {
  info(event: string, fields?: Record<string, unknown>): void;
  warn(event: string, fields?: Record<string, unknown>): void;
}

/** What a boot needs. */
export interface PrivateSystemdOptions {
  /** An existing directory; a subdirectory of it holds the unit files until `stop`. */
  readonly stateDir: string;
  /** More unit files by name, e.g. `kaon-agent.service`; those that are not templates start at boot. */
  readonly extraUnits?: Readonly<Record<string, string>>;
  readonly log?: BootLog;
}

/** A running private systemd. */
export interface PrivateSystemd {
  /** Process 1 of the inside, as numbered outside. */
  readonly pid: number;
  /** The same directories as seen from outside: `/proc/<pid>/root`. */
  readonly root: string;
  /** D-Bus address that works from outside, for root. */
  readonly busAddress: string;
  /** Where the cgroup hierarchies of the inside are seen from outside. */
  readonly cgroupRoot: string;
  /** The argv that runs `argv` inside, in its root directory. */
  nsenter(argv: readonly string[]): string[];
  /** Stops the extra units gracefully (at most `gracefulMs`, default 10 000), then everything else at once. Idempotent. */
  stop(gracefulMs?: number): Promise<void>;
  /** Settles when the inside is gone, whoever ended it. */
  readonly exited: Promise<void>;
}

/**
 * Boots and waits until D-Bus and the journal answer.
 *
 * @throws Error that says what was found and what to do, having removed whatever it made
 */
export async function bootPrivateSystemd(options: PrivateSystemdOptions): Promise<PrivateSystemd> {
  const reason = privateSystemdReason();
  if (reason !== undefined) throw new Error(`cannot boot a private systemd: ${reason}`);
  if (realpathSync(options.stateDir).concat('/').startsWith('/run/')) {
    throw new Error(
      `cannot boot a private systemd: ${options.stateDir} is below /run, which the inside has its own of`,
    );
  }
  const hierarchies = listHierarchies();
  const swept = [...sweepCgroups(hierarchies), ...sweepDirectories(options.stateDir)];
  if (swept.length > 0) options.log?.info('private-systemd.swept', { paths: swept.length });
  const name = cgroupName(process.pid, randomBytes(4).toString('hex'));
  const state = join(options.stateDir, name);
  writeState(state, options.extraUnits ?? {});
  const cgroups = makeCgroups(hierarchies, name);
  const lacking = passControllersOn(hierarchies);
  if (lacking.length > 0)
    options.log?.warn('private-systemd.limits-missing', { controllers: lacking });
  const unshare = spawnBoot(state, hierarchies, cgroups);
  const exited = new Promise<void>((resolve) => {
    unshare.once('close', () => void cleanUp(cgroups, state, options.log).then(resolve));
  });
  try {
    const pid = await waitForBoot({ unshare, hierarchies, cgroups, state });
    options.log?.info('private-systemd.booted', { pid });
    return describeRunning({ pid, unshare, exited, units: Object.keys(options.extraUnits ?? {}) });
  } catch (error) {
    const console = readConsole(state);
    unshare.kill('SIGKILL');
    await exited;
    throw new Error(`private systemd did not boot: ${String(error)}${console}`, { cause: error });
  }
}

/** Removes the directories of boots whose process is gone. */
function sweepDirectories(stateDir: string): string[] {
  const left = readdirSync(stateDir).filter((name) => {
    const pid = ownerPid(name);
    return pid !== undefined && !existsSync(`/proc/${pid}`);
  });
  for (const name of left) rmSync(join(stateDir, name), { recursive: true, force: true });
  return left;
}

function writeState(state: string, extraUnits: Readonly<Record<string, string>>): void {
  const units = join(state, 'units');
  const wants = join(units, `${BOOT_TARGET}.wants`);
  mkdirSync(wants, { recursive: true });
  mkdirSync(join(state, 'empty'));
  for (const [name, text] of Object.entries({ ...UNIT_FILES, ...extraUnits }))
    writeFileSync(join(units, name), text);
  for (const name of Object.keys(extraUnits)) {
    if (!name.includes('@')) symlinkSync(join(units, name), join(wants, name));
  }
  writeFileSync(join(state, 'journald.conf'), JOURNALD_CONF);
  writeFileSync(join(state, 'console'), '');
}

function spawnBoot(
  state: string,
  hierarchies: readonly Hierarchy[],
  cgroups: readonly string[],
): ChildProcess {
  const mounts = hierarchies.map(({ mountPoint, version, options }, index) => {
    const type = version === 'v2' ? 'cgroup2' : 'cgroup';
    return [
      mountPoint,
      type,
      options === '' ? '-' : options,
      statSync(cgroups[index] ?? '').ino,
    ].join(' ');
  });
  const env = {
    PATH: process.env['PATH'] ?? '/usr/sbin:/usr/bin:/sbin:/bin',
    KAON_PARENT: String(process.pid),
    KAON_CGROUPS: cgroups.map((directory) => join(directory, 'cgroup.procs')).join('\n'),
    KAON_BOOT: BOOT_SCRIPT,
    KAON_STATE: state,
    KAON_MOUNTS: mounts.join('\n'),
    KAON_UNIFIED: isUnified(hierarchies) ? '1' : '0',
    KAON_TARGET: BOOT_TARGET,
    KAON_SYSTEMD: findSystemd() ?? '',
  };
  const argv = ['--pdeathsig', 'KILL', '/bin/sh', '-c', ENTER_SCRIPT];
  return spawn('setpriv', argv, {
    env,
    cwd: '/',
    stdio: ['ignore', 'ignore', 'pipe'],
    detached: true,
  });
}

interface Running {
  readonly pid: number;
  readonly unshare: ChildProcess;
  readonly exited: Promise<void>;
  readonly units: readonly string[];
}

function describeRunning({ pid, unshare, exited, units }: Running): PrivateSystemd {
  const root = `/proc/${pid}/root`;
  const nsenter = (argv: readonly string[]): string[] => [
    'nsenter',
    '-t',
    String(pid),
    '-m',
    '-p',
    '-u',
    '-i',
    '-C',
    '--',
    ...argv,
  ];
  let stopping: Promise<void> | undefined;
  const stop = async (gracefulMs: number): Promise<void> => {
    const services = units.filter((name) => !name.includes('@'));
    if (services.length > 0)
      await runBounded(nsenter(['systemctl', 'stop', ...services]), gracefulMs);
    const temporaries = findPrivateTemporaries(`${root}/proc`);
    unshare.kill('SIGKILL');
    await exited;
    removePrivateTemporaries(temporaries);
  };
  return {
    pid,
    root,
    busAddress: `unix:path=${root}/run/dbus/system_bus_socket`,
    cgroupRoot: `${root}/sys/fs/cgroup`,
    nsenter,
    stop: (gracefulMs = 10_000) => (stopping ??= stop(gracefulMs)),
    exited,
  };
}

function runBounded(argv: readonly string[], timeoutMs: number): Promise<void> {
  return new Promise((resolve) => {
    const child = spawn(argv[0] ?? '', argv.slice(1), {
      stdio: 'ignore',
      timeout: timeoutMs,
      killSignal: 'SIGKILL',
    });
    child.once('error', () => resolve());
    child.once('close', () => resolve());
  });
}

/** The kernel needs a moment after the last process before it lets the cgroups go. */
async function cleanUp(
  cgroups: readonly string[],
  state: string,
  log: BootLog | undefined,
): Promise<void> {
  const deadline = performance.now() + REMOVE_TIMEOUT_MS;
  let left = cgroups.filter((directory) => !removeTree(directory));
  while (left.length > 0 && performance.now() < deadline) {
    await sleep(POLL_MS);
    left = left.filter((directory) => !removeTree(directory));
  }
  if (left.length > 0) log?.warn('private-systemd.cgroups-left', { cgroups: left });
  rmSync(state, { recursive: true, force: true });
}

function readConsole(state: string): string {
  const text = existsSync(join(state, 'console'))
    ? readFileSync(join(state, 'console'), 'utf8').trim()
    : '';
  return text === '' ? '' : `; systemd said: ${text.slice(-2_000)}`;
}

function isUnified(hierarchies: readonly Hierarchy[]): boolean {
  return hierarchies.every((hierarchy) => hierarchy.version === 'v2');
}
