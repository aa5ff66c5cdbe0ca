/**
 * What users of BullMQ know goes on working when `kaon bullmq` runs their jobs: the real library on one side, a real cluster
 * on the other. Each test has queues of its own.
 */
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { createBullBoard } from '@bull-board/api';
import { BullMQAdapter } from '@bull-board/api/bullMQAdapter';
import { HonoAdapter } from '@bull-board/hono';
import type { Job, JobsOptions, Queue } from 'bullmq';
import type { JobsOptions as OldJobsOptions } from 'bullmq5';
import { FlowProducer as OldFlows, Queue as OldQueue } from 'bullmq5';
import { bedReason } from '../beds/available.ts';
import type { BullmqBed, SchedulerChild } from '../beds/bullmq.ts';
import { ended, isNow, mostAtOnce, startBullmqBed, until } from '../beds/bullmq.ts';

const reason = bedReason('systemd') ?? bedReason('redis');
const suite = reason === undefined ? describe : describe.skip;

/** What the node has; one job can hold all of it. */
const CPUS = 4;
const SMALL = ['--cpus', '0.1', '--mem', '32M'];
/** Takes memory until there is none. */
const EAT = 'tail /dev/zero';

const QUEUES = [
  ...['values', 'failures', 'memory', 'attempts', 'poison', 'strategy', 'delayed', 'priority'],
  ...['lifo', 'global-rate', 'global-concurrency', 'paused', 'full', 'full-later', 'parents'],
  ...['children', 'dedup', 'logs', 'tail', 'events', 'metrics', 'removed', 'waited', 'invalid'],
  ...['old', 'old-children', 'board', 'groups', 'retried', 'changed'],
  'stalled',
] as const;

/**
 * Rows of output in the logs of a job. One that has run for a second was followed, which is said in a row, and then a row may
 * be there twice.
 */
function outputOf(logs: readonly string[]): string[] {
  const output = logs.filter((row) => !row.startsWith('kaon: '));
  return (output.length === logs.length ? output : [...new Set(output)]).sort();
}

/** What bull-board answers, as far as it is looked at here. */
interface ShownJob {
  readonly id?: string;
  readonly stacktrace: readonly string[];
}
interface ShownQueue {
  readonly jobs: readonly ShownJob[];
}

suite(`kaon bullmq${reason === undefined ? '' : ` (skipped: ${reason})`}`, () => {
  let bed: BullmqBed;

  beforeAll(async () => {
    bed = await startBullmqBed(['--resources', `cpus=${String(CPUS)},mem=2G`]);
    await bed.scheduler('--queue', QUEUES.join(','), ...SMALL);
  }, 240_000);
  afterAll(async () => {
    await bed.stop();
  }, 120_000);

  /** Of jobs that wait for the test; one that fails must not leave the node full. */
  const gates = new Set<string>();
  /** Schedulers of one test. */
  const extras = new Set<SchedulerChild>();
  afterEach(async () => {
    for (const name of gates) bed.file(`${name}.gate`, '');
    gates.clear();
    await Promise.all([...extras].map((child) => child.stop()));
    extras.clear();
  });
  const scheduler = async (...args: string[]): Promise<SchedulerChild> => {
    const child = await bed.scheduler(...args, ...SMALL);
    extras.add(child);
    return child;
  };

  const queueOf = (name: (typeof QUEUES)[number]): Queue => bed.queue(name);
  const run = (queue: Queue, command: string, opts?: JobsOptions): Promise<Job> =>
    queue.add('command', { command }, opts);
  /** A command that ends when a file is there. @returns it, and what lets it end */
  const gated = (name: string): { readonly command: string; readonly open: () => void } => {
    gates.add(name);
    return gate(name);
  };
  const gate = (name: string): { readonly command: string; readonly open: () => void } => ({
    command: `echo +$KAON_JOB_ID >> ${bed.directory}/${name}.order; until [ -e ${bed.directory}/${name}.gate ]; do sleep 0.05; done; echo -$KAON_JOB_ID >> ${bed.directory}/${name}.order`,
    open: () => bed.file(`${name}.gate`, ''),
  });
  /** A command that says when it begins and ends. */
  const told = (name: string, what = 'true'): string =>
    `echo +$KAON_JOB_NAME >> ${bed.directory}/${name}; ${what}; echo -$KAON_JOB_NAME >> ${bed.directory}/${name}`;

  /** Takes so much of the node until it is let go. */
  const fillNode = async (name: string, cpus: number): Promise<() => Promise<void>> => {
    const queue = queueOf('full');
    const { command, open } = gated(name);
    const hog = await queue.add(name, { command, cpus });
    await isNow(queue, hog, 'active');
    return async () => {
      open();
      await ended(queue, hog);
    };
  };

  describe('the end of a job', () => {
    test('has a value: exit code, output, node and what it used', async () => {
      const queue = queueOf('values');
      const { returnvalue } = await ended(queue, await run(queue, 'echo hello'));
      expect(returnvalue).toEqual({
        exitCode: 0,
        stdout: 'hello\n',
        node: expect.any(String),
        memoryPeakBytes: expect.any(Number),
        cpuMs: expect.any(Number),
      });
    });

    test('is seen by whoever waits with waitUntilFinished', async () => {
      const queue = queueOf('waited');
      const events = await bed.events('waited');
      const done = await run(queue, 'echo waited');
      await expect(done.waitUntilFinished(events)).resolves.toMatchObject({ stdout: 'waited\n' });
      const failing = await run(queue, 'exit 3');
      await expect(failing.waitUntilFinished(events)).rejects.toThrow('exited with code 3');
    });

    test('that failed says the exit code, and the stack has the last lines and the certificate', async () => {
      const queue = queueOf('failures');
      const job = await ended(queue, await run(queue, 'echo one; echo two >&2; exit 7'));
      expect(await job.getState()).toBe('failed');
      expect(job.failedReason).toBe('exited with code 7');
      const [stack = ''] = job.stacktrace ?? [];
      expect(stack.split('\n').slice(0, 3)).toEqual([
        'Error: exited with code 7',
        '    stdout: one',
        '    stderr: two',
      ]);
      expect(stack).toMatch(/ {4}task=failures\.1\.\S+ state=TASK_FAILED .*exitCode=7/);
      const { logs } = await queue.getJobLogs(job.id ?? '');
      expect(outputOf(logs)).toEqual(['stderr: two', 'stdout: one']);
    });

    test('that was a memory limit says which, and at what peak', async () => {
      const queue = queueOf('memory');
      const job = await ended(queue, await run(queue, EAT));
      expect(job.failedReason).toMatch(/^killed by the kernel: memory limit 32M, peak 3[12]/);
      expect(job.stacktrace?.[0]).toMatch(/memoryPeakBytes=\d+/);
    });
  });

  describe('attempts', () => {
    test('are made with a fixed back-off, and the last failure says that it was the last', async () => {
      const queue = queueOf('attempts');
      const events = await bed.events('attempts');
      const delays: unknown[] = [];
      events.on('delayed', ({ delay }) => delays.push(delay));
      const job = await ended(
        queue,
        await run(queue, 'exit 1', { attempts: 3, backoff: { type: 'fixed', delay: 200 } }),
      );
      expect(job.attemptsMade).toBe(3);
      expect(job.failedReason).toBe('exited with code 1 (attempt 3 of 3, not tried again)');
      expect(job.stacktrace).toHaveLength(3);
      await until(() => delays.length >= 2);
      expect(delays).toHaveLength(2);
    });

    test('end with the first that succeeds, after exponential back-off', async () => {
      const queue = queueOf('attempts');
      const command = `echo x >> ${bed.directory}/tries; [ $(wc -l < ${bed.directory}/tries) = 3 ]`;
      const opts = { attempts: 5, backoff: { type: 'exponential', delay: 100 } };
      const job = await ended(queue, await run(queue, command, opts));
      expect(await job.getState()).toBe('completed');
      expect({ made: job.attemptsMade, started: job.attemptsStarted }).toEqual({
        made: 3,
        started: 3,
      });
    });

    test('of a job that always runs out of memory are no more than it may have', async () => {
      const queue = queueOf('poison');
      const job = await ended(
        queue,
        await run(queue, `echo x >> ${bed.directory}/eaten; ${EAT}`, { attempts: 2 }),
      );
      expect(job.failedReason).toMatch(/memory limit 32M.*\(attempt 2 of 2, not tried again\)$/);
      expect(bed.lines('eaten')).toHaveLength(2);
    });

    test('with a back-off strategy that nobody knows are none, and the reason names it', async () => {
      const queue = queueOf('strategy');
      const opts = { attempts: 3, backoff: { type: 'mine', delay: 1 } };
      const job = await ended(queue, await run(queue, 'exit 1', opts));
      expect(job.failedReason).toMatch(
        /^exited with code 1; not tried again: Kaon knows no back-off strategy of that name .*mine/,
      );
    });

    test('can be made again by the producer after the end', async () => {
      const queue = queueOf('retried');
      const gate = `${bed.directory}/retried.gate`;
      const first = await ended(queue, await run(queue, `[ -e ${gate} ]`));
      expect(await first.getState()).toBe('failed');
      bed.file('retried.gate', '');
      await first.retry('failed');
      await isNow(queue, first, 'completed');
    });
  });

  describe('order and time', () => {
    test('a delayed job waits for its time, and is delayed until then', async () => {
      const queue = queueOf('delayed');
      const late = await run(queue, 'true', { delay: 3_600_000 });
      const { processedOn = 0, timestamp } = await ended(
        queue,
        await run(queue, 'true', { delay: 700 }),
      );
      expect(processedOn - timestamp).toBeGreaterThanOrEqual(700);
      expect(await late.getState()).toBe('delayed');
      await late.remove();
    });

    test('of jobs that wait the one with the highest priority runs first, and those without before', async () => {
      const queue = queueOf('priority');
      await queue.pause();
      await queue.setGlobalConcurrency(1);
      for (const [name, priority] of [
        ['low', 9],
        ['none', 0],
        ['high', 1],
        ['low-2', 9],
      ] as const) {
        await queue.add(name, { command: told('priority') }, { priority });
      }
      await queue.resume();
      await until(() => bed.lines('priority').length === 8);
      expect(bed.lines('priority').filter((line) => line.startsWith('+'))).toEqual([
        ...['+none', '+high', '+low', '+low-2'],
      ]);
    });

    test('with lifo the one that came last runs first', async () => {
      const queue = queueOf('lifo');
      await queue.pause();
      await queue.setGlobalConcurrency(1);
      for (const name of ['a', 'b', 'c']) {
        await queue.add(name, { command: told('lifo') }, { lifo: true });
      }
      await queue.resume();
      await until(() => bed.lines('lifo').length === 6);
      expect(bed.lines('lifo').filter((line) => line.startsWith('+'))).toEqual(['+c', '+b', '+a']);
    });

    test('the global concurrency of a queue is kept, and used', async () => {
      const queue = queueOf('global-concurrency');
      await queue.setGlobalConcurrency(2);
      // The first one stays until a second one is there; what is more would be seen while they sleep.
      const both = `until [ $(grep -c '^+' ${bed.directory}/concurrency) -ge 2 ]; do sleep 0.05; done`;
      const jobs = await queue.addBulk(
        Array.from({ length: 6 }, (_none, index) => ({
          name: String(index),
          data: { command: told('concurrency', `${both}; sleep 0.3`) },
        })),
      );
      for (const job of jobs) await ended(queue, job);
      expect(mostAtOnce(bed.lines('concurrency'))).toBe(2);
    });

    test('the global rate limit of a queue is kept', async () => {
      const queue = queueOf('global-rate');
      await queue.setGlobalRateLimit(2, 1000);
      const jobs = await queue.addBulk(
        Array.from({ length: 5 }, () => ({ name: 'limited', data: { command: 'true' } })),
      );
      const ends = [];
      for (const job of jobs) ends.push(await ended(queue, job));
      const starts = ends.map(({ processedOn = 0 }) => processedOn).sort((a, b) => a - b);
      const [first = 0, , third = 0, , fifth = 0] = starts;
      // A start is dated before Redis counts it, so that a busy machine may bring two a little nearer to each other.
      expect(third - first).toBeGreaterThan(500);
      expect(fifth - third).toBeGreaterThan(500);
    });

    test('a paused queue starts nothing, and goes on when it is resumed', async () => {
      const queue = queueOf('paused');
      await queue.pause();
      const job = await run(queue, 'true');
      const other = queueOf('values');
      await ended(other, await run(other, 'true'));
      expect((await queue.getJobCounts('active', 'completed'))['active']).toBe(0);
      expect(await job.isCompleted()).toBe(false);
      await queue.resume();
      await isNow(queue, job, 'completed');
    });
  });

  describe('job schedulers', () => {
    test.each([
      ['every', { every: 300 }, 300],
      ['pattern', { pattern: '* * * * * *' }, 1000],
    ])(
      'with "%s" make their next jobs on time on a full cluster, and all of them run',
      async (how, repeat, stepMs) => {
        const queue = queueOf('full-later');
        const free = await fillNode(how, CPUS - 0.1);
        await queue.upsertJobScheduler(how, repeat, {
          name: how,
          data: { command: 'true', cpus: 0.2 },
        });
        await until(async () => (await queue.getWaitingCount()) >= 3);
        await queue.removeJobScheduler(how);
        const waiting = await queue.getWaiting();
        expect((await queue.getJobCounts('active', 'completed'))['active']).toBe(0);
        // The ids of such jobs are the times for which they were made.
        const times = waiting
          .map(({ id = '' }) => Number(id.split(':').at(-1)))
          .sort((a, b) => a - b);
        const [first = 0] = times;
        // BullMQ leaves out times that have gone by meanwhile, and two jobs never have the same one.
        expect(times.map((time) => (time - first) % stepMs)).toEqual(times.map(() => 0));
        await free();
        for (const job of waiting) await isNow(queue, job, 'completed');
      },
    );
  });

  describe('flows', () => {
    const childOf = (command: string, opts: JobsOptions = {}) => ({
      name: 'child',
      queueName: 'children',
      data: { command },
      opts,
    });
    const addFlow = async (children: ReturnType<typeof childOf>[]): Promise<Job> => {
      const data = { command: 'echo parent' };
      const { job } = await bed
        .flows()
        .add({ name: 'parent', queueName: 'parents', data, children });
      return job;
    };

    test('a parent runs after its children of another queue, and has their values', async () => {
      const parent = await addFlow([childOf('echo a'), childOf('echo b')]);
      const job = await ended(queueOf('parents'), parent);
      expect(job.returnvalue).toMatchObject({ stdout: 'parent\n' });
      const values = Object.values(await job.getChildrenValues<{ stdout: string }>());
      expect(values.map(({ stdout }) => stdout).sort()).toEqual(['a\n', 'b\n']);
    });

    test('a child that fails fails its parent with failParentOnFailure, and it does not run', async () => {
      const parent = await addFlow([childOf('exit 1', { failParentOnFailure: true })]);
      const job = await ended(queueOf('parents'), parent);
      expect(await job.getState()).toBe('failed');
      expect(job.failedReason).toMatch(/^child bull:children:\S+ failed$/);
      expect(job.processedOn === undefined || job.returnvalue === null).toBe(true);
    });

    test('a child that fails does not disturb its parent with ignoreDependencyOnFailure', async () => {
      const parent = await addFlow([
        childOf('exit 1', { ignoreDependencyOnFailure: true }),
        childOf('echo good'),
      ]);
      const job = await ended(queueOf('parents'), parent);
      expect(await job.getState()).toBe('completed');
      expect(Object.values(await job.getIgnoredChildrenFailures())).toEqual(['exited with code 1']);
      expect(Object.values(await job.getChildrenValues())).toMatchObject([{ stdout: 'good\n' }]);
    });

    test('a parent waits for its children while one of them is tried again', async () => {
      const flag = `${bed.directory}/child.flag`;
      const command = `[ -e ${flag} ] || { touch ${flag}; exit 1; }`;
      const parent = await addFlow([childOf(command, { attempts: 2, failParentOnFailure: true })]);
      expect(await (await ended(queueOf('parents'), parent)).getState()).toBe('completed');
    });
  });

  describe('deduplication', () => {
    test('a job like one that has not ended is not added, and after its end it is', async () => {
      const queue = queueOf('dedup');
      const { command, open } = gated('dedup');
      const opts = { deduplication: { id: 'simple' } };
      const first = await run(queue, command, opts);
      await isNow(queue, first, 'active');
      expect((await run(queue, command, opts)).id).toBe(first.id);
      open();
      await ended(queue, first);
      const next = await run(queue, 'true', opts);
      expect(next.id).not.toBe(first.id);
      await isNow(queue, next, 'completed');
    });

    test('with a ttl a job like one that has ended is not added before that time', async () => {
      const queue = queueOf('dedup');
      const opts = { deduplication: { id: 'ttl', ttl: 600_000 } };
      const first = await ended(queue, await run(queue, 'true', opts));
      expect((await run(queue, 'true', opts)).id).toBe(first.id);
    });

    test('with keepLastIfActive the last of those that came during a run follows it', async () => {
      const queue = queueOf('dedup');
      const { command, open } = gated('kept');
      const opts = { deduplication: { id: 'kept', keepLastIfActive: true } };
      const first = await run(queue, command, opts);
      await isNow(queue, first, 'active');
      for (const name of ['second', 'third']) {
        await queue.add(name, { command: told('kept') }, opts);
      }
      open();
      await until(() => bed.lines('kept').length === 2);
      expect(bed.lines('kept')).toEqual(['+third', '-third']);
    });
  });

  describe('what a dashboard shows', () => {
    test('logs have the output of a job while it runs, and all of it afterwards', async () => {
      const queue = queueOf('tail');
      const [middle, end] = [gated('tail'), gated('tail-end')];
      const job = await run(queue, `echo first; ${middle.command}; echo last; ${end.command}`);
      const rows = async (): Promise<string[]> => (await queue.getJobLogs(job.id ?? '')).logs;
      await until(async () => (await rows()).includes('stdout: first'));
      expect(await job.getState()).toBe('active');
      middle.open();
      await until(async () => (await rows()).includes('stdout: last'));
      end.open();
      await ended(queue, job);
      const [where, ...output] = await rows();
      expect(where).toMatch(/^kaon: runs on \S+; kaon logs -f tail\.\S+$/);
      expect(output).toEqual(['stdout: first', 'stdout: last']);
    });

    test('logs of a job that has failed have what it said at last, also if nobody has read it by then', async () => {
      const queue = queueOf('tail');
      const { command, open } = gated('tail-failed');
      const job = await run(queue, `echo first; ${command}; echo last; exit 3`);
      const rows = async (): Promise<string[]> => (await queue.getJobLogs(job.id ?? '')).logs;
      await until(async () => (await rows()).includes('stdout: first'));
      open();
      await ended(queue, job);
      expect(outputOf(await rows())).toEqual(['stdout: first', 'stdout: last']);
    });

    test('logs have no more rows than keepLogs', async () => {
      const queue = queueOf('logs');
      const job = await run(queue, 'seq 1 9; exit 1', { keepLogs: 2 });
      await ended(queue, job);
      expect(await queue.getJobLogs(job.id ?? '')).toEqual({
        logs: ['stdout: 8', 'stdout: 9'],
        count: 2,
      });
    });

    test('events tell the life of a job', async () => {
      const queue = queueOf('events');
      const events = await bed.events('events');
      const heard: string[] = [];
      for (const name of ['added', 'waiting', 'active', 'completed', 'failed'] as const) {
        events.on(name, ({ jobId }: { jobId: string }) => heard.push(`${jobId} ${name}`));
      }
      await ended(queue, await run(queue, 'true'));
      await ended(queue, await run(queue, 'false'));
      await until(() => heard.some((each) => each.endsWith('failed')));
      expect(heard).toEqual([
        ...['1 added', '1 waiting', '1 active', '1 completed'],
        ...['2 added', '2 waiting', '2 active', '2 failed'],
      ]);
    });

    test('metrics count what has ended', async () => {
      const queue = queueOf('metrics');
      for (const command of ['true', 'true', 'false'])
        await ended(queue, await run(queue, command));
      expect((await queue.getMetrics('completed')).meta.count).toBe(2);
      expect((await queue.getMetrics('failed')).meta.count).toBe(1);
    });

    test('jobs that have ended are removed as they want it', async () => {
      const queue = queueOf('removed');
      const gone = await run(queue, `touch ${bed.directory}/ran`, { removeOnComplete: true });
      await until(async () => (await queue.getJob(gone.id ?? '')) === undefined);
      expect(bed.has('ran')).toBe(true);
      const opts = { removeOnFail: 1 };
      const first = await ended(queue, await run(queue, 'exit 1', opts));
      const second = await ended(queue, await run(queue, 'exit 2', opts));
      expect((await queue.getFailed()).map(({ id }) => id)).toEqual([second.id]);
      expect(first.id).not.toBe(second.id);
    });
  });

  describe('what is not run', () => {
    test('a job that is not valid fails at once, and says which field is wrong', async () => {
      const queue = queueOf('invalid');
      const job = await ended(
        queue,
        await queue.add('bad', { command: 'true', cpu: 1 }, { attempts: 5 }),
      );
      expect(job.failedReason).toBe(
        'the job is not valid: there is no field "cpu"; there are attributes, command, cpus, env, executor, group, killGrace, mem, priority, resources, timeout, uris, user',
      );
      expect(job.attemptsMade).toBe(1);
    });

    test('a job that was removed or changed while it waited is not run as it was', async () => {
      const queue = queueOf('changed');
      await queue.pause();
      const removed = await run(queue, `touch ${bed.directory}/removed`);
      const changed = await run(queue, 'echo old');
      await changed.updateData({ command: 'echo new' });
      await removed.remove();
      await queue.resume();
      expect((await ended(queue, changed)).returnvalue).toMatchObject({ stdout: 'new\n' });
      expect(await queue.getJobCounts('completed', 'failed')).toEqual({ completed: 1, failed: 0 });
    });
  });

  describe('a job whose executor is lost', () => {
    test('is told as stalled, and run again without an attempt counted', async () => {
      const queue = queueOf('stalled');
      const events = await bed.events('stalled');
      const stalled: string[] = [];
      events.on('stalled', ({ jobId }) => stalled.push(jobId));
      // The first time it ends its executor.
      const command = `[ -e ${bed.directory}/lost ] || { touch ${bed.directory}/lost; until [ -e ${bed.directory}/lost.gate ]; do sleep 0.05; done; }`;
      const job = await queue.add('fragile', { command, executor: 'fragile' });
      await until(async () => (await executorPids()).length > 0 && bed.has('lost'));
      for (const pid of await executorPids()) await bed.cluster.inside('kill', '-KILL', pid);
      const { attemptsMade, attemptsStarted } = await ended(queue, job);
      expect({ attemptsMade, attemptsStarted }).toEqual({ attemptsMade: 1, attemptsStarted: 2 });
      await until(() => stalled.length > 0);
      expect(stalled).toEqual([job.id]);
    });

    const executorPids = async (): Promise<string[]> => {
      const { stdout } = await bed.cluster.inside('pgrep', '-f', 'default-executor');
      return stdout.split('\n').filter((line) => line !== '');
    };
  });

  describe('more than one kind of job', () => {
    test('light jobs overtake a heavy one that does not fit now', async () => {
      // However slow it is here, the heavy one's turn does not come.
      const config = bed.file('sizes.json', JSON.stringify({ patience: '1h' }));
      await scheduler('--config', config, '--name', 'sizes', '--queue', 'sizes');
      const queue = bed.queue('sizes');
      const free = await fillNode('sizes', 2);
      const heavy = await queue.add('heavy', { command: told('sizes'), cpus: 3 });
      for (const name of ['a', 'b', 'c']) {
        const light = await queue.add(name, { command: told('sizes') });
        await ended(queue, light);
      }
      expect(await heavy.getState()).toBe('waiting');
      await free();
      await ended(queue, heavy);
      expect(bed.lines('sizes').at(-1)).toBe('-heavy');
    });

    test('a heavy job is not held up for ever by light ones', async () => {
      const config = bed.file('patience.json', JSON.stringify({ patience: '1s' }));
      await scheduler('--config', config, '--name', 'patience', '--queue', 'mixed');
      const queue = bed.queue('mixed');
      await queue.pause();
      const light = { name: 'light', data: { command: told('mixed', 'sleep 0.3'), cpus: 1 } };
      const heavy = { name: 'heavy', data: { command: told('mixed'), cpus: CPUS - 0.1 } };
      const lights = Array.from({ length: 20 }, () => light);
      const jobs = await queue.addBulk([light, heavy, ...lights, ...lights]);
      await queue.resume();
      for (const job of jobs) await ended(queue, job);
      const starts = bed.lines('mixed').filter((line) => line.startsWith('+'));
      expect(starts).toHaveLength(jobs.length);
      expect(starts.slice(2, -1)).toContain('+heavy');
    });

    test('groups of a queue are served in turn', async () => {
      const queue = queueOf('groups');
      await queue.pause();
      await queue.setGlobalConcurrency(1);
      const jobs = ['a', 'a', 'a', 'b', 'c', 'b'].map((group) => ({
        name: group,
        data: { command: told('groups'), group },
      }));
      const added = await queue.addBulk(jobs);
      await queue.resume();
      for (const job of added) await ended(queue, job);
      const order = bed.lines('groups').filter((line) => line.startsWith('+'));
      expect(order).toEqual(['+a', '+b', '+c', '+a', '+b', '+a']);
    });

    test('--group-limit, --quota and --rate hold for each queue', async () => {
      const flags = ['--group-limit', '1', '--quota', 'cpus=0.2', '--rate', '4/1s'];
      await scheduler('--name', 'flags', '--queue', 'flags,flags-2', ...flags);
      const queue = bed.queue('flags');
      const add = async (group: string): Promise<Job> =>
        queue.add(group, {
          command: told(`flags-${group}`, 'sleep 0.2') + `; echo x >> ${bed.directory}/flags-all`,
          group,
        });
      const jobs = [];
      for (const group of ['a', 'a', 'b', 'c', 'd']) jobs.push(await add(group));
      const ends = [];
      for (const job of jobs) ends.push(await ended(queue, job));
      expect(mostAtOnce(bed.lines('flags-a'))).toBe(1);
      const moments = ends.flatMap(({ processedOn = 0, finishedOn = 0 }) => [
        { at: processedOn, line: '+' },
        { at: finishedOn, line: '-' },
      ]);
      moments.sort((a, b) => a.at - b.at || b.line.localeCompare(a.line));
      expect(mostAtOnce(moments.map(({ line }) => line))).toBeLessThanOrEqual(2);
      const starts = ends.map(({ processedOn = 0 }) => processedOn).sort((a, b) => a - b);
      expect((starts[4] ?? 0) - (starts[0] ?? 0)).toBeGreaterThan(500);
    });

    test('a job of more than the quota of its queue fails at once, and holds up nobody', async () => {
      await scheduler('--name', 'quota', '--quota', 'cpus=0.3,mem=64M', '--queue', 'quota');
      const queue = bed.queue('quota');
      const large = await queue.add('large', { command: 'true', cpus: 0.5 });
      const small = await run(queue, 'true');
      expect((await ended(queue, large)).failedReason).toBe(
        'the job needs 0.5 cpus, 32M, and all jobs of its queue may hold 0.3 cpus, 64M',
      );
      await isNow(queue, small, 'completed');
    });

    test('queues of one scheduler share what there is by their weights', async () => {
      const queues = [
        { name: 'weight-1', weight: 1 },
        { name: 'weight-3', weight: 3 },
      ];
      const config = bed.file('weights.json', JSON.stringify({ name: 'weights', queues }));
      await scheduler('--config', config);
      const freeMost = await fillNode('weights-most', CPUS - 0.9);
      const freeRest = await fillNode('weights-rest', 0.8);
      const { command, open } = gated('weights');
      const opened = queues.map(({ name }) => bed.queue(name));
      const jobs = await Promise.all(
        opened.map((queue) =>
          queue.addBulk(
            Array.from({ length: 6 }, () => ({ name: 'w', data: { command, cpus: 0.2 } })),
          ),
        ),
      );
      await freeRest();
      const active = (): Promise<number[]> =>
        Promise.all(opened.map((queue) => queue.getActiveCount()));
      await until(async () => (await active()).reduce((sum, count) => sum + count, 0) === 4);
      expect(await active()).toEqual([1, 3]);
      open();
      await freeMost();
      for (const [index, queue] of opened.entries()) {
        for (const job of jobs[index] ?? []) await ended(queue, job);
      }
    });
  });

  describe('a scheduler that is stopped', () => {
    test('lets jobs run on, the next one finishes them, and each has run once', async () => {
      const start = (): Promise<SchedulerChild> =>
        scheduler('--name', 'handover', '--queue', 'handover');
      const queue = bed.queue('handover');
      const first = await start();
      const [before, after] = [gated('before'), gated('after')];
      const early = await run(queue, before.command);
      const late = await run(queue, after.command);
      const huge = await queue.add('huge', { command: 'true', cpus: CPUS });
      await until(() => bed.lines('before.order').length + bed.lines('after.order').length === 2);
      expect(await first.stop()).toBe(0);
      expect(await Promise.all([early, late, huge].map((job) => job.getState()))).toEqual([
        ...['active', 'active', 'waiting'],
      ]);
      // One ends while nobody looks after it, the other afterwards.
      before.open();
      await until(() => bed.lines('before.order').length === 2);
      await start();
      await isNow(queue, early, 'completed');
      expect(await late.getState()).toBe('active');
      after.open();
      const { attemptsMade, attemptsStarted } = await ended(queue, late);
      expect({ attemptsMade, attemptsStarted }).toEqual({ attemptsMade: 1, attemptsStarted: 1 });
      expect(bed.lines('before.order')).toEqual([`+${early.id}`, `-${early.id}`]);
      expect(bed.lines('after.order')).toEqual([`+${late.id}`, `-${late.id}`]);
      await huge.remove();
    });
  });

  test('a scheduler whose Redis has gone away ends when it is told to', async () => {
    const redis = await bed.otherRedis();
    const where = ['--queue-redis', redis.url, '--queue', 'gone'];
    const child = await scheduler('--name', 'gone', ...where);
    await redis.kill();
    expect(await child.stop()).toBe(0);
  });

  describe('other surroundings', () => {
    test('the queues may be in another Redis than the cluster', async () => {
      const { url, socketPath } = await bed.otherRedis();
      const where = ['--queue-redis', url, '--queue', 'elsewhere'];
      await scheduler('--name', 'elsewhere', ...where);
      const queue = bed.queue('elsewhere', { socketPath });
      const job = await ended(queue, await run(queue, 'echo far'));
      expect(job.returnvalue).toMatchObject({ stdout: 'far\n' });
    });

    test('the keys may have a prefix that keeps them in one slot of a Redis Cluster', async () => {
      await scheduler('--name', 'slots', '--prefix', '{bull}', '--queue', 'slots');
      const queue = bed.queue('slots', { prefix: '{bull}' });
      const job = await ended(queue, await run(queue, 'echo slot'));
      expect(job.returnvalue).toMatchObject({ stdout: 'slot\n' });
    });

    describe('a producer of BullMQ 5', () => {
      const open = (name: string): OldQueue =>
        new OldQueue(name, { connection: { path: bed.socketPath } });
      let old: OldQueue;
      let queue: Queue;
      beforeAll(() => {
        old = open('old');
        queue = queueOf('old');
      });
      afterAll(() => old.close());

      test.each<[string, OldJobsOptions]>([
        ['standard', {}],
        ['delayed', { delay: 300 }],
        ['prioritized', { priority: 3 }],
        ['retried', { attempts: 2, backoff: { type: 'fixed', delay: 10 } }],
      ])('has its %s jobs run', async (name, opts) => {
        const { id } = await old.add(name, { command: `echo ${name}` }, opts);
        expect((await ended(queue, { id })).returnvalue).toMatchObject({ stdout: `${name}\n` });
        expect(await old.getJobState(id ?? '')).toBe('completed');
      });

      test('has its flows run', async () => {
        const flows = new OldFlows({ connection: { path: bed.socketPath } });
        const children = [
          { name: 'c', queueName: 'old-children', data: { command: 'echo child' } },
        ];
        const data = { command: 'echo parent' };
        const { job } = await flows.add({ name: 'p', queueName: 'old', data, children });
        await ended(queue, { id: job.id });
        expect(Object.values(await job.getChildrenValues())).toMatchObject([{ stdout: 'child\n' }]);
        await flows.close();
      });

      test('has the jobs of its job schedulers run, one after the other', async () => {
        const template = {
          name: 'tick',
          data: { command: `echo x >> ${bed.directory}/old-ticks` },
        };
        await old.upsertJobScheduler('tick', { every: 200 }, template);
        await until(() => bed.lines('old-ticks').length >= 3);
        expect(await old.removeJobScheduler('tick')).toBe(true);
      });

      test('can pause and resume', async () => {
        await old.pause();
        const { id } = await old.add('paused', { command: 'true' });
        await old.resume();
        await isNow(queue, { id }, 'completed');
      });
    });

    test('bull-board shows the states, results, reasons, logs and progress of jobs', async () => {
      const queue = queueOf('board');
      const { command, open } = gated('board');
      const good = await ended(queue, await run(queue, 'echo shown'));
      const bad = await ended(queue, await run(queue, 'echo last words; exit 9'));
      const running = await run(queue, command);
      await isNow(queue, running, 'active');
      await running.updateProgress(40);
      const board = new HonoAdapter(() => () => Promise.resolve());
      createBullBoard({ queues: [new BullMQAdapter(queue)], serverAdapter: board });
      const app = board.registerPlugin();
      const get = async <T>(path: string): Promise<T> =>
        (await (await app.request(`/api/queues${path}`)).json()) as T;

      const { queues } = await get<{ queues: ShownQueue[] }>('?activeQueue=board&status=latest');
      const [shown] = queues;
      expect(shown).toMatchObject({
        hasWorkers: true,
        counts: { active: 1, completed: 1, failed: 1, waiting: 0 },
      });
      const byId = new Map(shown?.jobs.map((job) => [job.id, job]));
      expect(byId.get(good.id)).toMatchObject({ returnValue: { stdout: 'shown\n' } });
      expect(byId.get(running.id)).toMatchObject({ progress: 40, processedBy: 'kaon.bullmq' });
      const { job } = await get<{ job: ShownJob }>(`/board/${bad.id ?? ''}`);
      expect(job).toMatchObject({ isFailed: true, failedReason: 'exited with code 9' });
      expect(job.stacktrace[0]).toContain('stdout: last words');
      const logs = await get<string[]>(`/board/${bad.id ?? ''}/logs`);
      expect(outputOf(logs)).toEqual(['stdout: last words']);
      open();
      await isNow(queue, running, 'completed');
    });
  });
});
