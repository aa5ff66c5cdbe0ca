/** Offers: made by the allocator's word, taken back on decline, timeout, loss of a side, or when used. */
import type { AgentId, ExecutorId, FrameworkId, OfferId } from '../../protocol/ids.ts';
import { frameworkName } from '../../protocol/keys.ts';
import type { MessageOf } from '../../protocol/messages.ts';
import { OFFERS_PER_CALL_MAX } from '../../protocol/limits.ts';
import type { OfferRecord } from '../../protocol/records.ts';
import type { Resources } from '../../protocol/resources.ts';
import { addResources, fits, isEmpty } from '../../protocol/resources.ts';
import { REFUSE_DEFAULT_MS } from '../../protocol/task.ts';
import { allocate } from './allocator/drf.ts';
import type { StepContext } from './effects.ts';
import { appendEvent, send } from './effects.ts';
import type { Agent, Framework, MasterState } from './state.ts';
import { addOffer, removeOffer } from './books.ts';

/** Longest filter that a framework may ask for: a year, as in Mesos. */
const REFUSE_MAX_MS = 31_536_000_000;
/** Filters kept for one framework; the oldest go first. */
const FILTERS_MAX = 1000;

/** Lets the allocator decide and makes the offers, one message a framework. */
export function makeOffers(cx: StepContext): void {
  const { state } = cx;
  if (!state.allocationDue) return;
  state.allocationDue = false;
  const byFramework = new Map<FrameworkId, OfferRecord[]>();
  for (const grant of allocate(state, cx.nowMs)) {
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

function recordOffer(
  cx: StepContext,
  grant: { frameworkId: FrameworkId; agentId: AgentId; resources: Resources },
): OfferRecord {
  const { state } = cx;
  const info = state.agents.get(grant.agentId)?.record.info;
  const offer: OfferRecord = {
    offerId: `o${String(state.epoch)}.${state.term}.${String(state.nextOffer++)}` as OfferId,
    ...grant,
    hostname: info?.hostname ?? '',
    attributes: info?.attributes ?? {},
    executorIds: executorIdsOn(state, grant.agentId, grant.frameworkId),
    madeAtMs: cx.nowMs,
    expiresAtMs: cx.nowMs + state.options.offerTimeoutMs,
  };
  addOffer(state, offer);
  const { offerId, frameworkId, agentId, resources } = offer;
  appendEvent(cx, { type: 'offer.made', offerId, frameworkId, agentId, resources });
  return offer;
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
  const { record, used, offered } = agent;
  if (!fits(addResources(used, offered), record.info.resources)) rescindOffersOf(cx, agent, reason);
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
    refuse(cx, framework, offer, message.filters?.refuseMs ?? REFUSE_DEFAULT_MS);
    const { agentId, frameworkId } = offer;
    appendEvent(cx, { type: 'offer.declined', offerId, frameworkId, agentId });
  }
}

/** Remembers that a framework does not want these resources of this agent for a while. */
export function refuse(
  cx: StepContext,
  framework: Framework,
  refused: { readonly agentId: AgentId; readonly resources: Resources },
  refuseMs: number,
): void {
  if (refuseMs <= 0 || isEmpty(refused.resources)) return;
  const { record } = framework;
  const { agentId, resources } = refused;
  const untilMs = cx.nowMs + Math.min(refuseMs, REFUSE_MAX_MS);
  record.filters = record.filters
    .filter((filter) => filter.untilMs > cx.nowMs)
    .slice(-FILTERS_MAX + 1);
  record.filters.push({ agentId, resources, untilMs });
  cx.state.dirty.frameworks.add(record.info.frameworkId);
}

/** Rescinds what has been held for too long, and makes filters that have run out a reason to allocate. */
export function expireOffers(cx: StepContext): void {
  for (const offer of [...cx.state.offers.values()]) {
    if (offer.expiresAtMs > cx.nowMs) continue;
    rescindOffer(cx, offer, 'offer timeout: neither accepted nor declined');
    const framework = cx.state.frameworks.get(offer.frameworkId);
    // Otherwise the framework that does not answer would get the same resources again at once, and for ever.
    if (framework) refuse(cx, framework, offer, REFUSE_DEFAULT_MS);
  }
  for (const { record } of cx.state.frameworks.values()) {
    if (record.filters.length === 0) continue;
    const kept = record.filters.filter((filter) => filter.untilMs > cx.nowMs);
    if (kept.length === record.filters.length) continue;
    record.filters = kept;
    cx.state.allocationDue = true;
    cx.state.dirty.frameworks.add(record.info.frameworkId);
  }
}
