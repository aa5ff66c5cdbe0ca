/** What an author of an executor writes: its callbacks. Every one gets the driver; all may be asynchronous. */
import type { ExecutorInfo } from '../protocol/executor.ts';
import type { ExecutorAgentInfo, LaunchedTask } from '../protocol/executor-messages.ts';
import type { TaskGroupId, TaskId } from '../protocol/ids.ts';
import type { FrameworkInfo } from '../protocol/task.ts';
import type { ExecutorDriver } from './executor-driver.ts';

/** Tasks that start together; if one of them fails the others are to be ended. */
export interface LaunchedGroup {
  readonly groupId: TaskGroupId;
  readonly tasks: readonly LaunchedTask[];
}

/**
 * Callbacks come one at a time, in the order in which the agent sent what they tell of: the next waits until the last has
 * returned (or its promise has settled), while status updates leave and arrive. One that throws aborts the driver.
 */
export interface Executor {
  /** The agent knows the executor; tasks follow. Once in the life of a driver. */
  registered?(
    driver: ExecutorDriver,
    executorInfo: ExecutorInfo,
    frameworkInfo: FrameworkInfo,
    agentInfo: ExecutorAgentInfo,
  ): void | Promise<void>;
  /** The agent is there again. What has been said meanwhile has been told to it. */
  reregistered?(driver: ExecutorDriver, agentInfo: ExecutorAgentInfo): void | Promise<void>;
  /** The connection to the agent is lost; the driver makes another one. Tasks go on. */
  disconnected?(driver: ExecutorDriver): void | Promise<void>;
  /** A task to run. Each launch comes here once. */
  launchTask(driver: ExecutorDriver, launched: LaunchedTask): void | Promise<void>;
  /** Tasks to run together. Default: `launchTask` for each of them. */
  launchTaskGroup?(driver: ExecutorDriver, group: LaunchedGroup): void | Promise<void>;
  /** A task that runs here is to end, and `TASK_KILLED` to be reported of it. It may come more than once. */
  killTask(driver: ExecutorDriver, taskId: TaskId, gracePeriodMs: number): void | Promise<void>;
  /** From the framework's scheduler, best effort. */
  frameworkMessage?(driver: ExecutorDriver, data: string): void | Promise<void>;
  /**
   * All tasks are to end, and be reported, within that time; then the process is ended. When this has returned the driver
   * stops by itself.
   */
  shutdown?(driver: ExecutorDriver, gracePeriodMs: number): void | Promise<void>;
  /** The driver cannot go on. It has been aborted; nothing follows. */
  error?(driver: ExecutorDriver, message: string): void | Promise<void>;
}
