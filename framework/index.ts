/** The public framework SDK: `import { SchedulerDriver } from 'kaon/framework'`. docs/frameworks.md tells how. */
export { SchedulerDriver } from './scheduler-driver.ts';
export type { DriverOptions } from './driver-options.ts';
export type { DriverStatus } from './scheduler-driver.ts';
export type {
  ExecutorDescription,
  FrameworkDescription,
  ResourceDescription,
  TaskDescription,
} from './descriptions.ts';
export type { InverseOffer, MasterInfo, ResizeOutcome, Scheduler } from './scheduler.ts';
export type { OfferIds } from './calls.ts';
export type { OutputEnd, OutputKind, OutputRequest } from './output.ts';
export type { Environment } from './environment.ts';
export { DRIVER_ERROR_CODES } from './driver-errors.ts';
export type { DriverErrorCode } from './driver-errors.ts';
export { offersByAgent, packTasks, requestsOf, totalOf } from './packing.ts';
export type {
  AgentLaunch,
  PackableTask,
  PackConstraints,
  Packing,
  PackOptions,
} from './packing.ts';
export { KILL_GRACE_DEFAULT_MS } from '../protocol/command.ts';
export {
  FAILOVER_TIMEOUT_DEFAULT_MS,
  REFUSE_DEFAULT_MS,
  REQUEST_NOT_ON_MAX,
} from '../protocol/task.ts';
export { DATA_MAX_CHARS, OFFERS_PER_CALL_MAX, TASKS_PER_LAUNCH_MAX } from '../protocol/limits.ts';
export type { CommandInfo, HealthCheck, Uri, WhenUnreachable } from '../protocol/command.ts';
export type { ExecutorInfo } from '../protocol/executor.ts';
export type { AttributeConstraint, OfferConstraints } from '../protocol/offer-constraints.ts';
export type {
  DeathCertificate,
  Filters,
  FrameworkInfo,
  Offer,
  ResourceRequest,
  TaskInfo,
  TaskStatus,
} from '../protocol/task.ts';
export type {
  AgentId,
  ExecutorId,
  FrameworkId,
  OfferId,
  TaskGroupId,
  TaskId,
  UpdateId,
} from '../protocol/ids.ts';
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
export { codeOf, KaonError } from '../protocol/errors.ts';
