/** What a framework has said that it needs, against what agents have. */
import type { Labels } from '../../../protocol/fields.ts';
import type { AgentId } from '../../../protocol/ids.ts';
import type { Resources } from '../../../protocol/resources.ts';
import { unitsIn } from '../../../protocol/resources.ts';
import type { AgentView, NeedView } from './port.ts';

/** Does an agent have all the wanted attributes, each with exactly that value? */
export function hasAttributes(has: Labels, wanted: Labels): boolean {
  for (const key in wanted) if (has[key] !== wanted[key]) return false;
  return true;
}

/**
 * How many units of a need may go to an agent, whatever is free there.
 *
 * @returns 0 for one that will not do; Infinity if nothing is said of it
 */
export function mostOn(need: NeedView, agentId: AgentId): number {
  if (need.notOn?.has(agentId)) return 0;
  if (need.maxPerAgent === undefined) return Infinity;
  return Math.max(0, need.maxPerAgent - (need.offeredOn?.get(agentId) ?? 0));
}

/**
 * @param given units of it that the agent has been given in this round
 * @returns how many more go into `room` there
 */
export function unitsOn(
  need: NeedView,
  { agentId, attributes }: AgentView,
  room: Resources,
  given: number,
): number {
  if (!hasAttributes(attributes, need.attributes)) return 0;
  const most = mostOn(need, agentId) - given;
  return most <= 0 ? 0 : Math.min(most, unitsIn(need.resources, room));
}
