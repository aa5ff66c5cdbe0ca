/**
 * The locks of jobs: extended while their tasks live, taken again when Redis has lost them, given up when somebody else has the
 * job. And jobs that were taken without anybody knowing, because the reply was lost on its way.
 */
import type { Log } from '../../io/log.ts';
import type { JobTask, JobTasks } from './job-tasks.ts';
import type { QueueWindow } from './queue-window.ts';
import { mendLock, recoverActive } from './recovery.ts';

/** Whose locks, and who hears of what is found. */
export interface LockKeeperOptions {
  readonly windows: readonly QueueWindow[];
  readonly tasks: JobTasks;
  readonly log: Log;
  /** The job is not this scheduler's any more. */
  readonly onGone: (task: JobTask) => void;
  /** Active jobs that nobody knew of; whether their tasks live is to be asked. */
  readonly onFound: (tasks: readonly JobTask[]) => void;
}

/** The locks of all jobs of one scheduler. */
export class LockKeeper {
  readonly #options: LockKeeperOptions;
  /** Active jobs that were not known at the last look. */
  readonly #unknown = new Map<QueueWindow, ReadonlySet<string>>();

  constructor(options: LockKeeperOptions) {
    this.#options = options;
  }

  /**
   * Once round all queues.
   *
   * @param hasServerChanged Redis is another one than the last time: what is gone was not removed by anybody
   */
  async keep(hasServerChanged: boolean): Promise<void> {
    for (const window of this.#options.windows) {
      await this.#keepOf(window, hasServerChanged);
      await this.#findUnknown(window);
    }
  }

  async #keepOf(window: QueueWindow, hasServerChanged: boolean): Promise<void> {
    const { tasks, log, onGone } = this.#options;
    const own = [...tasks.values()].filter((task) => task.window === window && !task.isOrphan);
    const lost = new Set(await window.queue.extendLocks(own.map(({ job }) => job.id ?? '')));
    for (const task of own) {
      if (!lost.has(task.job.id ?? '') || task.isSettling) continue;
      const loss = await mendLock(task, log);
      // What nobody has removed runs to its end, if it runs.
      if (loss === 'removed' && hasServerChanged && task.phase !== 'held') tasks.orphan(task);
      else if (loss !== 'held-again') onGone(task);
    }
  }

  /** Seen twice, because one that is seen for the first time may be on its way. */
  async #findUnknown(window: QueueWindow): Promise<void> {
    const { windows, tasks, log, onFound } = this.#options;
    const before = this.#unknown.get(window) ?? new Set();
    const now = new Set<string>();
    const isLeftAlone = (jobId: string): boolean => {
      if (tasks.ofJob({ queue: window.queue.qualifiedName, jobId })) return true;
      now.add(jobId);
      return !before.has(jobId);
    };
    const found = await recoverActive({ windows, tasks, log }, window, isLeftAlone);
    this.#unknown.set(window, now);
    if (found.length > 0) onFound(found);
  }
}
