/**
 * One launch from its checkpoint to its death certificate, in steps that can be cut off after any of them:
 * checkpoint, sandbox, fence, unit, process; then end read, end stored, unit released, core told. A full disk stops none
 * of it: the unit itself says whose it is, and keeps its end until the framework knows it.
 */
import type { Clock } from '../io/clock.ts';
import type { Log } from '../io/log.ts';
import { codeOf, KaonError, messageOf } from '../protocol/errors.ts';
import type { AgentId, LaunchId } from '../protocol/ids.ts';
import type { Resources } from '../protocol/resources.ts';
import { NO_RESOURCES } from '../protocol/resources.ts';
import type { TaskReason } from '../protocol/task-state.ts';
import type { DeathCertificate } from '../protocol/task.ts';
import type { StartResult, Systemd, UnitStatus } from '../systemd/port.ts';
import type { UnitSpec } from '../systemd/properties.ts';
import type { Checkpoints, TaskCheckpoint } from './checkpoint.ts';
import { CHECKPOINT_VERSION } from './checkpoint.ts';
import type { UnitEntry } from './core/state.ts';
import { isExecutor, isOver } from './core/state.ts';
import type { AgentEvent, LaunchRef } from './core/events.ts';
import { SIGKILL } from './core/unit-kill.ts';
import type { Fetcher } from './artifacts/index.ts';
import { openDirectory } from './directories.ts';
import type { ExecutorIntroduction } from './executor-introduction.ts';
import type { Fences } from './fences.ts';
import {
  makeHosted,
  makeOutputFiles,
  prepareSandbox,
  readOutputEnd,
  sandboxPath,
} from './sandbox.ts';
import type { SandboxPolicy } from './sandboxing.ts';
import { fetchingAs, grant, grantExecutor } from './sandboxing.ts';
import { taskUnit } from './task-unit.ts';
import { encodeUnitRecord } from './unit-record.ts';
import type { OwnUser } from './user-mode.ts';
import { refuseOtherUser } from './user-mode.ts';

const MIB = 1024 * 1024;
/** Why a launch that could not be prepared failed, by the code of the error; others follow from the exit status. */
const FAILURE_REASONS: Readonly<Partial<Record<string, TaskReason>>> = {
  'artifact-failed': 'REASON_ARTIFACT_FAILED',
  'not-granted': 'REASON_TASK_INVALID',
  'user-refused': 'REASON_TASK_INVALID',
};
/** Pause before a start is looked for again, milliseconds. */
const START_RETRY_MS = 1000;

/** What a runner works with; `onEvent` gets what becomes of each task. */
export interface TaskRunnerOptions {
  readonly systemd: Systemd;
  readonly checkpoints: Checkpoints;
  readonly fences: Fences;
  readonly fetcher: Fetcher;
  readonly executors: ExecutorIntroduction;
  /** What tasks of this node may do. */
  readonly policy: SandboxPolicy;
  /** Variables by which a task finds Kaon on this node. */
  readonly programs: Readonly<Record<string, string>>;
  readonly clock: Clock;
  readonly log: Log;
  readonly cluster: string;
  readonly agentId: AgentId;
  readonly agentTag: string;
  /** The agent's own directory; sandboxes are below it. */
  readonly directory: string;
  readonly bootId: string;
  /** The one user that tasks run as; absent: any. */
  readonly ofUser?: OwnUser;
  readonly onEvent: (event: AgentEvent) => void;
  /** Aborted when the agent stops: what is not known by then is for the next one to find out. */
  readonly signal: AbortSignal;
}

/** Starts, watches and ends the units of tasks. Its calls return at once; events follow. */
export class TaskRunner {
  readonly #options: TaskRunnerOptions;
  /** Looks under way, by unit; `again` if the unit changed meanwhile. */
  readonly #looking = new Map<string, { again: boolean }>();
  /** Launches that are being prepared, which a kill cuts short. */
  readonly #preparing = new Map<LaunchId, AbortController>();
  /** Ended units that hold the only record of their end. */
  readonly #unreleased = new Set<string>();

  constructor(options: TaskRunnerOptions) {
    this.#options = options;
  }

  /** Prepares and starts a task; `unit.started` or `unit.failed` follows. */
  start(entry: UnitEntry): void {
    void this.#start(entry);
  }

  /**
   * Looks whether the task's unit has ended, and if so reads, stores and releases it; `unit.ended` follows.
   * With `ended`, how it did is known already.
   */
  look(entry: UnitEntry, ended?: UnitStatus): void {
    const running = this.#looking.get(entry.unit);
    if (running) {
      running.again = true;
      return;
    }
    const mine = { again: false };
    this.#looking.set(entry.unit, mine);
    this.#look(entry, ended)
      .catch((error: unknown) => {
        // The unit is still there, or the list will say that it is not: the next look goes on from here.
        this.#options.log.warn('unit.look-failed', { unit: entry.unit, error: messageOf(error) });
      })
      .finally(() => {
        this.#looking.delete(entry.unit);
        // An end that was told is over: its unit is released, and must not be taken for one that vanished.
        if (mine.again && !isOver(entry)) this.look(entry);
      });
  }

  /** Ends what is left of a unit whose end is in the checkpoint already. */
  release(entry: UnitEntry): void {
    this.#attempt('unit.release', entry, () => this.#options.systemd.releaseUnit(entry.unit));
  }

  signal(entry: UnitEntry, signal: number): void {
    this.#options.log.info('unit.signal', { unit: entry.unit, signal });
    this.#attempt('unit.signal', entry, () => this.#options.systemd.killUnit(entry.unit, signal));
  }

  /** What is known of the framework of a task, or of its end, has changed. */
  update(entry: UnitEntry): void {
    const { launchId, unit, framework, detached, task } = entry;
    if (entry.kill) this.#preparing.get(launchId)?.abort();
    this.#tryFile('checkpoint.update', unit, () => {
      const { resources } = task;
      const change = { framework, detached, resources, ...this.#killOf(entry) };
      this.#options.checkpoints.update(launchId, change);
    });
  }

  /** Stores an end that nobody saw: it is to be told the same way if it has to be told again. */
  lose(entry: UnitEntry, message: string): void {
    this.#write({ ...this.#checkpointOf(entry), lost: message });
  }

  /** Stores that a unit was found without a checkpoint, and what it says of itself. */
  adopt(entry: UnitEntry): void {
    this.#write({ ...this.#checkpointOf(entry), rebuilt: true });
  }

  /** The framework knows the end: nothing but the memory of it needs to outlive the agent any more. */
  forget(entry: UnitEntry): void {
    const { checkpoints } = this.#options;
    const { unit, launchId } = entry;
    const isRetired = this.#tryFile('checkpoint.retire', unit, () => {
      checkpoints.retire(launchId);
    });
    if (!isRetired) this.#discard(entry);
    if (this.#unreleased.delete(unit)) this.release(entry);
  }

  async #start(entry: UnitEntry): Promise<void> {
    const { log } = this.#options;
    this.#write(this.#checkpointOf(entry));
    const spec = await this.#prepareOrFail(entry);
    if (!spec) return;
    const result = await this.#startUnit(spec);
    if (!result) return;
    if (result.ok) {
      log.debug('unit.started', { unit: entry.unit });
      const limits = { cpuMillis: spec.cpuMillis, memMib: spec.memoryMib };
      this.#options.onEvent({ type: 'unit.started', ...launchOf(entry), limits });
    } else {
      this.#fail(entry, { exitStatus: result.status?.exitStatus, message: result.message });
    }
  }

  /** @returns undefined if there is nothing to start: it was told, or the agent has stopped */
  async #prepareOrFail(entry: UnitEntry): Promise<UnitSpec | undefined> {
    const { signal } = this.#options;
    const stop = new AbortController();
    this.#preparing.set(entry.launchId, stop);
    if (entry.kill) stop.abort();
    try {
      return await this.#prepare(entry, AbortSignal.any([signal, stop.signal]));
    } catch (error) {
      if (signal.aborted) return undefined; // The next agent prepares it anew.
      const reason = FAILURE_REASONS[codeOf(error) ?? ''];
      this.#fail(entry, {
        message: messageOf(error),
        ...(reason && { reason }),
        ...(stop.signal.aborted && { isStopped: true }),
      });
      return undefined;
    } finally {
      this.#preparing.delete(entry.launchId);
    }
  }

  async #prepare(entry: UnitEntry, signal: AbortSignal): Promise<UnitSpec> {
    const { cluster, agentId, agentTag, bootId, fences, fetcher, executors } = this.#options;
    const { programs, policy, directory } = this.#options;
    const { framework, detached, task, launchId } = entry;
    const sandbox = this.#sandboxOf(entry);
    const command = isExecutor(entry) ? executors.commandOf(entry.info) : task.command;
    if (!command) throw new KaonError('no-command', 'the task has no command');
    refuseOtherUser(command.user, this.#options.ofUser);
    const granted = await (isExecutor(entry)
      ? grantExecutor(policy, entry.info, command)
      : grant(policy, command));
    const { work, write } = await explained('its sandbox could not be made', async () =>
      prepareSandbox(sandbox, granted),
    );
    const directories = (task.directories ?? []).map((id) => openDirectory(directory, id, granted));
    if (task.uris.length > 0) {
      await fetcher.fetch(task.uris, { work, ...(await fetchingAs(granted)) }, signal);
    }
    const { whenUnreachable } = task;
    if (whenUnreachable !== 'keep') {
      await explained('its stop when unreachable could not be set up', () =>
        fences.ensure(whenUnreachable.stopAfterMs),
      );
    }
    const introduction = isExecutor(entry) ? executors.introduce(sandbox, write) : undefined;
    const record = encodeUnitRecord({
      ...{ cluster, agentId, framework, detached, task, launchId, bootId, sandbox },
    });
    // Of an executor as much as is needed by now: tasks may have come while it was prepared.
    const limits = isExecutor(entry) ? entry.needed : task.resources;
    const { spec, script } = taskUnit(entry, {
      ...{ agentTag, sandbox, work, directories, record, command, programs, limits },
      grant: granted,
      cgroupVersion: policy.cgroupVersion,
      environment: introduction?.environment ?? {},
      ...(introduction && {
        hosting: { directory: makeHosted(directory, launchId), needs: introduction.needs },
      }),
    });
    await explained('its command or its output could not be put there', async () => {
      if (script) write(script.path, script.text);
      makeOutputFiles(sandbox, granted);
    });
    return spec;
  }

  /**
   * A start whose fate is not known (systemd or its bus did not answer) is no failure: the framework would launch the
   * task once more beside one that may run. It is looked for by its name, which is this launch's alone.
   *
   * @returns undefined if the agent stopped before it was known
   */
  async #startUnit(spec: UnitSpec): Promise<StartResult | undefined> {
    const { systemd, log, clock, signal } = this.#options;
    for (let attempt = 1; ; attempt += 1) {
      try {
        if (attempt > 1 && (await systemd.readUnit(spec.name))) return { ok: true };
        return await systemd.startUnit(spec);
      } catch (error) {
        log.warn('unit.start-unknown', { unit: spec.name, attempt, error: messageOf(error) });
        await clock.sleep(START_RETRY_MS, signal);
        if (signal.aborted) return undefined;
      }
    }
  }

  /** The failure is stored before it is told, as an end is. */
  #fail(entry: UnitEntry, failed: NonNullable<TaskCheckpoint['failed']>): void {
    const { log, onEvent } = this.#options;
    log.info('unit.not-started', { unit: entry.unit, ...failed });
    // Without a word of the failure the next agent would take it for one that is still to be started.
    if (!this.#write({ ...this.#checkpointOf(entry), failed })) this.#discard(entry);
    onEvent({ type: 'unit.failed', ...launchOf(entry), ...failed });
  }

  async #look(entry: UnitEntry, ended?: UnitStatus): Promise<void> {
    const { systemd, fences, onEvent } = this.#options;
    const { unit, task } = entry;
    const isFenced = task.whenUnreachable !== 'keep';
    // Only the unit itself tells whether it was stopped.
    const status = (isFenced ? undefined : ended) ?? (await systemd.readUnit(unit));
    if (!status) {
      const message = 'its unit vanished: somebody else stopped it';
      // Stored, or the next agent would find no unit and no end, and take the task for one that was never started.
      this.#write({ ...this.#checkpointOf(entry), lost: message });
      onEvent({ type: 'unit.lost', ...launchOf(entry), message });
      return;
    }
    if (!hasEnded(status)) return;
    const { result } = status;
    const fenced = isFenced && (await fences.hasStopped(task.whenUnreachable, status));
    const holdsLimits = this.#options.ofUser?.holdsLimits ?? true;
    const limits = isExecutor(entry) ? entry.granted : task.resources;
    const first = certificateOf(status, holdsLimits ? limits : NO_RESOURCES);
    const end = { result, certificate: first, fenced };
    // Stored before the unit goes: from then on systemd does not know how the command ended.
    if (this.#write({ ...this.#checkpointOf(entry), ended: end })) await systemd.releaseUnit(unit);
    else await this.#keepUnit(unit);
    // What was left in the cgroup may have written until just now, so the output is measured last.
    const certificate = { ...first, ...readOutputEnd(this.#sandboxOf(entry)) };
    onEvent({ type: 'unit.ended', ...launchOf(entry), ended: { ...end, certificate } });
  }

  /** The disk is full: systemd goes on keeping the end, and what else is in the cgroup ends all the same. */
  async #keepUnit(unit: string): Promise<void> {
    this.#unreleased.add(unit);
    await this.#options.systemd.killUnit(unit, SIGKILL);
  }

  /** @returns false if it could not be stored, which keeps no task from running or ending */
  #write(checkpoint: TaskCheckpoint): boolean {
    return this.#tryFile('checkpoint.write', checkpoint.unit, () => {
      this.#options.checkpoints.write(checkpoint);
    });
  }

  #discard({ unit, launchId }: UnitEntry): void {
    this.#tryFile('checkpoint.discard', unit, () => {
      this.#options.checkpoints.discard(launchId);
    });
  }

  #tryFile(what: string, unit: string, change: () => void): boolean {
    try {
      change();
      return true;
    } catch (error) {
      this.#options.log.warn(`${what}-failed`, { unit, error: messageOf(error) });
      return false;
    }
  }

  #attempt(what: string, entry: UnitEntry, action: () => Promise<unknown>): void {
    action().catch((error: unknown) => {
      this.#options.log.warn(`${what}-failed`, { unit: entry.unit, error: messageOf(error) });
    });
  }

  #sandboxOf({ framework: { frameworkId }, task: { taskId }, launchId }: UnitEntry): string {
    return sandboxPath(this.#options.directory, { frameworkId, taskId, launchId });
  }

  #checkpointOf(entry: UnitEntry): TaskCheckpoint {
    const { framework, detached, task, launchId, unit } = entry;
    const { agentId, bootId } = this.#options;
    return {
      version: CHECKPOINT_VERSION,
      agentId,
      framework,
      detached,
      task,
      launchId,
      unit,
      sandbox: this.#sandboxOf(entry),
      bootId,
      rebuilt: false,
      ...this.#killOf(entry),
    };
  }

  /** By the wall clock: the monotonic one begins anew with each agent. */
  #killOf({ kill }: UnitEntry): Pick<TaskCheckpoint, 'kill' | 'killAtMs'> {
    if (!kill) return {};
    const { clock } = this.#options;
    const leftMs = Math.max(0, kill.deadlineMs - clock.monotonicMs());
    return { kill: kill.by, killAtMs: clock.wallMs() + leftMs };
  }
}

function launchOf({ key, launchId }: UnitEntry): LaunchRef {
  return { key, launchId };
}

/** @throws Error that says in front of the cause what it prevented */
async function explained<T>(what: string, attempt: () => Promise<T>): Promise<T> {
  try {
    return await attempt();
  } catch (cause) {
    throw new KaonError('not-prepared', `${what}: ${messageOf(cause)}`, { cause });
  }
}

/** The main process has ended, or systemd has given the unit up. What else is in its cgroup ends with the release. */
function hasEnded({ activeState, exitKind }: UnitStatus): boolean {
  return exitKind !== 'none' || activeState === 'failed' || activeState === 'inactive';
}

function certificateOf(status: UnitStatus, { memMib }: Resources): DeathCertificate {
  const { exitKind, exitStatus } = status;
  return {
    ...(exitKind === 'exited' && { exitCode: exitStatus }),
    ...((exitKind === 'killed' || exitKind === 'dumped') && { signal: exitStatus }),
    oomKills: status.oomKills,
    memoryPeakBytes: status.memoryPeakBytes,
    // Of a container whose limits nobody has heard of yet.
    ...(memMib > 0 && { memoryLimitBytes: memMib * MIB }),
    cpuUsec: status.cpuUsec,
    throttledUsec: status.throttledUsec,
    ...(status.startedAtMs > 0 && { startedAtMs: status.startedAtMs }),
    ...(status.exitedAtMs > 0 && { endedAtMs: status.exitedAtMs }),
  };
}
