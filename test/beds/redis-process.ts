/**
 * Redis processes of the test beds: started on free loopback ports or unix sockets, asked until they answer, tied to
 * the life of the test process.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { pauseAfter } from '../support/pause.ts';

const START_TIMEOUT_MS = 120_000;
const POLL_MS = 10;

/** Where a server is, as far as the beds need it. */
export interface ServerAddress {
  readonly host?: string;
  readonly port?: number;
  readonly path?: string;
  readonly tls?: object;
}

export const LOOPBACK = '127.0.0.1';

/** Starts `redis-server` with these arguments, and resolves when it answers at `address`. */
export async function startRedisProcess(
  argv: readonly string[],
  address: ServerAddress,
): Promise<ChildProcess> {
  // A test that is killed must not leave a server behind: setpriv ties its life to ours.
  const tied = ['--pdeathsig', 'KILL', 'redis-server', ...argv];
  const server = spawn('setpriv', tied, { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  server.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
  server.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const deadline = performance.now() + START_TIMEOUT_MS;
  while (!(await answersPing(address))) {
    if (server.exitCode !== null || performance.now() > deadline) {
      await endProcess(server, 'SIGKILL');
      throw new Error(`redis-server did not start: ${output.trim()}`);
    }
    await sleep(POLL_MS);
  }
  return server;
}

/** Ends a process, paused or not, and resolves when it is gone. */
export function endProcess(
  child: ChildProcess,
  signal: 'SIGKILL' | 'SIGTERM' = 'SIGKILL',
): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
  return new Promise((resolve) => {
    child.once('close', () => resolve());
    child.kill(signal);
  });
}

/** A short connection for one question, which fails at once if the server is not there. */
export async function ask<T>(
  address: ServerAddress,
  question: (redis: Redis) => Promise<T>,
): Promise<T> {
  const redis = new Redis({
    ...address,
    lazyConnect: true,
    retryStrategy: null,
    protocol: 2,
    disableClientInfo: true,
    connectTimeout: 30_000,
    commandTimeout: 60_000,
  });
  redis.on('error', () => undefined); // The question's own promise has it.
  try {
    await redis.connect();
    return await question(redis);
  } finally {
    // A second `disconnect` of ioredis would keep the process alive for two seconds.
    if (redis.status !== 'end') redis.disconnect();
  }
}

/** Asks until it holds. A server that does not answer yet is one for which it does not. */
export async function eventually(
  what: string,
  holds: () => Promise<boolean>,
  timeoutMs = START_TIMEOUT_MS,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const askedMs = performance.now();
    if (await holds().catch(() => false)) return;
    if (performance.now() > deadline)
      throw new Error(`${what}: not within ${String(timeoutMs)} ms`);
    await pauseAfter(askedMs, POLL_MS);
  }
}

/** Ports of the loopback that were all free a moment ago. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(Array.from({ length: count }, listen));
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  await Promise.all(
    servers.map((server) => new Promise<void>((resolve) => server.close(() => resolve()))),
  );
  return ports;
}

function listen(): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, LOOPBACK, () => resolve(server));
  });
}

async function answersPing(address: ServerAddress): Promise<boolean> {
  try {
    return (await ask(address, (redis) => redis.ping())) === 'PONG';
  } catch {
    return false; // Not listening yet; the caller asks again.
  }
}
