/** Child processes of `kaon dev`: they die with it however it dies, and their output goes to a file. */
import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { openSync, closeSync, readFileSync } from 'node:fs';
import { KaonError } from '../../protocol/errors.ts';

const KILL_AFTER_MS = 5000;
const LOG_TAIL_CHARS = 2000;

/** A child process that ends with this one. */
export interface Child {
  readonly name: string;
  readonly pid: number;
  /** Settles with what is known of the end, whoever ended it. */
  readonly exited: Promise<{ readonly code: number | null; readonly signal: string | null }>;
  /** SIGTERM, and SIGKILL if that is not enough. Idempotent. */
  stop(): Promise<void>;
}

/** What to start, and where its output goes. */
export interface ChildOptions {
  readonly name: string;
  readonly argv: readonly string[];
  /** Appended to. */
  readonly logPath: string;
  readonly environment?: Readonly<Record<string, string>>;
}

/**
 * Starts a child in a process group of its own, so that a Ctrl-C on the terminal reaches only `kaon dev`, which ends
 * them in order. The kernel kills the child when this process is gone (prctl(2), PR_SET_PDEATHSIG).
 */
export function startChild({ name, argv, logPath, environment }: ChildOptions): Child {
  const log = openSync(logPath, 'a', 0o640);
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', ...argv], {
    stdio: ['ignore', log, log],
    detached: true,
    env: { ...process.env, ...environment },
  });
  closeSync(log);
  const exited = new Promise<{ code: number | null; signal: string | null }>((resolve) => {
    child.once('error', () => {
      resolve({ code: null, signal: null });
    });
    child.once('exit', (code, signal) => {
      resolve({ code, signal });
    });
  });
  return { name, pid: child.pid ?? 0, exited, stop: () => stopChild(child, exited) };
}

async function stopChild(child: ChildProcess, exited: Promise<unknown>): Promise<void> {
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), KILL_AFTER_MS);
  await exited;
  clearTimeout(timer);
}

/**
 * Waits until `ready` says so.
 *
 * @throws KaonError `dev-start` with the end of its log if the child ends first or the time is up
 */
export async function waitUntilReady(
  child: { readonly name: string; readonly exited: Promise<unknown> },
  logPath: string,
  ready: () => Promise<boolean>,
  timeoutMs = 60_000,
): Promise<void> {
  let ended = false;
  void child.exited.then(() => {
    ended = true;
  });
  const deadlineMs = performance.now() + timeoutMs;
  while (!(await ready())) {
    if (ended || performance.now() > deadlineMs) {
      const why = ended ? 'it ended' : `it was not ready after ${String(timeoutMs / 1000)} s`;
      throw new KaonError('dev-start', `${child.name} did not start: ${why}\n${tailOf(logPath)}`, {
        hint: `its log is ${logPath}`,
      });
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

function tailOf(path: string): string {
  return readFileSync(path, 'utf8').slice(-LOG_TAIL_CHARS).trimEnd();
}
