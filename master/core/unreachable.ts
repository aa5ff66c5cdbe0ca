/**
 * Agents that are not heard of. Their tasks may well be running, so nothing is said to have ended before it must have:
 * a task that its node stops after a time is over when that time is, any other waits for its agent or an operator.
 */
import { agentName } from '../../protocol/keys.ts';
import { formatDuration } from '../../protocol/quantities.ts';
import type { TaskRecord } from '../../protocol/records.ts';
import { isTerminal } from '../../protocol/task-state.ts';
import type { StepContext } from './effects.ts';
import { appendEvent, changeSession } from './effects.ts';
import { rescindOffersOf } from './offers.ts';
import type { Agent, MasterState } from './state.ts';
import { setAgent } from './books.ts';
import { rulesOf } from './state.ts';
import { endByMaster, tellByMaster } from './tasks.ts';

/** From so many silent agents on, their share is looked at: of two nodes one is a half. */
const SUSPICION_MIN_AGENTS = 3;

/**
 * What is added to the time after which a node stops a task, before the task is said to have ended, milliseconds: the
 * agent may have had an answer until just before the commit that makes it unreachable (one lease), counts from a second
 * after that at most, and systemd takes its time.
 */
export const FENCE_MARGIN_MS = 10_000;

/** An agent, and when it was last heard of. */
export interface SilentAgent {
  readonly agent: Agent;
  readonly seenMs: number;
}

/** Decides which silent agents are called unreachable now: not too many a minute, and none if too many are silent. */
export function agentsSilent(cx: StepContext, silent: readonly SilentAgent[]): void {
  const { state } = cx;
  const { unreachableShareMax } = state.options;
  const candidates = silent.filter(({ agent }) => agent.record.state === 'active');
  const reachable = [...state.agents.values()].filter(({ record }) => record.state === 'active');
  const isTooMany =
    candidates.length >= SUSPICION_MIN_AGENTS &&
    candidates.length > reachable.length * unreachableShareMax;
  if (isTooMany !== state.isSuspicious) {
    state.isSuspicious = isTooMany;
    appendEvent(cx, {
      type: isTooMany ? 'agents.silence-doubted' : 'agents.silence-believed',
      message: `${String(candidates.length)} of ${String(reachable.length)} agents are silent, at most ${String(unreachableShareMax * 100)} % are believed at once`,
    });
  }
  if (isTooMany) return;
  for (const each of candidates) {
    if (!takeRemoval(state, cx.nowMs)) return; // The rest is still silent when the next look comes.
    agentUnreachable(cx, each);
  }
}

/** One from a bucket that holds a minute's worth and fills evenly. */
function takeRemoval(state: MasterState, nowMs: number): boolean {
  const { removals, options } = state;
  const perMinute = options.agentRemovalsPerMinute;
  const filled = removals.left + ((nowMs - removals.atMs) / 60_000) * perMinute;
  removals.left = Math.min(perMinute, filled);
  removals.atMs = nowMs;
  if (removals.left < 1) return false;
  removals.left -= 1;
  return true;
}

/** No offers of it any more; its frameworks hear that its tasks are TASK_UNREACHABLE, and until when at most. */
function agentUnreachable(cx: StepContext, { agent, seenMs }: SilentAgent): void {
  const { record } = agent;
  const { agentId } = record.info;
  rescindOffersOf(cx, agent, 'the agent is not reachable');
  changeSession(cx, agentName(agentId), record.session, undefined);
  const { session: _session, ...rest } = record;
  setAgent(cx.state, { ...rest, state: 'unreachable', awaySinceMs: cx.nowMs });
  const silence = `not heard of for ${formatDuration(Math.max(0, cx.nowMs - seenMs))}`;
  appendEvent(cx, { type: 'agent.unreachable', agentId, reason: silence });
  for (const key of agent.tasks) {
    const task = cx.state.tasks.get(key);
    if (task && !isTerminal(task.state)) taskUnreachable(cx, task, silence);
  }
}

function taskUnreachable(cx: StepContext, task: TaskRecord, silence: string): void {
  const { whenUnreachable: when = 'keep' } = rulesOf(task);
  let fate = 'it goes on if its node lives';
  if (when !== 'keep') {
    beginFence(cx, task);
    fate = `its node stops it after ${formatDuration(when.stopAfterMs)}`;
  }
  tellByMaster(cx, task, {
    state: 'TASK_UNREACHABLE',
    reason: 'REASON_AGENT_DISCONNECTED',
    message: `agent ${task.agentId} was ${silence}; ${fate}`,
  });
}

/** Its node counts from now at the latest, if it stops the task at all. */
export function beginFence(cx: StepContext, task: TaskRecord): void {
  const { whenUnreachable: when = 'keep', killGracePeriodMs = 0 } = rulesOf(task);
  if (when === 'keep') return;
  task.stoppedByMs = cx.nowMs + when.stopAfterMs + killGracePeriodMs + FENCE_MARGIN_MS;
}

/** Ends tasks that their nodes have stopped by now, whatever became of the agents. */
export function expireUnreachableTasks(cx: StepContext): void {
  for (const agent of cx.state.agents.values()) {
    if (agent.record.state !== 'unreachable') continue;
    for (const key of [...agent.tasks]) {
      const task = cx.state.tasks.get(key);
      if (!task || isTerminal(task.state)) continue;
      if (task.stoppedByMs === undefined || task.stoppedByMs > cx.nowMs) continue;
      agent.record.writtenOff.push(task.launchId);
      cx.state.dirty.agents.add(task.agentId);
      endByMaster(cx, task, {
        state: 'TASK_GONE',
        reason: 'REASON_STOPPED_WHEN_UNREACHABLE',
        message: `agent ${task.agentId} did not come back in time; its node has stopped the task by now`,
      });
    }
  }
}
