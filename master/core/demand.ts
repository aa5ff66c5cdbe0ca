/**
 * What of a framework's demand is in its offers, and what is not yet. Kept as offers come and go, because to count it anew
 * costs all offers in each round; counted anew when the demand is another, and when an offer goes that others may stand in for.
 */
import type { AgentId, OfferId } from '../../protocol/ids.ts';
import type { FrameworkRecord, OfferRecord } from '../../protocol/records.ts';
import type { Resources } from '../../protocol/resources.ts';
import {
  fits,
  isEmpty,
  scaleResources,
  subtractResources,
  unitsIn,
} from '../../protocol/resources.ts';
import type { ResourceRequest } from '../../protocol/task.ts';
import { hasAttributes } from './allocator/needs.ts';
import type { NeedView } from './allocator/port.ts';

/** Of a framework. */
export interface Asked {
  /** The demand that this is the account of. */
  readonly demand: readonly ResourceRequest[];
  readonly ownRole: string;
  readonly requests: readonly AskedRequest[];
  /** What each of its offers stands for. */
  readonly parts: Map<OfferId, readonly Part[]>;
  /** Offers with room for more than they stand for. */
  readonly spare: Set<OfferId>;
}

interface AskedRequest {
  readonly request: ResourceRequest;
  readonly role: string;
  /** Units in no offer. */
  open: number;
  readonly notOn: ReadonlySet<AgentId> | undefined;
  /** Units in offers, by agent; kept where there may be only so many on each. */
  readonly offeredOn: Map<AgentId, number>;
}

interface Part {
  readonly asked: AskedRequest;
  readonly units: number;
}

/** As much of a framework as is read here; `asked` is this file's. */
export interface Asking {
  readonly record: Pick<FrameworkRecord, 'info' | 'demand'>;
  readonly offers: ReadonlySet<OfferId>;
  asked: Asked | undefined;
}

type Offers = ReadonlyMap<OfferId, OfferRecord>;

/**
 * @returns what a framework still needs under a role; undefined: it has not said, and takes anything. Cost: its requests,
 *   and after a change of its demand all of its offers
 */
export function needsUnder(
  { offers }: { readonly offers: Offers },
  framework: Asking,
  role: string,
): NeedView[] | undefined {
  if (!framework.record.demand) return undefined;
  return accountOf(framework, framework.record.demand, offers)
    .requests.filter((asked) => asked.role === role && asked.open > 0)
    .map(viewOf);
}

function viewOf({ request, open, offeredOn, notOn }: AskedRequest): NeedView {
  const { resources, attributes, maxPerAgent, placement, gang, priority } = request;
  return {
    ...{ resources, attributes, count: open },
    ...(maxPerAgent !== undefined && { maxPerAgent, offeredOn }),
    ...(notOn && { notOn }),
    ...(placement && { placement }),
    ...(gang && { gang }),
    ...(priority !== undefined && { priority }),
  };
}

function accountOf(framework: Asking, demand: readonly ResourceRequest[], offers: Offers): Asked {
  const { role } = framework.record.info;
  const { asked } = framework;
  if (asked?.demand === demand && asked.ownRole === role) return asked;
  const fresh: Asked = {
    ...{ demand, ownRole: role, parts: new Map(), spare: new Set() },
    // A request for nothing would be met by any number of empty offers, again and again.
    requests: demand
      .filter(({ resources }) => !isEmpty(resources))
      .map((request) => ({
        ...{ request, role: request.role ?? role, open: request.count, offeredOn: new Map() },
        notOn: request.notOn && new Set(request.notOn),
      })),
  };
  framework.asked = fresh;
  for (const offerId of framework.offers) {
    const offer = offers.get(offerId);
    if (offer) enter(fresh, offer);
  }
  return fresh;
}

/** An offer has been made to a framework. */
export function noteOffer({ asked }: Asking, offer: OfferRecord): void {
  if (asked) enter(asked, offer);
}

/** An offer of a framework is gone: what it stood for is open again. */
export function noteOfferGone(framework: Asking, { offerId, agentId }: OfferRecord): void {
  const { asked } = framework;
  if (!asked) return;
  asked.spare.delete(offerId);
  for (const { asked: one, units } of asked.parts.get(offerId) ?? []) {
    one.open += units;
    countOn(one, agentId, -units);
  }
  asked.parts.delete(offerId);
  if (asked.spare.size > 0) framework.asked = undefined;
}

function countOn({ request, offeredOn }: AskedRequest, agentId: AgentId, units: number): void {
  if (request.maxPerAgent === undefined) return;
  const count = (offeredOn.get(agentId) ?? 0) + units;
  if (count === 0) offeredOn.delete(agentId);
  else offeredOn.set(agentId, count);
}

/** What an offer stands for: of each request in turn as many units as it has room for. */
function enter({ requests, parts, spare }: Asked, offer: OfferRecord): void {
  let left = offer.resources;
  const own: Part[] = [];
  for (const asked of requests) {
    if (!isFor(asked, offer)) continue;
    const { resources, maxPerAgent = Infinity } = asked.request;
    const most = Math.min(asked.open, maxPerAgent - (asked.offeredOn.get(offer.agentId) ?? 0));
    const units = Math.max(0, Math.min(most, unitsIn(resources, left)));
    if (units === 0) continue;
    asked.open -= units;
    countOn(asked, offer.agentId, units);
    left = subtractResources(left, scaleResources(resources, units));
    own.push({ asked, units });
  }
  if (own.length > 0) parts.set(offer.offerId, own);
  if (hasRoomFor(requests, offer, left)) spare.add(offer.offerId);
}

/** Whether units of a request can be launched on an offer, if they fit. */
function isFor({ role, request, notOn }: AskedRequest, offer: OfferRecord): boolean {
  if (role !== offer.role || notOn?.has(offer.agentId)) return false;
  return hasAttributes(offer.attributes, request.attributes);
}

function hasRoomFor(
  requests: readonly AskedRequest[],
  offer: OfferRecord,
  left: Resources,
): boolean {
  for (const asked of requests) {
    if (fits(asked.request.resources, left) && isFor(asked, offer)) return true;
  }
  return false;
}
