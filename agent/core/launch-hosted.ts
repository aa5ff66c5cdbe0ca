/** `RunTask` for a task of an executor: queued, and its executor launched if it is not there (steps E1 to E3). Pure. */
import type { ExecutorInfo } from '../../protocol/executor.ts';
import { executorKey, taskKey } from '../../protocol/ids.ts';
import type { MessageOf } from '../../protocol/messages.ts';
import type { TaskStatus } from '../../protocol/task.ts';
import { isTerminal } from '../../protocol/task-state.ts';
import type { Context } from './events.ts';
import { keepEnded } from './ended.ts';
import { addExecutor } from './executors.ts';
import { addHosted, claimEnd, handOver, prepare } from './hosted.ts';
import type { ExecutorEntry } from './state.ts';
import { sendUpdate } from './updates.ts';

/** Takes a launch that is not known. Only the launch of the executor that the master speaks of will do. */
export function runHosted(cx: Context, message: MessageOf<'RunTask'>, info: ExecutorInfo): void {
  const { framework, launchId, task, groupSize, executorLaunchId = launchId } = message;
  const key = executorKey(framework.frameworkId, info.executorId);
  const known = cx.state.executors.get(key);
  const problem = problemWith(cx, known, { info, launchId: executorLaunchId });
  if (problem !== undefined) {
    drop(cx, message, info, problem);
    if (known?.launchId !== executorLaunchId) tellOver(cx, message, info, problem);
    return;
  }
  const executor =
    known ??
    addExecutor(
      cx.state,
      {
        ...{ framework, detached: false, info, launchId: executorLaunchId },
        directories: task.directories,
      },
      cx.nowMs,
    );
  if (!known) executor.hasJournal = true;
  const taskKeyOfIt = taskKey(framework.frameworkId, task.taskId);
  // What every task of the executor has need not be in memory and in the journal once for each.
  const { executor: _info, ...own } = task;
  const entry = addHosted(cx, executor, { key: taskKeyOfIt, task: own, launchId, groupSize });
  cx.effects.push({
    type: 'journal.append',
    executor,
    line: { type: 'launch', launchId, task: own, groupSize },
  });
  if (!known) cx.effects.push({ type: 'task.start', entry: executor });
  claimEnd(cx, executor, launchId);
  if (!isTerminal(entry.state)) prepare(cx, entry);
  handOver(cx, executor);
}

function problemWith(
  cx: Context,
  known: ExecutorEntry | undefined,
  wanted: { readonly info: ExecutorInfo; readonly launchId: ExecutorEntry['launchId'] },
): string | undefined {
  const { executorId } = wanted.info;
  if (cx.state.endedExecutors.has(wanted.launchId)) {
    return `executor ${executorId} had ended before the task arrived`;
  }
  if (!known) return undefined;
  if (known.launchId !== wanted.launchId) {
    return `another launch of executor ${executorId} (${known.launchId}) is still there`;
  }
  return known.kill ? `executor ${executorId} is shutting down` : undefined;
}

/**
 * The master counts an executor that is over, because it has not heard so, or that will never be: it is over for all tasks
 * that are on their way, too.
 */
function tellOver(
  cx: Context,
  { framework, executorLaunchId: launchId }: MessageOf<'RunTask'>,
  { executorId }: ExecutorInfo,
  message: string,
): void {
  if (launchId === undefined) return;
  const { endedExecutors } = cx.state;
  endedExecutors.set(launchId, endedExecutors.get(launchId) ?? cx.nowMs);
  const { frameworkId } = framework;
  const exited = { type: 'ExitedExecutor' as const, frameworkId, executorId, launchId, message };
  cx.effects.push({ type: 'message.send', message: exited });
}

/** Its framework need not acknowledge it. */
function drop(
  cx: Context,
  { framework, launchId, task }: MessageOf<'RunTask'>,
  { executorId }: ExecutorInfo,
  why: string,
): void {
  const status: TaskStatus = {
    frameworkId: framework.frameworkId,
    taskId: task.taskId,
    agentId: cx.state.agentId,
    launchId,
    executorId,
    state: 'TASK_DROPPED',
    source: 'SOURCE_AGENT',
    reason: 'REASON_EXECUTOR_TERMINATED',
    message: `not started: ${why}; launch it again`,
  };
  sendUpdate(cx, status);
  // Redis may lose it: then the master has to hear the same once more.
  keepEnded(cx.state, launchId, { status, acknowledgedAtMs: cx.nowMs });
}
