/** `kaon frameworks`: who schedules, what each holds of the cluster, and what it still wants. */
import { formatCpus } from '../../protocol/quantities.ts';
import type { FrameworkRecord } from '../../protocol/records.ts';
import { formatResources, sumResources } from '../../protocol/resources.ts';
import type { Resources } from '../../protocol/resources.ts';
import { withStore } from '../connection.ts';
import { EXIT_OK } from '../failure.ts';
import type { ListOptions } from '../options.ts';
import { printListing } from '../print.ts';
import { readCluster, sumUse, useOf } from '../registry.ts';
import type { Cluster, Use } from '../registry.ts';
import type { Look, Paint } from '../style.ts';
import type { Column } from '../table.ts';
import { formatMibParts, formatPercent, formatSpan } from '../words.ts';

/** A framework and what its tasks and executors hold. */
export interface FrameworkRow {
  readonly record: FrameworkRecord;
  readonly use: Use;
  /** See `dominantShare`. */
  readonly share: number;
}

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

/** @returns the frameworks by age, the oldest first, as ties of the allocator go */
export function frameworkRows(
  cluster: Pick<Cluster, 'agents' | 'frameworks' | 'tasks' | 'executors' | 'offers'>,
): FrameworkRow[] {
  const uses = sumUse(cluster, 'frameworkId');
  const active = cluster.agents.filter(({ state }) => state === 'active');
  const total = sumResources(active.map(({ info }) => info.resources));
  return cluster.frameworks
    .toSorted((a, b) => a.registeredAtMs - b.registeredAtMs)
    .map((record) => {
      const use = useOf(uses, record.info.frameworkId);
      return { record, use, share: dominantShare(use.used, total) };
    });
}

/**
 * The largest of a framework's fractions of the cluster, over its tasks (offers that it holds come and go).
 *
 * @param total what all active agents have; a resource of which there is none is ignored
 * @returns 0 to 1; more if agents with its tasks are unreachable
 * @see Ghodsi et al., "Dominant Resource Fairness", NSDI 2011
 */
export function dominantShare(used: Resources, total: Resources): number {
  const fraction = (part: number, whole: number): number => (whole > 0 ? part / whole : 0);
  return Math.max(fraction(used.cpuMillis, total.cpuMillis), fraction(used.memMib, total.memMib));
}

function frameworkJson({ record, use, share }: FrameworkRow): object {
  const { used, offered, taskCount } = use;
  return { ...record, used, offered, taskCount, dominantShare: share };
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
