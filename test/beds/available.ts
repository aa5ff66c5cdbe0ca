/**
 * Which test beds this machine can give. A test that cannot run says why in its title, so that a
 * skipped bed is seen and not taken for a passed one.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { privateSystemdReason } from '../../systemd/private/boot.ts';

/** @returns why the bed cannot be had here, as a sentence; undefined if it can */
export function bedReason(bed: 'systemd' | 'redis'): string | undefined {
  if (bed === 'systemd') return privateSystemdReason();
  const directories = (process.env['PATH'] ?? '').split(':');
  if (directories.some((directory) => existsSync(join(directory, 'redis-server'))))
    return undefined;
  return 'redis-server is not in PATH (apt-get install redis-server)';
}
