/** Agents and frameworks with what is held of them, as tables, `--json` and the API show them. Pure. */
import { sumUse, useOf } from './registry.ts';
import type { Cluster, Use } from './registry.ts';
import type { AgentRecord, FrameworkRecord } from '../protocol/records.ts';
import { reservationsOf } from '../protocol/reservations.ts';
import {
  addResources,
  isEmpty,
  NO_RESOURCES,
  subtractResources,
  sumResources,
} from '../protocol/resources.ts';
import type { Resources } from '../protocol/resources.ts';

/** An agent and what its tasks, executors and offers hold of it. */
export interface AgentRow {
  readonly record: AgentRecord;
  readonly use: Use;
  /** See `reservedByRole`. */
  readonly reserved: ReadonlyMap<string, Resources>;
}

/** A framework and what its tasks and executors hold. */
export interface FrameworkRow {
  readonly record: FrameworkRecord;
  readonly use: Use;
  /** See `dominantShare`. */
  readonly share: number;
}

/** @returns the agents by host name, then id */
export function agentRows(
  cluster: Pick<Cluster, 'agents' | 'tasks' | 'executors' | 'offers'>,
): AgentRow[] {
  const uses = sumUse(cluster, 'agentId');
  const byHost = (a: AgentRecord, b: AgentRecord): number =>
    a.info.hostname.localeCompare(b.info.hostname, 'en', { numeric: true }) ||
    a.info.agentId.localeCompare(b.info.agentId);
  return cluster.agents.toSorted(byHost).map((record) => ({
    record,
    use: useOf(uses, record.info.agentId),
    reserved: reservedByRole(record),
  }));
}

/**
 * What of an agent is kept for which role. What is reserved further of a reservation is counted for the role that it is
 * reserved for last, so the amounts add up to all that is reserved.
 *
 * @returns by role, in the order of their names; empty if nothing is reserved
 */
export function reservedByRole(
  record: Pick<AgentRecord, 'info' | 'reservations'>,
): Map<string, Resources> {
  const all = reservationsOf(record);
  const partsOf = (id: string): Resources =>
    sumResources(all.filter(({ parentId }) => parentId === id).map(({ resources }) => resources));
  const byRole = new Map<string, Resources>();
  for (const { reservationId, role, resources } of all.toSorted((a, b) =>
    a.role < b.role ? -1 : 1,
  )) {
    const own = subtractResources(resources, partsOf(reservationId));
    if (!isEmpty(own)) byRole.set(role, addResources(byRole.get(role) ?? NO_RESOURCES, own));
  }
  return byRole;
}

/** @returns the agent as programs get it */
export function agentJson({ record, use, reserved }: AgentRow): object {
  const { used, offered, taskCount, executorCount } = use;
  const byRole = Object.fromEntries(reserved);
  return { ...record, used, offered, taskCount, executorCount, reserved: byRole };
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

/** @returns the framework as programs get it */
export function frameworkJson({ record, use, share }: FrameworkRow): object {
  const { used, offered, taskCount } = use;
  return { ...record, used, offered, taskCount, dominantShare: share };
}
