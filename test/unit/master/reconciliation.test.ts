/** What a framework is told when it asks for its tasks. */
import { describe, expect, test } from '@jest/globals';
import type { MasterEffect } from '../../../master/core/effects.ts';
import { frameworkIdOf, taskIdOf, taskInfo, taskStatus } from '../../support/builders.ts';
import {
  benchWithRunning,
  benchWithTasks,
  createMasterBench,
  sent,
  told,
  type MasterBench,
} from '../../support/master-bench.ts';

const ask = (bench: MasterBench, ...taskIds: string[]): MasterEffect[] =>
  bench.say('framework:f1', {
    type: 'ReconcileTasks',
    frameworkId: frameworkIdOf('f1'),
    taskIds: taskIds.map(taskIdOf),
  });
const reconcile = (bench: MasterBench, ...taskIds: string[]): string[] =>
  told(ask(bench, ...taskIds), 'f1');

describe('a reconciliation of some tasks', () => {
  test('tells the newest state of a task, also before its agent has said anything', () => {
    expect(reconcile(benchWithTasks(taskInfo('t1')), 't1')).toEqual([
      't1 TASK_STAGING REASON_RECONCILIATION',
    ]);
  });

  test('tells of a task that the master does not know that it is unknown, and does not call it lost', () => {
    expect(reconcile(benchWithTasks(taskInfo('t1')), 't9')).toEqual([
      't9 TASK_UNKNOWN REASON_RECONCILIATION',
    ]);
  });

  test('tells of one on an agent that cannot be reached that it is so', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    bench.silence('agent:a1');
    expect(reconcile(bench, 't1')).toEqual(['t1 TASK_UNREACHABLE REASON_RECONCILIATION']);
  });

  test('tells of one that has ended and waits for its acknowledgement how it ended', () => {
    const bench = benchWithTasks(taskInfo('t1'));
    bench.update('a1', taskStatus('f1', 't1', 'TASK_FAILED', { message: 'exited with code 3' }));
    expect(sent(ask(bench, 't1'), 'framework:f1', 'StatusUpdate')).toMatchObject([
      { status: { state: 'TASK_FAILED', launchId: '1.t.1', message: 'exited with code 3' } },
    ]);
  });

  test('is an answer that wants no acknowledgement', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    const [answer] = sent(ask(bench, 't1'), 'framework:f1', 'StatusUpdate');
    expect(answer?.status).not.toHaveProperty('updateId');
    expect(bench.task('f1', 't1')?.unacknowledged).toEqual([]);
  });

  test('does not tell of tasks of other frameworks', () => {
    const bench = benchWithTasks(taskInfo('t1'));
    bench.registerFramework('f2');
    const message = {
      type: 'ReconcileTasks' as const,
      frameworkId: frameworkIdOf('f2'),
      taskIds: [taskIdOf('t1')],
    };
    expect(told(bench.say('framework:f2', message), 'f2')).toEqual([
      't1 TASK_UNKNOWN REASON_RECONCILIATION',
    ]);
  });
});

describe('a reconciliation of all tasks', () => {
  test('tells of each that has not ended', () => {
    const bench = benchWithTasks(taskInfo('t1'), taskInfo('t2'), taskInfo('t3'));
    bench.update('a1', taskStatus('f1', 't1', 'TASK_RUNNING'));
    bench.update('a1', taskStatus('f1', 't2', 'TASK_FINISHED'));
    expect(reconcile(bench)).toEqual([
      't1 TASK_RUNNING REASON_RECONCILIATION',
      't3 TASK_STAGING REASON_RECONCILIATION',
    ]);
  });

  test('of a framework without any says nothing', () => {
    const bench = createMasterBench();
    bench.registerFramework('f1');
    expect(reconcile(bench)).toEqual([]);
  });
});

describe('a reconciliation while the cluster is recovering', () => {
  test('answers at once for what is known, and waits with the rest', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    bench.loseData();
    bench.registerFramework('f1', {}, 's2');
    expect(reconcile(bench, 't1', 't9')).toEqual(['t1 TASK_RUNNING REASON_RECONCILIATION']);
    expect(told(bench.wait(75_000), 'f1')).toEqual(['t9 TASK_UNKNOWN REASON_RECONCILIATION']);
  });

  test('that is asked twice is answered once', () => {
    const bench = createMasterBench();
    bench.loseData();
    bench.registerFramework('f1');
    reconcile(bench, 't9');
    reconcile(bench, 't9', 't9');
    expect(told(bench.wait(75_000), 'f1')).toHaveLength(1);
  });

  test('of all tasks tells of those that have turned up so far', () => {
    const bench = createMasterBench();
    bench.loseData();
    bench.registerFramework('f1');
    expect(reconcile(bench)).toEqual([]);
  });
});
