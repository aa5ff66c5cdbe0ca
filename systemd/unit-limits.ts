/**
 * Limits of running units: the kernel first, and then systemd.
 *
 * First the kernel, so that a limit is in force at once, and that a refusal is known before systemd believes the opposite.
 * Then systemd, because it writes what it knows again with every reload. A crash of ours between the two leaves what systemd
 * knows, until the next call for the unit: callers ask again for what they want whenever they begin anew.
 */
import { join } from 'node:path';
import { codeOf, messageOf } from '../protocol/errors.ts';
import { busErrorName } from './bus-connection.ts';
import { isGoneError, type CgroupFs } from './cgroup-fs.ts';
import type { CgroupVersion } from './cgroup-use.ts';
import { hasQuota, writeQuota } from './cpu-limit.ts';
import type { MemoryLimits } from './memory-limit.ts';
import { sliceCgroup, taskSliceName } from './names.ts';
import type { LiveLimits, ResizeResult } from './port.ts';
import { cpuProperties, memoryProperty, type UnitProperty } from './properties.ts';
import { isNoSuchUnit, isOutcomeUnknown } from './systemd-calls.ts';
import type { SystemdLink } from './systemd-link.ts';

const BYTES_PER_MIB = 1_048_576;
const IN_FORCE_LOOK_MS = 1;
const IN_FORCE_LOOKS_MAX = 1_000;

/** What a change of limits is made with. */
export interface UnitLimitsOptions {
  readonly fs: CgroupFs;
  readonly root: string;
  readonly version: CgroupVersion;
  readonly memory: MemoryLimits;
  readonly link: Pick<SystemdLink, 'persist' | 'calls'>;
  /** CPU limits can be set; without them only memory is changed. Default true. */
  readonly hasCpu?: boolean;
}

/** The cgroups of a unit that have its limits. */
interface UnitPlace {
  readonly slice: string;
  readonly unit: string;
  readonly cpu: string;
  /** Outermost first: the slice, and a service that was given a limit of its own, as `transientUnit` does not any more. */
  readonly memory: readonly string[];
}

/** Changes limits of units; one call for a unit at a time, the caller sees to that. */
export interface UnitLimits {
  resize(slice: string, unit: string, limits: LiveLimits): Promise<ResizeResult>;
  /** The unit that had this slice for itself has been released. */
  forget(taskSlice: string): void;
}

/** @param options where the cgroups are, and the connection to systemd */
export function createUnitLimits(options: UnitLimitsOptions): UnitLimits {
  const { fs, version, memory, hasCpu = true } = options;

  const change = async (place: UnitPlace, limits: LiveLimits): Promise<ResizeResult> => {
    const { cpuMillis, memoryMib } = limits;
    if (hasCpu) writeQuota(fs, place.cpu, { version, cpuMillis });
    const outcome = await memory.set(place.memory, memoryMib * BYTES_PER_MIB);
    if (outcome === undefined) return goneResult(place.unit);
    const { limitBytes, inUseBytes } = outcome;
    const inForce = { cpuMillis, memoryMib: Math.floor(limitBytes / BYTES_PER_MIB) };
    await tellSystemd(options, place, inForce);
    const isInForce = await untilTrue(
      () =>
        (!hasCpu || hasQuota(fs, place.cpu, { version, cpuMillis })) &&
        memory.isInForce(place.memory, limitBytes),
    );
    if (!fs.exists(place.cpu)) return goneResult(place.unit);
    if (!isInForce) {
      return { ok: false, message: `${place.unit}: something else changes its limits as well` };
    }
    const inUse = inUseBytes === undefined ? {} : { inUseBytes };
    return { ok: true, memoryMib: inForce.memoryMib, ...inUse };
  };

  return {
    forget: (taskSlice) => memory.forget(placeOf(options, taskSlice, '').memory[0] ?? ''),
    resize: async (slice, unit, limits) => {
      try {
        return await change(placeOf(options, taskSliceName(slice, unit), unit), limits);
      } catch (error) {
        if (isGoneError(error) || isNoSuchUnit(error)) return goneResult(unit);
        // The quota of a task group is greater, or systemd has refused a value.
        const isRefusal = codeOf(error) === 'EINVAL' || busErrorName(error) !== undefined;
        if (!isRefusal || isOutcomeUnknown(error)) throw error;
        return { ok: false, message: `limits of ${unit} were refused: ${messageOf(error)}` };
      }
    },
  };
}

/** Of a unit that is in a slice for itself, as `transientUnit` makes it. */
function placeOf({ fs, root, version }: UnitLimitsOptions, slice: string, unit: string): UnitPlace {
  const group = sliceCgroup(slice);
  if (version === 'v1') {
    return { slice, unit, cpu: join(root, 'cpu', group), memory: [join(root, 'memory', group)] };
  }
  const directory = join(root, group);
  const service = join(directory, unit);
  const isLimited = (fs.read(join(service, 'memory.max'))?.trim() ?? 'max') !== 'max';
  return { slice, unit, cpu: directory, memory: isLimited ? [directory, service] : [directory] };
}

/** systemd writes the values that it is told once more; they are in force already, so order does not matter here. */
async function tellSystemd(
  { fs, link, hasCpu = true }: UnitLimitsOptions,
  place: UnitPlace,
  { cpuMillis, memoryMib }: LiveLimits,
): Promise<void> {
  const memory = memoryProperty(memoryMib);
  const tell = async (unit: string, properties: readonly UnitProperty[]): Promise<void> => {
    // A slice that is gone would be made anew by the call, with files of its limits that nobody removes.
    if (fs.exists(place.cpu)) await link.calls.setProperties(unit, properties);
  };
  await link.persist(async () => {
    const cpu = hasCpu ? cpuProperties(cpuMillis) : [];
    const slice = tell(place.slice, [...cpu, memory]);
    const services = place.memory.slice(1).filter((directory) => fs.exists(directory));
    await Promise.all([slice, ...services.map(() => tell(place.unit, [memory]))]);
  });
}

function goneResult(unit: string): ResizeResult {
  return { ok: false, message: `${unit} is gone, or has no cgroup with limits on this node` };
}

/** systemd answers before it writes, and a reload just before may have put back what it knew. */
async function untilTrue(holds: () => boolean): Promise<boolean> {
  for (let look = 0; look < IN_FORCE_LOOKS_MAX; look += 1) {
    if (holds()) return true;
    await new Promise((resolve) => setTimeout(resolve, IN_FORCE_LOOK_MS));
  }
  return holds();
}
