/**
 * What an agent knows of its tasks and executors: plain data, changed only by the functions of this folder. systemd, the
 * checkpoints and the journals are what lasts; this is rebuilt from them when the agent starts.
 */
import type { AgentExecutor, ExecutorInfo } from '../../protocol/executor.ts';
import type { ExecutorUpdate } from '../../protocol/executor-messages.ts';
import type { AgentId, ExecutorKey, LaunchId, ReservationId, TaskKey } from '../../protocol/ids.ts';
import type { MessageOf } from '../../protocol/messages.ts';
import type { NumberRanges } from '../../protocol/numbers.ts';
import type { Reservation } from '../../protocol/reservations.ts';
import type { Resources } from '../../protocol/resources.ts';
import type {
  AgentFramework,
  AgentTask,
  FrameworkInfo,
  LeaderInfo,
  TaskInfo,
  TaskStatus,
} from '../../protocol/task.ts';
import { isTerminal } from '../../protocol/task-state.ts';
import type { TaskReason, TaskState } from '../../protocol/task-state.ts';
import type { KilledBy } from './verdict.ts';

/** A wish for the end of a task or an executor. */
export interface Kill {
  readonly by: KilledBy;
  /** When SIGKILL follows, for the first time or again. */
  deadlineMs: number;
}

/** What tasks and executors have in common. */
interface Launched {
  readonly key: TaskKey | ExecutorKey;
  framework: FrameworkInfo;
  /** The framework has left, and the task goes on to its end. */
  detached: boolean;
  /** Of an executor, the task that it would be: its command, its limits without tasks. */
  task: TaskInfo;
  /** Names this launch: in the unit, the sandbox, the checkpoint and the ids of its updates. */
  readonly launchId: LaunchId;
  readonly unit: string;
  /** True once the unit's command has been executed: from then on it can be signalled. */
  started: boolean;
  kill?: Kill;
}

/** One launch of one task on this agent: with a unit of its own, or in that of its executor. */
export interface AgentTaskEntry extends Launched {
  readonly key: TaskKey;
  state: TaskState;
  /** Updates that have not been acknowledged, oldest first. */
  updates: TaskStatus[];
  /** Newest update, acknowledged or not. */
  last?: TaskStatus;
  /** Of a task of an executor, which runs it; `started` says that it has been handed over. */
  readonly hosted?: Hosted;
}

/** What there is to know of a task because it is an executor's. */
export interface Hosted {
  readonly executor: ExecutorEntry;
  /** How many tasks its group has: they are handed over together. */
  readonly groupSize: number | undefined;
  /** When it was taken, monotonic milliseconds of this agent. */
  readonly arrivedAtMs: number;
  /** `done`: its directory and files are there, and its cgroup if it has one. */
  preparation: 'none' | 'under-way' | 'done';
  /** See `cgroupProcs` of `LaunchedTask`. */
  cgroupProcs?: readonly string[];
  /** Updates of the executor that have been taken, by its own ids. */
  readonly taken: Set<string>;
}

/** Other limits of a task that wait for those of its container. */
export interface PendingResize {
  readonly resizeId: MessageOf<'ResizeTask'>['resizeId'];
  readonly task: AgentTaskEntry;
}

/** One executor on this agent, with the container that all of its tasks share. */
export interface ExecutorEntry extends Launched {
  readonly key: ExecutorKey;
  readonly info: ExecutorInfo;
  hasEnded: boolean;
  /** False of one that was found without its journal: then its own word is all there is of its tasks, and of its needs. */
  hasJournal: boolean;
  /** It has been heard of since it was started; never false again. */
  isRegistered: boolean;
  /** It can be spoken to now. */
  isConnected: boolean;
  /** Until then it has to register. Absent: it has, or is not started. */
  registerByMs?: number;
  /** Why its tasks have failed if it ends now. */
  failure?: { readonly reason: TaskReason; readonly message: string };
  /** Live tasks in the order of launch. */
  readonly tasks: Map<TaskKey, AgentTaskEntry>;
  /** Those of them that have not been handed over. */
  readonly waiting: Set<AgentTaskEntry>;
  /** Ended tasks whose ends have not been acknowledged. */
  unacknowledged: number;
  /** Ends of launches that are not known, oldest first: the agent may have lost one that is sent to it again. Bounded. */
  readonly unclaimedEnds: Map<LaunchId, ExecutorUpdate>;
  /** Its own resources and those of its live tasks. */
  needed: Resources;
  /** The most that was needed since it was last asked whether the container may be smaller. */
  peak: Resources;
  /** Limits that are known to be in force; nothing while nobody knows. */
  granted: Resources;
  /** Limits on their way to systemd. */
  resizing?: Resources;
  pendingResizes: PendingResize[];
  /** When it is asked again whether the container may be smaller, and when it may grow after that has failed. */
  shrinkAtMs: number;
  growAtMs: number;
  /** How long the last wish for a smaller container has been put off; 0: it has not. */
  shrinkDelayMs: number;
  /** Since when it has had no task. */
  idleSinceMs: number;
}

/** What has a unit of its own: a task with a command, or an executor. */
export type UnitEntry = AgentTaskEntry | ExecutorEntry;

/** True of an executor, which is not a task although its unit is one's. */
export function isExecutor(entry: UnitEntry): entry is ExecutorEntry {
  return 'info' in entry;
}

/** True if there is nothing to be expected of the unit any more. */
export function isOver(entry: UnitEntry): boolean {
  return isExecutor(entry) ? entry.hasEnded : isTerminal(entry.state);
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
  /** Which units it has of what is numbered; changes with the agent's settings. */
  numbers: NumberRanges;
  /** Reservations whose directories are there. */
  readonly directories: Map<ReservationId, Reservation>;
  /** Of them, those that are to go, once no task has them, and how far that is. */
  readonly doomed: Map<ReservationId, Removal>;
  /** In the order of launch, with what has ended and is not acknowledged: one launch of a task at a time. */
  readonly tasks: Map<TaskKey, AgentTaskEntry>;
  /** Those that have not ended. */
  readonly executors: Map<ExecutorKey, ExecutorEntry>;
  /** Launches of executors that have ended, with when: a task that comes late must not start one again. Bounded. */
  readonly endedExecutors: Map<LaunchId, number>;
  /** Ended executors whose journals hold nothing but acknowledged ends, with since when: kept as those ends are. Bounded. */
  readonly doneJournals: Map<ExecutorEntry, number>;
  /** Oldest acknowledgement first; bounded by `ended.ts`. */
  readonly ended: Map<LaunchId, EndedEntry>;
  /** Of the leaders that it has heard of, the one with the highest epoch. */
  leaderSeen?: LeaderInfo;
  /** It has told a master what is on it, since it began: what was not in that is lost. */
  hasReported: boolean;
}

/** The removal of a directory. */
export interface Removal {
  isUnderWay: boolean;
  /** When it is tried again. */
  retryAtMs: number;
}

/** What makes one agent distinct from every other. */
export interface AgentIdentity {
  readonly agentId: AgentId;
  readonly agentTag: string;
  readonly hostname: string;
}

/** @returns a state without tasks; recovery adds those of the checkpoints */
export function createAgentState(identity: AgentIdentity): AgentState {
  return {
    ...identity,
    numbers: {},
    directories: new Map(),
    doomed: new Map(),
    tasks: new Map(),
    executors: new Map(),
    endedExecutors: new Map(),
    doneJournals: new Map(),
    ended: new Map(),
    hasReported: false,
  };
}

/** What an agent says of itself when it registers, less who and where it is. */
export type Registration = Pick<
  MessageOf<'RegisterAgent'>,
  'tasks' | 'frameworks' | 'executors' | 'ended' | 'directories' | 'doomed' | 'leaderSeen'
>;

/**
 * What an agent has that registers.
 *
 * @param state changed in one thing: it has reported. A task that turns up later has been called lost by then
 * @returns everything that a master which has lost its memory needs of this agent
 */
export function registrationOf(state: AgentState): Registration {
  state.hasReported = true;
  return {
    tasks: agentTasks(state),
    frameworks: frameworksOf(state),
    executors: [...state.executors.values()].map(agentExecutor),
    ended: [...state.ended.values()].flatMap(({ status: { frameworkId, taskId, launchId } }) =>
      launchId === undefined ? [] : [{ frameworkId, taskId, launchId }],
    ),
    ...(state.directories.size > 0 && { directories: [...state.directories.values()] }),
    ...(state.doomed.size > 0 && { doomed: [...state.doomed.keys()] }),
    ...(state.leaderSeen && { leaderSeen: state.leaderSeen }),
  };
}

function agentExecutor({ framework, info, launchId, unit }: ExecutorEntry): AgentExecutor {
  return { frameworkId: framework.frameworkId, info, launchId, unit };
}

function agentTasks(state: AgentState): AgentTask[] {
  return [...state.tasks.values()].map(
    ({ framework, task, launchId, state: taskState, unit, hosted }): AgentTask => ({
      frameworkId: framework.frameworkId,
      taskId: task.taskId,
      launchId,
      name: task.name,
      resources: task.resources,
      state: taskState,
      unit,
      ...(hosted && {
        executorId: hosted.executor.info.executorId,
        executorLaunchId: hosted.executor.launchId,
      }),
      rules: {
        killGracePeriodMs: task.killGracePeriodMs,
        whenUnreachable: task.whenUnreachable,
        exclusive: task.exclusive,
        ...(task.priority !== undefined && { priority: task.priority }),
      },
      ...(task.role !== undefined && { role: task.role }),
      ...(task.directories && { directories: task.directories }),
    }),
  );
}

/** Each once; of several tasks the newest knows best. */
function frameworksOf(state: AgentState): AgentFramework[] {
  const frameworks = new Map<string, AgentFramework>();
  for (const { framework: info, detached } of [
    ...state.executors.values(),
    ...state.tasks.values(),
  ]) {
    frameworks.set(info.frameworkId, { info, detached });
  }
  return [...frameworks.values()];
}
