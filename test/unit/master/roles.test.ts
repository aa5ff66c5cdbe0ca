import { describe, expect, test } from '@jest/globals';
import type { MasterEffect } from '../../../master/core/effects.ts';
import type { MessageOf } from '../../../protocol/messages.ts';
import { amount, frameworkIdOf, sessionOf, taskInfo } from '../../support/builders.ts';
import { createMasterBench, eventsOf, type MasterBench } from '../../support/master-bench.ts';

type Wish = Partial<Omit<MessageOf<'UpdateRole'>, 'type'>>;

/** Says it as an operator does. @returns what stands in the event log */
function update(bench: MasterBench, role: string, wish: Wish): string[] {
  const effects = bench.say('operator:me@here', {
    type: 'UpdateRole',
    requestId: sessionOf('r1'),
    role,
    force: false,
    ...wish,
  });
  return eventsOf(effects)
    .filter(({ type }) => type.startsWith('role.'))
    .map(({ type, message }) => `${type}: ${String(message)}`);
}

/** The words of rounds that were refused. */
function refusedIn(effects: readonly MasterEffect[]): string[] {
  const refused = eventsOf(effects).filter(({ type }) => type === 'allocation.refused');
  return refused.map(({ message }) => String(message));
}

function benchOf(...agents: [string, number, number][]): MasterBench {
  const bench = createMasterBench();
  for (const [agentId, cpus, memMib] of agents) {
    bench.registerAgent(agentId, { resources: amount(cpus, memMib) });
  }
  return bench;
}

describe('a role', () => {
  test('is given a weight, a guarantee and a limit, each alone', () => {
    const bench = benchOf(['a1', 8, 8192]);
    expect(update(bench, 'ci', { weight: 2 })).toEqual(['role.updated: weight 2']);
    expect(update(bench, 'ci', { limit: { cpuMillis: 4000 } })).toEqual([
      'role.updated: weight 2, limit 4 cpus',
    ]);
    expect(update(bench, 'ci', { guarantee: { memMib: 1024 } })).toEqual([
      'role.updated: weight 2, guarantee 1G, limit 4 cpus',
    ]);
    expect(update(bench, 'ci', { weight: null, guarantee: null, limit: null })).toEqual([
      'role.updated: no weight and no quota',
    ]);
  });

  test('keeps them over a failover of the master', () => {
    const bench = benchOf(['a1', 8, 8192]);
    update(bench, 'ci', { limit: { cpuMillis: 3000 } });
    const next = bench.failOver();
    next.registerFramework('f1', { role: 'ci' });
    expect(next.offersOf('f1')).toEqual(['a1 3 8192']);
  });

  test('has no guarantee beyond its limit', () => {
    const bench = benchOf(['a1', 8, 8192]);
    expect(
      update(bench, 'ci', {
        guarantee: { cpuMillis: 3000 },
        limit: { cpuMillis: 2000 },
        force: true,
      }),
    ).toEqual(['role.refused: role ci: its guarantee of 3 cpus is beyond its limit of 2 cpus']);
  });

  test('has no guarantee that the cluster cannot meet beside the others, unless it is forced', () => {
    const bench = benchOf(['a1', 8, 8192]);
    update(bench, 'a', { guarantee: { cpuMillis: 6000 } });
    // Below a: that is part of its 6.
    expect(update(bench, 'a/b', { guarantee: { cpuMillis: 5000 } })).toEqual([
      'role.updated: guarantee 5 cpus',
    ]);
    const [refused] = update(bench, 'c', { guarantee: { cpuMillis: 3000 } });
    expect(refused).toContain('all guarantees together would be 9 cpus');
    expect(update(bench, 'c', { guarantee: { cpuMillis: 3000 }, force: true })).toEqual([
      'role.updated: guarantee 3 cpus',
    ]);
  });

  test('has no limit below what it holds, unless it is forced', () => {
    const bench = benchOf(['a1', 8, 8192]);
    bench.registerFramework('f1', { role: 'ci' });
    const task = taskInfo('t1', { resources: amount(4, 512) });
    bench.launch('f1', bench.offerOf('f1').offerId, [task]);
    const wish = { limit: { cpuMillis: 1000 } };
    expect(update(bench, 'ci', wish)[0]).toContain('role ci uses 4 cpus');
    expect(update(bench, 'ci', { ...wish, force: true })).toEqual(['role.updated: limit 1 cpus']);
  });

  test('is changed by nobody but an operator', () => {
    const bench = benchOf(['a1', 8, 8192]);
    bench.registerFramework('f1');
    bench.say('framework:f1', {
      type: 'UpdateRole',
      requestId: sessionOf('r1'),
      role: 'ci',
      weight: 9,
      force: false,
    });
    expect(bench.state.roles.get('ci')).toBeUndefined();
  });
});

describe('a limit', () => {
  test('leaves what runs alone, and gives nothing more', () => {
    const bench = benchOf(['a1', 8, 8192]);
    bench.registerFramework('f1', { role: 'ci' });
    bench.launch('f1', bench.offerOf('f1').offerId, [
      taskInfo('t1', { resources: amount(4, 512) }),
    ]);
    update(bench, 'ci', { limit: { cpuMillis: 2000 }, force: true });
    bench.wait(10_000);
    expect(bench.offersOf('f1')).toEqual([]);
    expect(bench.task('f1', 't1')?.state).toBe('TASK_STAGING');
  });

  test('that is lifted makes offers possible at once', () => {
    const bench = benchOf(['a1', 8, 8192]);
    update(bench, 'ci', { limit: { cpuMillis: 2000 } });
    bench.registerFramework('f1', { role: 'ci' });
    expect(bench.offersOf('f1')).toEqual(['a1 2 8192']);
    update(bench, 'ci', { limit: null });
    expect(bench.offersOf('f1')).toEqual(['a1 2 8192']);
    bench.decline('f1', bench.offerOf('f1').offerId, 0);
    expect(bench.offersOf('f1')).toEqual(['a1 8 8192']);
  });
});

describe('a framework with several roles', () => {
  test('is offered resources under each, and asks for each', () => {
    const bench = benchOf();
    bench.registerFramework('f1', { roles: ['a', 'b'] });
    bench.say('framework:f1', {
      type: 'RequestResources',
      frameworkId: frameworkIdOf('f1'),
      requests: [
        { resources: amount(1, 128), count: 2, attributes: {}, role: 'a' },
        { resources: amount(2, 128), count: 1, attributes: {}, role: 'b' },
      ],
    });
    bench.registerAgent('a1', { resources: amount(8, 8192) });
    const offers = [...bench.state.offers.values()];
    expect(offers.map(({ role, resources }) => [role, resources.cpuMillis]).sort()).toEqual([
      ['a', 2000],
      ['b', 2000],
    ]);
  });

  test('counts a task for the role of its offer', () => {
    const bench = benchOf();
    bench.registerFramework('f1', { roles: ['a', 'b'] });
    bench.say('framework:f1', {
      type: 'RequestResources',
      frameworkId: frameworkIdOf('f1'),
      requests: [{ resources: amount(1, 128), count: 1, attributes: {}, role: 'b' }],
    });
    bench.registerAgent('a1', { resources: amount(8, 8192) });
    const { offerId } = bench.offerOf('f1');
    bench.say('framework:f1', {
      type: 'RequestResources',
      frameworkId: frameworkIdOf('f1'),
      requests: [],
    });
    bench.launch('f1', offerId, [taskInfo('t1')]);
    expect(bench.task('f1', 't1')?.role).toBe('b');
    expect(bench.state.roles.get('b')?.holds).toEqual(taskInfo('t1').resources);
  });

  test('suppresses and revives one of them', () => {
    const bench = benchOf();
    bench.registerFramework('f1', { roles: ['a', 'b'] });
    const frameworkId = frameworkIdOf('f1');
    bench.say('framework:f1', { type: 'SuppressOffers', frameworkId, roles: ['a'] });
    bench.registerAgent('a1');
    expect([...bench.state.offers.values()].map(({ role }) => role)).toEqual(['b']);
    bench.say('framework:f1', { type: 'SuppressOffers', frameworkId });
    bench.registerAgent('a2');
    expect(bench.state.offers.size).toBe(1);
    bench.say('framework:f1', { type: 'ReviveOffers', frameworkId, roles: ['a'] });
    expect([...bench.state.offers.values()].map(({ role }) => role)).toEqual(['b', 'a']);
  });

  test('launches on offers of one role only', () => {
    const bench = benchOf();
    bench.registerFramework('f1', { roles: ['a', 'b'] });
    bench.say('framework:f1', {
      type: 'RequestResources',
      frameworkId: frameworkIdOf('f1'),
      requests: ['a', 'b'].map((role) => {
        return { resources: amount(1, 128), count: 1, attributes: {}, role };
      }),
    });
    bench.registerAgent('a1');
    const offerIds = [...bench.state.offers.keys()];
    bench.say('framework:f1', {
      type: 'LaunchTasks',
      frameworkId: frameworkIdOf('f1'),
      offerIds,
      tasks: [taskInfo('t1')],
    });
    expect(bench.task('f1', 't1')).toBeUndefined();
  });
});

describe('a round of an allocator that is wrong', () => {
  const grant = { frameworkId: frameworkIdOf('f1'), role: '*' };
  test.each([
    [
      'gives more than there is',
      () => [{ ...grant, agentId: 'a1', resources: amount(9, 1) }],
      /left/,
    ],
    [
      'names an agent that is not there',
      () => [{ ...grant, agentId: 'a9', resources: amount(1, 1) }],
      /a9/,
    ],
    ['returns no list', () => 'everything', /not a list/],
    ['returns nonsense', () => [{ agentId: 'a1' }], /as a grant/],
    [
      'gives negative amounts',
      () => [{ ...grant, agentId: 'a1', resources: amount(-1, 1) }],
      /as a grant/,
    ],
    [
      'gives to nobody',
      () => [{ ...grant, frameworkId: 'f9', agentId: 'a1', resources: amount(1, 1) }],
      /f9/,
    ],
    [
      'throws',
      () => {
        throw new Error('ouch');
      },
      /ouch/,
    ],
  ])('and %s is refused, and the master goes on', (_what, allocator, words) => {
    let isBroken = true;
    const good = createMasterBench().state.options.allocator;
    const bench = createMasterBench({
      allocator: (round) => (isBroken ? (allocator() as never) : good(round)),
    });
    bench.registerFramework('f1');
    const [refused] = refusedIn(bench.registerAgent('a1', { resources: amount(8, 8192) }));
    expect(refused).toMatch(words);
    expect(bench.state.offers.size).toBe(0);
    // Not again with every message, but after a pause.
    expect(refusedIn(bench.registerAgent('a2'))).toEqual([]);
    isBroken = false;
    bench.wait(5000);
    expect(bench.offersOf('f1')).toEqual(['a1 8 8192', 'a2 4 8192']);
  });
});
