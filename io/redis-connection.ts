/**
 * Connections to Redis that come back by themselves: to one server, to the master that Sentinels name, or to the node
 * of a Redis Cluster that has the keys of this Kaon cluster. All of them are one type, `Redis` of ioredis, and calls
 * wait while a connection is down. What goes wrong is said to a `RedisFaults`.
 */
import type { Command, RedisOptions } from 'ioredis';
import { Redis } from 'ioredis';
import { KaonError } from '../protocol/errors.ts';
import type { Log } from './log.ts';
import { digestOf } from './define-script.ts';
import { slotConnector } from './redis-cluster-slot.ts';
import { endConnection } from './end-connection.ts';
import { explainRedisError, isElsewhere } from './redis-errors.ts';
import { RedisFaults } from './redis-faults.ts';
import { tlsOptionsOf } from './redis-tls.ts';
import type { TlsConnectOptions } from './redis-tls.ts';
import type { RedisAddress } from './redis-url.ts';
import { findTlsProblem, mayBeTls, tlsAware } from './tls-probe.ts';
import { hidePassword, parseRedisUrl } from './redis-url.ts';

export type { RedisAddress } from './redis-url.ts';
export { hidePassword, parseRedisUrl, REDIS_URL_DEFAULT, withTlsPaths } from './redis-url.ts';

/** First and longest pause between attempts to reconnect, milliseconds. */
const RETRY_MIN_MS = 50;
const RETRY_MAX_MS = 2000;
/** A server that has not finished loading is asked so often, milliseconds. */
const LOADING_RETRY_MAX_MS = 1000;
/** How long Redis may owe an answer before the connection is taken for dead, milliseconds; blocking reads wait less. */
const SILENCE_MS = 15_000;
/** The same where another server may have taken over from one that hangs. */
const SILENCE_WITH_FAILOVER_MS = 8000;
const FAILOVER_CONNECT_TIMEOUT_MS = 3000;
/** A command that always meets the wrong server is sent so often before its caller hears of it. */
const SENDS_MAX = 8;
/** After so long without one, such meetings are counted anew, milliseconds. */
const SENDS_FORGOTTEN_MS = 5000;

/** ioredis asks INFO until a server has loaded its data; nobody gets an error meanwhile. */
const STILL_LOADING = 'LOADING, says INFO of Redis';

/** Where to connect to, and as whom. */
export interface ConnectOptions {
  readonly url: string;
  readonly log: Log;
  /** Shown in `CLIENT LIST`. */
  readonly name: string;
  /** The Kaon cluster whose keys are wanted: says which node of a Redis Cluster. */
  readonly cluster?: string;
  /** Shared by connections whose faults are the same. Default: its own. */
  readonly faults?: RedisFaults;
}

/**
 * A connection that comes back by itself for as long as it takes; calls wait meanwhile. Which is safe,
 * because every write of Kaon may be sent twice.
 *
 * @throws KaonError `redis-url`, `redis-tls-file`
 */
export function connectRedis(options: ConnectOptions): Redis {
  const { url, log, name, cluster = '' } = options;
  const parsed = parseRedisUrl(url);
  const { nodes, tls, ...address } = parsed;
  const tlsOptions = tls && tlsOptionsOf(tls, address.host);
  const faults = options.faults ?? new RedisFaults({ log, url: hidePassword(url) });
  const hasFailover = nodes !== undefined || address.sentinels !== undefined;
  const redis = new WatchedRedis(
    {
      ...addressOptions(address, tlsOptions),
      ...(nodes && {
        Connector: slotConnector({ ...address, nodes }, { cluster, tls: tlsOptions }),
      }),
      protocol: 2,
      // No right that a client would need only to say which library it uses.
      disableClientInfo: true,
      connectionName: `kaon-${name}`,
      maxRetriesPerRequest: null,
      maxLoadingRetryTime: LOADING_RETRY_MAX_MS,
      socketTimeout: hasFailover ? SILENCE_WITH_FAILOVER_MS : SILENCE_MS,
      ...(hasFailover && { connectTimeout: FAILOVER_CONNECT_TIMEOUT_MS }),
      lazyConnect: true,
      ...retries(),
    },
    faults,
  );
  const tell = tlsAware(parsed, redis, (error) => {
    faults.connectionFailed(name, error);
  });
  let sentinelError: Error | undefined;
  redis.on('sentinelError', (error: Error) => (sentinelError = error));
  redis.on('error', (error: Error) => {
    const isRoundOver = error.message.startsWith('All sentinels are unreachable');
    // ioredis says so also when it has merely come to the end of its list: then none of them has failed.
    if (!isRoundOver) tell(error);
    else if (sentinelError) tell(sentinelError);
    if (isRoundOver) sentinelError = undefined;
  });
  redis.on('ready', () => {
    faults.connectionReady(name);
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
    endConnection(redis);
    throw cannotUse(url, await explainedByTls(url, cause as Error));
  }
}

/** The error itself, or a better one where TLS is what is wrong. */
async function explainedByTls(url: string, error: Error): Promise<Error> {
  const address = parseRedisUrl(url);
  return mayBeTls(address, error) ? ((await findTlsProblem(address)) ?? error) : error;
}

function cannotUse(url: string, cause: unknown): KaonError {
  const { code, text, hint } = explainRedisError(cause);
  const { message } = cause as Error;
  const what = message.includes(text) ? text : `${text} (${message})`;
  const isAddress = code === 'unreachable' || code === 'other';
  return new KaonError('redis-unreachable', `cannot use Redis at ${hidePassword(url)}: ${what}`, {
    cause,
    hint: isAddress
      ? 'is it running? Set KAON_REDIS or --redis to its address; `kaon dev` prints the one it started'
      : hint,
  });
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

function addressOptions(
  address: Omit<RedisAddress, 'tls' | 'nodes'>,
  tls: TlsConnectOptions | undefined,
): RedisOptions {
  if (!address.sentinels) return { ...address, ...(tls && { tls }) };
  const sentinelTls = tls && { sentinelTLS: tls, enableTLSForSentinelMode: true };
  return {
    ...address,
    ...(tls && { tls }),
    role: 'master',
    ...sentinelTls,
    sentinelCommandTimeout: FAILOVER_CONNECT_TIMEOUT_MS,
    sentinelRetryStrategy: retryDelayMs,
  };
}

/**
 * A command that met a replica, or a node that has not its keys, goes back into the queue and the connection is made
 * anew: by then it may lead to the right server. Where it does not, the pauses grow, and the callers are told.
 */
function retries(): Pick<RedisOptions, 'retryStrategy' | 'reconnectOnError'> {
  let sends = 0;
  let lastAtMs = -Infinity;
  let isCounted = false;
  return {
    reconnectOnError: (error) => {
      if (!isElsewhere(error)) return false;
      const nowMs = performance.now();
      if (nowMs - lastAtMs > SENDS_FORGOTTEN_MS) sends = 0;
      lastAtMs = nowMs;
      // Once for a connection, however many of its commands come back.
      if (!isCounted) sends += 1;
      isCounted = true;
      return sends < SENDS_MAX ? 2 : 1;
    },
    retryStrategy: (attempt) => {
      const wasSent = isCounted;
      isCounted = false;
      return retryDelayMs(wasSent ? Math.max(attempt, sends) : attempt);
    },
  };
}

/** Doubles from `RETRY_MIN_MS` to `RETRY_MAX_MS`; a random half of it, so that a cluster does not come back at one moment. */
function retryDelayMs(attempt: number): number {
  const longest = Math.min(2 * RETRY_MIN_MS * 2 ** Math.min(attempt - 1, 10), RETRY_MAX_MS);
  return (longest * (1 + Math.random())) / 2;
}

/** Tells how each command of Kaon's ended, and how long it took. */
class WatchedRedis extends Redis {
  readonly #faults: RedisFaults;
  readonly #seen = new WeakSet<Command>();
  #closings = 0;

  constructor(options: RedisOptions, faults: RedisFaults) {
    super({ ...options, replyMapping: 'legacy' });
    this.#faults = faults;
    this.on('close', () => {
      this.#closings += 1;
    });
  }

  /** Each command comes by here, also those of scripts and pipelines; once more for each time that it is sent again. */
  override sendCommand(...args: Parameters<Redis['sendCommand']>): unknown {
    const [command] = args;
    if (!this.#seen.has(command)) {
      this.#seen.add(command);
      this.#watch(command);
    }
    return super.sendCommand(...args);
  }

  #watch(command: Command): void {
    const call = callOf(command);
    const sentAtMs = performance.now();
    const closings = this.#closings;
    const wasReady = this.status === 'ready';
    (command.promise as Promise<unknown>).then(
      (reply) => {
        if (isLoading(command, reply)) this.#faults.callFailed(call, new Error(STILL_LOADING));
        else this.#faults.callAnswered(call);
        // A call that waited for a connection was not slow: that it was away has been said.
        if (!wasReady || closings !== this.#closings) return;
        this.#faults.callTook(command.name, performance.now() - sentAtMs - blockMsOf(command));
      },
      (error: unknown) => {
        this.#faults.callFailed(call, error);
      },
    );
  }
}

/** Calls that need the same of Redis: commands by name, scripts by their digest. */
function callOf({ name, args }: Command): string {
  if (name === 'eval') return `evalsha ${digestOf(String(args[0]))}`;
  return name === 'evalsha' ? `evalsha ${String(args[0])}` : name;
}

function isLoading({ name }: Command, reply: unknown): boolean {
  return name === 'info' && /^loading:1/m.test(String(reply));
}

/** How long a command has asked Redis to wait, milliseconds. */
function blockMsOf({ name, args }: Command): number {
  if (name.toLowerCase() !== 'xread') return 0;
  const at = args.slice(0, 4).findIndex((arg) => String(arg).toUpperCase() === 'BLOCK');
  return at < 0 ? 0 : Number(args[at + 1]);
}
