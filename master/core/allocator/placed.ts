/**
 * The phase of needs that say where their units go (`placement`), and of gangs: all units or none.
 *
 * Such a need is served when it is the turn of its leaf, on all agents at once. So that it gets no more than its share, the
 * others get theirs meanwhile, in numbers only and out of one pool of all that is free; that is taken back at the end, and the
 * next phase gives it agent by agent. A gang that does not fit takes nothing: it waits without holding anything, so that two
 * of them cannot hold each other up, and is tried again in every round.
 */
import type { Resources } from '../../../protocol/resources.ts';
import {
  addResources,
  fits,
  scaleResources,
  smallerOf,
  subtractResources,
  unitsIn,
} from '../../../protocol/resources.ts';
import type { Placement } from '../../../protocol/task.ts';
import type { Ground, Plan } from './plan.ts';
import { planOf } from './plan.ts';
import type { AgentView } from './port.ts';
import { roomOf } from './quota.ts';
import type { Ranking } from './ranking.ts';
import { rank, rerank } from './ranking.ts';
import type { Run } from './run.ts';
import { givenOf, leftOf } from './run.ts';
import type { Node } from './tree.ts';
import { charge, discharge, nextLeaf } from './tree.ts';
import { unitsOfTurn } from './turns.ts';
import type { Need } from './wants.ts';
import { countUnits } from './wants.ts';

/** Of what a leaf is sure of, so much at once. */
const PARTS_OF_DUE = 10;

interface Placing {
  readonly run: Run;
  readonly turn: number;
  /** All that is free, less what was given and what others have in numbers. */
  pool: Resources;
  /** What leaves have in numbers only. */
  readonly lent: Map<Node, Resources>;
  readonly lentUnits: Map<Need, number>;
  readonly rankings: Map<Placement, Ranking>;
  /** Tried, and of no more use in this round. */
  readonly over: Set<Need>;
}

/** Cost: nothing if nobody has such a need; else agents, sorted, for each turn of one, and the turns of everybody. */
export function placeNeeds(run: Run): void {
  const { tree, wants } = run;
  const isAny =
    wants.gangs.size > 0 ||
    tree.leaves.some((leaf) => wants.needs.get(leaf)?.some(({ need }) => need.placement));
  if (!isAny) return;
  const pool = [...run.owed.values()]
    .flat()
    .reduce((left, { resources }) => subtractResources(left, resources), run.shown);
  const turn = (run.turn += 1);
  const placing: Placing = {
    ...{ run, turn, pool, lent: new Map(), lentUnits: new Map() },
    ...{ rankings: new Map(), over: new Set() },
  };
  for (;;) {
    const leaf = nextLeaf(tree.root, turn);
    if (!leaf) break;
    if (!serve(placing, leaf)) leaf.deadIn = turn;
  }
  for (const [leaf, resources] of placing.lent) {
    run.free = addResources(run.free, resources);
    discharge(tree, leaf, resources);
  }
}

function serve(placing: Placing, leaf: Node): boolean {
  const { run, over, pool } = placing;
  const room = run.tree.hasQuota ? smallerOf(pool, roomOf(leaf, 'share', run.free)) : pool;
  const needs = run.wants.needs.get(leaf);
  for (const need of [...(run.wants.gangs.get(leaf) ?? []), ...(needs ?? [])]) {
    if (need.left === 0 || over.has(need)) continue;
    const isPlaced = need.need.gang ?? need.need.placement !== undefined;
    const isServed = isPlaced
      ? place(placing, leaf, need, room)
      : lendUnits(placing, leaf, need, room);
    if (isServed) return true;
    over.add(need);
  }
  return needs ? false : lendAgent(placing, leaf, room);
}

/** Of a gang all units, of others as many as it is the turn of. */
function place(placing: Placing, leaf: Node, need: Need, room: Resources): boolean {
  const { run, turn } = placing;
  const { resources, gang } = need.need;
  const fit = Math.min(need.left, unitsIn(resources, room));
  if (fit === 0 || (gang && fit < need.left)) return false;
  const count = gang ? fit : Math.min(fit, piece(run, leaf, resources, turn));
  const plan = planOf(need.need, count, groundOf(placing, leaf, need));
  if (plan.count === 0 || (gang && plan.count < count)) return false;
  give(placing, leaf, need, plan);
  return true;
}

function piece(run: Run, leaf: Node, unit: Resources, turn: number): number {
  const sure = Math.floor((leaf.due * unitsIn(unit, run.shown)) / PARTS_OF_DUE);
  // With few agents single units are exact, and cheap.
  return Math.max(unitsOfTurn(run.tree, leaf, unit, turn), run.round.agents.length < 50 ? 1 : sure);
}

function agentsFor(
  { run, rankings }: Placing,
  { need: { placement } }: Need,
): readonly AgentView[] {
  if (placement === undefined) return run.round.agents;
  const known = rankings.get(placement);
  const ranking = known ?? rank(run.round.agents, placement, (agent) => leftOf(run, agent));
  rankings.set(placement, ranking);
  return ranking.agents;
}

function groundOf(placing: Placing, leaf: Node, need: Need): Ground {
  const { run } = placing;
  return {
    agents: agentsFor(placing, need),
    left: (agent) => leftOf(run, agent),
    given: (agent) => givenOf(run, agent, leaf, need),
    refuses: (agent, resources) =>
      leaf.leaf?.mayRefuse(agent.agentId) === true && leaf.leaf.refuses(agent.agentId, resources),
  };
}

function give(placing: Placing, leaf: Node, need: Need, plan: Plan): void {
  const { run } = placing;
  for (const [agent, count] of plan.units) {
    const part = scaleResources(need.need.resources, count);
    const portions = run.owed.get(agent) ?? [];
    run.owed.set(agent, portions);
    const before = portions.find((portion) => portion.leaf === leaf);
    const portion = before ?? { leaf, resources: part, units: [] };
    if (before) before.resources = addResources(before.resources, part);
    else portions.push(portion);
    portion.units.push({ need, count });
    for (const ranking of placing.rankings.values()) rerank(ranking, agent, leftOf(run, agent));
  }
  const all = scaleResources(need.need.resources, plan.count);
  if (need.need.gang) need.left = 0;
  else countUnits(run.wants, need, plan.count);
  take(placing, leaf, all);
}

function take(placing: Placing, leaf: Node, part: Resources): void {
  const { run } = placing;
  placing.pool = subtractResources(placing.pool, part);
  run.free = subtractResources(run.free, part);
  charge(run.tree, leaf, part);
}

function lend(placing: Placing, leaf: Node, part: Resources): void {
  const before = placing.lent.get(leaf);
  placing.lent.set(leaf, before ? addResources(before, part) : part);
  take(placing, leaf, part);
}

function lendUnits(placing: Placing, leaf: Node, need: Need, room: Resources): boolean {
  const { run, turn, lentUnits } = placing;
  const { resources } = need.need;
  const before = lentUnits.get(need) ?? 0;
  const fit = Math.min(need.left - before, unitsIn(resources, room));
  if (fit <= 0) return false;
  const count = Math.min(fit, piece(run, leaf, resources, turn));
  lentUnits.set(need, before + count);
  lend(placing, leaf, scaleResources(resources, count));
  return true;
}

/** Who takes whatever there is, is counted as taking the first agent that is not taken at each of its turns. */
function lendAgent(placing: Placing, leaf: Node, room: Resources): boolean {
  const { run } = placing;
  const { agents, minimum } = run.round;
  const [largest] = agents.map((agent: AgentView) => agent.free);
  const part = smallerOf(room, largest ?? room);
  if (!fits(minimum, part)) return false;
  lend(placing, leaf, part);
  return true;
}
