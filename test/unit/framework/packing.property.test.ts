/** What holds of every packing, whatever is offered and asked for. */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { PackConstraints, PackOptions } from '../../../framework/packing.ts';
import { offersByAgent, packTasks, totalOf } from '../../../framework/packing.ts';
import type { ExecutorId } from '../../../protocol/ids.ts';
import type { Resources } from '../../../protocol/resources.ts';
import {
  addResources,
  fits,
  subtractResources,
  sumResources,
} from '../../../protocol/resources.ts';
import type { Offer } from '../../../protocol/task.ts';
import { agentIdOf, frameworkIdOf, offerIdOf } from '../../support/builders.ts';

interface Task {
  readonly kind: string;
  readonly resources: Resources;
  readonly executor?: { readonly executorId: string; readonly resources: Resources };
  readonly groupId?: string;
}

const anyResources = (max: number): fc.Arbitrary<Resources> =>
  fc.record({ cpuMillis: fc.integer({ min: 1, max }), memMib: fc.integer({ min: 1, max }) });

const OWN: Readonly<Record<string, Resources>> = {
  e1: { cpuMillis: 100, memMib: 50 },
  e2: { cpuMillis: 10, memMib: 300 },
};
const anyExecutor = fc
  .constantFrom('e1', 'e2')
  .map((executorId) => ({ executorId, resources: OWN[executorId] as Resources }));

const anyTask: fc.Arbitrary<Task> = fc.record(
  {
    kind: fc.constantFrom('web', 'db'),
    resources: anyResources(600),
    executor: anyExecutor,
    groupId: fc.constantFrom('g1', 'g2'),
  },
  { requiredKeys: ['kind', 'resources'] },
);

/** Attributes are of the agent: all of its offers have them. */
const anyOffers: fc.Arbitrary<Offer[]> = fc
  .tuple(
    fc.array(fc.tuple(fc.constantFrom('a1', 'a2', 'a3'), anyResources(1000)), { maxLength: 6 }),
    fc.dictionary(fc.constantFrom('a1', 'a2', 'a3'), fc.constantFrom('r1', 'r2')),
    fc.dictionary(fc.constantFrom('a1', 'a2', 'a3'), fc.constantFrom('e1', 'e2')),
  )
  .map(([list, racks, executors]) =>
    list.map(([agent, resources], index): Offer => {
      const rack = racks[agent];
      const executorId = executors[agent];
      return {
        offerId: offerIdOf(`o${String(index)}`),
        frameworkId: frameworkIdOf('f1'),
        role: '*',
        agentId: agentIdOf(agent),
        hostname: agent,
        resources,
        attributes: rack === undefined ? {} : { rack },
        executorIds: executorId === undefined ? [] : [executorId as ExecutorId],
        expiresAtMs: 0,
      };
    }),
  );

const anyConstraints: fc.Arbitrary<PackConstraints> = fc.record(
  {
    attributes: fc.constant({ rack: 'r1' }),
    notAttributes: fc.constant({ rack: 'r2' }),
    maxPerAgent: fc.integer({ min: 0, max: 4 }),
  },
  { requiredKeys: [] },
);

const anyOptions: fc.Arbitrary<PackOptions<Task>> = fc
  .record({
    strategy: fc.constantFrom('pack' as const, 'spread' as const),
    web: anyConstraints,
    db: anyConstraints,
    running: fc.integer({ min: 0, max: 2 }),
  })
  .map(({ strategy, web, db, running }) => ({
    strategy,
    constraints: ({ kind }) => (kind === 'web' ? web : db),
    kindOf: ({ kind }) => kind,
    running: (agentId) => (agentId === 'a1' ? running : 0),
  }));

const anyCase = fc.tuple(anyOffers, fc.array(anyTask, { maxLength: 14 }), anyOptions);

const constraintsOf = (task: Task, { constraints }: PackOptions<Task>): PackConstraints =>
  typeof constraints === 'function' ? constraints(task) : (constraints ?? {});

/** What tasks take on an agent with these offers: counted anew, by the rule alone. */
function needOf(tasks: readonly Task[], offers: readonly Offer[]): Resources {
  const there = new Set<string>(offers.flatMap(({ executorIds }) => executorIds));
  const started = new Map(
    tasks.flatMap(({ executor }) =>
      executor && !there.has(executor.executorId)
        ? [[executor.executorId, executor.resources] as const]
        : [],
    ),
  );
  const own = sumResources(tasks.map(({ resources }) => resources));
  return addResources(own, sumResources(started.values()));
}

/** Whether tasks of one agent keep the constraints of each of them. */
function isKept(
  tasks: readonly Task[],
  offers: readonly Offer[],
  options: PackOptions<Task>,
): boolean {
  const [first] = offers;
  return tasks.every((task) => {
    const { attributes, notAttributes, maxPerAgent = Infinity } = constraintsOf(task, options);
    const rack = first?.attributes['rack'];
    if (attributes && rack !== attributes['rack']) return false;
    if (notAttributes && rack === notAttributes['rack']) return false;
    const already = first ? (options.running?.(first.agentId, task.kind) ?? 0) : 0;
    return already + tasks.filter(({ kind }) => kind === task.kind).length <= maxPerAgent;
  });
}

const assertAlways = (holds: (...all: [Offer[], Task[], PackOptions<Task>]) => void): void => {
  fc.assert(
    fc.property(anyCase, ([offers, tasks, options]) => {
      holds(offers, tasks, options);
    }),
    { numRuns: 500 },
  );
};

describe('every packing', () => {
  test('is within the offers that it accepts, with the executors that it starts', () => {
    assertAlways((offers, tasks, options) => {
      for (const launch of packTasks(offers, tasks, options).launches) {
        const accepted = offers.filter(({ offerId }) => launch.offerIds.includes(offerId));
        expect(accepted.map(({ agentId }) => agentId)).toEqual(accepted.map(() => launch.agentId));
        expect(launch.resources).toEqual(needOf(launch.tasks, accepted));
        expect(fits(launch.resources, totalOf(accepted))).toBe(true);
      }
    });
  });

  test('has each task once, and each offer once', () => {
    assertAlways((offers, tasks, options) => {
      const { launches, unplaced, unusedOffers } = packTasks(offers, tasks, options);
      const placed = launches.flatMap((launch) => launch.tasks);
      const found = new Set([...placed, ...unplaced]);
      expect([placed.length + unplaced.length, found]).toEqual([tasks.length, new Set(tasks)]);
      const offerIds = [
        ...launches.flatMap((launch) => launch.offerIds),
        ...unusedOffers.map(({ offerId }) => offerId),
      ];
      expect([...offerIds].sort()).toEqual(offers.map(({ offerId }) => offerId).sort());
    });
  });

  test('accepts offers only where it launches something', () => {
    assertAlways((offers, tasks, options) => {
      const { launches } = packTasks(offers, tasks, options);
      expect(launches.filter((launch) => launch.tasks.length === 0)).toEqual([]);
      expect(new Set(launches.map(({ agentId }) => agentId)).size).toBe(launches.length);
    });
  });

  test('keeps all constraints, and groups together', () => {
    assertAlways((offers, tasks, options) => {
      const { launches, unplaced } = packTasks(offers, tasks, options);
      const byAgent = offersByAgent(offers);
      for (const launch of launches) {
        expect(isKept(launch.tasks, byAgent.get(launch.agentId) ?? [], options)).toBe(true);
      }
      const places = [...launches.map((launch) => launch.tasks), unplaced];
      for (const group of ['g1', 'g2']) {
        const has = (list: readonly Task[]): boolean => list.some((each) => each.groupId === group);
        expect(places.filter(has).length).toBeLessThanOrEqual(1);
      }
    });
  });

  test('leaves no task alone that would still fit somewhere', () => {
    assertAlways((offers, tasks, options) => {
      const { launches, unplaced } = packTasks(offers, tasks, options);
      for (const task of unplaced.filter(({ groupId }) => groupId === undefined)) {
        for (const [agentId, own] of offersByAgent(offers)) {
          const there = launches.find((launch) => launch.agentId === agentId)?.tasks ?? [];
          const both = [...there, task];
          const left = subtractResources(totalOf(own), needOf(both, own));
          const isFit = left.cpuMillis >= 0 && left.memMib >= 0 && isKept(both, own, options);
          expect(isFit).toBe(false);
        }
      }
    });
  });

  test('is the same for the same arguments, which it does not change', () => {
    assertAlways((offers, tasks, options) => {
      const before = JSON.stringify([offers, tasks]);
      const first = packTasks(offers, tasks, options);
      expect(packTasks(offers, tasks, options)).toEqual(first);
      expect(JSON.stringify([offers, tasks])).toBe(before);
    });
  });
});
