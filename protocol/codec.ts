/**
 * Bytes to messages and back. Decoding never throws: what is not a message becomes a value that says why,
 * so that a bad entry is counted and skipped and stops nobody.
 */
import { z } from 'zod';
import {
  ENTRY_FULL_BYTES,
  ENTRY_MAX_BYTES,
  ENTRY_MAX_MESSAGES,
  MESSAGE_MAX_BYTES,
} from './limits.ts';
import { Message } from './messages.ts';
import { TaskInfo } from './task.ts';

/** Why something on a stream was not taken. */
export interface BadMessage {
  readonly code: 'not-json' | 'too-large' | 'unknown-type' | 'invalid';
  readonly message: string;
}
/** A value, or why there is none. */
export type Decoded<T> =
  { readonly ok: true; readonly value: T } | ({ readonly ok: false } & BadMessage);

/**
 * Uses of a schema before it is compiled. Compiled it is six times as fast, but compiling takes some 20 ms: nothing for
 * a daemon, and a delay that a person would notice for a command that decodes a handful of messages.
 */
const COMPILE_AFTER_USES = 500;

type Parse<T> = (value: unknown) => z.ZodSafeParseResult<T>;

/** @returns the schema's `safeParse`, compiled once it is used often; results are the same */
function compiledWhenHot<T>(schema: z.ZodType<T>): Parse<T> {
  let uses = 0;
  let parse: Parse<T> = (value) => {
    uses += 1;
    if (uses === COMPILE_AFTER_USES) {
      const compiled = z.compile(schema);
      parse = (later) => compiled.safeParse(later);
    }
    return schema.safeParse(value);
  };
  return (value) => parse(value);
}

const parseMessage = compiledWhenHot(Message);
const parseTask = compiledWhenHot(TaskInfo);
const knownTypes: ReadonlySet<string> = new Set(
  Message.options.map((option) => option.shape.type.value),
);

/**
 * Packs messages into stream entries, in order. An entry is full at `ENTRY_FULL_BYTES` or `ENTRY_MAX_MESSAGES`; only
 * a single message that is larger than that by itself makes a larger one.
 *
 * @returns JSON arrays; an empty list for no messages
 */
export function encodeEntries(messages: readonly Message[]): string[] {
  const entries: string[] = [];
  let parts: string[] = [];
  let chars = 0;
  for (const message of messages) {
    const text = JSON.stringify(message);
    // UTF-8 takes at most three bytes for a UTF-16 unit: counted so, the limit holds without encoding twice.
    const full = parts.length >= ENTRY_MAX_MESSAGES || (chars + text.length) * 3 > ENTRY_FULL_BYTES;
    if (full && parts.length > 0) {
      entries.push(`[${parts.join(',')}]`);
      parts = [];
      chars = 0;
    }
    parts.push(text);
    chars += text.length + 1;
  }
  if (parts.length > 0) entries.push(`[${parts.join(',')}]`);
  return entries;
}

/**
 * @param text JSON array of messages, as `encodeEntries` makes it; a single message is taken too
 * @returns one result for each message; one bad result if the entry itself is unusable
 */
export function decodeEntry(text: string): Decoded<Message>[] {
  if (text.length > ENTRY_MAX_BYTES) {
    return [
      bad(
        'too-large',
        `entry of ${String(text.length)} characters, limit ${String(ENTRY_MAX_BYTES)}`,
      ),
    ];
  }
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (error) {
    return [bad('not-json', error instanceof Error ? error.message : String(error))];
  }
  return Array.isArray(parsed) ? parsed.map(decodeMessage) : [decodeMessage(parsed)];
}

/** @param value a parsed JSON value */
export function decodeMessage(value: unknown): Decoded<Message> {
  const result = parseMessage(value);
  if (result.success) return { ok: true, value: result.data };
  const type = (value as { type?: unknown } | null)?.type;
  if (typeof type !== 'string') return bad('invalid', 'not a message: it has no type');
  if (!knownTypes.has(type))
    return bad('unknown-type', `unknown message type ${JSON.stringify(type)}`);
  return bad('invalid', `${type}: ${issuesOf(result.error)}`);
}

/**
 * Checks one task of a launch.
 *
 * @returns the task with its defaults, or what is wrong with it, field by field
 */
export function decodeTask(value: unknown): Decoded<TaskInfo> {
  const result = parseTask(value);
  if (!result.success) return bad('invalid', issuesOf(result.error));
  const chars = JSON.stringify(result.data).length;
  if (chars > MESSAGE_MAX_BYTES) {
    return bad(
      'too-large',
      `task of ${String(chars)} characters, limit ${String(MESSAGE_MAX_BYTES)}`,
    );
  }
  return { ok: true, value: result.data };
}

/** Decodes a stored record with its own schema; used for what the registry holds. */
export function decodeWith<T>(schema: z.ZodType<T>, text: string): Decoded<T> {
  return decodeText((value) => schema.safeParse(value), text);
}

/** @returns `decodeWith` of that schema for many records: results are the same, the schema is compiled once it is hot */
export function decoderOf<T>(schema: z.ZodType<T>): (text: string) => Decoded<T> {
  const parse = compiledWhenHot(schema);
  return (text) => decodeText(parse, text);
}

function decodeText<T>(parse: Parse<T>, text: string): Decoded<T> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (error) {
    return bad('not-json', error instanceof Error ? error.message : String(error));
  }
  const result = parse(parsed);
  return result.success ? { ok: true, value: result.data } : bad('invalid', issuesOf(result.error));
}

function issuesOf(error: z.ZodError): string {
  return error.issues
    .slice(0, 5)
    .map((issue) => `${issue.path.map(String).join('.') || 'message'}: ${issue.message}`)
    .join('; ');
}

function bad(code: BadMessage['code'], message: string): { readonly ok: false } & BadMessage {
  return { ok: false, code, message };
}
