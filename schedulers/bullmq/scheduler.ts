/**
 * The framework behind `kaon bullmq`: holds the backlog in BullMQ, asks for what its first jobs need, takes a job when an offer
 * fits it, and tells BullMQ how it ended. Here is who hears what; the parts do the rest. Written against the public SDK alone.
 */
import type {
  AgentId,
  ExecutorId,
  FrameworkId,
  Offer,
  OfferId,
  Scheduler,
  SchedulerDriver,
  TaskStatus,
} from '../../framework/index.ts';
import type { Clock } from '../../io/clock.ts';
import type { Log } from '../../io/log.ts';
import { messageOf } from '../../protocol/errors.ts';
import type { ReadAgents } from './agent-sizes.ts';
import { AgentSizes } from './agent-sizes.ts';
import type { SelectionRules } from './core/selection.ts';
import { demandOf } from './core/selection.ts';
import { JobLife } from './job-life.ts';
import { JobTasks } from './job-tasks.ts';
import { LockKeeper } from './lock-keeper.ts';
import { Placing } from './placing.ts';
import type { CancelRequest } from './queue-watch.ts';
import type { QueueWindow } from './queue-window.ts';
import { recoverActive } from './recovery.ts';
import type { SchedulerSettings } from './settings.ts';
import { WakeTimer } from './wake-timer.ts';

/** A queue that is known well enough is looked at no more often than this, milliseconds. */
const LOOK_MIN_MS = 20;
/** After an error of Redis, milliseconds. */
const PAUSE_MS = 500;
/** What has been asked for stands for so long, milliseconds. */
const ASK_MIN_MS = 4;
const NO_DEMAND = '[]';
/** With more waiting jobs than this the demand stays the same while they are worked off. */
const DEMAND_JOBS_MAX = 256;
/** A job that still waits after so long may be one that is too large, and so often that is looked at, milliseconds. */
const SEEN_MS = 100;
/** What comes within so long after a launch is worked on together, milliseconds: fewer, larger commits of the master. */
const GATHER_MS = 2;

/** What the scheduler works with. */
export interface BullmqSchedulerOptions {
  readonly settings: SchedulerSettings;
  readonly windows: readonly QueueWindow[];
  readonly frameworkId: FrameworkId;
  readonly clock: Clock;
  readonly log: Log;
  /** Agents that are there; undefined if nobody knows. Without it a job that is too large for all of them waits. */
  readonly readAgents?: ReadAgents;
  /** The driver has been aborted. */
  readonly onError: (message: string) => void;
}

/** One scheduler of some queues. */
export class BullmqScheduler implements Scheduler {
  readonly tasks = new JobTasks();
  readonly #options: BullmqSchedulerOptions;
  readonly #placing: Placing;
  readonly #life: JobLife;
  readonly #locks: LockKeeper;
  readonly #timer: WakeTimer;
  readonly #sizes: AgentSizes;
  #driver: SchedulerDriver | undefined;
  #isWorking = false;
  #isWoken = false;
  #isClosing = false;
  /** What was asked for last, and when. */
  #demand = '';
  #askedAtMs = -Infinity;
  #sizesLookedAtMs = -Infinity;

  constructor(options: BullmqSchedulerOptions) {
    const { windows, clock, log, settings, frameworkId } = options;
    const { tasks } = this;
    this.#options = options;
    this.#sizes = new AgentSizes(clock, options.readAgents);
    this.#timer = new WakeTimer(clock, () => {
      this.wake();
    });
    this.#life = new JobLife({
      ...{ windows, tasks, frameworkId, clock, log, lostMax: settings.lostMax },
      wakeIn: (ms) => {
        if (ms > 0) this.#timer.in(ms);
        else this.wake();
      },
    });
    this.#placing = new Placing({
      ...{ windows, tasks, clock, log },
      rules: () => this.#rules(),
      reject: (task, error) => {
        this.#life.reject(task, error);
      },
      removed: (task) => {
        this.tasks.orphan(task);
        this.#life.abandon(task);
      },
      hasMoved: (task) => this.#life.hasMoved(task),
      onLaunched: (task) => {
        this.#life.launched(task);
      },
    });
    this.#locks = new LockKeeper({
      ...{ windows, tasks, log },
      onGone: (task) => {
        this.#life.abandon(task);
      },
      onFound: (found) => this.#driver?.reconcileTasks(found.map(({ taskId }) => taskId)),
    });
  }

  registered(driver: SchedulerDriver, _frameworkId: FrameworkId): void {
    this.#isKnown(driver);
  }

  reregistered(driver: SchedulerDriver): void {
    this.#isKnown(driver);
  }

  /** What was launched before may have arrived or not, and what runs may be more than what is known here. */
  #isKnown(driver: SchedulerDriver): void {
    this.#driver = driver;
    this.#life.use(driver);
    this.#demand = '';
    const open = [...this.tasks.values()].filter(({ phase }) => phase !== 'held');
    if (open.length > 0) driver.reconcileTasks(open.map(({ taskId }) => taskId));
    driver.reconcileTasks();
    this.wake();
  }

  resourceOffers(_driver: SchedulerDriver, offers: readonly Offer[]): void {
    this.#placing.addOffers(offers);
    this.wake();
  }

  offerRescinded(_driver: SchedulerDriver, offerId: OfferId): void {
    this.#placing.removeOffer(offerId);
  }

  statusUpdate(driver: SchedulerDriver, status: TaskStatus): void {
    this.#life.update(driver, status);
  }

  executorLost(_driver: SchedulerDriver, executorId: ExecutorId, agentId: AgentId): void {
    this.#placing.executorLost(executorId, agentId);
  }

  agentLost(_driver: SchedulerDriver, agentId: AgentId): void {
    this.#placing.agentLost(agentId);
  }

  frameworkMessage(
    _driver: SchedulerDriver,
    _executorId: ExecutorId,
    _agentId: AgentId,
    data: string,
  ): void {
    this.#life.hear(data);
  }

  error(_driver: SchedulerDriver, message: string): void {
    this.#options.onError(message);
  }

  /** A job is to end, whatever it does. */
  cancel(request: CancelRequest): Promise<void> {
    return this.#life.cancel(request);
  }

  /** Something may have changed: looks, places, and asks, once for all calls until then. */
  wake(): void {
    this.#isWoken = true;
    if (this.#isWorking || this.#isClosing) return;
    this.#isWorking = true;
    void this.#work();
  }

  async #work(): Promise<void> {
    const { clock, log } = this.#options;
    // What comes in the same turn, as offers and updates do, is worked on together.
    await Promise.resolve();
    while (this.#isWoken && !this.#isClosing) {
      this.#isWoken = false;
      try {
        if (await this.#workOnce()) await clock.sleep(GATHER_MS);
      } catch (error) {
        log.warn('bullmq.failed', { error: messageOf(error) });
        await clock.sleep(PAUSE_MS);
        this.#isWoken = true;
      }
    }
    this.#isWorking = false;
  }

  /** @returns whether anything was launched */
  async #workOnce(): Promise<boolean> {
    const { windows } = this.#options;
    await Promise.all(windows.map((window) => this.#refresh(window)));
    for (const window of windows) {
      for (const rejected of window.invalid()) await this.#life.rejectWaiting(window, rejected);
    }
    await this.#rejectTooLarge();
    let hasLaunched = false;
    if (this.#driver && !this.#isClosing) {
      hasLaunched = await this.#placing.place(this.#driver);
      this.#ask(this.#driver);
    }
    this.#wakeForNext();
    return hasLaunched;
  }

  async #refresh(window: QueueWindow): Promise<void> {
    if ((window.dueInMs ?? Infinity) <= 0) window.markStale();
    if (!window.isStale) return;
    if (window.isRunningLow || window.ageMs >= LOOK_MIN_MS) await window.refresh();
    else this.#timer.in(LOOK_MIN_MS);
  }

  #ask(driver: SchedulerDriver): void {
    const { windows, clock } = this.#options;
    const nowMs = clock.monotonicMs();
    // With a long backlog the answer is the same as a moment ago, and while something is asked for nobody waits for more.
    const isLong = windows.some((window) => window.isLong(DEMAND_JOBS_MAX));
    const pauseMs = isLong ? LOOK_MIN_MS : this.#demand === NO_DEMAND ? 0 : ASK_MIN_MS;
    if (nowMs - this.#askedAtMs < pauseMs) {
      this.#timer.in(pauseMs);
      return;
    }
    this.#askedAtMs = nowMs;
    const held = this.tasks.held(nowMs);
    const demand = demandOf(
      windows.map((window) => window.state()),
      held.map(({ window, job, spec }) => window.candidate(job.id ?? '', spec)),
      {
        rules: this.#rules(),
        hasExecutor: (executorId) => this.#placing.hasExecutor(executorId),
        jobsMax: DEMAND_JOBS_MAX,
      },
    );
    const text = JSON.stringify(demand);
    if (text === this.#demand) return;
    this.#demand = text;
    driver.requestResources(
      demand.map((each) => ({ ...each, attributes: { ...each.attributes } })),
    );
  }

  #rules(): SelectionRules {
    return {
      nowMs: this.#options.clock.monotonicMs(),
      patienceMs: this.#options.settings.patienceMs,
      isPlaceable: (candidate) => this.#sizes.whyNowhere(candidate) === undefined,
    };
  }

  /** A job that no agent could hold fails after a while, in which one may still join; others are not held up by it. */
  async #rejectTooLarge(): Promise<void> {
    const { windows, settings, clock } = this.#options;
    if (clock.monotonicMs() - this.#sizesLookedAtMs < SEEN_MS) return;
    this.#sizesLookedAtMs = clock.monotonicMs();
    const hasOld = windows.some((window) => window.seenFor(SEEN_MS).length > 0);
    if (!hasOld) {
      if (windows.some((window) => window.isLong(0))) this.#timer.in(SEEN_MS);
      return;
    }
    await this.#sizes.refresh();
    for (const window of windows) {
      for (const candidate of window.seenFor(settings.placementTimeoutMs)) {
        const message = this.#sizes.whyNowhere(candidate);
        if (message === undefined) continue;
        await this.#life.rejectWaiting(window, { jobId: candidate.jobId, message });
      }
    }
  }

  #wakeForNext(): void {
    const dues = this.#options.windows.flatMap(({ dueInMs }) => dueInMs ?? []);
    if (dues.length > 0) this.#timer.in(Math.min(...dues));
  }

  /** Takes on the jobs that a scheduler before this one has left active. Before the driver is started. */
  async recover(): Promise<void> {
    const { windows, log } = this.#options;
    for (const window of windows) {
      await recoverActive({ windows, tasks: this.tasks, log }, window, () => false);
    }
  }

  /** True while it is not known of a job whether its task lives. */
  get isRecovering(): boolean {
    return [...this.tasks.values()].some(({ phase }) => phase === 'recovering');
  }

  /** @param hasServerChanged Redis is another one than the last time */
  keepLocks(hasServerChanged: boolean): Promise<void> {
    return this.#locks.keep(hasServerChanged);
  }

  /**
   * Takes nothing more, gives back what has no task, and waits until BullMQ has been told what is to be told.
   *
   * @returns how many jobs run on
   */
  async close(): Promise<number> {
    this.#isClosing = true;
    this.#timer.stop();
    while (this.#isWorking) await this.#options.clock.sleep(5);
    await this.#life.close();
    return this.tasks.size;
  }

  /** True while anything of it may be running. */
  get hasRunning(): boolean {
    return [...this.tasks.values()].some(({ phase }) => phase !== 'held');
  }

  /** From now on nothing more is taken; what runs goes on. */
  drain(): void {
    this.#isClosing = true;
    this.#driver?.requestResources([]);
  }
}
