/** What a person tells the master: an entry in its inbox, under the name of who says it. */
import { hostname, userInfo } from 'node:os';
import { randomName, systemClock } from '../io/clock.ts';
import type { RedisStore } from '../io/redis-store.ts';
import type { Append } from '../io/store.ts';
import { START } from '../io/store.ts';
import { decodeEntry, encodeEntries } from '../protocol/codec.ts';
import { KaonError } from '../protocol/errors.ts';
import type { ClientName } from '../protocol/keys.ts';
import { formatDuration } from '../protocol/quantities.ts';
import type { Message, MessageOf, MessageType } from '../protocol/messages.ts';

/** An inbox that is full is tried again so often before it is an error. */
const APPEND_TRIES = 20;
const APPEND_RETRY_MS = 250;

/**
 * Appends a message to the inbox. It stays there until a master takes it.
 *
 * @param what for the error: `ask for the kill of web.k3x9a`
 * @throws KaonError `inbox-full` after five seconds without room
 */
export async function tellMaster(
  store: RedisStore,
  message: Message,
  what: string,
): Promise<Pick<Append, 'client' | 'session'>> {
  const [messages = '[]'] = encodeEntries([message]);
  const client = operatorName();
  const session = await store.openSession(client);
  const append: Append = { client, session, sequence: 1, messages };
  for (let tries = 1; ; tries += 1) {
    const result = await store.append(append);
    if (result === 'appended' || result === 'duplicate') {
      void listen(store, append, what);
      return append;
    }
    if (tries >= APPEND_TRIES) {
      throw new KaonError('inbox-full', `cannot ${what}: the inbox of the master is ${result}`, {
        hint: 'is a master leading? (kaon status)',
      });
    }
    await systemClock.sleep(APPEND_RETRY_MS);
  }
}

/**
 * Asks the master, and waits for its answer. To be raced with nothing: a refusal ends the command by `refusalOf`.
 *
 * @returns undefined if there is none in time
 */
async function askMaster<T extends MessageType>(
  store: RedisStore,
  question: { readonly message: Message; readonly what: string; readonly answer: T },
  patienceMs: number,
): Promise<MessageOf<T> | undefined> {
  const { client, session } = await tellMaster(store, question.message, question.what);
  const deadlineMs = performance.now() + patienceMs;
  for (let cursor = START; performance.now() < deadlineMs;) {
    const waitMs = Math.max(1, Math.min(LISTEN_BLOCK_MS, deadlineMs - performance.now()));
    for (const { id, messages } of await store.readClient(client, session, cursor, waitMs)) {
      cursor = id;
      for (const decoded of decodeEntry(messages)) {
        if (decoded.ok && decoded.value.type === question.answer)
          return decoded.value as MessageOf<T>;
      }
    }
  }
  return undefined;
}

/** A master answers within milliseconds, if one leads; a failover takes some seconds. */
const ANSWER_PATIENCE_MS = 10_000;

/**
 * The same for questions whose answer takes nothing but a master.
 *
 * @throws KaonError `redis-unreachable` if none answers; what the master says if it refuses to
 */
export async function askLeader<T extends MessageType>(
  store: RedisStore,
  question: { readonly message: Message; readonly what: string; readonly answer: T },
): Promise<MessageOf<T>> {
  const answer = await askMaster(store, question, ANSWER_PATIENCE_MS);
  if (answer) return answer;
  throw new KaonError(
    'redis-unreachable',
    `no master has answered for ${formatDuration(ANSWER_PATIENCE_MS)}`,
    { hint: 'kaon status says whether a master leads' },
  );
}

/** A read of the answer waits so long, milliseconds; then it is begun again. */
const LISTEN_BLOCK_MS = 2000;

const refusals = new WeakMap<
  RedisStore,
  { fail: (error: KaonError) => void; never: Promise<never> }
>();

/**
 * To be raced with whatever waits for the effect of something that the master was told by this store.
 *
 * @returns a promise that never resolves, and rejects when the master refuses one of these requests
 */
export function refusalOf(store: RedisStore): Promise<never> {
  return refusalsOf(store).never;
}

function refusalsOf(store: RedisStore): {
  fail: (error: KaonError) => void;
  never: Promise<never>;
} {
  const known = refusals.get(store);
  if (known) return known;
  let fail: (error: KaonError) => void = () => undefined;
  const never = new Promise<never>((_resolve, reject) => {
    fail = reject;
  });
  // Perhaps nobody waits any more: that must not end the process.
  never.catch(() => undefined);
  const made = { fail, never };
  refusals.set(store, made);
  return made;
}

/** Until the store is closed: in a secured cluster the master says why it refuses, and else nothing. */
async function listen(store: RedisStore, { client, session }: Append, what: string): Promise<void> {
  let cursor = START;
  try {
    for (;;) {
      for (const { id, messages } of await store.readClient(
        client,
        session,
        cursor,
        LISTEN_BLOCK_MS,
      )) {
        cursor = id;
        for (const decoded of decodeEntry(messages)) {
          if (!decoded.ok || decoded.value.type !== 'RequestRefused') continue;
          const { code, message } = decoded.value;
          const [words = message, hint] = message.split('; hint: ');
          refusalsOf(store).fail(
            new KaonError(code, `cannot ${what}: ${words}`, hint === undefined ? {} : { hint }),
          );
          return;
        }
      }
    }
  } catch {
    // The command is done and has closed its store, or Redis is gone, which the command itself finds out.
  }
}

/** For people who read the inbox or the events: who, and where. */
function operatorName(): ClientName {
  const part = (text: string): string => text.replace(/[^\w.-]+/g, '_').slice(0, 40);
  return `operator:${part(userName())}@${part(hostname())}.${randomName(6)}`;
}

/** A container may run under a user id that has no name. */
function userName(): string {
  try {
    return userInfo().username;
  } catch {
    return `uid${String(process.getuid?.() ?? 0)}`;
  }
}
