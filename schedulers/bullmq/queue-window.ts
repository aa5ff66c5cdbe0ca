/**
 * What a scheduler knows of a queue: the first of the jobs that wait, what each needs, what its running jobs hold. The queue
 * itself stays in Redis, however long it is; here is only its beginning.
 */
import type { Job } from 'bullmq';
import type { Clock } from '../../io/clock.ts';
import type { Log } from '../../io/log.ts';
import { messageOf } from '../../protocol/errors.ts';
import {
  addResources,
  formatResources,
  NO_RESOURCES,
  subtractResources,
} from '../../protocol/resources.ts';
import type { Resources } from '../../protocol/resources.ts';
import { formatPartial, isBeyond } from '../../protocol/roles.ts';
import type { Candidate, QueueState, Turns } from './core/selection.ts';
import type { JobSpec, SpecResult } from './job-spec.ts';
import { COMMAND_DATA_MAX_BYTES, PROCESSOR_DATA_MAX_BYTES, specOf } from './job-spec.ts';
import type { JobQueue, QueueLook, WaitingJob } from './queue.ts';
import type { QueueSettings } from './settings.ts';
import { executorOf } from './task-of-job.ts';

/** Jobs that are looked at: enough to fill a large cluster at once, and to find a small job behind large ones. */
const WINDOW_MAX_JOBS = 500;

/** A job that can never be run as it is, and why. */
export interface Rejected {
  readonly jobId: string;
  readonly message: string;
}

/** Whose window, and who does the looking. */
export interface QueueWindowOptions {
  readonly queue: JobQueue;
  readonly settings: QueueSettings;
  readonly clock: Clock;
  readonly log: Log;
}

/** Of one job that waits. */
interface Known {
  readonly candidate: Candidate;
  readonly problem: string | undefined;
  readonly sinceMs: number;
}

/** The window of one queue. */
export class QueueWindow {
  readonly queue: JobQueue;
  readonly settings: QueueSettings;
  readonly #options: QueueWindowOptions;
  readonly #known = new Map<string, Known>();
  readonly #turns: Turns = { count: 0, of: new Map() };
  readonly #running = new Map<string, number>();
  #held: Resources = NO_RESOURCES;
  #active = 0;
  #look: QueueLook | undefined;
  #lookedAtMs = 0;
  #ids: string[] = [];
  /** Of `#ids`, those that can be placed, and those that cannot be run as they are. */
  #candidates: Candidate[] = [];
  #invalid: Rejected[] = [];
  /** Looks are numbered, and what was taken after one began is not in it, whatever it says. */
  #looks = 0;
  readonly #taken = new Map<string, number>();
  #isStale = true;

  constructor(options: QueueWindowOptions) {
    this.#options = options;
    this.queue = options.queue;
    this.settings = options.settings;
  }

  /** Something in the queue has changed. */
  markStale(): void {
    this.#isStale = true;
  }

  get isStale(): boolean {
    return this.#isStale;
  }

  /** Since the last look, milliseconds. */
  get ageMs(): number {
    return this.#options.clock.monotonicMs() - this.#lookedAtMs;
  }

  /** Looks again. In a busy queue something has changed again by then, and that is for the next look. */
  async refresh(): Promise<void> {
    try {
      await this.#lookAgain();
    } catch (error) {
      this.#isStale = true;
      throw error;
    }
  }

  async #lookAgain(): Promise<void> {
    this.#isStale = false;
    this.#looks += 1;
    const number = this.#looks;
    const look = await this.queue.look(WINDOW_MAX_JOBS);
    const isThere = (id: string): boolean => (this.#taken.get(id) ?? 0) < number;
    const ids = look.ids.filter(isThere);
    await this.#learn(ids.filter((id) => !this.#known.has(id)));
    for (const [id, until] of this.#taken) if (until < number) this.#taken.delete(id);
    this.#look = look;
    this.#lookedAtMs = this.#options.clock.monotonicMs();
    // Read up to the first that could not be read any more: its turn comes with the next look.
    const end = ids.findIndex((id) => !this.#known.has(id));
    this.#ids = (end < 0 ? ids : ids.slice(0, end)).filter(isThere);
    this.#sort();
    const kept = new Set(this.#ids);
    for (const id of this.#known.keys()) if (!kept.has(id)) this.#known.delete(id);
  }

  async #learn(ids: readonly string[]): Promise<void> {
    const { hasProcessor } = this.settings.defaults;
    const max = hasProcessor ? PROCESSOR_DATA_MAX_BYTES : COMMAND_DATA_MAX_BYTES;
    const sinceMs = this.#options.clock.monotonicMs();
    const jobs = await this.queue.read(ids, max);
    for (const job of jobs) {
      this.#known.set(job.id, { ...this.#candidateOf(job), sinceMs });
      if (job.schedulerId !== undefined) await this.#scheduleNext(job.id);
    }
  }

  /** A scheduled job that waits must not hold up those that come after it. */
  async #scheduleNext(jobId: string): Promise<void> {
    const { log } = this.#options;
    try {
      await this.queue.scheduleNext(jobId);
    } catch (error) {
      log.warn('job.next-not-scheduled', {
        ...{ queue: this.queue.name, job: jobId, error: messageOf(error) },
        hint: 'BullMQ tries it again when the job starts',
      });
    }
  }

  #candidateOf(job: WaitingJob): Pick<Known, 'candidate' | 'problem'> {
    const result = this.#specOf(job);
    if (!result.ok) return { candidate: nothing(job.id), problem: result.message };
    return { candidate: this.candidate(job.id, result.spec), problem: undefined };
  }

  /** A job of more than the quota of its queue would wait for ever, and hold up its group. */
  #specOf(job: Omit<WaitingJob, 'schedulerId'>): SpecResult {
    const { defaults, quota } = this.settings;
    const result = specOf({ ...job, queue: this.queue.name }, defaults);
    if (!result.ok || !quota || !isBeyond(result.spec.resources, quota)) return result;
    const needs = formatResources(result.spec.resources);
    const message = `the job needs ${needs}, and all jobs of its queue may hold ${formatPartial(quota)}`;
    return { ok: false, message };
  }

  /** What a job needs that was taken: its data may have changed since it was looked at. */
  specOf(job: Job): SpecResult {
    const data = JSON.stringify(job.data ?? {});
    const dataBytes = Buffer.byteLength(data);
    return this.#specOf({ id: job.id ?? '', name: job.name, data, dataBytes });
  }

  /** A job as something to be placed. */
  candidate(jobId: string, spec: JobSpec): Candidate {
    const { resources, attributes, group, priority } = spec;
    const executor = executorOf(spec, this.settings);
    return {
      ...{ jobId, resources, attributes, group, priority },
      ...(executor && {
        executor: { executorId: executor.executorId, resources: executor.resources },
      }),
    };
  }

  /** @returns the queue as it is now, for the selection */
  state(): QueueState {
    const { name, weight, quota, groupLimit } = this.settings;
    return {
      ...{ name, weight, quota, groupLimit },
      room: this.#room(),
      held: this.#held,
      candidates: this.#candidates,
      running: this.#running,
      turns: this.#turns,
    };
  }

  #sort(): void {
    this.#candidates = [];
    this.#invalid = [];
    for (const jobId of this.#ids) {
      const known = this.#known.get(jobId);
      if (known?.problem !== undefined) this.#invalid.push({ jobId, message: known.problem });
      else if (known) this.#candidates.push(known.candidate);
    }
  }

  #room(): number {
    const look = this.#look;
    if (!look || look.isPaused) return 0;
    const sinceMs = this.#options.clock.monotonicMs() - this.#lookedAtMs;
    if (look.limitedMs > sinceMs) return 0;
    return Math.max(0, Math.min(look.room, look.starts, this.settings.concurrency - this.#active));
  }

  /** When this queue has to be looked at again although nothing happens in it, milliseconds from now; undefined: never. */
  get dueInMs(): number | undefined {
    const look = this.#look;
    if (!look) return undefined;
    const sinceMs = this.#options.clock.monotonicMs() - this.#lookedAtMs;
    const dues = [
      ...(look.limitedMs > 0 ? [look.limitedMs - sinceMs + 1] : []),
      ...(look.nextDelayedAtMs > 0
        ? [look.nextDelayedAtMs - this.#options.clock.wallMs() + 1]
        : []),
    ];
    return dues.length === 0 ? undefined : Math.max(0, Math.min(...dues));
  }

  /** Jobs that cannot be run as they are. A queue that is paused keeps them. */
  invalid(): Rejected[] {
    return this.#look?.isPaused === false ? [...this.#invalid] : [];
  }

  /** Jobs that have been seen for so long, milliseconds. */
  seenFor(ms: number): Candidate[] {
    const beforeMs = this.#options.clock.monotonicMs() - ms;
    return this.#ids.flatMap((id) => {
      const known = this.#known.get(id);
      return known && known.sinceMs <= beforeMs && known.problem === undefined
        ? [known.candidate]
        : [];
    });
  }

  /**
   * Takes jobs of the window.
   *
   * @returns those that were taken; others if the queue has changed meanwhile
   */
  async take(jobIds: readonly string[]): Promise<Job[]> {
    const isInOrder = jobIds.every((id, index) => this.#ids[index] === id);
    for (const id of jobIds) this.drop(id);
    const jobs = await this.queue.take(jobIds, isInOrder);
    for (const { id } of jobs) if (id !== undefined) this.drop(id);
    if (jobs.length < jobIds.length) this.markStale();
    if (this.#look) {
      const { room, starts } = this.#look;
      this.#look = { ...this.#look, room: room - jobs.length, starts: starts - jobs.length };
    }
    return jobs;
  }

  /** A job does not wait any more, whatever a look says that began before now. */
  drop(jobId: string): void {
    this.#taken.set(jobId, this.#looks);
    this.#known.delete(jobId);
    const at = this.#ids.indexOf(jobId);
    if (at < 0) return;
    this.#ids.splice(at, 1);
    const position = this.#candidates.findIndex((candidate) => candidate.jobId === jobId);
    if (position >= 0) this.#candidates.splice(position, 1);
    else this.#invalid = this.#invalid.filter((rejected) => rejected.jobId !== jobId);
  }

  /** A job is active from now on. */
  add({ resources, group }: JobSpec): void {
    this.#active += 1;
    this.#held = addResources(this.#held, resources);
    this.#running.set(group, (this.#running.get(group) ?? 0) + 1);
  }

  /** It is not any more. */
  remove({ resources, group }: JobSpec): void {
    this.#active -= 1;
    this.#held = subtractResources(this.#held, resources);
    const count = (this.#running.get(group) ?? 0) - 1;
    if (count > 0) this.#running.set(group, count);
    else this.#running.delete(group);
    this.markStale();
  }

  /** True if so many jobs are known that one more or less changes nothing. */
  isLong(jobs: number): boolean {
    return this.#ids.length > jobs;
  }

  /** True if there is more in the queue than what is known, and what is known will not last. */
  get isRunningLow(): boolean {
    return this.#ids.length < WINDOW_MAX_JOBS / 4;
  }
}

function nothing(jobId: string): Candidate {
  return { jobId, group: '', resources: NO_RESOURCES, priority: 0, attributes: {} };
}
