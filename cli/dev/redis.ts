/** The private `redis-server` of `kaon dev`: a unix socket only its user can open, and an append-only file. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { silentLog } from '../../io/log.ts';
import { connectRedis } from '../../io/redis-connection.ts';
import { KaonError } from '../../protocol/errors.ts';
import type { Child } from './children.ts';
import { startChild, waitUntilReady } from './children.ts';

/** sockaddr_un(7): 108 bytes with the end. */
const SOCKET_PATH_MAX_BYTES = 107;

/** A running Redis and its address. */
export interface DevRedis {
  readonly child: Child;
  readonly url: string;
}

/** @throws KaonError `dev-start`, `dev-state-dir` */
export async function startRedis(stateDir: string): Promise<DevRedis> {
  const directory = join(stateDir, 'redis');
  const socket = join(directory, 'redis.sock');
  if (Buffer.byteLength(socket) > SOCKET_PATH_MAX_BYTES) {
    throw new KaonError(
      'dev-state-dir',
      `the state directory is too long for a unix socket: ${stateDir}`,
      {
        hint: 'choose a shorter --state-dir',
      },
    );
  }
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const logPath = join(stateDir, 'redis.log');
  const child = startChild({
    name: 'redis-server',
    logPath,
    argv: [
      'redis-server',
      ...['--port', '0', '--unixsocket', socket, '--unixsocketperm', '700'],
      ...['--dir', directory, '--appendonly', 'yes', '--save', ''],
      ...['--maxmemory-policy', 'noeviction', '--loglevel', 'notice', '--daemonize', 'no'],
    ],
  });
  const url = `unix://${socket}`;
  await waitUntilReady(child, logPath, () => answers(url));
  return { child, url };
}

async function answers(url: string): Promise<boolean> {
  const redis = connectRedis({ url, log: silentLog, name: 'dev' });
  redis.options.retryStrategy = () => null;
  try {
    await redis.connect();
    return (await redis.ping()) === 'PONG';
  } catch {
    return false; // Not listening, or still loading its file: the caller asks again.
  } finally {
    redis.disconnect();
  }
}
