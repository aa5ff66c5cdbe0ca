/** `kaon tasks`: what runs, and with `--all` also what has ended. */
import { formatCpus, formatMib } from '../../protocol/quantities.ts';
import { withStore } from '../connection.ts';
import { EXIT_OK } from '../failure.ts';
import type { TasksOptions } from '../options.ts';
import { printListing } from '../print.ts';
import { readCluster, readHistory } from '../registry.ts';
import type { RegistrySource, Unreadable } from '../registry.ts';
import { paintState } from '../style.ts';
import type { Paint } from '../style.ts';
import type { Column } from '../table.ts';
import { taskJson, viewOfEnded, viewOfLive } from '../task-view.ts';
import type { TaskView } from '../task-view.ts';
import { formatSpan, shortState } from '../words.ts';

/** @returns the exit code */
export async function tasks(options: TasksOptions): Promise<number> {
  const unreadable: Unreadable[] = [];
  const { rows, nowMs } = await withStore(options, { name: 'tasks' }, (store) =>
    readRows(store, options, unreadable),
  );
  printListing(
    {
      rows,
      columns: (paint) => taskColumns(paint, nowMs, options.all),
      json: taskJson,
      none: options.all
        ? `no tasks in cluster ${options.cluster}`
        : `no tasks in cluster ${options.cluster}; --all shows those that have ended`,
      unreadable,
    },
    options,
  );
  return EXIT_OK;
}

async function readRows(
  source: RegistrySource,
  options: TasksOptions,
  unreadable: Unreadable[],
): Promise<{ rows: TaskView[]; nowMs: number }> {
  const cluster = await readCluster(source);
  unreadable.push(...cluster.unreadable);
  const known = cluster.tasks.map((record) => viewOfLive(record, cluster.frameworks));
  const live = known.filter(({ endedAtMs }) => endedAtMs === undefined);
  live.sort((a, b) => b.launchedAtMs - a.launchedAtMs);
  if (!options.all) return { rows: live, nowMs: cluster.nowMs };
  const ended = known.filter(({ endedAtMs }) => endedAtMs !== undefined);
  const read: TaskView[] = [];
  for await (const record of readHistory(source, unreadable)) {
    if (read.push(viewOfEnded(record)) >= options.limit) break;
  }
  ended.push(...read);
  ended.sort((a, b) => (b.endedAtMs ?? 0) - (a.endedAtMs ?? 0));
  return { rows: [...live, ...ended.slice(0, options.limit)], nowMs: cluster.nowMs };
}

/** @param isAll with a column that says how long ago a task ended */
export function taskColumns(paint: Paint, nowMs: number, isAll: boolean): Column<TaskView>[] {
  const columns: Column<TaskView>[] = [
    { title: 'ID', text: ({ taskId }) => taskId },
    { title: 'NAME', text: ({ name }) => name, shrinksTo: 8 },
    { title: 'FRAMEWORK', text: ({ frameworkId }) => frameworkId, isSpare: true },
    {
      title: 'STATE',
      text: ({ state }) => shortState(state),
      // A cell that was cut to fit keeps its cut text and only gets the colour.
      paint: (text, { state }) => paintState(paint, state).replace(shortState(state), () => text),
    },
    { title: 'AGENT', text: ({ agentId }) => agentId, isSpare: true },
    { title: 'CPUS', text: ({ resources }) => formatCpus(resources.cpuMillis), align: 'right' },
    { title: 'MEM', text: ({ resources }) => formatMib(resources.memMib), align: 'right' },
    { title: isAll ? 'RAN' : 'AGE', text: (view) => ranFor(view, nowMs), align: 'right' },
  ];
  if (isAll) {
    columns.push({
      title: 'ENDED',
      text: ({ endedAtMs }) =>
        endedAtMs === undefined ? '-' : `${formatSpan(endedAtMs, nowMs)} ago`,
      align: 'right',
    });
  }
  columns.push({ title: 'MESSAGE', text: (view) => messageOfTask(view, nowMs), shrinksTo: 24 });
  return columns;
}

/** @returns how long its process ran, where the node knows it; else since the launch */
export function ranFor({ launchedAtMs, endedAtMs, status }: TaskView, nowMs: number): string {
  const { startedAtMs, endedAtMs: exitedAtMs } = status?.certificate ?? {};
  if (startedAtMs !== undefined && exitedAtMs !== undefined)
    return formatSpan(startedAtMs, exitedAtMs);
  return formatSpan(launchedAtMs, endedAtMs ?? nowMs);
}

/** @returns since when, and what its node does with it: `for 2m; its node stops it within 3m` */
function describeUnreachable(
  { sinceMs, stoppedByMs }: NonNullable<TaskView['unreachable']>,
  nowMs: number,
): string {
  const fate =
    stoppedByMs === undefined
      ? 'goes on if its node lives'
      : `its node stops it within ${formatSpan(nowMs, stoppedByMs)}`;
  return `for ${formatSpan(sinceMs, nowMs)}; ${fate}`;
}

/** @returns what is worth knowing of it now, in a few words; '' where the state says it all */
export function messageOfTask(view: TaskView, nowMs: number): string {
  const { status, killRequested, isUnheard, isUnacknowledged, endedAtMs, unreachable } = view;
  const parts: string[] = [];
  if (unreachable) parts.push(describeUnreachable(unreachable, nowMs));
  else if (status?.message !== undefined) parts.push(status.message);
  else if (endedAtMs === undefined && isUnheard) parts.push('waiting for its agent');
  if (endedAtMs === undefined && killRequested !== undefined) {
    parts.push(`kill requested by ${killRequested}`);
  }
  if (isUnacknowledged) parts.push('its framework has not acknowledged it');
  return parts.join('; ');
}
