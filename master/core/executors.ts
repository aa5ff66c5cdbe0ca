/**
 * Executors on agents: each begins with the first task that names it, and is counted until its agent says that it has
 * ended, is given up, or comes back without it. Tasks or not: an executor that waits for work holds what is its own.
 *
 * An executor of a framework that has left and whose tasks go on (detached) is ended by its agent after the last of
 * them; until then it keeps the framework known.
 */
import type { ExecutorInfo } from '../../protocol/executor.ts';
import type { LaunchId } from '../../protocol/ids.ts';
import { agentName } from '../../protocol/keys.ts';
import type { MessageOf } from '../../protocol/messages.ts';
import { formatMib } from '../../protocol/quantities.ts';
import type { ClusterEvent, ExecutorRecord } from '../../protocol/records.ts';
import { isTerminal } from '../../protocol/task-state.ts';
import { addExecutor, removeExecutor, touchTask } from './books.ts';
import type { StepContext } from './effects.ts';
import { appendEvent, send } from './effects.ts';
import type { ExecutorPlace } from './executor-lost.ts';
import { hasLiveTasks, tellExecutorLost } from './executor-lost.ts';
import { nextLaunchId } from './launch-ids.ts';
import type { Agent, Framework } from './state.ts';
import { findExecutor } from './state.ts';
import { forgetFrameworkIfDone } from './tasks.ts';

/** The fields of events that say which executor. */
export function eventOf({
  agentId,
  frameworkId,
  launchId,
  info,
}: Pick<ExecutorRecord, 'agentId' | 'frameworkId' | 'launchId' | 'info'>): Omit<
  ClusterEvent,
  'type' | 'atMs'
> {
  return { agentId, frameworkId, executorId: info.executorId, launchId };
}

/** An executor that is not there yet: it starts with the first `RunTask` that names this launch. */
export function launchExecutor(
  cx: StepContext,
  place: Pick<ExecutorRecord, 'agentId' | 'frameworkId' | 'role' | 'reserved'>,
  info: ExecutorInfo,
): ExecutorRecord {
  const launchId = nextLaunchId(cx.state);
  const record = { ...place, launchId, info, launchedAtMs: cx.nowMs };
  recordExecutor(cx, record, 'executor.launched');
  return record;
}

/** Counts an executor from now on, and says so in the event log. */
export function recordExecutor(
  cx: StepContext,
  record: ExecutorRecord,
  type: 'executor.launched' | 'executor.adopted',
): void {
  addExecutor(cx.state, record);
  const { name, resources } = record.info;
  appendEvent(cx, { type, ...eventOf(record), name, resources });
}

/** Forgets an executor that is not there any more; nobody is told yet. */
export function dropExecutor(
  cx: StepContext,
  record: ExecutorRecord,
  why: { readonly reason: string; readonly message?: string },
): void {
  removeExecutor(cx.state, record);
  appendEvent(cx, { type: 'executor.removed', ...eventOf(record), ...why });
  const framework = cx.state.frameworks.get(record.frameworkId);
  if (framework) forgetFrameworkIfDone(cx, framework);
}

/** An executor has ended: its framework hears of it, unless tasks of it are yet to be reported; then after these. */
export function executorEnded(
  cx: StepContext,
  record: ExecutorRecord,
  why: { readonly reason: string; readonly message: string },
): void {
  const place = { ...record, executorId: record.info.executorId };
  dropExecutor(cx, record, why);
  if (!hasLiveTasks(cx.state, place)) tellExecutorLost(cx, place, why.message);
}

/** @returns false if it is not the executor that the master knows there, so that nothing has come of it */
export function exitedExecutor(
  cx: StepContext,
  agent: Agent,
  message: MessageOf<'ExitedExecutor'>,
): boolean {
  const { agentId } = agent.record.info;
  forgetWrittenOff(cx, agent, message.launchId);
  const record = findExecutor(cx.state, agentId, message.frameworkId, message.executorId);
  if (record?.launchId !== message.launchId) return false;
  executorEnded(cx, record, { reason: 'it has ended', message: message.message });
  return true;
}

/** Keeps in mind that a launch is not to be there: its agent is told so as often as it registers with it. */
export function writeOff({ state }: StepContext, { record }: Agent, launchId: LaunchId): void {
  if (record.writtenOff.includes(launchId)) return;
  record.writtenOff.push(launchId);
  state.dirty.agents.add(record.info.agentId);
}

function forgetWrittenOff({ state }: StepContext, { record }: Agent, launchId: LaunchId): void {
  const index = record.writtenOff.indexOf(launchId);
  if (index < 0) return;
  record.writtenOff.splice(index, 1);
  state.dirty.agents.add(record.info.agentId);
}

/** Asks an agent to end one launch of an executor, with all of its tasks. */
export function sendShutdown(
  cx: StepContext,
  { agentId, frameworkId, executorId }: ExecutorPlace,
  launchId: ExecutorRecord['launchId'],
): void {
  const session = cx.state.agents.get(agentId)?.record.session;
  send(cx, agentName(agentId), session, {
    type: 'ShutdownExecutor',
    frameworkId,
    agentId,
    executorId,
    launchId,
  });
}

/**
 * A framework wants one of its executors to end. That is kept, of its tasks too, for an agent that cannot be reached now
 * or loses its session before it has read it.
 *
 * @returns false if there is no such executor
 */
export function shutdownExecutor(
  cx: StepContext,
  { record: { info }, tasks }: Framework,
  message: MessageOf<'ShutdownExecutor'>,
): boolean {
  const { frameworkId } = info;
  const { agentId, executorId } = message;
  const executor = findExecutor(cx.state, agentId, frameworkId, executorId);
  const agent = cx.state.agents.get(agentId);
  if (!executor || !agent) return false;
  writeOff(cx, agent, executor.launchId);
  sendShutdown(cx, { agentId, frameworkId, executorId }, executor.launchId);
  appendEvent(cx, {
    type: 'executor.shutdown-requested',
    ...eventOf(executor),
    reason: 'framework',
  });
  for (const key of tasks) {
    const task = cx.state.tasks.get(key);
    const isOfIt = task?.agentId === agentId && task.executorId === executorId;
    if (!isOfIt || isTerminal(task.state) || task.killRequested !== undefined) continue;
    task.killRequested = 'framework';
    touchTask(cx.state, task);
    appendEvent(cx, {
      type: 'task.kill-requested',
      frameworkId,
      taskId: task.taskId,
      agentId,
      reason: 'framework',
      message: `shutdown of executor ${executorId}`,
    });
  }
  return true;
}

/** Passes a framework's words on to its executor, best effort. @returns false if there is no such executor */
export function forwardToExecutor(
  cx: StepContext,
  message: MessageOf<'FrameworkToExecutor'>,
): boolean {
  const { agentId, frameworkId, executorId } = message;
  if (!findExecutor(cx.state, agentId, frameworkId, executorId)) return false;
  send(cx, agentName(agentId), cx.state.agents.get(agentId)?.record.session, message);
  return true;
}

/** For people: why a container is still larger than what is in it, and that it is not any more. */
export function containerShrink(
  cx: StepContext,
  agent: Agent,
  message: MessageOf<'ContainerShrink'>,
): void {
  const { frameworkId, executorId, launchId, isDelayed, limitMib, neededMib } = message;
  const { agentId } = agent.record.info;
  const limit = formatMib(limitMib);
  appendEvent(cx, {
    type: isDelayed ? 'executor.shrink-delayed' : 'executor.shrunk',
    agentId,
    frameworkId,
    executorId,
    launchId,
    message: isDelayed
      ? `its memory limit stays at ${limit} instead of ${formatMib(neededMib)} while the memory is in use`
      : `its memory limit is ${limit}`,
  });
}
