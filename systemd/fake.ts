/**
 * `Systemd` in memory, with processes that end when the test says so. No clocks, no I/O, no randomness.
 *
 * It keeps the promises of the port that the contract suite checks against the real thing; it does
 * not imitate systemd beyond them.
 */
import { FakeCgroups, taskGroupUnavailable, type FakeTaskGroup } from './fake-cgroups.ts';
import type {
  CgroupUse,
  FenceStatus,
  LiveLimits,
  ResizeResult,
  StartResult,
  Systemd,
  SystemdConnection,
  TaskGroupOptions,
  UnitRow,
  UnitStatus,
} from './port.ts';
import { endedStatus, runningStatus, type FakeEnd } from './fake-status.ts';
import type { UnitSpec } from './properties.ts';

export { oomEnd, type FakeEnd } from './fake-status.ts';

const SIGTERM = 15;

/** What a started unit does; without any of it, it runs until it is killed, released or finished. */
export interface FakeProgram {
  /** It never gets to exec: systemd's exit status, e.g. 203 (no such command) or 217 (no such user). */
  readonly failsWith?: number;
  /** It ends by itself, right after its start has been reported. */
  readonly ends?: FakeEnd;
  readonly ignoresSigterm?: boolean;
}

/** How programs behave in the fake, and its clock. */
export interface FakeSystemdOptions {
  /** What the command of a unit does. Default: runs on. */
  readonly program?: (spec: UnitSpec) => FakeProgram;
  /** Default: a clock that stands at 0. */
  readonly nowMs?: () => number;
  /** Why this node has no cgroups for tasks. Default: it has them. */
  readonly noTaskGroups?: string;
}

/** The port, and what a test does to the processes behind it. */
export interface FakeSystemd extends Systemd {
  /** Ends the main process of a running unit. */
  finish(name: string, end: FakeEnd): void;
  /** Loses the connection: calls wait, changes go unannounced. */
  disconnect(): void;
  /** Restores it, announces `up`, and lets the waiting calls go on. */
  reconnect(): void;
  /** The timer of a fence elapses: every unit behind it is stopped. */
  fireFence(name: string): void;
  /** How often the timer of a fence was set. */
  armsOf(name: string): number;
  /** The specification of a loaded unit, as it was started. */
  specOf(name: string): UnitSpec | undefined;
  /** The limits of a loaded unit that are in force. */
  limitsOf(name: string): LiveLimits | undefined;
  /** From now on so much memory of a loaded unit cannot be given back: its limit is not lowered below. */
  useMemory(name: string, bytes: number): void;
  /** Task groups of a loaded unit, by name; none if it is not loaded. */
  taskGroupsOf(unit: string): ReadonlyMap<string, FakeTaskGroup>;
  /** What a task group has used from now on; `inUseBytes` as for `useMemory`. */
  useTaskGroup(
    unit: string,
    group: string,
    use: CgroupUse & { readonly inUseBytes?: number },
  ): void;
}

interface FakeUnit {
  readonly spec: UnitSpec;
  readonly program: FakeProgram;
  readonly cgroups: FakeCgroups;
  status: UnitStatus;
}

/** An empty systemd in memory, connected. */
export function createFakeSystemd(options: FakeSystemdOptions = {}): FakeSystemd {
  return new Fake(options);
}

class Fake implements FakeSystemd {
  private readonly program: (spec: UnitSpec) => FakeProgram;
  private readonly nowMs: () => number;
  private readonly noTaskGroups: string | undefined;
  private readonly units = new Map<string, FakeUnit>();
  private readonly unitListeners: ((name: string, ended?: UnitStatus) => void)[] = [];
  private readonly connectionListeners: ((state: SystemdConnection) => void)[] = [];
  private readonly waiting: (() => void)[] = [];
  private readonly fences = new Map<
    string,
    { arms: number; isArmed: boolean; firedAtMs: number }
  >();
  private isUp = true;
  private startCount = 0;

  constructor(options: FakeSystemdOptions) {
    this.program = options.program ?? (() => ({}));
    this.nowMs = options.nowMs ?? (() => 0);
    this.noTaskGroups = options.noTaskGroups;
  }

  readonly startUnit = async (spec: UnitSpec): Promise<StartResult> => {
    await this.arrive();
    if (this.units.has(spec.name)) {
      const message = `StartTransientUnit failed: Unit ${spec.name} was already loaded or has a fragment file.`;
      return { ok: false, kind: 'refused', message };
    }
    this.startCount += 1;
    const program = this.program(spec);
    const status = runningStatus(spec, this.startCount, this.nowMs());
    if (program.failsWith !== undefined)
      return failedStart(status, program.failsWith, this.nowMs());
    this.load({ spec, program, status });
    const { ends } = program;
    if (ends !== undefined) queueMicrotask(() => this.finish(spec.name, ends));
    return { ok: true };
  };

  readonly killUnit = async (name: string, signal: number): Promise<boolean> => {
    await this.arrive();
    const unit = this.units.get(name);
    if (unit === undefined) return false;
    if (signal === SIGTERM && unit.program.ignoresSigterm === true) return true;
    this.finish(name, { exitKind: 'killed', exitStatus: signal });
    return true;
  };

  readonly releaseUnit = async (name: string): Promise<void> => {
    await this.arrive();
    this.units.delete(name);
  };

  readonly listUnits = async (pattern: string): Promise<UnitRow[]> => {
    await this.arrive();
    const timers = [...this.fences].map(([name, { isArmed }]) => timerRow(name, isArmed));
    return [...[...this.units.values()].map(({ status }) => status), ...timers]
      .filter(({ name }) => matchesGlob(pattern, name))
      .map(({ name, activeState, subState }) => ({ name, activeState, subState }))
      .sort((a, b) => (a.name < b.name ? -1 : 1));
  };

  readonly readUnit = async (name: string): Promise<UnitStatus | undefined> => {
    await this.arrive();
    return this.units.get(name)?.status;
  };

  readonly ensureKeeper = async (name: string, slice: string): Promise<void> => {
    await this.arrive();
    if (this.units.has(name)) return;
    const spec = keeperSpec(name, slice);
    const status = runningStatus(spec, this.startCount, this.nowMs());
    this.load({ spec, program: {}, status });
  };

  readonly readJournalFields = async (
    name: string,
  ): Promise<Readonly<Record<string, string>> | undefined> => {
    await this.arrive();
    return this.units.get(name)?.spec.journalFields;
  };

  readonly sweepSlices = (): void => undefined;

  readonly armFence = async (name: string): Promise<void> => {
    await this.arrive();
    const { arms = 0, firedAtMs = 0 } = this.fences.get(name) ?? {};
    this.fences.set(name, { arms: arms + 1, isArmed: true, firedAtMs });
  };

  readonly readFence = async (name: string): Promise<FenceStatus> => {
    await this.arrive();
    const { isArmed = false, firedAtMs = 0 } = this.fences.get(name) ?? {};
    return { isArmed, firedAtMs };
  };

  readonly removeFence = async (name: string): Promise<void> => {
    await this.arrive();
    this.fences.delete(name);
  };

  readonly describe = async (): Promise<{ version: string; cgroupVersion: 'v1' | 'v2' }> => {
    await this.arrive();
    return { version: '252', cgroupVersion: 'v2' };
  };

  readonly countOomKills = (_slice: string, name: string): number =>
    this.units.get(name)?.status.oomKills ?? 0;

  readonly resizeUnit = async (
    _slice: string,
    name: string,
    limits: LiveLimits,
  ): Promise<ResizeResult> => {
    await this.arrive();
    const unit = this.units.get(name);
    return unit?.cgroups.resize(limits) ?? { ok: false, message: `${name} is gone` };
  };

  // Task groups are the kernel's affair: they need no connection.

  readonly openTaskGroup = async (
    _slice: string,
    unit: string,
    group: string,
    options: TaskGroupOptions,
  ): Promise<{ procs: string[] }> => {
    await Promise.resolve();
    const known = this.units.get(unit);
    const reason =
      known === undefined
        ? 'the unit is gone'
        : known.spec.delegate === true
          ? this.noTaskGroups
          : 'its unit was started without delegation';
    if (known === undefined || reason !== undefined) {
      throw taskGroupUnavailable(unit, group, reason ?? '');
    }
    return known.cgroups.openGroup(group, options);
  };

  readonly resizeTaskGroup = async (
    _slice: string,
    unit: string,
    group: string,
    limits: LiveLimits,
  ): Promise<ResizeResult> => {
    await Promise.resolve();
    const known = this.units.get(unit);
    return known?.cgroups.resizeGroup(group, limits) ?? { ok: false, message: `${unit} is gone` };
  };

  readonly readTaskGroup = (_slice: string, unit: string, group: string): CgroupUse | undefined =>
    this.units.get(unit)?.cgroups.groups.get(group)?.use;

  readonly closeTaskGroup = async (_slice: string, unit: string, group: string): Promise<void> => {
    await Promise.resolve();
    this.units.get(unit)?.cgroups.closeGroup(group);
  };

  readonly onUnitChanged = (listener: (name: string, ended?: UnitStatus) => void): void => {
    this.unitListeners.push(listener);
  };

  readonly onConnection = (listener: (state: SystemdConnection) => void): void => {
    this.connectionListeners.push(listener);
    if (this.isUp) queueMicrotask(() => listener('up'));
  };

  readonly close = (): Promise<void> => Promise.resolve();

  readonly finish = (name: string, end: FakeEnd): void => {
    const unit = this.units.get(name);
    if (unit?.status.subState !== 'running') return;
    unit.status = endedStatus(unit.status, end, this.nowMs());
    if (this.isUp) for (const listener of this.unitListeners) listener(name, unit.status);
  };

  readonly fireFence = (name: string): void => {
    const fence = this.fences.get(name);
    if (fence?.isArmed !== true) return;
    Object.assign(fence, { isArmed: false, firedAtMs: this.nowMs() });
    for (const unit of this.units.values()) {
      if (unit.spec.fence !== name || unit.status.subState !== 'running') continue;
      // Stopped first, and then its process ends.
      unit.status = { ...unit.status, leftActiveAtMs: this.nowMs() - 1 };
      this.finish(unit.spec.name, { exitKind: 'killed', exitStatus: SIGTERM });
      unit.status = { ...unit.status, activeState: 'inactive', subState: 'dead' };
    }
  };

  readonly armsOf = (name: string): number => this.fences.get(name)?.arms ?? 0;

  readonly disconnect = (): void => {
    this.setUp(false);
  };

  readonly reconnect = (): void => {
    this.setUp(true);
  };

  readonly specOf = (name: string): UnitSpec | undefined => this.units.get(name)?.spec;

  readonly limitsOf = (name: string): LiveLimits | undefined =>
    this.units.get(name)?.cgroups.limits;

  readonly useMemory = (name: string, bytes: number): void =>
    this.units.get(name)?.cgroups.useMemory(bytes);

  readonly taskGroupsOf = (unit: string): ReadonlyMap<string, FakeTaskGroup> =>
    this.units.get(unit)?.cgroups.groups ?? new Map<string, FakeTaskGroup>();

  readonly useTaskGroup = (
    unit: string,
    group: string,
    use: CgroupUse & { readonly inUseBytes?: number },
  ): void => this.units.get(unit)?.cgroups.useGroup(group, use);

  private load(unit: Omit<FakeUnit, 'cgroups'>): void {
    const { spec } = unit;
    this.units.set(spec.name, { ...unit, cgroups: new FakeCgroups(spec.name, spec) });
  }

  /** Every call takes a turn of the event loop's microtasks, and none goes through while disconnected. */
  private async arrive(): Promise<void> {
    await Promise.resolve();
    while (!this.isUp) await new Promise<void>((resolve) => this.waiting.push(resolve));
  }

  private setUp(up: boolean): void {
    if (this.isUp === up) return;
    this.isUp = up;
    for (const listener of this.connectionListeners) listener(up ? 'up' : 'down');
    if (up) for (const resume of this.waiting.splice(0)) resume();
  }
}

function timerRow(name: string, isArmed: boolean): UnitRow {
  const subState = isArmed ? 'waiting' : 'elapsed';
  return { name: `${name}.timer`, activeState: 'active', subState };
}

function failedStart(status: UnitStatus, exitStatus: number, nowMs: number): StartResult {
  const end: FakeEnd = { exitKind: 'exited', exitStatus, result: 'exit-code' };
  const message = `start of ${status.name} failed: job failed, exit-code, exit status ${exitStatus}`;
  return { ok: false, kind: 'job', message, status: endedStatus(status, end, nowMs) };
}

/** fnmatch(3) as far as unit patterns go: `*` and `?`. */
function matchesGlob(pattern: string, name: string): boolean {
  const escaped = pattern.replace(/[.+^${}()|[\]\\]/g, '\\$&');
  return new RegExp(`^${escaped.replaceAll('*', '.*').replaceAll('?', '.')}$`).test(name);
}

function keeperSpec(name: string, slice: string): UnitSpec {
  return {
    name,
    slice,
    description: 'keeper',
    argv: ['/bin/sleep', 'infinity'],
    workingDirectory: '/',
    stdoutPath: '/dev/null',
    stderrPath: '/dev/null',
    environment: {},
    cpuMillis: 10,
    memoryMib: 16,
    tasksMax: 4,
    stopTimeoutMs: 1_000,
    journalFields: {},
  };
}
