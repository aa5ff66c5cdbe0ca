/** An agent and its executors in a real systemd: registration, the container and its limits, restarts, ends, lies. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { ExecutorInfo } from '../../protocol/executor.ts';
import type { TaskInfo, TaskStatus } from '../../protocol/task.ts';
import { agentIdOf, executorIdOf, frameworkIdOf, taskIdOf } from '../support/builders.ts';
import { type RunningAgent, startAgentOn } from '../beds/agents.ts';
import { bedReason } from '../beds/available.ts';
import { startSystemdBed, type SystemdBed } from '../beds/private-systemd.ts';

const TEST_TIMEOUT_MS = 120_000;
const RAW_EXECUTOR = resolve('test/support/raw-executor.mjs');
const reason = bedReason('systemd');
const suite = reason === undefined ? describe : describe.skip;

function executor(executorId: string, more: Record<string, unknown> = {}): ExecutorInfo {
  return ExecutorInfo.parse({
    executorId,
    name: executorId,
    resources: { cpuMillis: 100, memMib: 64 },
    command: {
      argv: [process.execPath, '--expose-gc', RAW_EXECUTOR],
      // What is freed goes back to the kernel, or the container could not get smaller.
      environment: { MALLOC_MMAP_THRESHOLD_: '131072' },
    },
    ...more,
  });
}

const says = (data: string, memMib = 32): Partial<TaskInfo> => ({
  data,
  resources: { cpuMillis: 100, memMib },
});

suite(reason === undefined ? 'executors' : `executors (skipped: ${reason})`, () => {
  let bed: SystemdBed;
  const running: RunningAgent[] = [];
  const start = async (name: string): Promise<RunningAgent> => {
    const agent = await startAgentOn(bed, name);
    running.push(agent);
    return agent;
  };
  const until = async (holds: () => boolean): Promise<void> => {
    while (!holds()) await new Promise((done) => setTimeout(done, 20));
  };
  const kill = (agent: RunningAgent, taskId: string): void => {
    const task = { frameworkId: frameworkIdOf('f1'), taskId: taskIdOf(taskId) };
    agent.hub.send({ type: 'KillTask', ...task, by: 'framework' });
  };
  const shutDown = (agent: RunningAgent, name: string, executorId: string): void => {
    agent.hub.send({
      type: 'ShutdownExecutor',
      frameworkId: frameworkIdOf('f1'),
      agentId: agentIdOf(name),
      executorId: executorIdOf(executorId),
    });
  };
  /** The kernel's word on the container of a unit: memory in MiB, CPU in thousandths. */
  const limits = (unit: string): { memMib: number; cpuMillis: number } => {
    const slice = bed.run('systemctl', 'show', '-P', 'Slice', unit).trim();
    const group = bed.run('systemctl', 'show', '-P', 'ControlGroup', slice).trim();
    const read = (controller: string, file: string): number =>
      Number(readFileSync(join(bed.inside.cgroupRoot, controller, group, file), 'utf8'));
    return {
      memMib: read('memory', 'memory.limit_in_bytes') / 1024 / 1024,
      cpuMillis: read('cpu', 'cpu.cfs_quota_us') / (read('cpu', 'cpu.cfs_period_us') / 1000),
    };
  };

  beforeAll(async () => {
    bed = await startSystemdBed();
  }, TEST_TIMEOUT_MS);
  afterEach(async () => {
    for (const agent of running.splice(0)) await agent.stop();
  });
  afterAll(() => bed.stop(), TEST_TIMEOUT_MS);

  test(
    'tasks of one executor run in one unit, whose limits are its own and those of its tasks',
    async () => {
      const agent = await start('one');
      const info = executor('e1');
      agent.hub.host('1.1.1', 't1', info, says('hold'));
      agent.hub.host('1.1.2', 't2', info, says('hold', 100));
      const { unit = '', source } = await agent.hub.status('1.1.1', 'TASK_RUNNING');
      expect(source).toBe('SOURCE_EXECUTOR');
      expect((await agent.hub.status('1.1.2', 'TASK_RUNNING')).unit).toBe(unit);
      expect(limits(unit)).toEqual({ memMib: 64 + 32 + 100, cpuMillis: 300 });

      kill(agent, 't2');
      expect((await agent.hub.status('1.1.2', 'TASK_KILLED')).message).toBe('killed');
      await until(() => limits(unit).memMib === 64 + 32);
      expect(limits(unit)).toEqual({ memMib: 96, cpuMillis: 200 });
      shutDown(agent, 'one', 'e1');
      await agent.hub.heard('ExitedExecutor');
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'an agent that is restarted finds executor and tasks, and what it missed is told',
    async () => {
      const first = await start('again');
      const info = executor('e1');
      first.hub.host('1.1.1', 't1', info, says('hold'));
      const gate = join(bed.directory, 'again.gate');
      const wait = `until [ -e ${gate} ]; do sleep 0.05; done`;
      first.hub.host('1.1.2', 't2', info, says(`spawn ${wait}; exit 0`));
      await first.hub.status('1.1.1', 'TASK_RUNNING');
      await first.hub.status('1.1.2', 'TASK_RUNNING');
      await first.stop();
      // Only now, or there would be nothing to miss.
      writeFileSync(gate, '');

      const second = await start('again');
      const { tasks, executors } = await second.hub.registered();
      expect(executors).toMatchObject([{ frameworkId: 'f1', launchId: 'E.e1', info }]);
      expect(tasks).toMatchObject([
        { launchId: '1.1.1', state: 'TASK_RUNNING', executorId: 'e1', executorLaunchId: 'E.e1' },
        { launchId: '1.1.2', state: 'TASK_RUNNING' },
      ]);
      expect(await second.hub.status('1.1.2', 'TASK_FINISHED')).toMatchObject({
        certificate: { exitCode: 0 },
      });
      kill(second, 't1');
      await second.hub.status('1.1.1', 'TASK_KILLED');
      shutDown(second, 'again', 'e1');
      await second.hub.heard('ExitedExecutor');
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'under a random load with memory in use the limit is never below the sum, nothing is killed, and at rest it is the sum',
    async () => {
      const agent = await start('churn');
      const info = executor('e1', { resources: { cpuMillis: 100, memMib: 128 } });
      agent.hub.host('1.1.0', 'rest', info, says('hold'));
      const { unit = '' } = await agent.hub.status('1.1.0', 'TASK_RUNNING');
      let isOver = false;
      const exit = agent.hub.heard('ExitedExecutor').then(({ message }) => {
        if (!isOver) throw new Error(message);
      });
      let seed = 7;
      const below = (max: number): number => (seed = (seed * 48_271) % 2_147_483_647) % max;
      const ends: Promise<TaskStatus>[] = [];
      for (let index = 1; index <= 400; index += 1) {
        const [memMib, ms] = [4 + below(60), below(60)];
        const uses = Math.floor(memMib / 2);
        const launchId = `1.1.${String(index)}`;
        agent.hub.host(launchId, `t${String(index)}`, info, says(`churn ${uses} ${ms}`, memMib));
        // A task that finds a limit below the sum ends as TASK_ERROR, and is waited for in vain.
        ends.push(agent.hub.status(launchId, 'TASK_FINISHED'));
        if (below(4) === 0) await Promise.race([ends[below(ends.length)], exit]);
      }
      await Promise.race([Promise.all(ends), exit]);
      await until(() => limits(unit).memMib === 128 + 32);
      expect(agent.hub.statesOf('TASK_ERROR')).toEqual([]);
      isOver = true;
      shutDown(agent, 'churn', 'e1');
      await exit;
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'an executor that exits loses its tasks, and the master is told of both',
    async () => {
      const agent = await start('exits');
      const info = executor('e1');
      agent.hub.host('1.1.1', 't1', info, says('hold'));
      await agent.hub.status('1.1.1', 'TASK_RUNNING');
      agent.hub.host('1.1.2', 't2', info, says('exit 3'));
      const message = 'Lost executor e1: exited with code 3';
      const lost = { reason: 'REASON_EXECUTOR_TERMINATED', message };
      expect(await agent.hub.status('1.1.1', 'TASK_LOST')).toMatchObject(lost);
      expect(await agent.hub.status('1.1.2', 'TASK_LOST')).toMatchObject(lost);
      expect(await agent.hub.heard('ExitedExecutor')).toMatchObject({ launchId: 'E.e1', message });
      // A launch that was on its way meanwhile must not start it again.
      agent.hub.host('1.1.3', 't3', info, says('hold'));
      expect((await agent.hub.status('1.1.3', 'TASK_DROPPED')).message).toContain('had ended');
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'a container that runs out of memory ends with its tasks, and they say why',
    async () => {
      const agent = await start('oom');
      agent.hub.host('1.1.1', 't1', executor('e1'), says('hold'));
      await agent.hub.status('1.1.1', 'TASK_RUNNING');
      agent.hub.host('1.1.2', 't2', executor('e1'), says('alloc 400'));
      expect(await agent.hub.status('1.1.1', 'TASK_FAILED')).toMatchObject({
        reason: 'REASON_CONTAINER_LIMITATION_MEMORY',
        message: expect.stringMatching(/container of executor e1 .* memory limit 128M, peak/),
      });
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'one that ignores its shutdown is ended after its grace period, with what has left its session',
    async () => {
      const agent = await start('stubborn');
      const info = executor('e1', { shutdownGracePeriodMs: 300 });
      agent.hub.host('1.1.1', 't1', info, says('ignore'));
      agent.hub.host('1.1.2', 't2', info, says('spawn setsid sleep 987654 & exit 0'));
      await agent.hub.status('1.1.2', 'TASK_FINISHED');
      await agent.hub.status('1.1.1', 'TASK_RUNNING');
      shutDown(agent, 'stubborn', 'e1');
      expect(await agent.hub.status('1.1.1', 'TASK_KILLED')).toMatchObject({
        message: expect.stringContaining('ended by signal 9 (SIGKILL)'),
      });
      expect(bed.run('sh', '-c', 'pgrep -f "[s]leep 987654" || true')).toBe('');
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'one that never registers is ended, and its tasks fail with that reason',
    async () => {
      const agent = await start('silent');
      const info = executor('e1', {
        registrationTimeoutMs: 300,
        command: { argv: ['sleep', '1000'] },
      });
      agent.hub.host('1.1.1', 't1', info, says('hold'));
      expect(await agent.hub.status('1.1.1', 'TASK_FAILED')).toMatchObject({
        reason: 'REASON_EXECUTOR_REGISTRATION_TIMEOUT',
        message: 'executor e1 did not register within 300ms',
      });
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'with limits for each task, one that runs out of memory dies alone, and its certificate says so',
    async () => {
      const agent = await start('alone');
      const info = executor('e1', { isolation: 'task' });
      agent.hub.host('1.1.1', 't1', info, says('spawn sleep 1000'));
      const hog = "spawn exec python3 -c 'x=bytearray(200<<20)'";
      agent.hub.host('1.1.2', 't2', info, says(hog, 40));
      const { certificate, ...status } = await agent.hub.status('1.1.2', 'TASK_FAILED');
      expect({ status, certificate }).toMatchObject({
        status: { reason: 'REASON_CONTAINER_LIMITATION_MEMORY' },
      });
      expect(status.message).toMatch(/^killed by the kernel: memory limit 40M, peak (39|40)/);
      expect(certificate).toMatchObject({ signal: 9, oomKills: 1, memoryLimitBytes: 40 << 20 });
      expect(agent.hub.countOf('ExitedExecutor')).toBe(0);
      agent.hub.host('1.1.3', 't3', info, says('finish'));
      await agent.hub.status('1.1.3', 'TASK_FINISHED');
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'a lying executor harms nobody: it is told, cut off, comes back, and its tasks are as they were',
    async () => {
      const agent = await start('liar');
      const info = executor('e1');
      agent.hub.host('1.1.1', 't1', info, says('hold'));
      await agent.hub.status('1.1.1', 'TASK_RUNNING');
      const lies = [
        '{"type":"StatusUpdate","update":{"taskId":"t9","launchId":"9.9.9","updateId":"x","state":"TASK_FINISHED"}}',
        '{"type":"StatusUpdate","update":{"taskId":"t1","launchId":"1.1.1","updateId":"y","state":"TASK_STAGING"}}',
        'not json',
        '{"type":"RegisterExecutor","token":"wrong","frameworkId":"f1","executorId":"e1"}',
      ];
      lies.forEach((lie, index) => {
        agent.hub.host(`1.2.${String(index)}`, `lie${String(index)}`, info, says(`say ${lie}`));
      });
      agent.hub.host('1.3.1', 'last', info, says('finish'));
      await agent.hub.status('1.3.1', 'TASK_FINISHED');
      kill(agent, 't1');
      await agent.hub.status('1.1.1', 'TASK_KILLED');
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'what is over leaves no checkpoint and no unit behind, and a journal only while its ends may be wanted again',
    async () => {
      const agent = await start('tidy');
      agent.hub.host('1.1.1', 't1', executor('e1'), says('finish'));
      agent.hub.acknowledge(await agent.hub.status('1.1.1', 'TASK_RUNNING'));
      agent.hub.acknowledge(await agent.hub.status('1.1.1', 'TASK_FINISHED'));
      shutDown(agent, 'tidy', 'e1');
      await agent.hub.heard('ExitedExecutor');
      await until(() => readdirSync(join(agent.directory, 'live')).length === 0);
      await until(() => bed.run('systemctl', 'list-units', '--all', '-q', '*tidy*e1*') === '');
      expect(readdirSync(join(agent.directory, 'executors'))).toEqual(['E.e1']);
      await agent.stop();
      const next = await start('tidy');
      expect(await next.hub.registered()).toMatchObject({
        tasks: [],
        executors: [],
        ended: [{ taskId: 't1', launchId: '1.1.1' }],
      });
    },
    TEST_TIMEOUT_MS,
  );
});
