/**
 * Why an agent does not give what is needed: the first thing that stands in the way, in the words of the allocation
 * (`allocation.ts`, `allocator/`). Reads the state, and changes nothing.
 */
import type { AgentReason } from '../../protocol/explanation.ts';
import { groupsOf, unsatisfied } from '../../protocol/offer-constraints.ts';
import { formatCpus, formatDuration, formatMib } from '../../protocol/quantities.ts';
import { isReservedFor } from '../../protocol/reservations.ts';
import type { Resources } from '../../protocol/resources.ts';
import {
  atLeastNothing,
  fits,
  formatOthers,
  formatResources,
  largerOf,
  NO_RESOURCES,
  subtractResources,
  sumResources,
} from '../../protocol/resources.ts';
import { mostOn } from './allocator/needs.ts';
import type { NeedView } from './allocator/port.ts';
import type { StepContext } from './effects.ts';
import { filterUntilMs } from './filters.ts';
import type { Pool } from './pools.ts';
import { poolsOf } from './pools.ts';
import type { Agent, Framework } from './state.ts';
import type { Withheld } from './withheld.ts';
import { WITHHELD_WORDS, withheldBy } from './withheld.ts';

/** A need, for whom, and the agent that it is held against. */
export interface Case {
  /** Absent: nobody has this need yet. */
  readonly framework: Framework | undefined;
  readonly role: string;
  readonly need: NeedView;
  readonly agent: Agent;
}

/** @returns the first thing that stands in the way there */
export function reasonOf(cx: StepContext, one: Case): AgentReason {
  const { agentId, hostname } = one.agent.record.info;
  const [code, message] = obstacleOf(cx, one) ?? ['free', freeWords(cx, one)];
  return { agentId, hostname, code, message };
}

function freeWords(cx: StepContext, one: Case): string {
  const [most] = roomy(cx, one).filter((pool) => declinedUntilMs(cx, one, pool) === undefined);
  return `${formatResources(most?.free ?? NO_RESOURCES)} are free`;
}

/** @returns the pools of an agent that a role may have: what is reserved for it comes first */
export function poolsFor(agent: Agent, role: string): readonly Pool[] {
  return poolsOf(agent).filter(
    ({ reservation }) => !reservation || isReservedFor(reservation, role),
  );
}

/** Where a unit could be offered, as far as there is room. */
function roomy(cx: StepContext, { agent, role, need }: Case): readonly Pool[] {
  const least = leastOf(cx, need.resources);
  return poolsFor(agent, role).filter(({ reservation, free }) =>
    fits(reservation ? need.resources : least, free),
  );
}

/** An agent that has less than the smallest offer is not offered, however little is needed. */
function leastOf({ state }: StepContext, unit: Resources): Resources {
  return largerOf(unit, state.options.minimumOffer);
}

type Obstacle = readonly [code: AgentReason['code'], message: string];

function obstacleOf(cx: StepContext, one: Case): Obstacle | undefined {
  const { agent } = one;
  const withheld = withheldBy(cx.state, agent, cx.nowMs);
  if (withheld !== undefined) return [withheld, wordsOf(withheld, agent)];
  return (
    wrongAttribute(one) ?? broken(one) ?? elsewhere(one) ?? lacking(cx, one) ?? declined(cx, one)
  );
}

function wordsOf(withheld: Withheld, { record }: Agent): string {
  return withheld === 'unreachable' ? `it is ${record.state}` : WITHHELD_WORDS[withheld];
}

function wrongAttribute({ need, agent }: Case): Obstacle | undefined {
  const { attributes } = agent.record.info;
  const wrong = Object.entries(need.attributes).find(([key, value]) => attributes[key] !== value);
  if (!wrong) return undefined;
  const [key, value] = wrong;
  const has = Object.hasOwn(attributes, key) ? `it has ${String(attributes[key])}` : 'it has none';
  return ['attribute', `${key}=${value} is wanted, ${has}`];
}

function broken({ framework, role, agent }: Case): Obstacle | undefined {
  const groups = groupsOf(framework?.record.offerConstraints, role);
  const words = groups ? unsatisfied(agent.record.info.attributes, groups) : [];
  return words.length === 0 ? undefined : ['constraint', words.join('; or ')];
}

/** Where its units are to go, or not. */
function elsewhere({ need, agent }: Case): Obstacle | undefined {
  const { agentId } = agent.record.info;
  if (need.notOn?.has(agentId)) return ['not-on', 'it is among those that will not do'];
  if (mostOn(need, agentId) > 0) return undefined;
  return ['per-agent', 'as much of it is offered there as may be on one agent'];
}

function declined(cx: StepContext, one: Case): Obstacle | undefined {
  const ends = roomy(cx, one).map((pool) => declinedUntilMs(cx, one, pool));
  const until = ends.flatMap((untilMs) => untilMs ?? []);
  if (until.length < ends.length) return undefined;
  return ['declined', `declined by it, for ${formatDuration(Math.min(...until) - cx.nowMs)} more`];
}

function declinedUntilMs(
  { nowMs }: StepContext,
  { framework, role, need, agent }: Case,
  { reservation }: Pool,
): number | undefined {
  if (!framework) return undefined;
  const { agentId } = agent.record.info;
  const { resources } = need;
  return filterUntilMs(framework.filters, {
    ...{ agentId, reservationId: reservation?.reservationId, role, resources, nowMs },
  });
}

function lacking(cx: StepContext, one: Case): Obstacle | undefined {
  return roomy(cx, one).length > 0 ? undefined : tooLittle(cx, one);
}

function tooLittle(cx: StepContext, { agent, role, need }: Case): Obstacle {
  const needed = leastOf(cx, need.resources);
  const pools = poolsOf(agent);
  const own = poolsFor(agent, role);
  // What is in offers may come back.
  const inOffers = own.filter((pool) => fits(needed, pool.unused));
  if (inOffers.length > 0) return ['offered', `offered: ${offersOf(cx, agent, inOffers)}`];
  if (!fits(needed, agent.record.info.resources)) {
    return ['too-small', `it has ${formatResources(agent.record.info.resources)} at all`];
  }
  if (fits(needed, unusedIn(own))) {
    return [
      'too-little',
      'it has enough only in several reservations, of which each has too little',
    ];
  }
  const others = pools.filter(
    ({ reservation }) => reservation && !isReservedFor(reservation, role),
  );
  if (others.length > 0 && fits(needed, unusedIn(pools))) {
    const said = others.map(({ reservation, unused }) => {
      return `${formatResources(unused)} for ${String(reservation?.role)}`;
    });
    return ['reserved', `reserved: ${said.join('; ')}`];
  }
  return ['too-little', `too little by ${lackWords(subtractResources(needed, unusedIn(own)))}`];
}

function offersOf({ state, nowMs }: StepContext, agent: Agent, pools: readonly Pool[]): string {
  const ids = new Set(pools.map(({ reservation }) => reservation?.reservationId));
  return [...agent.offers]
    .flatMap((offerId) => state.offers.get(offerId) ?? [])
    .filter(({ reservation }) => ids.has(reservation?.reservationId))
    .map(({ frameworkId, resources, expiresAtMs }) => {
      const name = state.frameworks.get(frameworkId)?.record.info.name ?? frameworkId;
      const left = formatDuration(Math.max(0, expiresAtMs - nowMs));
      return `${formatResources(resources)} to ${name} for ${left} more`;
    })
    .join('; ');
}

function lackWords(missing: Resources): string {
  return [
    ...(missing.cpuMillis > 0 ? [`${formatCpus(missing.cpuMillis)} cpus`] : []),
    ...(missing.memMib > 0 ? [formatMib(missing.memMib)] : []),
    ...formatOthers(atLeastNothing(missing)),
  ].join(' and ');
}

function unusedIn(pools: readonly Pool[]): Resources {
  return sumResources(pools.map(({ unused }) => unused));
}
