/**
 * Whether what a framework is given keeps to what it has said of its needs: so many on one agent at most, not on some, all of
 * a gang or none. A grant is an amount and does not say which needs it is for, so it is held against the most that they may
 * have there: a round that keeps to them is never refused, and one is that leaves room for a unit which may not be there.
 */
import type { Resources } from '../../../protocol/resources.ts';
import {
  addResources,
  atLeastNothing,
  formatResources,
  isEmpty,
  NO_RESOURCES,
  scaleResources,
  subtractResources,
  unitsIn,
} from '../../../protocol/resources.ts';
import { hasAttributes, mostOn } from './needs.ts';
import type { AgentView, CandidateView, NeedView } from './port.ts';

/** What a candidate is given of an agent. */
export interface Given {
  readonly agent: AgentView;
  readonly resources: Resources;
}

/** True if a candidate has said anything that is checked here. Cost: its needs. */
export function isParticular({ needs }: CandidateView): boolean {
  return needs?.some((need) => isLimited(need) || need.gang === true) === true;
}

/** True if all of a need has to be given at once, or nothing. */
export function hasGang({ needs }: CandidateView): boolean {
  return needs?.some(({ gang }) => gang === true) === true;
}

function isLimited({ maxPerAgent, notOn }: NeedView): boolean {
  return maxPerAgent !== undefined || notOn !== undefined;
}

/**
 * @returns what a grant has too much for one agent, in words; undefined: nothing. Cost: the needs, usually one of them
 */
export function problemOnAgent(candidate: CandidateView, given: Given): string | undefined {
  const { needs = [], frameworkId } = candidate;
  const surplus = beyond(needs, given);
  const need = needs.find((one) => isLimited(one) && holdsUnit(one, surplus));
  if (!need) return undefined;
  const { agentId } = given.agent;
  const most = need.notOn?.has(agentId)
    ? 'none may be there'
    : `${String(mostOn(need, agentId))} more may be there`;
  return `framework ${frameworkId} is given ${formatResources(given.resources)} of agent ${agentId}, with room for more units of ${formatResources(need.resources)} than it wants there: ${most}`;
}

/**
 * @param given all that the candidate is given in the round
 * @returns which gang is given in part, in words; undefined: none. Cost: the gangs times what is given
 */
export function problemOfGangs(
  { needs = [], frameworkId }: CandidateView,
  given: readonly Given[],
): string | undefined {
  const parts = needs.filter((need) => need.gang === true && unitsOf(need, given) < need.count);
  if (parts.length === 0) return undefined;
  const others = needs.filter((need) => !parts.includes(need));
  for (const one of given) {
    const surplus = beyond(others, one);
    const gang = parts.find((need) => holdsUnit(need, surplus));
    if (!gang) continue;
    return `framework ${frameworkId} is given ${String(unitsOf(gang, given))} of a gang of ${String(gang.count)} units of ${formatResources(gang.resources)}, and wants all or none`;
  }
  return undefined;
}

function unitsOf(need: NeedView, given: readonly Given[]): number {
  return given.reduce(
    (sum, { agent, resources }) =>
      sum + Math.min(mayHave(need, agent), unitsIn(need.resources, resources)),
    0,
  );
}

function mayHave(need: NeedView, { agentId, attributes }: AgentView): number {
  if (!hasAttributes(attributes, need.attributes)) return 0;
  return Math.min(need.count, mostOn(need, agentId));
}

/** What of a grant is not explained by as many units of each need as may be on that agent. */
function beyond(needs: readonly NeedView[], { agent, resources }: Given): Resources {
  let explained = NO_RESOURCES;
  for (const need of needs) {
    const most = mayHave(need, agent);
    if (most === 0) continue;
    explained = addResources(explained, scaleResources(need.resources, most));
    const rest = atLeastNothing(subtractResources(resources, explained));
    if (isEmpty(rest)) return NO_RESOURCES;
  }
  return atLeastNothing(subtractResources(resources, explained));
}

function holdsUnit({ resources }: NeedView, surplus: Resources): boolean {
  return unitsIn(resources, surplus) > 0;
}
