/**
 * A framework with a backlog beside frameworks that have nothing to do and keep what they are offered: the scenario of the
 * Tromino paper, and of the reports of offers that were hoarded. What the busy one holds of the cluster, with plain fairness
 * and with demand.
 */
import { describe, expect, test } from '@jest/globals';
import type { OfferRecord } from '../../../protocol/records.ts';
import { amount, frameworkIdOf, taskInfo } from '../../support/builders.ts';
import { createMasterBench, type MasterBench } from '../../support/master-bench.ts';

const AGENTS = 12;
const SECONDS = 60;

function request(bench: MasterBench, frameworkId: string, count: number): void {
  bench.say(`framework:${frameworkId}`, {
    type: 'RequestResources',
    frameworkId: frameworkIdOf(frameworkId),
    requests: count === 0 ? [] : [{ resources: amount(1, 128), count, attributes: {} }],
  });
}

/** Launches a task of one core for each core of its offers. */
function work(bench: MasterBench, frameworkId: string): void {
  for (const offer of [...bench.state.offers.values()]) {
    if (offer.frameworkId === frameworkId) bench.launch(frameworkId, offer.offerId, tasksOn(offer));
  }
}

function tasksOn({ offerId, resources }: OfferRecord): unknown[] {
  const cores = Math.floor(resources.cpuMillis / 1000);
  return Array.from({ length: cores }, (_none, index) =>
    taskInfo(`${offerId}-${String(index)}`, { resources: amount(1, 128) }),
  );
}

/**
 * Some idle frameworks register first, then the busy one, then agents of four cores; a minute goes by.
 *
 * @returns of all core seconds of that minute the share that the busy one had tasks on
 */
function shareOfBusy(idleStates: boolean, idleCount: number): number {
  const bench = createMasterBench();
  const idle = Array.from({ length: idleCount }, (_none, index) => `idle-${String(index)}`);
  for (const name of idle) {
    bench.registerFramework(name);
    if (idleStates) request(bench, name, 0);
  }
  bench.registerFramework('busy');
  request(bench, 'busy', 1000);
  for (let index = 0; index < AGENTS; index += 1) {
    bench.registerAgent(`a${String(index)}`, { resources: amount(4, 4096) });
  }
  let coreSeconds = 0;
  for (let second = 0; second < SECONDS; second += 1) {
    work(bench, 'busy');
    coreSeconds += (bench.state.frameworks.get(frameworkIdOf('busy'))?.used.cpuMillis ?? 0) / 1000;
    bench.wait(1000);
  }
  return coreSeconds / (AGENTS * 4 * SECONDS);
}

describe('a framework with a backlog', () => {
  test('has all of the cluster at once beside frameworks that say that they need nothing', () => {
    expect(shareOfBusy(true, 3)).toBe(1);
  });

  test('waits for what others hoard that do not say so, as long as an offer lasts, and has it then', () => {
    // Four frameworks share twelve agents of four cores: each is offered three of them, and the idle ones keep theirs for the
    // 30 s of an offer. Then the busy one has everything: (30 s * 1/4 + 30 s * 4/4) / 60 s = 0.625.
    const share = shareOfBusy(false, 3);
    expect(share).toBeGreaterThan(0.55);
    expect(share).toBeLessThan(0.7);
  });

  test('loses half of the cluster for as long as an offer lasts to a single framework that hoards', () => {
    // (30 s * 1/2 + 30 s * 1) / 60 s = 0.75.
    const share = shareOfBusy(false, 1);
    expect(share).toBeGreaterThan(0.7);
    expect(share).toBeLessThan(0.85);
  });

  test('is not starved by another with a larger backlog: they have half each', () => {
    const bench = createMasterBench();
    for (const [name, count] of [
      ['large', 1000],
      ['small', 24],
    ] as const) {
      bench.registerFramework(name);
      request(bench, name, count);
    }
    for (let index = 0; index < AGENTS; index += 1) {
      bench.registerAgent(`a${String(index)}`, { resources: amount(4, 4096) });
    }
    const cores = (name: string): number =>
      (bench.state.frameworks.get(frameworkIdOf(name))?.offered.cpuMillis ?? 0) / 1000;
    expect({ large: cores('large'), small: cores('small') }).toEqual({ large: 24, small: 24 });
  });
});
