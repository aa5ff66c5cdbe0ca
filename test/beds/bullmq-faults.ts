/** What can befall schedulers of BullMQ queues and their jobs, and what shows how often a job has run. */
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import type { Job } from 'bullmq';
import { Queue, Worker } from 'bullmq';
import { Redis } from 'ioredis';
import { type SchedulerChild, until } from './bullmq.ts';
import { type ClusterBed, jsonOf, type Running } from './cluster.ts';

/** A job's shell line that says, in that file, when it begins and ends, and ends as `what` does. */
export function recorded(file: string, what: string): string {
  return `echo START $KAON_JOB_ID $$ >> ${file}; (${what}); code=$?; echo END $KAON_JOB_ID $$ >> ${file}; exit $code`;
}

/** How often a job was begun and how often it came to its end, and how many of it ran at once at most. */
export interface Runs {
  readonly begun: number;
  readonly ended: number;
  readonly atOnce: number;
}

/** One run, from its beginning to its end. */
export const ONCE: Runs = { begun: 1, ended: 1, atOnce: 1 };
/** Two, of which the first was cut off. Whether they met cannot be told from what they wrote. */
export const LOST_AND_AGAIN: Partial<Runs> = { begun: 2, ended: 1 };

/** @param lines what `recorded` jobs have written */
export function runsOf(lines: readonly string[], { id = '' }: Pick<Job, 'id'>): Runs {
  const own = lines.map((line) => line.split(' ')).filter(([, jobId]) => jobId === id);
  let now = 0;
  let atOnce = 0;
  for (const [what] of own) {
    now += what === 'START' ? 1 : -1;
    atOnce = Math.max(atOnce, now);
  }
  const count = (wanted: string): number => own.filter(([what]) => what === wanted).length;
  return { begun: count('START'), ended: count('END'), atOnce };
}

/** Waits until a `recorded` job has begun so often. */
export async function begun(
  lines: () => readonly string[],
  job: Pick<Job, 'id'>,
  times = 1,
): Promise<void> {
  await until(() => runsOf(lines(), job).begun >= times);
}

/** What an application has beside its processors: what it depends on, and what bundles them. */
export function giveModules(directory: string): void {
  symlinkSync(resolve('node_modules'), join(directory, 'node_modules'));
}

/** Schedulers on a cluster of any bed, and BullMQ beside them. */
export interface QueueBed {
  readonly directory: string;
  /** Of the queues. */
  readonly redis: Redis;
  scheduler(...args: string[]): Promise<SchedulerChild>;
  queue(name: string): Queue;
  file(name: string, text: string): string;
  lines(name: string): string[];
  /** Ends the schedulers and connections; the cluster stays. */
  stop(): Promise<void>;
}

/** Where the cluster is. */
export interface QueueBedOptions {
  readonly start: (...argv: string[]) => Running;
  /** Exists, and tasks may come in. */
  readonly parent: string;
  readonly socketPath: string;
}

export function openQueueBed({ start, parent, socketPath }: QueueBedOptions): QueueBed {
  const directory = join(parent, 'jobs');
  mkdirSync(directory, { recursive: true });
  chmodSync(directory, 0o777);
  const redis = new Redis({ path: socketPath, maxRetriesPerRequest: null });
  redis.on('error', () => undefined); // It is killed by some of the tests.
  const children = new Set<SchedulerChild>();
  const queues: Queue[] = [];
  return {
    directory,
    redis,
    scheduler: async (...args) => {
      const child = await startedScheduler(start('bullmq', '--log-level', 'info', ...args));
      children.add(child);
      return child;
    },
    queue: (name) => {
      const queue = new Queue(name, { connection: redis });
      queue.on('error', () => undefined); // Told by what is asked of it.
      queues.push(queue);
      return queue;
    },
    file: (name, text) => {
      writeFileSync(join(directory, name), text);
      return join(directory, name);
    },
    lines: (name) => {
      const path = join(directory, name);
      if (!existsSync(path)) return [];
      return readFileSync(path, 'utf8')
        .split('\n')
        .filter((line) => line !== '');
    },
    stop: async () => {
      await Promise.all([...children].map((child) => child.stop('SIGKILL')));
      await Promise.allSettled(queues.map((queue) => queue.close()));
      redis.disconnect();
    },
  };
}

/** @param running `kaon bullmq`, which may have to wait for its turn */
export async function startedScheduler(running: Running): Promise<SchedulerChild> {
  const early = await Promise.race([running.seen('bullmq.started'), running.ended]);
  if (early) throw new Error(`kaon bullmq ended with ${String(early.exitCode)}: ${early.stderr}`);
  const { child, ended, seen, printed } = running;
  return {
    ...{ pid: child.pid ?? 0, printed, seen },
    stop: async (signal = 'SIGTERM') => {
      if (child.exitCode === null && child.signalCode === null) child.kill(signal);
      return (await ended).exitCode;
    },
  };
}

/** SIGKILL, and the time is over for which the scheduler of that name would have kept others waiting. */
export async function crash(child: SchedulerChild, redis: Redis, name: string): Promise<void> {
  await child.stop('SIGKILL');
  await redis.del(`bull-kaon:scheduler:bullmq.${name}`);
}

/** Takes the first job that waits, as a scheduler does that dies before it has launched anything. */
export async function takeByHand(redis: Redis, queue: string, token: string): Promise<Job> {
  const worker = new Worker(queue, null, { connection: redis, autorun: false });
  const job = await worker.getNextJob(token, { block: false });
  await worker.close(true);
  if (!job) throw new Error(`no job waits in ${queue}`);
  return job;
}

/** BullMQ's check for jobs without a lock, by a worker that takes nothing, until the job waits again. */
export async function checkStalled(redis: Redis, queue: Queue, job: Job): Promise<void> {
  const options = { connection: redis, autorun: false, stalledInterval: 100, maxStalledCount: 9 };
  const worker = new Worker(queue.name, null, options);
  // A worker before this one has looked already, and said for how long that is enough.
  await redis.del(queue.toKey('stalled-check'));
  await worker.startStalledCheckTimer();
  await until(async () => (await job.getState()) === 'waiting');
  await worker.close(true);
}

/** Redis as it was before the job was taken. */
export async function forgetTaking(redis: Redis, queue: Queue, { id = '' }: Job): Promise<void> {
  await redis
    .multi()
    .lrem(queue.toKey('active'), 0, id)
    .rpush(queue.toKey('wait'), id)
    .del(queue.toKey(`${id}:lock`))
    .hincrby(queue.toKey(id), 'ats', -1)
    .exec();
}

/** Waits until nobody holds the job. */
export async function lockRunsOut(redis: Redis, queue: Queue, { id = '' }: Job): Promise<void> {
  await until(async () => (await redis.exists(queue.toKey(`${id}:lock`))) === 0);
}

/** A row of `kaon tasks --json`. */
interface ExecutorTask {
  readonly executorId: string | null;
  readonly status?: { readonly unit?: string };
}

/** SIGKILL for the main process of an executor that has tasks now. */
export async function killExecutor(cluster: ClusterBed, name: string): Promise<void> {
  const tasks = await jsonOf<ExecutorTask[]>(cluster, 'tasks');
  const unit = tasks.find(({ executorId }) => executorId?.startsWith(name))?.status?.unit ?? '';
  const argv = ['systemctl', 'kill', '--signal=KILL', '--kill-who=main', unit];
  const ended = await cluster.inside(...argv);
  if (ended.exitCode !== 0) throw new Error(`${name} (${unit}) was not killed: ${ended.stderr}`);
}
