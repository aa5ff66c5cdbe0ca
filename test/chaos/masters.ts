/** Three masters as processes, each started again shortly after it ended, however it ended. */
import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import type { Chronicle } from './chronicle.ts';
import { Gateway } from './gateway.ts';
import type { Surroundings } from './surroundings.ts';

const RESTART_PAUSE_MS = 300;

export class Master {
  readonly name: string;
  readonly gateway: Gateway;
  /** As it called itself when it started last. */
  masterId: string | undefined;
  readonly #surroundings: Surroundings;
  readonly #logPath: string;
  #process: ChildProcess | undefined;
  #isStopping = false;

  private constructor(surroundings: Surroundings, name: string, gateway: Gateway) {
    this.#surroundings = surroundings;
    this.name = name;
    this.gateway = gateway;
    this.#logPath = join(surroundings.directory, `${name}.log`);
    this.#listen(surroundings.chronicle);
    this.#start();
  }

  static async start(surroundings: Surroundings, index: number): Promise<Master> {
    const { directory, redis } = surroundings;
    const name = `master-${String(index)}`;
    const gateway = await Gateway.open(join(directory, `${name}.sock`), () => redis.address);
    return new Master(surroundings, name, gateway);
  }

  get pid(): number {
    return this.#process?.pid ?? 0;
  }

  signal(signal: NodeJS.Signals): void {
    this.#process?.kill(signal);
  }

  async stop(): Promise<void> {
    this.#isStopping = true;
    const child = this.#process;
    if (child && child.exitCode === null && child.signalCode === null) {
      const ended = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGCONT');
      child.kill('SIGTERM');
      const timer = setTimeout(() => child.kill('SIGKILL'), 5000);
      await ended;
      clearTimeout(timer);
    }
    await this.gateway.close();
  }

  #listen(chronicle: Chronicle): void {
    chronicle.follow(this.name, this.#logPath);
    chronicle.onLine(({ source, text }) => {
      const started = / master\.started .*?masterId=(\S+)/.exec(text)?.[1];
      if (source === this.name && started !== undefined) this.masterId = started;
    });
  }

  #start(): void {
    const { kaon, environment, redis } = this.#surroundings;
    const log = openSync(this.#logPath, 'a');
    const argv = [...kaon, 'master', '--redis', redis.url ?? this.gateway.url];
    argv.push('--agent-timeout', '12s', '--framework-timeout', '8s', '--offer-timeout', '8s');
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', ...argv], {
      stdio: ['ignore', log, log],
      env: { ...process.env, ...environment },
      detached: true,
    });
    closeSync(log);
    this.#process = child;
    child.once('exit', (code, signal) => {
      this.#surroundings.chronicle.note(this.name, `ended with ${String(code ?? signal)}`);
      if (!this.#isStopping) setTimeout(() => !this.#isStopping && this.#start(), RESTART_PAUSE_MS);
    });
  }
}
