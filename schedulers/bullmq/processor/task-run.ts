/**
 * One task of the executor of processors: a child does its job, its calls are sent until they are answered, and its end is
 * told with what could not be sent before.
 */
import type { LaunchedTask, UpdateDescription } from '../../../executor/index.ts';
import { messageOf } from '../../../protocol/errors.ts';
import { environmentOf } from '../../../protocol/numbers.ts';
import type {
  CallAnswer,
  ProcessorCall,
  ProcessorError,
  ProcessorTask,
} from '../processor-messages.ts';
import {
  addCall,
  createCallLedger,
  outstandingSequence,
  resendAtMs,
  takeAnswered,
  takeSendable,
  unansweredOf,
} from '../core/call-ledger.ts';
import { splitIntoFrames } from '../core/frames.ts';
import type { ChildExit, ChildHandle, JobListener } from './child-handle.ts';
import type { ChildPool } from './child-pool.ts';
import { threw } from './json.ts';
import type { Program, ProgramWaiter } from './program.ts';
import { writeEnd } from './task-end.ts';
import { ABORT_REASON, verdictOf, type Cause, type Ending } from './verdict.ts';

/** A longer one would fire at once, timers(7) of Node. */
const TIMER_MAX_MS = 2 ** 31 - 1;

/** What a run needs of its executor. */
export interface RunSurroundings {
  readonly pool: ChildPool;
  readonly program: Program;
  readonly hostname: () => string;
  readonly report: (update: UpdateDescription) => void;
  /** One framework message. */
  readonly send: (data: string) => void;
  /** The terminal update has been reported. */
  readonly ended: (run: TaskRun) => void;
}

/**
 * A job that is done sooner is reported as finished and never as running, milliseconds: on its way to the framework each report
 * costs as much as a small job does.
 */
const RUNNING_AFTER_MS = 10;
/** Who asks for the processor: those of a child count from 1. */
const PROGRAM_ASK_ID = 0;

/** From its launch to its terminal update. */
export class TaskRun implements ProgramWaiter {
  readonly launched: LaunchedTask;
  readonly #task: ProcessorTask;
  readonly #surroundings: RunSurroundings;
  readonly #calls = createCallLedger<ProcessorCall>();
  /** Undefined as soon as the job is over. */
  #child: ChildHandle | undefined;
  #isStarted = false;
  #startedAtMs: number | undefined;
  #cause: Cause | undefined;
  #killAtMs = Infinity;
  #alarm: NodeJS.Timeout | undefined;
  #resend: NodeJS.Timeout | undefined;
  #running: NodeJS.Timeout | undefined;
  /** What is known of the end while it is not told yet. */
  #end:
    { readonly ending: Ending; outcome: string | undefined; readonly output: string } | undefined;
  #isEnded = false;

  constructor(launched: LaunchedTask, task: ProcessorTask, surroundings: RunSurroundings) {
    this.launched = launched;
    this.#task = task;
    this.#surroundings = surroundings;
  }

  /** Hands the job to a child. */
  begin(): void {
    const { maxCompletionTimeMs } = this.launched.task;
    if (maxCompletionTimeMs !== undefined) {
      this.#setAlarm(performance.now() + maxCompletionTimeMs);
    }
    if (this.#surroundings.program.file === undefined) this.#surroundings.program.wait(this);
    else this.#giveTo(() => this.#surroundings.pool.take());
  }

  askForProgram(): void {
    addCall(this.#calls, { call: 'getProcessor' }, PROGRAM_ASK_ID);
    this.#pump();
  }

  programCame(problem: string | undefined): void {
    if (this.#end || this.#isEnded) return;
    if (problem === undefined) this.#giveTo(() => this.#surroundings.pool.take());
    else this.#over({ type: 'not-started', message: problem }, undefined);
  }

  /** The task is to end. The first cause stands; a second request can only shorten the time. */
  requestEnd(cause: Cause, gracePeriodMs: number): void {
    if (this.#isEnded) return;
    const isFirst = !this.#cause;
    this.#cause ??= cause;
    this.#killAtMs = Math.min(this.#killAtMs, performance.now() + gracePeriodMs);
    this.#setAlarm(this.#killAtMs);
    if (!isFirst || this.#end) return;
    const child = this.#child;
    if (!child) {
      this.#over({ type: 'not-begun' }, undefined);
      return;
    }
    if (child.takeBack()) {
      this.#surroundings.pool.give(child);
      this.#over({ type: 'not-begun' }, undefined);
      return;
    }
    this.#report({ state: 'TASK_KILLING' });
    child.abort(ABORT_REASON[cause.type]);
  }

  /** Takes the answer to a call of this task. */
  answered(sequence: number, answer: CallAnswer): void {
    const taken = takeAnswered(this.#calls, sequence);
    if (!taken) return;
    if (taken.askId === PROGRAM_ASK_ID) this.#surroundings.program.answered(answer);
    else if (taken.askId !== undefined) this.#child?.answer(taken.askId, answer);
    if (this.#end) this.#tellEnd();
    else this.#pump();
  }

  /** The number of the call whose answer is waited for. */
  get awaitedSequence(): number | undefined {
    return outstandingSequence(this.#calls);
  }

  #giveTo(find: () => ChildHandle): void {
    let child: ChildHandle;
    try {
      child = find();
    } catch (error) {
      const message = `no process could be made: ${messageOf(error)}`;
      this.#over({ type: 'not-started', message }, undefined);
      return;
    }
    this.#child = child;
    const { job, token } = this.#task;
    const { cgroupProcs = [], task } = this.launched;
    const environment = environmentOf(task.numbers ?? {});
    child.run({ type: 'run', cgroupProcs, job, token, environment }, this.#listenerFor(child));
  }

  #listenerFor(child: ChildHandle): JobListener {
    return {
      started: () => {
        this.#isStarted = true;
        this.#startedAtMs = Date.now();
        this.#running = setTimeout(() => {
          this.#reportRunning();
        }, RUNNING_AFTER_MS);
      },
      call: (call, askId) => {
        addCall(this.#calls, call, askId);
        this.#pump();
      },
      done: ({ kind, outcome, words = '' }) => {
        this.#over(kind === 'returned' ? { type: 'returned' } : { type: 'threw', words }, outcome);
      },
      notStarted: (message) => {
        child.kill();
        this.#over({ type: 'not-started', message }, undefined);
      },
      importFailed: (error) => {
        this.#importFailed(error);
      },
      exited: (exit) => {
        this.#exited(child, exit);
      },
    };
  }

  #reportRunning(): void {
    // Nothing goes back from KILLING.
    if (this.#cause || this.#isEnded || this.#startedAtMs === undefined) return;
    this.#report({ state: 'TASK_RUNNING', startedAtMs: this.#startedAtMs });
  }

  #importFailed(error: ProcessorError): void {
    const { outcome, words = '' } = threw(error);
    this.#over({ type: 'import-failed', words }, outcome);
  }

  #exited(child: ChildHandle, exit: ChildExit): void {
    // A warm one that ended before it had begun has ended of something else: an earlier job's leftovers, for example.
    if (!this.#isStarted && child.isReused && !this.#cause) {
      this.#giveTo(() => this.#surroundings.pool.fork());
      return;
    }
    this.#over({ type: 'exited', exit }, undefined);
  }

  /** The job is over, though perhaps not all of it told. */
  #over(ending: Ending, outcome: string | undefined): void {
    const child = this.#child;
    this.#child = undefined;
    this.#surroundings.program.leave(this);
    this.#end = { ending, outcome, output: child?.tail() ?? '' };
    if (child && ending.type !== 'not-begun') this.#surroundings.pool.give(child);
    if (!this.#cause) this.#clearAlarm();
    this.#tellEnd();
  }

  /** @param isLast no more waiting for answers */
  #tellEnd(isLast = false): void {
    const end = this.#end;
    if (!end || this.#isEnded) return;
    const { outcome, output } = end;
    let written = writeEnd({ outcome, calls: unansweredOf(this.#calls), output });
    if (!written.ok && !isLast) {
      if (written.isOutcomeTooLarge && outcome !== undefined) {
        end.outcome = undefined;
        addCall(this.#calls, { call: 'outcome', outcome });
      }
      this.#pump();
      return;
    }
    // Whoever kills a task does not wait for what it has to say.
    if (!written.ok) written = writeEnd({ outcome: undefined, calls: [], output });
    this.#finish(end.ending, written.ok ? written.data : undefined);
  }

  #finish(ending: Ending, data: string | undefined): void {
    this.#isEnded = true;
    this.#clearAlarm();
    clearTimeout(this.#resend);
    clearTimeout(this.#running);
    const { task } = this.launched;
    const exit = ending.type === 'exited' ? ending.exit : {};
    this.#report({
      ...verdictOf({ task, hostname: this.#surroundings.hostname() }, ending, this.#cause),
      ...exit,
      ...(this.#startedAtMs !== undefined && { startedAtMs: this.#startedAtMs }),
      ...(data !== undefined && { data }),
      endedAtMs: Date.now(),
    });
    this.#surroundings.ended(this);
  }

  #pump(): void {
    const nowMs = performance.now();
    const next = takeSendable(this.#calls, nowMs);
    if (next) {
      const address = { taskId: this.launched.task.taskId, sequence: next.sequence };
      for (const frame of splitIntoFrames(address, JSON.stringify(next))) {
        this.#surroundings.send(frame);
      }
    }
    clearTimeout(this.#resend);
    const dueMs = resendAtMs(this.#calls);
    if (dueMs === undefined) return;
    this.#resend = setTimeout(
      () => {
        this.#pump();
      },
      Math.ceil(dueMs - nowMs),
    );
  }

  #setAlarm(atMs: number): void {
    clearTimeout(this.#alarm);
    const delayMs = Math.min(Math.max(0, Math.ceil(atMs - performance.now())), TIMER_MAX_MS);
    this.#alarm = setTimeout(() => {
      if (performance.now() < atMs) this.#setAlarm(atMs);
      else this.#alarmed();
    }, delayMs);
  }

  #clearAlarm(): void {
    clearTimeout(this.#alarm);
    this.#alarm = undefined;
  }

  #alarmed(): void {
    if (!this.#cause) {
      this.requestEnd({ type: 'time-limit' }, this.launched.task.killGracePeriodMs);
    } else if (this.#end) this.#tellEnd(true);
    else this.#child?.kill();
  }

  #report(said: Omit<UpdateDescription, 'taskId' | 'launchId'>): void {
    const { launchId, task } = this.launched;
    this.#surroundings.report({ ...said, taskId: task.taskId, launchId });
  }
}
