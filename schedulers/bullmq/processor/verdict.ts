/** How a processor's task ended: state, reason and words, which are those of the default executor where there is a like. */
import {
  howItLeft,
  judge,
  type EndCause,
  type Verdict,
} from '../../../executor/default/core/verdict.ts';
import type { TaskInfo } from '../../../executor/index.ts';
import type { ChildExit } from './child-handle.ts';

/** What became of the processor itself. */
export type Ending =
  | { readonly type: 'returned' }
  | { readonly type: 'threw'; readonly words: string }
  | { readonly type: 'exited'; readonly exit: ChildExit }
  /** There was no process for it, or not where it belongs. */
  | { readonly type: 'not-started'; readonly message: string }
  | { readonly type: 'import-failed'; readonly words: string }
  /** It was to end before it had begun. */
  | { readonly type: 'not-begun' };

/** Why the executor ends a task. */
export type Cause = Extract<EndCause, { type: 'kill' | 'shutdown' | 'time-limit' }>;

/** Why its processor is told to stop: `reason` of its AbortSignal. */
export const ABORT_REASON: Readonly<Record<Cause['type'], string>> = {
  kill: 'cancelled',
  shutdown: 'cancelled',
  'time-limit': 'timeout',
};

/** @param hostname of the node, for words */
export function verdictOf(
  { task, hostname }: { readonly task: TaskInfo; readonly hostname: string },
  ending: Ending,
  cause: Cause | undefined,
): Verdict {
  if (!cause) return byItself(hostname, ending);
  const left = wordsOf(ending);
  switch (cause.type) {
    case 'kill':
      return {
        state: 'TASK_KILLED',
        reason: 'REASON_KILLED_BY_FRAMEWORK',
        message: `killed on request: ${left}`,
      };
    case 'shutdown':
      return {
        state: 'TASK_KILLED',
        reason: 'REASON_EXECUTOR_TERMINATED',
        message: `killed because its executor is shut down: ${left}`,
      };
    case 'time-limit':
      return judge(task, {}, cause);
    default:
      return cause satisfies never;
  }
}

function byItself(hostname: string, ending: Ending): Verdict {
  const message = wordsOf(ending);
  switch (ending.type) {
    case 'returned':
      return { state: 'TASK_FINISHED', message };
    case 'threw':
      return { state: 'TASK_FAILED', message };
    case 'exited': {
      const reason =
        ending.exit.signal === undefined ? 'REASON_COMMAND_EXITED' : 'REASON_COMMAND_SIGNALED';
      return { state: 'TASK_FAILED', reason, message };
    }
    case 'import-failed':
      return {
        state: 'TASK_FAILED',
        reason: 'REASON_COMMAND_NOT_EXECUTABLE',
        message: `not started on ${hostname}: ${message}`,
      };
    case 'not-started':
    case 'not-begun':
      return {
        state: 'TASK_FAILED',
        reason: 'REASON_CONTAINER_LAUNCH_FAILED',
        message: `not started on ${hostname}: ${message}`,
      };
    default:
      return ending satisfies never;
  }
}

function wordsOf(ending: Ending): string {
  switch (ending.type) {
    case 'returned':
      return 'its processor has returned';
    case 'threw':
      return `its processor has thrown ${ending.words}`;
    case 'exited':
      // Whoever leaves with 0 has not returned a result either.
      return ending.exit.exitCode === 0
        ? 'exited with code 0 before its processor had returned'
        : howItLeft(ending.exit);
    case 'not-started':
      return ending.message;
    case 'import-failed':
      return `its processor file cannot be imported: ${ending.words}`;
    case 'not-begun':
      return 'it had not been started';
    default:
      return ending satisfies never;
  }
}
