/** The frameworks of the throughput benchmark: they launch on every offer, or one task at a time at a given pace. */
import type { FrameworkId, OfferId, TaskId } from '../protocol/ids.ts';
import { frameworkName } from '../protocol/keys.ts';
import type { Message, MessageOf } from '../protocol/messages.ts';
import { unitsIn } from '../protocol/resources.ts';
import type { Offer, TaskStatus } from '../protocol/task.ts';
import { FrameworkInfo } from '../protocol/task.ts';
import { LeanClient, LeanHub } from './lean-client.ts';
import type { FrameworksAnswer, FrameworksCommand, FrameworksPart } from './throughput.ts';

/** Offers, each of a whole agent, that a paced framework has in hand: enough that it never waits for one. */
const PACED_OFFERS = 20;

/** Registers the frameworks and obeys the benchmark's commands, which come over the process's channel. */
export async function runFrameworks(part: FrameworksPart): Promise<void> {
  const hub = await LeanHub.open(part.socketPath, part.cluster);
  const frameworks = Array.from({ length: part.count }, (_, index) => new Load(hub, index, part));
  await Promise.all(frameworks.map((framework) => framework.start()));
  process.on('message', (command: FrameworksCommand) => {
    if (command.type === 'launch') for (const each of frameworks) each.launchAll(command.units);
    if (command.type === 'pace') frameworks[0]?.pace(command.everyMs);
    if (command.type === 'look') process.send?.(look(frameworks));
  });
}

/** What has happened since the last look. */
function look(frameworks: readonly Load[]): FrameworksAnswer {
  const answer = {
    atMs: performance.now(),
    finished: 0,
    underWay: 0,
    failed: 0,
    latenciesMs: [] as number[],
  };
  for (const framework of frameworks) {
    answer.finished += framework.finished;
    answer.failed += framework.failed;
    answer.underWay += framework.underWay;
    answer.latenciesMs.push(...framework.latenciesMs.splice(0));
    framework.finished = 0;
  }
  return answer;
}

class Load {
  finished = 0;
  failed = 0;
  latenciesMs: number[] = [];
  readonly #frameworkId: FrameworkId;
  readonly #client: LeanClient;
  readonly #part: FrameworksPart;
  readonly #launchedAtMs = new Map<TaskId, number>();
  readonly #offers = new Map<OfferId, Offer>();
  #mode: 'idle' | 'all' | 'paced' = 'idle';
  #nextTask = 1;

  constructor(hub: LeanHub, index: number, part: FrameworksPart) {
    this.#frameworkId = `f${index + 1}` as FrameworkId;
    this.#part = part;
    this.#client = new LeanClient(hub, frameworkName(this.#frameworkId), (message) => {
      this.#receive(message);
    });
  }

  get underWay(): number {
    return this.#launchedAtMs.size;
  }

  async start(): Promise<void> {
    const framework = FrameworkInfo.parse({ frameworkId: this.#frameworkId, name: 'load' });
    await this.#client.start((session) => ({ type: 'RegisterFramework', framework, session }));
    this.#demand(0);
  }

  /** Launches on whatever is offered, `units` tasks of the cluster at most; 0 stops. */
  launchAll(units: number): void {
    this.#mode = units > 0 ? 'all' : 'idle';
    this.#demand(units);
  }

  /** One task each time, on an offer that is in hand; 0 stops. */
  pace(everyMs: number): void {
    this.#mode = everyMs > 0 ? 'paced' : 'idle';
    this.#demand(everyMs > 0 ? PACED_OFFERS * this.#part.slots : 0);
    if (everyMs <= 0) return;
    const timer = setInterval(() => {
      if (this.#mode !== 'paced') clearInterval(timer);
      else this.#launchOne();
    }, everyMs);
  }

  #receive(message: Message): void {
    if (message.type === 'ResourceOffers') for (const offer of message.offers) this.#offered(offer);
    else if (message.type === 'RescindResourceOffer') this.#offers.delete(message.offerId);
    else if (message.type === 'StatusUpdate') this.#updated(message);
  }

  #offered(offer: Offer): void {
    if (this.#mode === 'paced') this.#offers.set(offer.offerId, offer);
    else this.#launch(offer, this.#mode === 'idle' ? 0 : unitsIn(this.#part.task, offer.resources));
  }

  #launchOne(): void {
    const [offer] = this.#offers.values();
    if (offer) this.#launch(offer, 1);
  }

  #launch(offer: Offer, count: number): void {
    this.#offers.delete(offer.offerId);
    const tasks = Array.from({ length: count }, () => this.#task());
    this.#client.send({
      type: 'LaunchTasks',
      frameworkId: this.#frameworkId,
      offerIds: [offer.offerId],
      tasks,
      filters: { refuseMs: 0 },
    });
  }

  #task(): unknown {
    const taskId = `${this.#frameworkId}-${this.#nextTask++}` as TaskId;
    this.#launchedAtMs.set(taskId, performance.now());
    const command = { argv: ['sleep', '0.01'], environment: { LANG: 'C.UTF-8' } };
    return { taskId, name: 'load', resources: this.#part.task, command };
  }

  #updated({ status }: MessageOf<'StatusUpdate'>): void {
    const { taskId, updateId, state } = status;
    if (updateId !== undefined) {
      const frameworkId = this.#frameworkId;
      this.#client.send({ type: 'StatusUpdateAcknowledgement', frameworkId, taskId, updateId });
    }
    this.#count(taskId, state);
  }

  #count(taskId: TaskId, state: TaskStatus['state']): void {
    if (state === 'TASK_RUNNING') {
      this.latenciesMs.push(performance.now() - (this.#launchedAtMs.get(taskId) ?? NaN));
      return;
    }
    this.#launchedAtMs.delete(taskId);
    if (state === 'TASK_FINISHED') this.finished += 1;
    else this.failed += 1;
  }

  #demand(count: number): void {
    const requests = count > 0 ? [{ resources: this.#part.task, count, attributes: {} }] : [];
    this.#client.send({ type: 'RequestResources', frameworkId: this.#frameworkId, requests });
  }
}
