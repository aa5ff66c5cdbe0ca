import { describe, expect, test } from '@jest/globals';
import { problemOfGrants } from '../../../master/core/allocator/check.ts';
import { allocateInOrder } from '../../../master/core/allocator/fifo.ts';
import { allocateHierarchically } from '../../../master/core/allocator/hierarchical.ts';
import type { Allocator } from '../../../master/core/allocator/port.ts';
import { amount } from '../../support/builders.ts';
import type { Scene } from '../../support/rounds.ts';
import { ledgerOf, roundOf } from '../../support/rounds.ts';

const allocators: [string, Allocator][] = [
  ['drf', allocateHierarchically],
  ['fifo', allocateInOrder],
];

describe.each(allocators)('by %s, a need', (_name, allocator) => {
  const allocate = (scene: Scene): Record<string, string[]> => {
    const round = roundOf(scene);
    const grants = allocator(round);
    expect(problemOfGrants(round, grants)).toBeUndefined();
    return ledgerOf(grants);
  };

  test('of one unit for each agent goes to as many agents', () => {
    const needs = [{ resources: amount(1, 1), count: 3, maxPerAgent: 1 }];
    expect(
      allocate({
        agents: { a1: amount(4, 4), a2: amount(4, 4), a3: amount(4, 4), a4: amount(4, 4) },
        frameworks: { A: { needs } },
      }),
    ).toEqual({ A: ['a1 1 1', 'a2 1 1', 'a3 1 1'] });
  });

  test('counts what is offered on an agent already against what may be there', () => {
    const needs = [
      { resources: amount(1, 1), count: 9, maxPerAgent: 2, offeredOn: { a1: 1, a2: 2 } },
    ];
    expect(
      allocate({ agents: { a1: amount(4, 4), a2: amount(4, 4) }, frameworks: { A: { needs } } }),
    ).toEqual({ A: ['a1 1 1'] });
  });

  test('goes to no agent that will not do', () => {
    const needs = [{ resources: amount(1, 1), count: 2, notOn: ['a1'] }];
    expect(
      allocate({ agents: { a1: amount(4, 4), a2: amount(4, 4) }, frameworks: { A: { needs } } }),
    ).toEqual({ A: ['a2 2 2'] });
  });

  test('that is to be packed goes to the fullest agents that have room', () => {
    // Taken: a1 none, a2 3/4, a3 1/2. a2 has room for one, a3 for two.
    const needs = [{ resources: amount(1, 1), count: 3, placement: 'pack' as const }];
    const agents = {
      a1: amount(4, 4),
      a2: { total: amount(4, 4), free: amount(1, 1) },
      a3: { total: amount(4, 4), free: amount(2, 2) },
    };
    expect(allocate({ agents, frameworks: { A: { needs } } })).toEqual({ A: ['a2 1 1', 'a3 2 2'] });
  });

  test('that is to be spread goes to the emptiest agents, one unit on each', () => {
    // Taken: a1 3/4, a2 none, a3 1/2.
    const needs = [{ resources: amount(1, 1), count: 2, placement: 'spread' as const }];
    const agents = {
      a1: { total: amount(4, 4), free: amount(1, 1) },
      a2: amount(4, 4),
      a3: { total: amount(4, 4), free: amount(2, 2) },
    };
    const ledger = allocate({ agents, frameworks: { A: { needs } } });
    expect(Object.keys(ledger)).toEqual(['A']);
    expect(ledger['A']).toContain('a2 1 1');
    expect(ledger['A']).toContain('a3 1 1');
  });

  test('of a gang that does not fit takes nothing, and leaves what is there to others', () => {
    const gang = [{ resources: amount(2, 2), count: 3, gang: true }];
    const needs = [{ resources: amount(1, 1), count: 4 }];
    expect(
      allocate({
        agents: { a1: amount(2, 2), a2: amount(2, 2) },
        frameworks: { A: { needs: gang }, B: { needs } },
      }),
    ).toEqual({ B: ['a1 2 2', 'a2 2 2'] });
  });

  test('of two gangs of which only one fits gets that one whole', () => {
    const gang = [{ resources: amount(1, 1), count: 3, gang: true }];
    expect(
      allocate({
        agents: { a1: amount(2, 2), a2: amount(2, 2) },
        frameworks: { A: { needs: gang }, B: { needs: gang } },
      }),
    ).toEqual({ A: ['a1 2 2', 'a2 1 1'] });
  });
});

describe('fairness', () => {
  test('holds for needs with a placement: they get no more than others want as well', () => {
    // 8 units; A spreads, B does not say: 4 each.
    const round = roundOf({
      agents: { a1: amount(4, 4), a2: amount(4, 4) },
      frameworks: {
        A: { needs: [{ resources: amount(1, 1), placement: 'spread' }] },
        B: { needs: [{ resources: amount(1, 1) }] },
      },
    });
    expect(ledgerOf(allocateHierarchically(round))).toEqual({
      A: ['a1 2 2', 'a2 2 2'],
      B: ['a1 2 2', 'a2 2 2'],
    });
  });

  test('holds for gangs: the one of the framework with the smaller share is tried first', () => {
    // A holds 4 of 12, B none.
    const gang = [{ resources: amount(2, 2), count: 4, gang: true }];
    const round = roundOf({
      agents: { a1: { total: amount(12, 12), free: amount(8, 8) } },
      frameworks: { A: { holds: amount(4, 4), needs: gang }, B: { needs: gang } },
    });
    expect(ledgerOf(allocateHierarchically(round))).toEqual({ B: ['a1 8 8'] });
  });
});
