/**
 * Which test beds this machine can give. A test that cannot run says why in its title, so that a
 * skipped bed is seen and not taken for a passed one.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { privateSystemdReason } from '../../systemd/private/boot.ts';

/** @returns why the bed cannot be had here, as a sentence; undefined if it can */
export function bedReason(bed: 'systemd' | 'redis' | 'redis-tls'): string | undefined {
  if (bed === 'systemd') return privateSystemdReason();
  for (const program of bed === 'redis' ? ['redis-server'] : ['redis-server', 'openssl']) {
    if (!isInPath(program)) return `${program} is not in PATH (apt-get install ${program})`;
  }
  return undefined;
}

function isInPath(program: string): boolean {
  const directories = (process.env['PATH'] ?? '').split(':');
  return directories.some((directory) => existsSync(join(directory, program)));
}
