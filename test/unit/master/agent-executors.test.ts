/** Executors that an agent reports when it registers, or does not, against what the master believes. */
import { describe, expect, test } from '@jest/globals';
import {
  agentExecutor,
  agentIdOf,
  agentTask,
  amount,
  executorIdOf,
  executorInfo,
  executorTask,
  frameworkIdOf,
  frameworkInfo,
  launchIdOf,
  taskStatus,
} from '../../support/builders.ts';
import type { MasterBench } from '../../support/master-bench.ts';
import {
  benchWithTasks,
  createMasterBench,
  events,
  eventsOf,
  sends,
  sent,
  told,
} from '../../support/master-bench.ts';

/** A bench whose task t1 of executor e1 runs on a1. */
function benchWithExecutor(): MasterBench {
  const bench = benchWithTasks(executorTask('t1'));
  bench.update('a1', taskStatus('f1', 't1', 'TASK_RUNNING', { source: 'SOURCE_EXECUTOR' }));
  return bench;
}

const shutDown = (effects: Parameters<typeof sent>[0]): unknown[] =>
  sent(effects, 'agent:a1', 'ShutdownExecutor').map(({ executorId, launchId }) => [
    executorId,
    launchId,
  ]);

describe('an executor that the agent reports', () => {
  test('and that the master knows stays as it is', () => {
    const bench = benchWithExecutor();
    const effects = bench.registerAgent('a1', {
      session: 's2',
      tasks: [agentTask('f1', 't1')],
      executors: [agentExecutor('f1', 'e1')],
    });
    expect(sends(effects)).toEqual(['agent:a1 AgentRegistered']);
    expect(bench.usedOn('a1')).toBe('1.1 160');
  });

  test('and that nobody knows is counted, with its framework', () => {
    const bench = createMasterBench();
    const effects = bench.registerAgent('a1', {
      executors: [agentExecutor('f1', 'e1')],
      frameworks: [{ info: frameworkInfo('f1'), detached: false }],
    });
    expect(events(effects)).toEqual([
      'agent.registered',
      'framework.recovered',
      'executor.adopted',
    ]);
    expect([bench.usedOn('a1'), bench.state.frameworks.get(frameworkIdOf('f1'))?.used]).toEqual([
      '0.1 32',
      amount(0.1, 32),
    ]);
  });

  test('and that nobody knows is held to its description', () => {
    const bench = createMasterBench();
    bench.registerAgent('a1', {
      executors: [agentExecutor('f1', 'e1', { info: executorInfo('e1', { name: 'old' }) })],
      frameworks: [{ info: frameworkInfo('f1'), detached: false }],
    });
    bench.registerFramework('f1');
    const effects = bench.launch('f1', bench.offerOf('f1').offerId, [executorTask('t1')]);
    expect(told(effects, 'f1')).toEqual(['t1 TASK_ERROR REASON_TASK_INVALID']);
  });

  test('of an older launch than the known one is shut down, and is not counted', () => {
    const bench = benchWithExecutor();
    const older = agentExecutor('f1', 'e1', { launchId: launchIdOf('0.x.7') });
    const effects = bench.registerAgent('a1', { session: 's2', executors: [older] });
    expect(shutDown(effects)).toEqual([['e1', '0.x.7']]);
    expect(bench.usedOn('a1')).toBe('0 0');
  });

  test('of a newer launch than the known one takes its place', () => {
    const bench = benchWithExecutor();
    const next = bench.failOver();
    const newer = agentExecutor('f1', 'e1', { launchId: launchIdOf('9.x.1') });
    const effects = next.registerAgent('a1', { session: 's2', executors: [newer] });
    expect([shutDown(effects), next.executor('a1', 'f1', 'e1')?.launchId]).toEqual([[], '9.x.1']);
  });

  test('and that was given up is shut down, and is not counted', () => {
    const bench = benchWithExecutor();
    bench.say('operator:o', { type: 'MarkAgentGone', agentId: agentIdOf('a1') });
    const launchId = launchIdOf('1.t.1');
    const effects = bench.registerAgent('a1', {
      session: 's2',
      executors: [agentExecutor('f1', 'e1', { launchId })],
    });
    expect([shutDown(effects), bench.usedOn('a1')]).toEqual([[['e1', '1.t.1']], '0 0']);
  });

  test('and that was given up is shut down as often as it is reported', () => {
    const bench = benchWithExecutor();
    bench.say('operator:o', { type: 'MarkAgentGone', agentId: agentIdOf('a1') });
    const executors = [agentExecutor('f1', 'e1', { launchId: launchIdOf('1.t.1') })];
    bench.registerAgent('a1', { session: 's2', executors });
    const effects = bench.registerAgent('a1', { session: 's3', executors });
    expect(shutDown(effects)).toEqual([['e1', '1.t.1']]);
  });

  test('of a framework that was torn down while the cluster was recovering is shut down', () => {
    const bench = benchWithExecutor();
    bench.loseData();
    bench.registerFramework('f1', {}, 's9');
    bench.say('framework:f1', { type: 'UnregisterFramework', frameworkId: frameworkIdOf('f1') });
    const effects = bench.registerAgent('a1', {
      session: 's2',
      tasks: [agentTask('f1', 't1')],
      executors: [agentExecutor('f1', 'e1')],
      frameworks: [{ info: frameworkInfo('f1'), detached: false }],
    });
    expect([shutDown(effects), bench.state.frameworks.size]).toEqual([[['e1', '1.t.1']], 0]);
  });
});

test('a framework that was torn down while the cluster was recovering is not known again by an ended task', () => {
  const bench = benchWithExecutor();
  bench.loseData();
  bench.registerFramework('f1', {}, 's9');
  bench.say('framework:f1', { type: 'UnregisterFramework', frameworkId: frameworkIdOf('f1') });
  bench.registerAgent('a1', {
    session: 's2',
    tasks: [agentTask('f1', 't1', { state: 'TASK_FAILED' })],
    frameworks: [{ info: frameworkInfo('f1'), detached: false }],
  });
  expect(bench.state.frameworks.size).toBe(0);
});

describe('an executor that the agent does not report', () => {
  test('is not counted any more, and its framework hears of it after its tasks', () => {
    const bench = benchWithExecutor();
    const effects = bench.registerAgent('a1', { session: 's2' });
    expect(sends(effects).filter((line) => line.startsWith('framework:'))).toEqual([
      'framework:f1 StatusUpdate',
      'framework:f1 ExecutorLost',
      'framework:f1 ResourceOffers',
    ]);
    expect(bench.usedOn('a1')).toBe('0 0');
  });

  test('is lost only after ends of its tasks that the agent has yet to tell', () => {
    const bench = benchWithExecutor();
    const ended = agentTask('f1', 't1', { state: 'TASK_FAILED' });
    const before = bench.registerAgent('a1', { session: 's2', tasks: [ended] });
    const after = bench.update('a1', taskStatus('f1', 't1', 'TASK_FAILED'));
    const lost = (effects: typeof before): number =>
      sent(effects, 'framework:f1', 'ExecutorLost').length;
    expect([lost(before), lost(after)]).toEqual([0, 1]);
  });

  test('is sent again with the task that it was launched for, if that never got there', () => {
    const bench = benchWithTasks(executorTask('t1'));
    const effects = bench.registerAgent('a1', { session: 's2' });
    const [run] = sent(effects, 'agent:a1', 'RunTask');
    expect(run).toMatchObject({
      launchId: '1.t.2',
      executorLaunchId: '1.t.1',
      task: { executor: executorInfo('e1') },
    });
    expect(sends(effects)).not.toContain('framework:f1 ExecutorLost');
    expect(bench.usedOn('a1')).toBe('1.1 160');
  });

  test('is sent again with each task that never got there', () => {
    const bench = benchWithTasks(executorTask('t1'), executorTask('t2'));
    const effects = bench.registerAgent('a1', { session: 's2' });
    expect(
      sent(effects, 'agent:a1', 'RunTask').map(({ executorLaunchId }) => executorLaunchId),
    ).toEqual(['1.t.1', '1.t.1']);
  });

  test('has ended if it has been there, and a later task that never got there is lost with it', () => {
    const bench = benchWithExecutor();
    bench.launch('f1', bench.offerOf('f1').offerId, [executorTask('t2')]);
    const effects = bench.registerAgent('a1', { session: 's2' });
    expect(told(effects, 'f1')).toEqual([
      't1 TASK_LOST REASON_RECONCILIATION',
      't2 TASK_LOST REASON_RECONCILIATION',
    ]);
    expect(sends(effects).filter((line) => line.startsWith('framework:'))).toEqual([
      'framework:f1 StatusUpdate',
      'framework:f1 StatusUpdate',
      'framework:f1 ExecutorLost',
      'framework:f1 ResourceOffers',
    ]);
  });

  test('has ended if its first task has ended and been acknowledged', () => {
    const bench = benchWithExecutor();
    bench.launch('f1', bench.offerOf('f1').offerId, [executorTask('t2')]);
    bench.update('a1', taskStatus('f1', 't1', 'TASK_FINISHED'));
    bench.acknowledge('f1', 't1', 't1.TASK_RUNNING');
    bench.acknowledge('f1', 't1', 't1.TASK_FINISHED');
    const effects = bench.registerAgent('a1', { session: 's2' });
    expect(told(effects, 'f1')).toEqual(['t2 TASK_LOST REASON_RECONCILIATION']);
  });

  test('is not sent again with a task of it when its end is known', () => {
    const bench = benchWithTasks(executorTask('t1'));
    bench.exited('a1', 'e1');
    const effects = bench.registerAgent('a1', { session: 's2' });
    expect(told(effects, 'f1')).toEqual(['t1 TASK_LOST REASON_RECONCILIATION']);
  });

  test('is not sent again after a loss of data', () => {
    const bench = benchWithTasks(executorTask('t1'));
    bench.loseData();
    const effects = bench.registerAgent('a1', { session: 's2' });
    expect(sends(effects)).not.toContain('agent:a1 RunTask');
    expect(bench.usedOn('a1')).toBe('0 0');
  });
});

test('a task that is sent again to an executor that is there names its launch', () => {
  const bench = benchWithExecutor();
  bench.launch('f1', bench.offerOf('f1').offerId, [executorTask('t2')]);
  const effects = bench.registerAgent('a1', {
    session: 's2',
    tasks: [agentTask('f1', 't1')],
    executors: [agentExecutor('f1', 'e1')],
  });
  expect(sent(effects, 'agent:a1', 'RunTask')).toMatchObject([
    { task: { taskId: 't2' }, executorLaunchId: '1.t.1' },
  ]);
});

test('a task that the agent reports of an executor is known as one', () => {
  const bench = createMasterBench();
  const effects = bench.registerAgent('a1', {
    tasks: [agentTask('f1', 't1', { executorId: executorIdOf('e1') })],
    executors: [agentExecutor('f1', 'e1')],
    frameworks: [{ info: frameworkInfo('f1'), detached: false }],
  });
  expect(bench.task('f1', 't1')?.executorId).toBe('e1');
  expect(eventsOf(effects).at(-1)).toMatchObject({ type: 'task.adopted', executorId: 'e1' });
});
