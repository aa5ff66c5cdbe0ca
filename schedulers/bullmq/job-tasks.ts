/** The jobs that a scheduler has taken, and their tasks. */
import type { Job } from 'bullmq';
import type { TaskDescription, TaskId, TaskStatus } from '../../framework/index.ts';
import { lockTokenOf, taskIdOf } from './job-ids.ts';
import type { JobKey, JobRef } from './job-ids.ts';
import type { JobSpec } from './job-spec.ts';
import type { QueueWindow } from './queue-window.ts';
import { taskOf } from './task-of-job.ts';

/** Why what belongs to a job ends. Without a reason each abort would make an exception with a stack. */
export const OVER = 'over';

/** Where a job's task runs. */
export interface TaskPlace {
  readonly agentId: string;
  /** Not known of a task that was found again. */
  readonly hostname: string | undefined;
}

/** A job that is active, from its taking to its end. */
export interface JobTask {
  readonly taskId: TaskId;
  /** How often the job had been started when the task was made, this time included. */
  readonly start: number;
  readonly window: QueueWindow;
  readonly job: Job;
  readonly spec: JobSpec;
  /**
   * `held`: taken, and waits for a place. `launched`: its task is in the cluster, as far as anybody knows. `recovering`: it was
   * taken by a scheduler before this one, and the cluster is asked what became of its task.
   */
  phase: 'held' | 'launched' | 'recovering';
  place: TaskPlace | undefined;
  /** It is not launched before that, monotonic milliseconds. */
  notBeforeMs: number;
  /** Somebody has asked for its end. */
  cancelReason: string | undefined;
  /** It is being told to BullMQ how it ended. */
  isSettling: boolean;
  /** There is no such job any more, or another start of it: nobody is told how this one ends. */
  isOrphan: boolean;
  /** Ends the reading of its output. */
  readonly gone: AbortController;
}

/** What a job and the state of its task are made of. */
export type NewJobTask = Pick<JobTask, 'window' | 'job' | 'spec' | 'phase'>;

/** All of them, by task and by job. */
export class JobTasks {
  readonly #byTask = new Map<string, JobTask>();
  readonly #byJob = new Map<string, JobTask>();

  get size(): number {
    return this.#byTask.size;
  }

  values(): IterableIterator<JobTask> {
    return this.#byTask.values();
  }

  get(taskId: string): JobTask | undefined {
    return this.#byTask.get(taskId);
  }

  ofJob(key: JobKey): JobTask | undefined {
    return this.#byJob.get(keyOf(key));
  }

  /** @returns the new one, or the one that there is of this job */
  add(made: NewJobTask, start = made.job.attemptsStarted): JobTask {
    const ref = refOf(made);
    const known = this.#byJob.get(keyOf(ref));
    if (known) return known;
    const task: JobTask = {
      ...made,
      taskId: taskIdOf(ref, made.window.queue.name, start),
      start,
      place: undefined,
      notBeforeMs: 0,
      cancelReason: undefined,
      isSettling: false,
      isOrphan: false,
      gone: new AbortController(),
    };
    this.#byTask.set(task.taskId, task);
    this.#byJob.set(keyOf(ref), task);
    made.window.add(made.spec);
    return task;
  }

  /** The job is not this task's any more; there may be another one of its id, or another start of it. */
  orphan(task: JobTask): void {
    task.isOrphan = true;
    const key = keyOf(refOf(task));
    if (this.#byJob.get(key) === task) this.#byJob.delete(key);
  }

  remove(task: JobTask): void {
    if (!this.#byTask.delete(task.taskId)) return;
    const key = keyOf(refOf(task));
    if (this.#byJob.get(key) === task) this.#byJob.delete(key);
    task.window.remove(task.spec);
    task.gone.abort(OVER);
  }

  /** @returns those that wait for a place, in the order of their taking */
  held(nowMs: number): JobTask[] {
    return [...this.#byTask.values()].filter(
      ({ phase, notBeforeMs, isSettling }) =>
        phase === 'held' && notBeforeMs <= nowMs && !isSettling,
    );
  }
}

/** @returns which job it is */
export function refOf({ window, job }: Pick<JobTask, 'window' | 'job'>): JobRef {
  const { id = '', timestamp } = job;
  return { queue: window.queue.qualifiedName, jobId: id, createdAtMs: timestamp };
}

/** @returns the task to launch */
export function describeTask(
  task: JobTask,
  frameworkId: Parameters<typeof lockTokenOf>[0],
): TaskDescription & { readonly taskId: TaskId } {
  const { taskId, spec, job } = task;
  return taskOf({ taskId, ref: refOf(task), settings: task.window.settings, spec }, () => ({
    json: JSON.stringify(job.asJSONSandbox()),
    token: lockTokenOf(frameworkId),
  }));
}

/** For people: which job, in logs. */
export function namesOf({ taskId, window, job }: JobTask): Record<string, string> {
  return { queue: window.queue.name, job: job.id ?? '', taskId };
}

/** Output that is left of a task, of what the certificate has of it. */
export function tailOf(status: TaskStatus): readonly (readonly ['stdout' | 'stderr', string])[] {
  const { stdoutTail = '', stderrTail = '' } = status.certificate ?? {};
  return [
    ['stdout', stdoutTail],
    ['stderr', stderrTail],
  ];
}

function keyOf({ queue, jobId }: JobKey): string {
  return `${queue}\0${jobId}`;
}
