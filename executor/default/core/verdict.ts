/** How a task of the default executor ended: a state, a reason, and words that are those of the agent. Pure. */
import type { ExecutorTaskState } from '../../../protocol/executor-messages.ts';
import { formatDuration } from '../../../protocol/quantities.ts';
import type { TaskReason } from '../../../protocol/task-state.ts';
import type { TaskInfo } from '../../../protocol/task.ts';

/** What the kernel says of the main process of a task. */
export interface Exit {
  readonly exitCode?: number;
  readonly signal?: number;
}

/** Why the executor itself ends a task. */
export type EndCause =
  | { readonly type: 'kill' }
  /** Another task of its group was to be killed. */
  | { readonly type: 'group-kill'; readonly taskId: string }
  | { readonly type: 'group-failure'; readonly taskId: string; readonly message: string }
  | { readonly type: 'time-limit' }
  | { readonly type: 'health'; readonly failures: number; readonly problem: string }
  | { readonly type: 'shutdown' };

/** State, reason and words of a task's end. */
export interface Verdict {
  readonly state: ExecutorTaskState;
  readonly reason?: TaskReason;
  readonly message: string;
}

/**
 * Who has asked for the end comes first: how the command left is only how it has obeyed.
 *
 * @param exit undefined for a task that had not been started
 */
export function judge(
  task: TaskInfo,
  exit: Exit | undefined,
  cause: EndCause | undefined,
): Verdict {
  if (!cause) return leftByItself(exit ?? {});
  const left = exit ? howItLeft(exit) : 'it had not been started';
  switch (cause.type) {
    case 'kill':
      return killed('REASON_KILLED_BY_FRAMEWORK', `killed on request: ${left}`);
    case 'group-kill': {
      const why = `task ${cause.taskId} of its group was to be killed`;
      return killed('REASON_KILLED_BY_FRAMEWORK', `killed because ${why}: ${left}`);
    }
    case 'group-failure': {
      const why = `task ${cause.taskId} of its group failed (${cause.message})`;
      return killed('REASON_TASK_GROUP_FAILED', `killed because ${why}: ${left}`);
    }
    case 'shutdown':
      return killed(
        'REASON_EXECUTOR_TERMINATED',
        `killed because its executor is shut down: ${left}`,
      );
    case 'time-limit':
      return {
        state: 'TASK_FAILED',
        reason: 'REASON_MAX_COMPLETION_TIME_REACHED',
        message: `ran longer than its limit of ${formatDuration(task.maxCompletionTimeMs ?? 0)}`,
      };
    case 'health': {
      const { failures, problem } = cause;
      const count =
        failures === 1 ? 'its health check' : `${String(failures)} health checks in a row`;
      return {
        state: 'TASK_FAILED',
        reason: 'REASON_HEALTH_CHECK_FAILED',
        message: `killed because ${count} failed: ${problem}`,
      };
    }
    default:
      return cause satisfies never;
  }
}

function killed(reason: TaskReason, message: string): Verdict {
  return { state: 'TASK_KILLED', reason, message };
}

function leftByItself(exit: Exit): Verdict {
  if (exit.exitCode === 0) return { state: 'TASK_FINISHED', message: 'exited with code 0' };
  const reason = exit.signal === undefined ? 'REASON_COMMAND_EXITED' : 'REASON_COMMAND_SIGNALED';
  return { state: 'TASK_FAILED', reason, message: howItLeft(exit) };
}

/** @returns `exited with code 3`, `ended by signal 9 (SIGKILL)` */
export function howItLeft({ exitCode, signal }: Exit): string {
  if (signal !== undefined) return `ended by signal ${String(signal)}${signalName(signal)}`;
  return exitCode === undefined
    ? 'ended in an unknown way'
    : `exited with code ${String(exitCode)}`;
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

/** Why a command was never executed. */
export interface StartFailure {
  /** `command`: it is not there, or not executable. `other`: something that it needs around it. */
  readonly kind: 'command' | 'other';
  readonly message: string;
}

/** What to say of a command that was never executed. */
export function judgeStart(hostname: string, { kind, message }: StartFailure): Verdict {
  return {
    state: 'TASK_FAILED',
    reason: kind === 'command' ? 'REASON_COMMAND_NOT_EXECUTABLE' : 'REASON_CONTAINER_LAUNCH_FAILED',
    message: `not started on ${hostname}: ${message}`,
  };
}
