/** The life of a task in the master: launched, updated, acknowledged, killed, ended. */
import type { AgentId, UpdateId } from '../../protocol/ids.ts';
import { agentName, frameworkName } from '../../protocol/keys.ts';
import type { MessageOf } from '../../protocol/messages.ts';
import type { TaskRecord } from '../../protocol/records.ts';
import { NO_RESOURCES } from '../../protocol/resources.ts';
import type { TaskReason, TaskState } from '../../protocol/task-state.ts';
import { isTerminal, mayBecome } from '../../protocol/task-state.ts';
import type { TaskStatus } from '../../protocol/task.ts';
import type { StepContext } from './effects.ts';
import { lastTaskEnded } from './executor-lost.ts';
import { defer, forgetQuestions, tellNothingToKill } from './questions.ts';
import { endResize } from './resize.ts';
import { appendEvent, changeSession, send } from './effects.ts';
import type { Framework } from './state.ts';
import { addTask, releaseTask, removeFramework, removeTask, touchTask } from './books.ts';
import { findTask, isRecovering } from './state.ts';

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
  if (!task && adoptEnd(cx, agentId, status)) return;
  const isOurs = task?.launchId === status.launchId && task?.agentId === agentId;
  if (!task || !isOurs || !mayBecome(task.state, status.state)) {
    // Nobody waits for it any more (acknowledged before, of an older launch, or its framework is gone): the agent may
    // forget it.
    acknowledgeToAgent(cx, agentId, status);
    return;
  }
  applyStatus(cx, task, status);
}

/**
 * After Redis has lost data: an end of which nothing is known any more, not even whether the framework has heard of it.
 * It is told (again, perhaps: as the same update), and uses nothing.
 */
function adoptEnd(cx: StepContext, agentId: AgentId, status: TaskStatus): boolean {
  const { frameworkId, taskId, launchId, state, executorId } = status;
  if (!isRecovering(cx.state, cx.nowMs) || !isTerminal(state) || launchId === undefined)
    return false;
  const isWrittenOff = cx.state.agents.get(agentId)?.record.writtenOff.includes(launchId) === true;
  const framework = cx.state.frameworks.get(frameworkId);
  if (isWrittenOff || !framework || status.updateId === undefined) return false;
  const task: TaskRecord = {
    frameworkId,
    taskId,
    launchId,
    agentId,
    name: taskId,
    resources: NO_RESOURCES,
    state: 'TASK_RUNNING',
    launchedAtMs: cx.nowMs,
    updatedAtMs: cx.nowMs,
    ...(executorId !== undefined && { executorId }),
    unheard: false,
    unacknowledged: [],
  };
  addTask(cx.state, task);
  const { name, resources } = task;
  const type = 'task.adopted';
  const of = { frameworkId, taskId, launchId, agentId, executorId };
  const event = { ...of, name, state: task.state, resources };
  appendEvent(cx, { type, ...event });
  forgetQuestions(cx, framework, taskId);
  applyStatus(cx, task, status);
  return true;
}

/** Takes a status into the record, tells the framework, and lets go of an ended task's resources. */
export function applyStatus(cx: StepContext, task: TaskRecord, status: TaskStatus): void {
  task.state = status.state;
  task.status = status;
  task.updatedAtMs = cx.nowMs;
  if (status.source !== 'SOURCE_MASTER') task.unheard = false;
  if (status.state !== 'TASK_UNREACHABLE') delete task.stoppedByMs;
  touchTask(cx.state, task);
  if (isTerminal(status.state)) releaseTask(cx.state, task);
  const framework = cx.state.frameworks.get(task.frameworkId);
  const isWanted = framework !== undefined && framework.record.state !== 'detached';
  // Without an id it cannot be acknowledged, and would be kept for ever.
  if (isWanted && status.updateId !== undefined) task.unacknowledged.push(status);
  const unacknowledged = task.unacknowledged.length;
  appendEvent(cx, {
    type: 'task.updated',
    frameworkId: task.frameworkId,
    taskId: task.taskId,
    agentId: task.agentId,
    state: status.state,
    ...(unacknowledged > 0 && { unacknowledged }),
    reason: status.reason,
    message: status.message,
  });
  if (isWanted) {
    const { session } = framework.record;
    send(cx, frameworkName(task.frameworkId), session, { type: 'StatusUpdate', status });
  } else acknowledgeToAgent(cx, task.agentId, status);
  if (isTerminal(status.state)) {
    endResize(cx, task);
    lastTaskEnded(cx, task);
  }
  forgetIfDone(cx, task);
}

/** What the master itself has to say of a task. */
export interface MasterStatus {
  readonly state: TaskState;
  readonly reason: TaskReason;
  readonly message: string;
}

/** Ends a task on the master's word, because its agent cannot. */
export function endByMaster(cx: StepContext, task: TaskRecord, says: MasterStatus): void {
  // Derived and not drawn: the same end, decided again after a failover, has the same id.
  applyStatus(cx, task, statusByMaster(task, `${task.launchId}.master.${says.state}`, says));
}

/**
 * Tells the framework a state that the master has decided and that is not the end. Of such updates only the newest
 * is kept for a framework that is away: an agent may come and go many times meanwhile.
 */
export function tellByMaster(cx: StepContext, task: TaskRecord, says: MasterStatus): void {
  task.unacknowledged = task.unacknowledged.filter(({ source }) => source !== 'SOURCE_MASTER');
  const updateId = `${task.launchId}.${String(cx.nowMs)}.${says.state}`;
  applyStatus(cx, task, statusByMaster(task, updateId, says));
}

function statusByMaster(task: TaskRecord, updateId: string, says: MasterStatus): TaskStatus {
  const { frameworkId, taskId, agentId, launchId, executorId } = task;
  const source = 'SOURCE_MASTER';
  return {
    frameworkId,
    taskId,
    agentId,
    launchId,
    updateId: updateId as UpdateId,
    ...(executorId !== undefined && { executorId }),
    source,
    ...says,
  };
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
  if (forgetIfDone(cx, task)) return; // That is an event of its own.
  const { frameworkId, taskId } = task;
  appendEvent(cx, { type: 'task.acknowledged', frameworkId, taskId });
}

/** Lets the agent forget an update; one of the master's own, or one that wants no acknowledgement, is not its business. */
export function acknowledgeToAgent(cx: StepContext, agentId: AgentId, status: TaskStatus): void {
  if (status.updateId === undefined || status.source === 'SOURCE_MASTER') return;
  const { frameworkId, taskId, updateId } = status;
  send(cx, agentName(agentId), cx.state.agents.get(agentId)?.record.session, {
    type: 'StatusUpdateAcknowledgement',
    frameworkId,
    taskId,
    updateId,
  });
}

/**
 * An ended task with nothing left to acknowledge goes into the history; a detached framework follows its last one.
 *
 * @returns true if it is forgotten
 */
export function forgetIfDone(cx: StepContext, task: TaskRecord): boolean {
  if (!isTerminal(task.state) || task.unacknowledged.length > 0) return false;
  const { frameworkId, taskId } = task;
  const framework = cx.state.frameworks.get(task.frameworkId);
  cx.effects.push({ type: 'history.append', task: toHistory(task, framework) });
  removeTask(cx.state, task);
  const isWanted = framework !== undefined && framework.record.state !== 'detached';
  const reason = isWanted ? 'its end is acknowledged' : 'no framework waits for its end';
  appendEvent(cx, { type: 'task.forgotten', frameworkId, taskId, reason });
  if (framework) forgetFrameworkIfDone(cx, framework);
  return true;
}

/** A detached framework is kept only for its tasks, and for executors, which go after these. */
export function forgetFrameworkIfDone(cx: StepContext, framework: Framework): void {
  const { record, tasks, executors } = framework;
  if (record.state !== 'detached' || tasks.size + executors.size > 0) return;
  if (isRecovering(cx.state, cx.nowMs)) return; // Tasks of it may still turn up, and are to go on.
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
  const { frameworkId, taskId, launchId, agentId, name, resources, state } = task;
  const { launchedAtMs, updatedAtMs, executorId } = task;
  return {
    frameworkId,
    frameworkName: framework?.record.info.name ?? '',
    taskId,
    launchId,
    agentId,
    name,
    resources,
    state,
    launchedAtMs,
    endedAtMs: updatedAtMs,
    argv: task.info?.command?.argv,
    executorId,
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

/**
 * Asks the agent to kill. That nobody knows a task is no end of it: its agent may be cut off, and be the only one that has
 * not lost what Redis lost. So the answer is TASK_UNKNOWN, as to a framework of Mesos that knows of partitions.
 */
export function killTask(cx: StepContext, message: MessageOf<'KillTask'>): void {
  const { frameworkId, taskId } = message;
  const by = message.by === 'operator' ? 'operator' : 'framework';
  const task = findTask(cx.state, frameworkId, taskId);
  if (!task && by === 'operator') return; // Nothing to kill; the framework has asked nothing and is told nothing.
  if (!task) {
    const framework = cx.state.frameworks.get(frameworkId);
    if (framework && defer(cx, framework, { taskId, about: 'kill' })) return;
    tellNothingToKill(cx, frameworkId, taskId);
    return;
  }
  if (isTerminal(task.state)) return;
  requestKill(cx, task, { by, gracePeriodMs: message.gracePeriodMs });
}

/** Why a task is to end. */
export interface KillWish {
  readonly by: NonNullable<TaskRecord['killRequested']>;
  /** Absent: the task's own. */
  readonly gracePeriodMs?: number | undefined;
  /** For the event log. */
  readonly message?: string;
}

/** Has the agent of a task that has not ended kill it. */
export function requestKill(cx: StepContext, task: TaskRecord, wish: KillWish): void {
  const { by, gracePeriodMs, message } = wish;
  const { frameworkId, taskId, agentId, launchId } = task;
  noteKill(task, by, gracePeriodMs);
  touchTask(cx.state, task);
  appendEvent(cx, {
    ...{ type: 'task.kill-requested', frameworkId, taskId, agentId, reason: by },
    ...(message !== undefined && { message }),
  });
  send(cx, agentName(agentId), cx.state.agents.get(agentId)?.record.session, {
    ...{ type: 'KillTask', frameworkId, taskId, by, launchId },
    ...(gracePeriodMs !== undefined && { gracePeriodMs }),
  });
}

/** Kept until the end, for an agent that cannot be reached now or forgets it. */
function noteKill(task: TaskRecord, by: KillWish['by'], graceMs: number | undefined): void {
  task.killRequested ??= by;
  if (graceMs !== undefined) task.killGraceMs = Math.min(task.killGraceMs ?? graceMs, graceMs);
}
