/**
 * A `redis-server` of its own on a unix socket in a temporary directory, without a port.
 */
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { endProcess, startRedisProcess } from './redis-process.ts';

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
  argv.push('--appendonly', options.appendonly ?? 'no', '--appendfsync', 'always');
  argv.push(...(options.args ?? []));
  return startRedisProcess(argv, { path: socketPath });
}
