/** What the end of a task means for its job. Pure. */
import type { TaskReason } from '../../../protocol/task-state.ts';
import type { TaskStatus } from '../../../protocol/task.ts';

/**
 * `done`: as it should. `failed`: the attempt counts, and BullMQ decides about another, unless it is final. `lost`: the attempt
 * was not the job's fault. `preempted`: the same, and it had to make room, however often. `again`: nothing has run. `running`: another task of this job lives.
 */
export type Outcome =
  | { readonly kind: 'done' }
  | { readonly kind: 'failed'; readonly message: string; readonly isFinal: boolean }
  | { readonly kind: 'lost' | 'preempted'; readonly message: string }
  | { readonly kind: 'again'; readonly message: string; readonly afterMs: number }
  | { readonly kind: 'running' };

/** After so long a launch that was refused for a while is tried again, milliseconds. */
const AGAIN_AFTER_MS = 2000;

/** Nothing was started, and something else may be tried at once. */
const NOT_STARTED: readonly (TaskReason | undefined)[] = [
  'REASON_INVALID_OFFERS',
  'REASON_RESOURCES_EXCEED_OFFER',
];

/**
 * @param status of a task that has ended, or that nobody knows
 * @param cancelReason why the job was to be cancelled; undefined if nobody wanted that
 */
export function outcomeOf(status: TaskStatus, cancelReason: string | undefined): Outcome {
  const { state, reason } = status;
  const message = status.message ?? reason ?? state;
  if (state === 'TASK_FINISHED') return { kind: 'done' };
  if (reason === 'REASON_TASK_DUPLICATE') return { kind: 'running' };
  if (cancelReason !== undefined) return cancelled(cancelReason);
  if (NOT_STARTED.includes(reason)) return { kind: 'again', message, afterMs: 0 };
  if (reason === 'REASON_TASK_EXCLUSIVE') {
    return { kind: 'again', message, afterMs: AGAIN_AFTER_MS };
  }
  if (reason === 'REASON_STOPPED_WHEN_UNREACHABLE') return { kind: 'lost', message };
  if (reason === 'REASON_PREEMPTED') return { kind: 'preempted', message };
  switch (state) {
    case 'TASK_FAILED':
      return { kind: 'failed', message, isFinal: false };
    case 'TASK_KILLED':
    case 'TASK_ERROR':
      // Somebody wanted it to end, or it can never be launched: another attempt would be against that.
      return { kind: 'failed', message, isFinal: true };
    case 'TASK_UNKNOWN':
      return { kind: 'again', message, afterMs: 0 };
    default:
      return { kind: 'lost', message };
  }
}

/** The words that tell a cancelled job from one that has failed. */
export function cancelled(reason: string): Outcome & { readonly kind: 'failed' } {
  const message = reason === '' ? 'cancelled' : `cancelled: ${reason}`;
  return { kind: 'failed', message, isFinal: true };
}
