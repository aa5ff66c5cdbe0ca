/**
 * Brings together the executors that the master believes to be on an agent and those that the agent reports when it
 * registers, as `agent-tasks.ts` does with tasks:
 *
 * | the master | the agent | outcome |
 * |---|---|---|
 * | knows it | reports it | all is well |
 * | knows it, its framework was torn down | reports it | it is shut down |
 * | knows it, never heard of | does not | it is sent again, with the task that it was launched for |
 * | knows it | does not | it has ended: its framework is told that it is lost |
 * | knows an older launch | reports a newer | the newer is counted: Redis has lost what came between |
 * | knows a newer launch | reports an older | the older is shut down |
 * | has given it up, or its framework wants it to end | reports it | it is shut down |
 * | nothing | reports it | it is counted, with its framework if that is not known either |
 */
import type { AgentExecutor } from '../../protocol/executor.ts';
import type { LaunchId } from '../../protocol/ids.ts';
import { agentName } from '../../protocol/keys.ts';
import type { TaskRecord } from '../../protocol/records.ts';
import type { Report } from './agent-report.ts';
import { knowFramework } from './agent-report.ts';
import type { StepContext } from './effects.ts';
import { appendEvent, send } from './effects.ts';
import {
  dropExecutor,
  eventOf,
  executorEnded,
  recordExecutor,
  sendShutdown,
  writeOff,
} from './executors.ts';
import { isNewerLaunch, isNextLaunch } from './launch-ids.ts';
import { claimOf } from './pools.ts';
import { roleOf } from './role-books.ts';
import type { Agent, MasterState } from './state.ts';
import { findExecutor, isRecovering } from './state.ts';

/** Settles what the agent reports; to be called before its tasks are, which may need an executor. */
export function settleReportedExecutors(cx: StepContext, agent: Agent, report: Report): void {
  for (const executor of report.executors.values()) {
    const surplus = surplusOf(cx, agent, executor, report);
    if (surplus !== undefined) {
      endThere(cx, agent, executor, surplus);
      continue;
    }
    adoptIfNew(cx, agent, executor, report);
    tellIfDetached(cx, agent, executor, report);
  }
}

/** @returns why an executor must not be there any more; undefined if it may */
function surplusOf(
  cx: StepContext,
  agent: Agent,
  { frameworkId, launchId, info }: AgentExecutor,
  { writtenOff }: Report,
): string | undefined {
  const { state, nowMs } = cx;
  const known = findExecutor(state, agent.record.info.agentId, frameworkId, info.executorId);
  if (known && isNewerLaunch(state.term, known.launchId, launchId)) {
    return 'a newer launch of the executor has its place';
  }
  if (writtenOff.has(launchId)) {
    return known?.launchId === launchId
      ? 'its framework wants it to end'
      : 'it was given up while the agent was away';
  }
  const isTornDown = state.cluster.tornDown.includes(frameworkId);
  // While the cluster is recovering, a framework that is not known may just have been forgotten.
  const isGone =
    known?.launchId === launchId
      ? !state.frameworks.has(frameworkId) && (isTornDown || !isRecovering(state, nowMs))
      : isTornDown;
  return isGone ? 'its framework was torn down' : undefined;
}

/** It is not counted if it is not known; what is not wanted once is not wanted for as long as it is reported. */
function endThere(cx: StepContext, agent: Agent, executor: AgentExecutor, reason: string): void {
  const { frameworkId, launchId, info } = executor;
  const { executorId } = info;
  const { agentId } = agent.record.info;
  writeOff(cx, agent, launchId);
  sendShutdown(cx, { agentId, frameworkId, executorId }, launchId);
  appendEvent(cx, { type: 'executor.superseded', ...eventOf({ agentId, ...executor }), reason });
}

function adoptIfNew(
  cx: StepContext,
  agent: Agent,
  { frameworkId, launchId, info }: AgentExecutor,
  report: Report,
): void {
  const { agentId } = agent.record.info;
  knowFramework(cx, frameworkId, report);
  const known = findExecutor(cx.state, agentId, frameworkId, info.executorId);
  if (known?.launchId === launchId) return;
  if (known) dropExecutor(cx, known, { reason: 'a newer launch of the executor has turned up' });
  const role = roleOf(cx.state, { frameworkId });
  const reserved = claimOf(agent, role, info);
  const record = { agentId, frameworkId, launchId, info, ...reserved, launchedAtMs: cx.nowMs };
  recordExecutor(cx, record, 'executor.adopted');
}

/** It left while the agent was away: then the agent ends the executor after its last task. */
function tellIfDetached(
  cx: StepContext,
  agent: Agent,
  { frameworkId }: AgentExecutor,
  { message }: Report,
): void {
  const framework = cx.state.frameworks.get(frameworkId);
  if (framework?.record.state !== 'detached') return;
  const told = message.frameworks.find(({ info }) => info.frameworkId === frameworkId);
  if (told?.detached === true) return;
  const { info, session } = agent.record;
  const words = { framework: framework.record.info, detached: true };
  send(cx, agentName(info.agentId), session, { type: 'UpdateFramework', ...words });
}

/**
 * The executor of a task whose launch is sent again: it is there, or never got there either. One that has been there and
 * is not any more has ended, and is not started again: its framework decides.
 */
export function hasExecutor(
  { state }: StepContext,
  agent: Agent,
  { frameworkId, executorId }: TaskRecord,
  report: Report,
): boolean {
  if (executorId === undefined) return true;
  const executor = findExecutor(state, agent.record.info.agentId, frameworkId, executorId);
  if (!executor) return false;
  const { launchId } = executor;
  if (report.executors.has(launchId)) return true;
  const isOnItsWay = report.onTheirWay.get(launchId) ?? isUnheard(state, agent, launchId);
  report.onTheirWay.set(launchId, isOnItsWay);
  return isOnItsWay;
}

/** True if the task that it was launched for is on its way still: that is sent before any other. */
function isUnheard(state: MasterState, agent: Agent, launchId: LaunchId): boolean {
  for (const key of agent.tasks) {
    const task = state.tasks.get(key);
    if (task && isNextLaunch(launchId, task.launchId)) return task.unheard;
  }
  return false;
}

/** Forgets what the agent does not have; to be called after its tasks are settled. */
export function settleMissingExecutors(cx: StepContext, agent: Agent, report: Report): void {
  for (const path of [...agent.executors]) {
    const executor = cx.state.executors.get(path);
    if (!executor || report.executors.has(executor.launchId)) continue;
    if (report.onTheirWay.get(executor.launchId) === true) continue;
    const message = 'the agent registered again and does not have the executor';
    executorEnded(cx, executor, { reason: 'its agent does not have it', message });
  }
}
