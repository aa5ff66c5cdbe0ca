/** `kaon reservations`: what is kept for roles, node by node. */
import type { ReservationRow } from '../../io/reservation-rows.ts';
import { reservationRows } from '../../io/reservation-rows.ts';
import { formatResources, isEmpty } from '../../protocol/resources.ts';
import { withStore } from '../connection.ts';
import { EXIT_OK } from '../failure.ts';
import type { ListOptions } from '../options.ts';
import { printListing } from '../print.ts';
import { readCluster } from '../registry.ts';
import type { Column } from '../table.ts';
import { formatLabels } from '../words.ts';

/** @returns the exit code */
export async function reservations(options: ListOptions): Promise<number> {
  const cluster = await withStore(options, { name: 'reservations' }, readCluster);
  printListing(
    {
      rows: reservationRows(cluster),
      columns: () => (options.wide ? [...COLUMNS, LABELS] : COLUMNS),
      json: (row) => row,
      none: `nothing is reserved in cluster ${options.cluster}`,
      unreadable: cluster.unreadable,
    },
    options,
  );
  return EXIT_OK;
}

const COLUMNS: readonly Column<ReservationRow>[] = [
  { title: 'AGENT', text: ({ agentId }) => agentId, shrinksTo: 8 },
  { title: 'RESERVATION', text: ({ reservationId }) => reservationId },
  { title: 'ROLE', text: ({ role }) => role },
  { title: 'RESERVED', text: ({ resources }) => formatResources(resources) },
  { title: 'USED', text: ({ used }) => (isEmpty(used) ? '-' : formatResources(used)) },
  { title: 'DIRECTORY', text: ({ hasDirectory }) => (hasDirectory ? 'yes' : '-') },
  { title: 'FROM', text: ({ isStatic, parentId }) => (isStatic ? 'settings' : (parentId ?? '-')) },
];

const LABELS: Column<ReservationRow> = {
  title: 'LABELS',
  text: ({ labels }) => formatLabels(labels),
  shrinksTo: 8,
};
