/** Settings of the master that change while it leads: what follows from a change at once. */
import type { StepContext } from './effects.ts';
import { rescindOffersOf } from './offers.ts';
import { whitelistOf } from './state.ts';
import { withheldBy } from './withheld.ts';

/**
 * Takes up settings that have changed while this master leads, and takes back what a leader before it has offered of agents
 * that are not on this one's whitelist.
 */
export function takeUpSettings(cx: StepContext): void {
  const { state, nowMs } = cx;
  const { options, inForce } = state;
  const { whitelist, minimumOffer } = options;
  const isAsBefore = inForce?.whitelist === whitelist && inForce?.minimumOffer === minimumOffer;
  if (inForce && isAsBefore) return;
  state.inForce = { whitelist, minimumOffer };
  if (inForce) {
    state.whitelist = whitelistOf(options);
    state.changed.everything = true;
  }
  for (const agent of state.agents.values()) {
    if (agent.offers.size === 0) continue;
    if (withheldBy(state, agent, nowMs) !== 'not-whitelisted') continue;
    rescindOffersOf(cx, agent, 'the agent is not on the whitelist of the master');
  }
}
