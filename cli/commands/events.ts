/** `kaon events`: what happened in the cluster, one line an event; with `-f` also what happens. */
import { once } from 'node:events';
import { codeOf } from '../../protocol/errors.ts';
import type { RedisStore } from '../../io/redis-store.ts';
import { withStore } from '../connection.ts';
import {
  assertKept,
  formatEvent,
  isAbout,
  newestEntry,
  readEvents,
  readEventsAfter,
  readEventsBackwards,
  eventsOfEntry,
} from '../event-log.ts';
import type { LoggedEvent, TaskFilter } from '../event-log.ts';
import { EXIT_OK } from '../failure.ts';
import type { EventsOptions } from '../options.ts';
import { tellUnreadable } from '../registry.ts';
import type { Unreadable } from '../registry.ts';
import { paintFor } from '../style.ts';
import { findTask } from '../task-view.ts';

/** One wait for new entries, milliseconds. */
const BLOCK_MS = 5000;
const READ_COUNT = 500;

/** @returns the exit code */
export async function events(options: EventsOptions): Promise<number> {
  const unreadable: Unreadable[] = [];
  await withStore(options, { name: 'events', isPatient: options.follow }, async (store) => {
    const filter = await filterOf(store, options.task);
    const show = showerOf(options, filter);
    let last = await newestEntry(store);
    const past = await readPast(store, options, { filter, unreadable, to: last });
    for (const event of past) await show(event);
    if (past.length === 0 && !options.follow) process.stderr.write('no such events\n');
    tellUnreadable(unreadable.splice(0));
    while (options.follow) {
      last = await showNew(store, { after: last, show, unreadable });
      tellUnreadable(unreadable.splice(0));
    }
  });
  return EXIT_OK;
}

/** A task may have left the history while the log still has it: then its id is taken as it was typed. */
async function filterOf(
  store: RedisStore,
  asked: string | undefined,
): Promise<TaskFilter | undefined> {
  if (asked === undefined) return undefined;
  try {
    const { task } = await findTask(store, asked, []);
    return { frameworkId: task.frameworkId, taskId: task.taskId };
  } catch (error) {
    if (codeOf(error) !== 'not-found') throw error;
    return { prefix: asked };
  }
}

function showerOf(
  options: EventsOptions,
  filter: TaskFilter | undefined,
): (event: LoggedEvent) => Promise<void> {
  const paint = paintFor(process.stdout);
  return async (event) => {
    if (filter && !isAbout(event, filter)) return;
    const line = options.json ? JSON.stringify(event) : formatEvent(event, paint);
    if (!process.stdout.write(`${line}\n`)) await once(process.stdout, 'drain');
  };
}

interface Past {
  readonly filter: TaskFilter | undefined;
  readonly unreadable: Unreadable[];
  /** Nothing after this entry: what follows is read as it comes. */
  readonly to: string;
}

/** @returns the events before now that were asked for, oldest first */
async function readPast(
  store: RedisStore,
  options: EventsOptions,
  past: Past,
): Promise<LoggedEvent[]> {
  const { since, limit } = options;
  const { filter, unreadable, to } = past;
  const found: LoggedEvent[] = [];
  if (since) {
    for await (const event of await readSince(store, since, { to, unreadable })) {
      if (filter === undefined || isAbout(event, filter)) found.push(event);
    }
    return found;
  }
  for await (const event of readEventsBackwards(store, unreadable, to)) {
    if (filter === undefined || isAbout(event, filter)) found.push(event);
    if (found.length >= limit) break;
  }
  return found.reverse();
}

async function readSince(
  store: RedisStore,
  since: NonNullable<EventsOptions['since']>,
  { to, unreadable }: Pick<Past, 'to' | 'unreadable'>,
): Promise<AsyncGenerator<LoggedEvent>> {
  if ('after' in since) {
    // Who says where it stopped reading wants all that came since, or to know that it is not there.
    await assertKept(store, since.after);
    return readEventsAfter(store, { after: since.after, to }, unreadable);
  }
  const from = String(Math.max(0, (await store.nowMs()) - since.agoMs));
  return readEvents(store, { from, to }, unreadable);
}

interface Following {
  readonly after: string;
  readonly show: (event: LoggedEvent) => Promise<void>;
  readonly unreadable: Unreadable[];
}

/** @returns the id of the last entry that was shown */
async function showNew(store: RedisStore, { after, show, unreadable }: Following): Promise<string> {
  const reply = await store.redis.xread(
    'COUNT',
    READ_COUNT,
    'BLOCK',
    BLOCK_MS,
    'STREAMS',
    store.keys.events,
    after,
  );
  let last = after;
  for (const [id, fields] of reply?.[0]?.[1] ?? []) {
    last = id;
    for (const event of eventsOfEntry(id, fields, unreadable)) await show(event);
  }
  return last;
}
