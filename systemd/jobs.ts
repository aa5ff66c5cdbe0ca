/**
 * Waits for systemd's jobs: `StartTransientUnit` and `StopUnit` only queue one, `JobRemoved` tells how it ended.
 *
 * The signal may come before the reply that names the job, and it may never come (bus or systemd
 * restarted): then every wait ends with `unknown` and the caller looks at the unit itself.
 */

/** `done`, `failed`, `canceled`, `timeout`, `dependency`, `skipped` as in org.freedesktop.systemd1(5), or `unknown`. */
export type JobResult = string;

/** Waits for the ends of systemd's jobs, by object path. */
export interface JobWaits {
  /** Makes the call that queues a job, and waits for that job; rejects as the call does. */
  run(queue: () => Promise<string>): Promise<JobResult>;
  /** Waits for a job that is known to be queued. */
  wait(path: string): Promise<JobResult>;
  /** A `JobRemoved` has arrived. */
  removed(path: string, result: JobResult): void;
  /** Signals may have been missed: ends every wait with `unknown`. */
  giveUp(): void;
}

/** @param timeoutMs longest wait for one job; after it the result is `unknown` */
export function createJobWaits(timeoutMs: number): JobWaits {
  const waits = new Map<string, (result: JobResult) => void>();
  /** Jobs that ended while some call was still without its reply. */
  const early = new Map<string, JobResult>();
  let calls = 0;
  let losses = 0;

  const wait = (path: string): Promise<JobResult> =>
    new Promise((resolve) => {
      const timer = setTimeout(() => settle('unknown'), timeoutMs);
      const settle = (result: JobResult): void => {
        clearTimeout(timer);
        waits.delete(path);
        resolve(result);
      };
      waits.set(path, settle);
    });

  const run = async (queue: () => Promise<string>): Promise<JobResult> => {
    const lossesBefore = losses;
    let waited: Promise<JobResult>;
    calls += 1;
    try {
      const path = await queue();
      const result = early.get(path);
      if (result !== undefined) return result;
      if (losses !== lossesBefore) return 'unknown';
      waited = wait(path);
    } finally {
      calls -= 1;
      if (calls === 0) early.clear();
    }
    return waited;
  };

  const removed = (path: string, result: JobResult): void => {
    const settle = waits.get(path);
    if (settle !== undefined) settle(result);
    else if (calls > 0) early.set(path, result);
  };

  const giveUp = (): void => {
    losses += 1;
    for (const settle of [...waits.values()]) settle('unknown');
  };

  return { run, wait, removed, giveUp };
}
