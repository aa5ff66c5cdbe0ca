/** Offers: made by the allocator's word, taken back on decline, timeout, loss of a side, or when used. */
import type {
  AgentId,
  ExecutorId,
  FrameworkId,
  OfferId,
  ReservationId,
} from '../../protocol/ids.ts';
import { frameworkName } from '../../protocol/keys.ts';
import type { MessageOf } from '../../protocol/messages.ts';
import { OFFERS_PER_CALL_MAX } from '../../protocol/limits.ts';
import type { AgentRecord, OfferRecord } from '../../protocol/records.ts';
import type { OfferReservation, Reservation } from '../../protocol/reservations.ts';
import type { Resources } from '../../protocol/resources.ts';
import { fits, isEmpty, NO_RESOURCES } from '../../protocol/resources.ts';
import { REFUSE_DEFAULT_MS } from '../../protocol/task.ts';
import type { PoolGrant } from './allocation.ts';
import { allocateChanges, endPreemption } from './allocation.ts';
import type { StepContext } from './effects.ts';
import { appendEvent, send } from './effects.ts';
import type { Agent, Framework, MasterState } from './state.ts';
import { addOffer, removeOffer } from './books.ts';
import { addFilter, dropEnded, dropRoles, forgetEnds, takeEnded } from './filters.ts';
import { isOverOffered, poolOf } from './pools.ts';

/** Longest filter that a framework may ask for: a year, as in Mesos. */
const REFUSE_MAX_MS = 31_536_000_000;
/** Of the pause after offers that ran out: 30 s become 16 minutes. */
const HOLD_BACK_DOUBLINGS = 5;

/** Lets the allocator decide and makes the offers, one message a framework. */
export function makeOffers(cx: StepContext): void {
  const { state } = cx;
  const byFramework = new Map<FrameworkId, OfferRecord[]>();
  for (const grant of allocateChanges(cx)) {
    const offer = recordOffer(cx, grant);
    const offers = byFramework.get(grant.frameworkId);
    if (offers) offers.push(offer);
    else byFramework.set(grant.frameworkId, [offer]);
  }
  for (const [frameworkId, offers] of byFramework) {
    sendOffers(cx, state.frameworks.get(frameworkId), offers);
  }
}

/** Sends offers to the framework that they were made to, in messages that a call can answer whole. */
export function sendOffers(
  cx: StepContext,
  framework: Framework | undefined,
  offers: readonly OfferRecord[],
): void {
  if (!framework) return;
  const { info, session } = framework.record;
  for (let from = 0; from < offers.length; from += OFFERS_PER_CALL_MAX) {
    const some = offers.slice(from, from + OFFERS_PER_CALL_MAX).map(toWire);
    send(cx, frameworkName(info.frameworkId), session, { type: 'ResourceOffers', offers: some });
  }
}

/** Every field is named: to spread objects into one costs microseconds, and a first round may make 100,000 offers. */
function recordOffer(cx: StepContext, grant: PoolGrant): OfferRecord {
  const { state, nowMs } = cx;
  const { frameworkId, role, agentId, resources, reservation } = grant;
  const record = state.agents.get(agentId)?.record;
  const info = record?.info;
  const offer: OfferRecord = {
    offerId: `o${String(state.epoch)}.${state.term}.${String(state.nextOffer++)}` as OfferId,
    frameworkId,
    role,
    agentId,
    resources,
    hostname: info?.hostname ?? '',
    attributes: info?.attributes ?? {},
    executorIds: executorIdsOn(state, agentId, frameworkId),
    madeAtMs: nowMs,
    expiresAtMs: nowMs + state.options.offerTimeoutMs,
  };
  if (reservation) offer.reservation = seenOf(reservation, record);
  addOffer(state, offer);
  if (state.preemptions.get(agentId)?.frameworkId === frameworkId) endPreemption(state, agentId);
  const { offerId } = offer;
  appendEvent(cx, { type: 'offer.made', offerId, frameworkId, agentId, resources });
  return offer;
}

/** What a framework sees of a reservation. */
function seenOf(
  { reservationId, role, labels }: Reservation,
  agent: AgentRecord | undefined,
): OfferReservation {
  const hasDirectory = agent?.directories?.includes(reservationId) === true;
  return { reservationId, role, labels, ...(hasDirectory && { hasDirectory }) };
}

/** Executors of a framework that an agent has already, or is about to have. */
function executorIdsOn(
  { agents, executors }: MasterState,
  agentId: AgentId,
  frameworkId: FrameworkId,
): ExecutorId[] {
  return [...(agents.get(agentId)?.executors ?? [])].flatMap((path) => {
    const executor = executors.get(path);
    return executor?.frameworkId === frameworkId ? [executor.info.executorId] : [];
  });
}

/** The offer as a framework sees it. */
function toWire({ madeAtMs: _madeAtMs, ...offer }: OfferRecord): Omit<OfferRecord, 'madeAtMs'> {
  return offer;
}

/** Takes an offer back from a framework that still holds it, and says why. */
export function rescindOffer(cx: StepContext, offer: OfferRecord, reason: string): void {
  const { offerId, frameworkId, agentId } = offer;
  removeOffer(cx.state, offer);
  const session = cx.state.frameworks.get(frameworkId)?.record.session;
  send(cx, frameworkName(frameworkId), session, { type: 'RescindResourceOffer', offerId, reason });
  appendEvent(cx, { type: 'offer.rescinded', offerId, frameworkId, agentId, reason });
}

/** Rescinds every offer of an agent or framework. */
export function rescindOffersOf(
  cx: StepContext,
  holder: { readonly offers: ReadonlySet<OfferId> },
  reason: string,
): void {
  for (const offerId of [...holder.offers]) {
    const offer = cx.state.offers.get(offerId);
    if (offer) rescindOffer(cx, offer, reason);
  }
}

/** What an agent says to be in use may be what was offered meanwhile, after Redis has lost data. */
export function rescindIfOvercommitted(cx: StepContext, agent: Agent, reason: string): void {
  if (isOverOffered(agent)) rescindOffersOf(cx, agent, reason);
}

/** What is needed of one pool of an agent, and why offers go for it. */
export interface RoomNeeded {
  readonly reservationId: ReservationId | undefined;
  readonly resources: Resources;
  readonly reason: string;
  /** Whose offers go first. */
  readonly frameworkId?: FrameworkId;
}

/** Rescinds offers of a pool, one after the other, until so much of it is free; what tasks use is not touched. */
export function makeRoom(cx: StepContext, agent: Agent, needed: RoomNeeded): void {
  const { reservationId, resources, reason, frameworkId } = needed;
  const offers = [...agent.offers]
    .flatMap((offerId) => cx.state.offers.get(offerId) ?? [])
    .filter(({ reservation }) => reservation?.reservationId === reservationId);
  const isFirst = (offer: OfferRecord): boolean => offer.frameworkId === frameworkId;
  for (const offer of [...offers.filter(isFirst), ...offers.filter((one) => !isFirst(one))]) {
    if (fits(resources, poolOf(agent, reservationId)?.free ?? NO_RESOURCES)) return;
    rescindOffer(cx, offer, reason);
  }
}

/**
 * Gives offers back, and remembers what was refused; offers that the framework does not hold are passed over.
 */
export function declineOffers(
  cx: StepContext,
  framework: Framework,
  message: MessageOf<'DeclineOffers'>,
): void {
  for (const offerId of message.offerIds) {
    const offer = cx.state.offers.get(offerId);
    // An unknown offer is one that was rescinded while the decline was on its way.
    if (offer?.frameworkId !== message.frameworkId) continue;
    removeOffer(cx.state, offer);
    const { reservationId } = offer.reservation ?? {};
    refuse(
      cx,
      framework,
      { ...offer, reservationId },
      message.filters?.refuseMs ?? REFUSE_DEFAULT_MS,
    );
    const { agentId, frameworkId } = offer;
    appendEvent(cx, { type: 'offer.declined', offerId, frameworkId, agentId });
  }
}

/** Resources of one pool of an agent that a framework does not want under a role. */
interface Refused {
  readonly agentId: AgentId;
  readonly role: string;
  readonly resources: Resources;
  /** Absent: of what is not reserved. */
  readonly reservationId?: ReservationId | undefined;
}

/** Remembers that a framework does not want these for a while. */
export function refuse(
  { state, nowMs }: StepContext,
  framework: Framework,
  refused: Refused,
  refuseMs: number,
): void {
  if (refuseMs <= 0 || isEmpty(refused.resources)) return;
  const { frameworkId } = framework.record.info;
  const { agentId, role, resources, reservationId } = refused;
  const untilMs = nowMs + Math.min(refuseMs, REFUSE_MAX_MS);
  const filter = { frameworkId, agentId, reservationId, role, resources, untilMs };
  addFilter(framework.filters, state.filterEnds, filter);
}

/**
 * A framework that does not answer would get the same resources again at once, and for ever; and with a few of its kind they
 * would go from one to the next, past those with work. Each time in a row it waits twice as long.
 */
function holdBack({ state, nowMs }: StepContext, framework: Framework): void {
  const { ignored } = framework;
  if (ignored && ignored.untilMs > nowMs) return;
  const count = (ignored?.count ?? 0) + 1;
  const pauseMs = state.options.offerTimeoutMs * 2 ** Math.min(count - 1, HOLD_BACK_DOUBLINGS);
  framework.ignored = { count, untilMs: nowMs + pauseMs };
}

/** It has answered an offer, or asked for some: it is there. */
export function noteAnswer({ state }: StepContext, framework: Framework): void {
  if (!framework.ignored) return;
  framework.ignored = undefined;
  state.changed.frameworks.add(framework.record.info.frameworkId);
}

/** Rescinds what has been held for too long, and makes filters that have run out a reason to allocate. */
export function expireOffers(cx: StepContext): void {
  for (const offer of [...cx.state.offers.values()]) {
    if (offer.expiresAtMs > cx.nowMs) continue;
    rescindOffer(cx, offer, 'offer timeout: neither accepted nor declined');
    const framework = cx.state.frameworks.get(offer.frameworkId);
    if (framework) holdBack(cx, framework);
  }
  for (const framework of cx.state.frameworks.values()) {
    const { ignored, record } = framework;
    if (!ignored || ignored.untilMs === 0 || ignored.untilMs > cx.nowMs) continue;
    // Asked again; how often it has not answered is remembered.
    framework.ignored = { ...ignored, untilMs: 0 };
    cx.state.changed.frameworks.add(record.info.frameworkId);
  }
  for (const end of takeEnded(cx.state.filterEnds, cx.nowMs)) {
    const framework = cx.state.frameworks.get(end.frameworkId);
    if (framework) dropEnded(framework.filters, end, cx.nowMs);
    cx.state.changed.agents.add(end.agentId);
  }
}

/** The framework wants to be asked again, in all of its roles or in some. */
export function forgetFilters(
  { state }: StepContext,
  { filters, record }: Framework,
  roles?: readonly string[],
): void {
  if (filters.size === 0) return;
  if (roles) dropRoles(filters, roles);
  else filters.clear();
  if (filters.size === 0) forgetEnds(state.filterEnds, record.info.frameworkId);
}
