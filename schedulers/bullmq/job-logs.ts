/**
 * The output of a command in the logs of its job, while it runs. A short one has its last lines there when it has failed, and
 * costs nothing before; of one that says a lot the beginning is followed, and `kaon logs` has all of it.
 */
import type { SchedulerDriver } from '../../framework/index.ts';
import type { Clock } from '../../io/clock.ts';
import type { Log } from '../../io/log.ts';
import { messageOf } from '../../protocol/errors.ts';
import type { JobTask } from './job-tasks.ts';
import { namesOf, OVER } from './job-tasks.ts';

/** A command that ends before is not followed, milliseconds. */
const FOLLOW_AFTER_MS = 1000;
/** Rows of one attempt, and characters of each. */
const ROWS_MAX = 1000;
const ROW_MAX_CHARS = 2000;
/** What has been written at the end is waited for so long, milliseconds. */
const REST_MS = 5000;

/** One task that is followed. */
interface Following {
  readonly stop: AbortController;
  done: Promise<void>;
  /** The agent has been asked. */
  isReading: boolean;
  readonly partial: { stdout: string; stderr: string };
  rows: number;
  /** It was followed to its end. */
  isComplete: boolean;
}

/** The logs of all jobs of one scheduler. */
export class JobLogs {
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #following = new WeakMap<JobTask, Following>();

  constructor({ clock, log }: { readonly clock: Clock; readonly log: Log }) {
    this.#clock = clock;
    this.#log = log;
  }

  /** A command runs; once for each task. */
  begin(driver: SchedulerDriver, task: JobTask): void {
    if (this.#following.has(task)) return;
    const stop = new AbortController();
    task.gone.signal.addEventListener('abort', () => {
      stop.abort(OVER);
    });
    const following: Following = {
      stop,
      done: Promise.resolve(),
      isReading: false,
      partial: { stdout: '', stderr: '' },
      rows: 0,
      isComplete: false,
    };
    this.#following.set(task, following);
    following.done = this.#follow(driver, task, following).catch((error: unknown) => {
      this.#log.debug('job.output-not-followed', { ...namesOf(task), error: messageOf(error) });
    });
  }

  async #follow(driver: SchedulerDriver, task: JobTask, following: Following): Promise<void> {
    const { stop } = following;
    await this.#clock.sleep(FOLLOW_AFTER_MS, stop.signal);
    if (stop.signal.aborted || task.isSettling || !task.place) return;
    following.isReading = true;
    const where = `kaon: runs on ${task.place.hostname ?? task.place.agentId}; kaon logs -f ${task.taskId}`;
    await task.window.queue.addLogs(task.job, [where]);
    const { error } = await driver.readOutput({
      taskId: task.taskId,
      agentId: task.place.agentId,
      follow: true,
      signal: stop.signal,
      onChunk: (kind, bytes) => this.#take(task, following, kind, bytes.toString('utf8')),
    });
    if (error !== '' || stop.signal.aborted) return;
    for (const kind of ['stdout', 'stderr'] as const) {
      if (following.partial[kind] !== '') await this.#take(task, following, kind, '\n');
    }
    following.isComplete = true;
  }

  async #take(
    task: JobTask,
    following: Following,
    kind: 'stdout' | 'stderr',
    text: string,
  ): Promise<void> {
    const lines = (following.partial[kind] + text).split('\n');
    following.partial[kind] = (lines.pop() ?? '').slice(-ROW_MAX_CHARS);
    const rows = lines
      .slice(0, ROWS_MAX - following.rows)
      .map((line) => `${kind}: ${line.slice(0, ROW_MAX_CHARS)}`);
    following.rows += rows.length;
    const isFull = following.rows >= ROWS_MAX;
    if (isFull) rows.push(`kaon: it says more than that: kaon logs -f ${task.taskId}`);
    await task.window.queue.addLogs(task.job, rows);
    if (isFull) following.stop.abort(OVER);
  }

  /** The command has ended: waits a little for what it has written at last. */
  async end(task: JobTask): Promise<void> {
    const following = this.#following.get(task);
    if (!following) return;
    const patience = new AbortController();
    if (!following.isReading) following.stop.abort(OVER);
    await Promise.race([following.done, this.#clock.sleep(REST_MS, patience.signal)]);
    patience.abort(OVER);
    const isCutOff = following.isReading && !following.isComplete && !following.stop.signal.aborted;
    following.stop.abort(OVER);
    if (!isCutOff) return;
    const row = `kaon: what it said at last did not come in time: kaon logs ${task.taskId}`;
    await task.window.queue.addLogs(task.job, [row]);
  }

  /** True if the logs of the job have everything that it has said. */
  hasAll(task: JobTask): boolean {
    return this.#following.get(task)?.isComplete === true;
  }
}
