import { describe, expect, test } from '@jest/globals';
import type { MasterEffect } from '../../../master/core/effects.ts';
import {
  agentIdOf,
  frameworkIdOf,
  sessionOf,
  taskInfo,
  taskStatus,
} from '../../support/builders.ts';
import { createMasterBench, eventsOf, type MasterBench, sent } from '../../support/master-bench.ts';

interface Wish {
  readonly inMs?: number;
  readonly deadlineMs?: number;
}

function drain(
  bench: MasterBench,
  agentId: string,
  { inMs = 0, deadlineMs }: Wish = {},
): MasterEffect[] {
  return bench.say('operator:me@here', {
    type: 'DrainAgent',
    requestId: sessionOf('r1'),
    agentId: agentIdOf(agentId),
    inMs,
    ...(deadlineMs !== undefined && { deadlineMs }),
  });
}

function undrain(bench: MasterBench, agentId: string): MasterEffect[] {
  return bench.say('operator:me@here', {
    type: 'UndrainAgent',
    requestId: sessionOf('r2'),
    agentId: agentIdOf(agentId),
  });
}

/** `type: message`, of events about agents. */
function said(effects: readonly MasterEffect[]): string[] {
  return eventsOf(effects)
    .filter(({ type }) => type.startsWith('agent.') || type.startsWith('inverse'))
    .map(({ type, message = '' }) => [type, message].filter((part) => part !== '').join(': '));
}

/** f1 runs t1 on a1. */
function benchWithTask(): MasterBench {
  const bench = createMasterBench();
  bench.registerFramework('f1');
  bench.registerAgent('a1');
  bench.launch('f1', bench.offerOf('f1').offerId, [taskInfo('t1')], 3_600_000);
  bench.update('a1', taskStatus('f1', 't1', 'TASK_RUNNING'));
  bench.acknowledge('f1', 't1', 't1.TASK_RUNNING');
  return bench;
}

describe('an agent that is drained', () => {
  test('is offered no more, and what was offered of it is taken back', () => {
    const bench = createMasterBench();
    bench.registerFramework('f1');
    bench.registerAgent('a1');
    expect(bench.offersOf('f1')).toEqual(['a1 4 8192']);
    const effects = drain(bench, 'a1');
    expect(said(effects)).toEqual([
      'agent.drain-requested: not offered from now on; its tasks go on to their own ends',
    ]);
    expect(bench.offersOf('f1')).toEqual([]);
    expect(said(bench.wait(1000))).toEqual(['agent.drained']);
    expect(said(bench.wait(60_000))).toEqual([]);
    expect(bench.offersOf('f1')).toEqual([]);
  });

  test('later is offered until then: a maintenance window', () => {
    const bench = createMasterBench();
    bench.registerAgent('a1');
    drain(bench, 'a1', { inMs: 60_000 });
    bench.registerFramework('f1');
    expect(bench.offersOf('f1')).toEqual(['a1 4 8192']);
    bench.wait(60_000);
    expect(bench.offersOf('f1')).toEqual([]);
  });

  test('is told to the frameworks that have work there, and to no other', () => {
    const bench = benchWithTask();
    bench.registerFramework('f2');
    const effects = drain(bench, 'a1', { inMs: 1000, deadlineMs: 600_000 });
    expect(sent(effects, 'framework:f1', 'InverseOffer')).toEqual([
      {
        type: 'InverseOffer',
        agentId: 'a1',
        hostname: 'node-of-a1',
        fromMs: bench.nowMs + 1000,
        deadlineMs: bench.nowMs + 601_000,
      },
    ]);
    expect(sent(effects, 'framework:f2', 'InverseOffer')).toEqual([]);
    const again = bench.registerFramework('f1', {}, 's2');
    expect(sent(again, 'framework:f1', 'InverseOffer')).toHaveLength(1);
  });

  test('loses what is left of its tasks at the deadline, each killed once', () => {
    const bench = benchWithTask();
    drain(bench, 'a1', { deadlineMs: 600_000 });
    expect(sent(bench.wait(599_999), 'agent:a1', 'KillTask')).toEqual([]);
    expect(sent(bench.wait(1), 'agent:a1', 'KillTask')).toMatchObject([
      { taskId: 't1', by: 'operator' },
    ]);
    expect(sent(bench.wait(1000), 'agent:a1', 'KillTask')).toEqual([]);
    bench.update('a1', taskStatus('f1', 't1', 'TASK_KILLED'));
    expect(said(bench.wait(1000))).toEqual(['agent.drained']);
  });

  test('keeps its tasks where no deadline was said', () => {
    const bench = benchWithTask();
    drain(bench, 'a1');
    expect(sent(bench.wait(3_600_000), 'agent:a1', 'KillTask')).toEqual([]);
    expect(bench.task('f1', 't1')?.state).toBe('TASK_RUNNING');
  });

  test('stays so over a failover of the master and when it registers again', () => {
    const bench = benchWithTask();
    drain(bench, 'a1');
    const next = bench.failOver();
    next.registerFramework('f2');
    next.wait(10_000);
    expect(next.offersOf('f2')).toEqual([]);
    const task = { frameworkId: frameworkIdOf('f1'), taskId: taskInfo('t1').taskId };
    const launchId = next.task('f1', 't1')?.launchId;
    next.registerAgent('a1', {
      session: 's2',
      tasks: [
        {
          ...task,
          launchId: launchId as never,
          name: 't1',
          resources: taskInfo('t1').resources,
          state: 'TASK_RUNNING',
        },
      ],
    });
    expect(next.offersOf('f2')).toEqual([]);
  });

  test('shows the operator what frameworks have answered', () => {
    const bench = benchWithTask();
    drain(bench, 'a1', { inMs: 60_000 });
    const effects = bench.say('framework:f1', {
      type: 'AnswerInverseOffer',
      frameworkId: frameworkIdOf('f1'),
      agentId: agentIdOf('a1'),
      isAccepted: false,
    });
    expect(said(effects)).toEqual(['inverse-offer.declined']);
    expect(bench.state.agents.get(agentIdOf('a1'))?.record.drain?.answers).toEqual({ f1: false });
  });

  test('is offered again when an operator says so, and frameworks hear of it', () => {
    const bench = benchWithTask();
    drain(bench, 'a1');
    const effects = undrain(bench, 'a1');
    expect(said(effects)).toEqual(['agent.undrained']);
    expect(sent(effects, 'framework:f1', 'RescindInverseOffer')).toHaveLength(1);
    bench.registerFramework('f2');
    expect(bench.offersOf('f2')).toHaveLength(1);
  });

  test.each([
    ['that is not there', (bench: MasterBench) => drain(bench, 'a9'), 'no agent a9'],
    [
      'that is not drained',
      (bench: MasterBench) => undrain(bench, 'a1'),
      'agent a1 is not drained',
    ],
  ])('%s: refused', (_what, act, words) => {
    const bench = benchWithTask();
    expect(said(act(bench))).toEqual([`agent.drain-refused: ${words}`]);
  });
});
