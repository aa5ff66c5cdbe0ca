/**
 * The end of cgroups of ours: what is in them is killed, and they are removed.
 */
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { KaonError } from '../protocol/errors.ts';
import { isGoneError, processesIn, type CgroupFs } from './cgroup-fs.ts';

const LOOK_MIN_MS = 1;
const LOOK_MAX_MS = 50;
const TIMEOUT_MS = 10_000;

/**
 * SIGKILLs what is in cgroups and below them, and removes them; those that are not there are done already.
 *
 * @param what names them for people
 * @throws KaonError `task-group-stuck` if something in them does not end
 */
export async function endCgroups(
  fs: CgroupFs,
  directories: readonly string[],
  what: string,
): Promise<void> {
  // Most have nothing in them any more, and are gone with one call.
  const remove = (left: readonly string[]): string[] =>
    left.filter((directory) => !fs.removeTree(directory));
  let left = remove([...new Set(directories)].filter((directory) => fs.exists(directory)));
  let waitMs = LOOK_MIN_MS;
  for (let waitedMs = 0; left.length > 0; waitedMs += waitMs) {
    killAll(fs, left);
    left = remove(left);
    if (left.length === 0) return;
    if (waitedMs > TIMEOUT_MS) {
      const where = left.join(', ');
      throw new KaonError('task-group-stuck', `${what}: processes in ${where} do not end`);
    }
    // The kernel needs a moment after the last process before it lets a cgroup go.
    await pause(waitMs);
    waitMs = Math.min(waitMs * 2, LOOK_MAX_MS);
  }
}

function killAll(fs: CgroupFs, directories: readonly string[]): void {
  for (const directory of directories) {
    // Since Linux 5.14, and on v2 alone, the kernel kills all at once. Else one by one, which forks would outrun: so none.
    if (!writeIfThere(fs, join(directory, 'cgroup.kill'), '1')) {
      writeIfThere(fs, join(directory, 'pids.max'), '0');
    }
  }
  // In v1 a process may have joined the group in one hierarchy and not yet in the next.
  const pids = new Set(directories.flatMap((directory) => processesIn(fs, directory)));
  for (const pid of pids) fs.kill(pid);
}

/** @returns false if there is no such file */
function writeIfThere(fs: CgroupFs, file: string, text: string): boolean {
  try {
    fs.write(file, text);
    return true;
  } catch (error) {
    if (isGoneError(error)) return false;
    throw error;
  }
}
