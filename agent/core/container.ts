/**
 * The elastic container of an executor: its limits are the executor's own and those of its live tasks. They grow, and are
 * known to have grown, before a task is handed over; they shrink a little after a task has ended, to the most that was
 * needed meanwhile, so that a stream of tasks of one size does not move them at all. One change is on its way at a time, and
 * always to what is needed by then.
 */
import { areEqual, fits, NO_RESOURCES } from '../../protocol/resources.ts';
import type { Resources } from '../../protocol/resources.ts';
import type { Context, ExecutorRef } from './events.ts';
import type { ExecutorEntry } from './state.ts';

/** How often it is asked whether a container may be smaller: from the end of a task to that it takes once or twice as long. */
const SHRINK_SPAN_MS = 200;
/** Memory that is in use cannot be taken away: it is tried again after this, and twice that, up to the maximum. */
const SHRINK_RETRY_MS = 1000;
const SHRINK_RETRY_MAX_MS = 30_000;
const GROW_RETRY_MS = 1000;

/** True if everything that is in the container has its limits, and keeps them. */
export function isCovered({ needed, granted, resizing }: ExecutorEntry): boolean {
  // A change that is on its way may be in force at any moment.
  return fits(needed, granted) && (!resizing || fits(needed, resizing));
}

/** From now on that much is needed. */
export function setNeeded(executor: ExecutorEntry, { cpuMillis, memMib }: Resources): void {
  // What else tasks have is no limit of a container.
  const needed = { cpuMillis, memMib };
  executor.needed = needed;
  executor.peak = largerOf(executor.peak, needed);
}

/** Asks for more if more is needed. */
export function growIfNeeded(cx: Context, executor: ExecutorEntry): void {
  if (!isResizable(executor) || isCovered(executor) || executor.growAtMs > cx.nowMs) return;
  resizeTo(cx, executor, largerOf(executor.needed, executor.granted));
}

/** Makes the container smaller when it is time to. */
export function shrinkIfDue(cx: Context, executor: ExecutorEntry): void {
  const { needed, granted, peak, shrinkAtMs } = executor;
  if (!isResizable(executor) || shrinkAtMs > cx.nowMs) return;
  executor.shrinkAtMs = cx.nowMs + SHRINK_SPAN_MS;
  executor.peak = needed;
  if (!fits(peak, granted)) return; // It has just been asked for more, or will be.
  if (!areEqual(peak, granted)) resizeTo(cx, executor, peak);
  else if (granted.memMib <= needed.memMib) endDelay(cx, executor);
}

/** False while a change is on its way, and of one whose tasks nobody knows before it has spoken. */
function isResizable({ resizing, started, hasEnded, hasJournal }: ExecutorEntry): boolean {
  return !resizing && started && !hasEnded && hasJournal;
}

function resizeTo(cx: Context, executor: ExecutorEntry, limits: Resources): void {
  executor.resizing = limits;
  cx.effects.push({ type: 'container.resize', executor, limits });
}

/** Takes what is in force now; what is still wanted, or wanted by now, is asked for again. */
export function containerResized(cx: Context, executor: ExecutorEntry, limits: Resources): void {
  const { resizing: wanted = limits, needed } = executor;
  delete executor.resizing;
  executor.granted = limits;
  if (limits.memMib > Math.max(wanted.memMib, needed.memMib)) putOffShrink(cx, executor);
  else if (limits.memMib <= needed.memMib) endDelay(cx, executor);
  growIfNeeded(cx, executor);
}

/** Nobody knows what is in force: tasks wait until it is, and nothing is handed over meanwhile. */
export function containerResizeFailed(cx: Context, executor: ExecutorEntry): void {
  delete executor.resizing;
  executor.granted = NO_RESOURCES;
  executor.growAtMs = cx.nowMs + GROW_RETRY_MS;
}

function endDelay(cx: Context, executor: ExecutorEntry): void {
  if (executor.shrinkDelayMs === 0) return;
  executor.shrinkDelayMs = 0;
  tellShrink(cx, executor, false);
}

function putOffShrink(cx: Context, executor: ExecutorEntry): void {
  const { shrinkDelayMs } = executor;
  const isNew = shrinkDelayMs === 0;
  executor.shrinkDelayMs = isNew
    ? SHRINK_RETRY_MS
    : Math.min(shrinkDelayMs * 2, SHRINK_RETRY_MAX_MS);
  executor.shrinkAtMs = cx.nowMs + executor.shrinkDelayMs;
  if (isNew) tellShrink(cx, executor, true);
}

function tellShrink(cx: Context, executor: ExecutorEntry, isDelayed: boolean): void {
  cx.effects.push({
    type: 'message.send',
    message: {
      type: 'ContainerShrink',
      frameworkId: executor.framework.frameworkId,
      executorId: executor.info.executorId,
      launchId: executor.launchId,
      isDelayed,
      limitMib: executor.granted.memMib,
      neededMib: executor.needed.memMib,
    },
  });
}

/** Of each the larger one. */
export function largerOf(a: Resources, b: Resources): Resources {
  return {
    cpuMillis: Math.max(a.cpuMillis, b.cpuMillis),
    memMib: Math.max(a.memMib, b.memMib),
  };
}

/** The limits that are in force as far as anybody knows; where nobody does, those that are needed. */
export function limitsOf({ granted, needed }: ExecutorEntry): Resources {
  return areEqual(granted, NO_RESOURCES) ? needed : granted;
}

/** The executor of an event, unless it has ended or is another launch by now. */
export function liveExecutor(
  { state }: Context,
  { key, launchId }: ExecutorRef,
): ExecutorEntry | undefined {
  const executor = state.executors.get(key);
  return executor?.launchId === launchId ? executor : undefined;
}
