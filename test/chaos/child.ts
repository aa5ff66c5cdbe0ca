/** The framework that is killed: its process, and what it has to be told again each time it is started. */
import { spawn, type ChildProcess } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import type { LoadOptions } from './load.ts';

/** For its last words to the master, without which it would be waited for to come back. */
const GOODBYE_MS = 30_000;

export class FrameworkChild {
  readonly crashesMs: number[] = [];
  readonly #program: string;
  readonly #options: LoadOptions;
  #process: ChildProcess | undefined;
  #isDraining = false;

  /** @param program the built framework-child.ts */
  constructor(program: string, options: LoadOptions) {
    this.#program = program;
    this.#options = options;
    this.#start();
  }

  signal(signal: 'SIGSTOP' | 'SIGCONT'): void {
    this.#process?.kill(signal);
  }

  /** SIGKILL, and after a pause the same framework again. */
  async crash(downMs: number): Promise<void> {
    this.crashesMs.push(Date.now());
    await this.#end('SIGKILL');
    await sleep(downMs);
    this.#start();
  }

  drain(): void {
    this.#isDraining = true;
    this.#process?.stdin?.write('drain\n');
  }

  async stop(): Promise<void> {
    this.#process?.stdin?.write('stop\n');
    const timer = setTimeout(() => this.#process?.kill('SIGKILL'), GOODBYE_MS);
    await this.#end();
    clearTimeout(timer);
  }

  async #end(signal?: NodeJS.Signals): Promise<void> {
    const child = this.#process;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    await new Promise<void>((resolve) => {
      child.once('exit', () => resolve());
      if (signal) child.kill(signal);
    });
  }

  #start(): void {
    const argv = ['--pdeathsig', 'KILL', process.execPath, this.#program];
    argv.push(JSON.stringify(this.#options));
    this.#process = spawn('setpriv', argv, {
      stdio: ['pipe', 'inherit', 'inherit'],
      detached: true,
    });
    this.#process.stdin?.on('error', () => undefined); // It was killed with a line on its way.
    if (this.#isDraining) this.drain();
  }
}
