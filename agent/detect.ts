/**
 * What the node has to give: probes of CPU, memory and the system, the limits of the cgroup that the agent itself is
 * in (a container or a slice may have less than the machine), less what is reserved for the system.
 */
import { readFile } from 'node:fs/promises';
import { arch, hostname, release } from 'node:os';
import { join } from 'node:path';
import si from 'systeminformation';
import { codeOf, KaonError } from '../protocol/errors.ts';
import type { StaticReservation } from '../protocol/reservations.ts';
import type { Resources } from '../protocol/resources.ts';
import {
  fits,
  formatResources,
  isEmpty,
  subtractResources,
  sumResources,
} from '../protocol/resources.ts';
import type { Labels } from '../protocol/fields.ts';

const MIB = 1024 * 1024;
/** What the kernel shows as "no limit" in cgroup v1: the largest multiple of a page. */
const V1_NO_LIMIT_BYTES = 2 ** 60;

/** Kept for the system unless `--reserve` says otherwise: 512 MiB, or a quarter of a small node's memory. */
export const RESERVE_MEM_MIB_DEFAULT = 512;

/** What the probes say of the node. */
export interface NodeFacts {
  /** What there is for this process: the machine's, or less where a cgroup limits it. */
  readonly total: Resources;
  readonly attributes: Labels;
  readonly hostname: string;
}

/**
 * @param systemd what the service manager says of itself
 * @param managerCgroup on cgroup v2, of a user's manager: what limits it limits its tasks, wherever this process is
 */
export async function detectNode(
  systemd: { readonly version: string; readonly cgroupVersion: string },
  managerCgroup?: string,
): Promise<NodeFacts> {
  const [cpu, memory, os, limits] = await Promise.all([
    si.cpu(),
    si.mem(),
    si.osInfo(),
    readCgroupLimits(managerCgroup),
  ]);
  const name = hostname();
  return {
    hostname: name,
    total: {
      cpuMillis: Math.min(cpu.cores * 1000, limits.cpuMillis),
      memMib: Math.floor(Math.min(memory.total, limits.memBytes) / MIB),
    },
    attributes: {
      os: `${os.distro} ${os.release}`.trim() || 'linux',
      kernel: release(),
      arch: arch(),
      hostname: name,
      systemd: systemd.version,
      cgroup: systemd.cgroupVersion,
    },
  };
}

/**
 * What the agent offers: the override, or the node less the reserve.
 *
 * @throws KaonError `no-resources` if nothing would be left
 */
export function resourcesToOffer(
  total: Resources,
  override: Partial<Resources>,
  reserve: Partial<Resources>,
): Resources {
  const kept: Resources = {
    cpuMillis: reserve.cpuMillis ?? 0,
    memMib: reserve.memMib ?? Math.min(RESERVE_MEM_MIB_DEFAULT, Math.floor(total.memMib / 4)),
  };
  const left = subtractResources(total, kept);
  const offered = {
    cpuMillis: override.cpuMillis ?? left.cpuMillis,
    memMib: override.memMib ?? left.memMib,
    // Only its owner knows what else there is.
    ...(override.others && { others: override.others }),
  };
  if (isEmpty(offered) || offered.cpuMillis <= 0 || offered.memMib <= 0) {
    throw new KaonError(
      'no-resources',
      `nothing to offer: the node has ${formatResources(total)}, ${formatResources(kept)} are reserved`,
      { hint: 'lower --reserve, or state --resources' },
    );
  }
  return offered;
}

/**
 * What is kept for roles has to be there.
 *
 * @param offered all that the agent offers
 * @throws KaonError `no-resources` if it is not
 */
export function checkReservations(
  offered: Resources,
  reservations: readonly StaticReservation[],
): void {
  const kept = sumResources(reservations.map(({ resources }) => resources));
  if (fits(kept, offered)) return;
  throw new KaonError(
    'no-resources',
    `cannot keep ${formatResources(kept)} for roles: the agent offers ${formatResources(offered)}`,
    { hint: 'lower --reserve-for or --reserve, or state --resources' },
  );
}

interface CgroupLimits {
  readonly cpuMillis: number;
  readonly memBytes: number;
}

/** The tightest limits from this process's cgroup, and the manager's, up to the root; Infinity where there is none. */
async function readCgroupLimits(managerCgroup: string | undefined): Promise<CgroupLimits> {
  const lines = (await readText('/proc/self/cgroup'))?.trim().split('\n') ?? [];
  if (managerCgroup !== undefined) lines.push(`0::${managerCgroup}`);
  let cpuMillis = Infinity;
  let memBytes = Infinity;
  for (const line of lines) {
    const [, controllers = '', path = '/'] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    for (const directory of ancestors(path)) {
      const limits = await (controllers === ''
        ? readV2(directory)
        : readV1(controllers, directory));
      cpuMillis = Math.min(cpuMillis, limits.cpuMillis);
      memBytes = Math.min(memBytes, limits.memBytes);
    }
  }
  return { cpuMillis, memBytes };
}

/** `/a/b` gives `/a/b`, `/a`, `/`. */
function ancestors(path: string): string[] {
  const parts = path.split('/').filter((part) => part !== '' && part !== '..');
  return parts
    .map((_part, index) => `/${parts.slice(0, parts.length - index).join('/')}`)
    .concat('/');
}

async function readV2(path: string): Promise<CgroupLimits> {
  const directory = join('/sys/fs/cgroup', path);
  const [quota, period] = (await readText(join(directory, 'cpu.max')))?.split(' ') ?? [];
  const memory = Number(await readText(join(directory, 'memory.max')));
  return {
    cpuMillis:
      quota === undefined || quota === 'max' ? Infinity : share(Number(quota), Number(period)),
    memBytes: memory > 0 ? memory : Infinity, // 'max' is not a number.
  };
}

async function readV1(controllers: string, path: string): Promise<CgroupLimits> {
  const names = controllers.split(',');
  const base = '/sys/fs/cgroup';
  if (names.includes('cpu')) {
    const quota = Number(await readText(join(base, 'cpu', path, 'cpu.cfs_quota_us')));
    const period = Number(await readText(join(base, 'cpu', path, 'cpu.cfs_period_us')));
    return { cpuMillis: quota > 0 ? share(quota, period) : Infinity, memBytes: Infinity };
  }
  if (names.includes('memory')) {
    const limit = Number(await readText(join(base, 'memory', path, 'memory.limit_in_bytes')));
    const limited = limit > 0 && limit < V1_NO_LIMIT_BYTES;
    return { cpuMillis: Infinity, memBytes: limited ? limit : Infinity };
  }
  return { cpuMillis: Infinity, memBytes: Infinity };
}

function share(quotaUsec: number, periodUsec: number): number {
  return periodUsec > 0 ? Math.floor((quotaUsec * 1000) / periodUsec) : Infinity;
}

/** @returns undefined where the file is not there, as on another cgroup version */
async function readText(path: string): Promise<string | undefined> {
  try {
    return (await readFile(path, 'utf8')).trim();
  } catch (error) {
    if (['ENOENT', 'ENODEV', 'EOPNOTSUPP', 'ENOTDIR'].includes(codeOf(error) ?? ''))
      return undefined;
    throw error;
  }
}
