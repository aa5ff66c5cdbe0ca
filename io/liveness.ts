/**
 * Who has not been heard of. Each client writes the time of its heartbeats into a key of its own, so that its user of
 * Redis can keep nobody else alive; the sorted set of them all is the leader's. A time there is looked at again only when
 * it has become old, which is once in a timeout for each client, however often that sends heartbeats.
 */
import type { Redis } from 'ioredis';
import type { ClientName, Keys } from '../protocol/keys.ts';
import { pairsOf } from './redis-replies.ts';
import type { SilentClient } from './store.ts';

/** Keys that one call asks for, or members that one changes: less than a millisecond of Redis's time. */
const PAGE = 1000;

/** Clients whose time in the sorted set is old, by whether they have been heard of since. */
export interface Silence {
  readonly silent: SilentClient[];
  readonly heard: SilentClient[];
}

/** @param beforeMs time of the store: who was last heard of before it is silent */
export async function findSilent(redis: Redis, keys: Keys, beforeMs: number): Promise<Silence> {
  const range = ['-inf', `(${String(beforeMs)}`, 'WITHSCORES'] as const;
  const old = pairsOf(await redis.zrangebyscore(keys.liveness, ...range));
  const found: Silence = { silent: [], heard: [] };
  for (const page of pagesOf(old)) {
    const times = await redis.mget(page.map(([client]) => keys.alive(client as ClientName)));
    for (const [index, [client, score]] of page.entries()) {
      const seenMs = laterOf(score, times[index]);
      const list = seenMs < beforeMs ? found.silent : found.heard;
      list.push({ client: client as ClientName, seenMs });
    }
  }
  return found;
}

/** Brings the sorted set up to date; whoever is not in it any more, because its session has ended, stays out. */
export async function noteHeard(
  redis: Redis,
  keys: Keys,
  heard: readonly SilentClient[],
): Promise<void> {
  for (const page of pagesOf(heard)) {
    const members = page.flatMap(({ client, seenMs }) => [seenMs, client]);
    await redis.zadd(keys.liveness, 'XX', 'GT', ...members);
  }
}

/** @returns time of the store when the client was last heard of, milliseconds; undefined if it has no session */
export async function lastHeard(
  redis: Redis,
  keys: Keys,
  client: ClientName,
): Promise<number | undefined> {
  const [score, alive] = await Promise.all([
    redis.zscore(keys.liveness, client),
    redis.get(keys.alive(client)),
  ]);
  return score === null ? undefined : laterOf(score, alive);
}

/** The client writes the second one, so it may be anything. */
function laterOf(score: string, alive: string | null | undefined): number {
  const aliveMs = Number(alive ?? 0);
  return Number.isSafeInteger(aliveMs) ? Math.max(Number(score), aliveMs) : Number(score);
}

function pagesOf<T>(list: readonly T[]): T[][] {
  return Array.from({ length: Math.ceil(list.length / PAGE) }, (_, index) =>
    list.slice(index * PAGE, (index + 1) * PAGE),
  );
}
