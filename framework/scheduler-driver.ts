/**
 * The driver between a framework's scheduler and the master. Calls return at once and travel in order; callbacks come
 * one at a time. The names are those of the classic two-level scheduling API.
 */
import { systemClock, randomName } from '../io/clock.ts';
import type { Clock } from '../io/clock.ts';
import type { Log } from '../io/log.ts';
import { silentLog } from '../io/log.ts';
import { Mailbox } from '../io/mailbox.ts';
import { REDIS_URL_DEFAULT } from '../io/redis-connection.ts';
import { openRedisStore } from '../io/redis-store.ts';
import type { Store } from '../io/store.ts';
import { messageOf } from '../protocol/errors.ts';
import type { FrameworkId, OfferId, TaskId } from '../protocol/ids.ts';
import { frameworkName } from '../protocol/keys.ts';
import type { Message } from '../protocol/messages.ts';
import { FrameworkInfo } from '../protocol/task.ts';
import type { Filters, ResourceRequest, TaskInfo } from '../protocol/task.ts';
import { MasterDetector } from './master-detector.ts';
import type { MasterInfo, Scheduler } from './scheduler.ts';

/**
 * Where a driver is in its life; it never goes back to an earlier one. `ABORTED` may still become `STOPPED`.
 */
export type DriverStatus =
  'DRIVER_NOT_STARTED' | 'DRIVER_RUNNING' | 'DRIVER_ABORTED' | 'DRIVER_STOPPED';

/** A framework as its author describes it: everything but the name has a default. */
export type FrameworkDescription = Partial<Omit<FrameworkInfo, 'frameworkId'>> & {
  readonly name: string;
  /** To take over as the scheduler of a framework that exists. Default: a new id, made of the name. */
  readonly frameworkId?: FrameworkId;
};

/**
 * A task to launch; the kill grace period (5 s), `whenUnreachable` (`keep`), `exclusive` (false), labels and the
 * environment have defaults.
 */
export type TaskDescription = Omit<
  TaskInfo,
  'taskId' | 'killGracePeriodMs' | 'whenUnreachable' | 'exclusive' | 'labels' | 'command'
> &
  Partial<Pick<TaskInfo, 'killGracePeriodMs' | 'whenUnreachable' | 'exclusive' | 'labels'>> & {
    /** Letters, digits, `_.:-`, at most 100; unique among the framework's tasks. */
    readonly taskId: string;
    readonly command: Omit<TaskInfo['command'], 'environment'> &
      Partial<Pick<TaskInfo['command'], 'environment'>>;
  };

/** What is still needed: `count` (default 1) times `resources`, on agents that have all of `attributes` (default none). */
export type ResourceDescription = Pick<ResourceRequest, 'resources'> &
  Partial<Omit<ResourceRequest, 'resources'>>;

/**
 * Where the cluster is, and what the driver runs on. Tests and the simulator bring their own store and clock.
 */
export interface DriverOptions {
  /** Default: `KAON_REDIS`'s usual value, `redis://127.0.0.1:6379`. */
  readonly redis?: string;
  /** Default `default`. */
  readonly cluster?: string;
  /** Default: says nothing. */
  readonly log?: Log;
  /** A store to use instead of opening one; it is not closed by the driver. */
  readonly store?: Store;
  readonly clock?: Clock;
}

/**
 * One framework's connection to its cluster: `start`, calls, callbacks of its scheduler, then `stop` or
 * `detach`.
 */
export class SchedulerDriver {
  readonly frameworkId: FrameworkId;
  readonly #scheduler: Scheduler;
  readonly #info: FrameworkInfo;
  readonly #options: DriverOptions;
  readonly #clock: Clock;
  readonly #log: Log;
  #status: DriverStatus = 'DRIVER_NOT_STARTED';
  #store: Store | undefined;
  #mailbox: Mailbox | undefined;
  #detector: MasterDetector | undefined;
  #connected = false;
  /** The master has answered a registration of this driver. */
  #hasRegistered = false;
  /** Callbacks, one after the other. */
  #callbacks: Promise<void> = Promise.resolve();
  #ended: Promise<DriverStatus>;
  #end: (status: DriverStatus) => void = () => undefined;

  /** @throws ZodError if the description is not valid */
  constructor(scheduler: Scheduler, framework: FrameworkDescription, options: DriverOptions = {}) {
    const label =
      framework.name
        .toLowerCase()
        .replace(/[^a-z0-9]+/g, '_')
        .slice(0, 20) || 'framework';
    this.#info = FrameworkInfo.parse({ frameworkId: `${label}.${randomName(6)}`, ...framework });
    this.frameworkId = this.#info.frameworkId;
    this.#scheduler = scheduler;
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#log = options.log ?? silentLog;
    this.#ended = new Promise((resolve) => {
      this.#end = resolve;
    });
  }

  get status(): DriverStatus {
    return this.#status;
  }

  /**
   * Connects and begins to register (six steps: docs/protocol.md, Framework registration).
   *
   * @throws KaonError `redis-unreachable`, `redis-url`
   */
  async start(): Promise<DriverStatus> {
    if (this.#status !== 'DRIVER_NOT_STARTED') return this.#status;
    this.#status = 'DRIVER_RUNNING';
    this.#store =
      this.#options.store ??
      (await openRedisStore({
        url: this.#options.redis ?? REDIS_URL_DEFAULT,
        cluster: this.#options.cluster ?? 'default',
        log: this.#log,
        name: `framework-${this.#info.name}`,
      }));
    this.#mailbox = new Mailbox({
      store: this.#store,
      clock: this.#clock,
      log: this.#log,
      client: frameworkName(this.frameworkId),
      register: (session) => [{ type: 'RegisterFramework', framework: this.#info, session }],
      onMessages: (messages) => this.#receive(messages),
      onMoved: () => {
        this.#fail(
          'framework failed over: another scheduler has registered with this framework id',
        );
      },
    });
    this.#detector = MasterDetector.create({
      store: this.#store,
      clock: this.#clock,
      log: this.#log,
      newMasterDetected: (master) => {
        this.#newMasterDetected(master);
      },
      noMasterDetected: () => {
        this.#call(() => this.#scheduler.disconnected?.(this));
      },
    });
    return this.#status;
  }

  /**
   * Ends the driver. By default the framework is over: it is removed and its tasks are killed. With `failover` it is
   * only away: tasks go on for its failover timeout, and another scheduler may take over its id.
   */
  async stop(failover = false): Promise<DriverStatus> {
    return this.#leave(
      failover
        ? { type: 'DeactivateFramework', frameworkId: this.frameworkId }
        : { type: 'UnregisterFramework', frameworkId: this.frameworkId },
    );
  }

  /** Leaves for good while the tasks go on to their end; the master keeps their results in the history. */
  async detach(): Promise<DriverStatus> {
    return this.#leave({ type: 'DetachFramework', frameworkId: this.frameworkId });
  }

  async #leave(message: Message): Promise<DriverStatus> {
    if (this.#status !== 'DRIVER_RUNNING' && this.#status !== 'DRIVER_ABORTED') return this.#status;
    if (this.#status === 'DRIVER_RUNNING' && this.#connected) {
      await this.#mailbox?.sendLast(message);
    }
    this.#status = 'DRIVER_STOPPED';
    await this.#close();
    return this.#status;
  }

  /** No callback comes any more, tasks go on; `stop` may follow. `join` tells aborted from stopped. */
  async abort(): Promise<DriverStatus> {
    if (this.#status !== 'DRIVER_RUNNING') return this.#status;
    this.#status = 'DRIVER_ABORTED';
    const { frameworkId } = this;
    await this.#mailbox?.sendLast({ type: 'DeactivateFramework', frameworkId });
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
   */
  requestResources(requests: readonly ResourceDescription[]): void {
    this.#send({
      type: 'RequestResources',
      frameworkId: this.frameworkId,
      requests: requests.map((request) => ({ count: 1, attributes: {}, ...request })),
    });
  }

  /**
   * Accepts offers of one agent and launches tasks on them. What is left of the offers goes back, and is not offered
   * again for `filters.refuseMs` (default 5 s). A task that cannot be launched comes back as a status update.
   */
  launchTasks(
    offerIds: OfferId | readonly OfferId[],
    tasks: readonly TaskDescription[],
    filters?: Filters,
  ): void {
    this.#send({
      type: 'LaunchTasks',
      frameworkId: this.frameworkId,
      offerIds: typeof offerIds === 'string' ? [offerIds] : [...offerIds],
      tasks: [...tasks],
      ...(filters && { filters }),
    });
  }

  /** Declines an offer; the like of it is not offered again for `filters.refuseMs` (default 5 s). */
  declineOffer(offerId: OfferId, filters?: Filters): void {
    this.#send({
      type: 'DeclineOffers',
      frameworkId: this.frameworkId,
      offerIds: [offerId],
      ...(filters && { filters }),
    });
  }

  /** Asks for a task to be killed. A task that the master does not know comes back as TASK_LOST. */
  killTask(taskId: string, gracePeriodMs?: number): void {
    this.#send({
      type: 'KillTask',
      frameworkId: this.frameworkId,
      taskId: taskId as TaskId,
      by: 'framework',
      ...(gracePeriodMs !== undefined && { gracePeriodMs }),
    });
  }

  /**
   * Asks for the newest status of tasks; each answer is a `statusUpdate` with the reason REASON_RECONCILIATION. A task that
   * the master does not know is TASK_UNKNOWN, and that answer is given only when every agent has had the time to come
   * back. To be called in `reregistered` for what was launched before it. Without ids: of all tasks that have not ended.
   */
  reconcileTasks(taskIds: readonly string[] = []): void {
    this.#send({
      type: 'ReconcileTasks',
      frameworkId: this.frameworkId,
      taskIds: [...taskIds] as TaskId[],
    });
  }

  /** Wants offers again: ends a suppression, and forgets what was declined. */
  reviveOffers(): void {
    this.#send({ type: 'ReviveOffers', frameworkId: this.frameworkId });
  }

  /** Wants no offers until `reviveOffers` or `requestResources`. */
  suppressOffers(): void {
    this.#send({ type: 'SuppressOffers', frameworkId: this.frameworkId });
  }

  #send(message: Message): void {
    if (this.#status === 'DRIVER_RUNNING') this.#mailbox?.send(message);
  }

  /** Step F5: the first master that is seen makes the framework register; later ones know it from the registry. */
  #newMasterDetected(master: MasterInfo): void {
    this.#log.info('master.detected', { masterId: master.masterId, epoch: master.epoch });
    if (this.#connected || this.#status !== 'DRIVER_RUNNING') return;
    this.#connected = true;
    this.#mailbox?.start();
  }

  #receive(messages: readonly Message[]): Promise<void> {
    for (const message of messages) this.#dispatch(message);
    return this.#callbacks;
  }

  #dispatch(message: Message): void {
    const scheduler = this.#scheduler;
    switch (message.type) {
      case 'FrameworkRegistered': {
        const { known, frameworkId, master } = message;
        // A cluster that does not know a framework that it had registered has lost its memory: what was launched before is
        // to be reconciled, as after any other return.
        const isReturn = known || this.#hasRegistered;
        this.#hasRegistered = true;
        this.#call(() =>
          isReturn
            ? scheduler.reregistered?.(this, master)
            : scheduler.registered?.(this, frameworkId, master),
        );
        return;
      }
      case 'ResourceOffers':
        this.#call(() => scheduler.resourceOffers(this, message.offers));
        return;
      case 'RescindResourceOffer':
        this.#call(() => scheduler.offerRescinded?.(this, message.offerId));
        return;
      case 'StatusUpdate':
        this.#call(async () => {
          await scheduler.statusUpdate(this, message.status);
          const { frameworkId, taskId, updateId } = message.status;
          if (updateId === undefined) return;
          this.#send({ type: 'StatusUpdateAcknowledgement', frameworkId, taskId, updateId });
        });
        return;
      case 'LostAgent':
        this.#call(() => scheduler.agentLost?.(this, message.agentId));
        return;
      case 'FrameworkError':
        this.#fail(message.message);
        return;
      default:
        this.#log.warn('message.unexpected', { type: message.type });
    }
  }

  #call(callback: () => void | Promise<void> | undefined): void {
    this.#callbacks = this.#callbacks.then(async () => {
      if (this.#status !== 'DRIVER_RUNNING') return;
      try {
        await callback();
      } catch (error) {
        this.#log.error('scheduler.callback-failed', { error: messageOf(error) });
        this.#fail(`a callback of the scheduler failed: ${messageOf(error)}`);
      }
    });
  }

  #fail(message: string): void {
    if (this.#status !== 'DRIVER_RUNNING') return;
    this.#status = 'DRIVER_ABORTED';
    this.#callbacks = this.#callbacks
      .then(() => this.#scheduler.error?.(this, message))
      .catch((error: unknown) => {
        this.#log.error('scheduler.error-callback-failed', { error: messageOf(error) });
      })
      .then(() => this.#close());
  }

  async #close(): Promise<void> {
    this.#detector?.stop();
    this.#mailbox?.stop();
    if (!this.#options.store) await this.#store?.close();
    this.#end(this.#status);
  }
}
