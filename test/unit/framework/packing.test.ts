import { describe, expect, test } from '@jest/globals';
import type { PackableTask, PackOptions, Packing } from '../../../framework/packing.ts';
import { offersByAgent, packTasks, requestsOf, totalOf } from '../../../framework/packing.ts';
import type { ExecutorId } from '../../../protocol/ids.ts';
import type { Offer } from '../../../protocol/task.ts';
import { agentIdOf, amount } from '../../support/builders.ts';
import { offer } from './driver-bench.ts';

interface Task extends PackableTask {
  readonly name: string;
}

const task = (name: string, cpus: number, more: Partial<Task> = {}): Task => ({
  name,
  resources: amount(cpus, 64),
  ...more,
});

/** An offer of that many cores. */
const on = (agentId: string, cpus: number, more: Partial<Offer> = {}): Offer =>
  offer(`o-${agentId}-${String(cpus)}`, {
    agentId: agentIdOf(agentId),
    resources: amount(cpus, 4096),
    ...more,
  });

/** `a1: t1 t2, a2: t3; left: t4`. */
function written({ launches, unplaced }: Packing<Task>): string {
  const names = (tasks: readonly Task[]): string => tasks.map(({ name }) => name).join(' ');
  const placed = launches.map(({ agentId, tasks }) => `${agentId}: ${names(tasks)}`).join(', ');
  return unplaced.length === 0 ? placed : `${placed}; left: ${names(unplaced)}`;
}

const pack = (offers: Offer[], tasks: Task[], options?: PackOptions<Task>): string =>
  written(packTasks(offers, tasks, options));

const executor = (executorId: string, cpus: number): NonNullable<PackableTask['executor']> => ({
  executorId,
  resources: amount(cpus, 64),
});

describe('packing', () => {
  test('begins with the largest, and goes onto the first agent that has room', () => {
    const tasks = [task('small', 1), task('large', 3), task('middle', 2)];
    expect(pack([on('a1', 4), on('a2', 4)], tasks)).toBe('a1: large small, a2: middle');
  });

  test('measures a task by what it takes the larger share of', () => {
    const memory = (memMib: number): Task => ({ name: 'memory', resources: amount(0.1, memMib) });
    const offers = [on('a1', 4), on('a2', 4)];
    expect(pack(offers, [memory(3000), task('cpu', 3)])).toBe('a1: cpu memory');
    expect(pack(offers, [memory(4000), task('cpu', 3)])).toBe('a1: memory cpu');
  });

  test('keeps the order of tasks that are alike', () => {
    const tasks = ['t3', 't1', 't2'].map((name) => task(name, 1));
    expect(pack([on('a1', 2)], tasks)).toBe('a1: t3 t1; left: t2');
  });

  test('adds up the offers of an agent, and accepts them together', () => {
    const offers = [on('a1', 1), on('a2', 1), on('a1', 2)];
    const { launches, unusedOffers } = packTasks(offers, [task('t1', 3)]);
    expect(launches).toEqual([
      {
        agentId: 'a1',
        hostname: 'node-of-a1',
        offerIds: ['o-a1-1', 'o-a1-2'],
        tasks: [task('t1', 3)],
        resources: amount(3, 64),
      },
    ]);
    expect(unusedOffers).toEqual([offers[1]]);
  });

  test('leaves what fits nowhere, and goes on with what is smaller', () => {
    expect(pack([on('a1', 1)], [task('t1', 2), task('t2', 1)])).toBe('a1: t2; left: t1');
  });

  test('of nothing, or onto nothing, is nothing', () => {
    const nothing = { launches: [], unplaced: [], unusedOffers: [] };
    expect(packTasks([], [])).toEqual(nothing);
    expect(packTasks([], [task('t1', 1)])).toEqual({ ...nothing, unplaced: [task('t1', 1)] });
    expect(packTasks([on('a1', 1)], [])).toEqual({ ...nothing, unusedOffers: [on('a1', 1)] });
  });

  test('spreads over agents if it is asked to', () => {
    const tasks = ['t1', 't2', 't3'].map((name) => task(name, 1));
    const offers = [on('a1', 4), on('a2', 4)];
    expect(pack(offers, tasks)).toBe('a1: t1 t2 t3');
    expect(pack(offers, tasks, { strategy: 'spread' })).toBe('a1: t1 t3, a2: t2');
  });

  test('spreads away from what runs already', () => {
    const running: PackOptions<Task>['running'] = (agentId) => (agentId === 'a1' ? 2 : 0);
    const tasks = ['t1', 't2', 't3'].map((name) => task(name, 1));
    expect(pack([on('a1', 4), on('a2', 4)], tasks, { strategy: 'spread', running })).toBe(
      'a1: t3, a2: t1 t2',
    );
  });

  test('spreads onto the agent with the least on it where there is none of the kind', () => {
    const tasks = [task('large', 2), task('small', 1)];
    const options = { strategy: 'spread', kindOf: ({ name }: Task) => name } as const;
    expect(pack([on('a1', 4), on('a2', 4)], tasks, options)).toBe('a1: large, a2: small');
  });

  test('spreads each kind for itself', () => {
    const tasks = ['web1', 'web2', 'db1', 'db2'].map((name) => task(name, 1));
    const kindOf = ({ name }: Task): string => name.slice(0, -1);
    expect(pack([on('a1', 4), on('a2', 4)], tasks, { strategy: 'spread', kindOf })).toBe(
      'a1: web1 db1, a2: web2 db2',
    );
  });
});

describe('an executor', () => {
  test('is counted once on each agent', () => {
    const e = executor('e1', 1);
    const tasks = ['t1', 't2', 't3', 't4'].map((name) => task(name, 1, { executor: e }));
    expect(pack([on('a1', 3), on('a2', 2)], tasks)).toBe('a1: t1 t2, a2: t3; left: t4');
    const [launch] = packTasks([on('a1', 3)], tasks.slice(0, 2)).launches;
    expect(launch?.resources).toEqual(amount(3, 192));
  });

  test('is not counted where it is already', () => {
    const tasks = [task('t1', 2, { executor: executor('e1', 1) })];
    expect(pack([on('a1', 2)], tasks)).toBe('; left: t1');
    const executorIds = ['e1' as ExecutorId];
    expect(pack([on('a1', 2, { executorIds })], tasks)).toBe('a1: t1');
  });

  test('is counted beside another one', () => {
    const tasks = ['e1', 'e2'].map((id) => task(id, 1, { executor: executor(id, 1) }));
    expect(pack([on('a1', 3)], tasks)).toBe('a1: e1; left: e2');
  });
});

describe('a constraint', () => {
  const offers = [
    on('a1', 4, { attributes: { rack: 'r1', disk: 'ssd' } }),
    on('a2', 4, { attributes: { rack: 'r2' } }),
  ];

  test('of attributes asks for all of them', () => {
    const constraints = { attributes: { rack: 'r2' } };
    expect(pack(offers, [task('t1', 1)], { constraints })).toBe('a2: t1');
    const both = { attributes: { rack: 'r2', disk: 'ssd' } };
    expect(pack(offers, [task('t1', 1)], { constraints: both })).toBe('; left: t1');
  });

  test('of attributes excludes each of them', () => {
    const constraints = { notAttributes: { rack: 'r1', disk: 'hdd' } };
    expect(pack(offers, [task('t1', 1)], { constraints })).toBe('a2: t1');
  });

  test('may be that of a task alone', () => {
    const constraints = ({ name }: Task): { attributes?: Record<string, string> } =>
      name === 't1' ? { attributes: { rack: 'r2' } } : {};
    expect(pack(offers, [task('t1', 1), task('t2', 1)], { constraints })).toBe('a1: t2, a2: t1');
  });

  test('of a number counts what is placed, and what runs', () => {
    const tasks = ['t1', 't2', 't3'].map((name) => task(name, 1));
    const constraints = { maxPerAgent: 2 };
    expect(pack(offers, tasks, { constraints })).toBe('a1: t1 t2, a2: t3');
    const running = (): number => 1;
    expect(pack(offers, tasks, { constraints, running })).toBe('a1: t1, a2: t2; left: t3');
  });

  test('of a number counts each kind for itself', () => {
    const tasks = ['web1', 'web2', 'db1'].map((name) => task(name, 1));
    const options = {
      constraints: { maxPerAgent: 1 },
      kindOf: ({ name }: Task) => name.slice(0, -1),
    };
    expect(pack(offers, tasks, options)).toBe('a1: web1 db1, a2: web2');
  });
});

describe('a group', () => {
  const group = (name: string, cpus: number): Task =>
    task(name, cpus, { groupId: 'g1', executor: executor('e1', 1) });

  test('goes onto one agent', () => {
    const tasks = [group('t1', 1), task('alone', 1), group('t2', 1)];
    expect(pack([on('a1', 2), on('a2', 3)], tasks)).toBe('a1: alone, a2: t1 t2');
  });

  test('goes nowhere if one task of it does not fit', () => {
    const tasks = [group('t1', 1), group('t2', 2), task('alone', 1)];
    expect(pack([on('a1', 3), on('a2', 3)], tasks)).toBe('a1: alone; left: t1 t2');
  });

  test('keeps the constraints of each of its tasks', () => {
    const tasks = [group('t1', 1), group('t2', 1)];
    expect(pack([on('a1', 4)], tasks, { constraints: { maxPerAgent: 1 } })).toBe('; left: t1 t2');
  });
});

describe('offers', () => {
  test('are put together by agent, and added up', () => {
    const offers = [on('a1', 1), on('a2', 2), on('a1', 3)];
    expect([...offersByAgent(offers)]).toEqual([
      ['a1', [offers[0], offers[2]]],
      ['a2', [offers[1]]],
    ]);
    expect(totalOf(offers)).toEqual(amount(6, 3 * 4096));
    expect(totalOf([])).toEqual(amount(0, 0));
  });
});

describe('requests', () => {
  test('count tasks that need the same', () => {
    expect(requestsOf([task('t1', 1), task('t2', 2), task('t3', 1)])).toEqual([
      { resources: amount(1, 64), count: 2, attributes: {} },
      { resources: amount(2, 64), count: 1, attributes: {} },
    ]);
  });

  test('have room for executors, and are of groups as a whole', () => {
    const e = executor('e1', 0.5);
    const tasks = [
      task('t1', 1, { executor: e }),
      task('t2', 1, { executor: e, groupId: 'g1' }),
      task('t3', 2, { executor: e, groupId: 'g1' }),
    ];
    expect(requestsOf(tasks)).toEqual([
      { resources: amount(1.5, 128), count: 1, attributes: {} },
      { resources: amount(3.5, 192), count: 1, attributes: {} },
    ]);
  });

  test('ask for attributes', () => {
    const constraints = ({ name }: Task): { attributes?: Record<string, string> } =>
      name === 't1' ? { attributes: { rack: 'r2' } } : {};
    expect(requestsOf([task('t1', 1), task('t2', 1)], { constraints })).toEqual([
      { resources: amount(1, 64), count: 1, attributes: { rack: 'r2' } },
      { resources: amount(1, 64), count: 1, attributes: {} },
    ]);
  });

  test('are no more than one call takes', () => {
    const tasks = Array.from({ length: 1500 }, (_, n) => task(`t${String(n)}`, 0.001 * (n + 1)));
    expect(requestsOf(tasks)).toHaveLength(1000);
  });
});
