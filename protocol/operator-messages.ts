/**
 * Messages between operators and the master, beside those that frameworks send as well (`KillTask`, `ResizeTask`):
 * members of the union in messages.ts.
 */
import { z } from 'zod';
import { Explanation, NeedExplanation, PossibleNeed, TaskExplanation } from './explanation.ts';
import { DurationMs, Labels } from './fields.ts';
import { AgentId, FrameworkId, ReservationId, SessionId, TaskId } from './ids.ts';
import { TEXT_MAX_CHARS } from './limits.ts';
import { Resources } from './resources.ts';
import { PartialResources, RoleName, Weight } from './roles.ts';

/** The node will not come back: its tasks are TASK_GONE_BY_OPERATOR, and ended there should it come back after all. */
const MarkAgentGone = z.object({ type: z.literal('MarkAgentGone'), agentId: AgentId });
/** The agent is to be emptied: it is not offered from `inMs` on, and what is left of its tasks `deadlineMs` later is killed. */
const DrainAgent = z.object({
  type: z.literal('DrainAgent'),
  requestId: SessionId,
  agentId: AgentId,
  inMs: DurationMs.default(0),
  /** Absent: tasks go on to their own ends. */
  deadlineMs: DurationMs.optional(),
});
/** The agent may be offered again. */
const UndrainAgent = z.object({
  type: z.literal('UndrainAgent'),
  requestId: SessionId,
  agentId: AgentId,
});
/** As much of an agent is kept for a role and those below it, from now on. */
const Reserve = z.object({
  type: z.literal('Reserve'),
  requestId: SessionId,
  agentId: AgentId,
  role: RoleName,
  resources: Resources,
  labels: Labels.default({}),
  /** The reservation that it is to be a part of, for a role above; absent: of what is not reserved. */
  parentId: ReservationId.optional(),
});
/** The reservation ends: what was kept is its parent's again, or anybody's. */
const Unreserve = z.object({
  type: z.literal('Unreserve'),
  requestId: SessionId,
  agentId: AgentId,
  reservationId: ReservationId,
  /** What tasks have left in its directory is removed for good. Absent: it is refused if there is anything. */
  destroy: z.boolean().optional(),
});
/** Nothing of the agent is offered from now on; what runs there goes on, and nobody is asked to leave. */
const DeactivateAgent = z.object({
  type: z.literal('DeactivateAgent'),
  requestId: SessionId,
  agentId: AgentId,
});
/** Takes a `DeactivateAgent` back. */
const ReactivateAgent = z.object({
  type: z.literal('ReactivateAgent'),
  requestId: SessionId,
  agentId: AgentId,
});
/**
 * Asks why a framework waits, with `taskId` what is known of that task of it, or what would become of a need that nobody has
 * (`need` alone). The answer is an `Explained` in the stream of the session that has asked.
 */
const Explain = z.object({
  type: z.literal('Explain'),
  frameworkId: FrameworkId.optional(),
  taskId: TaskId.optional(),
  need: PossibleNeed.optional(),
});
/** Weight and quota of a role. What is absent stays as it is; null takes it away. */
const UpdateRole = z.object({
  type: z.literal('UpdateRole'),
  /** Names the wish, so that its outcome can be told from that of another. */
  requestId: SessionId,
  role: RoleName,
  weight: Weight.nullable().optional(),
  guarantee: PartialResources.nullable().optional(),
  limit: PartialResources.nullable().optional(),
  /** Also a guarantee that the cluster cannot meet, or a limit below what is in use. */
  force: z.boolean().default(false),
});

/** What an operator has asked for is not done. That it is done nobody says: the event log does. */
const RequestRefused = z.object({
  type: z.literal('RequestRefused'),
  code: z.string(),
  message: z.string().max(TEXT_MAX_CHARS),
});

/** The answer to `Explain`, one of the three; none of them: the master knows no such framework, or no such task. */
const Explained = z.object({
  type: z.literal('Explained'),
  explanation: Explanation.optional(),
  task: TaskExplanation.optional(),
  need: NeedExplanation.optional(),
});

/** All of them. */
export const OPERATOR_MESSAGES = [
  MarkAgentGone,
  UpdateRole,
  DrainAgent,
  UndrainAgent,
  DeactivateAgent,
  ReactivateAgent,
  Reserve,
  Unreserve,
  Explain,
  Explained,
  RequestRefused,
] as const;
