/** Agents that are not heard of: what their tasks are called, until when, and how many at once. */
import { describe, expect, test } from '@jest/globals';
import { FENCE_MARGIN_MS } from '../../../master/core/unreachable.ts';
import type { TaskInfo } from '../../../protocol/task.ts';
import { agentIdOf, agentTask, launchIdOf, taskInfo, taskStatus } from '../../support/builders.ts';
import {
  benchWithRunning,
  benchWithTasks,
  createMasterBench,
  events,
  eventsOf,
  history,
  sends,
  sent,
  told,
  type MasterBench,
} from '../../support/master-bench.ts';

const stopAfter = (taskId: string, more: Partial<TaskInfo> = {}): TaskInfo =>
  taskInfo(taskId, {
    whenUnreachable: { stopAfterMs: 60_000 },
    killGracePeriodMs: 5000,
    ...more,
  });
const pending = (bench: MasterBench): string[] =>
  bench.task('f1', 't1')?.unacknowledged.map(({ state }) => state) ?? [];
const back = { session: 's2', tasks: [agentTask('f1', 't1')] };

describe('a task on an agent that goes silent', () => {
  test('is TASK_UNREACHABLE, and its framework is told for how long and what follows', () => {
    const effects = benchWithRunning(taskInfo('t1')).silence('agent:a1');
    expect(sent(effects, 'framework:f1', 'StatusUpdate')).toMatchObject([
      {
        status: {
          taskId: 't1',
          launchId: '1.t.1',
          agentId: 'a1',
          state: 'TASK_UNREACHABLE',
          source: 'SOURCE_MASTER',
          reason: 'REASON_AGENT_DISCONNECTED',
          message: 'agent a1 was not heard of for 1m15s; it goes on if its node lives',
        },
      },
    ]);
  });

  test('and that its node stops after a time is told after which', () => {
    const effects = benchWithRunning(stopAfter('t1')).silence('agent:a1');
    expect(sent(effects, 'framework:f1', 'StatusUpdate')[0]?.status.message).toBe(
      'agent a1 was not heard of for 1m15s; its node stops it after 1m',
    );
  });

  test('keeps its resources: it may be running', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    bench.silence('agent:a1');
    expect(bench.state.agents.get(agentIdOf('a1'))?.used).toEqual(taskInfo('t1').resources);
  });

  test('and has ended is not told of', () => {
    const bench = benchWithTasks(taskInfo('t1'));
    bench.update('a1', taskStatus('f1', 't1', 'TASK_FINISHED'));
    expect(told(bench.silence('agent:a1'), 'f1')).toEqual([]);
  });

  test('of a framework that is away waits for it, and only the newest of what the master says', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    bench.silence('framework:f1');
    for (const session of ['s2', 's3', 's4']) {
      bench.silence('agent:a1');
      bench.wait(1);
      bench.registerAgent('a1', { ...back, session });
    }
    expect(pending(bench)).toEqual(['TASK_RUNNING']);
    expect(told(bench.registerFramework('f1', {}, 's2'), 'f1')).toEqual([
      't1 TASK_RUNNING REASON_AGENT_REREGISTERED',
    ]);
  });

  test('keeps what its agent has said and nobody has acknowledged', () => {
    const bench = benchWithTasks(taskInfo('t1'));
    bench.update('a1', taskStatus('f1', 't1', 'TASK_RUNNING'));
    bench.silence('agent:a1');
    bench.registerAgent('a1', back);
    bench.silence('agent:a1');
    expect(pending(bench)).toEqual(['TASK_RUNNING', 'TASK_UNREACHABLE']);
  });
});

describe('a task whose agent comes back', () => {
  test('is what the agent says, and its framework is told', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    bench.silence('agent:a1');
    const effects = bench.registerAgent('a1', back);
    expect(told(effects, 'f1')).toEqual(['t1 TASK_RUNNING REASON_AGENT_REREGISTERED']);
    expect(bench.task('f1', 't1')?.state).toBe('TASK_RUNNING');
  });

  test('and had not got it is sent to it again, and its framework is told', () => {
    const bench = benchWithTasks(taskInfo('t1'));
    bench.silence('agent:a1');
    const effects = bench.registerAgent('a1', { session: 's2' });
    expect(told(effects, 'f1')).toEqual(['t1 TASK_STAGING REASON_AGENT_REREGISTERED']);
    expect(sends(effects)).toContain('agent:a1 RunTask');
  });

  test('and does not know it any more is lost', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    bench.silence('agent:a1');
    const effects = bench.registerAgent('a1', { session: 's2' });
    expect(told(effects, 'f1')).toEqual(['t1 TASK_LOST REASON_RECONCILIATION']);
  });

  test('and says that it has ended, ends as the agent says', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    bench.silence('agent:a1');
    const tasks = [agentTask('f1', 't1', { state: 'TASK_FINISHED' })];
    expect(told(bench.registerAgent('a1', { session: 's2', tasks }), 'f1')).toEqual([]);
    const effects = bench.update('a1', taskStatus('f1', 't1', 'TASK_FINISHED'));
    expect(told(effects, 'f1')).toEqual(['t1 TASK_FINISHED']);
  });

  test('is killed if that was asked for meanwhile, by its launch', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    bench.silence('agent:a1');
    expect(sends(bench.kill('operator:ann', 'f1', 't1'))).toEqual([]);
    const effects = bench.registerAgent('a1', back);
    expect(sent(effects, 'agent:a1', 'KillTask')).toMatchObject([
      { taskId: 't1', launchId: '1.t.1', by: 'operator' },
    ]);
  });
});

describe('a task that its node stops', () => {
  const DEADLINE_MS = 60_000 + 5000 + FENCE_MARGIN_MS;

  test('is gone when that must have happened, and not a millisecond earlier', () => {
    const bench = benchWithRunning(stopAfter('t1'));
    bench.silence('agent:a1');
    expect(told(bench.wait(DEADLINE_MS - 1), 'f1')).toEqual([]);
    expect(told(bench.wait(1), 'f1')).toEqual(['t1 TASK_GONE REASON_STOPPED_WHEN_UNREACHABLE']);
  });

  test('is gone at the same time if another leader took over meanwhile', () => {
    const bench = benchWithRunning(stopAfter('t1'));
    bench.silence('agent:a1');
    bench.wait(30_000);
    const next = bench.failOver();
    expect(told(next.wait(DEADLINE_MS - 30_001), 'f1')).toEqual([]);
    expect(told(next.wait(1), 'f1')).toHaveLength(1);
  });

  test('is given its own grace period', () => {
    const bench = benchWithRunning(stopAfter('t1', { killGracePeriodMs: 90_000 }));
    bench.silence('agent:a1');
    expect(told(bench.wait(DEADLINE_MS + 84_999), 'f1')).toEqual([]);
    expect(told(bench.wait(1), 'f1')).toHaveLength(1);
  });

  test('is told of once, and goes into the history when that is acknowledged', () => {
    const bench = benchWithRunning(stopAfter('t1'));
    bench.silence('agent:a1');
    const [update] = sent(bench.wait(DEADLINE_MS), 'framework:f1', 'StatusUpdate');
    expect(told(bench.wait(DEADLINE_MS), 'f1')).toEqual([]);
    expect(update?.status.updateId).toBe('1.t.1.master.TASK_GONE');
    const unreachable = bench.task('f1', 't1')?.unacknowledged[0]?.updateId ?? '';
    bench.acknowledge('f1', 't1', unreachable);
    expect(history(bench.acknowledge('f1', 't1', '1.t.1.master.TASK_GONE'))).toMatchObject([
      { taskId: 't1', state: 'TASK_GONE' },
    ]);
  });

  test('and is gone is ended on its agent if it comes back with it after all', () => {
    const bench = benchWithRunning(stopAfter('t1'));
    bench.silence('agent:a1');
    bench.wait(DEADLINE_MS);
    for (const { updateId = '' } of bench.task('f1', 't1')?.unacknowledged ?? []) {
      bench.acknowledge('f1', 't1', updateId);
    }
    expect(bench.state.agents.get(agentIdOf('a1'))?.record.writtenOff).toEqual(['1.t.1']);
    const tasks = [agentTask('f1', 't1', { launchId: launchIdOf('1.t.1') })];
    const effects = bench.failOver().registerAgent('a1', { session: 's2', tasks });
    expect(sent(effects, 'agent:a1', 'KillTask')).toMatchObject([
      { launchId: '1.t.1', by: 'master' },
    ]);
    expect(told(effects, 'f1')).toEqual([]);
  });

  test('lives on if its agent comes back in time, and the time begins anew', () => {
    const bench = benchWithRunning(stopAfter('t1'));
    bench.silence('agent:a1');
    bench.wait(DEADLINE_MS - 1);
    bench.registerAgent('a1', back);
    expect(told(bench.wait(DEADLINE_MS), 'f1')).toEqual([]);
    bench.silence('agent:a1');
    expect(told(bench.wait(DEADLINE_MS - 1), 'f1')).toEqual([]);
    expect(told(bench.wait(1), 'f1')).toHaveLength(1);
  });
});

test('a task that its node keeps is never gone on the master’s word', () => {
  const bench = benchWithRunning(taskInfo('t1'));
  bench.silence('agent:a1');
  expect(told(bench.wait(10_000_000_000), 'f1')).toEqual([]);
  expect(bench.task('f1', 't1')?.state).toBe('TASK_UNREACHABLE');
});

/** Agents a1 to aN are registered. */
function benchOfAgents(count: number, options: object = {}): [MasterBench, string[]] {
  const bench = createMasterBench(options);
  const names = Array.from({ length: count }, (_, index) => `a${String(index + 1)}`);
  for (const name of names) bench.registerAgent(name);
  return [bench, names.map((name) => `agent:${name}`)];
}
const unreachableOf = (bench: MasterBench): number =>
  [...bench.state.agents.values()].filter(({ record }) => record.state === 'unreachable').length;

describe('agents that go silent together', () => {
  test('become unreachable no faster than the rate allows', () => {
    const [bench, clients] = benchOfAgents(8, {
      agentRemovalsPerMinute: 2,
      unreachableShareMax: 1,
    });
    const silent = clients.slice(0, 6);
    bench.silence(...silent);
    expect(unreachableOf(bench)).toBe(2);
    bench.wait(29_999);
    bench.silence(...silent);
    expect(unreachableOf(bench)).toBe(2);
    bench.wait(1);
    bench.silence(...silent);
    expect(unreachableOf(bench)).toBe(3);
  });

  test('do not save up more than a minute’s worth of the rate', () => {
    const [bench, clients] = benchOfAgents(8, {
      agentRemovalsPerMinute: 2,
      unreachableShareMax: 1,
    });
    bench.wait(3_600_000);
    bench.silence(...clients);
    expect(unreachableOf(bench)).toBe(2);
  });

  test('and are more than the share that is believed are all left alone, and that is said once', () => {
    const [bench, clients] = benchOfAgents(5);
    const silent = clients.slice(0, 3);
    const effects = bench.silence(...silent);
    expect(unreachableOf(bench)).toBe(0);
    expect(eventsOf(effects)).toMatchObject([
      {
        type: 'agents.silence-doubted',
        message: '3 of 5 agents are silent, at most 50 % are believed at once',
      },
    ]);
    expect(bench.silence(...silent)).toEqual([]);
  });

  test('and are just the share that is believed become unreachable', () => {
    const [bench, clients] = benchOfAgents(6);
    bench.silence(...clients.slice(0, 3));
    expect(unreachableOf(bench)).toBe(3);
  });

  test('are believed when some of them are heard of again', () => {
    const [bench, clients] = benchOfAgents(5);
    bench.silence(...clients.slice(0, 3));
    const effects = bench.silence(...clients.slice(0, 2));
    expect(events(effects).slice(0, 1)).toEqual(['agents.silence-believed']);
    expect(unreachableOf(bench)).toBe(2);
  });

  test('are believed when all of them are heard of again, and none is unreachable', () => {
    const [bench, clients] = benchOfAgents(5);
    bench.silence(...clients.slice(0, 3));
    expect(events(bench.silence())).toEqual(['agents.silence-believed']);
    expect(unreachableOf(bench)).toBe(0);
  });

  test('and are fewer than three are always believed: of two nodes one is a half', () => {
    const [bench, clients] = benchOfAgents(2);
    bench.silence(...clients);
    expect(unreachableOf(bench)).toBe(2);
  });
});
