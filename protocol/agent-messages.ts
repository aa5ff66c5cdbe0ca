/** Messages between an agent and the master: members of the union in messages.ts. */
import { z } from 'zod';
import { AgentExecutor } from './executor.ts';
import {
  AgentId,
  ExecutorId,
  FrameworkId,
  LaunchId,
  ReservationId,
  SessionId,
  TaskId,
} from './ids.ts';
import { TEXT_MAX_CHARS } from './limits.ts';
import { Reservation } from './reservations.ts';
import { Resources } from './resources.ts';
import {
  AgentFramework,
  AgentInfo,
  AgentTask,
  EndedLaunch,
  FrameworkInfo,
  LeaderInfo,
  TaskInfo,
  TaskStatus,
} from './task.ts';

/** Of one agent; those of reservations that its settings had once count as well. */
const DIRECTORIES_MAX = 10_000;

// --- agent to master -------------------------------------------------------------------------------------------

const RegisterAgent = z.object({
  type: z.literal('RegisterAgent'),
  agent: AgentInfo,
  session: SessionId,
  /** Which installation speaks: two nodes that claim one id (a copied disk, say) are told apart by it. */
  node: z.string().max(128).default(''),
  /** Tasks that run, or have updates that nobody has acknowledged. */
  tasks: z.array(AgentTask).max(100_000),
  /** The frameworks of these tasks. */
  frameworks: z.array(AgentFramework).max(10_000).default([]),
  /** Executors that run or are being started. */
  executors: z.array(AgentExecutor).max(10_000).default([]),
  /** Acknowledged ends of the last minutes. */
  ended: z.array(EndedLaunch).max(10_000).default([]),
  /** Reservations whose directories are on its disk, whole, should the cluster have lost its memory. Absent: none. */
  directories: z.array(Reservation).max(DIRECTORIES_MAX).optional(),
  /** Those of them that are to go. Absent: none. */
  doomed: z.array(ReservationId).max(DIRECTORIES_MAX).optional(),
  /** The newest leader that it has heard of; the cluster may have forgotten that epoch. */
  leaderSeen: LeaderInfo.optional(),
});
/** The agent is leaving for good (not: restarting). */
const UnregisterAgent = z.object({ type: z.literal('UnregisterAgent'), agentId: AgentId });
/** From the agent to the master, and on to the framework, until it is acknowledged. */
const StatusUpdate = z.object({ type: z.literal('StatusUpdate'), status: TaskStatus });

/** An executor has ended, and so have its tasks, each with an update of its own. Told again by what a registration lacks. */
const ExitedExecutor = z.object({
  type: z.literal('ExitedExecutor'),
  frameworkId: FrameworkId,
  executorId: ExecutorId,
  launchId: LaunchId,
  message: z.string().max(TEXT_MAX_CHARS),
});
/** What became of a resize; on to the framework, if it has asked for it. */
const TaskResized = z.object({
  type: z.literal('TaskResized'),
  resizeId: SessionId,
  frameworkId: FrameworkId,
  taskId: TaskId,
  launchId: LaunchId.optional(),
  /** What is in force now. */
  resources: Resources.optional(),
  /** Why it is not what was asked for. */
  error: z.string().max(TEXT_MAX_CHARS).optional(),
});
/** An executor's container could not be made smaller yet, because its memory is in use; or it could at last. */
const ContainerShrink = z.object({
  type: z.literal('ContainerShrink'),
  frameworkId: FrameworkId,
  executorId: ExecutorId,
  launchId: LaunchId,
  isDelayed: z.boolean(),
  /** Limit in force, and the sum of what is in it, MiB. */
  limitMib: z.int().min(0),
  neededMib: z.int().min(0),
});
/** The directory of a reservation is not there any more. */
const DirectoryRemoved = z.object({
  type: z.literal('DirectoryRemoved'),
  reservationId: ReservationId,
});
// --- master to agent -------------------------------------------------------------------------------------------

const AgentRegistered = z.object({
  type: z.literal('AgentRegistered'),
  agentId: AgentId,
  master: LeaderInfo,
  /** Ended launches whose ends the master does not know (any more): their last updates are wanted again. */
  resend: z.array(LaunchId).default([]),
});
/** The registration is refused; the agent stops with this error. */
const AgentError = z.object({
  type: z.literal('AgentError'),
  code: z.string(),
  message: z.string().max(TEXT_MAX_CHARS),
});
const RunTask = z.object({
  type: z.literal('RunTask'),
  framework: FrameworkInfo,
  launchId: LaunchId,
  task: TaskInfo,
  /** Of a task with an executor: the launch of that executor, which the first such task starts. */
  executorLaunchId: LaunchId.optional(),
  /** Of a task in a group: how many tasks that has. */
  groupSize: z.int().min(1).optional(),
  /** Reservations that the task has disk of: it gets their directories. */
  directories: z.array(Reservation).optional(),
});
/** A reservation has ended: its directory goes, once no task has it any more. */
const RemoveDirectory = z.object({
  type: z.literal('RemoveDirectory'),
  reservationId: ReservationId,
});
/** What the agent remembers of a framework has changed. */
const UpdateFramework = z.object({
  type: z.literal('UpdateFramework'),
  framework: FrameworkInfo,
  detached: z.boolean(),
});
/** All tasks of the framework on this agent end. */
const ShutdownFramework = z.object({
  type: z.literal('ShutdownFramework'),
  frameworkId: FrameworkId,
});

/** All of them. */
export const AGENT_MESSAGES = [
  RegisterAgent,
  UnregisterAgent,
  StatusUpdate,
  ExitedExecutor,
  TaskResized,
  ContainerShrink,
  DirectoryRemoved,
  AgentRegistered,
  AgentError,
  RunTask,
  RemoveDirectory,
  UpdateFramework,
  ShutdownFramework,
] as const;
