/**
 * What Kaon does to cgroupfs itself, beside systemd: reads, writes of limits, directories for tasks. An interface, because the
 * order of these steps matters and is tested against a kernel that is made up.
 */
import {
  chownSync,
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  statSync,
  writeSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { codeOf } from '../protocol/errors.ts';
import { removeTree } from './private/cgroups.ts';

/** Paths are absolute. Where nothing else is said, failures are thrown as `node:fs` throws them. */
export interface CgroupFs {
  /** Content of a file of the kernel's; undefined if there is no such cgroup or file. */
  read(path: string): string | undefined;
  /** One write of what the kernel does at once; never makes a file. */
  write(path: string, text: string): void;
  /** The same off the event loop, for what makes the kernel reclaim memory: that takes as long as it takes. */
  writeSlowly(path: string, text: string): Promise<void>;
  exists(path: string): boolean;
  /** Same for two paths of one directory: several controllers may share a hierarchy. */
  identity(path: string): string;
  makeDirectory(path: string): void;
  /** Names of the cgroups below; none if it is gone. */
  children(path: string): string[];
  /** Removes a cgroup and those below it. @returns false if something in it still lives */
  removeTree(path: string): boolean;
  changeOwner(path: string, uid: number, gid: number): void;
  /** SIGKILL; a process that is gone is no error. */
  kill(pid: number): void;
}

/** The kernel's own. */
export const KERNEL_CGROUPS: CgroupFs = {
  read: (path) => {
    try {
      return readFileSync(path, 'utf8');
    } catch {
      // No such cgroup, controller or kernel feature, or it went between open and read (ENODEV): not known.
      return undefined;
    }
  },
  write: (path, text) => {
    const file = openSync(path, constants.O_WRONLY);
    try {
      writeSync(file, text);
    } finally {
      closeSync(file);
    }
  },
  writeSlowly: async (path, text) => {
    const file = await open(path, constants.O_WRONLY);
    try {
      await file.write(text);
    } finally {
      await file.close();
    }
  },
  exists: existsSync,
  identity: (path) => {
    const { dev, ino } = statSync(path);
    return `${dev}:${ino}`;
  },
  makeDirectory: (path) => mkdirSync(path),
  children: (path) => {
    try {
      const entries = readdirSync(path, { withFileTypes: true });
      return entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
    } catch (error) {
      if (isGoneError(error)) return [];
      throw error;
    }
  },
  removeTree,
  changeOwner: (path, uid, gid) => chownSync(path, uid, gid),
  kill: (pid) => {
    try {
      process.kill(pid, 'SIGKILL');
    } catch (error) {
      if (codeOf(error) !== 'ESRCH') throw error;
    }
  },
};

/** Whether a file operation failed because the cgroup is not there (any more). */
export function isGoneError(error: unknown): boolean {
  const code = codeOf(error);
  return code === 'ENOENT' || code === 'ENODEV';
}

/** Process ids in a cgroup and those below it; those that cannot be seen from here (another PID namespace) are left out. */
export function processesIn(fs: CgroupFs, directory: string): number[] {
  const own = (fs.read(join(directory, 'cgroup.procs')) ?? '').split('\n').map(Number);
  const below = fs.children(directory).flatMap((name) => processesIn(fs, join(directory, name)));
  return [...own.filter((pid) => pid > 0), ...below];
}
