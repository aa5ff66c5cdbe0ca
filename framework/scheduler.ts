/** What a framework writes: its scheduler. Every callback gets the driver; all may be asynchronous. */
import type { MessageOf } from '../protocol/messages.ts';
import type {
  AgentId,
  ExecutorId,
  FrameworkId,
  OfferId,
  SessionId,
  TaskId,
} from '../protocol/ids.ts';
import type { Resources } from '../protocol/resources.ts';
import type { Offer, TaskStatus } from '../protocol/task.ts';
import type { SchedulerDriver } from './scheduler-driver.ts';

/** The leading master, as far as a framework needs to know. */
export interface MasterInfo {
  readonly masterId: string;
  /** Grows with each new leader. */
  readonly epoch: number;
}

/** What became of a `resizeTask`. */
export interface ResizeOutcome {
  /** What `resizeTask` has returned; another's if an operator has asked for it. */
  readonly resizeId: SessionId;
  readonly taskId: TaskId;
  /** What is in force now; absent if that is not known. */
  readonly resources?: Resources;
  /** Why that is not what was asked for; absent if it is. */
  readonly error?: string;
}

/** An agent that is to be emptied. */
export type InverseOffer = Omit<MessageOf<'InverseOffer'>, 'type'>;

/**
 * Callbacks come one at a time, in the order in which the master sent them: the next waits until the last has
 * returned (or its promise has settled). One that throws aborts the driver.
 */
export interface Scheduler {
  /** The master knows the framework; offers follow. Once in the life of a framework id. */
  registered?(
    driver: SchedulerDriver,
    frameworkId: FrameworkId,
    master: MasterInfo,
  ): void | Promise<void>;
  /**
   * The framework is known, and was before: after a failover of this framework, because the cluster lost its memory, or
   * because there is a master again after `disconnected`. May come more than once for one of these.
   */
  reregistered?(driver: SchedulerDriver, master: MasterInfo): void | Promise<void>;
  /**
   * There has been no leading master for a while (10 s). What is asked for waits, and is done when there is one; then
   * `reregistered` comes, or `registered` if it never has.
   */
  disconnected?(driver: SchedulerDriver): void | Promise<void>;
  /** Resources to accept (`launchTasks`) or to decline. Each offer is of one agent. */
  resourceOffers(driver: SchedulerDriver, offers: readonly Offer[]): void | Promise<void>;
  /** An offer that was made is not valid any more. */
  offerRescinded?(driver: SchedulerDriver, offerId: OfferId): void | Promise<void>;
  /**
   * A task's state has changed. Delivered at least once: acknowledged for you when this returns, and sent again (to the
   * next scheduler with this framework id, if need be) until then. With `implicitAcknowledgements: false` until
   * `acknowledgeStatusUpdate` is called.
   */
  statusUpdate(driver: SchedulerDriver, status: TaskStatus): void | Promise<void>;
  /**
   * An agent with work of this framework is to be emptied: it is not offered from `fromMs` on, and what is left of its tasks at
   * `deadlineMs` is killed (absent: they may go on to their own ends). Also for one that begins later, a maintenance window.
   * Comes again after a failover. See `answerInverseOffer`.
   */
  inverseOffer?(driver: SchedulerDriver, offer: InverseOffer): void | Promise<void>;
  /** The agent stays after all. */
  inverseOfferRescinded?(driver: SchedulerDriver, agentId: AgentId): void | Promise<void>;
  /** An agent has left the cluster; its tasks have been reported lost before this. */
  agentLost?(driver: SchedulerDriver, agentId: AgentId): void | Promise<void>;
  /** An executor has ended, for whatever reason; each of its tasks has had an update before this. */
  executorLost?(
    driver: SchedulerDriver,
    executorId: ExecutorId,
    agentId: AgentId,
    message: string,
  ): void | Promise<void>;
  /** An executor says something: best effort, at any time between its first and last task. */
  frameworkMessage?(
    driver: SchedulerDriver,
    executorId: ExecutorId,
    agentId: AgentId,
    data: string,
  ): void | Promise<void>;
  /** What became of a `resizeTask`: granted, or why not. */
  taskResized?(driver: SchedulerDriver, outcome: ResizeOutcome): void | Promise<void>;
  /** The driver cannot go on (another scheduler took over this id, say). It has been aborted; nothing follows. */
  error?(driver: SchedulerDriver, message: string): void | Promise<void>;
}
