/**
 * Of each job exactly one runs, whatever dies: real schedulers, agents, masters, executors, nodes and Redises that are killed or
 * cut off, or forget. Jobs write down when they begin and end, so that a second run is seen wherever it comes from.
 */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { Job, JobsOptions, Queue } from 'bullmq';
import { cancelJob } from '../../schedulers/bullmq/index.ts';
import { bedReason } from '../beds/available.ts';
import {
  ended,
  isNow,
  startBullmqBed,
  until,
  type BullmqBed,
  type SchedulerChild,
} from '../beds/bullmq.ts';
import {
  begun,
  checkStalled,
  crash,
  forgetTaking,
  killExecutor,
  LOST_AND_AGAIN,
  lockRunsOut,
  ONCE,
  openQueueBed,
  recorded,
  runsOf,
  startedScheduler,
  takeByHand,
  type QueueBed,
  type Runs,
} from '../beds/bullmq-faults.ts';
import {
  jsonOf,
  KAON,
  startClusterBed,
  startCommand,
  type ClusterBed,
  type Running,
} from '../beds/cluster.ts';
import { startNodesBed, type NodesBed } from '../beds/nodes.ts';
import { startRedisBed, type RedisBed } from '../beds/redis.ts';

const reason = bedReason('systemd') ?? bedReason('redis');
const suite = reason === undefined ? describe : describe.skip;
const titleOf = (what: string): string =>
  `${what}${reason === undefined ? '' : ` (skipped: ${reason})`}`;

const SMALL = ['--cpus', '0.1', '--mem', '32M'];
const TEST_TIMEOUT_MS = 120_000;
/** Says that it will not end, and does not. */
const DEAF = "trap '' TERM; echo deaf; while :; do :; done";

/** Jobs of one queue, that write into one file. */
class Jobs {
  readonly queue: Queue;
  readonly #bed: Pick<BullmqBed, 'queue' | 'directory' | 'lines' | 'file'>;
  readonly #name: string;

  /** @param name of the file that they write */
  constructor(
    bed: Pick<BullmqBed, 'queue' | 'directory' | 'lines' | 'file'>,
    queue: string,
    name = queue,
  ) {
    this.#bed = bed;
    this.#name = name;
    this.queue = bed.queue(queue);
  }

  /** A job that does that, and writes down when. */
  add(what: string, opts?: JobsOptions, more: object = {}): Promise<Job> {
    const command = recorded(`${this.#bed.directory}/${this.#name}`, what);
    return this.queue.add('recorded', { ...more, command }, opts);
  }

  /** In front of what a job does when the gate of that name is open. */
  after(gate: string): string {
    const path = `${this.#bed.directory}/${this.#name}.${gate}`;
    return `until [ -e ${path} ]; do sleep 0.05; done`;
  }

  open(gate: string): void {
    this.#bed.file(`${this.#name}.${gate}`, '');
  }

  /** Waits until it has begun so often. */
  begun(job: Job, times?: number): Promise<void> {
    return begun(() => this.#bed.lines(this.#name), job, times);
  }

  runs(job: Job): Runs {
    return runsOf(this.#bed.lines(this.#name), job);
  }

  ended(job: Job): Promise<Job> {
    return ended(this.queue, job);
  }
}

/** What a job that has ended looks like, in short. */
async function endOf(jobs: Jobs, job: Job): Promise<unknown> {
  const { failedReason, attemptsMade } = await jobs.ended(job);
  return { failedReason, attemptsMade, ...jobs.runs(job) };
}
const DONE_ONCE = { failedReason: undefined, attemptsMade: 1, ...ONCE };

suite(titleOf('kaon bullmq whose parts fail'), () => {
  let bed: BullmqBed;
  let redis: QueueBed['redis'];
  let close: () => Promise<void>;
  beforeAll(async () => {
    bed = await startBullmqBed(['--resources', 'cpus=8,mem=4G']);
    const { start } = bed.cluster;
    const own = openQueueBed({ start, parent: bed.cluster.directory, socketPath: bed.socketPath });
    redis = own.redis;
    close = own.stop;
  }, 240_000);
  afterAll(async () => {
    await close();
    await bed.stop();
  }, 120_000);

  /** A scheduler of a queue and of that name, and what starts it again. */
  const start = (name: string, ...args: string[]): Promise<SchedulerChild> =>
    bed.scheduler('--name', name, '--queue', name, ...SMALL, ...args);
  const configFile = (name: string, config: object): string =>
    bed.file(`${name}.json`, JSON.stringify({ name, queues: [name], ...config }));

  describe('a scheduler that is killed', () => {
    test(
      'leaves jobs running, and the next one tells their ends, also those that came meanwhile',
      async () => {
        const jobs = new Jobs(bed, 'killed');
        const first = await start('killed');
        const good = await jobs.add(`${jobs.after('away')}; echo out`);
        const bad = await jobs.add(`${jobs.after('away')}; exit 7`);
        const long = await jobs.add(`${jobs.after('back')}; echo late`);
        for (const job of [good, bad, long]) await jobs.begun(job);
        await crash(first, redis, 'killed');
        jobs.open('away');
        await until(() => jobs.runs(good).ended + jobs.runs(bad).ended === 2);
        await start('killed');
        expect(await endOf(jobs, good)).toEqual(DONE_ONCE);
        expect(await endOf(jobs, bad)).toEqual({
          ...DONE_ONCE,
          failedReason: 'exited with code 7',
        });
        expect(await long.getState()).toBe('active');
        jobs.open('back');
        expect((await jobs.ended(long)).returnvalue).toMatchObject({ stdout: 'late\n' });
        expect(await endOf(jobs, long)).toEqual(DONE_ONCE);
        expect((await jobs.ended(good)).returnvalue).toMatchObject({ stdout: 'out\n' });
      },
      TEST_TIMEOUT_MS,
    );

    test(
      'again and again while jobs end, has every job run once',
      async () => {
        const jobs = new Jobs(bed, 'often');
        const all = await Promise.all(
          Array.from({ length: 30 }, (_none, index) => jobs.add(`sleep 0.${String(index % 10)}`)),
        );
        for (const enough of [3, 12, 20]) {
          const scheduler = await start('often');
          await until(() => all.filter((job) => jobs.runs(job).ended === 1).length >= enough);
          await crash(scheduler, redis, 'often');
        }
        await start('often');
        const ends = [];
        for (const job of all) ends.push(await endOf(jobs, job));
        expect(ends).toEqual(all.map(() => DONE_ONCE));
      },
      TEST_TIMEOUT_MS,
    );

    test(
      'is followed by the one that stands by under the same name',
      async () => {
        const jobs = new Jobs(bed, 'standby');
        const first = await start('standby');
        const running = bed.cluster.start('bullmq', '--name', 'standby', '--queue', 'standby');
        const second = startedScheduler(running);
        await running.seen('bullmq.standing-by');
        const job = await jobs.add(jobs.after('gate'));
        await jobs.begun(job);
        await first.stop('SIGKILL');
        await second;
        jobs.open('gate');
        expect(await endOf(jobs, job)).toEqual(DONE_ONCE);
        await (await second).stop();
      },
      TEST_TIMEOUT_MS,
    );
  });

  describe('locks', () => {
    test(
      'that ran out, and a check for stalled jobs, bring no second copy beside a task that lives',
      async () => {
        const jobs = new Jobs(bed, 'stalled');
        const config = configFile('stalled', { lockDuration: '2s' });
        const args = ['--config', config, ...SMALL];
        const first = await bed.scheduler(...args);
        const job = await jobs.add(`${jobs.after('gate')}; exit 9`);
        await jobs.begun(job);
        await crash(first, redis, 'stalled');
        await lockRunsOut(redis, jobs.queue, job);
        await checkStalled(redis, jobs.queue, job);
        await bed.scheduler(...args);
        await isNow(jobs.queue, job, 'active');
        jobs.open('gate');
        expect(await endOf(jobs, job)).toEqual({
          ...DONE_ONCE,
          failedReason: 'exited with code 9',
        });
      },
      TEST_TIMEOUT_MS,
    );

    test(
      'that ran out while the task ended and no scheduler was there, and a check for stalled jobs, bring no second run',
      async () => {
        const jobs = new Jobs(bed, 'stalled-end');
        const config = configFile('stalled-end', { lockDuration: '2s' });
        const args = ['--config', config, ...SMALL];
        const first = await bed.scheduler(...args);
        const all = await Promise.all(
          Array.from({ length: 10 }, () => jobs.add(`${jobs.after('gate')}; exit 9`)),
        );
        for (const job of all) await jobs.begun(job);
        await crash(first, redis, 'stalled-end');
        jobs.open('gate');
        for (const job of all) {
          await until(() => jobs.runs(job).ended === 1);
          await lockRunsOut(redis, jobs.queue, job);
        }
        for (const job of all) await checkStalled(redis, jobs.queue, job);
        await bed.scheduler(...args);
        const ends = [];
        for (const job of all) ends.push(await endOf(jobs, job));
        expect(ends).toEqual(all.map(() => ({ ...DONE_ONCE, failedReason: 'exited with code 9' })));
      },
      TEST_TIMEOUT_MS,
    );

    test(
      'and all that was taken, forgotten by Redis while the task runs, are taken again without a second run',
      async () => {
        const jobs = new Jobs(bed, 'forgotten');
        await start('forgotten');
        const job = await jobs.add(jobs.after('gate'));
        await jobs.begun(job);
        await forgetTaking(redis, jobs.queue, job);
        await isNow(jobs.queue, job, 'active');
        jobs.open('gate');
        expect(await endOf(jobs, job)).toEqual(DONE_ONCE);
      },
      TEST_TIMEOUT_MS,
    );

    test(
      'and all that was taken, forgotten by Redis while no scheduler is there, are taken again by the next one',
      async () => {
        const jobs = new Jobs(bed, 'forgotten-away');
        const first = await start('forgotten-away');
        const job = await jobs.add(jobs.after('gate'));
        await jobs.begun(job);
        await crash(first, redis, 'forgotten-away');
        await forgetTaking(redis, jobs.queue, job);
        await start('forgotten-away');
        await isNow(jobs.queue, job, 'active');
        jobs.open('gate');
        expect(await endOf(jobs, job)).toEqual(DONE_ONCE);
      },
      TEST_TIMEOUT_MS,
    );

    test(
      'forgotten by Redis while the task ends and no scheduler is there do not have the job run again',
      async () => {
        const jobs = new Jobs(bed, 'forgotten-end');
        const first = await start('forgotten-end');
        const job = await jobs.add(jobs.after('gate'));
        await jobs.begun(job);
        await crash(first, redis, 'forgotten-end');
        await forgetTaking(redis, jobs.queue, job);
        jobs.open('gate');
        await until(() => jobs.runs(job).ended === 1);
        await start('forgotten-end');
        expect(await endOf(jobs, job)).toEqual(DONE_ONCE);
      },
      TEST_TIMEOUT_MS,
    );
  });

  describe('on the node', () => {
    test(
      'the jobs of an executor that is killed run again, and that was no attempt of theirs',
      async () => {
        const jobs = new Jobs(bed, 'shared');
        await start('shared', '--executor', 'frail');
        const both = [await jobs.add(jobs.after('gate')), await jobs.add(jobs.after('gate'))];
        for (const job of both) await jobs.begun(job);
        await killExecutor(bed.cluster, 'commands.frail');
        for (const job of both) await jobs.begun(job, 2);
        jobs.open('gate');
        for (const job of both) {
          const { atOnce: _atOnce, ...end } = (await endOf(jobs, job)) as Runs;
          expect(end).toEqual({ failedReason: undefined, attemptsMade: 1, ...LOST_AND_AGAIN });
        }
      },
      TEST_TIMEOUT_MS,
    );
  });

  describe('a Redis of the queues alone', () => {
    test(
      'that is killed and comes back with its file finds jobs running on, and each completes once',
      async () => {
        const server = await startRedisBed({ appendonly: 'yes' });
        const own = openOwn(server);
        try {
          const jobs = new Jobs(own, 'aof');
          const scheduler = await own.scheduler(...argsOf('aof', server));
          const away = await jobs.add(jobs.after('away'));
          const long = await jobs.add(`${jobs.after('back')}; exit 6`);
          for (const job of [away, long]) await jobs.begun(job);
          await server.kill();
          jobs.open('away');
          await until(() => jobs.runs(away).ended === 1);
          await server.restart();
          expect(await endOf(jobs, away)).toEqual(DONE_ONCE);
          jobs.open('back');
          expect(await endOf(jobs, long)).toEqual({
            ...DONE_ONCE,
            failedReason: 'exited with code 6',
          });
          await scheduler.stop();
        } finally {
          await own.stop();
          await server.stop();
        }
      },
      TEST_TIMEOUT_MS,
    );

    test(
      'that comes back empty has lost its jobs, whose tasks run to their ends, and new ones are taken',
      async () => {
        const server = await startRedisBed({ appendonly: 'no' });
        const own = openOwn(server);
        try {
          const jobs = new Jobs(own, 'empty');
          await own.scheduler(...argsOf('empty', server));
          const lost = await jobs.add(jobs.after('gate'), { jobId: 'lost' });
          await jobs.begun(lost);
          await server.restart();
          const next = await jobs.add('true', { jobId: 'next' });
          expect(await endOf(jobs, next)).toEqual(DONE_ONCE);
          // Producers count from 1 again.
          const other = new Jobs(own, 'empty', 'other');
          const same = await other.add('echo another', { jobId: 'lost' });
          expect((await other.ended(same)).returnvalue).toMatchObject({ stdout: 'another\n' });
          expect(other.runs(same)).toEqual(ONCE);
          expect(jobs.runs(lost)).toEqual({ ...ONCE, ended: 0 });
          jobs.open('gate');
          await until(() => jobs.runs(lost).ended === 1);
          expect((await jobs.ended(same)).returnvalue).toMatchObject({ stdout: 'another\n' });
        } finally {
          await own.stop();
          await server.stop();
        }
      },
      TEST_TIMEOUT_MS,
    );

    const openOwn = ({ socketPath }: RedisBed): QueueBed =>
      openQueueBed({ start: bed.cluster.start, parent: bed.cluster.directory, socketPath });
    const argsOf = (name: string, { url }: RedisBed): string[] => [
      ...['--name', name, '--queue', name, '--queue-redis', url],
      ...SMALL,
    ];
  });

  describe('a job that is to end', () => {
    const NOT_WANTED = 'cancelled: not wanted';
    const attempts = { attempts: 3 };
    let jobs: Jobs;
    beforeAll(async () => {
      await start('cancelled');
      jobs = new Jobs(bed, 'cancelled');
    }, TEST_TIMEOUT_MS);
    const wish = ({ id = '' }: Job, queue = 'cancelled'): Promise<void> =>
      cancelJob(redis, { queue, jobId: id, reason: 'not wanted' });
    const cancelledOnce = { failedReason: NOT_WANTED, attemptsMade: 1 };

    test(
      'because its queue is obliterated is killed',
      async () => {
        const own = new Jobs(bed, 'obliterated');
        const config = configFile('obliterated', { lockDuration: '2s' });
        await bed.scheduler('--config', config, ...SMALL);
        const job = await own.add('sleep 8081 & sleep 8081');
        await own.begun(job);
        await own.queue.obliterate({ force: true });
        await until(
          async () => (await bed.cluster.inside('pgrep', '-f', 'sleep 8081')).exitCode === 1,
        );
        expect(own.runs(job)).toEqual({ ...ONCE, ended: 0 });
      },
      TEST_TIMEOUT_MS,
    );

    test(
      'because its queue is obliterated is killed though another job has its id, which runs as if it had not been',
      async () => {
        const own = new Jobs(bed, 'reused');
        const other = new Jobs(bed, 'reused', 'reused-again');
        await start('reused');
        const job = await own.add('sleep 8085', { jobId: 'same' });
        await own.begun(job);
        await own.queue.obliterate({ force: true });
        const next = await other.add('sleep 1; echo next', { jobId: 'same' });
        expect((await other.ended(next)).returnvalue).toMatchObject({ stdout: 'next\n' });
        await until(
          async () => (await bed.cluster.inside('pgrep', '-f', 'sleep 8085')).exitCode === 1,
        );
        expect([own.runs(job), other.runs(next)]).toEqual([{ ...ONCE, ended: 0 }, ONCE]);
      },
      TEST_TIMEOUT_MS,
    );

    test(
      'while it waits fails at once, and never runs',
      async () => {
        await jobs.queue.pause();
        const job = await jobs.add('true', attempts);
        await wish(job);
        expect(await endOf(jobs, job)).toMatchObject({ failedReason: NOT_WANTED, begun: 0 });
        await jobs.queue.resume();
      },
      TEST_TIMEOUT_MS,
    );

    test(
      'while it is delayed fails at once, and never runs',
      async () => {
        const job = await jobs.add('true', { ...attempts, delay: 3_600_000 });
        await wish(job);
        expect(await endOf(jobs, job)).toMatchObject({ failedReason: NOT_WANTED, begun: 0 });
      },
      TEST_TIMEOUT_MS,
    );

    test(
      'while it sleeps ends, and is not tried again',
      async () => {
        const job = await jobs.add('sleep 8082', attempts);
        await jobs.begun(job);
        await wish(job);
        expect(await endOf(jobs, job)).toMatchObject({ ...cancelledOnce, begun: 1 });
      },
      TEST_TIMEOUT_MS,
    );

    test(
      'and is deaf and busy ends within its grace period, by kaon bullmq cancel',
      async () => {
        const job = await jobs.add(DEAF, attempts, { killGrace: 300 });
        await jobs.begun(job);
        const args = ['cancel', 'cancelled', job.id ?? '', '--reason', 'not wanted'];
        const { stdout, exitCode } = await bed.cluster.kaon('bullmq', ...args);
        expect({ stdout, exitCode }).toEqual({
          stdout: `job ${job.id ?? ''}: cancelled\n`,
          exitCode: 0,
        });
        expect(await endOf(jobs, job)).toMatchObject({ ...cancelledOnce, begun: 1 });
      },
      TEST_TIMEOUT_MS,
    );

    test(
      'by an entry in the stream, written by hand, ends',
      async () => {
        const job = await jobs.add('sleep 8083', attempts);
        await jobs.begun(job);
        await redis.xadd('bull-kaon:cancelled:cancel', '*', 'jobId', job.id ?? '', 'nonsense', '1');
        expect(await endOf(jobs, job)).toMatchObject({ failedReason: 'cancelled', begun: 1 });
      },
      TEST_TIMEOUT_MS,
    );

    test(
      'and has ended already stays as it is',
      async () => {
        const job = await jobs.add('true');
        await jobs.ended(job);
        await wish(job);
        const { stderr, exitCode } = await bed.cluster.kaon(
          ...['bullmq', 'cancel', 'cancelled', job.id ?? ''],
        );
        expect({ stderr, exitCode }).toEqual({
          stderr: `kaon: job ${job.id ?? ''} has ended already: completed\n`,
          exitCode: 1,
        });
        await until(async () => (await redis.xlen('bull-kaon:cancelled:cancel')) === 0);
        expect(await job.getState()).toBe('completed');
      },
      TEST_TIMEOUT_MS,
    );

    test(
      'by a wish from a time without a scheduler ends when there is one',
      async () => {
        const own = new Jobs(bed, 'wished');
        const first = await start('wished');
        const running = await own.add('sleep 8084', attempts);
        await own.begun(running);
        await crash(first, redis, 'wished');
        const waiting = await own.add('true', attempts);
        await wish(running, 'wished');
        await wish(waiting, 'wished');
        await start('wished');
        expect(await endOf(own, running)).toMatchObject({ ...cancelledOnce, begun: 1 });
        expect(await endOf(own, waiting)).toMatchObject({ failedReason: NOT_WANTED });
      },
      TEST_TIMEOUT_MS,
    );
  });
});

suite(titleOf('kaon bullmq and the Redis of its cluster'), () => {
  test('that is killed and comes back with its file: jobs run on, and each completes once', async () => {
    const server = await startRedisBed({ appendonly: 'yes' });
    let cluster: ClusterBed | undefined;
    let own: QueueBed | undefined;
    try {
      cluster = await startClusterBed(['--resources', 'cpus=4,mem=2G'], server.url);
      const { socketPath } = server;
      own = openQueueBed({ start: cluster.start, parent: cluster.directory, socketPath });
      await own.scheduler('--queue', 'all', ...SMALL);
      const jobs = new Jobs(own, 'all');
      const away = await jobs.add(`${jobs.after('away')}; exit 5`);
      const long = await jobs.add(jobs.after('back'));
      for (const job of [away, long]) await jobs.begun(job);
      await server.kill();
      jobs.open('away');
      await until(() => jobs.runs(away).ended === 1);
      await server.restart();
      const { failedReason } = await jobs.ended(away);
      jobs.open('back');
      expect(failedReason).toBe('exited with code 5');
      expect(await endOf(jobs, long)).toEqual(DONE_ONCE);
      expect(jobs.runs(away)).toEqual(ONCE);
    } finally {
      await own?.stop();
      await cluster?.stop();
      await server.stop();
    }
  }, 240_000);
});

suite(titleOf('kaon bullmq on several nodes'), () => {
  let nodes: NodesBed;
  let bed: QueueBed;
  /** Beside the one of the bed. */
  let master: Running | undefined;
  beforeAll(async () => {
    nodes = await startNodesBed(
      ['one', 'two'].map((name) => ({ name, resources: 'cpus=2,mem=1G' })),
      ['--agent-timeout', '8s'],
    );
    const { start, redis, directory } = nodes;
    bed = openQueueBed({ start, parent: directory, socketPath: redis.socketPath });
    const config = bed.file(
      'config.json',
      JSON.stringify({ queues: ['nodes'], lostMax: 1, lockDuration: '4s' }),
    );
    await bed.scheduler('--config', config, ...SMALL);
  }, 360_000);
  afterAll(async () => {
    await bed.stop();
    master?.child.kill('SIGKILL');
    await master?.ended;
    await nodes.stop();
  }, 120_000);

  /** The node that a job runs on. */
  const nodeOf = async ({ id = '' }: Job): Promise<string> => {
    const tasks = await jsonOf<{ taskId: string; agentId: string; state: string }[]>(
      nodes,
      'tasks',
    );
    const own = tasks.find(
      ({ taskId, state }) => taskId.startsWith(`nodes.${id}.`) && state === 'TASK_RUNNING',
    );
    return own?.agentId ?? '';
  };
  const runsOn = async (job: Job): Promise<string> => {
    let node = '';
    await until(async () => {
      node = await nodeOf(job);
      return node !== '';
    });
    return node;
  };
  const lose = async (name: string): Promise<void> => {
    await nodes.cutPower(name);
    expect((await nodes.kaon('gone', '--force', name)).exitCode).toBe(0);
  };

  test.each([
    ['with its lock', 'locked'],
    ['whose lock has run out', 'unlocked'],
  ])(
    'a scheduler that dies between taking a job and launching it leaves a job %s that the next one launches once',
    async (_how, name) => {
      const jobs = new Jobs(bed, name);
      const job = await jobs.add('true');
      await takeByHand(bed.redis, name, `kaon:bullmq.${name}`);
      if (name === 'unlocked') await bed.redis.del(jobs.queue.toKey(`${job.id ?? ''}:lock`));
      expect(await job.getState()).toBe('active');
      const scheduler = await bed.scheduler('--name', name, '--queue', name, ...SMALL);
      expect(await endOf(jobs, job)).toEqual(DONE_ONCE);
      await scheduler.stop();
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'a plain worker that dies leaves a job that runs when its lock has run out',
    async () => {
      const jobs = new Jobs(bed, 'died');
      const config = { name: 'died', queues: ['died'], lockDuration: '2s' };
      const file = bed.file('died.json', JSON.stringify(config));
      const job = await jobs.add('true');
      await takeByHand(bed.redis, 'died', 'somebody-else');
      await bed.redis.pexpire(jobs.queue.toKey(`${job.id ?? ''}:lock`), 1500);
      const scheduler = await bed.scheduler('--config', file, ...SMALL);
      expect(await endOf(jobs, job)).toEqual(DONE_ONCE);
      await scheduler.stop();
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'a job that is active and no JSON fails, and keeps no scheduler from starting',
    async () => {
      const jobs = new Jobs(bed, 'broken');
      const { redis } = bed;
      const { id = '' } = await jobs.add('true');
      await redis.lmove(jobs.queue.toKey('wait'), jobs.queue.toKey('active'), 'RIGHT', 'LEFT');
      await redis.hset(jobs.queue.toKey(id), 'data', '{"command":');
      const scheduler = await bed.scheduler('--name', 'broken', '--queue', 'broken', ...SMALL);
      await until(async () => (await redis.zscore(jobs.queue.toKey('failed'), id)) !== null);
      expect(await redis.hget(jobs.queue.toKey(id), 'failedReason')).toBe(
        'the job is not valid: it is not JSON',
      );
      expect(await endOf(jobs, await jobs.add('true'))).toEqual(DONE_ONCE);
      await scheduler.stop();
    },
    TEST_TIMEOUT_MS,
  );

  test('a master that is killed, with another in its place, loses no job and doubles none', async () => {
    const jobs = new Jobs(bed, 'nodes');
    const standby = nodes.start('master', '--agent-timeout', '8s');
    master = standby;
    await standby.seen('master.standby');
    const job = await jobs.add(jobs.after('master'));
    await jobs.begun(job);
    const { stdout } = await startCommand([
      'pgrep',
      '-f',
      `${KAON} master --redis ${nodes.redis.url}`,
    ]).ended;
    for (const pid of stdout.trim().split('\n').map(Number)) {
      if (pid !== standby.child.pid) process.kill(pid, 'SIGKILL');
    }
    await standby.seen('master.leading');
    jobs.open('master');
    expect(await endOf(jobs, job)).toEqual(DONE_ONCE);
    expect(await endOf(jobs, await jobs.add('true'))).toEqual(DONE_ONCE);
  }, 180_000);

  test(
    'an agent that is killed loses no job',
    async () => {
      const jobs = new Jobs(bed, 'nodes');
      const job = await jobs.add(`${jobs.after('agent')}; exit 4`);
      await jobs.begun(job);
      const node = nodes.nodes.get(await runsOn(job));
      await node?.systemctl('kill', '--signal=KILL', '--kill-who=main', 'kaon-agent.service');
      jobs.open('agent');
      expect(await endOf(jobs, job)).toEqual({ ...DONE_ONCE, failedReason: 'exited with code 4' });
    },
    TEST_TIMEOUT_MS,
  );

  test('a node that is cut off keeps its job, and no second copy is started', async () => {
    const jobs = new Jobs(bed, 'nodes');
    const job = await jobs.add(jobs.after('cut-off'));
    await jobs.begun(job);
    const node = await runsOn(job);
    nodes.cutOff(node);
    await until(async () => {
      const { stdout } = await nodes.kaon('agents', '--json');
      const agents = JSON.parse(stdout) as { info: { agentId: string }; state: string }[];
      return agents.some(({ info, state }) => info.agentId === node && state === 'unreachable');
    });
    // Others run meanwhile, and it has had its time to be stalled.
    expect(await endOf(jobs, await jobs.add('sleep 5'))).toEqual(DONE_ONCE);
    expect(await job.getState()).toBe('active');
    jobs.open('cut-off');
    await until(() => jobs.runs(job).ended === 1);
    nodes.resume(node);
    expect(await endOf(jobs, job)).toEqual(DONE_ONCE);
  }, 180_000);

  test('a Redis that has lost everything has lost its jobs, whose tasks run to their ends, and new ones are taken', async () => {
    const jobs = new Jobs(bed, 'nodes', 'flushed');
    const lost = await jobs.add(jobs.after('flushed'));
    await jobs.begun(lost);
    await nodes.redis.restart();
    // By then nothing that was there before can turn up any more.
    const next = await jobs.add('true', { jobId: 'after' });
    expect(await endOf(jobs, next)).toEqual(DONE_ONCE);
    expect(jobs.runs(lost)).toEqual({ ...ONCE, ended: 0 });
    jobs.open('flushed');
    await until(() => jobs.runs(lost).ended === 1);
  }, 180_000);

  test('a node that is lost for good has its job run elsewhere, and that was no attempt; after lostMax losses it fails', async () => {
    const jobs = new Jobs(bed, 'nodes', 'lost-nodes');
    const job = await jobs.add(jobs.after('never'));
    const other = await jobs.add(jobs.after('lost'));
    await jobs.begun(job);
    await jobs.begun(other);
    const first = await runsOn(job);
    await lose(first);
    await until(async () => ![first, ''].includes(await nodeOf(job)));
    await until(async () => ![first, ''].includes(await nodeOf(other)));
    jobs.open('lost');
    expect((await jobs.ended(other)).attemptsMade).toBe(1);
    await jobs.begun(job, 2);
    const second = await runsOn(job);
    await lose(second);
    const { failedReason, attemptsMade } = await jobs.ended(job);
    expect({ failedReason, attemptsMade }).toEqual({
      failedReason: expect.stringMatching(/^lost 2 times, at last: /),
      attemptsMade: 1,
    });
    expect(jobs.runs(job).begun).toBe(2);
  }, 180_000);
});
