/**
 * Processors of applications on a real cluster: what they return, throw, say and want of their job arrives in BullMQ as if a
 * `Worker` had called them, and they are held to limits and ended as no `Worker` could.
 */
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { Job, JobsOptions, Queue } from 'bullmq';
import { Worker } from 'bullmq';
import { Redis } from 'ioredis';
import { cancelJob } from '../../schedulers/bullmq/index.ts';
import { bedReason } from '../beds/available.ts';
import type { BullmqBed } from '../beds/bullmq.ts';
import { ended, isNow, startBullmqBed, until } from '../beds/bullmq.ts';
import { crash, giveModules, ONCE, runsOf } from '../beds/bullmq-faults.ts';

const reason = bedReason('systemd') ?? bedReason('redis');
const suite = reason === undefined ? describe : describe.skip;

const TEST_TIMEOUT_MS = 120_000;
const SMALL = ['--cpus', '0.2', '--mem', '96M', '--warm', '2'];
/** More than an answer of a call that travels in one piece. */
const LARGE_CHARS = 200_000;
const RATE_LIMIT_MS = 1500;

/** An application's, as it would be written for `new Worker(name, file)`: nothing in it knows of Kaon. */
const APPLICATION = `
import { UnrecoverableError } from 'bullmq';
export default async function work(job) {
  await job.updateProgress(job.data.parts);
  for (const part of job.data.parts) await job.log('part ' + part);
  if (job.name === 'breaks') throw new RangeError('no part ' + job.attemptsMade);
  if (job.name === 'gives-up') throw new UnrecoverableError('never');
  await job.updateData({ ...job.data, done: true });
  await job.updateProgress({ percent: 100 });
  return { name: job.name, sum: job.data.parts.reduce((a, b) => a + b, 0), at: job.attemptsMade };
}
`;

/** One function for each name of a job. */
const WORK = `
import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { DelayedError, Queue, RateLimitError, WaitingChildrenError } from 'bullmq';

interface Job {
  readonly id: string;
  readonly name: string;
  readonly queueName: string;
  readonly data: any;
  readonly attemptsMade: number;
  readonly [call: string]: any;
}
type Work = (job: Job, token: string, signal: AbortSignal) => unknown;

const until = async (path: string): Promise<void> => {
  while (!existsSync(path)) await sleep(20);
};
const queueOf = (job: Job, name: string): Queue =>
  new Queue(name, { connection: { path: job.data.redis } });

const works: Record<string, Work> = {
  value: (job) => ({ data: job.data, id: job.id, name: job.name, made: job.attemptsMade }),
  nothing: () => undefined,
  pid: () => process.pid,
  told: async (job) => {
    await job.log('first');
    await job.updateProgress(10);
    await job.log('second');
    await job.updateProgress({ step: 2 });
    await job.updateData({ ...job.data, changed: true });
    return job.data;
  },
  throws: (job) => {
    throw new TypeError('broken ' + job.attemptsMade);
  },
  child: async (job) => {
    if (job.data.gate) await until(job.data.gate);
    return job.data.value;
  },
  parent: (job) => job.getChildrenValues(),
  later: async (job, token) => {
    if (job.data.isLater) return 'later';
    await job.updateData({ isLater: true });
    await job.moveToDelayed(Date.now() + 300, token);
    throw new DelayedError();
  },
  grows: async (job, token) => {
    if (job.data.hasChildren !== true) {
      const children = queueOf(job, job.queueName);
      const parent = { id: job.id, queue: 'bull:' + job.queueName };
      await children.add('child', { value: 42, gate: job.data.childGate }, { parent });
      await children.close();
      await job.updateData({ ...job.data, hasChildren: true });
      if (await job.moveToWaitingChildren(token)) {
        if (job.data.gate) {
          await until(job.data.gate);
          await job.log('has waited');
        }
        throw new WaitingChildrenError();
      }
    }
    return Object.values(await job.getChildrenValues());
  },
  limited: async (job) => {
    const path = job.data.flag;
    if (existsSync(path)) return Date.now() - Number(readFileSync(path, 'utf8'));
    appendFileSync(path, String(Date.now()));
    const queue = queueOf(job, job.queueName);
    await queue.rateLimit(job.data.limitMs);
    await queue.close();
    throw new RateLimitError();
  },
  eats: () => {
    const kept = [];
    for (;;) kept.push(Buffer.alloc(1_048_576, 1));
  },
  loops: () => {
    for (;;);
  },
  busy: () => {
    const before = process.cpuUsage();
    const start = performance.now();
    while (performance.now() - start < 2000);
    const { user, system } = process.cpuUsage(before);
    return (user + system) / 1000;
  },
  waits: async (job) => {
    appendFileSync(job.data.runs, 'START ' + job.id + ' ' + process.pid + '\\n');
    await job.updateProgress('waits');
    await until(job.data.gate);
    for (const row of [1, 2, 3]) await job.log('row ' + row);
    await job.updateProgress('nearly done');
    appendFileSync(job.data.said, '');
    await until(job.data.end);
    appendFileSync(job.data.runs, 'END ' + job.id + ' ' + process.pid + '\\n');
    return 'done';
  },
  listens: (job, _token, signal) =>
    new Promise((_resolve, reject) => {
      signal.addEventListener('abort', () => {
        appendFileSync(job.data.heard, String(signal.reason));
        reject(new Error('stopped'));
      });
      void job.updateProgress('listens');
    }),
  length: (job) => job.data.text.length,
  long: (job) => 'y'.repeat(job.data.length),
  exits: () => process.exit(3),
};

export default (job: Job, token: string, signal: AbortSignal): unknown =>
  (works[job.name] as Work)(job, token, signal);
`;

suite(`processors${reason === undefined ? '' : ` (skipped: ${reason})`}`, () => {
  let bed: BullmqBed;
  let redis: Redis;
  let queue: Queue;
  let file: string;

  beforeAll(async () => {
    bed = await startBullmqBed(['--resources', 'cpus=8,mem=4G']);
    redis = new Redis(bed.socketPath, { maxRetriesPerRequest: null });
    giveModules(bed.directory);
    file = bed.file('work.ts', WORK);
    await bed.scheduler('--queue', 'work', '--processor', file, ...SMALL);
    queue = bed.queue('work');
  }, 240_000);
  afterAll(async () => {
    redis.disconnect();
    await bed.stop();
  }, 120_000);

  const add = (name: string, data: object = {}, opts?: JobsOptions): Promise<Job> =>
    queue.add(name, data, opts);
  const run = async (name: string, data: object = {}, opts?: JobsOptions): Promise<Job> =>
    ended(queue, await add(name, data, opts));
  const path = (name: string): string => join(bed.directory, name);
  const hasProgress = (of: Queue, { id = '' }: Job, progress: unknown): Promise<void> =>
    until(async () => (await of.getJob(id))?.progress === progress, `progress of ${id}`);

  /** A child that has ended before its parent asks is none that it waits for. */
  const waitsForChild = async (id: string, childGate: string): Promise<void> => {
    await isNow(queue, { id }, 'waiting-children');
    await writeFile(childGate, '');
  };

  describe('what a job is and says', () => {
    test(
      'is as in a sandboxed processor, and its result is the value of the job',
      async () => {
        const job = await run('value', { a: [1, { b: null }] }, { jobId: 'own' });
        expect(job.returnvalue).toEqual({
          data: { a: [1, { b: null }] },
          id: 'own',
          name: 'value',
          made: 0,
        });
        expect((await run('nothing')).returnvalue).toBeNull();
      },
      TEST_TIMEOUT_MS,
    );

    test(
      'is seen as progress, events, logs and data',
      async () => {
        const events = await bed.events('work');
        const heard: unknown[] = [];
        events.on('progress', ({ jobId, data }) => {
          if (jobId === 'told') heard.push(data);
        });
        const job = await add('told', { a: 1 }, { jobId: 'told' });
        const done = await ended(queue, job);
        expect(done.returnvalue).toEqual({ a: 1, changed: true });
        expect(done.data).toEqual({ a: 1, changed: true });
        expect(done.progress).toEqual({ step: 2 });
        expect((await queue.getJobLogs(job.id ?? '')).logs).toEqual(['first', 'second']);
        await until(() => heard.some((each) => typeof each === 'object'), 'its last progress');
        expect(heard.at(-1)).toEqual({ step: 2 });
      },
      TEST_TIMEOUT_MS,
    );

    test(
      'is lost neither when data are large nor when the result is',
      async () => {
        const text = 'ü'.repeat(LARGE_CHARS);
        expect((await run('length', { text })).returnvalue).toBe(LARGE_CHARS);
        const { returnvalue } = await run('long', { length: LARGE_CHARS });
        expect((returnvalue as string).length).toBe(LARGE_CHARS);
      },
      TEST_TIMEOUT_MS,
    );

    test(
      'comes from a warm process that has run other jobs',
      async () => {
        const pids = new Set<unknown>();
        for (let index = 0; index < 5; index += 1) pids.add((await run('pid')).returnvalue);
        expect(pids.size).toBeLessThan(5);
      },
      TEST_TIMEOUT_MS,
    );
  });

  describe('an error', () => {
    test(
      'is the reason of a failure with its stack, attempt by attempt',
      async () => {
        const job = await run('throws', {}, { attempts: 2 });
        expect(job.failedReason).toMatch(/^broken 1\b/);
        expect(job.attemptsMade).toBe(2);
        expect(job.stacktrace).toHaveLength(2);
        expect(job.stacktrace?.[0]).toMatch(/^TypeError: broken 0\n {4}at .*throws/);
      },
      TEST_TIMEOUT_MS,
    );

    test(
      'of a process that ends is its exit code, and others go on',
      async () => {
        const { failedReason } = await run('exits');
        expect(failedReason).toBe('exited with code 3');
        expect((await run('value')).failedReason).toBeUndefined();
      },
      TEST_TIMEOUT_MS,
    );
  });

  describe('a processor that wants something of BullMQ', () => {
    test(
      'has the values of the children of a flow',
      async () => {
        const flow = await bed.flows().add({
          name: 'parent',
          queueName: 'work',
          children: [1, 2].map((value) => ({ name: 'child', queueName: 'work', data: { value } })),
        });
        const { returnvalue } = await ended(queue, flow.job);
        expect(Object.values(returnvalue as object).sort()).toEqual([1, 2]);
      },
      TEST_TIMEOUT_MS,
    );

    test(
      'delays its job, which runs again at its time and has lost no attempt',
      async () => {
        const job = await run('later', {}, { attempts: 1 });
        expect({ value: job.returnvalue as unknown, made: job.attemptsMade }).toEqual({
          value: 'later',
          made: 1,
        });
        expect(job.attemptsStarted).toBe(2);
      },
      TEST_TIMEOUT_MS,
    );

    test(
      'adds a child and waits for it',
      async () => {
        const childGate = path('grown');
        const { id = '' } = await add('grows', { redis: bed.socketPath, childGate });
        await waitsForChild(id, childGate);
        expect((await ended(queue, { id })).returnvalue).toEqual([42]);
      },
      TEST_TIMEOUT_MS,
    );

    test(
      'is still there when its child has ended and its job is taken again',
      async () => {
        const [gate, childGate] = [path('lingers'), path('lingers-child')];
        const { id = '' } = await add('grows', { redis: bed.socketPath, gate, childGate });
        await waitsForChild(id, childGate);
        await until(
          async () => (await queue.getJob(id))?.attemptsStarted === 2,
          'its second start',
        );
        await writeFile(gate, '');
        expect((await ended(queue, { id })).returnvalue).toEqual([42]);
        const logs = async (): Promise<string[]> => (await queue.getJobLogs(id)).logs;
        await until(async () => (await logs()).length > 0, 'what the first process logs');
        expect(await logs()).toEqual(['has waited']);
      },
      TEST_TIMEOUT_MS,
    );

    test(
      'limits the rate of its queue, and its job runs again not before the end of that',
      async () => {
        const job = await run('limited', {
          ...{ redis: bed.socketPath, flag: path('limited'), limitMs: RATE_LIMIT_MS },
        });
        expect(job.attemptsMade).toBe(1);
        expect(job.returnvalue).toBeGreaterThanOrEqual(RATE_LIMIT_MS - 5);
      },
      TEST_TIMEOUT_MS,
    );
  });

  describe('limits', () => {
    test(
      'of memory end the job that is beyond them, and no other one of the same executor',
      async () => {
        const files = filesOf('beside');
        const beside = await add('waits', files.data);
        await hasProgress(queue, beside, 'waits');
        const { failedReason } = await run('eats', { kaon: { mem: '64M' } });
        expect(failedReason).toMatch(/^killed by the kernel: memory limit 64M, peak 6[34]/);
        files.open('gate');
        files.open('end');
        expect((await ended(queue, beside)).returnvalue).toBe('done');
        expect(runsOf(bed.lines('beside.runs'), beside)).toEqual(ONCE);
      },
      TEST_TIMEOUT_MS,
    );

    test(
      'of CPU hold a busy one back',
      async () => {
        const { returnvalue } = await run('busy', { kaon: { cpus: 0.1 } });
        // Of two seconds it may have a tenth.
        expect(returnvalue).toBeLessThan(1000);
      },
      TEST_TIMEOUT_MS,
    );

    test(
      'of time end an infinite loop, which counts as an attempt',
      async () => {
        const kaon = { timeout: 300, killGrace: 100 };
        const { failedReason, attemptsMade } = await run('loops', { kaon }, { attempts: 2 });
        expect(failedReason).toMatch(/^ran longer than its limit of 300ms/);
        expect(attemptsMade).toBe(2);
      },
      TEST_TIMEOUT_MS,
    );
  });

  describe('a job that is cancelled', () => {
    test(
      'hears it by its signal',
      async () => {
        // It has all the time that it needs to hear it.
        const data = { heard: path('heard'), kaon: { killGrace: '60s' } };
        const job = await add('listens', data, { attempts: 3 });
        await hasProgress(queue, job, 'listens');
        await cancelJob(redis, { queue: 'work', jobId: job.id ?? '', reason: 'enough' });
        const { failedReason, attemptsMade } = await ended(queue, job);
        expect({ failedReason, attemptsMade }).toEqual({
          failedReason: 'cancelled: enough',
          attemptsMade: 1,
        });
        expect(bed.lines('heard')).toEqual(['cancelled']);
      },
      TEST_TIMEOUT_MS,
    );

    test(
      'ends in an infinite loop, too, within its grace period',
      async () => {
        const job = await add('loops', { kaon: { killGrace: 100 } }, { attempts: 3 });
        await isNow(queue, job, 'active');
        await cancelJob(redis, { queue: 'work', jobId: job.id ?? '' });
        const { failedReason, attemptsMade } = await ended(queue, job);
        expect({ failedReason, attemptsMade }).toEqual({
          failedReason: 'cancelled',
          attemptsMade: 1,
        });
      },
      TEST_TIMEOUT_MS,
    );
  });

  test(
    'a processor goes on while kaon bullmq is killed, and nothing that it says then is lost or comes twice',
    async () => {
      const args = ['--name', 'away', '--queue', 'away', '--processor', file, ...SMALL];
      const first = await bed.scheduler(...args);
      const away = bed.queue('away');
      const files = filesOf('away');
      const job = await away.add('waits', files.data);
      await hasProgress(away, job, 'waits');
      await crash(first, redis, 'away');
      files.open('gate');
      await until(() => existsSync(path('away.said')), 'what it says');
      await bed.scheduler(...args);
      await hasProgress(away, job, 'nearly done');
      expect(await job.getState()).toBe('active');
      files.open('end');
      const { returnvalue, attemptsMade } = await ended(away, job);
      expect({ returnvalue, attemptsMade }).toEqual({ returnvalue: 'done', attemptsMade: 1 });
      const { logs } = await away.getJobLogs(job.id ?? '');
      expect(logs).toEqual(['row 1', 'row 2', 'row 3']);
      expect(runsOf(bed.lines('away.runs'), job)).toEqual(ONCE);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'a processor that ends while no kaon bullmq is there has all that it said told by the next one',
    async () => {
      const args = ['--name', 'gone', '--queue', 'gone', '--processor', file, ...SMALL];
      const first = await bed.scheduler(...args);
      const gone = bed.queue('gone');
      const files = filesOf('gone');
      const job = await gone.add('waits', files.data);
      await hasProgress(gone, job, 'waits');
      await crash(first, redis, 'gone');
      files.open('gate');
      files.open('end');
      await until(() => runsOf(bed.lines('gone.runs'), job).ended === 1, 'its end');
      await bed.scheduler(...args);
      const done = await ended(gone, job);
      expect(done.returnvalue).toBe('done');
      expect(done.progress).toBe('nearly done');
      const { logs } = await gone.getJobLogs(job.id ?? '');
      expect(logs).toEqual(['row 1', 'row 2', 'row 3']);
      expect(runsOf(bed.lines('gone.runs'), job)).toEqual(ONCE);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'a processor that the nodes have is called where it is',
    async () => {
      const source = 'export default async (job) => [import.meta.url, job.data];';
      const onNodes = bed.file('on-nodes.mjs', source);
      const args = ['--name', 'nodes', '--queue', 'nodes', '--processor-on-nodes', onNodes];
      await bed.scheduler(...args, ...SMALL);
      const nodes = bed.queue('nodes');
      const job = await ended(nodes, await nodes.add('x', { a: 1 }));
      expect(job.returnvalue).toEqual([`file://${onNodes}`, { a: 1 }]);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'as another user a processor has warm processes, too',
    async () => {
      const args = ['--name', 'user', '--queue', 'user', '--processor', file, '--user', 'nobody'];
      await bed.scheduler(...args, ...SMALL);
      const user = bed.queue('user');
      const pids = new Set<unknown>();
      for (let index = 0; index < 5; index += 1) {
        pids.add((await ended(user, await user.add('pid', {}))).returnvalue);
      }
      expect(pids.size).toBeLessThan(3);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'the file of an application does the same for a Worker of BullMQ and for Kaon',
    async () => {
      const application = bed.file('application.mjs', APPLICATION);
      const connection = new Redis(bed.socketPath, { maxRetriesPerRequest: null });
      const worker = new Worker('by-worker', application, { connection });
      const byWorker = await outcomes(bed.queue('by-worker'));
      await worker.close();
      connection.disconnect();
      const args = ['--name', 'by-kaon', '--queue', 'by-kaon', '--processor', application];
      await bed.scheduler(...args, ...SMALL);
      const byKaon = await outcomes(bed.queue('by-kaon'));
      expect(byKaon).toEqual(byWorker);
      expect(byWorker.map(({ state }) => state)).toEqual(['completed', 'failed', 'failed']);
    },
    TEST_TIMEOUT_MS,
  );

  /** Of one job that waits: where it writes, and what it waits for. */
  function filesOf(name: string): {
    readonly data: Record<string, string>;
    readonly open: (gate: 'gate' | 'end') => void;
  } {
    const names = ['runs', 'gate', 'said', 'end'];
    return {
      data: Object.fromEntries(names.map((each) => [each, path(`${name}.${each}`)])),
      open: (gate) => {
        bed.file(`${name}.${gate}`, '');
      },
    };
  }

  /** What jobs of the application came to, as far as BullMQ has it. */
  async function outcomes(of: Queue): Promise<Record<string, unknown>[]> {
    const found = [];
    for (const name of ['works', 'breaks', 'gives-up']) {
      const job = await ended(of, await of.add(name, { parts: [1, 2, 3] }, { attempts: 2 }));
      const { returnvalue, progress, data, attemptsMade, attemptsStarted } = job;
      // The last attempt that fails says so, which BullMQ does not.
      const failedReason = job.failedReason?.replace(/ \(attempt 2 of 2, not tried again\)$/, '');
      found.push({
        ...{ returnvalue, progress, data, attemptsMade, attemptsStarted, failedReason },
        state: await job.getState(),
        logs: (await of.getJobLogs(job.id ?? '')).logs,
        errors: job.stacktrace?.map((stack) => stack.split(/ \(attempt|\n/)[0]),
      });
    }
    return found;
  }
});
