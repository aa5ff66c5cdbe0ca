/**
 * `Systemd` in memory, with processes that end when the test says so. No clocks, no I/O, no randomness.
 *
 * It keeps the promises of the port that the contract suite checks against the real thing; it does
 * not imitate systemd beyond them.
 */
import type {
  FenceStatus,
  StartResult,
  Systemd,
  SystemdConnection,
  UnitRow,
  UnitStatus,
} from './port.ts';
import type { UnitSpec } from './properties.ts';

const SIGKILL = 9;
const SIGTERM = 15;
const BYTES_PER_MIB = 1_048_576;

/** How a fake process ends, and what it has used by then. */
export interface FakeEnd {
  readonly exitKind: 'exited' | 'killed' | 'dumped';
  readonly exitStatus: number;
  /** systemd's verdict; anything but `success` (the default) leaves the unit failed. */
  readonly result?: string;
  readonly oomKills?: number;
  readonly memoryPeakBytes?: number;
  readonly cpuUsec?: number;
  readonly throttledUsec?: number;
}

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
  /** The specification of a loaded unit. */
  specOf(name: string): UnitSpec | undefined;
}

interface FakeUnit {
  readonly spec: UnitSpec;
  readonly program: FakeProgram;
  status: UnitStatus;
}

/** An empty systemd in memory, connected. */
export function createFakeSystemd(options: FakeSystemdOptions = {}): FakeSystemd {
  return new Fake(options);
}

class Fake implements FakeSystemd {
  private readonly program: (spec: UnitSpec) => FakeProgram;
  private readonly nowMs: () => number;
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
    this.units.set(spec.name, { spec, program, status });
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
    this.units.set(name, { spec, program: {}, status });
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

function runningStatus(spec: UnitSpec, serial: number, startedAtMs: number): UnitStatus {
  return {
    name: spec.name,
    activeState: 'active',
    subState: 'running',
    result: 'success',
    mainPid: 1_000 + serial,
    exitKind: 'none',
    exitStatus: 0,
    startedAtMs,
    exitedAtMs: 0,
    leftActiveAtMs: 0,
    invocationId: serial.toString(16).padStart(32, '0'),
    controlGroup: `/kaon.slice/${spec.slice}/${spec.name}`,
    cpuUsec: 0,
    memoryPeakBytes: 0,
    oomKills: 0,
    throttledUsec: 0,
  };
}

function endedStatus(status: UnitStatus, end: FakeEnd, exitedAtMs: number): UnitStatus {
  const result = end.result ?? 'success';
  const isFailed = result !== 'success';
  return {
    ...status,
    activeState: isFailed ? 'failed' : 'active',
    subState: isFailed ? 'failed' : 'exited',
    result,
    mainPid: 0,
    exitKind: end.exitKind,
    exitStatus: end.exitStatus,
    exitedAtMs,
    oomKills: end.oomKills ?? 0,
    cpuUsec: end.cpuUsec ?? 0,
    memoryPeakBytes: end.memoryPeakBytes ?? 0,
    throttledUsec: end.throttledUsec ?? 0,
  };
}

/** The end of a process that the kernel killed for memory at a limit of `memoryMib`. */
export function oomEnd(memoryMib: number): FakeEnd {
  return {
    exitKind: 'killed',
    exitStatus: SIGKILL,
    oomKills: 1,
    memoryPeakBytes: memoryMib * BYTES_PER_MIB,
  };
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
