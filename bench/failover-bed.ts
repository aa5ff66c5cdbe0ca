/** Real masters on a real Redis, which the failover benchmark kills, freezes, stops and replaces; and its load. */
import type { ChildProcess } from 'node:child_process';
import { fork, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { KAON } from '../test/beds/cluster.ts';
import type { RedisBed, RedisBedOptions } from '../test/beds/redis.ts';
import { startRedisBed } from '../test/beds/redis.ts';
import { endProcess } from '../test/beds/redis-process.ts';

export const CLUSTER = 'bench';
/** What a master needs after it has said that it stands by, until it listens on its channel, milliseconds. */
const SETTLE_MS = 300;
/** Neither a takeover nor anything else here takes so long; then something is wrong. */
const GIVE_UP_MS = 60_000;

/** One `kaon master`, and when it said what. */
export interface MasterProcess {
  readonly child: ChildProcess;
  readonly pid: number;
  /** As systemd gives it to a start of a unit, and to its `ExecStopPost=`. */
  readonly invocationId: string;
  /** When it last logged that event, by its own clock, milliseconds since 1970; undefined: not yet. */
  loggedAtMs(event: 'master.leading' | 'master.standby'): number | undefined;
}

/** Redis, masters and the processes with the load; all end with `close`. */
export class FailoverBed {
  readonly redis: RedisBed;
  /** In the order of their starts. */
  masters: MasterProcess[] = [];
  readonly #parts: ChildProcess[] = [];

  private constructor(redis: RedisBed) {
    this.redis = redis;
  }

  static async open(options: RedisBedOptions = {}): Promise<FailoverBed> {
    return new FailoverBed(await startRedisBed(options));
  }

  /** Starts a master, and resolves when it leads or stands by and listens. */
  async startMaster(): Promise<MasterProcess> {
    const master = spawnMaster(this.redis.url);
    this.masters.push(master);
    await until('a master leads or stands by', () =>
      ['master.leading', 'master.standby'].some(
        (event) => master.loggedAtMs(event as 'master.leading') !== undefined,
      ),
    );
    await sleep(SETTLE_MS);
    return master;
  }

  /** The master that last began to lead. */
  leader(): MasterProcess {
    const leadingSince = (master: MasterProcess): number =>
      master.loggedAtMs('master.leading') ?? -Infinity;
    const [first] = this.masters.toSorted((a, b) => leadingSince(b) - leadingSince(a));
    if (!first || leadingSince(first) === -Infinity) throw new Error('no master leads');
    return first;
  }

  /** Forgets a master, and makes sure that its process has ended: also if it is frozen. */
  async remove(master: MasterProcess): Promise<void> {
    this.masters = this.masters.filter((other) => other !== master);
    await endProcess(master.child, 'SIGKILL');
  }

  /** `kaon step-down` of the unit, as `ExecStopPost=` runs it. Resolves when it has ended. */
  async stepDown({ invocationId }: MasterProcess): Promise<void> {
    const argv = [KAON, 'step-down', '--redis', this.redis.url, '--cluster', CLUSTER];
    const child = spawn(process.execPath, argv, {
      env: unitEnvironment(invocationId),
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let said = '';
    child.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()));
    await new Promise((resolve) => child.once('close', resolve));
    if (!said.includes('does not lead any more')) throw new Error(`step-down: ${said.trim()}`);
  }

  /** Runs a part of the benchmark in a process of its own, from the same bundle. */
  startPart(name: string, part: object): ChildProcess {
    const entry = fileURLToPath(import.meta.url).replace(/chunks\/[^/]*$/, 'bench.js');
    const child = fork(entry, ['--part', name, JSON.stringify(part)]);
    this.#parts.push(child);
    return child;
  }

  async close(): Promise<void> {
    for (const part of this.#parts) await endProcess(part, 'SIGTERM');
    for (const { child } of this.masters) await endProcess(child, 'SIGKILL');
    await this.redis.stop();
  }
}

/** Resolves when the process is gone. */
export function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
  return new Promise((resolve) => {
    child.once('exit', () => {
      resolve();
    });
  });
}

/** Waits for a fact; throws if it does not come true. */
export async function until(
  what: string,
  holds: () => boolean | Promise<boolean>,
  everyMs = 10,
): Promise<void> {
  const deadlineMs = performance.now() + GIVE_UP_MS;
  while (!(await holds())) {
    if (performance.now() > deadlineMs) throw new Error(`${what}: not within ${GIVE_UP_MS} ms`);
    await sleep(everyMs);
  }
}

/** Sends a command to a part, and resolves with its next answer. */
export function ask<Answer>(part: ChildProcess, command: object): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const onExit = (): void => {
      reject(new Error('a part of the benchmark has ended'));
    };
    part.once('exit', onExit);
    part.once('message', (answer: Answer) => {
      part.off('exit', onExit);
      resolve(answer);
    });
    part.send(command);
  });
}

function spawnMaster(url: string): MasterProcess {
  const invocationId = randomBytes(16).toString('hex');
  const kaon = [process.execPath, ...profiling(), KAON];
  const argv = [...kaon, 'master', '--redis', url, '--cluster', CLUSTER];
  // Its life is tied to this process: a benchmark that is killed leaves no master behind. And it is told that it is the
  // process that systemd started.
  const start = ['sh', '-c', 'SYSTEMD_EXEC_PID=$$ exec "$0" "$@"'];
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', ...start, ...argv], {
    env: unitEnvironment(invocationId),
    stdio: ['ignore', 'inherit', 'pipe'],
  });
  const loggedAtMs = new Map<string, number>();
  let rest = '';
  child.stderr.on('data', (chunk: Buffer) => {
    const lines = `${rest}${chunk.toString()}`.split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) {
      const [time = '', level, event = ''] = line.split(/ +/, 3);
      if (event.startsWith('master.')) loggedAtMs.set(event, Date.parse(time));
      if (level === 'error') process.stderr.write(`${line}\n`);
    }
  });
  return { child, pid: child.pid ?? 0, invocationId, loggedAtMs: (event) => loggedAtMs.get(event) };
}

/** `KAON_BENCH_PROFILE=DIR` has masters that end by themselves write CPU profiles there. */
function profiling(): string[] {
  const directory = process.env['KAON_BENCH_PROFILE'];
  return directory === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${directory}`];
}

/** What systemd would set; and nothing of a unit that this process itself may be in. */
function unitEnvironment(invocationId: string): NodeJS.ProcessEnv {
  const { SYSTEMD_EXEC_PID: _pid, JOURNAL_STREAM: _stream, ...rest } = process.env;
  return { ...rest, INVOCATION_ID: invocationId };
}
