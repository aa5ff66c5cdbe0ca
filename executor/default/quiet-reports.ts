/**
 * Reports of commands that are over soon after their start: they are told as ended and never as running, if their framework
 * wants it so. On its way to the framework each report costs about as much as a small command does.
 */
import type { ExecutorInfo } from '../../protocol/executor.ts';
import type { UpdateDescription } from '../core/update.ts';

/** Longest time that a report may be held back, milliseconds. */
const QUIET_MAX_MS = 1000;

/**
 * What a framework may tell the default executor in the `data` of its `ExecutorInfo`: `{"quietMs": 20}`.
 *
 * @returns for how long TASK_RUNNING is held back, milliseconds; 0 where nothing, or nothing of use, is said
 */
export function quietMsOf({ data }: Pick<ExecutorInfo, 'data'>): number {
  if (data === undefined) return 0;
  try {
    const { quietMs } = JSON.parse(data) as { quietMs?: unknown };
    return typeof quietMs === 'number' && quietMs > 0 ? Math.min(quietMs, QUIET_MAX_MS) : 0;
  } catch {
    return 0; // It is for somebody else.
  }
}

/** Holds TASK_RUNNING back for a while, and forgets it if the task has ended by then. */
export class QuietReports {
  readonly #report: (update: UpdateDescription) => void;
  readonly #quietMs: number;
  readonly #held = new Map<string, NodeJS.Timeout>();

  constructor(report: (update: UpdateDescription) => void, quietMs: number) {
    this.#report = report;
    this.#quietMs = quietMs;
  }

  /** Takes a report: it is told now, later, or not at all; never before an earlier one of its task. */
  take(update: UpdateDescription): void {
    const { taskId, state } = update;
    const timer = this.#held.get(taskId);
    if (timer === undefined && state === 'TASK_RUNNING' && this.#quietMs > 0) {
      this.#hold(update);
      return;
    }
    clearTimeout(timer);
    this.#held.delete(taskId);
    // What comes instead of it, an end or another change, says more than that the task runs.
    this.#report(update);
  }

  #hold(update: UpdateDescription): void {
    const timer = setTimeout(() => {
      this.#held.delete(update.taskId);
      this.#report(update);
    }, this.#quietMs);
    this.#held.set(update.taskId, timer);
  }
}
