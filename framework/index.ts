/** The public framework SDK: `import { SchedulerDriver } from 'kaon/framework'`. */
export { SchedulerDriver } from './scheduler-driver.ts';
export type {
  DriverOptions,
  DriverStatus,
  FrameworkDescription,
  ResourceDescription,
  TaskDescription,
} from './scheduler-driver.ts';
export type { MasterInfo, Scheduler } from './scheduler.ts';
export {
  FAILOVER_TIMEOUT_DEFAULT_MS,
  KILL_GRACE_DEFAULT_MS,
  REFUSE_DEFAULT_MS,
} from '../protocol/task.ts';
export type {
  DeathCertificate,
  Filters,
  FrameworkInfo,
  Offer,
  ResourceRequest,
  TaskInfo,
  TaskStatus,
} from '../protocol/task.ts';
export type { AgentId, FrameworkId, OfferId, TaskId, UpdateId } from '../protocol/ids.ts';
export { AgentId as agentIdSchema, TaskId as taskIdSchema } from '../protocol/ids.ts';
export type { Resources } from '../protocol/resources.ts';
export {
  addResources,
  fits,
  formatResources,
  subtractResources,
  unitsIn,
} from '../protocol/resources.ts';
export type { TaskReason, TaskState } from '../protocol/task-state.ts';
export { isTerminal } from '../protocol/task-state.ts';
export { KaonError } from '../protocol/errors.ts';
