/** Directories of reservations with disk: who gets them, and that nothing but the end of a reservation takes them away. */
import { describe, expect, test } from '@jest/globals';
import type { AgentId, ReservationId } from '../../../protocol/ids.ts';
import type { AgentRecord } from '../../../protocol/records.ts';
import type { Reservation } from '../../../protocol/reservations.ts';
import { RESERVATIONS_MAX } from '../../../protocol/reservations.ts';
import type { Resources } from '../../../protocol/resources.ts';
import type { MasterEffect } from '../../../master/core/effects.ts';
import {
  agentIdOf,
  agentTask,
  amount,
  executorTask,
  sessionOf,
  taskInfo,
  taskStatus,
} from '../../support/builders.ts';
import type { MasterBench } from '../../support/master-bench.ts';
import { createMasterBench, eventsOf, sent } from '../../support/master-bench.ts';

const withDisk = (cpus: number, memMib: number, disk: number): Resources => {
  return { ...amount(cpus, memMib), others: { disk } };
};
const AGENT = { resources: withDisk(4, 8192, 10_000) };
const AGAIN = { ...AGENT, session: 's2' };

/** One agent, of which 1 core, 1 GiB and 4096 MiB of disk are reserved for eng, and a framework of that role. */
function benchOf(): MasterBench {
  const bench = createMasterBench();
  bench.registerAgent('a1', AGENT);
  reserve(bench, 'eng', withDisk(1, 1024, 4096));
  bench.registerFramework('f1', { role: 'eng' });
  return bench;
}

function reserve(bench: MasterBench, role: string, resources: Resources, parentId?: string): void {
  bench.say('operator:me@here', {
    ...{ type: 'Reserve', requestId: sessionOf('w1'), agentId: agentIdOf('a1') },
    ...{ role, resources, labels: {} },
    ...(parentId !== undefined && { parentId: parentId as ReservationId }),
  });
}

function unreserve(bench: MasterBench, id: string, destroy?: boolean): MasterEffect[] {
  return bench.say('operator:me@here', {
    ...{ type: 'Unreserve', requestId: sessionOf('w2'), agentId: agentIdOf('a1') },
    reservationId: id as ReservationId,
    ...(destroy !== undefined && { destroy }),
  });
}

function record(bench: MasterBench): AgentRecord {
  const agent = bench.state.agents.get('a1' as AgentId);
  if (!agent) throw new Error('no agent a1');
  return agent.record;
}

/** Launches a task on the offer of that reservation, or of none. */
function launch(
  bench: MasterBench,
  taskId: string,
  resources: Resources,
  of: 'r1.t.1' | 'none' = 'r1.t.1',
): MasterEffect[] {
  const offer = [...bench.state.offers.values()].find(
    ({ reservation }) => (reservation?.reservationId ?? 'none') === of,
  );
  return bench.launch('f1', offer?.offerId ?? '', [taskInfo(taskId, { resources })], 0);
}

function directoriesIn(effects: readonly MasterEffect[]): (string[] | undefined)[] {
  return sent(effects, 'agent:a1', 'RunTask').map(({ directories }) =>
    directories?.map(({ reservationId }) => reservationId),
  );
}

function removedIn(effects: readonly MasterEffect[]): string[] {
  return sent(effects, 'agent:a1', 'RemoveDirectory').map(({ reservationId }) => reservationId);
}

/** What the event log says of the end of a reservation. */
function removalIn(effects: readonly MasterEffect[]): string | undefined {
  return eventsOf(effects).find(({ type }) => type === 'reservation.removed')?.message;
}

function end(bench: MasterBench, taskId: string): void {
  bench.update('a1', taskStatus('f1', taskId, 'TASK_FINISHED'));
}

describe('a task', () => {
  test('that has disk of a reservation gets its directory', () => {
    const bench = benchOf();
    const effects = launch(bench, 't1', withDisk(0.5, 128, 1000));
    expect(directoriesIn(effects)).toEqual([['r1.t.1']]);
    expect(sent(effects, 'agent:a1', 'RunTask')[0]?.directories).toEqual(
      record(bench).reservations,
    );
    expect(record(bench).directories).toEqual(['r1.t.1']);
  });

  test('that has none gets none', () => {
    const bench = benchOf();
    expect(directoriesIn(launch(bench, 't1', amount(0.5, 128)))).toEqual([undefined]);
    const open = withDisk(0.5, 128, 1000);
    expect(directoriesIn(launch(bench, 't2', open, 'none'))).toEqual([undefined]);
    expect(record(bench).directories).toBeUndefined();
  });

  test('has no directory and no numbers because its framework says so', () => {
    const bench = benchOf();
    const offer = bench.offerOf('f1');
    const wanted = { ...taskInfo('t1'), directories: ['r9'], numbers: { ports: [22] } };
    const [run] = sent(bench.launch('f1', offer.offerId, [wanted]), 'agent:a1', 'RunTask');
    expect(run?.task).not.toHaveProperty('directories');
    expect(run?.task).not.toHaveProperty('numbers');
  });

  test('that takes of a reservation within another gets both directories, the deeper one first', () => {
    const bench = createMasterBench();
    bench.registerAgent('a1', AGENT);
    reserve(bench, 'eng', withDisk(2, 2048, 4096));
    reserve(bench, 'eng/prod', withDisk(1, 1024, 1000), 'r1.t.1');
    bench.registerFramework('f1', { role: 'eng/prod' });
    const offers = [...bench.state.offers.values()].filter(({ reservation }) => reservation);
    const task = taskInfo('t1', { resources: withDisk(1, 512, 2000) });
    const ids = offers.map(({ offerId }) => offerId as string);
    expect(directoriesIn(bench.launch('f1', ids, [task]))).toEqual([['r1.t.2', 'r1.t.1'].sort()]);
  });

  test('of an executor gets it as well', () => {
    const bench = benchOf();
    const task = executorTask('t1', 'e1', { resources: withDisk(0.5, 128, 1000) });
    const effects = bench.launch('f1', bench.offerOf('f1').offerId, [task]);
    expect(directoriesIn(effects)).toEqual([['r1.t.1']]);
  });

  test('gets it also if its launch has to be sent again', () => {
    const bench = benchOf();
    launch(bench, 't1', withDisk(0.5, 128, 1000));
    expect(directoriesIn(bench.registerAgent('a1', AGAIN))).toEqual([['r1.t.1']]);
  });
});

describe('a reservation with a directory', () => {
  /** A task has been there, and has ended. */
  function used(): MasterBench {
    const bench = benchOf();
    launch(bench, 't1', withDisk(0.5, 128, 1000));
    end(bench, 't1');
    return bench;
  }

  test('is offered again to its role, with word of what is there', () => {
    const bench = used();
    const seen = [...bench.state.offers.values()].map(({ reservation }) => reservation);
    expect(seen).toContainEqual({
      ...{ reservationId: 'r1.t.1', role: 'eng', labels: {}, hasDirectory: true },
    });
  });

  test('does not end without a word about what tasks have left', () => {
    const bench = used();
    const [refused] = eventsOf(unreserve(bench, 'r1.t.1'));
    expect(refused).toMatchObject({ type: 'reservation.refused' });
    expect(refused?.message).toBe(
      'reservation r1.t.1 of agent a1 has a directory with what tasks have left there: say --destroy to have it removed for good',
    );
    expect(record(bench).reservations).toHaveLength(1);
  });

  test('ends with its directory, and the agent hears so until it has said that it is gone', () => {
    const bench = used();
    const effects = unreserve(bench, 'r1.t.1', true);
    expect(removedIn(effects)).toEqual(['r1.t.1']);
    expect(removalIn(effects)).toMatch(/ and what tasks have left in its directory is removed$/);
    expect(record(bench)).toMatchObject({ doomed: ['r1.t.1'] });
    expect(record(bench)).not.toHaveProperty('directories');
    const there = { ...AGAIN, directories: [reservationOf('r1.t.1')] };
    expect(removedIn(bench.registerAgent('a1', there))).toEqual(['r1.t.1']);
    expect(record(bench)).not.toHaveProperty('reservations');
    const said = bench.say('agent:a1', {
      type: 'DirectoryRemoved',
      reservationId: 'r1.t.1' as ReservationId,
    });
    expect(eventsOf(said).map(({ type }) => type)).toEqual(['directory.removed']);
    expect(record(bench)).not.toHaveProperty('doomed');
  });

  test('that is not on the disk any more when the agent comes back is gone', () => {
    const bench = used();
    unreserve(bench, 'r1.t.1', true);
    expect(removedIn(bench.registerAgent('a1', AGAIN))).toEqual([]);
    expect(record(bench)).not.toHaveProperty('doomed');
  });

  test('ends while its agent is away, and the agent hears so when it is back', () => {
    const bench = used();
    bench.silence('agent:a1');
    expect(removedIn(unreserve(bench, 'r1.t.1', true))).toEqual([]);
    const there = { ...AGAIN, directories: [reservationOf('r1.t.1')] };
    expect(removedIn(bench.registerAgent('a1', there))).toEqual(['r1.t.1']);
  });

  test('does not end while a task has something of it, whatever is said', () => {
    const bench = used();
    launch(bench, 't2', amount(0.5, 128));
    const [refused] = eventsOf(unreserve(bench, 'r1.t.1', true));
    expect(refused?.message).toMatch(/ is in use: /);
  });

  test('and one that nobody has had disk of ends as ever', () => {
    const bench = benchOf();
    const effects = unreserve(bench, 'r1.t.1', true);
    expect(removedIn(effects)).toEqual([]);
    expect(removalIn(effects)).toMatch(/are not reserved for role eng any more$/);
    expect(record(bench)).not.toHaveProperty('doomed');
  });
});

function reservationOf(id: string, more: Partial<Reservation> = {}): Reservation {
  return {
    reservationId: id as ReservationId,
    ...{ role: 'eng', resources: withDisk(1, 1024, 4096), labels: { team: 'search' } },
    isStatic: false,
    ...more,
  };
}

describe('a master that knows nothing', () => {
  test('has the reservations again whose directories an agent reports, and its tasks count there', () => {
    const bench = createMasterBench();
    const reported = [reservationOf('r9.t.3')];
    const resources = withDisk(0.5, 128, 1000);
    const directories = reported.map(({ reservationId }) => reservationId);
    const task = agentTask('f1', 't1', { resources, role: 'eng', directories });
    const effects = bench.registerAgent('a1', {
      ...{ ...AGENT, directories: reported },
      tasks: [task],
    });
    expect(record(bench)).toMatchObject({ reservations: reported, directories: ['r9.t.3'] });
    expect(eventsOf(effects)).toContainEqual(
      expect.objectContaining({
        type: 'reservation.adopted',
        message: '1 cpus, 1G, disk 4G of agent a1 for role eng: r9.t.3, whose directory is there',
      }),
    );
    expect(bench.task('f1', 't1')?.reserved).toEqual([{ reservationId: 'r9.t.3', resources }]);
  });

  test('counts a task where its directory is, not in the deepest reservation for its role', () => {
    const bench = createMasterBench();
    const resources = withDisk(0.5, 128, 1000);
    const shallow = reservationOf('r9.t.3');
    const directories = [shallow.reservationId];
    const task = agentTask('f1', 't1', { resources, role: 'eng/prod', directories });
    bench.registerAgent('a1', {
      ...AGENT,
      directories: [reservationOf('r9.t.4', { role: 'eng/prod' }), shallow],
      tasks: [task],
    });
    expect(bench.task('f1', 't1')?.reserved).toEqual([{ reservationId: 'r9.t.3', resources }]);
  });

  test('does not make reservations of what an agent keeps by its settings, or kept once', () => {
    const bench = createMasterBench();
    bench.registerAgent('a1', {
      ...AGENT,
      directories: [reservationOf('static:eng', { isStatic: true })],
    });
    expect(record(bench)).not.toHaveProperty('reservations');
    expect(record(bench).directories).toEqual(['static:eng']);
  });

  test('lets go what is going', () => {
    const bench = createMasterBench();
    const reported = reservationOf('r9.t.3');
    const doomed = [reported.reservationId];
    const effects = bench.registerAgent('a1', { ...AGENT, directories: [reported], doomed });
    expect(record(bench)).not.toHaveProperty('reservations');
    expect(removedIn(effects)).toEqual(doomed);
  });

  test('takes no more than an agent may have', () => {
    const bench = createMasterBench();
    const directories = Array.from({ length: RESERVATIONS_MAX + 5 }, (_item, index) =>
      reservationOf(`r9.t.${String(index)}`, { resources: withDisk(0, 0, 1) }),
    );
    bench.registerAgent('a1', { ...AGENT, directories });
    expect(record(bench).reservations).toHaveLength(RESERVATIONS_MAX);
  });
});
