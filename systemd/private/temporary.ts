/**
 * The directories that systemd makes for `PrivateTmp=`, as a dynamic user has it: below /tmp and /var/tmp, which are the host's.
 * A systemd that is killed leaves them there; one that is stopped needs seconds for it.
 */
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';

/** Of mountinfo, proc_pid_mountinfo(5): the root of a mount within its file system, the fourth field. */
const MOUNTED_DIRECTORY = /^(?:\S+ ){3}\S*\/(systemd-private-[^/\s]+)\/tmp /gmu;
const PARENTS = ['/tmp', '/var/tmp'];

/** @returns paths on the host of the directories that processes in `proc`, a /proc, have mounted; none if that is gone */
export function findPrivateTemporaries(proc: string): string[] {
  const names = new Set<string>();
  for (const pid of listProcesses(proc)) {
    for (const [, name = ''] of readMounts(join(proc, pid)).matchAll(MOUNTED_DIRECTORY))
      names.add(name);
  }
  return [...names].flatMap((name) => PARENTS.map((parent) => join(parent, name)));
}

function listProcesses(proc: string): string[] {
  try {
    return readdirSync(proc).filter((name) => /^\d+$/.test(name));
  } catch {
    return []; // Its process 1 has ended before.
  }
}

function readMounts(directory: string): string {
  try {
    return readFileSync(join(directory, 'mountinfo'), 'utf8');
  } catch {
    return ''; // The process is gone.
  }
}

/** Removes them, those that are there. */
export function removePrivateTemporaries(paths: readonly string[]): void {
  for (const path of paths) rmSync(path, { recursive: true, force: true });
}
