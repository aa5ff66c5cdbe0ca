/** What the fake says of its units: while they run, and when they have ended. Pure. */
import type { UnitStatus } from './port.ts';
import type { UnitSpec } from './properties.ts';

const SIGKILL = 9;
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

/** Of a unit that has just been started. */
export function runningStatus(spec: UnitSpec, serial: number, startedAtMs: number): UnitStatus {
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

/** The same unit after the end of its main process. */
export function endedStatus(status: UnitStatus, end: FakeEnd, exitedAtMs: number): UnitStatus {
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
