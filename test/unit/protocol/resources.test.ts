import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  addResources,
  AMOUNT_MAX,
  areEqual,
  CPU_MILLIS_MAX,
  fits,
  formatResources,
  isEmpty,
  MEM_MIB_MAX,
  NO_RESOURCES,
  Resources,
  scaleResources,
  subtractResources,
  sumResources,
  unitsIn,
} from '../../../protocol/resources.ts';
import { amount } from '../../support/builders.ts';

/** As functions make them: without a name of what there is none of. */
const anyOthers = fc.dictionary(
  fc.constantFrom('disk', 'gpus', 'ports'),
  fc.integer({ min: 1, max: AMOUNT_MAX }),
  { minKeys: 1 },
);
const anyResources = fc.record(
  {
    cpuMillis: fc.integer({ min: 0, max: CPU_MILLIS_MAX }),
    memMib: fc.integer({ min: 0, max: MEM_MIB_MAX }),
    others: anyOthers,
  },
  { requiredKeys: ['cpuMillis', 'memMib'], noNullPrototype: true },
);

describe('sums', () => {
  test('are whole: ten tenths of a core are a core', () => {
    expect(sumResources(Array.from({ length: 10 }, () => amount(0.1, 1)))).toEqual(amount(1, 10));
  });

  test('of nothing are nothing', () => {
    expect(sumResources([])).toEqual(NO_RESOURCES);
  });

  test('do not depend on the order, and are taken apart again exactly', () => {
    fc.assert(
      fc.property(fc.array(anyResources), anyResources, (all, one) => {
        const sum = sumResources([...all, one]);
        expect(sumResources([one, ...all.toReversed()])).toEqual(sum);
        expect(addResources(subtractResources(sum, one), one)).toEqual(sum);
        expect(subtractResources(sum, one)).toEqual(sumResources(all));
      }),
    );
  });
});

describe('fits', () => {
  test('is asked of each resource alone', () => {
    expect(fits(amount(1, 100), amount(2, 99))).toBe(false);
  });

  test('agrees with what is left: nothing is negative', () => {
    fc.assert(
      fc.property(anyResources, anyResources, (need, have) => {
        const left = subtractResources(have, need);
        const all = [left.cpuMillis, left.memMib, ...Object.values(left.others ?? {})];
        expect(fits(need, have)).toBe(all.every((amountLeft) => amountLeft >= 0));
      }),
    );
  });
});

describe('unitsIn', () => {
  test('counts whole units of the scarcer resource', () => {
    expect(unitsIn(amount(1, 4), amount(9, 18))).toBe(4);
  });

  test('is 0 for an agent that is over-committed', () => {
    expect(unitsIn(amount(1, 1), { cpuMillis: -500, memMib: 10 })).toBe(0);
  });

  test('of nothing are endless', () => {
    expect(unitsIn(NO_RESOURCES, amount(1, 1))).toBe(Infinity);
  });

  test('is the largest number of units that fits', () => {
    const need = fc.record({
      cpuMillis: fc.integer({ min: 1, max: CPU_MILLIS_MAX }),
      memMib: fc.integer({ min: 0, max: MEM_MIB_MAX }),
    });
    fc.assert(
      fc.property(need, anyResources, (unit, have) => {
        const units = unitsIn(unit, have);
        expect(fits(scaleResources(unit, units), have)).toBe(true);
        expect(fits(scaleResources(unit, units + 1), have)).toBe(false);
      }),
    );
  });
});

test('a vector with some of one resource is not empty', () => {
  expect([isEmpty(amount(0, 1)), isEmpty(amount(0, 0)), isEmpty(amount(-1, 0))]).toEqual([
    false,
    true,
    true,
  ]);
});

test('vectors are equal if every component is', () => {
  expect([areEqual(amount(1, 2), amount(1, 2)), areEqual(amount(1, 2), amount(1, 3))]).toEqual([
    true,
    false,
  ]);
});

test('people read cores and sizes', () => {
  expect(formatResources(amount(0.5, 1536))).toBe('0.5 cpus, 1.5G');
});

test.each([
  ['a fraction', { cpuMillis: 0.5, memMib: 1 }],
  ['less than nothing', { cpuMillis: -1, memMib: 1 }],
  ['more than a node can have', { cpuMillis: CPU_MILLIS_MAX + 1, memMib: 1 }],
  ['not a number', { cpuMillis: '1', memMib: 1 }],
  ['missing', { cpuMillis: 1 }],
])('%s is refused on the wire', (_title, value) => {
  expect(Resources.safeParse(value).success).toBe(false);
});
