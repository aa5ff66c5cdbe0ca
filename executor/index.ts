/** The public executor library: `import { ExecutorDriver } from 'kaon/executor'`. */
export { ExecutorDriver } from './executor-driver.ts';
export type { DriverStatus } from './executor-driver.ts';
export type { ExecutorDriverOptions } from './driver-options.ts';
export type { Executor, LaunchedGroup } from './executor.ts';
export type { UpdateDescription } from './core/update.ts';
export type { ExecutorInfo } from '../protocol/executor.ts';
export type {
  ExecutorAgentInfo,
  ExecutorTaskState,
  ExecutorUpdate,
  LaunchedTask,
} from '../protocol/executor-messages.ts';
export type { ExecutorId, FrameworkId, LaunchId, TaskGroupId, TaskId } from '../protocol/ids.ts';
export type { FrameworkInfo, TaskInfo } from '../protocol/task.ts';
export type { TaskReason } from '../protocol/task-state.ts';
export { createLog } from '../io/log.ts';
export type { Log } from '../io/log.ts';
export { KaonError } from '../protocol/errors.ts';
