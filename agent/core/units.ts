/** What systemd and the kernel do to units: their tasks and executors are told. Pure. */
import type { ExecutorKey } from '../../protocol/ids.ts';
import { liveExecutor } from './container.ts';
import type { AgentEvent, Context, LaunchRef } from './events.ts';
import { executorEnded, executorStarted } from './executors.ts';
import { launchFailureOf } from './not-executed.ts';
import type { AgentTaskEntry, ExecutorEntry } from './state.ts';
import { beginKill, SIGKILL } from './unit-kill.ts';
import type { Outcome } from './updates.ts';
import { addUpdate, liveEntry } from './updates.ts';
import { judgeExecutorEnd, judgeExecutorLaunch, judgeExecutorLost } from './verdict-hosted.ts';
import type { EndedUnit } from './verdict.ts';
import { judge, judgeLaunch } from './verdict.ts';

/** What happens to a unit, of a task or an executor. */
export type UnitEvent = Extract<
  AgentEvent,
  {
    type: 'unit.started' | 'unit.failed' | 'unit.ended' | 'unit.out-of-memory' | 'unit.lost';
  }
>;

/** To an executor if it is one's, else to a task; to nothing if it is not known any more. */
export function handleUnit(cx: Context, event: UnitEvent): void {
  const { key, launchId } = event;
  const executor = liveExecutor(cx, { key: key as ExecutorKey, launchId });
  if (executor) {
    handleExecutorUnit(cx, executor, event);
    return;
  }
  switch (event.type) {
    case 'unit.started':
      unitStarted(cx, event);
      return;
    case 'unit.failed':
      endTask(cx, event, (entry) => launchFailed(cx, entry, event));
      return;
    case 'unit.ended':
      endTask(cx, event, (entry) => judgeEnd(cx, entry, event.ended));
      return;
    case 'unit.out-of-memory': {
      const entry = liveEntry(cx, event);
      if (entry) cx.effects.push({ type: 'unit.signal', entry, signal: SIGKILL });
      return;
    }
    case 'unit.lost':
      endTask(cx, event, () => ({
        state: 'TASK_LOST',
        reason: 'REASON_AGENT_RESTARTED',
        message: event.message,
      }));
      return;
    default:
      event satisfies never;
  }
}

/** What is killed while it is prepared is never started, and that is no failure of its own. */
function launchFailed(
  { state }: Context,
  { task, kill }: AgentTaskEntry,
  event: Extract<UnitEvent, { type: 'unit.failed' }>,
): Outcome {
  if (kill && event.isStopped === true) {
    return {
      state: 'TASK_KILLED',
      reason: 'REASON_KILLED_DURING_LAUNCH',
      message: `killed on request of the ${kill.by} before it was started`,
    };
  }
  return judgeLaunch(task, state.hostname, event);
}

function handleExecutorUnit(cx: Context, executor: ExecutorEntry, event: UnitEvent): void {
  switch (event.type) {
    case 'unit.started':
      executorStarted(cx, executor, event.limits);
      return;
    case 'unit.failed':
      executorEnded(cx, executor, judgeExecutorLaunch(executor, cx.state.hostname, event));
      return;
    case 'unit.ended':
      executorEnded(cx, executor, judgeExecutorEnd(executor, event.ended));
      return;
    case 'unit.out-of-memory':
      cx.effects.push({ type: 'unit.signal', entry: executor, signal: SIGKILL });
      return;
    case 'unit.lost':
      executorEnded(cx, executor, judgeExecutorLost(executor, event.message));
      return;
    default:
      event satisfies never;
  }
}

function unitStarted(cx: Context, launch: LaunchRef): void {
  const entry = liveEntry(cx, launch);
  if (!entry || entry.started) return;
  entry.started = true;
  addUpdate(cx, entry, { state: 'TASK_RUNNING' });
  if (entry.kill) beginKill(cx, entry);
}

/** Of a script that could not execute its command the same is said as of a command that systemd could not execute. */
function judgeEnd({ state }: Context, entry: AgentTaskEntry, ended: EndedUnit): Outcome {
  const { task, launchId, kill } = entry;
  const { certificate } = ended;
  const exitStatus = launchFailureOf(certificate, launchId);
  const verdict =
    exitStatus === undefined
      ? judge(ended, task, kill?.by)
      : judgeLaunch(task, state.hostname, { exitStatus, message: 'it was not executed' });
  return { ...verdict, certificate };
}

function endTask(cx: Context, launch: LaunchRef, decide: (entry: AgentTaskEntry) => Outcome): void {
  const entry = liveEntry(cx, launch);
  if (entry) addUpdate(cx, entry, decide(entry));
}
