/**
 * The cluster, for as long as one command takes. A command that a person waits for gives up on a Redis that does not
 * answer; one that follows something says so and waits until it is back.
 */
import type { Log } from '../io/log.ts';
import { hidePassword, parseRedisUrl } from '../io/redis-connection.ts';
import { RedisStore } from '../io/redis-store.ts';
import { findTlsProblem } from '../io/tls-probe.ts';
import { findToken } from '../io/secrets.ts';
import { KaonError } from '../protocol/errors.ts';
import { refusalOf } from './operator.ts';
import type { ConnectionOptions } from './options.ts';

/** A server that takes connections and answers nothing (stopped, or something else than Redis), milliseconds. */
const CONNECT_TIMEOUT_MS = 5000;
/** A connection that was lost has so long to come back, milliseconds. */
const LOST_TIMEOUT_MS = 5000;

/** How a command takes the loss of its connection. */
export interface StoreUse {
  /** Shown in `CLIENT LIST`. */
  readonly name: string;
  /** Waits for Redis however long it takes, once it was there. Default false. */
  readonly isPatient?: boolean;
}

/**
 * Opens the store, does something with it, and closes it.
 *
 * @throws KaonError `redis-unreachable`, `redis-url`, `token-malformed`, what `action` throws, and the master's own codes if it
 *   refuses what `action` has told it
 */
export async function withStore<T>(
  { redis: url, cluster }: ConnectionOptions,
  { name, isPatient = false }: StoreUse,
  action: (store: RedisStore) => Promise<T>,
): Promise<T> {
  const notices = connectionNotices();
  const store = new RedisStore({ url, cluster, name, log: notices.log, token: findToken() });
  const watch = watchConnection(store, url);
  try {
    await Promise.race([store.connect(), watch.unanswered]);
    watch.connected();
    notices.begin();
    const done = Promise.race([action(store), refusalOf(store)]);
    return await (isPatient ? done : Promise.race([done, watch.lost]));
  } finally {
    notices.end();
    watch.end();
    await store.close();
  }
}

/** Losses of the connection in a person's words; the first connection has its own error, and the end needs none. */
function connectionNotices(): { readonly log: Log; begin: () => void; end: () => void } {
  let isOn = false;
  const say = (text: string): void => {
    if (isOn) process.stderr.write(`kaon: ${text}\n`);
  };
  const log: Log = {
    debug: () => undefined,
    info: (event, fields) => {
      if (event === 'redis.reachable') say(`Redis at ${String(fields?.['url'])} is back`);
    },
    warn: (event, fields) => {
      if (event === 'redis.unreachable') {
        say(
          `lost Redis at ${String(fields?.['url'])} (${String(fields?.['error'])}); trying again`,
        );
      }
    },
    error: () => undefined,
  };
  return {
    log,
    begin: () => {
      isOn = true;
    },
    end: () => {
      isOn = false;
    },
  };
}

/** Two promises that only ever reject: no first answer in time, and a lost connection that does not come back. */
function watchConnection(
  store: RedisStore,
  url: string,
): { unanswered: Promise<never>; lost: Promise<never>; connected: () => void; end: () => void } {
  let timer: NodeJS.Timeout | undefined;
  const stopTimer = (): void => {
    clearTimeout(timer);
    timer = undefined;
  };
  const unanswered = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => {
      void whyUnanswered(url).then(reject);
    }, CONNECT_TIMEOUT_MS);
  });
  let onClose: () => void = () => undefined;
  const lost = new Promise<never>((_resolve, reject) => {
    onClose = () => {
      timer ??= setTimeout(() => {
        reject(unreachable(`lost Redis at ${hidePassword(url)} and it did not come back`));
      }, LOST_TIMEOUT_MS);
    };
  });
  // Raced at most once and perhaps never: a rejection that nobody waits for must not end the process.
  unanswered.catch(() => undefined);
  lost.catch(() => undefined);
  return {
    unanswered,
    lost,
    connected: () => {
      stopTimer();
      store.redis.on('close', onClose).on('ready', stopTimer);
    },
    end: () => {
      store.redis.off('close', onClose).off('ready', stopTimer);
      stopTimer();
    },
  };
}

/** A server that waits for TLS, or does not know it, says nothing either. */
async function whyUnanswered(url: string): Promise<KaonError> {
  const shown = hidePassword(url);
  const problem = await findTlsProblem(parseRedisUrl(url));
  if (!problem) return unreachable(`Redis at ${shown} takes connections but does not answer`);
  const { message, hint } = problem;
  return new KaonError('redis-unreachable', `cannot use Redis at ${shown}: ${message}`, {
    cause: problem,
    ...(hint !== undefined && { hint }),
  });
}

function unreachable(message: string): KaonError {
  return new KaonError('redis-unreachable', message, { hint: 'kaon status says when it is back' });
}
