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
  /** systemd's own verdict, systemd.exec(5), `$SERVICE_RESULT`: `success`, `exit-code`, `signal`, `timeout`, `oom-kill`, ... */
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
   * Processes that the kernel has ended for memory so far, in a unit of which `slice` is the one it was started in.
   * One read of a file in kernel memory; 0 where it cannot be read.
   */
  countOomKills(slice: string, name: string): number;
  /**
   * Called when a unit may have changed state; only for names that start with `kaon-`. `ended` is there if the signal
   * itself said how the main process ended: it spares `readUnit`.
   */
  onUnitChanged(listener: (name: string, ended?: UnitStatus) => void): void;
  onConnection(listener: (state: SystemdConnection) => void): void;
  close(): Promise<void>;
}
