/** `kaon replay`: the cluster as it was at some moment; and whether the log and the registry say the same of now. */
import type { RedisStore } from '../../io/redis-store.ts';
import { formatCpus } from '../../protocol/quantities.ts';
import type {
  Difference,
  ProjectedAgent,
  ProjectedExecutor,
  ProjectedFramework,
  ProjectedOffer,
  ProjectedTask,
  Projection,
} from '../../protocol/replay.ts';
import { compareProjections, toLists } from '../../protocol/replay.ts';
import { formatResources } from '../../protocol/resources.ts';
import { isTerminal } from '../../protocol/task-state.ts';
import { withStore } from '../connection.ts';
import type { EventPosition } from '../../protocol/event-position.ts';
import { EXIT_FAILED, EXIT_OK, usageError } from '../failure.ts';
import type { Moment, ReplayOptions } from '../options.ts';
import { printJson } from '../print.ts';
import { tellUnreadable } from '../registry.ts';
import type { Unreadable } from '../registry.ts';
import { readPresent, replayTo } from '../replay.ts';
import type { Replayed } from '../replay.ts';
import { paintFor, paintState } from '../style.ts';
import type { Paint } from '../style.ts';
import { formatTable } from '../table.ts';
import type { Column, TableOptions } from '../table.ts';
import { countOf, formatMibParts, formatTime, shortState } from '../words.ts';

/** Differences that are written out. */
const DIFFERENCES_MAX = 20;

interface Found {
  readonly atMs: number;
  readonly replayed: Replayed;
  /** Only of now: what the log and the registry say differently. */
  readonly differences?: readonly Difference[];
}

/** @returns the exit code: 1 if the log and the registry do not agree on what is now */
export async function replay(options: ReplayOptions): Promise<number> {
  const unreadable: Unreadable[] = [];
  const found = await withStore(options, { name: 'replay' }, (store) =>
    options.at ? replayThen(store, options.at, unreadable) : replayNow(store, unreadable),
  );
  tellUnreadable(unreadable);
  if (options.json) printJson(jsonOf(found));
  else printFound(found, options.wide);
  return found.differences && found.differences.length > 0 ? EXIT_FAILED : EXIT_OK;
}

async function replayThen(store: RedisStore, at: Moment, unreadable: Unreadable[]): Promise<Found> {
  const nowMs = await store.nowMs();
  const to = placeOf(at, nowMs);
  if (to.ms > nowMs) {
    throw usageError(
      `--at ${formatTime(to.ms)}: that is still to come; it is ${formatTime(nowMs)} by the clock of Redis`,
    );
  }
  return { atMs: to.ms, replayed: await replayTo(store, to, unreadable) };
}

function placeOf(at: Moment, nowMs: number): EventPosition {
  if ('after' in at) return at.after;
  const ms = 'atMs' in at ? at.atMs : Math.max(0, nowMs - at.agoMs);
  // Everything of that millisecond: no entry has so high a number.
  return { ms, sequence: Number.MAX_SAFE_INTEGER, index: Infinity };
}

async function replayNow(store: RedisStore, unreadable: Unreadable[]): Promise<Found> {
  const { cluster, projection, at } = await readPresent(store);
  unreadable.push(...cluster.unreadable);
  const replayed = await replayTo(store, at, unreadable);
  const differences = compareProjections(replayed.projection, projection);
  return { atMs: cluster.nowMs, replayed, differences };
}

function jsonOf({ atMs, replayed, differences }: Found): object {
  const { projection, snapshotMs, eventCount, last } = replayed;
  return {
    atMs,
    lastEvent: last ?? null,
    snapshotMs,
    eventCount,
    ...toLists(projection),
    ...(differences && {
      agrees: differences.length === 0,
      differences: differences.map(({ kind, id, first, second }) => ({
        kind,
        id,
        log: first ?? null,
        registry: second ?? null,
      })),
    }),
  };
}

function printFound({ atMs, replayed, differences }: Found, isWide: boolean): void {
  const paint = paintFor(process.stdout);
  const isCut = process.stdout.isTTY && !isWide;
  const table = { width: isCut ? process.stdout.columns || undefined : undefined, paint };
  process.stdout.write(describeReplayed(atMs, replayed, table));
  if (differences) process.stdout.write(`\n${describeDifferences(differences, paint)}`);
}

/** @returns when and from what, then a table of each kind of which there is any */
export function describeReplayed(
  atMs: number,
  { projection, snapshotMs, eventCount, last }: Replayed,
  table: TableOptions,
): string {
  const { agents, frameworks, offers, executors, tasks } = projection;
  const event = last === undefined ? 'before the first event' : `after event ${last}`;
  const heading =
    `${table.paint('bold', formatTime(atMs))}, ${event}` +
    ` (the snapshot of ${formatTime(snapshotMs)} and ${countOf(eventCount, 'event')} since)\n`;
  const recovering = projection.recovering
    ? `${table.paint('yellow', 'recovering after a loss of data')}: agents may still come back with tasks that are not listed\n`
    : '';
  const sections = [
    section('agents', agents, agentColumns(projection), table),
    section('frameworks', frameworks, FRAMEWORK_COLUMNS, table),
    section('offers', offers, OFFER_COLUMNS, table),
    ...(executors.size > 0 ? [section('executors', executors, EXECUTOR_COLUMNS, table)] : []),
    section('tasks', tasks, taskColumns(table.paint), table),
  ];
  return [heading, recovering, ...sections].join('');
}

function section<T>(
  title: string,
  entries: ReadonlyMap<string, T>,
  columns: readonly Column<T>[],
  table: TableOptions,
): string {
  const heading = `\n${table.paint('bold', title)}: `;
  if (entries.size === 0) return `${heading}none\n`;
  return `${heading}${String(entries.size)}\n${formatTable(columns, [...entries.values()], table)}`;
}

function agentColumns({ tasks }: Projection): Column<ProjectedAgent>[] {
  const counts = new Map<string, number>();
  for (const { agentId, state } of tasks.values()) {
    if (!isTerminal(state)) counts.set(agentId, (counts.get(agentId) ?? 0) + 1);
  }
  return [
    { title: 'ID', text: ({ agentId }) => agentId },
    { title: 'HOST', text: ({ hostname }) => hostname, shrinksTo: 8 },
    { title: 'STATE', text: ({ state, connected }) => stateOf(state, connected) },
    { title: 'CPUS', text: ({ resources }) => formatCpus(resources.cpuMillis), align: 'right' },
    { title: 'MEM', text: ({ resources }) => formatMibParts(resources.memMib), align: 'right' },
    { title: 'TASKS', text: ({ agentId }) => String(counts.get(agentId) ?? 0), align: 'right' },
  ];
}

/** Connected is what an active one is, and nobody else. */
function stateOf(state: string, connected: boolean): string {
  return state === 'active' && !connected ? 'active, not connected' : state;
}

const FRAMEWORK_COLUMNS: readonly Column<ProjectedFramework>[] = [
  { title: 'ID', text: ({ frameworkId }) => frameworkId },
  { title: 'NAME', text: ({ name }) => name, shrinksTo: 8 },
  { title: 'ROLE', text: ({ role }) => role, isSpare: true },
  { title: 'STATE', text: ({ state, connected }) => stateOf(state, connected) },
];

const OFFER_COLUMNS: readonly Column<ProjectedOffer>[] = [
  { title: 'ID', text: ({ offerId }) => offerId },
  { title: 'FRAMEWORK', text: ({ frameworkId }) => frameworkId },
  { title: 'AGENT', text: ({ agentId }) => agentId },
  { title: 'CPUS', text: ({ resources }) => formatCpus(resources.cpuMillis), align: 'right' },
  { title: 'MEM', text: ({ resources }) => formatMibParts(resources.memMib), align: 'right' },
];

const EXECUTOR_COLUMNS: readonly Column<ProjectedExecutor>[] = [
  { title: 'EXECUTOR', text: ({ path }) => path },
  { title: 'NAME', text: ({ name }) => name, shrinksTo: 8, isSpare: true },
  { title: 'CPUS', text: ({ resources }) => formatCpus(resources.cpuMillis), align: 'right' },
  { title: 'MEM', text: ({ resources }) => formatMibParts(resources.memMib), align: 'right' },
];

function taskColumns(paint: Paint): Column<ProjectedTask>[] {
  return [
    { title: 'TASK', text: ({ key }) => key },
    { title: 'NAME', text: ({ name }) => name, shrinksTo: 8, isSpare: true },
    {
      title: 'STATE',
      text: ({ state }) => shortState(state),
      // A cell that was cut to fit keeps its cut text and only gets the colour.
      paint: (text, { state }) => paintState(paint, state).replace(shortState(state), () => text),
    },
    { title: 'AGENT', text: ({ agentId }) => agentId },
    { title: 'CPUS', text: ({ resources }) => formatCpus(resources.cpuMillis), align: 'right' },
    { title: 'MEM', text: ({ resources }) => formatMibParts(resources.memMib), align: 'right' },
    { title: 'NOTE', text: noteOf, shrinksTo: 12 },
  ];
}

function noteOf(task: ProjectedTask): string {
  const { state, killRequested, unacknowledged, executorId, wished } = task;
  const parts: string[] = [];
  if (executorId !== undefined) parts.push(`of executor ${executorId}`);
  if (wished) parts.push(`to have ${formatResources(wished)}`);
  if (killRequested && !isTerminal(state)) parts.push(`kill requested by ${killRequested}`);
  if (unacknowledged > 0) parts.push(`${countOf(unacknowledged, 'update')} not acknowledged`);
  return parts.join('; ');
}

/** @returns whether the log and the registry agree, and on what they do not */
export function describeDifferences(differences: readonly Difference[], paint: Paint): string {
  if (differences.length === 0) {
    return `${paint('green', 'agrees')}: the event log and the registry say the same\n`;
  }
  const lines = differences.slice(0, DIFFERENCES_MAX).map(({ kind, id, first, second }) => {
    const said = (what: object | undefined): string =>
      what === undefined ? 'nothing' : JSON.stringify(what);
    return `  ${kind} ${id}\n    log       ${said(first)}\n    registry  ${said(second)}\n`;
  });
  const rest = differences.length - DIFFERENCES_MAX;
  const more = rest > 0 ? `  and ${String(rest)} more; --json has all\n` : '';
  const count = countOf(differences.length, 'difference');
  return `${paint('red', 'does not agree')}: ${count} between the event log and the registry\n${lines.join('')}${more}`;
}
