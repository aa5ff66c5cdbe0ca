/**
 * Things that a test needs and does not care about: each builder fills in everything, and takes what matters to the
 * test. Amounts are as people read them: `cpus` 0.5, `mem` in MiB.
 */
import type { AgentExecutor, ExecutorInfo } from '../../protocol/executor.ts';
import type {
  AgentId,
  ExecutorId,
  FrameworkId,
  LaunchId,
  MasterId,
  OfferId,
  SessionId,
  TaskId,
  UpdateId,
} from '../../protocol/ids.ts';
import type { Resources } from '../../protocol/resources.ts';
import type {
  AgentInfo,
  AgentTask,
  FrameworkInfo,
  TaskInfo,
  TaskStatus,
} from '../../protocol/task.ts';

/** Branded ids of plain text. */
export const agentIdOf = (text: string): AgentId => text as AgentId;
export const executorIdOf = (text: string): ExecutorId => text as ExecutorId;
export const frameworkIdOf = (text: string): FrameworkId => text as FrameworkId;
export const launchIdOf = (text: string): LaunchId => text as LaunchId;
export const masterIdOf = (text: string): MasterId => text as MasterId;
export const offerIdOf = (text: string): OfferId => text as OfferId;
export const sessionOf = (text: string): SessionId => text as SessionId;
export const taskIdOf = (text: string): TaskId => text as TaskId;
export const updateIdOf = (text: string): UpdateId => text as UpdateId;

/** @param cpus cores, e.g. 0.5 */
export function amount(cpus: number, memMib: number): Resources {
  return { cpuMillis: Math.round(cpus * 1000), memMib };
}

export function frameworkInfo(
  frameworkId: string,
  more: Partial<FrameworkInfo> = {},
): FrameworkInfo {
  return {
    frameworkId: frameworkIdOf(frameworkId),
    name: frameworkId,
    user: 'ann',
    hostname: 'desk',
    role: '*',
    failoverTimeoutMs: 60_000,
    labels: {},
    ...more,
  };
}

/** An agent of 4 cores and 8 GiB. */
export function agentInfo(agentId: string, more: Partial<AgentInfo> = {}): AgentInfo {
  return {
    agentId: agentIdOf(agentId),
    hostname: `node-of-${agentId}`,
    resources: amount(4, 8192),
    attributes: {},
    ...more,
  };
}

/** A task of 1 core and 128 MiB that runs `true`. */
export function taskInfo(taskId: string, more: Partial<TaskInfo> = {}): TaskInfo {
  return {
    taskId: taskIdOf(taskId),
    name: taskId,
    resources: { cpuMillis: 1000, memMib: 128 },
    command: { argv: ['true'], environment: {} },
    killGracePeriodMs: 5000,
    whenUnreachable: 'keep',
    exclusive: false,
    uris: [],
    labels: {},
    ...more,
  };
}

/** An executor of 0.1 cores and 32 MiB with a command of its own. */
export function executorInfo(executorId: string, more: Partial<ExecutorInfo> = {}): ExecutorInfo {
  return {
    executorId: executorIdOf(executorId),
    name: executorId,
    resources: { cpuMillis: 100, memMib: 32 },
    command: { argv: ['executor'], environment: {} },
    uris: [],
    isolation: 'container',
    registrationTimeoutMs: 60_000,
    shutdownGracePeriodMs: 5000,
    whenUnreachable: 'keep',
    labels: {},
    ...more,
  };
}

/** A task of 1 core and 128 MiB for an executor: by default that of `executorInfo`, of that id. */
export function executorTask(
  taskId: string,
  executor: ExecutorInfo | string = 'e1',
  more: Partial<TaskInfo> = {},
): TaskInfo {
  const { command: _command, ...task } = taskInfo(taskId);
  const info = typeof executor === 'string' ? executorInfo(executor) : executor;
  return { ...task, executor: info, ...more };
}

/** An executor as its agent reports it. */
export function agentExecutor(
  frameworkId: string,
  executorId: string,
  more: Partial<AgentExecutor> = {},
): AgentExecutor {
  return {
    frameworkId: frameworkIdOf(frameworkId),
    info: executorInfo(executorId),
    launchId: launchIdOf(`launch-of-${executorId}`),
    ...more,
  };
}

/** A task as its agent reports it: running, 1 core and 128 MiB. */
export function agentTask(
  frameworkId: string,
  taskId: string,
  more: Partial<AgentTask> = {},
): AgentTask {
  return {
    frameworkId: frameworkIdOf(frameworkId),
    taskId: taskIdOf(taskId),
    launchId: launchIdOf(`launch-of-${taskId}`),
    name: taskId,
    resources: amount(1, 128),
    state: 'TASK_RUNNING',
    ...more,
  };
}

/** An agent's update, named after its task and state: `t1.TASK_RUNNING`. */
export function taskStatus(
  frameworkId: string,
  taskId: string,
  state: TaskStatus['state'],
  more: Partial<TaskStatus> = {},
): TaskStatus {
  return {
    frameworkId: frameworkIdOf(frameworkId),
    taskId: taskIdOf(taskId),
    updateId: updateIdOf(`${taskId}.${state}`),
    state,
    source: 'SOURCE_AGENT',
    ...more,
  };
}
