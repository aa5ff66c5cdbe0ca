/** `kaon frameworks`: who schedules, what each holds of the cluster, and what it still wants. */
import { formatCpus } from '../../protocol/quantities.ts';
import type { FrameworkRecord } from '../../protocol/records.ts';
import { formatResources } from '../../protocol/resources.ts';
import { rolesOf } from '../../protocol/task.ts';
import { frameworkJson, frameworkRows } from '../../io/registry-rows.ts';
import type { FrameworkRow } from '../../io/registry-rows.ts';
import { withStore } from '../connection.ts';
import { EXIT_OK } from '../failure.ts';
import type { ListOptions } from '../options.ts';
import { printListing } from '../print.ts';
import { readCluster } from '../registry.ts';
import type { Look, Paint } from '../style.ts';
import type { Column } from '../table.ts';
import { formatMibParts, formatPercent, formatSpan } from '../words.ts';

/** @returns the exit code */
export async function frameworks(options: ListOptions): Promise<number> {
  const cluster = await withStore(options, { name: 'frameworks' }, readCluster);
  printListing(
    {
      rows: frameworkRows(cluster),
      columns: (paint) => frameworkColumns(paint, cluster.nowMs),
      json: frameworkJson,
      none: `no frameworks in cluster ${options.cluster}`,
      unreadable: cluster.unreadable,
    },
    options,
  );
  return EXIT_OK;
}

const LOOKS: Readonly<Record<FrameworkRecord['state'], Look>> = {
  active: 'green',
  disconnected: 'yellow',
  detached: 'dim',
};

/** Columns of the table, with what the framework waits for last. */
export function frameworkColumns(paint: Paint, nowMs: number): Column<FrameworkRow>[] {
  return [
    { title: 'ID', text: ({ record }) => record.info.frameworkId },
    { title: 'NAME', text: ({ record }) => record.info.name, shrinksTo: 8 },
    { title: 'ROLES', text: ({ record }) => rolesOf(record.info).join(' '), shrinksTo: 8 },
    { title: 'USER', text: ({ record }) => record.info.user || '-', isSpare: true },
    {
      title: 'STATE',
      text: ({ record }) => record.state,
      paint: (text, { record }) => paint(LOOKS[record.state], text),
    },
    { title: 'TASKS', text: ({ use }) => String(use.taskCount), align: 'right' },
    { title: 'CPUS', text: ({ use }) => formatCpus(use.used.cpuMillis), align: 'right' },
    { title: 'MEM', text: ({ use }) => formatMibParts(use.used.memMib), align: 'right' },
    { title: 'SHARE', text: ({ share }) => formatPercent(share, 1), align: 'right' },
    {
      title: 'AGE',
      text: ({ record }) => formatSpan(record.registeredAtMs, nowMs),
      align: 'right',
    },
    { title: 'WANTS', text: ({ record }) => wants(record), shrinksTo: 16 },
  ];
}

/** @returns what it would be offered: `anything`, `nothing`, or its demand */
export function wants({ state, suppressed, demand }: FrameworkRecord): string {
  if (state !== 'active' || suppressed || demand?.length === 0) return 'nothing';
  if (demand === undefined) return 'anything';
  return demand
    .map(({ count, resources }) => `${String(count)} x (${formatResources(resources)})`)
    .join(' + ');
}
