/** One process of a simulated framework's scheduler: what it does with offers, updates, and by itself. */
import type { ExecutorInfo } from '../../protocol/executor.ts';
import type {
  AgentId,
  ExecutorId,
  FrameworkId,
  OfferId,
  SessionId,
  TaskGroupId,
  TaskId,
} from '../../protocol/ids.ts';
import { frameworkName } from '../../protocol/keys.ts';
import type { Message } from '../../protocol/messages.ts';
import type { Resources } from '../../protocol/resources.ts';
import { isTerminal } from '../../protocol/task-state.ts';
import type { Offer, TaskStatus } from '../../protocol/task.ts';
import type { Character, Launch } from './character.ts';
import { note } from './character.ts';
import { SimClient } from './client.ts';
import { describeMessage } from './describe.ts';
import { ofExecutor } from './executor-kinds.ts';
import type { Network } from './network.ts';
import type { Timing } from './timing.ts';
import type { Process } from './world.ts';

/** Names of exclusive tasks. */
const EXCLUSIVE_NAMES = ['x1', 'x2'];

export interface FrameworkObserver {
  statusSeen(frameworkId: FrameworkId, status: TaskStatus): void;
  offersSeen(frameworkId: FrameworkId, offers: readonly Offer[]): void;
  /** It asks for the end of a task, or (no task) of all that it has. */
  endAsked(frameworkId: FrameworkId, taskId: TaskId | undefined): void;
  /** It asks for the end of one of its executors. */
  executorEndAsked(frameworkId: FrameworkId, agentId: AgentId, executorId: ExecutorId): void;
  /** It leaves, and its tasks go on. */
  frameworkDetached(frameworkId: FrameworkId): void;
  /** It launches these tasks together. */
  groupSent(frameworkId: FrameworkId, groupId: TaskGroupId, taskIds: readonly TaskId[]): void;
  /** How long its tasks may go on without it. */
  readonly failoverTimeouts: Map<string, number>;
}

export interface FrameworkOptions {
  readonly network: Network;
  readonly timing: Timing;
  readonly observer: FrameworkObserver;
  readonly character: Character;
}

/** The framework whose process it is, over all its runs. */
export interface FrameworkHost {
  readonly name: string;
  readonly frameworkId: FrameworkId;
  readonly book: ReadonlyMap<TaskId, Launch>;
  readonly executors: readonly ExecutorInfo[];
  readonly isDraining: boolean;
  /** The process that is meant to be its scheduler now. */
  readonly run: FrameworkRun | undefined;
  open(): Launch[];
  newGroup(): TaskGroupId;
  newTask(exclusiveName: string | undefined): TaskId;
  tidy(): void;
  crash(downMs: number): void;
  left(process: Process): void;
  deposed(run: FrameworkRun): void;
}

/** One process of its scheduler. */
export class FrameworkRun {
  readonly process: Process;
  readonly frameworkId: FrameworkId;
  readonly #framework: FrameworkHost;
  readonly #options: FrameworkOptions;
  readonly #client: SimClient;
  readonly #held = new Map<OfferId, Offer>();
  #hasLeft = false;
  /** It has all the tasks that it wants, and has said so. */
  #isFull = false;
  #resizes = 0;

  constructor(framework: FrameworkHost, process: Process, options: FrameworkOptions) {
    this.process = process;
    this.#framework = framework;
    this.frameworkId = framework.frameworkId;
    this.#options = options;
    options.observer.failoverTimeouts.set(
      framework.frameworkId,
      options.character.failoverTimeoutMs,
    );
    const info = {
      frameworkId: framework.frameworkId,
      name: framework.name,
      user: '',
      hostname: '',
      role: '*',
      failoverTimeoutMs: options.character.failoverTimeoutMs,
      labels: {},
    };
    this.#client = new SimClient({
      network: options.network,
      timing: options.timing,
      process,
      client: frameworkName(framework.frameworkId),
      register: (session) => [{ type: 'RegisterFramework', framework: info, session }],
      onMessage: (message) => {
        this.#receive(message);
      },
      onMoved: () => {
        framework.deposed(this);
      },
    });
    this.#client.start();
    this.#act();
  }

  get #random(): Network['world']['random'] {
    return this.#options.network.world.random;
  }

  drain(): void {
    this.#client.send(this.#demand([]));
  }

  #send(message: Message): void {
    this.#options.network.world.log(this.process.name, () => `-> ${describeMessage(message)}`);
    this.#client.send(message);
  }

  #receive(message: Message): void {
    if (this.#hasLeft) return;
    this.#options.network.world.log(this.process.name, () => `<- ${describeMessage(message)}`);
    if (message.type === 'FrameworkRegistered') this.#registered(message.known);
    else if (message.type === 'ResourceOffers') this.#offered(message.offers);
    else if (message.type === 'RescindResourceOffer') this.#held.delete(message.offerId);
    else if (message.type === 'StatusUpdate') this.#updated(message.status);
  }

  #registered(isKnown: boolean): void {
    if (isKnown || this.#framework.isDraining) this.#reconcile(this.#options.character.reconcile);
    if (this.#framework.isDraining) this.drain();
    else if (this.#options.character.statesDemand) this.#stateDemand();
  }

  #reconcile(how: Character['reconcile']): void {
    const { frameworkId } = this.#framework;
    const ask = (taskIds: TaskId[]): void => {
      this.#send({ type: 'ReconcileTasks', frameworkId, taskIds });
    };
    const open = this.#framework.open().map(({ taskId }) => taskId);
    if ((how === 'explicit' || how === 'both') && open.length > 0) ask(open);
    if (how === 'implicit' || how === 'both') ask([]);
  }

  #stateDemand(): void {
    if (this.#framework.isDraining) return;
    this.#isFull = false;
    const count = this.#random.int(1, 5);
    this.#send(this.#demand([{ resources: this.#size(), count, attributes: {} }]));
  }

  #demand(requests: Extract<Message, { type: 'RequestResources' }>['requests']): Message {
    return { type: 'RequestResources', frameworkId: this.frameworkId, requests };
  }

  #size(): Resources {
    return { cpuMillis: this.#random.int(1, 20) * 100, memMib: this.#random.int(1, 20) * 64 };
  }

  #offered(offers: readonly Offer[]): void {
    this.#options.observer.offersSeen(this.frameworkId, offers);
    const { accept, decline, hesitateMs } = this.#options.character;
    for (const offer of offers) {
      const choice = this.#random.next();
      if (this.#framework.isDraining || choice < decline) {
        this.#send({
          type: 'DeclineOffers',
          frameworkId: this.frameworkId,
          offerIds: [offer.offerId],
          ...(this.#random.chance(0.5) && { filters: { refuseMs: this.#random.int(0, 3000) } }),
        });
      } else {
        this.#held.set(offer.offerId, offer);
        if (choice > decline + accept) continue;
        this.process.after(this.#random.exponential(hesitateMs), () => {
          if (!this.#framework.isDraining && !this.#hasLeft) this.#accept(offer);
        });
      }
    }
  }

  #accept(offer: Offer): void {
    if (!this.#held.has(offer.offerId) && !this.#random.chance(this.#options.character.nonsense))
      return;
    const offers = [offer, ...this.#othersOf(offer)];
    for (const { offerId } of offers) this.#held.delete(offerId);
    const offered = offers.reduce((sum, each) => sum + each.resources.cpuMillis, 0);
    const wanted = this.#options.character.tasksMax - this.#framework.open().length;
    const count = Math.min(this.#random.int(1, 4), wanted);
    if (count <= 0) {
      this.#declineAll(offers);
      this.#isFull = true;
      this.#send(this.#demand([]));
      return;
    }
    const tasks = this.#tasks(count, offered, offer.agentId);
    const message: Message = {
      type: 'LaunchTasks',
      frameworkId: this.frameworkId,
      offerIds: offers.map(({ offerId }) => offerId),
      tasks,
      ...(this.#random.chance(0.5) && { filters: { refuseMs: this.#random.int(0, 3000) } }),
    };
    this.#send(message);
    if (this.#random.chance(this.#options.character.nonsense)) {
      this.#send({ ...message, tasks: this.#tasks(1, 100, offer.agentId) });
    }
  }

  #declineAll(offers: readonly Offer[]): void {
    this.#send({
      type: 'DeclineOffers',
      frameworkId: this.frameworkId,
      offerIds: offers.map(({ offerId }) => offerId),
    });
  }

  /** Other offers that it uses together with this one: of the same agent, or (nonsense) of any. */
  #othersOf(offer: Offer): Offer[] {
    const isNonsense = this.#random.chance(this.#options.character.nonsense);
    return [...this.#held.values()].filter(
      (other) =>
        other !== offer &&
        other.offerId !== offer.offerId &&
        (isNonsense || other.agentId === offer.agentId),
    );
  }

  /** Tasks alone, of executors, or all of one group. */
  #tasks(count: number, offeredMillis: number, agentId: AgentId): unknown[] {
    const { executors, groups } = this.#options.character;
    const isOfExecutors = this.#framework.executors.length > 0 && this.#random.chance(executors);
    const kind = isOfExecutors ? this.#random.pick(this.#framework.executors) : undefined;
    const own = kind?.resources.cpuMillis ?? 0;
    const groupId = kind && this.#random.chance(groups) ? this.#framework.newGroup() : undefined;
    const tasks = Array.from({ length: count }, () => {
      const info = groupId ? kind : kind && this.#random.pick(this.#framework.executors);
      const task = this.#task(Math.floor((offeredMillis - own) / count), info, agentId);
      return groupId === undefined ? task : { ...task, groupId };
    });
    if (groupId !== undefined) {
      const taskIds = tasks.map(({ taskId }) => taskId);
      this.#options.observer.groupSent(this.frameworkId, groupId, taskIds);
    }
    return tasks;
  }

  #task(
    cpuMillisMax: number,
    info: ExecutorInfo | undefined,
    agentId: AgentId,
  ): object & { readonly taskId: TaskId } {
    const { nonsense, stopAfter } = this.#options.character;
    const isTooLarge = this.#random.chance(nonsense);
    const isInvalid = this.#random.chance(nonsense);
    const cpuMillis = Math.max(10, Math.floor(cpuMillisMax * (0.3 + 0.7 * this.#random.next())));
    const exclusiveName = this.#chooseExclusive();
    const isFenced = this.#random.chance(stopAfter);
    const taskId = this.#framework.newTask(exclusiveName);
    const launch = this.#framework.book.get(taskId);
    if (info && launch) launch.place = { agentId, executorId: info.executorId };
    const task = {
      taskId,
      name: isInvalid ? '' : (exclusiveName ?? 'task'),
      resources: { cpuMillis: isTooLarge ? cpuMillis + 1_000_000 : cpuMillis, memMib: 32 },
      command: { argv: ['work'] },
      killGracePeriodMs: this.#random.int(0, 3000),
      ...(exclusiveName !== undefined && { exclusive: true }),
      ...(isFenced && { whenUnreachable: { stopAfterMs: this.#random.pick([15_000, 20_000]) } }),
      ...(info && ofExecutor(this.#random, info, nonsense)),
    };
    return task;
  }

  /** A name of which it knows no task that may run: it replaces one as soon as it hears that its agent is cut off. */
  #chooseExclusive(): string | undefined {
    if (!this.#random.chance(this.#options.character.exclusive)) return undefined;
    const open = this.#framework.open();
    return EXCLUSIVE_NAMES.find((name) =>
      open.every((launch) => launch.exclusiveName !== name || launch.isUnreachable),
    );
  }

  #updated(status: TaskStatus): void {
    // What a scheduler reads that has been replaced and does not know it is old, and told to nobody.
    if (this.#framework.run === this) {
      this.#options.observer.statusSeen(this.frameworkId, status);
      const launch = this.#framework.book.get(status.taskId);
      if (launch) note(launch, status);
      if (this.#isFull && isTerminal(status.state)) this.#stateDemand();
    }
    const { taskId, updateId } = status;
    if (updateId === undefined) return;
    const acknowledge = (): void => {
      this.#send({
        type: 'StatusUpdateAcknowledgement',
        frameworkId: this.frameworkId,
        taskId,
        updateId,
      });
    };
    if (this.#framework.isDraining) acknowledge();
    else
      this.process.after(
        this.#random.exponential(this.#options.character.acknowledgeMs),
        acknowledge,
      );
  }

  /** From time to time it does something by itself. */
  #act(): void {
    this.process.after(this.#random.exponential(this.#options.timing.actEveryMs), () => {
      if (this.#hasLeft) return;
      if (this.#framework.isDraining) this.#finish();
      else this.#doSomething();
      this.#act();
    });
  }

  /** Kills what it waits for. One of which nothing was ever heard is asked for in the same way. */
  #finish(): void {
    if (!this.#random.chance(0.1)) return;
    for (const { taskId } of this.#framework.open()) this.#kill(taskId);
    this.#reconcile('explicit');
  }

  /** Ends one of its executors. */
  shutDown({ agentId, executorId }: NonNullable<Launch['place']>): void {
    this.#options.observer.executorEndAsked(this.frameworkId, agentId, executorId);
    this.#send({
      type: 'ShutdownExecutor',
      frameworkId: this.frameworkId,
      agentId,
      executorId,
    });
  }

  #resize(taskId: TaskId): void {
    this.#resizes += 1;
    this.#send({
      type: 'ResizeTask',
      resizeId: `${this.process.name}r${this.#resizes}` as SessionId,
      frameworkId: this.frameworkId,
      taskId,
      resources: {
        cpuMillis: this.#random.int(1, 20) * 50,
        memMib: this.#random.int(1, 8) * 16,
      },
    });
  }

  #doSomething(): void {
    const { kill, suppress, leave, statesDemand, resize, shutdown } = this.#options.character;
    const open = this.#framework.open();
    this.#framework.tidy();
    const choice = this.#random.next();
    if (choice < kill) {
      if (open.length > 0) this.#kill(this.#random.pick(open).taskId);
    } else if (choice < kill + suppress) {
      const type = this.#random.pick(['SuppressOffers', 'ReviveOffers', 'ReviveOffers'] as const);
      this.#send({ type, frameworkId: this.frameworkId });
    } else if (choice < kill + suppress + leave) {
      if (this.#framework.run === this) this.#leave();
    } else if (choice < kill + suppress + leave + resize) {
      const running = open.filter(({ state }) => state === 'TASK_RUNNING');
      if (running.length > 0) this.#resize(this.#random.pick(running).taskId);
    } else if (choice < kill + suppress + leave + resize + shutdown) {
      const places = open.flatMap(({ place }) => place ?? []);
      if (places.length > 0) this.shutDown(this.#random.pick(places));
    }
    if (statesDemand && !this.#isFull && this.#random.chance(0.1)) this.#stateDemand();
  }

  #kill(taskId: TaskId): void {
    this.#options.observer.endAsked(this.frameworkId, taskId);
    this.#send({
      type: 'KillTask',
      frameworkId: this.frameworkId,
      taskId,
      by: 'framework',
      ...(this.#random.chance(0.3) && { gracePeriodMs: this.#random.int(0, 1000) }),
    });
  }

  #leave(): void {
    const type = this.#random.pick([
      'UnregisterFramework',
      'DetachFramework',
      'DeactivateFramework',
    ] as const);
    this.#hasLeft = true;
    if (type === 'UnregisterFramework')
      this.#options.observer.endAsked(this.frameworkId, undefined);
    if (type === 'DetachFramework') this.#options.observer.frameworkDetached(this.frameworkId);
    this.#options.network.world.log(this.process.name, `-> ${type}`);
    this.#client.sendLast({ type, frameworkId: this.frameworkId });
    this.process.after(this.#random.int(50, 4000), () => {
      if (type === 'DeactivateFramework') this.#framework.crash(50);
      else this.#framework.left(this.process);
    });
  }
}
