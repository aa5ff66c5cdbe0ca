/**
 * `Systemd` over D-Bus: translates and waits, and decides nothing about tasks.
 *
 * systemd and the bus daemon may restart at any time (`systemd-link.ts`). A start whose fate is
 * unknown is looked up by its name, which is why names must be unique per launch.
 */
import { codeOf, KaonError, messageOf } from '../protocol/errors.ts';
import type { BusLog } from './bus.ts';
import { detectCgroupVersion, readCgroupUse, type CgroupVersion } from './cgroup-use.ts';
import type { JobResult } from './jobs.ts';
import { createLiveCgroups, type LiveCgroups } from './live-cgroups.ts';
import { isTaskSlice, sliceCgroup, taskSliceName } from './names.ts';
import { createFenceKeeper, type FenceKeeper } from './fences.ts';
import type {
  ActiveState,
  CgroupUse,
  FenceStatus,
  StartResult,
  Systemd,
  SystemdConnection,
  UnitRow,
  UnitStatus,
} from './port.ts';
import {
  isExecFailure,
  keeperUnit,
  knownTo,
  transientUnit,
  type TransientUnit,
  type UnitSpec,
} from './properties.ts';
import { SWEEP_MS, sweepSlices } from './slice-sweep.ts';
import { createSlots, type Slots } from './slots.ts';
import {
  isNoSuchUnit,
  isOutcomeUnknown,
  isUnitExists,
  type SystemdCalls,
} from './systemd-calls.ts';
import { SystemdLink } from './systemd-link.ts';
import { ENDED_PROPERTIES, START_TIMED_OUT, STATUS_PROPERTIES, unitStatus } from './unit-status.ts';
import { unitOfUser, type ManagerOfUser } from './user-units.ts';
import { liveWithoutLimits } from './without-limits.ts';

const SYSTEM_BUS_ADDRESS = 'unix:path=/run/dbus/system_bus_socket';
const CGROUP_ROOT = '/sys/fs/cgroup';
const STARTS_IN_FLIGHT_MAX = 8;
/** Without a bound, as many starts that hang would keep a node from starting anything. */
const SLOT_HELD_MS = 10_000;
const RELEASE_LOOK_MS = 2;
const RELEASE_LOOKS_MAX = 500;

/** Where systemd is; every part has a default. */
export interface SystemdOptions {
  /** Default: the system bus. */
  readonly busAddress?: string;
  /** Where cgroupfs is mounted, as seen from this process. Default `/sys/fs/cgroup`. */
  readonly cgroupRoot?: string;
  /** Starts under way at the same time; more only makes each of them slower. Default 8. */
  readonly maxStartsInFlight?: number;
  /** A start that hangs keeps others waiting no longer than this, milliseconds. Default 10 000. */
  readonly slotHeldMs?: number;
  /** How often slices that nothing needs are stopped. Default 10 000. */
  readonly sweepMs?: number;
  /** It is the manager of a user and not the system's; see `readUserManager` and `delegatedControllers`. */
  readonly ofUser?: ManagerOfUser;
  readonly log?: BusLog;
}

/** Starts to connect and returns at once; calls made before it is up wait for it. */
export function createSystemd(options: SystemdOptions = {}): Systemd {
  return new SystemdManager(options);
}

class SystemdManager implements Systemd {
  private readonly link: SystemdLink;
  private readonly calls: SystemdCalls;
  private readonly starts: Slots;
  private readonly log: BusLog | undefined;
  private readonly cgroupRoot: string;
  private readonly cgroupVersion: CgroupVersion;
  private readonly fences: FenceKeeper;
  private readonly live: LiveCgroups;
  private readonly sweepMs: number;
  private readonly slotHeldMs: number;
  private readonly ofUser: SystemdOptions['ofUser'];
  /** Asked for once: what a newer systemd knows can wait for a newer agent process. */
  private version: number | undefined;
  private sweepTimer: NodeJS.Timeout | undefined;
  private readonly unitListeners: ((name: string, ended?: UnitStatus) => void)[] = [];
  private readonly connectionListeners: ((state: SystemdConnection) => void)[] = [];
  /** Slices of units that were started or read here; spares questions. */
  private readonly sliceOf = new Map<string, string>();
  /** Units that are being released: their changes are our own doing. */
  private readonly releasing = new Set<string>();

  readonly resizeUnit: Systemd['resizeUnit'];
  readonly openTaskGroup: Systemd['openTaskGroup'];
  readonly resizeTaskGroup: Systemd['resizeTaskGroup'];
  readonly readTaskGroup: Systemd['readTaskGroup'];
  readonly closeTaskGroup: Systemd['closeTaskGroup'];

  constructor(options: SystemdOptions) {
    const log = options.log === undefined ? {} : { log: options.log };
    this.cgroupRoot = options.cgroupRoot ?? CGROUP_ROOT;
    this.cgroupVersion = detectCgroupVersion(this.cgroupRoot);
    this.starts = createSlots(options.maxStartsInFlight ?? STARTS_IN_FLIGHT_MAX);
    const link = new SystemdLink({
      busAddress: options.busAddress ?? SYSTEM_BUS_ADDRESS,
      onEnded: (name, changed) => this.announceUnit(name, changed),
      onConnection: (state) => this.connectionListeners.forEach((listener) => listener(state)),
      ...log,
    });
    this.link = link;
    this.calls = link.calls;
    this.fences = createFenceKeeper(link);
    this.ofUser = options.ofUser;
    this.live = this.openLive();
    this.resizeUnit = this.live.resizeUnit;
    this.openTaskGroup = this.live.openTaskGroup;
    this.resizeTaskGroup = this.live.resizeTaskGroup;
    this.readTaskGroup = this.live.readTaskGroup;
    this.closeTaskGroup = this.live.closeTaskGroup;
    this.sweepMs = options.sweepMs ?? SWEEP_MS;
    this.slotHeldMs = options.slotHeldMs ?? SLOT_HELD_MS;
    this.log = options.log;
  }

  readonly sweepSlices = (patterns: readonly string[]): void => {
    const { link } = this;
    const sweep = {
      patterns,
      systemd: link.calls,
      stop: (slice: string) => link.runJob(slice, () => link.calls.stopUnit(slice)),
      withoutStarts: this.starts.alone,
      ...(this.log === undefined ? {} : { log: this.log }),
    };
    clearInterval(this.sweepTimer);
    this.sweepTimer = setInterval(() => void sweepSlices(sweep), this.sweepMs);
    this.sweepTimer.unref();
  };

  readonly startUnit = async (spec: UnitSpec): Promise<StartResult> => {
    const leave = await this.starts.enter();
    let late: NodeJS.Timeout | undefined;
    // From here on its unit is loaded, and its slice required: no sweep will take it.
    const onQueued = (): void => {
      clearTimeout(late);
      late = setTimeout(leave, this.slotHeldMs);
    };
    try {
      this.sliceOf.set(spec.name, taskSliceName(spec.slice, spec.name));
      const version = (this.version ??= Number((await this.describe()).version));
      const unit = knownTo(version, transientUnit(spec, this.cgroupVersion));
      const job = await this.queueStart(this.unitOf(unit), onQueued);
      if (typeof job === 'object') {
        this.sliceOf.delete(spec.name);
        return { ok: false, kind: 'refused', message: job.refused };
      }
      return job === 'done' ? { ok: true } : await this.concludeStart(spec.name, job);
    } finally {
      clearTimeout(late);
      leave();
    }
  };

  readonly killUnit = async (name: string, signal: number): Promise<boolean> => {
    const kill = (): Promise<void> => this.link.persist(() => this.calls.killUnit(name, signal));
    return !(await isGone(kill));
  };

  readonly releaseUnit = async (name: string): Promise<void> => {
    this.releasing.add(name);
    try {
      await this.live.inTurn(name, () => this.stopAndReset(name));
    } finally {
      this.releasing.delete(name);
      this.sliceOf.delete(name);
    }
  };

  readonly listUnits = async (pattern: string): Promise<UnitRow[]> => {
    const listed = await this.link.persist(() => this.calls.listByPatterns(pattern));
    return listed
      .map(({ name, activeState, subState }) => ({
        name,
        activeState: activeState as ActiveState,
        subState,
      }))
      .sort((a, b) => (a.name < b.name ? -1 : 1));
  };

  readonly readUnit = async (name: string): Promise<UnitStatus | undefined> => {
    const [row, properties, invocationId, leftActive] = await this.link.persist(() =>
      Promise.all([
        this.calls.listByName(name),
        this.calls.serviceProperties(name, STATUS_PROPERTIES),
        this.calls.unitProperty(name, 'InvocationID'),
        this.calls.unitProperty(name, 'ActiveExitTimestamp'),
      ]),
    );
    if (row === undefined) return undefined;
    const slice = String(properties.get('Slice') ?? '');
    this.sliceOf.set(name, slice);
    const ownGroup = String(properties.get('ControlGroup') ?? '');
    const controlGroup = isTaskSlice(slice, name) ? this.cgroupOf(slice) : ownGroup;
    const use = controlGroup === '' ? {} : this.readUse(controlGroup);
    return unitStatus({ row, properties, invocationId, leftActive, controlGroup, use });
  };

  readonly readJournalFields = async (
    name: string,
  ): Promise<Readonly<Record<string, string>> | undefined> => {
    const [row, fields] = await this.link.persist(() =>
      Promise.all([
        this.calls.listByName(name),
        this.calls.serviceProperty(name, 'LogExtraFields') as Promise<readonly Uint8Array[]>,
      ]),
    );
    if (row === undefined) return undefined;
    const texts = fields.map((field) => Buffer.from(field).toString());
    return Object.fromEntries(
      texts.map((text) => [text.slice(0, text.indexOf('=')), text.slice(text.indexOf('=') + 1)]),
    );
  };

  readonly armFence = (name: string, afterMs: number): Promise<void> =>
    this.fences.arm(name, afterMs);

  readonly readFence = (name: string): Promise<FenceStatus> => this.fences.read(name);

  readonly removeFence = (name: string): Promise<void> => this.fences.remove(name);

  readonly ensureKeeper = async (name: string, slice: string): Promise<void> => {
    const row = await this.link.persist(() => this.calls.listByName(name));
    if (row?.activeState === 'active' || row?.activeState === 'activating') return;
    if (row !== undefined) await this.releaseUnit(name);
    const job = await this.queueStart(this.unitOf(keeperUnit(name, slice)));
    if (job === 'done') return;
    const now = await this.link.persist(() => this.calls.listByName(name));
    if (now?.activeState === 'active') return;
    const why = typeof job === 'object' ? job.refused : `job ${job}`;
    throw new KaonError('keeper-failed', `keeper ${name} did not start: ${why}`);
  };

  readonly describe = async (): Promise<{ version: string; cgroupVersion: CgroupVersion }> => {
    const version = await this.link.persist(() => this.calls.version());
    return { version: /\d+/.exec(version)?.[0] ?? version, cgroupVersion: this.cgroupVersion };
  };

  readonly countOomKills = (slice: string, name: string): number =>
    this.readUse(this.cgroupOf(taskSliceName(slice, name))).oomKills ?? 0;

  readonly onUnitChanged = (listener: (name: string, ended?: UnitStatus) => void): void => {
    this.unitListeners.push(listener);
  };

  readonly onConnection = (listener: (state: SystemdConnection) => void): void => {
    this.connectionListeners.push(listener);
  };

  readonly close = (): Promise<void> => {
    clearInterval(this.sweepTimer);
    this.link.close();
    return Promise.resolve();
  };

  private announceUnit(name: string, changed: ReadonlyMap<string, unknown>): void {
    if (!name.startsWith('kaon-') || this.releasing.has(name)) return;
    const ended = this.endedStatus(name, changed);
    for (const listener of this.unitListeners) listener(name, ended);
  }

  /** What the signal of the main process's end says, as `readUnit` would; undefined if that takes asking. */
  private endedStatus(name: string, changed: ReadonlyMap<string, unknown>): UnitStatus | undefined {
    const slice = this.sliceOf.get(name);
    if (slice === undefined || !ENDED_PROPERTIES.every((property) => changed.has(property))) {
      return undefined;
    }
    // Only the unit itself tells whether it is the time to start that has run out.
    if (changed.get('Result') === 'timeout') return undefined;
    const row = {
      name,
      loadState: 'loaded',
      activeState: 'active',
      subState: 'exited',
      jobPath: undefined,
    };
    const controlGroup = this.cgroupOf(slice);
    const use = this.readUse(controlGroup);
    const unasked = { invocationId: undefined, leftActive: undefined };
    return unitStatus({ row, properties: changed, ...unasked, controlGroup, use });
  }

  /** Cgroup path of a slice, from where cgroupfs is mounted. */
  private cgroupOf(slice: string): string {
    return `${this.ofUser?.controlGroup ?? ''}${sliceCgroup(slice)}`;
  }

  /** As this manager can start it. */
  private unitOf(unit: TransientUnit): TransientUnit {
    return this.ofUser === undefined ? unit : unitOfUser(unit, this.ofUser);
  }

  private openLive(): LiveCgroups {
    const { cgroupVersion: version, link, ofUser } = this;
    if (ofUser?.held.length === 0) return liveWithoutLimits();
    const root = `${this.cgroupRoot}${ofUser?.controlGroup ?? ''}`;
    const hasCpu = ofUser?.held.includes('cpu') ?? true;
    return createLiveCgroups({ root, version, link, hasCpu });
  }

  private readUse(controlGroup: string): CgroupUse {
    return readCgroupUse(this.cgroupRoot, this.cgroupVersion, controlGroup);
  }

  /** @returns how the start job ended, or why systemd would not take the unit */
  private async queueStart(
    unit: TransientUnit,
    onQueued?: () => void,
  ): Promise<JobResult | { refused: string }> {
    let isRepeated = false;
    const queue = async (): Promise<string> => {
      try {
        const jobPath = await this.calls.startTransient(unit);
        onQueued?.();
        return jobPath;
      } catch (error) {
        isRepeated ||= isOutcomeUnknown(error);
        throw error;
      }
    };
    try {
      return await this.link.persist(() => this.link.runJob(unit.name, queue));
    } catch (error) {
      // The answer to an earlier try was lost, and that try had succeeded: the name is ours alone.
      if (isRepeated && isUnitExists(error)) return this.link.watchJob(unit.name);
      // Systemd was not there for long, or this side has ended: an earlier try may have succeeded all the same.
      if (isOutcomeUnknown(error) || codeOf(error) === 'systemd-unreachable') throw error;
      return { refused: messageOf(error) };
    }
  }

  /** The start job failed, or nobody knows: the unit itself tells. */
  private async concludeStart(name: string, job: JobResult): Promise<StartResult> {
    const status = await this.readUnit(name);
    if (status !== undefined && hasStarted(status)) return { ok: true };
    await this.releaseUnit(name);
    const how =
      status === undefined ? 'it is gone' : `${status.result}, exit status ${status.exitStatus}`;
    const message =
      status?.result === START_TIMED_OUT
        ? 'its command had not begun in the time that a start may take'
        : `start of ${name} failed: job ${job}, ${how}`;
    return { ok: false, kind: 'job', message, ...(status === undefined ? {} : { status }) };
  }

  private async stopAndReset(name: string): Promise<void> {
    const { link, calls } = this;
    const slice =
      this.sliceOf.get(name) ??
      String(await link.persist(() => calls.serviceProperty(name, 'Slice')));
    // Stopping a slice stops what is in it first, and the service's failure, if any, stays until it is reset:
    // so a release that is cut off half-way can be found and repeated.
    const isOwn = isTaskSlice(slice, name);
    const target = isOwn ? slice : name;
    await isGone(() => link.persist(() => link.runJob(target, () => calls.stopUnit(target))));
    for (let look = 0; look < RELEASE_LOOKS_MAX; look += 1) {
      if (await isGone(() => link.persist(() => calls.resetFailed(name)))) {
        if (isOwn) await this.live.release(slice);
        return;
      }
      await new Promise((resolve) => setTimeout(resolve, RELEASE_LOOK_MS));
    }
    throw new KaonError('unit-stuck', `${name} was stopped but stays loaded`);
  }
}

/** Whether the main process was executed: systemd's own exit codes mean that it was not, and so does a late start. */
function hasStarted({ activeState, result, exitStatus }: UnitStatus): boolean {
  if (result === START_TIMED_OUT) return false;
  if (activeState === 'active' || activeState === 'deactivating') return true;
  if (activeState !== 'failed') return false;
  return result !== 'exit-code' || !isExecFailure(exitStatus);
}

/** Makes the call; true if it failed because the unit is not loaded. */
async function isGone(call: () => Promise<unknown>): Promise<boolean> {
  try {
    await call();
    return false;
  } catch (error) {
    if (isNoSuchUnit(error)) return true;
    throw error;
  }
}
