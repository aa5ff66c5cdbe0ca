/** What a new agent makes of what the one before it has left: checkpoints, and the units that are there or not. Pure. */
import type { AgentId, ExecutorId, LaunchId } from '../../protocol/ids.ts';
import { executorKey, taskKey } from '../../protocol/ids.ts';
import type { FrameworkInfo, TaskInfo } from '../../protocol/task.ts';
import type { AgentState, AgentTaskEntry } from './state.ts';
import type { AgentEvent, LaunchRef } from './events.ts';
import type { KilledBy } from './verdict.ts';

/** As much of a checkpoint, or of a unit's own record, as a task is made of again. */
export interface RememberedTask {
  readonly framework: FrameworkInfo;
  readonly detached: boolean;
  readonly task: TaskInfo;
  readonly launchId: LaunchId;
  readonly unit: string;
  readonly kill?: KilledBy | undefined;
  /** When SIGKILL is due, monotonic milliseconds of this agent; absent: at once. */
  readonly killAtMs?: number | undefined;
}

/** The task as it was before anything was heard of its unit. */
export function recoveredEntry(remembered: RememberedTask): AgentTaskEntry {
  const { framework, detached, task, launchId, unit, kill, killAtMs = 0 } = remembered;
  return {
    key: taskKey(framework.frameworkId, task.taskId),
    framework,
    detached,
    task,
    launchId,
    unit,
    state: 'TASK_STAGING',
    started: false,
    ...(kill && { kill: { by: kill, deadlineMs: killAtMs } }),
    updates: [],
  };
}

type UnitLost = Extract<AgentEvent, { type: 'unit.lost' }>;

/**
 * A checkpoint without an end, and no unit.
 *
 * @param found `sameBoot`: systemd has run without a break since the launch; `wasExecuted`: systemd has been asked, so it may
 *   have run; `isFenced`: its node stops it when it is cut off; `isOfUser`: it was the systemd of a user
 * @returns the event that tells what became of it; undefined if it was never started, so that it may be started now:
 *   a unit is released only after its end is in the checkpoint
 */
export function judgeAbsentUnit(
  { key, launchId }: LaunchRef,
  found: {
    readonly sameBoot: boolean;
    readonly wasExecuted: boolean;
    readonly isFenced?: boolean;
    readonly isOfUser?: boolean;
  },
): UnitLost | undefined {
  const lost = (message: string): UnitLost => ({ type: 'unit.lost', key, launchId, message });
  if (!found.sameBoot) {
    const restarted =
      found.isOfUser === true
        ? "its user's systemd ended (without lingering: with the last session), or the node was rebooted,"
        : 'the node was rebooted';
    return lost(`${restarted} while the task was on it`);
  }
  if (found.wasExecuted) return lost('its unit vanished while no agent was running');
  // Who waits for the time after which its node stops it counts from when the agent was last heard of, not from now.
  if (found.isFenced === true) return lost('the agent ended before it had started it');
  return undefined;
}

/** Of a unit that no checkpoint speaks of: whose it says that it is. */
export interface FoundUnit extends RememberedTask {
  readonly cluster: string;
  readonly agentId: AgentId;
}

/** What becomes of such a unit. `leave`: it is somebody else's for good, or for now only (`isFinal` false). */
export type FoundVerdict =
  | { readonly action: 'adopt' | 'release'; readonly entry: AgentTaskEntry }
  | { readonly action: 'leave'; readonly why: string; readonly isFinal: boolean };

/** What becomes of a unit of an executor that no checkpoint speaks of. */
export type FoundExecutorVerdict =
  { readonly action: 'adopt' | 'release' } | Extract<FoundVerdict, { action: 'leave' }>;

/** As `judgeFoundUnit`, of an executor. */
export function judgeFoundExecutor(
  state: AgentState,
  cluster: string,
  found: FoundUnit & { readonly executorId: ExecutorId },
): FoundExecutorVerdict {
  const foreign = foreignUnit(state, cluster, found);
  if (foreign) return foreign;
  if (state.endedExecutors.has(found.launchId)) return { action: 'release' };
  const key = executorKey(found.framework.frameworkId, found.executorId);
  const other = state.executors.get(key);
  if (!other) return { action: 'adopt' };
  return { action: 'leave', why: `${other.unit} is the same executor`, isFinal: false };
}

function foreignUnit(
  state: AgentState,
  cluster: string,
  found: FoundUnit,
): Extract<FoundVerdict, { action: 'leave' }> | undefined {
  if (found.cluster === cluster && found.agentId === state.agentId) return undefined;
  const why = `it belongs to agent ${found.agentId} of cluster ${found.cluster}`;
  return { action: 'leave', why, isFinal: true };
}

/** A unit is taken for a task again only if it is certain that it is ours, and that its end is not known already. */
export function judgeFoundUnit(state: AgentState, cluster: string, found: FoundUnit): FoundVerdict {
  const foreign = foreignUnit(state, cluster, found);
  if (foreign) return foreign;
  const entry = recoveredEntry(found);
  // Only its release was cut off.
  if (state.ended.has(entry.launchId)) return { action: 'release', entry };
  const other = state.tasks.get(entry.key);
  if (!other) return { action: 'adopt', entry };
  return { action: 'leave', why: `${other.unit} is the same task`, isFinal: false };
}
