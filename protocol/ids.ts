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

/** Made by the master, `oEPOCH.NUMBER`: no two offers of a cluster have the same. */
export const OfferId = id.brand<'OfferId'>();
export type OfferId = z.infer<typeof OfferId>;

/** One registration of a client. A new session has a new stream, so an old cursor never meets new data. */
export const SessionId = id.brand<'SessionId'>();
export type SessionId = z.infer<typeof SessionId>;

/** One master process; a restarted master is another one. */
export const MasterId = id.brand<'MasterId'>();
export type MasterId = z.infer<typeof MasterId>;

/** One status update; what an acknowledgement names. */
export const UpdateId = id.brand<'UpdateId'>();
export type UpdateId = z.infer<typeof UpdateId>;

/** Key of a task in the whole cluster: task ids are unique only within a framework. */
export type TaskKey = string & { readonly __brand: 'TaskKey' };

/** @returns `frameworkId/taskId`; neither may hold a slash, so the key is unambiguous. */
export function taskKey(frameworkId: FrameworkId, taskId: TaskId): TaskKey {
  return `${frameworkId}/${taskId}` as TaskKey;
}

/** A host name or the like as a part of an id: other characters become `_`; at most 40. */
export function idPart(text: string): string {
  const part = text.replaceAll(/[^A-Za-z0-9_-]/g, '_').slice(0, 40);
  return /^[A-Za-z0-9]/.test(part) ? part : `n${part}`;
}
