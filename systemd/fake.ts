/**
 * `Systemd` in memory, with processes that end when the test says so. No clocks, no I/O, no randomness.
 *
 * It keeps the promises of the port that the contract suite checks against the real thing; it does
 * not imitate systemd beyond them.
 */
import type { StartResult, Systemd, SystemdConnection, UnitRow, UnitStatus } from './port.ts';
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

export interface FakeSystemdOptions {
  /** What the command of a unit does. Default: runs on. */
  readonly program?: (spec: UnitSpec) => FakeProgram;
  /** Default: a clock that stands at 0. */
  readonly nowMs?: () => number;
}

export interface FakeSystemd extends Systemd {
  /** Ends the main process of a running unit. */
  finish(name: string, end: FakeEnd): void;
  /** Loses the connection: calls wait, changes go unannounced. */
  disconnect(): void;
  /** Restores it, announces `up`, and lets the waiting calls go on. */
  reconnect(): void;
  /** The specification of a loaded unit. */
  specOf(name: string): UnitSpec | undefined;
}

interface FakeUnit {
  readonly spec: UnitSpec;
  readonly program: FakeProgram;
  status: UnitStatus;
}

export function createFakeSystemd(options: FakeSystemdOptions = {}): FakeSystemd {
  const nowMs = options.nowMs ?? (() => 0);
  const units = new Map<string, FakeUnit>();
  const unitListeners: ((name: string) => void)[] = [];
  const connectionListeners: ((state: SystemdConnection) => void)[] = [];
  const waiting: (() => void)[] = [];
  let isUp = true;
  let started = 0;

  /** Every call takes a turn of the event loop's microtasks, and none goes through while disconnected. */
  const arrive = async (): Promise<void> => {
    await Promise.resolve();
    while (!isUp) await new Promise<void>((resolve) => waiting.push(resolve));
  };
  const announce = (name: string): void => {
    if (isUp) for (const listener of unitListeners) listener(name);
  };

  const finish = (name: string, end: FakeEnd): void => {
    const unit = units.get(name);
    if (unit === undefined || unit.status.subState !== 'running') return;
    unit.status = endedStatus(unit.status, end, nowMs());
    announce(name);
  };

  const startUnit = async (spec: UnitSpec): Promise<StartResult> => {
    await arrive();
    if (units.has(spec.name)) {
      const message = `StartTransientUnit failed: Unit ${spec.name} was already loaded or has a fragment file.`;
      return { ok: false, kind: 'refused', message };
    }
    started += 1;
    const program = options.program?.(spec) ?? {};
    const status = runningStatus(spec, started, nowMs());
    if (program.failsWith !== undefined) {
      const end: FakeEnd = { exitKind: 'exited', exitStatus: program.failsWith, result: 'exit-code' };
      const message = `start of ${spec.name} failed: job failed, exit-code, exit status ${program.failsWith}`;
      return { ok: false, kind: 'job', message, status: endedStatus(status, end, nowMs()) };
    }
    units.set(spec.name, { spec, program, status });
    const { ends } = program;
    if (ends !== undefined) queueMicrotask(() => finish(spec.name, ends));
    return { ok: true };
  };

  const killUnit = async (name: string, signal: number): Promise<boolean> => {
    await arrive();
    const unit = units.get(name);
    if (unit === undefined) return false;
    if (signal === SIGTERM && unit.program.ignoresSigterm === true) return true;
    finish(name, { exitKind: 'killed', exitStatus: signal });
    return true;
  };

  const setUp = (up: boolean): void => {
    if (isUp === up) return;
    isUp = up;
    for (const listener of connectionListeners) listener(up ? 'up' : 'down');
    if (up) for (const resume of waiting.splice(0)) resume();
  };

  return {
    startUnit,
    killUnit,
    finish,
    releaseUnit: async (name) => {
      await arrive();
      units.delete(name);
    },
    listUnits: async (pattern) => {
      await arrive();
      const names = [...units.keys()].filter((name) => matchesGlob(pattern, name)).sort();
      return names.map((name) => rowOf(units.get(name)?.status)).filter((row) => row !== undefined);
    },
    readUnit: async (name) => {
      await arrive();
      return units.get(name)?.status;
    },
    ensureKeeper: async (name, slice) => {
      await arrive();
      if (units.has(name)) return;
      const spec = keeperSpec(name, slice);
      units.set(name, { spec, program: {}, status: runningStatus(spec, 0, nowMs()) });
    },
    describe: async () => {
      await arrive();
      return { version: '252', cgroupVersion: 'v2' };
    },
    onUnitChanged: (listener) => void unitListeners.push(listener),
    onConnection: (listener) => {
      connectionListeners.push(listener);
      if (isUp) queueMicrotask(() => listener('up'));
    },
    close: () => Promise.resolve(),
    disconnect: () => setUp(false),
    reconnect: () => setUp(true),
    specOf: (name) => units.get(name)?.spec,
  };
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
    invocationId: serial.toString(16).padStart(32, '0'),
    controlGroup: `/kaon.slice/${spec.slice}/${spec.name}`,
    cpuUsec: 0,
    memoryPeakBytes: 0,
    oomKills: 0,
    throttledUsec: 0,
  };
}

/** An OOM kill means that the limit was reached, whatever else the end says of memory. */
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

function rowOf(status: UnitStatus | undefined): UnitRow | undefined {
  if (status === undefined) return undefined;
  return { name: status.name, activeState: status.activeState, subState: status.subState };
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
