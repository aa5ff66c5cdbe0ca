import { describe, expect, test } from '@jest/globals';
import { explain } from '../../../master/core/why.ts';
import type { OfferConstraints } from '../../../protocol/offer-constraints.ts';
import { frameworkIdOf, sessionOf } from '../../support/builders.ts';
import { createMasterBench, eventsOf, type MasterBench } from '../../support/master-bench.ts';

const NOT_A: OfferConstraints = {
  '*': [[{ attribute: 'rack', predicate: 'notEquals', value: 'a' }]],
};

/** Agents a1 in rack a and b1 in rack b. */
function registerAgents(bench: MasterBench): void {
  bench.registerAgent('a1', { attributes: { rack: 'a' } });
  bench.registerAgent('b1', { attributes: { rack: 'b' } });
}

function update(bench: MasterBench, offerConstraints: OfferConstraints): void {
  bench.say('framework:f1', {
    type: 'UpdateOfferConstraints',
    frameworkId: frameworkIdOf('f1'),
    offerConstraints,
  });
}

describe('offer constraints of a framework', () => {
  test('keep agents from it, from its registration on', () => {
    const bench = createMasterBench();
    bench.registerFramework('f1', { offerConstraints: NOT_A });
    registerAgents(bench);
    bench.wait(1000);
    expect(bench.offersOf('f1')).toEqual(['b1 4 8192']);
  });

  test('hold for what it asks for as well', () => {
    const bench = createMasterBench();
    bench.registerFramework('f1', { offerConstraints: NOT_A });
    bench.say('framework:f1', {
      type: 'RequestResources',
      frameworkId: frameworkIdOf('f1'),
      requests: [{ resources: { cpuMillis: 3000, memMib: 64 }, count: 2, attributes: {} }],
    });
    registerAgents(bench);
    expect(bench.offersOf('f1')).toEqual(['b1 3 64']);
  });

  test('are per role: another role of it may be offered what one may not', () => {
    const bench = createMasterBench();
    bench.registerFramework('f1', {
      roles: ['x', 'y'],
      offerConstraints: { x: [[{ attribute: 'rack', predicate: 'exists' }]] },
    });
    bench.registerAgent('a1');
    expect([...bench.state.offers.values()].map(({ role }) => role)).toEqual(['y']);
  });

  test('that change take back what they exclude, and let in what they do not', () => {
    const bench = createMasterBench();
    bench.registerFramework('f1');
    registerAgents(bench);
    expect(bench.offersOf('f1')).toEqual(['a1 4 8192', 'b1 4 8192']);
    update(bench, NOT_A);
    expect(bench.offersOf('f1')).toEqual(['b1 4 8192']);
    update(bench, {});
    expect(bench.offersOf('f1')).toEqual(['b1 4 8192', 'a1 4 8192']);
  });

  test('are stored: the next leader holds them too, and a new scheduler brings its own', () => {
    const bench = createMasterBench();
    bench.registerFramework('f1', { offerConstraints: NOT_A });
    const next = bench.failOver();
    registerAgents(next);
    expect(next.offersOf('f1')).toEqual(['b1 4 8192']);
    next.registerFramework('f1', {}, 's2');
    expect(next.offersOf('f1').sort()).toEqual(['a1 4 8192', 'b1 4 8192']);
  });

  test('do not travel to agents with its tasks', () => {
    const bench = createMasterBench();
    bench.registerFramework('f1', { offerConstraints: NOT_A });
    const record = bench.state.frameworks.get(frameworkIdOf('f1'))?.record;
    expect(record?.info).not.toHaveProperty('offerConstraints');
    expect(record?.offerConstraints).toEqual(NOT_A);
  });

  test('are what why names, constraint by constraint', () => {
    const bench = createMasterBench();
    bench.registerFramework('f1', {
      offerConstraints: {
        '*': [
          [{ attribute: 'rack', predicate: 'equals', value: 'c' }],
          [{ attribute: 'zone', predicate: 'matches', pattern: 'eu-*' }],
        ],
      },
    });
    registerAgents(bench);
    const framework = bench.state.frameworks.get(frameworkIdOf('f1'));
    if (!framework) throw new Error('no framework');
    const cx = { state: bench.state, nowMs: bench.nowMs, effects: [] };
    expect(explain(cx, framework).needs[0]?.agents[0]).toMatchObject({
      agentId: 'a1',
      code: 'constraint',
      message: 'rack must be c, it has a; or zone must match eu-*, it has none',
    });
  });

  test('are held against an allocator that looks away: nothing of its round is offered', () => {
    const bench = createMasterBench({
      allocator: ({ agents, candidates }) =>
        candidates.flatMap(({ frameworkId, role }) =>
          agents.map(({ agentId, free }) => ({ frameworkId, role, agentId, resources: free })),
        ),
    });
    bench.registerFramework('f1', { offerConstraints: NOT_A });
    const effects = bench.registerAgent('a1', { attributes: { rack: 'a' } });
    expect(bench.offersOf('f1')).toEqual([]);
    expect(eventsOf(effects).map(({ type, message }) => `${type} ${message ?? ''}`)).toContain(
      'allocation.refused framework f1 is given agent a1, against its offer constraints; nothing of this round is offered',
    );
  });
});

test('a guarantee of somebody else is no reason to be offered an excluded agent', () => {
  const bench = createMasterBench();
  bench.say('operator:me@here', {
    type: 'UpdateRole',
    requestId: sessionOf('r1'),
    role: '*',
    guarantee: { cpuMillis: 8000 },
    force: true,
  });
  bench.registerFramework('f1', { offerConstraints: NOT_A });
  registerAgents(bench);
  expect(bench.offersOf('f1')).toEqual(['b1 4 8192']);
});
