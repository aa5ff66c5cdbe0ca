/**
 * Brings together what the master believes to run on an agent and what the agent says when it registers. Every kind of
 * difference has one outcome:
 *
 * | the master | the agent | outcome |
 * |---|---|---|
 * | live | reports it | its state is taken over |
 * | live | has seen it end, acknowledged | it sends that end again (Redis has lost it) |
 * | live, never heard of | does not know it | the launch is sent again: it never got there |
 * | live | does not know it | TASK_LOST |
 * | ended on its own word | runs it | it is ended there: another may have its place |
 * | a newer launch of the task | runs the older | it is ended there: one task does not run twice |
 * | an older launch of the task | runs the newer | the older is forgotten: Redis has lost its end |
 * | nothing | runs it | it is taken over, with its framework if that is not known either |
 * | nothing, Redis has lost data | has seen it end, not acknowledged | its end is told when it comes |
 */
import type { AgentId, LaunchId, TaskKey } from '../../protocol/ids.ts';
import { taskKey } from '../../protocol/ids.ts';
import { agentName } from '../../protocol/keys.ts';
import type { MessageOf } from '../../protocol/messages.ts';
import type { TaskRecord } from '../../protocol/records.ts';
import { isTerminal, mayBecome } from '../../protocol/task-state.ts';
import type { AgentTask } from '../../protocol/task.ts';
import { hasExecutor, settleMissingExecutors, settleReportedExecutors } from './agent-executors.ts';
import type { Report } from './agent-report.ts';
import { groupOf, knowFramework, reportOf } from './agent-report.ts';
import { addTask, releaseTask, removeTask, touchTask } from './books.ts';
import { taskTurnedUp } from './data-loss.ts';
import type { StepContext } from './effects.ts';
import { appendEvent, send } from './effects.ts';
import { isNewerLaunch } from './launch-ids.ts';
import { sendRunTask } from './launch.ts';
import { endResize, reconcileResources } from './resize.ts';
import { claimOf } from './pools.ts';
import { roleOf } from './role-books.ts';
import type { Agent } from './state.ts';
import { isRecovering } from './state.ts';
import { acknowledgeToAgent, endByMaster, tellByMaster } from './tasks.ts';

/** Answers the registration, then settles every difference. */
export function reconcileAgent(
  cx: StepContext,
  agent: Agent,
  message: MessageOf<'RegisterAgent'>,
  writtenOff: ReadonlySet<LaunchId>,
): void {
  const report = reportOf(message, writtenOff);
  const { agentId } = agent.record.info;
  for (const task of report.tasks.values()) forgetOlder(cx, agentId, task);
  const believed = [...agent.tasks];
  const resend = believed.flatMap((key) => {
    const task = cx.state.tasks.get(key);
    const isEnd = task && !isTerminal(task.state) && report.ended.has(task.launchId);
    return isEnd === true ? [task.launchId] : [];
  });
  const { masterId, epoch } = cx.state;
  send(cx, agentName(agentId), agent.record.session, {
    type: 'AgentRegistered',
    agentId,
    master: { masterId, epoch },
    resend,
  });
  settleReportedExecutors(cx, agent, report);
  for (const key of believed) settleBelieved(cx, agent, key, report);
  for (const task of report.tasks.values()) settleReported(cx, agent, task, report);
  endFallenGroups(cx, agent, report);
  settleMissingExecutors(cx, agent, report);
}

/** The master remembers a launch that a newer one has followed: it has ended, and Redis has lost that. */
function forgetOlder(cx: StepContext, agentId: AgentId, newer: AgentTask): void {
  const { frameworkId, taskId, launchId } = newer;
  const known = cx.state.tasks.get(taskKey(frameworkId, taskId));
  if (!known || !isNewerLaunch(cx.state.term, launchId, known.launchId)) return;
  if (!isTerminal(known.state)) {
    const other = cx.state.agents.get(known.agentId);
    // Should it run elsewhere after all: one task does not run twice.
    if (other && known.agentId !== agentId)
      endThere(cx, other, known, 'a newer launch of the task has turned up');
    releaseTask(cx.state, known);
    endResize(cx, known);
  }
  // Its framework has used the id again, so it knows the end; nobody else would tell the agent so.
  for (const status of known.unacknowledged) acknowledgeToAgent(cx, known.agentId, status);
  removeTask(cx.state, known);
  const reason = 'a newer launch of the task has turned up';
  appendEvent(cx, { type: 'task.forgotten', frameworkId, taskId, agentId: known.agentId, reason });
}

/** A task that the master knows on this agent, against the agent's word. */
function settleBelieved(cx: StepContext, agent: Agent, key: TaskKey, report: Report): void {
  const task = cx.state.tasks.get(key);
  if (!task || isTerminal(task.state) || report.ended.has(task.launchId)) return;
  const { taskId, launchId } = task;
  const onAgent = report.tasks.get(launchId);
  if (onAgent) adoptState(cx, agent, task, onAgent);
  else if (!sendAgain(cx, agent, task, report)) {
    endByMaster(cx, task, {
      state: 'TASK_LOST',
      reason: 'REASON_RECONCILIATION',
      message: 'the agent registered again and does not know the task',
    });
    const group = groupOf(cx, agent, task, report);
    if (group) group.lost ??= taskId;
    return;
  }
  if (task.killRequested !== undefined) sendKill(cx, agent, task, task.killRequested);
}

function sendKill(
  cx: StepContext,
  agent: Agent,
  { frameworkId, taskId, launchId, killGraceMs: gracePeriodMs }: TaskRecord,
  by: NonNullable<TaskRecord['killRequested']>,
): void {
  const { info, session } = agent.record;
  const grace = gracePeriodMs !== undefined && { gracePeriodMs };
  const message = { frameworkId, taskId, launchId, by, ...grace };
  send(cx, agentName(info.agentId), session, { type: 'KillTask', ...message });
}

/** One of a group is lost, so the others do not go on; some may wait for it on the agent, which would be for ever. */
function endFallenGroups(cx: StepContext, agent: Agent, report: Report): void {
  if (!report.groups) return;
  for (const key of agent.tasks) {
    const task = cx.state.tasks.get(key);
    const lost = task && groupOf(cx, agent, task, report)?.lost;
    if (!task || lost === undefined || task.killRequested || isTerminal(task.state)) continue;
    task.killRequested = 'framework';
    touchTask(cx.state, task);
    const { frameworkId, taskId, agentId } = task;
    const message = `task ${lost} of its group is lost`;
    const type = 'task.kill-requested';
    appendEvent(cx, { type, frameworkId, taskId, agentId, reason: 'framework', message });
    sendKill(cx, agent, task, 'framework');
  }
}

/** @returns false if its launch cannot be sent again: the agent may have had it, or something of it is not there any more */
function sendAgain(cx: StepContext, agent: Agent, task: TaskRecord, report: Report): boolean {
  const framework = cx.state.frameworks.get(task.frameworkId)?.record.info;
  if (!task.unheard || !task.info || !framework) return false;
  const group = groupOf(cx, agent, task, report);
  if (group?.hasFallen === true || !hasExecutor(cx, agent, task, report)) return false;
  // It was sent to a session that ended before the agent read it: that stream is gone, so it cannot run twice.
  backToStaging(cx, task);
  sendRunTask(cx, agent, { framework, task, groupSize: task.groupSize ?? group?.size });
  return true;
}

function adoptState(cx: StepContext, agent: Agent, task: TaskRecord, onAgent: AgentTask): void {
  task.unheard = false;
  touchTask(cx.state, task);
  // A terminal state comes with its own update, which the agent sends again after this.
  if (isTerminal(onAgent.state)) return;
  reconcileResources(cx, agent, task, onAgent.resources);
  if (task.state === 'TASK_UNREACHABLE') {
    tellByMaster(cx, task, {
      state: onAgent.state,
      reason: 'REASON_AGENT_REREGISTERED',
      message: 'its agent can be reached again',
    });
  } else if (task.state !== onAgent.state && mayBecome(task.state, onAgent.state)) {
    const { frameworkId, taskId, agentId, unacknowledged } = task;
    const { state } = onAgent;
    task.state = state;
    appendEvent(cx, {
      type: 'task.updated',
      frameworkId,
      taskId,
      agentId,
      state,
      ...(unacknowledged.length > 0 && { unacknowledged: unacknowledged.length }),
      reason: 'REASON_AGENT_REREGISTERED',
    });
  }
}

function backToStaging(cx: StepContext, task: TaskRecord): void {
  if (task.state !== 'TASK_UNREACHABLE') return;
  tellByMaster(cx, task, {
    state: 'TASK_STAGING',
    reason: 'REASON_AGENT_REREGISTERED',
    message: 'its agent can be reached again, and had not got the launch',
  });
}

/** A launch that the agent reports and that is not what the master believes to run. */
function settleReported(cx: StepContext, agent: Agent, task: AgentTask, report: Report): void {
  const surplus = surplusOf(cx, task, report);
  if (isTerminal(task.state)) {
    // Known: its update comes. Not known: it was acknowledged before, unless Redis has lost just that.
    const isDoubtful = surplus === undefined && isRecovering(cx.state, cx.nowMs);
    if (isDoubtful) knowFramework(cx, task.frameworkId, report);
  } else if (surplus !== undefined) endThere(cx, agent, task, surplus);
  else if (!cx.state.tasks.has(taskKey(task.frameworkId, task.taskId))) {
    adoptTask(cx, agent, task, report);
  }
}

/** @returns why a launch must not run any more; undefined if it may */
function surplusOf({ state }: StepContext, task: AgentTask, report: Report): string | undefined {
  const known = state.tasks.get(taskKey(task.frameworkId, task.taskId));
  if (known?.launchId === task.launchId) {
    return isTerminal(known.state) ? 'it was given up before' : undefined;
  }
  if (report.writtenOff.has(task.launchId)) return 'it was given up while the agent was away';
  if (known) return 'a newer launch of the task has its place';
  const isTornDown = state.cluster.tornDown.includes(task.frameworkId);
  return isTornDown ? 'its framework was torn down' : undefined;
}

type Launch = Pick<AgentTask, 'frameworkId' | 'taskId' | 'launchId'>;

function endThere(cx: StepContext, agent: Agent, task: Launch, reason: string): void {
  const { frameworkId, taskId, launchId } = task;
  const { agentId } = agent.record.info;
  const by = 'master';
  const { writtenOff } = agent.record;
  if (!writtenOff.includes(launchId)) writtenOff.push(launchId);
  cx.state.dirty.agents.add(agentId);
  send(cx, agentName(agentId), agent.record.session, {
    type: 'KillTask',
    frameworkId,
    taskId,
    launchId,
    by,
  });
  appendEvent(cx, { type: 'task.superseded', frameworkId, taskId, agentId, reason });
}

/** A task that the agent has and the master has never heard of: it is counted, whatever else becomes of it. */
function adoptTask(cx: StepContext, agent: Agent, task: AgentTask, report: Report): void {
  const { frameworkId, taskId, launchId, name, role, resources, state, rules, executorId } = task;
  const ofExecutor = executorId !== undefined && { executorId };
  const { agentId } = agent.record.info;
  knowFramework(cx, frameworkId, report);
  const record: TaskRecord = {
    frameworkId,
    taskId,
    launchId,
    agentId,
    name,
    ...(role !== undefined && { role }),
    resources,
    ...claimOf(agent, roleOf(cx.state, { role, frameworkId }), task),
    state,
    launchedAtMs: cx.nowMs,
    updatedAtMs: cx.nowMs,
    ...ofExecutor,
    ...(rules && { rules }),
    unheard: false,
    unacknowledged: [],
  };
  addTask(cx.state, record);
  appendEvent(cx, {
    type: 'task.adopted',
    frameworkId,
    taskId,
    launchId,
    agentId,
    ...ofExecutor,
    name,
    state,
    resources,
  });
  taskTurnedUp(cx, record);
}
