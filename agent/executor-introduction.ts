/**
 * What an executor is started with so that it can speak to its agent: where the agent listens, and a token of its own, in a
 * file that only its user can read. (The environment of a unit can be read by everybody on the node.)
 */
import { randomBytes, timingSafeEqual } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { CommandInfo } from '../protocol/command.ts';
import { codeOf } from '../protocol/errors.ts';
import type { ExecutorInfo } from '../protocol/executor.ts';
import type { AgentId } from '../protocol/ids.ts';

/** In the sandbox of an executor, and of nothing else: beside `work/`, where no task can write. */
export const TOKEN_FILE = 'token';
const TOKEN_BYTES = 32;

/**
 * Makes the directory of the socket, which is what an executor sees of the agent's own; and a link to the socket where earlier
 * agents had it, because their executors look for it there.
 *
 * @param directory the agent's own
 * @returns the path of the socket
 */
export function prepareSocket(directory: string): string {
  const place = join(directory, 'socket');
  mkdirSync(place, { recursive: true, mode: 0o711 });
  const before = join(directory, 'executors.sock');
  rmSync(before, { force: true });
  symlinkSync(join('socket', 'executors.sock'), before);
  return join(place, 'executors.sock');
}

/** What an executor has been given. */
export interface Introduced {
  readonly environment: Readonly<Record<string, string>>;
  readonly needs: readonly string[];
}

/** How executors of one agent are started, and known again. */
export interface ExecutorIntroduction {
  /** What an executor runs: its own command, or Kaon's default executor. */
  commandOf(info: ExecutorInfo): CommandInfo;
  /** Gives an executor its token. @returns the environment that it finds the agent by, and the paths that it has to see */
  introduce(sandbox: string, write: (path: string, text: string) => void): Introduced;
  /** Whether that is the token of the executor with that sandbox. @throws the operating system's error */
  isToken(sandbox: string, token: string): boolean;
}

/**
 * @param options.socketPath absolute path of the agent's socket
 * @param options.defaultExecutor argv of the default executor
 */
export function createIntroduction(options: {
  readonly socketPath: string;
  readonly agentId: AgentId;
  readonly defaultExecutor: readonly string[];
}): ExecutorIntroduction {
  const { socketPath, agentId, defaultExecutor } = options;
  return {
    commandOf: ({ command, user, sandboxing }) =>
      command ?? {
        argv: [...defaultExecutor],
        environment: {},
        ...(user !== undefined && { user }),
        ...(sandboxing && { sandboxing }),
      },
    introduce: (sandbox, write) => {
      const path = join(sandbox, TOKEN_FILE);
      write(path, randomBytes(TOKEN_BYTES).toString('hex'));
      return {
        environment: {
          KAON_AGENT_ID: agentId,
          KAON_EXECUTOR_SOCKET: socketPath,
          KAON_EXECUTOR_TOKEN_FILE: path,
        },
        // The directory, because each agent makes the socket anew.
        needs: [path, dirname(socketPath)],
      };
    },
    isToken: (sandbox, token) => {
      const own = readToken(join(sandbox, TOKEN_FILE));
      const said = Buffer.from(token);
      return own !== undefined && own.length === said.length && timingSafeEqual(own, said);
    },
  };
}

function readToken(path: string): Buffer | undefined {
  try {
    return readFileSync(path);
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined; // It is not prepared yet, or its sandbox was removed.
    throw error;
  }
}
