/**
 * The executor of a queue's processor: every task is a job, run by a child process that stays warm for the next one. What the
 * processor wants of its job goes to the scheduler and comes back as framework messages.
 */
import type {
  ExecutorDriver,
  Executor,
  ExecutorAgentInfo,
  ExecutorInfo,
  FrameworkInfo,
  LaunchedTask,
  Log,
  TaskId,
  UpdateDescription,
} from '../../../executor/index.ts';
import type { CallAnswer, ProcessorTask } from '../processor-messages.ts';
import { createAssembler, dropFrames, takeFrame, type FramePart } from '../core/frames.ts';
import { ChildPool, type PoolOptions } from './child-pool.ts';
import { TaskRun, type RunSurroundings } from './task-run.ts';
import type { Cause } from './verdict.ts';

/** Answers of which something has come: each task waits for one at most. */
const UNFINISHED_MAX = 1000;
/** Of the time to shut down, the part after which children get SIGKILL; the rest is left to tell of it. */
const SHUTDOWN_KILL_PART = 0.8;

/** Who hears what the executor says. */
export interface ExecutorOutlets {
  readonly report: (update: UpdateDescription) => void;
  /** One framework message. */
  readonly send: (data: string) => void;
  readonly log: Log;
}

/** An executor whose tasks are jobs of one processor file. */
export class ProcessorExecutor implements Executor {
  readonly #outlets: ExecutorOutlets;
  readonly #pool: ChildPool;
  readonly #runs = new Map<TaskId, TaskRun>();
  readonly #answers = createAssembler({ unfinishedMax: UNFINISHED_MAX });
  readonly #surroundings: RunSurroundings;
  #hostname = 'this node';
  #isShuttingDown = false;
  readonly #waitingForEnd: (() => void)[] = [];

  constructor(pool: PoolOptions, outlets: ExecutorOutlets) {
    this.#outlets = outlets;
    this.#pool = new ChildPool(pool);
    this.#surroundings = {
      pool: this.#pool,
      program: pool.program,
      hostname: () => this.#hostname,
      report: outlets.report,
      send: outlets.send,
      ended: (run) => {
        this.#ended(run);
      },
    };
  }

  registered(
    _driver: ExecutorDriver,
    _executorInfo: ExecutorInfo,
    _frameworkInfo: FrameworkInfo,
    agentInfo: ExecutorAgentInfo,
  ): void {
    this.#hostname = agentInfo.hostname;
  }

  launchTask(_driver: ExecutorDriver, launched: LaunchedTask): void {
    const { task, launchId } = launched;
    const wanted = readTask(task.data);
    const running = this.#runs.get(task.taskId);
    const refusal = this.#isShuttingDown
      ? SHUTTING_DOWN
      : running
        ? duplicateOf(running, this.#hostname)
        : wanted
          ? undefined
          : NOT_A_JOB;
    if (refusal || !wanted) {
      this.#outlets.report({ ...(refusal ?? NOT_A_JOB), taskId: task.taskId, launchId });
      return;
    }
    const run = new TaskRun(launched, wanted, this.#surroundings);
    this.#runs.set(task.taskId, run);
    run.begin();
  }

  killTask(_driver: ExecutorDriver, taskId: TaskId, gracePeriodMs: number): void {
    this.#runs.get(taskId)?.requestEnd({ type: 'kill' }, gracePeriodMs);
  }

  frameworkMessage(_driver: ExecutorDriver, data: string): void {
    const frame = readFrame(data);
    if (!frame) {
      this.#outlets.log.warn('message.ignored', { problem: 'not a frame', chars: data.length });
      return;
    }
    const run = this.#runs.get(frame.taskId as TaskId);
    // The answer to a call that was sent twice comes twice.
    if (run?.awaitedSequence !== frame.sequence) return;
    const text = takeFrame(this.#answers, frame);
    if (text === undefined) return;
    const answer = readJson(text) as CallAnswer | undefined;
    if (typeof answer?.ok === 'boolean') {
      this.#note(frame, answer);
      run.answered(frame.sequence, answer);
    } else this.#outlets.log.warn('message.ignored', { problem: 'not an answer' });
  }

  /** Resolves when no task is left, and no child. */
  async shutdown(_driver: ExecutorDriver, gracePeriodMs: number): Promise<void> {
    this.#isShuttingDown = true;
    const cause: Cause = { type: 'shutdown' };
    for (const run of [...this.#runs.values()]) {
      run.requestEnd(cause, gracePeriodMs * SHUTDOWN_KILL_PART);
    }
    if (this.#runs.size > 0) {
      await new Promise<void>((resolve) => {
        this.#waitingForEnd.push(resolve);
      });
    }
    this.#pool.end();
  }

  #ended(run: TaskRun): void {
    const { taskId } = run.launched.task;
    const sequence = run.awaitedSequence;
    if (sequence !== undefined) dropFrames(this.#answers, { taskId, sequence });
    if (this.#runs.get(taskId) === run) this.#runs.delete(taskId);
    if (this.#runs.size > 0) return;
    for (const resolve of this.#waitingForEnd.splice(0)) resolve();
  }

  /** Nobody may wait for an answer that says that something was not done. */
  #note({ taskId, sequence }: FramePart, answer: CallAnswer): void {
    if (answer.ok) return;
    this.#outlets.log.warn('call.refused', { taskId, sequence, error: answer.error.message });
  }
}

type Refusal = Omit<UpdateDescription, 'taskId' | 'launchId'>;

const SHUTTING_DOWN: Refusal = {
  state: 'TASK_KILLED',
  reason: 'REASON_EXECUTOR_TERMINATED',
  message: 'not started: its executor is being shut down',
};

const NOT_A_JOB: Refusal = {
  state: 'TASK_ERROR',
  reason: 'REASON_TASK_INVALID',
  message: 'not started: its data is not a job for a processor',
};

function duplicateOf({ launched }: TaskRun, hostname: string): Refusal {
  return {
    state: 'TASK_ERROR',
    reason: 'REASON_TASK_DUPLICATE',
    message: `launch ${launched.launchId} of this task is still running on ${hostname}`,
  };
}

/** Schemas cost time and memory to load, and each node has its own executor of each queue. */
function readTask(data: string | undefined): ProcessorTask | undefined {
  const task = readJson(data ?? '') as Partial<Record<string, unknown>> | null | undefined;
  const { token, job } = task ?? {};
  if (typeof token !== 'string') return undefined;
  if (job === undefined) return { token };
  return typeof job === 'string' ? { token, job } : undefined;
}

function readFrame(data: string): FramePart | undefined {
  const frame = readJson(data) as Partial<Record<keyof FramePart, unknown>> | null | undefined;
  const { taskId, sequence, part, parts, text } = frame ?? {};
  if (typeof taskId !== 'string' || typeof text !== 'string') return undefined;
  const numbers = [sequence, part, parts];
  if (!numbers.every((number) => Number.isInteger(number) && (number as number) >= 0)) {
    return undefined;
  }
  return { taskId, text, sequence, part, parts } as FramePart;
}

function readJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // Undefined stands for what no JSON is.
    return undefined;
  }
}
