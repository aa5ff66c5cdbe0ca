/**
 * A private systemd for one test file, with a `Systemd` that is connected to it from outside.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createSystemd } from '../../systemd/manager.ts';
import type { Systemd } from '../../systemd/port.ts';
import { bootPrivateSystemd, type PrivateSystemd } from '../../systemd/private/boot.ts';

export interface SystemdBed {
  readonly inside: PrivateSystemd;
  readonly systemd: Systemd;
  /** Shared with the inside; gone after `stop`. */
  readonly directory: string;
  /** Runs a command inside and returns what it printed. */
  run(...argv: string[]): string;
  stop(): Promise<void>;
}

/** @param extraUnits unit files that start at boot, see PrivateSystemdOptions */
export async function startSystemdBed(
  extraUnits: Readonly<Record<string, string>> = {},
): Promise<SystemdBed> {
  const directory = mkdtempSync(join(tmpdir(), 'kaon-bed-systemd-'));
  const inside = await bootPrivateSystemd({ stateDir: directory, extraUnits });
  const { busAddress, cgroupRoot } = inside;
  const systemd = createSystemd({ busAddress, cgroupRoot });
  return {
    inside,
    systemd,
    directory,
    run: (...argv) => {
      const [command = '', ...rest] = inside.nsenter(argv);
      return execFileSync(command, rest, { encoding: 'utf8' });
    },
    stop: async () => {
      await systemd.close();
      await inside.stop();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}
