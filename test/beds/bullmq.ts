/** A cluster with schedulers of BullMQ queues on it, and BullMQ's own classes beside it as a producer has them. */
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Job } from 'bullmq';
import { FlowProducer, Queue, QueueEvents } from 'bullmq';
import { Redis } from 'ioredis';
import type { ClusterBed, Running } from './cluster.ts';
import { startClusterBed } from './cluster.ts';
import type { RedisBed } from './redis.ts';
import { startRedisBed } from './redis.ts';
import { eventually } from './redis-process.ts';

/** One `kaon bullmq` that works. */
export interface SchedulerChild {
  readonly pid: number;
  /** What it has said. */
  printed(): string;
  /** Resolves once it has said that. */
  seen(text: string): Promise<void>;
  /** Ends it by this signal, SIGTERM by default; its exit code. */
  stop(signal?: NodeJS.Signals): Promise<number | null>;
}

/** A cluster, its schedulers, and what speaks to their queues. */
export interface BullmqBed {
  readonly cluster: ClusterBed;
  /** Of the cluster, and of the queues unless another is named. */
  readonly socketPath: string;
  /** Where jobs can leave and find files. */
  readonly directory: string;
  /** Starts `kaon bullmq ARGS`, and waits until it works. */
  scheduler(...args: string[]): Promise<SchedulerChild>;
  queue(name: string, options?: QueueOptions): Queue;
  /** Hears everything, from the first event of the queue on. */
  events(name: string, options?: QueueOptions): Promise<QueueEvents>;
  flows(): FlowProducer;
  /** A Redis of the queues' own, as long as the bed is there. */
  otherRedis(): Promise<RedisBed>;
  /** Writes a file of that name into `directory`. @returns its path */
  file(name: string, text: string): string;
  /** Is there a file of that name in `directory`? */
  has(name: string): boolean;
  /** @returns lines that jobs have written into that file of `directory` */
  lines(name: string): string[];
  /** Ends everything. */
  stop(): Promise<void>;
}

/** Where a queue is. */
export interface QueueOptions {
  /** Default: `bull`. */
  readonly prefix?: string;
  /** Default: the Redis of the cluster. */
  readonly socketPath?: string;
}

/** @param args of `kaon dev` */
export async function startBullmqBed(args: readonly string[]): Promise<BullmqBed> {
  const cluster = await startClusterBed(args);
  const directory = join(cluster.directory, 'jobs');
  mkdirSync(directory);
  chmodSync(directory, 0o777);
  const socketPath = cluster.redis.replace('unix://', '');
  const connections = new Set<Redis>();
  const connect = (path = socketPath): Redis => {
    const redis = new Redis({ path, maxRetriesPerRequest: null });
    connections.add(redis);
    return redis;
  };
  const shared = new Map<string, Redis>();
  const sharedTo = (path = socketPath): Redis => {
    const redis = shared.get(path) ?? connect(path);
    shared.set(path, redis);
    return redis;
  };
  const others: RedisBed[] = [];
  const children = new Set<SchedulerChild>();
  const opened: { close(): Promise<unknown> }[] = [];
  const open = <T extends { close(): Promise<unknown> }>(made: T): T => {
    opened.push(made);
    return made;
  };
  return {
    cluster,
    socketPath,
    directory,
    scheduler: async (...given) => {
      const child = await startScheduler(cluster, given);
      children.add(child);
      return child;
    },
    queue: (name, { prefix, socketPath: path } = {}) =>
      open(
        new Queue(name, { connection: sharedTo(path), ...(prefix !== undefined && { prefix }) }),
      ),
    events: async (name, { prefix, socketPath: path } = {}) => {
      const from = prefix === undefined ? {} : { prefix };
      const events = open(
        new QueueEvents(name, { connection: connect(path), lastEventId: '0-0', ...from }),
      );
      await events.waitUntilReady();
      return events;
    },
    flows: () => open(new FlowProducer({ connection: sharedTo() })),
    otherRedis: async () => {
      const redis = await startRedisBed();
      others.push(redis);
      return redis;
    },
    file: (name, text) => {
      const path = join(directory, name);
      writeFileSync(path, text);
      return path;
    },
    has: (name) => existsSync(join(directory, name)),
    lines: (name) => {
      const path = join(directory, name);
      if (!existsSync(path)) return [];
      return readFileSync(path, 'utf8')
        .split('\n')
        .filter((line) => line !== '');
    },
    stop: async () => {
      await Promise.all([...children].map((child) => child.stop('SIGKILL')));
      await Promise.allSettled(opened.map((each) => each.close()));
      for (const redis of connections) redis.disconnect();
      await Promise.all(others.map((redis) => redis.stop()));
      await cluster.stop();
    },
  };
}

async function startScheduler(
  cluster: ClusterBed,
  args: readonly string[],
): Promise<SchedulerChild> {
  const running = cluster.start('bullmq', '--log-level', 'info', ...args);
  const early = await Promise.race([running.seen('bullmq.started'), running.ended]);
  if (early) throw new Error(`kaon bullmq ended with ${String(early.exitCode)}: ${early.stderr}`);
  return {
    pid: running.child.pid ?? 0,
    printed: running.printed,
    seen: running.seen,
    stop: (signal = 'SIGTERM') => stop(running, signal),
  };
}

async function stop({ child, ended }: Running, signal: NodeJS.Signals): Promise<number | null> {
  if (child.exitCode === null && child.signalCode === null) child.kill(signal);
  return (await ended).exitCode;
}

/** What nobody has seen after so long is not coming, milliseconds. */
const PATIENCE_MS = 90_000;

/** Waits for a fact; one that does not come is an error, so that no test goes on after its end. */
export function until(holds: () => boolean | Promise<boolean>, what = 'it'): Promise<void> {
  return eventually(what, async () => holds(), PATIENCE_MS);
}

/** Waits until a job has its last end. @returns the job as it is then */
export async function ended(
  queue: Queue,
  { id = '' }: { readonly id?: string | undefined },
): Promise<Job> {
  let found: Job | undefined;
  await until(async () => {
    found = await queue.getJob(id);
    return found?.finishedOn !== undefined;
  }, `end of job ${id} of ${queue.name}`);
  return found as Job;
}

/** Waits until a job is in this state. */
export function isNow(
  queue: Queue,
  { id = '' }: { readonly id?: string | undefined },
  state: string,
): Promise<void> {
  return until(
    async () => (await queue.getJobState(id)) === state,
    `job ${id} of ${queue.name} ${state}`,
  );
}

/** How many ran at once at most, by lines `+ID` and `-ID` that they wrote when they began and ended. */
export function mostAtOnce(lines: readonly string[]): number {
  let now = 0;
  let most = 0;
  for (const line of lines) {
    now += line.startsWith('+') ? 1 : -1;
    most = Math.max(most, now);
  }
  return most;
}
