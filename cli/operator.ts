/** What a person tells the master: an entry in its inbox, under the name of who says it. */
import { hostname, userInfo } from 'node:os';
import { randomName, systemClock } from '../io/clock.ts';
import type { RedisStore } from '../io/redis-store.ts';
import type { Append } from '../io/store.ts';
import { encodeEntries } from '../protocol/codec.ts';
import { KaonError } from '../protocol/errors.ts';
import type { SessionId } from '../protocol/ids.ts';
import type { ClientName } from '../protocol/keys.ts';
import type { Message } from '../protocol/messages.ts';

/** An inbox that is full is tried again so often before it is an error. */
const APPEND_TRIES = 20;
const APPEND_RETRY_MS = 250;

/**
 * Appends a message to the inbox. It stays there until a master takes it.
 *
 * @param what for the error: `ask for the kill of web.k3x9a`
 * @throws KaonError `inbox-full` after five seconds without room
 */
export async function tellMaster(store: RedisStore, message: Message, what: string): Promise<void> {
  const [messages = '[]'] = encodeEntries([message]);
  const append: Append = {
    client: operatorName(),
    session: `s${randomName(9)}` as SessionId,
    sequence: 1,
    messages,
  };
  for (let tries = 1; ; tries += 1) {
    const result = await store.append(append);
    if (result === 'appended' || result === 'duplicate') return;
    if (tries >= APPEND_TRIES) {
      throw new KaonError('inbox-full', `cannot ${what}: the inbox of the master is ${result}`, {
        hint: 'is a master leading? (kaon status)',
      });
    }
    await systemClock.sleep(APPEND_RETRY_MS);
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
