/** Why a command is not placed yet, in one sentence, from what the registry says of the agents. Pure. */
import type { Resources } from '../../framework/index.ts';
import { fits, formatResources } from '../../framework/index.ts';

/** An agent as far as placement goes. */
export interface AgentRoom {
  readonly hostname: string;
  readonly active: boolean;
  readonly total: Resources;
  /** What is neither used nor offered. */
  readonly free: Resources;
  readonly attributes: Readonly<Record<string, string>>;
}

/**
 * @param agents every agent of the cluster
 * @param need one task
 * @returns what stands in the way, the nearest first: no agents, attributes, size, and last that all room is taken
 */
export function whyWaiting(
  agents: readonly AgentRoom[],
  need: Resources,
  attributes: Readonly<Record<string, string>>,
): string {
  const asked = formatResources(need);
  if (agents.length === 0) return 'no agent has registered with this cluster yet';
  const active = agents.filter((agent) => agent.active);
  if (active.length === 0) return `none of the ${String(agents.length)} agents is reachable`;
  const suitable = active.filter((agent) => hasAll(agent.attributes, attributes));
  if (suitable.length === 0) {
    const wanted = Object.entries(attributes).map(([key, value]) => `${key}=${value}`);
    return `none of ${countOf(active)} has ${wanted.join(' and ')}`;
  }
  const largeEnough = suitable.filter((agent) => fits(need, agent.total));
  if (largeEnough.length === 0) {
    const largest = largestOf(suitable, (agent) => agent.total);
    return `no agent is large enough for ${asked}: the largest is ${largest.hostname} with ${formatResources(largest.total)}`;
  }
  const roomy = largeEnough.filter((agent) => fits(need, agent.free));
  if (roomy.length > 0)
    return `${asked} are free on ${roomy[0]?.hostname ?? ''}, and not offered yet: kaon why says if anything is in the way`;
  const freest = largestOf(largeEnough, (agent) => agent.free);
  const where = largeEnough.length === 1 ? 'the one agent' : `any of ${countOf(largeEnough)}`;
  return `${asked} are not free on ${where}: most is free on ${freest.hostname}, ${formatResources(freest.free)} of ${formatResources(freest.total)}`;
}

function countOf(agents: readonly AgentRoom[]): string {
  return agents.length === 1 ? 'the one agent' : `the ${String(agents.length)} agents`;
}

function hasAll(
  has: Readonly<Record<string, string>>,
  wanted: Readonly<Record<string, string>>,
): boolean {
  return Object.entries(wanted).every(([key, value]) => has[key] === value);
}

/** By CPU first, because that is what runs out first on most nodes. */
function largestOf(agents: readonly AgentRoom[], of: (agent: AgentRoom) => Resources): AgentRoom {
  return agents.reduce((best, agent) => {
    const [a, b] = [of(agent), of(best)];
    return a.cpuMillis > b.cpuMillis || (a.cpuMillis === b.cpuMillis && a.memMib > b.memMib)
      ? agent
      : best;
  });
}
