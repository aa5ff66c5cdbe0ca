/**
 * Tells BullMQ how jobs ended: value, reason, stack and logs. A status is acknowledged only after that, so an end that this
 * process did not live to tell comes again to the next one.
 */
import type { Job } from 'bullmq';
import { UnrecoverableError } from 'bullmq';
import type { TaskStatus } from '../../framework/index.ts';
import type { Log } from '../../io/log.ts';
import { messageOf } from '../../protocol/errors.ts';
import type { Outcome } from './core/outcome.ts';
import { outcomeOf } from './core/outcome.ts';
import type { JobTask } from './job-tasks.ts';
import { namesOf, tailOf } from './job-tasks.ts';
import type { ProcessorCalls } from './processor-calls.ts';
import type { ProcessorError, ProcessorOutcome } from './processor-messages.ts';

/** Errors of BullMQ by their `code`: what is in the way of a job's end. */
const NO_JOB = -1;
const NOT_OURS: readonly unknown[] = [-2, -3, -6];
const CHILDREN: readonly unknown[] = [-4, -9];

/** Lines of output that a job that has failed gets into its logs, and that its stack shows. */
const TAIL_LINES = 50;
const TAIL_LINE_MAX_CHARS = 2000;
/** Output in the value of a command that has succeeded, characters. */
const VALUE_MAX_CHARS = 8192;

/** What BullMQ throws, or a processor, to say that a job is not over. */
const MOVED_ERRORS: readonly string[] = ['DelayedError', 'WaitingError', 'WaitingChildrenError'];
/** Message of the error of a processor whose job is to wait for the rate limit. */
const RATE_LIMIT_MESSAGE = 'bullmq:rateLimitExceeded';

/** Who knows what processors said, and rules. */
export interface SettlingOptions {
  readonly calls: ProcessorCalls;
  readonly log: Log;
  readonly lostMax: number;
  /** Do the logs of a job have all of its output already? */
  readonly hasLogs: (task: JobTask) => boolean;
}

/** The ends of jobs. */
export class Settling {
  readonly #options: SettlingOptions;

  constructor(options: SettlingOptions) {
    this.#options = options;
  }

  /**
   * Tells the end of a task. Waits for Redis as long as it takes.
   *
   * @returns what the scheduler has to do about it: `settled`, or the outcome that is no end
   */
  async settle(task: JobTask, status: TaskStatus): Promise<'settled' | Outcome> {
    const outcome = outcomeOf(status, task.cancelReason);
    switch (outcome.kind) {
      case 'running':
      case 'again':
        return outcome;
      case 'lost':
        await this.#lost(task, outcome.message);
        return 'settled';
      case 'preempted':
        await this.#preempted(task, status, outcome.message);
        return 'settled';
      case 'done':
      case 'failed':
        await this.#ended(task, status, outcome);
        return 'settled';
    }
  }

  async #ended(
    task: JobTask,
    status: TaskStatus,
    outcome: Outcome & { readonly kind: 'done' | 'failed' },
  ): Promise<void> {
    if (task.spec.command) {
      if (outcome.kind === 'done') await this.#complete(task, valueOf(task, status));
      else await this.#failedCommand(task, status, outcome);
      return;
    }
    const { calls } = this.#options;
    const end = await calls.finish(task.taskId, status.data);
    if (end.moved) return;
    if (outcome.kind === 'failed' && (outcome.isFinal || end.outcome === undefined)) {
      const rows = linesOf(end.output);
      await task.window.queue.addLogs(task.job, rows);
      await this.fail(task, errorOf(outcome, [...rows.slice(-TAIL_LINES), ...factsOf(status)]));
    } else await this.#ofProcessor(task, end.outcome, end.output);
  }

  async #ofProcessor(
    task: JobTask,
    outcome: ProcessorOutcome | undefined,
    output: string,
  ): Promise<void> {
    const { queue } = task.window;
    if (outcome?.outcome === 'returned') {
      await this.#complete(task, outcome.value);
      return;
    }
    const thrown = outcome?.error ?? { name: 'Error', message: 'it ended without a word' };
    if (thrown.message === RATE_LIMIT_MESSAGE) {
      await this.#goesOn(task, () => queue.giveBack(task.job));
      return;
    }
    if (MOVED_ERRORS.includes(thrown.name)) {
      // A scheduler before this one may have moved it.
      if ((await task.job.getState()) !== 'active') return;
      const message = `the processor threw ${thrown.name} without moving the job: ${thrown.message}`;
      await this.fail(task, new Error(message));
      return;
    }
    await queue.addLogs(task.job, linesOf(output));
    await this.fail(task, thrownError(thrown));
  }

  async #failedCommand(
    task: JobTask,
    status: TaskStatus,
    outcome: Outcome & { readonly kind: 'failed' },
  ): Promise<void> {
    const rows = tailOf(status).flatMap(([kind, text]) =>
      linesOf(text).map((line) => `${kind}: ${line}`),
    );
    if (!this.#options.hasLogs(task)) await task.window.queue.addLogs(task.job, rows);
    await this.fail(task, errorOf(outcome, [...rows.slice(-TAIL_LINES), ...factsOf(status)]));
  }

  async #complete(task: JobTask, value: unknown): Promise<void> {
    const { queue } = task.window;
    await this.#guard(task, () => queue.complete(task.job, value));
  }

  /** An attempt has failed; the last one says so, because for the reader of a job there is nothing else to tell it by. */
  async fail(task: JobTask, error: Error): Promise<void> {
    const { queue } = task.window;
    const { attempts = 1 } = task.job.opts;
    const made = task.job.attemptsMade + 1;
    if (attempts > 1 && made >= attempts && error.name !== 'UnrecoverableError') {
      error.message = `${error.message} (attempt ${String(made)} of ${String(attempts)}, not tried again)`;
    }
    await this.#goesOn(task, async () => {
      try {
        await queue.fail(task.job, error);
      } catch (cause) {
        if (!messageOf(cause).startsWith('Unknown backoff strategy')) throw cause;
        // A strategy of the worker's own code; without it nobody can say when to try again.
        const words = `${error.message}; not tried again: Kaon knows no back-off strategy of that name (${messageOf(cause)})`;
        await queue.fail(task.job, new UnrecoverableError(words));
      }
    });
  }

  /** It waits again, with all its attempts: that there was something more urgent says nothing of the job. */
  async #preempted(task: JobTask, status: TaskStatus, message: string): Promise<void> {
    const { log, calls } = this.#options;
    const { queue } = task.window;
    if (!task.spec.command && (await calls.finish(task.taskId, status.data)).moved) return;
    log.info('job.preempted', { ...namesOf(task), message });
    await queue.addLogs(task.job, [`kaon: ${message}`]);
    await this.#goesOn(task, () => queue.giveBack(task.job));
  }

  async #lost(task: JobTask, message: string): Promise<void> {
    const { log, lostMax } = this.#options;
    const { queue } = task.window;
    const count = await queue.countLost(task.job.id ?? '');
    log.warn('job.lost', { ...namesOf(task), count, message });
    await queue.addLogs(task.job, [`kaon: ${message}`]);
    if (count <= lostMax) await this.#goesOn(task, () => queue.giveBack(task.job));
    else {
      const words = `lost ${String(count)} times, at last: ${message}`;
      await this.fail(task, new UnrecoverableError(words));
    }
  }

  /**
   * Does something to a job that is active and ours; if Redis has forgotten either, it is made so first. A job that is gone, or
   * somebody else's, is left alone.
   */
  async #guard(task: JobTask, act: () => Promise<void>, isSecond = false): Promise<void> {
    const { log } = this.#options;
    try {
      await act();
    } catch (error) {
      const code = (error as { code?: unknown }).code;
      const { queue } = task.window;
      if (code === NO_JOB) log.warn('job.gone', namesOf(task));
      else if (CHILDREN.includes(code) && !isSecond) {
        const words = new UnrecoverableError(messageOf(error));
        await this.#guard(task, () => queue.fail(task.job, words), true);
      } else if (NOT_OURS.includes(code) && !isSecond) {
        const adoption = await queue.adopt(task.job.id ?? '', task.job.attemptsStarted);
        if (adoption === 'ours') await this.#guard(task, act, true);
        else log.warn('job.not-ours', { ...namesOf(task), found: adoption });
      } else {
        log.error('job.not-settled', { ...namesOf(task), error: messageOf(error) });
      }
    }
  }

  /** The same for what does not end the job, or may not: if the end of this start comes again, there is nothing left to tell. */
  #goesOn(task: JobTask, act: () => Promise<void>): Promise<void> {
    const { queue } = task.window;
    return this.#guard(task, async () => {
      await queue.noteTold(task.job.id ?? '', task.start);
      await act();
    });
  }
}

/** What a command that has succeeded is worth. */
function valueOf({ place }: JobTask, status: TaskStatus): Record<string, unknown> {
  const { certificate = {} } = status;
  const { exitCode = 0, memoryPeakBytes, cpuUsec, stdoutTail = '' } = certificate;
  return {
    exitCode,
    stdout: stdoutTail.slice(-VALUE_MAX_CHARS),
    ...(place && { node: place.hostname ?? place.agentId }),
    ...(memoryPeakBytes !== undefined && { memoryPeakBytes }),
    ...(cpuUsec !== undefined && { cpuMs: Math.round(cpuUsec / 1000) }),
  };
}

/** The certificate in words, for the stack of an error. */
function factsOf({ state, reason, unit, taskId, certificate }: TaskStatus): string[] {
  const { cpuUsec, throttledUsec, memoryPeakBytes, exitCode, signal } = certificate ?? {};
  const facts = Object.entries({
    task: taskId,
    state,
    reason,
    unit,
    exitCode,
    signal,
    memoryPeakBytes,
    cpuMs: cpuUsec === undefined ? undefined : Math.round(cpuUsec / 1000),
    throttledMs: throttledUsec === undefined ? undefined : Math.round(throttledUsec / 1000),
  });
  const known = facts.filter(([, value]) => value !== undefined);
  return [known.map(([name, value]) => `${name}=${String(value)}`).join(' ')];
}

function errorOf(
  { message, isFinal }: Outcome & { readonly kind: 'failed' },
  details: readonly string[],
): Error {
  const error = isFinal ? new UnrecoverableError(message) : new Error(message);
  error.stack = [`${error.name}: ${message}`, ...details.map((line) => `    ${line}`)].join('\n');
  return error;
}

function thrownError({ name, message, stack }: ProcessorError): Error {
  const error = new Error(message);
  error.name = name;
  if (stack === undefined) delete error.stack;
  else error.stack = stack;
  return error;
}

function linesOf(text: string): string[] {
  const lines = text.split('\n').filter((line) => line.trim() !== '');
  return lines.slice(-TAIL_LINES).map((line) => line.slice(0, TAIL_LINE_MAX_CHARS));
}

/** @returns the error of a job that is not run at all; where in Kaon that was found out is nobody's business */
export function rejection(message: string): Error {
  const error = new UnrecoverableError(message);
  error.stack = `${error.name}: ${message}`;
  return error;
}

/** @returns whether BullMQ has said that this job has to fail, because a child of it has */
export function deferredFailureOf(job: Job): string | undefined {
  const { deferredFailure } = job as { readonly deferredFailure?: string };
  return deferredFailure === '' ? undefined : deferredFailure;
}
