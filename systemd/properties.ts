/**
 * What a task's unit should be, as plain data, and its translation into D-Bus properties of systemd.
 * Pure: it knows systemd's names, types and units, and touches nothing.
 */

import { taskSliceName } from './names.ts';
import { safeDescription } from './reread.ts';
import { SANDBOX_SIGNATURES, sandboxProperties, type UnitSandbox } from './sandboxing.ts';

/** A transient service unit that runs one command. */
export interface UnitSpec {
  readonly name: string;
  readonly slice: string;
  readonly description: string;
  /**
   * `argv[0]` is a bare name (searched in PATH) or an absolute path; no expansion of any kind is done. To the letter even if
   * systemd reads the unit again before it executes it only as far as `reread.ts` says.
   */
  readonly argv: readonly string[];
  /** Absolute. */
  readonly workingDirectory: string;
  /** Files that standard output and error are appended to, absolute. */
  readonly stdoutPath: string;
  readonly stderrPath: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly user?: string;
  /** Absent: it sees and may do what its user does. */
  readonly sandbox?: UnitSandbox;
  /** Hard CPU limit in thousandths of a core, and the weight in contention that follows from it. */
  readonly cpuMillis: number;
  readonly memoryMib: number;
  readonly tasksMax: number;
  /** From fork to exec, milliseconds. Default `START_TIMEOUT_MS`, ten minutes. */
  readonly startTimeoutMs?: number;
  /** SIGTERM to SIGKILL. */
  readonly stopTimeoutMs: number;
  /** It may get task groups: the kernel's end of one process for memory is then not the end of the unit. Default false. */
  readonly delegate?: boolean;
  /** Wall-clock limit; undefined is none. */
  readonly runtimeMaxMs?: number;
  /** Name of the fence whose firing stops the unit, see `fenceUnits`. */
  readonly fence?: string;
  /** Fields that each journal line of the unit carries, e.g. `KAON_TASK_ID`. */
  readonly journalFields: Readonly<Record<string, string>>;
}

/** A typed D-Bus property; signatures as in org.freedesktop.systemd1(5), 64-bit values as BigInt. */
export interface UnitProperty {
  readonly name: PropertyName;
  readonly signature: string;
  readonly value: unknown;
}

/** A unit to create beside the service, `aux` of `StartTransientUnit`. */
export interface AuxiliaryUnit {
  readonly name: string;
  readonly properties: readonly UnitProperty[];
}

/** The arguments of `StartTransientUnit` for one task. */
export interface TransientUnit {
  readonly name: string;
  readonly properties: readonly UnitProperty[];
  readonly auxiliary: readonly AuxiliaryUnit[];
}

/** Every property that Kaon sets, with its D-Bus signature; a wrong one would only show as a remote error. */
const SIGNATURES = {
  ...SANDBOX_SIGNATURES,
  AccuracyUSec: 't',
  Before: 'as',
  CPUAccounting: 'b',
  CPUQuotaPerSecUSec: 't',
  CPUWeight: 't',
  CollectMode: 's',
  Conflicts: 'as',
  DelegateControllers: 'as',
  DefaultDependencies: 'b',
  Description: 's',
  Environment: 'as',
  ExecStart: 'a(sasb)',
  KillMode: 's',
  LogExtraFields: 'aay',
  LogLevelMax: 'i',
  MemoryAccounting: 'b',
  MemoryMax: 't',
  MemorySwapMax: 't',
  OOMPolicy: 's',
  OOMScoreAdjust: 'i',
  RemainAfterExit: 'b',
  Restart: 's',
  RuntimeMaxUSec: 't',
  SendSIGKILL: 'b',
  Slice: 's',
  StartLimitIntervalUSec: 't',
  StandardErrorFileToAppend: 's',
  StandardInput: 's',
  StandardOutputFileToAppend: 's',
  SyslogIdentifier: 's',
  TasksAccounting: 'b',
  TasksMax: 't',
  TimeoutStartUSec: 't',
  TimeoutStopUSec: 't',
  TimersMonotonic: 'a(st)',
  Type: 's',
  UMask: 'u',
  User: 's',
  WorkingDirectory: 's',
} as const;

/** A property of systemd that Kaon sets. */
export type PropertyName = keyof typeof SIGNATURES;

/**
 * How long a process may take from fork to exec before its start counts as failed. A start that hangs (a file of a dead
 * server) must end at some time; one of a node that is only slow, or was stopped for a while, must not.
 */
export const START_TIMEOUT_MS = 600_000;

const USEC_PER_MS = 1_000n;
const BYTES_PER_MIB = 1_048_576n;
/** Length of a CFS period, microseconds. */
export const CPU_PERIOD_USEC = 100_000;
/** The kernel takes no CFS quota below 1 ms per 100 ms. */
const CPU_MILLIS_MIN = 10;
/** syslog(3) `LOG_NOTICE`: keeps PID 1's own "Started ..." lines about each task out of the journal. */
const LOG_NOTICE = 5;

/** systemd.exec(5), "Process Exit Codes": what systemd's own child exits with when it fails before exec. */
const EXEC_FAILURE_MIN = 200;
const EXEC_FAILURE_MAX = 243;

/** Whether an exit code is one that systemd's child uses for a failure before exec. */
export function isExecFailure(code: number): boolean {
  return code >= EXEC_FAILURE_MIN && code <= EXEC_FAILURE_MAX;
}

/**
 * The transient units of a task: its service, and a slice for it alone inside `spec.slice`, which carries the limits. The
 * cgroup of the slice stays until the release, so that peak memory, OOM kills, CPU and throttled time can be read after
 * any kind of end. (systemd removes the cgroup of a service when its last process ends, also of one that remains
 * "after exit".) The service must not have limits that would act first: what they do is counted where they are.
 */
export function transientUnit(spec: UnitSpec, cgroupVersion: 'v1' | 'v2'): TransientUnit {
  const limits = limitProperties(spec);
  const slice = taskSliceName(spec.slice, spec.name);
  const own = cgroupVersion === 'v1' ? UNACCOUNTED : limits.filter(countsBelow);
  const delegated = cgroupVersion === 'v2' && spec.delegate === true ? [DELEGATED] : [];
  return {
    name: spec.name,
    properties: [...serviceProperties(spec), ...own, ...delegated, property('Slice', slice)],
    auxiliary: [{ name: slice, properties: [...sliceProperties(spec.name), ...limits] }],
  };
}

/** The version of systemd that made it; what is not named is older than the oldest that Kaon runs on, 245. */
const SINCE: Partial<Record<PropertyName, number>> = { ProtectProc: 247 };

/** @returns the unit without what that version of systemd would refuse as unknown */
export function knownTo(version: number, unit: TransientUnit): TransientUnit {
  const isKnown = ({ name }: UnitProperty): boolean => (SINCE[name] ?? 0) <= version;
  return { ...unit, properties: unit.properties.filter(isKnown) };
}

/**
 * The slice refers to its service, because a unit that is referred to stays loaded: also one that somebody stopped, whose
 * end could not be read otherwise. `Before=` is the weakest reference: it pulls nothing in, and is true anyway.
 */
function sliceProperties(service: string): UnitProperty[] {
  return [property('DefaultDependencies', false), property('Before', [service])];
}

/** Precision of a fence, microseconds; systemd's default is a minute. */
const FENCE_ACCURACY_USEC = 100_000n;

/**
 * A fence: a timer, and a service that does nothing but conflict with units, so that its start stops them
 * (systemd.unit(5), `Conflicts=`). systemd does all of it by itself.
 *
 * @param hasService the service is loaded already, because a unit that was behind the fence is
 */
export function fenceUnits(name: string, afterMs: number, hasService: boolean): TransientUnit {
  const description = `Stops Kaon tasks after ${String(afterMs)} ms without contact to the cluster`;
  const common = [
    property('Description', description),
    property('DefaultDependencies', false),
    // Each setting of the timer is a start: with the usual limit of 5 in 10 s it would be refused, and never elapse.
    property('StartLimitIntervalUSec', 0n),
  ];
  const service = [
    ...common,
    property('Type', 'oneshot'),
    execStart(['/bin/true']),
    property('Slice', 'kaon.slice'),
  ];
  return {
    name: `${name}.timer`,
    properties: [
      ...common,
      property('TimersMonotonic', [['OnActiveSec', BigInt(afterMs) * USEC_PER_MS]]),
      property('AccuracyUSec', FENCE_ACCURACY_USEC),
    ],
    auxiliary: hasService ? [] : [{ name: `${name}.service`, properties: service }],
  };
}

/**
 * On v1 the service must get no directory in the memory hierarchy: its processes are then charged to the slice itself,
 * and so are the OOM kills, which v1 counts only where they happen.
 */
const UNACCOUNTED = [property('MemoryAccounting', false), property('TasksAccounting', false)];

/**
 * On v2 what is below the service is ours then (systemd.resource-control(5), `Delegate=`), with these controllers. On v1
 * groups are beside the service, and delegation would bring it directories in every hierarchy.
 */
const DELEGATED = property('DelegateControllers', ['cpu', 'memory', 'pids']);

/**
 * On v2 `OOMPolicy=` needs a memory controller on the service, which any memory setting brings. Not the limit: the kernel
 * notes for each cgroup how often its own limit was reached, and only of the slice this can be read after the end
 * (`cgroup-use.ts`). A limit of the service would be reached first.
 */
function countsBelow({ name }: UnitProperty): boolean {
  return name === 'MemorySwapMax' || name === 'TasksMax';
}

/**
 * The keeper: one sleeping process with limits, so that systemd does not switch the cgroup controllers of a slice on
 * and off with every task that comes and goes.
 */
export function keeperUnit(name: string, slice: string): TransientUnit {
  return {
    name,
    properties: [
      property('Description', 'Keeps the cgroup controllers of Kaon tasks switched on'),
      property('Type', 'exec'),
      execStart(['/bin/sleep', 'infinity']),
      property('Restart', 'always'),
      property('DefaultDependencies', false),
      property('CPUQuotaPerSecUSec', 10_000n),
      property('CPUWeight', 1n),
      property('CPUAccounting', true),
      property('MemoryMax', 16n * BYTES_PER_MIB),
      property('MemorySwapMax', 0n),
      property('TasksMax', 4n),
      property('Slice', slice),
    ],
    auxiliary: [],
  };
}

/** systemd.resource-control(5). */
function limitProperties(spec: UnitSpec): UnitProperty[] {
  return [
    property('CPUAccounting', true),
    ...cpuProperties(spec.cpuMillis),
    memoryProperty(spec.memoryMib),
    property('MemorySwapMax', 0n),
    property('TasksMax', BigInt(spec.tasksMax)),
  ];
}

/** The CPU limits of a unit, also of one that runs. */
export function cpuProperties(cpuMillis: number): UnitProperty[] {
  return [
    property('CPUQuotaPerSecUSec', BigInt(quotaUsec(cpuMillis)) * 10n),
    property('CPUWeight', BigInt(cpuWeight(cpuMillis))),
  ];
}

/** The memory limit of a unit, also of one that runs. */
export function memoryProperty(memoryMib: number): UnitProperty {
  return property('MemoryMax', BigInt(memoryMib) * BYTES_PER_MIB);
}

/** The kernel's CFS quota for a limit: microseconds in each period of `CPU_PERIOD_USEC`, systemd's default as well. */
export function quotaUsec(cpuMillis: number): number {
  return Math.max(cpuMillis, CPU_MILLIS_MIN) * (CPU_PERIOD_USEC / 1_000);
}

/** Weight in contention, 100 for a core; cgroup v2's `cpu.weight` and systemd's `CPUWeight=`. */
export function cpuWeight(cpuMillis: number): number {
  return Math.min(Math.max(Math.round(cpuMillis / 10), 1), 10_000);
}

/** systemd.service(5), systemd.exec(5), systemd.kill(5). */
function serviceProperties(spec: UnitSpec): UnitProperty[] {
  const environment = Object.entries(spec.environment).map(([name, value]) => `${name}=${value}`);
  const journal = Object.entries(spec.journalFields).map(([name, value]) =>
    Buffer.from(`${name}=${value}`),
  );
  return [
    property('Description', safeDescription(spec.description)),
    property('Type', 'exec'),
    execStart(spec.argv),
    property('RemainAfterExit', true),
    property('CollectMode', 'inactive'),
    property('DefaultDependencies', false),
    property('KillMode', 'control-group'),
    property('SendSIGKILL', true),
    property('TimeoutStartUSec', BigInt(spec.startTimeoutMs ?? START_TIMEOUT_MS) * USEC_PER_MS),
    property('TimeoutStopUSec', BigInt(spec.stopTimeoutMs) * USEC_PER_MS),
    ...(spec.runtimeMaxMs === undefined
      ? []
      : [property('RuntimeMaxUSec', BigInt(spec.runtimeMaxMs) * USEC_PER_MS)]),
    ...(spec.fence === undefined ? [] : [property('Conflicts', [`${spec.fence}.service`])]),
    property('OOMPolicy', spec.delegate === true ? 'continue' : 'kill'),
    property('OOMScoreAdjust', 0),
    ...sandboxing(spec),
    property('UMask', 0o022),
    ...(spec.user === undefined ? [] : [property('User', spec.user)]),
    property('WorkingDirectory', spec.workingDirectory),
    property('Environment', environment),
    property('StandardInput', 'null'),
    property('StandardOutputFileToAppend', spec.stdoutPath),
    property('StandardErrorFileToAppend', spec.stderrPath),
    property('SyslogIdentifier', spec.name.replace(/\.service$/, '')),
    property('LogExtraFields', journal),
    property('LogLevelMax', LOG_NOTICE),
  ];
}

function sandboxing({ sandbox }: UnitSpec): UnitProperty[] {
  if (!sandbox) return [property('NoNewPrivileges', true)];
  return sandboxProperties(sandbox).map(([name, value]) => property(name, value));
}

/**
 * The command, safe from expansion: `$$` is a plain `$` to systemd, and specifiers are not looked for in values that come
 * over D-Bus. `ExecStartEx` with `no-env-expand` would say it directly, but systemd 252 stores it under that name in the
 * unit's transient file, does not know the name when `daemon-reload` reads the file again, and then takes the running
 * unit for one without a command (`bad-setting`).
 */
function execStart(argv: readonly string[]): UnitProperty {
  const escaped = argv.map((argument) => argument.replaceAll('$', '$$$$'));
  return property('ExecStart', [[argv[0] ?? '', escaped, false]]);
}

/** A user namespace of its own, in which the unit's user is who it is outside, and everybody else is nobody. */
export function userNamespace(): UnitProperty {
  return property('PrivateUsers', true);
}

function property(name: PropertyName, value: unknown): UnitProperty {
  return { name, signature: SIGNATURES[name], value };
}
