/** The event log: reading it, and one line of text for each event. */
import { z } from 'zod';
import { decodeWith } from '../protocol/codec.ts';
import { KaonError } from '../protocol/errors.ts';
import { EVENTS_MAX_ENTRIES } from '../protocol/limits.ts';
import { ClusterEvent } from '../protocol/records.ts';
import { formatResources } from '../protocol/resources.ts';
import { comparePositions, entryOf, formatPosition, parsePosition } from './event-position.ts';
import type { EventPosition } from './event-position.ts';
import { fieldOf } from './registry.ts';
import type { RegistrySource, Unreadable } from './registry.ts';
import { paintState } from './style.ts';
import type { Look, Paint } from './style.ts';
import { escapeControls, formatTime } from './words.ts';

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

/**
 * Makes sure that whatever happened after a place is still in the log: its oldest entries are dropped in time.
 *
 * @throws KaonError `events-dropped` with the oldest entry that is kept
 */
export async function assertKept(source: RegistrySource, after: EventPosition): Promise<void> {
  const { first, isKept } = await keptSince(source);
  if (!first || isKept(after)) return;
  throw new KaonError(
    'events-dropped',
    `not all events after ${formatPosition(after)} are kept: the oldest entry of the log is ${entryOf(first)}, of ${formatTime(first.ms)}`,
    { hint: `kaon events --from ${entryOf(first)} shows what came after that` },
  );
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

/** A task that events are about: ids, or the beginning of a task id where nobody knows the task any more. */
export type TaskFilter =
  { readonly frameworkId: string; readonly taskId: string } | { readonly prefix: string };

/** @returns whether the event is about that task */
export function isAbout(event: ClusterEvent, filter: TaskFilter): boolean {
  if ('prefix' in filter) {
    const qualified = `${event.frameworkId ?? ''}/${event.taskId ?? ''}`;
    return (
      event.taskId !== undefined &&
      (event.taskId.startsWith(filter.prefix) || qualified.startsWith(filter.prefix))
    );
  }
  return event.taskId === filter.taskId && event.frameworkId === filter.frameworkId;
}

const LOOKS: readonly (readonly [RegExp, Look])[] = [
  [/unreachable|lost|removed|refused|rescinded|disconnected|failed|delayed/, 'yellow'],
  [/registered|launched|adopted/, 'green'],
];

/** Widest type that the lines are aligned to; longer ones push their line to the right. */
const TYPE_WIDTH = 21;

/** Width of an id of this century with one digit each for sequence and index. */
const ID_WIDTH = 17;

/**
 * @returns `2026-11-20 18:53:12  1795200792000-0.1  task.updated  running  task=... agent=...  REASON: message`, without a
 * newline
 */
export function formatEvent(event: LoggedEvent, paint: Paint): string {
  const look = LOOKS.find(([pattern]) => pattern.test(event.type))?.[1];
  const type = escapeControls(event.type).padEnd(TYPE_WIDTH);
  const when = `${formatTime(event.atMs)}  ${event.id.padEnd(ID_WIDTH)}`;
  const parts = [paint('dim', when), look ? paint(look, type) : type];
  if (event.state !== undefined) parts.push(paintState(paint, event.state));
  const ids = [
    ['task', event.taskId],
    ['framework', event.frameworkId],
    ['agent', event.agentId],
    ['offer', event.offerId],
    ['executor', event.executorId],
  ].flatMap(([name, id]) => (id === undefined ? [] : [`${String(name)}=${id}`]));
  if (ids.length > 0) parts.push(ids.join(' '));
  if (event.name !== undefined) parts.push(escapeControls(event.name));
  if (event.resources !== undefined) parts.push(formatResources(event.resources));
  const why = [event.reason, event.message].filter((one) => one !== undefined && one !== '');
  if (why.length > 0) parts.push(escapeControls(why.join(': ')));
  return parts.join('  ');
}
