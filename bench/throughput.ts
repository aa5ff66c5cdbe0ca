/**
 * How many whole task life cycles a second one master carries (offer, accept, launch, running, finished, both updates
 * acknowledged), and how long a task waits from accept to running: a real Redis and a real `kaon master`, with
 * simulated agents whose tasks are timers, because what systemd takes is measured elsewhere.
 */
import type { ChildProcess } from 'node:child_process';
import { fork, spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Resources } from '../protocol/resources.ts';
import { scaleResources } from '../protocol/resources.ts';
import { KAON } from '../test/beds/cluster.ts';
import { startRedisBed } from '../test/beds/redis.ts';
import type { BenchResult, Figure } from './harness.ts';
import { cpuMsOf, median, percentile } from './harness.ts';

const CLUSTER = 'bench';
const AGENTS = 100;
const FRAMEWORKS = 4;
const TASK: Resources = { cpuMillis: 100, memMib: 64 };
/** Tasks that fit on one agent: with the number of agents, how many are under way at most. */
const SLOTS = 30;
const RUN_MS = 10;
const WARM_UP_MS = 4000;
const WINDOW_MS = 2000;
const WINDOWS = 7;
const PACED_EVERY_MS = 10;
const PACED_MS = 10_000;

/** What the process with the agents is told. */
export interface AgentsPart {
  readonly socketPath: string;
  readonly cluster: string;
  readonly count: number;
  readonly resources: Resources;
  readonly runMs: number;
}

/** What the process with the frameworks is told. */
export interface FrameworksPart {
  readonly socketPath: string;
  readonly cluster: string;
  readonly count: number;
  readonly task: Resources;
  /** Tasks that fit on one agent. */
  readonly slots: number;
}

/** What the frameworks are to do; `look` is answered. */
export type FrameworksCommand =
  | { readonly type: 'launch'; readonly units: number }
  | { readonly type: 'pace'; readonly everyMs: number }
  | { readonly type: 'look' };

/** Since the last look; `failed` is everything that was not as it should be. */
export interface FrameworksAnswer {
  readonly atMs: number;
  readonly finished: number;
  readonly underWay: number;
  readonly failed: number;
  readonly latenciesMs: number[];
}

type ProcessName = 'master' | 'redis' | 'agents' | 'frameworks';
const PROCESS_NAMES: readonly ProcessName[] = ['master', 'redis', 'agents', 'frameworks'];

/** The processes of the benchmark. */
interface Bed {
  readonly pids: Readonly<Record<ProcessName, number>>;
  readonly frameworks: ChildProcess;
}

/** Runs the benchmark on a cluster of its own. */
export async function run(): Promise<BenchResult> {
  const redis = await startRedisBed();
  const children: ChildProcess[] = [];
  try {
    const argv = [KAON, 'master', '--redis', redis.url, '--cluster', CLUSTER];
    argv.push('--log-level', 'warn');
    const master = spawn(process.execPath, [...profiling(), ...argv], {
      stdio: ['ignore', 'inherit', 'inherit'],
    });
    const common = { socketPath: redis.socketPath, cluster: CLUSTER };
    const resources = scaleResources(TASK, SLOTS);
    const agents = startPart('agents', { ...common, count: AGENTS, resources, runMs: RUN_MS });
    const frameworks = startPart('frameworks', {
      ...common,
      count: FRAMEWORKS,
      task: TASK,
      slots: SLOTS,
    });
    children.push(master, agents, frameworks);
    await sleep(1000);
    const pid = (child: ChildProcess): number => child.pid ?? 0;
    return await measure({
      pids: {
        master: pid(master),
        redis: redis.pid() ?? 0,
        agents: pid(agents),
        frameworks: pid(frameworks),
      },
      frameworks,
    });
  } finally {
    for (const child of children) await end(child);
    await redis.stop();
  }
}

/** `KAON_BENCH_PROFILE=DIR` has the master write a CPU profile there when it ends. */
function profiling(): string[] {
  const directory = process.env['KAON_BENCH_PROFILE'];
  return directory === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${directory}`];
}

/** Runs one part in a process of its own, from the same bundle. */
function startPart(name: 'agents' | 'frameworks', part: AgentsPart | FrameworksPart): ChildProcess {
  const entry = fileURLToPath(import.meta.url).replace(/chunks\/[^/]*$/, 'bench.js');
  return fork(entry, ['--part', name, JSON.stringify(part)]);
}

function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
  return new Promise((resolve) => {
    child.once('close', () => {
      resolve();
    });
    child.kill('SIGTERM');
  });
}

/** One stretch of time: how many tasks, at what cost to each process. */
interface Window {
  readonly perSecond: number;
  readonly cpuUs: Readonly<Record<ProcessName, number>>;
  readonly latenciesMs: readonly number[];
}

async function measure(bed: Bed): Promise<BenchResult> {
  tell(bed, { type: 'launch', units: AGENTS * SLOTS });
  await sleep(WARM_UP_MS);
  const windows: Window[] = [];
  await ask(bed);
  for (let index = 0; index < WINDOWS; index += 1)
    windows.push(await measureWindow(bed, WINDOW_MS));
  tell(bed, { type: 'launch', units: 0 });
  await drained(bed);
  tell(bed, { type: 'pace', everyMs: PACED_EVERY_MS });
  await sleep(1000);
  await ask(bed);
  const paced = await measureWindow(bed, PACED_MS);
  tell(bed, { type: 'pace', everyMs: 0 });
  const { failed } = await drained(bed);
  if (failed > 0) throw new Error(`${failed} tasks of the benchmark failed or had no offer`);
  return report(windows, paced);
}

async function measureWindow(bed: Bed, forMs: number): Promise<Window> {
  const before = cpuOf(bed);
  const startedAtMs = performance.now();
  await sleep(forMs);
  const { finished, latenciesMs } = await ask(bed);
  const tookMs = performance.now() - startedAtMs;
  const after = cpuOf(bed);
  const cpuUs = { ...after };
  for (const name of PROCESS_NAMES) cpuUs[name] = ((after[name] - before[name]) * 1000) / finished;
  return { perSecond: (finished * 1000) / tookMs, cpuUs, latenciesMs };
}

function cpuOf({ pids }: Bed): Record<ProcessName, number> {
  const { master, redis, agents, frameworks } = pids;
  return {
    master: cpuMsOf(master),
    redis: cpuMsOf(redis),
    agents: cpuMsOf(agents),
    frameworks: cpuMsOf(frameworks),
  };
}

/** Waits until no task is under way. */
async function drained(bed: Bed): Promise<FrameworksAnswer> {
  for (;;) {
    const answer = await ask(bed);
    if (answer.underWay === 0) return answer;
    await sleep(100);
  }
}

function tell(bed: Bed, command: FrameworksCommand): void {
  bed.frameworks.send(command);
}

function ask(bed: Bed): Promise<FrameworksAnswer> {
  return new Promise((resolve) => {
    bed.frameworks.once('message', (answer: FrameworksAnswer) => {
      resolve(answer);
    });
    tell(bed, { type: 'look' });
  });
}

function report(windows: readonly Window[], paced: Window): BenchResult {
  const saturated = windows.flatMap(({ latenciesMs }) => latenciesMs);
  const costs = PROCESS_NAMES.map((name): Figure => {
    const value = median(windows.map(({ cpuUs }) => cpuUs[name]));
    return { name: `CPU of ${name}`, value, unit: 'us/task' };
  });
  return {
    name: 'throughput',
    about: `Whole life cycles of tasks (offer, accept, launch, running, finished, both updates acknowledged): one master, one Redis, ${AGENTS} agents and ${FRAMEWORKS} frameworks that are simulated, at most ${AGENTS * SLOTS} tasks of ${RUN_MS} ms at a time; ${WINDOWS} windows of ${WINDOW_MS / 1000} s. Then ${1000 / PACED_EVERY_MS} tasks a second for ${PACED_MS / 1000} s.`,
    figures: [
      {
        name: 'life cycles',
        value: median(windows.map(({ perSecond }) => perSecond)),
        unit: '/s',
        mark: { atLeast: 5000 },
      },
      ...costs,
      { name: 'accept to running, saturated, p50', value: percentile(saturated, 0.5), unit: 'ms' },
      { name: 'accept to running, saturated, p99', value: percentile(saturated, 0.99), unit: 'ms' },
      {
        name: `accept to running at ${1000 / PACED_EVERY_MS}/s, p50`,
        value: percentile(paced.latenciesMs, 0.5),
        unit: 'ms',
        mark: { atMost: 3 },
      },
      {
        name: `accept to running at ${1000 / PACED_EVERY_MS}/s, p99`,
        value: percentile(paced.latenciesMs, 0.99),
        unit: 'ms',
      },
    ],
    notes: [
      'The simulated agents and frameworks take their CPU time from the same cores. Saturated, a task waits for the others that are under way: their number over the rate.',
    ],
  };
}
