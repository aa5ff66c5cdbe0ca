/**
 * The load of the failover benchmark: agents whose tasks are timers, and a framework that launches one task each few
 * milliseconds and keeps account of everything that it was promised: offers, launches, updates.
 */
import type { AgentId, FrameworkId, LaunchId, OfferId, TaskId } from '../protocol/ids.ts';
import { agentName, frameworkName } from '../protocol/keys.ts';
import type { Message, MessageOf } from '../protocol/messages.ts';
import type { Resources } from '../protocol/resources.ts';
import { scaleResources } from '../protocol/resources.ts';
import type { Offer } from '../protocol/task.ts';
import { FrameworkInfo } from '../protocol/task.ts';
import { LeanClient, LeanHub } from './lean-client.ts';
import { runTask } from './throughput-agents.ts';

const FRAMEWORK_ID = 'load' as FrameworkId;
const TASK: Resources = { cpuMillis: 100, memMib: 64 };
/** Tasks that fit on one agent. */
const SLOTS = 30;
const RUN_MS = 10;
/** Offers, each of what is free on an agent, that are in hand: enough for a pause of some hundred milliseconds. */
const OFFERS = 80;

/** What the process with the load is told. */
export interface LoadPart {
  readonly socketPath: string;
  readonly cluster: string;
  readonly agents: number;
}

/**
 * `pace`: one launch each so often, 0 stops. `look`: an account. `first`: answered when an agent is told to run a task
 * by a leader of a higher epoch than `above`.
 */
export type LoadCommand =
  | { readonly type: 'pace'; readonly everyMs: number }
  | { readonly type: 'look' }
  | { readonly type: 'first'; readonly above: number };

/** The first launch of a new leader. */
export interface FirstLaunch {
  readonly epoch: number;
  /** When the agent heard of it, milliseconds since 1970. */
  readonly atMs: number;
}

/** An account of the load, since it began but for the gap, which is since the last look. */
export interface LoadAccount {
  /** Of the leader that the agents have heard of last; 0 before the first launch. */
  readonly epoch: number;
  /** Launches asked for. */
  readonly launches: number;
  /** Launches that were answered by anything but that the task runs and then ends well. */
  readonly refused: number;
  /** Offers that were taken back. */
  readonly voided: number;
  /** Longest time between two launches that agents heard of, milliseconds. */
  readonly longestGapMs: number;
  /** Tasks that have not ended yet. */
  readonly underWay: number;
  /** Updates of ended tasks that the framework has not seen: each has two. */
  readonly updatesLost: number;
  readonly offersInHand: readonly OfferId[];
}

/** Registers agents and framework, and obeys the commands that come over the process's channel. */
export async function runLoad(part: LoadPart): Promise<void> {
  const hub = await LeanHub.open(part.socketPath, part.cluster);
  const heard = new LaunchesHeard();
  const agents = Array.from({ length: part.agents }, (_, index) =>
    startAgent(hub, `a${index + 1}`, heard),
  );
  await Promise.all(agents);
  const framework = new PacedFramework(hub);
  await framework.start();
  process.on('message', (command: LoadCommand) => {
    if (command.type === 'pace') framework.pace(command.everyMs);
    else if (command.type === 'look') process.send?.({ ...framework.look(), ...heard.look() });
    else heard.awaitAbove(command.above, (first) => process.send?.(first));
  });
}

async function startAgent(hub: LeanHub, name: string, heard: LaunchesHeard): Promise<void> {
  const agentId = name as AgentId;
  const client: LeanClient = new LeanClient(hub, agentName(agentId), (message) => {
    if (message.type !== 'RunTask') return;
    heard.note(message.launchId);
    runTask(client, agentId, message, RUN_MS);
  });
  const resources = scaleResources(TASK, SLOTS);
  const agent = { agentId, hostname: name, resources, attributes: {} };
  const none = { tasks: [], frameworks: [], executors: [], ended: [] };
  await client.start((session) => ({ type: 'RegisterAgent', agent, session, node: name, ...none }));
}

/** When agents heard of launches, and of which leader. An agent hears only of what was committed. */
class LaunchesHeard {
  #epoch = 0;
  #lastAtMs = NaN;
  #longestGapMs = 0;
  #awaited: { readonly above: number; readonly tell: (first: FirstLaunch) => void } | undefined;

  note(launchId: LaunchId): void {
    const atMs = Date.now();
    if (atMs - this.#lastAtMs > this.#longestGapMs) this.#longestGapMs = atMs - this.#lastAtMs;
    this.#lastAtMs = atMs;
    this.#epoch = Number(launchId.split('.')[0]);
    if (this.#awaited === undefined || this.#epoch <= this.#awaited.above) return;
    this.#awaited.tell({ epoch: this.#epoch, atMs });
    this.#awaited = undefined;
  }

  awaitAbove(above: number, tell: (first: FirstLaunch) => void): void {
    this.#awaited = { above, tell };
  }

  look(): Pick<LoadAccount, 'epoch' | 'longestGapMs'> {
    const longestGapMs = this.#longestGapMs;
    this.#longestGapMs = 0;
    return { epoch: this.#epoch, longestGapMs };
  }
}

class PacedFramework {
  readonly #client: LeanClient;
  readonly #offers = new Map<OfferId, Offer>();
  /** Updates seen of each task that has not ended. */
  readonly #underWay = new Map<TaskId, Set<string>>();
  #timer: NodeJS.Timeout | undefined;
  #nextTask = 1;
  readonly #counts = { launches: 0, refused: 0, voided: 0, updatesLost: 0 };

  constructor(hub: LeanHub) {
    this.#client = new LeanClient(hub, frameworkName(FRAMEWORK_ID), (message) => {
      this.#receive(message);
    });
  }

  async start(): Promise<void> {
    const framework = FrameworkInfo.parse({ frameworkId: FRAMEWORK_ID, name: 'load' });
    await this.#client.start((session) => ({ type: 'RegisterFramework', framework, session }));
    const requests = [{ resources: TASK, count: OFFERS * SLOTS, attributes: {} }];
    this.#client.send({ type: 'RequestResources', frameworkId: FRAMEWORK_ID, requests });
  }

  pace(everyMs: number): void {
    clearInterval(this.#timer);
    if (everyMs <= 0) return;
    this.#timer = setInterval(() => {
      this.#launchOne();
    }, everyMs);
  }

  look(): Omit<LoadAccount, 'epoch' | 'longestGapMs'> {
    return {
      ...this.#counts,
      underWay: this.#underWay.size,
      offersInHand: [...this.#offers.keys()],
    };
  }

  #launchOne(): void {
    const [offer] = this.#offers.values();
    if (!offer) return;
    this.#offers.delete(offer.offerId);
    const taskId = `t${this.#nextTask++}` as TaskId;
    this.#underWay.set(taskId, new Set());
    this.#counts.launches += 1;
    const command = { argv: ['sleep', '0.01'], environment: { LANG: 'C.UTF-8' } };
    this.#client.send({
      type: 'LaunchTasks',
      frameworkId: FRAMEWORK_ID,
      offerIds: [offer.offerId],
      tasks: [{ taskId, name: 'load', resources: TASK, command }],
      filters: { refuseMs: 0 },
    });
  }

  #receive(message: Message): void {
    if (message.type === 'ResourceOffers') {
      for (const offer of message.offers) this.#offers.set(offer.offerId, offer);
    } else if (message.type === 'RescindResourceOffer') {
      this.#offers.delete(message.offerId);
      this.#counts.voided += 1;
    } else if (message.type === 'StatusUpdate') this.#updated(message);
  }

  #updated({ status: { taskId, updateId, state } }: MessageOf<'StatusUpdate'>): void {
    if (updateId !== undefined) {
      const acknowledgement = { frameworkId: FRAMEWORK_ID, taskId, updateId };
      this.#client.send({ type: 'StatusUpdateAcknowledgement', ...acknowledgement });
    }
    const seen = this.#underWay.get(taskId);
    if (!seen) return; // A repetition.
    seen.add(state);
    if (state === 'TASK_RUNNING') return;
    this.#underWay.delete(taskId);
    if (state !== 'TASK_FINISHED') this.#counts.refused += 1;
    else if (!seen.has('TASK_RUNNING')) this.#counts.updatesLost += 1;
  }
}
