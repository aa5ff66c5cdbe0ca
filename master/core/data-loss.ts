/**
 * After Redis has lost data: it came back empty, or from a copy that lacks the last writes. What is missing is rebuilt
 * from the agents and frameworks as they register again; until all have had the time for it, nothing is said to be
 * unknown, because it may still turn up.
 */
import type { ClientName } from '../../protocol/keys.ts';
import { agentName } from '../../protocol/keys.ts';
import type { TaskRecord } from '../../protocol/records.ts';
import type { AgentFramework } from '../../protocol/task.ts';
import type { StepContext } from './effects.ts';
import { answerDeferred, forgetQuestions, tellStatus } from './questions.ts';
import { appendEvent, changeSession } from './effects.ts';
import { disconnectFramework } from './frameworks.ts';
import { rescindOffersOf } from './offers.ts';
import type { Agent } from './state.ts';
import { setFramework } from './books.ts';
import { setCluster } from './state.ts';
import { forgetFrameworkIfDone, killTask } from './tasks.ts';
import { beginFence } from './unreachable.ts';

/**
 * Every client registers again. Offers go: what they promise may be in use by tasks that are not known. And a launch that
 * nobody has confirmed is not sent again: the agent may have run it, and the confirmation may be what was lost.
 *
 * @param lostBefore sessions up to this number have ended; those above it were opened after the loss was found
 */
export function dataLost(
  cx: StepContext,
  lostBefore: number,
  unreadable: readonly ClientName[] = [],
): void {
  const { state } = cx;
  // Their sessions are nobody's now: with their next heartbeats they register again.
  for (const client of unreadable) {
    cx.effects.push({ type: 'session.set', client, session: undefined });
  }
  for (const agent of state.agents.values()) disconnectAgent(cx, agent);
  for (const framework of state.frameworks.values()) {
    disconnectFramework(cx, framework, 'Redis has lost data');
    // It may have been back since it was away, until now.
    if (framework.record.state === 'disconnected') {
      framework.record.disconnectedAtMs = cx.nowMs;
      state.dirty.frameworks.add(framework.record.info.frameworkId);
    }
  }
  for (const [key, task] of state.tasks) {
    if (!task.unheard && task.stoppedByMs === undefined) continue;
    task.unheard = false;
    // Its agent may have been back since, until now.
    if (task.stoppedByMs !== undefined) beginFence(cx, task);
    state.dirty.tasks.add(key);
  }
  const isNew = state.agents.size + state.frameworks.size + state.tasks.size === 0;
  if (!isNew) leaveLostEpochs(cx);
  const recoveringUntilMs = cx.nowMs + state.options.agentTimeoutMs;
  setCluster(state, { recoveringUntilMs, isNew, sessionsFrom: sessionsFromAfter(cx, lostBefore) });
  appendEvent(cx, {
    type: isNew ? 'cluster.begun' : 'cluster.recovering',
    reason: reasonOf(isNew, unreadable),
  });
}

/** Never lowered: numbers go on above a loss by the skew of clocks, so the time of the next one may be below it. */
function sessionsFromAfter({ state }: StepContext, lostBefore: number): number {
  return Math.max(lostBefore + 1, state.cluster.sessionsFrom ?? 0);
}

function disconnectAgent(cx: StepContext, agent: Agent): void {
  const reason = 'Redis has lost data';
  rescindOffersOf(cx, agent, reason);
  const { session, ...rest } = agent.record;
  if (rest.state !== 'active') return;
  const { agentId } = rest.info;
  changeSession(cx, agentName(agentId), session, undefined);
  agent.record = { ...rest, awaySinceMs: cx.nowMs };
  cx.state.dirty.agents.add(agentId);
  if (session !== undefined) appendEvent(cx, { type: 'agent.disconnected', agentId, reason });
}

function reasonOf(isNew: boolean, unreadable: readonly ClientName[]): string {
  if (isNew) return 'Redis holds nothing of this cluster';
  return unreadable.length > 0
    ? 'records could not be read'
    : 'Redis has restarted, failed over or been emptied';
}

/** An agent has seen a leader of this cluster before: it is not new, Redis has lost everything. */
export function noteOldAgent(cx: StepContext): void {
  if (!cx.state.cluster.isNew) return;
  leaveLostEpochs(cx);
  setCluster(cx.state, { isNew: false });
  appendEvent(cx, { type: 'cluster.recovering', reason: 'Redis has lost everything' });
}

/**
 * Nobody knows how many leaders there have been since: epochs go on at the time in seconds, which is above all of them,
 * because no cluster has a leader a second for long. (An agent that has seen an even higher one raises it once more.)
 */
function leaveLostEpochs({ state, nowMs }: StepContext): void {
  state.epoch = Math.max(state.epoch, Math.floor(nowMs / 1000));
}

/** A framework that only its tasks bear witness of: it is away, and its failover timeout runs from now. */
export function recoverFramework(cx: StepContext, { info, detached }: AgentFramework): void {
  setFramework(cx.state, {
    info,
    state: detached ? 'detached' : 'disconnected',
    registeredAtMs: cx.nowMs,
    ...(!detached && { disconnectedAtMs: cx.nowMs }),
    suppressed: false,
    suppressedRoles: [],
    deferred: [],
  });
  const { frameworkId, name, role } = info;
  const type = 'framework.recovered';
  const reason = 'an agent has tasks of it';
  appendEvent(cx, { type, frameworkId, name, role, ...(detached && { detached }), reason });
}

/** A task has come back: what was asked of it is answered. */
export function taskTurnedUp(cx: StepContext, task: TaskRecord): void {
  const framework = cx.state.frameworks.get(task.frameworkId);
  const questions = framework?.record.deferred.filter(({ taskId }) => taskId === task.taskId);
  if (!framework || !questions || questions.length === 0) return;
  forgetQuestions(cx, framework, task.taskId);
  tellStatus(cx, framework, task.taskId);
  if (questions.some(({ about }) => about === 'kill')) {
    const { frameworkId, taskId } = task;
    killTask(cx, { type: 'KillTask', frameworkId, taskId, by: 'framework' });
  }
}

/** The time for coming back is over: what has not turned up is not there. */
export function endRecovery(cx: StepContext): void {
  const { recoveringUntilMs } = cx.state.cluster;
  if (recoveringUntilMs === 0 || recoveringUntilMs > cx.nowMs) return;
  setCluster(cx.state, { recoveringUntilMs: 0, isNew: false, tornDown: [] });
  const reason = 'every agent has had the time to come back';
  appendEvent(cx, { type: 'cluster.recovered', reason });
  for (const framework of cx.state.frameworks.values()) {
    forgetFrameworkIfDone(cx, framework);
    answerDeferred(cx, framework);
  }
}
