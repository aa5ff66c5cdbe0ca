/**
 * `Systemd` over D-Bus: translates and waits, and decides nothing about tasks.
 *
 * systemd and the bus daemon may restart at any time. Calls that may be repeated are repeated until
 * they get an answer or the time is up; a start whose fate is unknown is looked up by its name,
 * which is why names must be unique per launch.
 */
import { KaonError, messageOf } from '../protocol/errors.ts';
import { openBus, type BusLog } from './bus.ts';
import type { BusConnection, BusSignal } from './bus-connection.ts';
import { detectCgroupVersion, readCgroupUse } from './cgroup-use.ts';
import { createJobWaits, type JobResult } from './jobs.ts';
import { isTaskSlice, sliceCgroup, unitOfPath } from './names.ts';
import type { ActiveState, StartResult, Systemd, SystemdConnection, UnitRow, UnitStatus } from './port.ts';
import { isExecFailure, keeperUnit, transientUnit, type TransientUnit, type UnitSpec } from './properties.ts';
import { SWEEP_MS, sweepSlices } from './slice-sweep.ts';
import { createSlots } from './slots.ts';
import {
  MANAGER,
  SERVICE,
  SYSTEMD,
  isNoSuchUnit,
  isOutcomeUnknown,
  isUnitExists,
  systemdCalls,
  unwrap,
} from './systemd-calls.ts';
import { STATUS_PROPERTIES, unitStatus } from './unit-status.ts';

const SYSTEM_BUS_ADDRESS = 'unix:path=/run/dbus/system_bus_socket';
const CGROUP_ROOT = '/sys/fs/cgroup';
const STARTS_IN_FLIGHT_MAX = 8;
/** For how long a call is repeated while systemd is away. */
const RECOVER_MS = 30_000;
const REPEAT_MS = 20;
/** Longest wait for a job's end before the unit itself is looked at. */
const JOB_LOOK_MS = 10_000;
const RELEASE_LOOK_MS = 2;
const RELEASE_LOOKS_MAX = 500;

const MATCH_RULES = [
  `type='signal',sender='${SYSTEMD}',interface='${MANAGER}',member='JobRemoved'`,
  `type='signal',sender='${SYSTEMD}',interface='${MANAGER}',member='Reloading'`,
  `type='signal',sender='${SYSTEMD}',interface='org.freedesktop.DBus.Properties',member='PropertiesChanged',arg0='${SERVICE}'`,
  `type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',arg0='${SYSTEMD}'`,
];

export interface SystemdOptions {
  /** Default: the system bus. */
  readonly busAddress?: string;
  /** Where cgroupfs is mounted, as seen from this process. Default `/sys/fs/cgroup`. */
  readonly cgroupRoot?: string;
  /** Starts under way at the same time; more only makes each of them slower. Default 8. */
  readonly maxStartsInFlight?: number;
  /** How often slices that nothing needs are stopped. Default 30 000. */
  readonly sweepMs?: number;
  readonly log?: BusLog;
}

/** Starts to connect and returns at once; calls made before it is up wait for it. */
export function createSystemd(options: SystemdOptions = {}): Systemd {
  const cgroupRoot = options.cgroupRoot ?? CGROUP_ROOT;
  const cgroupVersion = detectCgroupVersion(cgroupRoot);
  const jobs = createJobWaits(JOB_LOOK_MS);
  const slots = createSlots(options.maxStartsInFlight ?? STARTS_IN_FLIGHT_MAX);
  const unitListeners: ((name: string) => void)[] = [];
  const connectionListeners: ((state: SystemdConnection) => void)[] = [];
  /** Slices of units that were started or read here; spares a question at the release. */
  const sliceOf = new Map<string, string>();
  /** Units that are being released: their changes are our own doing. */
  const releasing = new Set<string>();

  const emitConnection = (state: SystemdConnection): void => {
    if (state === 'up') jobs.giveUp();
    for (const listener of connectionListeners) listener(state);
  };
  const resubscribe = (): void => {
    systemd.subscribe().then(
      () => emitConnection('up'),
      (error: unknown) => options.log?.warn('systemd.subscribe-failed', { error: messageOf(error) }),
    );
  };
  const onSignal = (signal: BusSignal): void => {
    if (signal.member === 'JobRemoved') jobs.removed(String(signal.body[1]), String(signal.body[3]));
    else if (signal.member === 'PropertiesChanged') onPropertiesChanged(signal);
    else if (signal.member === 'Reloading' && signal.body[0] === false) resubscribe();
    else if (signal.member === 'NameOwnerChanged') {
      if (signal.body[2] === '') emitConnection('down');
      else resubscribe();
    }
  };
  const onPropertiesChanged = (signal: BusSignal): void => {
    const name = unitOfPath(signal.path);
    if (name === undefined || !name.startsWith('kaon-') || releasing.has(name)) return;
    if (!mainHasEnded(signal)) return;
    for (const listener of unitListeners) listener(name);
  };
  const bus = openBus({
    address: options.busAddress ?? SYSTEM_BUS_ADDRESS,
    matchRules: MATCH_RULES,
    onSignal,
    onConnected: (connection: BusConnection) =>
      systemdCalls((call) => connection.call(call, RECOVER_MS)).subscribe(),
    onState: emitConnection,
    ...(options.log === undefined ? {} : { log: options.log }),
  });
  const systemd = systemdCalls((call) => bus.call(call));
  const sweepTimer = setInterval(() => void sweep(), options.sweepMs ?? SWEEP_MS).unref();

  /** Repeats a call that may be repeated, until it has an outcome. */
  const persist = async <T>(call: () => Promise<T>): Promise<T> => {
    const deadline = performance.now() + RECOVER_MS;
    for (;;) {
      try {
        return await call();
      } catch (error) {
        if (!isOutcomeUnknown(error) || performance.now() > deadline) throw error;
      }
      await pause(REPEAT_MS);
      if (!(await bus.waitUp(Math.max(deadline - performance.now(), 0)))) {
        throw new KaonError('systemd-unreachable', `no connection to systemd for ${RECOVER_MS} ms`);
      }
    }
  };

  /** Queues a job and waits until it is no longer queued, whatever is lost on the way; systemd bounds every job. */
  const runJob = async (name: string, queue: () => Promise<string>): Promise<JobResult> => {
    const result = await jobs.run(queue);
    return result === 'unknown' ? watchJob(name) : result;
  };

  const watchJob = async (name: string): Promise<JobResult> => {
    for (;;) {
      const row = await persist(() => systemd.listByName(name));
      if (row?.jobPath === undefined) return 'unknown';
      const result = await jobs.wait(row.jobPath);
      if (result !== 'unknown') return result;
    }
  };

  /** @returns how the start job ended, or why systemd would not take the unit */
  const queueStart = async (unit: TransientUnit): Promise<JobResult | { refused: string }> => {
    let isRepeated = false;
    const queue = async (): Promise<string> => {
      try {
        return await systemd.startTransient(unit);
      } catch (error) {
        isRepeated ||= isOutcomeUnknown(error);
        throw error;
      }
    };
    try {
      return await persist(() => runJob(unit.name, queue));
    } catch (error) {
      // The answer to an earlier try was lost, and that try had succeeded: the name is ours alone.
      if (isRepeated && isUnitExists(error)) return watchJob(unit.name);
      if (isOutcomeUnknown(error)) throw error;
      return { refused: messageOf(error) };
    }
  };

  const sweep = (): Promise<void> =>
    sweepSlices({
      systemd,
      stop: (slice) => runJob(slice, () => systemd.stopUnit(slice)),
      withoutStarts: slots.alone,
      ...(options.log === undefined ? {} : { log: options.log }),
    });

  const startUnit = async (spec: UnitSpec): Promise<StartResult> => {
    const leave = await slots.enter();
    try {
      const job = await queueStart(transientUnit(spec));
      if (typeof job === 'object') return { ok: false, kind: 'refused', message: job.refused };
      return job === 'done' ? { ok: true } : await concludeStart(spec.name, job);
    } finally {
      leave();
    }
  };

  /** The start job failed, or nobody knows: the unit itself tells. */
  const concludeStart = async (name: string, job: JobResult): Promise<StartResult> => {
    const status = await readUnit(name);
    if (status !== undefined && hasStarted(status)) return { ok: true };
    await releaseUnit(name);
    const how = status === undefined ? 'it is gone' : `${status.result}, exit status ${status.exitStatus}`;
    const message = `start of ${name} failed: job ${job}, ${how}`;
    return { ok: false, kind: 'job', message, ...(status === undefined ? {} : { status }) };
  };

  const readUnit = async (name: string): Promise<UnitStatus | undefined> => {
    const [row, properties, invocationId] = await persist(() =>
      Promise.all([
        systemd.listByName(name),
        systemd.serviceProperties(name, STATUS_PROPERTIES),
        systemd.unitProperty(name, 'InvocationID'),
      ]),
    );
    if (row === undefined) {
      sliceOf.delete(name);
      return undefined;
    }
    const slice = String(properties.get('Slice') ?? '');
    sliceOf.set(name, slice);
    const ownGroup = String(properties.get('ControlGroup') ?? '');
    const controlGroup = isTaskSlice(slice, name) ? sliceCgroup(slice) : ownGroup;
    const use = controlGroup === '' ? {} : readCgroupUse(cgroupRoot, cgroupVersion, controlGroup);
    return unitStatus({ row, properties, invocationId, controlGroup, use });
  };

  const releaseUnit = async (name: string): Promise<void> => {
    releasing.add(name);
    try {
      await stopAndReset(name);
    } finally {
      releasing.delete(name);
    }
  };

  const stopAndReset = async (name: string): Promise<void> => {
    const slice = sliceOf.get(name) ?? String(await persist(() => systemd.serviceProperty(name, 'Slice')));
    // Stopping a slice stops what is in it first, and the service's failure, if any, stays until it is reset:
    // so a release that is cut off half-way can be found and repeated.
    const target = isTaskSlice(slice, name) ? slice : name;
    await unlessGone(() => persist(() => runJob(target, () => systemd.stopUnit(target))));
    for (let look = 0; look < RELEASE_LOOKS_MAX; look += 1) {
      if (await unlessGone(() => persist(() => systemd.resetFailed(name)))) {
        sliceOf.delete(name);
        return;
      }
      await pause(RELEASE_LOOK_MS);
    }
    throw new KaonError('unit-stuck', `${name} was stopped but stays loaded`);
  };

  const listUnits = async (pattern: string): Promise<UnitRow[]> => {
    const listed = await persist(() => systemd.listByPatterns(pattern));
    return listed
      .map(({ name, activeState, subState }) => ({ name, activeState: activeState as ActiveState, subState }))
      .sort((a, b) => (a.name < b.name ? -1 : 1));
  };

  const killUnit = async (name: string, signal: number): Promise<boolean> =>
    !(await unlessGone(() => persist(() => systemd.killUnit(name, signal))));

  const ensureKeeper = async (name: string, slice: string): Promise<void> => {
    const row = await persist(() => systemd.listByName(name));
    if (row?.activeState === 'active' || row?.activeState === 'activating') return;
    if (row !== undefined) await releaseUnit(name);
    const job = await queueStart(keeperUnit(name, slice));
    if (job === 'done' || (await persist(() => systemd.listByName(name)))?.activeState === 'active') return;
    const why = typeof job === 'object' ? job.refused : `job ${job}`;
    throw new KaonError('keeper-failed', `keeper ${name} did not start: ${why}`);
  };

  return {
    startUnit,
    killUnit,
    releaseUnit,
    listUnits,
    readUnit,
    ensureKeeper,
    describe: async () => {
      const version = await persist(() => systemd.version());
      return { version: /\d+/.exec(version)?.[0] ?? version, cgroupVersion };
    },
    onUnitChanged: (listener) => void unitListeners.push(listener),
    onConnection: (listener) => void connectionListeners.push(listener),
    close: () => {
      clearInterval(sweepTimer);
      bus.close();
      return Promise.resolve();
    },
  };
}

/** Whether the main process was executed: systemd's own exit codes mean that it was not. */
function hasStarted({ activeState, result, exitStatus }: UnitStatus): boolean {
  if (activeState === 'active' || activeState === 'deactivating') return true;
  if (activeState !== 'failed') return false;
  return result !== 'exit-code' || !isExecFailure(exitStatus);
}

/** Starts and releases bring several property changes each; only the end of the main process is news. */
function mainHasEnded(signal: BusSignal): boolean {
  const code = (signal.body[1] as Record<string, unknown> | undefined)?.['ExecMainCode'];
  return code === undefined || unwrap(code) !== 0;
}

/** @returns true if the unit is not loaded */
async function unlessGone(call: () => Promise<unknown>): Promise<boolean> {
  try {
    await call();
    return false;
  } catch (error) {
    if (isNoSuchUnit(error)) return true;
    throw error;
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
