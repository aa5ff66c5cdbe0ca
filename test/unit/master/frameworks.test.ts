import { describe, expect, test } from '@jest/globals';
import {
  agentTask,
  amount,
  frameworkIdOf,
  frameworkInfo,
  sessionOf,
  taskInfo,
  taskStatus,
} from '../../support/builders.ts';
import {
  benchWithRunning,
  benchWithTasks,
  createMasterBench,
  events,
  history,
  ignored,
  sends,
  sent,
  told,
} from '../../support/master-bench.ts';

const frameworkId = frameworkIdOf('f1');

describe('a framework that registers', () => {
  test('for the first time is told its id and who leads', () => {
    const effects = createMasterBench().registerFramework('f1');
    expect(sent(effects, 'framework:f1', 'FrameworkRegistered')).toEqual([
      {
        type: 'FrameworkRegistered',
        frameworkId: 'f1',
        known: false,
        master: { masterId: 'm1', epoch: 1 },
      },
    ]);
  });

  test('twice in the same session is answered once', () => {
    const bench = createMasterBench();
    bench.registerFramework('f1');
    expect(bench.registerFramework('f1')).toEqual([]);
  });

  test('again, in another session, is known', () => {
    const bench = createMasterBench();
    bench.registerFramework('f1');
    const [answer] = sent(
      bench.registerFramework('f1', {}, 's2'),
      'framework:f1',
      'FrameworkRegistered',
    );
    expect(answer?.known).toBe(true);
  });

  test('again takes the session over, and the old scheduler reads that it has failed over', () => {
    const bench = createMasterBench();
    bench.registerFramework('f1');
    const effects = bench.registerFramework('f1', {}, 's2');
    expect(effects).toEqual(
      expect.arrayContaining([
        { type: 'session.set', client: 'framework:f1', session: 's2' },
        {
          type: 'stream.end',
          client: 'framework:f1',
          session: 's1',
          farewell: {
            type: 'FrameworkError',
            code: 'framework-failed-over',
            message:
              'framework failed over: another scheduler has registered with this framework id',
          },
        },
      ]),
    );
  });

  test('again gets the offers that its old scheduler held, and they are still good', () => {
    const bench = createMasterBench();
    bench.registerAgent('a1');
    bench.registerFramework('f1');
    const { offerId } = bench.offerOf('f1');
    const effects = bench.registerFramework('f1', {}, 's2');
    const [message] = sent(effects, 'framework:f1', 'ResourceOffers');
    expect(message?.offers.map((offer) => offer.offerId)).toEqual([offerId]);
    bench.launch('f1', offerId, [taskInfo('t1')]);
    expect(bench.task('f1', 't1')?.state).toBe('TASK_STAGING');
  });

  test('again gets the updates that its old scheduler has not acknowledged, in order', () => {
    const bench = benchWithTasks(taskInfo('t1'));
    bench.update('a1', taskStatus('f1', 't1', 'TASK_RUNNING'));
    bench.update('a1', taskStatus('f1', 't1', 'TASK_FINISHED'));
    expect(told(bench.registerFramework('f1', {}, 's2'), 'f1')).toEqual([
      't1 TASK_RUNNING',
      't1 TASK_FINISHED',
    ]);
  });

  test('again is offered what the scheduler before it has declined', () => {
    const bench = createMasterBench();
    bench.registerFramework('f1');
    bench.registerAgent('a1');
    bench.decline('f1', bench.offerOf('f1').offerId, 3_600_000);
    bench.registerFramework('f1', {}, 's2');
    expect(bench.offersOf('f1')).toEqual(['a1 4 8192']);
  });

  test('again does not inherit a suppression or a demand', () => {
    const bench = createMasterBench();
    bench.registerFramework('f1');
    bench.say('framework:f1', { type: 'RequestResources', frameworkId, requests: [] });
    bench.say('framework:f1', { type: 'SuppressOffers', frameworkId });
    bench.registerAgent('a1');
    bench.registerFramework('f1', {}, 's2');
    expect(bench.offersOf('f1')).toEqual(['a1 4 8192']);
  });

  test('after another leader took over is known to it', () => {
    const bench = createMasterBench();
    bench.registerFramework('f1');
    const next = bench.failOver();
    const [answer] = sent(
      next.registerFramework('f1', {}, 's2'),
      'framework:f1',
      'FrameworkRegistered',
    );
    expect(answer).toMatchObject({ known: true, master: { masterId: 'm2', epoch: 2 } });
  });

  test('under the name of another is not registered', () => {
    const bench = createMasterBench();
    const effects = bench.say(
      'framework:f2',
      { type: 'RegisterFramework', framework: frameworkInfo('f1'), session: sessionOf('s1') },
      's1',
    );
    expect(ignored(effects)).toEqual(['a framework registers only itself']);
    expect(bench.state.frameworks.size).toBe(0);
  });

  test('with another session than the one it writes in is not registered', () => {
    const bench = createMasterBench();
    const effects = bench.say(
      'framework:f1',
      { type: 'RegisterFramework', framework: frameworkInfo('f1'), session: sessionOf('s9') },
      's1',
    );
    expect(ignored(effects)).toEqual(['a framework registers only itself']);
  });

  test('finds the tasks that ran before the cluster lost its memory', () => {
    const bench = createMasterBench();
    bench.registerAgent('a1', {
      tasks: [agentTask('f1', 't1', { resources: amount(1, 100) })],
    });
    bench.registerFramework('f1');
    expect(bench.state.frameworks.get(frameworkId)?.used).toEqual(amount(1, 100));
  });
});

describe('a message', () => {
  test('of a session that was replaced is ignored', () => {
    const bench = createMasterBench();
    bench.registerFramework('f1');
    bench.registerFramework('f1', {}, 's2');
    const effects = bench.say('framework:f1', { type: 'UnregisterFramework', frameworkId }, 's1');
    expect(ignored(effects)).toEqual(['its session is not registered']);
    expect(bench.state.frameworks.has(frameworkId)).toBe(true);
  });

  test('in the name of another framework is ignored', () => {
    const bench = createMasterBench();
    bench.registerFramework('f1');
    bench.registerFramework('f2');
    const effects = bench.say('framework:f2', { type: 'UnregisterFramework', frameworkId });
    expect(ignored(effects)).toEqual(['its session is not registered']);
  });

  test('of a framework that never registered is ignored', () => {
    const effects = createMasterBench().say('framework:f1', { type: 'ReviveOffers', frameworkId });
    expect(ignored(effects)).toEqual(['its session is not registered']);
  });

  test('that only a master sends is ignored', () => {
    const effects = createMasterBench().say('agent:a1', { type: 'ShutdownFramework', frameworkId });
    expect(ignored(effects)).toEqual(['not a message for a master']);
  });
});

describe('a framework that goes silent', () => {
  test('loses its offers and keeps its tasks', () => {
    const bench = benchWithTasks(taskInfo('t1'));
    expect(bench.offersOf('f1')).toEqual(['a1 3 8064']);
    const effects = bench.silence('framework:f1');
    expect(bench.offersOf('f1')).toEqual([]);
    expect(events(effects)).toEqual(['offer.rescinded', 'framework.disconnected']);
    expect(bench.task('f1', 't1')?.state).toBe('TASK_STAGING');
  });

  test('is removed after its failover timeout, and its tasks are shut down', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    bench.silence('framework:f1');
    expect(events(bench.wait(59_999))).toEqual([]);
    const effects = bench.wait(1);
    expect(sends(effects)).toEqual(['agent:a1 ShutdownFramework']);
    expect(events(effects)).toEqual(['task.kill-requested', 'framework.removed']);
  });

  test('and comes back in time finds its tasks, and its timeout is over', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    bench.silence('framework:f1');
    bench.wait(59_000);
    bench.registerFramework('f1', {}, 's2');
    bench.wait(1_000_000);
    expect(bench.state.frameworks.get(frameworkId)?.tasks.size).toBe(1);
  });

  test('is told of what happened meanwhile when it comes back', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    bench.silence('framework:f1');
    bench.update('a1', taskStatus('f1', 't1', 'TASK_FINISHED'));
    expect(told(bench.registerFramework('f1', {}, 's2'), 'f1')).toEqual(['t1 TASK_FINISHED']);
  });

  test('twice is disconnected once', () => {
    const bench = createMasterBench();
    bench.registerFramework('f1');
    bench.silence('framework:f1');
    expect(bench.silence('framework:f1')).toEqual([]);
  });

  test('and is not known does no harm', () => {
    expect(createMasterBench().silence('framework:f9', 'agent:a9', 'nobody', '')).toEqual([]);
  });

  test('keeps its timeout over a failover of the master', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    bench.silence('framework:f1');
    bench.wait(59_000);
    const next = bench.failOver();
    expect(events(next.wait(1000))).toContain('framework.removed');
  });
});

test('a framework that does not read its messages is disconnected', () => {
  const bench = createMasterBench();
  bench.registerFramework('f1');
  bench.overflow('framework:f1');
  expect(bench.state.frameworks.get(frameworkId)?.record.state).toBe('disconnected');
});

test('a framework that deactivates is disconnected, and its tasks go on', () => {
  const bench = benchWithRunning(taskInfo('t1'));
  bench.say('framework:f1', { type: 'DeactivateFramework', frameworkId });
  expect(bench.state.frameworks.get(frameworkId)?.record.state).toBe('disconnected');
  expect(bench.task('f1', 't1')?.killRequested).toBeUndefined();
});

describe('a framework that unregisters', () => {
  test('is removed, its tasks are shut down on every agent that has some, and are counted until they end', () => {
    const bench = createMasterBench();
    bench.registerAgent('a1');
    bench.registerAgent('a2');
    bench.registerAgent('a3');
    bench.registerFramework('f1');
    for (const offer of [...bench.state.offers.values()]) {
      if (offer.agentId !== 'a3')
        bench.launch('f1', offer.offerId, [taskInfo(`t-${offer.agentId}`)]);
    }
    const effects = bench.say('framework:f1', { type: 'UnregisterFramework', frameworkId });
    expect(sends(effects).filter((line) => line.startsWith('agent:'))).toEqual([
      'agent:a1 ShutdownFramework',
      'agent:a2 ShutdownFramework',
    ]);
    expect(bench.task('f1', 't-a1')).toBeDefined();
    expect(history(bench.update('a1', taskStatus('f1', 't-a1', 'TASK_KILLED')))).toMatchObject([
      { taskId: 't-a1', state: 'TASK_KILLED' },
    ]);
    expect(bench.task('f1', 't-a1')).toBeUndefined();
  });

  test('has its unacknowledged updates acknowledged for it', () => {
    const bench = benchWithTasks(taskInfo('t1'));
    bench.update('a1', taskStatus('f1', 't1', 'TASK_FINISHED'));
    const effects = bench.say('framework:f1', { type: 'UnregisterFramework', frameworkId });
    expect(sends(effects)).toContain('agent:a1 StatusUpdateAcknowledgement');
    expect(history(effects)).toMatchObject([{ taskId: 't1', state: 'TASK_FINISHED' }]);
  });

  test('and registers anew under the same id is a new one, to which tasks that still run are counted', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    bench.say('framework:f1', { type: 'UnregisterFramework', frameworkId });
    const [answer] = sent(
      bench.registerFramework('f1', {}, 's2'),
      'framework:f1',
      'FrameworkRegistered',
    );
    expect(answer?.known).toBe(false);
    expect(bench.state.frameworks.get(frameworkId)?.used).toEqual(amount(1, 128));
  });
});

describe('a framework that detaches', () => {
  test('without tasks is removed at once', () => {
    const bench = createMasterBench();
    bench.registerFramework('f1');
    const effects = bench.say('framework:f1', { type: 'DetachFramework', frameworkId });
    expect(events(effects)).toEqual(['framework.detached', 'framework.removed']);
  });

  test('with an ended task that it has not acknowledged is removed once', () => {
    const bench = benchWithTasks(taskInfo('t1'));
    bench.update('a1', taskStatus('f1', 't1', 'TASK_FINISHED'));
    const effects = bench.say('framework:f1', { type: 'DetachFramework', frameworkId });
    expect(events(effects).filter((type) => type === 'framework.removed')).toHaveLength(1);
  });

  test('stays until its last task has ended, and its updates are acknowledged for it', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    bench.say('framework:f1', { type: 'DetachFramework', frameworkId });
    bench.wait(1_000_000_000);
    expect(bench.state.frameworks.has(frameworkId)).toBe(true);
    const effects = bench.update('a1', taskStatus('f1', 't1', 'TASK_FINISHED'));
    expect(sends(effects)).toEqual(['agent:a1 StatusUpdateAcknowledgement']);
    expect(history(effects)).toMatchObject([
      { taskId: 't1', frameworkName: 'f1', state: 'TASK_FINISHED' },
    ]);
    expect(bench.state.frameworks.has(frameworkId)).toBe(false);
  });

  test('gets no offers any more', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    bench.say('framework:f1', { type: 'DetachFramework', frameworkId });
    bench.wait(60_000);
    expect(bench.offersOf('f1')).toEqual([]);
  });
});
