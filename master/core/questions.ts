/**
 * What frameworks ask of their tasks: answered from the records, or, of a task that is not known while the cluster is
 * recovering, put off until it has recovered.
 */
import type { FrameworkId, TaskId } from '../../protocol/ids.ts';
import { frameworkName } from '../../protocol/keys.ts';
import type { MessageOf } from '../../protocol/messages.ts';
import type { DeferredQuestion } from '../../protocol/records.ts';
import { isTerminal } from '../../protocol/task-state.ts';
import type { TaskStatus } from '../../protocol/task.ts';
import type { StepContext } from './effects.ts';
import { send } from './effects.ts';
import type { Framework } from './state.ts';
import { findTask, isRecovering } from './state.ts';

/** Questions kept for one framework; it may ask again for those beyond. */
const DEFERRED_MAX = 10_000;

/**
 * Tells a framework the newest status of each task that it asks for, or (an empty list) of all that have not ended. A task
 * that is not known is TASK_UNKNOWN: it was never launched, or it has ended and been acknowledged; the master does not
 * guess which, and waits with that answer while the cluster is recovering.
 */
export function reconcileTasks(cx: StepContext, message: MessageOf<'ReconcileTasks'>): void {
  const framework = cx.state.frameworks.get(message.frameworkId);
  if (!framework) return;
  const taskIds = message.taskIds.length > 0 ? message.taskIds : liveTaskIds(cx, framework);
  for (const taskId of taskIds) {
    const isKnown = findTask(cx.state, message.frameworkId, taskId) !== undefined;
    if (!isKnown && defer(cx, framework, { taskId, about: 'status' })) continue;
    tellStatus(cx, framework, taskId);
  }
}

function liveTaskIds(cx: StepContext, framework: Framework): TaskId[] {
  return [...framework.tasks].flatMap((key) => {
    const task = cx.state.tasks.get(key);
    return task && !isTerminal(task.state) ? [task.taskId] : [];
  });
}

/** The newest status of a task. It is an answer and not an update: it carries no id and wants no acknowledgement. */
export function tellStatus(cx: StepContext, framework: Framework, taskId: TaskId): void {
  const { info, session } = framework.record;
  const { frameworkId } = info;
  const task = findTask(cx.state, frameworkId, taskId);
  const { updateId: _updateId, ...known } = task?.status ?? {};
  const status: TaskStatus = {
    ...known,
    frameworkId,
    taskId,
    ...(task && { agentId: task.agentId, launchId: task.launchId }),
    ...(task?.executorId !== undefined && { executorId: task.executorId }),
    state: task?.state ?? 'TASK_UNKNOWN',
    source: 'SOURCE_MASTER',
    reason: 'REASON_RECONCILIATION',
    ...(!task && { message: `the master knows no task ${taskId} of this framework` }),
  };
  send(cx, frameworkName(frameworkId), session, { type: 'StatusUpdate', status });
}

/** @returns true if the question is put off: the task may still turn up */
export function defer(cx: StepContext, framework: Framework, question: DeferredQuestion): boolean {
  if (!isRecovering(cx.state, cx.nowMs)) return false;
  const { record } = framework;
  const isAsked = record.deferred.some(
    ({ taskId, about }) => taskId === question.taskId && about === question.about,
  );
  if (!isAsked && record.deferred.length < DEFERRED_MAX) record.deferred.push(question);
  cx.state.dirty.frameworks.add(record.info.frameworkId);
  return true;
}

/** The task is there: its framework hears of it by updates from now on, and nothing asked before is said of its end. */
export function forgetQuestions(cx: StepContext, framework: Framework, taskId: TaskId): void {
  const { record } = framework;
  const kept = record.deferred.filter((question) => question.taskId !== taskId);
  if (kept.length === record.deferred.length) return;
  record.deferred = kept;
  cx.state.dirty.frameworks.add(record.info.frameworkId);
}

/** What was put off is answered when the cluster has recovered, and the framework is there to hear it. */
export function answerDeferred(cx: StepContext, framework: Framework): void {
  const { deferred, info, session } = framework.record;
  if (deferred.length === 0 || session === undefined || isRecovering(cx.state, cx.nowMs)) return;
  framework.record.deferred = [];
  cx.state.dirty.frameworks.add(info.frameworkId);
  for (const question of deferred) answer(cx, framework, question);
}

/** The answer to a kill of a task that is not known. That is no end of it, as when `tellStatus` says so. */
export function tellNothingToKill(cx: StepContext, frameworkId: FrameworkId, taskId: TaskId): void {
  tell(cx, frameworkId, taskId, {
    state: 'TASK_UNKNOWN',
    reason: 'REASON_TASK_UNKNOWN',
    message: `kill of task ${taskId}: the master knows no such task of this framework`,
  });
}

function answer(cx: StepContext, framework: Framework, question: DeferredQuestion): void {
  const { frameworkId } = framework.record.info;
  const { taskId, about } = question;
  if (about === 'status' || findTask(cx.state, frameworkId, taskId)) {
    tellStatus(cx, framework, taskId);
  } else if (about === 'kill') {
    tellNothingToKill(cx, frameworkId, taskId);
  } else {
    tell(cx, frameworkId, taskId, {
      state: 'TASK_LOST',
      reason: 'REASON_INVALID_OFFERS',
      message: 'not launched: Redis had lost the offers that it named',
    });
  }
}

function tell(
  cx: StepContext,
  frameworkId: FrameworkId,
  taskId: TaskId,
  what: Pick<TaskStatus, 'state' | 'reason' | 'message'>,
): void {
  const session = cx.state.frameworks.get(frameworkId)?.record.session;
  const status: TaskStatus = { frameworkId, taskId, source: 'SOURCE_MASTER', ...what };
  send(cx, frameworkName(frameworkId), session, { type: 'StatusUpdate', status });
}
