/**
 * Laws of every allocator that comes with Kaon, and of fairness in the default one. `KAON_ALLOCATOR_RUNS` makes it longer; ten
 * thousand take some minutes.
 */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { problemOfGrants } from '../../master/core/allocator/check.ts';
import { allocateInOrder } from '../../master/core/allocator/fifo.ts';
import { allocateHierarchically } from '../../master/core/allocator/hierarchical.ts';
import type { AllocationRound, Allocator, Grant } from '../../master/core/allocator/port.ts';
import { dominantShare } from '../../master/core/allocator/shares.ts';
import type { Resources } from '../../protocol/resources.ts';
import {
  addResources,
  fits,
  NO_RESOURCES,
  scaleResources,
  subtractResources,
  sumResources,
  unitsIn,
} from '../../protocol/resources.ts';
import { rolePath } from '../../protocol/roles.ts';
import type { Said, Scene, Wanting } from '../support/rounds.ts';
import { roundOf } from '../support/rounds.ts';

const RUNS = { numRuns: Number(process.env['KAON_ALLOCATOR_RUNS'] ?? 500) };
const ROLES = ['*', 'a', 'a/b', 'a/c', 'd'];

const anyAmount = (most: number): fc.Arbitrary<Resources> =>
  fc.record({
    cpuMillis: fc.integer({ min: 0, max: most }),
    memMib: fc.integer({ min: 0, max: most }),
  });
const anyUnit = fc.record({
  cpuMillis: fc.integer({ min: 20, max: 400 }),
  memMib: fc.integer({ min: 20, max: 400 }),
});
const anyQuota = fc.oneof(
  fc.record({ cpuMillis: fc.integer({ min: 0, max: 3000 }) }),
  fc.record({ memMib: fc.integer({ min: 0, max: 3000 }) }),
  anyAmount(3000),
);

const anyWanting: fc.Arbitrary<Wanting> = fc.record(
  {
    role: fc.constantFrom(...ROLES),
    holds: anyAmount(300),
    needs: fc.array(
      fc.record(
        {
          resources: anyUnit,
          count: fc.integer({ min: 1, max: 20 }),
          attributes: fc.constantFrom({}, {}, { rack: 'r1' }),
          maxPerAgent: fc.integer({ min: 1, max: 5 }),
          notOn: fc.constantFrom([], ['a1'], ['a2', 'a3']),
          placement: fc.constantFrom('spread' as const, 'pack' as const),
          gang: fc.boolean(),
        },
        { requiredKeys: ['resources', 'count', 'attributes'] },
      ),
      { minLength: 1, maxLength: 3 },
    ),
    registeredAtMs: fc.integer({ min: 0, max: 2 }),
    declined: fc.dictionary(fc.constantFrom('a1', 'a2', 'a3'), anyAmount(1500)),
  },
  { requiredKeys: ['role', 'holds', 'registeredAtMs'] },
);
const anySaid: fc.Arbitrary<Said> = fc.record(
  {
    weight: fc.constantFrom(0.5, 1, 2, 7),
    guarantee: anyQuota,
    limit: anyQuota,
    own: anyAmount(300),
  },
  { requiredKeys: [] },
);
const anyScene: fc.Arbitrary<Scene> = fc.record({
  agents: fc.dictionary(
    fc.constantFrom('a1', 'a2', 'a3', 'a4'),
    fc
      .tuple(anyAmount(2000), anyAmount(2000), fc.constantFrom({}, { rack: 'r1' }))
      .map(([free, more, attributes]) => ({ total: addResources(free, more), free, attributes })),
    { minKeys: 1 },
  ),
  frameworks: fc.dictionary(fc.constantFrom('f1', 'f2', 'f3', 'f4', 'f5'), anyWanting, {
    minKeys: 1,
  }),
  roles: fc.dictionary(fc.constantFrom(...ROLES), anySaid),
});

const allocators: [string, Allocator][] = [
  ['the hierarchical one', allocateHierarchically],
  ['the one that goes by registration', allocateInOrder],
];

/** What is not decided on: the order in which things were put into lists and maps. */
function turned(round: AllocationRound): AllocationRound {
  return {
    ...round,
    candidates: round.candidates.toReversed(),
    roles: new Map([...round.roles].toReversed()),
  };
}

function sorted(grants: readonly Grant[]): string[] {
  return grants.map((grant) => JSON.stringify(grant)).sort();
}

describe.each(allocators)('an allocator, %s,', (_name, allocate) => {
  test('never gives more than is free, nothing to nobody, and nothing beyond a limit', () => {
    fc.assert(
      fc.property(anyScene, (scene) => {
        const round = roundOf(scene);
        expect(problemOfGrants(round, allocate(round))).toBeUndefined();
      }),
      RUNS,
    );
  });

  test('decides the same, whatever the order of its input', () => {
    fc.assert(
      fc.property(anyScene, (scene) => {
        const round = roundOf(scene);
        expect(sorted(allocate(turned(round)))).toEqual(sorted(allocate(round)));
      }),
      RUNS,
    );
  });

  test('gives no framework more units than it needs, on no agent without the attributes, and nothing that it declined', () => {
    fc.assert(
      fc.property(anyScene, (scene) => {
        const round = roundOf(scene);
        for (const grant of allocate(round)) assertWanted(round, grant);
      }),
      RUNS,
    );
  });

  test('changes nothing of its input', () => {
    fc.assert(
      fc.property(anyScene, (scene) => {
        const round = roundOf(scene);
        const before = JSON.stringify([round, [...round.roles]]);
        allocate(round);
        expect(JSON.stringify([round, [...round.roles]])).toBe(before);
      }),
      RUNS,
    );
  });
});

/** All agents are in the round, and each framework needs one thing alone. */
const anyLoneNeeds = anyScene.map((scene): Scene => {
  const frameworks = Object.entries(scene.frameworks).map(([id, one]): [string, Wanting] => {
    const [wanting = {}] = [one].flat();
    return [id, { ...wanting, ...(wanting.needs && { needs: wanting.needs.slice(0, 1) }) }];
  });
  return { ...scene, frameworks: Object.fromEntries(frameworks) };
});

describe.each(allocators)('of a need, an allocator, %s,', (_name, allocate) => {
  test('gives a gang all units or none', () => {
    fc.assert(
      fc.property(anyLoneNeeds, (scene) => {
        const round = roundOf(scene);
        const grants = allocate(round);
        for (const { frameworkId, needs } of round.candidates) {
          const need = needs?.[0];
          if (!need?.gang) continue;
          const own = grants.filter((grant) => grant.frameworkId === frameworkId);
          const given = sumResources(own.map(({ resources }) => resources));
          if (own.length > 0) expect(given).toEqual(scaleResources(need.resources, need.count));
        }
      }),
      RUNS,
    );
  });

  test('gives no agent more units than may be there, and none to one that will not do', () => {
    fc.assert(
      fc.property(anyLoneNeeds, (scene) => {
        const round = roundOf(scene);
        for (const { frameworkId, agentId, resources } of allocate(round)) {
          const candidate = round.candidates.find((one) => one.frameworkId === frameworkId);
          const need = candidate?.needs?.[0];
          if (!need) continue;
          expect(need.notOn?.has(agentId) ?? false).toBe(false);
          expect(unitsIn(need.resources, resources)).toBeLessThanOrEqual(
            need.maxPerAgent ?? Infinity,
          );
        }
      }),
      RUNS,
    );
  });
});

describe('frameworks that want more than there is, on many agents', () => {
  test('end within one task of each other, whatever is given in pieces before', () => {
    fc.assert(
      fc.property(
        anyUnit,
        fc.integer({ min: 2, max: 12 }),
        fc.integer({ min: 50, max: 120 }),
        (unit, frameworks, agents) => {
          const round = roundOf({
            agents: Object.fromEntries(
              Array.from({ length: agents }, (_none, index) => [
                `a${String(index)}`,
                { cpuMillis: 1000, memMib: 1000 },
              ]),
            ),
            frameworks: Object.fromEntries(
              Array.from({ length: frameworks }, (_none, index) => [
                `f${String(index)}`,
                { needs: [{ resources: unit, count: 1_000_000 }] },
              ]),
            ),
          });
          const grants = allocateHierarchically(round);
          expect(problemOfGrants(round, grants)).toBeUndefined();
          const shares = round.candidates.map(({ frameworkId }) => {
            const own = grants.filter((grant) => grant.frameworkId === frameworkId);
            return dominantShare(sumResources(own.map(({ resources }) => resources)), round.total);
          });
          const spread = Math.max(...shares) - Math.min(...shares);
          expect(spread).toBeLessThanOrEqual(dominantShare(unit, round.total) + 1e-9);
        },
      ),
      RUNS,
    );
  });
});

/** Of a round of many agents, where most frameworks can use nothing of the end of any of them. */
const anyCrowd = fc.record({
  agents: fc.array(anyAmount(2000), { minLength: 40, maxLength: 70 }),
  units: fc.array(anyUnit, { minLength: 2, maxLength: 60 }),
  counts: fc.array(fc.constantFrom(1, 30, 1_000_000), { minLength: 60, maxLength: 60 }),
});

describe('frameworks that want more than there is, many of them, on many agents', () => {
  test('leave nothing of any agent that one of them could use', () => {
    fc.assert(
      fc.property(anyCrowd, ({ agents, units, counts }) => {
        const round = roundOf({
          agents: Object.fromEntries(agents.map((free, index) => [`a${String(index)}`, free])),
          frameworks: Object.fromEntries(
            units.map((resources, index) => [
              `f${String(index)}`,
              {
                role: ROLES[index % ROLES.length] ?? '*',
                needs: [{ resources, count: counts[index] ?? 1 }],
              },
            ]),
          ),
        });
        const grants = allocateHierarchically(round);
        expect(problemOfGrants(round, grants)).toBeUndefined();
        const wanting = round.candidates.flatMap(({ frameworkId, needs = [] }) => {
          const own = grants.filter((grant) => grant.frameworkId === frameworkId);
          return needs.filter(({ resources, count }) => {
            const given = unitsIn(resources, sumResources(own.map((grant) => grant.resources)));
            expect(given).toBeLessThanOrEqual(count);
            return given < count;
          });
        });
        for (const { agentId, free } of round.agents) {
          const given = grants.filter((grant) => grant.agentId === agentId);
          const left = subtractResources(free, sumResources(given.map((one) => one.resources)));
          expect(wanting.filter(({ resources }) => fits(resources, left))).toEqual([]);
        }
      }),
      // Each is a round of thousands of units.
      { numRuns: Math.ceil(RUNS.numRuns / 5) },
    );
  });
});

function assertWanted(round: AllocationRound, grant: Grant): void {
  const candidate = round.candidates.find(
    ({ frameworkId, role }) => frameworkId === grant.frameworkId && role === grant.role,
  );
  const agent = round.agents.find(({ agentId }) => agentId === grant.agentId);
  if (!candidate || !agent) throw new Error('a grant to nobody, or of nothing');
  expect(candidate.refuses(grant.agentId, grant.resources)).toBe(false);
  if (!candidate.needs) return;
  const usable = candidate.needs.filter(({ attributes }) =>
    Object.entries(attributes).every(([key, value]) => agent.attributes[key] === value),
  );
  const most = sumResources(
    usable.map(({ resources, count }) => ({
      cpuMillis: resources.cpuMillis * count,
      memMib: resources.memMib * count,
    })),
  );
  expect(fits(grant.resources, most)).toBe(true);
}

/** Frameworks that want without end, on one agent of 4000 and 4000. */
const anySaturated = (unit: fc.Arbitrary<Resources>): fc.Arbitrary<readonly Resources[]> =>
  fc.array(unit, { minLength: 2, maxLength: 6 });

function saturate(units: readonly Resources[], roles: Scene['roles'] = {}): Resources[] {
  const round = roundOf({
    agents: { a1: { cpuMillis: 4000, memMib: 4000 } },
    frameworks: Object.fromEntries(
      units.map((resources, index) => [
        `f${String(index)}`,
        { role: `r${String(index)}`, needs: [{ resources, count: 1_000_000 }] },
      ]),
    ),
    roles,
  });
  const grants = allocateHierarchically(round);
  return units.map((_unit, index) => {
    const own = grants.filter(({ frameworkId }) => frameworkId === `f${String(index)}`);
    return sumResources(own.map(({ resources }) => resources));
  });
}

describe('frameworks that want more than there is', () => {
  const total = { cpuMillis: 4000, memMib: 4000 };

  test('and have tasks of one size end within one task of each other', () => {
    fc.assert(
      fc.property(anyUnit, fc.integer({ min: 2, max: 6 }), (unit, count) => {
        const shares = saturate(Array.from({ length: count }, () => unit)).map((held) =>
          dominantShare(held, total),
        );
        const spread = Math.max(...shares) - Math.min(...shares);
        expect(spread).toBeLessThanOrEqual(dominantShare(unit, total) + 1e-9);
      }),
      RUNS,
    );
  });

  test('hold by weight what one of weight 1 holds, within one task', () => {
    fc.assert(
      fc.property(
        anyUnit,
        fc.array(fc.constantFrom(1, 2, 3), { minLength: 2, maxLength: 5 }),
        (unit, weights) => {
          const roles = Object.fromEntries(
            weights.map((weight, index) => [`r${String(index)}`, { weight }]),
          );
          const held = saturate(
            weights.map(() => unit),
            roles,
          );
          const levels = held.map(
            (one, index) => dominantShare(one, total) / (weights[index] ?? 1),
          );
          const spread = Math.max(...levels) - Math.min(...levels);
          expect(spread).toBeLessThanOrEqual(dominantShare(unit, total) + 1e-9);
        },
      ),
      RUNS,
    );
  });

  test('do not envy each other, but for one task of the other and what was left when none of their own fitted', () => {
    fc.assert(
      fc.property(anySaturated(anyUnit), (units) => {
        const held = saturate(units);
        for (const [index, unit] of units.entries()) {
          const own = unitsIn(unit, held[index] ?? NO_RESOURCES);
          for (const [one, other] of held.entries()) {
            const envied = subtractResources(other, units[one] ?? NO_RESOURCES);
            expect(unitsIn(unit, envied)).toBeLessThanOrEqual(own + 1);
          }
        }
      }),
      RUNS,
    );
  });

  test('are given what they would be given one task at a time', () => {
    fc.assert(
      fc.property(anySaturated(anyUnit), (units) => {
        expect(saturate(units)).toEqual(oneByOne(units, total));
      }),
      RUNS,
    );
  });
});

/** The algorithm of the paper, to the letter. */
function oneByOne(units: readonly Resources[], total: Resources): Resources[] {
  const held = units.map(() => NO_RESOURCES);
  let free = total;
  const live = new Set(units.keys());
  while (live.size > 0) {
    const [next = 0] = [...live].sort(
      (a, b) =>
        dominantShare(held[a] ?? NO_RESOURCES, total) -
          dominantShare(held[b] ?? NO_RESOURCES, total) || a - b,
    );
    const unit = units[next] ?? NO_RESOURCES;
    if (fits(unit, free)) {
      held[next] = addResources(held[next] ?? NO_RESOURCES, unit);
      free = subtractResources(free, unit);
    } else live.delete(next);
  }
  return held;
}

describe('a guarantee', () => {
  test('is met, within one task, when its framework wants it and there is enough for all', () => {
    fc.assert(
      fc.property(
        anyUnit,
        fc.array(fc.integer({ min: 0, max: 1300 }), { minLength: 1, maxLength: 3 }),
        fc.integer({ min: 0, max: 4 }),
        (unit, guarantees, others) => {
          const names = guarantees.map((_amount, index) => `g${String(index)}`);
          const round = roundOf({
            agents: { a1: { cpuMillis: 4000, memMib: 1_000_000_000 } },
            frameworks: Object.fromEntries([
              ...names.map(
                (role) => [role, { role, needs: [{ resources: unit, count: 1_000_000 }] }] as const,
              ),
              ...Array.from(
                { length: others },
                (_none, index) =>
                  [
                    `o${String(index)}`,
                    { role: 'others', needs: [{ resources: unit, count: 1_000_000 }] },
                  ] as const,
              ),
            ]),
            roles: Object.fromEntries(
              names.map((role, index) => [
                role,
                { guarantee: { cpuMillis: guarantees[index] ?? 0 } },
              ]),
            ),
          });
          const grants = allocateHierarchically(round);
          for (const [index, role] of names.entries()) {
            const own = grants.filter((grant) => rolePath(grant.role).includes(role));
            const { cpuMillis } = sumResources(own.map(({ resources }) => resources));
            expect(cpuMillis).toBeGreaterThan((guarantees[index] ?? 0) - unit.cpuMillis);
          }
        },
      ),
      RUNS,
    );
  });

  test('that nobody asks for stays free', () => {
    fc.assert(
      fc.property(anyScene, fc.integer({ min: 0, max: 4000 }), (scene, cpuMillis) => {
        const kept = { kept: { guarantee: { cpuMillis } } };
        const { roles: _roles, ...rest } = scene;
        const round = roundOf({ ...rest, roles: kept });
        const given = sumResources(allocateHierarchically(round).map(({ resources }) => resources));
        const left = subtractResources(round.free, given);
        if (given.cpuMillis > 0) expect(left.cpuMillis).toBeGreaterThanOrEqual(cpuMillis);
      }),
      RUNS,
    );
  });
});
