/**
 * Task states, sources and reasons, spelled as Apache Mesos spells them, and the rules between states.
 */
import { z } from 'zod';

const TERMINAL = [
  'TASK_FINISHED',
  'TASK_FAILED',
  'TASK_KILLED',
  'TASK_ERROR',
  'TASK_LOST',
  'TASK_DROPPED',
  'TASK_GONE',
  'TASK_GONE_BY_OPERATOR',
] as const;

/**
 * STAGING: sent to the agent. STARTING: its unit is being made. KILLING: SIGTERM was sent. UNREACHABLE: its agent is
 * silent, and it may well be running; it comes back as what its agent says, or ends.
 */
export const TaskState = z.enum([
  'TASK_STAGING',
  'TASK_STARTING',
  'TASK_RUNNING',
  'TASK_KILLING',
  'TASK_UNREACHABLE',
  'TASK_UNKNOWN',
  ...TERMINAL,
]);
export type TaskState = z.infer<typeof TaskState>;

const terminal: ReadonlySet<TaskState> = new Set(TERMINAL);

/** A task in a terminal state uses nothing and never changes again. */
export function isTerminal(state: TaskState): boolean {
  return terminal.has(state);
}

const RANK: Readonly<Partial<Record<TaskState, number>>> = {
  TASK_STAGING: 0,
  TASK_STARTING: 1,
  TASK_RUNNING: 2,
  TASK_KILLING: 3,
};

/**
 * May a task go from one state to the other? Repeating a state is allowed (an update is delivered at least once),
 * going back is not, and nothing leaves a terminal state.
 */
export function mayBecome(from: TaskState, to: TaskState): boolean {
  if (isTerminal(from)) return false;
  if (isTerminal(to)) return true;
  const fromRank = RANK[from];
  const toRank = RANK[to];
  return fromRank === undefined || toRank === undefined || toRank >= fromRank;
}

/** Who says so. */
export const TaskSource = z.enum(['SOURCE_MASTER', 'SOURCE_AGENT', 'SOURCE_EXECUTOR']);
export type TaskSource = z.infer<typeof TaskSource>;

/** Why a task is in its state; absent where the state says it all. */
export const TaskReason = z.enum([
  'REASON_COMMAND_EXITED',
  'REASON_COMMAND_SIGNALED',
  'REASON_CONTAINER_LAUNCH_FAILED',
  'REASON_COMMAND_NOT_EXECUTABLE',
  'REASON_CONTAINER_LIMITATION_MEMORY',
  'REASON_MAX_COMPLETION_TIME_REACHED',
  'REASON_KILLED_BY_FRAMEWORK',
  'REASON_KILLED_BY_OPERATOR',
  'REASON_KILLED_DURING_LAUNCH',
  'REASON_TASK_INVALID',
  'REASON_TASK_DUPLICATE',
  'REASON_TASK_UNKNOWN',
  'REASON_INVALID_OFFERS',
  'REASON_RESOURCES_EXCEED_OFFER',
  'REASON_SANDBOX_FAILED',
  'REASON_AGENT_REMOVED',
  'REASON_AGENT_DISCONNECTED',
  'REASON_AGENT_RESTARTED',
  'REASON_AGENT_REREGISTERED',
  'REASON_AGENT_REMOVED_BY_OPERATOR',
  'REASON_STOPPED_WHEN_UNREACHABLE',
  'REASON_TASK_EXCLUSIVE',
  'REASON_TASK_SUPERSEDED',
  'REASON_FRAMEWORK_REMOVED',
  'REASON_RECONCILIATION',
  'REASON_EXECUTOR_REGISTRATION_TIMEOUT',
  'REASON_EXECUTOR_TERMINATED',
  'REASON_TASK_GROUP_FAILED',
  'REASON_HEALTH_CHECK_FAILED',
  'REASON_ARTIFACT_FAILED',
  'REASON_RESOURCES_UNKNOWN',
  'REASON_PREEMPTED',
]);
export type TaskReason = z.infer<typeof TaskReason>;
