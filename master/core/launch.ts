/**
 * LaunchTasks: offers become tasks. Each task is checked alone, so a bad one harms no other but those of its group; what
 * is checked is in `launch-check.ts`.
 */
import type { ReservationId, TaskGroupId, TaskId } from '../../protocol/ids.ts';
import { agentName, frameworkName } from '../../protocol/keys.ts';
import { TEXT_MAX_CHARS } from '../../protocol/limits.ts';
import type { MessageOf } from '../../protocol/messages.ts';
import type { OfferRecord, TaskRecord } from '../../protocol/records.ts';
import { addResources, NO_RESOURCES } from '../../protocol/resources.ts';
import type { FrameworkInfo, TaskInfo } from '../../protocol/task.ts';
import { REFUSE_DEFAULT_MS } from '../../protocol/task.ts';
import { addTask, removeOffer } from './books.ts';
import { directoriesFor, noteDirectories } from './directories.ts';
import type { StepContext } from './effects.ts';
import { appendEvent, send } from './effects.ts';
import { launchExecutor } from './executors.ts';
import type { LaunchPlan, RawGroup, Refusal } from './launch-check.ts';
import { checkGroup, checkTask, createPlan, taskIdOf } from './launch-check.ts';
import { nextLaunchId } from './launch-ids.ts';
import { refuse } from './offers.ts';
import type { Purse } from './pools.ts';
import { reservedIn, takeFrom } from './pools.ts';
import { defer, forgetQuestions } from './questions.ts';
import type { Agent, Framework } from './state.ts';
import { findExecutor, findTask } from './state.ts';

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
  const plan = createPlan(framework, used);
  for (const part of partsOf(message.tasks)) {
    if ('raw' in part) launchAlone(cx, plan, part.raw);
    else launchGroup(cx, plan, part);
  }
  const { role } = used;
  const { agentId } = used.agent.record.info;
  const refuseMs = message.filters?.refuseMs ?? REFUSE_DEFAULT_MS;
  for (const { reservationId, left: resources } of used.purses) {
    refuse(cx, framework, { agentId, reservationId, role, resources }, refuseMs);
  }
}

/** Tasks of one group, wherever they stand in the call, or a task alone; in the order in which they begin. */
function partsOf(tasks: readonly unknown[]): (RawGroup | { readonly raw: unknown })[] {
  const groups = new Map<TaskGroupId, unknown[]>();
  const parts: (RawGroup | { readonly raw: unknown })[] = [];
  for (const raw of tasks) {
    const groupId = (raw as { groupId?: unknown } | null)?.groupId;
    if (typeof groupId !== 'string') {
      parts.push({ raw });
      continue;
    }
    const group = groups.get(groupId as TaskGroupId);
    if (group) {
      group.push(raw);
      continue;
    }
    const members = [raw];
    groups.set(groupId as TaskGroupId, members);
    parts.push({ groupId: groupId as TaskGroupId, tasks: members });
  }
  return parts;
}

function launchAlone(cx: StepContext, plan: LaunchPlan, raw: unknown): void {
  const checked = checkTask(cx, plan, raw);
  if ('refusal' in checked) refuseTask(cx, plan.framework, taskIdOf(raw), checked.refusal);
  else launch(cx, plan, checked.task);
}

function launchGroup(cx: StepContext, plan: LaunchPlan, group: RawGroup): void {
  for (const [index, checked] of checkGroup(cx, plan, group).entries()) {
    if ('refusal' in checked) {
      refuseTask(cx, plan.framework, taskIdOf(group.tasks[index]), checked.refusal);
    } else launch(cx, plan, checked.task, group.tasks.length);
  }
}

type Taken =
  | {
      readonly ok: true;
      readonly agent: Agent;
      readonly role: string;
      readonly purses: readonly Purse[];
    }
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
    return { ok: true, agent, role: first.role, purses: pursesIn(offers) };
  }
  const refusal: Refusal = {
    state: 'TASK_LOST',
    reason: 'REASON_INVALID_OFFERS',
    message: `not launched: ${problem ?? 'the agent is gone'}; wait for the next offer and launch again`,
  };
  return { ok: false, refusal };
}

/** What was offered of each pool, those of the deepest roles first, and last what is not reserved. */
function pursesIn(offers: readonly OfferRecord[]): Purse[] {
  const depth = ({ reservation }: OfferRecord): number => reservation?.role.split('/').length ?? 0;
  const purses = new Map<ReservationId | undefined, Purse>();
  for (const offer of [...offers].sort((a, b) => depth(b) - depth(a))) {
    const reservationId = offer.reservation?.reservationId;
    const { left } = purses.get(reservationId) ?? { left: NO_RESOURCES };
    purses.set(reservationId, { reservationId, left: addResources(left, offer.resources) });
  }
  return [...purses.values()];
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
  if (new Set(offers.map(({ role }) => role)).size > 1) {
    problem ??= 'the offers of one launch must be of one role, these are of several';
  }
  return { offers, problem };
}

function launch(
  cx: StepContext,
  { framework, agent, role, purses }: LaunchPlan,
  { executor, numbers: _numbers, directories: _directories, ...task }: TaskInfo,
  groupSize?: number,
): void {
  const { state } = cx;
  const { info } = framework.record;
  const { frameworkId } = info;
  const { agentId } = agent.record.info;
  const executorId = executor?.executorId;
  if (executor && !findExecutor(state, agentId, frameworkId, executor.executorId)) {
    const taken = reservedIn(takeFrom(purses, executor.resources));
    launchExecutor(cx, { agentId, frameworkId, role, ...taken }, executor);
  }
  const { taskId, name, resources } = task;
  const launchId = nextLaunchId(state);
  const record: TaskRecord = {
    frameworkId,
    taskId,
    launchId,
    agentId,
    name,
    role,
    resources,
    ...reservedIn(takeFrom(purses, resources)),
    state: 'TASK_STAGING',
    launchedAtMs: cx.nowMs,
    updatedAtMs: cx.nowMs,
    ...(executorId !== undefined && { executorId }),
    ...(groupSize !== undefined && { groupSize }),
    info: info.roles ? { ...task, role } : task,
    unheard: true,
    unacknowledged: [],
  };
  addTask(state, record);
  noteDirectories(cx, agent, record.reserved);
  forgetQuestions(cx, framework, taskId);
  sendRunTask(cx, agent, { framework: info, task: record, groupSize });
  appendEvent(cx, {
    type: 'task.launched',
    frameworkId,
    taskId,
    launchId,
    agentId,
    ...(executorId !== undefined && { executorId }),
    name,
    state: 'TASK_STAGING',
    resources,
  });
}

/** A launch as it is sent: of a task with its group's size, if it has one. */
export interface LaunchToSend {
  readonly framework: FrameworkInfo;
  readonly task: TaskRecord;
  readonly groupSize?: number | undefined;
}

/** Sends a launch to the agent's session; the agent starts a launch once, however often it is told. */
export function sendRunTask(
  cx: StepContext,
  agent: Agent,
  { framework, task: record, groupSize }: LaunchToSend,
): void {
  const { info, session } = agent.record;
  const { info: task, launchId, frameworkId, executorId } = record;
  if (!task) return;
  const executor =
    executorId === undefined
      ? undefined
      : findExecutor(cx.state, info.agentId, frameworkId, executorId);
  send(cx, agentName(info.agentId), session, {
    type: 'RunTask',
    framework,
    launchId,
    task: { ...task, ...(executor && { executor: executor.info }) },
    ...(executor && { executorLaunchId: executor.launchId }),
    ...(groupSize !== undefined && { groupSize }),
    ...directoriesFor(agent, record.reserved),
  });
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
