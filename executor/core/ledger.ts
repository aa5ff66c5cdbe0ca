/**
 * What an executor has been given and what it owes: launches whose end the agent has not acknowledged, and updates that it
 * has not acknowledged. From it a launch that comes twice is known, and what a registration has to repeat. Pure.
 */
import type { ExecutorUpdate, LaunchedTask } from '../../protocol/executor-messages.ts';
import type { LaunchId, TaskId } from '../../protocol/ids.ts';
import type { TaskInfo } from '../../protocol/task.ts';
import type { Refusal, UpdateDescription } from './update.ts';
import { cutToSize, problemOfUpdate } from './update.ts';
import { isEnd } from './states.ts';

/** Launches whose end has been acknowledged that are still known, so that nothing is said of them or done with them again. */
const ENDED_KEEP_COUNT = 10_000;

/** Of updates in one line, characters; and of an update without its words. */
const MEMORY_MAX_CHARS = 1024 * 1024;
const UPDATE_CHARS = 300;

interface Launch {
  readonly launchId: LaunchId;
  readonly task: TaskInfo;
  hasEnded: boolean;
}

interface OwedUpdate {
  readonly update: ExecutorUpdate;
  /** The last connection on which it was said; connections are numbered from 1. */
  saidOn: number;
}

/** Changed in place by the functions of this file. */
export interface Ledger {
  readonly launches: Map<LaunchId, Launch>;
  /** The newest launch of each task that is in `launches`. */
  readonly newest: Map<TaskId, LaunchId>;
  /** Keyed by update id, oldest first. */
  readonly owed: Map<string, OwedUpdate>;
  /** Oldest first. */
  readonly ended: Map<LaunchId, TaskId>;
  updatesMade: number;
}

/** Nothing given, nothing owed. */
export function createLedger(): Ledger {
  return {
    launches: new Map(),
    newest: new Map(),
    owed: new Map(),
    ended: new Map(),
    updatesMade: 0,
  };
}

/** @returns false if this launch is known already, whatever became of it */
export function takeLaunch(ledger: Ledger, { launchId, task }: LaunchedTask): boolean {
  if (ledger.launches.has(launchId) || ledger.ended.has(launchId)) return false;
  ledger.launches.set(launchId, { launchId, task, hasEnded: false });
  ledger.newest.set(task.taskId, launchId);
  return true;
}

/** True if the launch has been given and nothing has been said of its end. */
export function isLive({ launches }: Ledger, launchId: LaunchId): boolean {
  return launches.get(launchId)?.hasEnded === false;
}

/** An update that is owed from now on; or nothing, because the task had ended; or why it cannot be one. */
export type TakenUpdate =
  { readonly ok: true; readonly update: ExecutorUpdate | undefined } | Refusal;

/** @param connection the one on which the update is going to be said now, 0 for none */
export function takeUpdate(
  ledger: Ledger,
  description: UpdateDescription,
  connection: number,
): TakenUpdate {
  const problem = problemOfUpdate(description);
  if (problem) return problem;
  const taskId = description.taskId as TaskId;
  const launchId = (description.launchId as LaunchId | undefined) ?? ledger.newest.get(taskId);
  const launch = launchId === undefined ? undefined : ledger.launches.get(launchId);
  if (launch?.task.taskId !== taskId) {
    return wasEnded(ledger, taskId, launchId)
      ? { ok: true, update: undefined }
      : { ok: false, code: 'unknown-task', message: `no task ${taskId} has been launched here` };
  }
  // A kill that crosses the end of its task makes every executor say two ends now and then.
  if (launch.hasEnded) return { ok: true, update: undefined };
  launch.hasEnded = isEnd(description.state);
  ledger.updatesMade += 1;
  const update: ExecutorUpdate = {
    ...description,
    ...(description.message !== undefined && { message: cutToSize(description.message) }),
    taskId,
    launchId: launch.launchId,
    updateId: `u${String(ledger.updatesMade)}`,
  };
  ledger.owed.set(update.updateId, { update, saidOn: connection });
  return { ok: true, update };
}

/** Rare: somebody says more of a task after its end. */
function wasEnded({ ended }: Ledger, taskId: TaskId, launchId: LaunchId | undefined): boolean {
  if (launchId !== undefined) return ended.get(launchId) === taskId;
  for (const endedTaskId of ended.values()) if (endedTaskId === taskId) return true;
  return false;
}

/** The agent has the update. Once it has the end of a launch, the launch need not be told of any more. */
export function acknowledge(ledger: Ledger, updateId: string): void {
  const owed = ledger.owed.get(updateId);
  if (!owed) return;
  ledger.owed.delete(updateId);
  const { state, launchId, taskId } = owed.update;
  if (!isEnd(state)) return;
  ledger.launches.delete(launchId);
  if (ledger.newest.get(taskId) === launchId) ledger.newest.delete(taskId);
  ledger.ended.set(launchId, taskId);
  if (ledger.ended.size <= ENDED_KEEP_COUNT) return;
  for (const oldest of ledger.ended.keys()) {
    ledger.ended.delete(oldest);
    return;
  }
}

/** What `ReregisterExecutor` has to say. */
export interface Memory {
  readonly tasks: { readonly launchId: LaunchId; readonly task: TaskInfo }[];
  readonly updates: ExecutorUpdate[];
}

/**
 * All that is given, and as much of what is owed as one line should hold; it is then said on that connection. The agent
 * refuses a line that is too long, and would do so each time.
 */
export function rememberOn(ledger: Ledger, connection: number): Memory {
  const tasks = [...ledger.launches.values()].map(({ launchId, task }) => ({
    launchId,
    task: withoutBulk(task),
  }));
  return { tasks, updates: unsaidOn(ledger, connection, MEMORY_MAX_CHARS) };
}

/** What the agent asks about a task: not what it was to do. */
function withoutBulk(task: TaskInfo): TaskInfo {
  const { data: _data, command, ...rest } = task;
  const short = command && { argv: command.argv.slice(0, 1), environment: {} };
  return { ...rest, ...(short && { command: short }), uris: [] };
}

/**
 * What is owed and has not been said on that connection; it counts as said from then on.
 *
 * @param maxChars about so many at most; what comes after that is left for the next time. Default: all
 */
export function unsaidOn(
  ledger: Ledger,
  connection: number,
  maxChars = Infinity,
): ExecutorUpdate[] {
  const updates: ExecutorUpdate[] = [];
  let chars = 0;
  for (const owed of ledger.owed.values()) {
    if (owed.saidOn === connection) continue;
    const { data = '', message = '' } = owed.update;
    chars += data.length + message.length + UPDATE_CHARS;
    if (chars > maxChars) break;
    owed.saidOn = connection;
    updates.push(owed.update);
  }
  return updates;
}
