/** The log of tasks on this node: one line when a task starts and one when it ends, with the ids that people look for. */
import type { Log } from '../io/log.ts';
import { isTerminal } from '../protocol/task-state.ts';
import type { TaskStatus } from '../protocol/task.ts';

/** So many updates are remembered as said: each is sent again until it is acknowledged. */
const SAID_KEEP_COUNT = 10_000;

/** @returns what to call with each update that goes out */
export function createTaskLog(log: Log): (status: TaskStatus) => void {
  const said = new Set<string>();
  return (status) => {
    const { taskId, frameworkId, executorId, state, reason, message, unit } = status;
    const updateId = status.updateId ?? `${status.launchId ?? ''}.${state}`;
    if (said.has(updateId)) return;
    said.add(updateId);
    if (said.size > SAID_KEEP_COUNT) said.delete(said.values().next().value ?? '');
    const ids = { taskId, frameworkId, executorId };
    if (isTerminal(state)) log.info('task.ended', { ...ids, state, reason, message, unit });
    else if (state === 'TASK_RUNNING') log.info('task.started', { ...ids, unit });
    else log.debug('task.updated', { ...ids, state });
  };
}
