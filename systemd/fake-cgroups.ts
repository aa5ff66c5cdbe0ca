/**
 * Limits and task groups of the fake: what is in use is what the test says, and nothing moves by itself.
 */
import { KaonError } from '../protocol/errors.ts';
import { shrinkMarginBytes } from './memory-limit.ts';
import type { CgroupUse, LiveLimits, ResizeResult, TaskGroupOptions } from './port.ts';

const BYTES_PER_MIB = 1_048_576;

/** A task group of the fake. */
export interface FakeTaskGroup {
  readonly options: TaskGroupOptions;
  /** In force. */
  readonly limits: LiveLimits;
  readonly use: CgroupUse;
}

interface Cgroup {
  limits: LiveLimits;
  inUseBytes: number;
}

/** A unit with limits, and the task groups in it. */
export class FakeCgroups {
  private readonly unit: string;
  private readonly own: Cgroup;
  readonly groups = new Map<string, Cgroup & { options: TaskGroupOptions; use: CgroupUse }>();

  constructor(unit: string, { cpuMillis, memoryMib }: LiveLimits) {
    this.unit = unit;
    this.own = { limits: { cpuMillis, memoryMib }, inUseBytes: 0 };
  }

  get limits(): LiveLimits {
    return this.own.limits;
  }

  useMemory(bytes: number): void {
    this.own.inUseBytes = bytes;
  }

  resize(limits: LiveLimits): ResizeResult {
    return resize(this.own, limits);
  }

  openGroup(group: string, options: TaskGroupOptions): { procs: string[] } {
    const known = this.groups.get(group);
    if (known === undefined) {
      const { cpuMillis, memoryMib } = options;
      this.groups.set(group, {
        options,
        limits: { cpuMillis, memoryMib },
        inUseBytes: 0,
        use: { cpuUsec: 0, memoryPeakBytes: 0, oomKills: 0, throttledUsec: 0 },
      });
    } else {
      known.options = options;
      resize(known, options);
    }
    return { procs: [`/sys/fs/cgroup/kaon.slice/${this.unit}/task-${group}/cgroup.procs`] };
  }

  resizeGroup(group: string, limits: LiveLimits): ResizeResult {
    const known = this.groups.get(group);
    return known === undefined
      ? { ok: false, message: `${group} has no cgroup` }
      : resize(known, limits);
  }

  useGroup(group: string, use: CgroupUse & { readonly inUseBytes?: number }): void {
    const known = this.groups.get(group);
    if (known === undefined) throw new Error(`no task group ${group} in ${this.unit}`);
    const { inUseBytes = known.inUseBytes, ...counted } = use;
    Object.assign(known, { inUseBytes, use: { ...known.use, ...counted } });
  }

  closeGroup(group: string): void {
    this.groups.delete(group);
  }
}

/** As `memory-limit.ts` does it for memory that is in use for good, and has just been seen for the first time. */
function resize(cgroup: Cgroup, { cpuMillis, memoryMib }: LiveLimits): ResizeResult {
  const inForceMib = cgroup.limits.memoryMib;
  if (memoryMib >= inForceMib) {
    cgroup.limits = { cpuMillis, memoryMib };
    return { ok: true, memoryMib };
  }
  const { inUseBytes } = cgroup;
  const marginMib = shrinkMarginBytes(memoryMib * BYTES_PER_MIB) / BYTES_PER_MIB;
  const neededMib = inUseBytes / BYTES_PER_MIB + marginMib;
  const partialMib =
    Math.ceil(neededMib) + marginMib <= inForceMib ? Math.ceil(neededMib) : inForceMib;
  const loweredMib = neededMib <= memoryMib ? memoryMib : partialMib;
  cgroup.limits = { cpuMillis, memoryMib: loweredMib };
  return { ok: true, memoryMib: loweredMib, inUseBytes };
}

/** @returns what `openTaskGroup` throws */
export function taskGroupUnavailable(unit: string, group: string, reason: string): KaonError {
  return new KaonError(
    'task-cgroup-unavailable',
    `no cgroup of its own for ${group} in ${unit}: ${reason}`,
  );
}
