/** What happens to an agent, and what it has to do about it: the vocabulary of its core. Pure. */
import type { AgentToExecutor, ExecutorUpdate } from '../../protocol/executor-messages.ts';
import type {
  ExecutorKey,
  LaunchId,
  ReservationId,
  SessionId,
  TaskKey,
} from '../../protocol/ids.ts';
import type { Message } from '../../protocol/messages.ts';
import type { Reservation } from '../../protocol/reservations.ts';
import type { Resources } from '../../protocol/resources.ts';
import type { TaskReason } from '../../protocol/task-state.ts';
import type { DeathCertificate, LeaderInfo, TaskInfo, TaskStatus } from '../../protocol/task.ts';
import type { AgentState, AgentTaskEntry, ExecutorEntry, UnitEntry } from './state.ts';
import type { EndedUnit, KilledBy } from './verdict.ts';

/** Which launch of which task or executor. */
export interface LaunchRef {
  readonly key: TaskKey | ExecutorKey;
  readonly launchId: LaunchId;
}

/** Which launch of which executor. */
export interface ExecutorRef {
  readonly key: ExecutorKey;
  readonly launchId: LaunchId;
}

/** What happens to an agent. A launch that is not known (any more) makes an event do nothing. */
export type AgentEvent =
  | { readonly type: 'message'; readonly message: Message }
  /** The unit's command has been executed; of an executor with the limits that it was started with, if they are known. */
  | ({ readonly type: 'unit.started'; readonly limits?: Resources } & LaunchRef)
  /** There will be no process: the sandbox, the unit or the execution failed. */
  | ({
      readonly type: 'unit.failed';
      readonly exitStatus?: number | undefined;
      readonly message: string;
      /** Default: it follows from the exit status. */
      readonly reason?: TaskReason | undefined;
      /** It was given up because somebody wants it to end. */
      readonly isStopped?: boolean | undefined;
    } & LaunchRef)
  /** The command ended, everything of its cgroup is gone, and the result is stored. */
  | ({ readonly type: 'unit.ended'; readonly ended: EndedUnit } & LaunchRef)
  /** The kernel has ended a process of the task for memory, and others may be left: all of it ends (`OOMPolicy=kill`). */
  | ({ readonly type: 'unit.out-of-memory' } & LaunchRef)
  /** The task was on a node that has rebooted, or its unit vanished. */
  | ({ readonly type: 'unit.lost'; readonly message: string } & LaunchRef)
  /** What became of the wish for other limits of a unit: those in force, and why they are not what was wanted. */
  | ({
      readonly type: 'unit.resized';
      readonly resizeId: SessionId;
      readonly limits: Resources;
      readonly error?: string;
    } & LaunchRef)
  /** An executor has said who it is; with what it remembers, if it has been heard of before. */
  | ({
      readonly type: 'executor.registered';
      readonly memory?: ExecutorMemory;
    } & ExecutorRef)
  | ({ readonly type: 'executor.disconnected' } & ExecutorRef)
  | ({ readonly type: 'executor.update'; readonly taken: TakenUpdate } & ExecutorRef)
  /** Everything that an executor's task needs is there. */
  | ({
      readonly type: 'hosted.prepared';
      readonly cgroupProcs?: readonly string[];
    } & LaunchRef)
  | ({
      readonly type: 'hosted.failed';
      readonly reason: TaskReason;
      readonly message: string;
    } & LaunchRef)
  /** These limits of an executor's container are in force: those that were wanted, or what was possible. */
  | ({ readonly type: 'container.resized'; readonly limits: Resources } & ExecutorRef)
  | ({ readonly type: 'container.resize-failed'; readonly message: string } & ExecutorRef)
  /** Of a directory that was to go: it is not there any more, or it still is and somebody has to see why. */
  | {
      readonly type: 'directory.removed' | 'directory.removal-failed';
      readonly reservationId: ReservationId;
    }
  | { readonly type: 'tick' };

/** What an executor that comes back remembers: its tasks, and its updates that nobody has acknowledged. */
export interface ExecutorMemory {
  readonly tasks: readonly { readonly launchId: LaunchId; readonly task: TaskInfo }[];
  readonly updates: readonly TakenUpdate[];
}

/** An update of an executor, with what the agent itself knows of the end that it tells. */
export interface TakenUpdate {
  readonly update: ExecutorUpdate;
  readonly certificate?: DeathCertificate;
}

/** A line of an executor's journal: what has to be known of its tasks when the agent begins anew. */
export type JournalLine =
  /** It has been heard of: from then on it has all the time in the world to come back. */
  | { readonly type: 'registered' }
  | {
      readonly type: 'launch';
      readonly launchId: LaunchId;
      readonly task: TaskInfo;
      readonly groupSize?: number | undefined;
    }
  | { readonly type: 'update'; readonly taken: TakenUpdate }
  /** An end that the agent has found, and not the executor. */
  | { readonly type: 'end'; readonly status: TaskStatus }
  | {
      readonly type: 'kill';
      readonly launchId: LaunchId;
      readonly by: KilledBy;
      /** What was left of it by then. */
      readonly gracePeriodMs: number;
    }
  | { readonly type: 'resize'; readonly launchId: LaunchId; readonly resources: Resources }
  /** Its framework knows the end. */
  | { readonly type: 'acknowledged'; readonly launchId: LaunchId };

/** What the shell has to do, in this order. An `entry` is the live one: it is read, not kept. */
export type AgentEffect =
  /** Write the checkpoint, prepare the sandbox, start the unit: of a task, or of an executor. */
  | { readonly type: 'task.start'; readonly entry: UnitEntry }
  | { readonly type: 'unit.signal'; readonly entry: UnitEntry; readonly signal: number }
  | {
      readonly type: 'unit.resize';
      readonly entry: UnitEntry;
      readonly resizeId: SessionId;
      readonly limits: Resources;
    }
  | { readonly type: 'message.send'; readonly message: Message }
  /** What is known of the framework, or that its end has been asked for, has changed. */
  | { readonly type: 'checkpoint.update'; readonly entry: UnitEntry }
  /** The framework knows the end of the task: its checkpoint goes to those of ended launches. */
  | { readonly type: 'checkpoint.retire'; readonly entry: UnitEntry }
  /** Keep what has to be known of a task of an executor. Before any message that follows from it leaves the process. */
  | {
      readonly type: 'journal.append';
      readonly executor: ExecutorEntry;
      readonly line: JournalLine;
    }
  /** Its executor has ended, and its framework knows the ends of all of its tasks. */
  | { readonly type: 'journal.remove'; readonly executor: ExecutorEntry }
  | {
      readonly type: 'executor.send';
      readonly executor: ExecutorEntry;
      readonly message: AgentToExecutor;
    }
  /** Send `RunTask`, or `RunTaskGroup` for a group. */
  | {
      readonly type: 'hosted.give';
      readonly executor: ExecutorEntry;
      readonly entries: readonly AgentTaskEntry[];
    }
  /** Make directory, files and cgroup of a task of an executor. */
  | { readonly type: 'hosted.prepare'; readonly entry: AgentTaskEntry }
  /** It is not needed any more: end what is left in its cgroup. */
  | { readonly type: 'hosted.close'; readonly entry: AgentTaskEntry }
  /** Its executor has let the time to end it pass, and it has a cgroup of its own. */
  | { readonly type: 'hosted.kill'; readonly entry: AgentTaskEntry }
  | {
      readonly type: 'container.resize';
      readonly executor: ExecutorEntry;
      readonly limits: Resources;
    }
  /** The end of a launch is so old that nobody can want to hear it again. */
  | { readonly type: 'ended.forget'; readonly launchId: LaunchId }
  /** Write down whose directory is to be there, before anything uses it. */
  | { readonly type: 'directory.note'; readonly reservation: Reservation }
  /** Remove the directory with all that is in it; `directory.removed` or `directory.removal-failed` follows. */
  | { readonly type: 'directory.remove'; readonly reservationId: ReservationId }
  /** Keep which leader there has been. */
  | { readonly type: 'leader.remember'; readonly leader: LeaderInfo }
  /** The master refuses this agent: it stops with this error, and its tasks go on. */
  | { readonly type: 'agent.stop'; readonly code: string; readonly message: string };

/** One step: the state that it may change, the time, and the effects so far. */
export interface Context {
  readonly state: AgentState;
  readonly nowMs: number;
  readonly effects: AgentEffect[];
}
