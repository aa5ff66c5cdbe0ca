/** Other limits for a task that runs: of its own unit, or of its part of an executor's container. Pure. */
import { taskKey } from '../../protocol/ids.ts';
import type { MessageOf } from '../../protocol/messages.ts';
import type { Resources } from '../../protocol/resources.ts';
import { addResources, subtractResources } from '../../protocol/resources.ts';
import { isTerminal } from '../../protocol/task-state.ts';
import { growIfNeeded, isCovered, largerOf, setNeeded } from './container.ts';
import type { AgentEvent, Context } from './events.ts';
import type { AgentTaskEntry, ExecutorEntry } from './state.ts';
import { liveEntry } from './updates.ts';

type ResizeId = MessageOf<'ResizeTask'>['resizeId'];

/** Does what the master has granted; the answer comes when the kernel has the limits. */
export function resizeTask(cx: Context, message: MessageOf<'ResizeTask'>): void {
  const { frameworkId, taskId, launchId, resizeId, resources } = message;
  const entry = cx.state.tasks.get(taskKey(frameworkId, taskId));
  const isThere = entry && (launchId ?? entry.launchId) === entry.launchId;
  if (!isThere || isTerminal(entry.state)) {
    cx.effects.push({
      type: 'message.send',
      message: {
        ...{ type: 'TaskResized', resizeId, frameworkId, taskId },
        ...(launchId !== undefined && { launchId }),
        error: 'the task has ended',
      },
    });
    return;
  }
  if (entry.hosted) resizeHosted(cx, entry, entry.hosted.executor, { resizeId, resources });
  else if (entry.started) resizeUnit(cx, entry, { resizeId, resources });
  else answer(cx, entry, resizeId, 'the task has not been started yet');
}

/** Until it is answered either may be in force: an agent that begins anew meanwhile must not believe the smaller one. */
function resizeUnit(
  cx: Context,
  entry: AgentTaskEntry,
  { resizeId, resources }: { readonly resizeId: ResizeId; readonly resources: Resources },
): void {
  const inForce = largerOf(entry.task.resources, resources);
  entry.task = { ...entry.task, resources: { ...entry.task.resources, ...inForce } };
  cx.effects.push({ type: 'checkpoint.update', entry });
  cx.effects.push({ type: 'unit.resize', entry, resizeId, limits: resources });
}

function resizeHosted(
  cx: Context,
  entry: AgentTaskEntry,
  executor: ExecutorEntry,
  { resizeId, resources }: { readonly resizeId: ResizeId; readonly resources: Resources },
): void {
  setResources(cx, entry, executor, resources);
  // A wish that comes again, with a registration, is answered once.
  if (!executor.pendingResizes.some((pending) => pending.resizeId === resizeId)) {
    executor.pendingResizes.push({ resizeId, task: entry });
  }
  growIfNeeded(cx, executor);
  settleResizes(cx, executor);
}

function setResources(
  cx: Context,
  entry: AgentTaskEntry,
  executor: ExecutorEntry,
  resources: Resources,
): void {
  const { launchId, task } = entry;
  setNeeded(executor, addResources(subtractResources(executor.needed, task.resources), resources));
  entry.task = { ...task, resources };
  const line = { type: 'resize' as const, launchId, resources };
  cx.effects.push({ type: 'journal.append', executor, line });
}

/** Once the container holds all of it, the wishes that waited for that are answered; a cgroup of the task's own follows. */
export function settleResizes(cx: Context, executor: ExecutorEntry): void {
  if (!isCovered(executor)) return;
  for (const { task: entry, resizeId } of executor.pendingResizes.splice(0)) {
    if (isTerminal(entry.state)) answer(cx, entry, resizeId, 'the task has ended');
    else if (hasGroup(entry)) {
      cx.effects.push({ type: 'unit.resize', entry, resizeId, limits: entry.task.resources });
    } else answer(cx, entry, resizeId);
  }
}

/** It has a cgroup of its own, or had one when it was handed over by the agent before this one. */
function hasGroup({ hosted, started }: AgentTaskEntry): boolean {
  const isAlone = hosted?.executor.info.isolation === 'task';
  return isAlone && (started || hosted.cgroupProcs !== undefined);
}

/** Takes what is in force. */
export function unitResized(
  cx: Context,
  event: Extract<AgentEvent, { type: 'unit.resized' }>,
): void {
  const { resizeId, limits, error } = event;
  const entry = liveEntry(cx, event);
  if (!entry) return; // It ended meanwhile, and its end says more.
  const inForce = { ...entry.task.resources, ...limits };
  if (entry.hosted) setResources(cx, entry, entry.hosted.executor, inForce);
  else {
    entry.task = { ...entry.task, resources: inForce };
    cx.effects.push({ type: 'checkpoint.update', entry });
  }
  answer(cx, entry, resizeId, error);
}

function answer(cx: Context, entry: AgentTaskEntry, resizeId: ResizeId, error?: string): void {
  const { framework, task, launchId } = entry;
  const { frameworkId } = framework;
  const { taskId, resources } = task;
  cx.effects.push({
    type: 'message.send',
    message: {
      ...{ type: 'TaskResized', resizeId, frameworkId, taskId, launchId, resources },
      ...(error !== undefined && { error }),
    },
  });
}
