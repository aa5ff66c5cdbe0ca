/** The process of the program that is hosted: in a group of its own, so that whatever it has started ends with it. */
import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { codeOf } from '../../protocol/errors.ts';
import type { ProgramEnd } from './core/hosting.ts';

/** As a shell says it. */
const EXIT_NOT_FOUND = 127;
const EXIT_NOT_STARTED = 126;

/** What to run, and where. Output goes where that of this process goes. */
export interface ProgramOptions {
  readonly argv: readonly string[];
  readonly directory: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly onEnded: (end: ProgramEnd) => void;
}

/** One process at a time. */
export class Program {
  readonly #options: ProgramOptions;
  #child: ChildProcess | undefined;

  constructor(options: ProgramOptions) {
    this.#options = options;
  }

  start(): void {
    const { argv, directory, environment, onEnded } = this.#options;
    const [command = '', ...args] = argv;
    const child = spawn(command, args, {
      cwd: directory,
      env: environment,
      stdio: ['ignore', 'inherit', 'inherit'],
      detached: true,
    });
    this.#child = child;
    child.once('error', (error) => {
      // After a start that has failed there is no exit; a signal that could not be sent is no end.
      if (child.pid !== undefined) return;
      this.#child = undefined;
      const isMissing = codeOf(error) === 'ENOENT';
      onEnded({
        exitCode: isMissing ? EXIT_NOT_FOUND : EXIT_NOT_STARTED,
        words: `could not be started: ${error.message}`,
      });
    });
    child.once('exit', (code, signal) => {
      killGroup(child);
      this.#child = undefined;
      onEnded(endOf(code, signal));
    });
  }

  /** At once, with all that it has started: a goodbye of its own might end what its successor has taken over. */
  kill(): void {
    if (this.#child) killGroup(this.#child);
  }
}

function endOf(code: number | null, signal: NodeJS.Signals | null): ProgramEnd {
  if (signal !== null) {
    return { exitCode: 128 + constants.signals[signal], words: `was ended by ${signal}` };
  }
  return { exitCode: code ?? 1, words: `left with ${String(code ?? 1)}` };
}

function killGroup({ pid }: ChildProcess): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch (error) {
    // Nobody of it is left.
    if (codeOf(error) !== 'ESRCH') throw error;
  }
}
