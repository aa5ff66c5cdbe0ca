/** The producer's side of the BullMQ benchmark: one queue, jobs added to it, and when each of them was completed. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Queue, QueueEvents } from 'bullmq';
import { loadBullmq } from './bullmq-baselines.ts';

/** How often the number of completed jobs is looked at, milliseconds: half a per cent of the shortest round. */
const LOOK_MS = 5;
/** No round and no single job takes so long; then something is wrong. */
const GIVE_UP_MS = 60_000;
/** Jobs that travel to Redis in one call. */
const BULK = 500;

/** What became of a backlog. */
export interface Backlog {
  readonly perSecond: number;
  /** From `add` to completion of each job, milliseconds; most of it is waiting for the others. */
  readonly latenciesMs: readonly number[];
}

/** A queue with somebody at the other end of it. */
export class BenchQueue {
  readonly #queue: Queue;
  readonly #events: QueueEvents;
  /** Jobs that are awaited one by one, by id. */
  readonly #awaited = new Map<string, { done: () => void; fail: (error: Error) => void }>();
  readonly #name: string;

  private constructor(queue: Queue, events: QueueEvents, name: string) {
    this.#queue = queue;
    this.#events = events;
    this.#name = name;
    events.on('completed', ({ jobId }) => this.#awaited.get(jobId)?.done());
    events.on('failed', ({ jobId, failedReason }) =>
      this.#awaited.get(jobId)?.fail(new Error(`${name}: job ${jobId}: ${failedReason}`)),
    );
  }

  static async open(socketPath: string, name: string): Promise<BenchQueue> {
    const { Queue, QueueEvents } = loadBullmq();
    const connection = { path: socketPath };
    const queue = new Queue(name, { connection, skipWaitingForReady: false });
    const events = new QueueEvents(name, { connection });
    await Promise.all([queue.waitUntilReady(), events.waitUntilReady()]);
    return new BenchQueue(queue, events, name);
  }

  /** Adds `count` jobs to the queue while it is paused, lets it go, and waits for all of them. */
  async runBacklog(count: number, data: object): Promise<Backlog> {
    await this.#queue.pause();
    for (let from = 0; from < count; from += BULK) {
      const size = Math.min(BULK, count - from);
      await this.#queue.addBulk(Array.from({ length: size }, () => ({ name: 'bench', data })));
    }
    const startedAtMs = Date.now();
    await this.#queue.resume();
    await this.#completed(count, startedAtMs + GIVE_UP_MS);
    const jobs = await this.#queue.getJobs(['completed'], 0, count - 1);
    const endedAtMs = Math.max(...jobs.map(({ finishedOn = NaN }) => finishedOn));
    const latenciesMs = jobs.map(({ finishedOn = NaN, timestamp }) => finishedOn - timestamp);
    await this.#queue.clean(0, 0, 'completed');
    return { perSecond: (count * 1000) / (endedAtMs - startedAtMs), latenciesMs };
  }

  /** One job on a queue that is empty: milliseconds from the call of `add` to the event that says that it is completed. */
  async runOne(data: object): Promise<number> {
    const jobId = `one-${String(performance.now())}`;
    const giveUp = new AbortController();
    const completed = new Promise<void>((done, fail) => {
      this.#awaited.set(jobId, { done, fail });
    });
    const late = sleep(GIVE_UP_MS, undefined, { signal: giveUp.signal }).then(() => {
      throw new Error(`${this.#name}: job ${jobId} is not completed`);
    });
    late.catch(() => undefined); // The abort, when the job was faster.
    const addedAtMs = performance.now();
    await this.#queue.add('bench', data, { jobId, removeOnComplete: true });
    await Promise.race([completed, late]);
    const tookMs = performance.now() - addedAtMs;
    giveUp.abort();
    this.#awaited.delete(jobId);
    return tookMs;
  }

  async close(): Promise<void> {
    await this.#events.close();
    await this.#queue.obliterate({ force: true });
    await this.#queue.close();
  }

  async #completed(count: number, deadlineMs: number): Promise<void> {
    for (;;) {
      const { completed = 0, failed = 0 } = await this.#queue.getJobCounts('completed', 'failed');
      if (completed >= count) return;
      if (failed > 0) {
        const [job] = await this.#queue.getFailed(0, 0);
        throw new Error(`${this.#name}: ${String(failed)} failed: ${job?.failedReason ?? ''}`);
      }
      if (Date.now() > deadlineMs) {
        throw new Error(`${this.#name}: ${String(completed)} of ${String(count)} are completed`);
      }
      await sleep(LOOK_MS);
    }
  }
}
