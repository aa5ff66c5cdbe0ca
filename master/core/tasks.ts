/** The life of a task in the master: launched, updated, acknowledged, killed, ended. */
import type { AgentId } from '../../protocol/ids.ts';
import { agentName, frameworkName } from '../../protocol/keys.ts';
import type { MessageOf } from '../../protocol/messages.ts';
import type { TaskRecord } from '../../protocol/records.ts';
import { isTerminal, mayBecome } from '../../protocol/task-state.ts';
import type { TaskStatus } from '../../protocol/task.ts';
import type { StepContext } from './effects.ts';
import { appendEvent, changeSession, send } from './effects.ts';
import type { Framework } from './state.ts';
import { findTask, releaseTask, removeFramework, removeTask, touchTask } from './state.ts';

/** Bytes of each tail that the history keeps of an ended task. */
const HISTORY_TAIL_CHARS = 2048;

/** An update from an agent: taken into the task's record and forwarded, once, until it is acknowledged. */
export function statusUpdate(
  cx: StepContext,
  agentId: AgentId,
  message: MessageOf<'StatusUpdate'>,
): void {
  const { status } = message;
  const task = findTask(cx.state, status.frameworkId, status.taskId);
  const { updateId } = status;
  const isPending = (pending: TaskStatus): boolean => pending.updateId === updateId;
  if (updateId !== undefined && task?.unacknowledged.some(isPending) === true) return;
  if (!task || task.agentId !== agentId || !mayBecome(task.state, status.state)) {
    // Nobody waits for it any more (acknowledged before, or its framework is gone): the agent may forget it.
    acknowledgeToAgent(cx, agentId, status);
    return;
  }
  applyStatus(cx, task, status);
}

/** Takes a status into the record, tells the framework, and lets go of an ended task's resources. */
export function applyStatus(cx: StepContext, task: TaskRecord, status: TaskStatus): void {
  task.state = status.state;
  task.status = status;
  task.updatedAtMs = cx.nowMs;
  task.unheard = false;
  touchTask(cx.state, task);
  if (isTerminal(status.state)) releaseTask(cx.state, task);
  appendEvent(cx, {
    type: 'task.updated',
    frameworkId: task.frameworkId,
    taskId: task.taskId,
    agentId: task.agentId,
    state: status.state,
    reason: status.reason,
    message: status.message,
  });
  const framework = cx.state.frameworks.get(task.frameworkId);
  if (!framework || framework.record.state === 'detached') {
    acknowledgeToAgent(cx, task.agentId, status);
    forgetIfDone(cx, task);
    return;
  }
  // Without an id it cannot be acknowledged, and would be kept for ever.
  if (status.updateId !== undefined) task.unacknowledged.push(status);
  send(cx, frameworkName(task.frameworkId), framework.record.session, {
    type: 'StatusUpdate',
    status,
  });
  forgetIfDone(cx, task);
}

/** The framework has dealt with an update: it is dropped here, and the agent may drop it too. */
export function acknowledge(
  cx: StepContext,
  message: MessageOf<'StatusUpdateAcknowledgement'>,
): void {
  const task = findTask(cx.state, message.frameworkId, message.taskId);
  const status = task?.unacknowledged.find((pending) => pending.updateId === message.updateId);
  if (!task || !status) return; // Acknowledged twice: the second time says nothing new.
  task.unacknowledged = task.unacknowledged.filter((pending) => pending !== status);
  touchTask(cx.state, task);
  if (status.source !== 'SOURCE_MASTER') acknowledgeToAgent(cx, task.agentId, status);
  forgetIfDone(cx, task);
}

function acknowledgeToAgent(cx: StepContext, agentId: AgentId, status: TaskStatus): void {
  if (status.updateId === undefined || status.source === 'SOURCE_MASTER') return;
  const { frameworkId, taskId, updateId } = status;
  send(cx, agentName(agentId), cx.state.agents.get(agentId)?.record.session, {
    type: 'StatusUpdateAcknowledgement',
    frameworkId,
    taskId,
    updateId,
  });
}

/** An ended task with nothing left to acknowledge goes into the history; a detached framework follows its last one. */
export function forgetIfDone(cx: StepContext, task: TaskRecord): void {
  if (!isTerminal(task.state) || task.unacknowledged.length > 0) return;
  const framework = cx.state.frameworks.get(task.frameworkId);
  cx.effects.push({ type: 'history.append', task: toHistory(task, framework) });
  removeTask(cx.state, task);
  if (framework) forgetFrameworkIfDone(cx, framework);
}

/** A detached framework is kept only for its tasks. */
export function forgetFrameworkIfDone(cx: StepContext, framework: Framework): void {
  const { record, tasks } = framework;
  if (record.state !== 'detached' || tasks.size > 0) return;
  const { frameworkId } = record.info;
  if (cx.state.frameworks.get(frameworkId) !== framework) return; // Removed with its last task.
  changeSession(cx, frameworkName(frameworkId), record.session, undefined);
  removeFramework(cx.state, frameworkId);
  appendEvent(cx, {
    type: 'framework.removed',
    frameworkId,
    reason: 'detached, and its last task has ended',
  });
}

function toHistory(
  task: TaskRecord,
  framework: Framework | undefined,
): Extract<StepContext['effects'][number], { type: 'history.append' }>['task'] {
  const { frameworkId, taskId, agentId, name, resources, state, launchedAtMs, updatedAtMs } = task;
  return {
    frameworkId,
    frameworkName: framework?.record.info.name ?? '',
    taskId,
    agentId,
    name,
    resources,
    state,
    launchedAtMs,
    endedAtMs: updatedAtMs,
    argv: task.info?.command.argv,
    labels: task.info?.labels,
    status: task.status && withShortTails(task.status),
  };
}

function withShortTails(status: TaskStatus): TaskStatus {
  const { certificate } = status;
  const isShort = (tail = ''): boolean => tail.length <= HISTORY_TAIL_CHARS;
  if (!certificate || (isShort(certificate.stdoutTail) && isShort(certificate.stderrTail))) {
    return status;
  }
  const short = (tail: string | undefined): string | undefined => tail?.slice(-HISTORY_TAIL_CHARS);
  return {
    ...status,
    certificate: {
      ...certificate,
      stdoutTail: short(certificate.stdoutTail),
      stderrTail: short(certificate.stderrTail),
    },
  };
}

/** Asks the agent to kill; a framework's task that nobody knows is answered with TASK_LOST, as in Mesos. */
export function killTask(cx: StepContext, message: MessageOf<'KillTask'>): void {
  const { frameworkId, taskId, by } = message;
  const task = findTask(cx.state, frameworkId, taskId);
  if (!task && by === 'operator') return; // Nothing to kill; the framework has asked nothing and is told nothing.
  if (!task) {
    const session = cx.state.frameworks.get(frameworkId)?.record.session;
    send(cx, frameworkName(frameworkId), session, {
      type: 'StatusUpdate',
      status: {
        frameworkId,
        taskId,
        state: 'TASK_LOST',
        source: 'SOURCE_MASTER',
        reason: 'REASON_TASK_UNKNOWN',
        message: `kill of task ${taskId}: the master knows no such task of this framework`,
      },
    });
    return;
  }
  if (isTerminal(task.state)) return;
  task.killRequested ??= by;
  touchTask(cx.state, task);
  appendEvent(cx, {
    type: 'task.kill-requested',
    frameworkId,
    taskId,
    agentId: task.agentId,
    reason: by,
  });
  send(cx, agentName(task.agentId), cx.state.agents.get(task.agentId)?.record.session, message);
}

/**
 * Tells a framework the newest status of each task that it asks for. These answers are not updates: they carry no id and
 * want no acknowledgement. A task that is not known is TASK_UNKNOWN: it was never launched, or it has ended and been
 * acknowledged; the master does not guess which.
 */
export function reconcileTasks(cx: StepContext, message: MessageOf<'ReconcileTasks'>): void {
  const { frameworkId } = message;
  const session = cx.state.frameworks.get(frameworkId)?.record.session;
  for (const taskId of message.taskIds) {
    const task = findTask(cx.state, frameworkId, taskId);
    const { updateId: _updateId, ...known } = task?.status ?? {};
    const status: TaskStatus = {
      ...known,
      frameworkId,
      taskId,
      ...(task && { agentId: task.agentId }),
      state: task?.state ?? 'TASK_UNKNOWN',
      source: 'SOURCE_MASTER',
      reason: 'REASON_RECONCILIATION',
      ...(!task && { message: `the master knows no task ${taskId} of this framework` }),
    };
    send(cx, frameworkName(frameworkId), session, { type: 'StatusUpdate', status });
  }
}
