/**
 * What the agent asks of systemd: the one interface between Kaon and PID 1.
 *
 * `manager.ts` implements it over D-Bus, `fake.ts` in memory; one contract suite runs against both.
 * Signals are hints and the list is the truth: `onUnitChanged` may miss or repeat, so a caller that
 * must know re-lists. Nothing in here decides anything about tasks.
 */
import type { UnitSpec } from './properties.ts';

/** `ActiveState` of a unit, systemd(1), "UNITS". */
export type ActiveState =
  'active' | 'reloading' | 'inactive' | 'failed' | 'activating' | 'deactivating' | 'maintenance';

/** One row of the unit list. */
export interface UnitRow {
  readonly name: string;
  readonly activeState: ActiveState;
  /** e.g. `running`, `exited`, `failed`, `stop-sigterm`. */
  readonly subState: string;
}

/** What is known of a unit's main process, limits and use; read while the unit is still loaded. */
export interface UnitStatus extends UnitRow {
  /**
   * systemd's own verdict, systemd.exec(5), `$SERVICE_RESULT`: `success`, `exit-code`, `signal`, `timeout`, `oom-kill`, ...;
   * and `START_TIMED_OUT` for a `timeout` before the command was executed.
   */
  readonly result: string;
  readonly mainPid: number;
  /** How the main process ended, waitid(2): `none` while it runs or if it never ran. */
  readonly exitKind: 'none' | 'exited' | 'killed' | 'dumped';
  /** Exit code, or the signal's number for `killed` and `dumped`. */
  readonly exitStatus: number;
  /** Realtime of the start and the end of the main process, milliseconds since 1970; 0 if it has not happened. */
  readonly startedAtMs: number;
  readonly exitedAtMs: number;
  /** Realtime at which the unit stopped being active, milliseconds since 1970: before `exitedAtMs` if it was stopped; 0 if it is. */
  readonly leftActiveAtMs: number;
  readonly invocationId: string;
  /** Cgroup path as systemd gives it (`/kaon.slice/...`), empty once it is gone. */
  readonly controlGroup: string;
  /** CPU time of the whole cgroup, microseconds; undefined where it is not accounted. */
  readonly cpuUsec?: number;
  /** Highest memory use, bytes; read from cgroupfs, undefined once the cgroup is gone. */
  readonly memoryPeakBytes?: number;
  /** Processes that the kernel's OOM killer ended in this cgroup (v1 `memory.oom_control`, v2 `memory.events`). */
  readonly oomKills: number;
  /** Time for which the CPU quota held the cgroup back, microseconds; undefined where it cannot be read. */
  readonly throttledUsec?: number;
}

/** How a start ended. `failed` carries what the unit says of itself; the failed unit has been released by then. */
export type StartResult =
  | { readonly ok: true }
  | {
      readonly ok: false;
      /** `job`: the start job failed (`status` says how); `refused`: systemd would not take the unit at all (`message`). */
      readonly kind: 'job' | 'refused';
      readonly message: string;
      readonly status?: UnitStatus;
    };

/** What is known of a fence. */
export interface FenceStatus {
  /** Its timer runs. */
  readonly isArmed: boolean;
  /** When it last stopped its units, milliseconds since 1970; 0 if it is not known to have. */
  readonly firedAtMs: number;
}

/** What a cgroup has used so far; undefined where the controller is not there. */
export interface CgroupUse {
  /** CPU time, microseconds. */
  readonly cpuUsec?: number;
  readonly memoryPeakBytes?: number;
  /** Processes in it that the kernel ended for memory. */
  readonly oomKills?: number;
  /** Time for which the CPU quota held it back, microseconds. */
  readonly throttledUsec?: number;
}

/** Limits that can be changed while a unit or a task group runs. */
export interface LiveLimits {
  /** As in `UnitSpec`. */
  readonly cpuMillis: number;
  readonly memoryMib: number;
}

/** How a change of limits ended. On `ok: false` nothing is promised: the next call with the right limits puts them right. */
export type ResizeResult =
  | {
      readonly ok: true;
      /** In force now. More than was asked for: what is in use did not fit, ask again later. */
      readonly memoryMib: number;
      /** Memory in use that the kernel could not give up at once; there if memory was lowered, or was to be. */
      readonly inUseBytes?: number;
    }
  | { readonly ok: false; readonly message: string };

/** What a task group is to be. */
export interface TaskGroupOptions extends LiveLimits {
  readonly tasksMax: number;
  /** Who may put processes into it, besides root. Default: nobody. */
  readonly uid?: number;
  readonly gid?: number;
}

/** The connection state; every `up` means that signals may have been missed, so re-list. */
export type SystemdConnection = 'up' | 'down';

/** systemd as the agent needs it. */
export interface Systemd {
  /** Starts a transient service; resolves once the command was executed (`Type=exec`) or the start has failed. */
  startUnit(spec: UnitSpec): Promise<StartResult>;
  /** Sends a signal to every process of the unit. Resolves false if there is no such unit. */
  killUnit(name: string, signal: number): Promise<boolean>;
  /**
   * Ends what is left of a unit and releases it: stops it (SIGTERM, its stop timeout, SIGKILL), resets a failure,
   * resolves when systemd has unloaded it and its cgroup is gone. Resolves at once if there is no such unit.
   */
  releaseUnit(name: string): Promise<void>;
  /** Loaded units whose names match the glob, in name order. */
  listUnits(pattern: string): Promise<UnitRow[]>;
  /** Everything known of one unit; undefined if it is not loaded. */
  readUnit(name: string): Promise<UnitStatus | undefined>;
  /** Makes sure that the keeper unit runs (see `keeper` in properties.ts). Idempotent. */
  ensureKeeper(name: string, slice: string): Promise<void>;
  /** The journal fields that a unit was started with; undefined if it is not loaded. */
  readJournalFields(name: string): Promise<Readonly<Record<string, string>> | undefined>;
  /** From now on stops slices that match and that nothing needs any more. */
  sweepSlices(patterns: readonly string[]): void;
  /**
   * Sets the timer of a fence to its beginning, and makes it if it is missing: `afterMs` later systemd stops every unit
   * that was started with this `fence`, whoever is alive by then. Not repeated while systemd is away: late is too late.
   */
  armFence(name: string, afterMs: number): Promise<void>;
  readFence(name: string): Promise<FenceStatus>;
  /** Stops the timer; its units go on. */
  removeFence(name: string): Promise<void>;
  /** Facts of the node: systemd's version (`252`) and the cgroup version that it manages. */
  describe(): Promise<{ readonly version: string; readonly cgroupVersion: 'v1' | 'v2' }>;
  /**
   * Processes that the kernel has ended for memory so far, in a unit of which `slice` is the one it was started in; those in
   * its task groups are counted there and not here. A read or two of kernel memory; 0 where it cannot be read.
   */
  countOomKills(slice: string, name: string): number;
  /**
   * Changes the limits of a running unit, live; its processes are not touched. `slice` is the one it was started in. Once
   * it resolves, CPU both ways and memory upwards are in force, and stay so through reloads of systemd. Memory is lowered
   * only as far as what is in use fits with a margin, so that the change itself ends no process: `memoryMib` says how far
   * that was, and the caller asks again later, or for what it wants now: also after a restart of its own, which may have cut
   * a change off half-way. Calls for one unit run one after the other. Repeated while systemd is away.
   *
   * On cgroup v1 a CPU limit below that of one of its task groups is refused: lower the group first, raise the unit first.
   */
  resizeUnit(slice: string, name: string, limits: LiveLimits): Promise<ResizeResult>;
  /**
   * Makes a cgroup of its own for a task inside a running unit that was started with `delegate`. A process of the task
   * is in it once it has written `0` to each file in `procs`, and so are the children that it has from then on.
   *
   * @param group letters, digits and `_.:-`, at most 200; a group that is there already gets these limits
   * @throws KaonError `task-cgroup-unavailable`, with the reason, where it cannot be had
   */
  openTaskGroup(
    slice: string,
    unit: string,
    group: string,
    options: TaskGroupOptions,
  ): Promise<{ procs: string[] }>;
  /** As `resizeUnit`, for a task group; systemd has no part in it. */
  resizeTaskGroup(
    slice: string,
    unit: string,
    group: string,
    limits: LiveLimits,
  ): Promise<ResizeResult>;
  /** What the group has used so far; undefined if it is not there. A few reads of kernel memory. */
  readTaskGroup(slice: string, unit: string, group: string): CgroupUse | undefined;
  /**
   * SIGKILLs what is left in a group, and removes it; resolves when it is gone, at once if there is none.
   *
   * @throws KaonError `task-group-stuck` if a process in it cannot be ended
   */
  closeTaskGroup(slice: string, unit: string, group: string): Promise<void>;
  /**
   * Called when a unit may have changed state; only for names that start with `kaon-`. `ended` is there if the signal
   * itself said how the main process ended: it spares `readUnit`.
   */
  onUnitChanged(listener: (name: string, ended?: UnitStatus) => void): void;
  onConnection(listener: (state: SystemdConnection) => void): void;
  close(): Promise<void>;
}
