/** What an agent would say of itself that has just what the master has given it. */
import type { MasterState } from '../../master/core/state.ts';
import type { AgentExecutor } from '../../protocol/executor.ts';
import type { AgentId } from '../../protocol/ids.ts';
import type { MessageOf } from '../../protocol/messages.ts';
import type { TaskRecord } from '../../protocol/records.ts';
import type { AgentTask } from '../../protocol/task.ts';

/** The task as its agent reports it. */
export function wordsOnTask(task: TaskRecord): AgentTask {
  const { frameworkId, taskId, launchId, name, resources, state, executorId } = task;
  const words = { frameworkId, taskId, launchId, name, resources, state };
  return { ...words, ...(executorId !== undefined && { executorId }) };
}

/** The executors of an agent as it reports them. */
export function executorsOn({ executors }: MasterState, agentId: AgentId): AgentExecutor[] {
  return [...executors.values()]
    .filter((executor) => executor.agentId === agentId)
    .map(({ frameworkId, info, launchId }) => ({ frameworkId, info, launchId }));
}

/** The agent has done what is asked of its task; undefined if nothing is. */
export function answerToResize(
  task: TaskRecord,
  isDone: boolean,
): MessageOf<'TaskResized'> | undefined {
  const { frameworkId, taskId, launchId, resize, resources } = task;
  if (!resize) return undefined;
  const { resizeId } = resize;
  const answer = { type: 'TaskResized' as const, resizeId, frameworkId, taskId, launchId };
  if (isDone) return { ...answer, resources: resize.resources };
  return { ...answer, resources, error: 'the unit has gone' };
}
