/**
 * Ends of tasks of executors that the agent itself finds or makes: a task that waits is killed, cannot be prepared, or belongs
 * to a group that cannot start. The journal comes before the word. Pure.
 */
import { formatDuration } from '../../protocol/quantities.ts';
import { subtractResources } from '../../protocol/resources.ts';
import type { TaskReason } from '../../protocol/task-state.ts';
import { isTerminal } from '../../protocol/task-state.ts';
import type { TaskStatus } from '../../protocol/task.ts';
import { setNeeded } from './container.ts';
import type { Context } from './events.ts';
import type { AgentTaskEntry, ExecutorEntry } from './state.ts';
import { shutdownExecutor } from './unit-kill.ts';
import type { Outcome } from './updates.ts';
import { addUpdate } from './updates.ts';

/**
 * Tasks of a group come from the master together; one that has not come so long after the others was refused, or killed on
 * its way, and never will.
 */
const GROUP_WAIT_MS = 60_000;

/** Something has to be made for the task before it can be handed over. */
export function needsPreparation({ task, hosted }: AgentTaskEntry): boolean {
  const isAlone = hosted?.executor.info.isolation === 'task';
  return isAlone || task.command !== undefined || task.uris.length > 0;
}

/** Ends a task on the agent's word. */
export function endHosted(cx: Context, entry: AgentTaskEntry, outcome: Outcome): void {
  const executor = entry.hosted?.executor;
  if (!executor || isTerminal(entry.state)) return;
  const status = addUpdate(cx, entry, outcome);
  // In front of the message: it leaves the process after what is stored.
  cx.effects.splice(-1, 0, {
    type: 'journal.append',
    executor,
    line: { type: 'end', status },
  });
  leave(cx, executor, entry);
}

/** An end that is in the journal already. */
export function restoreEnd(cx: Context, entry: AgentTaskEntry, status: TaskStatus): void {
  const { message = '' } = status;
  addUpdate(cx, entry, { ...status, message } as Outcome);
  if (entry.hosted) leave(cx, entry.hosted.executor, entry);
}

/** Its executor has nothing to do with it any more; its end has to be acknowledged. */
export function leave(cx: Context, executor: ExecutorEntry, entry: AgentTaskEntry): void {
  executor.tasks.delete(entry.key);
  executor.waiting.delete(entry);
  executor.unacknowledged += 1;
  setNeeded(executor, subtractResources(executor.needed, entry.task.resources));
  if (executor.tasks.size === 0) executor.idleSinceMs = cx.nowMs;
  if (needsPreparation(entry)) cx.effects.push({ type: 'hosted.close', entry });
}

/** What its executor needs is not there: the task, and its group with it, ends. */
export function failHosted(
  cx: Context,
  entry: AgentTaskEntry,
  { reason, message }: { readonly reason: TaskReason; readonly message: string },
): void {
  const state = reason === 'REASON_TASK_INVALID' ? 'TASK_ERROR' : 'TASK_FAILED';
  endWaiting(cx, entry, { state, reason, message });
}

/** Ends a task that has not been handed over, and those of its group that wait with it. */
export function endWaiting(cx: Context, entry: AgentTaskEntry, outcome: Outcome): void {
  const executor = entry.hosted?.executor;
  if (!executor) return;
  const group = groupOf(executor, entry);
  endHosted(cx, entry, outcome);
  endGroup(cx, group, `ended because task ${entry.task.taskId} of its group was not started`);
  // Nobody has ever spoken to it, as far as is known, and nothing waits for it any more.
  const { isRegistered, hasJournal, tasks } = executor;
  if (!isRegistered && hasJournal && tasks.size === 0) shutdownExecutor(cx, executor, 'agent');
}

function groupOf({ waiting }: ExecutorEntry, { task }: AgentTaskEntry): AgentTaskEntry[] {
  const { groupId } = task;
  if (groupId === undefined) return [];
  return [...waiting].filter((other) => other.task.groupId === groupId);
}

function endGroup(cx: Context, group: readonly AgentTaskEntry[], message: string): void {
  for (const entry of group) {
    endHosted(cx, entry, { state: 'TASK_KILLED', reason: 'REASON_TASK_GROUP_FAILED', message });
  }
}

/** Ends what waits for tasks of its group that are not going to come. */
export function endIncompleteGroups(cx: Context, executor: ExecutorEntry): void {
  for (const group of waitingGroups(executor)) {
    const size = sizeOf(group);
    if (group.length >= size) continue;
    const newestMs = Math.max(...group.map(({ hosted }) => hosted?.arrivedAtMs ?? 0));
    if (cx.nowMs - newestMs < GROUP_WAIT_MS) continue;
    const came = `${String(group.length)} of ${String(size)} tasks of its group`;
    endGroup(cx, group, `not started: only ${came} came within ${formatDuration(GROUP_WAIT_MS)}`);
  }
}

/** The tasks that wait and belong to groups, by group. */
export function waitingGroups({ waiting }: ExecutorEntry): AgentTaskEntry[][] {
  const groups = new Map<string, AgentTaskEntry[]>();
  for (const entry of waiting) {
    const { groupId } = entry.task;
    if (groupId === undefined) continue;
    const group = groups.get(groupId);
    if (group) group.push(entry);
    else groups.set(groupId, [entry]);
  }
  return [...groups.values()];
}

/** How many tasks a group has, by those of it that are there. */
export function sizeOf(group: readonly AgentTaskEntry[]): number {
  return group[0]?.hosted?.groupSize ?? 1;
}
