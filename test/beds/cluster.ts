/** A whole cluster by `kaon dev` in a temporary directory, driven through the built command as a person would. */
import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { pauseAfter } from '../support/pause.ts';

/** `KAON_DIST`: another build than that in dist/, so that one may go on while the other is tested. */
export const KAON = resolve(process.env['KAON_DIST'] ?? 'dist', 'kaon.js');
/** This tree: commands and executors of the tests are in it, and sandboxes hide it where it is below /tmp or a home. */
export const TREE = resolve('.');
const START_TIMEOUT_MS = 120_000;
const POLL_MS = 25;
/** So often a command is asked that gives up: without Redis it does so after 5 s, also if it was itself that stood still. */
const ASKS_MAX = 5;

/** What a command left behind when it ended. */
export interface Ended {
  readonly stdout: string;
  readonly stderr: string;
  /** The bytes themselves, for output that is not text. */
  readonly stdoutBytes: Buffer;
  readonly exitCode: number | null;
}

/** A command that is still running. */
export interface Running {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
  /** Resolves once the text has appeared on either stream. */
  seen(text: string): Promise<void>;
  /** What was printed so far, on both streams. */
  printed(): string;
}

export interface ClusterBed {
  readonly redis: string;
  readonly directory: string;
  /** The pid of `kaon dev`. */
  readonly pid: number;
  /** Runs `kaon ARGS` to its end. */
  kaon(...args: string[]): Promise<Ended>;
  start(...args: string[]): Running;
  /** Process 1 of the cluster's systemd, as numbered here. */
  init(): number;
  /** Runs a command inside the private systemd, or here where there is none. */
  inside(...argv: string[]): Promise<Ended>;
  /** Pids of this cluster's daemons of one kind. */
  daemons(kind: 'agent' | 'master'): number[];
  /** Ctrl-C on `kaon dev`; its exit code. The directory goes too. */
  stop(): Promise<number | null>;
}

/**
 * @param args more arguments of `kaon dev`, e.g. `['--resources', 'cpus=2,mem=1G']`
 * @param redisUrl a Redis to use instead of one that `kaon dev` starts
 */
export async function startClusterBed(
  args: readonly string[] = [],
  redisUrl?: string,
): Promise<ClusterBed> {
  const directory = mkdtempSync(join(tmpdir(), 'kaon-bed-cluster-'));
  // Tasks may run as another user, whose sandbox is below this.
  chmodSync(directory, 0o711);
  const use = redisUrl === undefined ? [] : ['--redis', redisUrl];
  const dev = startCommand([
    process.execPath,
    KAON,
    'dev',
    '--state-dir',
    directory,
    // Tasks leave notes for the tests there.
    ...['--expose', directory, '--expose', TREE],
    ...use,
    ...args,
  ]);
  const timer = setTimeout(() => dev.child.kill('SIGKILL'), START_TIMEOUT_MS);
  const outcome = await Promise.race([dev.seen('Ctrl-C ends').then(() => undefined), dev.ended]);
  clearTimeout(timer);
  if (outcome) {
    rmSync(directory, { recursive: true, force: true });
    throw new Error(`kaon dev ended with ${String(outcome.exitCode)}: ${outcome.stderr}`);
  }
  const printedInit = /private systemd \(pid (\d+)\)/.exec(dev.printed())?.[1];
  const init = printedInit === undefined ? undefined : Number(printedInit);
  const redis = redisUrl ?? `unix://${join(directory, 'redis', 'redis.sock')}`;
  const environment = { KAON_REDIS: redis };
  const start = (...argv: string[]): Running =>
    startCommand([process.execPath, KAON, ...argv], environment);
  return {
    redis,
    directory,
    pid: dev.child.pid ?? 0,
    start,
    kaon: (...argv) => start(...argv).ended,
    init: () => init ?? 1,
    inside: (...argv) => startCommand([...enterArgv(init), ...argv]).ended,
    daemons: (kind) => daemonsOf(kind, redis),
    stop: async () => {
      dev.child.kill('SIGINT');
      const { exitCode } = await dev.ended;
      rmSync(directory, { recursive: true, force: true });
      return exitCode;
    },
  };
}

/** Starts any command and gathers what it prints. */
export function startCommand(
  argv: readonly string[],
  environment: Readonly<Record<string, string>> = {},
): Running {
  const [program = '', ...args] = argv;
  const child = spawn(program, args, { env: { ...process.env, ...environment } });
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  const text = (): string => Buffer.concat([...stdout, ...stderr]).toString();
  const watchers = new Set<() => void>();
  const gather = (into: Buffer[]) => (chunk: Buffer) => {
    into.push(chunk);
    for (const watch of watchers) watch();
  };
  child.stdout.on('data', gather(stdout));
  child.stderr.on('data', gather(stderr));
  const ended = new Promise<Ended>((done) => {
    child.once('close', (exitCode) => {
      const stdoutBytes = Buffer.concat(stdout);
      done({
        stdout: stdoutBytes.toString(),
        stderr: Buffer.concat(stderr).toString(),
        stdoutBytes,
        exitCode,
      });
    });
  });
  const seen = (wanted: string): Promise<void> =>
    new Promise((done) => {
      const watch = (): void => {
        if (!text().includes(wanted)) return;
        watchers.delete(watch);
        done();
      };
      watchers.add(watch);
      watch();
    });
  return { child, ended, seen, printed: text };
}

/**
 * What `kaon ARGS --json` prints.
 *
 * @throws Error with what it said, if it has given up again and again
 */
export async function jsonOf<T>({ kaon }: Pick<ClusterBed, 'kaon'>, ...args: string[]): Promise<T> {
  for (let asks = 1; ; asks += 1) {
    const { stdout, stderr } = await kaon(...args, '--json');
    if (stdout !== '') return JSON.parse(stdout) as T;
    if (asks === ASKS_MAX) throw new Error(`kaon ${args.join(' ')}: ${stderr}`);
  }
}

/**
 * Has a master with these arguments lead, for good: the cluster's own one stands still meanwhile. It cannot be ended, since
 * `kaon dev` ends with it, and one that only stepped down would lead again whenever the other one is late.
 *
 * @returns what ends the new one, and lets the cluster's own go on; for the second time it does nothing
 */
export async function leadInstead(
  cluster: Pick<ClusterBed, 'daemons' | 'start'>,
  ...args: string[]
): Promise<() => Promise<void>> {
  const [own] = cluster.daemons('master');
  if (own === undefined) throw new Error('the cluster has no master');
  const master = cluster.start('master', ...args);
  let isGivenBack = false;
  const giveBack = async (): Promise<void> => {
    if (isGivenBack) return;
    isGivenBack = true;
    master.child.kill('SIGTERM');
    await master.ended;
    process.kill(own, 'SIGCONT');
  };
  process.kill(own, 'SIGSTOP');
  const early = await Promise.race([master.seen('master.leading'), master.ended]);
  if (!early) return giveBack;
  await giveBack();
  throw new Error(`the master ended with ${String(early.exitCode)}: ${early.stderr}`);
}

/** Waits for a fact that has no event; bounded by the test's own timeout. */
export async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  for (;;) {
    const askedMs = performance.now();
    if (await holds()) return;
    await pauseAfter(askedMs, POLL_MS);
  }
}

/** In front of a command, to run it where the cluster's systemd is. */
function enterArgv(init: number | undefined): string[] {
  return init === undefined
    ? []
    : ['nsenter', '-t', String(init), '-m', '-p', '-u', '-i', '-C', '--'];
}

/**
 * Pids of daemons of one kind.
 *
 * @param argument one that they were given, or a part of it: the address of Redis, a directory
 */
export function daemonsOf(kind: string, argument: string): number[] {
  return pids().filter((pid) => {
    try {
      const argv = readFileSync(`/proc/${String(pid)}/cmdline`, 'utf8').split('\0');
      const isKind = argv[argv.indexOf(KAON) + 1] === kind;
      return isKind && argv.some((one) => one.includes(argument));
    } catch {
      return false; // It ended between two looks.
    }
  });
}

function pids(): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

/** Everything that mentions the directory: command lines, mounts, cgroups of `kaon dev` with that pid. */
export function leftovers(directory: string, devPid: number): string[] {
  const processes = pids().filter((pid) => {
    try {
      return readFileSync(`/proc/${String(pid)}/cmdline`, 'utf8').includes(directory);
    } catch {
      return false; // It ended between two looks.
    }
  });
  const mounts = readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .filter((line) => line.includes(directory));
  const cgroups = existsSync('/sys/fs/cgroup')
    ? allCgroups().filter((path) => path.includes(`kaon-dev-${String(devPid)}-`))
    : [];
  return [...processes.map((pid) => `process ${String(pid)}`), ...mounts, ...cgroups];
}

/** Other clusters' may go while they are listed. */
function allCgroups(): string[] {
  for (;;) {
    try {
      return readdirSync('/sys/fs/cgroup', { recursive: true, encoding: 'utf8' });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
}
