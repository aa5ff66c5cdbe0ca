/** An operator says that a node will not come back. */
import { describe, expect, test } from '@jest/globals';
import type { MasterEffect } from '../../../master/core/effects.ts';
import { agentIdOf, agentTask, launchIdOf, taskInfo, taskStatus } from '../../support/builders.ts';
import {
  benchWithRunning,
  benchWithTasks,
  createMasterBench,
  events,
  eventsOf,
  ignored,
  sends,
  sent,
  told,
  type MasterBench,
} from '../../support/master-bench.ts';

const agentId = agentIdOf('a1');
const DAYS_30_MS = 2_592_000_000;
const markGone = (bench: MasterBench, from = 'operator:ann'): MasterEffect[] =>
  bench.say(from, { type: 'MarkAgentGone', agentId });
const agentOf = (bench: MasterBench): unknown => bench.state.agents.get(agentId)?.record;

describe('an agent that an operator calls gone', () => {
  test('has its tasks ended on the master’s word', () => {
    const effects = markGone(benchWithRunning(taskInfo('t1')));
    expect(sent(effects, 'framework:f1', 'StatusUpdate')).toMatchObject([
      {
        status: {
          taskId: 't1',
          launchId: '1.t.1',
          updateId: '1.t.1.master.TASK_GONE_BY_OPERATOR',
          state: 'TASK_GONE_BY_OPERATOR',
          source: 'SOURCE_MASTER',
          reason: 'REASON_AGENT_REMOVED_BY_OPERATOR',
          message: 'an operator said that the node is gone for good',
        },
      },
    ]);
  });

  test('and unreachable before has them ended too', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    bench.silence('agent:a1');
    expect(told(markGone(bench), 'f1')).toEqual([
      't1 TASK_GONE_BY_OPERATOR REASON_AGENT_REMOVED_BY_OPERATOR',
    ]);
  });

  test('leaves ends that were told before as they are', () => {
    const bench = benchWithTasks(taskInfo('t1'));
    bench.update('a1', taskStatus('f1', 't1', 'TASK_FINISHED'));
    expect(told(markGone(bench), 'f1')).toEqual([]);
    expect(bench.task('f1', 't1')?.state).toBe('TASK_FINISHED');
  });

  test('has its offers rescinded, its session ended, and all frameworks told', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    bench.registerFramework('f2');
    const effects = markGone(bench);
    expect(sends(effects)).toEqual([
      'framework:f1 RescindResourceOffer',
      'framework:f1 StatusUpdate',
      'framework:f1 LostAgent',
      'framework:f2 LostAgent',
    ]);
    expect(effects).toContainEqual({
      type: 'session.set',
      client: 'agent:a1',
      session: undefined,
    });
  });

  test('is remembered with the reason, and with what was given up', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    const effects = markGone(bench);
    expect(eventsOf(effects).find(({ type }) => type === 'agent.removed')).toMatchObject({
      agentId: 'a1',
      reason: 'an operator said so',
    });
    expect(agentOf(bench)).toMatchObject({ state: 'gone', writtenOff: ['1.t.1'] });
  });

  test('twice is gone once', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    markGone(bench);
    expect(markGone(bench)).toEqual([]);
  });

  test('is not called unreachable afterwards', () => {
    const bench = createMasterBench();
    bench.registerAgent('a1');
    markGone(bench);
    expect(bench.silence('agent:a1')).toEqual([]);
    expect(agentOf(bench)).toMatchObject({ state: 'gone' });
  });

  test('is forgotten after 30 days, and not a millisecond earlier', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    markGone(bench);
    bench.wait(DAYS_30_MS - 1);
    expect(agentOf(bench)).toBeDefined();
    expect(events(bench.wait(1))).toContain('agent.forgotten');
    expect(agentOf(bench)).toBeUndefined();
  });

  test('and forgotten leaves ends that can still be acknowledged', () => {
    const bench = benchWithRunning(taskInfo('t1', { killGracePeriodMs: 0 }));
    bench.silence('framework:f1');
    bench.registerFramework('f1', { failoverTimeoutMs: DAYS_30_MS * 2 }, 's2');
    bench.silence('framework:f1');
    markGone(bench);
    bench.wait(DAYS_30_MS);
    expect(told(bench.registerFramework('f1', {}, 's3'), 'f1')).toEqual([
      't1 TASK_GONE_BY_OPERATOR REASON_AGENT_REMOVED_BY_OPERATOR',
    ]);
    bench.acknowledge('f1', 't1', '1.t.1.master.TASK_GONE_BY_OPERATOR');
    expect(bench.state.tasks.size).toBe(0);
  });
});

describe('an agent that comes back from being gone', () => {
  test('has the tasks that were given up ended, and is offered', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    markGone(bench);
    const tasks = [agentTask('f1', 't1', { launchId: launchIdOf('1.t.1') })];
    const effects = bench.registerAgent('a1', { session: 's2', tasks });
    expect(events(effects)[0]).toBe('agent.registered');
    expect(sent(effects, 'agent:a1', 'KillTask')).toMatchObject([
      { taskId: 't1', launchId: '1.t.1', by: 'master' },
    ]);
    expect(bench.offersOf('f1')).toEqual(['a1 4 8192']);
  });
});

describe('the word that a node is gone', () => {
  test.each(['framework:f1', 'agent:a1', 'agent:a2'])('is not taken from %s', (from) => {
    const bench = benchWithRunning(taskInfo('t1'));
    expect(ignored(markGone(bench, from))).toEqual(['only an operator says that']);
    expect(agentOf(bench)).toMatchObject({ state: 'active' });
  });

  test('says nothing of an agent that nobody knows', () => {
    expect(ignored(markGone(createMasterBench()))).toEqual(['no such agent']);
  });
});
