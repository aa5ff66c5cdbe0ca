/**
 * Sandboxes: one directory a launch, `DIR/sandboxes/FRAMEWORK/TASK/LAUNCH/`, owned by the agent, with the output files (which
 * a task cannot swap for links, because the directory is not its own), the script of its command where it has one, and
 * `work/` (owned by the task's user, its working directory). Of an executor's task it is a link: the directory itself is
 * `DIR/hosted/EXECUTOR'S LAUNCH/LAUNCH/`, so that an executor can be shown the sandboxes of its tasks and no others.
 * They stay after the task for `kaon logs`, and are removed by age and number.
 */
import { execFile } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  closeSync,
  constants,
  existsSync,
  fstatSync,
  mkdirSync,
  openSync,
  readlinkSync,
  readSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { lstat, readdir, readlink, rm, rmdir, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import type { Log } from '../io/log.ts';
import { codeOf, KaonError } from '../protocol/errors.ts';
import type { FrameworkId, TaskId } from '../protocol/ids.ts';
import { TAIL_MAX_BYTES } from '../protocol/limits.ts';
import { TOKEN_FILE } from './executor-introduction.ts';

/** A sandbox is kept for a week after its task has ended, and at most so many of them. */
const KEEP_MS = 604_800_000;
const KEEP_COUNT = 2000;

/** Which sandbox: each launch of a task has its own. */
export interface SandboxName {
  readonly frameworkId: FrameworkId;
  readonly taskId: TaskId;
  readonly launchId: string;
}

/** Absolute path of a sandbox. Ids hold no slash and do not begin with a dot, so it never leaves `directory`. */
export function sandboxPath(directory: string, name: SandboxName): string {
  const { frameworkId, taskId, launchId } = name;
  return join(directory, 'sandboxes', part(frameworkId), part(taskId), part(launchId));
}

/** Where the sandboxes of an executor's tasks are, and nothing else. */
export function hostedPath(directory: string, executorLaunchId: string): string {
  return join(directory, 'hosted', part(executorLaunchId));
}

/** systemd would take a colon for the end of a path; ids have no comma. */
function part(id: string): string {
  return id.replaceAll(':', ',');
}

/** A sandbox that is there. */
export interface Sandbox {
  /** The working directory of the task. */
  readonly work: string;
  /** Writes a file into it that the task can read and nobody else. @throws the operating system's error */
  readonly write: (path: string, text: string) => void;
}

/** Whose it is: of a user that is known (absent: the agent's own), or of one that systemd makes with the unit. */
export interface SandboxOwner {
  readonly ids?: UserIds;
  /** Everybody may write it then; only root and the task itself find the way to it (`closeSandboxes`). */
  readonly isDynamic: boolean;
}

/** Makes the directory. @throws the operating system's error (`ENOSPC`, ...) */
export function prepareSandbox(sandbox: string, owner: SandboxOwner): Sandbox {
  const work = join(sandbox, 'work');
  makeDirectory(sandbox);
  makeDirectory(work);
  giveTo(work, owner, 0o777);
  return {
    work,
    write: (path, text) => {
      writeReadable(path, text, owner);
    },
  };
}

/**
 * Makes the files for its output: its own, because a program may open its output once more, as /dev/stdout. That they are
 * there also says that its unit may have been started, so it is the last thing before systemd is asked for that.
 *
 * @throws the operating system's error (`ENOSPC`, ...)
 */
export function makeOutputFiles(sandbox: string, owner: SandboxOwner): void {
  for (const name of ['stdout', 'stderr']) {
    const path = join(sandbox, name);
    closeSync(openSync(path, 'a', 0o644));
    giveTo(path, owner, 0o666);
  }
}

function giveTo(path: string, { ids, isDynamic }: SandboxOwner, openMode: number): void {
  if (ids) chownSync(path, ids.uid, ids.gid);
  else if (isDynamic) chmodSync(path, openMode);
}

/** It may have the task's secrets: of other users only the group of the task's own may read it. */
function writeReadable(path: string, text: string, { ids, isDynamic }: SandboxOwner): void {
  writeFileSync(path, text, { mode: isDynamic ? 0o644 : ids ? 0o640 : 0o600 });
  if (ids) chownSync(path, -1, ids.gid);
}

/**
 * Makes the directory for an executor's tasks, if it is not there.
 *
 * @returns its path, see `hostedPath`
 */
export function makeHosted(directory: string, executorLaunchId: string): string {
  const path = hostedPath(directory, executorLaunchId);
  makeDirectory(path);
  return path;
}

/** Puts a link to `target` in the place of a sandbox; does nothing if one is there. */
export function linkSandbox(path: string, target: string): void {
  makeDirectory(dirname(path));
  try {
    symlinkSync(target, path);
  } catch (error) {
    if (codeOf(error) !== 'EEXIST') throw error; // An earlier agent has made it.
  }
}

/** The directory itself: of an executor's task what the link says, else the path. */
export function directoryOf(sandbox: string): string {
  try {
    return readlinkSync(sandbox);
  } catch {
    return sandbox; // It is no link, or not there.
  }
}

/**
 * Makes the directories that sandboxes are in.
 *
 * @param isClosed nobody but root gets into them: a task sees its own without that
 */
export function closeSandboxes(directory: string, isClosed: boolean): void {
  for (const name of ['sandboxes', 'hosted', 'directories']) {
    const path = join(directory, name);
    makeDirectory(path);
    chmodSync(path, isClosed ? 0o700 : 0o711);
  }
}

/** Level by level, because Node's recursive mkdir says ENOENT where the disk has no inode left. */
function makeDirectory(path: string): void {
  try {
    mkdirSync(path, { mode: 0o755 });
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return;
    if (codeOf(error) !== 'ENOENT') throw error;
    makeDirectory(dirname(path));
    mkdirSync(path, { mode: 0o755 });
  }
}

/** A user of the node, by number. */
export interface UserIds {
  readonly uid: number;
  readonly gid: number;
}
const run = promisify(execFile);

/**
 * By `getent`, because users may come from LDAP or systemd-userdbd and not from /etc/passwd.
 *
 * @throws KaonError `user-unknown`
 */
export async function lookUpUser(user: string): Promise<UserIds> {
  try {
    const { stdout } = await run('getent', ['passwd', '--', user]);
    const [, , uid, gid] = stdout.split(':');
    return { uid: Number(uid), gid: Number(gid) };
  } catch (cause) {
    throw new KaonError('user-unknown', `user ${JSON.stringify(user)} does not exist there`, {
      cause,
    });
  }
}

/** Sizes and last bytes of the output of an ended task. */
export interface OutputEnd {
  readonly stdoutBytes: number;
  readonly stderrBytes: number;
  readonly stdoutTail: string;
  readonly stderrTail: string;
}

/**
 * How an output file is opened: an executor that is root could have put a link or a pipe there, and must not make the agent
 * read another file, or wait.
 */
export const OUTPUT_FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

/** Measures the output of a task that has ended, and reads its last bytes; missing files are empty. */
export function readOutputEnd(sandbox: string): OutputEnd {
  const stdout = readTail(join(sandbox, 'stdout'));
  const stderr = readTail(join(sandbox, 'stderr'));
  return {
    stdoutBytes: stdout.bytes,
    stderrBytes: stderr.bytes,
    stdoutTail: stdout.tail,
    stderrTail: stderr.tail,
  };
}

function readTail(path: string): { bytes: number; tail: string } {
  let file: number;
  try {
    file = openSync(path, OUTPUT_FLAGS);
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return { bytes: 0, tail: '' }; // The command was never executed.
    throw error;
  }
  try {
    const stats = fstatSync(file);
    if (!stats.isFile()) return { bytes: 0, tail: '' };
    const { size } = stats;
    const length = Math.min(size, TAIL_MAX_BYTES);
    if (length === 0) return { bytes: 0, tail: '' };
    const buffer = Buffer.alloc(length);
    const read = readSync(file, buffer, 0, length, size - length);
    return { bytes: size, tail: buffer.subarray(0, read).toString('utf8') };
  } finally {
    closeSync(file);
  }
}

/** The newest sandbox of a task on this agent; undefined if there is none. */
export async function findSandbox(
  directory: string,
  frameworkId: FrameworkId,
  taskId: TaskId,
): Promise<string | undefined> {
  const parent = join(directory, 'sandboxes', frameworkId, taskId);
  const launches = await list(parent);
  let newest: { path: string; atMs: number } | undefined;
  for (const name of launches) {
    const path = join(parent, name);
    // An executor may have the id of a task, and its output is not that task's.
    if (existsSync(join(path, TOKEN_FILE))) continue;
    const atMs = await birthOf(path);
    if (atMs === undefined) continue;
    if (!newest || atMs > newest.atMs) newest = { path, atMs };
  }
  return newest?.path;
}

/** @returns undefined of a link to a directory that has been removed */
async function birthOf(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).birthtimeMs;
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/** Removes sandboxes of ended tasks that are too old or too many. `inUse` are never touched. */
export async function collectSandboxes(
  directory: string,
  inUse: ReadonlySet<string>,
  nowMs: number,
  log: Log,
): Promise<void> {
  const root = join(directory, 'sandboxes');
  const found: { path: string; atMs: number }[] = [];
  for (const framework of await list(root)) {
    for (const task of await list(join(root, framework))) {
      for (const launch of await list(join(root, framework, task))) {
        const path = join(root, framework, task, launch);
        if (!inUse.has(path)) found.push({ path, atMs: (await lstat(path)).mtimeMs });
      }
    }
  }
  found.sort((a, b) => b.atMs - a.atMs);
  const old = found.filter(({ atMs }, index) => index >= KEEP_COUNT || nowMs - atMs > KEEP_MS);
  const live = new Set([...inUse].map((path) => basename(path)));
  for (const { path } of old) {
    await removeSandbox(directory, path, live);
    await removeIfEmpty(join(path, '..'));
    await removeIfEmpty(join(path, '..', '..'));
  }
  if (old.length > 0)
    log.info('sandboxes.collected', { removed: old.length, kept: found.length - old.length });
}

/** @param live names of launches that are in use: the directory of a live executor's tasks has to stay */
async function removeSandbox(
  directory: string,
  path: string,
  live: ReadonlySet<string>,
): Promise<void> {
  let executor = basename(path);
  if ((await lstat(path)).isSymbolicLink()) {
    const target = await readlink(path);
    executor = basename(dirname(target));
    // Ours alone are removed, whatever a link says.
    if (dirname(dirname(target)) === join(directory, 'hosted')) {
      await rm(target, { recursive: true, force: true });
    }
  }
  await rm(path, { recursive: true, force: true });
  if (!live.has(executor)) await removeIfEmpty(join(directory, 'hosted', executor));
}

async function removeIfEmpty(path: string): Promise<void> {
  try {
    await rmdir(path);
  } catch (error) {
    if (!EXPECTED_TO_STAY.has(codeOf(error))) throw error;
  }
}

const EXPECTED_TO_STAY: ReadonlySet<string | undefined> = new Set(['ENOTEMPTY', 'ENOENT']);

async function list(path: string): Promise<string[]> {
  try {
    return await readdir(path);
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return [];
    throw error;
  }
}
