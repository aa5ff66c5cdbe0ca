/**
 * The cluster as it was: the newest stored projection before a moment, and the events from there to the moment. And the
 * cluster as it is, at one point of the log, for a comparison of the two.
 */
import type { RedisStore } from '../io/redis-store.ts';
import { decodeWith } from '../protocol/codec.ts';
import { KaonError } from '../protocol/errors.ts';
import type { Projection } from '../protocol/replay.ts';
import { applyEvent, fromLists, projectionOf, ProjectionLists } from '../protocol/replay.ts';
import { keptSince, newestEntry, readEventsAfter } from './event-log.ts';
import { comparePositions, entryOf, parsePosition } from '../protocol/event-position.ts';
import type { EventPosition } from '../protocol/event-position.ts';
import { fieldOf, readCluster, readClusterAtOnce } from './registry.ts';
import type { Cluster, RegistrySource, Unreadable } from './registry.ts';
import { formatTime } from './words.ts';

/** A cluster put together from the log. */
export interface Replayed {
  readonly projection: Projection;
  /** When the projection was stored that it began with. */
  readonly snapshotMs: number;
  /** How many events came after that. */
  readonly eventCount: number;
  /** The last one that is in it, or that is in the stored projection; undefined: nothing had happened yet. */
  readonly last: string | undefined;
}

/** A stored projection. */
interface Base {
  readonly id: string;
  /** The last event that is in it. */
  readonly event: EventPosition;
  readonly state: string;
}

/** Before the first event. */
const START: EventPosition = { ms: 0, sequence: 0, index: 0 };

function isStart({ ms, sequence }: EventPosition): boolean {
  return ms === 0 && sequence === 0;
}

/**
 * Replays the log up to a place in it.
 *
 * @param to the last event that counts
 * @throws KaonError `not-found` with the oldest moment that can be replayed
 */
export async function replayTo(
  source: RegistrySource,
  to: EventPosition,
  unreadable: Unreadable[],
): Promise<Replayed> {
  const base = await findBase(source, to);
  const lists = decodeWith(ProjectionLists, base.state);
  if (!lists.ok) {
    throw new KaonError(
      'snapshot-unreadable',
      `cannot read snapshot ${base.id}: ${lists.message}`,
      {
        hint: 'was it written by a newer version of Kaon?',
      },
    );
  }
  const projection = fromLists(lists.value);
  let eventCount = 0;
  let last = isStart(base.event) ? undefined : entryOf(base.event);
  const range = { after: base.event, to: entryOf(to) };
  for await (const event of readEventsAfter(source, range, unreadable)) {
    const position = parsePosition(event.id);
    if (!position || comparePositions(position, to) > 0) break;
    applyEvent(projection, event);
    eventCount += 1;
    last = event.id;
  }
  return { projection, snapshotMs: msOf(base), eventCount, last };
}

/** The newest stored projection that is not after `to`, with all events from there on still in the log. */
async function findBase(source: RegistrySource, to: EventPosition): Promise<Base> {
  const { isKept } = await keptSince(source);
  let oldest: Base | undefined;
  for await (const base of readBases(source)) {
    if (!isKept(base.event)) break;
    if (comparePositions(base.event, to) <= 0 && !isBeforeLog(base, to)) return base;
    oldest = base;
  }
  if (!oldest) {
    throw new KaonError('not-found', 'there is no snapshot of the cluster to begin a replay with', {
      hint: 'the leading master stores one when it begins: has one led since the last upgrade? (kaon status)',
    });
  }
  const ms = isStart(oldest.event) ? msOf(oldest) : oldest.event.ms;
  throw new KaonError(
    'not-found',
    `cannot go back to ${formatTime(to.ms)}: the oldest moment that is kept is ${formatTime(ms)}`,
    { hint: `kaon replay --at ${new Date(ms).toISOString()} shows that one` },
  );
}

/** Before a snapshot of a log without events there was no log: nobody knows what was. */
function isBeforeLog(base: Base, to: EventPosition): boolean {
  return isStart(base.event) && !isStart(to) && to.ms < msOf(base);
}

function msOf({ id }: Base): number {
  return parsePosition(id)?.ms ?? 0;
}

/** Snapshots, newest first; one at a time, because each may be large. */
async function* readBases({ redis, keys }: RegistrySource): AsyncGenerator<Base> {
  let end = '+';
  for (;;) {
    const [found] = await redis.xrevrange(keys.snapshots, end, '-', 'COUNT', 1);
    if (!found) return;
    const [id, fields] = found;
    end = `(${id}`;
    const event = parsePosition(fieldOf(fields, 'event')) ?? START;
    yield { id, event, state: fieldOf(fields, 'state') };
  }
}

/** The registry, and the last entry of the log that is in it. */
export interface Present {
  readonly cluster: Cluster;
  readonly projection: Projection;
  readonly at: EventPosition;
}

/** Readings that may be overtaken by a commit before the registry is read in one go, which makes others wait. */
const READ_TRIES = 5;

/** Reads registry and log as of the same commit. */
export async function readPresent(store: RedisStore): Promise<Present> {
  const { redis, keys } = store;
  for (let tries = 1; tries <= READ_TRIES; tries += 1) {
    const before = await redis.get(keys.cursor);
    const entry = await newestEntry(store);
    const cluster = await readCluster(store);
    // Every commit moves the cursor.
    if ((await redis.get(keys.cursor)) === before) return presentOf(cluster, entry);
  }
  const { cluster, entry } = await readClusterAtOnce(store);
  return presentOf(cluster, entry);
}

function presentOf(cluster: Cluster, entry: string): Present {
  const projection = projectionOf(cluster);
  return { cluster, projection, at: parsePosition(entry) ?? START };
}
