import { describe, expect, test } from '@jest/globals';
import {
  agentIdOf,
  agentInfo,
  agentTask,
  amount,
  frameworkIdOf,
  sessionOf,
  taskInfo,
  taskStatus,
} from '../../support/builders.ts';
import { assertInvariants } from '../../support/invariants.ts';
import {
  benchWithRunning,
  benchWithTasks,
  createMasterBench,
  events,
  eventsOf,
  history,
  ignored,
  sends,
  sent,
  told,
} from '../../support/master-bench.ts';

const agentId = agentIdOf('a1');

describe('an agent that registers', () => {
  test('is answered, and its resources are offered', () => {
    const bench = createMasterBench();
    bench.registerFramework('f1');
    const effects = bench.registerAgent('a1');
    expect(sends(effects)).toEqual(['agent:a1 AgentRegistered', 'framework:f1 ResourceOffers']);
  });

  test('twice in the same session is answered once', () => {
    const bench = createMasterBench();
    bench.registerAgent('a1');
    expect(bench.registerAgent('a1')).toEqual([]);
  });

  test('again takes the session over, and the stream of the old one ends with the reason', () => {
    const bench = createMasterBench();
    bench.registerAgent('a1');
    const effects = bench.registerAgent('a1', { session: 's2' });
    expect(effects).toEqual(
      expect.arrayContaining([
        { type: 'session.set', client: 'agent:a1', session: 's2' },
        {
          type: 'stream.end',
          client: 'agent:a1',
          session: 's1',
          farewell: {
            type: 'AgentError',
            code: 'agent-moved',
            message: 'another process has registered as this agent',
          },
        },
      ]),
    );
  });

  test('under the name of another is not registered', () => {
    const bench = createMasterBench();
    const message = {
      type: 'RegisterAgent' as const,
      agent: agentInfo('a1'),
      session: sessionOf('s1'),
      node: 'n1',
      tasks: [],
      frameworks: [],
      executors: [],
      ended: [],
    };
    expect(ignored(bench.say('agent:a2', message, 's1'))).toEqual([
      'an agent registers only itself',
    ]);
  });

  test('again with other resources has its offers rescinded, and made anew', () => {
    const bench = createMasterBench();
    bench.registerAgent('a1');
    bench.registerFramework('f1');
    bench.registerAgent('a1', { session: 's2', resources: amount(2, 1024) });
    expect(bench.offersOf('f1')).toEqual(['a1 2 1024']);
  });

  test('again with the same resources keeps its offers', () => {
    const bench = createMasterBench();
    bench.registerAgent('a1');
    bench.registerFramework('f1');
    const before = bench.offerOf('f1').offerId;
    bench.registerAgent('a1', { session: 's2' });
    expect(bench.offerOf('f1').offerId).toBe(before);
  });

  test('with less than its tasks use is offered to nobody until they have ended', () => {
    const bench = benchWithRunning(taskInfo('t1', { resources: amount(2, 4096) }));
    const shrink = (): unknown =>
      bench.registerAgent('a1', {
        session: 's2',
        resources: amount(1, 1024),
        tasks: [agentTask('f1', 't1', { resources: amount(2, 4096) })],
      });
    // The bench holds the agent to what it has, and here it has less than it was given before.
    expect(shrink).toThrow('a1 has 1000 mcpu 1024 MiB, given out 2000 mcpu 4096 MiB');
    expect(bench.offersOf('f1')).toEqual([]);
    assertInvariants(bench.state, new Set(['a1']));
  });
});

describe('a task that its agent does not report when it registers again', () => {
  test('and of which nobody has heard is sent once more', () => {
    const bench = benchWithTasks(taskInfo('t1'));
    const effects = bench.registerAgent('a1', { session: 's2' });
    expect(sent(effects, 'agent:a1', 'RunTask')).toMatchObject([{ task: { taskId: 't1' } }]);
    expect(bench.task('f1', 't1')?.state).toBe('TASK_STAGING');
  });

  test('and that was to be killed is sent, and killed', () => {
    const bench = benchWithTasks(taskInfo('t1'));
    bench.kill('framework:f1', 'f1', 't1');
    const effects = bench.registerAgent('a1', { session: 's2' });
    expect(sends(effects).slice(1)).toEqual(['agent:a1 RunTask', 'agent:a1 KillTask']);
  });

  test('and whose framework was removed meanwhile is not started for nobody', () => {
    const bench = benchWithTasks(taskInfo('t1'));
    bench.silence('agent:a1');
    bench.say('framework:f1', { type: 'UnregisterFramework', frameworkId: frameworkIdOf('f1') });
    const effects = bench.registerAgent('a1', { session: 's2' });
    expect(sends(effects)).toEqual(['agent:a1 AgentRegistered']);
    expect(history(effects)).toMatchObject([{ taskId: 't1', state: 'TASK_LOST' }]);
  });

  test('and which was running is lost, and its resources are free', () => {
    const bench = benchWithRunning(taskInfo('t1', { resources: amount(4, 8192) }));
    const effects = bench.registerAgent('a1', { session: 's2' });
    expect(told(effects, 'f1')).toEqual(['t1 TASK_LOST REASON_RECONCILIATION']);
    expect(bench.offersOf('f1')).toEqual(['a1 4 8192']);
    expect(history(bench.acknowledge('f1', 't1', '1.t.1.master.TASK_LOST'))).toMatchObject([
      { state: 'TASK_LOST' },
    ]);
  });
});

describe('a task that an agent reports when it registers', () => {
  test('and that the master knows goes on', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    const effects = bench.registerAgent('a1', { session: 's2', tasks: [agentTask('f1', 't1')] });
    expect(sends(effects)).toEqual(['agent:a1 AgentRegistered']);
    expect(bench.task('f1', 't1')?.state).toBe('TASK_RUNNING');
  });

  test('is not sent again, whatever becomes of its agent', () => {
    const bench = benchWithTasks(taskInfo('t1'));
    bench.registerAgent('a1', { session: 's2', tasks: [agentTask('f1', 't1')] });
    const effects = bench.registerAgent('a1', { session: 's3' });
    expect(told(effects, 'f1')).toEqual(['t1 TASK_LOST REASON_RECONCILIATION']);
  });

  test('and that has ended waits for its update', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    bench.registerAgent('a1', {
      session: 's2',
      tasks: [agentTask('f1', 't1', { state: 'TASK_FINISHED' })],
    });
    expect(bench.task('f1', 't1')?.state).toBe('TASK_RUNNING');
    expect(told(bench.update('a1', taskStatus('f1', 't1', 'TASK_FINISHED')), 'f1')).toEqual([
      't1 TASK_FINISHED',
    ]);
  });

  test('and of which the master has never heard is counted', () => {
    const bench = createMasterBench();
    bench.registerFramework('f1');
    const effects = bench.registerAgent('a1', {
      tasks: [agentTask('f1', 't1', { resources: amount(3, 1024) })],
    });
    expect(events(effects)).toContain('task.adopted');
    expect(bench.offersOf('f1')).toEqual(['a1 1 7168']);
  });

  test('and of which the master has never heard, but which has ended, is not', () => {
    const bench = createMasterBench();
    bench.registerAgent('a1', { tasks: [agentTask('f1', 't1', { state: 'TASK_FAILED' })] });
    expect(bench.state.tasks.size).toBe(0);
  });

  test('of a framework that this cluster has removed is killed', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    bench.silence('agent:a1');
    bench.say('framework:f1', { type: 'UnregisterFramework', frameworkId: frameworkIdOf('f1') });
    const effects = bench.registerAgent('a1', { session: 's2', tasks: [agentTask('f1', 't1')] });
    expect(sends(effects)).toEqual(['agent:a1 AgentRegistered', 'agent:a1 KillTask']);
  });

  test('of a framework that the cluster has forgotten goes on: it may come back', () => {
    const bench = createMasterBench();
    bench.registerAgent('a1', { tasks: [agentTask('f1', 't1')] });
    const effects = bench.registerAgent('a1', { session: 's2', tasks: [agentTask('f1', 't1')] });
    expect(sends(effects)).toEqual(['agent:a1 AgentRegistered']);
  });
});

describe('an agent that goes silent', () => {
  test('is unreachable: its offers are rescinded, and its tasks are told of and left alone', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    const effects = bench.silence('agent:a1');
    expect(events(effects)).toEqual(['offer.rescinded', 'agent.unreachable', 'task.updated']);
    expect(sends(effects)).toEqual([
      'framework:f1 RescindResourceOffer',
      'framework:f1 StatusUpdate',
    ]);
    expect(bench.offersOf('f1')).toEqual([]);
  });

  test('twice is unreachable once', () => {
    const bench = createMasterBench();
    bench.registerAgent('a1');
    bench.silence('agent:a1');
    expect(bench.silence('agent:a1')).toEqual([]);
  });

  test('does not count towards the total that shares are measured by', () => {
    const bench = createMasterBench();
    bench.registerAgent('a1');
    bench.registerAgent('a2', { resources: amount(2, 100) });
    bench.silence('agent:a1');
    expect(bench.state.total).toEqual(amount(2, 100));
  });

  test('and comes back is offered again', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    bench.silence('agent:a1');
    bench.registerAgent('a1', { session: 's2', tasks: [agentTask('f1', 't1')] });
    expect(bench.offersOf('f1')).toEqual(['a1 3 8064']);
    expect(bench.state.agents.get(agentId)?.record).toMatchObject({
      state: 'active',
      session: 's2',
    });
  });
});

describe('an agent that does not read its messages', () => {
  test('has no session and no offers any more, and its tasks go on', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    const effects = bench.overflow('agent:a1');
    expect(events(effects)).toEqual(['offer.rescinded', 'agent.disconnected']);
    expect(bench.task('f1', 't1')?.state).toBe('TASK_RUNNING');
    expect(bench.offersOf('f1')).toEqual([]);
  });

  test('is unreachable if it does not register again within the agent timeout', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    bench.overflow('agent:a1');
    bench.wait(74_999);
    expect(bench.silence()).toEqual([]);
    bench.wait(1);
    expect(told(bench.silence(), 'f1')).toEqual(['t1 TASK_UNREACHABLE REASON_AGENT_DISCONNECTED']);
  });
});

describe('an agent that leaves', () => {
  test('loses its tasks, and every framework is told of both', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    bench.registerFramework('f2');
    const effects = bench.say('agent:a1', { type: 'UnregisterAgent', agentId });
    expect(told(effects, 'f1')).toEqual(['t1 TASK_LOST REASON_AGENT_REMOVED']);
    expect(sends(effects).filter((line) => line.endsWith('LostAgent'))).toEqual([
      'framework:f1 LostAgent',
      'framework:f2 LostAgent',
    ]);
    expect(bench.state.agents.get(agentId)?.record.state).toBe('gone');
  });

  test('leaves tasks that go into the history when they are acknowledged', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    bench.say('agent:a1', { type: 'UnregisterAgent', agentId });
    expect(history(bench.acknowledge('f1', 't1', '1.t.1.master.TASK_LOST'))).toMatchObject([
      { agentId: 'a1' },
    ]);
  });

  test('and registers again is a new one', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    bench.say('agent:a1', { type: 'UnregisterAgent', agentId });
    const effects = bench.registerAgent('a1', { session: 's2' });
    expect(events(effects)[0]).toBe('agent.registered');
    expect(bench.offersOf('f1')).toEqual(['a1 4 8192']);
  });

  test('cannot take another with it', () => {
    const bench = createMasterBench();
    bench.registerAgent('a1');
    bench.registerAgent('a2');
    bench.say('agent:a2', { type: 'UnregisterAgent', agentId });
    expect(bench.state.agents.size).toBe(2);
  });
});

test('events say who, what and why', () => {
  const bench = createMasterBench();
  const [event] = eventsOf(bench.registerAgent('a1', { hostname: 'node7' }));
  expect(event).toEqual({
    type: 'agent.registered',
    atMs: 1_000_000,
    agentId: 'a1',
    resources: amount(4, 8192),
    name: 'node7',
  });
});
