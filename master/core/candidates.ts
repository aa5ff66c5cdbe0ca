/**
 * Who is shown to the allocator: frameworks in their roles, with what they still need and what they refuse. Who refuses an agent
 * and why the allocator is not told.
 */
import type { AgentId, ReservationId } from '../../protocol/ids.ts';
import { groupsOf, satisfies } from '../../protocol/offer-constraints.ts';
import { isReservedFor } from '../../protocol/reservations.ts';
import { NO_RESOURCES } from '../../protocol/resources.ts';
import { rolesOf } from '../../protocol/task.ts';
import type { CandidateView } from './allocator/port.ts';
import { needsUnder } from './demand.ts';
import type { StepContext } from './effects.ts';
import { isDeclined, poolKey } from './filters.ts';
import type { Framework, MasterState } from './state.ts';
import type { ReservedSupply } from './supply.ts';

/** Whose turn it is. */
export interface Asked {
  readonly isAsked: (framework: Framework) => boolean;
  /** Absent: of what is not reserved. */
  readonly reserved?: ReservedSupply;
}

/** @returns each framework in each of its roles that may be offered something. Cost: frameworks and what they have asked for */
export function candidatesOf(cx: StepContext, { isAsked, reserved }: Asked): CandidateView[] {
  const candidates: CandidateView[] = [];
  for (const framework of cx.state.frameworks.values()) {
    if (!isListening(framework, cx.nowMs) || !isAsked(framework)) continue;
    const { suppressedRoles, info } = framework.record;
    for (const role of rolesOf(info)) {
      if (suppressedRoles.includes(role)) continue;
      if (reserved && !isReservedFor({ role: reserved.reservedFor }, role)) continue;
      const candidate = candidateOf(cx, framework, role, reserved?.reservations);
      if (candidate) candidates.push(candidate);
    }
  }
  return candidates;
}

function isListening({ record, ignored }: Framework, nowMs: number): boolean {
  const { state, session, suppressed } = record;
  if (state !== 'active' || session === undefined || suppressed) return false;
  return (ignored?.untilMs ?? 0) <= nowMs;
}

/**
 * @param reservations those that the round is about, by agent; absent: what is not reserved
 * @returns undefined for a framework that has said what it needs, and needs nothing under this role
 */
export function candidateOf(
  { state, nowMs }: StepContext,
  framework: Framework,
  role: string,
  reservations?: ReservedSupply['reservations'],
): CandidateView | undefined {
  const { record, shares, filters } = framework;
  const { frameworkId } = record.info;
  const needs = needsUnder(state, framework, role);
  if (needs?.length === 0) return undefined;
  const poolAt = (agentId: AgentId): { agentId: AgentId; reservationId?: ReservationId } => {
    const reservation = reservations?.get(agentId);
    return { agentId, ...(reservation && { reservationId: reservation.reservationId }) };
  };
  const isExcluded = excluding(state, framework, role);
  return {
    frameworkId,
    role,
    registeredAtMs: record.registeredAtMs,
    holds: shares.get(role) ?? NO_RESOURCES,
    ...(needs && { needs }),
    // Asked for each agent: without a new object for each where nothing is reserved.
    mayRefuse: (agentId) =>
      filters.has(reservations ? poolKey(poolAt(agentId)) : agentId) ||
      isExcluded?.(agentId) === true,
    refuses: (agentId, resources) =>
      isExcluded?.(agentId) === true ||
      isDeclined(filters, { ...poolAt(agentId), role, resources, nowMs }),
  };
}

/**
 * Whether an agent is not to be offered for its attributes, or because tasks are being ended on it for somebody else; found out
 * once a round.
 *
 * @returns undefined if nothing of the kind is there
 */
function excluding(
  { agents, preemptions }: MasterState,
  { record }: Framework,
  role: string,
): ((agentId: AgentId) => boolean) | undefined {
  const groups = groupsOf(record.offerConstraints, role);
  if (!groups && preemptions.size === 0) return undefined;
  const { frameworkId } = record.info;
  const known = new Map<AgentId, boolean>();
  return (agentId) => {
    const found = known.get(agentId);
    if (found !== undefined) return found;
    const attributes = agents.get(agentId)?.record.info.attributes ?? {};
    const isExcluded =
      (preemptions.get(agentId)?.frameworkId ?? frameworkId) !== frameworkId ||
      (groups !== undefined && !satisfies(attributes, groups));
    known.set(agentId, isExcluded);
    return isExcluded;
  };
}
