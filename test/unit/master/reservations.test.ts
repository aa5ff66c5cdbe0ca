import { describe, expect, test } from '@jest/globals';
import { explain } from '../../../master/core/why.ts';
import { allocateInOrder } from '../../../master/core/allocator/fifo.ts';
import type { ReservationId } from '../../../protocol/ids.ts';
import type { MessageOf } from '../../../protocol/messages.ts';
import type { Resources } from '../../../protocol/resources.ts';
import {
  agentIdOf,
  amount,
  executorInfo,
  frameworkIdOf,
  offerIdOf,
  sessionOf,
  taskInfo,
  taskStatus,
} from '../../support/builders.ts';
import type { MasterBench } from '../../support/master-bench.ts';
import { createMasterBench, eventsOf, sent } from '../../support/master-bench.ts';

/** Says it as an operator does. @returns what stands in the event log */
function reserve(
  bench: MasterBench,
  role: string,
  resources: Resources,
  more: Partial<MessageOf<'Reserve'>> = {},
): string[] {
  return reservationEvents(bench, {
    ...{ type: 'Reserve', requestId: sessionOf('w1'), agentId: agentIdOf('a1') },
    ...{ role, resources, labels: {} },
    ...more,
  });
}

function unreserve(bench: MasterBench, reservationId: string): string[] {
  return reservationEvents(bench, {
    ...{ type: 'Unreserve', requestId: sessionOf('w2'), agentId: agentIdOf('a1') },
    reservationId: reservationId as ReservationId,
  });
}

function reservationEvents(
  bench: MasterBench,
  message: MessageOf<'Reserve'> | MessageOf<'Unreserve'>,
): string[] {
  return eventsOf(bench.say('operator:me@here', message))
    .filter(({ type }) => type.startsWith('reservation.'))
    .map((event) => `${event.type} ${String(event.reason)}: ${String(event.message)}`);
}

/** Of the last one that was made for a role. */
function idFor(bench: MasterBench, role: string): ReservationId {
  const all = [...bench.state.agents.values()].flatMap(({ record }) => record.reservations ?? []);
  const id = all.findLast((one) => one.role === role)?.reservationId;
  if (id === undefined) throw new Error(`nothing is reserved for ${role}`);
  return id;
}

/** Offers that a framework holds, as `CPUS MIB ROLE`, of what is not reserved without a role. */
function offers(bench: MasterBench, frameworkId: string): string[] {
  return [...bench.state.offers.values()]
    .filter((offer) => offer.frameworkId === frameworkIdOf(frameworkId))
    .map(({ resources: { cpuMillis, memMib }, reservation }) =>
      [cpuMillis / 1000, memMib, ...(reservation ? [reservation.role] : [])].join(' '),
    );
}

function offerIds(bench: MasterBench, frameworkId: string): string[] {
  return [...(bench.state.frameworks.get(frameworkIdOf(frameworkId))?.offers ?? [])];
}

/** Gives back what a framework is offered, so that it is offered all that is free. */
function again(bench: MasterBench, frameworkId: string): string[] {
  bench.say(`framework:${frameworkId}`, {
    ...{ type: 'DeclineOffers', frameworkId: frameworkIdOf(frameworkId), filters: { refuseMs: 0 } },
    offerIds: offerIds(bench, frameworkId).map(offerIdOf),
  });
  return offers(bench, frameworkId);
}

/** One agent of 4 cores and 8 GiB. */
function benchOf(): MasterBench {
  const bench = createMasterBench();
  bench.registerAgent('a1');
  return bench;
}

describe('what is reserved', () => {
  test('is offered to frameworks of its role and of roles below it, and to nobody else', () => {
    const bench = benchOf();
    expect(reserve(bench, 'eng', amount(1, 1024))).toEqual([
      'reservation.made w1: 1 cpus, 1G of agent a1 for role eng: r1.t.1',
    ]);
    bench.registerFramework('f1', { role: 'ops' });
    expect(offers(bench, 'f1')).toEqual(['3 7168']);
    bench.registerFramework('f2', { role: 'eng/prod' });
    expect(offers(bench, 'f2')).toEqual(['1 1024 eng']);
    bench.decline('f2', bench.offerOf('f2').offerId, 60_000);
    bench.registerFramework('f3', { role: 'engine' });
    expect(offers(bench, 'f3')).toEqual([]);
    bench.registerFramework('f4', { role: 'eng' });
    expect(offers(bench, 'f4')).toEqual(['1 1024 eng']);
  });

  test('has its labels in offers', () => {
    const bench = benchOf();
    reserve(bench, 'eng', amount(4, 8192), { labels: { team: 'search' } });
    const effects = bench.registerFramework('f1', { role: 'eng' });
    const [message] = sent(effects, 'framework:f1', 'ResourceOffers');
    expect(message?.offers[0]?.reservation).toEqual({
      ...{ reservationId: 'r1.t.1', role: 'eng', labels: { team: 'search' } },
    });
  });

  test('is declined apart from what is not', () => {
    const bench = benchOf();
    reserve(bench, 'eng', amount(1, 1024));
    bench.registerFramework('f1', { role: 'eng' });
    expect(offers(bench, 'f1')).toEqual(['1 1024 eng', '3 7168']);
    const [, open = ''] = offerIds(bench, 'f1');
    bench.decline('f1', open, 60_000);
    bench.decline('f1', bench.offerOf('f1').offerId, 1000);
    expect(offers(bench, 'f1')).toEqual([]);
    bench.wait(1500);
    expect(offers(bench, 'f1')).toEqual(['1 1024 eng']);
  });

  test('is used before what is not, by a launch on both, and goes back where it was', () => {
    const bench = benchOf();
    reserve(bench, 'eng', amount(1, 1024));
    bench.registerFramework('f1', { role: 'eng' });
    const resources = amount(2, 512);
    bench.launch('f1', offerIds(bench, 'f1'), [taskInfo('t1', { resources })]);
    const reserved = [{ reservationId: 'r1.t.1', resources: amount(1, 512) }];
    expect(bench.task('f1', 't1')?.reserved).toEqual(reserved);
    expect(offers(bench, 'f1')).toEqual(['2 7168']);
    bench.update('a1', taskStatus('f1', 't1', 'TASK_FINISHED'));
    expect(again(bench, 'f1')).toEqual(['1 1024 eng', '3 7168']);
  });

  test('holds an executor as well', () => {
    const bench = benchOf();
    reserve(bench, 'eng', amount(1, 1024));
    bench.registerFramework('f1', { role: 'eng' });
    const executor = executorInfo('e1', { resources: amount(0.5, 512) });
    const { command: _command, ...task } = taskInfo('t1', { resources: amount(1, 512) });
    bench.launch('f1', offerIds(bench, 'f1'), [{ ...task, executor }]);
    expect(bench.executor('a1', 'f1', 'e1')?.reserved).toEqual([
      { reservationId: 'r1.t.1', resources: amount(0.5, 512) },
    ]);
    expect(bench.task('f1', 't1')?.reserved).toEqual([
      { reservationId: 'r1.t.1', resources: amount(0.5, 512) },
    ]);
  });

  test('meets a need before what is not reserved', () => {
    const bench = benchOf();
    reserve(bench, 'eng', amount(2, 2048));
    bench.registerFramework('f1', { role: 'eng' });
    const request = { resources: amount(1, 512), count: 3, attributes: {} };
    bench.say('framework:f1', {
      ...{ type: 'RequestResources', frameworkId: frameworkIdOf('f1'), requests: [request] },
    });
    expect(again(bench, 'f1')).toEqual(['2 1024 eng', '1 512']);
  });

  test('with disk only is offered although there is no CPU in it', () => {
    const bench = createMasterBench();
    const others = { disk: 10_240 };
    bench.registerAgent('a1', { resources: { ...amount(1, 1024), others } });
    reserve(bench, 'eng', { ...amount(0, 0), others: { disk: 4096 } });
    bench.registerFramework('f1', { role: 'eng' });
    const [disk] = [...bench.state.offers.values()];
    expect(disk?.resources).toEqual({ ...amount(0, 0), others: { disk: 4096 } });
    expect(offers(bench, 'f1')).toEqual(['0 0 eng', '1 1024']);
  });

  test('of one role twice is offered as two', () => {
    const bench = benchOf();
    reserve(bench, 'eng', amount(1, 1024));
    reserve(bench, 'eng', amount(2, 2048));
    bench.registerFramework('f1', { role: 'eng' });
    expect(offers(bench, 'f1')).toEqual(['1 1024 eng', '2 2048 eng', '1 5120']);
  });

  test('is respected by an allocator that knows nothing of it', () => {
    const bench = createMasterBench({ allocator: allocateInOrder });
    bench.registerAgent('a1');
    reserve(bench, 'eng', amount(1, 1024));
    bench.registerFramework('f1', { role: 'ops' });
    bench.registerFramework('f2', { role: 'eng' });
    expect([offers(bench, 'f1'), offers(bench, 'f2')]).toEqual([['3 7168'], ['1 1024 eng']]);
  });

  test('outlives a failover of the master, the absence of the agent, and its restart', () => {
    const bench = benchOf();
    reserve(bench, 'eng', amount(1, 1024));
    const next = bench.failOver();
    next.silence('agent:a1');
    next.registerAgent('a1', { session: 's2' });
    next.registerFramework('f1', { role: 'ops' });
    expect(offers(next, 'f1')).toEqual(['3 7168']);
  });
});

describe('a reservation', () => {
  test('takes offers back where it needs room, and no others', () => {
    const bench = benchOf();
    bench.registerFramework('f1', { role: 'ops' });
    bench.launch('f1', bench.offerOf('f1').offerId, [taskInfo('t1')]);
    const effects = bench.say('operator:me@here', {
      ...{ type: 'Reserve', requestId: sessionOf('w1'), agentId: agentIdOf('a1') },
      ...{ role: 'eng', resources: amount(2, 1024), labels: {} },
    });
    const [rescinded] = sent(effects, 'framework:f1', 'RescindResourceOffer');
    expect(rescinded?.reason).toBe('it is reserved for role eng now');
    expect(offers(bench, 'f1')).toEqual(['1 7040']);
    reserve(bench, 'eng/prod', amount(1, 512), { parentId: idFor(bench, 'eng') });
    expect(offers(bench, 'f1')).toEqual(['1 7040']);
  });

  test('is refused where tasks are in the way, with the numbers', () => {
    const bench = benchOf();
    bench.registerFramework('f1', { role: 'ops' });
    bench.launch('f1', bench.offerOf('f1').offerId, [taskInfo('t1')]);
    expect(reserve(bench, 'eng', amount(4, 1024))).toEqual([
      'reservation.refused w1: 4 cpus, 1G asked, agent a1 has 3 cpus, 7.8G neither used nor reserved',
    ]);
  });

  test.each<[string, Partial<MessageOf<'Reserve'>>, string]>([
    ['of an unknown agent', { agentId: agentIdOf('a9') }, 'no agent a9'],
    ['of nothing', { resources: amount(0, 0) }, 'nothing is to be reserved'],
    [
      'of another reservation',
      { parentId: 'r9' as ReservationId },
      'agent a1 has no reservation r9',
    ],
  ])('%s is refused', (_what, more, message) => {
    expect(reserve(benchOf(), 'eng', amount(1, 1024), more)).toEqual([
      `reservation.refused w1: ${message}`,
    ]);
  });

  test('of an agent that is not connected waits for it', () => {
    const bench = benchOf();
    bench.silence('agent:a1');
    expect(reserve(bench, 'eng', amount(1, 1024))).toEqual([
      'reservation.refused w1: agent a1 is not connected: try again when it is',
    ]);
  });

  test('is made by nobody but an operator', () => {
    const bench = benchOf();
    bench.registerFramework('f1', { role: 'eng' });
    bench.say('framework:f1', {
      ...{ type: 'Reserve', requestId: sessionOf('w1'), agentId: agentIdOf('a1') },
      ...{ role: 'eng', resources: amount(1, 512), labels: {} },
    });
    expect(bench.state.agents.get(agentIdOf('a1'))?.record.reservations).toBeUndefined();
  });

  test('ends when nothing is used of it, and its offers with it', () => {
    const bench = benchOf();
    reserve(bench, 'eng', amount(1, 1024));
    bench.registerFramework('f1', { role: 'eng' });
    const [reserved = ''] = offerIds(bench, 'f1');
    bench.launch('f1', reserved, [taskInfo('t1', { resources: amount(0.5, 512) })]);
    expect(unreserve(bench, 'r1.t.1')).toEqual([
      'reservation.refused w2: reservation r1.t.1 of agent a1 is in use: tasks have 0.5 cpus, 512M of it',
    ]);
    bench.update('a1', taskStatus('f1', 't1', 'TASK_FINISHED'));
    expect(unreserve(bench, 'r1.t.1')).toEqual([
      'reservation.removed w2: 1 cpus, 1G of agent a1 are not reserved for role eng any more',
    ]);
    expect(again(bench, 'f1').every((offer) => !offer.includes('eng'))).toBe(true);
    expect(unreserve(bench, 'r1.t.1')).toEqual([
      'reservation.refused w2: agent a1 has no reservation r1.t.1',
    ]);
  });
});

describe('a reservation of a reservation', () => {
  test('is for a role below, and is the first again when it ends', () => {
    const bench = benchOf();
    reserve(bench, 'eng', amount(2, 2048));
    const parentId = idFor(bench, 'eng');
    expect(reserve(bench, 'eng/prod', amount(3, 512), { parentId })).toEqual([
      'reservation.refused w1: 3 cpus, 512M asked, reservation r1.t.1 of agent a1 has 2 cpus, 2G neither used nor reserved',
    ]);
    reserve(bench, 'eng/prod', amount(1, 512), { parentId });
    bench.registerFramework('f1', { role: 'eng' });
    expect(offers(bench, 'f1')).toEqual(['1 1536 eng', '2 6144']);
    bench.registerFramework('f2', { role: 'eng/prod' });
    expect(offers(bench, 'f2')).toEqual(['1 512 eng/prod']);
    expect(unreserve(bench, parentId)[0]).toContain(
      'is reserved further, for role eng/prod: r1.t.2',
    );
    unreserve(bench, idFor(bench, 'eng/prod'));
    bench.silence('framework:f2');
    expect(again(bench, 'f1')).toEqual(['2 2048 eng', '2 6144']);
  });

  test.each(['eng', 'ops', 'engine'])('is not for %s', (role) => {
    const bench = benchOf();
    reserve(bench, 'eng', amount(2, 2048));
    const parentId = idFor(bench, 'eng');
    expect(reserve(bench, role, amount(1, 512), { parentId })).toEqual([
      `reservation.refused w1: reservation r1.t.1 is for role eng, and ${role} is not below that`,
    ]);
  });
});

describe('what the settings of an agent reserve', () => {
  const settings = (cpus: number): { reservations: { role: string; resources: Resources }[] } => ({
    reservations: [{ role: 'eng', resources: amount(cpus, 1024) }],
  });

  test('is offered like any other, and ends with the settings only', () => {
    const bench = createMasterBench();
    bench.registerAgent('a1', settings(1));
    bench.registerFramework('f1', { role: 'eng' });
    expect(offers(bench, 'f1')).toEqual(['1 1024 eng', '3 7168']);
    expect(unreserve(bench, 'static:eng')).toEqual([
      'reservation.refused w2: reservation static:eng of agent a1 is from the settings of the agent: change --reserve-for there',
    ]);
    bench.registerAgent('a1', { session: 's2' });
    expect(offers(bench, 'f1')).toEqual(['4 8192']);
  });

  test('replaces what they reserved before; what tasks use of it is theirs until they end', () => {
    const bench = createMasterBench();
    bench.registerAgent('a1', settings(2));
    bench.registerFramework('f1', { role: 'eng' });
    const [reserved = ''] = offerIds(bench, 'f1');
    bench.launch('f1', reserved, [taskInfo('t1', { resources: amount(2, 512) })]);
    const task = { ...taskStatus('f1', 't1', 'TASK_RUNNING'), name: 't1' };
    const tasks = [{ ...task, resources: amount(2, 512) }];
    bench.registerAgent('a1', { session: 's2', tasks: tasks as never, ...settings(1) });
    // One core less is reserved than is used of it, so of the rest there is one less as well.
    expect(offers(bench, 'f1')).toEqual(['2 7168']);
    bench.update('a1', taskStatus('f1', 't1', 'TASK_FINISHED'));
    expect(again(bench, 'f1')).toEqual(['1 1024 eng', '3 7168']);
  });
});

describe('a task on a reservation', () => {
  test('grows in it first, and gives back last what is reserved', () => {
    const bench = benchOf();
    reserve(bench, 'eng', amount(2, 2048));
    bench.registerFramework('f1', { role: 'eng' });
    const [reserved = ''] = offerIds(bench, 'f1');
    bench.launch('f1', reserved, [taskInfo('t1', { resources: amount(1, 512) })]);
    bench.update('a1', taskStatus('f1', 't1', 'TASK_RUNNING'));
    bench.resize('framework:f1', 't1', amount(3, 512));
    bench.resized('t1', { resources: amount(3, 512) });
    expect(bench.task('f1', 't1')?.reserved).toEqual([
      { reservationId: 'r1.t.1', resources: amount(2, 512) },
    ]);
    bench.resize('framework:f1', 't1', amount(1, 256), 'less');
    bench.resized('t1', { resizeId: sessionOf('less'), resources: amount(1, 256) });
    expect(bench.task('f1', 't1')?.reserved).toEqual([
      { reservationId: 'r1.t.1', resources: amount(1, 256) },
    ]);
  });

  test('of which the master has lost all is counted where its role has something reserved', () => {
    const bench = createMasterBench();
    const resources = amount(1, 512);
    const task = { ...taskStatus('f1', 't1', 'TASK_RUNNING'), name: 't1', resources, role: 'eng' };
    bench.registerAgent('a1', {
      reservations: [{ role: 'eng', resources: amount(1, 1024) }],
      tasks: [task as never],
    });
    bench.registerFramework('f2', { role: 'ops' });
    expect(offers(bench, 'f2')).toEqual(['3 7168']);
  });
});

describe('beside a quota', () => {
  const guarantee = (bench: MasterBench, role: string, cpus: number): void => {
    bench.say('operator:me@here', {
      ...{ type: 'UpdateRole', requestId: sessionOf('q1'), role, force: false },
      guarantee: { cpuMillis: cpus * 1000 },
    });
  };

  test('what is reserved and idle counts for the guarantee of its role', () => {
    const bench = benchOf();
    guarantee(bench, 'eng', 2);
    reserve(bench, 'eng/prod', amount(1, 1024));
    bench.registerFramework('f1', { role: 'ops' });
    // Of 3 cores that are not reserved one is kept.
    expect(offers(bench, 'f1')).toEqual(['2 7168']);
  });

  test('a guarantee keeps nothing from those for whom it is reserved', () => {
    const bench = benchOf();
    guarantee(bench, 'ops', 4);
    reserve(bench, 'eng', amount(1, 1024));
    bench.registerFramework('f1', { role: 'eng' });
    expect(offers(bench, 'f1')).toEqual(['1 1024 eng']);
  });

  test('a limit holds for what is reserved as well', () => {
    const bench = benchOf();
    reserve(bench, 'eng', amount(3, 1024));
    bench.say('operator:me@here', {
      ...{ type: 'UpdateRole', requestId: sessionOf('q1'), role: 'eng', force: false },
      limit: { cpuMillis: 2000 },
    });
    bench.registerFramework('f1', { role: 'eng' });
    expect(offers(bench, 'f1')).toEqual(['2 1024 eng']);
  });
});

test('why says what is reserved for others', () => {
  const bench = benchOf();
  reserve(bench, 'eng', amount(3, 1024));
  bench.registerFramework('f1', { role: 'ops' });
  const request = { resources: amount(2, 512), count: 1, attributes: {} };
  bench.say('framework:f1', {
    ...{ type: 'RequestResources', frameworkId: frameworkIdOf('f1'), requests: [request] },
  });
  const framework = bench.state.frameworks.get(frameworkIdOf('f1'));
  if (!framework) throw new Error('no framework');
  const { needs } = explain({ state: bench.state, nowMs: bench.nowMs, effects: [] }, framework);
  expect(needs[0]?.agents).toEqual([
    {
      ...{ agentId: 'a1', hostname: 'node-of-a1', code: 'reserved' },
      message: 'reserved: 3 cpus, 1G for eng',
    },
  ]);
});
