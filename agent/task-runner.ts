/**
 * One launch from its sandbox to its death certificate, in steps that can be cut off after any of them:
 * checkpoint, unit, process; then end read, end checkpointed, unit released, core told.
 */
import { isAbsolute, join } from 'node:path';
import type { Log } from '../io/log.ts';
import { messageOf } from '../protocol/errors.ts';
import { formatResources } from '../protocol/resources.ts';
import type { DeathCertificate, TaskInfo } from '../protocol/task.ts';
import type { Systemd, UnitStatus } from '../systemd/port.ts';
import type { UnitSpec } from '../systemd/properties.ts';
import type { Checkpoints, TaskCheckpoint } from './checkpoint.ts';
import type { AgentTaskEntry } from './core/state.ts';
import type { AgentEvent } from './core/step.ts';
import { frameworkSlice } from './core/unit-names.ts';
import { prepareSandbox, readOutputEnd, sandboxPath } from './sandbox.ts';

const MIB = 1024 * 1024;
/** Processes and threads of one task; far above what a program needs, far below what a fork bomb makes. */
const TASKS_MAX = 4096;

export interface TaskRunnerOptions {
  readonly systemd: Systemd;
  readonly checkpoints: Checkpoints;
  readonly log: Log;
  readonly directory: string;
  readonly bootId: string;
  readonly onEvent: (event: AgentEvent) => void;
}

export interface TaskRunner {
  /** Prepares and starts a task; `unit.started` or `unit.failed` follows. */
  start(entry: AgentTaskEntry): void;
  /**
   * Looks whether the task's unit has ended, and if so reads, stores and releases it; `unit.ended` follows.
   * With `ended`, how it did is known already.
   */
  look(entry: AgentTaskEntry, ended?: UnitStatus): void;
  /** Ends what is left of a unit whose end is in the checkpoint already. */
  release(entry: AgentTaskEntry): void;
  signal(entry: AgentTaskEntry, signal: number): void;
  forget(entry: AgentTaskEntry): void;
}

export function createTaskRunner(options: TaskRunnerOptions): TaskRunner {
  const { systemd, checkpoints, log, directory, onEvent } = options;
  /** Looks under way; `again` if the unit changed meanwhile. */
  const looking = new Map<string, { again: boolean }>();

  const start = async (entry: AgentTaskEntry): Promise<void> => {
    const { key, task, unit } = entry;
    const sandbox = sandboxOf(directory, entry);
    let workingDirectory: string;
    try {
      await checkpoints.write(checkpointOf(entry, sandbox, options.bootId));
      workingDirectory = await prepareSandbox(sandbox, task.command.user);
    } catch (error) {
      await fail(entry, { message: `its sandbox could not be made: ${messageOf(error)}` });
      return;
    }
    const result = await systemd.startUnit(unitSpec(entry, sandbox, workingDirectory));
    if (result.ok) {
      log.debug('unit.started', { unit });
      onEvent({ type: 'unit.started', key });
      return;
    }
    await fail(entry, { exitStatus: result.status?.exitStatus, message: result.message });
  };

  /** The failure is stored before it is told, as an end is. */
  const fail = async (
    entry: AgentTaskEntry,
    failed: { exitStatus?: number | undefined; message: string },
  ): Promise<void> => {
    const { key, unit } = entry;
    log.info('unit.not-started', { unit, ...failed });
    const sandbox = sandboxOf(directory, entry);
    const checkpoint = checkpointOf(entry, sandbox, options.bootId);
    await checkpoints.write({ ...checkpoint, failed }).catch((error: unknown) => {
      log.warn('checkpoint.write-failed', { unit, error: messageOf(error) });
    });
    onEvent({ type: 'unit.failed', key, ...failed });
  };

  const look = async (entry: AgentTaskEntry, ended?: UnitStatus): Promise<void> => {
    const status = ended ?? (await systemd.readUnit(entry.unit));
    if (!status) {
      onEvent({
        type: 'unit.lost',
        key: entry.key,
        message: 'its unit vanished: somebody else stopped it',
      });
      return;
    }
    if (!hasEnded(status)) return;
    const sandbox = sandboxOf(directory, entry);
    const first = certificateOf(status, entry.task);
    const checkpoint = checkpointOf(entry, sandbox, options.bootId);
    // Stored before the unit goes: from then on systemd does not know how the command ended.
    await checkpoints.write({
      ...checkpoint,
      ended: { result: status.result, certificate: first },
    });
    await systemd.releaseUnit(entry.unit);
    // What was left in the cgroup may have written until just now, so the output is measured last.
    const certificate = { ...first, ...(await readOutputEnd(sandbox)) };
    onEvent({ type: 'unit.ended', key: entry.key, ended: { result: status.result, certificate } });
  };

  const lookSoon = (entry: AgentTaskEntry, ended?: UnitStatus): void => {
    const running = looking.get(entry.unit);
    if (running) {
      running.again = true;
      return;
    }
    const mine = { again: false };
    looking.set(entry.unit, mine);
    look(entry, ended)
      .catch((error: unknown) => {
        // The unit is still there, or the list will say that it is not: the next look goes on from here.
        log.warn('unit.look-failed', { unit: entry.unit, error: messageOf(error) });
      })
      .finally(() => {
        looking.delete(entry.unit);
        if (mine.again) lookSoon(entry);
      });
  };

  const attempt = (what: string, entry: AgentTaskEntry, action: () => Promise<unknown>): void => {
    action().catch((error: unknown) => {
      log.warn(`${what}-failed`, { unit: entry.unit, error: messageOf(error) });
    });
  };

  return {
    start: (entry) => {
      start(entry).catch((error: unknown) =>
        fail(entry, { message: `systemd did not answer: ${messageOf(error)}` }),
      );
    },
    look: lookSoon,
    release: (entry) => {
      attempt('unit.release', entry, () => systemd.releaseUnit(entry.unit));
    },
    signal: (entry, signal) => {
      log.info('unit.signal', { unit: entry.unit, signal });
      attempt('unit.signal', entry, () => systemd.killUnit(entry.unit, signal));
    },
    forget: (entry) => {
      attempt('checkpoint.remove', entry, () => checkpoints.remove(entry.launchId));
    },
  };
}

function sandboxOf(directory: string, entry: AgentTaskEntry): string {
  const { frameworkId, task, launchId } = entry;
  return sandboxPath(directory, { frameworkId, taskId: task.taskId, launchId });
}

function checkpointOf(entry: AgentTaskEntry, sandbox: string, bootId: string): TaskCheckpoint {
  const { frameworkId, frameworkName, task, launchId, unit, kill } = entry;
  return {
    version: 1,
    frameworkId,
    frameworkName,
    task,
    launchId,
    unit,
    sandbox,
    bootId,
    kill: kill?.by,
  };
}

/** Every end leads to one of these: `exited` (see the unit's properties), or a failure that systemd decided on. */
function hasEnded({ activeState, subState }: UnitStatus): boolean {
  return subState === 'exited' || activeState === 'failed' || activeState === 'inactive';
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
