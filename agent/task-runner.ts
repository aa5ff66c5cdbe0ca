/**
 * One launch from its sandbox to its death certificate, in steps that can be cut off after any of them:
 * checkpoint, unit, process; then end read, end checkpointed, unit released, core told.
 */
import { isAbsolute, join } from 'node:path';
import type { Clock } from '../io/clock.ts';
import type { Log } from '../io/log.ts';
import { messageOf } from '../protocol/errors.ts';
import { formatResources } from '../protocol/resources.ts';
import { isTerminal } from '../protocol/task-state.ts';
import type { DeathCertificate, TaskInfo } from '../protocol/task.ts';
import type { StartResult, Systemd, UnitStatus } from '../systemd/port.ts';
import type { UnitSpec } from '../systemd/properties.ts';
import type { Checkpoints, TaskCheckpoint } from './checkpoint.ts';
import type { AgentTaskEntry } from './core/state.ts';
import type { AgentEvent } from './core/step.ts';
import { frameworkSlice } from './core/unit-names.ts';
import { prepareSandbox, readOutputEnd, sandboxPath } from './sandbox.ts';

const MIB = 1024 * 1024;
/** Processes and threads of one task; far above what a program needs, far below what a fork bomb makes. */
const TASKS_MAX = 4096;
/** Pause before a start is looked for again, milliseconds. */
const START_RETRY_MS = 1000;

/** What a runner works with; `onEvent` gets what becomes of each task. */
export interface TaskRunnerOptions {
  readonly systemd: Systemd;
  readonly checkpoints: Checkpoints;
  readonly clock: Clock;
  readonly log: Log;
  /** The agent's own directory; sandboxes are below it. */
  readonly directory: string;
  readonly bootId: string;
  readonly onEvent: (event: AgentEvent) => void;
  /** Aborted when the agent stops: what is not known by then is for the next one to find out. */
  readonly signal: AbortSignal;
}

/** Starts, watches and ends the units of tasks. Its calls return at once; events follow. */
export class TaskRunner {
  readonly #options: TaskRunnerOptions;
  /** Looks under way, by unit; `again` if the unit changed meanwhile. */
  readonly #looking = new Map<string, { again: boolean }>();

  constructor(options: TaskRunnerOptions) {
    this.#options = options;
  }

  /** Prepares and starts a task; `unit.started` or `unit.failed` follows. */
  start(entry: AgentTaskEntry): void {
    void this.#start(entry);
  }

  /**
   * Looks whether the task's unit has ended, and if so reads, stores and releases it; `unit.ended` follows.
   * With `ended`, how it did is known already.
   */
  look(entry: AgentTaskEntry, ended?: UnitStatus): void {
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
        if (mine.again && !isTerminal(entry.state)) this.look(entry);
      });
  }

  /** Ends what is left of a unit whose end is in the checkpoint already. */
  release(entry: AgentTaskEntry): void {
    this.#attempt('unit.release', entry, () => this.#options.systemd.releaseUnit(entry.unit));
  }

  signal(entry: AgentTaskEntry, signal: number): void {
    this.#options.log.info('unit.signal', { unit: entry.unit, signal });
    this.#attempt('unit.signal', entry, () => this.#options.systemd.killUnit(entry.unit, signal));
  }

  /** The framework knows the end: nothing needs to outlive the agent any more. */
  forget(entry: AgentTaskEntry): void {
    try {
      this.#options.checkpoints.remove(entry.launchId);
    } catch (error) {
      const { unit } = entry;
      this.#options.log.warn('checkpoint.remove-failed', { unit, error: messageOf(error) });
    }
  }

  async #start(entry: AgentTaskEntry): Promise<void> {
    const { checkpoints, log } = this.#options;
    const sandbox = this.#sandboxOf(entry);
    let workingDirectory: string;
    try {
      checkpoints.write(this.#checkpointOf(entry));
      workingDirectory = await prepareSandbox(sandbox, entry.task.command.user);
    } catch (error) {
      this.#fail(entry, { message: `its sandbox could not be made: ${messageOf(error)}` });
      return;
    }
    const result = await this.#startUnit(unitSpec(entry, sandbox, workingDirectory));
    if (!result) return;
    if (result.ok) {
      log.debug('unit.started', { unit: entry.unit });
      this.#options.onEvent({ type: 'unit.started', key: entry.key });
    } else {
      this.#fail(entry, { exitStatus: result.status?.exitStatus, message: result.message });
    }
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
  #fail(entry: AgentTaskEntry, failed: { exitStatus?: number | undefined; message: string }): void {
    const { log, onEvent } = this.#options;
    log.info('unit.not-started', { unit: entry.unit, ...failed });
    this.#write({ ...this.#checkpointOf(entry), failed });
    onEvent({ type: 'unit.failed', key: entry.key, ...failed });
  }

  async #look(entry: AgentTaskEntry, ended?: UnitStatus): Promise<void> {
    const { systemd, onEvent } = this.#options;
    const { key, unit, task } = entry;
    const status = ended ?? (await systemd.readUnit(unit));
    if (!status) {
      const message = 'its unit vanished: somebody else stopped it';
      // Stored, or the next agent would find no unit and no end, and take the task for one that was never started.
      this.#write({ ...this.#checkpointOf(entry), lost: message });
      onEvent({ type: 'unit.lost', key, message });
      return;
    }
    if (!hasEnded(status)) return;
    const { result } = status;
    const first = certificateOf(status, task);
    // Stored before the unit goes: from then on systemd does not know how the command ended.
    this.#write({ ...this.#checkpointOf(entry), ended: { result, certificate: first } });
    await systemd.releaseUnit(unit);
    // What was left in the cgroup may have written until just now, so the output is measured last.
    const certificate = { ...first, ...readOutputEnd(this.#sandboxOf(entry)) };
    onEvent({ type: 'unit.ended', key, ended: { result, certificate } });
  }

  /**
   * A full disk must not keep a task from ending: without its checkpoint the end is still told now, and only an agent
   * that dies before the acknowledgement would not know it.
   */
  #write(checkpoint: TaskCheckpoint): void {
    try {
      this.#options.checkpoints.write(checkpoint);
    } catch (error) {
      const { unit } = checkpoint;
      this.#options.log.warn('checkpoint.write-failed', { unit, error: messageOf(error) });
    }
  }

  #attempt(what: string, entry: AgentTaskEntry, action: () => Promise<unknown>): void {
    action().catch((error: unknown) => {
      this.#options.log.warn(`${what}-failed`, { unit: entry.unit, error: messageOf(error) });
    });
  }

  #sandboxOf({ frameworkId, task, launchId }: AgentTaskEntry): string {
    return sandboxPath(this.#options.directory, { frameworkId, taskId: task.taskId, launchId });
  }

  #checkpointOf(entry: AgentTaskEntry): TaskCheckpoint {
    const { frameworkId, frameworkName, task, launchId, unit, kill } = entry;
    return {
      version: 1,
      frameworkId,
      frameworkName,
      task,
      launchId,
      unit,
      sandbox: this.#sandboxOf(entry),
      bootId: this.#options.bootId,
      kill: kill?.by,
    };
  }
}

/** The main process has ended, or systemd has given the unit up. What else is in its cgroup ends with the release. */
function hasEnded({ activeState, exitKind }: UnitStatus): boolean {
  return exitKind !== 'none' || activeState === 'failed' || activeState === 'inactive';
}

function certificateOf(status: UnitStatus, task: TaskInfo): DeathCertificate {
  const { exitKind, exitStatus } = status;
  return {
    ...(exitKind === 'exited' && { exitCode: exitStatus }),
    ...((exitKind === 'killed' || exitKind === 'dumped') && { signal: exitStatus }),
    oomKills: status.oomKills,
    memoryPeakBytes: status.memoryPeakBytes,
    memoryLimitBytes: task.resources.memMib * MIB,
    cpuUsec: status.cpuUsec,
    throttledUsec: status.throttledUsec,
    ...(status.startedAtMs > 0 && { startedAtMs: status.startedAtMs }),
    ...(status.exitedAtMs > 0 && { endedAtMs: status.exitedAtMs }),
  };
}

function unitSpec(entry: AgentTaskEntry, sandbox: string, work: string): UnitSpec {
  const { frameworkId, frameworkName, task, unit } = entry;
  const { command, resources } = task;
  const workingDirectory = command.workingDirectory ?? work;
  return {
    name: unit,
    slice: frameworkSlice(frameworkId),
    description: `kaon task ${task.name} of ${frameworkName} (${formatResources(resources)})`,
    argv: absoluteProgram(command.argv, workingDirectory),
    workingDirectory,
    stdoutPath: join(sandbox, 'stdout'),
    stderrPath: join(sandbox, 'stderr'),
    environment: {
      KAON_TASK_ID: task.taskId,
      KAON_FRAMEWORK_ID: frameworkId,
      KAON_SANDBOX: work,
      // systemd sets it for a unit with a user; programs that find none behave oddly.
      ...(command.user === undefined && { HOME: work }),
      ...command.environment,
    },
    ...(command.user !== undefined && { user: command.user }),
    cpuMillis: resources.cpuMillis,
    memoryMib: resources.memMib,
    tasksMax: TASKS_MAX,
    stopTimeoutMs: task.killGracePeriodMs,
    ...(task.maxCompletionTimeMs !== undefined && { runtimeMaxMs: task.maxCompletionTimeMs }),
    journalFields: { KAON_TASK_ID: task.taskId, KAON_FRAMEWORK_ID: frameworkId },
  };
}

/** systemd takes a bare name or an absolute path; `./run.sh` is meant from the working directory. */
function absoluteProgram(argv: readonly string[], workingDirectory: string): string[] {
  const [program = '', ...rest] = argv;
  const relative = program.includes('/') && !isAbsolute(program);
  return [relative ? join(workingDirectory, program) : program, ...rest];
}
