/**
 * Where Redis is, and connections to it. Accepts `redis://`, `rediss://`, and `unix:///path/to/socket`
 * (each with an optional user, password and database). Never prints a password.
 */
import { Redis } from 'ioredis';
import { KaonError, messageOf } from '../protocol/errors.ts';
import type { Log } from './log.ts';

/** Where Redis is if nobody says otherwise. */
export const REDIS_URL_DEFAULT = 'redis://127.0.0.1:6379';

/** First and longest pause between attempts to reconnect, milliseconds. */
const RETRY_MIN_MS = 50;
const RETRY_MAX_MS = 2000;

/** What an address says, as ioredis wants it: a `path` (unix socket) or `host` and `port`. */
export interface RedisAddress {
  host?: string;
  port?: number;
  path?: string;
  username?: string;
  password?: string;
  db?: number;
  tls?: object;
}

/**
 * @param url see above
 * @throws KaonError `redis-url` if it is not understood
 */
export function parseRedisUrl(url: string): RedisAddress {
  try {
    const parsed = new URL(url);
    if (parsed.protocol === 'unix:') return { ...credentialsOf(parsed), ...socketOf(parsed) };
    if (parsed.protocol === 'redis:' || parsed.protocol === 'rediss:') {
      return { ...credentialsOf(parsed), ...hostOf(parsed) };
    }
  } catch (cause) {
    throw badUrl(url, cause);
  }
  throw badUrl(url);
}

/** @throws URIError if a percent sign is not followed by two hexadecimal digits */
function credentialsOf({ username, password }: URL): RedisAddress {
  return {
    ...(username !== '' && { username: decodeURIComponent(username) }),
    ...(password !== '' && { password: decodeURIComponent(password) }),
  };
}

function socketOf({ pathname, searchParams }: URL): RedisAddress {
  if (pathname.length < 2) throw new Error('a unix address needs the path of a socket');
  return { path: decodeURIComponent(pathname), ...databaseOf(searchParams.get('db')) };
}

function hostOf({ protocol, hostname, port, pathname }: URL): RedisAddress {
  return {
    host: hostname.replace(/^\[|\]$/g, '') || '127.0.0.1',
    port: port === '' ? 6379 : Number(port),
    ...(protocol === 'rediss:' && { tls: {} }),
    ...databaseOf(pathname.slice(1)),
  };
}

function databaseOf(text: string | null): RedisAddress {
  if (text === null || text === '') return {};
  if (!/^\d+$/.test(text)) throw new Error('a database is a number');
  return { db: Number(text) };
}

function badUrl(url: string, cause?: unknown): KaonError {
  return new KaonError('redis-url', `not a Redis address: ${hidePassword(url)}`, {
    cause,
    hint: 'use redis://HOST:PORT, rediss://HOST:PORT or unix:///PATH/TO/SOCKET',
  });
}

/** The address with any password replaced by `***`, for logs and messages. */
export function hidePassword(url: string): string {
  // Up to the last `@`: a password that should have been percent-encoded may hold one, or a slash.
  return url.replace(/(\/\/[^:@/]*):.*@/, '$1:***@');
}

/** Where to connect to, and as whom. */
export interface ConnectOptions {
  readonly url: string;
  readonly log: Log;
  /** Shown in `CLIENT LIST`. */
  readonly name: string;
}

/**
 * A connection that comes back by itself for as long as it takes; calls wait meanwhile. Which is safe,
 * because every write of Kaon may be sent twice.
 */
export function connectRedis({ url, log, name }: ConnectOptions): Redis {
  const redis = new Redis({
    ...parseRedisUrl(url),
    protocol: 2,
    connectionName: `kaon-${name}`,
    maxRetriesPerRequest: null,
    lazyConnect: true,
    retryStrategy: (attempt) => Math.min(RETRY_MIN_MS * 2 ** Math.min(attempt, 10), RETRY_MAX_MS),
  });
  let down = false;
  redis.on('error', (error) => {
    if (!down) log.warn('redis.unreachable', { url: hidePassword(url), error: messageOf(error) });
    down = true;
  });
  redis.on('ready', () => {
    if (down) log.info('redis.reachable', { url: hidePassword(url) });
    down = false;
  });
  return redis;
}

/**
 * Opens the connection and fails at the first error: for commands that a person waits for.
 *
 * @throws KaonError `redis-unreachable` with the address and what to do
 */
export async function connectOrFail(redis: Redis, url: string): Promise<void> {
  try {
    await firstConnection(redis);
    await redis.ping();
  } catch (cause) {
    redis.disconnect();
    throw new KaonError(
      'redis-unreachable',
      `cannot use Redis at ${hidePassword(url)}: ${messageOf(cause)}`,
      {
        cause,
        hint: 'is it running? Set KAON_REDIS or --redis to its address; `kaon dev` prints the one it started',
      },
    );
  }
}

/** ioredis reports why a first connection failed only by its `error` event; `connect()` says "closed". */
async function firstConnection(redis: Redis): Promise<void> {
  let onError: ((error: Error) => void) | undefined;
  const failed = new Promise<never>((_resolve, reject) => {
    onError = reject;
    redis.once('error', reject);
  });
  try {
    await Promise.race([redis.connect(), failed]);
  } finally {
    if (onError) redis.off('error', onError);
    failed.catch(() => undefined); // The race has it already; this only marks it as handled.
  }
}
