/** Who may say what: each message of the inbox finds its handler here, or is ignored with the reason. */
import type { AgentId, FrameworkId, SessionId } from '../../protocol/ids.ts';
import { agentName, frameworkName } from '../../protocol/keys.ts';
import type { Message } from '../../protocol/messages.ts';
import type { Principal } from '../../protocol/principals.ts';
import { markAgentGone, registerAgent, unregisterAgent } from './agents.ts';
import type { StepContext } from './effects.ts';
import {
  containerShrink,
  exitedExecutor,
  forwardToExecutor,
  shutdownExecutor,
} from './executors.ts';
import {
  detachFramework,
  disconnectFramework,
  registerFramework,
  requestResources,
  reviveOffers,
  suppressOffers,
  teardownFramework,
} from './frameworks.ts';
import { launchTasks } from './launch.ts';
import { declineOffers } from './offers.ts';
import { reconcileTasks } from './questions.ts';
import { isAllowed } from './refusals.ts';
import { resizeTask, taskResized } from './resize.ts';
import type { Framework } from './state.ts';
import { acknowledge, killTask, statusUpdate } from './tasks.ts';

/** A decoded message of the inbox, with the name and session that its sender gave. */
export interface MessageEvent {
  readonly type: 'message';
  readonly from: string;
  readonly session: string;
  readonly message: Message;
  /** Who that is, as the shell has verified; absent in an open cluster. */
  readonly principal?: Principal;
}

/** Acts on a message, if its sender may say that; ignores it otherwise. */
export function handleMessage(cx: StepContext, event: MessageEvent): void {
  const { message } = event;
  if (!isAllowed(cx, event)) return;
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
    case 'ExitedExecutor':
    case 'TaskResized':
    case 'ContainerShrink':
    case 'UnregisterAgent':
      handleAgentMessage(cx, event, message);
      return;
    case 'MarkAgentGone':
      handleMarkAgentGone(cx, event, message.agentId);
      return;
    case 'ResizeTask':
      if (isFromOperator(event)) resizeTask(cx, message, 'operator');
      else handleFrameworkMessage(cx, event, message.frameworkId);
      return;
    case 'KillTask':
      if (isFromOperator(event)) killTask(cx, { ...message, by: 'operator' });
      else handleFrameworkMessage(cx, event, message.frameworkId);
      return;
    case 'UnregisterFramework':
      if (isFromOperator(event)) tearDown(cx, event, message.frameworkId);
      else handleFrameworkMessage(cx, event, message.frameworkId);
      return;
    case 'DeactivateFramework':
    case 'DetachFramework':
    case 'LaunchTasks':
    case 'DeclineOffers':
    case 'ReviveOffers':
    case 'SuppressOffers':
    case 'ReconcileTasks':
    case 'RequestResources':
    case 'StatusUpdateAcknowledgement':
    case 'ShutdownExecutor':
    case 'FrameworkToExecutor':
      handleFrameworkMessage(cx, event, message.frameworkId);
      return;
    case 'FrameworkRegistered':
    case 'ResourceOffers':
    case 'RescindResourceOffer':
    case 'LostAgent':
    case 'FrameworkError':
    case 'RequestRefused':
    case 'AgentRegistered':
    case 'AgentError':
    case 'RunTask':
    case 'UpdateFramework':
    case 'ShutdownFramework':
    case 'ReadOutput':
    case 'ExecutorLost':
    case 'ExecutorToFramework':
      ignore(cx, event, 'not a message for a master');
      return;
    default:
      message satisfies never;
  }
}

type AgentMessage = Extract<
  Message,
  {
    type: 'StatusUpdate' | 'ExitedExecutor' | 'TaskResized' | 'ContainerShrink' | 'UnregisterAgent';
  }
>;

function handleAgentMessage(cx: StepContext, event: MessageEvent, message: AgentMessage): void {
  const agentId = event.from.replace(/^agent:/, '') as AgentId;
  const agent = cx.state.agents.get(agentId);
  // An ended session may still have entries in the inbox; its agent has registered again and says all of it anew.
  if (!agent || agentName(agentId) !== event.from || agent.record.session !== event.session) {
    ignore(cx, event, 'its session is not registered');
    return;
  }
  switch (message.type) {
    case 'StatusUpdate':
      statusUpdate(cx, agentId, message);
      return;
    case 'ExitedExecutor':
      if (!exitedExecutor(cx, agent, message)) ignore(cx, event, 'no such executor');
      return;
    case 'TaskResized':
      if (!taskResized(cx, agentId, message)) ignore(cx, event, 'it answers no such wish');
      return;
    case 'ContainerShrink':
      containerShrink(cx, agent, message);
      return;
    case 'UnregisterAgent':
      if (message.agentId === agentId) unregisterAgent(cx, agent);
      return;
    default:
      message satisfies never;
  }
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
  actFor(cx, framework, event);
}

function actFor(cx: StepContext, framework: Framework, event: MessageEvent): void {
  const { message } = event;
  switch (message.type) {
    case 'ShutdownExecutor':
      if (!shutdownExecutor(cx, framework, message)) ignore(cx, event, 'no such executor');
      return;
    case 'FrameworkToExecutor':
      if (!forwardToExecutor(cx, message)) ignore(cx, event, 'no such executor');
      return;
    case 'ResizeTask':
      resizeTask(cx, message, 'framework');
      return;
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

function isFromOperator({ from }: MessageEvent): boolean {
  return from.startsWith('operator:');
}

function ignore(cx: StepContext, event: MessageEvent, reason: string): void {
  const { from, message } = event;
  cx.effects.push({ type: 'message.ignore', from, messageType: message.type, reason });
}

function tearDown(cx: StepContext, event: MessageEvent, frameworkId: FrameworkId): void {
  const framework = cx.state.frameworks.get(frameworkId);
  if (framework) teardownFramework(cx, framework, 'an operator said so');
  else ignore(cx, event, 'no such framework');
}

function handleMarkAgentGone(cx: StepContext, event: MessageEvent, agentId: AgentId): void {
  const agent = cx.state.agents.get(agentId);
  if (!isFromOperator(event)) ignore(cx, event, 'only an operator says that');
  else if (agent) markAgentGone(cx, agent);
  else ignore(cx, event, 'no such agent');
}
