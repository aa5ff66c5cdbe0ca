/** Agents by how full they are, for needs with a placement. */
import type { Resources } from '../../../protocol/resources.ts';
import { subtractResources } from '../../../protocol/resources.ts';
import type { Placement } from '../../../protocol/task.ts';
import type { AgentView } from './port.ts';
import { dominantShare } from './shares.ts';

/** In order, and what the order goes by; among equals the order of the round. */
export interface Ranking {
  readonly agents: AgentView[];
  readonly ranks: Map<AgentView, { key: number; readonly index: number }>;
  readonly sign: 1 | -1;
}

/** @returns agents, the fullest first (`pack`) or the emptiest. Cost: agents, sorted */
export function rank(
  agents: readonly AgentView[],
  placement: Placement,
  left: (agent: AgentView) => Resources,
): Ranking {
  const sign = placement === 'pack' ? -1 : 1;
  const ranks = new Map(
    agents.map((agent, index) => [agent, { key: sign * fullness(agent, left(agent)), index }]),
  );
  const ranking: Ranking = { agents: [...agents], ranks, sign };
  ranking.agents.sort((a, b) => compare(ranking, a, b));
  return ranking;
}

/** The largest fraction of any of its resources that is taken. */
function fullness({ total }: AgentView, left: Resources): number {
  return dominantShare(subtractResources(total, left), total);
}

function compare({ ranks }: Ranking, a: AgentView, b: AgentView): number {
  const [one, other] = [ranks.get(a), ranks.get(b)];
  if (!one || !other) return 0;
  return one.key === other.key ? one.index - other.index : one.key - other.key;
}

/** Moves an agent of which something has been taken. Cost: logarithmic, and one move of memory. */
export function rerank(ranking: Ranking, agent: AgentView, left: Resources): void {
  const { agents, ranks, sign } = ranking;
  const known = ranks.get(agent);
  if (!known) return;
  agents.splice(placeOf(ranking, agent), 1);
  known.key = sign * fullness(agent, left);
  agents.splice(placeOf(ranking, agent), 0, agent);
}

function placeOf(ranking: Ranking, agent: AgentView): number {
  let [from, to] = [0, ranking.agents.length];
  while (from < to) {
    const middle = (from + to) >>> 1;
    if (compare(ranking, ranking.agents[middle] as AgentView, agent) < 0) from = middle + 1;
    else to = middle;
  }
  return from;
}
