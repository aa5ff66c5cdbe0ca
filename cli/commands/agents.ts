/** `kaon agents`: the nodes, and how much of each is used. */
import type { NO_RESOURCES } from '../../protocol/resources.ts';
import { formatOthers, formatResources } from '../../protocol/resources.ts';
import type { AgentRecord } from '../../protocol/records.ts';
import { agentJson, agentRows } from '../../io/registry-rows.ts';
import type { AgentRow } from '../../io/registry-rows.ts';
import { describeAgentState } from '../agent-view.ts';
import { withStore } from '../connection.ts';
import { EXIT_OK } from '../failure.ts';
import type { ListOptions } from '../options.ts';
import { printListing } from '../print.ts';
import { readCluster } from '../registry.ts';
import type { Look, Paint } from '../style.ts';
import type { Column } from '../table.ts';
import { formatCpuParts, formatLabels, formatMibParts, formatSpan } from '../words.ts';

/** @returns the exit code */
export async function agents(options: ListOptions): Promise<number> {
  const cluster = await withStore(options, { name: 'agents' }, readCluster);
  const rows = agentRows(cluster);
  const shows = {
    isWide: options.wide,
    hasReserved: rows.some(({ reserved }) => reserved.size > 0),
  };
  printListing(
    {
      rows,
      columns: (paint) => agentColumns(paint, cluster.nowMs, shows),
      json: agentJson,
      none: `no agents in cluster ${options.cluster}`,
      unreadable: cluster.unreadable,
    },
    options,
  );
  return EXIT_OK;
}

const LOOKS: Readonly<Record<AgentRecord['state'], Look>> = {
  active: 'green',
  unreachable: 'red',
  gone: 'dim',
};

/**
 * @param isWide with the attributes
 * @param hasReserved with what is kept for roles; where nothing is reserved the column would say nothing
 */
export function agentColumns(
  paint: Paint,
  nowMs: number,
  { isWide, hasReserved }: { readonly isWide: boolean; readonly hasReserved: boolean },
): Column<AgentRow>[] {
  const totalOf = ({ record }: AgentRow): typeof NO_RESOURCES => record.info.resources;
  const columns: Column<AgentRow>[] = [
    { title: 'ID', text: ({ record }) => record.info.agentId },
    { title: 'HOST', text: ({ record }) => record.info.hostname, shrinksTo: 8 },
    {
      title: 'STATE',
      text: ({ record }) => describeAgentState(record, nowMs),
      paint: (text, { record }) => paint(LOOKS[record.state], text),
    },
    {
      title: 'CPUS USED/OFFERED/TOTAL',
      text: (row) =>
        formatCpuParts(row.use.used.cpuMillis, row.use.offered.cpuMillis, totalOf(row).cpuMillis),
    },
    {
      title: 'MEM USED/TOTAL',
      text: (row) => formatMibParts(row.use.used.memMib, totalOf(row).memMib),
    },
    { title: 'TASKS', text: ({ use }) => String(use.taskCount), align: 'right' },
    {
      title: 'AGE',
      text: ({ record }) => formatSpan(record.registeredAtMs, nowMs),
      align: 'right',
    },
  ];
  if (hasReserved) {
    columns.push({
      title: 'RESERVED',
      text: ({ reserved }) =>
        [...reserved].map(([role, part]) => `${role}: ${formatResources(part)}`).join('; ') || '-',
      shrinksTo: 8,
    });
  }
  if (isWide) {
    columns.push({
      title: 'OTHER',
      text: ({ record }) => formatOthers(record.info.resources).join(', ') || '-',
      shrinksTo: 8,
    });
    columns.push({
      title: 'ATTRIBUTES',
      text: ({ record }) => formatLabels(record.info.attributes),
      shrinksTo: 8,
    });
  }
  return columns;
}
