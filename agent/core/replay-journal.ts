/** An executor's tasks as they were when the agent before this one ended: its journal, taken line by line. Pure. */
import { taskKey } from '../../protocol/ids.ts';
import type { LaunchId } from '../../protocol/ids.ts';
import { addResources, subtractResources } from '../../protocol/resources.ts';
import { isTerminal } from '../../protocol/task-state.ts';
import { setNeeded } from './container.ts';
import type { Context, JournalLine } from './events.ts';
import { addHosted, applyUpdate } from './hosted.ts';
import { leave, restoreEnd } from './hosted-end.ts';
import type { AgentState, AgentTaskEntry, ExecutorEntry } from './state.ts';
import { retire } from './updates.ts';

type LaunchLine = Extract<JournalLine, { type: 'launch' }>;
/** What is said of a launch after it. */
type LaterLine = Exclude<JournalLine, { type: 'launch' | 'registered' }>;

/** Adds the tasks of a journal to an executor that has none. What follows from a line has been done before. */
export function replayJournal(
  state: AgentState,
  executor: ExecutorEntry,
  lines: readonly JournalLine[],
  nowMs: number,
): void {
  // Tasks of its own: of two launches of one task, in two journals, it shows only at the end which is over.
  const own: AgentState = { ...state, tasks: new Map() };
  const cx: Context = { state: own, nowMs, effects: [] };
  const entries = new Map<LaunchId, AgentTaskEntry>();
  for (const line of lines) {
    if (line.type === 'registered') executor.isRegistered = true;
    else if (line.type === 'launch') entries.set(line.launchId, replayLaunch(cx, executor, line));
    else {
      const entry = entries.get(launchOf(line));
      if (entry) replayLine(cx, executor, entry, line);
    }
  }
  for (const entry of own.tasks.values()) addReplayed(state, entry);
  executor.peak = executor.needed;
  executor.hasJournal = true;
}

function launchOf(line: LaterLine): LaunchId {
  switch (line.type) {
    case 'update':
      return line.taken.update.launchId;
    case 'end':
      return line.status.launchId ?? ('' as LaunchId);
    default:
      return line.launchId;
  }
}

function replayLaunch(
  cx: Context,
  executor: ExecutorEntry,
  { launchId, task, groupSize }: LaunchLine,
): AgentTaskEntry {
  const key = taskKey(executor.framework.frameworkId, task.taskId);
  const before = cx.state.tasks.get(key);
  // Its end, or word of it, is missing in the journal.
  if (before && !isTerminal(before.state)) leave(cx, executor, before);
  if (before) retire(cx, before);
  const entry = addHosted(cx, executor, { key, task, launchId, groupSize });
  // Whether it has been handed over nobody knows but the executor: until that has spoken it counts as such.
  entry.started = true;
  executor.waiting.delete(entry);
  return entry;
}

function replayLine(
  cx: Context,
  executor: ExecutorEntry,
  entry: AgentTaskEntry,
  line: LaterLine,
): void {
  switch (line.type) {
    case 'update':
      if (!isTerminal(entry.state)) applyUpdate(cx, executor, entry, line.taken);
      return;
    case 'end':
      if (!isTerminal(entry.state)) restoreEnd(cx, entry, line.status);
      return;
    case 'kill':
      entry.kill = { by: line.by, deadlineMs: cx.nowMs + line.gracePeriodMs };
      return;
    case 'resize': {
      if (isTerminal(entry.state)) return;
      const others = subtractResources(executor.needed, entry.task.resources);
      setNeeded(executor, addResources(others, line.resources));
      entry.task = { ...entry.task, resources: line.resources };
      return;
    }
    case 'acknowledged':
      // Once: another launch may have its place.
      if (isTerminal(entry.state) && cx.state.tasks.get(entry.key) === entry) retire(cx, entry);
      return;
    default:
      line satisfies never;
  }
}

/** There would be no second launch of a task unless the end of the first were known: only word of that was lost. */
function addReplayed(state: AgentState, entry: AgentTaskEntry): void {
  const other = state.tasks.get(entry.key);
  const over = other && isTerminal(entry.state) ? entry : other;
  if (over?.hosted && isTerminal(over.state)) over.hosted.executor.unacknowledged -= 1;
  if (over !== entry) state.tasks.set(entry.key, entry);
}
