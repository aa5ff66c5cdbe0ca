/**
 * What the API says to a master, in the way in which operators do it by commands: a message goes into the inbox, under the
 * name and with the key of whoever has asked. What became of it shows in the registry or the event log; a question is
 * answered in the stream of the session that has asked.
 */
import type { Clock } from '../../io/clock.ts';
import { randomName } from '../../io/clock.ts';
import { newestEntry, readEvents } from '../../io/event-log.ts';
import type { LoggedEvent } from '../../io/event-log.ts';
import type { RedisStore } from '../../io/redis-store.ts';
import type { Cluster } from '../../io/registry.ts';
import { macOfAppend } from '../../io/signing.ts';
import { START } from '../../io/store.ts';
import { keyOf } from '../../io/tokens.ts';
import { decodeEntry, encodeEntries } from '../../protocol/codec.ts';
import type { SessionId } from '../../protocol/ids.ts';
import type { ClientName } from '../../protocol/keys.ts';
import type { Message, MessageOf, MessageType } from '../../protocol/messages.ts';
import { formatDuration } from '../../protocol/quantities.ts';
import type { Caller } from './access.ts';
import { ApiError } from './answer.ts';

/** A master takes it within milliseconds, if one leads; a failover takes some seconds. */
const PATIENCE_MS = 10_000;
const LOOK_MS = 50;

/** What the API acts by. */
export interface ActOptions {
  readonly store: RedisStore;
  /** Reads the registry. */
  readonly read: () => Promise<Cluster>;
  readonly clock: Clock;
  /** Absent in an open cluster. */
  readonly clusterKey?: Buffer | undefined;
  /** Of this machine: part of the name under which an act is done. */
  readonly hostname: string;
}

/** Something that is to be done, and how it is known that it was. */
export interface Act {
  readonly message: Message;
  /** For errors: `the kill of f/t`. */
  readonly what: string;
  /** Whether the event shows that it was done. */
  readonly isDone: (event: LoggedEvent) => boolean;
  /** Whether there is nothing left to be done, by whomever it was done. */
  readonly isOver: () => Promise<boolean>;
}

/**
 * Has something done.
 *
 * @returns the event that shows it; undefined if somebody or something else was faster
 * @throws ApiError 403 if the master has refused it, 503 if the inbox is full, 504 if nobody has taken it in time
 */
export async function act(
  options: ActOptions,
  caller: Caller,
  { message, what, isDone, isOver }: Act,
): Promise<LoggedEvent | undefined> {
  const { store, clock } = options;
  const isOwn = ({ principal }: LoggedEvent): boolean => principal === caller.principal?.name;
  let after = await newestEntry(store);
  const { client, session } = await say(options, caller, message);
  const deadlineMs = clock.monotonicMs() + PATIENCE_MS;
  while (clock.monotonicMs() < deadlineMs) {
    // Looked at first: what is over now has its event already, if it is to have one.
    const wasOver = await isOver();
    for await (const event of readEvents(store, { from: `(${after}` }, [])) {
      if (isDone(event) && isOwn(event)) return event;
      after = event.id.replace(/\.\d+$/, '');
    }
    if (wasOver) return undefined;
    await throwRefusal(store, client, session);
    await clock.sleep(LOOK_MS);
  }
  throw new ApiError(504, 'not-taken', {
    message: `${what} was not seen within ${formatDuration(PATIENCE_MS)}: no master has taken it`,
    hint: 'the request stays in force; GET /v1/leader says whether a master leads',
  });
}

/** A wish that is named by an id, whose outcome is an event with that id as its `reason`. */
export interface Wish {
  readonly message: (requestId: SessionId) => Message;
  /** For errors: `the drain of n01`. */
  readonly what: string;
  /** Type of the event by which the master refuses, and the code of the answer then. */
  readonly refusal: { readonly type: string; readonly code: string };
}

/**
 * Has a wish granted.
 *
 * @returns the event that shows it
 * @throws ApiError as `act`, and 409 if the master refuses it as it is
 */
export async function wish(
  options: ActOptions,
  caller: Caller,
  { message, what, refusal }: Wish,
): Promise<LoggedEvent | undefined> {
  const requestId = `wish-${randomName(12)}` as SessionId;
  const event = await act(options, caller, {
    message: message(requestId),
    what,
    isDone: ({ reason }) => reason === requestId,
    isOver: () => Promise.resolve(false),
  });
  if (event?.type !== refusal.type) return event;
  throw new ApiError(409, refusal.code, { message: event.message ?? 'no reason is given' });
}

/**
 * Asks whoever leads.
 *
 * @param type of the answer
 * @throws ApiError 403 if the master has refused to answer, 504 if there is no answer in time
 */
export async function ask<T extends MessageType>(
  options: ActOptions,
  caller: Caller,
  message: Message,
  type: T,
): Promise<MessageOf<T>> {
  const { store, clock } = options;
  const { client, session } = await say(options, caller, message);
  const deadlineMs = clock.monotonicMs() + PATIENCE_MS;
  while (clock.monotonicMs() < deadlineMs) {
    await throwRefusal(store, client, session);
    for (const { messages } of await store.readClient(client, session, START, 0)) {
      for (const decoded of decodeEntry(messages)) {
        if (decoded.ok && decoded.value.type === type) return decoded.value as MessageOf<T>;
      }
    }
    await clock.sleep(LOOK_MS);
  }
  throw new ApiError(504, 'not-taken', {
    message: `no master has answered for ${formatDuration(PATIENCE_MS)}`,
    hint: 'GET /v1/leader says whether a master leads',
  });
}

/** Into the inbox, signed as the caller would sign it. */
async function say(
  { store, clusterKey, hostname }: ActOptions,
  { name, principal }: Caller,
  message: Message,
): Promise<{ client: ClientName; session: SessionId }> {
  const part = (text: string): string => text.replace(/[^\w.-]+/g, '_').slice(0, 40);
  const client: ClientName = `operator:${part(name)}@${part(hostname)}.api.${randomName(6)}`;
  const session = await store.openSession(client);
  const [messages = '[]'] = encodeEntries([message]);
  const append = { client, session, sequence: 1, messages };
  const signature = clusterKey &&
    principal && {
      principal: principal.name,
      generation: principal.generation,
      mac: macOfAppend(
        keyOf(clusterKey, principal.name, principal.generation),
        { place: store.keys.prefix, client, session },
        append.sequence,
        messages,
      ),
    };
  const result = await store.append({ ...append, ...(signature && { signature }) });
  if (result === 'appended' || result === 'duplicate') return { client, session };
  throw new ApiError(503, 'inbox-full', {
    message: `nothing was done: the inbox of the master is ${result}`,
    hint: 'is a master leading? GET /v1/leader says so; try again',
    headers: { 'Retry-After': '2' },
  });
}

async function throwRefusal(
  store: RedisStore,
  client: ClientName,
  session: SessionId,
): Promise<void> {
  for (const { messages } of await store.readClient(client, session, START, 0)) {
    for (const decoded of decodeEntry(messages)) {
      if (!decoded.ok || decoded.value.type !== 'RequestRefused') continue;
      const { code, message } = decoded.value;
      throw new ApiError(403, code, { message });
    }
  }
}
