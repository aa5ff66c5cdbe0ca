/** How a task ended: from what systemd and the kernel saw to a state, a reason and words. Pure. */
import { formatBytes, formatDuration } from '../../protocol/quantities.ts';
import type { TaskReason, TaskState } from '../../protocol/task-state.ts';
import type { DeathCertificate, TaskInfo } from '../../protocol/task.ts';

const MIB = 1024 * 1024;

/** What is known of an ended command. */
export interface EndedUnit {
  /** systemd's `Result`, systemd.exec(5): `success`, `timeout`, `oom-kill`, ...; `start-timeout`: never executed. */
  readonly result: string;
  readonly certificate: DeathCertificate;
  /** True if its node stopped it because nothing had been heard of the cluster for the time that it names. */
  readonly fenced?: boolean | undefined;
}

/** Who has asked for the end. `master`: another launch may have taken its place; `agent`: of an executor that nobody needs. */
export type KilledBy = 'framework' | 'operator' | 'preemption' | 'master' | 'agent';

/** State, reason and words of a task's end, as its last status update carries them. */
export interface Verdict {
  readonly state: TaskState;
  readonly reason?: TaskReason;
  readonly message: string;
}

/**
 * The kernel's word comes first (memory), then what systemd did (the fence, the limit of time), then who asked for the
 * end, and only then how the command itself left: a task that was killed for memory is not "killed by signal 9".
 */
export function judge(ended: EndedUnit, task: TaskInfo, killedBy: KilledBy | undefined): Verdict {
  const { certificate } = ended;
  if (ended.result === 'oom-kill' || (certificate.oomKills ?? 0) > 0) {
    return {
      state: 'TASK_FAILED',
      reason: 'REASON_CONTAINER_LIMITATION_MEMORY',
      message: memoryMessage(task.resources.memMib, certificate),
    };
  }
  if (ended.result === 'start-timeout' && killedBy === undefined) {
    return {
      state: 'TASK_FAILED',
      reason: 'REASON_CONTAINER_LAUNCH_FAILED',
      message: 'not started: its command had not begun in the time that a start may take',
    };
  }
  if (ended.fenced === true && killedBy === undefined) return stoppedByFence(task, certificate);
  // Without a limit it is the time to stop that has run out.
  if (
    ended.result === 'timeout' &&
    killedBy === undefined &&
    task.maxCompletionTimeMs !== undefined
  ) {
    return {
      state: 'TASK_FAILED',
      reason: 'REASON_MAX_COMPLETION_TIME_REACHED',
      message: `ran longer than its limit of ${formatDuration(task.maxCompletionTimeMs)}`,
    };
  }
  if (killedBy !== undefined) return killed(killedBy, certificate);
  return leftByItself(certificate);
}

function stoppedByFence({ whenUnreachable }: TaskInfo, certificate: DeathCertificate): Verdict {
  const afterMs = whenUnreachable === 'keep' ? 0 : whenUnreachable.stopAfterMs;
  return {
    state: 'TASK_KILLED',
    reason: 'REASON_STOPPED_WHEN_UNREACHABLE',
    message: `stopped by its node after ${formatDuration(afterMs)} without contact to the cluster: ${howItLeft(certificate)}`,
  };
}

function killed(by: KilledBy, certificate: DeathCertificate): Verdict {
  if (by === 'master') {
    return {
      state: 'TASK_KILLED',
      reason: 'REASON_TASK_SUPERSEDED',
      message: 'ended because the master had given this launch up',
    };
  }
  if (by === 'agent') {
    return { state: 'TASK_KILLED', message: `not needed any more: ${howItLeft(certificate)}` };
  }
  if (by === 'preemption') {
    return {
      state: 'TASK_KILLED',
      reason: 'REASON_PREEMPTED',
      message: `preempted, for work that goes before it: ${howItLeft(certificate)}`,
    };
  }
  return {
    state: 'TASK_KILLED',
    reason: by === 'operator' ? 'REASON_KILLED_BY_OPERATOR' : 'REASON_KILLED_BY_FRAMEWORK',
    message: `killed on request of the ${by}: ${howItLeft(certificate)}`,
  };
}

function leftByItself(certificate: DeathCertificate): Verdict {
  if (certificate.exitCode === 0) return { state: 'TASK_FINISHED', message: 'exited with code 0' };
  const reason =
    certificate.signal === undefined ? 'REASON_COMMAND_EXITED' : 'REASON_COMMAND_SIGNALED';
  return { state: 'TASK_FAILED', reason, message: howItLeft(certificate) };
}

/** As a person would say it: by a code, or by a signal. */
export function howItLeft({ exitCode, signal }: DeathCertificate): string {
  if (signal !== undefined) return `ended by signal ${String(signal)}${signalName(signal)}`;
  return exitCode === undefined
    ? 'ended in an unknown way'
    : `exited with code ${String(exitCode)}`;
}

/** @param memMib the limit that was in force, MiB */
export function memoryMessage(
  memMib: number,
  { memoryPeakBytes, oomKills }: DeathCertificate,
): string {
  const limit = formatBytes(memMib * MIB);
  const peak = memoryPeakBytes === undefined ? '' : `, peak ${formatBytes(memoryPeakBytes)}`;
  const many = oomKills !== undefined && oomKills > 1 ? ` (${String(oomKills)} processes)` : '';
  return `killed by the kernel: memory limit ${limit}${peak}${many}`;
}

const SIGNAL_NAMES: Readonly<Record<number, string>> = {
  1: 'SIGHUP',
  2: 'SIGINT',
  3: 'SIGQUIT',
  4: 'SIGILL',
  6: 'SIGABRT',
  7: 'SIGBUS',
  8: 'SIGFPE',
  9: 'SIGKILL',
  10: 'SIGUSR1',
  11: 'SIGSEGV',
  12: 'SIGUSR2',
  13: 'SIGPIPE',
  14: 'SIGALRM',
  15: 'SIGTERM',
};

function signalName(signal: number): string {
  const name = SIGNAL_NAMES[signal];
  return name === undefined ? '' : ` (${name})`;
}

/** systemd's exit codes for what failed before the command ran, systemd.exec(5), "PROCESS EXIT CODES". */
const LAUNCH_FAILURES: Readonly<Record<number, (task: TaskInfo) => string>> = {
  200: ({ command }) =>
    `working directory ${command?.workingDirectory ?? 'sandbox'} cannot be entered`,
  203: ({ command }) =>
    `command ${JSON.stringify(command?.argv[0])} cannot be executed: it does not exist there, or is not executable`,
  209: () => 'the file for standard output cannot be opened',
  218: () => 'its capabilities could not be taken away',
  225: () => 'this node could not make it a network of its own',
  226: () =>
    'its view of the file system could not be made: this node makes no mount namespaces, or a path that it is to see is not there (systemctl status of the unit says which); an agent with --relax all starts tasks without a sandbox',
  228: () =>
    'its system calls could not be limited: this kernel has no seccomp filters (an agent with --relax syscalls does without)',
  216: ({ command }) => `the group of user ${JSON.stringify(command?.user)} does not exist there`,
  217: ({ command }) => `user ${JSON.stringify(command?.user)} does not exist there`,
};

/** What is known of a command that was never executed. */
export interface LaunchFailure {
  readonly exitStatus?: number | undefined;
  readonly message: string;
  readonly reason?: TaskReason | undefined;
}

/** What to say of it. */
export function judgeLaunch(task: TaskInfo, hostname: string, failure: LaunchFailure): Verdict {
  const explain = LAUNCH_FAILURES[failure.exitStatus ?? -1];
  const byStatus =
    failure.exitStatus === 203 ? 'REASON_COMMAND_NOT_EXECUTABLE' : 'REASON_CONTAINER_LAUNCH_FAILED';
  return {
    // What this node will never do is no failure of a try.
    state: failure.reason === 'REASON_TASK_INVALID' ? 'TASK_ERROR' : 'TASK_FAILED',
    reason: failure.reason ?? byStatus,
    message: `not started on ${hostname}: ${explain?.(task) ?? failure.message}`,
  };
}
