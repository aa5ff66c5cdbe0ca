import { describe, expect, test } from '@jest/globals';
import type { TaskState } from '../../../protocol/task-state.ts';
import {
  agentTask,
  amount,
  frameworkIdOf,
  taskIdOf,
  taskInfo,
  taskStatus,
  updateIdOf,
} from '../../support/builders.ts';
import {
  benchWithRunning,
  benchWithTasks,
  events,
  eventsOf,
  history,
  ignored,
  sends,
  sent,
  told,
  type MasterBench,
} from '../../support/master-bench.ts';

const used = (bench: MasterBench): unknown => bench.state.frameworks.get(frameworkIdOf('f1'))?.used;

describe('an update', () => {
  test('is taken into the task and forwarded to its framework', () => {
    const bench = benchWithTasks(taskInfo('t1'));
    const effects = bench.update('a1', taskStatus('f1', 't1', 'TASK_RUNNING'));
    expect(told(effects, 'f1')).toEqual(['t1 TASK_RUNNING']);
    expect(bench.task('f1', 't1')).toMatchObject({ state: 'TASK_RUNNING', unheard: false });
  });

  test('that comes twice before it is acknowledged is forwarded once', () => {
    const bench = benchWithTasks(taskInfo('t1'));
    bench.update('a1', taskStatus('f1', 't1', 'TASK_RUNNING'));
    expect(bench.update('a1', taskStatus('f1', 't1', 'TASK_RUNNING'))).toEqual([]);
  });

  test('that comes twice after another leader took over is forwarded once', () => {
    const bench = benchWithTasks(taskInfo('t1'));
    bench.update('a1', taskStatus('f1', 't1', 'TASK_RUNNING'));
    expect(bench.failOver().update('a1', taskStatus('f1', 't1', 'TASK_RUNNING'))).toEqual([]);
  });

  test('of a task that has ended and been acknowledged is acknowledged, so that the agent forgets it', () => {
    const bench = benchWithTasks(taskInfo('t1'));
    bench.update('a1', taskStatus('f1', 't1', 'TASK_FINISHED'));
    bench.acknowledge('f1', 't1', 't1.TASK_FINISHED');
    const effects = bench.update('a1', taskStatus('f1', 't1', 'TASK_FINISHED'));
    expect(sends(effects)).toEqual(['agent:a1 StatusUpdateAcknowledgement']);
  });

  test('of a task that the master does not know is acknowledged', () => {
    const bench = benchWithTasks();
    const effects = bench.update('a1', taskStatus('f1', 't9', 'TASK_FAILED'));
    expect(sent(effects, 'agent:a1', 'StatusUpdateAcknowledgement')).toEqual([
      {
        type: 'StatusUpdateAcknowledgement',
        frameworkId: 'f1',
        taskId: 't9',
        updateId: 't9.TASK_FAILED',
      },
    ]);
  });

  test('from another agent than the one that runs the task changes nothing', () => {
    const bench = benchWithTasks(taskInfo('t1'));
    bench.registerAgent('a2');
    const effects = bench.update('a2', taskStatus('f1', 't1', 'TASK_FAILED'));
    expect(told(effects, 'f1')).toEqual([]);
    expect(bench.task('f1', 't1')?.state).toBe('TASK_STAGING');
  });

  test('from a session of the agent that was replaced is ignored', () => {
    const bench = benchWithTasks(taskInfo('t1'));
    bench.registerAgent('a1', { session: 's2' });
    const effects = bench.say(
      'agent:a1',
      { type: 'StatusUpdate', status: taskStatus('f1', 't1', 'TASK_RUNNING') },
      's1',
    );
    expect(ignored(effects)).toEqual(['its session is not registered']);
  });

  test('from a framework is ignored', () => {
    const bench = benchWithTasks(taskInfo('t1'));
    const effects = bench.say('framework:f1', {
      type: 'StatusUpdate',
      status: taskStatus('f1', 't1', 'TASK_FINISHED'),
    });
    expect(ignored(effects)).toEqual(['its session is not registered']);
  });

  test.each<[TaskState, TaskState]>([
    ['TASK_RUNNING', 'TASK_STARTING'],
    ['TASK_KILLING', 'TASK_RUNNING'],
    ['TASK_FINISHED', 'TASK_RUNNING'],
    ['TASK_FINISHED', 'TASK_FAILED'],
  ])('from %s back to %s is dropped and acknowledged', (from, to) => {
    const bench = benchWithTasks(taskInfo('t1'));
    bench.update('a1', taskStatus('f1', 't1', from));
    const effects = bench.update('a1', taskStatus('f1', 't1', to));
    expect(sends(effects)).toEqual(['agent:a1 StatusUpdateAcknowledgement']);
    expect(bench.task('f1', 't1')?.state).toBe(from);
  });

  test('that wants no acknowledgement is forwarded and not kept', () => {
    const bench = benchWithTasks(taskInfo('t1'));
    const { updateId: _updateId, ...status } = taskStatus('f1', 't1', 'TASK_FINISHED');
    const effects = bench.update('a1', status);
    expect(told(effects, 'f1')).toEqual(['t1 TASK_FINISHED']);
    expect(history(effects)).toMatchObject([{ taskId: 't1' }]);
  });

  test('for a framework that is away waits for it', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    bench.silence('framework:f1');
    const effects = bench.update('a1', taskStatus('f1', 't1', 'TASK_FINISHED'));
    expect(sends(effects)).toEqual([]);
    expect(bench.task('f1', 't1')?.unacknowledged).toHaveLength(1);
  });
});

describe('a task that ends', () => {
  test('gives its resources back at once, and they are offered again', () => {
    const bench = benchWithTasks(taskInfo('t1', { resources: amount(4, 8192) }));
    expect(bench.offersOf('f1')).toEqual([]);
    bench.update('a1', taskStatus('f1', 't1', 'TASK_FINISHED'));
    expect(used(bench)).toEqual(amount(0, 0));
    expect(bench.offersOf('f1')).toEqual(['a1 4 8192']);
  });

  test('goes into the history when its last update is acknowledged', () => {
    const bench = benchWithTasks(taskInfo('t1', { labels: { app: 'shop' } }));
    bench.update('a1', taskStatus('f1', 't1', 'TASK_RUNNING'));
    bench.nowMs += 500;
    bench.update(
      'a1',
      taskStatus('f1', 't1', 'TASK_FAILED', {
        reason: 'REASON_COMMAND_EXITED',
        message: 'exited with code 3',
      }),
    );
    expect(history(bench.acknowledge('f1', 't1', 't1.TASK_FAILED'))).toEqual([]);
    expect(history(bench.acknowledge('f1', 't1', 't1.TASK_RUNNING'))).toEqual([
      {
        frameworkId: 'f1',
        frameworkName: 'f1',
        taskId: 't1',
        launchId: '1.t.1',
        agentId: 'a1',
        name: 't1',
        resources: amount(1, 128),
        state: 'TASK_FAILED',
        launchedAtMs: 1_000_000,
        endedAtMs: 1_000_500,
        argv: ['true'],
        labels: { app: 'shop' },
        status: expect.objectContaining({ message: 'exited with code 3' }) as unknown,
      },
    ]);
    expect(bench.task('f1', 't1')).toBeUndefined();
  });

  test('leaves the last 2048 characters of its output in the history', () => {
    const bench = benchWithTasks(taskInfo('t1'));
    const certificate = { exitCode: 1, stdoutTail: `${'x'.repeat(3000)}end`, stderrTail: 'short' };
    bench.update('a1', taskStatus('f1', 't1', 'TASK_FAILED', { certificate }));
    const [ended] = history(bench.acknowledge('f1', 't1', 't1.TASK_FAILED'));
    expect(ended?.status?.certificate).toEqual({
      exitCode: 1,
      stdoutTail: `${'x'.repeat(2045)}end`,
      stderrTail: 'short',
    });
  });

  test('may be followed by another with the same id', () => {
    const bench = benchWithTasks(taskInfo('t1'));
    bench.update('a1', taskStatus('f1', 't1', 'TASK_FINISHED'));
    bench.acknowledge('f1', 't1', 't1.TASK_FINISHED');
    bench.launch('f1', bench.offerOf('f1').offerId, [taskInfo('t1')]);
    expect(bench.task('f1', 't1')?.state).toBe('TASK_STAGING');
  });
});

describe('an acknowledgement', () => {
  test('goes on to the agent', () => {
    const bench = benchWithTasks(taskInfo('t1'));
    bench.update('a1', taskStatus('f1', 't1', 'TASK_RUNNING'));
    const effects = bench.acknowledge('f1', 't1', 't1.TASK_RUNNING');
    expect(sent(effects, 'agent:a1', 'StatusUpdateAcknowledgement')).toMatchObject([
      { taskId: 't1', updateId: 't1.TASK_RUNNING' },
    ]);
  });

  test('that comes twice says nothing new', () => {
    const bench = benchWithTasks(taskInfo('t1'));
    bench.update('a1', taskStatus('f1', 't1', 'TASK_RUNNING'));
    bench.acknowledge('f1', 't1', 't1.TASK_RUNNING');
    expect(bench.acknowledge('f1', 't1', 't1.TASK_RUNNING')).toEqual([]);
  });

  test('of something that was never said does nothing', () => {
    const bench = benchWithTasks(taskInfo('t1'));
    expect(bench.acknowledge('f1', 't1', 'nonsense')).toEqual([]);
    expect(bench.acknowledge('f1', 't9', 'nonsense')).toEqual([]);
  });

  test('by another framework is ignored', () => {
    const bench = benchWithTasks(taskInfo('t1'));
    bench.registerFramework('f2');
    bench.update('a1', taskStatus('f1', 't1', 'TASK_RUNNING'));
    const effects = bench.say('framework:f2', {
      type: 'StatusUpdateAcknowledgement',
      frameworkId: frameworkIdOf('f1'),
      taskId: taskIdOf('t1'),
      updateId: updateIdOf('t1.TASK_RUNNING'),
    });
    expect(ignored(effects)).toEqual(['its session is not registered']);
  });
});

describe('a kill', () => {
  test('goes to the agent of the task, and names the launch', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    const effects = bench.kill('framework:f1', 'f1', 't1');
    expect(sent(effects, 'agent:a1', 'KillTask')).toEqual([
      {
        type: 'KillTask',
        frameworkId: 'f1',
        taskId: 't1',
        launchId: '1.t.1',
        by: 'framework',
      },
    ]);
    expect(events(effects)).toEqual(['task.kill-requested']);
  });

  test('of a task that is only staged goes to the agent behind the launch', () => {
    const bench = benchWithTasks(taskInfo('t1'));
    expect(sends(bench.kill('framework:f1', 'f1', 't1'))).toEqual(['agent:a1 KillTask']);
  });

  test('of a task that the master does not know is answered with TASK_UNKNOWN', () => {
    const bench = benchWithTasks();
    expect(told(bench.kill('framework:f1', 'f1', 't9'), 'f1')).toEqual([
      't9 TASK_UNKNOWN REASON_TASK_UNKNOWN',
    ]);
  });

  test('of a task that has ended does nothing: its update is on the way', () => {
    const bench = benchWithTasks(taskInfo('t1'));
    bench.update('a1', taskStatus('f1', 't1', 'TASK_FINISHED'));
    expect(bench.kill('framework:f1', 'f1', 't1')).toEqual([]);
  });

  test('by an operator names the operator', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    const effects = bench.kill('operator:ann', 'f1', 't1');
    expect(eventsOf(effects)).toMatchObject([{ type: 'task.kill-requested', reason: 'operator' }]);
    expect(bench.task('f1', 't1')?.killRequested).toBe('operator');
  });

  test('by an operator, of a task that nobody knows, tells the framework nothing', () => {
    expect(benchWithTasks().kill('operator:ann', 'f1', 't9')).toEqual([]);
  });

  test('of another framework is ignored', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    bench.registerFramework('f2');
    expect(ignored(bench.kill('framework:f2', 'f1', 't1'))).toEqual([
      'its session is not registered',
    ]);
  });

  test('that a framework says is an operator’s is still the framework’s', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    bench.say('framework:f1', {
      type: 'KillTask',
      frameworkId: frameworkIdOf('f1'),
      taskId: taskIdOf('t1'),
      by: 'operator',
    });
    expect(bench.task('f1', 't1')?.killRequested).toBe('framework');
  });

  test('is said again to an agent that was away', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    bench.silence('agent:a1');
    expect(sends(bench.kill('framework:f1', 'f1', 't1'))).toEqual([]);
    const effects = bench.registerAgent('a1', {
      session: 's2',
      tasks: [agentTask('f1', 't1')],
    });
    expect(sent(effects, 'agent:a1', 'KillTask')).toHaveLength(1);
  });

  test('is said again with the shortest grace period that was asked for', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    bench.silence('agent:a1');
    for (const gracePeriodMs of [2000, 500, 9000]) {
      bench.say('framework:f1', {
        type: 'KillTask',
        frameworkId: frameworkIdOf('f1'),
        taskId: taskIdOf('t1'),
        gracePeriodMs,
        by: 'framework',
      });
    }
    const words = { session: 's2', tasks: [agentTask('f1', 't1')] };
    const [kill] = sent(bench.registerAgent('a1', words), 'agent:a1', 'KillTask');
    expect(kill?.gracePeriodMs).toBe(500);
  });
});

test('nothing of a registry that another leader wrote is lost', () => {
  const bench = benchWithTasks(taskInfo('t1'), taskInfo('t2'));
  bench.update('a1', taskStatus('f1', 't1', 'TASK_RUNNING'));
  const next = bench.failOver();
  expect([...next.state.tasks.values()]).toEqual([...bench.state.tasks.values()]);
  expect(next.offersOf('f1')).toEqual(bench.offersOf('f1'));
});
