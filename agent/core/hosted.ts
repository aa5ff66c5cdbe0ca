/**
 * Tasks of executors: queued until their executor has registered and their container is large enough, handed over, updated
 * by their executor, killed through it. What has to outlive the agent goes into the executor's journal first. Pure.
 */
import type { ExecutorTaskState, ExecutorUpdate } from '../../protocol/executor-messages.ts';
import type { LaunchId, TaskKey, UpdateId } from '../../protocol/ids.ts';
import { taskKey } from '../../protocol/ids.ts';
import { addResources } from '../../protocol/resources.ts';
import { isTerminal, mayBecome } from '../../protocol/task-state.ts';
import type { TaskInfo } from '../../protocol/task.ts';
import { growIfNeeded, isCovered, setNeeded } from './container.ts';
import type { Context, ExecutorMemory, TakenUpdate } from './events.ts';
import {
  endHosted,
  endWaiting,
  leave,
  needsPreparation,
  sizeOf,
  waitingGroups,
} from './hosted-end.ts';
import type { AgentTaskEntry, ExecutorEntry, Hosted, Kill } from './state.ts';
import { noteKill } from './unit-kill.ts';
import { addUpdate } from './updates.ts';
import type { KilledBy } from './verdict.ts';
import { judgeForgotten, judgeHosted, judgeKilledDuringLaunch } from './verdict-hosted.ts';

/** Of one task, and of tasks that are not known, so many of its executor's updates are remembered. */
const UPDATE_IDS_KEEP_COUNT = 1000;

/** What is known of a task of an executor before anything has been done with it. */
export interface HostedLaunch {
  readonly key: TaskKey;
  readonly task: TaskInfo;
  readonly launchId: LaunchId;
  readonly groupSize?: number | undefined;
}

/** Adds a task to its executor's, and counts what it needs. It waits until it is handed over. */
export function addHosted(
  cx: Context,
  executor: ExecutorEntry,
  { key, task, launchId, groupSize }: HostedLaunch,
): AgentTaskEntry {
  const hosted: Hosted = {
    ...{ executor, groupSize, arrivedAtMs: cx.nowMs },
    preparation: 'none',
    taken: new Set(),
  };
  const { framework, detached, unit } = executor;
  const entry: AgentTaskEntry = {
    ...{ key, framework, detached, task, launchId, unit },
    state: 'TASK_STAGING',
    started: false,
    updates: [],
    hosted,
  };
  cx.state.tasks.set(key, entry);
  executor.tasks.set(key, entry);
  executor.waiting.add(entry);
  setNeeded(executor, addResources(executor.needed, task.resources));
  return entry;
}

/**
 * Gets the task ready; what needs nothing is ready at once. A cgroup needs the unit that it is in, and on cgroup v1 the kernel
 * gives it no more CPU than that has: it waits for a container that is large enough, also while that gets smaller.
 */
export function prepare(cx: Context, entry: AgentTaskEntry): void {
  const { hosted } = entry;
  if (hosted?.preparation !== 'none') return;
  const { info, isRegistered } = hosted.executor;
  if (!needsPreparation(entry)) hosted.preparation = 'done';
  else if (info.isolation === 'container' || (isRegistered && isCovered(hosted.executor))) {
    hosted.preparation = 'under-way';
    cx.effects.push({ type: 'hosted.prepare', entry });
  }
}

/** Hands over what can be handed over: to an executor that listens, in a container that is known to be large enough. */
export function handOver(cx: Context, executor: ExecutorEntry): void {
  const { waiting } = executor;
  if (waiting.size === 0 || !isListening(executor)) return;
  if (!isCovered(executor)) {
    growIfNeeded(cx, executor);
    return;
  }
  for (const entry of waiting) prepare(cx, entry);
  const isReady = ({ hosted }: AgentTaskEntry): boolean => hosted?.preparation === 'done';
  for (const entry of [...waiting]) {
    if (entry.task.groupId === undefined && isReady(entry)) give(cx, executor, [entry]);
  }
  for (const group of waitingGroups(executor)) {
    if (group.length >= sizeOf(group) && group.every(isReady)) give(cx, executor, group);
  }
}

function isListening({ isRegistered, isConnected, kill }: ExecutorEntry): boolean {
  return isRegistered && isConnected && !kill;
}

function give(cx: Context, executor: ExecutorEntry, entries: readonly AgentTaskEntry[]): void {
  for (const entry of entries) {
    executor.waiting.delete(entry);
    entry.started = true;
  }
  cx.effects.push({ type: 'hosted.give', executor, entries });
}

/**
 * What the executor does not know of was never given, or got lost on the way: it waits (again). What it has reported before
 * and does not know now it has lost.
 */
export function giveAgain(
  cx: Context,
  executor: ExecutorEntry,
  known: ReadonlySet<LaunchId>,
): void {
  const unknown = [...executor.tasks.values()].filter(({ launchId }) => !known.has(launchId));
  for (const entry of unknown) {
    if (entry.state !== 'TASK_STAGING') endHosted(cx, entry, judgeForgotten(entry));
    else {
      entry.started = false;
      executor.waiting.add(entry);
    }
  }
  // Only when all of a group wait again: one that was killed meanwhile ends the others.
  for (const entry of unknown) {
    if (isTerminal(entry.state)) continue;
    if (entry.kill) endWaiting(cx, entry, judgeKilledDuringLaunch(entry.kill.by));
    else prepare(cx, entry);
  }
}

/** Takes an update of an executor, and lets the executor forget it: from here on the agent owes it to the framework. */
export function takeUpdate(cx: Context, executor: ExecutorEntry, taken: TakenUpdate): void {
  const { update } = taken;
  const { taskId, launchId, updateId } = update;
  const entry = findHosted(executor, update);
  const isNews =
    entry?.hosted?.taken.has(updateId) === false && mayBecome(entry.state, update.state);
  if (isNews) {
    cx.effects.push({ type: 'journal.append', executor, line: { type: 'update', taken } });
    applyUpdate(cx, executor, entry, taken);
  } else if (!entry && isTerminal(update.state)) keepUnclaimed(executor, update);
  // Of an unknown task, of an older launch, repeated, or backwards: said once more it would be no better.
  cx.effects.push({
    type: 'executor.send',
    executor,
    message: { type: 'StatusUpdateAcknowledgement', taskId, launchId, updateId },
  });
}

function keepUnclaimed({ unclaimedEnds }: ExecutorEntry, update: ExecutorUpdate): void {
  const [oldest] = unclaimedEnds.keys();
  if (oldest !== undefined && unclaimedEnds.size >= UPDATE_IDS_KEEP_COUNT) {
    unclaimedEnds.delete(oldest);
  }
  unclaimedEnds.set(update.launchId, update);
}

/**
 * A launch that comes again because its agent has lost it before anybody had heard of it: its executor may be done with it,
 * and would never say so again.
 */
export function claimEnd(cx: Context, executor: ExecutorEntry, launchId: LaunchId): void {
  const update = executor.unclaimedEnds.get(launchId);
  executor.unclaimedEnds.delete(launchId);
  if (update) takeUpdate(cx, executor, { update });
}

function findHosted(
  { framework, tasks }: ExecutorEntry,
  { taskId, launchId }: Pick<TakenUpdate['update'], 'taskId' | 'launchId'>,
): AgentTaskEntry | undefined {
  const entry = tasks.get(taskKey(framework.frameworkId, taskId));
  return entry?.launchId === launchId ? entry : undefined;
}

/** As `takeUpdate`, of what is in the journal already. */
export function applyUpdate(
  cx: Context,
  executor: ExecutorEntry,
  entry: AgentTaskEntry,
  { update, certificate }: TakenUpdate,
): void {
  const { updateId, state, data, healthy } = update;
  remember(entry.hosted?.taken, updateId);
  // It has it, whatever the agent remembers.
  entry.started = true;
  executor.waiting.delete(entry);
  addUpdate(cx, entry, {
    ...judgeHosted(update, entry, certificate),
    updateId: `${entry.launchId}.${updateId}` as UpdateId,
    source: 'SOURCE_EXECUTOR',
    ...(data !== undefined && { data }),
    ...(healthy !== undefined && { healthy }),
    ...(certificate && { certificate }),
  });
  if (isTerminal(state satisfies ExecutorTaskState)) leave(cx, executor, entry);
}

/** Only what has not been acknowledged is ever repeated, and that is never much. */
function remember(taken: Set<string> | undefined, updateId: string): void {
  const [oldest] = taken ?? [];
  if (oldest !== undefined && taken && taken.size >= UPDATE_IDS_KEEP_COUNT) taken.delete(oldest);
  taken?.add(updateId);
}

/** A task that waits ends at once; of another its executor is asked, as soon as it can be asked. */
export function killHosted(
  cx: Context,
  entry: AgentTaskEntry,
  by: KilledBy,
  gracePeriodMs?: number,
): void {
  const executor = entry.hosted?.executor;
  if (!executor || isTerminal(entry.state)) return;
  if (!entry.started) {
    endWaiting(cx, entry, judgeKilledDuringLaunch(by));
    return;
  }
  if (noteKill(cx, entry, by, gracePeriodMs) === 'ignored' || !entry.kill) return;
  const line = {
    ...{ type: 'kill' as const, launchId: entry.launchId, by: entry.kill.by },
    gracePeriodMs: graceLeft(cx, entry.kill),
  };
  cx.effects.push({ type: 'journal.append', executor, line });
  askToKill(cx, executor, entry);
}

function graceLeft({ nowMs }: Context, { deadlineMs }: Kill): number {
  return Math.max(0, Math.round(deadlineMs - nowMs));
}

/** Says so to an executor that listens; one that comes back is told then. */
export function askToKill(cx: Context, executor: ExecutorEntry, entry: AgentTaskEntry): void {
  const { kill, task, launchId } = entry;
  if (!kill || !executor.isConnected) return;
  const { taskId } = task;
  const gracePeriodMs = graceLeft(cx, kill);
  cx.effects.push({
    type: 'executor.send',
    executor,
    message: { type: 'KillTask', taskId, launchId, gracePeriodMs },
  });
}

/** What its agent does not know, or has given up, must not go on for nobody. */
export function endUnknown(
  cx: Context,
  executor: ExecutorEntry,
  { tasks, updates }: ExecutorMemory,
): void {
  const over = new Set(
    updates.filter(({ update }) => isTerminal(update.state)).map(({ update }) => update.launchId),
  );
  for (const { task, launchId } of tasks) {
    const { taskId, killGracePeriodMs: gracePeriodMs } = task;
    if (over.has(launchId) || findHosted(executor, { taskId, launchId })) continue;
    cx.effects.push({
      type: 'executor.send',
      executor,
      message: { type: 'KillTask', taskId, launchId, gracePeriodMs },
    });
  }
}
