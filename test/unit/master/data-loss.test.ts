/** After Redis has lost data: what goes, what is put off, what is rebuilt, and that nothing is stopped or doubled by it. */
import { describe, expect, test } from '@jest/globals';
import { CLOCK_SKEW_MAX_MS } from '../../../io/store.ts';
import type { MasterEffect } from '../../../master/core/effects.ts';
import { step } from '../../../master/core/step.ts';
import { FENCE_MARGIN_MS } from '../../../master/core/unreachable.ts';
import { numberedSession, sessionNumberAt } from '../../../protocol/ids.ts';
import type { AgentTask } from '../../../protocol/task.ts';
import {
  agentIdOf,
  agentTask,
  amount,
  frameworkIdOf,
  frameworkInfo,
  launchIdOf,
  taskIdOf,
  taskInfo,
  taskStatus,
} from '../../support/builders.ts';
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

/** The agent timeout: so long may agents take to come back. */
const RECOVERY_MS = 75_000;
const frameworkId = frameworkIdOf('f1');
const frameworkOf = (bench: MasterBench): unknown =>
  bench.state.frameworks.get(frameworkId)?.record;

/** Redis came back empty, and f1 has registered again. */
function emptied(): MasterBench {
  const bench = createMasterBench();
  bench.loseData();
  bench.registerFramework('f1');
  return bench;
}

/** Agent a1 comes back with a task of f1. */
function turnUp(bench: MasterBench, more: Partial<AgentTask> = {}): MasterEffect[] {
  const tasks = [agentTask('f1', 't1', { launchId: launchIdOf('0.x.1'), ...more })];
  const frameworks = [{ info: frameworkInfo('f1'), detached: false }];
  return bench.registerAgent('a1', { tasks, frameworks });
}

const ask = (bench: MasterBench): MasterEffect[] =>
  bench.say('framework:f1', {
    type: 'ReconcileTasks',
    frameworkId,
    taskIds: [taskIdOf('t1')],
  });
const detach = (bench: MasterBench): MasterEffect[] =>
  bench.say('framework:f1', { type: 'DetachFramework', frameworkId });

describe('when Redis has lost data', () => {
  test('offers go, with the reason: what they promise may be in use', () => {
    const bench = benchWithTasks(taskInfo('t1'));
    const effects = bench.loseData();
    expect(bench.state.offers.size).toBe(0);
    expect(eventsOf(effects)).toMatchObject([
      { type: 'offer.rescinded', reason: 'Redis has lost data' },
      { type: 'agent.disconnected', reason: 'Redis has lost data' },
      { type: 'framework.disconnected', reason: 'Redis has lost data' },
      { type: 'cluster.recovering' },
    ]);
  });

  test('sessions go, so that every client registers again', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    const effects = bench.loseData();
    expect(effects.filter(({ type }) => type === 'session.set')).toEqual([
      { type: 'session.set', client: 'agent:a1', session: undefined },
      { type: 'session.set', client: 'framework:f1', session: undefined },
    ]);
  });

  test('nothing is offered of an agent that has not come back', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    bench.loseData();
    bench.registerFramework('f1', {}, 's2');
    expect(bench.offersOf('f1')).toEqual([]);
  });

  test('a launch that nobody has confirmed is not sent again: the confirmation may be what was lost', () => {
    const bench = benchWithTasks(taskInfo('t1'));
    bench.loseData();
    const effects = bench.registerAgent('a1', { session: 's2' });
    expect(sends(effects)).toEqual(['agent:a1 AgentRegistered']);
    expect(bench.task('f1', 't1')?.state).toBe('TASK_LOST');
  });

  test('an agent that comes back with its tasks goes on, and nobody is told anything', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    bench.loseData();
    bench.registerFramework('f1', {}, 's2');
    const effects = bench.registerAgent('a1', { session: 's2', tasks: [agentTask('f1', 't1')] });
    expect(told(effects, 'f1')).toEqual([]);
    expect(bench.task('f1', 't1')?.state).toBe('TASK_RUNNING');
  });

  test('an agent that does not come back is unreachable when the recovery is over', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    bench.loseData();
    bench.wait(RECOVERY_MS - 1);
    expect(events(bench.silence())).toEqual([]);
    bench.wait(1);
    bench.silence();
    expect(bench.state.agents.get(agentIdOf('a1'))?.record.state).toBe('unreachable');
    expect(bench.task('f1', 't1')?.state).toBe('TASK_UNREACHABLE');
  });

  test('an agent that had no session before has the same time to come back', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    bench.overflow('agent:a1');
    bench.wait(RECOVERY_MS - 1);
    bench.loseData();
    bench.wait(RECOVERY_MS - 1);
    expect(events(bench.silence())).toEqual([]);
    bench.wait(1);
    expect(events(bench.silence())).toContain('agent.unreachable');
  });

  test('a framework that does not come back is removed after its failover timeout', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    bench.loseData();
    bench.wait(RECOVERY_MS);
    bench.wait(60_000);
    expect(frameworkOf(bench)).toBeUndefined();
  });

  test('a session from before it stays so when records turn out to be unreadable soon after', () => {
    const bench = createMasterBench();
    bench.registerAgent('a1');
    const lostBefore = sessionNumberAt(bench.nowMs + CLOCK_SKEW_MAX_MS);
    step(bench.state, { type: 'data.lost', lostBefore }, bench.nowMs);
    bench.wait(1000);
    bench.loseData();
    const effects = bench.registerAgent('a1', { session: numberedSession(lostBefore) });
    expect(ignored(effects)).toEqual(['its session was opened before the last loss of data']);
  });

  test('again, the time for coming back begins anew', () => {
    const bench = createMasterBench();
    bench.loseData();
    bench.wait(RECOVERY_MS - 1);
    bench.loseData();
    expect(events(bench.wait(RECOVERY_MS - 1))).toEqual([]);
    expect(events(bench.wait(1))).toEqual(['cluster.recovered']);
  });
});

describe('a copy of the registry that is behind', () => {
  test('does not remove a framework that it thinks away before it has had the time to come back', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    bench.silence('framework:f1');
    const replica = bench.replica();
    bench.wait(59_000);
    bench.registerFramework('f1', {}, 's2');
    bench.wait(10_000);
    const next = replica(bench.nowMs);
    expect(events(next.wait(RECOVERY_MS - 1))).toEqual([]);
    next.registerFramework('f1', {}, 's3');
    next.wait(1_000_000);
    expect(next.task('f1', 't1')?.killRequested).toBeUndefined();
  });

  test('does not give a task up that it thinks unreachable before its node could have stopped it', () => {
    const stopAfterMs = 600_000;
    const bench = benchWithRunning(taskInfo('t1', { whenUnreachable: { stopAfterMs } }));
    bench.silence('agent:a1');
    const replica = bench.replica();
    bench.wait(500_000);
    bench.registerAgent('a1', { session: 's2', tasks: [agentTask('f1', 't1')] });
    bench.wait(150_000);
    // The agent is cut off in the same moment: its node counts from here.
    const next = replica(bench.nowMs);
    next.registerFramework('f1', {}, 's3');
    next.wait(stopAfterMs + 5000 + FENCE_MARGIN_MS - 1);
    expect(next.task('f1', 't1')?.state).toBe('TASK_UNREACHABLE');
    next.wait(1);
    expect(next.task('f1', 't1')?.state).toBe('TASK_GONE');
  });
});

describe('a question about a task that may still turn up', () => {
  test('is answered when it does', () => {
    const bench = emptied();
    expect(told(ask(bench), 'f1')).toEqual([]);
    expect(told(turnUp(bench), 'f1')).toEqual(['t1 TASK_RUNNING REASON_RECONCILIATION']);
    expect(told(bench.wait(RECOVERY_MS), 'f1')).toEqual([]);
  });

  test('is answered when the recovery is over, and not a millisecond earlier', () => {
    const bench = emptied();
    ask(bench);
    expect(told(bench.wait(RECOVERY_MS - 1), 'f1')).toEqual([]);
    const effects = bench.wait(1);
    expect(events(effects)).toEqual(['cluster.recovered']);
    expect(told(effects, 'f1')).toEqual(['t1 TASK_UNKNOWN REASON_RECONCILIATION']);
  });

  test('is answered at the same time by another leader', () => {
    const bench = emptied();
    ask(bench);
    bench.wait(50_000);
    const next = bench.failOver();
    expect(told(next.wait(RECOVERY_MS - 50_001), 'f1')).toEqual([]);
    expect(told(next.wait(1), 'f1')).toEqual(['t1 TASK_UNKNOWN REASON_RECONCILIATION']);
  });

  test('is put off by another leader too', () => {
    const next = emptied().failOver();
    expect(told(ask(next), 'f1')).toEqual([]);
    expect(told(turnUp(next), 'f1')).toEqual(['t1 TASK_RUNNING REASON_RECONCILIATION']);
  });

  test('is answered at once when the recovery is over', () => {
    const bench = emptied();
    bench.wait(RECOVERY_MS);
    expect(told(ask(bench), 'f1')).toEqual(['t1 TASK_UNKNOWN REASON_RECONCILIATION']);
  });
});

describe('a kill of a task that may still turn up', () => {
  test('is done when it does', () => {
    const bench = emptied();
    expect(told(bench.kill('framework:f1', 'f1', 't1'), 'f1')).toEqual([]);
    const effects = turnUp(bench);
    expect(sent(effects, 'agent:a1', 'KillTask')).toMatchObject([
      { taskId: 't1', launchId: '0.x.1', by: 'framework' },
    ]);
  });

  test('is answered with TASK_UNKNOWN when the recovery is over', () => {
    const bench = emptied();
    bench.kill('framework:f1', 'f1', 't1');
    expect(told(bench.wait(RECOVERY_MS), 'f1')).toEqual(['t1 TASK_UNKNOWN REASON_TASK_UNKNOWN']);
  });
});

describe('a launch on offers that were lost', () => {
  const launch = (bench: MasterBench): MasterEffect[] =>
    bench.launch('f1', 'o0.x.1', [taskInfo('t1')]);

  test('has happened if the task turns up', () => {
    const bench = emptied();
    expect(told(launch(bench), 'f1')).toEqual([]);
    expect(told(turnUp(bench), 'f1')).toEqual(['t1 TASK_RUNNING REASON_RECONCILIATION']);
    expect(told(bench.wait(RECOVERY_MS), 'f1')).toEqual([]);
  });

  test('has failed if it does not, and may be tried again', () => {
    const bench = emptied();
    launch(bench);
    const effects = bench.wait(RECOVERY_MS);
    expect(sent(effects, 'framework:f1', 'StatusUpdate')).toMatchObject([
      {
        status: {
          state: 'TASK_LOST',
          reason: 'REASON_INVALID_OFFERS',
          message: 'not launched: Redis had lost the offers that it named',
        },
      },
    ]);
  });

  test('of a task that was launched on a good offer meanwhile, and has ended, is not called lost', () => {
    const bench = emptied();
    launch(bench);
    bench.registerAgent('a1');
    bench.launch('f1', bench.offerOf('f1').offerId, [taskInfo('t1')]);
    bench.update('a1', taskStatus('f1', 't1', 'TASK_FINISHED'));
    bench.acknowledge('f1', 't1', 't1.TASK_FINISHED');
    expect(told(bench.wait(RECOVERY_MS), 'f1')).not.toContain('t1 TASK_LOST REASON_INVALID_OFFERS');
  });
});

describe('a framework that only its tasks bear witness of', () => {
  /** Redis came back empty, and the agent is the first to register. */
  const recovered = (failoverTimeoutMs: number, detached = false): MasterBench => {
    const bench = createMasterBench();
    bench.loseData();
    bench.registerAgent('a1', {
      tasks: [agentTask('f1', 't1', { launchId: launchIdOf('0.x.1') })],
      frameworks: [{ info: frameworkInfo('f1', { failoverTimeoutMs }), detached }],
    });
    return bench;
  };

  test('has the failover timeout that it asked for', () => {
    const bench = recovered(100_000);
    bench.wait(99_999);
    expect(frameworkOf(bench)).toMatchObject({ state: 'disconnected' });
    expect(sends(bench.wait(1))).toEqual(['agent:a1 ShutdownFramework']);
    expect(frameworkOf(bench)).toBeUndefined();
  });

  test('has the time to come back that every client has, however short its timeout', () => {
    const bench = recovered(0);
    bench.wait(RECOVERY_MS - 1);
    expect(bench.task('f1', 't1')?.killRequested).toBeUndefined();
    const [answer] = sent(bench.registerFramework('f1'), 'framework:f1', 'FrameworkRegistered');
    expect(answer?.known).toBe(true);
    bench.wait(1_000_000);
    expect(bench.task('f1', 't1')?.killRequested).toBeUndefined();
  });

  test('and that had left is waited for by nobody', () => {
    const bench = recovered(0, true);
    bench.wait(1_000_000);
    expect(frameworkOf(bench)).toMatchObject({ state: 'detached' });
    bench.update('a1', taskStatus('f1', 't1', 'TASK_FINISHED'));
    expect(frameworkOf(bench)).toBeUndefined();
  });

  test('is the same for the next leader', () => {
    const bench = recovered(100_000);
    const next = bench.failOver();
    expect(frameworkOf(next)).toEqual(frameworkOf(bench));
    expect(next.state.frameworks.get(frameworkId)?.used).toEqual(amount(1, 128));
  });

  test('is told of an end that nobody has acknowledged when it comes back', () => {
    const bench = createMasterBench();
    bench.loseData();
    turnUp(bench, { state: 'TASK_FAILED' });
    const launchId = launchIdOf('0.x.1');
    const status = taskStatus('f1', 't1', 'TASK_FAILED', { launchId });
    expect(sends(bench.update('a1', status))).toEqual([]);
    expect(told(bench.registerFramework('f1'), 'f1')).toEqual(['t1 TASK_FAILED']);
    expect(sends(bench.acknowledge('f1', 't1', 't1.TASK_FAILED'))).toEqual([
      'agent:a1 StatusUpdateAcknowledgement',
    ]);
  });
});

test('an end that the framework has acknowledged is followed by no other, if its agent missed that and is gone', () => {
  const bench = emptied();
  bench.registerAgent('a1');
  bench.launch('f1', bench.offerOf('f1').offerId, [taskInfo('t1')]);
  const launchId = launchIdOf('1.t.1');
  bench.update('a1', taskStatus('f1', 't1', 'TASK_FINISHED', { launchId }));
  bench.acknowledge('f1', 't1', 't1.TASK_FINISHED');
  const tasks = [agentTask('f1', 't1', { launchId, state: 'TASK_FINISHED' })];
  bench.registerAgent('a1', { session: 's2', tasks });
  const effects = bench.say('operator:ann', { type: 'MarkAgentGone', agentId: agentIdOf('a1') });
  expect(told(effects, 'f1')).toEqual([]);
});

describe('a framework that detaches before its tasks have turned up', () => {
  test('stays detached: they go on to their end', () => {
    const bench = emptied();
    detach(bench);
    turnUp(bench);
    bench.wait(RECOVERY_MS + 1_000_000);
    expect(bench.task('f1', 't1')).toMatchObject({ state: 'TASK_RUNNING' });
    expect(bench.task('f1', 't1')?.killRequested).toBeUndefined();
  });

  test('is forgotten when the recovery is over and none has', () => {
    const bench = emptied();
    detach(bench);
    bench.wait(RECOVERY_MS);
    expect(frameworkOf(bench)).toBeUndefined();
  });
});
