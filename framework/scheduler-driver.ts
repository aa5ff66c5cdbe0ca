/**
 * The driver between a framework's scheduler and the master. Calls return at once and travel in order; callbacks come
 * one at a time. The names are those of the classic two-level scheduling API. docs/frameworks.md tells all of it.
 */
import type { Clock } from '../io/clock.ts';
import { randomName, systemClock } from '../io/clock.ts';
import { silentLog } from '../io/log.ts';
import { findToken } from '../io/secrets.ts';
import type { FrameworkId, SessionId, TaskGroupId } from '../protocol/ids.ts';
import type { Message } from '../protocol/messages.ts';
import type { Resources } from '../protocol/resources.ts';
import type { OfferConstraints } from '../protocol/offer-constraints.ts';
import type { Filters, FrameworkInfo, TaskStatus } from '../protocol/task.ts';
import type { OfferIds } from './calls.ts';
import {
  checkedMessage,
  constraintsMessage,
  declineMessage,
  executorMessage,
  launchGroupMessage,
  launchMessage,
  reconcileMessages,
  requestMessage,
} from './calls.ts';
import { Connection } from './connection.ts';
import { Contacts } from './contacts.ts';
import type { FrameworkDescription, ResourceDescription, TaskDescription } from './descriptions.ts';
import { Dispatch } from './dispatch.ts';
import type { DriverOptions } from './driver-options.ts';
import { driverError } from './driver-errors.ts';
import { clusterAddress, frameworkInfo } from './environment.ts';
import type { OutputEnd, OutputRequest } from './output.ts';
import { OutputReadings } from './output.ts';
import type { Scheduler } from './scheduler.ts';

export type { FrameworkDescription, ResourceDescription, TaskDescription };

/**
 * Where a driver is in its life; it never goes back to an earlier one. `ABORTED` may still become `STOPPED`.
 */
export type DriverStatus =
  'DRIVER_NOT_STARTED' | 'DRIVER_RUNNING' | 'DRIVER_ABORTED' | 'DRIVER_STOPPED';

/** An aborted driver waits so long for its farewell to be taken, milliseconds: Redis may be why it was aborted. */
const ABORT_FAREWELL_MS = 3000;

/**
 * One framework's connection to its cluster: `start`, calls, callbacks of its scheduler, then `stop` or
 * `detach`. Calls with wrong arguments throw a `KaonError` with one of `DRIVER_ERROR_CODES`. Calls of a driver that has not
 * started, or has ended, say nothing to anybody; those of one that is cut off are said as soon as it is not any more.
 */
export class SchedulerDriver {
  readonly frameworkId: FrameworkId;
  readonly #isImplicit: boolean;
  readonly #clock: Clock;
  readonly #connection: Connection;
  readonly #contacts: Contacts;
  readonly #dispatch: Dispatch;
  readonly #output: OutputReadings;
  #status: DriverStatus = 'DRIVER_NOT_STARTED';
  #ended: Promise<DriverStatus>;
  #end: (status: DriverStatus) => void = () => undefined;

  /** @throws KaonError `framework-invalid`, `cluster-name` */
  constructor(scheduler: Scheduler, framework: FrameworkDescription, options: DriverOptions = {}) {
    const { clock = systemClock, log = silentLog, environment = process.env } = options;
    const info: FrameworkInfo = frameworkInfo(framework, environment);
    this.frameworkId = info.frameworkId;
    this.#isImplicit = options.implicitAcknowledgements ?? true;
    this.#clock = clock;
    this.#contacts = new Contacts(log);
    this.#output = new OutputReadings(info.frameworkId, clock);
    this.#dispatch = new Dispatch({
      scheduler,
      driver: this,
      clock,
      log,
      isRunning: () => this.#status === 'DRIVER_RUNNING',
      onHandled: (status) => {
        if (this.#isImplicit) this.#acknowledge(status);
      },
      onFailed: (message) => {
        this.#fail(message);
      },
    });
    this.#connection = new Connection({
      info,
      address: clusterAddress(options, environment),
      clock,
      log,
      findToken: () => findToken(options.token, environment),
      store: options.store,
      onMessages: (messages) => {
        for (const message of messages) {
          this.#contacts.learn(message);
          this.#output.learn(message);
        }
        return this.#dispatch.receive(messages);
      },
      onEnd: (message) => {
        this.#fail(message);
      },
      onMaster: (master) => {
        this.#dispatch.newMaster(master);
      },
      onNoMaster: () => {
        this.#dispatch.noMaster();
      },
    });
    this.#ended = new Promise((resolve) => {
      this.#end = resolve;
    });
  }

  get status(): DriverStatus {
    return this.#status;
  }

  /**
   * Connects and begins to register (six steps: docs/protocol.md, Framework registration). A driver that cannot is aborted;
   * another one may be made.
   *
   * @throws KaonError `redis-unreachable`, `redis-url`, `token-malformed`, `credential`
   */
  async start(): Promise<DriverStatus> {
    if (this.#status !== 'DRIVER_NOT_STARTED') return this.#status;
    this.#status = 'DRIVER_RUNNING';
    try {
      await this.#connection.open();
    } catch (error) {
      if (this.status === 'DRIVER_RUNNING') this.#status = 'DRIVER_ABORTED';
      await this.#close();
      throw error;
    }
    return this.#status;
  }

  /**
   * Ends the driver. By default the framework is over: it is removed and its tasks and executors are ended. With `failover`
   * it is only away: they go on for its failover timeout, and another scheduler may take over its id. Resolves when the
   * master has this in its inbox; while Redis is away, not before it is back.
   */
  async stop(failover = false): Promise<DriverStatus> {
    const { frameworkId } = this;
    return this.#leave({
      type: failover ? 'DeactivateFramework' : 'UnregisterFramework',
      frameworkId,
    });
  }

  /** Leaves for good while the tasks go on to their end; the master keeps their results in the history. */
  async detach(): Promise<DriverStatus> {
    return this.#leave({ type: 'DetachFramework', frameworkId: this.frameworkId });
  }

  async #leave(message: Message): Promise<DriverStatus> {
    if (this.#status !== 'DRIVER_RUNNING' && this.#status !== 'DRIVER_ABORTED') return this.#status;
    if (this.#status === 'DRIVER_RUNNING') await this.#connection.sendLast(message);
    this.#status = 'DRIVER_STOPPED';
    await this.#close();
    return this.#status;
  }

  /**
   * No callback comes any more, tasks go on; `stop` may follow, or a new driver with the same framework id in this process.
   * `join` tells aborted from stopped. Waits for Redis for three seconds at most.
   */
  async abort(): Promise<DriverStatus> {
    if (this.#status !== 'DRIVER_RUNNING') return this.#status;
    this.#status = 'DRIVER_ABORTED';
    const { frameworkId } = this;
    const patience = new AbortController();
    const said = this.#connection.sendLast({ type: 'DeactivateFramework', frameworkId });
    await Promise.race([said, this.#clock.sleep(ABORT_FAREWELL_MS, patience.signal)]);
    patience.abort();
    await this.#close();
    return this.#status;
  }

  /** Resolves when the driver has stopped or was aborted, with that status. */
  async join(): Promise<DriverStatus> {
    return this.#status === 'DRIVER_NOT_STARTED' ? this.#status : this.#ended;
  }

  /** `start` and `join`. */
  async run(): Promise<DriverStatus> {
    await this.start();
    return this.join();
  }

  /**
   * States everything that is still needed; replaces what was stated before, and an empty list means nothing. The
   * master then offers that and no more. Without any request it offers whatever there is.
   *
   * @throws KaonError `too-many`, `invalid-argument`
   */
  requestResources(requests: readonly ResourceDescription[]): void {
    this.#send(requestMessage(this.frameworkId, requests));
  }

  /**
   * States what agents must be like to be offered, role by role; replaces what was stated before, here or in the description
   * of the framework. An agent is offered under a role if it satisfies any of the role's groups, and a group is satisfied if
   * all of its constraints are; under a role that is not named every agent may be. Offers that are excluded are rescinded.
   *
   * @throws KaonError `invalid-argument`
   */
  setOfferConstraints(constraints: OfferConstraints): void {
    const message = constraintsMessage(this.#connection.info, constraints);
    const { offerConstraints } = message;
    // Whoever registers again would else be known by what it was made with.
    this.#connection.info = { ...this.#connection.info, offerConstraints };
    this.#send(message);
  }

  /**
   * Accepts offers of one agent and launches tasks on them. What is left of the offers goes back, and is not offered
   * again for `filters.refuseMs` (default 5 s). A task that cannot be launched comes back as a status update; so does
   * each task of a launch whose offers are not valid any more when the master hears of it. No task: a decline.
   *
   * @throws KaonError `no-offers`, `too-many`, `too-large`, `invalid-argument`
   */
  launchTasks(
    offerIds: OfferIds,
    tasks: readonly TaskDescription[],
    filters?: Partial<Filters>,
  ): void {
    this.#send(launchMessage(this.frameworkId, offerIds, tasks, filters));
  }

  /**
   * Launches tasks of one executor that start together or not at all: if one is refused, all are. Any `groupId` that they
   * have is replaced.
   *
   * @returns the id of the group
   * @throws KaonError `no-tasks`, `mixed-executors`, and as `launchTasks`
   */
  launchTaskGroup(
    offerIds: OfferIds,
    tasks: readonly TaskDescription[],
    filters?: Partial<Filters>,
  ): TaskGroupId {
    const groupId = `g.${randomName(12)}` as TaskGroupId;
    this.#send(launchGroupMessage(this.frameworkId, offerIds, { groupId, tasks }, filters));
    return groupId;
  }

  /**
   * Declines offers; the like of them is not offered again for `filters.refuseMs` (default 5 s). An empty list says nothing.
   *
   * @throws KaonError `too-many`, `invalid-argument`
   */
  declineOffer(offerIds: OfferIds, filters?: Partial<Filters>): void {
    const message = declineMessage(this.frameworkId, offerIds, filters);
    if (message) this.#send(message);
  }

  /**
   * Asks for a task to be killed. One that the master does not know is TASK_UNKNOWN: no end, its agent may be away.
   *
   * @param gracePeriodMs from SIGTERM to SIGKILL; default: the task's own
   * @throws KaonError `invalid-argument`
   */
  killTask(taskId: string, gracePeriodMs?: number): void {
    const { frameworkId } = this;
    const by = 'framework';
    this.#send(checkedMessage({ type: 'KillTask', frameworkId, taskId, by, gracePeriodMs }));
  }

  /**
   * Asks for other limits for a task that runs. What became of it comes as `taskResized`, once for each wish that the master
   * has heard of; if this scheduler is replaced meanwhile, to the one that is there then or not at all.
   *
   * @returns the id of the wish, by which its outcome is told from that of another
   * @throws KaonError `invalid-argument`
   */
  resizeTask(taskId: string, resources: Resources): SessionId {
    const resizeId = `r.${randomName(12)}` as SessionId;
    const { frameworkId } = this;
    this.#send(checkedMessage({ type: 'ResizeTask', resizeId, frameworkId, taskId, resources }));
    return resizeId;
  }

  /**
   * Asks for an executor and all of its tasks to be ended; after its grace period it is killed. Each task has an update, and
   * `executorLost` follows.
   *
   * @throws KaonError `invalid-argument`
   */
  shutdownExecutor(executorId: string, agentId: string): void {
    const { frameworkId } = this;
    this.#send(checkedMessage({ type: 'ShutdownExecutor', frameworkId, agentId, executorId }));
  }

  /**
   * Says something to an executor, best effort: it may be lost, it may come twice if the connection breaks, and nobody tells
   * the scheduler. Straight to the agent once that is known (an offer of it was seen, or something of this framework runs
   * there), else, and always in a secured cluster, by way of the master. Never fails for reasons of the network.
   *
   * @param data text; bytes are best sent as base64
   * @throws KaonError `data-too-large`, `invalid-argument`
   */
  sendFrameworkMessage(executorId: string, agentId: string, data: string): void {
    const { frameworkId } = this;
    const type = 'FrameworkToExecutor';
    const message = executorMessage({ type, frameworkId, agentId, executorId, data });
    const { store } = this.#connection;
    if (this.#status !== 'DRIVER_RUNNING') return;
    // Of what comes to it past the master, an agent of a secured cluster does not know whose it is.
    const isDirect = store?.isSecured !== true && this.#contacts.knows(message.agentId);
    if (store && isDirect) this.#contacts.send(store, message);
    else this.#connection.send(message);
  }

  /**
   * Reads a task's output from its agent, past the master, while it runs or afterwards. Hundreds may read at a time: they
   * share one connection, and hold up nothing else. The end of the driver ends them.
   *
   * @returns when `onChunk` has been given everything, or `signal` was aborted
   * @throws KaonError `invalid-argument`; what `onChunk` throws; errors of Redis
   */
  async readOutput(request: OutputRequest): Promise<OutputEnd> {
    const isRunning = this.#status === 'DRIVER_RUNNING';
    return this.#output.read(isRunning ? this.#connection.store : undefined, request);
  }

  /**
   * Acknowledges a status: the cluster may forget it. To be called once what follows from it is stored; until then it comes
   * again, to each scheduler that registers with this framework id. Nothing for a status without `updateId`.
   *
   * @throws KaonError `implicit-acknowledgements` if the driver does it
   */
  acknowledgeStatusUpdate(status: Pick<TaskStatus, 'taskId' | 'updateId'>): void {
    if (this.#isImplicit) {
      throw driverError(
        'implicit-acknowledgements',
        'this driver acknowledges a status when its callback has returned; make it with implicitAcknowledgements: false to do it yourself',
      );
    }
    this.#acknowledge(status);
  }

  /**
   * Asks for the newest status of tasks; each answer is a `statusUpdate` with the reason REASON_RECONCILIATION. A task that
   * the master does not know is TASK_UNKNOWN, and that answer is given only when every agent has had the time to come
   * back. To be called in `reregistered` for what was launched before it. Without ids: of all tasks that have not ended.
   *
   * @throws KaonError `invalid-argument`
   */
  reconcileTasks(taskIds: readonly string[] = []): void {
    for (const message of reconcileMessages(this.frameworkId, taskIds)) this.#send(message);
  }

  /**
   * Says whether the framework leaves an agent that is to be drained by itself. Nothing follows from it but that the operator
   * sees it; who has accepted should move its work, and kill it there.
   *
   * @throws KaonError `invalid-argument`
   */
  answerInverseOffer(agentId: string, isAccepted: boolean): void {
    const { frameworkId } = this;
    this.#send(checkedMessage({ type: 'AnswerInverseOffer', frameworkId, agentId, isAccepted }));
  }

  /** Wants offers again, in all roles or in some: ends a suppression, and forgets what was declined. */
  reviveOffers(roles?: readonly string[]): void {
    this.#send(checkedMessage({ type: 'ReviveOffers', frameworkId: this.frameworkId, roles }));
  }

  /** Wants no offers, in all roles or in some, until `reviveOffers` or `requestResources`. */
  suppressOffers(roles?: readonly string[]): void {
    this.#send(checkedMessage({ type: 'SuppressOffers', frameworkId: this.frameworkId, roles }));
  }

  #acknowledge({ taskId, updateId }: Pick<TaskStatus, 'taskId' | 'updateId'>): void {
    if (updateId === undefined) return;
    const { frameworkId } = this;
    this.#send(
      checkedMessage({ type: 'StatusUpdateAcknowledgement', frameworkId, taskId, updateId }),
    );
  }

  #send(message: Message): void {
    if (this.#status === 'DRIVER_RUNNING') this.#connection.send(message);
  }

  #fail(message: string): void {
    if (this.#status !== 'DRIVER_RUNNING') return;
    this.#status = 'DRIVER_ABORTED';
    void this.#dispatch.fail(message).then(() => this.#close());
  }

  async #close(): Promise<void> {
    await this.#output.close();
    await this.#connection.close();
    this.#end(this.#status);
  }
}
