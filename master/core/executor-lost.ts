/** The word that an executor is gone, which a framework gets after what there is to say of its tasks. */
import type { AgentId, ExecutorId, FrameworkId } from '../../protocol/ids.ts';
import { frameworkName } from '../../protocol/keys.ts';
import { TEXT_MAX_CHARS } from '../../protocol/limits.ts';
import type { TaskRecord } from '../../protocol/records.ts';
import { isTerminal } from '../../protocol/task-state.ts';
import type { StepContext } from './effects.ts';
import { send } from './effects.ts';
import type { MasterState } from './state.ts';
import { findExecutor } from './state.ts';

/** Which executor, and where it was. */
export interface ExecutorPlace {
  readonly agentId: AgentId;
  readonly frameworkId: FrameworkId;
  readonly executorId: ExecutorId;
}

/** Tells its framework at once, if that is there to hear it. */
export function tellExecutorLost(cx: StepContext, place: ExecutorPlace, message: string): void {
  const { agentId, frameworkId, executorId } = place;
  const session = cx.state.frameworks.get(frameworkId)?.record.session;
  send(cx, frameworkName(frameworkId), session, {
    type: 'ExecutorLost',
    agentId,
    executorId,
    message: message.slice(0, TEXT_MAX_CHARS),
  });
}

/** True if the executor has tasks there that have not ended, as far as the master knows. Cost: the agent's tasks, at most. */
export function hasLiveTasks(state: MasterState, place: ExecutorPlace): boolean {
  for (const key of state.agents.get(place.agentId)?.tasks ?? []) {
    const task = state.tasks.get(key);
    if (!task || task.executorId !== place.executorId || isTerminal(task.state)) continue;
    if (task.frameworkId === place.frameworkId) return true;
  }
  return false;
}

/**
 * To be called after a task has ended: if its executor went before it (the update was late, or the task was sent when
 * the executor was ending), its framework hears of the executor after the last of such tasks.
 */
export function lastTaskEnded(cx: StepContext, task: TaskRecord): void {
  const { agentId, frameworkId, executorId } = task;
  if (executorId === undefined) return;
  if (findExecutor(cx.state, agentId, frameworkId, executorId)) return;
  const place = { agentId, frameworkId, executorId };
  if (!hasLiveTasks(cx.state, place)) {
    tellExecutorLost(cx, place, 'the executor has ended, and now the last of its tasks');
  }
}
