/**
 * What an allocator is: one pure function from what is free and who wants it to who is offered what. The master calls it
 * once a batch, checks every grant (`check.ts`), and makes the offers; an allocator keeps nothing that it could not do
 * without, so that a new leader can begin with a new one.
 *
 * docs/allocators.md is its manual.
 */
import type { Labels } from '../../../protocol/fields.ts';
import type { AgentId, FrameworkId } from '../../../protocol/ids.ts';
import type { Resources } from '../../../protocol/resources.ts';
import type { PartialResources } from '../../../protocol/roles.ts';
import type { Placement } from '../../../protocol/task.ts';

/** An agent that has something free. */
export interface AgentView {
  readonly agentId: AgentId;
  readonly attributes: Labels;
  readonly total: Resources;
  /** Neither used nor offered. */
  readonly free: Resources;
}

/** A part of what a framework has said that it needs. */
export interface NeedView {
  /** Of one unit. Never empty. */
  readonly resources: Resources;
  /** Units that are neither running nor in an offer that is not answered; at least 1. */
  readonly count: number;
  /** An agent must have all of them, each with exactly that value. */
  readonly attributes: Labels;
  /** Units of it in offers of one agent, at most; `offeredOn` has those that there are. */
  readonly maxPerAgent?: number | undefined;
  readonly offeredOn?: ReadonlyMap<AgentId, number> | undefined;
  /** Agents that will not do. */
  readonly notOn?: ReadonlySet<AgentId> | undefined;
  /** Which agents come first: the fullest (`pack`) or the emptiest; absent: in turn. */
  readonly placement?: Placement | undefined;
  /** All units or none. */
  readonly gang?: boolean | undefined;
  /** Whether tasks may be ended for it; the allocators that come with Kaon do not look at it. Default 0. */
  readonly priority?: number;
}

/** A framework in one of its roles that may be offered something. */
export interface CandidateView {
  readonly frameworkId: FrameworkId;
  readonly role: string;
  readonly registeredAtMs: number;
  /** Its tasks, executors and outstanding offers in this role. */
  readonly holds: Resources;
  /** Absent: it has not said what it needs, and takes whatever there is. Never empty. */
  readonly needs?: readonly NeedView[];
  /** Whether it has declined anything of this agent and not yet revived. */
  mayRefuse(agentId: AgentId): boolean;
  /** Whether an offer of so much would be within what it has declined of this agent. */
  refuses(agentId: AgentId, resources: Resources): boolean;
}

/** A role that somebody works under, or that an operator has said something of. */
export interface RoleView {
  readonly role: string;
  readonly weight: number;
  readonly guarantee?: PartialResources | undefined;
  readonly limit?: PartialResources | undefined;
  /** Held under this role itself. */
  readonly own: Resources;
  /** The same with the roles below it. */
  readonly holds: Resources;
}

/** All that a round is decided on. Nothing of it may be changed. */
export interface AllocationRound {
  readonly nowMs: number;
  /** Of the agents of the cluster that can be offered. */
  readonly total: Resources;
  /** Free on all of them, those included that are not in this round; what is reserved is in its own rounds only. */
  readonly free: Resources;
  /** Smaller amounts are of no use to anybody. */
  readonly minimum: Resources;
  /**
   * To be looked at, in the order in which they may be filled. Not those where nothing has changed since everybody in this
   * round was offered what they have.
   */
  readonly agents: readonly AgentView[];
  /**
   * What is reserved is decided in rounds of its own: then these agents are what is reserved of them for that role, and only
   * candidates are there that may have it. Absent: a round of what is not reserved.
   */
  readonly reservedFor?: string | undefined;
  readonly candidates: readonly CandidateView[];
  /** By name, with every role above a candidate's. */
  readonly roles: ReadonlyMap<string, RoleView>;
}

/** Resources of one agent for one framework. */
export interface Grant {
  readonly frameworkId: FrameworkId;
  readonly role: string;
  readonly agentId: AgentId;
  readonly resources: Resources;
}

/**
 * Decides who is offered what. Must not change the round, look at a clock or at chance, or take long.
 *
 * @returns at most one grant for each of a framework, role and agent of the round
 */
export type Allocator = (round: AllocationRound) => readonly Grant[];
