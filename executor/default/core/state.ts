/** What the default executor knows of its tasks. Plain data, changed by `step.ts`. */
import type { LaunchedTask } from '../../../protocol/executor-messages.ts';
import type { TaskId } from '../../../protocol/ids.ts';
import type { Health } from './health.ts';
import type { EndCause } from './verdict.ts';

/** One task, from its launch to its end. Times without `At` in a name are none; those with are monotonic milliseconds. */
export interface TaskEntry {
  readonly launched: LaunchedTask;
  /** The tasks that were launched together with it and have not ended; absent for a task that stands alone. */
  readonly group: Set<TaskEntry> | undefined;
  /** `spawning` is over when it is known whether there is a process. */
  phase: 'waiting' | 'spawning' | 'running' | 'ended';
  /** By the wall clock. */
  startedWallMs?: number;
  /** Why it is being ended; the first reason stands. */
  cause?: EndCause;
  /** When SIGKILL is due. */
  killAtMs?: number;
  /** When its time is over. */
  limitAtMs?: number;
  health?: Health;
  /** What the shell was last told to wake it at. */
  alarmAtMs?: number | undefined;
}

/** The whole of it. */
export interface TasksState {
  /** Those that have not ended; there is one launch of a task at a time. */
  readonly tasks: Map<TaskId, TaskEntry>;
  /** Of the node, for words. */
  hostname: string;
  isShuttingDown: boolean;
}

/** No tasks. */
export function createTasksState(): TasksState {
  return { tasks: new Map(), hostname: 'this node', isShuttingDown: false };
}
