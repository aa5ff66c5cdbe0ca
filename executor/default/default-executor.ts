/**
 * The default executor: runs the commands of its framework's tasks on one node. What is to be done is decided in `core/`;
 * here are its processes, checks and clocks.
 */
import type { ExecutorInfo } from '../../protocol/executor.ts';
import type { ExecutorAgentInfo, LaunchedTask } from '../../protocol/executor-messages.ts';
import type { LaunchId, TaskId } from '../../protocol/ids.ts';
import type { FrameworkInfo } from '../../protocol/task.ts';
import type { UpdateDescription } from '../core/update.ts';
import type { ExecutorDriver } from '../executor-driver.ts';
import type { Executor, LaunchedGroup } from '../executor.ts';
import { createTasksState } from './core/state.ts';
import type { LaunchRef, TaskEffect, TaskEvent } from './core/step.ts';
import { step } from './core/step.ts';
import { beginCheck } from './checks.ts';
import { sharedEnvironment, taskEnvironment } from './environment.ts';
import { signalGroup, startTask } from './processes.ts';
import { quietMsOf, QuietReports } from './quiet-reports.ts';

/** A longer one would fire at once, timers(7) of Node. */
const TIMER_MAX_MS = 2 ** 31 - 1;

const SIGNALS: Readonly<Record<number, NodeJS.Signals>> = { 9: 'SIGKILL', 15: 'SIGTERM' };

/** What belongs to a launch that has begun. */
interface Running {
  readonly launched: LaunchedTask;
  readonly environment: Readonly<Record<string, string>>;
  /** Process id of its main process, and so its process group. */
  pid?: number;
  alarm?: NodeJS.Timeout;
  giveUpCheck?: () => void;
}

/** An executor whose tasks are commands. */
export class DefaultExecutor implements Executor {
  readonly #state = createTasksState();
  readonly #running = new Map<LaunchId, Running>();
  readonly #shared: Readonly<Record<string, string>>;
  readonly #report: (update: UpdateDescription) => void;
  #reports: QuietReports;
  /** Events of one turn, in order: what an effect brings about comes after the other effects of its step. */
  readonly #events: TaskEvent[] = [];
  #isStepping = false;
  readonly #waitingForEnd: (() => void)[] = [];

  /**
   * @param environment of the executor itself
   * @param report takes each status update
   */
  constructor(
    environment: Readonly<Record<string, string | undefined>>,
    report: (update: UpdateDescription) => void,
  ) {
    this.#shared = sharedEnvironment(environment);
    this.#report = report;
    this.#reports = new QuietReports(report, 0);
  }

  registered(
    _driver: ExecutorDriver,
    executorInfo: ExecutorInfo,
    _frameworkInfo: FrameworkInfo,
    agentInfo: ExecutorAgentInfo,
  ): void {
    // Before the first task: it comes after this.
    this.#reports = new QuietReports(this.#report, quietMsOf(executorInfo));
    this.#state.hostname = agentInfo.hostname;
  }

  launchTask(_driver: ExecutorDriver, launched: LaunchedTask): void {
    this.#happen({ type: 'launch', tasks: [launched], isGroup: false });
  }

  launchTaskGroup(_driver: ExecutorDriver, { tasks }: LaunchedGroup): void {
    this.#happen({ type: 'launch', tasks, isGroup: true });
  }

  killTask(_driver: ExecutorDriver, taskId: TaskId, gracePeriodMs: number): void {
    this.#happen({ type: 'kill', taskId, gracePeriodMs });
  }

  /** Resolves when no task is left. */
  async shutdown(_driver: ExecutorDriver, gracePeriodMs: number): Promise<void> {
    this.#happen({ type: 'shutdown', gracePeriodMs });
    if (this.#state.tasks.size === 0) return;
    await new Promise<void>((resolve) => {
      this.#waitingForEnd.push(resolve);
    });
  }

  #happen(event: TaskEvent): void {
    this.#events.push(event);
    if (this.#isStepping) return;
    this.#isStepping = true;
    try {
      for (let next = this.#events.shift(); next; next = this.#events.shift()) {
        for (const effect of step(this.#state, next, performance.now())) this.#perform(effect);
      }
    } finally {
      this.#isStepping = false;
    }
    if (this.#state.tasks.size > 0) return;
    for (const resolve of this.#waitingForEnd.splice(0)) resolve();
  }

  #perform(effect: TaskEffect): void {
    switch (effect.type) {
      case 'spawn':
        this.#spawn(effect.launched);
        return;
      case 'signal': {
        const pid = this.#running.get(effect.launchId)?.pid;
        if (pid !== undefined) signalGroup(pid, SIGNALS[effect.signal] ?? 'SIGKILL');
        return;
      }
      case 'check':
        this.#check(effect);
        return;
      case 'alarm':
        this.#setAlarm(effect, effect.atMs);
        return;
      case 'update':
        this.#reports.take(effect.update);
        return;
      case 'forget':
        this.#forget(effect.launchId);
        return;
      default:
        effect satisfies never;
    }
  }

  #spawn(launched: LaunchedTask): void {
    const { launchId, task } = launched;
    const ref = { launchId, taskId: task.taskId };
    const running: Running = { launched, environment: taskEnvironment(this.#shared, launched) };
    this.#running.set(launchId, running);
    startTask(launched, running.environment, {
      started: (pid) => {
        running.pid = pid;
        this.#happen({ type: 'spawned', ...ref, wallMs: Date.now() });
      },
      failed: (failure) => {
        this.#happen({ type: 'not-spawned', ...ref, failure });
      },
      exited: (exit, failure) => {
        delete running.pid;
        this.#happen({ type: 'exited', ...ref, exit, failure, wallMs: Date.now() });
      },
    });
  }

  #check({ taskId, launchId }: LaunchRef): void {
    const running = this.#running.get(launchId);
    const rules = running?.launched.task.healthCheck;
    if (!running || !rules) return;
    running.giveUpCheck = beginCheck(rules, running, (problem) => {
      delete running.giveUpCheck;
      this.#happen({ type: 'checked', taskId, launchId, problem });
    });
  }

  #setAlarm({ taskId, launchId }: LaunchRef, atMs: number | undefined): void {
    const running = this.#running.get(launchId);
    if (!running) return;
    clearTimeout(running.alarm);
    delete running.alarm;
    if (atMs === undefined) return;
    // Rounded up: a timer that is early by a part of a millisecond would be set again and again.
    const delayMs = Math.min(Math.max(0, Math.ceil(atMs - performance.now())), TIMER_MAX_MS);
    running.alarm = setTimeout(() => {
      this.#happen({ type: 'alarm', taskId, launchId });
    }, delayMs);
  }

  #forget(launchId: LaunchId): void {
    const running = this.#running.get(launchId);
    if (!running) return;
    this.#running.delete(launchId);
    clearTimeout(running.alarm);
    running.giveUpCheck?.();
  }
}
