/**
 * What the registry holds, one JSON record a hash field: written by the leader's commit, read by the next leader and
 * by tools. And the entries of the event log and of the history.
 */
import { z } from 'zod';
import { ExecutorInfo } from './executor.ts';
import { Labels } from './fields.ts';
import {
  AgentId,
  ExecutorId,
  FrameworkId,
  LaunchId,
  OfferId,
  ReservationId,
  SessionId,
  TaskId,
} from './ids.ts';
import { OfferConstraints } from './offer-constraints.ts';
import { Reservation, RESERVATIONS_MAX, ReservedPart } from './reservations.ts';
import { Resources } from './resources.ts';
import type { RoleRecord } from './roles.ts';
import { RoleName } from './roles.ts';
import { TaskReason, TaskState } from './task-state.ts';
import {
  AgentInfo,
  FrameworkInfo,
  Offer,
  ResourceRequest,
  TaskInfo,
  TaskRules,
  TaskStatus,
} from './task.ts';

/** What an operator has said of an agent that is to be emptied. */
export const AgentDrain = z.object({
  /** From then on it is not offered. */
  fromMs: z.int(),
  /** From then on what is left of its tasks is killed; absent: they go on to their own ends. */
  deadlineMs: z.int().optional(),
  /** By framework: whether it has accepted to leave. */
  answers: z.record(z.string(), z.boolean()),
  /** Since when nothing is left on it. */
  emptyAtMs: z.int().optional(),
});
export type AgentDrain = z.infer<typeof AgentDrain>;

/** An agent, as the registry holds it under its id. */
export const AgentRecord = z.object({
  info: AgentInfo,
  /** Absent while the agent is not connected. */
  session: SessionId.optional(),
  /** The last one that it has registered, connected or not: an older one comes from a process that is gone. */
  newestSession: SessionId,
  /** Which installation has registered. */
  node: z.string(),
  /**
   * `unreachable`: not heard of for the agent timeout; its tasks may well be running. `gone`: it has left, or an operator
   * said so; kept so that tasks that were given up are ended if it comes back.
   */
  state: z.enum(['active', 'unreachable', 'gone']),
  registeredAtMs: z.int(),
  /** When it became unreachable or gone; of an active one without a session, since when it has none. */
  awaySinceMs: z.int().optional(),
  /** Launches that the master has ended on its own word while the agent was away. */
  writtenOff: z.array(LaunchId),
  /** Of a secured cluster: as whom it has registered, and with which of the tokens of that name. */
  principal: z.string().optional(),
  generation: z.int().optional(),
  /** Absent: it is not drained, and will not be. */
  drain: AgentDrain.optional(),
  /** Those that operators have made; absent: none. `reservationsOf` has the static ones as well. */
  reservations: z.array(Reservation).max(RESERVATIONS_MAX).optional(),
  /** Those that tasks have had disk of: on its disk is a directory for each. Absent: none. */
  directories: z.array(ReservationId).optional(),
  /** Of these, which have ended, the directory is to be removed, and the agent has not said that it is. Absent: none. */
  doomed: z.array(ReservationId).optional(),
  /** Since when an operator wants nothing of it to be offered. Absent: it may be. */
  deactivatedAtMs: z.int().optional(),
});
export type AgentRecord = z.infer<typeof AgentRecord>;

/** What a framework has asked of a task that is not known while the cluster is recovering; answered when that is over. */
export const DeferredQuestion = z.object({
  taskId: TaskId,
  /** `kill`: kill it if it turns up. `launch`: its launch failed, unless it turns up. */
  about: z.enum(['status', 'kill', 'launch']),
});
export type DeferredQuestion = z.infer<typeof DeferredQuestion>;

/** A framework, as the registry holds it under its id. */
export const FrameworkRecord = z.object({
  info: FrameworkInfo,
  session: SessionId.optional(),
  /** As of an agent. Absent for a framework that is known by its tasks only. */
  newestSession: SessionId.optional(),
  /** `disconnected`: its failover timeout is running; `detached`: it left, and its tasks go on to their end. */
  state: z.enum(['active', 'disconnected', 'detached']),
  registeredAtMs: z.int(),
  disconnectedAtMs: z.int().optional(),
  suppressed: z.boolean(),
  /** Of these roles it wants no offers for now. */
  suppressedRoles: z.array(RoleName).default([]),
  /** Absent: it wants whatever there is. Empty: nothing. */
  demand: z.array(ResourceRequest).optional(),
  /** What agents must be like to be offered to it. Absent: it may be offered any. */
  offerConstraints: OfferConstraints.optional(),
  deferred: z.array(DeferredQuestion),
  /** Of a secured cluster: with which of the tokens of `info.principal` it has registered. */
  generation: z.int().optional(),
});
export type FrameworkRecord = z.infer<typeof FrameworkRecord>;

/** An outstanding offer, as the registry holds it under its id. */
export const OfferRecord = Offer.extend({ madeAtMs: z.int() });
export type OfferRecord = z.infer<typeof OfferRecord>;

/** A wish for other resources, from when it was granted until the agent has acted on it. */
export const TaskResize = z.object({
  resizeId: SessionId,
  by: z.enum(['framework', 'operator']),
  resources: Resources,
});
export type TaskResize = z.infer<typeof TaskResize>;

/**
 * An executor that is on an agent, or on its way there, as the registry holds it under `agentId/frameworkId/executorId`. Its
 * own resources are counted as long as the record exists, tasks or not.
 */
export const ExecutorRecord = z.object({
  agentId: AgentId,
  frameworkId: FrameworkId,
  launchId: LaunchId,
  /** Under which its own resources are counted; absent in the record of an older master: the framework's. */
  role: RoleName.optional(),
  info: ExecutorInfo,
  /** What of it is of reservations; absent: nothing. */
  reserved: z.array(ReservedPart).optional(),
  launchedAtMs: z.int(),
});
export type ExecutorRecord = z.infer<typeof ExecutorRecord>;

/** Who can have a task ended while the master knows it. */
export const KILL_REQUESTERS = ['framework', 'operator', 'preemption'] as const;

/** A task that runs or has updates to acknowledge, as the registry holds it under `frameworkId/taskId`. */
export const TaskRecord = z.object({
  frameworkId: FrameworkId,
  taskId: TaskId,
  launchId: LaunchId,
  agentId: AgentId,
  name: z.string(),
  /** Under which it is counted; absent in the record of an older master: the framework's. */
  role: RoleName.optional(),
  resources: Resources,
  /** What is counted of it and is of reservations; absent: nothing. */
  reserved: z.array(ReservedPart).optional(),
  state: TaskState,
  launchedAtMs: z.int(),
  updatedAtMs: z.int(),
  /** Of a task of an executor. */
  executorId: ExecutorId.optional(),
  /** Of a task in a group: how many tasks that had when it was launched. */
  groupSize: z.int().min(1).optional(),
  /** A change of its resources that its agent has not answered. What is counted is the larger of both. */
  resize: TaskResize.optional(),
  /** Absent for a task that the master learnt from its agent. Without its executor, which has a record of its own. */
  info: TaskInfo.optional(),
  /** Of a task without `info`, what its agent says that was promised of it. */
  rules: TaskRules.optional(),
  /** True until the agent has said anything of the task: only then may its launch be sent once more. */
  unheard: z.boolean(),
  killRequested: z.enum(KILL_REQUESTERS).optional(),
  /** Shortest grace period that was asked for with it; absent: the task's own. */
  killGraceMs: z.int().optional(),
  /** Of an unreachable task: from then on its node has stopped it, whatever became of the agent. */
  stoppedByMs: z.int().optional(),
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
  launchId: LaunchId,
  agentId: AgentId,
  name: z.string(),
  resources: Resources,
  state: TaskState,
  launchedAtMs: z.int(),
  endedAtMs: z.int(),
  argv: z.array(z.string()).optional(),
  executorId: ExecutorId.optional(),
  labels: Labels.optional(),
  status: TaskStatus.optional(),
});
export type EndedTask = z.infer<typeof EndedTask>;

/** Of what the registry holds; raised when an older Kaon could not read it any more. */
export const REGISTRY_FORMAT = 3;

/** Facts of the whole cluster, as the registry `cluster` holds them under `state`. */
export const ClusterRecord = z.object({
  format: z.int(),
  /**
   * Until then agents may come back with tasks that are not known, because Redis has lost data: nothing is said to be
   * unknown before. 0: it has lost nothing.
   */
  recoveringUntilMs: z.int(),
  /** Nothing at all was there: a new cluster, or one that lost everything, until an agent knows better. */
  isNew: z.boolean(),
  /** Frameworks that were torn down while the cluster was recovering: their tasks end when they turn up. */
  tornDown: z.array(FrameworkId),
  /** Number of a session: what was opened before it was opened before the last loss of data. Absent: there was none. */
  sessionsFrom: z.int().optional(),
  /** Of a secured cluster, by name: the last act of each principal that is in the event log. */
  principalActs: z.record(z.string(), z.int()).optional(),
});
export type ClusterRecord = z.infer<typeof ClusterRecord>;

/** What the registry holds, decoded. */
export interface RegistryRecords {
  /** At most one. */
  readonly cluster: readonly ClusterRecord[];
  readonly roles: readonly RoleRecord[];
  readonly agents: readonly AgentRecord[];
  readonly frameworks: readonly FrameworkRecord[];
  readonly offers: readonly OfferRecord[];
  readonly executors: readonly ExecutorRecord[];
  readonly tasks: readonly TaskRecord[];
}

/**
 * One line of the event log: what happened, to what, and why. Types are past tense: `offer.rescinded`. Every change of
 * what `replay.ts` projects has one, with just the fields that the change needs: it is written with every commit.
 */
export const ClusterEvent = z.object({
  type: z.string(),
  atMs: z.int(),
  agentId: AgentId.optional(),
  frameworkId: FrameworkId.optional(),
  taskId: TaskId.optional(),
  launchId: LaunchId.optional(),
  offerId: OfferId.optional(),
  executorId: ExecutorId.optional(),
  /** Of a task or framework; of an agent its host name. */
  name: z.string().optional(),
  role: z.string().optional(),
  /** A framework that has been recovered and had left before. */
  detached: z.boolean().optional(),
  state: TaskState.optional(),
  resources: Resources.optional(),
  /** Updates of the task that wait for its framework, with this one; absent: none. */
  unacknowledged: z.int().min(0).optional(),
  reason: z.union([TaskReason, z.string()]).optional(),
  message: z.string().optional(),
  /** Who has done it, or wanted to: a token's name, or `root@host` for who had the cluster's key. Absent in an open cluster. */
  principal: z.string().optional(),
});
export type ClusterEvent = z.infer<typeof ClusterEvent>;
