/** Of a task that has ended, what `kaon why` and the API say of it. Pure. */
import type { TaskExplanation } from '../protocol/explanation.ts';
import { wordsOfStatus } from '../protocol/task-words.ts';
import type { TaskView } from './task-view.ts';

/** @returns the same as a master says of a task that lives */
export function explainEnded(view: TaskView): TaskExplanation {
  const { frameworkId, taskId, name, agentId, state, endedAtMs, launchedAtMs, status } = view;
  return {
    ...{ frameworkId, taskId, name, agentId, state },
    sinceMs: endedAtMs ?? launchedAtMs,
    words: wordsOfStatus(status),
    needs: [],
  };
}
