/** One line of text for each event, which events are about a task, and an error where some of them are not kept. */
import { keptSince } from '../io/event-log.ts';
import type { LoggedEvent } from '../io/event-log.ts';
import type { RegistrySource } from '../io/registry.ts';
import { KaonError } from '../protocol/errors.ts';
import { entryOf, formatPosition } from '../protocol/event-position.ts';
import type { EventPosition } from '../protocol/event-position.ts';
import type { ClusterEvent } from '../protocol/records.ts';
import { formatResources } from '../protocol/resources.ts';
import { paintState } from './style.ts';
import type { Look, Paint } from './style.ts';
import { escapeControls, formatTime } from './words.ts';

export {
  eventsOfEntry,
  keptSince,
  newestEntry,
  readEvents,
  readEventsAfter,
  readEventsBackwards,
} from '../io/event-log.ts';
export type { LoggedEvent } from '../io/event-log.ts';

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
  [
    /unreachable|lost|removed|refused|rescinded|disconnected|failed|delayed|revoked|forged/,
    'yellow',
  ],
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
  if (event.principal !== undefined)
    parts.push(paint('dim', `by ${escapeControls(event.principal)}`));
  return parts.join('  ');
}
