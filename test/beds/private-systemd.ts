/**
 * A private systemd for one test file, with a `Systemd` that is connected to it from outside.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { detectCgroupVersion } from '../../systemd/cgroup-use.ts';
import { createSystemd } from '../../systemd/manager.ts';
import { sliceCgroup, taskSliceName } from '../../systemd/names.ts';
import type { Systemd } from '../../systemd/port.ts';
import { bootPrivateSystemd, type PrivateSystemd } from '../../systemd/private/boot.ts';

const BYTES_PER_MIB = 1_048_576;

export interface SystemdBed {
  readonly inside: PrivateSystemd;
  readonly systemd: Systemd;
  /** Shared with the inside; gone after `stop`. */
  readonly directory: string;
  /** Runs a command inside and returns what it printed. */
  run(...argv: string[]): string;
  /** The limits of a unit that the kernel has in force, and the most that it may use. */
  limitsOf(slice: string, unit: string): { readonly quotaUsec: number; readonly memoryMib: number };
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
  const read = (...path: string[]): string =>
    readFileSync(join(cgroupRoot, ...path), 'utf8').trim();
  return {
    inside,
    systemd,
    directory,
    limitsOf: (slice, unit) => {
      const group = sliceCgroup(taskSliceName(slice, unit));
      if (detectCgroupVersion(cgroupRoot) === 'v1') {
        return {
          quotaUsec: Number(read('cpu', group, 'cpu.cfs_quota_us')),
          memoryMib: Number(read('memory', group, 'memory.limit_in_bytes')) / BYTES_PER_MIB,
        };
      }
      const limits = [read(group, 'memory.max'), read(group, unit, 'memory.max')]
        .filter((limit) => limit !== 'max')
        .map(Number);
      return {
        quotaUsec: Number(read(group, 'cpu.max').split(' ')[0]),
        memoryMib: Math.min(...limits) / BYTES_PER_MIB,
      };
    },
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
