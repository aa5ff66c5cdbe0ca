/** Replies of Redis as values: entries of streams, pairs, chunks of output. Pure. */
import type { InboxEntry, OutputChunk, Signature, StreamEntry } from './store.ts';

/** What XREAD answers: of each stream that has entries its key, and of each entry its id and a flat list of fields. */
export type StreamReply = [string, [string, string[]][]][] | null;

/** The entries of the only stream of an XREAD reply; null means that the wait ended without any. */
export function entriesOf<T>(reply: [T, [T, T[]][]][] | null): [T, T[]][] {
  return reply?.[0]?.[1] ?? [];
}

/** The entries of the stream `key` in an XREAD reply, with their messages. */
export function messagesIn(reply: StreamReply, key: string): StreamEntry[] {
  const [, entries = []] = reply?.find(([name]) => name === key) ?? [];
  return entries.map(([id, fields]) => {
    const { messages = '', position, mac } = fieldsOf(fields);
    if (position === undefined || mac === undefined) return { id, messages };
    return { id, messages, seal: { position, mac } };
  });
}

/** A signature as `inboxEntryOf` reads it. */
export function fieldsOfSignature(signature: Signature | undefined): (string | number)[] {
  if (!signature) return [];
  const { principal, generation, mac } = signature;
  return ['principal', principal, 'generation', generation, 'mac', mac];
}

/** An entry of the inbox; whatever is missing or wrong in it is as if nothing had been said. */
export function inboxEntryOf(id: string, pairs: readonly string[]): InboxEntry {
  const { from = '', session = '', sequence = '', messages = '', ...rest } = fieldsOf(pairs);
  const { principal, generation, mac } = rest;
  const entry = { id, from, session, sequence: Number(sequence), messages };
  if (principal === undefined || generation === undefined || mac === undefined) return entry;
  return { ...entry, signature: { principal, generation: Number(generation), mac } };
}

/** Fields of an entry by name; of one that is there twice the last. */
export function fieldsOf(pairs: readonly string[]): Record<string, string> {
  const fields: Record<string, string> = {};
  for (const [name, value] of pairsOf(pairs)) fields[name] = value;
  return fields;
}

/** A flat list as pairs; a last one without a partner is dropped. */
export function pairsOf(list: readonly string[]): [string, string][] {
  const pairs: [string, string][] = [];
  for (let index = 0; index + 1 < list.length; index += 2) {
    pairs.push([list[index] ?? '', list[index + 1] ?? '']);
  }
  return pairs;
}

/** An entry of the stream `output:ID`; see `writeOutput`. */
export function chunkOf(pairs: readonly Buffer[]): OutputChunk {
  const [name, value = Buffer.alloc(0), , offset] = pairs;
  const kind = name?.toString();
  if (kind === 'stdout' || kind === 'stderr') {
    return { kind, bytes: value, offset: Number(offset?.toString()) };
  }
  return { kind: 'end', error: value.toString() };
}
