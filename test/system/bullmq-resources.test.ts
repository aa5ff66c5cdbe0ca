/** Jobs that ask for more than CPU and memory, and jobs that others have to make room for, on a real cluster. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { Job, Queue } from 'bullmq';
import { bedReason } from '../beds/available.ts';
import type { BullmqBed } from '../beds/bullmq.ts';
import { ended, startBullmqBed, until } from '../beds/bullmq.ts';
import { leadInstead } from '../beds/cluster.ts';

const TEST_TIMEOUT_MS = 120_000;
const reason = bedReason('systemd') ?? bedReason('redis');
const suite = reason === undefined ? describe : describe.skip;
const SMALL = ['--cpus', '0.1', '--mem', '32M'];

suite(`resources of jobs${reason === undefined ? '' : ` (skipped: ${reason})`}`, () => {
  let bed: BullmqBed;
  let giveBack: () => Promise<void>;
  let jobs: Queue;
  let processed: Queue;
  let licensed: Queue;
  beforeAll(async () => {
    const has = 'cpus=2,mem=1G,disk=10G,ports=31000-31003,license=2';
    bed = await startBullmqBed(['--resources', has]);
    // The master of the bed never preempts.
    giveBack = await leadInstead(bed.cluster, '--preempt-after', '1s');
    const processor = bed.file('ports.mjs', 'export default () => process.env.KAON_PORTS ?? null;');
    const config = bed.file(
      'resources.json',
      JSON.stringify({
        placementTimeout: '1s',
        queues: [
          'jobs',
          { name: 'processed', processor, mem: '96M' },
          { name: 'licensed', resources: { license: 1 }, quota: { license: 1 } },
        ],
      }),
    );
    await bed.scheduler('--config', config, ...SMALL);
    jobs = bed.queue('jobs');
    processed = bed.queue('processed');
    licensed = bed.queue('licensed');
  }, 240_000);
  afterAll(async () => {
    await giveBack();
    await bed.stop();
  }, TEST_TIMEOUT_MS);

  const run = async (data: object, queue = jobs): Promise<Job> =>
    ended(queue, await queue.add('job', data));

  test.each([
    ['a unit of its own', {}],
    ['a shared executor', { executor: 'shared' }],
  ])(
    'a command in %s gets its ports, and finds them in its environment',
    async (_where, more) => {
      const command = 'echo "$KAON_PORTS $KAON_PORTS_1"';
      const resources = { ports: 2, disk: '1G' };
      const job = await run({ command, resources, ...more });
      expect(job.returnvalue).toMatchObject({ stdout: '31000,31001 31001\n' });
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'a job for a processor finds them there, too, and the next one in its process does not',
    async () => {
      const job = await run({ kaon: { resources: { ports: 1 } } }, processed);
      expect(job.returnvalue).toBe('31000');
      expect((await run({}, processed)).returnvalue).toBeNull();
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'what a queue gives to each of its jobs counts, and so does its quota',
    async () => {
      const gate = `until [ -e ${bed.directory}/license.gate ]; do sleep 0.05; done`;
      const first = await licensed.add('first', { command: gate });
      // Taken by the queue is not yet held by a task.
      const holds = async (): Promise<boolean> =>
        /"license": ?1/.test((await bed.cluster.kaon('tasks', '--json')).stdout);
      await until(holds, `a license of job ${first.id ?? ''}`);
      const second = await licensed.add('second', { command: 'true' });
      const { stdout } = await bed.cluster.kaon('bullmq', 'why', 'licensed', second.id ?? '');
      expect(stdout).toMatch(
        /the jobs of the queue hold 0\.1 cpus, 32M, license 1, and their quota is license 1/,
      );
      bed.file('license.gate', '');
      expect((await ended(licensed, second)).returnvalue).toMatchObject({ exitCode: 0 });
    },
    TEST_TIMEOUT_MS,
  );

  test.each<[string, object, RegExp]>([
    [
      'no agent has',
      { gpus: 1 },
      /^no agent is large enough for 0\.1 cpus, 32M, gpus 1: the largest/,
    ],
    [
      'has another name',
      { gpu: 1 },
      /field resources\.gpu: gpu is no resource; did you mean gpus\?$/,
    ],
    [
      'is less than nothing',
      { ports: -1 },
      /field resources\.ports: -1 is not a whole number up to/,
    ],
    [
      'is no number',
      { ports: 'many' },
      /field resources\.ports: "many" is not a whole number up to/,
    ],
  ])(
    'a job whose resource %s fails, and says so',
    async (_what, resources, words) => {
      expect((await run({ command: 'true', resources })).failedReason).toMatch(words);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'a job makes room for one of a higher priority, and is run again after it without having lost an attempt',
    async () => {
      const says = (name: string): string => `echo ${name} >> ${bed.directory}/order`;
      const gate = `until [ -e ${bed.directory}/low.gate ]; do sleep 0.05; done`;
      const command = `${says('low')}; ${gate}`;
      const low = await jobs.add('low', { command, cpus: 1.5, killGrace: '1s' }, { attempts: 3 });
      await until(() => bed.lines('order').length === 1, 'a word of the first');
      // Both are in front of the urgent one, and would take what is made free for it.
      const next = await jobs.add('next', { command: says('next'), cpus: 1.5 });
      const urgent = { command: `${says('urgent')}; touch ${bed.directory}/low.gate`, cpus: 1.5 };
      const high = await jobs.add('high', { ...urgent, priority: 10 });
      expect((await ended(jobs, high)).returnvalue).toMatchObject({ exitCode: 0 });
      const done = await ended(jobs, low);
      expect(await done.getState()).toBe('completed');
      expect(done.attemptsMade).toBe(1);
      const { logs } = await jobs.getJobLogs(low.id ?? '');
      expect(logs).toContainEqual(expect.stringMatching(/^kaon: preempted, for work that goes/));
      expect((await ended(jobs, next)).attemptsMade).toBe(1);
      const [first, second, ...others] = bed.lines('order');
      expect([first, second]).toEqual(['low', 'urgent']);
      // The urgent one may have ended before the other is back in its queue.
      expect(others.sort()).toEqual(['low', 'next']);
    },
    TEST_TIMEOUT_MS,
  );
});
