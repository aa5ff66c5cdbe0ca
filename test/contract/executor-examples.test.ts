/** The examples of executors, as they are, against a fake agent: in JavaScript with `kaon/executor`, and in plain Python. */
import { cpSync, existsSync, mkdirSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import type { ExecutorMessage, LaunchedTask } from '../../protocol/executor-messages.ts';
import type { ExecutorProcess, FakeAgentSocket } from '../support/fake-agent-socket.ts';
import {
  buildExecutors,
  endOf,
  killTask,
  launchedTask,
  runningOf,
  runTask,
  startExecutor,
  startFakeAgent,
  statesOf,
} from '../support/fake-agent-socket.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

function isInPath(program: string): boolean {
  const directories = (process.env['PATH'] ?? '').split(delimiter);
  return directories.some((directory) => existsSync(join(directory, program)));
}

let home: string;
let agent: FakeAgentSocket;
let executor: ExecutorProcess;

/** A directory with the examples in it, and with the package as npm would install it. */
beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'kaon-examples-'));
  const installed = join(home, 'node_modules/kaon');
  mkdirSync(installed, { recursive: true });
  cpSync(join(ROOT, 'package.json'), join(installed, 'package.json'));
  for (const name of ['executor.mjs', 'executor.py']) {
    cpSync(join(ROOT, 'examples', name), join(home, name));
  }
  await buildExecutors(join(installed, 'dist'));
});
afterAll(() => rm(home, { recursive: true, force: true }));

const examples = [
  {
    name: 'executor.mjs',
    program: 'node',
    argv: () => [process.execPath, join(home, 'executor.mjs')],
    quick: '1000',
    result: { state: 'TASK_FINISHED', data: '168', message: '168 primes below 1000' },
    bad: 'many',
    failure: { state: 'TASK_FAILED', message: 'not a number: many' },
    long: '99999999999',
  },
  {
    name: 'executor.py',
    program: 'python3',
    argv: () => ['python3', join(home, 'executor.py')],
    quick: 'true',
    result: { state: 'TASK_FINISHED', exitCode: 0 },
    bad: 'exit 3',
    failure: { state: 'TASK_FAILED', exitCode: 3 },
    long: 'sleep 1000',
  },
];

for (const { name, argv, quick, result, bad, failure, long, program } of examples) {
  const isThere = isInPath(program);
  const suite = isThere ? describe : describe.skip;

  suite(`examples/${name}${isThere ? '' : ` (skipped: ${program} is not in PATH)`}`, () => {
    beforeEach(async () => {
      agent = await startFakeAgent();
      executor = startExecutor(argv(), agent.environment);
      await agent.heard.count(1);
    });

    afterEach(async () => {
      await agent.comeBack();
      agent.send({ type: 'ShutdownExecutor', gracePeriodMs: 0 });
      await executor.exit;
      await agent.close();
      expect(agent.faults).toEqual([]);
      expect(executor.said()).toBe('');
    });

    async function heard<T extends ExecutorMessage['type']>(
      type: T,
    ): Promise<Extract<ExecutorMessage, { type: T }>> {
      const { message } = await agent.heard.first((one) => one.message.type === type);
      return message as Extract<ExecutorMessage, { type: T }>;
    }

    test('runs tasks and reports them', async () => {
      agent.send(runTask(launchedTask('t1', { data: quick })));
      expect(await endOf(agent, 't1')).toMatchObject(result);
      expect(statesOf(agent, 't1')).toEqual(['TASK_RUNNING', 'TASK_FINISHED']);
    });

    test('runs a launch once, however often it comes', async () => {
      const launched = launchedTask('t1', { data: quick });
      agent.send(runTask(launched), runTask(launched));
      await endOf(agent, 't1');
      agent.send(runTask(launched), runTask(launchedTask('t2', { data: quick })));
      await endOf(agent, 't2');
      expect(statesOf(agent, 't1')).toEqual(['TASK_RUNNING', 'TASK_FINISHED']);
    });

    test('runs the tasks of a group', async () => {
      const tasks = ['t1', 't2'].map((taskId) => launchedTask(taskId, { data: quick }));
      agent.send({ type: 'RunTaskGroup', groupId: 'g1' as never, tasks });
      for (const taskId of ['t1', 't2']) expect(await endOf(agent, taskId)).toMatchObject(result);
    });

    test('reports a failure', async () => {
      agent.send(runTask(launchedTask('t1', { data: bad })));
      expect(await endOf(agent, 't1')).toMatchObject(failure);
    });

    test('kills a task', async () => {
      const launched = launchedTask('t1', { data: long });
      agent.send(runTask(launched));
      await runningOf(agent, 't1');
      agent.send(killTask(launched));
      expect(await endOf(agent, 't1')).toMatchObject({ state: 'TASK_KILLED' });
    });

    test('answers a message of its framework', async () => {
      agent.send({ type: 'FrameworkToExecutor', data: 'hello' });
      expect(await heard('ExecutorToFramework')).toMatchObject({ data: '0 tasks, hello' });
    });

    test('comes back to an agent that was away, with its tasks and what was not acknowledged', async () => {
      agent.habits.acknowledges = false;
      const [ended, going] = [
        launchedTask('t1', { data: quick }),
        launchedTask('t2', { data: long }),
      ];
      agent.send(runTask(ended), runTask(going));
      await endOf(agent, 't1');
      await runningOf(agent, 't2');
      await agent.goAway();
      agent.habits.acknowledges = true;
      await agent.comeBack();
      const { tasks, updates } = await heard('ReregisterExecutor');
      // What a task was to do need not be repeated.
      const ids = ({ launchId, task }: LaunchedTask): string => `${launchId} ${task.taskId}`;
      expect(tasks.map(ids)).toEqual([ended, going].map(ids));
      expect(updates.map(({ taskId, state }) => `${taskId} ${state}`).sort()).toEqual([
        't1 TASK_FINISHED',
        't1 TASK_RUNNING',
        't2 TASK_RUNNING',
      ]);
      agent.send(runTask(ended), runTask(launchedTask('t3', { data: quick })));
      await endOf(agent, 't3');
      expect(statesOf(agent, 't1')).toEqual(['TASK_RUNNING', 'TASK_FINISHED']);
    });

    test('shuts down when its tasks have been killed and reported', async () => {
      agent.send(runTask(launchedTask('t1', { data: long })));
      await runningOf(agent, 't1');
      agent.send({ type: 'ShutdownExecutor', gracePeriodMs: 60_000 });
      expect(await executor.exit).toEqual({ code: 0, signal: null });
      expect(await endOf(agent, 't1')).toMatchObject({ state: 'TASK_KILLED' });
    });
  });
}
