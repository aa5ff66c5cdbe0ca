/** How a unit is ended that somebody wants ended: SIGTERM, its grace period, SIGKILL, again and again. Pure. */
import type { Context } from './events.ts';
import type { AgentTaskEntry, ExecutorEntry, UnitEntry } from './state.ts';
import { addUpdate } from './updates.ts';
import type { KilledBy } from './verdict.ts';

/** Numbers of the signals that an agent sends, signal(7). */
export const SIGKILL = 9;
export const SIGTERM = 15;

/** A task that is still there so long after SIGKILL gets it once more. */
export const KILL_REPEAT_MS = 10_000;

/** Again and again, because a signal is lost while systemd cannot be reached or has not forked the process yet. */
export function killUnitIfLate(cx: Context, entry: UnitEntry): void {
  const { kill } = entry;
  if (!kill || !entry.started || kill.deadlineMs > cx.nowMs) return;
  kill.deadlineMs = cx.nowMs + KILL_REPEAT_MS;
  cx.effects.push({ type: 'unit.signal', entry, signal: SIGKILL });
}

/**
 * Notes who wants an entry to end, and until when it may take.
 *
 * A second wish can only shorten the grace period, and only if it names one: a master repeats a kill without the time that
 * its framework gave.
 *
 * @returns `first`: there was no such wish before; `ignored`: it changes nothing
 */
export function noteKill(
  cx: Context,
  entry: UnitEntry,
  by: KilledBy,
  gracePeriodMs?: number,
): 'first' | 'shortened' | 'ignored' {
  const deadlineMs = cx.nowMs + (gracePeriodMs ?? entry.task.killGracePeriodMs);
  const { kill } = entry;
  if (kill && (gracePeriodMs === undefined || kill.deadlineMs <= deadlineMs)) return 'ignored';
  entry.kill = { by: kill?.by ?? by, deadlineMs };
  return kill ? 'shortened' : 'first';
}

/** The first signal, and word of it. */
export function beginKill(cx: Context, entry: AgentTaskEntry): void {
  addUpdate(cx, entry, { state: 'TASK_KILLING' });
  cx.effects.push({ type: 'unit.signal', entry, signal: SIGTERM });
}

/** Rule L8: the executor is asked to end, and ended when its grace period is over. */
export function shutdownExecutor(cx: Context, executor: ExecutorEntry, by: KilledBy): void {
  if (noteKill(cx, executor, by) !== 'first') return;
  // Before the word: an agent that dies in between must not call the end a failure, nor forget SIGKILL.
  cx.effects.push({ type: 'checkpoint.update', entry: executor });
  askToShutDown(cx, executor);
  killUnitIfLate(cx, executor);
}

/** Whoever cannot be spoken to gets the signal that says the same. Before its process runs there is neither. */
export function askToShutDown(cx: Context, executor: ExecutorEntry): void {
  const { kill, started, isConnected } = executor;
  if (!kill || !started) return;
  if (isConnected) {
    const gracePeriodMs = Math.max(0, Math.round(kill.deadlineMs - cx.nowMs));
    const message = { type: 'ShutdownExecutor' as const, gracePeriodMs };
    cx.effects.push({ type: 'executor.send', executor, message });
  } else cx.effects.push({ type: 'unit.signal', entry: executor, signal: SIGTERM });
}
