/**
 * What an agent and an executor say to each other over the agent's unix socket: one JSON object a line. The names are those
 * of the founding papers. docs/executors.md has the protocol for authors of executors in other languages.
 *
 * An executor speaks first: `RegisterExecutor`, or `ReregisterExecutor` on a connection after its first one.
 */
import { z } from 'zod';
import { ProgramText, TimestampMs } from './fields.ts';
import { ExecutorInfo } from './executor.ts';
import { AgentId, ExecutorId, FrameworkId, LaunchId, TaskGroupId, TaskId } from './ids.ts';
import { DATA_MAX_CHARS, TEXT_MAX_CHARS } from './limits.ts';
import { FrameworkInfo, TaskInfo } from './task.ts';
import { TaskReason, TaskState } from './task-state.ts';

/** The states that an executor may report (rule L6): what has begun, and how it ended. */
export const ExecutorTaskState = TaskState.extract([
  'TASK_STARTING',
  'TASK_RUNNING',
  'TASK_KILLING',
  'TASK_FINISHED',
  'TASK_FAILED',
  'TASK_KILLED',
  'TASK_ERROR',
]);
export type ExecutorTaskState = z.infer<typeof ExecutorTaskState>;

/** A status update of an executor: kept and sent again with each registration until the agent has acknowledged it. */
export const ExecutorUpdate = z.object({
  taskId: TaskId,
  launchId: LaunchId,
  /** Chosen by the executor; another one for each update of its life. */
  updateId: z
    .string()
    .regex(/^[A-Za-z0-9_-]{1,40}$/, 'must be 1 to 40 letters, digits, "_" and "-"'),
  state: ExecutorTaskState,
  reason: TaskReason.optional(),
  message: z.string().max(TEXT_MAX_CHARS).optional(),
  data: z.string().max(DATA_MAX_CHARS).optional(),
  healthy: z.boolean().optional(),
  /** Of a process that the executor ran for the task. */
  exitCode: z.int().min(0).max(255).optional(),
  signal: z.int().min(1).max(64).optional(),
  startedAtMs: TimestampMs.optional(),
  endedAtMs: TimestampMs.optional(),
});
export type ExecutorUpdate = z.infer<typeof ExecutorUpdate>;

/** Who speaks. The token is in the file that `KAON_EXECUTOR_TOKEN_FILE` names. */
const Introduction = {
  token: z.string().min(1).max(200),
  frameworkId: FrameworkId,
  executorId: ExecutorId,
};

/** Step E5. */
const RegisterExecutor = z.object({ type: z.literal('RegisterExecutor'), ...Introduction });
/** The agent, or the connection to it, is a new one. */
const ReregisterExecutor = z.object({
  type: z.literal('ReregisterExecutor'),
  ...Introduction,
  /** Tasks that it has been given and whose end has not been acknowledged. */
  tasks: z.array(z.object({ launchId: LaunchId, task: TaskInfo })).max(100_000),
  /** Updates that have not been acknowledged, oldest first. */
  updates: z.array(ExecutorUpdate).max(100_000),
});
const StatusUpdate = z.object({ type: z.literal('StatusUpdate'), update: ExecutorUpdate });
const ExecutorToFramework = z.object({
  type: z.literal('ExecutorToFramework'),
  data: z.string().max(DATA_MAX_CHARS),
});

/** Anything that an executor says. */
export const ExecutorMessage = z.discriminatedUnion('type', [
  RegisterExecutor,
  ReregisterExecutor,
  StatusUpdate,
  ExecutorToFramework,
]);
export type ExecutorMessage = z.infer<typeof ExecutorMessage>;

/** The node, as far as an executor needs to know. */
export const ExecutorAgentInfo = z.object({ agentId: AgentId, hostname: z.string() });
export type ExecutorAgentInfo = z.infer<typeof ExecutorAgentInfo>;

/** A task as its executor gets it. */
export const LaunchedTask = z.object({
  /** Names this launch in everything that is said of it. */
  launchId: LaunchId,
  /** Without `executor`. */
  task: TaskInfo,
  /** Of a task with a command or with files: the task's own directory, and where its output belongs. All are there. */
  sandbox: z.object({ work: ProgramText, stdout: ProgramText, stderr: ProgramText }).optional(),
  /**
   * With `isolation: task`: files to which each process of the task has to write its own process id (as `0`) before it does
   * anything else, see cgroups(7), `cgroup.procs`.
   */
  cgroupProcs: z.array(ProgramText).optional(),
});
export type LaunchedTask = z.infer<typeof LaunchedTask>;

/** Step E6. */
const ExecutorRegistered = z.object({
  type: z.literal('ExecutorRegistered'),
  executorInfo: ExecutorInfo,
  frameworkInfo: FrameworkInfo,
  agentInfo: ExecutorAgentInfo,
});
const ExecutorReregistered = z.object({
  type: z.literal('ExecutorReregistered'),
  agentInfo: ExecutorAgentInfo,
});
/** Step T7. A launch that comes twice is to be run once. */
const RunTask = z.object({ type: z.literal('RunTask'), ...LaunchedTask.shape });
/** All of a group at once: they start together, and if one of them fails the others are to be ended. */
const RunTaskGroup = z.object({
  type: z.literal('RunTaskGroup'),
  groupId: TaskGroupId,
  tasks: z.array(LaunchedTask).min(1),
});
const KillTask = z.object({
  type: z.literal('KillTask'),
  taskId: TaskId,
  launchId: LaunchId,
  /** From SIGTERM to SIGKILL. */
  gracePeriodMs: z.int().min(0),
});
/** The agent has it on disk, and will tell the framework. */
const StatusUpdateAcknowledgement = z.object({
  type: z.literal('StatusUpdateAcknowledgement'),
  taskId: TaskId,
  launchId: LaunchId,
  updateId: z.string(),
});
const FrameworkToExecutor = z.object({
  type: z.literal('FrameworkToExecutor'),
  data: z.string().max(DATA_MAX_CHARS),
});
/** End all tasks, and then yourself; SIGKILL follows after that time. */
const ShutdownExecutor = z.object({
  type: z.literal('ShutdownExecutor'),
  gracePeriodMs: z.int().min(0),
});
/** The executor has broken the protocol; the agent closes the connection. Its tasks go on. */
const ExecutorError = z.object({
  type: z.literal('ExecutorError'),
  code: z.string(),
  message: z.string().max(TEXT_MAX_CHARS),
});

/** Anything that an agent says to an executor. */
export const AgentToExecutor = z.discriminatedUnion('type', [
  ExecutorRegistered,
  ExecutorReregistered,
  RunTask,
  RunTaskGroup,
  KillTask,
  StatusUpdateAcknowledgement,
  FrameworkToExecutor,
  ShutdownExecutor,
  ExecutorError,
]);
export type AgentToExecutor = z.infer<typeof AgentToExecutor>;
