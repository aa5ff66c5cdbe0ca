/** Executors in the master: when they begin, what is counted of them, and when they are forgotten. */
import { describe, expect, test } from '@jest/globals';
import type { ExecutorInfo } from '../../../protocol/executor.ts';
import {
  agentIdOf,
  agentTask,
  amount,
  executorIdOf,
  executorInfo,
  executorTask,
  frameworkIdOf,
  frameworkInfo,
  launchIdOf,
  agentExecutor,
  sessionOf,
  taskInfo,
  taskStatus,
} from '../../support/builders.ts';
import type { MasterBench } from '../../support/master-bench.ts';
import {
  benchWithTasks,
  createMasterBench,
  events,
  eventsOf,
  ignored,
  sends,
  sent,
  told,
} from '../../support/master-bench.ts';

/** A bench whose task t1 of executor e1 runs on a1. */
function benchWithExecutor(): MasterBench {
  const bench = benchWithTasks(executorTask('t1'));
  bench.update('a1', taskStatus('f1', 't1', 'TASK_RUNNING', { source: 'SOURCE_EXECUTOR' }));
  bench.acknowledge('f1', 't1', 't1.TASK_RUNNING');
  return bench;
}

/** The same, and t1 has ended; the executor is idle. */
function benchWithIdle(): MasterBench {
  const bench = benchWithExecutor();
  bench.update('a1', taskStatus('f1', 't1', 'TASK_FINISHED', { source: 'SOURCE_EXECUTOR' }));
  bench.acknowledge('f1', 't1', 't1.TASK_FINISHED');
  return bench;
}

const lost = (effects: Parameters<typeof sent>[0]): string[] =>
  sent(effects, 'framework:f1', 'ExecutorLost').map(
    ({ agentId, executorId, message }) => `${executorId} on ${agentId}: ${message}`,
  );

describe('the first task that names an executor', () => {
  test('is sent with it, and with the launch of the executor', () => {
    const bench = createMasterBench();
    bench.registerAgent('a1');
    bench.registerFramework('f1');
    const [run] = sent(bench.launch('f1', 'o1.t.1', [executorTask('t1')]), 'agent:a1', 'RunTask');
    expect(run).toMatchObject({
      launchId: '1.t.2',
      executorLaunchId: '1.t.1',
      task: { taskId: 't1', executor: executorInfo('e1') },
    });
  });

  test('makes the own resources of the executor count on the agent', () => {
    expect(benchWithTasks(executorTask('t1')).usedOn('a1')).toBe('1.1 160');
  });

  test('makes them count of the framework', () => {
    const bench = benchWithTasks(executorTask('t1'));
    expect(bench.state.frameworks.get(frameworkIdOf('f1'))?.used).toEqual(amount(1.1, 160));
  });

  test('is kept without the executor, which has a record of its own', () => {
    const bench = benchWithTasks(executorTask('t1'));
    expect(bench.task('f1', 't1')).toMatchObject({ executorId: 'e1' });
    expect(bench.task('f1', 't1')?.info).not.toHaveProperty('executor');
  });

  test('is an event after that of the executor', () => {
    const bench = createMasterBench();
    bench.registerAgent('a1');
    bench.registerFramework('f1');
    const launched = eventsOf(bench.launch('f1', 'o1.t.1', [executorTask('t1')])).filter(
      ({ type }) => type.endsWith('.launched'),
    );
    expect(launched).toMatchObject([
      { type: 'executor.launched', agentId: 'a1', executorId: 'e1', launchId: '1.t.1' },
      { type: 'task.launched', taskId: 't1', executorId: 'e1', launchId: '1.t.2' },
    ]);
  });

  test('and does not fit with it is refused, with the numbers', () => {
    const bench = createMasterBench();
    bench.registerAgent('a1');
    bench.registerFramework('f1');
    const task = executorTask('t1', 'e1', { resources: amount(4, 128) });
    const [update] = sent(bench.launch('f1', 'o1.t.1', [task]), 'framework:f1', 'StatusUpdate');
    expect(update?.status).toMatchObject({
      state: 'TASK_ERROR',
      reason: 'REASON_RESOURCES_EXCEED_OFFER',
      message:
        'not launched: the task needs 4 cpus, 128M and its executor, which agent a1 does not have yet, 0.1 cpus, 32M, together 4.1 cpus, 160M, of the offer 4 cpus, 8G is left',
    });
  });

  test('and is refused leaves no executor behind', () => {
    const bench = benchWithTasks(executorTask('t1', 'e1', { resources: amount(4, 128) }));
    expect([...bench.state.executors]).toEqual([]);
  });
});

describe('another task of an executor that is there', () => {
  test('adds what is its own only', () => {
    const bench = benchWithTasks(executorTask('t1'), executorTask('t2'));
    expect(bench.usedOn('a1')).toBe('2.1 288');
  });

  test('is sent with the same launch of the executor, in a later call too', () => {
    const bench = benchWithExecutor();
    const effects = bench.launch('f1', bench.offerOf('f1').offerId, [executorTask('t2')]);
    expect(sent(effects, 'agent:a1', 'RunTask')[0]?.executorLaunchId).toBe('1.t.1');
  });

  test('may use all that is left, because the executor has its own already', () => {
    const bench = benchWithExecutor();
    const { cpuMillis, memMib } = bench.offerOf('f1').resources;
    const task = executorTask('t2', 'e1', { resources: { cpuMillis, memMib } });
    bench.launch('f1', bench.offerOf('f1').offerId, [task]);
    expect(bench.usedOn('a1')).toBe('4 8192');
  });

  test('that describes it otherwise is refused', () => {
    const bench = benchWithExecutor();
    const other = executorInfo('e1', { resources: amount(0.2, 64) });
    const effects = bench.launch('f1', bench.offerOf('f1').offerId, [executorTask('t2', other)]);
    expect(sent(effects, 'framework:f1', 'StatusUpdate')[0]?.status).toMatchObject({
      state: 'TASK_ERROR',
      reason: 'REASON_TASK_INVALID',
      message: expect.stringContaining('existing executor with the same id is not compatible'),
    });
  });

  test('that describes it otherwise than a task of the same call is refused alone', () => {
    const bench = createMasterBench();
    bench.registerAgent('a1');
    bench.registerFramework('f1');
    const other = executorInfo('e1', { name: 'other' });
    const tasks = [executorTask('t1'), executorTask('t2', other), executorTask('t3')];
    expect(told(bench.launch('f1', 'o1.t.1', tasks), 'f1')).toEqual([
      't2 TASK_ERROR REASON_TASK_INVALID',
    ]);
  });

  test('that writes the same description in another order is launched', () => {
    const bench = benchWithExecutor();
    const shuffled = Object.fromEntries(Object.entries(executorInfo('e1')).reverse());
    const task = { ...executorTask('t2'), executor: shuffled };
    const effects = bench.launch('f1', bench.offerOf('f1').offerId, [task]);
    expect(sends(effects)).toContain('agent:a1 RunTask');
  });

  test('on another agent begins another executor', () => {
    const bench = benchWithExecutor();
    bench.decline('f1', bench.offerOf('f1').offerId, 60_000);
    bench.registerAgent('a2');
    bench.launch('f1', bench.offerOf('f1').offerId, [executorTask('t2')]);
    expect([...bench.state.executors.keys()]).toEqual(['a1/f1/e1', 'a2/f1/e1']);
  });
});

describe('a task whose parts do not go together', () => {
  test.each<[string, object]>([
    ['a task of a custom executor with a command', { command: { argv: ['true'] } }],
    [
      'a task that is stopped otherwise than its executor',
      { whenUnreachable: { stopAfterMs: 60_000 } },
    ],
  ])('%s is an error', (_title, more) => {
    const bench = createMasterBench();
    bench.registerAgent('a1');
    bench.registerFramework('f1');
    const effects = bench.launch('f1', 'o1.t.1', [{ ...executorTask('t1'), ...more }]);
    expect(told(effects, 'f1')).toEqual(['t1 TASK_ERROR REASON_TASK_INVALID']);
  });
});

test('five thousand tasks of one executor are compared with what is there once', () => {
  const bench = benchWithTasks(executorTask('first'));
  bench.registerAgent('a1', {
    session: 's2',
    resources: amount(10_000, 1_000_000),
    tasks: [agentTask('f1', 'first')],
    executors: [agentExecutor('f1', 'e1')],
  });
  const executor = bench.executor('a1', 'f1', 'e1');
  let comparisons = 0;
  const counting: ProxyHandler<ExecutorInfo> = {
    ownKeys: (info) => {
      comparisons += 1;
      return Reflect.ownKeys(info);
    },
  };
  if (executor) executor.info = new Proxy(executor.info, counting);
  const tasks = Array.from({ length: 5000 }, (_, index) => executorTask(`t${String(index)}`));
  const effects = bench.launch('f1', bench.offerOf('f1').offerId, tasks);
  expect([sent(effects, 'agent:a1', 'RunTask').length, comparisons]).toEqual([5000, 1]);
});

describe('an offer', () => {
  test('names the executors of its framework that are on the agent', () => {
    expect(benchWithExecutor().offerOf('f1').executorIds).toEqual(['e1']);
  });

  test('does not name those of others', () => {
    const bench = benchWithExecutor();
    bench.decline('f1', bench.offerOf('f1').offerId, 60_000);
    bench.registerFramework('f2');
    expect(bench.offerOf('f2').executorIds).toEqual([]);
  });
});

describe('an executor', () => {
  test('without tasks holds its own resources', () => {
    expect(benchWithIdle().usedOn('a1')).toBe('0.1 32');
  });

  test('that has ended holds nothing', () => {
    const bench = benchWithIdle();
    bench.exited('a1', 'e1');
    expect(bench.usedOn('a1')).toBe('0 0');
  });

  test('that has ended is lost for its framework, with the words of the agent', () => {
    expect(lost(benchWithIdle().exited('a1', 'e1'))).toEqual(['e1 on a1: exited with code 3']);
  });

  test('that has ended before the ends of its tasks are known is lost after the last of them', () => {
    const bench = benchWithExecutor();
    expect(lost(bench.exited('a1', 'e1'))).toEqual([]);
    const effects = bench.update('a1', taskStatus('f1', 't1', 'TASK_LOST'));
    expect(sends(effects).filter((line) => line.startsWith('framework:f1'))).toEqual([
      'framework:f1 StatusUpdate',
      'framework:f1 ExecutorLost',
      'framework:f1 ResourceOffers',
    ]);
  });

  test('of another launch that has ended changes nothing', () => {
    const bench = benchWithIdle();
    expect(ignored(bench.exited('a1', 'e1', launchIdOf('1.t.0')))).toEqual(['no such executor']);
    expect(bench.usedOn('a1')).toBe('0.1 32');
  });

  test('that begins again after its end is another launch', () => {
    const bench = benchWithIdle();
    bench.exited('a1', 'e1');
    bench.launch('f1', bench.offerOf('f1').offerId, [executorTask('t2')]);
    expect(bench.executor('a1', 'f1', 'e1')?.launchId).toBe('1.t.3');
  });

  test('is known to the next leader', () => {
    const next = benchWithExecutor().failOver();
    expect([next.executor('a1', 'f1', 'e1')?.info, next.usedOn('a1')]).toEqual([
      executorInfo('e1'),
      '1.1 160',
    ]);
  });

  test('of an agent that cannot be reached is still counted', () => {
    const bench = benchWithIdle();
    bench.silence('agent:a1');
    expect(bench.usedOn('a1')).toBe('0.1 32');
  });

  test('of an agent that has left is lost after its tasks and before the agent', () => {
    const bench = benchWithExecutor();
    const effects = bench.say('operator:o', { type: 'MarkAgentGone', agentId: agentIdOf('a1') });
    expect(sends(effects).filter((line) => line.startsWith('framework:'))).toEqual([
      'framework:f1 RescindResourceOffer',
      'framework:f1 StatusUpdate',
      'framework:f1 ExecutorLost',
      'framework:f1 LostAgent',
    ]);
    expect([...bench.state.executors]).toEqual([]);
  });

  test('whose container cannot shrink yet is an event with the numbers', () => {
    const [event] = eventsOf(
      benchWithIdle().say('agent:a1', {
        type: 'ContainerShrink',
        frameworkId: frameworkIdOf('f1'),
        executorId: executorIdOf('e1'),
        launchId: launchIdOf('1.t.1'),
        isDelayed: true,
        limitMib: 160,
        neededMib: 32,
      }),
    );
    expect(event).toMatchObject({
      type: 'executor.shrink-delayed',
      executorId: 'e1',
      message: 'its memory limit stays at 160M instead of 32M while the memory is in use',
    });
  });
});

describe('words of a framework for its executor', () => {
  const words = {
    type: 'FrameworkToExecutor' as const,
    frameworkId: frameworkIdOf('f1'),
    agentId: agentIdOf('a1'),
    executorId: executorIdOf('e1'),
    data: 'aGVsbG8=',
  };

  test('go to its agent', () => {
    const effects = benchWithExecutor().say('framework:f1', words);
    expect(sent(effects, 'agent:a1', 'FrameworkToExecutor')).toEqual([words]);
  });

  test('go nowhere if there is no such executor', () => {
    const bench = benchWithTasks(taskInfo('t1'));
    expect(ignored(bench.say('framework:f1', words))).toEqual(['no such executor']);
  });
});

describe('the shutdown of an executor', () => {
  const shutdown = {
    type: 'ShutdownExecutor' as const,
    frameworkId: frameworkIdOf('f1'),
    agentId: agentIdOf('a1'),
    executorId: executorIdOf('e1'),
  };

  test('is asked of its agent, for that launch', () => {
    const effects = benchWithExecutor().say('framework:f1', shutdown);
    expect(sent(effects, 'agent:a1', 'ShutdownExecutor')).toEqual([
      { ...shutdown, launchId: '1.t.1' },
    ]);
  });

  test('keeps it counted until the agent says that it has ended', () => {
    const bench = benchWithIdle();
    bench.say('framework:f1', shutdown);
    expect(bench.usedOn('a1')).toBe('0.1 32');
  });

  test('is a kill of its tasks, for an agent that registers again', () => {
    const bench = benchWithExecutor();
    bench.say('framework:f1', shutdown);
    const effects = bench.registerAgent('a1', {
      session: 's2',
      tasks: [agentTask('f1', 't1')],
      executors: [agentExecutor('f1', 'e1')],
    });
    expect(sends(effects)).toContain('agent:a1 KillTask');
  });

  test('is asked again of an agent that registers with it', () => {
    const bench = benchWithIdle();
    bench.say('framework:f1', shutdown);
    const executors = [agentExecutor('f1', 'e1')];
    const next = bench.failOver();
    const effects = next.registerAgent('a1', { session: 's2', executors });
    expect(sent(effects, 'agent:a1', 'ShutdownExecutor')).toHaveLength(1);
    expect(next.usedOn('a1')).toBe('0.1 32');
  });

  test('leaves nothing behind when it has ended', () => {
    const bench = benchWithIdle();
    bench.say('framework:f1', shutdown);
    bench.exited('a1', 'e1');
    expect(bench.state.agents.get(agentIdOf('a1'))?.record.writtenOff).toEqual([]);
  });

  test('of one that is not there is passed over', () => {
    const bench = benchWithTasks(taskInfo('t1'));
    expect(ignored(bench.say('framework:f1', shutdown))).toEqual(['no such executor']);
  });

  test('by another framework is ignored', () => {
    const bench = benchWithExecutor();
    bench.registerFramework('f2');
    const effects = bench.say('framework:f2', shutdown);
    expect(ignored(effects)).toEqual(['its session is not registered']);
  });
});

describe('when a framework is torn down', () => {
  const teardown = { type: 'UnregisterFramework' as const, frameworkId: frameworkIdOf('f1') };

  test('agents that have only an executor of it are told', () => {
    const effects = benchWithIdle().say('framework:f1', teardown);
    expect(sent(effects, 'agent:a1', 'ShutdownFramework')).toHaveLength(1);
  });

  test('its executors are counted on their agents until these say that they have ended', () => {
    const bench = benchWithIdle();
    bench.say('framework:f1', teardown);
    const before = bench.usedOn('a1');
    bench.exited('a1', 'e1');
    expect([before, bench.usedOn('a1')]).toEqual(['0.1 32', '0 0']);
  });

  test('an agent that comes back with an executor of it is asked to end that', () => {
    const bench = benchWithIdle();
    bench.silence('agent:a1');
    bench.say('framework:f1', teardown);
    const effects = bench.registerAgent('a1', {
      session: 's2',
      executors: [agentExecutor('f1', 'e1')],
      frameworks: [{ info: frameworkInfo('f1'), detached: false }],
    });
    expect(sent(effects, 'agent:a1', 'ShutdownExecutor')).toHaveLength(1);
    expect([bench.usedOn('a1'), bench.state.frameworks.size]).toEqual(['0.1 32', 0]);
  });

  test('and comes again under its id, an agent that comes back still has to end its executors', () => {
    const bench = benchWithIdle();
    bench.silence('agent:a1');
    bench.say('framework:f1', teardown);
    bench.registerFramework('f1', {}, 's2');
    const executors = [agentExecutor('f1', 'e1')];
    const effects = bench.registerAgent('a1', { session: 's2', executors });
    expect(sent(effects, 'agent:a1', 'ShutdownExecutor')).toHaveLength(1);
  });

  test('and comes again under its id, its executors are counted of it', () => {
    const bench = benchWithIdle();
    bench.say('framework:f1', teardown);
    bench.registerFramework('f1', {}, 's2');
    expect(bench.state.frameworks.get(frameworkIdOf('f1'))?.used).toEqual(amount(0.1, 32));
  });
});

describe('a framework that has left and whose tasks go on', () => {
  const detach = { type: 'DetachFramework' as const, frameworkId: frameworkIdOf('f1') };

  test('is told to agents that have only an executor of it, so that they end it', () => {
    const effects = benchWithIdle().say('framework:f1', detach);
    expect(sent(effects, 'agent:a1', 'UpdateFramework')).toMatchObject([{ detached: true }]);
  });

  test('is known until its last executor has ended', () => {
    const bench = benchWithIdle();
    bench.say('framework:f1', detach);
    const before = bench.state.frameworks.size;
    bench.exited('a1', 'e1');
    expect([before, bench.state.frameworks.size]).toEqual([1, 0]);
  });

  test('is told to an agent that was away then and comes back with an executor of it', () => {
    const bench = benchWithIdle();
    bench.silence('agent:a1');
    bench.say('framework:f1', detach);
    const effects = bench.registerAgent('a1', {
      session: 's2',
      executors: [agentExecutor('f1', 'e1')],
      frameworks: [{ info: frameworkInfo('f1'), detached: false }],
    });
    expect(sent(effects, 'agent:a1', 'UpdateFramework')).toMatchObject([{ detached: true }]);
  });
});

describe('events', () => {
  test('tell of a request to shut down, and of the end', () => {
    const bench = benchWithIdle();
    const asked = bench.say('framework:f1', {
      type: 'ShutdownExecutor',
      frameworkId: frameworkIdOf('f1'),
      agentId: agentIdOf('a1'),
      executorId: executorIdOf('e1'),
    });
    expect([...events(asked), ...events(bench.exited('a1', 'e1'))]).toEqual([
      'executor.shutdown-requested',
      'executor.removed',
      'offer.made',
    ]);
  });
});

test('an agent of another node does not get the id while an executor may be running', () => {
  const bench = benchWithIdle();
  bench.silence('agent:a1');
  const effects = bench.registerAgent('a1', { session: 's2', node: 'n2' });
  expect(eventsOf(effects)[0]).toMatchObject({
    type: 'agent.refused',
    message: expect.stringContaining('with 1 executor that may be running'),
  });
  expect(sessionOf('s2')).not.toBe(bench.state.agents.get(agentIdOf('a1'))?.record.session);
});
