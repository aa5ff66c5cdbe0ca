/**
 * The master's core: one event in, effects out. Pure: it sees no clock, no network and no log, so it runs the same
 * in production and in the simulator. The shell reads a batch, steps each event, then asks for offers once.
 */
import type { AgentId, FrameworkId, SessionId } from '../../protocol/ids.ts';
import { agentName, frameworkName } from '../../protocol/keys.ts';
import type { Message } from '../../protocol/messages.ts';
import { agentSilent, registerAgent, unregisterAgent } from './agents.ts';
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
import { acknowledge, killTask, reconcileTasks, statusUpdate } from './tasks.ts';

/** What happens to a leader. Everything in it comes from outside and may be wrong, late or repeated. */
export type MasterEvent =
  /** A decoded message of the inbox, with the name and session that its sender gave. */
  | {
      readonly type: 'message';
      readonly from: string;
      readonly session: string;
      readonly message: Message;
    }
  /** Clients whose last heartbeat is older than their timeout. */
  | { readonly type: 'clients.silent'; readonly clients: readonly string[] }
  /** Clients that do not read their streams. */
  | { readonly type: 'clients.overflowing'; readonly clients: readonly string[] }
  | { readonly type: 'tick' };

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
      for (const client of event.clients) loseClient(cx, client, 'no heartbeat for its timeout');
      break;
    case 'clients.overflowing':
      for (const client of event.clients) loseClient(cx, client, 'it does not read its messages');
      break;
    case 'tick':
      expireOffers(cx);
      expireFrameworks(cx);
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
    case 'KillTask':
      if (event.from.startsWith('operator:')) killTask(cx, message);
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
    case 'RunTask':
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

function loseClient(cx: StepContext, client: string, reason: string): void {
  const [kind, ...rest] = client.split(':');
  const id = rest.join(':');
  if (kind === 'agent') {
    const agent = cx.state.agents.get(id as AgentId);
    if (agent) agentSilent(cx, agent);
  } else if (kind === 'framework') {
    const framework = cx.state.frameworks.get(id as FrameworkId);
    if (framework) disconnectFramework(cx, framework, reason);
  }
}
