/** `kaon roles`: the tree of roles, what each holds, and what has been said of it. */
import { roleRows } from '../../io/role-rows.ts';
import type { RoleRow } from '../../io/role-rows.ts';
import { formatCpus } from '../../protocol/quantities.ts';
import { formatPartial } from '../../protocol/roles.ts';
import { withStore } from '../connection.ts';
import { EXIT_OK } from '../failure.ts';
import type { ListOptions } from '../options.ts';
import { printListing } from '../print.ts';
import { readCluster } from '../registry.ts';
import type { Column } from '../table.ts';
import { formatMibParts, formatPercent } from '../words.ts';

/** @returns the exit code */
export async function roles(options: ListOptions): Promise<number> {
  const cluster = await withStore(options, { name: 'roles' }, readCluster);
  printListing(
    {
      rows: roleRows(cluster),
      columns: () => COLUMNS,
      json: (row) => row,
      none: `no roles in cluster ${options.cluster}: no framework has registered, nothing has been said of one`,
      unreadable: cluster.unreadable,
    },
    options,
  );
  return EXIT_OK;
}

const COLUMNS: readonly Column<RoleRow>[] = [
  { title: 'ROLE', text: ({ role }) => role },
  { title: 'WEIGHT', text: ({ weight }) => String(weight), align: 'right' },
  { title: 'CPUS', text: ({ used }) => formatCpus(used.cpuMillis), align: 'right' },
  { title: 'MEM', text: ({ used }) => formatMibParts(used.memMib), align: 'right' },
  { title: 'SHARE', text: ({ dominantShare }) => formatPercent(dominantShare, 1), align: 'right' },
  { title: 'GUARANTEE', text: ({ guarantee }) => quotaText(guarantee) },
  { title: 'LIMIT', text: ({ limit }) => quotaText(limit) },
  { title: 'FRAMEWORKS', text: ({ frameworks }) => frameworks.join(' ') || '-', shrinksTo: 12 },
];

function quotaText(quota: RoleRow['limit']): string {
  return quota === null ? '-' : formatPartial(quota);
}
