/**
 * Every message of Kaon, as one union discriminated by `type`. The names are those of the founding papers of
 * two-level scheduling where they have one. This file, with those of agents and operators beside
 * it, is the only source of the types, the decoder and the docs.
 *
 * Ways: framework, agent or operator -> `inbox` -> master; master -> `framework:ID:SESSION` and `agent:ID:SESSION`;
 * a reader of output -> `agent:ID:/requests`, past the master.
 */
import { z } from 'zod';
import { AGENT_MESSAGES } from './agent-messages.ts';
import { PositiveResources } from './executor.ts';
import { TimestampMs } from './fields.ts';
import {
  AgentId,
  ExecutorId,
  FrameworkId,
  LaunchId,
  OfferId,
  SessionId,
  TaskId,
  UpdateId,
} from './ids.ts';
import {
  DATA_MAX_CHARS,
  OFFERS_PER_CALL_MAX,
  TASKS_PER_LAUNCH_MAX,
  TEXT_MAX_CHARS,
} from './limits.ts';
import { OfferConstraints } from './offer-constraints.ts';
import { OPERATOR_MESSAGES } from './operator-messages.ts';
import { RoleName } from './roles.ts';
import {
  Filters,
  FRAMEWORK_ROLES_MAX,
  FrameworkInfo,
  LeaderInfo,
  Offer,
  ResourceRequest,
} from './task.ts';

const SomeRoles = z.array(RoleName).min(1).max(FRAMEWORK_ROLES_MAX);

// --- framework to master ---------------------------------------------------------------------------------------

/** Step F5: also sent again, with a new session, after a failover or when a heartbeat is answered `unknown`. */
const RegisterFramework = z.object({
  type: z.literal('RegisterFramework'),
  framework: FrameworkInfo,
  session: SessionId,
});
/** The framework is done: its tasks are killed and it is removed. */
const UnregisterFramework = z.object({
  type: z.literal('UnregisterFramework'),
  frameworkId: FrameworkId,
});
/** No more offers and callbacks, tasks go on: what `abort` and `stop(failover=true)` send. */
const DeactivateFramework = z.object({
  type: z.literal('DeactivateFramework'),
  frameworkId: FrameworkId,
});
/** The framework leaves for good and its tasks stay: the master acknowledges for it and removes it after the last. */
const DetachFramework = z.object({
  type: z.literal('DetachFramework'),
  frameworkId: FrameworkId,
});
/** Accepts offers of one agent and launches tasks on them; what is left over goes back. No task: a decline. */
const LaunchTasks = z.object({
  type: z.literal('LaunchTasks'),
  frameworkId: FrameworkId,
  offerIds: z.array(OfferId).min(1).max(OFFERS_PER_CALL_MAX),
  // Tasks are checked one by one by the master, so that a bad one becomes TASK_ERROR and does not harm the others.
  tasks: z.array(z.unknown()).max(TASKS_PER_LAUNCH_MAX),
  filters: Filters.optional(),
});
const DeclineOffers = z.object({
  type: z.literal('DeclineOffers'),
  frameworkId: FrameworkId,
  offerIds: z.array(OfferId).min(1).max(OFFERS_PER_CALL_MAX),
  filters: Filters.optional(),
});
/** Whether the framework leaves an agent by itself; the operator sees it, and decides. */
const AnswerInverseOffer = z.object({
  type: z.literal('AnswerInverseOffer'),
  frameworkId: FrameworkId,
  agentId: AgentId,
  isAccepted: z.boolean(),
});
/** Its filters are forgotten, and offers come again; `roles`: of these only. */
const ReviveOffers = z.object({
  type: z.literal('ReviveOffers'),
  frameworkId: FrameworkId,
  roles: SomeRoles.optional(),
});
/** No offers until it asks or revives; `roles`: for these only. */
const SuppressOffers = z.object({
  type: z.literal('SuppressOffers'),
  frameworkId: FrameworkId,
  roles: SomeRoles.optional(),
});
/**
 * Asks for the newest status of tasks: after a reconnection a framework cannot know which of its launches arrived. An
 * empty list: of all that have not ended (implicit reconciliation).
 */
const ReconcileTasks = z.object({
  type: z.literal('ReconcileTasks'),
  frameworkId: FrameworkId,
  taskIds: z.array(TaskId).max(TASKS_PER_LAUNCH_MAX),
});
/** States the whole demand; replaces the last one. An empty list: nothing is needed. */
const RequestResources = z.object({
  type: z.literal('RequestResources'),
  frameworkId: FrameworkId,
  requests: z.array(ResourceRequest).max(1000),
});
/** What agents must be like to be offered to it, role by role; replaces what it has said before. */
const UpdateOfferConstraints = z.object({
  type: z.literal('UpdateOfferConstraints'),
  frameworkId: FrameworkId,
  offerConstraints: OfferConstraints,
});
const StatusUpdateAcknowledgement = z.object({
  type: z.literal('StatusUpdateAcknowledgement'),
  frameworkId: FrameworkId,
  taskId: TaskId,
  updateId: UpdateId,
});
/** From a framework, from an operator (`kaon kill`), and from the master to the agent. */
const KillTask = z.object({
  type: z.literal('KillTask'),
  frameworkId: FrameworkId,
  taskId: TaskId,
  /** From the master: only this launch of the task. */
  launchId: LaunchId.optional(),
  /** Overrides the task's own grace period. */
  gracePeriodMs: z.int().min(0).max(3_600_000).optional(),
  /** `master`: it has ended the task on its own word, and another one may have taken its place. */
  by: z.enum(['framework', 'operator', 'preemption', 'master']).default('framework'),
});

/** From a framework or an operator, and from the master to the agent: other limits for a task that runs. */
const ResizeTask = z.object({
  type: z.literal('ResizeTask'),
  /** Names the wish, so that its outcome can be told from that of another. */
  resizeId: SessionId,
  frameworkId: FrameworkId,
  taskId: TaskId,
  /** From the master: only this launch of the task. */
  launchId: LaunchId.optional(),
  resources: PositiveResources,
});
/** From a framework, and from the master to the agent: the executor and all of its tasks are to end. */
const ShutdownExecutor = z.object({
  type: z.literal('ShutdownExecutor'),
  frameworkId: FrameworkId,
  agentId: AgentId,
  executorId: ExecutorId,
  /** From the master: only this launch of the executor. */
  launchId: LaunchId.optional(),
});
/** To an executor, best effort: straight to the agent, or by way of the master (rule C2). */
const FrameworkToExecutor = z.object({
  type: z.literal('FrameworkToExecutor'),
  frameworkId: FrameworkId,
  agentId: AgentId,
  executorId: ExecutorId,
  data: z.string().max(DATA_MAX_CHARS),
});

/** From an executor, best effort: from the agent straight into the framework's stream. */
const ExecutorToFramework = z.object({
  type: z.literal('ExecutorToFramework'),
  frameworkId: FrameworkId,
  agentId: AgentId,
  executorId: ExecutorId,
  data: z.string().max(DATA_MAX_CHARS),
});

// --- master to framework ---------------------------------------------------------------------------------------

const FrameworkRegistered = z.object({
  type: z.literal('FrameworkRegistered'),
  frameworkId: FrameworkId,
  /** True if the master already knew it: `reregistered` is called and not `registered`. */
  known: z.boolean(),
  master: LeaderInfo,
});
const ResourceOffers = z.object({ type: z.literal('ResourceOffers'), offers: z.array(Offer) });
const RescindResourceOffer = z.object({
  type: z.literal('RescindResourceOffer'),
  offerId: OfferId,
  reason: z.string(),
});
/** An agent with work of the framework is to be emptied: not offered from `fromMs` on, its tasks killed from `deadlineMs` on. */
const InverseOffer = z.object({
  type: z.literal('InverseOffer'),
  agentId: AgentId,
  hostname: z.string(),
  fromMs: TimestampMs,
  /** Absent: its tasks may go on to their own ends. */
  deadlineMs: TimestampMs.optional(),
});
/** The agent stays. */
const RescindInverseOffer = z.object({
  type: z.literal('RescindInverseOffer'),
  agentId: AgentId,
});
const LostAgent = z.object({ type: z.literal('LostAgent'), agentId: AgentId });
/** An executor has ended; its tasks have been reported before. */
const ExecutorLost = z.object({
  type: z.literal('ExecutorLost'),
  agentId: AgentId,
  executorId: ExecutorId,
  message: z.string().max(TEXT_MAX_CHARS),
});
const FrameworkError = z.object({
  type: z.literal('FrameworkError'),
  code: z.string(),
  message: z.string().max(TEXT_MAX_CHARS),
});

// --- past the master, to an agent ------------------------------------------------------------------------------

/** Asks for the output of a task; the answer is bytes in the stream `output:ID`. */
const ReadOutput = z.object({
  type: z.literal('ReadOutput'),
  readId: SessionId,
  frameworkId: FrameworkId,
  taskId: TaskId,
  stdout: z.boolean(),
  stderr: z.boolean(),
  /** Start that many bytes before the end; absent: from the beginning. */
  lastBytes: z.int().min(0).optional(),
  /** Go on until the task has ended; else to what is there now. */
  follow: z.boolean(),
});

/** Any message of Kaon. Unknown keys are dropped when it is decoded, for a newer peer may send more. */
export const Message = z.discriminatedUnion('type', [
  RegisterFramework,
  UnregisterFramework,
  DeactivateFramework,
  DetachFramework,
  LaunchTasks,
  DeclineOffers,
  ReviveOffers,
  SuppressOffers,
  ReconcileTasks,
  RequestResources,
  StatusUpdateAcknowledgement,
  KillTask,
  InverseOffer,
  RescindInverseOffer,
  AnswerInverseOffer,
  FrameworkRegistered,
  ResourceOffers,
  RescindResourceOffer,
  LostAgent,
  FrameworkError,
  ReadOutput,
  ResizeTask,
  ShutdownExecutor,
  ExecutorLost,
  FrameworkToExecutor,
  ExecutorToFramework,
  UpdateOfferConstraints,
  ...AGENT_MESSAGES,
  ...OPERATOR_MESSAGES,
]);
export type Message = z.infer<typeof Message>;
/** The names of all messages. */
export type MessageType = Message['type'];

/** The member of the union with that `type`. */
export type MessageOf<T extends MessageType> = Extract<Message, { type: T }>;
