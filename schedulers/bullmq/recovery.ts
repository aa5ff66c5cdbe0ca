/**
 * Brings jobs and tasks together again after this process, Redis or both have been away: jobs that are active and have a task,
 * jobs that are active and have none, and tasks whose job Redis believes to be waiting. The rule in all of it: a job that has a
 * task which may be running is active and locked, and gets no second one.
 */
import type { Job } from 'bullmq';
import type { TaskStatus } from '../../framework/index.ts';
import type { Log } from '../../io/log.ts';
import type { TaskIdParts } from './job-ids.ts';
import { jobDigest, queueLabelOf, readTaskId } from './job-ids.ts';
import { NO_SPEC } from './job-spec.ts';
import type { JobTask, JobTasks } from './job-tasks.ts';
import { namesOf, refOf } from './job-tasks.ts';
import type { QueueWindow } from './queue-window.ts';

/** Where jobs and tasks are. */
export interface RecoveryOptions {
  readonly windows: readonly QueueWindow[];
  readonly tasks: JobTasks;
  readonly log: Log;
}

/**
 * Takes on the active jobs of a queue that nobody else holds, and locks them. Whether their tasks live is not known yet.
 *
 * @param isKnown jobs that are left alone
 * @returns what was found
 */
export async function recoverActive(
  { tasks, log }: RecoveryOptions,
  window: QueueWindow,
  isKnown: (jobId: string) => boolean,
): Promise<JobTask[]> {
  const found: JobTask[] = [];
  for (const { id } of await window.queue.ownActive()) {
    if (isKnown(id)) continue;
    const task = await recover(tasks, window, id);
    if (!task) continue;
    log.info('job.recovering', namesOf(task));
    found.push(task);
  }
  return found;
}

async function recover(
  tasks: JobTasks,
  window: QueueWindow,
  jobId: string,
  start?: number,
): Promise<JobTask | undefined> {
  if ((await window.queue.adopt(jobId, start ?? 0)) !== 'ours') return undefined;
  window.drop(jobId);
  const job = await window.queue.job(jobId);
  if (!job) return undefined;
  const known = tasks.ofJob(refOf({ window, job }));
  if (known) return known;
  const result = window.specOf(job);
  const spec = result.ok ? result.spec : NO_SPEC;
  return tasks.add({ window, job, spec, phase: 'recovering' }, start);
}

/**
 * A status of a task that this process knows nothing of. Unless it was told before how it ends, it belongs to a job that has to
 * be active, whether it lives or has ended: somebody may have taken the job for stalled, or Redis forgotten that it was started.
 * If the job was taken once more before anybody knew that, and nothing has run for its new start, it goes on with this one.
 *
 * @returns the job's task, or undefined if there is nothing to do but to acknowledge
 */
export async function adoptStray(
  { windows, tasks, log }: RecoveryOptions,
  status: TaskStatus,
): Promise<JobTask | undefined> {
  const parts = readTaskId(status.taskId);
  if (!parts) return undefined;
  const found = heldOf(tasks, parts) ?? (await jobOfTask(windows, parts));
  if (!found || found.job.finishedOn !== undefined) return undefined;
  const { window, job } = found;
  const { id = '' } = job;
  if (parts.start <= (await window.queue.toldStart(id))) return undefined;
  const held = heldOf(tasks, parts);
  if (held) return goOnWith(tasks, held, parts.start);
  const task = await recover(tasks, window, id, parts.start);
  if (task?.taskId !== status.taskId) {
    log.warn('task.without-job', { taskId: status.taskId, state: status.state });
    return undefined;
  }
  log.info('job.adopted', namesOf(task));
  return task;
}

/** The job of that task, if it has been taken for another start of which nothing has run. */
function heldOf(tasks: JobTasks, { digest }: TaskIdParts): JobTask | undefined {
  return [...tasks.values()].find(
    (task) => task.phase === 'held' && !task.isSettling && jobDigest(refOf(task)) === digest,
  );
}

/** Longer ids, or with other letters, are not in the task's id as they are: their jobs wait for the lock to run out. */
async function jobOfTask(
  windows: readonly QueueWindow[],
  { queueLabel, jobLabel, digest }: TaskIdParts,
): Promise<{ readonly window: QueueWindow; readonly job: Job } | undefined> {
  for (const window of windows) {
    if (queueLabelOf(window.queue.name) !== queueLabel) continue;
    const job = await window.queue.job(jobLabel);
    if (job && jobDigest(refOf({ window, job })) === digest) return { window, job };
  }
  return undefined;
}

/**
 * Of jobs that have just been taken, not for the first time, those of which an earlier start has not been told how it ended. What
 * became of that has to be asked, before anything of them is launched: it may live, or its end may be on its way.
 */
export async function untoldOf(window: QueueWindow, jobs: readonly Job[]): Promise<Set<Job>> {
  const again = jobs.filter(({ attemptsStarted }) => attemptsStarted > 1);
  const told = await Promise.all(again.map(({ id = '' }) => window.queue.toldStart(id)));
  return new Set(again.filter((job, index) => (told[index] ?? 0) < job.attemptsStarted - 1));
}

/** The job goes on with another one of its starts: nothing has run, or is known, of the one that it had. */
export function goOnWith(tasks: JobTasks, had: JobTask, start: number): JobTask {
  const { window, job, spec, cancelReason } = had;
  tasks.remove(had);
  const task = tasks.add({ window, job, spec, phase: 'recovering' }, start);
  task.cancelReason = cancelReason;
  return task;
}

/** What became of the lock of a job that could not be extended. */
export type LockLoss = 'held-again' | 'removed' | 'taken';

/** Finds out why a lock was lost, and takes it again if nobody else has. */
export async function mendLock(task: JobTask, log: Log): Promise<LockLoss> {
  const { jobId } = refOf(task);
  const adoption = await task.window.queue.adopt(jobId, task.job.attemptsStarted);
  if (adoption === 'ours') return 'held-again';
  log.warn('job.lock-lost', { ...namesOf(task), found: adoption });
  return adoption === 'locked' ? 'taken' : 'removed';
}
