/** What a new agent makes of what the one before it has left: checkpoints, and the units that are there or not. Pure. */
import type { FrameworkId, TaskKey } from '../../protocol/ids.ts';
import { taskKey } from '../../protocol/ids.ts';
import type { TaskInfo } from '../../protocol/task.ts';
import type { AgentTaskEntry } from './state.ts';
import type { AgentEvent } from './step.ts';

/** As much of a checkpoint as a task is made of again. */
export interface RememberedTask {
  readonly frameworkId: FrameworkId;
  readonly frameworkName: string;
  readonly task: TaskInfo;
  readonly launchId: string;
  readonly unit: string;
  readonly kill?: 'framework' | 'operator' | undefined;
}

/** The task as it was before anything was heard of its unit. */
export function recoveredEntry(remembered: RememberedTask): AgentTaskEntry {
  const { frameworkId, frameworkName, task, launchId, unit, kill } = remembered;
  return {
    key: taskKey(frameworkId, task.taskId),
    frameworkId,
    frameworkName,
    task,
    launchId,
    unit,
    state: 'TASK_STAGING',
    started: false,
    // Its grace period is over by now: the first tick ends it.
    ...(kill && { kill: { by: kill, deadlineMs: 0 } }),
    updates: [],
  };
}

/**
 * A checkpoint without an end, and no unit.
 *
 * @param found `sameBoot`: systemd has run without a break since the launch; `wasExecuted`: there is proof that the command ran
 * @returns the event that tells what became of it; undefined if it was never started, so that it may be started now:
 *   a unit is released only after its end is in the checkpoint
 */
export function judgeAbsentUnit(
  key: TaskKey,
  found: { readonly sameBoot: boolean; readonly wasExecuted: boolean },
): AgentEvent | undefined {
  if (!found.sameBoot) {
    return { type: 'unit.lost', key, message: 'the node was rebooted while the task was on it' };
  }
  if (found.wasExecuted) {
    return { type: 'unit.lost', key, message: 'its unit vanished while no agent was running' };
  }
  return undefined;
}
