/**
 * The master's core: one event in, effects out. Pure: it sees no clock, no network and no log, so it runs the same
 * in production and in the simulator. The shell reads a batch, steps each event, then asks for offers once.
 */
import { sessionNumberAt } from '../../protocol/ids.ts';
import type { ClientName } from '../../protocol/keys.ts';
import { agentOverflowing, forgetGoneAgents } from './agents.ts';
import { dataLost, endRecovery } from './data-loss.ts';
import { stepDrains } from './drain.ts';
import type { MasterEffect, StepContext } from './effects.ts';
import { disconnectFramework, expireFrameworks } from './frameworks.ts';
import type { MessageEvent } from './messages.ts';
import { handleMessage } from './messages.ts';
import { expireOffers, makeOffers } from './offers.ts';
import { stepPreemption } from './preemption.ts';
import type { PrincipalsChangedEvent } from './principals.ts';
import { endLostSessions, principalsChanged } from './principals.ts';
import type { EntryRefusedEvent } from './refusals.ts';
import { entryRefused } from './refusals.ts';
import { takeUpSettings } from './settings.ts';
import type { MasterState } from './state.ts';
import { agentOf, frameworkOf } from './state.ts';
import type { SilentAgent } from './unreachable.ts';
import { agentsSilent, expireUnreachableTasks } from './unreachable.ts';

/** What happens to a leader. Everything in it comes from outside and may be wrong, late or repeated. */
export type MasterEvent =
  | MessageEvent
  /** Clients whose last heartbeat is older than their timeout, and when (time of the store) that was. */
  | { readonly type: 'clients.silent'; readonly clients: readonly SilentClient[] }
  /** Clients that do not read their streams. */
  | { readonly type: 'clients.overflowing'; readonly clients: readonly string[] }
  /**
   * Redis has restarted, failed over or been emptied since the last leader's term, or records could not be read: first
   * event of a term. `unreadable`: clients whose records are among these.
   */
  | {
      readonly type: 'data.lost';
      readonly unreadable?: readonly ClientName[];
      /** Sessions up to this number have ended for it; absent: those opened until now. Later ones have found out. */
      readonly lostBefore?: number;
    }
  | EntryRefusedEvent
  | PrincipalsChangedEvent
  | { readonly type: 'tick' };

/** A client that has not been heard of, and when it last was. */
export interface SilentClient {
  readonly client: string;
  readonly seenMs: number;
}

/**
 * @param state changed in place
 * @param nowMs time of the store; must not go back
 */
export function step(state: MasterState, event: MasterEvent, nowMs: number): MasterEffect[] {
  const by = event.type === 'message' && event.principal;
  const cx: StepContext = { state, nowMs, effects: [], ...(by && { principal: by }) };
  switch (event.type) {
    case 'message':
      handleMessage(cx, event);
      break;
    case 'entry.refused':
      entryRefused(cx, event);
      break;
    case 'principals.changed':
      principalsChanged(cx, event);
      break;
    case 'clients.silent':
      clientsSilent(cx, event.clients);
      break;
    case 'clients.overflowing':
      for (const client of event.clients) clientOverflowing(cx, client);
      break;
    case 'data.lost':
      dataLost(cx, event.lostBefore ?? sessionNumberAt(nowMs) - 1, event.unreadable);
      break;
    case 'tick':
      if (state.allocationPausedUntilMs <= nowMs) state.allocationPausedUntilMs = 0;
      takeUpSettings(cx);
      expireOffers(cx);
      endLostSessions(cx);
      expireFrameworks(cx);
      expireUnreachableTasks(cx);
      forgetGoneAgents(cx);
      stepDrains(cx);
      stepPreemption(cx);
      endRecovery(cx);
      break;
    default:
      event satisfies never;
  }
  return cx.effects;
}

/** Once after each batch: whatever has become free is offered. */
export function offerResources(state: MasterState, nowMs: number): MasterEffect[] {
  const cx: StepContext = { state, nowMs, effects: [] };
  makeOffers(cx);
  return cx.effects;
}

function clientsSilent(cx: StepContext, clients: readonly SilentClient[]): void {
  const agents = clients.flatMap(({ client, seenMs }) => {
    const agent = agentOf(cx.state, client);
    return agent?.record.session !== undefined ? [{ agent, seenMs }] : [];
  });
  agentsSilent(cx, [...agents, ...agentsWithoutSession(cx)]);
  for (const { client } of clients) {
    const framework = frameworkOf(cx.state, client);
    if (framework) disconnectFramework(cx, framework, 'no heartbeat for its timeout');
  }
}

/** An agent without a session has no heartbeat that could be late: it is silent when it has had none for the timeout. */
function agentsWithoutSession({ state, nowMs }: StepContext): SilentAgent[] {
  return [...state.agents.values()].flatMap((agent) => {
    const { state: known, session, awaySinceMs: seenMs = nowMs } = agent.record;
    const isLate = nowMs - seenMs >= state.options.agentTimeoutMs;
    return known === 'active' && session === undefined && isLate ? [{ agent, seenMs }] : [];
  });
}

/** Its messages pile up in Redis: the stream goes, and the client registers again when it finds out. */
function clientOverflowing(cx: StepContext, client: string): void {
  const agent = agentOf(cx.state, client);
  if (agent) agentOverflowing(cx, agent, 'it does not read its messages');
  const framework = frameworkOf(cx.state, client);
  if (framework) disconnectFramework(cx, framework, 'it does not read its messages');
}
