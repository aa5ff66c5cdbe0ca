/**
 * Rounds of allocation: what the allocator is shown, and what of its word is taken. Where nothing has changed nobody is
 * asked again, so a round costs what the change is and not what the cluster is.
 *
 * What is reserved has rounds of its own, before the one of what is not: in each there are pools of one role, shown as
 * agents, and only the candidates that may have them. So no allocator has to know of reservations.
 */
import type { AgentId } from '../../protocol/ids.ts';
import { TEXT_MAX_CHARS } from '../../protocol/limits.ts';
import { groupsOf, satisfies } from '../../protocol/offer-constraints.ts';
import type { Reservation } from '../../protocol/reservations.ts';
import type { Resources } from '../../protocol/resources.ts';
import { largerOf, smallerOf } from '../../protocol/resources.ts';
import { problemOfGrants } from './allocator/check.ts';
import type { AllocationRound, CandidateView, Grant } from './allocator/port.ts';
import { candidatesOf } from './candidates.ts';
import type { StepContext } from './effects.ts';
import { appendEvent } from './effects.ts';
import type { Framework, MasterState } from './state.ts';
import { isAllocationDue } from './state.ts';
import { ofReserved, openTo, supplyOf } from './supply.ts';

/** After a round that was refused. */
const PAUSE_MS = 5000;

/** A grant, and of which reservation it is; undefined: of what is not reserved. */
export interface PoolGrant extends Grant {
  readonly reservation?: Reservation | undefined;
}

/**
 * Decides who is offered what, for everything that has changed since the last call: agents that have something free again
 * are shown to all, and frameworks that want more are shown all agents. The grants of a round are counted before the next
 * one is decided.
 */
export function* allocateChanges(cx: StepContext): Generator<PoolGrant, void, undefined> {
  const { changed } = cx.state;
  if (!isAllocationDue(cx.state)) return;
  const { agents, frameworks, everything } = changed;
  const [agentIds, frameworkIds] = [new Set(agents), new Set(frameworks)];
  agents.clear();
  frameworks.clear();
  changed.everything = false;
  if (everything) {
    yield* decide(cx, inTurn(cx.state), () => true);
    return;
  }
  if (agentIds.size > 0) yield* decide(cx, inTurn(cx.state, agentIds), () => true);
  if (frameworkIds.size === 0) return;
  const isChanged = ({ record }: Framework): boolean => frameworkIds.has(record.info.frameworkId);
  yield* decide(cx, inTurn(cx.state), isChanged);
}

/** Agents in the order of their ids, from where the last round began on; these, or all. */
function* inTurn(state: MasterState, some?: ReadonlySet<AgentId>): Generator<AgentId> {
  const { agentOrder } = state;
  const order = some ? [...some].sort() : agentOrder;
  if (order.length === 0) return;
  const first = agentOrder[state.nextAgent % Math.max(1, agentOrder.length)] ?? '';
  if (!some) state.nextAgent = (state.nextAgent + 1) % agentOrder.length;
  const start = some
    ? Math.max(
        0,
        order.findIndex((agentId) => agentId >= first),
      )
    : order.indexOf(first as AgentId);
  for (let index = 0; index < order.length; index += 1) {
    yield order[(start + index) % order.length] as AgentId;
  }
}

/** The grants of each round are counted before the next one is decided. */
function* decide(
  cx: StepContext,
  agentIds: Iterable<AgentId>,
  isAsked: (framework: Framework) => boolean,
): Generator<PoolGrant> {
  const candidates = candidatesOf(cx, { isAsked });
  if (candidates.length === 0) return;
  const { minimumOffer: minimum } = cx.state.options;
  const { supply, agents } = supplyOf(cx, agentIds, leastOf(candidates, minimum));
  for (const reserved of supply) {
    const { reservations, ...shown } = reserved;
    const some = candidatesOf(cx, { isAsked, reserved });
    for (const grant of decideRound(cx, { ...shown, candidates: some })) {
      yield { ...grant, reservation: reservations.get(grant.agentId) };
    }
  }
  const open = supply.length === 0 ? candidates : candidatesOf(cx, { isAsked });
  yield* decideRound(cx, { agents, minimum, candidates: open });
}

/** Where less is free, nobody has any use for it. */
function leastOf(candidates: readonly CandidateView[], minimum: Resources): Resources {
  let least: Resources | undefined;
  for (const { needs } of candidates) {
    if (!needs) return minimum;
    for (const { resources } of needs) least = least ? smallerOf(least, resources) : resources;
  }
  return largerOf(minimum, least ?? minimum);
}

/** What a round is about; the rest of it is of the whole cluster. */
export type Round = Pick<AllocationRound, 'agents' | 'candidates' | 'minimum' | 'reservedFor'>;

function decideRound(cx: StepContext, shown: Round): readonly Grant[] {
  if (shown.candidates.length === 0 || shown.agents.length === 0) return [];
  const decided = askAllocator(cx.state, roundOf(cx, shown));
  if ('grants' in decided) return decided.grants;
  refuseRound(cx, decided.problem);
  return [];
}

/** @returns the round as the allocator sees it */
export function roundOf({ state, nowMs }: StepContext, shown: Round): AllocationRound {
  const whole = shown.reservedFor === undefined ? openTo(state, nowMs) : ofReserved(state, shown);
  return { ...shown, nowMs, total: state.total, ...whole };
}

/** What an allocator has decided, or why nothing of it is taken. */
export type Decided = { readonly grants: readonly Grant[] } | { readonly problem: string };

/** Whatever an allocator does: it is not the master's end. */
export function askAllocator(state: MasterState, round: AllocationRound): Decided {
  try {
    const grants = state.options.allocator(round);
    const problem = problemOfGrants(round, grants) ?? problemOfConstraints(state, grants);
    return problem === undefined ? { grants } : { problem };
  } catch (error) {
    return { problem: `the allocator has failed: ${String(error)}` };
  }
}

/** Nothing of the round is done, and everything is decided anew after a pause. */
function refuseRound(cx: StepContext, problem: string): void {
  cx.state.changed.everything = true;
  cx.state.allocationPausedUntilMs = cx.nowMs + PAUSE_MS;
  const message = `${problem.slice(0, TEXT_MAX_CHARS / 2)}; nothing of this round is offered`;
  appendEvent(cx, { type: 'allocation.refused', message });
}

/** What was made free there is offered, or not wanted any more: the rest is everybody's. */
export function endPreemption({ preemptions, changed }: MasterState, agentId: AgentId): void {
  if (preemptions.delete(agentId)) changed.agents.add(agentId);
}

/** An allocator that looks away from what frameworks refuse breaks nothing but their filters; constraints are held. */
function problemOfConstraints(state: MasterState, grants: readonly Grant[]): string | undefined {
  for (const { frameworkId, agentId, role } of grants) {
    const constraints = state.frameworks.get(frameworkId)?.record.offerConstraints;
    const groups = groupsOf(constraints, role);
    if (!groups) continue;
    if (satisfies(state.agents.get(agentId)?.record.info.attributes ?? {}, groups)) continue;
    return `framework ${frameworkId} is given agent ${agentId}, against its offer constraints`;
  }
  return undefined;
}
