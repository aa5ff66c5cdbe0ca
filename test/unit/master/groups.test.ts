/** Tasks that are launched as a group: they stand or fall together. */
import { describe, expect, test } from '@jest/globals';
import type { TaskInfo } from '../../../protocol/task.ts';
import type { TaskGroupId } from '../../../protocol/ids.ts';
import {
  agentExecutor,
  agentTask,
  amount,
  executorInfo,
  executorTask,
  taskInfo,
} from '../../support/builders.ts';
import type { MasterBench } from '../../support/master-bench.ts';
import { benchWithTasks, createMasterBench, sent, told } from '../../support/master-bench.ts';

/** A task of group g1 and executor e1. */
function member(taskId: string, more: Partial<TaskInfo> = {}): TaskInfo {
  return executorTask(taskId, 'e1', { groupId: 'g1' as TaskGroupId, ...more });
}

function benchWithOffer(): MasterBench {
  const bench = createMasterBench();
  bench.registerAgent('a1');
  bench.registerFramework('f1');
  return bench;
}

const runs = (effects: Parameters<typeof sent>[0]): unknown[] =>
  sent(effects, 'agent:a1', 'RunTask').map(({ task, groupSize }) => [task.taskId, groupSize]);

describe('a group', () => {
  test('is sent with the number of its tasks', () => {
    const effects = benchWithOffer().launch('f1', 'o1.t.1', [member('t1'), member('t2')]);
    expect(runs(effects)).toEqual([
      ['t1', 2],
      ['t2', 2],
    ]);
  });

  test('is one wherever its tasks stand in the call', () => {
    const tasks = [member('t1'), taskInfo('alone'), member('t2')];
    expect(runs(benchWithOffer().launch('f1', 'o1.t.1', tasks))).toEqual([
      ['t1', 2],
      ['t2', 2],
      ['alone', undefined],
    ]);
  });

  test('that fits as a whole counts its executor once', () => {
    expect(benchWithTasks(member('t1'), member('t2')).usedOn('a1')).toBe('2.1 288');
  });

  test('that is launched leaves the rest of the offer to the tasks after it', () => {
    const after = taskInfo('t3', { resources: amount(3, 128) });
    const tasks = [member('t1'), member('t2'), after];
    expect(told(benchWithOffer().launch('f1', 'o1.t.1', tasks), 'f1')).toEqual([
      't3 TASK_ERROR REASON_RESOURCES_EXCEED_OFFER',
    ]);
  });

  test('of whose tasks one does not fit is refused as a whole', () => {
    const tasks = [member('t1'), member('t2', { resources: amount(4, 128) }), member('t3')];
    expect(told(benchWithOffer().launch('f1', 'o1.t.1', tasks), 'f1')).toEqual([
      't1 TASK_ERROR REASON_TASK_GROUP_FAILED',
      't2 TASK_ERROR REASON_RESOURCES_EXCEED_OFFER',
      't3 TASK_ERROR REASON_TASK_GROUP_FAILED',
    ]);
  });

  test('that is refused names the culprit to the others', () => {
    const tasks = [member('t1'), { ...member('t2'), command: { argv: ['true'] } }];
    const [first] = sent(
      benchWithOffer().launch('f1', 'o1.t.1', tasks),
      'framework:f1',
      'StatusUpdate',
    );
    expect(first?.status.message).toBe(
      'not launched: task t2 of its group g1 is refused (not launched: the task is not valid: a task must have either an executor with a command of its own or a command, not both)',
    );
  });

  test('that is refused leaves the offer to the tasks after it', () => {
    const bad = [
      member('t1', { resources: amount(3, 128) }),
      member('t2', { resources: amount(3, 128) }),
    ];
    const good = taskInfo('t3', { resources: amount(4, 8192) });
    expect(runs(benchWithOffer().launch('f1', 'o1.t.1', [...bad, good]))).toEqual([
      ['t3', undefined],
    ]);
  });

  test('that is refused leaves no executor behind', () => {
    const bench = benchWithTasks(member('t1'), member('t2', { resources: amount(4, 128) }));
    expect([...bench.state.executors]).toEqual([]);
  });

  test('with a task that cannot be read is refused as a whole', () => {
    const tasks = [member('t1'), { taskId: 't2', groupId: 'g1' }];
    expect(told(benchWithOffer().launch('f1', 'o1.t.1', tasks), 'f1')).toEqual([
      't1 TASK_ERROR REASON_TASK_GROUP_FAILED',
      't2 TASK_ERROR REASON_TASK_INVALID',
    ]);
  });

  test.each<[string, TaskInfo]>([
    ['of two executors', executorTask('t2', 'e2', { groupId: 'g1' as TaskGroupId })],
    [
      'of two descriptions of an executor',
      member('t2', { executor: executorInfo('e1', { name: 'x' }) }),
    ],
    ['with a task twice', member('t1')],
  ])('%s is refused', (_title, second) => {
    const bench = benchWithOffer();
    const effects = bench.launch('f1', 'o1.t.1', [member('t1'), second]);
    expect(told(effects, 'f1')).toEqual([
      't1 TASK_ERROR REASON_TASK_GROUP_FAILED',
      `${second.taskId} TASK_ERROR REASON_TASK_INVALID`,
    ]);
    expect(bench.state.tasks.size).toBe(0);
  });

  test('of two exclusive tasks of one name is refused', () => {
    const exclusive = { name: 'only', exclusive: true };
    const tasks = [member('t1', exclusive), member('t2', exclusive)];
    expect(told(benchWithOffer().launch('f1', 'o1.t.1', tasks), 'f1')).toEqual([
      't1 TASK_ERROR REASON_TASK_GROUP_FAILED',
      't2 TASK_ERROR REASON_TASK_INVALID',
    ]);
  });

  test('of which an exclusive task must wait is dropped as a whole, not refused for ever', () => {
    const exclusive = { name: 'only', exclusive: true };
    const bench = benchWithTasks(taskInfo('first', exclusive));
    const tasks = [member('t1'), member('t2', exclusive)];
    expect(told(bench.launch('f1', bench.offerOf('f1').offerId, tasks), 'f1')).toEqual([
      't1 TASK_DROPPED REASON_TASK_GROUP_FAILED',
      't2 TASK_DROPPED REASON_TASK_EXCLUSIVE',
    ]);
  });

  test('with the id of one whose tasks have not ended is refused', () => {
    const bench = benchWithTasks(member('t1'));
    const effects = bench.launch('f1', bench.offerOf('f1').offerId, [member('t2')]);
    const [update] = sent(effects, 'framework:f1', 'StatusUpdate');
    expect(update?.status.message).toBe(
      'not launched: the task is not valid: group g1 has task t1 already, which is TASK_STAGING; choose another group id',
    );
  });

  test('without an executor is refused', () => {
    const tasks = [taskInfo('t1', { groupId: 'g1' as TaskGroupId })];
    expect(told(benchWithOffer().launch('f1', 'o1.t.1', tasks), 'f1')).toEqual([
      't1 TASK_ERROR REASON_TASK_INVALID',
    ]);
  });

  test('that never got to the agent is sent again with its size', () => {
    const bench = benchWithTasks(member('t1'), member('t2'));
    expect(runs(bench.registerAgent('a1', { session: 's2' }))).toEqual([
      ['t1', 2],
      ['t2', 2],
    ]);
  });

  test('of which a part got to the agent is completed with its whole size', () => {
    const bench = benchWithTasks(member('t1'), member('t2'));
    const effects = bench.registerAgent('a1', {
      session: 's2',
      tasks: [agentTask('f1', 't1', { state: 'TASK_STAGING' })],
      executors: [agentExecutor('f1', 'e1')],
    });
    expect(runs(effects)).toEqual([['t2', 2]]);
  });

  test('of which a task has ended is not completed', () => {
    const bench = benchWithTasks(member('t1'), member('t2'));
    const effects = bench.registerAgent('a1', {
      session: 's2',
      tasks: [agentTask('f1', 't1', { state: 'TASK_KILLED' })],
      executors: [agentExecutor('f1', 'e1')],
    });
    expect([runs(effects), told(effects, 'f1')]).toEqual([
      [],
      ['t2 TASK_LOST REASON_RECONCILIATION'],
    ]);
  });

  test('of which a task is lost does not wait for it: the others are killed', () => {
    const bench = benchWithTasks(member('t1'), member('t2'));
    bench.loseData();
    const effects = bench.registerAgent('a1', {
      session: 's2',
      tasks: [agentTask('f1', 't1', { state: 'TASK_STAGING' })],
      executors: [agentExecutor('f1', 'e1')],
    });
    expect(sent(effects, 'agent:a1', 'KillTask')).toMatchObject([{ taskId: 't1' }]);
  });
});
