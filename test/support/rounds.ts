/** Rounds of the allocator from a few words, and their arbitraries. */
import type {
  AgentView,
  AllocationRound,
  CandidateView,
  Grant,
  NeedView,
  RoleView,
} from '../../master/core/allocator/port.ts';
import type { AgentId, FrameworkId } from '../../protocol/ids.ts';
import type { Resources } from '../../protocol/resources.ts';
import { addResources, fits, NO_RESOURCES, sumResources } from '../../protocol/resources.ts';
import type { PartialResources } from '../../protocol/roles.ts';
import { rolePath } from '../../protocol/roles.ts';
import type { Placement } from '../../protocol/task.ts';

/** A framework in one role, as a test writes it. */
export interface Wanting {
  readonly role?: string;
  readonly holds?: Resources;
  readonly needs?: readonly {
    resources: Resources;
    count?: number;
    attributes?: Record<string, string>;
    maxPerAgent?: number;
    offeredOn?: Readonly<Record<string, number>>;
    notOn?: readonly string[];
    placement?: Placement;
    gang?: boolean;
  }[];
  readonly registeredAtMs?: number;
  /** By agent, what was declined of it. */
  readonly declined?: Readonly<Record<string, Resources>>;
}

/** What an operator has said of a role. */
export interface Said {
  readonly weight?: number;
  readonly guarantee?: PartialResources;
  readonly limit?: PartialResources;
  /** Held by frameworks that are not in the round. */
  readonly own?: Resources;
}

/** A round, as a test writes it. */
export interface Scene {
  /** By id: all that it has, which is free. */
  readonly agents: Readonly<
    Record<
      string,
      Resources | { total: Resources; free: Resources; attributes?: Record<string, string> }
    >
  >;
  /** By id. */
  readonly frameworks: Readonly<Record<string, Wanting | readonly Wanting[]>>;
  readonly roles?: Readonly<Record<string, Said>>;
  readonly minimum?: Resources;
}

/** @returns the round, with the sums that the master would have made */
export function roundOf({ agents, frameworks, roles = {}, minimum }: Scene): AllocationRound {
  const agentViews = Object.entries(agents).map(([agentId, has]): AgentView => {
    const view = 'total' in has ? has : { total: has, free: has };
    return { agentId: agentId as AgentId, attributes: {}, ...view };
  });
  const candidates = Object.entries(frameworks).flatMap(([frameworkId, wanting]) =>
    [wanting].flat().map((one) => candidateOf(frameworkId, one)),
  );
  return {
    nowMs: 0,
    total: sumResources(agentViews.map(({ total }) => total)),
    free: sumResources(agentViews.map(({ free }) => free)),
    minimum: minimum ?? { cpuMillis: 1, memMib: 1 },
    agents: agentViews,
    candidates,
    roles: rolesOf(roles, candidates),
  };
}

function candidateOf(frameworkId: string, wanting: Wanting): CandidateView {
  const { role = '*', holds = NO_RESOURCES, needs, registeredAtMs = 0, declined = {} } = wanting;
  return {
    frameworkId: frameworkId as FrameworkId,
    role,
    registeredAtMs,
    holds,
    ...(needs && {
      needs: needs.map(({ count = 1000, attributes = {}, notOn, offeredOn, ...need }): NeedView => {
        return {
          ...{ ...need, count, attributes },
          ...(notOn && { notOn: new Set(notOn as AgentId[]) }),
          ...(offeredOn && {
            offeredOn: new Map(Object.entries(offeredOn) as [AgentId, number][]),
          }),
        };
      }),
    }),
    mayRefuse: (agentId) => declined[agentId] !== undefined,
    refuses: (agentId, resources) => {
      const refused = declined[agentId];
      return refused !== undefined && fits(resources, refused);
    },
  };
}

function rolesOf(
  said: Readonly<Record<string, Said>>,
  candidates: readonly CandidateView[],
): Map<string, RoleView> {
  const views = new Map<string, RoleView>();
  const at = (role: string): RoleView =>
    views.get(role) ?? { role, weight: 1, ...said[role], own: NO_RESOURCES, holds: NO_RESOURCES };
  const hold = (role: string, resources: Resources): void => {
    for (const name of rolePath(role)) {
      const view = at(name);
      const own = name === role ? addResources(view.own, resources) : view.own;
      views.set(name, { ...view, own, holds: addResources(view.holds, resources) });
    }
  };
  for (const [role, { own = NO_RESOURCES }] of Object.entries(said)) hold(role, own);
  for (const { role, holds } of candidates) hold(role, holds);
  return views;
}

/** @returns the grants as `agent cpus mem`, by framework (and role, if that is not `*`), in order */
export function ledgerOf(grants: readonly Grant[]): Record<string, string[]> {
  const ledger: Record<string, string[]> = {};
  for (const { frameworkId, role, agentId, resources } of grants) {
    const who = role === '*' ? frameworkId : `${frameworkId} ${role}`;
    const text = `${agentId} ${String(resources.cpuMillis / 1000)} ${String(resources.memMib)}`;
    (ledger[who] ??= []).push(text);
  }
  return ledger;
}
