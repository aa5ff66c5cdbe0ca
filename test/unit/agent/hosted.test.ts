/** Tasks of executors: handed over, updated, killed, in groups; and what becomes of them while nobody can be spoken to. */
import { describe, expect, test } from '@jest/globals';
import type { TaskGroupId } from '../../../protocol/ids.ts';
import { isTerminal } from '../../../protocol/task-state.ts';
import { journaled, lines, statuses } from '../../support/agent-bench.ts';
import { executorTask, launchIdOf } from '../../support/builders.ts';
import {
  ALONE,
  benchWithTasks,
  createExecutorBench,
  type ExecutorBench,
  moves,
} from './executor-bench.ts';

const COMMAND = { argv: ['true'], environment: {} };

describe('a task that needs files or a directory', () => {
  test('gets them while its executor is started, and is handed over when both are there', () => {
    const bench = createExecutorBench();
    expect(lines(bench.host('t1', { task: { command: COMMAND } }))).toEqual([
      'start e1',
      'prepare t1',
    ]);
    bench.started();
    expect(moves(bench.register())).toEqual([]);
    expect(lines(bench.prepared('t1'))).toEqual(['give e1 t1']);
  });

  test('and cannot have them has failed', () => {
    const bench = createExecutorBench();
    bench.host('t1', { task: { command: COMMAND } });
    bench.started();
    bench.register();
    const entry = bench.entry('t1');
    const effects = bench.do({
      type: 'hosted.failed',
      key: entry?.key ?? bench.executor.key,
      launchId: launchIdOf('k1'),
      reason: 'REASON_ARTIFACT_FAILED',
      message: 'http://x/y: 404',
    });
    expect(lines(effects)).toEqual(['update t1 TASK_FAILED', 'close t1']);
    expect(statuses(effects)).toMatchObject([
      { reason: 'REASON_ARTIFACT_FAILED', message: 'http://x/y: 404', source: 'SOURCE_AGENT' },
    ]);
  });

  test('gets them once, although its executor registers meanwhile, and again', () => {
    const bench = createExecutorBench({ isolation: 'task' });
    bench.host('t1');
    bench.started();
    expect(lines(bench.register())).toContain('prepare t1');
    bench.disconnect();
    expect(lines(bench.comeBack([]))).toEqual(['tell e1 ExecutorReregistered']);
    expect(lines(bench.prepared('t1'))).toEqual(['give e1 t1']);
  });
});

describe('a task with a cgroup of its own', () => {
  test('gets it when its executor has registered, because it is in that one’s', () => {
    const bench = createExecutorBench({ isolation: 'task' });
    expect(lines(bench.host('t1'))).toEqual(['start e1']);
    bench.started();
    expect(lines(bench.register())).toEqual(['tell e1 ExecutorRegistered', 'prepare t1']);
    expect(lines(bench.prepared('t1'))).toEqual(['give e1 t1']);
  });

  test('gets it when its container is large enough, because the kernel takes no more CPU for it than that has', () => {
    const bench = createExecutorBench({ isolation: 'task' });
    bench.host('t1');
    bench.started(ALONE);
    expect(lines(bench.register())).not.toContain('prepare t1');
    expect(lines(bench.resized())).toEqual(['prepare t1']);
    expect(lines(bench.prepared('t1'))).toEqual(['give e1 t1']);
  });

  test('is ended in it when its executor lets the time for that pass, again and again', () => {
    const bench = benchWithTasks(['t1'], { isolation: 'task' });
    bench.agent.kill('t1', 2000);
    expect(lines(bench.agent.wait(1999))).toEqual([]);
    expect(lines(bench.agent.wait(1))).toEqual(['force t1']);
    expect(lines(bench.agent.wait(10_000))).toEqual(['force t1']);
    expect(lines(bench.update('t1', 'TASK_KILLED'))).toContain('close t1');
    expect(lines(bench.agent.wait(10_000))).not.toContain('force t1');
  });

  test('and that the kernel ended for memory has failed for that, whatever its executor calls it', () => {
    const bench = benchWithTasks(['t1'], { isolation: 'task' });
    const certificate = { oomKills: 1, memoryPeakBytes: 2 ** 27 };
    const effects = bench.update('t1', 'TASK_FAILED', { message: 'died' }, certificate);
    expect(statuses(effects)).toMatchObject([
      {
        reason: 'REASON_CONTAINER_LIMITATION_MEMORY',
        message: 'killed by the kernel: memory limit 128M, peak 128M',
      },
    ]);
  });

  test('and that has finished although the kernel ended a process of it has finished', () => {
    const bench = benchWithTasks(['t1'], { isolation: 'task' });
    const effects = bench.update('t1', 'TASK_FINISHED', {}, { oomKills: 1 });
    expect(statuses(effects)[0]?.reason).toBeUndefined();
  });
});

test('a late task in the container of all is not ended without its executor', () => {
  const bench = benchWithTasks(['t1']);
  bench.agent.kill('t1', 2000);
  expect(lines(bench.agent.wait(60_000))).toEqual([]);
});

describe('a kill', () => {
  test('of a task that waits ends it at once', () => {
    const bench = createExecutorBench();
    bench.host('t1');
    bench.host('t2');
    expect(statuses(bench.agent.kill('t1'))).toMatchObject([
      {
        ...{ taskId: 't1', state: 'TASK_KILLED', reason: 'REASON_KILLED_DURING_LAUNCH' },
        message: 'killed on request of the framework before its executor had got it',
      },
    ]);
    bench.started();
    expect(moves(bench.register())).toEqual(['give e1 t2']);
  });

  test('of a task that has been handed over is passed on with its grace period', () => {
    const bench = benchWithTasks(['t1']);
    expect(lines(bench.agent.kill('t1', 700))).toEqual(['tell e1 KillTask t1 700']);
    const effects = bench.update('t1', 'TASK_KILLED', { message: 'stopped' });
    expect(statuses(effects)).toMatchObject([{ state: 'TASK_KILLED', message: 'stopped' }]);
  });

  test('of an operator is named as the reason', () => {
    const bench = benchWithTasks(['t1']);
    bench.agent.kill('t1', 700, 'operator');
    const [status] = statuses(bench.update('t1', 'TASK_KILLED'));
    expect(status?.reason).toBe('REASON_KILLED_BY_OPERATOR');
  });

  test('that comes again is passed on if it leaves less time', () => {
    const bench = benchWithTasks(['t1']);
    bench.agent.kill('t1', 5000);
    expect(lines(bench.agent.kill('t1'))).toEqual([]);
    expect(lines(bench.agent.kill('t1', 60_000))).toEqual([]);
    expect(lines(bench.agent.kill('t1', 100))).toEqual(['tell e1 KillTask t1 100']);
  });

  test('that comes again from somebody else is the first one’s in the journal too', () => {
    const bench = benchWithTasks(['t1']);
    bench.agent.kill('t1', 5000, 'framework');
    expect(journaled(bench.agent.kill('t1', 100, 'operator'))).toEqual([
      { type: 'kill', launchId: 'k1', by: 'framework', gracePeriodMs: 100 },
    ]);
  });

  test('while nobody listens is said at the return, with the time that is left', () => {
    const bench = benchWithTasks(['t1']);
    bench.disconnect();
    expect(lines(bench.agent.kill('t1', 5000))).toEqual([]);
    bench.agent.wait(2000);
    expect(lines(bench.comeBack())).toEqual([
      'tell e1 ExecutorReregistered',
      'tell e1 KillTask t1 3000',
    ]);
  });

  test('of a task that its executor has never got ends it at the return', () => {
    const bench = benchWithTasks(['t1']);
    bench.disconnect();
    bench.agent.kill('t1', 5000);
    expect(lines(bench.comeBack([]))).toEqual([
      'tell e1 ExecutorReregistered',
      'update t1 TASK_KILLED',
    ]);
  });
});

describe('a group of tasks', () => {
  test('is handed over when all of it has come, and at once', () => {
    const bench = createExecutorBench();
    const task = { groupId: 'g1' as TaskGroupId };
    bench.host('t1', { task, groupSize: 2 });
    bench.started();
    expect(moves(bench.register())).toEqual([]);
    bench.host('t2', { task, groupSize: 2 });
    expect(moves(bench.resized())).toEqual(['give e1 t1 t2']);
  });

  test('is handed over when all of it is prepared', () => {
    const bench = createExecutorBench({ isolation: 'task' });
    bench.hostGroup(2);
    bench.started();
    bench.register();
    expect(moves(bench.prepared('t2'))).toEqual([]);
    expect(moves(bench.prepared('t1'))).toEqual(['give e1 t1 t2']);
  });

  test('holds up no other task', () => {
    const bench = createExecutorBench();
    bench.host('t1', { task: { groupId: 'g1' as TaskGroupId }, groupSize: 2 });
    bench.host('t9');
    bench.started();
    expect(moves(bench.register())).toEqual(['give e1 t9']);
  });

  test('ends when one of it is killed while it waits', () => {
    const bench = createExecutorBench();
    bench.hostGroup(3);
    bench.host('t9');
    const effects = bench.agent.kill('t2');
    expect(statuses(effects)).toMatchObject([
      { taskId: 't2', reason: 'REASON_KILLED_DURING_LAUNCH' },
      {
        ...{ taskId: 't1', state: 'TASK_KILLED', reason: 'REASON_TASK_GROUP_FAILED' },
        message: 'ended because task t2 of its group was not started',
      },
      { taskId: 't3', reason: 'REASON_TASK_GROUP_FAILED' },
    ]);
    expect(bench.entry('t9')?.state).toBe('TASK_STAGING');
  });

  test('ends when one of it cannot be prepared', () => {
    const bench = createExecutorBench({ isolation: 'task' });
    bench.hostGroup(2);
    bench.started();
    bench.register();
    const { key = bench.executor.key } = bench.entry('t1') ?? {};
    const failed = { reason: 'REASON_SANDBOX_FAILED' as const, message: 'no space' };
    const effects = bench.do({
      ...{ type: 'hosted.failed', key, launchId: launchIdOf('k1'), ...failed },
    });
    expect(lines(effects)).toEqual([
      'update t1 TASK_FAILED',
      'close t1',
      'update t2 TASK_KILLED',
      'close t2',
    ]);
  });

  test('that got lost on its way and of which one was killed meanwhile ends whole', () => {
    const bench = createExecutorBench();
    bench.hostGroup(3);
    bench.started();
    bench.register();
    bench.disconnect();
    bench.agent.kill('t3');
    expect(lines(bench.comeBack([]))).toEqual([
      'tell e1 ExecutorReregistered',
      'update t3 TASK_KILLED',
      'update t1 TASK_KILLED',
      'update t2 TASK_KILLED',
    ]);
  });

  test('that got lost on its way is handed over again whole', () => {
    const bench = createExecutorBench();
    bench.hostGroup(2);
    bench.started();
    bench.register();
    bench.disconnect();
    expect(moves(bench.comeBack([]))).toEqual(['give e1 t1 t2']);
  });

  test('of which some never come ends after a minute', () => {
    const bench = createExecutorBench({ registrationTimeoutMs: 1_000_000 });
    const task = { groupId: 'g1' as TaskGroupId };
    bench.host('t1', { task, groupSize: 3 });
    bench.started();
    bench.agent.wait(30_000);
    bench.host('t2', { task, groupSize: 3 });
    expect(statuses(bench.agent.wait(59_999))).toEqual([]);
    expect(statuses(bench.agent.wait(1))).toMatchObject([
      {
        ...{ taskId: 't1', state: 'TASK_KILLED', reason: 'REASON_TASK_GROUP_FAILED' },
        message: 'not started: only 2 of 3 tasks of its group came within 1m',
      },
      { taskId: 't2', state: 'TASK_KILLED' },
    ]);
  });

  test('that is whole waits for its executor as long as it takes', () => {
    const bench = benchWithTasks(['t9']);
    bench.disconnect();
    bench.hostGroup(2);
    expect(statuses(bench.agent.wait(600_000))).toEqual([]);
  });
});

describe('an update of an executor', () => {
  test('goes to the framework as the executor’s word, after the journal has it', () => {
    const bench = benchWithTasks(['t1']);
    const effects = bench.update('t1', 'TASK_RUNNING', { data: 'x', healthy: true });
    expect(effects.map(({ type }) => type)).toEqual([
      'journal.append',
      'message.send',
      'executor.send',
    ]);
    expect(statuses(effects)).toMatchObject([
      {
        ...{ source: 'SOURCE_EXECUTOR', executorId: 'e1', updateId: 'k1.u1' },
        ...{ data: 'x', healthy: true },
      },
    ]);
  });

  test.each<[string, (bench: ExecutorBench) => ReturnType<ExecutorBench['update']>]>([
    ['of a task that is not known', (bench) => bench.update('t9', 'TASK_RUNNING')],
    [
      'of an older launch',
      (bench) => bench.update('t1', 'TASK_FAILED', { launchId: launchIdOf('k0') }),
    ],
    [
      'that was taken before',
      (bench) => {
        bench.update('t1', 'TASK_RUNNING', { updateId: 'again' });
        return bench.update('t1', 'TASK_RUNNING', { updateId: 'again' });
      },
    ],
    [
      'that goes back',
      (bench) => {
        bench.update('t1', 'TASK_RUNNING');
        return bench.update('t1', 'TASK_STARTING', { updateId: 'again' });
      },
    ],
    [
      'of a task that has ended',
      (bench) => {
        bench.update('t1', 'TASK_FINISHED');
        return bench.update('t1', 'TASK_FAILED', { updateId: 'again' });
      },
    ],
  ])('%s is acknowledged, and no more', (_which, say) => {
    const effects = say(benchWithTasks(['t1']));
    expect(lines(effects)).toEqual([expect.stringMatching(/^tell e1 ack (again|u1)$/)]);
    expect(journaled(effects)).toEqual([]);
  });

  test('of a launch before the agent knows that it was given counts as that', () => {
    const bench = createExecutorBench();
    bench.host('t1');
    bench.started();
    bench.update('t1', 'TASK_STARTING');
    expect(moves(bench.register())).not.toContain('give e1 t1');
  });

  test('again and again fills no memory, and the end is not lost in it', () => {
    const bench = benchWithTasks(['t1']);
    for (let count = 0; count < 5000; count += 1) bench.update('t1', 'TASK_RUNNING');
    bench.update('t1', 'TASK_FINISHED');
    const { updates = [], hosted } = bench.entry('t1') ?? {};
    expect(updates).toHaveLength(100);
    expect(updates.filter(({ state }) => isTerminal(state))).toHaveLength(1);
    expect(hosted?.taken.size).toBe(1000);
  });

  test('without an acknowledgement of the framework is told at each registration of the agent', () => {
    const bench = benchWithTasks(['t1']);
    bench.update('t1', 'TASK_RUNNING');
    const message = {
      ...{ type: 'AgentRegistered' as const, agentId: bench.state.agentId, resend: [] },
      master: { masterId: 'm1', epoch: 1 },
    };
    expect(lines(bench.do({ type: 'message', message }))).toContain('update t1 TASK_RUNNING');
  });
});

test('an end that is acknowledged is remembered, and its task can be launched again', () => {
  const bench = benchWithTasks(['t1']);
  bench.update('t1', 'TASK_FINISHED', { updateId: 'end' });
  expect(journaled(bench.agent.acknowledge('t1', 'k1.end'))).toEqual([
    { type: 'acknowledged', launchId: 'k1' },
  ]);
  expect(lines(bench.host('t1', { launchId: 'k1' }))).toEqual(['update t1 TASK_FINISHED']);
  expect(moves(bench.host('t1', { launchId: 'k2' }))).toEqual(['give e1 t1']);
});

test('another launch of a task whose end was not acknowledged takes its place, and counts once', () => {
  const bench = benchWithTasks(['t1']);
  bench.update('t1', 'TASK_FINISHED');
  expect(bench.executor.unacknowledged).toBe(1);
  bench.host('t1', { launchId: 'k2' });
  expect(bench.executor.unacknowledged).toBe(0);
  bench.agent.acknowledge('t1', 'k1.u1');
  expect([bench.executor.unacknowledged, bench.entry('t1')?.launchId]).toEqual([0, 'k2']);
});

test('a launch that comes twice is handed over once', () => {
  const bench = benchWithTasks(['t1']);
  expect(bench.host('t1', { launchId: 'k1' })).toEqual([]);
});

test('a second launch of a task that runs is refused', () => {
  const bench = benchWithTasks(['t1']);
  expect(lines(bench.host('t1', { launchId: 'k2' }))).toEqual(['update t1 TASK_ERROR']);
});

describe('an executor that comes back', () => {
  test('is given what got lost on its way, and nothing that it has', () => {
    const bench = benchWithTasks(['t1', 't2']);
    bench.disconnect();
    expect(moves(bench.comeBack(['t2']))).toEqual(['give e1 t1']);
  });

  test('is given what has come while it was away', () => {
    const bench = benchWithTasks(['t1']);
    bench.disconnect();
    bench.host('t2');
    expect(moves(bench.agent.wait(200))).toEqual(['limits e1 2.1 cpus, 288M']);
    expect(moves(bench.resized())).toEqual([]);
    expect(moves(bench.comeBack(['t1']))).toEqual(['give e1 t2']);
  });

  test('tells updates that the agent has not taken, and none is lost or told twice', () => {
    const bench = benchWithTasks(['t1']);
    bench.update('t1', 'TASK_RUNNING', { updateId: 'r' });
    bench.disconnect();
    const effects = bench.comeBack(
      ['t1'],
      [
        { state: 'TASK_RUNNING', updateId: 'r' },
        { state: 'TASK_FINISHED', updateId: 'f' },
      ],
    );
    expect(lines(effects)).toEqual([
      'tell e1 ExecutorReregistered',
      'tell e1 ack r',
      'update t1 TASK_FINISHED',
      'tell e1 ack f',
    ]);
  });

  test('without a task that it has reported before has lost it', () => {
    const bench = benchWithTasks(['t1', 't2']);
    bench.update('t1', 'TASK_RUNNING');
    bench.update('t2', 'TASK_RUNNING');
    bench.agent.kill('t2', 0, 'operator');
    bench.disconnect();
    expect(statuses(bench.comeBack([]))).toMatchObject([
      {
        ...{ taskId: 't1', state: 'TASK_LOST', reason: 'REASON_EXECUTOR_TERMINATED' },
        message: 'executor e1 does not know it any more',
      },
      { taskId: 't2', state: 'TASK_KILLED', reason: 'REASON_KILLED_BY_OPERATOR' },
    ]);
  });

  test('as a process that has never heard of anything has lost what it had, and is given the rest', () => {
    const bench = benchWithTasks(['t1', 't2']);
    bench.update('t1', 'TASK_RUNNING');
    bench.disconnect();
    expect(lines(bench.register())).toEqual([
      'tell e1 ExecutorRegistered',
      'update t1 TASK_LOST',
      'give e1 t2',
    ]);
  });

  test('with a task that the agent has given up is told to end it', () => {
    const bench = benchWithTasks(['t1']);
    bench.disconnect();
    const task = executorTask('t7');
    const event = {
      ...{ type: 'executor.registered' as const, key: bench.executor.key },
      ...{ launchId: launchIdOf('x1') },
      memory: { tasks: [{ launchId: launchIdOf('k7'), task }], updates: [] },
    };
    expect(lines(bench.do(event))).toContain('tell e1 KillTask t7 5000');
  });

  test('with a task whose end it tells now is not told to end it', () => {
    const bench = benchWithTasks(['t1']);
    bench.update('t1', 'TASK_FINISHED', { updateId: 'f' });
    bench.disconnect();
    const effects = bench.comeBack(['t1'], [{ state: 'TASK_FINISHED', updateId: 'f' }]);
    expect(lines(effects)).toEqual(['tell e1 ExecutorReregistered', 'tell e1 ack f']);
  });

  test('without the agent’s having a journal of it tells which tasks it has, and they are counted', () => {
    const bench = benchWithTasks(['t1']);
    bench.executor.hasJournal = false;
    bench.state.tasks.clear();
    bench.executor.tasks.clear();
    bench.executor.needed = bench.info.resources;
    bench.executor.isConnected = false;
    expect(moves(bench.agent.wait(600_000))).toEqual([]);
    expect(bench.executor.kill).toBeUndefined();
    const effects = bench.comeBack(['t1'], [{ state: 'TASK_RUNNING' }]);
    expect(journaled(effects)[0]).toMatchObject({ type: 'launch', task: { taskId: 't1' } });
    expect(bench.entry('t1')).toMatchObject({ state: 'TASK_RUNNING', started: true });
    expect(bench.executor.needed).toEqual({ cpuMillis: 1100, memMib: 160 });
  });

  test('after its master has called them lost is told to end tasks that the agent has no journal of', () => {
    const bench = benchWithTasks(['t1']);
    bench.executor.hasJournal = false;
    bench.state.tasks.clear();
    bench.executor.tasks.clear();
    bench.state.hasReported = true;
    const task = executorTask('t1');
    const event = {
      ...{ type: 'executor.registered' as const, key: bench.executor.key },
      ...{ launchId: launchIdOf('x1') },
      memory: { tasks: [{ launchId: launchIdOf('k1'), task }], updates: [] },
    };
    expect(lines(bench.do(event))).toContain('tell e1 KillTask t1 5000');
    expect(bench.entry('t1')).toBeUndefined();
  });
});
