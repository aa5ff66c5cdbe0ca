/**
 * Draining: an agent that is to be emptied is not offered any more from some moment on, frameworks that have work there are
 * told so in time (inverse offers), and what is left at the deadline is killed. A maintenance window is a drain that begins
 * later.
 */
import type { AgentId } from '../../protocol/ids.ts';
import { frameworkName } from '../../protocol/keys.ts';
import type { MessageOf } from '../../protocol/messages.ts';
import { formatDuration } from '../../protocol/quantities.ts';
import type { AgentDrain, TaskRecord } from '../../protocol/records.ts';
import { isTerminal } from '../../protocol/task-state.ts';
import { setAgent } from './books.ts';
import type { StepContext } from './effects.ts';
import { appendEvent, send } from './effects.ts';
import { rescindOffersOf } from './offers.ts';
import type { Agent, Framework, MasterState } from './state.ts';
import { isDraining } from './state.ts';
import { killTask } from './tasks.ts';

/** An operator wants an agent emptied; a second word replaces the first. */
export function drainAgent(cx: StepContext, message: MessageOf<'DrainAgent'>): void {
  const { agentId, requestId, inMs, deadlineMs } = message;
  const agent = cx.state.agents.get(agentId);
  const problem = problemOfDrain(agent, agentId);
  if (problem !== undefined || !agent) {
    refuse(cx, agentId, requestId, problem ?? `no agent ${agentId}`);
    return;
  }
  const fromMs = cx.nowMs + inMs;
  const drain: AgentDrain = {
    fromMs,
    ...(deadlineMs !== undefined && { deadlineMs: fromMs + deadlineMs }),
    answers: {},
  };
  setAgent(cx.state, { ...agent.record, drain });
  const when = inMs === 0 ? 'from now on' : `in ${formatDuration(inMs)}`;
  const until =
    deadlineMs === undefined
      ? 'its tasks go on to their own ends'
      : `what is left of its tasks is killed ${formatDuration(deadlineMs)} later`;
  const said = `not offered ${when}; ${until}`;
  appendEvent(cx, { type: 'agent.drain-requested', agentId, reason: requestId, message: said });
  if (isDraining(agent, cx.nowMs)) rescindOffersOf(cx, agent, 'the agent is drained');
  for (const framework of frameworksOn(cx.state, agent)) sendInverseOffer(cx, framework, agent);
}

function problemOfDrain(agent: Agent | undefined, agentId: AgentId): string | undefined {
  if (!agent) return `no agent ${agentId}`;
  return agent.record.state === 'gone' ? `agent ${agentId} is gone` : undefined;
}

function refuse(cx: StepContext, agentId: AgentId, requestId: string, message: string): void {
  appendEvent(cx, { type: 'agent.drain-refused', agentId, reason: requestId, message });
}

/** It may be offered again. */
export function undrainAgent(cx: StepContext, message: MessageOf<'UndrainAgent'>): void {
  const { agentId, requestId } = message;
  const agent = cx.state.agents.get(agentId);
  if (!agent?.record.drain) {
    refuse(
      cx,
      agentId,
      requestId,
      agent ? `agent ${agentId} is not drained` : `no agent ${agentId}`,
    );
    return;
  }
  const { drain: _drain, ...rest } = agent.record;
  setAgent(cx.state, rest);
  // As after a reactivation.
  cx.state.changed.everything = true;
  appendEvent(cx, { type: 'agent.undrained', agentId, reason: requestId });
  for (const framework of frameworksOn(cx.state, agent)) {
    const { info, session } = framework.record;
    const client = frameworkName(info.frameworkId);
    send(cx, client, session, { type: 'RescindInverseOffer', agentId });
  }
}

/** Frameworks with tasks or executors there. */
function frameworksOn({ frameworks, tasks, executors }: MasterState, agent: Agent): Framework[] {
  const ids = new Set([
    ...[...agent.tasks].flatMap((key) => {
      const task = tasks.get(key);
      return task && !isTerminal(task.state) ? [task.frameworkId] : [];
    }),
    ...[...agent.executors].flatMap((path) => executors.get(path)?.frameworkId ?? []),
  ]);
  return [...ids].flatMap((frameworkId) => frameworks.get(frameworkId) ?? []);
}

function sendInverseOffer(cx: StepContext, framework: Framework, { record }: Agent): void {
  const { drain, info } = record;
  if (!drain) return;
  const { frameworkId } = framework.record.info;
  const { agentId, hostname } = info;
  const { fromMs, deadlineMs } = drain;
  send(cx, frameworkName(frameworkId), framework.record.session, {
    type: 'InverseOffer',
    ...{ agentId, hostname, fromMs },
    ...(deadlineMs !== undefined && { deadlineMs }),
  });
}

/** A scheduler that comes (back) hears of what it may have missed. */
export function resendInverseOffers(cx: StepContext, framework: Framework): void {
  for (const agent of cx.state.agents.values()) {
    if (!agent.record.drain || !frameworksOn(cx.state, agent).includes(framework)) continue;
    sendInverseOffer(cx, framework, agent);
  }
}

/** What a framework says to an inverse offer: for the operator to see, who decides. */
export function answerInverseOffer(
  cx: StepContext,
  framework: Framework,
  { agentId, isAccepted }: MessageOf<'AnswerInverseOffer'>,
): void {
  const agent = cx.state.agents.get(agentId);
  const drain = agent?.record.drain;
  if (!agent || !drain) return;
  const { frameworkId } = framework.record.info;
  const answers = { ...drain.answers, [frameworkId]: isAccepted };
  setAgent(cx.state, { ...agent.record, drain: { ...drain, answers } });
  const type = isAccepted ? 'inverse-offer.accepted' : 'inverse-offer.declined';
  appendEvent(cx, { type, agentId, frameworkId });
}

/** Drains that begin, deadlines that have come, and agents that are empty. */
export function stepDrains(cx: StepContext): void {
  for (const agent of cx.state.agents.values()) {
    const { drain, state, info } = agent.record;
    if (!drain || state === 'gone' || !isDraining(agent, cx.nowMs)) continue;
    if (agent.offers.size > 0) rescindOffersOf(cx, agent, 'the agent is drained');
    const live = liveTasks(cx.state, agent);
    if (live.length === 0) {
      if (drain.emptyAtMs !== undefined) continue;
      setAgent(cx.state, { ...agent.record, drain: { ...drain, emptyAtMs: cx.nowMs } });
      appendEvent(cx, { type: 'agent.drained', agentId: info.agentId });
    } else if (drain.deadlineMs !== undefined && drain.deadlineMs <= cx.nowMs) {
      for (const { frameworkId, taskId, killRequested } of live) {
        if (killRequested === undefined) {
          killTask(cx, { type: 'KillTask', frameworkId, taskId, by: 'operator' });
        }
      }
    }
  }
}

function liveTasks({ tasks }: MasterState, agent: Agent): TaskRecord[] {
  return [...agent.tasks].flatMap((key) => {
    const task = tasks.get(key);
    return task && !isTerminal(task.state) ? [task] : [];
  });
}
