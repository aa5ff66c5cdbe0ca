/**
 * Health checks, one by one: a command in the surroundings of its task, a request, a connection. Each ends in its time, and
 * says what it has found in words for people.
 */
import { spawn } from 'node:child_process';
import { connect, type LookupFunction } from 'node:net';
import type { HealthCheck } from '../../protocol/command.ts';
import type { LaunchedTask } from '../../protocol/executor-messages.ts';
import { codeOf, messageOf } from '../../protocol/errors.ts';
import { formatDuration } from '../../protocol/quantities.ts';
import { joinedCommand } from './core/joined-command.ts';
import { howItLeft } from './core/verdict.ts';
import { workingDirectory } from './environment.ts';
import { exitOf, signalGroup } from './processes.ts';

/** What is kept of what a command says: its last words. */
const SAID_MAX_CHARS = 300;

/** Takes what was found: undefined if all is well, else the problem. */
export type Finding = (problem: string | undefined) => void;

/** What a check may need to know of its task. */
export interface CheckedTask {
  readonly launched: LaunchedTask;
  readonly environment: Readonly<Record<string, string>>;
}

/** Begins one check; what it returns ends it before its time. */
type Begin<T> = (check: T, task: CheckedTask, found: Finding) => () => void;
type CheckOf<T extends HealthCheck['check']['type']> = Extract<HealthCheck['check'], { type: T }>;

/**
 * Does one check.
 *
 * @param found called once, unless the check is given up before
 * @returns gives the check up
 */
export function beginCheck(rules: HealthCheck, task: CheckedTask, found: Finding): () => void {
  let isOver = false;
  let end: () => void = () => undefined;
  const finish = (tell: () => void): void => {
    if (isOver) return;
    isOver = true;
    clearTimeout(timer);
    end();
    tell();
  };
  const timer = setTimeout(
    () => {
      finish(() => {
        found(`no answer within ${formatDuration(rules.timeoutMs)}`);
      });
    },
    Math.min(rules.timeoutMs, 2 ** 31 - 1),
  );
  end = begin(rules.check, task, (problem) => {
    finish(() => {
      found(problem);
    });
  });
  return () => {
    finish(() => undefined);
  };
}

function begin(check: HealthCheck['check'], task: CheckedTask, found: Finding): () => void {
  switch (check.type) {
    case 'command':
      return beginCommand(check, task, found);
    case 'http':
      return beginHttp(check, task, found);
    case 'tcp':
      return beginTcp(check, task, found);
    default:
      return check satisfies never;
  }
}

const beginCommand: Begin<CheckOf<'command'>> = ({ argv }, { launched, environment }, found) => {
  const { launchId, cgroupProcs = [] } = launched;
  const command = joinedCommand({ argv, environment }, { launchId, cgroupProcs });
  const [file = '', ...args] = command.argv;
  const cwd = workingDirectory(launched);
  const failed = (error: unknown): void => {
    const why = codeOf(error) ?? messageOf(error);
    found(`command ${JSON.stringify(argv[0])} could not be executed (${why})`);
  };
  try {
    const child = spawn(file, args, {
      cwd,
      env: command.environment,
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let said = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        said = (said + text).slice(-SAID_MAX_CHARS);
      });
    }
    const { pid } = child;
    child.once('error', failed);
    child.once('exit', (code, signal) => {
      // What it has left behind would keep its pipes open, and `close` away.
      if (pid !== undefined) signalGroup(pid, 'SIGKILL');
      child.once('close', () => {
        found(code === 0 ? undefined : describe(howItLeft(exitOf(code, signal)), said));
      });
    });
    return () => {
      if (pid !== undefined) signalGroup(pid, 'SIGKILL');
      child.stdout.destroy();
      child.stderr.destroy();
    };
  } catch (error) {
    // Not before the caller knows how to give it up.
    queueMicrotask(() => {
      failed(error);
    });
    return () => undefined;
  }
};

function describe(left: string, said: string): string {
  const words = said.trim().split('\n').at(-1) ?? '';
  return words === '' ? left : `${left}: ${words}`;
}

/** The task's own node by both of its addresses, without asking anybody. */
const lookupOwnNode: LookupFunction = (_hostname, _options, done) => {
  done(null, [
    { address: '127.0.0.1', family: 4 },
    { address: '::1', family: 6 },
  ]);
};
const OWN_NODE = { host: 'localhost', lookup: lookupOwnNode, autoSelectFamily: true } as const;

const beginTcp: Begin<CheckOf<'tcp'>> = ({ port }, _task, found) => {
  const socket = connect({ ...OWN_NODE, port });
  socket.once('connect', () => {
    found(undefined);
  });
  socket.on('error', (error) => {
    found(`no connection to port ${String(port)}: ${errorWords(error)}`);
  });
  return () => {
    socket.destroy();
  };
};

const beginHttp: Begin<CheckOf<'http'>> = ({ scheme, port, path }, _task, found) => {
  let isOver = false;
  let end = (): void => {
    isOver = true;
  };
  const failed = (error: unknown): void => {
    found(`no answer from ${scheme} port ${String(port)}: ${errorWords(error)}`);
  };
  // Only a check that needs them pays for their memory.
  const loaded = scheme === 'https' ? import('node:https') : import('node:http');
  loaded
    .then(({ request }) => {
      if (isOver) return;
      const options = { ...OWN_NODE, port, path, agent: false, rejectUnauthorized: false };
      const asked = request(options, ({ statusCode = 0 }) => {
        const isGood = statusCode >= 200 && statusCode <= 399;
        found(isGood ? undefined : `${scheme} port ${String(port)} answered ${String(statusCode)}`);
      });
      // Also of an answer that is given up.
      asked.on('error', failed);
      asked.end();
      end = () => {
        asked.destroy();
      };
    })
    .catch(failed);
  return () => {
    end();
  };
};

/** Of an attempt on two addresses the error of the first one has the words. */
function errorWords(error: unknown): string {
  const first = (error as { errors?: readonly unknown[] }).errors?.[0] ?? error;
  return codeOf(first) ?? messageOf(first);
}
