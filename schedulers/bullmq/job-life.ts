/**
 * Jobs from their taking to their end: what a status of their task means for them, wishes that they end, and what waits until
 * BullMQ has been told.
 */
import type { FrameworkId, SchedulerDriver, TaskStatus } from '../../framework/index.ts';
import { isTerminal } from '../../framework/index.ts';
import type { Clock } from '../../io/clock.ts';
import type { Log } from '../../io/log.ts';
import { messageOf } from '../../protocol/errors.ts';
import { cancelled } from './core/outcome.ts';
import { lockTokenOf } from './job-ids.ts';
import { JobLogs } from './job-logs.ts';
import { NO_SPEC } from './job-spec.ts';
import type { JobTask, JobTasks } from './job-tasks.ts';
import { namesOf } from './job-tasks.ts';
import { ProcessorCalls } from './processor-calls.ts';
import type { CancelRequest } from './queue-watch.ts';
import type { QueueWindow, Rejected } from './queue-window.ts';
import { adoptStray, goOnWith } from './recovery.ts';
import { deferredFailureOf, rejection, Settling } from './settling.ts';

/** The master is asked for all that runs no more often than this, milliseconds. */
const ASK_MIN_MS = 1000;

/** What it works with, and who is to look again. */
export interface JobLifeOptions {
  readonly windows: readonly QueueWindow[];
  readonly tasks: JobTasks;
  readonly frameworkId: FrameworkId;
  readonly lostMax: number;
  readonly clock: Clock;
  readonly log: Log;
  /** Something may be placed now, or in so many milliseconds. */
  readonly wakeIn: (ms: number) => void;
}

/** The lives of all jobs of one scheduler. */
export class JobLife {
  readonly #options: JobLifeOptions;
  readonly #settling: Settling;
  readonly #calls: ProcessorCalls;
  readonly #logs: JobLogs;
  readonly #tracked = new WeakSet<JobTask>();
  readonly #work = new Set<Promise<void>>();
  /** By task: of which is being found out whose it is. */
  readonly #strays = new Map<string, Promise<void>>();
  #driver: SchedulerDriver | undefined;
  #askedAtMs = -Infinity;

  constructor(options: JobLifeOptions) {
    const { clock, log, lostMax } = options;
    this.#options = options;
    this.#calls = new ProcessorCalls({
      log,
      send: (taskId, data) => {
        this.#sendToProcessor(taskId, data);
      },
      noteMoved: (taskId, isMoved) => this.#noteMoved(taskId, isMoved),
    });
    this.#logs = new JobLogs({ clock, log });
    this.#settling = new Settling({
      ...{ calls: this.#calls, log, lostMax },
      hasLogs: (task) => this.#logs.hasAll(task),
    });
  }

  /** By which messages to processors leave. */
  use(driver: SchedulerDriver): void {
    this.#driver = driver;
  }

  /** A task has been launched. */
  launched(task: JobTask): void {
    if (!task.spec.command) this.#trackCalls(task);
  }

  /** Whether the processor of the task has put its job elsewhere, and so has the task no job any more. */
  hasMoved(task: JobTask): boolean {
    return this.#calls.hasMoved(task.taskId);
  }

  /** What an executor of a processor says. */
  hear(data: string): void {
    this.#calls.receive(data);
  }

  /** A status of a task; acknowledged when BullMQ has been told what follows from it. */
  update(driver: SchedulerDriver, status: TaskStatus): void {
    this.#track(this.#take(driver, status));
  }

  async #take(driver: SchedulerDriver, status: TaskStatus): Promise<void> {
    const { taskId } = status;
    // While it is being found out whose task it is, what is said of it waits: an end that went past would be taken for one that
    // has been told already, be acknowledged, and never come again.
    while (this.#strays.has(taskId)) await this.#strays.get(taskId);
    const task = this.#options.tasks.get(taskId);
    await (task ? this.#update(driver, task, status) : this.#stray(driver, status));
  }

  async #update(driver: SchedulerDriver, task: JobTask, status: TaskStatus): Promise<void> {
    const isOver = isTerminal(status.state) || status.state === 'TASK_UNKNOWN';
    if (!isOver) {
      this.#lives(driver, task, status);
      driver.acknowledgeStatusUpdate(status);
      return;
    }
    // The same end may come twice; it is acknowledged when the first has been told.
    if (task.isSettling) return;
    task.isSettling = true;
    if (task.isOrphan) {
      // Its job is another one's, but the last that its processor had to say is of that job all the same.
      if (this.hasMoved(task)) await this.#calls.finish(task.taskId, status.data);
      this.#forget(task);
      driver.acknowledgeStatusUpdate(status);
      return;
    }
    // It may have ended before this process knew of it, and what its processor had to say comes with its end.
    if (!task.spec.command) this.#trackCalls(task);
    await this.#logs.end(task);
    const settled = await this.#settling.settle(task, status);
    if (settled === 'settled') this.#forget(task);
    else if (settled.kind === 'again') {
      const held = this.#ownStart(task);
      this.#hold(held, settled.afterMs);
      if (status.reason === 'REASON_TASK_EXCLUSIVE') this.#askWhatRuns(driver);
    } else {
      task.isSettling = false;
      driver.reconcileTasks([task.taskId]);
    }
    driver.acknowledgeStatusUpdate(status);
    this.#options.wakeIn(0);
  }

  /** Of an earlier start of the job there is nothing. A second task of that id might meet what is left of the first. */
  #ownStart(task: JobTask): JobTask {
    const { attemptsStarted } = task.job;
    if (task.start >= attemptsStarted) return task;
    this.#calls.forget(task.taskId);
    return goOnWith(this.#options.tasks, task, attemptsStarted);
  }

  /** Redis may have forgotten that a job runs; `adoptStray` goes on with what the master knows of it. */
  #askWhatRuns(driver: SchedulerDriver): void {
    const nowMs = this.#options.clock.monotonicMs();
    // One answer is for all jobs, and a job that is refused again asks again.
    if (nowMs - this.#askedAtMs < ASK_MIN_MS) return;
    this.#askedAtMs = nowMs;
    driver.reconcileTasks();
  }

  #lives(driver: SchedulerDriver, task: JobTask, { agentId, state }: TaskStatus): void {
    if (task.phase === 'recovering') this.#options.log.info('job.goes-on', namesOf(task));
    task.phase = 'launched';
    if (agentId !== undefined && task.place?.agentId !== agentId) {
      task.place = { agentId, hostname: undefined };
    }
    if (!task.spec.command) this.#trackCalls(task);
    else if (state === 'TASK_RUNNING') this.#logs.begin(driver, task);
    if (task.cancelReason !== undefined) driver.killTask(task.taskId);
  }

  /** Nothing of it runs: it keeps its place at the head, and its lock. */
  #hold(task: JobTask, afterMs: number): void {
    task.isSettling = false;
    const problem =
      task.cancelReason === undefined
        ? deferredFailureOf(task.job)
        : cancelled(task.cancelReason).message;
    if (problem !== undefined) {
      this.reject(task, rejection(problem));
      return;
    }
    task.phase = 'held';
    task.place = undefined;
    task.notBeforeMs = this.#options.clock.monotonicMs() + afterMs;
    this.#options.wakeIn(afterMs);
  }

  async #stray(driver: SchedulerDriver, status: TaskStatus): Promise<void> {
    const { taskId } = status;
    const adoption = adoptStray(this.#options, status);
    const over = (): void => {
      this.#strays.delete(taskId);
    };
    this.#strays.set(taskId, adoption.then(over, over));
    // Its job may have been taken, with the same name for its task, while it was looked for.
    const task = (await adoption) ?? this.#options.tasks.get(taskId);
    if (task) await this.#update(driver, task, status);
    else driver.acknowledgeStatusUpdate(status);
  }

  #forget(task: JobTask): void {
    this.#options.tasks.remove(task);
    this.#calls.forget(task.taskId);
  }

  /** A job of which nothing runs fails. */
  reject(task: JobTask, error: Error): void {
    if (task.isSettling) return;
    task.isSettling = true;
    this.#track(this.#reject(task, error));
  }

  async #reject(task: JobTask, error: Error): Promise<void> {
    this.#options.log.warn('job.rejected', { ...namesOf(task), reason: error.message });
    await this.#settling.fail(task, error);
    this.#forget(task);
    this.#options.wakeIn(0);
  }

  /** A job that waits fails before its turn; one that waits for its children, or is not there, is left alone. */
  async rejectWaiting(window: QueueWindow, { jobId, message }: Rejected): Promise<void> {
    const { log, tasks } = this.#options;
    const adoption = await window.queue.adopt(jobId);
    const job = adoption === 'ours' ? await window.queue.job(jobId) : undefined;
    window.drop(jobId);
    if (!job) {
      log.info('job.not-rejected', { queue: window.queue.name, job: jobId, found: adoption });
      return;
    }
    const result = window.specOf(job);
    const spec = result.ok ? result.spec : NO_SPEC;
    this.reject(tasks.add({ window, job, spec, phase: 'held' }), rejection(message));
  }

  /** A job is to end, whatever it does. */
  async cancel({ queue, jobId, reason }: CancelRequest): Promise<void> {
    const { windows, tasks, log } = this.#options;
    const window = windows.find((each) => each.queue === queue);
    if (!window) return;
    log.info('job.cancelling', { queue: queue.name, job: jobId, reason });
    const running = tasks.ofJob({ queue: queue.qualifiedName, jobId });
    if (!running) {
      await this.rejectWaiting(window, { jobId, message: cancelled(reason).message });
      return;
    }
    running.cancelReason = reason;
    if (running.phase === 'held') this.#hold(running, 0);
    else this.#driver?.killTask(running.taskId);
  }

  /** Somebody has removed the job, or another worker runs it: what runs here is not wanted any more. */
  abandon(task: JobTask): void {
    if (task.phase === 'held') this.#forget(task);
    else this.#driver?.killTask(task.taskId);
  }

  /** Gives back what has no task, and waits until BullMQ has been told what is to be told. */
  async close(): Promise<void> {
    for (const task of this.#options.tasks.held(Infinity)) {
      await task.window.queue.giveBack(task.job);
      this.#forget(task);
    }
    await Promise.all(this.#work);
  }

  /** Once, or calls that have been done would be done again. */
  #trackCalls(task: JobTask): void {
    if (this.#tracked.has(task)) return;
    this.#tracked.add(task);
    const source = task.window.settings.processor?.source ?? { path: '' };
    const code = 'code' in source ? source.code : undefined;
    this.#calls.track(task.taskId, task.job, lockTokenOf(this.#options.frameworkId), code);
  }

  async #noteMoved(taskId: string, isMoved: boolean): Promise<void> {
    const task = this.#options.tasks.get(taskId);
    if (!task) return;
    const { start, job, window } = task;
    await window.queue.noteTold(job.id ?? '', isMoved ? start : start - 1);
  }

  #sendToProcessor(taskId: string, data: string): void {
    const task = this.#options.tasks.get(taskId);
    if (!task?.place) return;
    const { executor } = task.window.candidate(task.job.id ?? '', task.spec);
    if (executor) this.#driver?.sendFrameworkMessage(executor.executorId, task.place.agentId, data);
  }

  /** Of what nobody waits for. */
  #track(work: Promise<void>): void {
    const { log } = this.#options;
    const tracked = work
      .catch((error: unknown) => {
        log.error('job.not-handled', { error: messageOf(error) });
      })
      .finally(() => this.#work.delete(tracked));
    this.#work.add(tracked);
  }
}
