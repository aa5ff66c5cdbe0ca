/** What an allocator would decide if the cluster were another: for those who explain, and before anything is preempted. */
import type { FrameworkId } from '../../protocol/ids.ts';
import type { Resources } from '../../protocol/resources.ts';
import { addResources, fits, NO_RESOURCES, subtractResources } from '../../protocol/resources.ts';
import { askAllocator, roundOf } from './allocation.ts';
import { allocateHierarchically } from './allocator/hierarchical.ts';
import type { AllocationRound, CandidateView, NeedView } from './allocator/port.ts';
import { roomOf } from './allocator/quota.ts';
import { growTree } from './allocator/tree.ts';
import { candidateOf } from './candidates.ts';
import type { StepContext } from './effects.ts';
import type { Agent, Framework } from './state.ts';

/**
 * The most that quotas let a framework be given under a role at this moment: what is free and not reserved, less what is kept
 * for the guarantees of others, within the limits. Only the default allocator keeps anything for guarantees.
 *
 * @returns negative where more is kept or held than there may be. Cost: roles
 */
export function roomUnder(cx: StepContext, role: string): Resources {
  const nobody: CandidateView = {
    frameworkId: '' as FrameworkId,
    role,
    registeredAtMs: 0,
    holds: NO_RESOURCES,
    mayRefuse: () => false,
    refuses: () => false,
  };
  const { minimumOffer: minimum, allocator } = cx.state.options;
  const round = roundOf(cx, { agents: [], candidates: [nobody], minimum });
  const isKeeping = allocator === allocateHierarchically;
  const roles = isKeeping ? round.roles : withoutGuarantees(round.roles);
  const [leaf] = growTree({ ...round, roles }).leaves;
  return leaf ? roomOf(leaf, 'share', round.free) : round.free;
}

function withoutGuarantees(roles: AllocationRound['roles']): AllocationRound['roles'] {
  return new Map([...roles].map(([name, view]) => [name, { ...view, guarantee: undefined }]));
}

/** What would be, if tasks on one agent had ended. */
export interface Supposed {
  readonly framework: Framework;
  readonly role: string;
  readonly need: NeedView;
  readonly agent: Agent;
  /** What of that agent is free now and not reserved, and what would be beside it. */
  readonly free: Resources;
  readonly freed: Resources;
  /** By role, what it and the roles below it would hold less. */
  readonly given: ReadonlyMap<string, Resources>;
}

/** Whether the framework would be offered a unit of its need on that agent, if nobody else wanted it. */
export function wouldGrant(cx: StepContext, supposed: Supposed): boolean {
  const { framework, role, need, agent, free, freed, given } = supposed;
  const candidate = candidateOf(cx, framework, role);
  if (!candidate) return false;
  const { agentId, attributes, resources: total } = agent.record.info;
  const round = roundOf(cx, {
    minimum: cx.state.options.minimumOffer,
    agents: [{ agentId, attributes, total, free: addResources(free, freed) }],
    // A part of a gang is of no use: it is all of it here, or nothing.
    candidates: [{ ...candidate, needs: [{ ...need, count: need.gang ? need.count : 1 }] }],
  });
  const roles = new Map(round.roles);
  for (const [name, less] of given) {
    const view = roles.get(name);
    if (view) roles.set(name, { ...view, holds: subtractResources(view.holds, less) });
  }
  const decided = askAllocator(cx.state, {
    ...round,
    roles,
    free: addResources(round.free, freed),
  });
  return (
    'grants' in decided && decided.grants.some((grant) => fits(need.resources, grant.resources))
  );
}
