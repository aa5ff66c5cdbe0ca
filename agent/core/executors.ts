/**
 * The life of an executor on its node: launched for its first task (steps E1 to E7), registered, disconnected and back,
 * shut down, ended. Its tasks are in `hosted.ts`, its limits in `container.ts`. Pure.
 */
import type { ExecutorInfo } from '../../protocol/executor.ts';
import type { ExecutorId, ExecutorKey, FrameworkId, LaunchId, TaskId } from '../../protocol/ids.ts';
import { executorKey, taskKey } from '../../protocol/ids.ts';
import { TEXT_MAX_CHARS } from '../../protocol/limits.ts';
import { formatDuration } from '../../protocol/quantities.ts';
import { NO_RESOURCES } from '../../protocol/resources.ts';
import type { Resources } from '../../protocol/resources.ts';
import type { FrameworkInfo, TaskInfo } from '../../protocol/task.ts';
import { growIfNeeded, shrinkIfDue } from './container.ts';
import { ENDED_KEEP_COUNT, ENDED_KEEP_MS } from './ended.ts';
import type { AgentEvent, Context } from './events.ts';
import { addHosted, askToKill, endUnknown, giveAgain, handOver, takeUpdate } from './hosted.ts';
import { endHosted, endIncompleteGroups } from './hosted-end.ts';
import type { AgentState, ExecutorEntry, Kill } from './state.ts';
import { taskUnit } from './unit-names.ts';
import { askToShutDown, KILL_REPEAT_MS, killUnitIfLate, shutdownExecutor } from './unit-kill.ts';
import { noteJournalIfDone, removeOldJournals } from './updates.ts';
import type { ExecutorEnd } from './verdict-hosted.ts';

/** A default executor without tasks is kept for the next ones so long, unless its description says otherwise. */
const IDLE_TIMEOUT_DEFAULT_MS = 60_000;

/** What an executor is made of, for the first time or again. */
export interface ExecutorLaunch {
  readonly framework: FrameworkInfo;
  readonly detached: boolean;
  readonly info: ExecutorInfo;
  readonly launchId: LaunchId;
  readonly unit?: string;
  readonly kill?: Kill;
  /** Reservations whose directories its container has. */
  readonly directories?: TaskInfo['directories'];
}

/** Adds an executor that has not been started. */
export function addExecutor(
  state: AgentState,
  { framework, detached, info, launchId, unit, kill, directories }: ExecutorLaunch,
  nowMs: number,
): ExecutorEntry {
  const task = { ...executorTask(info), ...(directories && { directories }) };
  const entry: ExecutorEntry = {
    ...{ framework, detached, info, task, launchId },
    key: executorKey(framework.frameworkId, info.executorId),
    unit: unit ?? taskUnit(state.agentTag, info.executorId, launchId),
    started: false,
    ...(kill && { kill }),
    hasEnded: false,
    hasJournal: false,
    isRegistered: false,
    isConnected: false,
    tasks: new Map(),
    waiting: new Set(),
    unacknowledged: 0,
    unclaimedEnds: new Map(),
    needed: info.resources,
    peak: info.resources,
    granted: NO_RESOURCES,
    pendingResizes: [],
    ...{ shrinkAtMs: 0, growAtMs: 0, shrinkDelayMs: 0 },
    idleSinceMs: nowMs,
  };
  state.executors.set(entry.key, entry);
  return entry;
}

/** An executor as the task that its unit is: for checkpoints, sandboxes and units there is no difference. */
export function executorTask(info: ExecutorInfo): TaskInfo {
  const { executorId, name, resources, command, uris, shutdownGracePeriodMs } = info;
  return {
    taskId: executorId as string as TaskId,
    ...{ name, resources, command, uris },
    executor: info,
    killGracePeriodMs: shutdownGracePeriodMs,
    whenUnreachable: info.whenUnreachable,
    exclusive: false,
    labels: info.labels,
  };
}

/** Its command has been executed; from now on it is waited for. A quick one has registered before that is known here. */
export function executorStarted(
  cx: Context,
  executor: ExecutorEntry,
  limits: Resources | undefined,
): void {
  if (executor.started) return;
  executor.started = true;
  executor.granted = limits ?? NO_RESOURCES;
  if (!executor.isRegistered) {
    executor.registerByMs = cx.nowMs + executor.info.registrationTimeoutMs;
  }
  executor.idleSinceMs = cx.nowMs;
  askToShutDown(cx, executor);
  handOver(cx, executor);
}

type Registered = Extract<AgentEvent, { type: 'executor.registered' }>;

/** Steps E5 and E6: the answer first, then the container, then what waits. Also of one that has come back. */
export function executorRegistered(
  cx: Context,
  executor: ExecutorEntry,
  memory: Registered['memory'],
): void {
  if (!executor.isRegistered) {
    cx.effects.push({ type: 'journal.append', executor, line: { type: 'registered' } });
  }
  executor.isRegistered = true;
  executor.isConnected = true;
  delete executor.registerByMs;
  const { agentId, hostname } = cx.state;
  const agentInfo = { agentId, hostname };
  const { info: executorInfo, framework: frameworkInfo } = executor;
  cx.effects.push({
    type: 'executor.send',
    executor,
    message: memory
      ? { type: 'ExecutorReregistered', agentInfo }
      : { type: 'ExecutorRegistered', executorInfo, frameworkInfo, agentInfo },
  });
  for (const taken of memory?.updates ?? []) takeUpdate(cx, executor, taken);
  giveAgain(cx, executor, new Set(memory?.tasks.map(({ launchId }) => launchId)));
  for (const entry of executor.tasks.values()) askToKill(cx, executor, entry);
  if (memory) endUnknown(cx, executor, memory);
  if (executor.kill) askToShutDown(cx, executor);
  else handOver(cx, executor);
}

/** Takes from an executor what its agent has lost: nothing else can make a task out of an executor's word. */
export function adoptHosted(
  cx: Context,
  executor: ExecutorEntry,
  { task, launchId }: { readonly task: TaskInfo; readonly launchId: LaunchId },
): void {
  const key = taskKey(executor.framework.frameworkId, task.taskId);
  if (cx.state.tasks.has(key) || cx.state.ended.has(launchId)) return;
  const entry = addHosted(cx, executor, { key, task, launchId });
  entry.started = true;
  executor.waiting.delete(entry);
  if (entry.hosted) entry.hosted.preparation = 'done';
  cx.effects.push({ type: 'journal.append', executor, line: { type: 'launch', launchId, task } });
}

/** It runs on, and comes back when it can. */
export function executorDisconnected(executor: ExecutorEntry): void {
  executor.isConnected = false;
}

/** It is over: its tasks end with it, and then the master is told. */
export function executorEnded(cx: Context, executor: ExecutorEntry, end: ExecutorEnd): void {
  executor.isConnected = false;
  for (const entry of [...executor.tasks.values()]) endHosted(cx, entry, end.tasks(entry));
  const { framework, info, launchId } = executor;
  cx.effects.push({
    type: 'message.send',
    message: {
      type: 'ExitedExecutor',
      frameworkId: framework.frameworkId,
      executorId: info.executorId,
      launchId,
      message: end.message.slice(0, TEXT_MAX_CHARS),
    },
  });
  // Its journal comes first: without an executor a journal is still read, and without a journal its tasks are unknown.
  forgetExecutor(cx, executor);
  cx.effects.push({ type: 'checkpoint.retire', entry: executor });
}

/** Of one that had ended before: what is left of it is in its tasks that nobody has acknowledged. */
export function forgetExecutor(cx: Context, executor: ExecutorEntry): void {
  executor.hasEnded = true;
  cx.state.executors.delete(executor.key);
  cx.state.endedExecutors.set(executor.launchId, cx.nowMs);
  noteJournalIfDone(cx, executor);
}

/** The framework or the master wants it to end. */
export function shutdownByName(
  cx: Context,
  name: {
    readonly frameworkId: FrameworkId;
    readonly executorId: ExecutorId;
    readonly launchId?: LaunchId | undefined;
  },
): void {
  const key: ExecutorKey = executorKey(name.frameworkId, name.executorId);
  const executor = cx.state.executors.get(key);
  if (!executor || (name.launchId ?? executor.launchId) !== executor.launchId) return;
  shutdownExecutor(cx, executor, 'framework');
}

/** What is due by now: registrations, ends of grace periods, idle executors, limits. */
export function tickExecutors(cx: Context): void {
  for (const executor of cx.state.executors.values()) {
    failUnregistered(cx, executor);
    killUnitIfLate(cx, executor);
    endIfIdle(cx, executor);
    killLateTasks(cx, executor);
    endIncompleteGroups(cx, executor);
    growIfNeeded(cx, executor);
    shrinkIfDue(cx, executor);
    handOver(cx, executor);
  }
  for (const [launchId, endedAtMs] of cx.state.endedExecutors) {
    const isOld = cx.nowMs - endedAtMs > ENDED_KEEP_MS;
    if (!isOld && cx.state.endedExecutors.size <= ENDED_KEEP_COUNT) break;
    cx.state.endedExecutors.delete(launchId);
    cx.effects.push({ type: 'ended.forget', launchId });
  }
  removeOldJournals(cx);
}

function failUnregistered(cx: Context, executor: ExecutorEntry): void {
  const { registerByMs, info, kill } = executor;
  if (registerByMs === undefined || registerByMs > cx.nowMs) return;
  delete executor.registerByMs;
  if (kill) return;
  executor.failure = registrationFailure(info);
  shutdownExecutor(cx, executor, 'agent');
}

/** Why the tasks of an executor have failed that an agent ends although it has tasks: there is no other reason for that. */
export function registrationFailure({
  executorId,
  registrationTimeoutMs,
}: ExecutorInfo): NonNullable<ExecutorEntry['failure']> {
  return {
    reason: 'REASON_EXECUTOR_REGISTRATION_TIMEOUT',
    message: `executor ${executorId} did not register within ${formatDuration(registrationTimeoutMs)}`,
  };
}

/** Without tasks it goes when its time is over, or when its framework has left for good. */
function endIfIdle(cx: Context, executor: ExecutorEntry): void {
  const { tasks, kill, info, detached, idleSinceMs, started, hasJournal } = executor;
  // Of one without a journal nobody knows yet whether it has tasks.
  if (tasks.size > 0 || kill || !started || !hasJournal) return;
  const timeoutMs =
    info.idleTimeoutMs ?? (info.command === undefined ? IDLE_TIMEOUT_DEFAULT_MS : Infinity);
  if (detached || cx.nowMs - idleSinceMs >= timeoutMs) shutdownExecutor(cx, executor, 'agent');
}

/** Only a task with a cgroup of its own can be ended without its executor. */
function killLateTasks(cx: Context, executor: ExecutorEntry): void {
  if (executor.info.isolation !== 'task') return;
  for (const entry of executor.tasks.values()) {
    const { kill } = entry;
    if (!kill || kill.deadlineMs > cx.nowMs) continue;
    kill.deadlineMs = cx.nowMs + KILL_REPEAT_MS;
    cx.effects.push({ type: 'hosted.kill', entry });
  }
}
