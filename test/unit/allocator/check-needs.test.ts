import { describe, expect, test } from '@jest/globals';
import { problemOfGrants } from '../../../master/core/allocator/check.ts';
import type { FrameworkId } from '../../../protocol/ids.ts';
import type { Resources } from '../../../protocol/resources.ts';
import { amount } from '../../support/builders.ts';
import { createMasterBench, eventsOf } from '../../support/master-bench.ts';
import type { Wanting } from '../../support/rounds.ts';
import { roundOf } from '../../support/rounds.ts';

type Need = NonNullable<Wanting['needs']>[number];

const UNIT = amount(1, 1);
const agents = { a1: amount(8, 8), a2: amount(8, 8), a3: amount(8, 8) };

/** What is wrong if framework A, with these needs, is given so much of each agent. */
const problem = (
  needs: readonly Need[] | undefined,
  given: Readonly<Record<string, Resources>>,
): string | undefined => {
  const round = roundOf({ agents, frameworks: { A: needs ? { needs } : {}, B: {} } });
  const grants = Object.entries(given).map(([agentId, resources]) => ({
    ...{ frameworkId: 'A', role: '*', agentId, resources },
  }));
  return problemOfGrants(round, grants);
};

describe('so many units on one agent, at most,', () => {
  const needs = [{ resources: UNIT, count: 9, maxPerAgent: 2 }];

  test('may be given on each of them', () => {
    expect(problem(needs, { a1: amount(2, 2), a2: amount(1, 1), a3: amount(2, 2) })).toBe(
      undefined,
    );
  });

  test('and one more is refused, with what and where', () => {
    expect(problem(needs, { a1: amount(1, 1), a2: amount(3, 3) })).toBe(
      'framework A is given 3 cpus, 3M of agent a2, with room for more units of 1 cpus, 1M than it wants there: 2 more may be there',
    );
  });

  test('are less by what is offered there already', () => {
    const offered = [{ ...needs[0], resources: UNIT, offeredOn: { a1: 1, a2: 2 } }];
    expect(problem(offered, { a1: amount(1, 1) })).toBeUndefined();
    expect(problem(offered, { a1: amount(2, 2) })).toContain('1 more may be there');
    expect(problem(offered, { a2: amount(1, 1) })).toContain('0 more may be there');
  });

  test('may come with what is no unit', () => {
    expect(problem(needs, { a1: amount(8, 2) })).toBeUndefined();
  });

  test('may come with units of another need that is not so particular, and no more of those than it wants', () => {
    const both = [...needs, { resources: amount(2, 1), count: 2 }];
    expect(problem(both, { a1: amount(6, 4) })).toBeUndefined();
    expect(problem(both, { a1: amount(7, 5) })).toMatch(/^framework A is given 7 cpus, 5M of a/);
  });

  test('are asked of nobody who has not said so', () => {
    expect(problem([{ resources: UNIT, count: 1 }], { a1: amount(8, 8) })).toBeUndefined();
    expect(problem(undefined, { a1: amount(8, 8) })).toBeUndefined();
  });
});

describe('an agent that will not do', () => {
  const needs = [{ resources: UNIT, count: 9, notOn: ['a1'] }];

  test('is not given, others are', () => {
    expect(problem(needs, { a2: amount(8, 8) })).toBeUndefined();
    expect(problem(needs, { a1: amount(1, 1) })).toMatch(/of agent a1, .*: none may be there$/);
  });

  test('may do for another need, but not for both', () => {
    const both = [...needs, { resources: UNIT, count: 2 }];
    expect(problem(both, { a1: amount(2, 2) })).toBeUndefined();
    expect(problem(both, { a1: amount(3, 3) })).toContain('none may be there');
  });

  test('does not do for another need without its attributes', () => {
    const other = { resources: UNIT, count: 2, attributes: { rack: 'b' } };
    expect(problem([...needs, other], { a1: amount(1, 1) })).toContain('none may be there');
  });
});

describe('a gang', () => {
  const needs = [{ resources: UNIT, count: 4, gang: true }];

  test('is given as a whole, on one agent or several', () => {
    expect(problem(needs, { a1: amount(4, 4) })).toBeUndefined();
    expect(problem(needs, { a1: amount(1, 1), a3: amount(3, 3) })).toBeUndefined();
    expect(problem(needs, {})).toBeUndefined();
  });

  test('of which something is missing is refused, with how much there was', () => {
    expect(problem(needs, { a1: amount(1, 1), a3: amount(2, 2) })).toBe(
      'framework A is given 3 of a gang of 4 units of 1 cpus, 1M, and wants all or none',
    );
  });

  test('is not whole where more of it than may be is on one agent', () => {
    const apart = [{ ...needs[0], resources: UNIT, count: 2, gang: true, maxPerAgent: 1 }];
    expect(problem(apart, { a1: amount(1, 1), a2: amount(1, 1) })).toBeUndefined();
    expect(problem(apart, { a1: amount(1, 1) })).toContain('1 of a gang of 2');
    expect(problem(apart, { a1: amount(2, 2) })).toContain('1 more may be there');
  });

  test('that gets nothing is not in the way of other needs', () => {
    const both = [...needs, { resources: amount(1, 1), count: 2 }];
    expect(problem(both, { a1: amount(1, 1), a2: amount(1, 1) })).toBeUndefined();
    // 2 on each of three agents are 6: the gang and both others.
    const each = { a1: amount(2, 2), a2: amount(2, 2) };
    expect(problem(both, { ...each, a3: amount(2, 2) })).toBeUndefined();
    expect(problem(both, { a1: amount(3, 3) })).toContain('3 of a gang of 4');
  });

  test('is not made whole by another of its framework', () => {
    const both = [...needs, { resources: amount(2, 2), count: 3, gang: true }];
    expect(problem(both, { a1: amount(4, 4) })).toBeUndefined();
    expect(problem(both, { a1: amount(2, 2) })).toMatch(/of a gang of/);
  });
});

test('a round that does not keep to it is refused, and told', () => {
  const bench = createMasterBench({
    allocator: ({ agents: shown, candidates }) =>
      shown.flatMap(({ agentId, free }) =>
        candidates.map(({ frameworkId, role }) => ({
          ...{ frameworkId, role, agentId, resources: free },
        })),
      ),
  });
  bench.registerFramework('f1');
  bench.say('framework:f1', {
    type: 'RequestResources',
    frameworkId: 'f1' as FrameworkId,
    requests: [{ resources: UNIT, count: 3, attributes: {}, maxPerAgent: 1 }],
  });
  const step = bench.registerAgent('a1');
  expect(eventsOf(step)).toContainEqual(
    expect.objectContaining({
      type: 'allocation.refused',
      message: expect.stringMatching(/1 more may be there; nothing of this round is offered$/),
    }),
  );
  expect(bench.state.offers.size).toBe(0);
});
