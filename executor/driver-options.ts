/** Where an executor's agent is, and who the executor is: what the agent has put into its environment, or options. */
import { readFileSync } from 'node:fs';
import type { Log } from '../io/log.ts';
import { silentLog } from '../io/log.ts';
import { KaonError, messageOf } from '../protocol/errors.ts';

/** How long `stop` waits by default for the agent to acknowledge what has been reported. */
const STOP_TIMEOUT_DEFAULT_MS = 60_000;

/** Everything has a default; of the first four it is what the agent has put into the environment. */
export interface ExecutorDriverOptions {
  /** Default: `KAON_EXECUTOR_SOCKET`. */
  readonly socketPath?: string;
  /** Default: `KAON_EXECUTOR_TOKEN_FILE`. */
  readonly tokenFile?: string;
  /** Default: `KAON_FRAMEWORK_ID`. */
  readonly frameworkId?: string;
  /** Default: `KAON_EXECUTOR_ID`. */
  readonly executorId?: string;
  /** How long `stop` waits for acknowledgements, milliseconds. Default one minute. */
  readonly stopTimeoutMs?: number;
  /** Default: says nothing. */
  readonly log?: Log;
}

/** With everything filled in. */
export type ResolvedOptions = Required<ExecutorDriverOptions>;

/** @throws KaonError `not-started-by-agent`, naming what is missing */
export function resolveOptions(
  options: ExecutorDriverOptions,
  environment: Readonly<Record<string, string | undefined>>,
): ResolvedOptions {
  const named = (value: string | undefined, variable: string): string => {
    const found = value ?? environment[variable];
    if (found !== undefined && found !== '') return found;
    throw new KaonError(
      'not-started-by-agent',
      `this executor was not started by an agent: ${variable} is not set`,
      {
        hint: 'name it as the command of an executor in a task, see docs/executors.md',
      },
    );
  };
  return {
    socketPath: named(options.socketPath, 'KAON_EXECUTOR_SOCKET'),
    tokenFile: named(options.tokenFile, 'KAON_EXECUTOR_TOKEN_FILE'),
    frameworkId: named(options.frameworkId, 'KAON_FRAMEWORK_ID'),
    executorId: named(options.executorId, 'KAON_EXECUTOR_ID'),
    stopTimeoutMs: options.stopTimeoutMs ?? STOP_TIMEOUT_DEFAULT_MS,
    log: options.log ?? silentLog,
  };
}

/** @throws KaonError `executor-token` */
export function readToken(tokenFile: string): string {
  try {
    const token = readFileSync(tokenFile, 'utf8').trim();
    if (token !== '') return token;
  } catch (error) {
    throw new KaonError(
      'executor-token',
      `the token of this executor cannot be read: ${messageOf(error)}`,
      { cause: error },
    );
  }
  throw new KaonError(
    'executor-token',
    `the token of this executor is not in ${tokenFile}: it is empty`,
  );
}
