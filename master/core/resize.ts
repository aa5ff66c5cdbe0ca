/**
 * Other resources for a task that runs. A wish is granted or refused at once, by what is free on the agent; once it is
 * granted, the larger of old and new is counted until the agent has said which of them is in force. Its outcome goes
 * to the framework, if that has asked, and into the event log, where `reason` is the id of the wish.
 */
import type { AgentId } from '../../protocol/ids.ts';
import { agentName, frameworkName } from '../../protocol/keys.ts';
import type { MessageOf } from '../../protocol/messages.ts';
import type { TaskRecord, TaskResize } from '../../protocol/records.ts';
import type { Resources } from '../../protocol/resources.ts';
import {
  areEqual,
  atLeastNothing,
  formatResources,
  isEmpty,
  subtractResources,
  sumResources,
} from '../../protocol/resources.ts';
import { isTerminal } from '../../protocol/task-state.ts';
import { recountTask } from './books.ts';
import type { StepContext } from './effects.ts';
import { appendEvent, send } from './effects.ts';
import { makeRoom, rescindIfOvercommitted } from './offers.ts';
import type { Pool, Taken } from './pools.ts';
import { poolsOf, pursesOf, reservedIn, takeFrom } from './pools.ts';
import type { Agent } from './state.ts';
import { findTask } from './state.ts';

/**
 * Grants or refuses a wish for other resources.
 *
 * What is outstanding in offers counts as free: an offer is a question, the task is there. As many of them are rescinded
 * as the growth needs, those of the task's own framework first.
 */
export function resizeTask(
  cx: StepContext,
  wish: MessageOf<'ResizeTask'>,
  by: TaskResize['by'],
): void {
  const { frameworkId, taskId, resizeId } = wish;
  const task = findTask(cx.state, frameworkId, taskId);
  const resources = withOthers(wish.resources, task);
  const message = { ...wish, resources };
  // The same wish, sent twice: the first one is being dealt with.
  if (task?.resize?.resizeId === resizeId) return;
  const agent = task && cx.state.agents.get(task.agentId);
  const problem = problemOfResize(task, agent, message);
  if (problem !== undefined || !task || !agent) {
    refuse(cx, { message, by, task, error: problem ?? `task ${taskId} cannot be resized` });
    return;
  }
  const { parts } = takeGrowth(agent, task, resources);
  const reason = `task ${taskId} on this agent grows`;
  for (const part of parts) makeRoom(cx, agent, { ...part, reason, frameworkId });
  const resize = { resizeId, by, resources };
  const { reserved = [] } = reservedIn({ parts: [...(task.reserved ?? []), ...parts] });
  recountTask(cx.state, task, { resources: task.resources, resize, reserved });
  const { agentId } = task;
  const type = 'task.resize-requested';
  appendEvent(cx, { type, frameworkId, taskId, agentId, resources, reason: resizeId });
  sendResize(cx, agent, task);
}

/** CPU and memory can be changed while a task runs; ports, GPUs and the rest are given once. */
function withOthers({ cpuMillis, memMib }: Resources, task: TaskRecord | undefined): Resources {
  const others = task?.resources.others;
  return { cpuMillis, memMib, ...(others && { others }) };
}

function problemOfResize(
  task: TaskRecord | undefined,
  agent: Agent | undefined,
  { taskId, resources }: MessageOf<'ResizeTask'>,
): string | undefined {
  if (!task) return `the master knows no task ${taskId} of this framework`;
  const { agentId, state, resize } = task;
  if (isTerminal(state)) return `task ${taskId} has ended: ${state}`;
  if (state === 'TASK_UNREACHABLE')
    return `task ${taskId} is on agent ${agentId}, which cannot be reached`;
  if (state !== 'TASK_RUNNING') {
    return `task ${taskId} is ${state}: only a task that runs can be given other resources`;
  }
  if (resize) {
    return `task ${taskId} is being resized to ${formatResources(resize.resources)}: try again when agent ${agentId} has answered`;
  }
  // After Redis has lost data there may be more on it than is known, until it has said so.
  if (agent?.record.session === undefined) {
    return `task ${taskId} is on agent ${agentId}, which is not connected: try again when it is`;
  }
  if (isEmpty(takeGrowth(agent, task, resources).lacking)) return undefined;
  const free = sumResources(poolsFor(agent, task).map(({ unused }) => unused));
  return `task ${taskId}: ${formatResources(resources)} asked, it has ${formatResources(task.resources)}; agent ${agentId} has ${formatResources(free)} free`;
}

/** What it would have more; a component that shrinks is free only when the agent says so. */
function growthOf({ resources }: TaskRecord, wished: Resources): Resources {
  return atLeastNothing(subtractResources(wished, resources));
}

/** It grows in the reservations that it is of already, and beyond them in what is not reserved. */
function takeGrowth(agent: Agent, task: TaskRecord, wished: Resources): Taken {
  return takeFrom(pursesOf(poolsFor(agent, task)), growthOf(task, wished));
}

function poolsFor(agent: Agent, { reserved = [] }: TaskRecord): readonly Pool[] {
  const own = new Set(reserved.map(({ reservationId }) => reservationId));
  return poolsOf(agent).filter(
    ({ reservation }) => !reservation || own.has(reservation.reservationId),
  );
}

interface RefusedResize {
  readonly message: MessageOf<'ResizeTask'>;
  readonly by: TaskResize['by'];
  readonly task: TaskRecord | undefined;
  readonly error: string;
}

function refuse(cx: StepContext, { message, by, task, error }: RefusedResize): void {
  const { frameworkId, taskId, resizeId, resources } = message;
  const type = 'task.resize-refused';
  const at = task && { agentId: task.agentId };
  const said = { reason: resizeId, message: error };
  appendEvent(cx, { type, frameworkId, taskId, ...at, resources, ...said });
  if (by === 'operator') return;
  tell(cx, {
    type: 'TaskResized',
    resizeId,
    frameworkId,
    taskId,
    ...(task && { launchId: task.launchId, resources: task.resources }),
    error,
  });
}

function tell(cx: StepContext, message: MessageOf<'TaskResized'>): void {
  const { frameworkId } = message;
  const session = cx.state.frameworks.get(frameworkId)?.record.session;
  send(cx, frameworkName(frameworkId), session, message);
}

/** Sends a wish that has been granted to the agent's session; an agent that has acted on it already says so again. */
function sendResize(cx: StepContext, agent: Agent, task: TaskRecord): void {
  if (!task.resize) return;
  const { frameworkId, taskId, launchId } = task;
  const { resizeId, resources } = task.resize;
  const { info, session } = agent.record;
  const message = { resizeId, frameworkId, taskId, launchId, resources };
  send(cx, agentName(info.agentId), session, { type: 'ResizeTask', ...message });
}

/**
 * The agent has done it or could not: what it says is in force is what counts from now on.
 *
 * @returns false if it is no answer to what the master knows, so that nothing has come of it
 */
export function taskResized(
  cx: StepContext,
  agentId: AgentId,
  message: MessageOf<'TaskResized'>,
): boolean {
  const { frameworkId, taskId } = message;
  const task = findTask(cx.state, frameworkId, taskId);
  if (!task || !isAnswer(task, agentId, message)) return false;
  const by = task.resize?.by ?? 'framework';
  const resources = message.resources ?? task.resources;
  recountTask(cx.state, task, { resources });
  const agent = cx.state.agents.get(agentId);
  if (agent) rescindIfOvercommitted(cx, agent, 'a task on the agent has more than was known');
  const { resizeId: reason, error } = message;
  const type = error === undefined ? 'task.resized' : 'task.resize-failed';
  const said = { reason, ...(error !== undefined && { message: error }) };
  appendEvent(cx, { type, frameworkId, taskId, agentId, resources, ...said });
  if (by === 'framework') tell(cx, { ...message, resources });
  return true;
}

/** Of another wish the agent has yet to answer; that of none was lost with Redis's data, and is true all the same. */
function isAnswer(
  { agentId, launchId, state, resize }: TaskRecord,
  from: AgentId,
  message: MessageOf<'TaskResized'>,
): boolean {
  if (launchId !== message.launchId || agentId !== from || isTerminal(state)) return false;
  return resize === undefined || resize.resizeId === message.resizeId;
}

/** To be called when a task has ended, after its resources were given back: who waits for a resize hears so. */
export function endResize(cx: StepContext, task: TaskRecord): void {
  const { resize, frameworkId, taskId, agentId, launchId, resources } = task;
  if (!resize) return;
  delete task.resize;
  const { resizeId, by } = resize;
  const error = `task ${taskId} has ended before its resources were changed`;
  const type = 'task.resize-failed';
  const said = { reason: resizeId, message: error };
  appendEvent(cx, { type, frameworkId, taskId, agentId, resources, ...said });
  if (by === 'operator') return;
  tell(cx, { type: 'TaskResized', resizeId, frameworkId, taskId, launchId, resources, error });
}

/** An agent has registered with a live task: what it says that the task has is in force, and a wish is sent once more. */
export function reconcileResources(
  cx: StepContext,
  agent: Agent,
  task: TaskRecord,
  inForce: Resources,
): void {
  if (!areEqual(inForce, task.resources)) {
    recountTask(cx.state, task, { resources: inForce, resize: task.resize });
    const { frameworkId, taskId, agentId } = task;
    const type = 'task.resources-corrected';
    const reason = 'its agent has registered with it';
    appendEvent(cx, { type, frameworkId, taskId, agentId, resources: inForce, reason });
  }
  sendResize(cx, agent, task);
}
