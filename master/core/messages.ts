/** Who may say what: each message of the inbox finds its handler here, or is ignored with the reason. */
import type { AgentId, FrameworkId, SessionId } from '../../protocol/ids.ts';
import { agentName, frameworkName } from '../../protocol/keys.ts';
import type { Message, MessageOf, MessageType } from '../../protocol/messages.ts';
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
import { updateOfferConstraints } from './constraints.ts';
import { deactivateAgent, reactivateAgent } from './deactivation.ts';
import { directoryRemoved } from './directories.ts';
import { answerInverseOffer, drainAgent, undrainAgent } from './drain.ts';
import { launchTasks } from './launch.ts';
import { declineOffers, noteAnswer } from './offers.ts';
import { reconcileTasks } from './questions.ts';
import { answerWith, isAllowed } from './refusals.ts';
import { reserve, unreserve } from './reservations.ts';
import { updateRole } from './roles.ts';
import { resizeTask, taskResized } from './resize.ts';
import type { Framework } from './state.ts';
import { acknowledge, killTask, statusUpdate } from './tasks.ts';
import { answerOf } from './why-answer.ts';

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
    case 'RegisterAgent':
      handleRegistration(cx, event, message);
      return;
    case 'StatusUpdate':
    case 'ExitedExecutor':
    case 'TaskResized':
    case 'ContainerShrink':
    case 'DirectoryRemoved':
    case 'UnregisterAgent':
      handleAgentMessage(cx, event, message);
      return;
    case 'MarkAgentGone':
    case 'UpdateRole':
    case 'DrainAgent':
    case 'UndrainAgent':
    case 'DeactivateAgent':
    case 'ReactivateAgent':
    case 'Reserve':
    case 'Unreserve':
    case 'Explain':
      handleOperatorMessage(cx, event, message);
      return;
    case 'ResizeTask':
    case 'KillTask':
    case 'UnregisterFramework':
      if (isFromOperator(event)) actForOperator(cx, event, message);
      else handleFrameworkMessage(cx, event, message.frameworkId);
      return;
    default:
      handleOtherMessage(cx, event, message);
  }
}

type OtherMessage = Exclude<
  Message,
  | OperatorMessage
  | AgentMessage
  | MessageOf<
      'RegisterFramework' | 'RegisterAgent' | 'ResizeTask' | 'KillTask' | 'UnregisterFramework'
    >
>;

/** Of frameworks alone, or of masters. */
function handleOtherMessage(cx: StepContext, event: MessageEvent, message: OtherMessage): void {
  switch (message.type) {
    case 'DeactivateFramework':
    case 'DetachFramework':
    case 'LaunchTasks':
    case 'DeclineOffers':
    case 'UpdateOfferConstraints':
    case 'ReviveOffers':
    case 'SuppressOffers':
    case 'AnswerInverseOffer':
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
    case 'InverseOffer':
    case 'RescindInverseOffer':
    case 'FrameworkError':
    case 'RequestRefused':
    case 'Explained':
    case 'AgentRegistered':
    case 'AgentError':
    case 'RunTask':
    case 'RemoveDirectory':
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

function handleRegistration(
  cx: StepContext,
  event: MessageEvent,
  message: Extract<Message, { type: 'RegisterFramework' | 'RegisterAgent' }>,
): void {
  if (message.type === 'RegisterFramework') {
    if (isFrom(event, frameworkName(message.framework.frameworkId), message.session)) {
      registerFramework(cx, message);
    } else ignore(cx, event, 'a framework registers only itself');
  } else if (isFrom(event, agentName(message.agent.agentId), message.session)) {
    registerAgent(cx, message);
  } else ignore(cx, event, 'an agent registers only itself');
}

/** What a framework says of what is its own, and an operator of anybody's. */
function actForOperator(
  cx: StepContext,
  event: MessageEvent,
  message: Extract<Message, { type: 'ResizeTask' | 'KillTask' | 'UnregisterFramework' }>,
): void {
  switch (message.type) {
    case 'ResizeTask':
      resizeTask(cx, message, 'operator');
      return;
    case 'KillTask':
      killTask(cx, { ...message, by: 'operator' });
      return;
    case 'UnregisterFramework':
      tearDown(cx, event, message.frameworkId);
      return;
    default:
      message satisfies never;
  }
}

type OperatorMessage = MessageOf<
  | 'MarkAgentGone'
  | 'UpdateRole'
  | 'DrainAgent'
  | 'UndrainAgent'
  | 'DeactivateAgent'
  | 'ReactivateAgent'
  | 'Reserve'
  | 'Unreserve'
  | 'Explain'
>;

function handleOperatorMessage(
  cx: StepContext,
  event: MessageEvent,
  message: OperatorMessage,
): void {
  if (!isFromOperator(event)) {
    ignore(cx, event, 'only an operator says that');
    return;
  }
  switch (message.type) {
    case 'MarkAgentGone':
      handleMarkAgentGone(cx, event, message.agentId);
      return;
    case 'UpdateRole':
      updateRole(cx, message);
      return;
    case 'DrainAgent':
      drainAgent(cx, message);
      return;
    case 'UndrainAgent':
      undrainAgent(cx, message);
      return;
    case 'DeactivateAgent':
      deactivateAgent(cx, message);
      return;
    case 'ReactivateAgent':
      reactivateAgent(cx, message);
      return;
    case 'Reserve':
      reserve(cx, message);
      return;
    case 'Unreserve':
      unreserve(cx, message);
      return;
    case 'Explain':
      answerWith(cx, event, answerOf(cx, message));
      return;
    default:
      message satisfies never;
  }
}

type AgentMessage = MessageOf<
  | 'StatusUpdate'
  | 'ExitedExecutor'
  | 'TaskResized'
  | 'ContainerShrink'
  | 'DirectoryRemoved'
  | 'UnregisterAgent'
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
    case 'DirectoryRemoved':
      directoryRemoved(cx, agent, message.reservationId);
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

/** By these a framework shows that it looks at its offers. */
const ANSWERS: ReadonlySet<MessageType> = new Set<MessageType>([
  'LaunchTasks',
  'DeclineOffers',
  'RequestResources',
  'UpdateOfferConstraints',
  'ReviveOffers',
  'SuppressOffers',
]);

function actFor(cx: StepContext, framework: Framework, event: MessageEvent): void {
  const { message } = event;
  if (ANSWERS.has(message.type)) noteAnswer(cx, framework);
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
    case 'UpdateOfferConstraints':
      updateOfferConstraints(cx, framework, message);
      return;
    case 'RequestResources':
      requestResources(cx, framework, message);
      return;
    case 'ReviveOffers':
      reviveOffers(cx, framework, message);
      return;
    case 'ReconcileTasks':
      reconcileTasks(cx, message);
      return;
    case 'SuppressOffers':
      suppressOffers(cx, framework, message);
      return;
    case 'AnswerInverseOffer':
      answerInverseOffer(cx, framework, message);
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
  if (agent) markAgentGone(cx, agent);
  else ignore(cx, event, 'no such agent');
}
