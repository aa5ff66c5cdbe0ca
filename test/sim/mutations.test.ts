/** The checkers are checked: a cluster with a mistake in it must not get through. */
import { describe, expect, test } from '@jest/globals';
import { MUTATIONS } from './mutations.ts';
import { simulate } from './simulate.ts';

/** More than any of them needs. */
const SEEDS_MAX = 400;

describe('it is noticed when', () => {
  for (const { name, seams, wishes } of MUTATIONS) {
    test(
      name,
      () => {
        let violation: string | undefined;
        for (let seed = 1; seed <= SEEDS_MAX && violation === undefined; seed += 1) {
          ({ violation } = simulate(seed, { seams, wishes }));
        }
        expect(violation).toBeDefined();
      },
      120_000,
    );
  }
});

test('and nothing of that is noticed of the parts of production', () => {
  const wishes = MUTATIONS.flatMap((mutation) => mutation.wishes ?? []);
  const violations = wishes.flatMap((wish) => simulate(1, { wishes: wish }).violation ?? []);
  expect(violations).toEqual([]);
});
