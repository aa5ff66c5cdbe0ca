/** Offer constraints: what a framework says of the agents that it may be offered. Enforced in `allocation.ts`. */
import type { MessageOf } from '../../protocol/messages.ts';
import { groupsOf, satisfies } from '../../protocol/offer-constraints.ts';
import type { StepContext } from './effects.ts';
import { rescindOffer } from './offers.ts';
import type { Framework } from './state.ts';

/** Replaces them; offers that they exclude are taken back. */
export function updateOfferConstraints(
  cx: StepContext,
  framework: Framework,
  { offerConstraints }: MessageOf<'UpdateOfferConstraints'>,
): void {
  framework.record.offerConstraints = offerConstraints;
  cx.state.dirty.frameworks.add(framework.record.info.frameworkId);
  cx.state.changed.frameworks.add(framework.record.info.frameworkId);
  rescindExcluded(cx, framework);
}

/** Takes back what a framework is offered against its constraints. */
export function rescindExcluded(cx: StepContext, { record, offers }: Framework): void {
  for (const offerId of [...offers]) {
    const offer = cx.state.offers.get(offerId);
    const groups = offer && groupsOf(record.offerConstraints, offer.role);
    if (!groups || satisfies(offer.attributes, groups)) continue;
    rescindOffer(cx, offer, 'its framework has offer constraints that exclude it');
  }
}
