/**
 * What an agent knows of its tasks: plain data, changed only by the functions of this folder. systemd and the
 * checkpoints are what lasts; this is rebuilt from them when the agent starts.
 */
import type { AgentId, LaunchId, TaskKey } from '../../protocol/ids.ts';
import type { MessageOf } from '../../protocol/messages.ts';
import type {
  AgentFramework,
  AgentTask,
  FrameworkInfo,
  LeaderInfo,
  TaskInfo,
  TaskStatus,
} from '../../protocol/task.ts';
import type { TaskState } from '../../protocol/task-state.ts';
import type { KilledBy } from './verdict.ts';

/** One launch of one task on this agent. */
export interface AgentTaskEntry {
  readonly key: TaskKey;
  framework: FrameworkInfo;
  /** The framework has left, and the task goes on to its end. */
  detached: boolean;
  readonly task: TaskInfo;
  /** Names this launch: in the unit, the sandbox, the checkpoint and the ids of its updates. */
  readonly launchId: LaunchId;
  readonly unit: string;
  state: TaskState;
  /** True once the unit's command has been executed: from then on it can be signalled. */
  started: boolean;
  kill?: {
    readonly by: KilledBy;
    /** When SIGKILL follows, for the first time or again. */
    deadlineMs: number;
  };
  /** Updates that have not been acknowledged, oldest first. */
  updates: TaskStatus[];
  /** Newest update, acknowledged or not. */
  last?: TaskStatus;
}

/** A launch whose end has been acknowledged not long ago. */
export interface EndedEntry {
  /** Its last update, as it was sent. */
  readonly status: TaskStatus;
  readonly acknowledgedAtMs: number;
}

/** Everything that an agent decides on. */
export interface AgentState {
  readonly agentId: AgentId;
  /** Short form of cluster and agent, for unit names. */
  readonly agentTag: string;
  readonly hostname: string;
  /** In the order of launch, with what has ended and is not acknowledged: one launch of a task at a time. */
  readonly tasks: Map<TaskKey, AgentTaskEntry>;
  /** Oldest acknowledgement first; bounded by `ended.ts`. */
  readonly ended: Map<LaunchId, EndedEntry>;
  /** Of the leaders that it has heard of, the one with the highest epoch. */
  leaderSeen?: LeaderInfo;
}

/** What makes one agent distinct from every other. */
export interface AgentIdentity {
  readonly agentId: AgentId;
  readonly agentTag: string;
  readonly hostname: string;
}

/** @returns a state without tasks; recovery adds those of the checkpoints */
export function createAgentState(identity: AgentIdentity): AgentState {
  return { ...identity, tasks: new Map(), ended: new Map() };
}

/** What an agent says of itself when it registers, less who and where it is. */
export type Registration = Pick<
  MessageOf<'RegisterAgent'>,
  'tasks' | 'frameworks' | 'ended' | 'leaderSeen'
>;

/** @returns everything that a master which has lost its memory needs of this agent */
export function registrationOf(state: AgentState): Registration {
  return {
    tasks: agentTasks(state),
    frameworks: frameworksOf(state),
    ended: [...state.ended.values()].flatMap(({ status: { frameworkId, taskId, launchId } }) =>
      launchId === undefined ? [] : [{ frameworkId, taskId, launchId }],
    ),
    ...(state.leaderSeen && { leaderSeen: state.leaderSeen }),
  };
}

function agentTasks(state: AgentState): AgentTask[] {
  return [...state.tasks.values()].map(
    ({ framework, task, launchId, state: taskState, unit }): AgentTask => ({
      frameworkId: framework.frameworkId,
      taskId: task.taskId,
      launchId,
      name: task.name,
      resources: task.resources,
      state: taskState,
      unit,
      rules: {
        killGracePeriodMs: task.killGracePeriodMs,
        whenUnreachable: task.whenUnreachable,
        exclusive: task.exclusive,
      },
    }),
  );
}

/** Each once; of several tasks the newest knows best. */
function frameworksOf(state: AgentState): AgentFramework[] {
  const frameworks = new Map<string, AgentFramework>();
  for (const { framework: info, detached } of state.tasks.values()) {
    frameworks.set(info.frameworkId, { info, detached });
  }
  return [...frameworks.values()];
}
