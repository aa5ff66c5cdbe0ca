/** Exclusive tasks: of one name in a framework at most one runs, as far as anybody can know. */
import { describe, expect, test } from '@jest/globals';
import { FENCE_MARGIN_MS } from '../../../master/core/unreachable.ts';
import type { TaskInfo } from '../../../protocol/task.ts';
import {
  agentTask,
  frameworkIdOf,
  launchIdOf,
  taskInfo,
  taskStatus,
} from '../../support/builders.ts';
import {
  benchWithRunning,
  createMasterBench,
  sent,
  told,
  type MasterBench,
} from '../../support/master-bench.ts';

const exclusive = (taskId: string, more: Partial<TaskInfo> = {}): TaskInfo =>
  taskInfo(taskId, { name: 'db', exclusive: true, ...more });

/** The first of the name runs on a1. */
function benchWithFirst(more: Partial<TaskInfo> = {}): MasterBench {
  return benchWithRunning(exclusive('t1', more));
}

function launchOn(bench: MasterBench, task: TaskInfo, frameworkId = 'f1'): string[] {
  const id = frameworkIdOf(frameworkId);
  bench.say(`framework:${frameworkId}`, { type: 'ReviveOffers', frameworkId: id });
  const effects = bench.launch(frameworkId, bench.offerOf(frameworkId).offerId, [task]);
  return sent(effects, `framework:${frameworkId}`, 'StatusUpdate').map(
    ({ status }) => `${status.reason ?? ''}: ${status.message ?? ''}`,
  );
}

describe('a second exclusive task of a name', () => {
  test('is refused while the first runs, and told which that is', () => {
    expect(launchOn(benchWithFirst(), exclusive('t2'))).toEqual([
      'REASON_TASK_EXCLUSIVE: not launched: db is exclusive, and task t1 of that name is TASK_RUNNING on agent a1; launch again when it has ended',
    ]);
  });

  test('is refused in the same launch', () => {
    const bench = createMasterBench();
    bench.registerAgent('a1');
    bench.registerFramework('f1');
    const tasks = [exclusive('t1'), exclusive('t2')];
    const effects = bench.launch('f1', bench.offerOf('f1').offerId, tasks);
    expect(told(effects, 'f1')).toEqual(['t2 TASK_DROPPED REASON_TASK_EXCLUSIVE']);
    expect(bench.task('f1', 't1')?.state).toBe('TASK_STAGING');
  });

  test('is refused by another leader too', () => {
    const bench = benchWithFirst().failOver();
    expect(launchOn(bench, exclusive('t2'))).toHaveLength(1);
  });

  test('is refused while the first is being killed', () => {
    const bench = benchWithFirst();
    bench.update('a1', taskStatus('f1', 't1', 'TASK_KILLING'));
    expect(launchOn(bench, exclusive('t2'))[0]).toContain('t1 of that name is TASK_KILLING');
  });

  test('is launched when the first has ended', () => {
    const bench = benchWithFirst();
    bench.update('a1', taskStatus('f1', 't1', 'TASK_FINISHED'));
    expect(launchOn(bench, exclusive('t2'))).toEqual([]);
    expect(bench.task('f1', 't2')?.state).toBe('TASK_STAGING');
  });

  test('does not keep another of the same launch from its place', () => {
    const bench = benchWithFirst();
    bench.launch('f1', bench.offerOf('f1').offerId, [exclusive('t2'), taskInfo('t3')]);
    expect(bench.task('f1', 't3')?.state).toBe('TASK_STAGING');
  });
});

describe('a second one while the first cannot be reached', () => {
  function benchWithUnreachable(more: Partial<TaskInfo> = {}): MasterBench {
    const bench = benchWithFirst(more);
    bench.silence('agent:a1');
    bench.registerAgent('a2');
    return bench;
  }

  test('is refused without a time if its node does not stop it', () => {
    const [refusal] = launchOn(benchWithUnreachable(), exclusive('t2'));
    expect(refusal).toContain(
      't1 of that name is TASK_UNREACHABLE on agent a1; launch again when it has ended',
    );
  });

  test('is told when its node will have stopped it', () => {
    const bench = benchWithUnreachable({ whenUnreachable: { stopAfterMs: 60_000 } });
    bench.wait(15_000);
    expect(launchOn(bench, exclusive('t2'))[0]).toMatch(
      /is TASK_UNREACHABLE on agent a1; its node has stopped it in 1m at the latest$/,
    );
  });

  test('is launched when its node has stopped it, and not before', () => {
    const bench = benchWithUnreachable({ whenUnreachable: { stopAfterMs: 60_000 } });
    bench.wait(60_000 + 5000 + FENCE_MARGIN_MS - 1);
    expect(launchOn(bench, exclusive('t2'))).toHaveLength(1);
    bench.wait(1);
    expect(launchOn(bench, exclusive('t3'))).toEqual([]);
    expect(bench.task('f1', 't3')).toMatchObject({ agentId: 'a2', state: 'TASK_STAGING' });
  });
});

describe('after Redis has been emptied', () => {
  test('no exclusive task is launched while the first one may still turn up', () => {
    const bench = createMasterBench();
    bench.loseData();
    bench.registerAgent('a2', { leaderSeen: { masterId: 'm0', epoch: 1 } });
    bench.registerFramework('f1');
    bench.launch('f1', bench.offerOf('f1').offerId, [exclusive('t2')]);
    expect(bench.task('f1', 't2')).toBeUndefined();
  });

  test('a task that turned up is still exclusive', () => {
    const bench = createMasterBench();
    bench.loseData();
    const first = agentTask('f1', 't1', { name: 'db', launchId: launchIdOf('0.x.1') });
    const { killGracePeriodMs, whenUnreachable } = exclusive('t1');
    const rules = { killGracePeriodMs, whenUnreachable, exclusive: true };
    bench.registerAgent('a1', { tasks: [{ ...first, rules }] });
    bench.registerFramework('f1');
    bench.wait(75_000);
    expect(launchOn(bench, exclusive('t2'))).toHaveLength(1);
  });
});

describe('an exclusive task does not concern', () => {
  test.each<[string, TaskInfo]>([
    ['tasks of other names', exclusive('t2', { name: 'web' })],
    ['tasks of its name that are not exclusive', taskInfo('t2', { name: 'db' })],
  ])('%s', (_title, task) => {
    expect(launchOn(benchWithFirst(), task)).toEqual([]);
  });

  test('other frameworks', () => {
    const bench = benchWithFirst();
    bench.decline('f1', bench.offerOf('f1').offerId, 60_000);
    bench.registerFramework('f2');
    expect(launchOn(bench, exclusive('t2'), 'f2')).toEqual([]);
  });
});
