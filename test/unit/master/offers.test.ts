import { describe, expect, test } from '@jest/globals';
import { setAgent } from '../../../master/core/books.ts';
import { createMasterState } from '../../../master/core/state.ts';
import { offerResources, step } from '../../../master/core/step.ts';
import type { Message } from '../../../protocol/messages.ts';
import {
  agentInfo,
  amount,
  frameworkIdOf,
  frameworkInfo,
  offerIdOf,
  sessionOf,
  taskInfo,
  agentIdOf,
} from '../../support/builders.ts';
import {
  createMasterBench,
  events,
  eventsOf,
  sent,
  type MasterBench,
} from '../../support/master-bench.ts';

const frameworkId = frameworkIdOf('f1');

/** Framework f1 holds an offer of all of agent a1: 4 cores, 8192 MiB. */
function benchWithOffer(): MasterBench {
  const bench = createMasterBench();
  bench.registerAgent('a1');
  bench.registerFramework('f1');
  return bench;
}

describe('an offer', () => {
  test('says whose it is, where, what, and how long', () => {
    const bench = createMasterBench();
    bench.registerAgent('a1', { hostname: 'node7', attributes: { rack: 'r1' } });
    const [message] = sent(bench.registerFramework('f1'), 'framework:f1', 'ResourceOffers');
    expect(message?.offers).toEqual([
      {
        offerId: 'o1.t.1',
        frameworkId: 'f1',
        role: '*',
        agentId: 'a1',
        hostname: 'node7',
        attributes: { rack: 'r1' },
        resources: amount(4, 8192),
        executorIds: [],
        expiresAtMs: 1_030_000,
      },
    ]);
  });

  test('of a new leader never has the id of an old one', () => {
    const bench = benchWithOffer();
    const next = bench.failOver();
    next.registerAgent('a2');
    expect([...next.state.offers.keys()]).toEqual(['o1.t.1', 'o2.t.1']);
  });

  test('that another leader made is still good', () => {
    const next = benchWithOffer().failOver();
    next.launch('f1', 'o1.t.1', [taskInfo('t1')]);
    expect(next.task('f1', 't1')?.state).toBe('TASK_STAGING');
  });

  test('that is held for too long is rescinded, and not made again at once', () => {
    const bench = benchWithOffer();
    expect(events(bench.wait(29_999))).toEqual([]);
    const effects = bench.wait(1);
    expect(eventsOf(effects)).toMatchObject([
      { type: 'offer.rescinded', reason: 'offer timeout: neither accepted nor declined' },
    ]);
    expect(sent(effects, 'framework:f1', 'RescindResourceOffer')).toHaveLength(1);
    expect(bench.offersOf('f1')).toEqual([]);
    bench.wait(29_999);
    expect(bench.offersOf('f1')).toEqual([]);
    bench.wait(1);
    expect(bench.offersOf('f1')).toEqual(['a1 4 8192']);
    // Not answered again: twice as long.
    bench.wait(30_000);
    bench.wait(59_999);
    expect(bench.offersOf('f1')).toEqual([]);
    bench.wait(1);
    expect(bench.offersOf('f1')).toEqual(['a1 4 8192']);
  });

  test('that timed out keeps none from a framework that answers again', () => {
    const bench = benchWithOffer();
    bench.wait(30_000);
    expect(bench.offersOf('f1')).toEqual([]);
    bench.say('framework:f1', { type: 'ReviveOffers', frameworkId });
    expect(bench.offersOf('f1')).toEqual(['a1 4 8192']);
  });

  test('that timed out goes to another framework that waits', () => {
    const bench = benchWithOffer();
    bench.registerFramework('f2');
    expect(bench.offersOf('f2')).toEqual([]);
    bench.wait(30_000);
    expect([bench.offersOf('f1'), bench.offersOf('f2')]).toEqual([[], ['a1 4 8192']]);
  });

  test('keeps its deadline over a failover of the master', () => {
    const bench = benchWithOffer();
    bench.wait(20_000);
    const next = bench.failOver();
    expect(events(next.wait(10_000))).toContain('offer.rescinded');
  });
});

describe('declined resources', () => {
  test('are not offered to the same framework before the filter expires', () => {
    const bench = benchWithOffer();
    bench.decline('f1', 'o1.t.1', 5000);
    bench.wait(4999);
    expect(bench.offersOf('f1')).toEqual([]);
    bench.wait(1);
    expect(bench.offersOf('f1')).toEqual(['a1 4 8192']);
  });

  test('are refused for 5 s unless the framework says how long', () => {
    const bench = benchWithOffer();
    bench.decline('f1', 'o1.t.1');
    bench.wait(4999);
    expect(bench.offersOf('f1')).toEqual([]);
    bench.wait(1);
    expect(bench.offersOf('f1')).toEqual(['a1 4 8192']);
  });

  test('with a filter of 0 are offered again at once', () => {
    const bench = benchWithOffer();
    bench.decline('f1', 'o1.t.1', 0);
    expect(bench.offersOf('f1')).toEqual(['a1 4 8192']);
  });

  test('are offered to others at once', () => {
    const bench = benchWithOffer();
    bench.registerFramework('f2');
    bench.decline('f1', 'o1.t.1', 5000);
    expect(bench.offersOf('f2')).toEqual(['a1 4 8192']);
  });

  test('are offered again when there is more of them', () => {
    const bench = benchWithOffer();
    bench.decline('f1', 'o1.t.1', 60_000);
    bench.registerAgent('a1', { session: 's2', resources: amount(5, 8192) });
    expect(bench.offersOf('f1')).toEqual(['a1 5 8192']);
  });

  test('are offered again after a revive', () => {
    const bench = benchWithOffer();
    bench.decline('f1', 'o1.t.1', 60_000);
    bench.say('framework:f1', { type: 'ReviveOffers', frameworkId });
    expect(bench.offersOf('f1')).toEqual(['a1 4 8192']);
  });

  test('are offered again by the next leader, which may be told again', () => {
    const bench = benchWithOffer();
    bench.decline('f1', 'o1.t.1', 60_000);
    const next = bench.failOver();
    next.wait(1000);
    expect(next.offersOf('f1')).toEqual(['a1 4 8192']);
  });

  test('of another framework stay with it', () => {
    const bench = benchWithOffer();
    bench.registerFramework('f2');
    expect(events(bench.decline('f2', 'o1.t.1'))).toEqual([]);
    expect(bench.offersOf('f1')).toEqual(['a1 4 8192']);
  });

  test('of an offer that is gone are nothing', () => {
    expect(events(benchWithOffer().decline('f1', 'o9.t.9'))).toEqual([]);
  });

  test('for longer than a year are refused for a year', () => {
    const bench = benchWithOffer();
    bench.decline('f1', 'o1.t.1', 315_360_000_000);
    bench.wait(31_536_000_000);
    expect(bench.offersOf('f1')).toEqual(['a1 4 8192']);
  });

  test('are remembered eight times at most of one agent', () => {
    const bench = benchWithOffer();
    for (let index = 0; index < 20; index += 1) {
      bench.decline('f1', bench.offerOf('f1').offerId, 60_000);
      bench.registerAgent('a1', {
        session: `s${String(index)}x`,
        resources: amount(4, 8193 + index),
      });
    }
    const filters = bench.state.frameworks.get(frameworkId)?.filters;
    expect(filters?.get(agentIdOf('a1'))?.length).toBeLessThanOrEqual(8);
  });
});

test('a launch without tasks is a decline', () => {
  const bench = benchWithOffer();
  expect(events(bench.launch('f1', 'o1.t.1', [], 5000))).toEqual(['offer.declined']);
  expect(bench.offersOf('f1')).toEqual([]);
});

test('several offers are declined by one message', () => {
  const bench = benchWithOffer();
  bench.registerAgent('a2');
  const effects = bench.say('framework:f1', {
    type: 'DeclineOffers',
    frameworkId,
    offerIds: [offerIdOf('o1.t.1'), offerIdOf('o1.t.2'), offerIdOf('o1.t.1')],
  });
  expect(events(effects)).toEqual(['offer.declined', 'offer.declined']);
});

describe('a framework that suppresses offers', () => {
  test('gets none, and keeps those that it has', () => {
    const bench = benchWithOffer();
    bench.say('framework:f1', { type: 'SuppressOffers', frameworkId });
    bench.registerAgent('a2');
    expect(bench.offersOf('f1')).toEqual(['a1 4 8192']);
  });

  test('gets them again after a revive', () => {
    const bench = createMasterBench();
    bench.registerFramework('f1');
    bench.say('framework:f1', { type: 'SuppressOffers', frameworkId });
    bench.registerAgent('a1');
    bench.say('framework:f1', { type: 'ReviveOffers', frameworkId });
    expect(bench.offersOf('f1')).toEqual(['a1 4 8192']);
  });

  test('gets them again when it asks for some', () => {
    const bench = createMasterBench();
    bench.registerFramework('f1');
    bench.say('framework:f1', { type: 'SuppressOffers', frameworkId });
    bench.registerAgent('a1');
    const requests = [{ resources: amount(1, 128), count: 1, attributes: {} }];
    bench.say('framework:f1', { type: 'RequestResources', frameworkId, requests });
    expect(bench.offersOf('f1')).toEqual(['a1 1 128']);
  });
});

test('more offers than one call can answer come in several messages', () => {
  const state = createMasterState({ masterId: 'm1', epoch: 1, term: 't' });
  for (let index = 0; index < 1001; index += 1) {
    const info = agentInfo(`a${String(index)}`);
    const session = sessionOf('s1');
    setAgent(state, {
      info,
      session,
      newestSession: session,
      node: 'n1',
      state: 'active',
      registeredAtMs: 0,
      writtenOff: [],
    });
  }
  const message: Message = {
    type: 'RegisterFramework',
    framework: frameworkInfo('f1'),
    session: sessionOf('s1'),
  };
  step(state, { type: 'message', from: 'framework:f1', session: 's1', message }, 0);
  const messages = sent(offerResources(state, 0), 'framework:f1', 'ResourceOffers');
  expect(messages.map(({ offers }) => offers.length)).toEqual([1000, 1]);
});
