/** What a framework writes: its scheduler. Every callback gets the driver; all may be asynchronous. */
import type { AgentId, FrameworkId, OfferId } from '../protocol/ids.ts';
import type { Offer, TaskStatus } from '../protocol/task.ts';
import type { SchedulerDriver } from './scheduler-driver.ts';

/** The leading master, as far as a framework needs to know. */
export interface MasterInfo {
  readonly masterId: string;
  /** Grows with each new leader. */
  readonly epoch: number;
}

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
  /** The same id has registered again: after a failover of this framework, or because the cluster lost its memory. */
  reregistered?(driver: SchedulerDriver, master: MasterInfo): void | Promise<void>;
  /** There has been no leading master for a while. What was asked for waits, and is done when there is one. */
  disconnected?(driver: SchedulerDriver): void | Promise<void>;
  /** Resources to accept (`launchTasks`) or to decline. Each offer is of one agent. */
  resourceOffers(driver: SchedulerDriver, offers: readonly Offer[]): void | Promise<void>;
  /** An offer that was made is not valid any more. */
  offerRescinded?(driver: SchedulerDriver, offerId: OfferId): void | Promise<void>;
  /**
   * A task's state has changed. Delivered at least once: acknowledged for you when this returns, and sent again (to the
   * next scheduler with this framework id, if need be) until then.
   */
  statusUpdate(driver: SchedulerDriver, status: TaskStatus): void | Promise<void>;
  /** An agent has left the cluster; its tasks have been reported lost before this. */
  agentLost?(driver: SchedulerDriver, agentId: AgentId): void | Promise<void>;
  /** The driver cannot go on (another scheduler took over this id, say). It has been aborted; nothing follows. */
  error?(driver: SchedulerDriver, message: string): void | Promise<void>;
}
