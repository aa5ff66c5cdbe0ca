/**
 * Runners of one submission, told from those of another one of the same framework by their ids: nothing else is said of a
 * task in each status. The first runner's id is the name of the family, and all others begin with it.
 */
import type { TaskId } from '../../../protocol/ids.ts';

/** @returns id of another runner of the family */
export function siblingId(family: TaskId, suffix: string): TaskId {
  return `${family}.${suffix}` as TaskId;
}

/** @returns whether a runner is of that family */
export function isOfFamily(family: TaskId, taskId: TaskId): boolean {
  return taskId === family || taskId.startsWith(`${family}.`);
}
