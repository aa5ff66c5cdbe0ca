/** The cluster under faults, some seeds of it. Many more, or one again: `npm run sim`. */
import { writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { simulate } from './simulate.ts';

const SEEDS = 50;
/** A run takes some 50 ms; slow machines take ten times that. */
const MS_PER_SEED = 1000;
const TAIL_LINES = 60;

/** Why a run failed, its last events, and where all of them are: it is run again, and logged. */
function report(seed: number): string {
  const { violation, lines } = simulate(seed, { isLogged: true });
  const path = join(tmpdir(), `kaon-sim-${String(seed)}.log`);
  writeFileSync(path, `${lines.join('\n')}\n`);
  const tail = lines.slice(-TAIL_LINES).join('\n');
  return `seed ${String(seed)}: ${String(violation)}\n\n${tail}\n\nall events: ${path}\nagain: npm run sim -- --seed ${String(seed)}`;
}

describe('a cluster under faults', () => {
  test(
    `keeps its promises in ${String(SEEDS)} runs`,
    () => {
      let tasks = 0;
      let executors = 0;
      let losses = 0;
      for (let seed = 1; seed <= SEEDS; seed += 1) {
        const outcome = simulate(seed);
        if (outcome.violation !== undefined) throw new Error(report(seed));
        tasks += outcome.tasks;
        executors += outcome.executors;
        losses += outcome.losses;
      }
      // Runs in which nothing happens would keep every promise.
      expect(tasks).toBeGreaterThan(SEEDS * 20);
      expect(executors).toBeGreaterThan(SEEDS * 3);
      expect(losses).toBeGreaterThan(SEEDS / 2);
    },
    10_000 + SEEDS * MS_PER_SEED,
  );

  test('does the same again with the same seed, event by event, logged or not', () => {
    for (const seed of [1, 2, 3]) {
      const { digest, lines } = simulate(seed, { isLogged: true });
      expect(simulate(seed)).toMatchObject({ digest, lines: [] });
      expect(lines.length).toBeGreaterThan(100);
    }
  });

  test('does something else with another seed', () => {
    expect(simulate(1).digest).not.toBe(simulate(2).digest);
  });

  test('keeps its promises for hours by the times of production', () => {
    const { violation, tasks, executors, simulatedMs } = simulate(1, { hours: 1 });
    expect(violation).toBeUndefined();
    expect(tasks).toBeGreaterThan(50);
    expect(executors).toBeGreaterThan(2);
    expect(simulatedMs).toBeGreaterThan(3_600_000);
  }, 120_000);
});
