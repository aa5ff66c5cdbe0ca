/** `kaon offers`: what frameworks are thinking about at this moment. */
import { formatCpus, formatMib } from '../../protocol/quantities.ts';
import { formatOthers } from '../../protocol/resources.ts';
import type { OfferRecord } from '../../protocol/records.ts';
import { withStore } from '../connection.ts';
import { EXIT_OK } from '../failure.ts';
import type { ListOptions } from '../options.ts';
import { printListing } from '../print.ts';
import { readCluster } from '../registry.ts';
import type { Column } from '../table.ts';
import { formatSpan } from '../words.ts';

/** @returns the exit code */
export async function offers(options: ListOptions): Promise<number> {
  const cluster = await withStore(options, { name: 'offers' }, readCluster);
  const hasReserved = cluster.offers.some(({ reservation }) => reservation !== undefined);
  printListing(
    {
      rows: cluster.offers.toSorted((a, b) => a.madeAtMs - b.madeAtMs),
      columns: () => offerColumns(cluster.nowMs, hasReserved),
      json: (offer) => offer,
      none: `no outstanding offers in cluster ${options.cluster}`,
      unreadable: cluster.unreadable,
    },
    options,
  );
  return EXIT_OK;
}

/**
 * Columns of the table. An offer that is over its time and still there shows 0ms: the master has not looked yet.
 *
 * @param hasReserved with the reservation that each is of; where all are of what is not reserved it would say nothing
 */
export function offerColumns(nowMs: number, hasReserved: boolean): Column<OfferRecord>[] {
  const reservation: Column<OfferRecord> = {
    title: 'RESERVATION',
    text: (offer) => offer.reservation?.reservationId ?? '-',
    shrinksTo: 8,
  };
  return [
    { title: 'ID', text: ({ offerId }) => offerId },
    { title: 'FRAMEWORK', text: ({ frameworkId }) => frameworkId },
    { title: 'ROLE', text: ({ role }) => role, shrinksTo: 8 },
    { title: 'AGENT', text: ({ agentId }) => agentId },
    ...(hasReserved ? [reservation] : []),
    { title: 'CPUS', text: ({ resources }) => formatCpus(resources.cpuMillis), align: 'right' },
    { title: 'MEM', text: ({ resources }) => formatMib(resources.memMib), align: 'right' },
    { title: 'OTHER', text: ({ resources }) => formatOthers(resources).join(', ') || '-' },
    { title: 'AGE', text: ({ madeAtMs }) => formatSpan(madeAtMs, nowMs), align: 'right' },
    {
      title: 'EXPIRES IN',
      text: ({ expiresAtMs }) => formatSpan(nowMs, expiresAtMs),
      align: 'right',
    },
  ];
}
