import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { Resources } from '../../../protocol/resources.ts';
import { addResources, fits, NO_RESOURCES } from '../../../protocol/resources.ts';
import { isBeyond } from '../../../protocol/roles.ts';
import type {
  Candidate,
  Pick,
  QueueState,
  Room,
  SelectionRules,
} from '../../../schedulers/bullmq/core/selection.ts';
import { demandOf, hasAttributes, select } from '../../../schedulers/bullmq/core/selection.ts';

const RULES: SelectionRules = { nowMs: 0, patienceMs: 30_000, isPlaceable: () => true };

const of = (cpuMillis: number, memMib = 0): Resources => ({ cpuMillis, memMib });
const job = (jobId: string, given: Partial<Candidate> = {}): Candidate => ({
  ...{ jobId, group: '', resources: of(1000), priority: 0, attributes: {} },
  ...given,
});
const queueOf = (candidates: Candidate[], given: Partial<QueueState> = {}): QueueState => ({
  ...{ name: 'q', weight: 1, room: 1000, held: NO_RESOURCES, quota: undefined },
  ...{ groupLimit: undefined, running: new Map(), turns: { count: 0, of: new Map() } },
  candidates,
  ...given,
});
const roomOf = (free: Resources, given: Partial<Room> = {}): Room => ({
  ...{ agentId: 'a', attributes: {}, executorIds: new Set(), free },
  ...given,
});
const idsOf = (picks: readonly Pick[]): string[] => picks.map(({ candidate }) => candidate.jobId);

describe('within a queue', () => {
  test('jobs are picked in its order while there is room', () => {
    const room = roomOf(of(2500));
    expect(idsOf(select([queueOf([job('1'), job('2'), job('3')])], [room], RULES))).toEqual([
      ...['1', '2'],
    ]);
    expect(room.free).toEqual(of(500));
  });

  test('a job that does not fit is passed over, and it is noted since when', () => {
    const heavy = job('heavy', { resources: of(4000) });
    const queue = queueOf([heavy, job('light')]);
    expect(idsOf(select([queue], [roomOf(of(1000))], { ...RULES, nowMs: 7 }))).toEqual(['light']);
    expect(heavy.overtakenSinceMs).toBe(7);
  });

  test('a job that nobody has overtaken is not noted', () => {
    const heavy = job('heavy', { resources: of(4000) });
    select([queueOf([heavy, job('light')])], [roomOf(of(500))], RULES);
    expect(heavy.overtakenSinceMs).toBeUndefined();
  });

  test('a job that was overtaken for too long is waited for', () => {
    const heavy = job('heavy', { resources: of(4000), overtakenSinceMs: 0 });
    const rules = { ...RULES, nowMs: 30_000 };
    expect(select([queueOf([heavy, job('light')])], [roomOf(of(1000))], rules)).toEqual([]);
    const room = roomOf(of(5000));
    expect(idsOf(select([queueOf([job('light'), heavy])], [room], rules))).toEqual([
      ...['heavy', 'light'],
    ]);
  });

  test('a job that no agent could hold is waited for by nobody', () => {
    const huge = job('huge', { resources: of(99_000), overtakenSinceMs: 0 });
    const rules = {
      ...RULES,
      nowMs: 30_000,
      isPlaceable: ({ jobId }: Candidate) => jobId !== 'huge',
    };
    expect(idsOf(select([queueOf([huge, job('light')])], [roomOf(of(1000))], rules))).toEqual([
      'light',
    ]);
  });

  test('another queue does not wait for it', () => {
    const heavy = job('heavy', { resources: of(4000), overtakenSinceMs: 0 });
    const queues = [queueOf([heavy, job('light')]), queueOf([job('other')], { name: 'other' })];
    const rules = { ...RULES, nowMs: 30_000 };
    expect(idsOf(select(queues, [roomOf(of(1000))], rules))).toEqual(['other']);
  });

  test('no more are picked than it has room for', () => {
    const jobs = [job('1'), job('2')];
    expect(idsOf(select([queueOf(jobs, { room: 1 })], [roomOf(of(9000))], RULES))).toEqual(['1']);
    expect(select([queueOf(jobs, { room: 0 })], [roomOf(of(9000))], RULES)).toEqual([]);
    expect(select([queueOf(jobs, { room: -1 })], [roomOf(of(9000))], RULES)).toEqual([]);
  });

  test('no more is held than its quota, with what is held already', () => {
    const jobs = [job('1'), job('2'), job('3')];
    const queue = queueOf(jobs, { quota: of(3000), held: of(1000) });
    expect(idsOf(select([queue], [roomOf(of(9000))], RULES))).toEqual(['1', '2']);
  });

  test('a job goes where its attributes are', () => {
    const rooms = [
      roomOf(of(9000)),
      roomOf(of(9000), { agentId: 'b', attributes: { disk: 'ssd', rack: '1' } }),
    ];
    const picks = select([queueOf([job('1', { attributes: { disk: 'ssd' } })])], rooms, RULES);
    expect(picks.map(({ room }) => room.agentId)).toEqual(['b']);
    expect(hasAttributes({ disk: 'ssd' }, { disk: 'hdd' })).toBe(false);
  });

  test('the first job of an executor needs room for it, the next ones do not', () => {
    const executor = { executorId: 'e', resources: of(600) };
    const jobs = ['1', '2', '3'].map((id) => job(id, { executor }));
    const room = roomOf(of(3000));
    expect(idsOf(select([queueOf(jobs)], [room], RULES))).toEqual(['1', '2']);
    expect(room.free).toEqual(of(400));
    const warm = roomOf(of(3000), { executorIds: new Set(['e']) });
    expect(idsOf(select([queueOf(jobs)], [warm], RULES))).toEqual(['1', '2', '3']);
  });
});

describe('a job of a higher priority', () => {
  const urgent = (jobId: string, given: Partial<Candidate> = {}): Candidate =>
    job(jobId, { priority: 10, ...given });

  test('goes before those that were queued before it, which keep their order', () => {
    const queue = queueOf([job('1'), job('2'), urgent('3'), urgent('4')]);
    expect(idsOf(select([queue], [roomOf(of(3000))], RULES))).toEqual(['3', '4', '1']);
  });

  test('goes before those of another queue that holds less', () => {
    const queues = [
      queueOf([job('1')], { name: 'a' }),
      queueOf([urgent('2'), job('3')], { name: 'b', held: of(9000) }),
    ];
    expect(idsOf(select(queues, [roomOf(of(2000))], RULES))).toEqual(['2', '1']);
  });

  test('that has no room is passed over, and it is noted since when', () => {
    const large = urgent('large', { resources: of(9000) });
    const picks = select([queueOf([job('1'), large])], [roomOf(of(1000))], { ...RULES, nowMs: 7 });
    expect([idsOf(picks), large.overtakenSinceMs]).toEqual([['1'], 7]);
  });

  test('does not wait for a job of a lower one that was overtaken for too long, others do', () => {
    const heavy = job('heavy', { resources: of(4000), overtakenSinceMs: 0 });
    const queue = queueOf([heavy, urgent('urgent'), job('light')]);
    const rules = { ...RULES, nowMs: 30_000 };
    expect(idsOf(select([queue], [roomOf(of(3000))], rules))).toEqual(['urgent']);
  });

  test('that was overtaken for too long is waited for by all of its queue', () => {
    const heavy = urgent('heavy', { resources: of(4000), overtakenSinceMs: 0 });
    const queue = queueOf([job('light'), heavy, urgent('other')]);
    expect(select([queue], [roomOf(of(3000))], { ...RULES, nowMs: 30_000 })).toEqual([]);
  });
});

describe('other resources', () => {
  const gpu = (count: number): Resources => ({ ...of(1000), others: { gpus: count } });

  test('are asked for and used up as CPU and memory are', () => {
    const jobs = [job('1', { resources: gpu(1) }), job('2', { resources: gpu(2) }), job('3')];
    const room = roomOf({ ...of(9000), others: { gpus: 2 } });
    expect(idsOf(select([queueOf(jobs)], [room], RULES))).toEqual(['1', '3']);
    expect(room.free).toEqual({ ...of(7000), others: { gpus: 1 } });
  });

  test('may be in a quota, and what it does not name is not limited', () => {
    const jobs = [job('1', { resources: gpu(2) }), job('2', { resources: gpu(1) }), job('3')];
    const queue = queueOf(jobs, { quota: { others: { gpus: 2 } } });
    const room = roomOf({ ...of(90_000), others: { gpus: 9 } });
    expect(idsOf(select([queue], [room], RULES))).toEqual(['1']);
    const groups = jobs.map((each) => ({ ...each, group: each.jobId }));
    expect(idsOf(select([{ ...queue, candidates: groups }], [room], RULES))).toEqual(['1', '3']);
  });
});

describe('groups', () => {
  const grouped = (...groups: string[]): Candidate[] =>
    groups.map((group, index) => job(`${group}${String(index)}`, { group }));

  test('are served in turn, whoever has more jobs', () => {
    const queue = queueOf(grouped('a', 'a', 'a', 'b', 'c'));
    expect(idsOf(select([queue], [roomOf(of(9000))], RULES))).toEqual([
      ...['a0', 'b3', 'c4', 'a1', 'a2'],
    ]);
  });

  test('go on where they were the last time', () => {
    const turns = { count: 1, of: new Map([['a', 1]]) };
    const queue = queueOf(grouped('a', 'b'), { turns });
    expect(idsOf(select([queue], [roomOf(of(1000))], RULES))).toEqual(['b1']);
    expect(turns).toEqual({
      count: 2,
      of: new Map([
        ['a', 1],
        ['b', 2],
      ]),
    });
  });

  test('have no more at once than the limit, with what runs already', () => {
    const running = new Map([['a', 1]]);
    const queue = queueOf(grouped('a', 'a', 'b', 'b', 'b'), { groupLimit: 2, running });
    expect(idsOf(select([queue], [roomOf(of(9000))], RULES)).sort()).toEqual(['a0', 'b2', 'b3']);
  });

  test('whose next job is over the quota are passed by for one that is within', () => {
    const jobs = [job('large', { group: 'a', resources: of(3000) }), job('small', { group: 'b' })];
    const queue = queueOf(jobs, { quota: of(2000) });
    expect(idsOf(select([queue], [roomOf(of(9000))], RULES))).toEqual(['small']);
  });
});

describe('between queues', () => {
  const jobsOf = (name: string, count: number): Candidate[] =>
    Array.from({ length: count }, (_none, index) => job(`${name}${String(index)}`));

  test('who holds least for its weight is served first', () => {
    // Shares while they are served: a 0 1 1 1 2, b (weight 3) 0 0 1/3 2/3 1: a, b, b, b, then a again or b.
    const queues = [
      queueOf(jobsOf('a', 9), { name: 'a' }),
      queueOf(jobsOf('b', 9), { name: 'b', weight: 3 }),
    ];
    const picks = select(queues, [roomOf(of(8000))], RULES);
    const count = (name: string): number => picks.filter(({ queue }) => queue.name === name).length;
    expect([count('a'), count('b')]).toEqual([2, 6]);
  });

  test('what is held already counts', () => {
    const queues = [
      queueOf(jobsOf('a', 9), { name: 'a', held: of(3000) }),
      queueOf(jobsOf('b', 9), { name: 'b' }),
    ];
    expect(idsOf(select(queues, [roomOf(of(3000))], RULES))).toEqual(['b0', 'b1', 'b2']);
  });

  test('memory counts as a core for each 4 GiB', () => {
    const large = job('large', { resources: of(100, 8192) });
    const queues = [queueOf([large, large], { name: 'a' }), queueOf(jobsOf('b', 2), { name: 'b' })];
    expect(idsOf(select(queues, [roomOf(of(9000, 65_536))], RULES)).slice(0, 3)).toEqual([
      ...['large', 'b0', 'b1'],
    ]);
  });

  test('of equals whoever was served longest ago is next', () => {
    const queues = ['a', 'b', 'c'].map((name) => queueOf(jobsOf(name, 2), { name }));
    expect(idsOf(select(queues, [roomOf(of(9000))], RULES))).toEqual([
      ...['a0', 'b0', 'c0', 'a1', 'b1', 'c1'],
    ]);
  });
});

describe('the demand', () => {
  const OPTIONS = { rules: RULES, hasExecutor: () => false, jobsMax: 100 };

  test('is what would be picked if there were room, summed by size and attributes', () => {
    const jobs = [job('1'), job('2', { attributes: { disk: 'ssd' } }), job('3')];
    expect(demandOf([queueOf(jobs)], [], OPTIONS)).toEqual([
      { resources: of(1000), attributes: {}, count: 2 },
      { resources: of(1000), attributes: { disk: 'ssd' }, count: 1 },
    ]);
  });

  test('has jobs that wait for a place, and those first', () => {
    const held = job('held', { resources: of(5) });
    expect(demandOf([queueOf([job('1')])], [held], { ...OPTIONS, jobsMax: 1 })).toEqual([
      { resources: of(5), attributes: {}, count: 1 },
    ]);
  });

  test('is no more than room, quota and group limit allow', () => {
    const jobs = ['1', '2', '3', '4'].map((id) => job(id, { group: 'g' }));
    const counts = [{ room: 2 }, { quota: of(1000) }, { groupLimit: 3 }].map((given) =>
      demandOf([queueOf(jobs, given)], [], OPTIONS).map(({ count }) => count),
    );
    expect(counts).toEqual([[2], [1], [3]]);
  });

  test('has the executor with each job while there is none, and not afterwards', () => {
    const jobs = [job('1', { executor: { executorId: 'e', resources: of(100) } })];
    const resources = (hasExecutor: boolean): Resources | undefined =>
      demandOf([queueOf(jobs)], [], { ...OPTIONS, hasExecutor: () => hasExecutor })[0]?.resources;
    expect([resources(false), resources(true)]).toEqual([of(1100), of(1000)]);
  });

  test('has the other resources and the priority of jobs, each kind for itself', () => {
    const resources = { ...of(1000), others: { gpus: 1 } };
    const jobs = [job('1', { resources }), job('2', { priority: 5 }), job('3'), job('4')];
    const whole = [
      { resources: of(1000), attributes: {}, count: 1, priority: 5 },
      { resources, attributes: {}, count: 1 },
      { resources: of(1000), attributes: {}, count: 2 },
    ];
    expect(demandOf([queueOf(jobs)], [], OPTIONS)).toEqual(whole);
    // The same by way of the selection, which knows the limits.
    expect(demandOf([queueOf(jobs, { groupLimit: 9 })], [], OPTIONS)).toEqual(whole);
  });

  test('has jobs of a higher priority beside one of a lower that is waited for', () => {
    const heavy = job('heavy', { resources: of(4000), overtakenSinceMs: 0 });
    const jobs = [job('1'), heavy, job('2', { priority: 5 })];
    const rules = { ...RULES, nowMs: 30_000 };
    expect(demandOf([queueOf(jobs)], [], { ...OPTIONS, rules })).toEqual([
      { resources: of(1000), attributes: {}, count: 1, priority: 5 },
      { resources: of(4000), attributes: {}, count: 1 },
    ]);
  });

  test('is for the job that is waited for alone', () => {
    const heavy = job('heavy', { resources: of(4000), overtakenSinceMs: 0 });
    const rules = { ...RULES, nowMs: 30_000 };
    expect(demandOf([queueOf([job('1'), heavy])], [], { ...OPTIONS, rules })).toEqual([
      { resources: of(4000), attributes: {}, count: 1 },
    ]);
  });

  test('changes nobody and no turn', () => {
    const queue = queueOf([job('1', { group: 'a' }), job('2', { group: 'b' })]);
    const before = JSON.stringify([queue, [...queue.turns.of]]);
    demandOf([queue], [], OPTIONS);
    expect(JSON.stringify([queue, [...queue.turns.of]])).toBe(before);
  });
});

describe('whatever the queues and offers', () => {
  const anyResources = fc.record({
    cpuMillis: fc.integer({ min: 0, max: 8 }).map((each) => each * 500),
    memMib: fc.integer({ min: 0, max: 8 }).map((each) => each * 512),
  });
  const anyAttributes = fc.constantFrom<Record<string, string>>(
    {},
    {},
    { disk: 'ssd' },
    { disk: 'hdd' },
  );
  const anyExecutor = fc.option(
    fc.constantFrom('e', 'f').map((executorId) => ({ executorId, resources: of(100, 64) })),
    { nil: undefined },
  );
  const anyJob = fc.record({
    group: fc.constantFrom('', 'a', 'b', 'c'),
    priority: fc.constantFrom(0, 0, 7, -3),
    resources: anyResources,
    attributes: anyAttributes,
    executor: anyExecutor,
  });
  const anyQueue = fc.record({
    weight: fc.constantFrom(0.5, 1, 3),
    room: fc.integer({ min: 0, max: 12 }),
    held: anyResources,
    quota: fc.option(anyResources, { nil: undefined }),
    groupLimit: fc.option(fc.integer({ min: 1, max: 3 }), { nil: undefined }),
    jobs: fc.array(anyJob, { maxLength: 12 }),
  });
  const anyRoom = fc.record({ free: anyResources, attributes: anyAttributes });
  const scene = fc.record({
    queues: fc.array(anyQueue, { maxLength: 4 }),
    rooms: fc.array(anyRoom, { maxLength: 4 }),
  });
  type Scene = typeof scene extends fc.Arbitrary<infer T> ? T : never;

  const build = ({ queues, rooms }: Scene): { queues: QueueState[]; rooms: Room[] } => ({
    queues: queues.map(({ jobs, ...given }, at) =>
      queueOf(
        jobs.map((each, index) => job(`${String(at)}.${String(index)}`, each)),
        { ...given, name: String(at) },
      ),
    ),
    rooms: rooms.map((given, index) => roomOf(given.free, { ...given, agentId: String(index) })),
  });
  /** Runs it, and says what each queue got. */
  const run = (given: Scene): { queues: QueueState[]; rooms: Room[]; picks: Pick[] } => {
    const { queues, rooms } = build(given);
    return { queues, rooms, picks: select(queues, rooms, RULES) };
  };
  const holds = (check: (given: Scene, found: ReturnType<typeof run>) => void): void => {
    fc.assert(
      fc.property(scene, (given) => check(given, run(given))),
      { numRuns: 500 },
    );
  };
  const heldBy = (queue: QueueState, picks: readonly Pick[]): Resources =>
    picks
      .filter((pick) => pick.queue === queue)
      .reduce((sum, { candidate }) => addResources(sum, candidate.resources), queue.held);

  test('no room is used beyond what is free in it, and each job goes where its attributes are', () => {
    holds((given, { rooms, picks }) => {
      for (const [index, room] of rooms.entries()) {
        const inIt = picks.filter((pick) => pick.room === room);
        const executors = new Map(
          inIt.flatMap(({ candidate: { executor } }) =>
            executor ? [[executor.executorId, executor.resources] as const] : [],
          ),
        );
        const used = [...inIt.map(({ candidate }) => candidate.resources), ...executors.values()];
        const all = used.reduce(addResources, NO_RESOURCES);
        expect(addResources(all, room.free)).toEqual(given.rooms[index]?.free);
        expect(room.free.cpuMillis).toBeGreaterThanOrEqual(0);
        expect(room.free.memMib).toBeGreaterThanOrEqual(0);
        for (const { candidate } of inIt) {
          expect(hasAttributes(room.attributes, candidate.attributes)).toBe(true);
        }
      }
    });
  });

  test('no queue gets more than its room, its quota, or more of a group than its limit', () => {
    holds((_given, { queues, picks }) => {
      for (const queue of queues) {
        const own = picks.filter((pick) => pick.queue === queue);
        expect(own.length).toBeLessThanOrEqual(queue.room);
        const taken = own
          .map(({ candidate }) => candidate.resources)
          .reduce(addResources, NO_RESOURCES);
        if (queue.quota) expect(isBeyond(heldBy(queue, own), queue.quota, taken)).toBe(false);
        for (const group of ['', 'a', 'b', 'c']) {
          const count = own.filter(({ candidate }) => candidate.group === group).length;
          expect(count).toBeLessThanOrEqual(queue.groupLimit ?? Infinity);
        }
      }
    });
  });

  test('jobs are picked by priority, the highest first', () => {
    holds((_given, { picks }) => {
      const priorities = picks.map(({ candidate }) => candidate.priority);
      expect(priorities).toEqual([...priorities].sort((a, b) => b - a));
    });
  });

  test('no job is picked twice', () => {
    holds((_given, { picks }) => {
      expect(new Set(idsOf(picks)).size).toBe(picks.length);
    });
  });

  test('nobody who may run and fits is left while there is place', () => {
    holds((_given, { queues, rooms, picks }) => {
      const picked = new Set(idsOf(picks));
      for (const queue of queues) {
        const own = picks.filter((pick) => pick.queue === queue);
        if (own.length >= queue.room) continue;
        const held = heldBy(queue, own);
        const isWithin = ({ resources }: Candidate): boolean =>
          !queue.quota || !isBeyond(addResources(held, resources), queue.quota, resources);
        const countOf = (group: string): number =>
          own.filter(({ candidate }) => candidate.group === group).length;
        const left = queue.candidates.filter(({ jobId }) => !picked.has(jobId));
        for (const [index, candidate] of left.entries()) {
          if (countOf(candidate.group) >= (queue.groupLimit ?? Infinity)) continue;
          // A quota stops its group at the first job that is over it: order within a group is kept.
          const before = left
            .slice(0, index + 1)
            .filter(
              (each) => each.group === candidate.group && each.priority === candidate.priority,
            );
          if (!before.every(isWithin)) continue;
          expect(select([queueOf([{ ...candidate }])], rooms, RULES)).toEqual([]);
        }
      }
    });
  });

  test('a job that fits an agent is placed after finitely many rounds, however many lighter ones come', () => {
    const sizes = fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(sizes, fc.integer({ min: 2, max: 4 }), (agents, needed) => {
        fc.pre(agents.some((cores) => cores >= needed));
        const heavy = job('heavy', { resources: of(needed * 1000) });
        const isPlaceable = ({ resources }: Candidate): boolean =>
          agents.some((cores) => fits(resources, of(cores * 1000)));
        // Each agent is full of light jobs, one core each, that end one after the other.
        let running: { agent: number; endsAt: number }[] = agents.flatMap((cores, agent) =>
          Array.from({ length: cores }, (_none, index) => ({ agent, endsAt: 1 + index })),
        );
        for (let round = 1; round <= 40; round += 1) {
          running = running.filter(({ endsAt }) => endsAt > round);
          const rooms = agents.map((cores, agent) =>
            roomOf(of((cores - running.filter((each) => each.agent === agent).length) * 1000), {
              agentId: String(agent),
            }),
          );
          const lights = Array.from({ length: 20 }, (_none, index) => job(`light${String(index)}`));
          const rules = { nowMs: round, patienceMs: 10, isPlaceable };
          const picks = select([queueOf([heavy, ...lights])], rooms, rules);
          if (picks.some(({ candidate }) => candidate === heavy)) return;
          for (const { room } of picks) {
            running.push({ agent: Number(room.agentId), endsAt: round + 1 + (round % 4) });
          }
        }
        throw new Error('the heavy job was never placed');
      }),
      { numRuns: 200 },
    );
  });

  test('with enough place and jobs no group is served twice while another waits', () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom('a', 'b', 'c'), { maxLength: 20 }), (groups) => {
        const jobs = groups.map((group, index) => job(String(index), { group }));
        const picks = select([queueOf(jobs)], [roomOf(of(1_000_000))], RULES);
        const left = new Map<string, number>();
        for (const group of groups) left.set(group, (left.get(group) ?? 0) + 1);
        const turns = new Map<string, number>();
        for (const { candidate } of picks) {
          turns.set(candidate.group, (turns.get(candidate.group) ?? 0) + 1);
          left.set(candidate.group, (left.get(candidate.group) ?? 0) - 1);
          for (const [group, count] of left) {
            const ahead = (turns.get(candidate.group) ?? 0) - (turns.get(group) ?? 0);
            if (count > 0) expect(ahead).toBeLessThanOrEqual(1);
          }
        }
      }),
    );
  });
});
