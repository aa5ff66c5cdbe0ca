import { describe, expect, test } from '@jest/globals';
import { registrationOf } from '../../../agent/core/state.ts';
import { lines, messages, statuses } from '../../support/agent-bench.ts';
import {
  agentIdOf,
  executorIdOf,
  executorInfo,
  frameworkInfo,
  launchIdOf,
} from '../../support/builders.ts';
import { benchWithTasks, createExecutorBench, F1, moves, WITH_ONE } from './executor-bench.ts';

describe('the first task of an executor', () => {
  test('starts it, waits for its registration, and is handed over after the answer', () => {
    const bench = createExecutorBench();
    expect(lines(bench.host('t1'))).toEqual(['start e1']);
    expect(lines(bench.started())).toEqual([]);
    expect(lines(bench.register())).toEqual(['tell e1 ExecutorRegistered', 'give e1 t1']);
    expect(lines(bench.update('t1', 'TASK_RUNNING'))).toEqual([
      'update t1 TASK_RUNNING',
      'tell e1 ack u1',
    ]);
    expect(lines(bench.update('t1', 'TASK_FINISHED'))).toEqual([
      'update t1 TASK_FINISHED',
      'tell e1 ack u2',
    ]);
  });

  test('waits however often the agent looks', () => {
    const bench = createExecutorBench();
    bench.host('t1');
    bench.started();
    expect(lines(bench.agent.wait(59_999))).toEqual([]);
    expect(bench.entry('t1')?.state).toBe('TASK_STAGING');
  });

  test('is told to a registered executor with everything that it has to know', () => {
    const bench = createExecutorBench();
    bench.host('t1');
    bench.started();
    const [, told] = bench.register();
    expect(told).toMatchObject({
      type: 'executor.send',
      message: {
        executorInfo: bench.info,
        frameworkInfo: frameworkInfo('f1'),
        agentInfo: { agentId: 'a1', hostname: 'node7' },
      },
    });
  });

  test('starts it with room for all tasks that have come by then', () => {
    const bench = createExecutorBench();
    bench.host('t1');
    bench.host('t2');
    expect(bench.executor.needed).toEqual({ cpuMillis: 2100, memMib: 288 });
  });

  test('is handed over to one that has registered before its start was answered', () => {
    const bench = createExecutorBench();
    bench.host('t1');
    expect(moves(bench.register())).toEqual([]);
    expect(moves(bench.started())).toEqual(['give e1 t1']);
    expect(lines(bench.agent.wait(120_000))).toEqual([]);
  });
});

test('a second task of an executor starts no second one', () => {
  const bench = createExecutorBench();
  bench.host('t1');
  expect(moves(bench.host('t2'))).toEqual([]);
});

test('executors of two frameworks with one id are two', () => {
  const bench = createExecutorBench();
  bench.host('t1');
  const { info } = bench;
  const task = { ...bench.entry('t1')?.task, executor: info };
  const message = {
    ...{ type: 'RunTask' as const, framework: frameworkInfo('f2'), launchId: launchIdOf('k9') },
    ...{ task: task as never, executorLaunchId: launchIdOf('x2') },
  };
  expect(moves(bench.do({ type: 'message', message }))).toEqual(['start e1']);
  expect(bench.state.executors.size).toBe(2);
});

describe('an executor that does not register in its time', () => {
  test('is ended, and its tasks have failed for that', () => {
    const bench = createExecutorBench({ registrationTimeoutMs: 30_000 });
    bench.host('t1');
    bench.started();
    expect(lines(bench.agent.wait(29_999))).toEqual([]);
    expect(lines(bench.agent.wait(1))).toEqual(['rewrite e1', 'signal e1 15']);
    expect(lines(bench.agent.wait(5000))).toEqual(['signal e1 9']);
    const effects = bench.ended({ result: 'signal', certificate: { signal: 9 } });
    expect(statuses(effects)).toMatchObject([
      {
        state: 'TASK_FAILED',
        reason: 'REASON_EXECUTOR_REGISTRATION_TIMEOUT',
        message: 'executor e1 did not register within 30s',
        executorId: 'e1',
      },
    ]);
  });

  test('because it is shut down is not called late', () => {
    const bench = createExecutorBench();
    bench.host('t1');
    bench.started();
    bench.shutDown();
    bench.agent.wait(60_000);
    const [status] = statuses(bench.ended({ result: 'signal', certificate: { signal: 15 } }));
    expect(status?.reason).toBe('REASON_KILLED_BY_FRAMEWORK');
  });
});

describe('an executor that ends', () => {
  test('loses its tasks, and the master hears of that after their updates', () => {
    const bench = benchWithTasks(['t1', 't2']);
    const effects = bench.ended();
    expect(lines(effects)).toEqual([
      'update t1 TASK_LOST',
      'update t2 TASK_LOST',
      'ExitedExecutor',
      'retire e1',
    ]);
    expect(statuses(effects)[0]).toMatchObject({
      reason: 'REASON_EXECUTOR_TERMINATED',
      message: 'Lost executor e1: exited with code 3',
    });
    expect(messages(effects, 'ExitedExecutor')).toEqual([
      {
        ...{ type: 'ExitedExecutor', frameworkId: 'f1', executorId: 'e1', launchId: 'x1' },
        message: 'Lost executor e1: exited with code 3',
      },
    ]);
  });

  test('because its container had not enough memory fails its tasks for that, with the limit in force', () => {
    const bench = benchWithTasks(['t1']);
    const certificate = { signal: 9, oomKills: 1, memoryPeakBytes: 2 ** 27, cpuUsec: 5 };
    const [status] = statuses(bench.ended({ result: 'oom-kill', certificate }));
    expect(status).toMatchObject({
      state: 'TASK_FAILED',
      reason: 'REASON_CONTAINER_LIMITATION_MEMORY',
      message:
        'the container of executor e1 was killed by the kernel: memory limit 160M, peak 128M',
      certificate: { oomKills: 1, memoryPeakBytes: 2 ** 27 },
    });
    expect(status?.certificate).not.toHaveProperty('cpuUsec', 5);
  });

  test('because of its memory names what it should have had where nobody knows what it had', () => {
    const bench = createExecutorBench();
    bench.host('t1');
    bench.do({ type: 'unit.started', key: bench.executor.key, launchId: launchIdOf('x1') });
    const [status] = statuses(
      bench.ended({ result: 'oom-kill', certificate: { signal: 9, oomKills: 1 } }),
    );
    expect(status?.message).toContain('memory limit 160M');
  });

  test('half, because the kernel took one of its processes for memory, ends whole', () => {
    const bench = benchWithTasks(['t1']);
    const { key } = bench.executor;
    const event = { type: 'unit.out-of-memory' as const, key, launchId: launchIdOf('x1') };
    expect(lines(bench.do(event))).toEqual(['signal e1 9']);
  });

  test('without having been started fails its tasks, and says where and why', () => {
    const bench = createExecutorBench();
    bench.host('t1');
    const { key } = bench.executor;
    const failed = { type: 'unit.failed' as const, exitStatus: 203, message: 'exec failed' };
    const effects = bench.do({ ...failed, key, launchId: launchIdOf('x1') });
    expect(lines(effects)).toEqual(['update t1 TASK_FAILED', 'ExitedExecutor', 'retire e1']);
    expect(statuses(effects)[0]).toMatchObject({
      reason: 'REASON_COMMAND_NOT_EXECUTABLE',
      message:
        'executor e1 was not started on node7: command "executor" cannot be executed: it does not exist there, or is not executable',
    });
  });

  test('with its node is lost', () => {
    const bench = benchWithTasks(['t1']);
    const { key } = bench.executor;
    const lost = { type: 'unit.lost' as const, key, launchId: launchIdOf('x1') };
    expect(statuses(bench.do({ ...lost, message: 'the node was rebooted' }))).toMatchObject([
      { state: 'TASK_LOST', message: 'Lost executor e1: the node was rebooted' },
    ]);
  });

  test('keeps its journal as long as the ends of its tasks are to be told, and as long as they may be asked for again', () => {
    const bench = benchWithTasks(['t1', 't2']);
    bench.ended();
    bench.agent.acknowledge('t1', 'k1.TASK_LOST');
    expect(lines(bench.agent.wait(1_000_000))).not.toContain('remove journal of e1');
    bench.agent.acknowledge('t2', 'k2.TASK_LOST');
    expect(lines(bench.agent.wait(300_000))).not.toContain('remove journal of e1');
    expect(lines(bench.agent.wait(1))).toContain('remove journal of e1');
    expect(lines(bench.agent.wait(1_000_000))).toEqual([]);
  });

  test('without any task to be told of keeps its journal for that time, too', () => {
    const bench = benchWithTasks(['t1']);
    bench.update('t1', 'TASK_FINISHED', { updateId: 'end' });
    bench.agent.acknowledge('t1', 'k1.end');
    expect(lines(bench.ended())).toEqual(['ExitedExecutor', 'retire e1']);
    expect(lines(bench.agent.wait(300_001))).toContain('remove journal of e1');
  });
});

describe('an executor that is to be shut down', () => {
  test('is told so, and ended when its grace period is over', () => {
    const bench = benchWithTasks(['t1'], { shutdownGracePeriodMs: 3000 });
    expect(lines(bench.shutDown('x1'))).toEqual(['rewrite e1', 'tell e1 ShutdownExecutor 3000']);
    expect(lines(bench.agent.wait(2999))).toEqual([]);
    expect(lines(bench.agent.wait(1))).toEqual(['signal e1 9']);
    expect(lines(bench.agent.wait(10_000))).toEqual(['signal e1 9']);
    const effects = bench.ended({ result: 'signal', certificate: { signal: 9 } });
    expect(statuses(effects)).toMatchObject([
      {
        state: 'TASK_KILLED',
        reason: 'REASON_KILLED_BY_FRAMEWORK',
        message:
          'ended with its executor e1: killed on request of the framework: ended by signal 9 (SIGKILL)',
      },
    ]);
  });

  test('and does not listen gets the signal that says the same', () => {
    const bench = benchWithTasks(['t1']);
    bench.disconnect();
    expect(lines(bench.shutDown())).toEqual(['rewrite e1', 'signal e1 15']);
  });

  test('and comes back is told how much time is left', () => {
    const bench = benchWithTasks(['t1']);
    bench.disconnect();
    bench.shutDown();
    bench.agent.wait(2000);
    expect(lines(bench.comeBack())).toEqual([
      'tell e1 ExecutorReregistered',
      'tell e1 ShutdownExecutor 3000',
    ]);
  });

  test('and is not started yet is stopped when it is', () => {
    const bench = createExecutorBench();
    bench.host('t1');
    expect(lines(bench.shutDown())).toEqual(['rewrite e1']);
    expect(lines(bench.started())).toEqual(['signal e1 15']);
  });

  test('of another launch is left alone', () => {
    const bench = benchWithTasks(['t1']);
    expect(bench.shutDown('x0')).toEqual([]);
  });

  test('twice is asked once', () => {
    const bench = benchWithTasks(['t1']);
    bench.shutDown();
    expect(bench.shutDown()).toEqual([]);
  });

  test('is handed nothing any more', () => {
    const bench = createExecutorBench();
    bench.host('t1');
    bench.started();
    bench.shutDown();
    expect(moves(bench.register())).toEqual([]);
  });

  test('with its framework is told so once, and so are the tasks that have no executor', () => {
    const bench = benchWithTasks(['t1']);
    bench.agent.run('t9');
    bench.agent.started('t9');
    const message = { type: 'ShutdownFramework' as const, frameworkId: F1 };
    expect(lines(bench.do({ type: 'message', message }))).toEqual([
      'rewrite e1',
      'tell e1 ShutdownExecutor 5000',
      'rewrite t9',
      'update t9 TASK_KILLING',
      'signal t9 15',
    ]);
  });
});

describe('an executor without a task', () => {
  test('is shut down after its idle time', () => {
    const bench = benchWithTasks(['t1'], { idleTimeoutMs: 10_000 });
    bench.agent.wait(20_000);
    bench.update('t1', 'TASK_FINISHED');
    bench.agent.wait(9999);
    expect(bench.executor.kill).toBeUndefined();
    expect(lines(bench.agent.wait(1))).toContain('tell e1 ShutdownExecutor 5000');
  });

  test('is kept if it has a command of its own and says nothing of it', () => {
    const bench = benchWithTasks(['t1']);
    bench.update('t1', 'TASK_FINISHED');
    bench.agent.wait(10_000_000);
    expect(bench.executor.kill).toBeUndefined();
  });

  test('is kept for a minute if it is the default one', () => {
    const command = { argv: ['true'], environment: {} };
    const bench = createExecutorBench({ command: undefined });
    bench.host('t1', { task: { command } });
    bench.started();
    bench.register();
    bench.prepared('t1');
    bench.update('t1', 'TASK_FINISHED');
    bench.agent.wait(59_999);
    expect(bench.executor.kill).toBeUndefined();
    bench.agent.wait(1);
    expect(bench.executor.kill?.by).toBe('agent');
  });

  test('is shut down at once if its framework has left', () => {
    const bench = benchWithTasks(['t1']);
    const message = { type: 'UpdateFramework' as const, framework: frameworkInfo('f1') };
    const effects = bench.do({ type: 'message', message: { ...message, detached: true } });
    expect(lines(effects)).toEqual(['rewrite e1']);
    bench.agent.wait(60_000);
    expect(bench.executor.kill).toBeUndefined();
    bench.update('t1', 'TASK_FINISHED');
    expect(lines(bench.agent.wait(0))).toContain('tell e1 ShutdownExecutor 5000');
  });

  test('that an agent knows of is kept while it has no journal of it, because it may have some', () => {
    const bench = benchWithTasks(['t1'], { idleTimeoutMs: 1000 });
    bench.update('t1', 'TASK_FINISHED');
    bench.disconnect();
    bench.executor.hasJournal = false;
    bench.agent.wait(60_000);
    expect(bench.executor.kill).toBeUndefined();
    bench.comeBack([]);
    bench.agent.wait(0);
    expect(bench.executor.kill?.by).toBe('agent');
  });

  test('that nobody has ever spoken to is not waited for', () => {
    const bench = createExecutorBench();
    bench.host('t1');
    expect(lines(bench.agent.kill('t1'))).toEqual(['update t1 TASK_KILLED', 'rewrite e1']);
    expect(bench.executor.kill?.by).toBe('agent');
  });
});

describe('a task that comes too late', () => {
  test('for an executor that is shutting down is dropped', () => {
    const bench = benchWithTasks(['t1']);
    bench.shutDown();
    const effects = bench.host('t2');
    expect(lines(effects)).toEqual(['update t2 TASK_DROPPED']);
    const [status] = statuses(effects);
    expect(status).toMatchObject({
      reason: 'REASON_EXECUTOR_TERMINATED',
      message: 'not started: executor e1 is shutting down; launch it again',
      executorId: 'e1',
    });
    expect(status).not.toHaveProperty('updateId');
    expect(bench.entry('t2')).toBeUndefined();
  });

  test('for an executor that has ended is dropped, and the end is told to a master that cannot know it', () => {
    const bench = benchWithTasks(['t1']);
    bench.ended();
    const effects = bench.host('t2');
    expect(lines(effects)).toEqual(['update t2 TASK_DROPPED', 'ExitedExecutor']);
    expect(statuses(effects)[0]?.message).toContain('executor e1 had ended before');
    expect(messages(effects, 'ExitedExecutor')).toMatchObject([{ launchId: 'x1' }]);
  });

  test('for another launch of an executor that is there is dropped, and that launch is over', () => {
    const bench = benchWithTasks(['t1']);
    const effects = bench.host('t2', { executorLaunchId: 'x2' });
    expect(lines(effects)).toEqual(['update t2 TASK_DROPPED', 'ExitedExecutor']);
    expect(statuses(effects)[0]?.message).toContain('another launch of executor e1 (x1)');
    expect(messages(effects, 'ExitedExecutor')).toMatchObject([{ launchId: 'x2' }]);
    expect(lines(bench.host('t3', { executorLaunchId: 'x2' }))).toContain('update t3 TASK_DROPPED');
    expect(bench.executor.launchId).toBe('x1');
  });

  test('is dropped with the same words if the master asks again', () => {
    const bench = benchWithTasks(['t1']);
    bench.ended();
    const [first] = statuses(bench.host('t2', { launchId: 'k2' }));
    expect(statuses(bench.host('t2', { launchId: 'k2' }))).toEqual([first]);
  });

  test('starts the next launch of an executor that has ended', () => {
    const bench = benchWithTasks(['t1']);
    bench.ended();
    expect(moves(bench.host('t2', { executorLaunchId: 'x2' }))).toEqual(['start e1']);
  });

  test('is known for five minutes to have come too late', () => {
    const bench = benchWithTasks(['t1']);
    bench.ended();
    expect(lines(bench.agent.wait(300_000))).toEqual([]);
    expect(bench.state.endedExecutors.size).toBe(1);
    expect(lines(bench.agent.wait(1))).toContain('forget x1');
    expect(bench.state.endedExecutors.size).toBe(0);
  });
});

test('of executors that have ended a thousand are remembered', () => {
  const bench = createExecutorBench();
  for (let count = 1; count <= 1002; count += 1) {
    const launchId = launchIdOf(`x${String(count)}`);
    bench.host('t1', { executorLaunchId: launchId });
    const { key } = bench.executor;
    bench.do({ type: 'unit.lost', key, launchId, message: 'gone' });
  }
  bench.agent.wait(0);
  expect(bench.state.endedExecutors.size).toBe(1000);
});

test('a registration tells of executors and their tasks', () => {
  const bench = benchWithTasks(['t1']);
  bench.update('t1', 'TASK_RUNNING');
  const { executors, tasks } = registrationOf(bench.state);
  expect(executors).toEqual([
    { frameworkId: 'f1', info: executorInfo('e1'), launchId: 'x1', unit: 'kaon-a1-e1-x1.service' },
  ]);
  expect(tasks).toMatchObject([
    { taskId: 't1', state: 'TASK_RUNNING', executorId: 'e1', executorLaunchId: 'x1' },
  ]);
});

test('a registration tells of the framework of an executor without a task', () => {
  const bench = benchWithTasks(['t1']);
  bench.update('t1', 'TASK_FINISHED', { updateId: 'end' });
  bench.agent.acknowledge('t1', 'k1.end');
  expect(registrationOf(bench.state)).toMatchObject({
    tasks: [],
    frameworks: [{ info: { frameworkId: 'f1' } }],
    executors: [{ launchId: 'x1' }],
  });
});

test('what a framework says to its executor is passed on, to one that listens', () => {
  const bench = benchWithTasks(['t1']);
  const message = {
    ...{ type: 'FrameworkToExecutor' as const, frameworkId: F1, agentId: agentIdOf('a1') },
    ...{ executorId: executorIdOf('e1'), data: 'hello' },
  };
  expect(lines(bench.do({ type: 'message', message }))).toEqual(['tell e1 FrameworkToExecutor']);
  bench.disconnect();
  expect(bench.do({ type: 'message', message })).toEqual([]);
});

test('the limits that a container was started with are those of its needs at that time', () => {
  const bench = createExecutorBench();
  bench.host('t1');
  bench.started(WITH_ONE);
  expect(bench.executor.granted).toEqual(WITH_ONE);
});
