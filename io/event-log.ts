/** Reads the event log: forwards, backwards, after a place, and whether everything after it is still there. */
import { z } from 'zod';
import { decodeWith } from '../protocol/codec.ts';
import { EVENTS_MAX_ENTRIES } from '../protocol/limits.ts';
import { ClusterEvent } from '../protocol/records.ts';
import { comparePositions, entryOf, parsePosition } from '../protocol/event-position.ts';
import type { EventPosition } from '../protocol/event-position.ts';
import { fieldOf } from './registry.ts';
import type { RegistrySource, Unreadable } from './registry.ts';

/** An event and its place, `MS-N.I`: what `kaon events --from` and `kaon replay --at` take. */
export type LoggedEvent = ClusterEvent & { readonly id: string };

const Events = z.array(z.unknown());

/** @returns the events of one entry of the stream, in order; what is not an event is left out and noted */
export function eventsOfEntry(
  id: string,
  fields: readonly string[],
  unreadable: Unreadable[],
): LoggedEvent[] {
  const list = decodeWith(Events, fieldOf(fields, 'events'));
  if (!list.ok) {
    unreadable.push({ where: `events ${id}`, problem: list.message });
    return [];
  }
  return list.value.flatMap((one, index) => {
    const event = ClusterEvent.safeParse(one);
    if (event.success) return [{ id: `${id}.${String(index + 1)}`, ...event.data }];
    unreadable.push({
      where: `events ${id}`,
      problem: event.error.issues[0]?.message ?? 'invalid',
    });
    return [];
  });
}

/** Entries that one call asks for. */
const PAGE = 500;

/** Which part of the log, oldest first. */
export interface EventRange {
  /** First id, as XRANGE takes it: `-`, `MS-N`, or `(MS-N` for what comes after. */
  readonly from: string;
  /** Last id; default `+`. */
  readonly to?: string;
}

/** Events of a range, oldest first. */
export async function* readEvents(
  { redis, keys }: RegistrySource,
  { from, to = '+' }: EventRange,
  unreadable: Unreadable[],
): AsyncGenerator<LoggedEvent> {
  let start = from;
  for (;;) {
    const entries = await redis.xrange(keys.events, start, to, 'COUNT', PAGE);
    for (const [id, fields] of entries) {
      start = `(${id}`;
      yield* eventsOfEntry(id, fields, unreadable);
    }
    if (entries.length < PAGE) return;
  }
}

/** Events after a place in the log, oldest first. @param to last entry */
export async function* readEventsAfter(
  source: RegistrySource,
  range: { readonly after: EventPosition; readonly to: string },
  unreadable: Unreadable[],
): AsyncGenerator<LoggedEvent> {
  const { after, to } = range;
  // With the entry itself: some of its events may come after the place.
  for await (const event of readEvents(source, { from: entryOf(after), to }, unreadable)) {
    const position = parsePosition(event.id);
    if (position && comparePositions(position, after) > 0) yield event;
  }
}

/** The oldest entry of the log, if there is any, and whether every event after a place is still there. */
export async function keptSince({ redis, keys }: RegistrySource): Promise<{
  readonly first: EventPosition | undefined;
  readonly isKept: (place: EventPosition) => boolean;
}> {
  const [oldest] = await redis.xrange(keys.events, '-', '+', 'COUNT', 1);
  const first = oldest && parsePosition(oldest[0]);
  // A log that has never been full has lost nothing, so there was nothing before its first entry.
  const wasNeverFull = (await redis.xlen(keys.events)) < EVENTS_MAX_ENTRIES;
  const isKept = (place: EventPosition): boolean =>
    !first || wasNeverFull || comparePositions({ ...first, index: 0 }, place) <= 0;
  return { first, isKept };
}

/** @returns the id of the newest entry; `0-0` if there is none */
export async function newestEntry({ redis, keys }: RegistrySource): Promise<string> {
  const [newest] = await redis.xrevrange(keys.events, '+', '-', 'COUNT', 1);
  return newest?.[0] ?? '0-0';
}

/** Events of the whole log, newest first. */
export async function* readEventsBackwards(
  { redis, keys }: RegistrySource,
  unreadable: Unreadable[],
  before = '+',
): AsyncGenerator<LoggedEvent> {
  let end = before;
  for (;;) {
    const entries = await redis.xrevrange(keys.events, end, '-', 'COUNT', PAGE);
    for (const [id, fields] of entries) {
      end = `(${id}`;
      yield* eventsOfEntry(id, fields, unreadable).reverse();
    }
    if (entries.length < PAGE) return;
  }
}
