/** Roles with what is held under them and what has been said of them, as the table, `--json` and the API show them. Pure. */
import type { Resources } from '../protocol/resources.ts';
import { addResources, NO_RESOURCES, sumResources } from '../protocol/resources.ts';
import type { PartialResources } from '../protocol/roles.ts';
import { ROLE_DEFAULT, rolePath, WEIGHT_DEFAULT } from '../protocol/roles.ts';
import { isTerminal } from '../protocol/task-state.ts';
import { rolesOf } from '../protocol/task.ts';
import { dominantShare } from './registry-rows.ts';
import type { Cluster } from './registry.ts';
import { countedOf } from './registry.ts';

/** A role, and what it and the roles below it hold. */
export interface RoleRow {
  readonly role: string;
  readonly weight: number;
  readonly guarantee: PartialResources | null;
  readonly limit: PartialResources | null;
  readonly used: Resources;
  readonly offered: Resources;
  /** See `dominantShare`, of what is used. */
  readonly dominantShare: number;
  /** Names of the frameworks that have registered with this role itself. */
  readonly frameworks: readonly string[];
}

/** What is added up. */
type Source = Pick<Cluster, 'agents' | 'frameworks' | 'executors' | 'tasks' | 'offers' | 'roles'>;

/** @returns the roles that somebody has, holds something under or has said something of, and those above; sorted */
export function roleRows(cluster: Source): RoleRow[] {
  const { used, offered } = sumByRole(cluster);
  const frameworks = new Map<string, string[]>();
  for (const { info } of cluster.frameworks) {
    for (const role of rolesOf(info)) {
      frameworks.set(role, [...(frameworks.get(role) ?? []), info.name]);
    }
  }
  const records = new Map(cluster.roles.map((record) => [record.role, record]));
  const named = [...frameworks.keys(), ...records.keys(), ...used.keys(), ...offered.keys()];
  const active = cluster.agents.filter(({ state }) => state === 'active');
  const total = sumResources(active.map(({ info }) => info.resources));
  return [...new Set(named.flatMap(rolePath))].sort().map((role): RoleRow => {
    const { weight = WEIGHT_DEFAULT, guarantee = null, limit = null } = records.get(role) ?? {};
    const uses = used.get(role) ?? NO_RESOURCES;
    return {
      ...{ role, weight, guarantee, limit },
      used: uses,
      offered: offered.get(role) ?? NO_RESOURCES,
      dominantShare: dominantShare(uses, total),
      frameworks: (frameworks.get(role) ?? []).sort(),
    };
  });
}

interface Sums {
  readonly used: ReadonlyMap<string, Resources>;
  readonly offered: ReadonlyMap<string, Resources>;
}

/** Of each role with those below it. */
function sumByRole({ frameworks, executors, tasks, offers }: Source): Sums {
  const own = new Map(frameworks.map(({ info }) => [info.frameworkId as string, info.role]));
  const [used, offered] = [new Map<string, Resources>(), new Map<string, Resources>()];
  const add = (sums: Map<string, Resources>, of: Of, part: Resources): void => {
    for (const name of rolePath(of.role ?? own.get(of.frameworkId) ?? ROLE_DEFAULT)) {
      sums.set(name, addResources(sums.get(name) ?? NO_RESOURCES, part));
    }
  };
  for (const executor of executors) add(used, executor, executor.info.resources);
  for (const task of tasks) if (!isTerminal(task.state)) add(used, task, countedOf(task));
  for (const offer of offers) add(offered, offer, offer.resources);
  return { used, offered };
}

interface Of {
  readonly frameworkId: string;
  readonly role?: string | undefined;
}
