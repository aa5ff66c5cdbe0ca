/**
 * A `redis-server` of its own on a unix socket in a temporary directory, without a port.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const START_TIMEOUT_MS = 10_000;
const POLL_MS = 5;

export interface RedisBedOptions {
  /** Default `no`: nothing is written to disk. With `yes` a restart finds its data again. */
  readonly appendonly?: 'yes' | 'no';
  /** More arguments for redis-server, e.g. `['--maxmemory', '32mb']`. */
  readonly args?: readonly string[];
}

export interface RedisBed {
  readonly socketPath: string;
  /** `unix:///...`, as ioredis and `kaon --redis` take it. */
  readonly url: string;
  readonly pid: () => number | undefined;
  /** SIGKILL, as a crash; `restart` brings it back with what the append-only file has. */
  kill(): Promise<void>;
  restart(): Promise<void>;
  /** Ends the server and removes the directory. */
  stop(): Promise<void>;
}

export async function startRedisBed(options: RedisBedOptions = {}): Promise<RedisBed> {
  const directory = mkdtempSync(join(tmpdir(), 'kaon-bed-redis-'));
  const socketPath = join(directory, 'redis.sock');
  let server = await startServer(directory, socketPath, options);
  const end = (signal: 'SIGKILL' | 'SIGTERM'): Promise<void> => endProcess(server, signal);
  return {
    socketPath,
    url: `unix://${socketPath}`,
    pid: () => server.pid,
    kill: () => end('SIGKILL'),
    restart: async () => {
      await end('SIGKILL');
      server = await startServer(directory, socketPath, options);
    },
    stop: async () => {
      await end('SIGKILL');
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

async function startServer(
  directory: string,
  socketPath: string,
  options: RedisBedOptions,
): Promise<ChildProcess> {
  const argv = ['--port', '0', '--unixsocket', socketPath, '--dir', directory, '--save', ''];
  argv.push('--appendonly', options.appendonly ?? 'no', '--appendfsync', 'everysec');
  argv.push(...(options.args ?? []));
  // A test that is killed must not leave a server behind: setpriv ties its life to ours.
  const tied = ['--pdeathsig', 'KILL', 'redis-server', ...argv];
  const server = spawn('setpriv', tied, { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  server.stdout?.on('data', (chunk: Buffer) => (output += chunk.toString()));
  server.stderr?.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const deadline = performance.now() + START_TIMEOUT_MS;
  while (!(await answersPing(socketPath))) {
    if (server.exitCode !== null || performance.now() > deadline) {
      await endProcess(server, 'SIGKILL');
      throw new Error(`redis-server did not start: ${output.trim()}`);
    }
    await sleep(POLL_MS);
  }
  return server;
}

function answersPing(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(socketPath);
    const done = (answer: boolean): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.once('connect', () => socket.write('PING\r\n'));
    socket.once('data', (data) => done(data.toString().startsWith('+PONG')));
    socket.once('error', () => done(false));
  });
}

function endProcess(child: ChildProcess, signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
  return new Promise((resolve) => {
    child.once('close', () => resolve());
    child.kill(signal);
  });
}
