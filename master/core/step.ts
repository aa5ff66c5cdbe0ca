/**
 * The master's core: one event in, effects out. Pure: it sees no clock, no network and no log, so it runs the same
 * in production and in the simulator. The shell reads a batch, steps each event, then asks for offers once.
 */
import type { AgentId, FrameworkId, SessionId } from '../../protocol/ids.ts';
import { sessionNumberAt } from '../../protocol/ids.ts';
import type { ClientName } from '../../protocol/keys.ts';
import { agentName, frameworkName } from '../../protocol/keys.ts';
import type { Message } from '../../protocol/messages.ts';
import {
  agentOverflowing,
  forgetGoneAgents,
  markAgentGone,
  registerAgent,
  unregisterAgent,
} from './agents.ts';
import { dataLost, endRecovery } from './data-loss.ts';
import type { MasterEffect, StepContext } from './effects.ts';
import {
  detachFramework,
  disconnectFramework,
  expireFrameworks,
  registerFramework,
  requestResources,
  reviveOffers,
  suppressOffers,
  teardownFramework,
} from './frameworks.ts';
import { launchTasks } from './launch.ts';
import { declineOffers, expireOffers, makeOffers } from './offers.ts';
import type { Framework, MasterState } from './state.ts';
import { reconcileTasks } from './questions.ts';
import { acknowledge, killTask, statusUpdate } from './tasks.ts';
import type { SilentAgent } from './unreachable.ts';
import { agentsSilent, expireUnreachableTasks } from './unreachable.ts';

/** What happens to a leader. Everything in it comes from outside and may be wrong, late or repeated. */
export type MasterEvent =
  /** A decoded message of the inbox, with the name and session that its sender gave. */
  | {
      readonly type: 'message';
      readonly from: string;
      readonly session: string;
      readonly message: Message;
    }
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
  const cx: StepContext = { state, nowMs, effects: [] };
  switch (event.type) {
    case 'message':
      handleMessage(cx, event);
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
      expireOffers(cx);
      expireFrameworks(cx);
      expireUnreachableTasks(cx);
      forgetGoneAgents(cx);
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

type MessageEvent = Extract<MasterEvent, { type: 'message' }>;

function handleMessage(cx: StepContext, event: MessageEvent): void {
  const { message } = event;
  switch (message.type) {
    case 'RegisterFramework':
      if (isFrom(event, frameworkName(message.framework.frameworkId), message.session)) {
        registerFramework(cx, message);
      } else ignore(cx, event, 'a framework registers only itself');
      return;
    case 'RegisterAgent':
      if (isFrom(event, agentName(message.agent.agentId), message.session))
        registerAgent(cx, message);
      else ignore(cx, event, 'an agent registers only itself');
      return;
    case 'StatusUpdate':
    case 'UnregisterAgent':
      handleAgentMessage(cx, event, message);
      return;
    case 'MarkAgentGone':
      handleMarkAgentGone(cx, event, message.agentId);
      return;
    case 'KillTask':
      if (event.from.startsWith('operator:')) killTask(cx, { ...message, by: 'operator' });
      else handleFrameworkMessage(cx, event, message.frameworkId);
      return;
    case 'UnregisterFramework':
    case 'DeactivateFramework':
    case 'DetachFramework':
    case 'LaunchTasks':
    case 'DeclineOffers':
    case 'ReviveOffers':
    case 'SuppressOffers':
    case 'ReconcileTasks':
    case 'RequestResources':
    case 'StatusUpdateAcknowledgement':
      handleFrameworkMessage(cx, event, message.frameworkId);
      return;
    case 'FrameworkRegistered':
    case 'ResourceOffers':
    case 'RescindResourceOffer':
    case 'LostAgent':
    case 'FrameworkError':
    case 'AgentRegistered':
    case 'AgentError':
    case 'RunTask':
    case 'UpdateFramework':
    case 'ShutdownFramework':
    case 'ReadOutput':
      ignore(cx, event, 'not a message for a master');
      return;
    default:
      message satisfies never;
  }
}

function handleAgentMessage(
  cx: StepContext,
  event: MessageEvent,
  message: Extract<Message, { type: 'StatusUpdate' | 'UnregisterAgent' }>,
): void {
  const agentId = event.from.replace(/^agent:/, '') as AgentId;
  const agent = cx.state.agents.get(agentId);
  // An ended session may still have entries in the inbox; its agent has registered again and says all of it anew.
  if (!agent || agentName(agentId) !== event.from || agent.record.session !== event.session) {
    ignore(cx, event, 'its session is not registered');
    return;
  }
  if (message.type === 'StatusUpdate') statusUpdate(cx, agentId, message);
  else if (message.agentId === agentId) unregisterAgent(cx, agent);
}

function handleFrameworkMessage(
  cx: StepContext,
  event: MessageEvent,
  frameworkId: FrameworkId,
): void {
  const framework = cx.state.frameworks.get(frameworkId);
  if (
    !framework ||
    event.from !== frameworkName(frameworkId) ||
    framework.record.session !== event.session
  ) {
    ignore(cx, event, 'its session is not registered');
    return;
  }
  actFor(cx, framework, event.message);
}

function actFor(cx: StepContext, framework: Framework, message: Message): void {
  switch (message.type) {
    case 'LaunchTasks':
      launchTasks(cx, framework, message);
      return;
    case 'StatusUpdateAcknowledgement':
      acknowledge(cx, message);
      return;
    case 'DeclineOffers':
      declineOffers(cx, framework, message);
      return;
    case 'RequestResources':
      requestResources(cx, framework, message);
      return;
    case 'ReviveOffers':
      reviveOffers(cx, framework);
      return;
    case 'ReconcileTasks':
      reconcileTasks(cx, message);
      return;
    case 'SuppressOffers':
      suppressOffers(cx, framework);
      return;
    case 'KillTask':
      killTask(cx, { ...message, by: 'framework' });
      return;
    case 'DetachFramework':
      detachFramework(cx, framework);
      return;
    case 'DeactivateFramework':
      disconnectFramework(cx, framework, 'the scheduler stopped');
      return;
    case 'UnregisterFramework':
      teardownFramework(cx, framework, 'it unregistered');
      return;
    default:
      return;
  }
}

/** A client speaks only for itself, and only in the session that it registers. */
function isFrom(event: MessageEvent, name: string, session: SessionId): boolean {
  return event.from === name && event.session === session;
}

function ignore(cx: StepContext, event: MessageEvent, reason: string): void {
  const { from, message } = event;
  cx.effects.push({ type: 'message.ignore', from, messageType: message.type, reason });
}

function handleMarkAgentGone(cx: StepContext, event: MessageEvent, agentId: AgentId): void {
  const agent = cx.state.agents.get(agentId);
  if (!event.from.startsWith('operator:')) ignore(cx, event, 'only an operator says that');
  else if (agent) markAgentGone(cx, agent);
  else ignore(cx, event, 'no such agent');
}

function clientsSilent(cx: StepContext, clients: readonly SilentClient[]): void {
  const agents = clients.flatMap(({ client, seenMs }) => {
    const agent = cx.state.agents.get(client.replace(/^agent:/, '') as AgentId);
    const isOne = agent?.record.session !== undefined && client.startsWith('agent:');
    return isOne ? [{ agent, seenMs }] : [];
  });
  agentsSilent(cx, [...agents, ...agentsWithoutSession(cx)]);
  for (const { client } of clients) {
    const framework = frameworkOf(cx, client);
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
  const agent = cx.state.agents.get(client.replace(/^agent:/, '') as AgentId);
  if (agent && client.startsWith('agent:')) agentOverflowing(cx, agent);
  const framework = frameworkOf(cx, client);
  if (framework) disconnectFramework(cx, framework, 'it does not read its messages');
}

function frameworkOf({ state }: StepContext, client: string): Framework | undefined {
  const isOne = client.startsWith('framework:');
  return isOne ? state.frameworks.get(client.replace(/^framework:/, '') as FrameworkId) : undefined;
}
