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
import { accessSync, constants, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { cgroupName, ownerPid, listHierarchies, makeCgroups, passControllersOn, removeTree, sweepCgroups, type Hierarchy } from './cgroups.ts';
import { BOOT_SCRIPT, ENTER_SCRIPT } from './scripts.ts';
import { BOOT_TARGET, JOURNALD_CONF, UNIT_FILES } from './unit-files.ts';

const BOOT_TIMEOUT_MS = 20_000;
const POLL_MS = 5;
const REMOVE_TIMEOUT_MS = 3_000;
const SYSTEMD_PATHS = ['/lib/systemd/systemd', '/usr/lib/systemd/systemd'];
const TOOLS = ['unshare', 'setpriv', 'nsenter', 'mount', 'dbus-daemon'];

/** The part of a logger that a boot uses; event name, then fields. */
export interface BootLog {
  info(event: string, fields?: Record<string, unknown>): void;
  warn(event: string, fields?: Record<string, unknown>): void;
}

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
 * Why a private systemd cannot run here; undefined if it can.
 *
 * @returns a sentence that says what to do
 */
export function privateSystemdReason(): string | undefined {
  if (process.platform !== 'linux') return 'a private systemd needs Linux';
  if (process.getuid?.() !== 0) return 'a private systemd needs root (run it with sudo)';
  if (findSystemd() === undefined) return 'no systemd binary found (apt-get install systemd)';
  const missing = TOOLS.filter((tool) => !isInPath(tool));
  if (missing.length > 0) return `not in PATH: ${missing.join(', ')} (apt-get install util-linux mount dbus)`;
  if (listHierarchies().length === 0) return 'no cgroup hierarchy is mounted at /sys/fs/cgroup';
  const readOnly = listHierarchies().find((hierarchy) => !isWritable(hierarchy.ownDirectory));
  if (readOnly !== undefined) return `${readOnly.ownDirectory} is not writable (in a container: run it --privileged)`;
  return undefined;
}

/**
 * Boots and waits until D-Bus and the journal answer.
 *
 * @throws Error that says what was found and what to do, having removed whatever it made
 */
export async function bootPrivateSystemd(options: PrivateSystemdOptions): Promise<PrivateSystemd> {
  const reason = privateSystemdReason();
  if (reason !== undefined) throw new Error(`cannot boot a private systemd: ${reason}`);
  const hierarchies = listHierarchies();
  const swept = [...sweepCgroups(hierarchies), ...sweepDirectories(options.stateDir)];
  if (swept.length > 0) options.log?.info('private-systemd.swept', { paths: swept.length });
  const name = cgroupName(process.pid, randomBytes(4).toString('hex'));
  const state = join(options.stateDir, name);
  writeState(state, options.extraUnits ?? {});
  const cgroups = makeCgroups(hierarchies, name);
  const lacking = passControllersOn(hierarchies);
  if (lacking.length > 0) options.log?.warn('private-systemd.limits-missing', { controllers: lacking });
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
  for (const [name, text] of Object.entries({ ...UNIT_FILES, ...extraUnits })) writeFileSync(join(units, name), text);
  for (const name of Object.keys(extraUnits)) {
    if (!name.includes('@')) symlinkSync(join(units, name), join(wants, name));
  }
  writeFileSync(join(state, 'journald.conf'), JOURNALD_CONF);
  writeFileSync(join(state, 'console'), '');
}

function spawnBoot(state: string, hierarchies: readonly Hierarchy[], cgroups: readonly string[]): ChildProcess {
  const mounts = hierarchies.map(({ mountPoint, version, options }, index) => {
    const type = version === 'v2' ? 'cgroup2' : 'cgroup';
    return [mountPoint, type, options === '' ? '-' : options, statSync(cgroups[index] ?? '').ino].join(' ');
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
  return spawn('setpriv', argv, { env, cwd: '/', stdio: ['ignore', 'ignore', 'pipe'], detached: true });
}

interface Booting {
  readonly unshare: ChildProcess;
  readonly hierarchies: readonly Hierarchy[];
  readonly cgroups: readonly string[];
  readonly state: string;
}

/** @returns the pid of process 1 once the bus and the journal answer */
async function waitForBoot({ unshare, hierarchies, cgroups, state }: Booting): Promise<number> {
  const errors: string[] = [];
  unshare.stderr?.on('data', (chunk: Buffer) => errors.push(chunk.toString()));
  const deadline = performance.now() + BOOT_TIMEOUT_MS;
  let movedOut = false;
  for (;;) {
    if (unshare.exitCode !== null || unshare.signalCode !== null) {
      throw new Error(`it ended at once (${unshare.exitCode ?? unshare.signalCode}): ${errors.join('').trim()}`);
    }
    if (performance.now() > deadline) throw new Error(`not ready after ${BOOT_TIMEOUT_MS} ms: ${errors.join('').trim()}`);
    const pid = firstChild(unshare.pid);
    if (pid !== undefined && !movedOut && existsSync(join(state, 'entered'))) {
      requireOwnCgroups(pid, cgroups);
      for (const { ownDirectory } of hierarchies) writeFileSync(join(ownDirectory, 'cgroup.procs'), String(unshare.pid));
      writeFileSync(join(state, 'moved'), '');
      movedOut = true;
    }
    if (pid !== undefined && movedOut && isSystemd(pid) && (await answers(join(`/proc/${pid}/root`, 'run/dbus/system_bus_socket')))) return pid;
    await sleep(POLL_MS);
  }
}

/**
 * The kernel's word that process 1 is in our cgroup of every hierarchy; systemd takes where it finds itself for the
 * root of its tree, so a boot from anywhere else would build that tree among the host's cgroups.
 */
function requireOwnCgroups(pid: number, cgroups: readonly string[]): void {
  for (const directory of cgroups) {
    const members = readFileSync(join(directory, 'cgroup.procs'), 'utf8').split('\n');
    if (!members.includes(String(pid))) throw new Error(`process ${pid} is not in ${directory}; nothing was started`);
  }
}

function firstChild(pid: number | undefined): number | undefined {
  try {
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
    return children === '' ? undefined : Number(children.split(' ')[0]);
  } catch {
    // Gone or not there yet: the caller looks at the exit code and comes again.
    return undefined;
  }
}

function isSystemd(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim() === 'systemd';
  } catch {
    // The process ended between two looks.
    return false;
  }
}

/** A bus daemon greets nobody, but it answers a null byte and AUTH; a socket without a daemon stays silent. */
function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    const done = (answer: boolean): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.setTimeout(BOOT_TIMEOUT_MS / 4, () => done(false));
    socket.once('connect', () => socket.write('\0AUTH EXTERNAL 30\r\n'));
    socket.once('data', (data) => done(data.toString().startsWith('OK')));
    socket.once('error', () => done(false));
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
  const nsenter = (argv: readonly string[]): string[] => ['nsenter', '-t', String(pid), '-m', '-p', '-u', '-i', '-C', '--', ...argv];
  let stopping: Promise<void> | undefined;
  const stop = async (gracefulMs: number): Promise<void> => {
    const services = units.filter((name) => !name.includes('@'));
    if (services.length > 0) await runBounded(nsenter(['systemctl', 'stop', ...services]), gracefulMs);
    unshare.kill('SIGKILL');
    await exited;
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
    const child = spawn(argv[0] ?? '', argv.slice(1), { stdio: 'ignore', timeout: timeoutMs, killSignal: 'SIGKILL' });
    child.once('error', () => resolve());
    child.once('close', () => resolve());
  });
}

/** The kernel needs a moment after the last process before it lets the cgroups go. */
async function cleanUp(cgroups: readonly string[], state: string, log: BootLog | undefined): Promise<void> {
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
  const text = existsSync(join(state, 'console')) ? readFileSync(join(state, 'console'), 'utf8').trim() : '';
  return text === '' ? '' : `; systemd said: ${text.slice(-2_000)}`;
}

function isUnified(hierarchies: readonly Hierarchy[]): boolean {
  return hierarchies.every((hierarchy) => hierarchy.version === 'v2');
}

function findSystemd(): string | undefined {
  return SYSTEMD_PATHS.find((path) => existsSync(path));
}

function isInPath(tool: string): boolean {
  const directories = (process.env['PATH'] ?? '').split(':');
  return directories.some((directory) => {
    const path = join(directory, tool);
    return existsSync(path) && statSync(path).isFile();
  });
}

function isWritable(directory: string): boolean {
  try {
    accessSync(directory, constants.W_OK);
    return true;
  } catch {
    // EROFS or EACCES: the caller says so.
    return false;
  }
}
