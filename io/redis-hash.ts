/** A whole hash of Redis, page by page: what one `HGETALL` would bring, without keeping everybody else waiting for it. */
import type { Redis } from 'ioredis';

/** Fields that one page has, more or less: a millisecond of Redis's time. */
const PAGE_FIELDS = 1000;

/**
 * @returns all fields and their values, in the order in which Redis has them. Of a hash that changes meanwhile, what
 * changed may be there or not; what did not change is there
 */
export async function readHash(redis: Redis, key: string): Promise<Map<string, string>> {
  const fields = new Map<string, string>();
  let cursor = '0';
  do {
    const [next, page] = await redis.hscan(key, cursor, 'COUNT', PAGE_FIELDS);
    for (let index = 0; index + 1 < page.length; index += 2) {
      fields.set(page[index] ?? '', page[index + 1] ?? '');
    }
    cursor = next;
  } while (cursor !== '0');
  return fields;
}
