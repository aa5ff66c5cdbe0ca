/** Status updates that an agent owes to a framework: kept until they are acknowledged. Pure. */
import type { LaunchId, UpdateId } from '../../protocol/ids.ts';
import { TEXT_MAX_CHARS } from '../../protocol/limits.ts';
import type { TaskState } from '../../protocol/task-state.ts';
import { isTerminal } from '../../protocol/task-state.ts';
import type { TaskStatus } from '../../protocol/task.ts';
import { ENDED_KEEP_MS, keepEnded } from './ended.ts';
import type { Context, LaunchRef } from './events.ts';
import type { AgentTaskEntry, ExecutorEntry } from './state.ts';
import type { Verdict } from './verdict.ts';

/**
 * Of the updates of one task that nobody has acknowledged so many are kept. All but the last are on their way; if there are so
 * many, the last waits, and each newer one takes its place, until one of the others is acknowledged. An end never waits.
 */
export const UPDATES_KEEP_COUNT = 100;

/** Each of them may be an open file. */
const DONE_JOURNALS_KEEP_COUNT = 200;

/** How a task ended, or what else has become of it. */
export type Outcome = Verdict & Partial<TaskStatus>;

/** The task of an event, unless it has ended or is another launch by now. */
export function liveEntry(
  { state }: Context,
  { key, launchId }: LaunchRef,
): AgentTaskEntry | undefined {
  const entry = state.tasks.get(key as AgentTaskEntry['key']);
  return entry?.launchId === launchId && !isTerminal(entry.state) ? entry : undefined;
}

/** Takes a new state, and owes the framework an update of it until that is acknowledged. */
export function addUpdate(
  cx: Context,
  entry: AgentTaskEntry,
  outcome: { readonly state: TaskState } & Partial<Outcome>,
): TaskStatus {
  entry.state = outcome.state;
  const { message } = outcome;
  const status: TaskStatus = {
    // Made of the launch and the state, so that an agent that has restarted names the same update alike.
    updateId: `${entry.launchId}.${outcome.state}` as UpdateId,
    source: 'SOURCE_AGENT',
    ...outcome,
    // A longer one (with the whole command in it, say) would make the master refuse the update, again and again.
    ...(message !== undefined && { message: message.slice(0, TEXT_MAX_CHARS) }),
    frameworkId: entry.framework.frameworkId,
    taskId: entry.task.taskId,
    agentId: cx.state.agentId,
    launchId: entry.launchId,
    ...(entry.hosted && { executorId: entry.hosted.executor.info.executorId }),
    unit: entry.unit,
    ...(entry.task.numbers && { numbers: entry.task.numbers }),
  };
  entry.last = status;
  // A framework that acknowledges more slowly than its executor speaks must fill neither this memory nor the master's.
  const isFull = entry.updates.length >= UPDATES_KEEP_COUNT - 1;
  entry.updates.splice(UPDATES_KEEP_COUNT - 1, 1, status);
  if (!isFull || isTerminal(outcome.state)) sendUpdate(cx, status);
  return status;
}

/** Tells the master, once more or for the first time. */
export function sendUpdate(cx: Context, status: TaskStatus): void {
  cx.effects.push({ type: 'message.send', message: { type: 'StatusUpdate', status } });
}

/** @returns false if nothing is known of such an end */
export function sendEndAgain(cx: Context, launchId: LaunchId): boolean {
  const ended = cx.state.ended.get(launchId);
  if (ended) sendUpdate(cx, ended.status);
  return ended !== undefined;
}

/** From here on it is only remembered as ended. */
export function retire(cx: Context, entry: AgentTaskEntry): void {
  const { launchId, last, hosted } = entry;
  cx.state.tasks.delete(entry.key);
  if (last) keepEnded(cx.state, launchId, { status: last, acknowledgedAtMs: cx.nowMs });
  if (!hosted) {
    cx.effects.push({ type: 'checkpoint.retire', entry });
    return;
  }
  const { executor } = hosted;
  executor.unacknowledged -= 1;
  cx.effects.push({
    type: 'journal.append',
    executor,
    line: { type: 'acknowledged', launchId },
  });
  noteJournalIfDone(cx, executor);
}

/**
 * The journal of an executor is needed as long as it runs, or anything of it is to be told; and then for as long as anybody
 * may want to hear an end again, also of an agent that has restarted meanwhile.
 */
export function noteJournalIfDone({ state, nowMs }: Context, executor: ExecutorEntry): void {
  if (executor.hasEnded && executor.unacknowledged === 0) state.doneJournals.set(executor, nowMs);
}

/** Removes the journals of which nobody can want to hear anything again. */
export function removeOldJournals({ state, nowMs, effects }: Context): void {
  for (const [executor, doneAtMs] of state.doneJournals) {
    const isOld = nowMs - doneAtMs > ENDED_KEEP_MS;
    if (!isOld && state.doneJournals.size <= DONE_JOURNALS_KEEP_COUNT) return;
    state.doneJournals.delete(executor);
    effects.push({ type: 'journal.remove', executor });
  }
}
