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
import { recoverFramework, taskTurnedUp } from './data-loss.ts';
import type { StepContext } from './effects.ts';
import { appendEvent, send } from './effects.ts';
import type { Agent } from './state.ts';
import { addTask, isRecovering, releaseTask, removeTask, touchTask } from './state.ts';
import { sendRunTask } from './launch.ts';
import { acknowledgeToAgent, endByMaster, tellByMaster } from './tasks.ts';

/** An agent's registration, as it is compared. */
interface Report {
  readonly message: MessageOf<'RegisterAgent'>;
  /** Live, or ended and not acknowledged. */
  readonly tasks: ReadonlyMap<LaunchId, AgentTask>;
  /** Ended and acknowledged. */
  readonly ended: ReadonlySet<LaunchId>;
  /** Launches that the master has ended on its own word while the agent was away. */
  readonly writtenOff: ReadonlySet<LaunchId>;
}

/** Answers the registration, then settles every difference. */
export function reconcileAgent(
  cx: StepContext,
  agent: Agent,
  message: MessageOf<'RegisterAgent'>,
  writtenOff: ReadonlySet<LaunchId>,
): void {
  const report: Report = {
    message,
    tasks: new Map(message.tasks.map((task) => [task.launchId, task])),
    ended: new Set(message.ended.map(({ launchId }) => launchId)),
    writtenOff,
  };
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
  for (const key of believed) settleBelieved(cx, agent, key, report);
  for (const task of report.tasks.values()) settleReported(cx, agent, task, report);
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
  }
  // Its framework has used the id again, so it knows the end; nobody else would tell the agent so.
  for (const status of known.unacknowledged) acknowledgeToAgent(cx, known.agentId, status);
  removeTask(cx.state, known);
  const reason = 'a newer launch of the task has turned up';
  appendEvent(cx, { type: 'task.forgotten', frameworkId, taskId, agentId: known.agentId, reason });
}

/** Launch ids are `EPOCH.TERM.NUMBER`; nothing is newer than what this term has made. */
function isNewerLaunch(ownTerm: string, a: LaunchId, b: LaunchId): boolean {
  const [aEpoch = '', aTerm, aNumber = ''] = a.split('.');
  const [bEpoch = '', bTerm, bNumber = ''] = b.split('.');
  if (bTerm === ownTerm && aTerm !== ownTerm) return false;
  if (aEpoch !== bEpoch) return Number(aEpoch) > Number(bEpoch);
  return aTerm === bTerm && Number(aNumber) > Number(bNumber);
}

/** A task that the master knows on this agent, against the agent's word. */
function settleBelieved(cx: StepContext, agent: Agent, key: TaskKey, report: Report): void {
  const task = cx.state.tasks.get(key);
  if (!task || isTerminal(task.state) || report.ended.has(task.launchId)) return;
  const { session } = agent.record;
  const { frameworkId, taskId, launchId } = task;
  const framework = cx.state.frameworks.get(frameworkId)?.record;
  const onAgent = report.tasks.get(launchId);
  if (onAgent) adoptState(cx, task, onAgent);
  else if (task.unheard && task.info && framework) {
    // It was sent to a session that ended before the agent read it: that stream is gone, so it cannot run twice.
    backToStaging(cx, task);
    sendRunTask(cx, agent, framework.info, task);
  } else {
    endByMaster(cx, task, {
      state: 'TASK_LOST',
      reason: 'REASON_RECONCILIATION',
      message: 'the agent registered again and does not know the task',
    });
    return;
  }
  if (task.killRequested === undefined) return;
  const by = task.killRequested;
  send(cx, agentName(task.agentId), session, {
    type: 'KillTask',
    frameworkId,
    taskId,
    launchId,
    by,
    ...(task.killGraceMs !== undefined && { gracePeriodMs: task.killGraceMs }),
  });
}

function adoptState(cx: StepContext, task: TaskRecord, onAgent: AgentTask): void {
  task.unheard = false;
  touchTask(cx.state, task);
  // A terminal state comes with its own update, which the agent sends again after this.
  if (isTerminal(onAgent.state)) return;
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
    if (isDoubtful) knowFramework(cx, task, report);
  } else if (surplus !== undefined) endThere(cx, agent, task, surplus);
  else if (!cx.state.tasks.has(taskKey(task.frameworkId, task.taskId))) {
    adoptTask(cx, agent.record.info.agentId, task, report);
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
function adoptTask(cx: StepContext, agentId: AgentId, task: AgentTask, report: Report): void {
  const { frameworkId, taskId, launchId, name, resources, state, rules } = task;
  knowFramework(cx, task, report);
  const record: TaskRecord = {
    frameworkId,
    taskId,
    launchId,
    agentId,
    name,
    resources,
    state,
    launchedAtMs: cx.nowMs,
    updatedAtMs: cx.nowMs,
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
    name,
    state,
    resources,
  });
  taskTurnedUp(cx, record);
}

/** A framework that the cluster has forgotten is known again by the word of an agent. */
function knowFramework(cx: StepContext, { frameworkId }: AgentTask, report: Report): void {
  if (cx.state.frameworks.has(frameworkId)) return;
  const framework = report.message.frameworks.find(({ info }) => info.frameworkId === frameworkId);
  if (framework) recoverFramework(cx, framework);
}
