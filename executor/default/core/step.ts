/**
 * The default executor's core: one event in, effects out. When a task is started, signalled, checked and given up, and what is
 * reported of it; tasks of a group stand and fall together. The shell has the processes. Pure.
 */
import type { LaunchedTask } from '../../../protocol/executor-messages.ts';
import type { LaunchId, TaskId } from '../../../protocol/ids.ts';
import type { UpdateDescription } from '../../core/update.ts';
import { createHealth, noteCheck } from './health.ts';
import type { TaskEntry, TasksState } from './state.ts';
import type { EndCause, Exit, StartFailure, Verdict } from './verdict.ts';
import { judge, judgeStart } from './verdict.ts';

const SIGKILL = 9;
const SIGTERM = 15;

/** A task that is still there so long after SIGKILL gets it once more: a process that was just being made has missed it. */
const KILL_REPEAT_MS = 1000;

/**
 * Of the time to shut down, the part after which tasks get SIGKILL. At the end of it the agent ends the executor, and then
 * nobody would tell how its tasks have ended.
 */
const SHUTDOWN_KILL_PART = 0.8;

/** Which launch of which task. */
export interface LaunchRef {
  readonly taskId: TaskId;
  readonly launchId: LaunchId;
}

/** What happens. A launch that is not known (any more) makes an event do nothing. */
export type TaskEvent =
  | { readonly type: 'launch'; readonly tasks: readonly LaunchedTask[]; readonly isGroup: boolean }
  /** There is a process. */
  | ({ readonly type: 'spawned'; readonly wallMs: number } & LaunchRef)
  | ({ readonly type: 'not-spawned'; readonly failure: StartFailure } & LaunchRef)
  /** The main process has ended. `failure`: its command had never been executed. */
  | ({
      readonly type: 'exited';
      readonly exit: Exit;
      readonly wallMs: number;
      readonly failure?: StartFailure | undefined;
    } & LaunchRef)
  | { readonly type: 'kill'; readonly taskId: TaskId; readonly gracePeriodMs: number }
  /** A health check is over; `problem` if it has failed. */
  | ({ readonly type: 'checked'; readonly problem: string | undefined } & LaunchRef)
  /** The time of an `alarm` has come. */
  | ({ readonly type: 'alarm' } & LaunchRef)
  | { readonly type: 'shutdown'; readonly gracePeriodMs: number };

/** What the shell has to do, in this order. */
export type TaskEffect =
  | { readonly type: 'spawn'; readonly launched: LaunchedTask }
  /** To all processes of the task's process group. */
  | ({ readonly type: 'signal'; readonly signal: number } & LaunchRef)
  | ({ readonly type: 'check' } & LaunchRef)
  /** Replaces the alarm that the launch had; undefined: it needs none. */
  | ({ readonly type: 'alarm'; readonly atMs: number | undefined } & LaunchRef)
  | { readonly type: 'update'; readonly update: UpdateDescription }
  /** Nothing more happens to it: alarms and checks of it are dropped. */
  | ({ readonly type: 'forget' } & LaunchRef);

interface Context {
  readonly state: TasksState;
  readonly nowMs: number;
  readonly effects: TaskEffect[];
}

/**
 * @param state changed in place
 * @param nowMs monotonic milliseconds
 */
export function step(state: TasksState, event: TaskEvent, nowMs: number): TaskEffect[] {
  const cx: Context = { state, nowMs, effects: [] };
  switch (event.type) {
    case 'launch':
      launch(cx, event.tasks, event.isGroup);
      break;
    case 'kill':
      kill(cx, event.taskId, event.gracePeriodMs);
      break;
    case 'shutdown':
      shutdown(cx, event.gracePeriodMs);
      break;
    default: {
      const entry = state.tasks.get(event.taskId);
      if (entry?.launched.launchId === event.launchId) happen(cx, entry, event);
    }
  }
  return cx.effects;
}

function happen(cx: Context, entry: TaskEntry, event: Extract<TaskEvent, LaunchRef>): void {
  switch (event.type) {
    case 'spawned':
      spawned(cx, entry, event.wallMs);
      return;
    case 'not-spawned':
      endTask(cx, entry, judgeStart(cx.state.hostname, event.failure));
      return;
    case 'exited':
      exited(cx, entry, event);
      return;
    case 'checked':
      checked(cx, entry, event.problem);
      return;
    case 'alarm':
      entry.alarmAtMs = undefined;
      alarm(cx, entry);
      setAlarm(cx, entry);
      return;
    default:
      event satisfies never;
  }
}

function launch(cx: Context, tasks: readonly LaunchedTask[], isGroup: boolean): void {
  const group = isGroup ? new Set<TaskEntry>() : undefined;
  const entries = tasks.map((launched): TaskEntry => ({ launched, group, phase: 'waiting' }));
  for (const entry of entries) group?.add(entry);
  for (const entry of entries) {
    // It may have ended already, with a task of its group that was refused.
    if (entry.phase !== 'waiting') continue;
    const refusal = refusalOf(cx.state, entry.launched);
    if (refusal) endTask(cx, entry, refusal);
    else cx.state.tasks.set(entry.launched.task.taskId, entry);
  }
  for (const entry of entries) {
    if (entry.phase !== 'waiting') continue;
    entry.phase = 'spawning';
    cx.effects.push({ type: 'spawn', launched: entry.launched });
  }
}

function refusalOf(state: TasksState, { task, sandbox }: LaunchedTask): Verdict | undefined {
  if (state.isShuttingDown) {
    return {
      state: 'TASK_KILLED',
      reason: 'REASON_EXECUTOR_TERMINATED',
      message: 'not started: its executor is being shut down',
    };
  }
  if (!task.command || !sandbox) {
    const message = `not started: it has no ${task.command ? 'sandbox' : 'command'}`;
    return { state: 'TASK_ERROR', reason: 'REASON_TASK_INVALID', message };
  }
  const running = state.tasks.get(task.taskId);
  if (!running) return undefined;
  const message = `launch ${running.launched.launchId} of this task is still running on ${state.hostname}`;
  return { state: 'TASK_ERROR', reason: 'REASON_TASK_DUPLICATE', message };
}

function spawned(cx: Context, entry: TaskEntry, wallMs: number): void {
  if (entry.phase !== 'spawning') return;
  const { maxCompletionTimeMs, healthCheck } = entry.launched.task;
  entry.phase = 'running';
  entry.startedWallMs = wallMs;
  if (maxCompletionTimeMs !== undefined) entry.limitAtMs = cx.nowMs + maxCompletionTimeMs;
  if (healthCheck) entry.health = createHealth(healthCheck, cx.nowMs);
  report(cx, entry, { state: 'TASK_RUNNING', startedAtMs: wallMs });
  if (entry.cause) beginKill(cx, entry);
  setAlarm(cx, entry);
}

function exited(
  cx: Context,
  entry: TaskEntry,
  { exit, wallMs, failure }: Extract<TaskEvent, { type: 'exited' }>,
): void {
  const { launched, cause } = entry;
  const verdict =
    failure && !cause ? judgeStart(cx.state.hostname, failure) : judge(launched.task, exit, cause);
  endTask(cx, entry, verdict, { ...exit, endedAtMs: wallMs });
}

function kill(cx: Context, taskId: TaskId, gracePeriodMs: number): void {
  const entry = cx.state.tasks.get(taskId);
  if (!entry) return;
  const others = [...(entry.group ?? [])].filter((other) => other !== entry);
  requestEnd(cx, entry, { type: 'kill' }, gracePeriodMs);
  for (const other of others) requestEnd(cx, other, { type: 'group-kill', taskId }, gracePeriodMs);
}

function shutdown(cx: Context, gracePeriodMs: number): void {
  cx.state.isShuttingDown = true;
  for (const entry of [...cx.state.tasks.values()]) {
    requestEnd(cx, entry, { type: 'shutdown' }, gracePeriodMs * SHUTDOWN_KILL_PART);
  }
}

function checked(cx: Context, entry: TaskEntry, problem: string | undefined): void {
  const { health } = entry;
  if (!health || entry.cause) return;
  const outcome = noteCheck(health, problem === undefined, cx.nowMs);
  if (outcome === 'changed') {
    const healthy = problem === undefined;
    const message = healthy
      ? 'its health check has passed'
      : `its health check has failed: ${problem}`;
    report(cx, entry, { state: 'TASK_RUNNING', healthy, message });
  }
  if (outcome === 'failed') {
    giveUp(cx, entry, {
      type: 'health',
      failures: health.failures,
      problem: problem ?? '',
    });
  }
  setAlarm(cx, entry);
}

function alarm(cx: Context, entry: TaskEntry): void {
  const { nowMs } = cx;
  const { health, limitAtMs } = entry;
  if (entry.cause) {
    killIfLate(cx, entry);
  } else if (limitAtMs !== undefined && limitAtMs <= nowMs) {
    giveUp(cx, entry, { type: 'time-limit' });
  } else if (health?.nextCheckMs !== undefined && health.nextCheckMs <= nowMs) {
    health.nextCheckMs = undefined;
    cx.effects.push({ type: 'check', ...refOf(entry) });
  }
}

/** The task has failed, though it is not over yet. */
function giveUp(cx: Context, entry: TaskEntry, cause: EndCause): void {
  const { task } = entry.launched;
  requestEnd(cx, entry, cause, task.killGracePeriodMs);
  failGroup(cx, entry, judge(task, {}, cause).message);
}

function failGroup(cx: Context, culprit: TaskEntry, message: string): void {
  const { taskId } = culprit.launched.task;
  for (const other of [...(culprit.group ?? [])]) {
    if (other === culprit) continue;
    const cause: EndCause = { type: 'group-failure', taskId, message };
    requestEnd(cx, other, cause, other.launched.task.killGracePeriodMs);
  }
}

/** A second request can only shorten the grace period. */
function requestEnd(cx: Context, entry: TaskEntry, cause: EndCause, gracePeriodMs: number): void {
  const killAtMs = cx.nowMs + gracePeriodMs;
  const isFirst = !entry.cause;
  entry.cause ??= cause;
  entry.killAtMs = Math.min(entry.killAtMs ?? killAtMs, killAtMs);
  if (entry.phase === 'waiting') {
    endTask(cx, entry, judge(entry.launched.task, undefined, cause));
    return;
  }
  if (isFirst && entry.phase === 'running') beginKill(cx, entry);
  killIfLate(cx, entry);
  setAlarm(cx, entry);
}

function beginKill(cx: Context, entry: TaskEntry): void {
  report(cx, entry, { state: 'TASK_KILLING' });
  cx.effects.push({ type: 'signal', signal: SIGTERM, ...refOf(entry) });
}

function killIfLate(cx: Context, entry: TaskEntry): void {
  const { killAtMs, phase } = entry;
  if (phase !== 'running' || killAtMs === undefined || killAtMs > cx.nowMs) return;
  entry.killAtMs = cx.nowMs + KILL_REPEAT_MS;
  cx.effects.push({ type: 'signal', signal: SIGKILL, ...refOf(entry) });
}

/** The only end of a task. What has failed by itself takes its group with it. */
function endTask(
  cx: Context,
  entry: TaskEntry,
  verdict: Verdict,
  exit: Exit & { readonly endedAtMs?: number } = {},
): void {
  const { launched, startedWallMs, cause } = entry;
  const { taskId } = launched.task;
  entry.phase = 'ended';
  if (cx.state.tasks.get(taskId) === entry) cx.state.tasks.delete(taskId);
  entry.group?.delete(entry);
  report(cx, entry, {
    ...verdict,
    ...exit,
    ...(startedWallMs !== undefined && { startedAtMs: startedWallMs }),
    ...(cause?.type === 'health' && { healthy: false }),
  });
  cx.effects.push({ type: 'forget', ...refOf(entry) });
  if (verdict.state !== 'TASK_FINISHED' && !cause) failGroup(cx, entry, verdict.message);
}

function setAlarm(cx: Context, entry: TaskEntry): void {
  if (entry.phase === 'ended') return;
  const { cause, killAtMs, limitAtMs, health } = entry;
  const atMs = cause ? killAtMs : earlier(limitAtMs, health?.nextCheckMs);
  if (atMs === entry.alarmAtMs) return;
  entry.alarmAtMs = atMs;
  cx.effects.push({ type: 'alarm', atMs, ...refOf(entry) });
}

function earlier(a: number | undefined, b: number | undefined): number | undefined {
  return a === undefined || b === undefined ? (a ?? b) : Math.min(a, b);
}

function report(
  cx: Context,
  entry: TaskEntry,
  said: Omit<UpdateDescription, 'taskId' | 'launchId'>,
): void {
  cx.effects.push({ type: 'update', update: { ...said, ...refOf(entry) } });
}

function refOf({ launched }: TaskEntry): LaunchRef {
  return { taskId: launched.task.taskId, launchId: launched.launchId };
}
