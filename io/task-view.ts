/** One task as commands and the API show it, whether it lives (registry) or has ended (history). Pure. */
import type { AgentId, ExecutorId, FrameworkId, TaskId } from '../protocol/ids.ts';
import type { EndedTask, FrameworkRecord, TaskRecord } from '../protocol/records.ts';
import type { Resources } from '../protocol/resources.ts';
import { isTerminal } from '../protocol/task-state.ts';
import type { TaskState } from '../protocol/task-state.ts';
import type { TaskInfo, TaskStatus } from '../protocol/task.ts';

/** What is common to a live and an ended task, and what only one of them has. */
export interface TaskView {
  readonly frameworkId: FrameworkId;
  /** '' if nobody knows it any more. */
  readonly frameworkName: string;
  readonly taskId: TaskId;
  readonly agentId: AgentId;
  readonly name: string;
  readonly resources: Resources;
  /** Of a task of an executor. */
  readonly executorId?: ExecutorId;
  /** Other resources that its agent has yet to give it. */
  readonly resize?: TaskRecord['resize'];
  readonly state: TaskState;
  readonly launchedAtMs: number;
  /** Absent while it has not ended. */
  readonly endedAtMs?: number;
  readonly status?: TaskStatus;
  readonly argv?: readonly string[];
  readonly labels?: Readonly<Record<string, string>>;
  /** Only of tasks in the registry, and not of those that their agent brought back. */
  readonly info?: TaskInfo;
  /** What was promised of its end, of a task that its agent brought back too. */
  readonly rules?: Pick<TaskInfo, 'whenUnreachable' | 'exclusive'>;
  readonly killRequested?: TaskRecord['killRequested'];
  /** Its agent is not heard of. */
  readonly unreachable?: {
    readonly sinceMs: number;
    /** When its node has stopped it at the latest; absent: it goes on if its node lives. */
    readonly stoppedByMs?: number;
  };
  /** Its agent has not said anything of it yet. */
  readonly isUnheard: boolean;
  /** It has ended, but its framework has not acknowledged that. */
  readonly isUnacknowledged: boolean;
  /** As Redis holds it: what `--json` prints. */
  readonly record: TaskRecord | EndedTask;
}

/** @param frameworks for the name of the task's framework */
export function viewOfLive(record: TaskRecord, frameworks: readonly FrameworkRecord[]): TaskView {
  const { frameworkId, taskId, agentId, name, resources, state, launchedAtMs, info } = record;
  const framework = frameworks.find((one) => one.info.frameworkId === frameworkId);
  const hasEnded = isTerminal(state);
  return {
    ...{ frameworkId, taskId, agentId, name, resources, state, launchedAtMs },
    frameworkName: framework?.info.name ?? '',
    isUnheard: record.unheard,
    isUnacknowledged: hasEnded,
    record,
    ...(hasEnded && { endedAtMs: record.updatedAtMs }),
    ...(info && { info, labels: info.labels }),
    ...(info?.command && { argv: info.command.argv }),
    ...wordsOn(record),
  };
}

/** What only some live tasks have. */
function wordsOn(
  record: TaskRecord,
): Pick<TaskView, 'executorId' | 'resize' | 'status' | 'rules' | 'killRequested' | 'unreachable'> {
  const { executorId, resize, status, killRequested, state } = record;
  const rules = record.info ?? record.rules;
  return {
    ...(executorId !== undefined && { executorId }),
    ...(resize && { resize }),
    ...(status && { status }),
    ...(rules && { rules }),
    ...(killRequested && { killRequested }),
    ...(state === 'TASK_UNREACHABLE' && { unreachable: unreachableOf(record) }),
  };
}

function unreachableOf({
  updatedAtMs: sinceMs,
  stoppedByMs,
}: TaskRecord): NonNullable<TaskView['unreachable']> {
  return stoppedByMs === undefined ? { sinceMs } : { sinceMs, stoppedByMs };
}

/** @returns the view of an entry of the history */
export function viewOfEnded(record: EndedTask): TaskView {
  const { argv, labels, status, executorId, ...rest } = record;
  return {
    ...rest,
    isUnheard: false,
    isUnacknowledged: false,
    record,
    ...(argv && { argv }),
    ...(labels && { labels }),
    ...(status && { status }),
    ...(executorId !== undefined && { executorId }),
  };
}

/** The record as `--json` prints it: its own fields, and the two that tell live from ended and whose it is. */
export function taskJson(view: TaskView): object {
  return { ...view.record, frameworkName: view.frameworkName, ended: view.endedAtMs !== undefined };
}
