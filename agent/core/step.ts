/**
 * The agent's core: one event in, effects out. Pure: what a task's next state is, which updates are owed, when a
 * kill becomes SIGKILL. The shell starts units, reads them when they end, and keeps checkpoints.
 */
import type { FrameworkId, LaunchId, TaskKey, UpdateId } from '../../protocol/ids.ts';
import { taskKey } from '../../protocol/ids.ts';
import { TEXT_MAX_CHARS } from '../../protocol/limits.ts';
import type { Message, MessageOf } from '../../protocol/messages.ts';
import { isTerminal } from '../../protocol/task-state.ts';
import type { TaskState } from '../../protocol/task-state.ts';
import type { LeaderInfo, TaskStatus } from '../../protocol/task.ts';
import { keepEnded, pruneEnded } from './ended.ts';
import { launchFailureOf } from './not-executed.ts';
import type { AgentState, AgentTaskEntry } from './state.ts';
import { taskUnit } from './unit-names.ts';
import type { EndedUnit, KilledBy, Verdict } from './verdict.ts';
import { judge, judgeLaunch } from './verdict.ts';

/** Numbers of the signals that an agent sends, signal(7). */
export const SIGKILL = 9;
export const SIGTERM = 15;

/** A task that is still there so long after SIGKILL gets it once more. */
const KILL_REPEAT_MS = 10_000;

/** Which launch of which task. */
export interface LaunchRef {
  readonly key: TaskKey;
  readonly launchId: LaunchId;
}

/** What happens to an agent. A launch that is not known (any more) makes an event do nothing. */
export type AgentEvent =
  | { readonly type: 'message'; readonly message: Message }
  /** The unit's command has been executed. */
  | ({ readonly type: 'unit.started' } & LaunchRef)
  /** There will be no process: the sandbox, the unit or the execution failed. */
  | ({
      readonly type: 'unit.failed';
      readonly exitStatus?: number | undefined;
      readonly message: string;
    } & LaunchRef)
  /** The command ended, everything of its cgroup is gone, and the result is stored. */
  | ({ readonly type: 'unit.ended'; readonly ended: EndedUnit } & LaunchRef)
  /** The kernel has ended a process of the task for memory, and others may be left: all of it ends (`OOMPolicy=kill`). */
  | ({ readonly type: 'unit.out-of-memory' } & LaunchRef)
  /** The task was on a node that has rebooted, or its unit vanished. */
  | ({ readonly type: 'unit.lost'; readonly message: string } & LaunchRef)
  | { readonly type: 'tick' };

/** What the shell has to do, in this order. An `entry` is the live one: it is read, not kept. */
export type AgentEffect =
  /** Write the checkpoint, prepare the sandbox, start the unit. */
  | { readonly type: 'task.start'; readonly entry: AgentTaskEntry }
  | { readonly type: 'unit.signal'; readonly entry: AgentTaskEntry; readonly signal: number }
  | { readonly type: 'message.send'; readonly message: Message }
  /** What is known of the framework, or that its end has been asked for, has changed. */
  | { readonly type: 'checkpoint.update'; readonly entry: AgentTaskEntry }
  /** The framework knows the end of the task: its checkpoint goes to those of ended launches. */
  | { readonly type: 'checkpoint.retire'; readonly entry: AgentTaskEntry }
  /** The end of a launch is so old that nobody can want to hear it again. */
  | { readonly type: 'ended.forget'; readonly launchId: LaunchId }
  /** Keep which leader there has been. */
  | { readonly type: 'leader.remember'; readonly leader: LeaderInfo }
  /** The master refuses this agent: it stops with this error, and its tasks go on. */
  | { readonly type: 'agent.stop'; readonly code: string; readonly message: string };

/**
 * @param state changed in place
 * @param nowMs monotonic milliseconds of this process
 */
export function step(state: AgentState, event: AgentEvent, nowMs: number): AgentEffect[] {
  const effects: AgentEffect[] = [];
  const cx: Context = { state, nowMs, effects };
  switch (event.type) {
    case 'message':
      handleMessage(cx, event.message);
      break;
    case 'unit.started':
      unitStarted(cx, event);
      break;
    case 'unit.failed':
      endTask(cx, event, (entry) => ({ ...judgeLaunch(entry.task, state.hostname, event) }));
      break;
    case 'unit.ended':
      endTask(cx, event, (entry) => judgeEnd(cx, entry, event.ended));
      break;
    case 'unit.out-of-memory': {
      const entry = liveEntry(cx, event);
      if (entry) effects.push({ type: 'unit.signal', entry, signal: SIGKILL });
      break;
    }
    case 'unit.lost':
      endTask(cx, event, () => ({
        state: 'TASK_LOST',
        reason: 'REASON_AGENT_RESTARTED',
        message: event.message,
      }));
      break;
    case 'tick':
      for (const entry of state.tasks.values()) killIfLate(cx, entry);
      for (const launchId of pruneEnded(state, nowMs)) {
        effects.push({ type: 'ended.forget', launchId });
      }
      break;
    default:
      event satisfies never;
  }
  return effects;
}

interface Context {
  readonly state: AgentState;
  readonly nowMs: number;
  readonly effects: AgentEffect[];
}

function handleMessage(cx: Context, message: Message): void {
  switch (message.type) {
    case 'RunTask':
      runTask(cx, message);
      return;
    case 'KillTask':
      killTask(cx, message);
      return;
    case 'ShutdownFramework':
      shutdownFramework(cx, message.frameworkId);
      return;
    case 'UpdateFramework':
      updateFramework(cx, message);
      return;
    case 'StatusUpdateAcknowledgement':
      acknowledge(cx, message);
      return;
    case 'AgentRegistered':
      registered(cx, message);
      return;
    case 'AgentError':
      cx.effects.push({ type: 'agent.stop', code: message.code, message: message.message });
      return;
    default:
      return; // Not for an agent; the shell has logged it.
  }
}

function registered(cx: Context, { master, resend }: MessageOf<'AgentRegistered'>): void {
  const { state } = cx;
  if (!state.leaderSeen || state.leaderSeen.epoch < master.epoch) {
    state.leaderSeen = master;
    cx.effects.push({ type: 'leader.remember', leader: master });
  }
  // The master may never have seen what was sent in another session; it knows repeated updates by their ids.
  for (const entry of state.tasks.values()) {
    for (const status of entry.updates) sendUpdate(cx, status);
  }
  for (const launchId of resend) sendEndAgain(cx, launchId);
}

/** @returns false if nothing is known of such an end */
function sendEndAgain(cx: Context, launchId: LaunchId): boolean {
  const ended = cx.state.ended.get(launchId);
  if (ended) sendUpdate(cx, ended.status);
  return ended !== undefined;
}

/** A launch that comes twice must not run twice, whatever the transport or a master without memory did. */
function runTask(cx: Context, message: MessageOf<'RunTask'>): void {
  const { state } = cx;
  const { framework, launchId, task } = message;
  const key = taskKey(framework.frameworkId, task.taskId);
  const known = state.tasks.get(key);
  if (known?.launchId === launchId || sendEndAgain(cx, launchId)) return;
  if (known && !isTerminal(known.state)) {
    refuseLaunch(cx, message, known);
    return;
  }
  // There would be no other launch unless the framework knew the end of this one: its acknowledgement was lost.
  if (known) retire(cx, known);
  const entry: AgentTaskEntry = {
    key,
    framework,
    detached: false,
    task,
    launchId,
    unit: taskUnit(state.agentTag, task.taskId, launchId),
    state: 'TASK_STAGING',
    started: false,
    updates: [],
  };
  state.tasks.set(key, entry);
  cx.effects.push({ type: 'task.start', entry });
}

/** Nothing of it is kept, so there is nothing to acknowledge. */
function refuseLaunch(
  cx: Context,
  { framework, launchId, task }: MessageOf<'RunTask'>,
  running: AgentTaskEntry,
): void {
  sendUpdate(cx, {
    frameworkId: framework.frameworkId,
    taskId: task.taskId,
    agentId: cx.state.agentId,
    launchId,
    state: 'TASK_ERROR',
    source: 'SOURCE_AGENT',
    reason: 'REASON_TASK_DUPLICATE',
    message: `launch ${running.launchId} of this task is still running on ${cx.state.hostname}`,
  });
}

function unitStarted(cx: Context, launch: LaunchRef): void {
  const entry = liveEntry(cx, launch);
  if (!entry || entry.started) return;
  entry.started = true;
  addUpdate(cx, entry, { state: 'TASK_RUNNING' });
  if (entry.kill) beginKill(cx, entry);
}

function killTask(cx: Context, message: MessageOf<'KillTask'>): void {
  const { frameworkId, taskId, launchId, by, gracePeriodMs } = message;
  const entry = cx.state.tasks.get(taskKey(frameworkId, taskId));
  if (!entry || (launchId !== undefined && launchId !== entry.launchId)) return;
  requestKill(cx, entry, by, gracePeriodMs);
}

function updateFramework(cx: Context, { framework, detached }: MessageOf<'UpdateFramework'>): void {
  for (const entry of cx.state.tasks.values()) {
    if (entry.framework.frameworkId !== framework.frameworkId) continue;
    entry.framework = framework;
    entry.detached = detached;
    cx.effects.push({ type: 'checkpoint.update', entry });
  }
}

function shutdownFramework(cx: Context, frameworkId: FrameworkId): void {
  for (const entry of cx.state.tasks.values()) {
    if (entry.framework.frameworkId === frameworkId) requestKill(cx, entry, 'framework');
  }
}

/**
 * A second kill can only shorten the grace period, and only if it names one: a master repeats a kill without the time that
 * its framework gave.
 */
function requestKill(
  cx: Context,
  entry: AgentTaskEntry,
  by: KilledBy,
  gracePeriodMs?: number,
): void {
  if (isTerminal(entry.state)) return;
  const deadlineMs = cx.nowMs + (gracePeriodMs ?? entry.task.killGracePeriodMs);
  const first = !entry.kill;
  if (entry.kill && (gracePeriodMs === undefined || entry.kill.deadlineMs <= deadlineMs)) return;
  entry.kill = { by: entry.kill?.by ?? by, deadlineMs };
  // Before the signal: an agent that dies in between must not call the end a failure, nor forget SIGKILL.
  cx.effects.push({ type: 'checkpoint.update', entry });
  // Before its command runs there is nothing to signal; `unitStarted` sees the request.
  if (first && entry.started) beginKill(cx, entry);
  killIfLate(cx, entry);
}

function beginKill(cx: Context, entry: AgentTaskEntry): void {
  addUpdate(cx, entry, { state: 'TASK_KILLING' });
  cx.effects.push({ type: 'unit.signal', entry, signal: SIGTERM });
}

/** Again and again, because a signal is lost while systemd cannot be reached or has not forked the process yet. */
function killIfLate(cx: Context, entry: AgentTaskEntry): void {
  const { kill } = entry;
  if (!kill || !entry.started || isTerminal(entry.state)) return;
  if (kill.deadlineMs > cx.nowMs) return;
  kill.deadlineMs = cx.nowMs + KILL_REPEAT_MS;
  cx.effects.push({ type: 'unit.signal', entry, signal: SIGKILL });
}

type Outcome = Verdict & Pick<TaskStatus, 'certificate'>;

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

/** The task of an event, unless it has ended or is another launch by now. */
function liveEntry({ state }: Context, { key, launchId }: LaunchRef): AgentTaskEntry | undefined {
  const entry = state.tasks.get(key);
  return entry?.launchId === launchId && !isTerminal(entry.state) ? entry : undefined;
}

/** Takes a new state, and owes the framework an update of it until that is acknowledged. */
function addUpdate(
  cx: Context,
  entry: AgentTaskEntry,
  outcome: { readonly state: TaskState } & Partial<Outcome>,
): void {
  entry.state = outcome.state;
  const { message } = outcome;
  const status: TaskStatus = {
    ...outcome,
    // A longer one (with the whole command in it, say) would make the master refuse the update, again and again.
    ...(message !== undefined && { message: message.slice(0, TEXT_MAX_CHARS) }),
    frameworkId: entry.framework.frameworkId,
    taskId: entry.task.taskId,
    agentId: cx.state.agentId,
    launchId: entry.launchId,
    // Made of the launch and the state, so that an agent that has restarted names the same update alike.
    updateId: `${entry.launchId}.${outcome.state}` as UpdateId,
    source: 'SOURCE_AGENT',
    unit: entry.unit,
  };
  entry.updates.push(status);
  entry.last = status;
  sendUpdate(cx, status);
}

function sendUpdate(cx: Context, status: TaskStatus): void {
  cx.effects.push({ type: 'message.send', message: { type: 'StatusUpdate', status } });
}

function acknowledge(cx: Context, message: MessageOf<'StatusUpdateAcknowledgement'>): void {
  const entry = cx.state.tasks.get(taskKey(message.frameworkId, message.taskId));
  if (!entry) return;
  entry.updates = entry.updates.filter(({ updateId }) => updateId !== message.updateId);
  // Who knows the end waits for nothing that was before it.
  const isEndKnown = entry.updates.every(({ state }) => !isTerminal(state));
  if (isTerminal(entry.state) && isEndKnown) retire(cx, entry);
}

/** From here on it is only remembered as ended. */
function retire(cx: Context, entry: AgentTaskEntry): void {
  const { launchId, last } = entry;
  cx.state.tasks.delete(entry.key);
  if (last) keepEnded(cx.state, launchId, { status: last, acknowledgedAtMs: cx.nowMs });
  cx.effects.push({ type: 'checkpoint.retire', entry });
}
