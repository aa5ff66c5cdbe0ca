/**
 * The agent's core: one event in, effects out. Pure: what a task's next state is, which updates are owed, when a
 * kill becomes SIGKILL. The shell starts units, reads them when they end, and keeps checkpoints.
 */
import type { FrameworkId } from '../../protocol/ids.ts';
import { executorKey, taskKey } from '../../protocol/ids.ts';
import type { Message, MessageOf } from '../../protocol/messages.ts';
import type { TaskInfo, TaskStatus } from '../../protocol/task.ts';
import { isTerminal } from '../../protocol/task-state.ts';
import { containerResized, containerResizeFailed, liveExecutor } from './container.ts';
import { pruneEnded } from './ended.ts';
import type { AgentEffect, AgentEvent, Context } from './events.ts';
import {
  adoptHosted,
  executorDisconnected,
  executorRegistered,
  shutdownByName,
  tickExecutors,
} from './executors.ts';
import { handOver, killHosted, takeUpdate } from './hosted.ts';
import { failHosted } from './hosted-end.ts';
import { runHosted } from './launch-hosted.ts';
import { assignDirectories, removalEnded, removeDirectory, settleRemovals } from './directories.ts';
import { assignNumbers } from './numbers.ts';
import { resizeTask, settleResizes, unitResized } from './resize.ts';
import type { AgentState, AgentTaskEntry } from './state.ts';
import { isExecutor } from './state.ts';
import { beginKill, killUnitIfLate, noteKill, shutdownExecutor } from './unit-kill.ts';
import { taskUnit } from './unit-names.ts';
import { handleUnit } from './units.ts';
import { liveEntry, retire, sendEndAgain, sendUpdate, UPDATES_KEEP_COUNT } from './updates.ts';
import type { KilledBy } from './verdict.ts';

/**
 * @param state changed in place
 * @param nowMs monotonic milliseconds of this process
 */
export function step(state: AgentState, event: AgentEvent, nowMs: number): AgentEffect[] {
  const effects: AgentEffect[] = [];
  const cx: Context = { state, nowMs, effects };
  switch (event.type) {
    case 'message':
      handleMessage(cx, event.message);
      break;
    case 'unit.started':
    case 'unit.failed':
    case 'unit.ended':
    case 'unit.out-of-memory':
    case 'unit.lost':
      handleUnit(cx, event);
      break;
    case 'unit.resized':
      unitResized(cx, event);
      break;
    case 'executor.registered':
    case 'executor.disconnected':
    case 'executor.update':
    case 'container.resized':
    case 'container.resize-failed':
      handleExecutor(cx, event);
      break;
    case 'hosted.prepared':
    case 'hosted.failed':
      handlePrepared(cx, event);
      break;
    case 'directory.removed':
    case 'directory.removal-failed':
      removalEnded(cx, event);
      break;
    case 'tick':
      for (const entry of state.tasks.values()) killIfLate(cx, entry);
      tickExecutors(cx);
      for (const launchId of pruneEnded(state, nowMs)) {
        effects.push({ type: 'ended.forget', launchId });
      }
      break;
    default:
      event satisfies never;
  }
  settleRemovals(cx);
  return effects;
}

function handleMessage(cx: Context, message: Message): void {
  switch (message.type) {
    case 'RunTask':
      runTask(cx, message);
      return;
    case 'KillTask':
      killTask(cx, message);
      return;
    case 'ResizeTask':
      resizeTask(cx, message);
      return;
    case 'ShutdownExecutor':
      shutdownByName(cx, message);
      return;
    case 'FrameworkToExecutor':
      tellExecutor(cx, message);
      return;
    case 'ShutdownFramework':
      shutdownFramework(cx, message.frameworkId);
      return;
    case 'UpdateFramework':
      updateFramework(cx, message);
      return;
    case 'StatusUpdateAcknowledgement':
      acknowledge(cx, message);
      return;
    case 'RemoveDirectory':
      removeDirectory(cx, message.reservationId);
      return;
    case 'AgentRegistered':
      registered(cx, message);
      return;
    case 'AgentError':
      cx.effects.push({ type: 'agent.stop', code: message.code, message: message.message });
      return;
    default:
      return; // Not for an agent; the shell has logged it.
  }
}

function registered(cx: Context, { master, resend }: MessageOf<'AgentRegistered'>): void {
  const { state } = cx;
  if (!state.leaderSeen || state.leaderSeen.epoch < master.epoch) {
    state.leaderSeen = master;
    cx.effects.push({ type: 'leader.remember', leader: master });
  }
  // The master may never have seen what was sent in another session; it knows repeated updates by their ids.
  for (const entry of state.tasks.values()) {
    for (const status of entry.updates) sendUpdate(cx, status);
  }
  for (const launchId of resend) sendEndAgain(cx, launchId);
}

/** A launch that comes twice must not run twice, whatever the transport or a master without memory did. */
function runTask(cx: Context, message: MessageOf<'RunTask'>): void {
  const { state } = cx;
  const { framework, launchId, task } = message;
  const key = taskKey(framework.frameworkId, task.taskId);
  const known = state.tasks.get(key);
  if (known?.launchId === launchId || sendEndAgain(cx, launchId)) return;
  if (known && !isTerminal(known.state)) {
    refuseLaunch(cx, message, {
      ...{ state: 'TASK_ERROR', reason: 'REASON_TASK_DUPLICATE' },
      message: `launch ${known.launchId} of this task is still running on ${state.hostname}`,
    });
    return;
  }
  // There would be no other launch unless the framework knew the end of this one: its acknowledgement was lost.
  if (known) retire(cx, known);
  const equipped = equip(cx, message);
  if ('problem' in equipped) {
    refuseLaunch(cx, message, {
      ...{ state: 'TASK_DROPPED', reason: 'REASON_RESOURCES_UNKNOWN' },
      message: equipped.problem,
    });
    return;
  }
  if (equipped.executor) {
    runHosted(cx, { ...message, task: equipped }, equipped.executor);
    return;
  }
  const entry: AgentTaskEntry = {
    key,
    framework,
    detached: false,
    task: equipped,
    launchId,
    unit: taskUnit(state.agentTag, task.taskId, launchId),
    state: 'TASK_STAGING',
    started: false,
    updates: [],
  };
  state.tasks.set(key, entry);
  cx.effects.push({ type: 'task.start', entry });
}

/** @returns the task with what this agent gives it: numbers and directories; or what is missing */
function equip(
  cx: Context,
  message: MessageOf<'RunTask'>,
): TaskInfo | { readonly problem: string } {
  const numbered = assignNumbers(cx.state, message.task);
  if ('problem' in numbered) return numbered;
  const directories = assignDirectories(cx, message);
  return 'problem' in directories ? directories : { ...numbered, ...directories };
}

/** Nothing of it is kept, so there is nothing to acknowledge. */
function refuseLaunch(
  cx: Context,
  { framework, launchId, task }: MessageOf<'RunTask'>,
  why: Pick<TaskStatus, 'state' | 'reason' | 'message'>,
): void {
  sendUpdate(cx, {
    frameworkId: framework.frameworkId,
    taskId: task.taskId,
    agentId: cx.state.agentId,
    launchId,
    source: 'SOURCE_AGENT',
    ...why,
  });
}

function handleExecutor(
  cx: Context,
  event: Extract<
    AgentEvent,
    {
      type:
        | 'executor.registered'
        | 'executor.disconnected'
        | 'executor.update'
        | 'container.resized'
        | 'container.resize-failed';
    }
  >,
): void {
  const executor = liveExecutor(cx, event);
  if (!executor) return;
  switch (event.type) {
    case 'executor.registered':
      // Later the master has called them lost already, and another launch may have their place.
      if (!executor.hasJournal && !cx.state.hasReported) {
        for (const task of event.memory?.tasks ?? []) adoptHosted(cx, executor, task);
      }
      executor.hasJournal = true;
      executorRegistered(cx, executor, event.memory);
      return;
    case 'executor.disconnected':
      executorDisconnected(executor);
      return;
    case 'executor.update':
      takeUpdate(cx, executor, event.taken);
      return;
    case 'container.resized':
      containerResized(cx, executor, event.limits);
      settleResizes(cx, executor);
      handOver(cx, executor);
      return;
    case 'container.resize-failed':
      containerResizeFailed(cx, executor);
      return;
    default:
      event satisfies never;
  }
}

function handlePrepared(
  cx: Context,
  event: Extract<AgentEvent, { type: 'hosted.prepared' | 'hosted.failed' }>,
): void {
  const entry = liveEntry(cx, event);
  if (!entry?.hosted) return;
  if (event.type === 'hosted.failed') {
    failHosted(cx, entry, event);
    return;
  }
  entry.hosted.preparation = 'done';
  if (event.cgroupProcs) entry.hosted.cgroupProcs = event.cgroupProcs;
  handOver(cx, entry.hosted.executor);
}

function killTask(cx: Context, message: MessageOf<'KillTask'>): void {
  const { frameworkId, taskId, launchId, by, gracePeriodMs } = message;
  const entry = cx.state.tasks.get(taskKey(frameworkId, taskId));
  if (!entry || (launchId !== undefined && launchId !== entry.launchId)) return;
  requestKill(cx, entry, by, gracePeriodMs);
}

/** Best effort: to an executor that cannot be spoken to nothing is said. */
function tellExecutor(cx: Context, message: MessageOf<'FrameworkToExecutor'>): void {
  const { frameworkId, executorId, data } = message;
  const executor = cx.state.executors.get(executorKey(frameworkId, executorId));
  if (executor?.isConnected !== true) return;
  const said = { type: 'FrameworkToExecutor' as const, data };
  cx.effects.push({ type: 'executor.send', executor, message: said });
}

function updateFramework(cx: Context, { framework, detached }: MessageOf<'UpdateFramework'>): void {
  const { tasks, executors } = cx.state;
  for (const entry of [...executors.values(), ...tasks.values()]) {
    if (entry.framework.frameworkId !== framework.frameworkId) continue;
    entry.framework = framework;
    entry.detached = detached;
    // A task of an executor has it from there when the agent begins anew.
    if (isExecutor(entry) || !entry.hosted) cx.effects.push({ type: 'checkpoint.update', entry });
  }
}

function shutdownFramework(cx: Context, frameworkId: FrameworkId): void {
  const { tasks, executors } = cx.state;
  for (const executor of executors.values()) {
    if (executor.framework.frameworkId === frameworkId) shutdownExecutor(cx, executor, 'framework');
  }
  for (const entry of tasks.values()) {
    const isOwn = entry.framework.frameworkId === frameworkId && !entry.hosted;
    if (isOwn) requestKill(cx, entry, 'framework');
  }
}

function requestKill(
  cx: Context,
  entry: AgentTaskEntry,
  by: KilledBy,
  gracePeriodMs?: number,
): void {
  if (entry.hosted) {
    killHosted(cx, entry, by, gracePeriodMs);
    return;
  }
  if (isTerminal(entry.state)) return;
  const noted = noteKill(cx, entry, by, gracePeriodMs);
  if (noted === 'ignored') return;
  // Before the signal: an agent that dies in between must not call the end a failure, nor forget SIGKILL.
  cx.effects.push({ type: 'checkpoint.update', entry });
  // Before its command runs there is nothing to signal; `unitStarted` sees the request.
  if (noted === 'first' && entry.started) beginKill(cx, entry);
  killIfLate(cx, entry);
}

function killIfLate(cx: Context, entry: AgentTaskEntry): void {
  if (!entry.hosted && !isTerminal(entry.state)) killUnitIfLate(cx, entry);
}

function acknowledge(cx: Context, message: MessageOf<'StatusUpdateAcknowledgement'>): void {
  const entry = cx.state.tasks.get(taskKey(message.frameworkId, message.taskId));
  if (!entry) return;
  const before = entry.updates;
  entry.updates = before.filter(({ updateId }) => updateId !== message.updateId);
  // Who knows the end waits for nothing that was before it.
  const isEndKnown = entry.updates.every(({ state }) => !isTerminal(state));
  if (isTerminal(entry.state) && isEndKnown) {
    retire(cx, entry);
    return;
  }
  const waiting = before[UPDATES_KEEP_COUNT - 1];
  if (waiting && entry.updates.length < before.length) sendUpdate(cx, waiting);
}
