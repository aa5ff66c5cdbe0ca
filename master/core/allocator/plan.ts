/**
 * On which agents the units of one need go, all at once: for needs that say in which order agents are looked at, and for those
 * of which all units are wanted or none.
 *
 *   in turn   as many on each agent as fit, in the order of the round
 *   pack      the same, beginning with the agent of which the largest fraction is taken
 *   spread    one on each agent, beginning with the one of which the least is taken; then one more on each
 */
import type { Resources } from '../../../protocol/resources.ts';
import { addResources, scaleResources, subtractResources } from '../../../protocol/resources.ts';
import { unitsOn } from './needs.ts';
import type { AgentView, NeedView } from './port.ts';

/** Units by agent. */
export interface Plan {
  readonly units: ReadonlyMap<AgentView, number>;
  /** Of all agents. */
  readonly count: number;
}

/** Where a plan is made, and for whom. */
export interface Ground {
  /** In the order in which they are looked at: `Ranking`. */
  readonly agents: readonly AgentView[];
  /** What is left of an agent. */
  left(agent: AgentView): Resources;
  /** What the same framework has been given of it in this round, and how many units of the need are in that. */
  given(agent: AgentView): { readonly resources: Resources; readonly units: number };
  refuses(agent: AgentView, resources: Resources): boolean;
}

/** @returns where up to `count` units of a need go. Cost: agents; spread: for each lap */
export function planOf(need: NeedView, count: number, ground: Ground): Plan {
  const units = new Map<AgentView, number>();
  const each = need.placement === 'spread' ? 1 : Infinity;
  let open = count;
  let { agents } = ground;
  while (open > 0 && agents.length > 0) {
    const next: AgentView[] = [];
    for (const agent of agents) {
      if (open === 0) break;
      const before = units.get(agent) ?? 0;
      const more = Math.min(each, open, roomFor(need, agent, before, ground));
      if (more <= 0) continue;
      units.set(agent, before + more);
      open -= more;
      if (each === 1) next.push(agent);
    }
    agents = next;
  }
  return withoutRefused(need, { units, count: count - open }, ground);
}

/** How many more units an agent has room for, of which it has `planned`. */
function roomFor(need: NeedView, agent: AgentView, planned: number, ground: Ground): number {
  const { resources, units } = ground.given(agent);
  const whole = addResources(resources, ground.left(agent));
  // Even with all that is left of it: there is no use in looking further.
  if (planned === 0 && ground.refuses(agent, whole)) return 0;
  const left = subtractResources(ground.left(agent), scaleResources(need.resources, planned));
  return unitsOn(need, agent, left, units + planned);
}

/** What would be within what was declined is not offered, and does not count. */
function withoutRefused(need: NeedView, plan: Plan, ground: Ground): Plan {
  const units = new Map<AgentView, number>();
  let count = 0;
  for (const [agent, some] of plan.units) {
    const { resources } = ground.given(agent);
    const all = addResources(resources, scaleResources(need.resources, some));
    if (ground.refuses(agent, all)) continue;
    units.set(agent, some);
    count += some;
  }
  return { units, count };
}
