/**
 * A framework that keeps some tasks going, as its author would write it against the SDK: it remembers what it launched
 * before it launches, asks again for what it does not know after it registered again, and repeats a kill until the task ends.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { isTerminal, SchedulerDriver } from '../../framework/index.ts';
import type { FrameworkId, Offer, TaskStatus } from '../../framework/index.ts';
import { seededRandom, type Random } from '../sim/random.ts';
import { appendRecord, readRecords, type FrameworkRecord, type NewRecord } from './records.ts';
import { describeTask, planTask, type PlannedTask } from './tasks.ts';

const TICK_MS = 500;
/** After this a kill is asked for again. */
const KILL_AGAIN_MS = 3000;
/** At the end everything that is open is asked for this often, so many times; then what nobody knows is taken for not run. */
const ASK_AGAIN_MS = 3000;
const UNKNOWN_ENOUGH = 4;
const RESTART_PAUSE_MS = 500;

export interface LoadOptions {
  readonly name: string;
  readonly redis: string;
  readonly seed: number;
  /** Shared file of the tasks. */
  readonly runsPath: string;
  /** File of this framework alone. */
  readonly recordPath: string;
  readonly tasksAtOnce: number;
  /** `says`: it states what it needs; `takes`: it takes of whatever is offered. */
  readonly style: 'says' | 'takes';
  /** Ends a task as a person does; without it, those tasks are killed by the framework. */
  readonly killAsOperator?: (taskId: string) => void;
}

interface OpenTask {
  readonly task: PlannedTask;
  runningSinceMs?: number;
  killedAtMs?: number;
  unknownAnswers: number;
}

export class Load {
  readonly #options: LoadOptions;
  readonly #open = new Map<string, OpenTask>();
  readonly #random: Random;
  #launched = 0;
  #driver: SchedulerDriver | undefined;
  #isDraining = false;
  #isDrained = false;
  #isStopped = false;
  #timer: NodeJS.Timeout | undefined;
  #askedAtMs = 0;

  constructor(options: LoadOptions) {
    this.#options = options;
    for (const record of readRecords(options.recordPath)) this.#apply(record);
    this.#random = seededRandom(options.seed * 1000 + this.#launched);
  }

  start(): void {
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
    void this.#connect();
  }

  /** No new tasks; `drained` is written once all have ended. */
  drain(): void {
    this.#isDraining = true;
    this.#want();
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    clearInterval(this.#timer);
    await this.#driver?.stop();
  }

  /** A driver that was aborted, or a Redis that was not there, is no reason for a framework to end. */
  async #connect(): Promise<void> {
    const { name, redis } = this.#options;
    while (!this.#isStopped) {
      const driver: SchedulerDriver = new SchedulerDriver(
        {
          registered: () => this.#want(),
          reregistered: () => {
            this.#ask();
            this.#want();
          },
          resourceOffers: (_driver, offers) => this.#onOffers(driver, offers),
          statusUpdate: (_driver, status) => this.#onUpdate(status),
          error: (_driver, message) => {
            this.#record({ type: 'aborted', message });
          },
        },
        { name, frameworkId: name as FrameworkId },
        { redis },
      );
      try {
        await driver.start();
        this.#driver = driver;
        if ((await driver.join()) === 'DRIVER_STOPPED') return;
      } catch {
        // Redis is away at this moment: once more.
      }
      await sleep(RESTART_PAUSE_MS);
    }
  }

  #onOffers(driver: SchedulerDriver, offers: readonly Offer[]): void {
    for (const offer of offers) {
      const tasks = this.#fill(offer);
      if (tasks.length === 0) driver.declineOffer(offer.offerId, { refuseMs: 1000 });
      else {
        const { runsPath } = this.#options;
        const described = tasks.map((task) => describeTask(task, runsPath));
        driver.launchTasks(offer.offerId, described, { refuseMs: 500 });
      }
    }
    this.#want();
  }

  #fill(offer: Offer): PlannedTask[] {
    const tasks: PlannedTask[] = [];
    let { cpuMillis, memMib } = offer.resources;
    while (!this.#isDraining && this.#open.size < this.#options.tasksAtOnce) {
      const task = planTask(`${this.#options.name}.${String(this.#launched)}`, this.#random);
      cpuMillis -= 100;
      memMib -= task.memMib;
      if (cpuMillis < 0 || memMib < 0) break;
      this.#record({ type: 'launch', agentId: offer.agentId, task });
      tasks.push(task);
    }
    return tasks;
  }

  #onUpdate(status: TaskStatus): void {
    this.#record({ type: 'update', status });
    this.#want();
  }

  #record(record: NewRecord): void {
    this.#apply(appendRecord(this.#options.recordPath, record));
  }

  #apply(record: FrameworkRecord): void {
    if (record.type === 'launch') {
      this.#launched += 1;
      this.#open.set(record.task.taskId, { task: record.task, unknownAnswers: 0 });
    } else if (record.type === 'update') {
      const { taskId, state } = record.status;
      const open = this.#open.get(taskId);
      if (isTerminal(state)) this.#open.delete(taskId);
      else if (open && state === 'TASK_RUNNING') open.runningSinceMs ??= record.atMs;
      else if (open && state === 'TASK_UNKNOWN' && this.#isDraining) open.unknownAnswers += 1;
    } else if (record.type === 'kill') {
      const open = this.#open.get(record.taskId);
      if (open) open.killedAtMs = record.atMs;
    }
  }

  #want(): void {
    const { style, tasksAtOnce } = this.#options;
    if (this.#isDraining) {
      this.#driver?.suppressOffers();
      return;
    }
    if (style === 'takes') return;
    const count = tasksAtOnce - this.#open.size;
    const resources = { cpuMillis: 100, memMib: 32 };
    this.#driver?.requestResources(count > 0 ? [{ resources, count }] : []);
  }

  #tick(): void {
    for (const [taskId, open] of this.#open) this.#killIfDue(taskId, open);
    if (!this.#isDraining || this.#isDrained) return;
    for (const [taskId, open] of this.#open) {
      if (open.unknownAnswers >= UNKNOWN_ENOUGH) this.#open.delete(taskId);
    }
    if (this.#open.size > 0) {
      if (Date.now() - this.#askedAtMs > ASK_AGAIN_MS) this.#ask();
      return;
    }
    this.#isDrained = true;
    this.#want();
    this.#record({ type: 'drained' });
  }

  #ask(): void {
    this.#askedAtMs = Date.now();
    const taskIds = [...this.#open.keys()];
    if (taskIds.length > 0) this.#driver?.reconcileTasks(taskIds);
  }

  #killIfDue(taskId: string, open: OpenTask): void {
    const { kind, killAfterMs } = open.task;
    if (kind !== 'killed' && kind !== 'killed-by-operator') return;
    const nowMs = Date.now();
    const dueAtMs =
      open.killedAtMs === undefined
        ? (open.runningSinceMs ?? Infinity) + killAfterMs
        : open.killedAtMs + KILL_AGAIN_MS;
    if (nowMs < dueAtMs) return;
    const { killAsOperator } = this.#options;
    const by = kind === 'killed-by-operator' && killAsOperator ? 'operator' : 'framework';
    this.#record({ type: 'kill', taskId, by });
    if (by === 'operator') killAsOperator?.(taskId);
    else this.#driver?.killTask(taskId);
  }
}
