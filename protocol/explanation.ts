/** Why a framework waits, what is known of a task, and what would fit: the answers to `Explain`, as `kaon why` and the API show them. */
import { z } from 'zod';
import { Labels } from './fields.ts';
import { AgentId, FrameworkId, TaskId } from './ids.ts';
import { isEmpty, Resources } from './resources.ts';
import { RoleName } from './roles.ts';
import { TaskState } from './task-state.ts';

/** Agents that are named; of more there are the counts. */
export const EXPLAINED_AGENTS_MAX = 200;

/** Needs that are explained, the first ones: each is held against every agent while everybody waits. */
export const EXPLAINED_NEEDS_MAX = 20;
/** More units than that are not counted. */
export const FITS_MAX = 1_000_000;

/** The first thing that stands in the way on an agent; `free`: nothing does, but others may be served before. */
export const ReasonCode = z.enum([
  'unreachable',
  'not-connected',
  'drained',
  'deactivated',
  'not-whitelisted',
  'attribute',
  'constraint',
  'not-on',
  'per-agent',
  'too-small',
  'too-little',
  'offered',
  'reserved',
  'declined',
  'free',
]);
export type ReasonCode = z.infer<typeof ReasonCode>;

/** Of one agent. */
export const AgentReason = z.object({
  agentId: AgentId,
  hostname: z.string(),
  code: ReasonCode,
  message: z.string(),
});
export type AgentReason = z.infer<typeof AgentReason>;

/** Of one thing that is needed. */
export const NeedExplanation = z.object({
  role: z.string(),
  /** Of one unit; absent: it takes anything. */
  resources: Resources.optional(),
  /** Units that are neither running nor offered. */
  count: z.int(),
  attributes: Labels,
  /** Agents by code. */
  counts: z.record(z.string(), z.int()),
  agents: z.array(AgentReason),
  /** Of a gang: how many of its units would fit now. */
  gangFits: z.int().optional(),
  /** Limits of its role, and guarantees of others, that leave no room. */
  quota: z.array(z.string()),
  /** Units that could be offered at this moment, within quota, `FITS_MAX` at most. Absent from an older master. */
  fits: z.int().min(0).optional(),
});
export type NeedExplanation = z.infer<typeof NeedExplanation>;

/** Of a framework, all of it. */
export const Explanation = z.object({
  frameworkId: FrameworkId,
  name: z.string(),
  /** What keeps every offer from it. */
  blocked: z.array(z.string()),
  /** Empty: it needs nothing more. */
  needs: z.array(NeedExplanation),
  /** So many more needs are not explained. Absent: none. */
  moreNeeds: z.int().optional(),
});
export type Explanation = z.infer<typeof Explanation>;

/** Of a task that the master knows. */
export const TaskExplanation = z.object({
  frameworkId: FrameworkId,
  taskId: TaskId,
  name: z.string(),
  agentId: AgentId,
  state: TaskState,
  /** Since when it is in that state, by the clock of Redis. */
  sinceMs: z.int(),
  /** What is known of it, sentence by sentence. */
  words: z.array(z.string()),
  /** Of one that is not known to run, or has not begun: where another of its size would find room. */
  needs: z.array(NeedExplanation),
});
export type TaskExplanation = z.infer<typeof TaskExplanation>;

/** Something that nobody needs yet, but might. */
export const PossibleNeed = z.object({
  role: RoleName,
  /** Of one unit. */
  resources: Resources.refine((unit) => !isEmpty(unit), 'a need of nothing'),
  count: z.int().min(1).max(1_000_000).default(1),
  attributes: Labels.default({}),
});
export type PossibleNeed = z.infer<typeof PossibleNeed>;
