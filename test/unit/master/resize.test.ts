/** Other resources for a task that runs: what is granted, what is counted meanwhile, and who hears what became of it. */
import { describe, expect, test } from '@jest/globals';
import {
  agentTask,
  amount,
  executorTask,
  launchIdOf,
  sessionOf,
  taskInfo,
  taskStatus,
} from '../../support/builders.ts';
import type { MasterBench } from '../../support/master-bench.ts';
import {
  benchWithRunning,
  benchWithTasks,
  eventsOf,
  ignored,
  sends,
  sent,
} from '../../support/master-bench.ts';

/** A bench whose task t1 runs on a1 with 1 core and 128 MiB, of 4 and 8 GiB. */
const running = (): MasterBench => benchWithRunning(taskInfo('t1'));

const answers = (effects: Parameters<typeof sent>[0]): unknown[] =>
  sent(effects, 'framework:f1', 'TaskResized').map(({ resources, error }) => error ?? resources);

/** Events of tasks, as `TYPE REASON`. */
const taskEvents = (effects: Parameters<typeof eventsOf>[0]): string[] =>
  eventsOf(effects).flatMap(({ type, reason }) =>
    type.startsWith('task.') ? [`${type} ${String(reason)}`] : [],
  );

describe('a resize', () => {
  test('is sent to the agent for that launch', () => {
    const effects = running().resize('framework:f1', 't1', amount(2, 256));
    expect(sent(effects, 'agent:a1', 'ResizeTask')).toMatchObject([
      { taskId: 't1', launchId: '1.t.1', resizeId: 'wish-of-t1', resources: amount(2, 256) },
    ]);
  });

  test('counts the larger of old and new in each component until the agent has answered', () => {
    const bench = running();
    bench.resize('framework:f1', 't1', amount(2, 64));
    expect(bench.usedOn('a1')).toBe('2 128');
  });

  test('that is done counts what is in force', () => {
    const bench = running();
    bench.resize('framework:f1', 't1', amount(2, 64));
    bench.resized('t1', { resources: amount(2, 64) });
    expect([bench.usedOn('a1'), bench.task('f1', 't1')?.resize]).toEqual(['2 64', undefined]);
  });

  test('that is done is in what the task is described as', () => {
    const bench = running();
    bench.resize('framework:f1', 't1', amount(2, 64));
    bench.resized('t1', { resources: amount(2, 64) });
    expect(bench.task('f1', 't1')?.info?.resources).toEqual(amount(2, 64));
  });

  test('that the agent could not do counts what the agent says', () => {
    const bench = running();
    bench.resize('framework:f1', 't1', amount(2, 256));
    const effects = bench.resized('t1', { resources: amount(2, 128), error: 'memory in use' });
    expect([bench.usedOn('a1'), taskEvents(effects)]).toEqual([
      '2 128',
      ['task.resize-failed wish-of-t1'],
    ]);
  });

  test('that the agent could not do leaves what was, if the agent says nothing else', () => {
    const bench = running();
    bench.resize('framework:f1', 't1', amount(2, 256));
    bench.resized('t1', { error: 'no such unit' });
    expect(bench.usedOn('a1')).toBe('1 128');
  });

  test('of a framework is answered to it', () => {
    const bench = running();
    bench.resize('framework:f1', 't1', amount(2, 256));
    expect(answers(bench.resized('t1', { resources: amount(2, 256) }))).toEqual([amount(2, 256)]);
  });

  test('of an operator is not answered to the framework', () => {
    const bench = running();
    bench.resize('operator:o', 't1', amount(2, 256));
    expect(answers(bench.resized('t1', { resources: amount(2, 256) }))).toEqual([]);
  });

  test('is in the event log with its id, whoever asked', () => {
    const bench = running();
    const asked = bench.resize('operator:o', 't1', amount(2, 256));
    const done = bench.resized('t1', { resources: amount(2, 256) });
    expect([...taskEvents(asked), ...taskEvents(done)]).toEqual([
      'task.resize-requested wish-of-t1',
      'task.resized wish-of-t1',
    ]);
  });

  test('of a task of an executor counts as any other', () => {
    const bench = benchWithRunning(executorTask('t1'));
    bench.resize('framework:f1', 't1', amount(2, 256));
    expect(bench.usedOn('a1')).toBe('2.1 288');
  });

  test('that is said twice is sent once', () => {
    const bench = running();
    bench.resize('framework:f1', 't1', amount(2, 256));
    expect(sends(bench.resize('framework:f1', 't1', amount(2, 256)))).toEqual([]);
  });

  test('is known to the next leader', () => {
    const bench = running();
    bench.resize('framework:f1', 't1', amount(2, 64));
    const next = bench.failOver();
    expect([next.usedOn('a1'), next.task('f1', 't1')?.resize?.resizeId]).toEqual([
      '2 128',
      'wish-of-t1',
    ]);
  });

  test('takes as many offers back as it needs, of the same framework first', () => {
    const bench = running();
    bench.registerFramework('f2');
    bench.decline('f1', bench.offerOf('f1').offerId, 60_000);
    const before = bench.offersOf('f2');
    const effects = bench.resize('framework:f1', 't1', amount(3, 128));
    expect(before).toEqual(['a1 3 8064']);
    expect(sends(effects).slice(0, 2)).toEqual([
      'framework:f2 RescindResourceOffer',
      'agent:a1 ResizeTask',
    ]);
  });

  test('that only gives back takes no offer back', () => {
    const bench = running();
    expect(sends(bench.resize('framework:f1', 't1', amount(0.5, 64)))).toEqual([
      'agent:a1 ResizeTask',
    ]);
  });

  test('that gives back is offered when the agent has done it', () => {
    const bench = running();
    bench.decline('f1', bench.offerOf('f1').offerId, 0);
    bench.resize('framework:f1', 't1', amount(0.5, 64));
    bench.resized('t1', { resources: amount(0.5, 64) });
    expect(bench.offersOf('f1')).toContain('a1 0.5 64');
  });
});

describe('a resize is refused', () => {
  test('beyond what the agent has, with the numbers', () => {
    const effects = running().resize('framework:f1', 't1', amount(5, 2048));
    expect(answers(effects)).toEqual([
      'task t1: 5 cpus, 2G asked, it has 1 cpus, 128M; agent a1 has 3 cpus, 7.8G free',
    ]);
  });

  test('of a task that nobody knows', () => {
    expect(answers(running().resize('framework:f1', 't9', amount(1, 64)))).toEqual([
      'the master knows no task t9 of this framework',
    ]);
  });

  test('of a task that has ended', () => {
    const bench = running();
    bench.update('a1', taskStatus('f1', 't1', 'TASK_FAILED'));
    expect(answers(bench.resize('framework:f1', 't1', amount(1, 64)))).toEqual([
      'task t1 has ended: TASK_FAILED',
    ]);
  });

  test('of a task that does not run yet', () => {
    const bench = benchWithTasks(taskInfo('t1'));
    expect(answers(bench.resize('framework:f1', 't1', amount(1, 64)))).toEqual([
      'task t1 is TASK_STAGING: only a task that runs can be given other resources',
    ]);
  });

  test('of a task on an agent that cannot be reached', () => {
    const bench = running();
    bench.silence('agent:a1');
    expect(answers(bench.resize('framework:f1', 't1', amount(1, 64)))).toEqual([
      'task t1 is on agent a1, which cannot be reached',
    ]);
  });

  test('of a task on an agent that has to register first, because more may be on it than is known', () => {
    const bench = running();
    bench.loseData();
    bench.registerFramework('f1', {}, 's9');
    expect(answers(bench.resize('framework:f1', 't1', amount(1, 64)))).toEqual([
      'task t1 is on agent a1, which is not connected: try again when it is',
    ]);
  });

  test('while another is waited for', () => {
    const bench = running();
    bench.resize('framework:f1', 't1', amount(2, 256));
    expect(answers(bench.resize('framework:f1', 't1', amount(3, 256), 'second'))).toEqual([
      'task t1 is being resized to 2 cpus, 256M: try again when agent a1 has answered',
    ]);
  });

  test('and changes nothing', () => {
    const bench = running();
    bench.resize('framework:f1', 't1', amount(5, 2048));
    expect([bench.usedOn('a1'), bench.task('f1', 't1')?.resize]).toEqual(['1 128', undefined]);
  });

  test('in the event log, with its id and the words', () => {
    const effects = running().resize('operator:o', 't1', amount(5, 2048));
    expect(eventsOf(effects)).toMatchObject([
      {
        type: 'task.resize-refused',
        reason: 'wish-of-t1',
        message: expect.stringContaining('5 cpus'),
      },
    ]);
  });

  test('of a task of another framework', () => {
    const bench = running();
    bench.registerFramework('f2');
    expect(ignored(bench.resize('framework:f2', 't1', amount(2, 256)))).toEqual([
      'its session is not registered',
    ]);
  });
});

describe('a task that ends while it is being resized', () => {
  const ended = (from: string): ReturnType<MasterBench['update']> => {
    const bench = running();
    bench.resize(from, 't1', amount(2, 256));
    return bench.update('a1', taskStatus('f1', 't1', 'TASK_FINISHED'));
  };

  test('gives back all that was counted', () => {
    const bench = running();
    bench.resize('framework:f1', 't1', amount(2, 64));
    bench.update('a1', taskStatus('f1', 't1', 'TASK_FINISHED'));
    expect(bench.usedOn('a1')).toBe('0 0');
  });

  test('is an answer to who has asked', () => {
    expect(answers(ended('framework:f1'))).toEqual([
      'task t1 has ended before its resources were changed',
    ]);
  });

  test('is an outcome in the event log', () => {
    expect(taskEvents(ended('operator:o'))).toContain('task.resize-failed wish-of-t1');
  });
});

describe('when the agent registers again', () => {
  test('a resize that it has not answered is sent once more', () => {
    const bench = running();
    bench.resize('framework:f1', 't1', amount(2, 256));
    const effects = bench.registerAgent('a1', { session: 's2', tasks: [agentTask('f1', 't1')] });
    expect(sent(effects, 'agent:a1', 'ResizeTask')).toMatchObject([
      { resizeId: 'wish-of-t1', resources: amount(2, 256) },
    ]);
  });

  test('what it says that a task has is in force', () => {
    const bench = running();
    const task = agentTask('f1', 't1', { resources: amount(2, 256) });
    const effects = bench.registerAgent('a1', { session: 's2', tasks: [task] });
    expect([bench.usedOn('a1'), taskEvents(effects)[0]]).toEqual([
      '2 256',
      'task.resources-corrected its agent has registered with it',
    ]);
  });

  test('what it says and what is wished are counted together', () => {
    const bench = running();
    bench.resize('framework:f1', 't1', amount(2, 64));
    const task = agentTask('f1', 't1', { resources: amount(0.5, 256) });
    bench.registerAgent('a1', { session: 's2', tasks: [task] });
    expect(bench.usedOn('a1')).toBe('2 256');
  });
});

describe('an answer of the agent', () => {
  test('to a wish that Redis has lost is true all the same', () => {
    const bench = running();
    const effects = bench.resized('t1', { resizeId: sessionOf('lost'), resources: amount(2, 256) });
    expect([bench.usedOn('a1'), answers(effects)]).toEqual(['2 256', [amount(2, 256)]]);
  });

  test('to another wish than the one that is waited for changes nothing', () => {
    const bench = running();
    bench.resize('framework:f1', 't1', amount(2, 256));
    const effects = bench.resized('t1', { resizeId: sessionOf('old'), resources: amount(3, 256) });
    expect([bench.usedOn('a1'), ignored(effects)]).toEqual(['2 256', ['it answers no such wish']]);
  });

  test('of another launch of the task changes nothing', () => {
    const bench = running();
    bench.resize('framework:f1', 't1', amount(2, 256));
    const effects = bench.resized('t1', { launchId: launchIdOf('0.x.1') });
    expect(ignored(effects)).toEqual(['it answers no such wish']);
  });
});
