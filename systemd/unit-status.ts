/**
 * Puts together what is known of a unit: systemd's properties and the counters of its cgroup. Pure.
 */
import type { ActiveState, CgroupUse, UnitStatus } from './port.ts';
import type { ListedUnit } from './systemd-calls.ts';

/** `si_code` of waitid(2), as `ExecMainCode` has it. */
const EXIT_KINDS: Readonly<Record<number, UnitStatus['exitKind']>> = {
  1: 'exited',
  2: 'killed',
  3: 'dumped',
};

/** D-Bus has no undefined: systemd writes "not known" as the largest number. */
const UNSET = 2n ** 64n - 1n;

/**
 * The properties of the Service interface that a status is made of, in the order of asking. Each is an answer of its own,
 * and the unit may end between two of them: what says that it has ended comes first, so that the rest says how.
 */
export const STATUS_PROPERTIES = [
  'ExecMainCode',
  'ExecMainStatus',
  'ExecMainStartTimestamp',
  'ExecMainExitTimestamp',
  'Result',
  'MainPID',
  'CPUUsageNSec',
  'ControlGroup',
  'Slice',
] as const;

/** Those that must be in the signal of an end for it to be a status; systemd sends them together. */
export const ENDED_PROPERTIES = [
  'Result',
  'ExecMainCode',
  'ExecMainStatus',
  'ExecMainStartTimestamp',
  'ExecMainExitTimestamp',
] as const;

/** A `Result` that systemd has no word of its own for: the time to start ran out, so that nothing was executed. */
export const START_TIMED_OUT = 'start-timeout';

/** Where the parts of a status come from. */
export interface StatusParts {
  readonly row: ListedUnit;
  readonly properties: ReadonlyMap<string, unknown>;
  readonly invocationId: unknown;
  /** `ActiveExitTimestamp`; undefined if it was not asked for. */
  readonly leftActive: unknown;
  /** The cgroup that carries the limits; empty if it is gone. */
  readonly controlGroup: string;
  readonly use: CgroupUse;
}

/** @returns the status as the port has it; CPU time from the cgroup, or from systemd once the cgroup is gone */
export function unitStatus({
  row,
  properties,
  invocationId,
  leftActive,
  controlGroup,
  use,
}: StatusParts): UnitStatus {
  const cpuUsec = use.cpuUsec ?? usecOfNsec(properties.get('CPUUsageNSec'));
  return {
    name: row.name,
    activeState: row.activeState as ActiveState,
    subState: row.subState,
    result: resultOf(String(properties.get('Result') ?? ''), leftActive),
    mainPid: Number(properties.get('MainPID') ?? 0),
    exitKind: EXIT_KINDS[Number(properties.get('ExecMainCode') ?? 0)] ?? 'none',
    exitStatus: Number(properties.get('ExecMainStatus') ?? 0),
    startedAtMs: msOfUsec(properties.get('ExecMainStartTimestamp')),
    exitedAtMs: msOfUsec(properties.get('ExecMainExitTimestamp')),
    leftActiveAtMs: msOfUsec(leftActive),
    invocationId: hex(invocationId),
    controlGroup,
    oomKills: use.oomKills ?? 0,
    ...(cpuUsec === undefined ? {} : { cpuUsec }),
    ...(use.memoryPeakBytes === undefined ? {} : { memoryPeakBytes: use.memoryPeakBytes }),
    ...(use.throttledUsec === undefined ? {} : { throttledUsec: use.throttledUsec }),
  };
}

/** What was never active, and so never left being active, had not been executed when its time ran out. */
function resultOf(result: string, leftActive: unknown): string {
  const hasStarted = leftActive === undefined || msOfUsec(leftActive) !== 0;
  return result === 'timeout' && !hasStarted ? START_TIMED_OUT : result;
}

function usecOfNsec(value: unknown): number | undefined {
  return typeof value !== 'bigint' || value === UNSET ? undefined : Number(value / 1_000n);
}

/** Milliseconds of a timestamp of systemd; 0 for one that is not set. */
export function msOfUsec(value: unknown): number {
  return typeof value !== 'bigint' || value === UNSET ? 0 : Number(value / 1_000n);
}

function hex(bytes: unknown): string {
  return bytes === undefined ? '' : Buffer.from(bytes as Uint8Array).toString('hex');
}
