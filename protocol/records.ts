/**
 * What the registry holds, one JSON record a hash field: written by the leader's commit, read by the next leader and
 * by tools. And the entries of the event log and of the history.
 */
import { z } from 'zod';
import { AgentId, FrameworkId, OfferId, SessionId, TaskId } from './ids.ts';
import { Resources } from './resources.ts';
import { TaskReason, TaskState } from './task-state.ts';
import {
  AgentInfo,
  FrameworkInfo,
  Labels,
  Offer,
  ResourceRequest,
  TaskInfo,
  TaskStatus,
} from './task.ts';

/** An agent, as the registry holds it under its id. */
export const AgentRecord = z.object({
  info: AgentInfo,
  /** Absent while the agent is not connected. */
  session: SessionId.optional(),
  /** `unreachable`: not heard of for the agent timeout; its tasks may well be running. */
  state: z.enum(['active', 'unreachable']),
  registeredAtMs: z.int(),
  unreachableAtMs: z.int().optional(),
});
export type AgentRecord = z.infer<typeof AgentRecord>;

/** A framework does not want offers of `agentId` that are within `resources` until then. */
export const OfferFilter = z.object({ agentId: AgentId, resources: Resources, untilMs: z.int() });
export type OfferFilter = z.infer<typeof OfferFilter>;

/** A framework, as the registry holds it under its id. */
export const FrameworkRecord = z.object({
  info: FrameworkInfo,
  session: SessionId.optional(),
  /** `disconnected`: its failover timeout is running; `detached`: it left, and its tasks go on to their end. */
  state: z.enum(['active', 'disconnected', 'detached']),
  registeredAtMs: z.int(),
  disconnectedAtMs: z.int().optional(),
  suppressed: z.boolean(),
  /** Absent: it wants whatever there is. Empty: nothing. */
  demand: z.array(ResourceRequest).optional(),
  filters: z.array(OfferFilter),
});
export type FrameworkRecord = z.infer<typeof FrameworkRecord>;

/** An outstanding offer, as the registry holds it under its id. */
export const OfferRecord = Offer.extend({ madeAtMs: z.int() });
export type OfferRecord = z.infer<typeof OfferRecord>;

/** A task that runs or has updates to acknowledge, as the registry holds it under `frameworkId/taskId`. */
export const TaskRecord = z.object({
  frameworkId: FrameworkId,
  taskId: TaskId,
  agentId: AgentId,
  name: z.string(),
  resources: Resources,
  state: TaskState,
  launchedAtMs: z.int(),
  updatedAtMs: z.int(),
  /** Absent for a task that the master learnt from its agent. */
  info: TaskInfo.optional(),
  /** True until the agent has said anything of the task: only then may its launch be sent once more. */
  unheard: z.boolean(),
  killRequested: z.enum(['framework', 'operator']).optional(),
  /** Newest status. */
  status: TaskStatus.optional(),
  /** Updates that the framework has not acknowledged, oldest first. */
  unacknowledged: z.array(TaskStatus),
});
export type TaskRecord = z.infer<typeof TaskRecord>;

/** A task that has ended, as `kaon tasks --all` and `kaon task` show it. */
export const EndedTask = z.object({
  frameworkId: FrameworkId,
  frameworkName: z.string(),
  taskId: TaskId,
  agentId: AgentId,
  name: z.string(),
  resources: Resources,
  state: TaskState,
  launchedAtMs: z.int(),
  endedAtMs: z.int(),
  argv: z.array(z.string()).optional(),
  labels: Labels.optional(),
  status: TaskStatus.optional(),
});
export type EndedTask = z.infer<typeof EndedTask>;

/** One line of the event log: what happened, to what, and why. Types are past tense: `offer.rescinded`. */
export const ClusterEvent = z.object({
  type: z.string(),
  atMs: z.int(),
  agentId: AgentId.optional(),
  frameworkId: FrameworkId.optional(),
  taskId: TaskId.optional(),
  offerId: OfferId.optional(),
  state: TaskState.optional(),
  resources: Resources.optional(),
  reason: z.union([TaskReason, z.string()]).optional(),
  message: z.string().optional(),
});
export type ClusterEvent = z.infer<typeof ClusterEvent>;
