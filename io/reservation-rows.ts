/** Reservations with what is held of each, as the table, `--json` and the API show them. Pure. */
import type { Labels } from '../protocol/fields.ts';
import type { AgentId, ReservationId } from '../protocol/ids.ts';
import { reservationsOf } from '../protocol/reservations.ts';
import type { Resources } from '../protocol/resources.ts';
import { addResources, NO_RESOURCES } from '../protocol/resources.ts';
import { isTerminal } from '../protocol/task-state.ts';
import type { Cluster } from './registry.ts';

/** A reservation of an agent. */
export interface ReservationRow {
  readonly agentId: AgentId;
  readonly hostname: string;
  readonly reservationId: ReservationId;
  readonly role: string;
  readonly resources: Resources;
  readonly labels: Labels;
  readonly isStatic: boolean;
  readonly parentId: ReservationId | null;
  /** Who has made it; null in an open cluster. */
  readonly principal: string | null;
  /** By tasks and executors, without those of reservations that are parts of it. */
  readonly used: Resources;
  readonly offered: Resources;
  /** Tasks have had disk of it: what they left in its directory is on the node. */
  readonly hasDirectory: boolean;
}

/** @returns the reservations of agents that are not gone, by agent and role */
export function reservationRows(
  cluster: Pick<Cluster, 'agents' | 'tasks' | 'executors' | 'offers'>,
): ReservationRow[] {
  const { used, offered } = sumsOf(cluster);
  const rows = cluster.agents.flatMap((record): ReservationRow[] => {
    if (record.state === 'gone') return [];
    const { agentId, hostname } = record.info;
    return reservationsOf(record).map((one) => ({
      ...{ agentId, hostname, reservationId: one.reservationId, role: one.role },
      ...{ resources: one.resources, labels: one.labels, isStatic: one.isStatic },
      parentId: one.parentId ?? null,
      principal: one.principal ?? null,
      used: used.get(keyOf(agentId, one.reservationId)) ?? NO_RESOURCES,
      offered: offered.get(keyOf(agentId, one.reservationId)) ?? NO_RESOURCES,
      hasDirectory: record.directories?.includes(one.reservationId) === true,
    }));
  });
  const byPlace = (row: ReservationRow): string[] => [row.hostname, row.agentId, row.role];
  return rows.sort((a, b) => (byPlace(a) < byPlace(b) ? -1 : 1));
}

function sumsOf({
  tasks,
  executors,
  offers,
}: Pick<Cluster, 'tasks' | 'executors' | 'offers'>): Record<
  'used' | 'offered',
  ReadonlyMap<string, Resources>
> {
  const [used, offered] = [new Map<string, Resources>(), new Map<string, Resources>()];
  const add = (sums: Map<string, Resources>, key: string, part: Resources): void => {
    sums.set(key, addResources(sums.get(key) ?? NO_RESOURCES, part));
  };
  for (const { agentId, reserved = [] } of [
    ...tasks.filter(({ state }) => !isTerminal(state)),
    ...executors,
  ]) {
    for (const { reservationId, resources } of reserved) {
      add(used, keyOf(agentId, reservationId), resources);
    }
  }
  for (const { agentId, reservation, resources } of offers) {
    if (reservation) add(offered, keyOf(agentId, reservation.reservationId), resources);
  }
  return { used, offered };
}

function keyOf(agentId: AgentId, reservationId: ReservationId): string {
  return `${agentId} ${reservationId}`;
}
