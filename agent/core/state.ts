/**
 * What an agent knows of its tasks: plain data, changed only by the functions of this folder. systemd and the
 * checkpoints are what lasts; this is rebuilt from them when the agent starts.
 */
import type { AgentId, FrameworkId, TaskKey } from '../../protocol/ids.ts';
import type { AgentTask, TaskInfo, TaskStatus } from '../../protocol/task.ts';
import type { TaskState } from '../../protocol/task-state.ts';

/** One launch of one task on this agent. */
export interface AgentTaskEntry {
  readonly key: TaskKey;
  readonly frameworkId: FrameworkId;
  readonly frameworkName: string;
  readonly task: TaskInfo;
  /** Names this launch: in the unit, the sandbox and the ids of its updates. */
  readonly launchId: string;
  readonly unit: string;
  state: TaskState;
  /** True once the unit's command has been executed: from then on it can be signalled. */
  started: boolean;
  kill?: {
    readonly by: 'framework' | 'operator';
    /** When SIGKILL follows, for the first time or again. */
    deadlineMs: number;
  };
  /** Updates that have not been acknowledged, oldest first. */
  updates: TaskStatus[];
}

/**
 * Everything that an agent decides on. `tasks`: Map keyed by TaskKey, in the order of launch, with what has
 * ended and is not acknowledged.
 */
export interface AgentState {
  readonly agentId: AgentId;
  /** Short form of the agent's id, for unit names. */
  readonly agentTag: string;
  readonly hostname: string;
  /** Of this process: with `nextLaunch` it makes launch ids that no other process of this agent makes. */
  readonly launchPrefix: string;
  nextLaunch: number;
  readonly tasks: Map<TaskKey, AgentTaskEntry>;
}

/** What makes one agent process distinct from every other, and from its own predecessor. */
export interface AgentIdentity {
  readonly agentId: AgentId;
  readonly agentTag: string;
  readonly hostname: string;
  readonly launchPrefix: string;
}

/** @returns a state without tasks; recovery adds those of the checkpoints */
export function createAgentState(identity: AgentIdentity): AgentState {
  return { ...identity, nextLaunch: 1, tasks: new Map() };
}

/** What the agent says that it runs when it registers. */
export function agentTasks(state: AgentState): AgentTask[] {
  return [...state.tasks.values()].map(({ frameworkId, task, state: taskState, unit }) => ({
    frameworkId,
    taskId: task.taskId,
    name: task.name,
    resources: task.resources,
    state: taskState,
    unit,
  }));
}
