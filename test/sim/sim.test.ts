/**
 * The cluster under faults, one seed after the other. `npm run sim -- --seed N` runs one again, `--seeds N` many;
 * the variables that it sets are read here because jest has no arguments of its own.
 */
import { writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import type { Outcome } from './simulate.ts';
import { simulate } from './simulate.ts';

const SEEDS_DEFAULT = 50;
/** A run takes some 25 ms; slow machines take ten times that. */
const MS_PER_SEED = 1000;
const TAIL_LINES = 60;

const { KAON_SIM_SEED, KAON_SIM_SEEDS } = process.env;
const first = Number(KAON_SIM_SEED ?? 1);
const count = Number(KAON_SIM_SEEDS ?? (KAON_SIM_SEED === undefined ? SEEDS_DEFAULT : 1));

/** Why a run failed, its last events, and where all of them are. */
function report({ seed, violation, lines }: Outcome): string {
  const path = join(tmpdir(), `kaon-sim-${seed}.log`);
  writeFileSync(path, `${lines.join('\n')}\n`);
  const tail = lines.slice(-TAIL_LINES).join('\n');
  return `seed ${seed}: ${violation}\n\n${tail}\n\nall events: ${path}\nagain: npm run sim -- --seed ${seed}`;
}

describe('a cluster under faults', () => {
  test(
    `keeps its promises in ${count} runs from seed ${first}`,
    () => {
      let tasks = 0;
      for (let seed = first; seed < first + count; seed += 1) {
        const outcome = simulate(seed);
        if (outcome.violation !== undefined) throw new Error(report(outcome));
        tasks += outcome.tasks;
      }
      // Runs in which nothing happens would keep every promise.
      expect(tasks).toBeGreaterThan(count === 1 ? -1 : count * 10);
    },
    10_000 + count * MS_PER_SEED,
  );

  test('does the same again with the same seed, event by event', () => {
    for (const seed of [first, first + 1, first + 2]) {
      expect(simulate(seed).digest).toBe(simulate(seed).digest);
    }
  });

  test('does something else with another seed', () => {
    expect(simulate(first).digest).not.toBe(simulate(first + 1).digest);
  });
});
