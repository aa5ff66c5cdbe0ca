import { describe, expect, test } from '@jest/globals';
import { dominantShare } from '../../../master/core/allocator/shares.ts';
import type { ResourceRequest } from '../../../protocol/task.ts';
import { amount, frameworkIdOf, taskInfo } from '../../support/builders.ts';
import { createMasterBench, type MasterBench } from '../../support/master-bench.ts';

function need(
  cpus: number,
  memMib: number,
  count = 1000,
  attributes: Record<string, string> = {},
): ResourceRequest {
  return { resources: amount(cpus, memMib), count, attributes };
}

/** States a demand for frameworks that are there already; agents come afterwards, so that nothing is offered yet. */
function request(bench: MasterBench, frameworkId: string, ...requests: ResourceRequest[]): void {
  bench.say(`framework:${frameworkId}`, {
    type: 'RequestResources',
    frameworkId: frameworkIdOf(frameworkId),
    requests,
  });
}

/** A bench with frameworks that want these, in this order, and no agent. */
function benchWith(demands: Record<string, ResourceRequest[] | undefined>): MasterBench {
  const bench = createMasterBench();
  for (const [frameworkId, requests] of Object.entries(demands)) {
    bench.registerFramework(frameworkId);
    if (requests) request(bench, frameworkId, ...requests);
  }
  return bench;
}

describe('dominant shares', () => {
  test('are the largest fraction of any resource', () => {
    expect(dominantShare(amount(3, 1), amount(9, 18))).toBeCloseTo(1 / 3);
    expect(dominantShare(amount(1, 4), amount(9, 18))).toBeCloseTo(2 / 9);
  });

  test('leave out a resource of which the cluster has none', () => {
    expect(dominantShare(amount(1, 4), amount(0, 16))).toBeCloseTo(1 / 4);
  });

  test('are equalized: the example of the paper', () => {
    // Ghodsi et al., NSDI 2011, section 4.1: 9 CPUs and 18 GB; a task of A needs <1, 4>, one of B <3, 1>.
    //   A: 3 tasks <3, 12>, dominant share 12/18 = 2/3 (memory)
    //   B: 2 tasks <6,  2>, dominant share  6/9  = 2/3 (CPU)
    const bench = benchWith({ A: [need(1, 4)], B: [need(3, 1)] });
    bench.registerAgent('a1', { resources: amount(9, 18) });
    expect([bench.offersOf('A'), bench.offersOf('B')]).toEqual([['a1 3 12'], ['a1 6 2']]);
  });

  test('count tasks that run: who has more waits until the other has caught up', () => {
    const bench = benchWith({ A: [need(1, 128)] });
    bench.registerAgent('a1', { resources: amount(4, 4096) });
    // Cluster 4 cores.  A runs 3 of 4 -> share 3/4.  B has nothing -> share 0.
    const tasks = ['t1', 't2', 't3'].map((taskId) => taskInfo(taskId));
    bench.launch('A', bench.offerOf('A').offerId, tasks);
    bench.registerFramework('B');
    request(bench, 'B', need(1, 128));
    bench.decline('A', bench.offerOf('A').offerId, 0);
    // One core is free: A 3/4, B 0 -> B.
    expect([bench.offersOf('A'), bench.offersOf('B')]).toEqual([[], ['a1 1 128']]);
  });

  test('count offers that are out: an agent that comes goes to who holds nothing', () => {
    const bench = benchWith({ A: undefined });
    bench.registerAgent('a1');
    bench.registerFramework('B');
    // A holds an offer of a1: share 4/8.  B: 0.
    bench.registerAgent('a2');
    expect([bench.offersOf('A'), bench.offersOf('B')]).toEqual([['a1 4 8192'], ['a2 4 8192']]);
  });

  test('that are equal go by the order of registration', () => {
    const bench = benchWith({ B: undefined });
    bench.wait(1);
    bench.registerFramework('A');
    bench.registerAgent('a1');
    expect([bench.offersOf('A'), bench.offersOf('B')]).toEqual([[], ['a1 4 8192']]);
  });
});

describe('a framework that says what it needs', () => {
  test('is offered that, and no more', () => {
    const bench = benchWith({ A: [need(0.5, 256, 3)] });
    bench.registerAgent('a1');
    expect(bench.offersOf('A')).toEqual(['a1 1.5 768']);
  });

  test('is offered no more while what it was offered is not answered', () => {
    const bench = benchWith({ A: [need(1, 256, 2)] });
    bench.registerAgent('a1', { resources: amount(1, 256) });
    bench.registerAgent('a2', { resources: amount(4, 4096) });
    bench.registerAgent('a3', { resources: amount(4, 4096) });
    expect(bench.offersOf('A')).toEqual(['a1 1 256', 'a2 1 256']);
  });

  test('is not bothered with an agent where not one unit fits', () => {
    const bench = benchWith({ A: [need(2, 256)] });
    bench.registerAgent('a1', { resources: amount(1.9, 65_536) });
    expect(bench.offersOf('A')).toEqual([]);
  });

  test('is offered only agents that have the attributes', () => {
    const bench = benchWith({ A: [need(1, 256, 9, { rack: 'r2' })] });
    bench.registerAgent('a1', { attributes: { rack: 'r1' } });
    bench.registerAgent('a2', { attributes: { rack: 'r2', disk: 'ssd' } });
    bench.registerAgent('a3');
    expect(bench.offersOf('A')).toEqual(['a2 4 1024']);
  });

  test('is not offered an agent for an attribute that every object has', () => {
    const bench = benchWith({ A: [need(1, 256, 9, { constructor: 'x' })] });
    bench.registerAgent('a1');
    expect(bench.offersOf('A')).toEqual([]);
  });

  test('has an offer of one rack not counted towards what it needs in another', () => {
    const bench = benchWith({ A: [need(1, 256, 1, { rack: 'r2' }), need(1, 256, 1)] });
    bench.registerAgent('a1', { attributes: { rack: 'r1' }, resources: amount(1, 256) });
    bench.registerAgent('a2', { attributes: { rack: 'r2' } });
    expect(bench.offersOf('A')).toEqual(['a1 1 256', 'a2 1 256']);
  });

  test('of two sizes is offered both on one agent', () => {
    const bench = benchWith({ A: [need(2, 1024, 1), need(0.5, 128, 2)] });
    bench.registerAgent('a1');
    expect(bench.offersOf('A')).toEqual(['a1 3 1280']);
  });

  test('and needs nothing is offered nothing', () => {
    const bench = benchWith({ A: [] });
    bench.registerAgent('a1');
    expect(bench.offersOf('A')).toEqual([]);
  });

  test('and asks for nothing of anything is not sent empty offers', () => {
    const bench = benchWith({ A: [need(0, 0, 5)] });
    bench.registerAgent('a1');
    expect(bench.offersOf('A')).toEqual([]);
  });

  test('replaces what it said before', () => {
    const bench = benchWith({ A: [need(1, 256, 1)] });
    request(bench, 'A', need(2, 256, 1));
    bench.registerAgent('a1');
    expect(bench.offersOf('A')).toEqual(['a1 2 256']);
  });

  test('leaves the rest of an agent to others', () => {
    const bench = benchWith({ A: [need(1, 1024, 1)], B: undefined });
    bench.registerAgent('a1');
    expect([bench.offersOf('A'), bench.offersOf('B')]).toEqual([['a1 1 1024'], ['a1 3 7168']]);
  });
});

describe('an agent that a framework has declined', () => {
  /** A wants one unit, and has just declined a1, which is all that there is. */
  function benchWithRefusal(units: number): MasterBench {
    const bench = benchWith({ A: [need(1, 256, units)] });
    bench.registerAgent('a1', { resources: amount(4, 4096) });
    bench.decline('A', bench.offerOf('A').offerId, 60_000);
    return bench;
  }

  test('does not keep the framework from another agent in the same round', () => {
    const bench = benchWithRefusal(1);
    bench.registerAgent('a2', { resources: amount(4, 4096) });
    bench.registerAgent('a3', { resources: amount(4, 4096) });
    expect(bench.offersOf('A')).toEqual(['a2 1 256']);
  });

  test('does not keep the framework from a2, wherever the round begins', () => {
    const bench = benchWithRefusal(2);
    bench.registerAgent('a2', { resources: amount(1, 256) });
    bench.decline('A', bench.offerOf('A').offerId, 0);
    expect(bench.offersOf('A')).toEqual(['a2 1 256']);
  });

  test('is offered again when the framework needs more there than it has declined', () => {
    const bench = benchWithRefusal(2);
    request(bench, 'A', need(1, 256, 3));
    expect(bench.offersOf('A')).toEqual(['a1 3 768']);
  });

  test('is left to the others if its own part would be within what it declined', () => {
    const bench = benchWithRefusal(2);
    bench.silence('agent:a1');
    request(bench, 'A', need(1, 256, 4));
    bench.registerFramework('B');
    request(bench, 'B', need(1, 256, 4));
    // Alone A would get 4 units of a1. With B it would get 2, which it has declined: B gets all of them.
    bench.registerAgent('a1', { session: 's2', resources: amount(4, 4096) });
    expect([bench.offersOf('A'), bench.offersOf('B')]).toEqual([[], ['a1 4 1024']]);
  });
});

describe('a framework that says nothing', () => {
  test('is offered all that an agent has free', () => {
    const bench = benchWith({ A: undefined });
    bench.registerAgent('a1');
    bench.registerAgent('a2', { resources: amount(2, 1024) });
    expect(bench.offersOf('A')).toEqual(['a1 4 8192', 'a2 2 1024']);
  });

  test('shares the agents with another that says nothing', () => {
    const bench = createMasterBench();
    for (const agentId of ['a1', 'a2', 'a3', 'a4']) bench.registerAgent(agentId);
    bench.registerFramework('A');
    bench.registerFramework('B');
    // All agents are out to A; when it gives them back (and takes none for a while), they go round.
    for (const offerId of [...bench.state.offers.keys()]) bench.decline('A', offerId, 1000);
    expect(bench.offersOf('B')).toEqual(['a1 4 8192', 'a2 4 8192', 'a3 4 8192', 'a4 4 8192']);
  });
});

test('less than the smallest task is not offered', () => {
  const bench = benchWith({ A: undefined });
  bench.registerAgent('a1', { resources: { cpuMillis: 9, memMib: 65_536 } });
  bench.registerAgent('a2', { resources: { cpuMillis: 4000, memMib: 3 } });
  expect(bench.offersOf('A')).toEqual([]);
});

test('work spreads: each round begins at another agent', () => {
  const bench = benchWith({ A: [] });
  for (const agentId of ['a1', 'a2', 'a3']) bench.registerAgent(agentId);
  const places: string[] = [];
  for (const taskId of ['t1', 't2', 't3']) {
    request(bench, 'A', need(1, 128, 1));
    const { offerId, agentId } = bench.offerOf('A');
    places.push(agentId);
    request(bench, 'A');
    bench.launch('A', offerId, [taskInfo(taskId)]);
  }
  expect(new Set(places).size).toBe(3);
});
