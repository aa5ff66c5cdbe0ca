/** LaunchTasks: offers become tasks. Each task is checked alone, so a bad one harms no other. */
import { decodeTask } from '../../protocol/codec.ts';
import type { LaunchId, TaskId } from '../../protocol/ids.ts';
import { agentName, frameworkName } from '../../protocol/keys.ts';
import { TEXT_MAX_CHARS } from '../../protocol/limits.ts';
import { formatDuration } from '../../protocol/quantities.ts';
import type { MessageOf } from '../../protocol/messages.ts';
import type { OfferRecord, TaskRecord } from '../../protocol/records.ts';
import type { Resources } from '../../protocol/resources.ts';
import {
  fits,
  formatResources,
  subtractResources,
  sumResources,
} from '../../protocol/resources.ts';
import type { TaskReason, TaskState } from '../../protocol/task-state.ts';
import { isTerminal } from '../../protocol/task-state.ts';
import type { FrameworkInfo, TaskInfo } from '../../protocol/task.ts';
import { REFUSE_DEFAULT_MS } from '../../protocol/task.ts';
import { defer, forgetQuestions } from './questions.ts';
import type { StepContext } from './effects.ts';
import { appendEvent, send } from './effects.ts';
import { refuse } from './offers.ts';
import type { Agent, Framework, MasterState } from './state.ts';
import { addTask, findTask, removeOffer, rulesOf } from './state.ts';

/** Why a task is not launched. */
interface Refusal {
  readonly state: TaskState;
  readonly reason: TaskReason;
  readonly message: string;
}

/**
 * Uses the offers up and launches what can be launched; every other task gets a status update that says why
 * not.
 */
export function launchTasks(
  cx: StepContext,
  framework: Framework,
  message: MessageOf<'LaunchTasks'>,
): void {
  const used = takeOffers(cx, message);
  if (!used.ok) {
    for (const task of message.tasks) {
      const taskId = taskIdOf(task);
      // The same launch sent twice: the task lives by the first one, and must not be called lost.
      if (findTask(cx.state, message.frameworkId, taskId)) continue;
      // Or it lives by one that was stored and lost again, with the offers: then it turns up with its agent.
      if (defer(cx, framework, { taskId, about: 'launch' })) continue;
      refuseTask(cx, framework, taskId, used.refusal);
    }
    return;
  }
  const { agent, offered } = used;
  let left = offered;
  for (const raw of message.tasks) {
    const checked = checkTask(cx, framework, raw, left);
    if ('refusal' in checked) {
      refuseTask(cx, framework, taskIdOf(raw), checked.refusal);
      continue;
    }
    left = subtractResources(left, checked.task.resources);
    launch(cx, framework, agent, checked.task);
  }
  const { agentId } = agent.record.info;
  refuse(
    cx,
    framework,
    { agentId, resources: left },
    message.filters?.refuseMs ?? REFUSE_DEFAULT_MS,
  );
}

type Taken =
  | { readonly ok: true; readonly agent: Agent; readonly offered: Resources }
  | { readonly ok: false; readonly refusal: Refusal };

/** Uses the offers up. If one of them cannot be used, the launch fails and the good ones are free again. */
function takeOffers(cx: StepContext, message: MessageOf<'LaunchTasks'>): Taken {
  const { offers, problem } = findOffers(cx, message);
  const [first] = offers;
  const used = problem === undefined && message.tasks.length > 0;
  for (const offer of offers) {
    removeOffer(cx.state, offer);
    const { offerId, frameworkId, agentId } = offer;
    const type = used ? 'offer.accepted' : 'offer.declined';
    appendEvent(cx, { type, offerId, frameworkId, agentId, reason: problem });
  }
  const agent = first && cx.state.agents.get(first.agentId);
  if (problem === undefined && agent) {
    return { ok: true, agent, offered: sumResources(offers.map((offer) => offer.resources)) };
  }
  const refusal: Refusal = {
    state: 'TASK_LOST',
    reason: 'REASON_INVALID_OFFERS',
    message: `not launched: ${problem ?? 'the agent is gone'}; wait for the next offer and launch again`,
  };
  return { ok: false, refusal };
}

/** The offers that the framework holds of those that it names, and why they cannot be used together. */
function findOffers(
  { state }: StepContext,
  { offerIds, frameworkId }: MessageOf<'LaunchTasks'>,
): { readonly offers: readonly OfferRecord[]; readonly problem: string | undefined } {
  const offers: OfferRecord[] = [];
  let problem: string | undefined;
  for (const offerId of new Set(offerIds)) {
    const offer = state.offers.get(offerId);
    if (offer?.frameworkId === frameworkId) offers.push(offer);
    else {
      problem ??= `offer ${offerId} is not valid any more: it was used, declined, rescinded or has expired`;
    }
  }
  if (new Set(offers.map(({ agentId }) => agentId)).size > 1) {
    problem ??= 'the offers of one launch must be of one agent, these are of several';
  }
  return { offers, problem };
}

function checkTask(
  cx: StepContext,
  framework: Framework,
  raw: unknown,
  left: Resources,
): { readonly task: TaskInfo } | { readonly refusal: Refusal } {
  const decoded = decodeTask(raw);
  if (!decoded.ok) {
    return {
      refusal: {
        state: 'TASK_ERROR',
        reason: 'REASON_TASK_INVALID',
        message: `not launched: the task is not valid: ${decoded.message}`,
      },
    };
  }
  const task = decoded.value;
  if (findTask(cx.state, framework.record.info.frameworkId, task.taskId)) {
    return {
      refusal: {
        state: 'TASK_ERROR',
        reason: 'REASON_TASK_DUPLICATE',
        message: `not launched: this framework has a task ${task.taskId} already, which is not affected; choose another id`,
      },
    };
  }
  const refusal = task.exclusive ? exclusiveRefusal(cx, framework, task) : undefined;
  if (refusal) return { refusal };
  if (!fits(task.resources, left)) {
    return {
      refusal: {
        state: 'TASK_ERROR',
        reason: 'REASON_RESOURCES_EXCEED_OFFER',
        message: `not launched: the task needs ${formatResources(task.resources)}, of the offer ${formatResources(left)} is left`,
      },
    };
  }
  return { task };
}

/** Another exclusive task of that name which has not ended, as far as anybody knows. */
function findExclusive(
  state: MasterState,
  framework: Framework,
  name: string,
): TaskRecord | undefined {
  for (const key of framework.tasks) {
    const task = state.tasks.get(key);
    if (!task || task.name !== name || isTerminal(task.state)) continue;
    if (rulesOf(task).exclusive === true) return task;
  }
  return undefined;
}

/** Not for ever, as an error would be: launched again later it may be let in. */
function exclusiveRefusal(
  cx: StepContext,
  framework: Framework,
  { name }: TaskInfo,
): Refusal | undefined {
  const message = exclusiveProblem(cx, framework, name);
  if (message === undefined) return undefined;
  return { state: 'TASK_DROPPED', reason: 'REASON_TASK_EXCLUSIVE', message };
}

function exclusiveProblem(
  { state, nowMs }: StepContext,
  framework: Framework,
  name: string,
): string | undefined {
  const other = findExclusive(state, framework, name);
  if (other) {
    const { taskId, agentId, stoppedByMs } = other;
    const until =
      stoppedByMs === undefined
        ? 'launch again when it has ended'
        : `its node has stopped it in ${formatDuration(Math.max(0, stoppedByMs - nowMs))} at the latest`;
    return `not launched: ${name} is exclusive, and task ${taskId} of that name is ${other.state} on agent ${agentId}; ${until}`;
  }
  const { recoveringUntilMs, isNew } = state.cluster;
  if (recoveringUntilMs <= nowMs || isNew) return undefined;
  return `not launched: ${name} is exclusive, and Redis has lost data: another of that name may turn up for ${formatDuration(recoveringUntilMs - nowMs)} more`;
}

function launch(cx: StepContext, framework: Framework, agent: Agent, task: TaskInfo): void {
  const { state } = cx;
  const { info } = framework.record;
  const { frameworkId } = info;
  const { agentId } = agent.record.info;
  const launchId = `${String(state.epoch)}.${state.term}.${String(state.nextLaunch++)}` as LaunchId;
  const record: TaskRecord = {
    frameworkId,
    taskId: task.taskId,
    launchId,
    agentId,
    name: task.name,
    resources: task.resources,
    state: 'TASK_STAGING',
    launchedAtMs: cx.nowMs,
    updatedAtMs: cx.nowMs,
    info: task,
    unheard: true,
    unacknowledged: [],
  };
  addTask(state, record);
  forgetQuestions(cx, framework, task.taskId);
  sendRunTask(cx, agent, info, record);
  const { taskId, name, resources } = task;
  appendEvent(cx, {
    type: 'task.launched',
    frameworkId,
    taskId,
    launchId,
    agentId,
    name,
    state: 'TASK_STAGING',
    resources,
  });
}

/** Sends a launch to the agent's session; the agent starts a launch once, however often it is told. */
export function sendRunTask(
  cx: StepContext,
  agent: Agent,
  framework: FrameworkInfo,
  { info: task, launchId }: TaskRecord,
): void {
  const { info, session } = agent.record;
  if (task)
    send(cx, agentName(info.agentId), session, { type: 'RunTask', framework, launchId, task });
}

/** A task that never was: its status needs no acknowledgement, because there is nothing to keep. */
function refuseTask(cx: StepContext, framework: Framework, taskId: TaskId, refusal: Refusal): void {
  const { frameworkId } = framework.record.info;
  const { state, reason } = refusal;
  const message = refusal.message.slice(0, TEXT_MAX_CHARS);
  send(cx, frameworkName(frameworkId), framework.record.session, {
    type: 'StatusUpdate',
    status: { frameworkId, taskId, state, source: 'SOURCE_MASTER', reason, message },
  });
  appendEvent(cx, { type: 'task.refused', frameworkId, taskId, state, reason, message });
}

/** The id that a raw task claims; a placeholder if it has none that could be one. */
function taskIdOf(raw: unknown): TaskId {
  const taskId = (raw as { taskId?: unknown } | null)?.taskId;
  return (
    typeof taskId === 'string' && /^[\w.:-]{1,100}$/.test(taskId) ? taskId : 'invalid'
  ) as TaskId;
}
