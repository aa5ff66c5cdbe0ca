/**
 * The framework behind `kaon run`: one command, as one task or several alike, from the first offer to the last end.
 * Written against the public SDK alone.
 */
import type {
  AgentId,
  Offer,
  Scheduler,
  SchedulerDriver,
  TaskDescription,
  TaskId,
  TaskStatus,
} from '../../framework/index.ts';
import { isTerminal, REQUEST_NOT_ON_MAX, unitsIn } from '../../framework/index.ts';

/** What to run, and where it may run. */
export interface RunRequest {
  /** One for each instance; unique, valid task ids. */
  readonly taskIds: readonly TaskId[];
  /** Everything of the task but its id. */
  readonly task: Omit<TaskDescription, 'taskId'>;
  readonly attributes: Readonly<Record<string, string>>;
  /** No two instances that have not ended on one agent. Default false. */
  readonly distinctHosts?: boolean;
  /** Which agents come first; absent: in turn. */
  readonly placement?: 'spread' | 'pack';
  /** All instances are offered room in one round, or none. Default false. */
  readonly gang?: boolean;
}

/** What the scheduler tells whoever runs it. */
export interface RunListener {
  onLaunched?(
    taskId: TaskId,
    agent: { readonly agentId: AgentId; readonly hostname: string },
  ): void;
  /** The task runs, so its agent has it. Staged or unreachable it may never have arrived there. */
  onRunning?(taskId: TaskId): void;
  /** The task has ended, or nobody knows of it. */
  onStatus?(status: TaskStatus): void;
  /** The driver cannot go on. */
  onError(message: string): void;
  /** Every instance has ended. */
  onDone(): void;
}

/** A scheduler that asks for exactly what is not placed yet. */
export class RunScheduler implements Scheduler {
  readonly #request: RunRequest;
  readonly #listener: RunListener;
  /** Not placed, in order. */
  #waiting: TaskId[];
  /** With the agent that each was launched on. */
  readonly #launched = new Map<TaskId, AgentId>();
  readonly #ended = new Map<TaskId, TaskStatus>();
  #cancelled = false;

  constructor(request: RunRequest, listener: RunListener) {
    this.#request = request;
    this.#listener = listener;
    this.#waiting = [...request.taskIds];
  }

  /** Instances that wait for an offer. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /** How each instance ended, by task id. */
  get ended(): ReadonlyMap<TaskId, TaskStatus> {
    return this.#ended;
  }

  /** Places nothing more and kills what runs. @returns false if nothing was ever launched, so that there is no end to wait for */
  cancel(driver: SchedulerDriver, gracePeriodMs?: number): boolean {
    this.#cancelled = true;
    const unplaced = new Set(this.#waiting);
    this.#waiting = [];
    const live = this.#request.taskIds.filter((id) => !unplaced.has(id) && !this.#ended.has(id));
    for (const taskId of live) driver.killTask(taskId, gracePeriodMs);
    return live.length > 0;
  }

  registered(driver: SchedulerDriver): void {
    this.#ask(driver);
  }

  /** A launch of the session before may never have arrived; without asking, its end would be waited for for ever. */
  reregistered(driver: SchedulerDriver): void {
    this.#ask(driver);
    const open = [...this.#launched.keys()].filter((taskId) => !this.#ended.has(taskId));
    if (open.length > 0) driver.reconcileTasks(open);
  }

  resourceOffers(driver: SchedulerDriver, offers: readonly Offer[]): void {
    for (const offer of offers) this.#use(driver, offer);
    // In the same turn as the launches, so the master sees both together and offers nothing in between.
    this.#ask(driver);
  }

  statusUpdate(driver: SchedulerDriver, status: TaskStatus): void {
    // Of an unknown task nobody can say whether it has run: launching it again might run it twice.
    const isOver = isTerminal(status.state) || status.state === 'TASK_UNKNOWN';
    if (status.state === 'TASK_RUNNING') this.#listener.onRunning?.(status.taskId);
    if (!isOver || this.#ended.has(status.taskId)) return;
    if (status.reason === 'REASON_INVALID_OFFERS' && !this.#cancelled) {
      // The offer had gone before the launch arrived: nothing has run, so it waits again.
      this.#waiting.push(status.taskId);
      this.#launched.delete(status.taskId);
      this.#ask(driver);
      return;
    }
    this.#ended.set(status.taskId, status);
    this.#listener.onStatus?.(status);
    if (
      this.#ended.size === this.#request.taskIds.length ||
      (this.#cancelled && this.#allLiveEnded())
    ) {
      this.#listener.onDone();
    }
  }

  error(_driver: SchedulerDriver, message: string): void {
    this.#listener.onError(message);
  }

  #allLiveEnded(): boolean {
    return this.#request.taskIds.every((id) => this.#ended.has(id) || !this.#launched.has(id));
  }

  #use(driver: SchedulerDriver, offer: Offer): void {
    const { task, attributes } = this.#request;
    // Offers that were made before the master had heard what is asked for may be of any agent.
    const isFit = Object.entries(attributes).every(
      ([name, value]) => offer.attributes[name] === value,
    );
    const room = isFit ? unitsIn(task.resources, offer.resources) : 0;
    const count = Math.min(this.#waiting.length, room, this.#mostOn(offer.agentId));
    if (count === 0) {
      driver.declineOffer(offer.offerId);
      return;
    }
    const taskIds = this.#waiting.splice(0, count);
    driver.launchTasks(
      offer.offerId,
      taskIds.map((taskId) => ({ ...task, taskId })),
      { refuseMs: 0 },
    );
    for (const taskId of taskIds) {
      this.#launched.set(taskId, offer.agentId);
      this.#listener.onLaunched?.(taskId, offer);
    }
  }

  #ask(driver: SchedulerDriver): void {
    const { resources, priority } = this.#request.task;
    const count = this.#waiting.length;
    const { attributes, distinctHosts, placement, gang } = this.#request;
    const request = {
      ...{ resources, count, attributes: { ...attributes } },
      ...(distinctHosts && { maxPerAgent: 1, notOn: this.#taken().slice(0, REQUEST_NOT_ON_MAX) }),
      ...(placement && { placement }),
      ...(gang && { gang }),
      ...(priority !== undefined && { priority }),
    };
    driver.requestResources(count === 0 ? [] : [request]);
  }

  /** Agents with an instance that has not ended. */
  #taken(): AgentId[] {
    const live = [...this.#launched].filter(([taskId]) => !this.#ended.has(taskId));
    return [...new Set(live.map(([, agentId]) => agentId))];
  }

  #mostOn(agentId: AgentId): number {
    if (!this.#request.distinctHosts) return Infinity;
    return this.#taken().includes(agentId) ? 0 : 1;
  }
}
