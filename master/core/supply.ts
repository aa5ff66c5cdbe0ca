/**
 * What there is to be allocated: agents as an allocator sees them, pool by pool, and what of the cluster is free and kept.
 *
 * What is reserved for a role and idle counts for its guarantee, and for those of the roles above it:
 *
 *   guarantee shown = guarantee - idle reservations for the role and those below it, and at least nothing
 *
 * and no guarantee keeps reserved resources from those for whom they are reserved.
 */
import type { AgentId } from '../../protocol/ids.ts';
import type { Reservation } from '../../protocol/reservations.ts';
import type { Resources } from '../../protocol/resources.ts';
import {
  addResources,
  amountOf,
  atLeastNothing,
  fits,
  isEmpty,
  NO_RESOURCES,
  otherNames,
  subtractResources,
} from '../../protocol/resources.ts';
import type { PartialResources } from '../../protocol/roles.ts';
import { rolePath, WEIGHT_DEFAULT } from '../../protocol/roles.ts';
import type { AgentView, AllocationRound, RoleView } from './allocator/port.ts';
import type { StepContext } from './effects.ts';
import type { Pool } from './pools.ts';
import { hasReservations, poolsOf } from './pools.ts';
import type { Agent, MasterState } from './state.ts';
import { freeOf } from './state.ts';
import { withheldBy } from './withheld.ts';

/** Reservations for one role, of each agent at most one. */
export interface ReservedSupply {
  readonly reservedFor: string;
  readonly minimum: Resources;
  readonly agents: AgentView[];
  readonly reservations: Map<AgentId, Reservation>;
}

/** All that can be offered of some agents. */
export interface Supply {
  /** In the order in which it is offered: that of the deepest roles first. */
  readonly supply: readonly ReservedSupply[];
  /** What is not reserved. */
  readonly agents: readonly AgentView[];
}

/**
 * @param least where less is free that is not reserved, nobody has any use for it
 * @returns what of these agents can be offered, in their order
 */
export function supplyOf(
  { state, nowMs }: StepContext,
  agentIds: Iterable<AgentId>,
  least: Resources,
): Supply {
  const { agents, options } = state;
  const { minimumOffer } = options;
  const views: AgentView[] = [];
  const reserved = new Map<string, ReservedSupply>();
  for (const agentId of agentIds) {
    const agent = agents.get(agentId);
    if (!agent) continue;
    const isReserved = hasReservations(agent.record);
    // First what most agents of a full cluster have not.
    if (!isReserved && !hasFree(agent, least)) continue;
    if (withheldBy(state, agent, nowMs) !== undefined) continue;
    if (!isReserved) views.push(viewOf(agent, freeOf(agent)));
    for (const pool of isReserved ? poolsOf(agent) : []) {
      if (pool.reservation) addReserved(reserved, agent, pool, minimumOffer);
      else if (fits(least, pool.free)) views.push(viewOf(agent, pool.free));
    }
  }
  const depth = ({ reservedFor }: ReservedSupply): number => reservedFor.split('/').length;
  const supply = [...reserved.values()].sort(
    (a, b) => depth(b) - depth(a) || (a.reservedFor < b.reservedFor ? -1 : 1),
  );
  return { supply, agents: views };
}

function viewOf({ record: { info } }: Agent, free: Resources): AgentView {
  const { agentId, attributes, resources: total } = info;
  return { agentId, attributes, total, free };
}

/** Two reservations of one agent for one role stand in two rounds: in each the agent is there once. */
function addReserved(
  reserved: Map<string, ReservedSupply>,
  agent: Agent,
  { reservation, free }: Pool,
  minimumOffer: Resources,
): void {
  if (!reservation) return;
  const { role: reservedFor } = reservation;
  const { agentId } = agent.record.info;
  const minimum = minimumOf(reservation, minimumOffer);
  if (!fits(minimum, free)) return;
  for (let number = 0; ; number += 1) {
    const key = JSON.stringify([reservedFor, minimum, number]);
    const none = { agents: [], reservations: new Map<AgentId, Reservation>() };
    const some: ReservedSupply = reserved.get(key) ?? { reservedFor, minimum, ...none };
    if (some.reservations.has(agentId)) continue;
    some.reservations.set(agentId, reservation);
    some.agents.push(viewOf(agent, free));
    reserved.set(key, some);
    return;
  }
}

/** Of a reservation that never had so much of a resource it is not asked; never nothing. */
function minimumOf({ resources }: Reservation, { cpuMillis, memMib }: Resources): Resources {
  const least = {
    cpuMillis: Math.min(cpuMillis, resources.cpuMillis),
    memMib: Math.min(memMib, resources.memMib),
  };
  if (!isEmpty(least)) return least;
  const [name] = otherNames(resources).filter((one) => amountOf(resources, one) > 0);
  return name === undefined ? { cpuMillis: 1, memMib: 1 } : { ...least, others: { [name]: 1 } };
}

/** As `fits(minimum, freeOf(agent))`, without a vector for each agent of a cluster that is full. */
function hasFree({ record, used, offered }: Agent, minimum: Resources): boolean {
  const { cpuMillis, memMib } = record.info.resources;
  // A minimum of others is asked of `freeOf` by the allocators themselves.
  return (
    cpuMillis - used.cpuMillis - offered.cpuMillis >= minimum.cpuMillis &&
    memMib - used.memMib - offered.memMib >= minimum.memMib
  );
}

/** What of a round is of the whole cluster. */
type Whole = Pick<AllocationRound, 'free' | 'roles'>;

/**
 * A guarantee is not kept on an agent that is not offered. Without any guarantee it makes no difference, and nobody looks.
 *
 * @returns what is free and not reserved, and roles with what has to be kept of it. Cost: roles, agents with reservations, and
 *   where anybody has a guarantee all agents
 */
export function openTo(state: MasterState, nowMs: number): Whole {
  const { agents, reservedAgents } = state;
  const isKept = [...state.roles.values()].some(({ record }) => record?.guarantee);
  let free = subtractResources(state.total, state.taken);
  const idle = new Map<string, Resources>();
  for (const agentId of isKept ? agents.keys() : reservedAgents) {
    const agent = agents.get(agentId);
    if (agent?.record.state !== 'active') continue;
    const isWithheld = withheldBy(state, agent, nowMs) !== undefined;
    if (isWithheld && isKept) free = subtractResources(free, atLeastNothing(freeOf(agent)));
    else if (reservedAgents.has(agentId)) {
      free = subtractResources(free, idleOn(agent, isWithheld ? undefined : idle));
    }
  }
  const roles = roleViewsOf(state, (guarantee, role) => lessIdle(guarantee, idle.get(role)));
  return { free, roles };
}

/** What is reserved of an agent and neither used nor offered; what of it can be had is counted for the roles as well. */
function idleOn(agent: Agent, idle: Map<string, Resources> | undefined): Resources {
  let all = NO_RESOURCES;
  for (const { reservation, capacity, used, offered, free } of poolsOf(agent)) {
    if (!reservation) continue;
    all = addResources(all, subtractResources(capacity, addResources(used, offered)));
    if (!idle) continue;
    for (const role of rolePath(reservation.role)) {
      idle.set(role, addResources(idle.get(role) ?? NO_RESOURCES, free));
    }
  }
  return all;
}

/** @returns what is free of these pools, and roles without guarantees: limits hold */
export function ofReserved(state: MasterState, { agents }: Pick<AllocationRound, 'agents'>): Whole {
  let free = NO_RESOURCES;
  for (const agent of agents) free = addResources(free, agent.free);
  return { free, roles: roleViewsOf(state, () => undefined) };
}

function lessIdle(guarantee: PartialResources, idle: Resources | undefined): PartialResources {
  if (!idle) return guarantee;
  const { cpuMillis, memMib, others } = guarantee;
  const less = (of: number, part: number): number => Math.max(0, of - part);
  const left = Object.entries(others ?? {}).map(([name, amount]) => [
    name,
    less(amount, amountOf(idle, name)),
  ]);
  return {
    ...(cpuMillis !== undefined && { cpuMillis: less(cpuMillis, idle.cpuMillis) }),
    ...(memMib !== undefined && { memMib: less(memMib, idle.memMib) }),
    ...(others && { others: Object.fromEntries(left) as Record<string, number> }),
  };
}

function roleViewsOf(
  { roles }: MasterState,
  shown: (guarantee: PartialResources, role: string) => PartialResources | undefined,
): Map<string, RoleView> {
  const views = new Map<string, RoleView>();
  for (const [role, { record, own, holds }] of roles) {
    const { weight = WEIGHT_DEFAULT, guarantee, limit } = record ?? {};
    const kept = guarantee && shown(guarantee, role);
    views.set(role, { role, weight, guarantee: kept, limit, own, holds });
  }
  return views;
}
