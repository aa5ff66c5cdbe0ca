/** The checkers are checked: a cluster with a mistake in it must not get through. */
import { describe, expect, test } from '@jest/globals';
import { MUTATIONS } from './mutations.ts';
import { simulate } from './simulate.ts';

/** Far more than any of them needs. */
const SEEDS_MAX = 100;

describe('it is noticed when', () => {
  for (const { name, seams } of MUTATIONS) {
    test(name, () => {
      let violation: string | undefined;
      for (let seed = 1; seed <= SEEDS_MAX && violation === undefined; seed += 1) {
        ({ violation } = simulate(seed, seams));
      }
      expect(violation).toBeDefined();
    });
  }
});
