/**
 * One queue of BullMQ as a scheduler needs it: look without taking, take what was chosen, hold its lock, settle it. Everything
 * that BullMQ can do is left to BullMQ (a `Worker` without a processor); what it cannot is in `scripts.ts`.
 */
import type { Redis } from 'ioredis';
import { Job, MetricsTime, Queue, Worker } from 'bullmq';
import type { RateLimiterOptions, RepeatOptions } from 'bullmq';
import type { Script } from '../../io/define-script.ts';
import { defineScript } from '../../io/define-script.ts';
import type { Log } from '../../io/log.ts';
import { messageOf } from '../../protocol/errors.ts';
import { ADOPT, BRING_FORWARD, COUNT_LOST, LOOK, NOTE_TOLD, READ, TOLD_FIELD } from './scripts.ts';

/** Which queue, and how its jobs are held. */
export interface JobQueueOptions {
  readonly name: string;
  readonly prefix: string;
  /** For commands; it is not closed with the queue. */
  readonly redis: Redis;
  readonly log: Log;
  /** Of the lock of every job. */
  readonly token: string;
  readonly lockMs: number;
  /** Shown by dashboards as who has processed a job. */
  readonly workerName: string;
  readonly limiter: RateLimiterOptions | undefined;
}

/** What a look at a queue found. */
export interface QueueLook {
  readonly isPaused: boolean;
  /** How many more may be active at once, by the global concurrency. */
  readonly room: number;
  /** How many more may start before `limitedMs` begins, by the rate limit. */
  readonly starts: number;
  /** Until then nothing may start, milliseconds. */
  readonly limitedMs: number;
  /** When the next delayed job is due, by the clock of this host, 0 for none. */
  readonly nextDelayedAtMs: number;
  /** Jobs that wait, delayed ones not counted. */
  readonly waiting: number;
  /** The first of them, in the order in which BullMQ would take them. */
  readonly ids: readonly string[];
}

/** What is known of a job before it is taken. */
export interface WaitingJob {
  readonly id: string;
  readonly name: string;
  /** JSON; '' if it is longer than what was asked for. */
  readonly data: string;
  readonly dataBytes: number;
  /** The job scheduler that has made it. */
  readonly schedulerId: string | undefined;
}

/** What became of an attempt to take one job wherever it is, see `ADOPT`. */
export type Adoption = 'ours' | 'missing' | 'locked' | 'ended' | 'children';

/** Data of jobs that one call reads. */
const READ_MAX_BYTES = 4 * 1024 * 1024;
const NO_LIMIT = Number.MAX_SAFE_INTEGER;

type ScriptName = 'look' | 'read' | 'forward' | 'adopt' | 'countLost' | 'noteTold';

/** A queue, from its first look to `close`. */
export class JobQueue {
  readonly name: string;
  /** Prefix and name. */
  readonly qualifiedName: string;
  readonly #options: JobQueueOptions;
  readonly #worker: Worker;
  readonly #queue: Queue;
  readonly #scripts: Readonly<Record<ScriptName, Script>>;
  readonly #key: (type: string) => string;
  /** Done when nobody takes jobs or gives one back. */
  #turn: Promise<unknown> = Promise.resolve();
  /** Since the last look something was given back, and is in front of what that has seen. */
  #hasGivenBack = false;

  constructor(options: JobQueueOptions) {
    const { name, prefix, redis, lockMs, workerName, limiter, log } = options;
    this.name = name;
    this.#options = options;
    const connection = { connection: redis, prefix };
    this.#worker = new Worker(name, null, {
      ...connection,
      autorun: false,
      name: workerName,
      lockDuration: lockMs,
      metrics: { maxDataPoints: MetricsTime.ONE_WEEK },
      ...(limiter && { limiter }),
    });
    this.#queue = new Queue(name, connection);
    // What goes wrong with a connection is told by the connection, and what goes wrong with a call by its promise.
    const onError = (error: Error): void => {
      log.debug('bullmq.error', { queue: name, error: error.message });
    };
    this.#worker.on('error', onError);
    this.#queue.on('error', onError);
    this.qualifiedName = this.#queue.qualifiedName;
    this.#key = (type) => this.#queue.toKey(type);
    this.#scripts = {
      look: defineScript(redis, LOOK, 9),
      read: defineScript(redis, READ, undefined),
      forward: defineScript(redis, BRING_FORWARD, 2),
      adopt: defineScript(redis, ADOPT, 8),
      countLost: defineScript(redis, COUNT_LOST, 2),
      noteTold: defineScript(redis, NOTE_TOLD, 1),
    };
  }

  /** Key of BullMQ's: of a list of the queue, or of a job. */
  keyOf(type: string): string {
    return this.#key(type);
  }

  /** Stream of BullMQ's events of this queue: each change of it is an entry. */
  get eventsKey(): string {
    return this.#key('events');
  }

  /** Moves delayed jobs that are due to where they wait; else it changes nothing. */
  async look(count: number): Promise<QueueLook> {
    this.#hasGivenBack = false;
    const keys = [
      ...['wait', 'active', 'prioritized', 'events', 'limiter'].map(this.#key),
      ...['delayed', 'meta', 'pc', 'marker'].map(this.#key),
    ];
    const ownMax = this.#options.limiter?.max ?? '';
    const reply = await this.#scripts.look([...keys, this.#key(''), Date.now(), count, ownMax]);
    const [paused, room, limitedMs, starts, nextDelayedAtMs, waiting, ids] = reply as [
      ...[number, number, number, number, number, number],
      string[],
    ];
    const orAny = (limit: number): number => (limit < 0 ? NO_LIMIT : limit);
    return {
      isPaused: paused === 1,
      room: orAny(room),
      starts: orAny(starts),
      ...{ limitedMs, nextDelayedAtMs, waiting, ids },
    };
  }

  /**
   * @returns what those jobs say that are still there; data of more than `maxBytes` is not read. The first of them only, if
   *   all together say too much
   */
  async read(ids: readonly string[], maxBytes: number): Promise<WaitingJob[]> {
    if (ids.length === 0) return [];
    const keys = ids.map((id) => this.#key(id));
    const reply = await this.#scripts.read([keys.length, ...keys, maxBytes, READ_MAX_BYTES]);
    return (reply as [string, string, string, number][]).flatMap((found, index) => {
      const [name, data = '', schedulerId = '', dataBytes = 0] = found;
      if (name === undefined) return [];
      const known = { id: ids[index] ?? '', name, data, dataBytes };
      return [{ ...known, schedulerId: schedulerId === '' ? undefined : schedulerId }];
    });
  }

  /**
   * Takes jobs, these if they still wait and nobody is faster. They are active and locked afterwards.
   *
   * @returns at most so many; others than those if the queue has changed meanwhile
   */
  take(ids: readonly string[], isInOrder: boolean): Promise<Job[]> {
    return this.#inTurn(() => this.#take(ids, isInOrder));
  }

  async #take(ids: readonly string[], isInOrder: boolean): Promise<Job[]> {
    if (!isInOrder || this.#hasGivenBack)
      await this.#scripts.forward([...['wait', 'prioritized'].map(this.#key), ...ids]);
    const { token } = this.#options;
    // A reply that is lost is one of a job that is active and locked, and that nobody knows: `ownActive` finds it.
    const taken = await Promise.all(
      ids.map(() => this.#worker.getNextJob(token, { block: false })),
    );
    return taken.filter((job) => job !== undefined);
  }

  /** Takes one job wherever it is, or goes on with it. @param starts how often it has been started at least */
  async adopt(jobId: string, starts = 0): Promise<Adoption> {
    const lists = ['wait', 'active', 'prioritized', 'delayed', 'paused', 'stalled'];
    const keys = [...lists, jobId, `${jobId}:lock`];
    const { token, lockMs } = this.#options;
    const reply = await this.#scripts.adopt([...keys.map(this.#key), jobId, token, lockMs, starts]);
    return reply as Adoption;
  }

  /** @returns the job as it is now; undefined if it is not there */
  async job(jobId: string): Promise<Job | undefined> {
    try {
      return await Job.fromId(this.#worker, jobId);
    } catch (error) {
      if ((error as Error).name !== 'SyntaxError') throw error;
      return await this.#unreadable(jobId);
    }
  }

  /** A job that is no JSON, which nobody wrote with BullMQ: enough of it to let it fail. */
  async #unreadable(jobId: string): Promise<Job | undefined> {
    const names = ['name', 'timestamp', 'ats', 'atm'];
    const found = await this.#options.redis.hmget(this.#key(jobId), ...names);
    const [name, ...numbers] = found;
    if (typeof name !== 'string') return undefined;
    const [timestamp = 0, attemptsStarted = 0, attemptsMade = 0] = numbers.map(Number);
    const job = new Job(this.#worker, name, {}, {}, jobId);
    const deferredFailure = 'the job is not valid: it is not JSON';
    return Object.assign(job, { timestamp, attemptsStarted, attemptsMade, deferredFailure });
  }

  /** @returns ids of active jobs that nobody else holds: ours, and those whose lock has run out */
  async ownActive(): Promise<{ readonly id: string; readonly isLocked: boolean }[]> {
    const { redis, token } = this.#options;
    const ids = await redis.lrange(this.#key('active'), 0, -1);
    if (ids.length === 0) return [];
    const locks = await redis.mget(ids.map((id) => this.#key(`${id}:lock`)));
    return ids.flatMap((id, index) => {
      const lock = locks[index] ?? null;
      return lock === null || lock === token ? [{ id, isLocked: lock !== null }] : [];
    });
  }

  /** Extends locks. @returns ids of the jobs whose lock is not ours any more */
  async extendLocks(
    jobIds: readonly string[],
    durationMs = this.#options.lockMs,
  ): Promise<string[]> {
    if (jobIds.length === 0) return [];
    const tokens = jobIds.map(() => this.#options.token);
    return this.#worker.extendJobLocks([...jobIds], tokens, durationMs);
  }

  /** The job is done. @throws errors of BullMQ, whose `code` says what is in the way */
  async complete(job: Job, value: unknown): Promise<void> {
    await job.moveToCompleted(value, this.#options.token, false);
  }

  /** An attempt has failed; BullMQ decides whether there is another. @throws as `complete` */
  async fail(job: Job, error: Error): Promise<void> {
    await job.moveToFailed(error, this.#options.token, false);
  }

  /** Back to the head of the queue; the attempt does not count. @throws as `complete` */
  async giveBack(job: Job): Promise<void> {
    await this.#inTurn(() => job.moveToWait(this.#options.token));
    this.#hasGivenBack = true;
  }

  /** To take jobs is to bring them to the head of the queue and to take from there: nothing must be given back in between. */
  #inTurn<T>(act: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(act);
    this.#turn = done.catch(() => undefined);
    return done;
  }

  /** @returns how often a start of this job has been lost, this time included */
  async countLost(jobId: string): Promise<number> {
    return Number(await this.#scripts.countLost([this.#key(jobId), this.eventsKey, jobId]));
  }

  /**
   * From now on the ends of a job's starts up to this one are told, although the job is not over. Before it is told: an end that
   * was told twice would cost an attempt, one that nobody takes for told is another run.
   */
  async noteTold(jobId: string, start: number): Promise<void> {
    await this.#scripts.noteTold([this.#key(jobId), start]);
  }

  /** @returns the last start of a job that is not over whose end was told; 0 for none */
  async toldStart(jobId: string): Promise<number> {
    return Number((await this.#options.redis.hget(this.#key(jobId), TOLD_FIELD)) ?? 0);
  }

  /**
   * Has the next job of a scheduler made, now that this one is due: BullMQ makes it when somebody takes this one, and on a
   * full cluster that would be late. Done again later it does nothing.
   */
  async scheduleNext(jobId: string): Promise<void> {
    const job = await this.job(jobId);
    const repeat = (job?.opts as { repeat?: RepeatOptions } | undefined)?.repeat;
    if (job?.repeatJobKey === undefined || !repeat) return;
    const scheduler = await this.#worker.jobScheduler;
    const { repeatJobKey, name, data, opts } = job;
    await scheduler.upsertJobScheduler(repeatJobKey, repeat, name, data as unknown, opts, {
      override: false,
      producerId: jobId,
    });
  }

  /** Rows for the logs of a job, in order; best effort. */
  async addLogs(job: Job, rows: readonly string[]): Promise<void> {
    const { log } = this.#options;
    try {
      const id = job.id ?? '';
      await Promise.all(rows.map((row) => Job.addJobLog(this.#queue, id, row, job.opts.keepLogs)));
    } catch (error) {
      log.debug('job.log-failed', { job: job.id, error: messageOf(error) });
    }
  }

  /** From now on BullMQ looks after jobs without a lock. Only once every job that has a task is locked. */
  async startStalledChecks(): Promise<void> {
    await this.#worker.startStalledCheckTimer();
  }

  /** Of this Redis, another one each time that it is started. */
  async serverRunId(): Promise<string> {
    const info = await this.#options.redis.info('server');
    return /^run_id:(\w+)/m.exec(info)?.[1] ?? '';
  }

  async close(): Promise<void> {
    await this.#worker.close(true);
    await this.#queue.close();
  }
}
