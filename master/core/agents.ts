/** Agents: registration with what they run, silence, and leaving. */
import type { AgentId, TaskKey } from '../../protocol/ids.ts';
import { taskKey } from '../../protocol/ids.ts';
import { agentName, frameworkName } from '../../protocol/keys.ts';
import type { MessageOf } from '../../protocol/messages.ts';
import type { TaskRecord } from '../../protocol/records.ts';
import { areEqual } from '../../protocol/resources.ts';
import { isTerminal, mayBecome } from '../../protocol/task-state.ts';
import type { AgentTask } from '../../protocol/task.ts';
import type { StepContext } from './effects.ts';
import { appendEvent, changeSession, send } from './effects.ts';
import { rescindOffersOf } from './offers.ts';
import type { Agent } from './state.ts';
import { addTask, removeAgent, setAgent, touchTask } from './state.ts';
import { applyStatus } from './tasks.ts';

/**
 * An agent registers, for the first time or again. What it says that it runs is the truth; what the master
 * believes and the agent does not know is launched (it never got there) or lost (it did).
 */
export function registerAgent(cx: StepContext, message: MessageOf<'RegisterAgent'>): void {
  const { agent: info, session } = message;
  const { agentId } = info;
  const known = cx.state.agents.get(agentId);
  const sessionBefore = known?.record.session;
  if (sessionBefore === session) return; // Sent twice: the answer is in the stream already.
  if (known && !areEqual(known.record.info.resources, info.resources)) {
    rescindOffersOf(cx, known, 'the agent has other resources than before');
  }
  const agent = setAgent(cx.state, {
    info,
    session,
    state: 'active',
    registeredAtMs: known?.record.registeredAtMs ?? cx.nowMs,
  });
  changeSession(cx, agentName(agentId), sessionBefore, session);
  cx.state.allocationDue = true;
  appendEvent(cx, {
    type: known ? 'agent.reregistered' : 'agent.registered',
    agentId,
    resources: info.resources,
    message: info.hostname,
  });
  send(cx, agentName(agentId), session, { type: 'AgentRegistered', agentId });
  reconcileTasks(cx, agent, message.tasks);
}

/** Brings the master's tasks of this agent and the agent's own together. */
function reconcileTasks(cx: StepContext, agent: Agent, tasks: readonly AgentTask[]): void {
  const { agentId } = agent.record.info;
  const reported = new Map(tasks.map((task) => [taskKey(task.frameworkId, task.taskId), task]));
  for (const key of [...agent.tasks]) reconcileTask(cx, agent, key, reported);
  for (const [key, task] of reported) {
    if (!cx.state.tasks.has(key)) adoptTask(cx, agentId, task);
  }
}

/** A task that the master knows on this agent, against the agent's word. */
function reconcileTask(
  cx: StepContext,
  agent: Agent,
  key: TaskKey,
  reported: ReadonlyMap<TaskKey, AgentTask>,
): void {
  const task = cx.state.tasks.get(key);
  if (!task || isTerminal(task.state)) return;
  const { session } = agent.record;
  const client = agentName(task.agentId);
  const { frameworkId, taskId } = task;
  const onAgent = reported.get(key);
  if (onAgent) {
    adoptState(cx, task, onAgent);
  } else if (task.unheard && task.info && cx.state.frameworks.has(frameworkId)) {
    // It was sent to a session that ended before the agent read it: that stream is gone, so it cannot run twice.
    const frameworkTitle = cx.state.frameworks.get(frameworkId)?.record.info.name ?? '';
    send(cx, client, session, {
      type: 'RunTask',
      frameworkId,
      frameworkName: frameworkTitle,
      task: task.info,
    });
  } else {
    loseTask(cx, task, 'the agent registered again and does not know the task');
    return;
  }
  if (!cx.state.frameworks.has(frameworkId) && task.info) {
    // This cluster launched it and removed its framework meanwhile. A task without `info` was only found on the
    // agent: its framework may still come back, for example after Redis has lost its data.
    send(cx, client, session, { type: 'ShutdownFramework', frameworkId });
  } else if (task.killRequested !== undefined) {
    send(cx, client, session, { type: 'KillTask', frameworkId, taskId, by: task.killRequested });
  }
}

function adoptState(cx: StepContext, task: TaskRecord, onAgent: AgentTask): void {
  task.unheard = false;
  touchTask(cx.state, task);
  // A terminal state comes with its own update, which the agent sends again after this.
  if (isTerminal(onAgent.state) || !mayBecome(task.state, onAgent.state)) return;
  task.state = onAgent.state;
}

/** A task that the agent runs and the master has never heard of: it is counted, whatever else becomes of it. */
function adoptTask(cx: StepContext, agentId: AgentId, { unit: _unit, ...task }: AgentTask): void {
  if (isTerminal(task.state)) return; // Ended: only its update matters, and the agent sends that itself.
  addTask(cx.state, {
    ...task,
    agentId,
    launchedAtMs: cx.nowMs,
    updatedAtMs: cx.nowMs,
    unheard: false,
    unacknowledged: [],
  });
  const { frameworkId, taskId, state } = task;
  appendEvent(cx, { type: 'task.adopted', frameworkId, taskId, agentId, state });
}

/** Ends a task on the master's word, because its agent cannot. */
function loseTask(cx: StepContext, task: TaskRecord, message: string): void {
  const { frameworkId, taskId, agentId } = task;
  applyStatus(cx, task, {
    frameworkId,
    taskId,
    agentId,
    // Derived and not drawn: the same loss, decided again after a failover, has the same id.
    updateId: `lost:${taskId}`.slice(0, 100) as NonNullable<TaskRecord['status']>['updateId'],
    state: 'TASK_LOST',
    source: 'SOURCE_MASTER',
    reason: 'REASON_RECONCILIATION',
    message,
  });
}

/** Not heard of for the agent timeout: no offers of it, and its tasks are left alone, for they may well run. */
export function agentSilent(cx: StepContext, agent: Agent): void {
  const { record } = agent;
  if (record.state !== 'active') return;
  const { agentId } = record.info;
  rescindOffersOf(cx, agent, 'the agent is not reachable');
  changeSession(cx, agentName(agentId), record.session, undefined);
  const { session: _session, ...rest } = record;
  setAgent(cx.state, { ...rest, state: 'unreachable', unreachableAtMs: cx.nowMs });
  appendEvent(cx, {
    type: 'agent.unreachable',
    agentId,
    reason: 'no heartbeat for the agent timeout',
  });
}

/** The agent says that it leaves for good: its tasks are lost, and every framework is told. */
export function unregisterAgent(cx: StepContext, agent: Agent): void {
  const { agentId } = agent.record.info;
  rescindOffersOf(cx, agent, 'the agent has left');
  for (const key of [...agent.tasks]) {
    const task = cx.state.tasks.get(key);
    if (task && !isTerminal(task.state)) loseTask(cx, task, 'the agent has left the cluster');
  }
  changeSession(cx, agentName(agentId), agent.record.session, undefined);
  removeAgent(cx.state, agent);
  appendEvent(cx, { type: 'agent.removed', agentId, reason: 'it left' });
  for (const { record } of cx.state.frameworks.values()) {
    send(cx, frameworkName(record.info.frameworkId), record.session, {
      type: 'LostAgent',
      agentId,
    });
  }
}
