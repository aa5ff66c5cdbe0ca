import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { notExecutedLine } from '../../../agent/core/not-executed.ts';
import type { AgentEvent } from '../../../agent/core/events.ts';
import { registrationOf } from '../../../agent/core/state.ts';
import type { LaunchId } from '../../../protocol/ids.ts';
import { taskKey } from '../../../protocol/ids.ts';
import { isTerminal, mayBecome } from '../../../protocol/task-state.ts';
import type { DeathCertificate } from '../../../protocol/task.ts';
import {
  agentIdOf,
  frameworkIdOf,
  frameworkInfo,
  taskIdOf,
  taskInfo,
} from '../../support/builders.ts';
import {
  type AgentBench,
  agentWithRunning,
  createAgentBench,
  lines,
  runTask,
  statuses,
} from '../../support/agent-bench.ts';

const F1 = frameworkIdOf('f1');
const T1 = taskKey(F1, taskIdOf('t1'));
const launchIdOf = (text: string): LaunchId => text as LaunchId;

function registered(epoch = 3, resend: readonly string[] = []): AgentEvent {
  const master = { masterId: `m${String(epoch)}`, epoch };
  const message = { type: 'AgentRegistered' as const, agentId: agentIdOf('a1'), master };
  return { type: 'message', message: { ...message, resend: resend.map(launchIdOf) } };
}

/** A bench whose task `t1` has ended as launch `k1`, and whose framework knows it. */
function agentWithEnded(): AgentBench {
  const bench = agentWithRunning();
  bench.ended('t1');
  bench.acknowledge('t1', 'k1.TASK_RUNNING');
  bench.acknowledge('t1', 'k1.TASK_FINISHED');
  return bench;
}

describe('a task that is launched', () => {
  test('is started, and runs when its command has been executed', () => {
    const bench = createAgentBench();
    expect(lines(bench.run('t1'))).toEqual(['start t1']);
    expect(lines(bench.started('t1'))).toEqual(['update t1 TASK_RUNNING']);
  });

  test('twice runs once', () => {
    const bench = createAgentBench();
    bench.launch('k1', 't1');
    expect(lines(bench.launch('k1', 't1'))).toEqual([]);
    bench.started('t1');
    expect(lines(bench.launch('k1', 't1'))).toEqual([]);
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
        launchId: 'k1',
        updateId: 'k1.TASK_RUNNING',
        state: 'TASK_RUNNING',
        source: 'SOURCE_AGENT',
        unit: 'kaon-a1-t1-k1.service',
      },
    ]);
  });

  test('is reported with its state when the agent registers', () => {
    const bench = agentWithRunning();
    expect(registrationOf(bench.state).tasks).toEqual([
      {
        frameworkId: 'f1',
        taskId: 't1',
        launchId: 'k1',
        name: 't1',
        resources: { cpuMillis: 1000, memMib: 128 },
        state: 'TASK_RUNNING',
        unit: 'kaon-a1-t1-k1.service',
        rules: { killGracePeriodMs: 5000, whenUnreachable: 'keep', exclusive: false },
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
    const launch = { key: T1, launchId: launchIdOf('k1') };
    const effects = bench.do({ type: 'unit.lost', ...launch, message: 'the node was rebooted' });
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
    expect(lines(bench.kill('t1'))).toEqual([
      'rewrite t1',
      'update t1 TASK_KILLING',
      'signal t1 15',
    ]);
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
      'rewrite t1',
      'update t1 TASK_KILLING',
      'signal t1 15',
      'signal t1 9',
    ]);
  });

  test('before the command runs waits until it does', () => {
    const bench = createAgentBench();
    bench.run('t1');
    expect(lines(bench.kill('t1'))).toEqual(['rewrite t1']);
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
    expect(lines(bench.kill('t1', 1000))).toEqual(['rewrite t1']);
    expect(lines(bench.wait(1000))).toEqual(['signal t1 9']);
  });

  test('that comes again never lengthens the time that is left', () => {
    const bench = agentWithRunning();
    bench.kill('t1', 1000);
    bench.kill('t1', 60_000);
    expect(lines(bench.wait(1000))).toEqual(['signal t1 9']);
  });

  test('that comes again without a grace period leaves the time that was given', () => {
    const bench = agentWithRunning({ killGracePeriodMs: 1000 });
    bench.kill('t1', 60_000);
    expect(lines(bench.kill('t1'))).toEqual([]);
    expect(lines(bench.wait(59_999))).toEqual([]);
    expect(lines(bench.wait(1))).toEqual(['signal t1 9']);
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
  const key = taskKey(frameworkIdOf('f2'), taskIdOf('t1'));
  bench.do({ type: 'unit.started', key, launchId: launchIdOf('k3') });
  const effects = bench.do({
    type: 'message',
    message: { type: 'ShutdownFramework', frameworkId: frameworkIdOf('f1') },
  });
  expect(lines(effects)).toEqual([
    'rewrite t1',
    'update t1 TASK_KILLING',
    'signal t1 15',
    'rewrite t2',
  ]);
  expect(lines(bench.started('t2'))).toContain('signal t2 15');
});

describe('a command that its script could not execute', () => {
  const certificate = (more: object): { certificate: DeathCertificate } => ({
    certificate: {
      exitCode: 127,
      stderrTail: `sh: exec: nosuch: not found\n${notExecutedLine('k1')}\n`,
      ...more,
    },
  });

  test('is told as one that systemd could not execute', () => {
    const bench = agentWithRunning({ command: { argv: ['nosuch', '$x'], environment: {} } });
    expect(statuses(bench.ended('t1', certificate({ exitCode: 126 })))).toMatchObject([
      {
        state: 'TASK_FAILED',
        reason: 'REASON_COMMAND_NOT_EXECUTABLE',
        message: expect.stringContaining(
          'not started on node7: command "nosuch" cannot be executed',
        ),
        certificate: { exitCode: 126 },
      },
    ]);
  });

  test('because of its working directory says so', () => {
    const workingDirectory = '/no $uch';
    const command = { argv: ['ls'], environment: {}, workingDirectory };
    const [status] = statuses(
      agentWithRunning({ command }).ended('t1', certificate({ exitCode: 200 })),
    );
    expect(status?.message).toBe(
      'not started on node7: working directory /no $uch cannot be entered',
    );
  });

  test.each([
    ['without the line of its launch', { stderrTail: `${notExecutedLine('k2')}\n` }],
    ['that says more after the line', { stderrTail: `${notExecutedLine('k1')}\nmore\n` }],
    ['with another exit code', { exitCode: 1 }],
    ['by a signal', { exitCode: undefined, signal: 15 }],
  ])('is nothing but a failure if it ended %s', (_how, more) => {
    const [status] = statuses(agentWithRunning().ended('t1', certificate(more)));
    expect(status?.reason).toMatch(/^REASON_COMMAND_(EXITED|SIGNALED)$/);
  });
});

describe('an acknowledgement', () => {
  test('of the last update of an ended task moves its checkpoint to those of ended launches', () => {
    const bench = agentWithRunning();
    bench.ended('t1');
    expect(lines(bench.acknowledge('t1', 'k1.TASK_RUNNING'))).toEqual([]);
    expect(lines(bench.acknowledge('t1', 'k1.TASK_FINISHED'))).toEqual(['retire t1']);
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
  bench.do(registered());
  const effects = bench.do(registered());
  expect(lines(effects)).toEqual(['update t1 TASK_FINISHED', 'update t2 TASK_RUNNING']);
});

test('a message that is not for an agent does nothing', () => {
  const message = { type: 'ReviveOffers' as const, frameworkId: frameworkIdOf('f1') };
  expect(createAgentBench().do({ type: 'message', message })).toEqual([]);
});

describe('another launch of a task', () => {
  test('is refused while the first one runs, and nothing of it is kept', () => {
    const bench = agentWithRunning();
    const effects = bench.launch('k9', 't1');
    expect(statuses(effects)).toEqual([
      expect.objectContaining({
        launchId: 'k9',
        state: 'TASK_ERROR',
        reason: 'REASON_TASK_DUPLICATE',
        message: 'launch k1 of this task is still running on node7',
      }),
    ]);
    expect(statuses(effects)[0]).not.toHaveProperty('updateId');
    expect(bench.entry('t1')?.launchId).toBe('k1');
  });

  test('starts when the first one has ended, whose acknowledgement was lost', () => {
    const bench = agentWithRunning();
    bench.ended('t1');
    expect(lines(bench.launch('k2', 't1'))).toEqual(['retire t1', 'start t1']);
    expect(bench.entry('t1')?.unit).toBe('kaon-a1-t1-k2.service');
  });

  test('is not touched by what happens to the first one', () => {
    const bench = agentWithRunning();
    bench.ended('t1');
    bench.launch('k2', 't1');
    const first = { key: T1, launchId: launchIdOf('k1') };
    const lost = bench.do({ type: 'unit.lost', ...first, message: 'gone' });
    const started = bench.do({ type: 'unit.started', ...first });
    const acknowledged = bench.acknowledge('t1', 'k1.TASK_FINISHED');
    expect([...lost, ...started, ...acknowledged]).toEqual([]);
    expect(bench.entry('t1')?.state).toBe('TASK_STAGING');
  });

  test('is not killed by a kill of the first one', () => {
    const bench = agentWithRunning();
    const kill = { type: 'KillTask' as const, frameworkId: F1, taskId: taskIdOf('t1') };
    const by = 'master' as const;
    const other = { ...kill, launchId: launchIdOf('k0'), by };
    const mine = { ...kill, launchId: launchIdOf('k1'), by };
    expect(bench.do({ type: 'message', message: other })).toEqual([]);
    expect(lines(bench.do({ type: 'message', message: mine }))).toContain('signal t1 15');
  });
});

test('a launch that the master has given up is killed, and says so', () => {
  const bench = agentWithRunning();
  bench.kill('t1', 0, 'master');
  expect(statuses(bench.ended('t1', { certificate: { signal: 9 } }))).toMatchObject([
    {
      state: 'TASK_KILLED',
      reason: 'REASON_TASK_SUPERSEDED',
      message: 'ended because the master had given this launch up',
    },
  ]);
});

describe('an end that was acknowledged', () => {
  test('is listed at a registration, and sent again if the master asks for it', () => {
    const bench = agentWithEnded();
    expect(registrationOf(bench.state).ended).toEqual([
      { frameworkId: 'f1', taskId: 't1', launchId: 'k1' },
    ]);
    const again = statuses(bench.do(registered(3, ['k1', 'k9'])));
    expect(again).toMatchObject([{ state: 'TASK_FINISHED', updateId: 'k1.TASK_FINISHED' }]);
    expect(bench.acknowledge('t1', 'k1.TASK_FINISHED')).toEqual([]);
    expect(registrationOf(bench.state).ended).toHaveLength(1);
  });

  test('is told again instead of another start, if its launch comes once more', () => {
    const bench = agentWithEnded();
    expect(lines(bench.launch('k1', 't1'))).toEqual(['update t1 TASK_FINISHED']);
  });

  test('is the last update, in whatever order the acknowledgements came', () => {
    const bench = agentWithRunning();
    bench.ended('t1');
    bench.acknowledge('t1', 'k1.TASK_FINISHED');
    bench.acknowledge('t1', 'k1.TASK_RUNNING');
    expect(lines(bench.do(registered(3, ['k1'])))).toContain('update t1 TASK_FINISHED');
  });

  test('is forgotten after five minutes', () => {
    const bench = agentWithEnded();
    expect(lines(bench.wait(300_000))).toEqual([]);
    expect(lines(bench.wait(1))).toEqual(['forget k1']);
    expect(registrationOf(bench.state).ended).toEqual([]);
  });

  test('is forgotten before that if it is the oldest of more than a thousand', () => {
    const bench = createAgentBench();
    for (let count = 1; count <= 1002; count += 1) {
      bench.run('t1');
      bench.failed('t1', 'no sandbox');
      bench.acknowledge('t1', `k${String(count)}.TASK_FAILED`);
    }
    expect(lines(bench.wait(0))).toEqual(['forget k1', 'forget k2']);
  });

  test('keeps the end of its output only', () => {
    const bench = agentWithRunning();
    bench.acknowledge('t1', 'k1.TASK_RUNNING');
    bench.ended('t1', { certificate: { exitCode: 0, stdoutTail: `${'x'.repeat(9000)}end` } });
    bench.acknowledge('t1', 'k1.TASK_FINISHED');
    const [status] = statuses(bench.do(registered(3, ['k1'])));
    expect(status?.certificate?.stdoutTail).toHaveLength(2048);
    expect(status?.certificate?.stdoutTail).toMatch(/xend$/);
  });
});

describe('what is known of a framework', () => {
  test('is told once at a registration, with all its tasks', () => {
    const bench = agentWithRunning();
    bench.run('t2');
    bench.run('t1', {}, 'f2');
    expect(registrationOf(bench.state).frameworks).toEqual([
      { info: frameworkInfo('f1'), detached: false },
      { info: frameworkInfo('f2'), detached: false },
    ]);
  });

  test('changes with its word, on disk too, for its tasks and no others', () => {
    const bench = agentWithRunning();
    bench.run('t1', {}, 'f2');
    const framework = frameworkInfo('f1', { failoverTimeoutMs: 7 });
    const message = { type: 'UpdateFramework' as const, framework, detached: true };
    expect(lines(bench.do({ type: 'message', message }))).toEqual(['rewrite t1']);
    expect(registrationOf(bench.state).frameworks).toEqual([
      { info: framework, detached: true },
      { info: frameworkInfo('f2'), detached: false },
    ]);
  });
});

test('of the leaders, the one with the highest epoch is remembered and told', () => {
  const bench = createAgentBench();
  expect(lines(bench.do(registered(3)))).toEqual(['leader m3 3']);
  expect(lines(bench.do(registered(2)))).toEqual([]);
  expect(lines(bench.do(registered(4)))).toEqual(['leader m4 4']);
  expect(registrationOf(bench.state).leaderSeen).toEqual({ masterId: 'm4', epoch: 4 });
});

test('a refusal stops the agent with the words of the master, and touches no task', () => {
  const bench = agentWithRunning();
  const message = { type: 'AgentError' as const, code: 'agent-id-taken', message: 'another node' };
  expect(bench.do({ type: 'message', message })).toEqual([
    { type: 'agent.stop', code: 'agent-id-taken', message: 'another node' },
  ]);
  expect(bench.entry('t1')?.state).toBe('TASK_RUNNING');
});

describe('whatever happens, in any order', () => {
  const launch = { key: T1, launchId: launchIdOf('k1') };
  const f1 = { frameworkId: F1, taskId: taskIdOf('t1') };
  const anyEvent: fc.Arbitrary<AgentEvent> = fc.oneof(
    fc.constantFrom<AgentEvent[]>(
      { type: 'unit.started', ...launch },
      { type: 'unit.failed', ...launch, message: 'no sandbox' },
      { type: 'unit.ended', ...launch, ended: { result: 'success', certificate: { exitCode: 0 } } },
      { type: 'unit.ended', ...launch, ended: { result: 'signal', certificate: { signal: 9 } } },
      { type: 'unit.lost', ...launch, message: 'gone' },
      { type: 'tick' },
      registered(),
      { type: 'message', message: { type: 'ShutdownFramework', frameworkId: f1.frameworkId } },
      runTask('f1', 'k1', taskInfo('t1')),
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
