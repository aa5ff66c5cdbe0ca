/**
 * Who may do what in a secured cluster: a principal is a name with a kind, and what narrows it. Its token is derived from
 * the cluster's key and the name (`io/tokens.ts`), so a record has nothing in it that is secret.
 */
import { z } from 'zod';
import { AgentId } from './ids.ts';

/** Longest name, in characters. */
export const PRINCIPAL_NAME_MAX_CHARS = 64;

/** Chosen by whoever creates it. Never with an `@`: `root@host` in an event is a person who had the cluster key. */
export const PrincipalName = z
  .string()
  .max(PRINCIPAL_NAME_MAX_CHARS)
  .regex(
    /^[A-Za-z0-9][A-Za-z0-9_.-]*$/,
    'a name is letters, digits, "_", "." and "-", and starts with a letter or digit',
  );

/**
 * `viewer` reads and says nothing; `operator` kills, resizes, and gives up agents; `framework` registers frameworks of its
 * roles and acts for them; `agent` speaks for one agent; `admin` may do all that the others may.
 */
export const PRINCIPAL_KINDS = ['viewer', 'operator', 'framework', 'agent', 'admin'] as const;
export const PrincipalKind = z.enum(PRINCIPAL_KINDS);
export type PrincipalKind = z.infer<typeof PrincipalKind>;

/** Stands for every role in `roles`; in `users` for every user but root, which must be named. */
export const ANY = '*';

/** What decisions need of a principal. */
export const Principal = z.object({
  name: PrincipalName,
  kind: PrincipalKind,
  /**
   * Which of its tokens is meant: each new one, also of a name that was used before, has a higher number, and only the
   * newest is good.
   */
  generation: z.int().min(1),
  /** Of a framework: roles that it may register with. */
  roles: z.array(z.string().min(1).max(128)).max(100).default([]),
  /** Of a framework: users that its tasks may name. Empty: none; what an agent chooses then is the agent's matter. */
  users: z.array(z.string().min(1).max(64)).max(100).default([]),
  /** Of an agent: the only one that it speaks for. */
  agentId: AgentId.optional(),
});
export type Principal = Readonly<z.infer<typeof Principal>>;

/** Something that was done to a principal, and by whom: `root@host`, or the name of an admin. */
export const PrincipalAct = z.object({
  /** 1 for the first of this name, then one more each time: the master has seen all up to some number. */
  number: z.int().min(1),
  type: z.enum(['created', 'rotated', 'revoked']),
  by: z.string().max(200),
  atMs: z.int(),
});
export type PrincipalAct = Readonly<z.infer<typeof PrincipalAct>>;

/** So many acts a record remembers, the newest. */
export const PRINCIPAL_ACTS_MAX = 20;

/**
 * A principal as Redis holds it, signed. It stays when it is revoked, so that the next token of its name has a higher
 * generation.
 */
export const PrincipalRecord = Principal.extend({
  createdAtMs: z.int(),
  /** Not accepted from then on, by the clock of Redis; absent: never. */
  expiresAtMs: z.int().optional(),
  /** Absent while it is good. */
  revokedAtMs: z.int().optional(),
  /** What was done, oldest first; for the event log. */
  acts: z.array(PrincipalAct).max(PRINCIPAL_ACTS_MAX),
});
export type PrincipalRecord = Readonly<z.infer<typeof PrincipalRecord>>;

/** Why a principal is not accepted (any more). */
export type PrincipalProblem = 'unknown' | 'revoked' | 'rotated' | 'expired';

/**
 * Whether a token of that generation is good now.
 *
 * @param record undefined: there is no principal of the name
 * @param nowMs by the clock of Redis
 * @returns undefined if it is
 */
export function problemOfPrincipal(
  record: PrincipalRecord | undefined,
  generation: number,
  nowMs: number,
): PrincipalProblem | undefined {
  if (!record || generation > record.generation) return 'unknown';
  if (record.revokedAtMs !== undefined) return 'revoked';
  if (generation !== record.generation) return 'rotated';
  return record.expiresAtMs !== undefined && record.expiresAtMs <= nowMs ? 'expired' : undefined;
}
