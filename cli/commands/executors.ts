/** `kaon executors`: the executors on the nodes, and what each holds with its tasks. */
import type { ExecutorRecord } from '../../protocol/records.ts';
import { executorPath } from '../../protocol/replay.ts';
import { addResources, formatResources } from '../../protocol/resources.ts';
import type { Resources } from '../../protocol/resources.ts';
import { isTerminal } from '../../protocol/task-state.ts';
import { withStore } from '../connection.ts';
import { EXIT_OK } from '../failure.ts';
import type { ExecutorsOptions } from '../options.ts';
import { printListing } from '../print.ts';
import { readCluster } from '../registry.ts';
import type { Cluster } from '../registry.ts';
import type { Column } from '../table.ts';
import { formatSpan } from '../words.ts';

/** An executor, and its tasks that have not ended. */
export interface ExecutorRow {
  readonly record: ExecutorRecord;
  readonly taskCount: number;
  /** Its own and those of its tasks: the limits of its container. */
  readonly total: Resources;
}

/** @returns the exit code */
export async function executors(options: ExecutorsOptions): Promise<number> {
  const cluster = await withStore(options, { name: 'executors' }, readCluster);
  const { framework } = options;
  const rows = executorRows(cluster, framework);
  const ofWhich = framework === undefined ? '' : ` of framework ${framework}`;
  printListing(
    {
      rows,
      columns: () => executorColumns(cluster.nowMs),
      json: ({ record, taskCount, total }) => ({ ...record, taskCount, total }),
      none: `no executors${ofWhich} in cluster ${options.cluster}`,
      unreadable: cluster.unreadable,
    },
    options,
  );
  return EXIT_OK;
}

/**
 * @param framework only those of frameworks whose name is this or whose id begins with it
 * @returns the executors by framework, then agent, then id
 */
export function executorRows(
  { executors: records, tasks, frameworks }: Pick<Cluster, 'executors' | 'tasks' | 'frameworks'>,
  framework?: string,
): ExecutorRow[] {
  const names = new Map(frameworks.map(({ info }) => [info.frameworkId, info.name]));
  const rows = new Map<string, ExecutorRow>();
  for (const record of records) {
    const { frameworkId } = record;
    const isMeant =
      framework === undefined ||
      frameworkId.startsWith(framework) ||
      names.get(frameworkId) === framework;
    const total = record.info.resources;
    if (isMeant) rows.set(pathOf(record), { record, taskCount: 0, total });
  }
  for (const { agentId, frameworkId, executorId, resources, state } of tasks) {
    if (executorId === undefined || isTerminal(state)) continue;
    const path = executorPath(agentId, frameworkId, executorId);
    const row = rows.get(path);
    if (!row) continue;
    const total = addResources(row.total, resources);
    rows.set(path, { ...row, taskCount: row.taskCount + 1, total });
  }
  const keyOf = ({ record }: ExecutorRow): string =>
    `${record.frameworkId}\n${record.agentId}\n${record.info.executorId}`;
  return [...rows.values()].sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));
}

function pathOf({ agentId, frameworkId, info }: ExecutorRecord): string {
  return executorPath(agentId, frameworkId, info.executorId);
}

/** Columns of the table. */
export function executorColumns(nowMs: number): Column<ExecutorRow>[] {
  return [
    { title: 'EXECUTOR', text: ({ record }) => record.info.executorId },
    { title: 'FRAMEWORK', text: ({ record }) => record.frameworkId },
    { title: 'AGENT', text: ({ record }) => record.agentId },
    { title: 'TASKS', text: ({ taskCount }) => String(taskCount), align: 'right' },
    { title: 'OWN', text: ({ record }) => formatResources(record.info.resources) },
    { title: 'TOTAL', text: ({ total }) => formatResources(total) },
    { title: 'AGE', text: ({ record }) => formatSpan(record.launchedAtMs, nowMs), align: 'right' },
  ];
}
