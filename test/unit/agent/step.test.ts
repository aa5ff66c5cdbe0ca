import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { AgentEvent } from '../../../agent/core/step.ts';
import { agentTasks } from '../../../agent/core/state.ts';
import { taskKey } from '../../../protocol/ids.ts';
import { isTerminal, mayBecome } from '../../../protocol/task-state.ts';
import { agentIdOf, frameworkIdOf, taskIdOf, taskInfo } from '../../support/builders.ts';
import { agentWithRunning, createAgentBench, lines, statuses } from '../../support/agent-bench.ts';

describe('a task that is launched', () => {
  test('is started, and runs when its command has been executed', () => {
    const bench = createAgentBench();
    expect(lines(bench.run('t1'))).toEqual(['start t1']);
    expect(lines(bench.started('t1'))).toEqual(['update t1 TASK_RUNNING']);
  });

  test('twice runs once', () => {
    const bench = createAgentBench();
    bench.run('t1');
    expect(lines(bench.run('t1'))).toEqual([]);
    bench.started('t1');
    expect(lines(bench.run('t1'))).toEqual([]);
  });

  test('of another framework with the same id is another task', () => {
    const bench = createAgentBench();
    bench.run('t1');
    expect(lines(bench.run('t1', {}, 'f2'))).toEqual(['start t1']);
  });

  test('has a unit that no other launch has, not even of the same task', () => {
    const bench = createAgentBench();
    bench.run('t-1');
    const first = bench.entry('t-1')?.unit;
    bench.started('t-1');
    bench.ended('t-1');
    bench.acknowledge('t-1', 'k1.TASK_RUNNING');
    bench.acknowledge('t-1', 'k1.TASK_FINISHED');
    bench.run('t-1');
    expect([first, bench.entry('t-1')?.unit]).toEqual([
      'kaon-a1-t\\x2d1-k1.service',
      'kaon-a1-t\\x2d1-k2.service',
    ]);
  });

  test('says who it is, where it runs, and what to acknowledge', () => {
    const bench = createAgentBench();
    bench.run('t1');
    expect(statuses(bench.started('t1'))).toEqual([
      {
        frameworkId: 'f1',
        taskId: 't1',
        agentId: 'a1',
        updateId: 'k1.TASK_RUNNING',
        state: 'TASK_RUNNING',
        source: 'SOURCE_AGENT',
        unit: 'kaon-a1-t1-k1.service',
      },
    ]);
  });

  test('is reported with its state when the agent registers', () => {
    const bench = agentWithRunning();
    expect(agentTasks(bench.state)).toEqual([
      {
        frameworkId: 'f1',
        taskId: 't1',
        name: 't1',
        resources: { cpuMillis: 1000, memMib: 128 },
        state: 'TASK_RUNNING',
        unit: 'kaon-a1-t1-k1.service',
      },
    ]);
  });

  test('and cannot be started has failed, and says where and why', () => {
    const bench = createAgentBench();
    bench.run('t1', { command: { argv: ['nonesuch'], environment: {} } });
    expect(statuses(bench.failed('t1', 'exec failed', 203))).toMatchObject([
      {
        state: 'TASK_FAILED',
        reason: 'REASON_COMMAND_NOT_EXECUTABLE',
        message:
          'not started on node7: command "nonesuch" cannot be executed: it does not exist there, or is not executable',
      },
    ]);
  });

  test('with a very long command has a message that the master takes', () => {
    const bench = createAgentBench();
    bench.run('t1', { command: { argv: ['x'.repeat(10_000)], environment: {} } });
    const [status] = statuses(bench.failed('t1', 'exec failed', 203));
    expect(status?.message).toHaveLength(4096);
  });
});

describe('a task that ends', () => {
  test('brings its certificate with it', () => {
    const bench = agentWithRunning();
    const certificate = { exitCode: 3, memoryPeakBytes: 1000 };
    expect(statuses(bench.ended('t1', { result: 'exit-code', certificate }))).toMatchObject([
      { state: 'TASK_FAILED', message: 'exited with code 3', certificate },
    ]);
  });

  test('before it was seen to run has ended', () => {
    const bench = createAgentBench();
    bench.run('t1');
    expect(lines(bench.ended('t1'))).toEqual(['update t1 TASK_FINISHED']);
    expect(lines(bench.started('t1'))).toEqual([]);
  });

  test('twice has ended once', () => {
    const bench = agentWithRunning();
    bench.ended('t1');
    expect(lines(bench.ended('t1'))).toEqual([]);
  });

  test('because its node was rebooted is lost', () => {
    const bench = agentWithRunning();
    const key = taskKey(frameworkIdOf('f1'), taskIdOf('t1'));
    const effects = bench.do({ type: 'unit.lost', key, message: 'the node was rebooted' });
    expect(statuses(effects)).toMatchObject([
      { state: 'TASK_LOST', reason: 'REASON_AGENT_RESTARTED', message: 'the node was rebooted' },
    ]);
  });

  test('and is not known is nobody’s', () => {
    const bench = createAgentBench();
    expect([...bench.ended('t9'), ...bench.started('t9'), ...bench.failed('t9', '')]).toEqual([]);
  });
});

describe('a kill', () => {
  test('asks first, and uses force after the grace period of the task', () => {
    const bench = agentWithRunning({ killGracePeriodMs: 3000 });
    expect(lines(bench.kill('t1'))).toEqual(['update t1 TASK_KILLING', 'signal t1 15']);
    expect(lines(bench.wait(2999))).toEqual([]);
    expect(lines(bench.wait(1))).toEqual(['signal t1 9']);
    expect(lines(bench.wait(9_999))).toEqual([]);
  });

  test('uses force again when the unit is still there, because a signal may be lost', () => {
    const bench = agentWithRunning({ killGracePeriodMs: 3000 });
    bench.kill('t1');
    bench.wait(3000);
    expect(lines(bench.wait(10_000))).toEqual(['signal t1 9']);
    bench.ended('t1', { certificate: { signal: 9 } });
    expect(lines(bench.wait(10_000))).toEqual([]);
  });

  test('may bring its own grace period', () => {
    const bench = agentWithRunning();
    bench.kill('t1', 100);
    expect(lines(bench.wait(100))).toEqual(['signal t1 9']);
  });

  test('without grace uses force at once', () => {
    const bench = agentWithRunning();
    expect(lines(bench.kill('t1', 0))).toEqual([
      'update t1 TASK_KILLING',
      'signal t1 15',
      'signal t1 9',
    ]);
  });

  test('before the command runs waits until it does', () => {
    const bench = createAgentBench();
    bench.run('t1');
    expect(lines(bench.kill('t1'))).toEqual([]);
    expect(lines(bench.started('t1'))).toEqual([
      'update t1 TASK_RUNNING',
      'update t1 TASK_KILLING',
      'signal t1 15',
    ]);
  });

  test('before the command runs uses force when the grace period is over by then', () => {
    const bench = createAgentBench();
    bench.run('t1');
    bench.kill('t1', 1000);
    expect(lines(bench.wait(5000))).toEqual([]);
    bench.started('t1');
    expect(lines(bench.wait(0))).toEqual(['signal t1 9']);
  });

  test('that comes again shortens the time that is left', () => {
    const bench = agentWithRunning();
    bench.kill('t1', 5000);
    expect(lines(bench.kill('t1', 1000))).toEqual([]);
    expect(lines(bench.wait(1000))).toEqual(['signal t1 9']);
  });

  test('that comes again never lengthens the time that is left', () => {
    const bench = agentWithRunning();
    bench.kill('t1', 1000);
    bench.kill('t1', 60_000);
    expect(lines(bench.wait(1000))).toEqual(['signal t1 9']);
  });

  test('that comes again from somebody else is still the first one’s', () => {
    const bench = agentWithRunning();
    bench.kill('t1', 5000, 'framework');
    bench.kill('t1', 0, 'operator');
    expect(statuses(bench.ended('t1', { certificate: { signal: 9 } }))).toMatchObject([
      { state: 'TASK_KILLED', reason: 'REASON_KILLED_BY_FRAMEWORK' },
    ]);
  });

  test('of a task that has ended, or is not known, does nothing', () => {
    const bench = agentWithRunning();
    bench.ended('t1');
    expect([...bench.kill('t1'), ...bench.kill('t9')]).toEqual([]);
  });

  test('that has been answered by the end is not followed by force', () => {
    const bench = agentWithRunning();
    bench.kill('t1');
    bench.ended('t1', { certificate: { signal: 15 } });
    expect(lines(bench.wait(60_000))).toEqual([]);
  });
});

test('the end of a framework kills its tasks and no others', () => {
  const bench = agentWithRunning();
  bench.run('t2');
  bench.run('t1', {}, 'f2');
  bench.do({ type: 'unit.started', key: taskKey(frameworkIdOf('f2'), taskIdOf('t1')) });
  const effects = bench.do({
    type: 'message',
    message: { type: 'ShutdownFramework', frameworkId: frameworkIdOf('f1') },
  });
  expect(lines(effects)).toEqual(['update t1 TASK_KILLING', 'signal t1 15']);
  expect(lines(bench.started('t2'))).toContain('signal t2 15');
});

describe('an acknowledgement', () => {
  test('of the last update of an ended task lets its checkpoint go', () => {
    const bench = agentWithRunning();
    bench.ended('t1');
    expect(lines(bench.acknowledge('t1', 'k1.TASK_RUNNING'))).toEqual([]);
    expect(lines(bench.acknowledge('t1', 'k1.TASK_FINISHED'))).toEqual(['forget t1']);
    expect(bench.entry('t1')).toBeUndefined();
  });

  test('of all updates of a running task keeps it', () => {
    const bench = agentWithRunning();
    bench.acknowledge('t1', 'k1.TASK_RUNNING');
    expect(bench.entry('t1')?.updates).toEqual([]);
  });

  test('of another update, or of another task, changes nothing', () => {
    const bench = agentWithRunning();
    bench.acknowledge('t1', 'k0.TASK_RUNNING');
    bench.acknowledge('t9', 'k1.TASK_RUNNING');
    expect(bench.entry('t1')?.updates).toHaveLength(1);
  });
});

test('updates that are not acknowledged are sent again after a registration, in order', () => {
  const bench = agentWithRunning();
  bench.run('t2');
  bench.ended('t1');
  bench.acknowledge('t1', 'k1.TASK_RUNNING');
  bench.started('t2');
  const effects = bench.do({
    type: 'message',
    message: { type: 'AgentRegistered', agentId: agentIdOf('a1') },
  });
  expect(lines(effects)).toEqual(['update t1 TASK_FINISHED', 'update t2 TASK_RUNNING']);
});

test('a message that is not for an agent does nothing', () => {
  const message = { type: 'ReviveOffers' as const, frameworkId: frameworkIdOf('f1') };
  expect(createAgentBench().do({ type: 'message', message })).toEqual([]);
});

describe('whatever happens, in any order', () => {
  const key = taskKey(frameworkIdOf('f1'), taskIdOf('t1'));
  const f1 = { frameworkId: frameworkIdOf('f1'), taskId: taskIdOf('t1') };
  const anyEvent: fc.Arbitrary<AgentEvent> = fc.oneof(
    fc.constantFrom<AgentEvent[]>(
      { type: 'unit.started', key },
      { type: 'unit.failed', key, message: 'no sandbox' },
      { type: 'unit.ended', key, ended: { result: 'success', certificate: { exitCode: 0 } } },
      { type: 'unit.ended', key, ended: { result: 'signal', certificate: { signal: 9 } } },
      { type: 'unit.lost', key, message: 'gone' },
      { type: 'tick' },
      { type: 'message', message: { type: 'AgentRegistered', agentId: agentIdOf('a1') } },
      { type: 'message', message: { type: 'ShutdownFramework', frameworkId: f1.frameworkId } },
      {
        type: 'message',
        message: {
          type: 'RunTask',
          frameworkId: f1.frameworkId,
          frameworkName: 'f1',
          task: taskInfo('t1'),
        },
      },
    ),
    fc.nat(10_000).map((gracePeriodMs) => ({
      type: 'message' as const,
      message: { type: 'KillTask' as const, ...f1, by: 'framework' as const, gracePeriodMs },
    })),
  );

  test('a task ends once, never goes back, and is asked to end once at most', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(anyEvent, fc.nat(3000)), { size: 'max', maxLength: 30 }),
        (events) => {
          const bench = createAgentBench();
          bench.run('t1');
          const signals: number[] = [];
          for (const [event, ms] of events) {
            bench.nowMs += ms;
            for (const effect of bench.do(event))
              if (effect.type === 'unit.signal') signals.push(effect.signal);
          }
          const states = bench.entry('t1')?.updates.map(({ state }) => state) ?? [];
          expect(states.filter(isTerminal).length).toBeLessThanOrEqual(1);
          const steps = states.slice(1).map((to, index) => mayBecome(states[index] ?? to, to));
          expect(steps.every(Boolean)).toBe(true);
          expect(signals.filter((signal) => signal === 15).length).toBeLessThanOrEqual(1);
        },
      ),
    );
  });
});
