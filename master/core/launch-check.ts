/**
 * Whether a task may be launched on the offers of its call: what the master refuses, in the words that its framework
 * gets. Changes nothing but the plan of the call: what its earlier tasks have left of the offers.
 */
import { decodeTask } from '../../protocol/codec.ts';
import type { ExecutorInfo } from '../../protocol/executor.ts';
import { isSameExecutor } from '../../protocol/executor.ts';
import type { ExecutorId, TaskGroupId, TaskId } from '../../protocol/ids.ts';
import { formatDuration } from '../../protocol/quantities.ts';
import type { TaskRecord } from '../../protocol/records.ts';
import type { Resources } from '../../protocol/resources.ts';
import {
  addResources,
  fits,
  formatResources,
  NO_RESOURCES,
  subtractResources,
  sumResources,
} from '../../protocol/resources.ts';
import type { TaskReason, TaskState } from '../../protocol/task-state.ts';
import { isTerminal } from '../../protocol/task-state.ts';
import type { TaskInfo } from '../../protocol/task.ts';
import { problemOf } from '../../protocol/task.ts';
import type { StepContext } from './effects.ts';
import { problemOfUser } from './permissions.ts';
import type { Purse } from './pools.ts';
import type { Agent, Framework, MasterState } from './state.ts';
import { findExecutor, findTask, rulesOf } from './state.ts';

/** Why a task is not launched. */
export interface Refusal {
  readonly state: TaskState;
  readonly reason: TaskReason;
  readonly message: string;
}

/** A task that may be launched; or why it may not. */
export type Checked = { readonly task: TaskInfo } | { readonly refusal: Refusal };

/** One call: where it launches, and what is left of its offers. */
export interface LaunchPlan {
  readonly framework: Framework;
  readonly agent: Agent;
  /** Of its offers. */
  readonly role: string;
  left: Resources;
  /** The pools of the offers, with what is left of each: what is reserved first. Taken from as tasks are launched. */
  readonly purses: readonly Purse[];
  /** Executors that are not there yet, of tasks that are checked together and not launched yet. */
  readonly newExecutors: Map<ExecutorId, ExecutorInfo>;
  /**
   * Of an executor that is there, what it has been compared with, as JSON: most calls name one executor a thousand
   * times.
   */
  readonly compared: Map<ExecutorInfo, Map<string, boolean>>;
  /** Tasks of the framework that have not ended, by their groups; made when a call has groups. */
  liveGroups?: ReadonlyMap<TaskGroupId, TaskRecord>;
}

/** @returns the plan of a call with these pools in its offers */
export function createPlan(
  framework: Framework,
  { agent, role, purses }: Pick<LaunchPlan, 'agent' | 'role' | 'purses'>,
): LaunchPlan {
  const left = sumResources(purses.map((purse) => purse.left));
  const none = { newExecutors: new Map(), compared: new Map() };
  return { framework, agent, role, left, purses, ...none };
}

/**
 * Checks one task; if it may be launched, what it needs is taken from the plan, and it has to be launched before the next
 * is checked. Cost: constant, but for exclusive tasks.
 */
export function checkTask(cx: StepContext, plan: LaunchPlan, raw: unknown): Checked {
  const decoded = decodeTask(raw);
  if (!decoded.ok) return invalid(decoded.message);
  const task = decoded.value;
  const problem = problemOf(task);
  if (problem !== undefined) return invalid(problem);
  const forbidden = cx.principal && problemOfUser(cx.principal, task);
  if (forbidden !== undefined) return invalid(forbidden);
  const { frameworkId } = plan.framework.record.info;
  if (findTask(cx.state, frameworkId, task.taskId)) return duplicate(task);
  if (task.exclusive) {
    const message = exclusiveProblem(cx, plan.framework, task.name);
    // Not for ever, as an error would be: launched again later it may be let in.
    if (message !== undefined) return refused('TASK_DROPPED', 'REASON_TASK_EXCLUSIVE', message);
  }
  return checkPlace(cx, plan, task);
}

/** Tasks of one call with the same group id, as they came. */
export interface RawGroup {
  readonly groupId: TaskGroupId;
  readonly tasks: readonly unknown[];
}

/**
 * Checks tasks that stand or fall together: if one of them may not be launched none may, and the plan is as it was.
 *
 * @returns one outcome a task, in order
 */
export function checkGroup(cx: StepContext, plan: LaunchPlan, group: RawGroup): Checked[] {
  const trial: LaunchPlan = { ...plan, newExecutors: new Map() };
  const members: Members = { groupId: group.groupId, taskIds: new Set(), exclusive: new Set() };
  const checked: Checked[] = [];
  for (const raw of group.tasks) {
    const one = checkMember(cx, trial, members, raw);
    if ('refusal' in one) return fallTogether(group, checked.length, one.refusal);
    checked.push(one);
  }
  plan.left = trial.left;
  return checked;
}

/** What is known of a group by those of its tasks that have been checked. */
interface Members {
  readonly groupId: TaskGroupId;
  first?: TaskInfo;
  readonly taskIds: Set<TaskId>;
  /** Names of exclusive tasks. */
  readonly exclusive: Set<string>;
}

function checkMember(cx: StepContext, plan: LaunchPlan, members: Members, raw: unknown): Checked {
  const checked = checkTask(cx, plan, raw);
  if ('refusal' in checked) return checked;
  const { task } = checked;
  const { taskId, name, exclusive } = task;
  const problem = problemOfMember(cx, plan, members, task);
  if (problem !== undefined) return invalid(problem);
  members.first ??= task;
  members.taskIds.add(taskId);
  if (exclusive) members.exclusive.add(name);
  return checked;
}

function problemOfMember(
  { state }: StepContext,
  plan: LaunchPlan,
  { groupId, first = undefined, taskIds, exclusive }: Members,
  task: TaskInfo,
): string | undefined {
  if (!first) {
    plan.liveGroups ??= liveGroupsOf(state, plan.framework);
    const inUse = plan.liveGroups.get(groupId);
    if (!inUse) return undefined;
    return `group ${groupId} has task ${inUse.taskId} already, which is ${inUse.state}; choose another group id`;
  }
  if (taskIds.has(task.taskId)) return `task ${task.taskId} is twice in its group`;
  const [shared, own] = [first.executor?.executorId, task.executor?.executorId];
  if (own !== shared) {
    return `the tasks of a group share one executor: task ${first.taskId} names ${String(shared)}, this one ${String(own)}`;
  }
  if (!exclusive.has(task.name) || !task.exclusive) return undefined;
  return `${task.name} is exclusive, and another task of its group has that name`;
}

function liveGroupsOf(
  state: MasterState,
  framework: Framework,
): ReadonlyMap<TaskGroupId, TaskRecord> {
  const groups = new Map<TaskGroupId, TaskRecord>();
  for (const key of framework.tasks) {
    const task = state.tasks.get(key);
    const groupId = task?.info?.groupId;
    if (task && groupId !== undefined && !isTerminal(task.state)) groups.set(groupId, task);
  }
  return groups;
}

/** One task of a group is refused for what it is, the others because of it: in the same state, for as long as that holds. */
function fallTogether(group: RawGroup, culpritIndex: number, refusal: Refusal): Checked[] {
  const culprit = taskIdOf(group.tasks[culpritIndex]);
  const reason = 'REASON_TASK_GROUP_FAILED';
  const message = `not launched: task ${culprit} of its group ${group.groupId} is refused (${refusal.message})`;
  return group.tasks.map((_, index) => ({
    refusal: index === culpritIndex ? refusal : { state: refusal.state, reason, message },
  }));
}

/** Whether it fits into what is left, with an executor of its own if that is not there. */
function checkPlace(cx: StepContext, plan: LaunchPlan, task: TaskInfo): Checked {
  const { executor, resources } = task;
  const there = executor && executorThere(cx, plan, executor.executorId);
  const { agentId } = plan.agent.record.info;
  if (executor && there && !isCompatible(plan, there, executor)) {
    return invalid(
      `existing executor with the same id is not compatible: agent ${agentId} has executor ${executor.executorId} of this framework, with another ExecutorInfo`,
    );
  }
  const added = there ? undefined : executor;
  const needed = addResources(resources, added?.resources ?? NO_RESOURCES);
  if (!fits(needed, plan.left)) {
    const own = added
      ? ` and its executor, which agent ${agentId} does not have yet, ${formatResources(added.resources)}, together ${formatResources(needed)}`
      : '';
    return refused(
      'TASK_ERROR',
      'REASON_RESOURCES_EXCEED_OFFER',
      `not launched: the task needs ${formatResources(resources)}${own}, of the offer ${formatResources(plan.left)} is left`,
    );
  }
  plan.left = subtractResources(plan.left, needed);
  if (added) plan.newExecutors.set(added.executorId, added);
  return { task };
}

/** What is known of an executor that is on the agent, or will be with an earlier task of the call. */
function executorThere(
  { state }: StepContext,
  { agent, framework, newExecutors }: LaunchPlan,
  executorId: ExecutorId,
): ExecutorInfo | undefined {
  const { agentId } = agent.record.info;
  const { frameworkId } = framework.record.info;
  return (
    findExecutor(state, agentId, frameworkId, executorId)?.info ?? newExecutors.get(executorId)
  );
}

function isCompatible(plan: LaunchPlan, there: ExecutorInfo, named: ExecutorInfo): boolean {
  const known = plan.compared.get(there) ?? new Map<string, boolean>();
  plan.compared.set(there, known);
  const text = JSON.stringify(named);
  const isSame = known.get(text) ?? isSameExecutor(there, named);
  known.set(text, isSame);
  return isSame;
}

/** Another exclusive task of that name which has not ended, as far as anybody knows. */
function findExclusive(
  state: MasterState,
  framework: Framework,
  name: string,
): TaskRecord | undefined {
  for (const key of framework.tasks) {
    const task = state.tasks.get(key);
    if (!task || task.name !== name || isTerminal(task.state)) continue;
    if (rulesOf(task).exclusive === true) return task;
  }
  return undefined;
}

function exclusiveProblem(
  { state, nowMs }: StepContext,
  framework: Framework,
  name: string,
): string | undefined {
  const other = findExclusive(state, framework, name);
  if (other) {
    const { taskId, agentId, stoppedByMs } = other;
    const until =
      stoppedByMs === undefined
        ? 'launch again when it has ended'
        : `its node has stopped it in ${formatDuration(Math.max(0, stoppedByMs - nowMs))} at the latest`;
    return `not launched: ${name} is exclusive, and task ${taskId} of that name is ${other.state} on agent ${agentId}; ${until}`;
  }
  const { recoveringUntilMs, isNew } = state.cluster;
  if (recoveringUntilMs <= nowMs || isNew) return undefined;
  return `not launched: ${name} is exclusive, and Redis has lost data: another of that name may turn up for ${formatDuration(recoveringUntilMs - nowMs)} more`;
}

function refused(state: TaskState, reason: TaskReason, message: string): Checked {
  return { refusal: { state, reason, message } };
}

function invalid(problem: string): Checked {
  const message = `not launched: the task is not valid: ${problem}`;
  return refused('TASK_ERROR', 'REASON_TASK_INVALID', message);
}

function duplicate({ taskId }: TaskInfo): Checked {
  return refused(
    'TASK_ERROR',
    'REASON_TASK_DUPLICATE',
    `not launched: this framework has a task ${taskId} already, which is not affected; choose another id`,
  );
}

/** The id that a raw task claims; a placeholder if it has none that could be one. */
export function taskIdOf(raw: unknown): TaskId {
  const taskId = (raw as { taskId?: unknown } | null)?.taskId;
  return (
    typeof taskId === 'string' && /^[\w.:-]{1,100}$/.test(taskId) ? taskId : 'invalid'
  ) as TaskId;
}
