/**
 * Names of things that cross a wire, as branded strings: an `OfferId` cannot be passed for a `TaskId`.
 * They are minted by the decoder (from the wire) or by an id generator in a shell, never by a core.
 */
import { z } from 'zod';

/** Longest id, in characters: it ends up in unit names (255 bytes at most) and in Redis keys. */
export const ID_MAX_CHARS = 100;

const id = z
  .string()
  .max(ID_MAX_CHARS, `an id has at most ${String(ID_MAX_CHARS)} characters`)
  .regex(
    /^[A-Za-z0-9][A-Za-z0-9_.:-]*$/,
    'an id is letters, digits, "_", ".", ":" and "-", and starts with a letter or digit',
  );

/** Chosen by the operator, or made once and kept on the node: a restarted agent is the same one. */
export const AgentId = id.brand<'AgentId'>();
export type AgentId = z.infer<typeof AgentId>;

/** Chosen by the framework, or made by its driver: a scheduler that takes over keeps it. */
export const FrameworkId = id.brand<'FrameworkId'>();
export type FrameworkId = z.infer<typeof FrameworkId>;

/** Unique within its framework while the task lives; chosen by the framework. */
export const TaskId = id.brand<'TaskId'>();
export type TaskId = z.infer<typeof TaskId>;

/** Chosen by the framework; on one node it has at most one executor of that id. */
export const ExecutorId = id.brand<'ExecutorId'>();
export type ExecutorId = z.infer<typeof ExecutorId>;

/** Chosen by the framework for tasks that it launches together. */
export const TaskGroupId = id.brand<'TaskGroupId'>();
export type TaskGroupId = z.infer<typeof TaskGroupId>;

/** Made by the master, `oEPOCH.TERM.NUMBER`: no two offers of a cluster have the same. */
export const OfferId = id.brand<'OfferId'>();
export type OfferId = z.infer<typeof OfferId>;

/**
 * Of one agent: `rEPOCH.TERM.NUMBER`, made by the master, or `static:ROLE`, from the settings of the agent. Shows up in no
 * name of a unit and in no key.
 */
export const ReservationId = z.string().min(1).max(160).brand<'ReservationId'>();
export type ReservationId = z.infer<typeof ReservationId>;

/**
 * One registration of a client, numbered by the store. A new session has a new stream, so an old cursor never meets new
 * data; and of two registrations of one client the one with the higher number is the later one.
 */
export const SessionId = id.brand<'SessionId'>();
export type SessionId = z.infer<typeof SessionId>;

/** One master process; a restarted master is another one. */
export const MasterId = id.brand<'MasterId'>();
export type MasterId = z.infer<typeof MasterId>;

/**
 * One launch of a task or an executor, made by the master, `EPOCH.TERM.NUMBER`: a task id that is used again after its end is another
 * launch, so that nothing said of the old one can be taken for the new.
 */
export const LaunchId = id.brand<'LaunchId'>();
export type LaunchId = z.infer<typeof LaunchId>;

/** One status update; what an acknowledgement names. */
export const UpdateId = id.brand<'UpdateId'>();
export type UpdateId = z.infer<typeof UpdateId>;

/** Key of a task in the whole cluster: task ids are unique only within a framework. */
export type TaskKey = string & { readonly __brand: 'TaskKey' };

/** @returns `frameworkId/taskId`; neither may hold a slash, so the key is unambiguous. */
export function taskKey(frameworkId: FrameworkId, taskId: TaskId): TaskKey {
  return `${frameworkId}/${taskId}` as TaskKey;
}

/** Key of an executor on one agent: an id is unique within its framework. */
export type ExecutorKey = string & { readonly __brand: 'ExecutorKey' };

/** @returns `frameworkId//executorId`, which is no key of a task */
export function executorKey(frameworkId: FrameworkId, executorId: ExecutorId): ExecutorKey {
  return `${frameworkId}//${executorId}` as ExecutorKey;
}

/** A host name or the like as a part of an id: other characters become `_`; at most 40. */
export function idPart(text: string): string {
  const part = text.replaceAll(/[^A-Za-z0-9_-]/g, '_').slice(0, 40);
  return /^[A-Za-z0-9]/.test(part) ? part : `n${part}`;
}

/** Digits of a session's number, base 36: enough for every safe integer, which is every microsecond until 2255. */
const SESSION_DIGITS = 11;

/**
 * Name of a session that the store has numbered. Names of a fixed width sort as their numbers do.
 *
 * @param number at least 1; greater than that of every session opened before, in the whole cluster
 */
export function numberedSession(number: number): SessionId {
  return `s${number.toString(36).padStart(SESSION_DIGITS, '0')}` as SessionId;
}

/** @returns the number of a session that the store opens at that time, by its own clock; a later one has a higher one */
export function sessionNumberAt(storeMs: number): number {
  return Math.floor(storeMs) * 1000;
}

/** @returns the number of a session, 0 if the name was not made by `numberedSession` */
export function sessionNumber(session: string): number {
  return /^s[0-9a-z]{11}$/.test(session) ? Number.parseInt(session.slice(1), 36) : 0;
}

/** True if `a` was opened before `b`, so that what it says has been overtaken. A name without one has number 0. */
export function isOlderSession(a: string, b: string): boolean {
  return sessionNumber(a) < sessionNumber(b);
}

/**
 * Name of a master that systemd has started: known to whatever else belongs to the same start of its unit.
 *
 * @param invocationId `INVOCATION_ID` of systemd.exec(5), 32 hexadecimal digits, another one for each start
 */
export function masterIdOfInvocation(hostname: string, invocationId: string): MasterId {
  return `${idPart(hostname)}.${invocationId.slice(0, 12)}` as MasterId;
}
