/** Replies of Redis as values: entries of streams, pairs, chunks of output. Pure. */
import type { OutputChunk } from './store.ts';

/** The entries of the only stream of an XREAD reply; null means that the wait ended without any. */
export function entriesOf<T>(reply: [T, [T, T[]][]][] | null): [T, T[]][] {
  return reply?.[0]?.[1] ?? [];
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
