import { describe, expect, test } from '@jest/globals';
import {
  amount,
  frameworkIdOf,
  frameworkInfo,
  taskInfo,
  taskStatus,
} from '../../support/builders.ts';
import {
  benchWithRunning,
  benchWithTasks,
  createMasterBench,
  events,
  eventsOf,
  sends,
  sent,
  told,
  type MasterBench,
} from '../../support/master-bench.ts';

/** Framework f1 holds an offer of all of agent a1: 4 cores, 8192 MiB. */
function benchWithOffer(): MasterBench {
  const bench = createMasterBench();
  bench.registerAgent('a1');
  bench.registerFramework('f1', { name: 'shop' });
  return bench;
}

const used = (bench: MasterBench): unknown => bench.state.frameworks.get(frameworkIdOf('f1'))?.used;

describe('an accepted offer', () => {
  test('sends its tasks to the agent, with the framework and the name of the launch', () => {
    const effects = benchWithOffer().launch('f1', 'o1.t.1', [taskInfo('t1')]);
    expect(sent(effects, 'agent:a1', 'RunTask')).toEqual([
      {
        type: 'RunTask',
        framework: frameworkInfo('f1', { name: 'shop' }),
        launchId: '1.t.1',
        task: taskInfo('t1'),
      },
    ]);
  });

  test('makes its tasks staging, and counts them', () => {
    const bench = benchWithOffer();
    bench.launch('f1', 'o1.t.1', [taskInfo('t1'), taskInfo('t2')]);
    expect(bench.task('f1', 't2')).toMatchObject({ state: 'TASK_STAGING', unheard: true });
    expect(used(bench)).toEqual(amount(2, 256));
  });

  test('gives back what is left over', () => {
    const bench = benchWithOffer();
    bench.launch('f1', 'o1.t.1', [taskInfo('t1')]);
    expect(bench.offersOf('f1')).toEqual(['a1 3 8064']);
  });

  test('keeps the left over from the framework for as long as its filter says', () => {
    const bench = benchWithOffer();
    bench.launch('f1', 'o1.t.1', [taskInfo('t1')], 1000);
    bench.wait(999);
    expect(bench.offersOf('f1')).toEqual([]);
    bench.wait(1);
    expect(bench.offersOf('f1')).toEqual(['a1 3 8064']);
  });

  test('may be several of one agent: a task may need more than each', () => {
    const bench = benchWithOffer();
    bench.launch('f1', 'o1.t.1', [taskInfo('t1', { resources: amount(2, 128) })]);
    bench.update('a1', taskStatus('f1', 't1', 'TASK_FINISHED'));
    expect(bench.offersOf('f1')).toEqual(['a1 2 8064', 'a1 2 128']);
    const large = taskInfo('t2', { resources: amount(4, 8192) });
    bench.launch('f1', ['o1.t.2', 'o1.t.3'], [large]);
    expect(bench.task('f1', 't2')?.state).toBe('TASK_STAGING');
  });
});

describe('a launch on an offer that is not valid', () => {
  test('because it was used already loses its tasks, and says why', () => {
    const bench = benchWithOffer();
    bench.launch('f1', 'o1.t.1', [taskInfo('t1')]);
    const effects = bench.launch('f1', 'o1.t.1', [taskInfo('t2')]);
    expect(sent(effects, 'framework:f1', 'StatusUpdate')).toEqual([
      {
        type: 'StatusUpdate',
        status: {
          frameworkId: 'f1',
          taskId: 't2',
          state: 'TASK_LOST',
          source: 'SOURCE_MASTER',
          reason: 'REASON_INVALID_OFFERS',
          message:
            'not launched: offer o1.t.1 is not valid any more: it was used, declined, rescinded or has expired; wait for the next offer and launch again',
        },
      },
    ]);
    expect(bench.task('f1', 't2')).toBeUndefined();
  });

  test('because it is of another framework does not touch that one', () => {
    const bench = benchWithOffer();
    bench.registerFramework('f2');
    expect(told(bench.launch('f2', 'o1.t.1', [taskInfo('t1')]), 'f2')).toEqual([
      't1 TASK_LOST REASON_INVALID_OFFERS',
    ]);
    expect(bench.offersOf('f1')).toEqual(['a1 4 8192']);
  });

  test('gives the good offers of the same launch back', () => {
    const bench = benchWithOffer();
    const effects = bench.launch('f1', ['o1.t.1', 'o9.t.9'], [taskInfo('t1')]);
    expect(told(effects, 'f1')).toEqual(['t1 TASK_LOST REASON_INVALID_OFFERS']);
    expect(events(effects)).toEqual(['offer.declined', 'task.refused', 'offer.made']);
  });

  test('because the offers are of several agents launches nothing', () => {
    const bench = benchWithOffer();
    bench.registerAgent('a2');
    const effects = bench.launch('f1', ['o1.t.1', 'o1.t.2'], [taskInfo('t1')]);
    expect(eventsOf(effects).find(({ type }) => type === 'task.refused')?.message).toBe(
      'not launched: the offers of one launch must be of one agent, these are of several; wait for the next offer and launch again',
    );
    expect(sends(effects).filter((line) => line.endsWith('RunTask'))).toEqual([]);
  });

  test('because its agent became unreachable loses its tasks', () => {
    const bench = benchWithOffer();
    bench.silence('agent:a1');
    expect(told(bench.launch('f1', 'o1.t.1', [taskInfo('t1')]), 'f1')).toEqual([
      't1 TASK_LOST REASON_INVALID_OFFERS',
    ]);
  });
});

test('an offer that is named twice in a launch counts once', () => {
  const bench = benchWithOffer();
  const large = taskInfo('t1', { resources: amount(5, 128) });
  expect(told(bench.launch('f1', ['o1.t.1', 'o1.t.1'], [large]), 'f1')).toEqual([
    't1 TASK_ERROR REASON_RESOURCES_EXCEED_OFFER',
  ]);
});

describe('a task that needs more than is left of the offer', () => {
  test('is an error that says what there was, and the others are launched', () => {
    const bench = benchWithOffer();
    const tasks = [
      taskInfo('t1', { resources: amount(3, 1024) }),
      taskInfo('t2', { resources: amount(2, 1024) }),
      taskInfo('t3', { resources: amount(1, 1024) }),
    ];
    const effects = bench.launch('f1', 'o1.t.1', tasks);
    const [update] = sent(effects, 'framework:f1', 'StatusUpdate');
    expect(update?.status).toMatchObject({
      taskId: 't2',
      state: 'TASK_ERROR',
      message: 'not launched: the task needs 2 cpus, 1G, of the offer 1 cpus, 7G is left',
    });
    expect(sent(effects, 'agent:a1', 'RunTask').map(({ task }) => task.taskId)).toEqual([
      't1',
      't3',
    ]);
  });
});

describe('a task with an id that the framework has in use', () => {
  test('is an error, and the running task is not affected', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    const effects = bench.launch('f1', bench.offerOf('f1').offerId, [taskInfo('t1')]);
    expect(told(effects, 'f1')).toEqual(['t1 TASK_ERROR REASON_TASK_DUPLICATE']);
    expect(sends(effects)).not.toContain('agent:a1 RunTask');
    expect(bench.task('f1', 't1')?.state).toBe('TASK_RUNNING');
    expect(used(bench)).toEqual(amount(1, 128));
  });

  test('in the same launch is launched once', () => {
    const bench = benchWithOffer();
    const effects = bench.launch('f1', 'o1.t.1', [taskInfo('t1'), taskInfo('t1')]);
    expect(told(effects, 'f1')).toEqual(['t1 TASK_ERROR REASON_TASK_DUPLICATE']);
    expect(sent(effects, 'agent:a1', 'RunTask')).toHaveLength(1);
  });

  test('of another framework is another task', () => {
    const bench = benchWithTasks(taskInfo('t1'));
    bench.decline('f1', bench.offerOf('f1').offerId, 60_000);
    bench.registerFramework('f2');
    bench.launch('f2', bench.offerOf('f2').offerId, [taskInfo('t1')]);
    expect(bench.task('f2', 't1')?.state).toBe('TASK_STAGING');
  });
});

describe('a task that is not valid', () => {
  test.each<[string, unknown, string]>([
    ['without a command', { ...taskInfo('t1'), command: undefined }, 't1'],
    ['that is a number', 7, 'invalid'],
    ['that is null', null, 'invalid'],
    ['without an id', { ...taskInfo('t1'), taskId: undefined }, 'invalid'],
    ['with an id that could be a path', { ...taskInfo('t1'), taskId: '../x' }, 'invalid'],
  ])('%s is an error, and the others are launched', (_title, bad, named) => {
    const effects = benchWithOffer().launch('f1', 'o1.t.1', [taskInfo('a'), bad, taskInfo('b')]);
    expect(told(effects, 'f1')).toEqual([`${named} TASK_ERROR REASON_TASK_INVALID`]);
    expect(sent(effects, 'agent:a1', 'RunTask').map(({ task }) => task.taskId)).toEqual(['a', 'b']);
  });

  test('is told which field is wrong', () => {
    const bad = taskInfo('t1', { resources: amount(0.001, 128) });
    const [update] = sent(
      benchWithOffer().launch('f1', 'o1.t.1', [bad]),
      'framework:f1',
      'StatusUpdate',
    );
    expect(update?.status.message).toMatch(
      /^not launched: the task is not valid: resources\.cpuMillis: /,
    );
  });
});
