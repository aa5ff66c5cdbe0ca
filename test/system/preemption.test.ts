/** Preemption on a real cluster: what its victim hears, and what stands on its certificate. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { bedReason } from '../beds/available.ts';
import { type ClusterBed, jsonOf, leadInstead, startClusterBed, until } from '../beds/cluster.ts';

const TEST_TIMEOUT_MS = 120_000;
const reason = bedReason('systemd') ?? bedReason('redis');
const suite = reason === undefined ? describe : describe.skip;

suite(reason === undefined ? 'preemption' : `preemption (skipped: ${reason})`, () => {
  let cluster: ClusterBed;
  let giveBack: () => Promise<void>;
  beforeAll(async () => {
    cluster = await startClusterBed(['--resources', 'cpus=2,mem=1G']);
    // The master of the bed never preempts.
    giveBack = await leadInstead(cluster, '--preempt-after', '2s');
  }, TEST_TIMEOUT_MS);
  afterAll(async () => {
    await giveBack();
    await cluster.stop();
  }, TEST_TIMEOUT_MS);

  const taskOf = async (
    name: string,
  ): Promise<{ state: string; status?: { reason?: string; message?: string } } | undefined> => {
    const tasks = await jsonOf<{ name: string; state: string }[]>(cluster, 'tasks', '--all');
    return tasks.find((task) => task.name === name);
  };

  test(
    'a task of a lower priority ends with its grace period and its reason, and makes room',
    async () => {
      const says = 'trap "echo told; exit 3" TERM; echo up; sleep 300 & wait';
      const low = ['--name', 'low', '--role', 'eng/batch', '--cpus', '1.5', '--kill-grace', '60s'];
      expect((await cluster.kaon('run', '-d', ...low, '--', 'sh', '-c', says)).exitCode).toBe(0);
      // Before that its shell would end by SIGTERM and say nothing.
      await until(async () => (await cluster.kaon('logs', 'low')).stdout === 'up\n');
      const high = ['--name', 'high', '--role', 'eng/prod', '--cpus', '1', '--priority', '10'];
      const { exitCode, stdout } = await cluster.kaon('run', ...high, '--', 'echo', 'done');
      expect([exitCode, stdout]).toEqual([0, 'done\n']);
      expect(await taskOf('low')).toMatchObject({
        state: 'TASK_KILLED',
        status: {
          reason: 'REASON_PREEMPTED',
          message: 'preempted, for work that goes before it: exited with code 3',
          certificate: { exitCode: 3, stdoutTail: 'up\ntold\n' },
        },
      });
      expect((await cluster.kaon('why', 'low')).stdout).toContain('REASON_PREEMPTED');
      const events = (await cluster.kaon('events', '--json')).stdout;
      expect(events).toMatch(/"agent\.preempted".*1 cpus, 128M for run under role eng\/prod/s);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'one of another tree is left alone',
    async () => {
      const other = ['--name', 'other', '--role', 'ops', '--cpus', '1.5'];
      expect((await cluster.kaon('run', '-d', ...other, '--', 'sleep', '300')).exitCode).toBe(0);
      const high = ['--name', 'late', '--role', 'eng', '--cpus', '1', '--priority', '10'];
      const waiting = cluster.start('run', ...high, '--', 'true');
      await waiting.seen('waiting:');
      // It may say so before the master knows of it.
      await until(async () => (await cluster.kaon('why', 'late')).exitCode === 0);
      const why = (await cluster.kaon('why', 'late')).stdout;
      expect(why).toContain('too little by 0.5 cpus');
      expect((await taskOf('other'))?.state).toBe('TASK_RUNNING');
      // Room is made by hand.
      const { stdout } = await cluster.kaon('tasks', '--json');
      const [task] = JSON.parse(stdout) as { taskId: string }[];
      await cluster.kaon('kill', task?.taskId ?? '');
      expect((await waiting.ended).exitCode).toBe(0);
    },
    TEST_TIMEOUT_MS,
  );
});
