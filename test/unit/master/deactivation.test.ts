import { describe, expect, test } from '@jest/globals';
import type { MasterEffect } from '../../../master/core/effects.ts';
import { agentIdOf, frameworkIdOf, sessionOf, taskInfo } from '../../support/builders.ts';
import { createMasterBench, eventsOf, type MasterBench } from '../../support/master-bench.ts';

function say(
  bench: MasterBench,
  type: 'DeactivateAgent' | 'ReactivateAgent',
  agentId: string,
): MasterEffect[] {
  const requestId = sessionOf('r1');
  return bench.say('operator:me@here', { type, requestId, agentId: agentIdOf(agentId) });
}

/** `type: message`, of events about agents. */
function said(effects: readonly MasterEffect[]): string[] {
  return eventsOf(effects)
    .filter(({ type }) => type.startsWith('agent.'))
    .map(({ type, message = '' }) => [type, message].filter((part) => part !== '').join(': '));
}

describe('an agent that is deactivated', () => {
  test('is offered no more, and what was offered of it is taken back', () => {
    const bench = createMasterBench();
    bench.registerFramework('f1');
    bench.registerAgent('a1');
    expect(said(say(bench, 'DeactivateAgent', 'a1'))).toEqual(['agent.deactivated']);
    expect(bench.offersOf('f1')).toEqual([]);
    bench.wait(60_000);
    expect(bench.offersOf('f1')).toEqual([]);
  });

  test('keeps its tasks, and nobody is asked to leave', () => {
    const bench = createMasterBench();
    bench.registerFramework('f1');
    bench.registerAgent('a1');
    bench.launch('f1', bench.offerOf('f1').offerId, [taskInfo('t1')]);
    const effects = say(bench, 'DeactivateAgent', 'a1');
    expect(JSON.stringify(effects)).not.toMatch(/InverseOffer|KillTask/);
    bench.wait(3_600_000);
    expect(bench.task('f1', 't1')?.killRequested).toBeUndefined();
  });

  test('stays so when it registers again, and under the next leader', () => {
    const bench = createMasterBench();
    bench.registerAgent('a1');
    say(bench, 'DeactivateAgent', 'a1');
    const next = bench.failOver();
    next.registerAgent('a1', { session: 's2' });
    next.registerFramework('f1');
    expect(next.offersOf('f1')).toEqual([]);
    expect(next.state.agents.get(agentIdOf('a1'))?.record.deactivatedAtMs).toBe(bench.nowMs);
  });

  test('is offered again when it is reactivated', () => {
    const bench = createMasterBench();
    bench.registerFramework('f1');
    bench.registerAgent('a1');
    say(bench, 'DeactivateAgent', 'a1');
    expect(said(say(bench, 'ReactivateAgent', 'a1'))).toEqual(['agent.reactivated']);
    expect(bench.offersOf('f1')).toEqual(['a1 4 8192']);
  });

  test('is not to be had twice, nor of an agent that is not there', () => {
    const bench = createMasterBench();
    bench.registerAgent('a1');
    expect(said(say(bench, 'ReactivateAgent', 'a1'))).toEqual([
      'agent.deactivation-refused: agent a1 is not deactivated',
    ]);
    say(bench, 'DeactivateAgent', 'a1');
    expect(said(say(bench, 'DeactivateAgent', 'a1'))).toEqual([
      'agent.deactivation-refused: agent a1 is deactivated already',
    ]);
    expect(said(say(bench, 'DeactivateAgent', 'a9'))).toEqual([
      'agent.deactivation-refused: no agent a9',
    ]);
  });
});

test('a guarantee is not kept on agents that nobody is offered', () => {
  const bench = createMasterBench();
  bench.registerAgent('a1');
  bench.registerAgent('a2');
  bench.say('operator:me@here', {
    type: 'UpdateRole',
    requestId: sessionOf('r2'),
    role: 'prod',
    guarantee: { cpuMillis: 3000 },
    force: false,
  });
  say(bench, 'DeactivateAgent', 'a2');
  // Free and offered to somebody: 4 CPUs of a1, of which 3 are kept.
  bench.registerFramework('f1');
  expect(bench.offersOf('f1')).toEqual(['a1 1 8192']);
  // With a2 there are 8, of which 3 are kept.
  say(bench, 'ReactivateAgent', 'a2');
  const offered = [...bench.state.offers.values()].map(({ resources }) => resources.cpuMillis);
  expect(offered.reduce((sum, cpuMillis) => sum + cpuMillis, 0)).toBe(5000);
});

describe('the whitelist', () => {
  /** What a reload does: the options are changed in place. */
  const reload = (bench: MasterBench, whitelist: readonly string[] | undefined): void => {
    Object.assign(bench.state.options, { whitelist });
    bench.wait(250);
  };

  test('names agents and patterns; others are registered, and not offered', () => {
    const bench = createMasterBench({ whitelist: ['a1', 'rack7-*'] });
    bench.registerFramework('f1');
    for (const agentId of ['a1', 'a11', 'rack7-3', 'rack8-3']) bench.registerAgent(agentId);
    expect(bench.offersOf('f1')).toEqual(['a1 4 8192', 'rack7-3 4 8192']);
  });

  test('that has become shorter takes offers back, and leaves tasks alone', () => {
    const bench = createMasterBench();
    bench.registerFramework('f1');
    bench.registerAgent('a1');
    bench.registerAgent('a2');
    bench.wait(250);
    const ofA1 = [...bench.state.offers.values()].find(({ agentId }) => agentId === 'a1');
    bench.launch('f1', ofA1?.offerId ?? '', [taskInfo('t1')]);
    reload(bench, ['a2']);
    expect(bench.offersOf('f1')).toEqual(['a2 4 8192']);
    expect(bench.task('f1', 't1')?.killRequested).toBeUndefined();
  });

  test('that is taken away has all agents offered', () => {
    const bench = createMasterBench({ whitelist: ['a2'] });
    bench.registerFramework('f1');
    bench.registerAgent('a1');
    bench.wait(250);
    expect(bench.offersOf('f1')).toEqual([]);
    reload(bench, undefined);
    expect(bench.offersOf('f1')).toEqual(['a1 4 8192']);
  });

  test('of the next leader counts for what the last one has offered', () => {
    const bench = createMasterBench();
    bench.registerFramework('f1');
    bench.registerAgent('a1');
    const next = bench.failOver();
    expect(next.offersOf('f1')).toEqual(['a1 4 8192']);
    Object.assign(next.state.options, { whitelist: ['a2'] });
    next.state.whitelist = { agentIds: new Set(['a2']), patterns: [] };
    next.wait(250);
    expect(next.offersOf('f1')).toEqual([]);
  });
});

test('a smallest offer that is raised or lowered counts from the next tick on', () => {
  const bench = createMasterBench({ minimumOffer: { cpuMillis: 10, memMib: 16_384 } });
  bench.registerFramework('f1');
  bench.registerAgent('a1');
  bench.wait(250);
  expect(bench.offersOf('f1')).toEqual([]);
  Object.assign(bench.state.options, { minimumOffer: { cpuMillis: 10, memMib: 8192 } });
  bench.wait(250);
  expect(bench.offersOf('f1')).toEqual(['a1 4 8192']);
});

test('who needs less than the smallest offer is offered what it needs, where so much is free', () => {
  const bench = createMasterBench({ minimumOffer: { cpuMillis: 1000, memMib: 1024 } });
  bench.registerFramework('f1');
  bench.say('framework:f1', {
    type: 'RequestResources',
    frameworkId: frameworkIdOf('f1'),
    requests: [{ resources: { cpuMillis: 100, memMib: 64 }, count: 1, attributes: {} }],
  });
  bench.registerAgent('a1');
  expect(bench.offersOf('f1')).toEqual(['a1 0.1 64']);
});
