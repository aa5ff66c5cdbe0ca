/**
 * Sandboxes: one directory a launch, `DIR/sandboxes/FRAMEWORK/TASK/LAUNCH/`, with the output files (owned by the
 * agent, so that a task cannot swap them for links), the script of its command where it has one, and `work/` (owned by the
 * task's user, its working directory).
 * They stay after the task for `kaon logs`, and are removed by age and number.
 */
import { execFile } from 'node:child_process';
import {
  chownSync,
  closeSync,
  existsSync,
  fstatSync,
  mkdirSync,
  openSync,
  readSync,
  writeFileSync,
} from 'node:fs';
import { chown, readdir, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
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
  return join(directory, 'sandboxes', name.frameworkId, name.taskId, name.launchId);
}

/** A sandbox that is there. */
export interface Sandbox {
  /** The working directory of the task. */
  readonly work: string;
  /** Who it belongs to; absent: the agent's own user. */
  readonly ids?: UserIds;
  /** Writes a file into it that the task can read and nobody else. @throws the operating system's error */
  readonly write: (path: string, text: string) => void;
}

/**
 * @throws KaonError `user-unknown`, or the operating system's error (`ENOSPC`, ...)
 */
export async function prepareSandbox(sandbox: string, user: string | undefined): Promise<Sandbox> {
  const work = join(sandbox, 'work');
  makeDirectory(sandbox);
  makeDirectory(work);
  const ids = user === undefined ? undefined : await lookUpUser(user);
  if (ids) await chown(work, ids.uid, ids.gid);
  return {
    work,
    ...(ids && { ids }),
    write: (path, text) => {
      writeReadable(path, text, ids);
    },
  };
}

/** It may have the task's secrets: of other users only the group of the task's own may read it. */
function writeReadable(path: string, text: string, ids: UserIds | undefined): void {
  writeFileSync(path, text, { mode: ids ? 0o640 : 0o600 });
  if (ids) chownSync(path, -1, ids.gid);
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
    file = openSync(path, 'r');
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return { bytes: 0, tail: '' }; // The command was never executed.
    throw error;
  }
  try {
    const { size } = fstatSync(file);
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
    const { birthtimeMs: atMs } = await stat(path);
    if (!newest || atMs > newest.atMs) newest = { path, atMs };
  }
  return newest?.path;
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
        if (!inUse.has(path)) found.push({ path, atMs: (await stat(path)).mtimeMs });
      }
    }
  }
  found.sort((a, b) => b.atMs - a.atMs);
  const old = found.filter(({ atMs }, index) => index >= KEEP_COUNT || nowMs - atMs > KEEP_MS);
  for (const { path } of old) {
    await rm(path, { recursive: true, force: true });
    await removeIfEmpty(join(path, '..'));
    await removeIfEmpty(join(path, '..', '..'));
  }
  if (old.length > 0)
    log.info('sandboxes.collected', { removed: old.length, kept: found.length - old.length });
}

async function removeIfEmpty(path: string): Promise<void> {
  if ((await list(path)).length === 0) await rm(path, { recursive: true, force: true });
}

async function list(path: string): Promise<string[]> {
  try {
    return await readdir(path);
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return [];
    throw error;
  }
}
