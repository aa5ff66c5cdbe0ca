/** The states that an executor may report (rule L6), known here without the schemas of the protocol, which cost time to load. */
import type { ExecutorTaskState } from '../../protocol/executor-messages.ts';

/** Whether a task ends in it. */
const STATES: Readonly<Record<ExecutorTaskState, boolean>> = {
  TASK_STARTING: false,
  TASK_RUNNING: false,
  TASK_KILLING: false,
  TASK_FINISHED: true,
  TASK_FAILED: true,
  TASK_KILLED: true,
  TASK_ERROR: true,
};

/** True for what an executor may say of a task; what was sent to it, or lost, only others can know. */
export function isExecutorState(state: unknown): state is ExecutorTaskState {
  return typeof state === 'string' && Object.hasOwn(STATES, state);
}

/** True if nothing follows it. */
export function isEnd(state: ExecutorTaskState): boolean {
  return STATES[state];
}
