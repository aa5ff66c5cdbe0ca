/**
 * Directories of reservations with disk: which there are, and when one may go. A task that has disk of a reservation has its
 * directory, and what it leaves there is there for the next one. Only the master's word removes one, and never under a task.
 * Pure.
 */
import type { ReservationId } from '../../protocol/ids.ts';
import { executorKey } from '../../protocol/ids.ts';
import type { MessageOf } from '../../protocol/messages.ts';
import type { TaskInfo } from '../../protocol/task.ts';
import type { AgentEvent, Context } from './events.ts';
import type { AgentState } from './state.ts';
import { isOver } from './state.ts';

/** After which a removal that has failed is tried again, milliseconds. */
const RETRY_MS = 60_000;

/**
 * Notes the directories of a launch; they are a part of the task from then on, in checkpoints, journals and units.
 *
 * @returns the field of the task, empty for none; or why it cannot have them
 */
export function assignDirectories(
  { state, effects }: Context,
  message: MessageOf<'RunTask'>,
): Pick<TaskInfo, 'directories'> | { readonly problem: string } {
  const { directories = [] } = message;
  if (directories.length === 0) return {};
  const ids = directories.map(({ reservationId }) => reservationId);
  const problem = problemWith(state, message, ids);
  if (problem !== undefined) return { problem };
  for (const reservation of directories) {
    state.directories.set(reservation.reservationId, reservation);
    effects.push({ type: 'directory.note', reservation });
  }
  return { directories: ids };
}

function problemWith(
  state: AgentState,
  { framework, task }: MessageOf<'RunTask'>,
  ids: readonly ReservationId[],
): string | undefined {
  const doomed = ids.find((id) => state.doomed.has(id));
  if (doomed !== undefined) return `the directory of reservation ${doomed} is being removed`;
  if (!task.executor) return undefined;
  const { executorId } = task.executor;
  const there = state.executors.get(executorKey(framework.frameworkId, executorId));
  const missing = there && ids.find((id) => there.task.directories?.includes(id) !== true);
  if (missing === undefined) return undefined;
  return `executor ${executorId} was started for a task without disk of reservation ${missing}, and cannot be given its directory now: use another executor`;
}

/** The reservation has ended; said again at every registration until the answer has arrived. */
export function removeDirectory({ state, effects }: Context, id: ReservationId): void {
  if (state.doomed.has(id)) return;
  if (state.directories.has(id)) state.doomed.set(id, { isUnderWay: false, retryAtMs: 0 });
  else effects.push({ type: 'message.send', message: removed(id) });
}

/** Removes what is to go and has no task any more. Cost: constant while nothing is to go. */
export function settleRemovals({ state, nowMs, effects }: Context): void {
  for (const [reservationId, removal] of state.doomed) {
    if (removal.isUnderWay || nowMs < removal.retryAtMs || isInUse(state, reservationId)) continue;
    removal.isUnderWay = true;
    effects.push({ type: 'directory.remove', reservationId });
  }
}

/** It is gone, and the master hears so; or something was in the way. */
export function removalEnded(
  { state, nowMs, effects }: Context,
  {
    type,
    reservationId,
  }: Extract<AgentEvent, { type: 'directory.removed' | 'directory.removal-failed' }>,
): void {
  if (type === 'directory.removal-failed') {
    state.doomed.set(reservationId, { isUnderWay: false, retryAtMs: nowMs + RETRY_MS });
    return;
  }
  state.doomed.delete(reservationId);
  state.directories.delete(reservationId);
  effects.push({ type: 'message.send', message: removed(reservationId) });
}

/** Whatever may have a process with it. */
function isInUse({ tasks, executors }: AgentState, id: ReservationId): boolean {
  const units = [...executors.values(), ...tasks.values()];
  return units.some((entry) => !isOver(entry) && entry.task.directories?.includes(id) === true);
}

function removed(reservationId: ReservationId): MessageOf<'DirectoryRemoved'> {
  return { type: 'DirectoryRemoved', reservationId };
}
