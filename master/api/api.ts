/**
 * The HTTP API of a master, leading or standing by: reads what is in Redis, and hands operators' acts to whoever leads.
 * Has connections to Redis of its own, so that what is asked here never delays the lease; and limits on everything that a
 * client can make it do.
 */
import { createServer } from 'node:http';
import type { Server, ServerOptions } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { hostname } from 'node:os';
import type { Clock } from '../../io/clock.ts';
import type { Log } from '../../io/log.ts';
import { RedisStore } from '../../io/redis-store.ts';
import { codeOf, KaonError, messageOf } from '../../protocol/errors.ts';
import type { MasterId } from '../../protocol/ids.ts';
import { accessLog } from './access-log.ts';
import { Gate } from './access.ts';
import { actRoutes } from './acts.ts';
import { rawAnswer } from './answer.ts';
import { sharedReader } from './cluster-reader.ts';
import { exchange } from './exchange.ts';
import { checkListen } from './listen.ts';
import type { ListenSettings } from './listen.ts';
import { readRoutes } from './reads.ts';
import { loadServerTls } from './server-tls.ts';

/** Of what a client may send or hold, and for how long, milliseconds and bytes. */
const LIMITS = {
  maxHeaderSize: 8 * 1024,
  headersTimeout: 10_000,
  requestTimeout: 15_000,
  keepAliveTimeout: 5000,
  connectionsCheckingInterval: 1000,
  requireHostHeader: false,
} as const satisfies ServerOptions;
const HEADERS_MAX = 64;
const CONNECTIONS_MAX = 128;
const REQUESTS_PER_CONNECTION_MAX = 1000;
/** A client that neither sends nor reads for so long is cut off. */
const SILENCE_MS = 30_000;
const HANDSHAKE_TIMEOUT_MS = 10_000;
/** After a stop, answers under way have so long. */
const STOP_MS = 1000;

/** What the API serves, and where. */
export interface ApiOptions {
  readonly listen: ListenSettings;
  readonly redis: string;
  readonly cluster: string;
  readonly masterId: MasterId;
  readonly clock: Clock;
  readonly log: Log;
  /** Absent in an open cluster. */
  readonly clusterKey?: Buffer | undefined;
}

/** A running API. */
export interface Api {
  /** `https://127.0.0.1:7420` */
  readonly url: string;
  stop(): Promise<void>;
}

/**
 * Listens.
 *
 * @throws KaonError `api-refused` for what would let strangers in, `api-listen`, `api-tls`: starting again cannot help
 */
export async function startApi(options: ApiOptions): Promise<Api> {
  const { listen, redis, cluster, log, clusterKey } = options;
  checkListen(listen, clusterKey !== undefined);
  const tls = loadServerTls(listen, log);
  const store = new RedisStore({ url: redis, cluster, log, name: 'api' });
  // Errors are in the log of its connection; from then on it comes back by itself.
  store.redis.connect().catch(() => undefined);
  const isOwnName = tls?.isOwnName ?? (() => false);
  const tell = accessLog(log, () => options.clock.monotonicMs());
  const gate = new Gate(store, clusterKey);
  const read = sharedReader(store);
  const routes = [
    ...readRoutes({ ...options, store, read }),
    ...actRoutes({ ...options, store, read, hostname: hostname() }),
  ];
  const answer: Parameters<typeof createServer>[1] = (request, response) => {
    void exchange({ routes, gate, store, log, isOwnName, tell }, request, response);
  };
  const server = tls
    ? createTlsServer({ ...LIMITS, ...tls.options, handshakeTimeout: HANDSHAKE_TIMEOUT_MS }, answer)
    : createServer(LIMITS, answer);
  if (tls) tls.follow(server as ReturnType<typeof createTlsServer>);
  limit(server);
  try {
    await open(server, listen);
  } catch (error) {
    tls?.stop();
    await store.close();
    throw error;
  }
  const { address, family, port } = server.address() as AddressInfo;
  const host = family === 'IPv6' ? `[${address}]` : address;
  const url = `${tls ? 'https' : 'http'}://${host}:${String(port)}`;
  log.info('api.listening', { url, secured: clusterKey !== undefined });
  return {
    url,
    stop: async () => {
      tls?.stop();
      await close(server);
      await store.close();
    },
  };
}

function limit(server: Server): void {
  server.maxHeadersCount = HEADERS_MAX;
  server.maxConnections = CONNECTIONS_MAX;
  server.maxRequestsPerSocket = REQUESTS_PER_CONNECTION_MAX;
  server.timeout = SILENCE_MS;
  server.on('clientError', (error, socket) => {
    refuseUnreadable(error, socket as Socket);
  });
  // Neither a tunnel nor another protocol is spoken here.
  for (const event of ['connect', 'upgrade'] as const) {
    server.on(event, (_request, socket) => {
      socket.end(rawAnswer(400, 'Bad Request', 'bad-request'));
    });
  }
}

/** A request that could not be parsed, or did not come in time. */
function refuseUnreadable(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  if (error.code === 'HPE_HEADER_OVERFLOW') {
    socket.end(rawAnswer(431, 'Request Header Fields Too Large', 'headers-too-large'));
  } else if (error.code === 'ERR_HTTP_REQUEST_TIMEOUT') {
    socket.end(rawAnswer(408, 'Request Timeout', 'too-slow'));
  } else socket.end(rawAnswer(400, 'Bad Request', 'bad-request'));
}

async function open(server: Server, { host, port }: ListenSettings): Promise<void> {
  const where = `${host.includes(':') ? `[${host}]` : host}:${String(port)}`;
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen({ host, port }, () => {
        server.off('error', reject);
        resolve();
      });
    });
  } catch (cause) {
    const isTaken = codeOf(cause) === 'EADDRINUSE';
    const why = isTaken ? 'another process listens there' : messageOf(cause);
    throw new KaonError('api-listen', `cannot listen on ${where}: ${why}`, {
      cause,
      hint: isTaken
        ? `ss -ltnp 'sport = :${String(port)}' names it; --listen takes another port`
        : '--listen takes [HOST:]PORT of an address of this machine',
    });
  }
}

/** Idle connections end at once, others with their answer, and none of them later than after `STOP_MS`. */
async function close(server: Server): Promise<void> {
  const timer = setTimeout(() => {
    server.closeAllConnections();
  }, STOP_MS);
  await new Promise<void>((resolve) => {
    server.close(() => {
      resolve();
    });
    server.closeIdleConnections();
  });
  clearTimeout(timer);
}
