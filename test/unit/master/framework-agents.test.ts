/** What agents are told of the frameworks whose tasks they run. */
import { describe, expect, test } from '@jest/globals';
import type { MasterEffect } from '../../../master/core/effects.ts';
import { numberedSession } from '../../../protocol/ids.ts';
import { agentTask, frameworkIdOf, taskInfo, taskStatus } from '../../support/builders.ts';
import {
  benchWithRunning,
  benchWithTasks,
  createMasterBench,
  ignored,
  sends,
  sent,
  told,
} from '../../support/master-bench.ts';

const frameworkId = frameworkIdOf('f1');
const leave = (
  type: 'DetachFramework' | 'UnregisterFramework',
): { type: 'DetachFramework' | 'UnregisterFramework'; frameworkId: typeof frameworkId } => ({
  type,
  frameworkId,
});
/** As `TIMEOUT DETACHED`. */
const updates = (effects: readonly MasterEffect[], agent = 'a1'): string[] =>
  sent(effects, `agent:${agent}`, 'UpdateFramework').map(
    ({ framework, detached }) => `${String(framework.failoverTimeoutMs)} ${String(detached)}`,
  );

describe('the agents of a framework’s tasks', () => {
  test('are told when it detaches', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    expect(updates(bench.say('framework:f1', leave('DetachFramework')))).toEqual(['60000 true']);
  });

  test('are told when it comes back from having detached', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    bench.say('framework:f1', leave('DetachFramework'));
    expect(updates(bench.registerFramework('f1', {}, 's2'))).toEqual(['60000 false']);
  });

  test('are told of another failover timeout', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    const effects = bench.registerFramework('f1', { failoverTimeoutMs: 5000 }, 's2');
    expect(updates(effects)).toEqual(['5000 false']);
  });

  test('are told nothing when it comes back as it was', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    bench.silence('framework:f1');
    expect(updates(bench.registerFramework('f1', {}, 's2'))).toEqual([]);
  });

  test('are told once, and no others', () => {
    const bench = benchWithTasks(taskInfo('t1'), taskInfo('t2'));
    bench.registerAgent('a2');
    const effects = bench.say('framework:f1', leave('DetachFramework'));
    expect(sends(effects).filter((line) => line.startsWith('agent:'))).toEqual([
      'agent:a1 UpdateFramework',
    ]);
  });

  test('are told nothing when all of the tasks have ended', () => {
    const bench = benchWithTasks(taskInfo('t1'));
    bench.update('a1', taskStatus('f1', 't1', 'TASK_FINISHED'));
    expect(updates(bench.registerFramework('f1', { failoverTimeoutMs: 5000 }, 's2'))).toEqual([]);
  });
});

describe('a framework that is torn down while an agent cannot be reached', () => {
  test('has its tasks killed when the agent comes back', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    bench.silence('agent:a1');
    bench.say('framework:f1', leave('UnregisterFramework'));
    const effects = bench.registerAgent('a1', { session: 's2', tasks: [agentTask('f1', 't1')] });
    expect(sent(effects, 'agent:a1', 'KillTask')).toMatchObject([
      { taskId: 't1', launchId: '1.t.1', by: 'framework' },
    ]);
  });

  test('has them killed also by another leader', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    bench.silence('agent:a1', 'framework:f1');
    bench.wait(60_000);
    const next = bench.failOver();
    const effects = next.registerAgent('a1', { session: 's2', tasks: [agentTask('f1', 't1')] });
    expect(sends(effects)).toEqual(['agent:a1 AgentRegistered', 'agent:a1 KillTask']);
  });
});

describe('a scheduler whose framework another has taken over', () => {
  test('cannot take it back by a registration that comes late', () => {
    const bench = createMasterBench();
    bench.registerFramework('f1', {}, numberedSession(8));
    const effects = bench.registerFramework('f1', {}, numberedSession(7));
    expect(ignored(effects)).toEqual(['a newer session has been registered']);
    expect(bench.state.frameworks.get(frameworkId)?.record.session).toBe(numberedSession(8));
  });

  test('cannot come back in its own session', () => {
    const bench = createMasterBench();
    bench.registerFramework('f1', {}, numberedSession(8));
    bench.silence('framework:f1');
    expect(bench.registerFramework('f1', {}, numberedSession(8))).toEqual([]);
  });

  test('reads that it has failed over; one that only went silent reads nothing', () => {
    const bench = createMasterBench();
    bench.registerFramework('f1', {}, numberedSession(7));
    const farewells = (effects: readonly MasterEffect[]): unknown[] =>
      effects.flatMap((effect) => (effect.type === 'stream.end' ? [effect.farewell] : []));
    expect(farewells(bench.registerFramework('f1', {}, numberedSession(8)))).toMatchObject([
      { type: 'FrameworkError', code: 'framework-failed-over' },
    ]);
    expect(farewells(bench.silence('framework:f1'))).toEqual([undefined]);
  });
});

test('a detached framework has the master’s own words acknowledged for it', () => {
  const bench = benchWithRunning(taskInfo('t1'));
  bench.say('framework:f1', leave('DetachFramework'));
  const effects = bench.silence('agent:a1');
  expect(told(effects, 'f1')).toEqual([]);
  expect(bench.task('f1', 't1')).toMatchObject({ state: 'TASK_UNREACHABLE', unacknowledged: [] });
});
