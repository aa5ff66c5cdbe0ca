/**
 * The running account of what a framework's offers stand for, against its offers themselves: whatever comes and goes, it is
 * complete, gives no unit twice, and where there is only one way to count, is what a count of all offers would be.
 */
import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { Asked, Asking } from '../../master/core/demand.ts';
import { needsUnder, noteOffer, noteOfferGone } from '../../master/core/demand.ts';
import type { NeedView } from '../../master/core/allocator/port.ts';
import { hasAttributes } from '../../master/core/allocator/needs.ts';
import type { AgentId, OfferId } from '../../protocol/ids.ts';
import type { OfferRecord } from '../../protocol/records.ts';
import type { Resources } from '../../protocol/resources.ts';
import {
  addResources,
  fits,
  NO_RESOURCES,
  scaleResources,
  subtractResources,
  unitsIn,
} from '../../protocol/resources.ts';
import type { ResourceRequest } from '../../protocol/task.ts';

const ROLES = ['eng', 'ops'];
const AGENTS = ['a1', 'a2', 'a3'] as AgentId[];

const anyUnit: fc.Arbitrary<Resources> = fc.record(
  {
    cpuMillis: fc.integer({ min: 0, max: 3 }),
    memMib: fc.integer({ min: 0, max: 3 }),
    others: fc.constantFrom({ gpus: 1 }, { gpus: 2 }),
  },
  { requiredKeys: ['cpuMillis', 'memMib'] },
);
const anyRequest: fc.Arbitrary<ResourceRequest> = fc.record(
  {
    resources: anyUnit,
    count: fc.integer({ min: 1, max: 6 }),
    attributes: fc.constantFrom<Record<string, string>>({}, {}, { rack: 'r1' }),
    role: fc.constantFrom(...ROLES),
    maxPerAgent: fc.integer({ min: 1, max: 3 }),
    notOn: fc.subarray(AGENTS, { maxLength: 2 }),
    gang: fc.boolean(),
  },
  { requiredKeys: ['resources', 'count', 'attributes'] },
);

type Action =
  | { readonly do: 'request'; readonly demand: readonly ResourceRequest[] }
  /** Room for some units of one of the requests, and more. */
  | {
      readonly do: 'offer';
      readonly pick: number;
      readonly units: number;
      readonly more: Resources;
      readonly agentId: AgentId;
      readonly role: string;
      readonly attributes: Record<string, string>;
    }
  /** It was launched on, declined, rescinded, or its agent was drained: it is gone. */
  | { readonly do: 'offer goes'; readonly pick: number }
  | { readonly do: 'agent goes'; readonly agentId: AgentId }
  /** A round of the allocator, or somebody who asks why. */
  | { readonly do: 'look' };

const actionsOf = (demand: fc.Arbitrary<readonly ResourceRequest[]>): fc.Arbitrary<Action[]> =>
  fc.array(
    fc.oneof(
      { weight: 1, arbitrary: fc.record({ do: fc.constant('request' as const), demand }) },
      {
        weight: 5,
        arbitrary: fc.record({
          do: fc.constant('offer' as const),
          pick: fc.nat(100),
          units: fc.integer({ min: 0, max: 4 }),
          more: anyUnit,
          agentId: fc.constantFrom(...AGENTS),
          role: fc.constantFrom(...ROLES),
          attributes: fc.constantFrom<Record<string, string>>({}, { rack: 'r1' }),
        }),
      },
      {
        weight: 3,
        arbitrary: fc.record({ do: fc.constant('offer goes' as const), pick: fc.nat(100) }),
      },
      fc.record({ do: fc.constant('agent goes' as const), agentId: fc.constantFrom(...AGENTS) }),
      { weight: 2, arbitrary: fc.record({ do: fc.constant('look' as const) }) },
    ),
    { maxLength: 40 },
  );

interface World {
  readonly framework: {
    record: Asking['record'];
    offers: Set<OfferId>;
    asked: Asked | undefined;
  };
  readonly offers: Map<OfferId, OfferRecord>;
  made: number;
}

function worldOf(): World {
  const record = { info: { role: 'eng' }, demand: [] } as unknown as Asking['record'];
  return { framework: { record, offers: new Set(), asked: undefined }, offers: new Map(), made: 0 };
}

/** In the order of `books.ts`: the records first, then the account. */
function act(world: World, action: Action): void {
  const { framework, offers } = world;
  const remove = (offer: OfferRecord | undefined): void => {
    if (!offer) return;
    offers.delete(offer.offerId);
    framework.offers.delete(offer.offerId);
    noteOfferGone(framework, offer);
  };
  switch (action.do) {
    case 'request':
      framework.record = { ...framework.record, demand: [...action.demand] };
      return;
    case 'offer': {
      const demand = framework.record.demand ?? [];
      const { resources: unit } = demand[action.pick % demand.length] ?? {
        resources: NO_RESOURCES,
      };
      const offer = {
        ...{ offerId: `o${String((world.made += 1))}`, agentId: action.agentId, role: action.role },
        ...{ attributes: action.attributes },
        resources: addResources(scaleResources(unit, action.units), action.more),
      } as unknown as OfferRecord;
      offers.set(offer.offerId, offer);
      framework.offers.add(offer.offerId);
      noteOffer(framework, offer);
      return;
    }
    case 'offer goes':
      remove([...offers.values()][action.pick % offers.size]);
      return;
    case 'agent goes':
      for (const offer of [...offers.values()]) if (offer.agentId === action.agentId) remove(offer);
      return;
    case 'look':
      for (const role of ROLES) needsUnder({ offers }, framework, role);
  }
}

/** Every unit that is asked for is open or in one offer, every offer stands for what it has room for. */
function assertAccount({ framework, offers }: World): void {
  needsUnder({ offers }, framework, 'eng');
  const { asked } = framework;
  if (!asked) throw new Error('there is no account');
  expect([...asked.parts.keys()].filter((id) => !offers.has(id))).toEqual([]);
  expect([...asked.spare].filter((id) => !offers.has(id))).toEqual([]);
  for (const one of asked.requests) {
    const { request, open } = one;
    const { maxPerAgent = Infinity } = request;
    const onAgents = new Map<AgentId, number>();
    let units = 0;
    for (const [offerId, parts] of asked.parts) {
      const own = parts
        .filter(({ asked: of }) => of === one)
        .reduce((sum, { units: n }) => sum + n, 0);
      const agentId = offers.get(offerId)?.agentId ?? ('' as AgentId);
      units += own;
      if (own > 0) onAgents.set(agentId, (onAgents.get(agentId) ?? 0) + own);
    }
    expect({ open, units }).toEqual({ open: request.count - units, units });
    expect(open).toBeGreaterThanOrEqual(0);
    expect(Math.max(0, ...onAgents.values())).toBeLessThanOrEqual(maxPerAgent);
    if (request.maxPerAgent !== undefined) expect(one.offeredOn).toEqual(onAgents);
    for (const offer of offers.values()) {
      const parts = asked.parts.get(offer.offerId) ?? [];
      const stoodFor = parts.reduce(
        (sum, part) => addResources(sum, scaleResources(part.asked.request.resources, part.units)),
        NO_RESOURCES,
      );
      expect(fits(stoodFor, offer.resources)).toBe(true);
      const isUsable =
        one.role === offer.role &&
        request.notOn?.includes(offer.agentId) !== true &&
        hasAttributes(offer.attributes, request.attributes);
      if (parts.some(({ asked: of }) => of === one)) expect(isUsable).toBe(true);
      const isFull = open === 0 || (onAgents.get(offer.agentId) ?? 0) >= maxPerAgent;
      if (!isUsable || isFull) continue;
      // Else the master would offer for it once more what is offered already.
      expect(unitsIn(request.resources, subtractResources(offer.resources, stoodFor))).toBe(0);
    }
  }
}

function told({ offers, framework }: World): (readonly NeedView[] | undefined)[] {
  return ROLES.map((role) => needsUnder({ offers }, framework, role));
}

function assertRecount(world: World): void {
  const framework = { ...world.framework, asked: undefined };
  expect(told(world)).toEqual(told({ ...world, framework }));
}

const runAll = (
  demand: fc.Arbitrary<readonly ResourceRequest[]>,
  check: (world: World) => void,
): void => {
  fc.assert(
    fc.property(actionsOf(demand), (actions) => {
      const world = worldOf();
      for (const action of actions) {
        act(world, action);
        check(world);
      }
    }),
    { numRuns: 1000 },
  );
};

test('every unit of a demand is open or in one offer, and no offer has room for a unit that is open', () => {
  runAll(fc.array(anyRequest, { maxLength: 4 }), assertAccount);
}, 120_000);

test('what is open of one request under each role is what a count of all offers says', () => {
  const demand = fc.tuple(anyRequest, anyRequest).map(([one, other]) => [
    { ...one, role: 'eng' },
    { ...other, role: 'ops' },
  ]);
  runAll(demand, assertRecount);
}, 120_000);

test('what is open is what a count of all offers says when it is asked for after each change or after all', () => {
  fc.assert(
    fc.property(actionsOf(fc.array(anyRequest, { maxLength: 1 })), (actions) => {
      const [often, once] = [worldOf(), worldOf()];
      for (const action of actions) {
        act(often, action);
        told(often);
        act(once, action);
      }
      expect(told(often)).toEqual(told(once));
    }),
    { numRuns: 1000 },
  );
}, 120_000);
