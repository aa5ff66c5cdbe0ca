/**
 * Whether a private systemd can run on this machine, and if not, what to do about it.
 */
import { accessSync, constants, existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { listHierarchies } from './cgroups.ts';

const SYSTEMD_PATHS = ['/lib/systemd/systemd', '/usr/lib/systemd/systemd'];
const TOOLS = ['unshare', 'setpriv', 'nsenter', 'mount', 'dbus-daemon'];

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
  if (missing.length > 0)
    return `not in PATH: ${missing.join(', ')} (apt-get install util-linux mount dbus)`;
  if (listHierarchies().length === 0) return 'no cgroup hierarchy is mounted at /sys/fs/cgroup';
  const readOnly = listHierarchies().find((hierarchy) => !isWritable(hierarchy.ownDirectory));
  if (readOnly !== undefined)
    return `${readOnly.ownDirectory} is not writable (in a container: run it --privileged)`;
  return undefined;
}

/** Path of the systemd binary; undefined if it is not installed. */
export function findSystemd(): string | undefined {
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
