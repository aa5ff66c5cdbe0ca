/** The table at the head of `master/core/agent-tasks.ts`, row by row. */
import { describe, expect, test } from '@jest/globals';
import type { MasterEffect } from '../../../master/core/effects.ts';
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
  history,
  sends,
  sent,
  told,
  type MasterBench,
} from '../../support/master-bench.ts';

const endedOf = (
  taskId: string,
  launchId: string,
): {
  frameworkId: ReturnType<typeof frameworkIdOf>;
  taskId: ReturnType<typeof taskIdOf>;
  launchId: ReturnType<typeof launchIdOf>;
} => ({
  frameworkId: frameworkIdOf('f1'),
  taskId: taskIdOf(taskId),
  launchId: launchIdOf(launchId),
});
const kills = (effects: readonly MasterEffect[]): string[] =>
  sent(effects, 'agent:a1', 'KillTask').map(({ taskId, launchId, by }) =>
    [taskId, launchId, by].join(' '),
  );
const resends = (effects: readonly MasterEffect[]): string[] =>
  sent(effects, 'agent:a1', 'AgentRegistered').flatMap(({ resend }) => resend);
const writtenOff = (bench: MasterBench): unknown =>
  bench.state.agents.get(agentIdOf('a1'))?.record.writtenOff;

describe('a live task that its agent reports', () => {
  test('goes on in the state that the agent says', () => {
    const bench = benchWithTasks(taskInfo('t1'));
    const tasks = [agentTask('f1', 't1', { state: 'TASK_STARTING' })];
    bench.registerAgent('a1', { session: 's2', tasks });
    expect(bench.task('f1', 't1')).toMatchObject({ state: 'TASK_STARTING', unheard: false });
  });

  test('does not go back to a state that it has left', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    const tasks = [agentTask('f1', 't1', { state: 'TASK_STARTING' })];
    bench.registerAgent('a1', { session: 's2', tasks });
    expect(bench.task('f1', 't1')?.state).toBe('TASK_RUNNING');
  });

  test('and that was to be killed is killed, by its launch', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    bench.kill('framework:f1', 'f1', 't1');
    const tasks = [agentTask('f1', 't1')];
    expect(kills(bench.registerAgent('a1', { session: 's2', tasks }))).toEqual([
      't1 1.t.1 framework',
    ]);
  });
});

describe('a live task whose end the agent has had acknowledged', () => {
  const comeBack = (bench: MasterBench): MasterEffect[] =>
    bench.registerAgent('a1', { session: 's2', ended: [endedOf('t1', '1.t.1')] });

  test('is not lost: its end is asked for again', () => {
    const effects = comeBack(benchWithRunning(taskInfo('t1')));
    expect(resends(effects)).toEqual(['1.t.1']);
    expect(told(effects, 'f1')).toEqual([]);
  });

  test('ends as it has ended when that comes', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    comeBack(bench);
    const effects = bench.update('a1', taskStatus('f1', 't1', 'TASK_FINISHED'));
    expect(told(effects, 'f1')).toEqual(['t1 TASK_FINISHED']);
  });

  test('is not sent again, even if nobody has heard of it', () => {
    const effects = comeBack(benchWithTasks(taskInfo('t1')));
    expect(sends(effects)).toEqual(['agent:a1 AgentRegistered']);
  });

  test('is not asked for if the master knows the end', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    bench.update('a1', taskStatus('f1', 't1', 'TASK_FINISHED'));
    expect(resends(comeBack(bench))).toEqual([]);
  });

  test('is lost if what has ended was another launch of it', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    const effects = bench.registerAgent('a1', { session: 's2', ended: [endedOf('t1', '0.x.9')] });
    expect(resends(effects)).toEqual([]);
    expect(told(effects, 'f1')).toEqual(['t1 TASK_LOST REASON_RECONCILIATION']);
  });
});

test('a launch that never got to its agent is sent again, as the same launch', () => {
  const bench = benchWithTasks(taskInfo('t1'));
  const effects = bench.registerAgent('a1', { session: 's2' });
  expect(sent(effects, 'agent:a1', 'RunTask')).toEqual([
    {
      type: 'RunTask',
      framework: frameworkInfo('f1'),
      launchId: '1.t.1',
      task: taskInfo('t1'),
    },
  ]);
});

test('a live task that its agent does not know any more is lost, with the reason', () => {
  const bench = benchWithRunning(taskInfo('t1'));
  const effects = bench.registerAgent('a1', { session: 's2' });
  expect(sent(effects, 'framework:f1', 'StatusUpdate')).toMatchObject([
    {
      status: {
        state: 'TASK_LOST',
        launchId: '1.t.1',
        updateId: '1.t.1.master.TASK_LOST',
        source: 'SOURCE_MASTER',
        message: 'the agent registered again and does not know the task',
      },
    },
  ]);
});

describe('a task that the master has ended on its own word and the agent runs', () => {
  /** Its agent has left with it, and comes back. */
  function benchWithGivenUp(): MasterBench {
    const bench = benchWithRunning(taskInfo('t1'));
    bench.say('agent:a1', { type: 'UnregisterAgent', agentId: agentIdOf('a1') });
    return bench;
  }
  const tasks = [agentTask('f1', 't1', { launchId: launchIdOf('1.t.1') })];

  test('is ended there, also before the framework has acknowledged that end', () => {
    const effects = benchWithGivenUp().registerAgent('a1', { session: 's2', tasks });
    expect(kills(effects)).toEqual(['t1 1.t.1 master']);
    expect(told(effects, 'f1')).toEqual([]);
    expect(eventsOf(effects)).toContainEqual(
      expect.objectContaining({ type: 'task.superseded', reason: 'it was given up before' }),
    );
  });

  test('is ended there when it is history', () => {
    const bench = benchWithGivenUp();
    bench.acknowledge('f1', 't1', '1.t.1.master.TASK_LOST');
    const effects = bench.registerAgent('a1', { session: 's2', tasks });
    expect(kills(effects)).toEqual(['t1 1.t.1 master']);
    expect(bench.state.tasks.size).toBe(0);
  });

  test('is ended there again if the agent missed that the first time', () => {
    const bench = benchWithGivenUp();
    bench.acknowledge('f1', 't1', '1.t.1.master.TASK_LOST');
    bench.registerAgent('a1', { session: 's2', tasks });
    const effects = bench.registerAgent('a1', { session: 's3', tasks });
    expect(kills(effects)).toEqual(['t1 1.t.1 master']);
    expect(bench.state.tasks.size).toBe(0);
  });

  test('and has ended is not taken over, not even while the cluster is recovering', () => {
    const bench = benchWithGivenUp();
    bench.acknowledge('f1', 't1', '1.t.1.master.TASK_LOST');
    const over = tasks.map((task) => ({ ...task, state: 'TASK_KILLED' as const }));
    bench.registerAgent('a1', { session: 's2', tasks: over });
    bench.loseData();
    bench.registerAgent('a1', { session: 's3', tasks: over });
    expect(bench.state.tasks.size).toBe(0);
  });

  test('is forgotten when the agent does not have it any more', () => {
    const bench = benchWithGivenUp();
    bench.registerAgent('a1', { session: 's2', tasks });
    expect(writtenOff(bench)).toEqual(['1.t.1']);
    bench.registerAgent('a1', { session: 's3' });
    expect(writtenOff(bench)).toEqual([]);
  });

  test('is not told of when it ends', () => {
    const bench = benchWithGivenUp();
    bench.registerAgent('a1', { session: 's2', tasks });
    const status = taskStatus('f1', 't1', 'TASK_KILLED', { launchId: launchIdOf('1.t.1') });
    expect(sends(bench.update('a1', status))).toEqual(['agent:a1 StatusUpdateAcknowledgement']);
  });
});

describe('an older launch of a task that the agent runs', () => {
  /** Task t1 was launched on a1, lost with it, and launched again on a2. */
  function benchWithSuperseded(): MasterBench {
    const bench = createMasterBench();
    bench.registerAgent('a1');
    bench.registerFramework('f1');
    bench.launch('f1', bench.offerOf('f1').offerId, [taskInfo('t1')]);
    bench.say('agent:a1', { type: 'UnregisterAgent', agentId: agentIdOf('a1') });
    bench.acknowledge('f1', 't1', '1.t.1.master.TASK_LOST');
    bench.registerAgent('a2');
    bench.launch('f1', bench.offerOf('f1').offerId, [taskInfo('t1')]);
    return bench;
  }
  const tasks = [agentTask('f1', 't1', { launchId: launchIdOf('1.t.1') })];

  test('is ended there, and the newer one goes on', () => {
    const bench = benchWithSuperseded();
    expect(kills(bench.registerAgent('a1', { session: 's2', tasks }))).toEqual(['t1 1.t.1 master']);
    expect(bench.task('f1', 't1')).toMatchObject({ agentId: 'a2', launchId: '1.t.2' });
    expect(bench.task('f1', 't1')?.killRequested).toBeUndefined();
  });

  test('cannot end the newer one by what is said of it', () => {
    const bench = benchWithSuperseded();
    bench.registerAgent('a1', { session: 's2', tasks });
    const status = taskStatus('f1', 't1', 'TASK_KILLED', { launchId: launchIdOf('1.t.1') });
    expect(told(bench.update('a1', status), 'f1')).toEqual([]);
    expect(bench.task('f1', 't1')?.state).toBe('TASK_STAGING');
  });

  test('that the agent has ended is left to its update', () => {
    const over = tasks.map((task) => ({ ...task, state: 'TASK_FAILED' as const }));
    const effects = benchWithSuperseded().registerAgent('a1', { session: 's2', tasks: over });
    expect(kills(effects)).toEqual([]);
  });

  test('that is not written off is ended there, and says why', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    const both = [
      agentTask('f1', 't1', { launchId: launchIdOf('1.t.1') }),
      agentTask('f1', 't1', { launchId: launchIdOf('0.x.1') }),
    ];
    const effects = bench.registerAgent('a1', { session: 's2', tasks: both });
    expect(kills(effects)).toEqual(['t1 0.x.1 master']);
    expect(eventsOf(effects).find(({ type }) => type === 'task.superseded')?.reason).toBe(
      'a newer launch of the task has its place',
    );
  });
});

describe('a newer launch of a task than the master remembers', () => {
  /** The first launch has ended and the second runs; the replica has the first one only. */
  function leaderThatMissedTheSecond(): MasterBench {
    const bench = benchWithRunning(taskInfo('t1'));
    const replica = bench.replica();
    bench.update('a1', taskStatus('f1', 't1', 'TASK_FINISHED'));
    bench.acknowledge('f1', 't1', 't1.TASK_FINISHED');
    bench.launch('f1', bench.offerOf('f1').offerId, [taskInfo('t1')]);
    expect(bench.task('f1', 't1')?.launchId).toBe('1.t.2');
    return replica(bench.nowMs);
  }
  const second = agentTask('f1', 't1', { launchId: launchIdOf('1.t.2') });
  const words = { session: 's2', tasks: [second], ended: [endedOf('t1', '1.t.1')] };

  test('is not stopped: it is the one that the framework wants', () => {
    const next = leaderThatMissedTheSecond();
    expect(kills(next.registerAgent('a1', words))).toEqual([]);
  });

  test('is told of when it ends', () => {
    const next = leaderThatMissedTheSecond();
    next.registerFramework('f1', {}, 's2');
    next.registerAgent('a1', words);
    const status = taskStatus('f1', 't1', 'TASK_FAILED', { launchId: launchIdOf('1.t.2') });
    expect(told(next.update('a1', status), 'f1')).toEqual(['t1 TASK_FAILED']);
  });
});

describe('a task of which the master has never heard', () => {
  const frameworks = [{ info: frameworkInfo('f7', { name: 'shop' }), detached: false }];
  const tasks = [agentTask('f7', 't1', { resources: amount(3, 1024) })];

  test('is taken over with its framework, which is away', () => {
    const bench = createMasterBench();
    const effects = bench.registerAgent('a1', { tasks, frameworks });
    expect(events(effects)).toEqual(['agent.registered', 'framework.recovered', 'task.adopted']);
    expect(bench.state.frameworks.get(frameworkIdOf('f7'))).toMatchObject({
      record: { state: 'disconnected', info: { name: 'shop' } },
      used: amount(3, 1024),
    });
  });

  test('does not replace a framework that is known', () => {
    const bench = createMasterBench();
    bench.registerFramework('f7', { name: 'new name' });
    bench.registerAgent('a1', { tasks, frameworks });
    expect(bench.state.frameworks.get(frameworkIdOf('f7'))?.record).toMatchObject({
      state: 'active',
      info: { name: 'new name' },
    });
  });

  test('keeps its launch, so that its updates are its own', () => {
    const bench = createMasterBench();
    bench.registerAgent('a1', { tasks, frameworks });
    const launchId = launchIdOf('launch-of-t1');
    bench.update('a1', taskStatus('f7', 't1', 'TASK_FINISHED', { launchId }));
    expect(bench.task('f7', 't1')?.state).toBe('TASK_FINISHED');
  });

  test('is counted also if nobody knows its framework', () => {
    const bench = createMasterBench();
    bench.registerAgent('a1', { tasks });
    expect(bench.state.agents.get(agentIdOf('a1'))?.used).toEqual(amount(3, 1024));
    const launchId = launchIdOf('launch-of-t1');
    const status = taskStatus('f7', 't1', 'TASK_FINISHED', { launchId });
    expect(history(bench.update('a1', status))).toMatchObject([{ taskId: 't1' }]);
  });

  test('and that has ended is nobody’s concern when nothing has been lost', () => {
    const bench = createMasterBench();
    const over = tasks.map((task) => ({ ...task, state: 'TASK_FAILED' as const }));
    const effects = bench.registerAgent('a1', { tasks: over, frameworks });
    expect(events(effects)).toEqual(['agent.registered']);
  });
});
