/** Agents: registration with what they run, refusal, and leaving for good. */
import type { LaunchId } from '../../protocol/ids.ts';
import { isOlderSession } from '../../protocol/ids.ts';
import { agentName, frameworkName } from '../../protocol/keys.ts';
import type { MessageOf } from '../../protocol/messages.ts';
import type { AgentRecord } from '../../protocol/records.ts';
import { areEqual } from '../../protocol/resources.ts';
import type { TaskReason, TaskState } from '../../protocol/task-state.ts';
import { isTerminal } from '../../protocol/task-state.ts';
import type { AgentInfo } from '../../protocol/task.ts';
import { reconcileAgent } from './agent-tasks.ts';
import { noteOldAgent } from './data-loss.ts';
import { reportedDirectories, settleDirectories } from './directories.ts';
import type { StepContext } from './effects.ts';
import { appendEvent, changeSession, send } from './effects.ts';
import { executorEnded } from './executors.ts';
import { rescindIfOvercommitted, rescindOffersOf } from './offers.ts';
import { isFromBeforeLoss } from './sessions.ts';
import type { Agent } from './state.ts';
import { removeAgent, setAgent } from './books.ts';
import { endByMaster } from './tasks.ts';

/** How long an agent that is gone is remembered, milliseconds: 30 days. */
const GONE_KEEP_MS = 2_592_000_000;

/** An agent registers, for the first time or again. What it says that it runs is the truth. */
export function registerAgent(cx: StepContext, message: MessageOf<'RegisterAgent'>): void {
  const known = cx.state.agents.get(message.agent.agentId);
  if (known && !isNewSession(cx, known, message)) return;
  if (isFromBeforeLoss(cx.state, message.session, message.leaderSeen !== undefined)) {
    ignoreLate(cx, message, 'its session was opened before the last loss of data');
    return;
  }
  const refusal = known && refusalOf(cx, known, message);
  if (refusal !== undefined) {
    refuse(cx, message, refusal);
    return;
  }
  raiseEpoch(cx, message);
  if (message.leaderSeen) noteOldAgent(cx);
  admit(cx, message, known);
}

/** From here on the agent's new session counts. */
function admit(
  cx: StepContext,
  message: MessageOf<'RegisterAgent'>,
  known: Agent | undefined,
): void {
  const { agent: info, session, node } = message;
  const { agentId } = info;
  if (known && !isSameSupply(known.record.info, info)) {
    rescindOffersOf(cx, known, 'the agent has other resources than before');
  }
  const before = known?.record;
  const agent = setAgent(cx.state, {
    info,
    session,
    newestSession: session,
    node,
    state: 'active',
    registeredAtMs: before?.registeredAtMs ?? cx.nowMs,
    // For as long as it reports them: it may miss the word that ends them, or come back before it has acted on it.
    writtenOff: stillReported(before, message),
    ...ownerIn(cx),
    ...saidOf(before),
    ...reportedDirectories(before, message),
  });
  changeSession(cx, agentName(agentId), before?.session, session);
  appendEvent(cx, {
    type: (before?.state ?? 'gone') === 'gone' ? 'agent.registered' : 'agent.reregistered',
    agentId,
    resources: info.resources,
    name: info.hostname,
  });
  settleDirectories(cx, agent, before);
  reconcileAgent(cx, agent, message, new Set(before?.writtenOff));
  rescindIfOvercommitted(cx, agent, 'the agent has come back with more tasks');
}

/** What operators have said of an agent stays. */
function saidOf(before: Partial<AgentRecord> = {}): Partial<AgentRecord> {
  const { drain, deactivatedAtMs } = before;
  return {
    ...(drain && { drain }),
    ...(deactivatedAtMs !== undefined && { deactivatedAtMs }),
  };
}

/** Whether it gives as much to everybody as before. */
function isSameSupply(before: AgentInfo, now: AgentInfo): boolean {
  const reservedIn = ({ reservations = [] }: AgentInfo): string => JSON.stringify(reservations);
  return areEqual(before.resources, now.resources) && reservedIn(before) === reservedIn(now);
}

/** As whom it speaks: from here on the master signs for that key. */
function ownerIn({ principal }: StepContext): Pick<AgentRecord, 'principal' | 'generation'> {
  return principal ? { principal: principal.name, generation: principal.generation } : {};
}

function isNewSession(
  cx: StepContext,
  { record }: Agent,
  message: MessageOf<'RegisterAgent'>,
): boolean {
  const { session } = message;
  if (record.newestSession === session) return false; // Sent twice: the answer is in the stream already.
  if (!isOlderSession(session, record.newestSession)) return true;
  // Late, from a process whose successor has registered: to listen to it would cut the living one off.
  ignoreLate(cx, message, 'a newer session has been registered');
  return false;
}

function ignoreLate(cx: StepContext, { agent }: MessageOf<'RegisterAgent'>, reason: string): void {
  const from = agentName(agent.agentId);
  cx.effects.push({ type: 'message.ignore', from, messageType: 'RegisterAgent', reason });
}

interface Refusal {
  readonly code: string;
  readonly message: string;
}

/**
 * Another installation claims the id: a copied disk, or two agents with one `--agent-id`. If it were let in, the tasks of
 * the first would be taken for lost while they run.
 */
function refusalOf(
  cx: StepContext,
  agent: Agent,
  message: MessageOf<'RegisterAgent'>,
): Refusal | undefined {
  const { record } = agent;
  if (record.state === 'gone' || record.node === message.node) return undefined;
  const { agentId } = record.info;
  const where = `agent ${agentId} is known on ${record.info.hostname}, another installation`;
  if (record.state === 'active' && record.session !== undefined) {
    return { code: 'agent-id-taken', message: `${where}, and is connected` };
  }
  const unfinished = unreported(cx, agent, message);
  if (unfinished === undefined) return undefined;
  return {
    code: 'agent-id-taken',
    message: `${where}, with ${unfinished} that may be running; if that node is gone for good: kaon gone ${agentId}`,
  };
}

/** What the master knows to be on an agent and this registration does not speak of; undefined: nothing. */
function unreported(
  { state }: StepContext,
  agent: Agent,
  message: MessageOf<'RegisterAgent'>,
): string | undefined {
  const reported = launchesIn(message);
  const tasks = [...agent.tasks].filter((key) => {
    const task = state.tasks.get(key);
    return task && !isTerminal(task.state) && !reported.has(task.launchId);
  });
  const executors = [...agent.executors].filter((path) => {
    const executor = state.executors.get(path);
    return executor && !reported.has(executor.launchId);
  });
  const parts = [counted(tasks.length, 'task'), counted(executors.length, 'executor')];
  const found = parts.filter((part) => part !== undefined);
  return found.length === 0 ? undefined : found.join(' and ');
}

function counted(count: number, what: string): string | undefined {
  if (count === 0) return undefined;
  return `${String(count)} ${count === 1 ? what : `${what}s`}`;
}

/** Launches of tasks and executors that the agent has. */
function launchesIn({ tasks, executors }: MessageOf<'RegisterAgent'>): ReadonlySet<LaunchId> {
  return new Set([...tasks, ...executors].map(({ launchId }) => launchId));
}

/** The answer goes to a session that is never registered: its stream is made for this, and expires. */
function refuse(cx: StepContext, message: MessageOf<'RegisterAgent'>, refusal: Refusal): void {
  const { agentId } = message.agent;
  const client = agentName(agentId);
  const farewell = { type: 'AgentError' as const, ...refusal };
  const isRefusal = true;
  cx.effects.push({ type: 'stream.end', client, session: message.session, farewell, isRefusal });
  appendEvent(cx, {
    type: 'agent.refused',
    agentId,
    reason: refusal.code,
    message: `${refusal.message}; refused: ${message.agent.hostname}`,
  });
}

/** The cluster has forgotten epochs that its agents have seen: it goes on above them, so that none comes twice. */
function raiseEpoch({ state }: StepContext, { leaderSeen }: MessageOf<'RegisterAgent'>): void {
  if (!leaderSeen || leaderSeen.epoch < state.epoch) return;
  if (leaderSeen.epoch === state.epoch && leaderSeen.masterId === state.masterId) return;
  state.epoch = leaderSeen.epoch + 1;
}

/** Of the launches that were given up, those that the agent has. */
function stillReported(
  before: AgentRecord | undefined,
  message: MessageOf<'RegisterAgent'>,
): LaunchId[] {
  // Another installation has the id for now: what it does not report is still with the first one.
  if (before && before.node !== message.node) return before.writtenOff;
  const reported = launchesIn(message);
  return before?.writtenOff.filter((launchId) => reported.has(launchId)) ?? [];
}

/** Its session ends, and it registers again when its next heartbeat tells it so: it does not read, for example. */
export function agentOverflowing(cx: StepContext, agent: Agent, reason: string): void {
  const { agentId } = agent.record.info;
  rescindOffersOf(cx, agent, 'the agent is not connected any more');
  changeSession(cx, agentName(agentId), agent.record.session, undefined);
  const { session: _session, ...rest } = agent.record;
  setAgent(cx.state, { ...rest, awaySinceMs: rest.awaySinceMs ?? cx.nowMs });
  appendEvent(cx, { type: 'agent.disconnected', agentId, reason });
}

/** The agent says that it leaves for good: its tasks are lost, and every framework is told. */
export function unregisterAgent(cx: StepContext, agent: Agent): void {
  giveUpAgent(cx, agent, {
    state: 'TASK_LOST',
    reason: 'REASON_AGENT_REMOVED',
    message: 'the agent has left the cluster',
    event: 'it left',
  });
}

/** An operator says that the node will not come back: its tasks have ended, whatever the node may think. */
export function markAgentGone(cx: StepContext, agent: Agent): void {
  giveUpAgent(cx, agent, {
    state: 'TASK_GONE_BY_OPERATOR',
    reason: 'REASON_AGENT_REMOVED_BY_OPERATOR',
    message: 'an operator said that the node is gone for good',
    event: 'an operator said so',
  });
}

interface GivingUp {
  readonly state: TaskState;
  readonly reason: TaskReason;
  readonly message: string;
  readonly event: string;
}

/**
 * Ends its tasks on the master's word, and forgets its executors; their launches are remembered: should they come back,
 * they are ended for real.
 */
function giveUpAgent(cx: StepContext, agent: Agent, why: GivingUp): void {
  const { record } = agent;
  const { agentId } = record.info;
  if (record.state === 'gone') return;
  const { state, reason, message } = why;
  rescindOffersOf(cx, agent, 'the agent has left');
  const writtenOff: LaunchId[] = [...record.writtenOff];
  for (const key of [...agent.tasks]) {
    const task = cx.state.tasks.get(key);
    if (!task || isTerminal(task.state)) continue;
    writtenOff.push(task.launchId);
    endByMaster(cx, task, { state, reason, message });
  }
  for (const path of [...agent.executors]) {
    const executor = cx.state.executors.get(path);
    if (!executor) continue;
    writtenOff.push(executor.launchId);
    executorEnded(cx, executor, { reason: why.event, message });
  }
  changeSession(cx, agentName(agentId), record.session, undefined);
  const { session: _session, ...rest } = record;
  setAgent(cx.state, { ...rest, state: 'gone', awaySinceMs: cx.nowMs, writtenOff });
  appendEvent(cx, { type: 'agent.removed', agentId, reason: why.event });
  for (const framework of cx.state.frameworks.values()) {
    const { info, session } = framework.record;
    send(cx, frameworkName(info.frameworkId), session, { type: 'LostAgent', agentId });
  }
}

/** Forgets agents that have been gone for long. */
export function forgetGoneAgents(cx: StepContext): void {
  for (const agent of [...cx.state.agents.values()]) {
    const { state, awaySinceMs = cx.nowMs } = agent.record;
    if (state !== 'gone' || cx.nowMs - awaySinceMs < GONE_KEEP_MS) continue;
    removeAgent(cx.state, agent);
    const { agentId } = agent.record.info;
    appendEvent(cx, { type: 'agent.forgotten', agentId, reason: 'gone for 30 days' });
  }
}
