/** Something that the master is asked to do, whose outcome is an event with the id of the wish as its `reason`. */
import { randomName, systemClock } from '../io/clock.ts';
import type { RedisStore } from '../io/redis-store.ts';
import { KaonError } from '../protocol/errors.ts';
import type { SessionId } from '../protocol/ids.ts';
import type { Message } from '../protocol/messages.ts';
import { formatDuration } from '../protocol/quantities.ts';
import type { LoggedEvent } from './event-log.ts';
import { newestEntry, readEvents } from './event-log.ts';
import { tellMaster } from './operator.ts';

/** A master takes it within milliseconds, if one leads; a failover takes some seconds. */
const PATIENCE_MS = 15_000;
const LOOK_MS = 50;

/** What is wished, by its id; and in words: `change role ci`. */
export interface Request {
  readonly message: (requestId: SessionId) => Message;
  readonly what: string;
  /** Type of the event by which the master refuses. */
  readonly refusal: string;
}

/**
 * Asks, and waits for what becomes of it.
 *
 * @returns the event that says so
 * @throws KaonError `refused` in the words of the master; `not-taken`
 */
export async function request(
  store: RedisStore,
  { message, what, refusal }: Request,
): Promise<LoggedEvent> {
  const requestId = `wish-${randomName(12)}` as SessionId;
  const after = await newestEntry(store);
  await tellMaster(store, message(requestId), what);
  if (!(await store.leader())) {
    process.stderr.write('kaon: no master leads: the request waits until one does\n');
  }
  const event = await outcomeOf(store, requestId, after);
  if (!event) {
    throw new KaonError(
      'not-taken',
      `cannot ${what}: no master has taken the request for ${formatDuration(PATIENCE_MS)}`,
      { hint: 'it stays in force; kaon status says whether a master leads' },
    );
  }
  if (event.type !== refusal) return event;
  throw new KaonError('refused', event.message ?? `cannot ${what}`);
}

/** @param after the newest entry of the event log before the wish */
async function outcomeOf(
  store: RedisStore,
  requestId: SessionId,
  after: string,
): Promise<LoggedEvent | undefined> {
  const deadlineMs = performance.now() + PATIENCE_MS;
  for (let last = after; performance.now() < deadlineMs;) {
    const to = await newestEntry(store);
    for await (const event of readEvents(store, { from: `(${last}`, to }, [])) {
      if (event.reason === requestId) return event;
    }
    last = to;
    await systemClock.sleep(LOOK_MS);
  }
  return undefined;
}
