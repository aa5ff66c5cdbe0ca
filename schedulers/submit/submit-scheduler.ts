/**
 * The submitter's part of a hosting framework: launches one task, the first runner, on the first offer that fits, and is done
 * when that has taken over as the scheduler. Written against the public SDK alone.
 */
import type {
  AgentId,
  Offer,
  Resources,
  Scheduler,
  SchedulerDriver,
  TaskDescription,
  TaskId,
  TaskStatus,
} from '../../framework/index.ts';
import { fits, isTerminal } from '../../framework/index.ts';
import { hasAttributes } from './core/standby.ts';

/** What to launch. */
export interface SubmitRequest {
  readonly taskId: TaskId;
  readonly resources: Resources;
  /** Only on agents that have all of these. */
  readonly attributes: Readonly<Record<string, string>>;
  /** The task for the agent that has made the offer. */
  readonly taskFor: (agentId: AgentId, hostname: string) => TaskDescription;
}

/** Who is told. */
export interface SubmitListener {
  onLaunched(agent: { readonly agentId: AgentId; readonly hostname: string }): void;
  onStatus(status: TaskStatus): void;
  /** The task is the scheduler now. */
  onHandedOver(): void;
  /** The task has ended, and has not taken over. */
  onFailed(status: TaskStatus): void;
  /** The driver cannot go on. */
  onError(message: string): void;
}

/** How a driver says that somebody else has its framework id now. */
const FAILED_OVER = 'framework failed over';

/** From the first offer to the handing over. */
export class SubmitScheduler implements Scheduler {
  readonly #request: SubmitRequest;
  readonly #listener: SubmitListener;
  #isLaunched = false;

  constructor(request: SubmitRequest, listener: SubmitListener) {
    this.#request = request;
    this.#listener = listener;
  }

  /** False once the task is on its way to an agent. */
  get isWaiting(): boolean {
    return !this.#isLaunched;
  }

  registered(driver: SchedulerDriver): void {
    this.#ask(driver);
  }

  /** A launch of the session before may never have arrived. */
  reregistered(driver: SchedulerDriver): void {
    this.#ask(driver);
    if (this.#isLaunched) driver.reconcileTasks([this.#request.taskId]);
  }

  resourceOffers(driver: SchedulerDriver, offers: readonly Offer[]): void {
    for (const offer of offers) {
      const { offerId, agentId, hostname } = offer;
      if (this.#isLaunched || !this.#isFit(offer)) {
        driver.declineOffer(offerId);
        continue;
      }
      this.#isLaunched = true;
      const task = this.#request.taskFor(agentId, hostname);
      driver.launchTasks(offerId, [task], { refuseMs: 0 });
      this.#listener.onLaunched({ agentId, hostname });
    }
    // In the same turn as the launch, so the master sees both together and offers nothing in between.
    this.#ask(driver);
  }

  statusUpdate(driver: SchedulerDriver, status: TaskStatus): void {
    const { state, reason } = status;
    // Of another submission of this framework, long ago.
    if (status.taskId !== this.#request.taskId) return;
    const isOver = isTerminal(state) || state === 'TASK_UNKNOWN';
    if (isOver && reason === 'REASON_INVALID_OFFERS') {
      // The offer had gone before the launch arrived: nothing has run, so it waits again.
      this.#isLaunched = false;
      this.#ask(driver);
      return;
    }
    this.#listener.onStatus(status);
    if (isOver) this.#listener.onFailed(status);
  }

  error(_driver: SchedulerDriver, message: string): void {
    if (this.#isLaunched && message.startsWith(FAILED_OVER)) this.#listener.onHandedOver();
    else this.#listener.onError(message);
  }

  #isFit(offer: Offer): boolean {
    const { resources, attributes } = this.#request;
    return fits(resources, offer.resources) && hasAttributes(offer.attributes, attributes);
  }

  #ask(driver: SchedulerDriver): void {
    const { resources, attributes } = this.#request;
    driver.requestResources(this.#isLaunched ? [] : [{ resources, attributes: { ...attributes } }]);
  }
}
