/**
 * What the master asks of every round, whoever has decided it: nothing is given that is not there, to nobody who may not have
 * it, and nothing where it is not wanted (`check-needs.ts`). A round with one wrong grant is refused as a whole: an allocator that is wrong once has not understood the rest.
 */
import type { Resources } from '../../../protocol/resources.ts';
import {
  addResources,
  fits,
  formatResources,
  isEmpty,
  subtractResources,
} from '../../../protocol/resources.ts';
import type { PartialResources } from '../../../protocol/roles.ts';
import { isBeyond, rolePath } from '../../../protocol/roles.ts';
import type { Given } from './check-needs.ts';
import { hasGang, isParticular, problemOfGangs, problemOnAgent } from './check-needs.ts';
import type { AgentView, AllocationRound, CandidateView, Grant } from './port.ts';

/**
 * @param grants whatever an allocator has returned
 * @returns what is wrong with the round, with ids and amounts; undefined: nothing. Cost: agents, needs and grants
 */
export function problemOfGrants(round: AllocationRound, grants: unknown): string | undefined {
  if (!Array.isArray(grants)) return `the allocator returned ${describe(grants)}, not a list`;
  const books = openBooks(round);
  for (const one of grants as readonly unknown[]) {
    if (!isGrant(one)) return `the allocator returned ${describe(one)} as a grant`;
    const problem = enter(books, one);
    if (problem !== undefined) return problem;
  }
  for (const { candidate, given } of books.gangs) {
    const problem = problemOfGangs(candidate, given);
    if (problem !== undefined) return problem;
  }
  return undefined;
}

interface Limited {
  readonly role: string;
  readonly limit: PartialResources;
  held: Resources;
}

/** What has been given so far. */
interface Books {
  readonly agents: ReadonlyMap<string, AgentBook>;
  /** By framework and role. */
  readonly candidates: ReadonlyMap<string, ReadonlyMap<string, Receiver>>;
  /** Pairs of an agent and a receiver. */
  readonly seen: Set<number>;
  readonly receivers: number;
  /** Those that want all of something or nothing: known when all is given. */
  readonly gangs: readonly GangBook[];
}

interface AgentBook {
  readonly number: number;
  readonly view: AgentView;
  left: Resources;
}

interface GangBook {
  readonly candidate: CandidateView;
  readonly given: Given[];
}

interface Receiver {
  readonly number: number;
  readonly limits: readonly Limited[];
  /** Undefined for most, who have said nothing of where their units go. */
  readonly particular: CandidateView | undefined;
  readonly given: Given[] | undefined;
}

function openBooks({ agents, candidates, roles }: AllocationRound): Books {
  const limited = new Map<string, Limited>();
  for (const { role, limit, holds } of roles.values()) {
    if (limit) limited.set(role, { role, limit, held: holds });
  }
  const receivers = new Map<string, Map<string, Receiver>>();
  const gangs: GangBook[] = [];
  for (const [number, candidate] of candidates.entries()) {
    const { frameworkId, role } = candidate;
    const particular = isParticular(candidate) ? candidate : undefined;
    const given: Given[] | undefined = particular && hasGang(candidate) ? [] : undefined;
    if (given) gangs.push({ candidate, given });
    const byRole = receivers.get(frameworkId) ?? new Map<string, Receiver>();
    const path = limited.size === 0 ? [] : rolePath(role);
    const limits = path.flatMap((name) => limited.get(name) ?? []);
    byRole.set(role, { number, limits, particular, given });
    receivers.set(frameworkId, byRole);
  }
  return {
    agents: new Map(
      agents.map((view, number) => [view.agentId, { number, view, left: view.free }]),
    ),
    candidates: receivers,
    seen: new Set(),
    receivers: candidates.length,
    gangs,
  };
}

function enter(books: Books, { agentId, frameworkId, role, resources }: Grant): string | undefined {
  const agent = books.agents.get(agentId);
  if (!agent) return `agent ${agentId} is not in the round`;
  const receiver = books.candidates.get(frameworkId)?.get(role);
  if (!receiver) return `framework ${frameworkId} wants nothing in role ${role}`;
  const pair = agent.number * books.receivers + receiver.number;
  if (books.seen.has(pair)) return `framework ${frameworkId} is given agent ${agentId} twice`;
  books.seen.add(pair);
  if (!fits(resources, agent.left)) {
    return `agent ${agentId} has ${formatResources(agent.left)} left, framework ${frameworkId} is given ${formatResources(resources)}`;
  }
  agent.left = subtractResources(agent.left, resources);
  for (const limit of receiver.limits) {
    limit.held = addResources(limit.held, resources);
    // What is not given any more of may be over its limit: it was lowered, or tasks came back.
    if (!isBeyond(limit.held, limit.limit, resources)) continue;
    return `role ${limit.role} would hold ${formatResources(limit.held)}, more than its limit`;
  }
  if (!receiver.particular) return undefined;
  const given = { agent: agent.view, resources };
  receiver.given?.push(given);
  return problemOnAgent(receiver.particular, given);
}

function isGrant(one: unknown): one is Grant {
  if (typeof one !== 'object' || one === null) return false;
  const { agentId, frameworkId, role, resources } = one as Partial<Record<keyof Grant, unknown>>;
  if ([agentId, frameworkId, role].some((name) => typeof name !== 'string')) return false;
  if (typeof resources !== 'object' || resources === null) return false;
  const { cpuMillis, memMib, others } = resources as Partial<Record<keyof Resources, unknown>>;
  if (others !== undefined && (typeof others !== 'object' || others === null)) return false;
  const amounts: unknown[] = [cpuMillis, memMib, ...Object.values(others ?? {})];
  if (!amounts.every((amount) => Number.isSafeInteger(amount) && Number(amount) >= 0)) return false;
  return !isEmpty(resources as Resources);
}

function describe(value: unknown): string {
  const text = typeof value === 'object' ? JSON.stringify(value) : String(value);
  return text.slice(0, 200);
}
