/** Answers to readers of output, as streams of bytes: what `Store` says of them, on a real Redis. */
import type { Redis } from 'ioredis';
import { chunkOf, entriesOf } from './redis-replies.ts';
import type { OutputChunk, StreamId } from './store.ts';

/** An answer that nobody reads is dropped after this time, seconds. */
const OUTPUT_EXPIRE_S = 60;

/** See `Store.writeOutput`. */
export async function writeOutput(
  redis: Redis,
  key: string,
  chunks: readonly OutputChunk[],
): Promise<number> {
  const pipeline = redis.pipeline();
  for (const chunk of chunks) {
    if (chunk.kind === 'end') pipeline.xadd(key, '*', 'end', chunk.error);
    else pipeline.xadd(key, '*', chunk.kind, chunk.bytes, 'offset', chunk.offset);
  }
  pipeline.expire(key, OUTPUT_EXPIRE_S).xlen(key);
  const replies = (await pipeline.exec()) ?? [];
  for (const [error] of replies) if (error) throw error;
  return Number(replies.at(-1)?.[1]);
}

/**
 * See `Store.readOutput`.
 *
 * @param connections `reader` may be blocked, `redis` is not
 */
export async function readOutput(
  { redis, reader }: { readonly redis: Redis; readonly reader: Redis },
  key: string,
  cursor: StreamId,
  blockMs: number,
): Promise<{ id: StreamId; chunk: OutputChunk }[]> {
  const block = blockMs > 0 ? ['BLOCK', String(blockMs)] : [];
  const reply = (await reader.callBuffer(
    'XREAD',
    ...['COUNT', '100', ...block, 'STREAMS', key, cursor],
  )) as [Buffer, [Buffer, Buffer[]][]][] | null;
  const chunks = entriesOf(reply).map(([id, fields]) => ({
    id: id.toString(),
    chunk: chunkOf(fields),
  }));
  // What was read goes at once: the agent writes on when it sees the stream shrink.
  if (chunks.length > 0) await redis.xdel(key, ...chunks.map(({ id }) => id));
  return chunks;
}
