/**
 * The agent's core: one event in, effects out. Pure: what a task's next state is, which updates are owed, when a
 * kill becomes SIGKILL. The shell starts units, reads them when they end, and keeps checkpoints.
 */
import type { FrameworkId, UpdateId } from '../../protocol/ids.ts';
import { taskKey } from '../../protocol/ids.ts';
import { TEXT_MAX_CHARS } from '../../protocol/limits.ts';
import type { Message, MessageOf } from '../../protocol/messages.ts';
import { isTerminal } from '../../protocol/task-state.ts';
import type { TaskKey } from '../../protocol/ids.ts';
import type { TaskState } from '../../protocol/task-state.ts';
import type { TaskStatus } from '../../protocol/task.ts';
import type { AgentState, AgentTaskEntry } from './state.ts';
import { taskUnit } from './unit-names.ts';
import type { EndedUnit, Verdict } from './verdict.ts';
import { judge, judgeLaunch } from './verdict.ts';

/** Numbers of the signals that an agent sends, signal(7). */
export const SIGKILL = 9;
export const SIGTERM = 15;

/** A task that is still there so long after SIGKILL gets it once more. */
const KILL_REPEAT_MS = 10_000;

/** What happens to an agent. `key` of a task that is not known (any more) makes an event do nothing. */
export type AgentEvent =
  | { readonly type: 'message'; readonly message: Message }
  /** The unit's command has been executed. */
  | { readonly type: 'unit.started'; readonly key: TaskKey }
  /** There will be no process: the sandbox, the unit or the execution failed. */
  | {
      readonly type: 'unit.failed';
      readonly key: TaskKey;
      readonly exitStatus?: number | undefined;
      readonly message: string;
    }
  /** The command ended, everything of its cgroup is gone, and the result is in the checkpoint. */
  | { readonly type: 'unit.ended'; readonly key: TaskKey; readonly ended: EndedUnit }
  /** The kernel has ended a process of the task for memory, and others may be left: all of it ends (`OOMPolicy=kill`). */
  | { readonly type: 'unit.out-of-memory'; readonly key: TaskKey }
  /** The task was on a node that has rebooted, or its unit vanished. */
  | { readonly type: 'unit.lost'; readonly key: TaskKey; readonly message: string }
  | { readonly type: 'tick' };

/** What the shell has to do, in this order. An `entry` is the live one: it is read, not kept. */
export type AgentEffect =
  /** Prepare the sandbox, write the checkpoint, start the unit. */
  | { readonly type: 'task.start'; readonly entry: AgentTaskEntry }
  | { readonly type: 'unit.signal'; readonly entry: AgentTaskEntry; readonly signal: number }
  | { readonly type: 'message.send'; readonly message: Message }
  /** The framework knows the end of the task: the checkpoint may go. */
  | { readonly type: 'checkpoint.remove'; readonly entry: AgentTaskEntry };

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
      unitStarted(cx, event.key);
      break;
    case 'unit.failed':
      endTask(cx, event.key, (entry) => ({ ...judgeLaunch(entry.task, state.hostname, event) }));
      break;
    case 'unit.ended':
      endTask(cx, event.key, (entry) => ({
        ...judge(event.ended, entry.task, entry.kill?.by),
        certificate: event.ended.certificate,
      }));
      break;
    case 'unit.out-of-memory': {
      const entry = state.tasks.get(event.key);
      if (entry && !isTerminal(entry.state))
        effects.push({ type: 'unit.signal', entry, signal: SIGKILL });
      break;
    }
    case 'unit.lost':
      endTask(cx, event.key, () => ({
        state: 'TASK_LOST',
        reason: 'REASON_AGENT_RESTARTED',
        message: event.message,
      }));
      break;
    case 'tick':
      for (const entry of state.tasks.values()) killIfLate(cx, entry);
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
    case 'StatusUpdateAcknowledgement':
      acknowledge(cx, message);
      return;
    case 'AgentRegistered':
      // The master may never have seen what was sent in another session; it knows repeated updates by their ids.
      for (const entry of cx.state.tasks.values()) {
        for (const status of entry.updates) sendUpdate(cx, status);
      }
      return;
    default:
      return; // Not for an agent; the shell has logged it.
  }
}

function runTask(cx: Context, message: MessageOf<'RunTask'>): void {
  const { state } = cx;
  const { frameworkId, frameworkName, task } = message;
  const key = taskKey(frameworkId, task.taskId);
  // A launch that comes twice must not run twice, whatever the transport did.
  if (state.tasks.has(key)) return;
  const launchId = `${state.launchPrefix}${String(state.nextLaunch++)}`;
  const entry: AgentTaskEntry = {
    key,
    frameworkId,
    frameworkName,
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

function unitStarted(cx: Context, key: TaskKey): void {
  const entry = cx.state.tasks.get(key);
  if (!entry || entry.started || isTerminal(entry.state)) return;
  entry.started = true;
  addUpdate(cx, entry, { state: 'TASK_RUNNING' });
  if (entry.kill) beginKill(cx, entry);
}

function killTask(cx: Context, message: MessageOf<'KillTask'>): void {
  const entry = cx.state.tasks.get(taskKey(message.frameworkId, message.taskId));
  if (entry) requestKill(cx, entry, message.by, message.gracePeriodMs);
}

function shutdownFramework(cx: Context, frameworkId: FrameworkId): void {
  for (const entry of cx.state.tasks.values()) {
    if (entry.frameworkId === frameworkId) requestKill(cx, entry, 'framework');
  }
}

/** A second kill can only shorten the grace period. */
function requestKill(
  cx: Context,
  entry: AgentTaskEntry,
  by: 'framework' | 'operator',
  gracePeriodMs = entry.task.killGracePeriodMs,
): void {
  if (isTerminal(entry.state)) return;
  const deadlineMs = cx.nowMs + gracePeriodMs;
  const first = !entry.kill;
  if (entry.kill && entry.kill.deadlineMs <= deadlineMs) return;
  entry.kill = { by: entry.kill?.by ?? by, deadlineMs };
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

function endTask(cx: Context, key: TaskKey, decide: (entry: AgentTaskEntry) => Outcome): void {
  const entry = cx.state.tasks.get(key);
  if (!entry || isTerminal(entry.state)) return;
  addUpdate(cx, entry, decide(entry));
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
    frameworkId: entry.frameworkId,
    taskId: entry.task.taskId,
    agentId: cx.state.agentId,
    // Made of the launch and the state, so that an agent that has restarted names the same update alike.
    updateId: `${entry.launchId}.${outcome.state}` as UpdateId,
    source: 'SOURCE_AGENT',
    unit: entry.unit,
  };
  entry.updates.push(status);
  sendUpdate(cx, status);
}

function sendUpdate(cx: Context, status: TaskStatus): void {
  cx.effects.push({ type: 'message.send', message: { type: 'StatusUpdate', status } });
}

function acknowledge(cx: Context, message: MessageOf<'StatusUpdateAcknowledgement'>): void {
  const key = taskKey(message.frameworkId, message.taskId);
  const entry = cx.state.tasks.get(key);
  if (!entry) return;
  entry.updates = entry.updates.filter(({ updateId }) => updateId !== message.updateId);
  if (entry.updates.length > 0 || !isTerminal(entry.state)) return;
  cx.state.tasks.delete(key);
  cx.effects.push({ type: 'checkpoint.remove', entry });
}
