/**
 * What Kaon does in a queue by scripts of its own, held against the real library on a real Redis: where both can do it, both
 * leave the same behind.
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import type { Job, JobsOptions } from 'bullmq';
import { FlowProducer, Queue, QueueEvents, Worker } from 'bullmq';
import { Queue as OldQueue } from 'bullmq5';
import { Redis } from 'ioredis';
import { aclRulesOf } from '../../io/acl.ts';
import { silentLog } from '../../io/log.ts';
import { JobQueue, type JobQueueOptions } from '../../schedulers/bullmq/queue.ts';
import { bedReason } from '../beds/available.ts';
import { eventually } from '../beds/redis-process.ts';
import { startRedisBed, type RedisBed } from '../beds/redis.ts';

const reason = bedReason('redis');
const suite = reason === undefined ? describe : describe.skip;

const TOKEN = 'kaon:test';
const LOCK_MS = 600_000;
const MAX_BYTES = 1000;

suite(
  `a queue of BullMQ as a scheduler has it${reason === undefined ? '' : ` (${reason})`}`,
  () => {
    let bed: RedisBed;
    let admin: Redis;
    let redis: Redis;
    /** As producers have it. */
    let queue: Queue;
    /** As the scheduler has it. */
    let own: JobQueue;
    let opened: { close(force?: boolean): Promise<unknown> }[] = [];
    let serial = 0;

    beforeAll(async () => {
      bed = await startRedisBed();
      admin = new Redis({ path: bed.socketPath, protocol: 2 });
      const rules = aclRulesOf({ role: 'bullmq', name: 'mail', cluster: 'c' });
      await admin.acl('SETUSER', 'mail', 'reset', 'on', '>pw', ...rules);
      redis = new Redis({
        ...{ path: bed.socketPath, username: 'mail', password: 'pw' },
        ...{ maxRetriesPerRequest: null, disableClientInfo: true },
      });
    });
    afterAll(async () => {
      redis.disconnect();
      // The rights of a scheduler of queues are enough for all of this.
      expect(await admin.acl('LOG')).toEqual([]);
      admin.disconnect();
      await bed.stop();
    });
    beforeEach(() => {
      serial += 1;
      queue = openQueue(`q${String(serial)}`);
      own = openOwn();
    });
    afterEach(async () => {
      await Promise.all(opened.map((each) => each.close(true)));
      opened = [];
    });

    const open = <T extends { close(force?: boolean): Promise<unknown> }>(made: T): T => {
      opened.push(made);
      return made;
    };
    const openQueue = (name: string): Queue => open(new Queue(name, { connection: redis }));
    const openOwn = (given: Partial<JobQueueOptions> = {}): JobQueue =>
      open(
        new JobQueue({
          ...{ name: queue.name, prefix: 'bull', redis, log: silentLog, token: TOKEN },
          ...{ lockMs: LOCK_MS, workerName: 'kaon.test', limiter: undefined, ...given },
        }),
      );
    /** One that takes jobs by hand. */
    const openTaker = (): Worker =>
      open(new Worker(queue.name, null, { connection: redis, autorun: false }));
    const add = async (name: string, opts: JobsOptions = {}): Promise<string> =>
      (await queue.add(name, { name }, { jobId: name, ...opts })).id ?? '';
    const addAll = async (...names: string[]): Promise<void> => {
      for (const name of names) await add(name);
    };
    const idsOf = (jobs: readonly Job[]): (string | undefined)[] => jobs.map(({ id }) => id);
    /** Takes everything, as BullMQ does. */
    const drainOrder = async (): Promise<string[]> => {
      const taker = openTaker();
      const order: string[] = [];
      for (;;) {
        const job = await taker.getNextJob('other', { block: false });
        if (!job) return order;
        order.push(job.id ?? '');
      }
    };
    const lockOf = (id: string): Promise<string | null> => redis.get(queue.toKey(`${id}:lock`));
    const expireLock = (id: string): Promise<number> => redis.del(queue.toKey(`${id}:lock`));
    /** Everything of a queue, without what is a time or a number of an event. */
    const eventsOf = async (name: string): Promise<string[]> => {
      const entries = await redis.xrange(`bull:${name}:events`, '-', '+');
      return entries
        .map(([, fields]) => fields.join(' '))
        .filter((text) => !text.includes('added'));
    };

    describe('a look', () => {
      test('sees jobs in the order in which BullMQ takes them, and changes nothing', async () => {
        await addAll('a', 'b');
        await add('low', { priority: 9 });
        await add('high', { priority: 1 });
        await add('first', { lifo: true });
        const look = await own.look(10);
        expect(look).toEqual({
          ...{ isPaused: false, limitedMs: 0, nextDelayedAtMs: 0, waiting: 5 },
          ...{ room: Number.MAX_SAFE_INTEGER, starts: Number.MAX_SAFE_INTEGER },
          ids: ['first', 'a', 'b', 'high', 'low'],
        });
        expect(await own.look(10)).toEqual(look);
        expect(await drainOrder()).toEqual(look.ids);
      });

      test('sees no more jobs than it was asked for, and counts all', async () => {
        await addAll('a', 'b', 'c');
        await add('low', { priority: 9 });
        expect(await own.look(2)).toMatchObject({ ids: ['a', 'b'], waiting: 4 });
      });

      test('of a queue that is not there sees nothing', async () => {
        expect(await own.look(2)).toMatchObject({ ids: [], waiting: 0, isPaused: false });
      });

      test('sees that a queue is paused, and its jobs', async () => {
        await queue.pause();
        await addAll('a');
        expect(await own.look(2)).toMatchObject({ isPaused: true, ids: ['a'] });
        await queue.resume();
        expect(await own.look(2)).toMatchObject({ isPaused: false });
      });

      test('sees the room that a global concurrency leaves', async () => {
        await queue.setGlobalConcurrency(2);
        await addAll('a', 'b', 'c');
        expect((await own.look(5)).room).toBe(2);
        await own.take(['a'], true);
        expect((await own.look(5)).room).toBe(1);
        await queue.setGlobalConcurrency(1);
        expect((await own.look(5)).room).toBe(0);
      });

      test('sees how many may start before a global rate limit, and for how long none may', async () => {
        await queue.setGlobalRateLimit(2, 3_600_000);
        await addAll('a', 'b', 'c');
        expect(await own.look(5)).toMatchObject({ starts: 2, limitedMs: 0 });
        await own.take(['a'], true);
        expect(await own.look(5)).toMatchObject({ starts: 1, limitedMs: 0 });
        await own.take(['b'], true);
        const { starts, limitedMs } = await own.look(5);
        expect(starts).toBe(0);
        expect(limitedMs).toBeGreaterThan(3_000_000);
        expect(await own.take(['c'], true)).toEqual([]);
      });

      test.each([[undefined], [{ max: 5, duration: 1000 }]])(
        'sees the limit that somebody has set by hand (limit of its own: %j)',
        async (limiter) => {
          const limited = openOwn({ limiter });
          await queue.rateLimit(3_600_000);
          const { starts, limitedMs } = await limited.look(5);
          expect(starts).toBe(0);
          expect(limitedMs).toBeGreaterThan(3_000_000);
          await queue.removeRateLimitKey();
          expect(await limited.look(5)).toMatchObject({ limitedMs: 0 });
          expect((await limited.look(5)).starts).toBeGreaterThan(0);
        },
      );

      test('keeps to a limit of its own', async () => {
        const limited = openOwn({ limiter: { max: 1, duration: 60_000 } });
        await addAll('a', 'b');
        expect(await limited.look(5)).toMatchObject({ starts: 1 });
        expect(idsOf(await limited.take(['a', 'b'], true))).toEqual(['a']);
        expect(await limited.look(5)).toMatchObject({ starts: 0, ids: ['b'] });
      });

      test('promotes delayed jobs that are due exactly as BullMQ does', async () => {
        const jobs: [string, JobsOptions][] = [
          ['waits', {}],
          ['plain', { delay: 1 }],
          ['urgent', { delay: 1, priority: 2 }],
          ['later', { delay: 3_600_000 }],
        ];
        const names = [queue.name, `${queue.name}-like`];
        for (const name of names) {
          const each = openQueue(name);
          for (const [jobId, opts] of jobs) await each.add(jobId, {}, { jobId, ...opts });
          await redis.xtrim(`bull:${name}:events`, 'MAXLEN', 0);
        }
        const [ours = '', like = ''] = names;
        await eventually('both are due', async () => {
          const due = await redis.zcount(`bull:${ours}:delayed`, 0, Date.now() * 0x1000);
          return (
            due === 2 && (await redis.zcount(`bull:${like}:delayed`, 0, Date.now() * 0x1000)) === 2
          );
        });
        const { ids, nextDelayedAtMs } = await own.look(10);
        expect(ids).toEqual(['waits', 'plain', 'urgent']);
        const later = await queue.getJob('later');
        expect(nextDelayedAtMs).toBe((later?.timestamp ?? 0) + 3_600_000);
        // BullMQ promotes when somebody takes a job; a queue that is paused gives none.
        await openQueue(like).pause();
        await redis.xtrim(`bull:${like}:events`, 'MAXLEN', 0);
        const taker = open(new Worker(like, null, { connection: redis, autorun: false }));
        expect(await taker.getNextJob('other', { block: false })).toBeUndefined();
        const state = async (name: string): Promise<unknown[]> => [
          await redis.lrange(`bull:${name}:wait`, 0, -1),
          await redis.zrange(`bull:${name}:prioritized`, '0', '-1', 'WITHSCORES'),
          await redis.zrange(`bull:${name}:delayed`, '0', '-1'),
          await redis.hget(`bull:${name}:plain`, 'delay'),
          await redis.get(`bull:${name}:pc`),
          await eventsOf(name),
        ];
        expect(await state(ours)).toEqual(await state(like));
      });

      test('that promotes wakes a worker of BullMQ', async () => {
        await add('due', { delay: 1 });
        await redis.del(queue.toKey('marker'));
        await eventually('it is due', async () => (await own.look(1)).ids.length === 1);
        expect(await redis.zrange(queue.toKey('marker'), '0', '-1')).toEqual(['0']);
      });
    });

    describe('a queue that BullMQ 5 has paused', () => {
      test('gives nothing, and all its jobs once either version resumes it', async () => {
        const old = open(new OldQueue(queue.name, { connection: { path: bed.socketPath } }));
        for (const resume of [() => old.resume(), () => queue.resume()]) {
          await addAll('a', 'b');
          await old.pause();
          await old.add('c', {}, { jobId: 'c' });
          expect(await own.look(5)).toMatchObject({ isPaused: true });
          await resume();
          const { ids, isPaused } = await own.look(5);
          expect({ isPaused, ids: [...ids].sort() }).toEqual({
            isPaused: false,
            ids: ['a', 'b', 'c'],
          });
          for (const job of await own.take(ids, true)) await own.complete(job, 'done');
          await queue.clean(0, 10, 'completed');
        }
      });

      test('has jobs that can be cancelled', async () => {
        const old = open(new OldQueue(queue.name, { connection: { path: bed.socketPath } }));
        await addAll('a');
        await old.pause();
        expect(await own.adopt('a')).toBe('ours');
        expect(await queue.getJobState('a')).toBe('active');
      });
    });

    describe('reading', () => {
      test('tells name and data of jobs, and leaves out what is gone', async () => {
        await addAll('a', 'b');
        const data = JSON.stringify({ name: 'a' });
        expect(await own.read(['a', 'gone', 'b'], MAX_BYTES)).toEqual([
          { id: 'a', name: 'a', data, dataBytes: data.length, schedulerId: undefined },
          {
            id: 'b',
            name: 'b',
            data: expect.any(String),
            dataBytes: data.length,
            schedulerId: undefined,
          },
        ]);
      });

      test('leaves data that is too long where it is, and says how long', async () => {
        const data = 'ü'.repeat(MAX_BYTES);
        await queue.add('long', data, { jobId: 'long' });
        const [job] = await own.read(['long'], MAX_BYTES);
        expect(job).toMatchObject({ data: '', dataBytes: 2 * MAX_BYTES + 2 });
      });

      test('tells the first of jobs that are too much together', async () => {
        const data = 'x'.repeat(3 * 1024 * 1024);
        for (const jobId of ['a', 'b']) await queue.add(jobId, data, { jobId });
        const jobs = await own.read(['a', 'b'], data.length + 2);
        expect(jobs.map(({ id }) => id)).toEqual(['a']);
      });

      test('tells the scheduler that has made a job', async () => {
        const job = await queue.upsertJobScheduler('tick', { every: 60_000 }, { name: 'tick' });
        const [read] = await own.read([job?.id ?? ''], MAX_BYTES);
        expect(read?.schedulerId).toBe('tick');
      });

      test('nothing costs nothing', async () => {
        expect(await own.read([], MAX_BYTES)).toEqual([]);
      });
    });

    describe('taking', () => {
      test('the first jobs leaves them active, locked and told', async () => {
        await addAll('a', 'b', 'c');
        expect(idsOf(await own.take(['a', 'b'], true))).toEqual(['a', 'b']);
        expect(await queue.getJobState('a')).toBe('active');
        expect(await lockOf('a')).toBe(TOKEN);
        expect((await queue.getJob('a'))?.processedBy).toBe('kaon.test');
        expect(await eventsOf(queue.name)).toContain('event active jobId a prev waiting');
      });

      test('jobs out of the middle leaves the order of the others', async () => {
        await addAll('a', 'b', 'c', 'd');
        await add('low', { priority: 9 });
        await add('high', { priority: 1 });
        expect(idsOf(await own.take(['low', 'c'], false))).toEqual(['low', 'c']);
        expect(await drainOrder()).toEqual(['a', 'b', 'd', 'high']);
      });

      test('are taken and not what is given back at that moment, or was since the look', async () => {
        await addAll('back', 'before', 'wanted');
        const [back] = await own.take(['back'], true);
        if (!back) throw new Error('nothing was taken');
        const [taken] = await Promise.all([own.take(['wanted'], false), own.giveBack(back)]);
        expect(idsOf(taken)).toEqual(['wanted']);
        const [again] = await own.take(['back'], true);
        await own.look(10);
        if (again) await own.giveBack(again);
        expect(idsOf(await own.take(['before'], true))).toEqual(['before']);
      });

      test('a job that is gone gets another one, and nothing if there is none', async () => {
        await addAll('a', 'b');
        await queue.remove('a');
        expect(idsOf(await own.take(['a'], false))).toEqual(['b']);
        expect(await own.take(['a'], false)).toEqual([]);
      });

      test('from a queue that was paused meanwhile gets nothing, and loses nothing', async () => {
        await addAll('a', 'b', 'c');
        await queue.pause();
        expect(await own.take(['b'], false)).toEqual([]);
        await queue.resume();
        expect((await drainOrder()).sort()).toEqual(['a', 'b', 'c']);
      });

      test('beside a worker of BullMQ gives each job to one of both', async () => {
        const names = Array.from({ length: 30 }, (_none, index) => `job-${String(index)}`);
        await addAll(...names);
        const theirs: string[] = [];
        const worker = open(
          new Worker(queue.name, async ({ id = '' }) => Promise.resolve(void theirs.push(id)), {
            connection: { path: bed.socketPath },
          }),
        );
        const ours: string[] = [];
        for (let look = await own.look(4); look.ids.length > 0; look = await own.look(4)) {
          for (const job of await own.take(look.ids, true)) {
            ours.push(job.id ?? '');
            await own.complete(job, 'done');
          }
        }
        await eventually(
          'all ended',
          async () => (await queue.getCompletedCount()) === names.length,
        );
        await worker.close();
        expect([...ours, ...theirs].sort()).toEqual([...names].sort());
        expect(await queue.getJobCounts('active', 'wait', 'failed')).toEqual({
          ...{ active: 0, wait: 0, failed: 0 },
        });
      });
    });

    describe('adopting', () => {
      test.each<[string, JobsOptions]>([
        ['waits', {}],
        ['is prioritized', { priority: 4 }],
        ['is delayed', { delay: 3_600_000 }],
      ])('a job that %s makes it active and ours, and it can be ended', async (_how, opts) => {
        await add('a', opts);
        await add('other');
        expect(await own.adopt('a', 3)).toBe('ours');
        expect(await queue.getJobState('a')).toBe('active');
        expect(await lockOf('a')).toBe(TOKEN);
        const job = await own.job('a');
        expect(job?.attemptsStarted).toBe(3);
        if (job) await own.fail(job, new Error('no'));
        expect(await queue.getJobState('a')).toBe('failed');
        expect(await drainOrder()).toEqual(['other']);
      });

      test('an active job whose lock has run out makes it ours again', async () => {
        await add('a');
        await openTaker().getNextJob('somebody', { block: false });
        await expireLock('a');
        expect(await own.adopt('a')).toBe('ours');
        expect(await lockOf('a')).toBe(TOKEN);
        expect(await queue.getActiveCount()).toBe(1);
      });

      test('a job that is ours already changes nothing but its lock', async () => {
        await add('a');
        await own.take(['a'], true);
        await own.extendLocks(['a'], 1000);
        expect(await own.adopt('a', 1)).toBe('ours');
        expect(await redis.pttl(queue.toKey('a:lock'))).toBeGreaterThan(1000);
        expect((await own.job('a'))?.attemptsStarted).toBe(1);
      });

      test("somebody else's job leaves it alone", async () => {
        await add('a');
        await openTaker().getNextJob('somebody', { block: false });
        expect(await own.adopt('a')).toBe('locked');
        expect(await lockOf('a')).toBe('somebody');
      });

      test('a job that has ended leaves it ended', async () => {
        await add('a');
        const [job] = await own.take(['a'], true);
        if (job) await own.complete(job, 'done');
        expect(await own.adopt('a')).toBe('ended');
        expect(await queue.getJobState('a')).toBe('completed');
      });

      test('a job that waits for its children leaves it to them', async () => {
        const flows = open(new FlowProducer({ connection: redis }));
        const child = { name: 'child', queueName: queue.name };
        const { job } = await flows.add({
          name: 'p',
          queueName: `${queue.name}-p`,
          children: [child],
        });
        const parents = openOwn({ name: `${queue.name}-p` });
        expect(await parents.adopt(job.id ?? '')).toBe('children');
        expect(await job.getState()).toBe('waiting-children');
      });

      test('a job that is not there finds nothing', async () => {
        expect(await own.adopt('nobody')).toBe('missing');
        expect(await own.job('nobody')).toBeUndefined();
      });

      test('a job that BullMQ takes for stalled keeps it from being given to others', async () => {
        await add('a');
        await own.take(['a'], true);
        await redis.sadd(queue.toKey('stalled'), 'a');
        await own.adopt('a');
        expect(await redis.smembers(queue.toKey('stalled'))).toEqual([]);
      });
    });

    describe('locks', () => {
      test('are found of active jobs that are ours or nobody has', async () => {
        await addAll('ours', 'free', 'theirs');
        await own.take(['ours', 'free'], true);
        await expireLock('free');
        await openTaker().getNextJob('somebody', { block: false });
        const found = await own.ownActive();
        expect(found.sort((a, b) => a.id.localeCompare(b.id))).toEqual([
          { id: 'free', isLocked: false },
          { id: 'ours', isLocked: true },
        ]);
      });

      test('are extended, and those that are not ours any more are told', async () => {
        await addAll('kept', 'lost', 'taken');
        await own.take(['kept', 'lost', 'taken'], true);
        await expireLock('lost');
        await redis.set(queue.toKey('taken:lock'), 'somebody');
        const lost = await own.extendLocks(['kept', 'lost', 'taken'], 3 * LOCK_MS);
        expect(lost.sort()).toEqual(['lost', 'taken']);
        expect(await redis.pttl(queue.toKey('kept:lock'))).toBeGreaterThan(2 * LOCK_MS);
        expect(await own.extendLocks([])).toEqual([]);
      });
    });

    describe('ends', () => {
      test('of a job that is not over are noted, for as long as there is the job', async () => {
        const { id = '' } = await queue.add('a', {});
        expect(await own.toldStart(id)).toBe(0);
        await own.noteTold(id, 2);
        expect(await own.toldStart(id)).toBe(2);
        await queue.remove(id);
        await own.noteTold(id, 3);
        expect(await queue.getJob(id)).toBeUndefined();
        expect(await own.toldStart(id)).toBe(0);
      });

      test('a job that is given back is the next one, and no attempt is counted', async () => {
        await addAll('a', 'b');
        const [job] = await own.take(['a'], true);
        if (job) await own.giveBack(job);
        expect(await own.look(2)).toMatchObject({ ids: ['a', 'b'] });
        expect(await queue.getJob('a')).toMatchObject({ attemptsMade: 0, attemptsStarted: 1 });
        expect(await lockOf('a')).toBeNull();
      });

      test('a job that is gone or not ours says so by a code', async () => {
        await addAll('gone', 'taken', 'unlocked');
        const jobs = await own.take(['gone', 'taken', 'unlocked'], true);
        const [gone, taken, unlocked] = jobs as [Job, Job, Job];
        await redis.del(queue.toKey('gone'), queue.toKey('unlocked:lock'));
        await redis.set(queue.toKey('taken:lock'), 'somebody');
        await expect(own.complete(gone, 1)).rejects.toMatchObject({ code: -1 });
        await expect(own.complete(unlocked, 1)).rejects.toMatchObject({ code: -2 });
        await expect(own.fail(taken, new Error('no'))).rejects.toMatchObject({ code: -6 });
      });

      test('a start that was lost is counted and told as a stall', async () => {
        await add('a');
        const events = open(
          new QueueEvents(queue.name, { connection: { path: bed.socketPath }, lastEventId: '0-0' }),
        );
        const stalled: string[] = [];
        events.on('stalled', ({ jobId }) => stalled.push(jobId));
        expect([await own.countLost('a'), await own.countLost('a')]).toEqual([1, 2]);
        expect(await own.countLost('nobody')).toBe(0);
        expect((await queue.getJob('a'))?.stalledCounter).toBe(2);
        await eventually('both were told', async () => Promise.resolve(stalled.length >= 2));
        expect(stalled).toEqual(['a', 'a']);
      });

      test('rows of logs keep their order, and keepLogs is kept', async () => {
        await add('a', { keepLogs: 2 });
        const job = await own.job('a');
        if (job) await own.addLogs(job, ['1', '2', '3']);
        expect((await queue.getJobLogs('a')).logs).toEqual(['2', '3']);
      });
    });

    describe('the next job of a job scheduler', () => {
      const schedule = async (): Promise<string> => {
        const job = await queue.upsertJobScheduler('tick', { every: 60_000 }, { name: 'tick' });
        return job?.id ?? '';
      };

      test('is made once, as BullMQ makes it when the one before is taken', async () => {
        const first = await schedule();
        await own.look(5);
        await own.scheduleNext(first);
        const made = idsOf(await queue.getDelayed());
        expect(made).toHaveLength(1);
        await own.scheduleNext(first);
        const [job] = await own.take([first], true);
        expect(job?.id).toBe(first);
        expect(idsOf(await queue.getDelayed())).toEqual(made);
        const [second] = await queue.getDelayed();
        expect(second?.repeatJobKey).toBe('tick');
        expect(Number(second?.id?.split(':').at(-1)) - Number(first.split(':').at(-1))).toBe(
          60_000,
        );
      });

      test('is not made once the scheduler was removed', async () => {
        const first = await schedule();
        await queue.removeJobScheduler('tick');
        await own.scheduleNext(first);
        expect(await queue.getDelayedCount()).toBe(0);
      });

      test('is not asked of a job that has no scheduler, or is gone', async () => {
        await add('a');
        await own.scheduleNext('a');
        await own.scheduleNext('nobody');
        expect(await queue.getDelayedCount()).toBe(0);
      });
    });
  },
);
