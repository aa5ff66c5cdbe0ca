/**
 * A simulated framework: a scheduler that accepts, declines, sits on offers, kills, acknowledges late, launches nonsense,
 * dies, comes back, and leaves. What it launched it has written down, so its next run knows it, as a good one would.
 */
import type { FrameworkId, OfferId, TaskId } from '../../protocol/ids.ts';
import { frameworkName } from '../../protocol/keys.ts';
import type { Message } from '../../protocol/messages.ts';
import type { Resources } from '../../protocol/resources.ts';
import { isTerminal } from '../../protocol/task-state.ts';
import type { Offer, TaskStatus } from '../../protocol/task.ts';
import { SimClient } from './client.ts';
import { describeMessage } from './describe.ts';
import type { Network } from './network.ts';
import type { SimRedis } from './redis.ts';
import { Process } from './world.ts';

/** Often enough that a run holds hundreds of decisions. */
const ACT_EVERY_MS = 400;

/** How a framework behaves; drawn from the seed. */
export interface Character {
  /** Whether it says what it needs. */
  readonly statesDemand: boolean;
  /** Shares of what it does with an offer; the rest it sits on. */
  readonly accept: number;
  readonly decline: number;
  /** Mean time after which it accepts; often the offer is gone by then. */
  readonly hesitateMs: number;
  /** Mean time after which it acknowledges. */
  readonly acknowledgeMs: number;
  /** Share of launches with something wrong: used twice, too large, not valid, of two agents. */
  readonly nonsense: number;
  /** Share of its acts that are the kill of a task, a suppression or revival, a departure. */
  readonly kill: number;
  readonly suppress: number;
  readonly leave: number;
  readonly failoverTimeoutMs: number;
}

/** What the framework has written down of a task. */
export interface Launch {
  readonly taskId: TaskId;
  isTerminal: boolean;
  /** The framework left since and is told nothing more of it. */
  isAbandoned: boolean;
}

export interface FrameworkObserver {
  statusSeen(frameworkId: FrameworkId, status: TaskStatus): void;
  offersSeen(frameworkId: FrameworkId, offers: readonly Offer[]): void;
}

export interface FrameworkOptions {
  readonly network: Network;
  readonly redis: SimRedis;
  readonly observer: FrameworkObserver;
  readonly character: Character;
}

/** A framework over all its runs. */
export class SimFramework {
  readonly name: string;
  readonly book = new Map<TaskId, Launch>();
  readonly character: Character;
  readonly #options: FrameworkOptions;
  frameworkId: FrameworkId;
  run: FrameworkRun | undefined;
  /** No new work: what runs is brought to its end. */
  isDraining = false;
  #runs = 0;
  #nextTask = 1;
  #identities = 1;

  constructor(name: string, options: FrameworkOptions) {
    this.name = name;
    this.#options = options;
    this.character = options.character;
    this.frameworkId = name as FrameworkId;
    this.start();
  }

  /** A new scheduler takes over; the last one may still be there and not know it. */
  start(): void {
    const { world } = this.#options.network;
    this.#runs += 1;
    const process = new Process(world, `${this.name}.${this.#runs}`);
    world.log(process.name, `starts as ${this.frameworkId}`);
    this.run = new FrameworkRun(this, process, this.#options);
  }

  crash(downMs: number): void {
    if (!this.run?.process.isAlive) return;
    this.#options.network.world.log(this.run.process.name, 'crashes');
    this.run.process.kill();
    this.#restart(downMs);
  }

  /** Another scheduler has its place. If it was meant to be the one, it is started again. */
  deposed(run: FrameworkRun): void {
    run.process.kill();
    if (run === this.run) this.#restart(5000);
  }

  /** It has left: what it launched is not its business any more. It comes back, as itself or as another one. */
  left(process: Process): void {
    const { random } = this.#options.network.world;
    process.kill();
    for (const launch of this.book.values()) launch.isAbandoned = true;
    if (random.chance(0.5)) {
      this.#identities += 1;
      this.frameworkId = `${this.name}_${this.#identities}` as FrameworkId;
    }
    this.#restart(random.int(50, 4000));
  }

  #restart(downMs: number): void {
    const gone = this.run;
    this.#options.network.world.at(downMs, () => {
      if (this.run === gone) this.start();
    });
  }

  drain(): void {
    this.isDraining = true;
    this.run?.drain();
  }

  newTaskId(): TaskId {
    const taskId = `${this.name}t${this.#nextTask++}` as TaskId;
    this.book.set(taskId, { taskId, isTerminal: false, isAbandoned: false });
    return taskId;
  }

  /** Tasks of which it waits to hear the end. */
  open(): Launch[] {
    return [...this.book.values()].filter((launch) => !launch.isTerminal && !launch.isAbandoned);
  }
}

/** One process of its scheduler. */
export class FrameworkRun {
  readonly process: Process;
  readonly #framework: SimFramework;
  readonly #frameworkId: FrameworkId;
  readonly #options: FrameworkOptions;
  readonly #client: SimClient;
  readonly #held = new Map<OfferId, Offer>();
  #hasLeft = false;

  constructor(framework: SimFramework, process: Process, options: FrameworkOptions) {
    this.process = process;
    this.#framework = framework;
    this.#frameworkId = framework.frameworkId;
    this.#options = options;
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
      ...options,
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
    this.#options.network.world.log(this.process.name, `-> ${describeMessage(message)}`);
    this.#client.send(message);
  }

  #receive(message: Message): void {
    if (this.#hasLeft) return;
    this.#options.network.world.log(this.process.name, `<- ${describeMessage(message)}`);
    if (message.type === 'FrameworkRegistered') this.#registered();
    else if (message.type === 'ResourceOffers') this.#offered(message.offers);
    else if (message.type === 'RescindResourceOffer') this.#held.delete(message.offerId);
    else if (message.type === 'StatusUpdate') this.#updated(message.status);
  }

  #registered(): void {
    if (this.#framework.isDraining) this.drain();
    else if (this.#options.character.statesDemand) this.#stateDemand();
  }

  #stateDemand(): void {
    const count = this.#random.int(1, 5);
    this.#send(this.#demand([{ resources: this.#size(), count, attributes: {} }]));
  }

  #demand(requests: Extract<Message, { type: 'RequestResources' }>['requests']): Message {
    return { type: 'RequestResources', frameworkId: this.#frameworkId, requests };
  }

  #size(): Resources {
    return { cpuMillis: this.#random.int(1, 20) * 100, memMib: this.#random.int(1, 20) * 64 };
  }

  #offered(offers: readonly Offer[]): void {
    this.#options.observer.offersSeen(this.#frameworkId, offers);
    const { accept, decline, hesitateMs } = this.#options.character;
    for (const offer of offers) {
      const choice = this.#random.next();
      if (this.#framework.isDraining || choice < decline) {
        this.#send({
          type: 'DeclineOffers',
          frameworkId: this.#frameworkId,
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
    const count = this.#random.int(1, 4);
    const tasks = Array.from({ length: count }, () => this.#task(Math.floor(offered / count)));
    const message: Message = {
      type: 'LaunchTasks',
      frameworkId: this.#frameworkId,
      offerIds: offers.map(({ offerId }) => offerId),
      tasks,
      ...(this.#random.chance(0.5) && { filters: { refuseMs: this.#random.int(0, 3000) } }),
    };
    this.#send(message);
    if (this.#random.chance(this.#options.character.nonsense)) {
      this.#send({ ...message, tasks: [this.#task(100)] });
    }
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

  #task(cpuMillisMax: number): unknown {
    const isTooLarge = this.#random.chance(this.#options.character.nonsense);
    const isInvalid = this.#random.chance(this.#options.character.nonsense);
    const cpuMillis = Math.max(10, Math.floor(cpuMillisMax * (0.3 + 0.7 * this.#random.next())));
    return {
      taskId: this.#framework.newTaskId(),
      name: isInvalid ? '' : 'task',
      resources: { cpuMillis: isTooLarge ? cpuMillis + 1_000_000 : cpuMillis, memMib: 32 },
      command: { argv: ['work'] },
      killGracePeriodMs: this.#random.int(0, 3000),
    };
  }

  #updated(status: TaskStatus): void {
    this.#options.observer.statusSeen(this.#frameworkId, status);
    const launch = this.#framework.book.get(status.taskId);
    if (launch && isTerminal(status.state)) launch.isTerminal = true;
    const { taskId, updateId } = status;
    if (updateId === undefined) return;
    const acknowledge = (): void => {
      this.#send({
        type: 'StatusUpdateAcknowledgement',
        frameworkId: this.#frameworkId,
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
    this.process.after(this.#random.exponential(ACT_EVERY_MS), () => {
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
  }

  #doSomething(): void {
    const { kill, suppress, leave, statesDemand } = this.#options.character;
    const open = this.#framework.open();
    const choice = this.#random.next();
    if (choice < kill) {
      if (open.length > 0) this.#kill(this.#random.pick(open).taskId);
    } else if (choice < kill + suppress) {
      const type = this.#random.pick(['SuppressOffers', 'ReviveOffers', 'ReviveOffers'] as const);
      this.#send({ type, frameworkId: this.#frameworkId });
    } else if (choice < kill + suppress + leave) {
      if (this.#framework.run === this) this.#leave();
    }
    if (statesDemand && this.#random.chance(0.1)) this.#stateDemand();
  }

  #kill(taskId: TaskId): void {
    this.#send({
      type: 'KillTask',
      frameworkId: this.#frameworkId,
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
    this.#options.network.world.log(this.process.name, `-> ${type}`);
    this.#client.sendLast({ type, frameworkId: this.#frameworkId });
    this.process.after(this.#random.int(50, 4000), () => {
      if (type === 'DeactivateFramework') this.#framework.crash(50);
      else this.#framework.left(this.process);
    });
  }
}

/** Draws how a framework behaves. */
export function drawCharacter(random: Network['world']['random']): Character {
  const sometimes = (value: number): number => (random.chance(0.5) ? value : 0);
  return {
    statesDemand: random.chance(0.5),
    accept: random.pick([0.5, 0.8]),
    decline: random.pick([0, 0.2]),
    hesitateMs: random.pick([5, 500, 3000]),
    acknowledgeMs: random.pick([0, 200, 4000]),
    nonsense: sometimes(0.1),
    kill: sometimes(0.2),
    suppress: sometimes(0.1),
    leave: sometimes(0.02),
    // A framework whose farewell is lost is there until then, and so are its tasks.
    failoverTimeoutMs: random.pick([3000, 20_000]),
  };
}
