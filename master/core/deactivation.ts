/**
 * Deactivation: an operator wants nothing of an agent to be offered, for as long as it takes. Unlike a drain it asks nobody to
 * leave and ends nothing.
 */
import type { AgentId } from '../../protocol/ids.ts';
import type { MessageOf } from '../../protocol/messages.ts';
import { setAgent } from './books.ts';
import type { StepContext } from './effects.ts';
import { appendEvent } from './effects.ts';
import { rescindOffersOf } from './offers.ts';

/** Nothing of it is offered from now on; what is offered of it is taken back. */
export function deactivateAgent(cx: StepContext, message: MessageOf<'DeactivateAgent'>): void {
  const { agentId, requestId } = message;
  const agent = cx.state.agents.get(agentId);
  if (!agent || agent.record.state === 'gone') {
    refuse(cx, message, agent ? `agent ${agentId} is gone` : `no agent ${agentId}`);
    return;
  }
  if (agent.record.deactivatedAtMs !== undefined) {
    refuse(cx, message, `agent ${agentId} is deactivated already`);
    return;
  }
  setAgent(cx.state, { ...agent.record, deactivatedAtMs: cx.nowMs });
  appendEvent(cx, { type: 'agent.deactivated', agentId, reason: requestId });
  rescindOffersOf(cx, agent, 'the agent has been deactivated');
}

/** It may be offered again. */
export function reactivateAgent(cx: StepContext, message: MessageOf<'ReactivateAgent'>): void {
  const { agentId, requestId } = message;
  const agent = cx.state.agents.get(agentId);
  if (agent?.record.deactivatedAtMs === undefined) {
    refuse(cx, message, agent ? `agent ${agentId} is not deactivated` : `no agent ${agentId}`);
    return;
  }
  const { deactivatedAtMs: _since, ...rest } = agent.record;
  setAgent(cx.state, rest);
  // What is kept for guarantees may be kept there from now on, so that others may have more elsewhere.
  cx.state.changed.everything = true;
  appendEvent(cx, { type: 'agent.reactivated', agentId, reason: requestId });
}

function refuse(
  cx: StepContext,
  { agentId, requestId }: { readonly agentId: AgentId; readonly requestId: string },
  message: string,
): void {
  appendEvent(cx, { type: 'agent.deactivation-refused', agentId, reason: requestId, message });
}
