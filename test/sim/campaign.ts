/**
 * Many runs on all cores, one run again with its log, and the mark of how fast it goes. Started by `scripts/sim.mjs`;
 * the same file is the worker.
 */
import { writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import type { Outcome } from './simulate.ts';
import { simulate } from './simulate.ts';

/** Hours of one long run; a day holds some of each fault. */
const LONG_HOURS = 12;
const BENCH_RUNS = 8;
const LOOK_MS = 5000;
const HOUR_MS = 3_600_000;
const MINUTE_MS = 60_000;
/** More violations than this are all of a few kinds. */
const SHOWN_MAX = 20;

interface Arguments {
  readonly first: number;
  readonly count: number;
  readonly isSingle: boolean;
  readonly hours: number | undefined;
  readonly isBench: boolean;
}

type Result = Pick<
  Outcome,
  'seed' | 'violation' | 'tasks' | 'executors' | 'losses' | 'simulatedMs'
>;

interface Totals {
  runs: number;
  tasks: number;
  executors: number;
  losses: number;
  simulatedMs: number;
  readonly violations: Result[];
}

function parseArguments(argv: readonly string[]): Arguments {
  const values = new Map<string, string>();
  for (let index = 0; index < argv.length; index += 1) {
    const [flag = '', inline] = (argv[index] ?? '').split('=', 2);
    const takesValue = ['--seed', '--seeds', '--from', '--hours'].includes(flag);
    if (!takesValue && !['--long', '--bench'].includes(flag)) usage(`unknown argument "${flag}"`);
    const value = takesValue ? (inline ?? argv[(index += 1)] ?? '') : 'yes';
    if (takesValue && !/^\d+$/.test(value)) usage(`${flag} wants a whole number, got "${value}"`);
    values.set(flag, value);
  }
  const number = (flag: string): number | undefined => {
    const value = values.get(flag);
    return value === undefined ? undefined : Number(value);
  };
  const seed = number('--seed');
  const isBench = values.has('--bench');
  const isLong = isBench || values.has('--long') || values.has('--hours');
  return {
    first: seed ?? number('--from') ?? 1,
    count: seed === undefined ? (number('--seeds') ?? (isBench ? BENCH_RUNS : 1000)) : 1,
    isSingle: seed !== undefined,
    hours: isLong ? (number('--hours') ?? LONG_HOURS) : undefined,
    isBench,
  };
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

function usage(problem: string): never {
  process.stderr.write(
    `${problem}; usage: npm run sim -- [--seed N | --seeds COUNT [--from N]] [--long [--hours H]] [--bench]\n`,
  );
  process.exit(64);
}

/** The run again, with every event as a line. */
function replay({ first, hours }: Arguments): void {
  const outcome = simulate(first, { isLogged: true, hours });
  const path = join(tmpdir(), `kaon-sim-${String(first)}.log`);
  writeFileSync(path, `${outcome.lines.join('\n')}\n`);
  say(outcome.lines.join('\n'));
  say(`\nseed ${String(first)}: ${outcome.violation ?? 'kept every promise'}\nall events: ${path}`);
  if (outcome.violation !== undefined) process.exitCode = 1;
}

/** Seeds are handed out one at a time, so that no core waits for the slow ones of another. */
async function campaign({ first, count, hours }: Arguments): Promise<Totals> {
  const totals: Totals = {
    ...{ runs: 0, tasks: 0, executors: 0, losses: 0, simulatedMs: 0 },
    violations: [],
  };
  const startedMs = performance.now();
  const looking = setInterval(() => {
    printProgress(totals, count, performance.now() - startedMs);
  }, LOOK_MS);
  let next = first;
  const work = (): Promise<void> =>
    new Promise((resolve, reject) => {
      const worker = new Worker(new URL(import.meta.url), { workerData: { hours } });
      const give = (): void => {
        if (next >= first + count) {
          void worker.terminate().then(() => {
            resolve();
          });
          return;
        }
        worker.postMessage(next);
        next += 1;
      };
      worker.on('error', reject);
      worker.on('message', (result: Result) => {
        take(totals, result, hours);
        give();
      });
      give();
    });
  await Promise.all(Array.from({ length: availableParallelism() }, work));
  clearInterval(looking);
  printProgress(totals, count, performance.now() - startedMs);
  return totals;
}

function take(totals: Totals, result: Result, hours: number | undefined): void {
  totals.runs += 1;
  totals.tasks += result.tasks;
  totals.executors += result.executors;
  totals.losses += result.losses;
  totals.simulatedMs += result.simulatedMs;
  if (result.violation === undefined) return;
  totals.violations.push(result);
  if (totals.violations.length > SHOWN_MAX) return;
  const again = `npm run sim -- --seed ${String(result.seed)}${hours === undefined ? '' : ` --hours ${String(hours)}`}`;
  say(`seed ${String(result.seed)}: ${result.violation}\n  again: ${again}`);
}

function printProgress(
  { runs, tasks, executors, losses, simulatedMs, violations }: Totals,
  count: number,
  tookMs: number,
): void {
  const hours = simulatedMs / HOUR_MS;
  const perMinute = (hours * MINUTE_MS) / tookMs;
  say(
    `${String(runs)} of ${String(count)} seeds, ${String(tasks)} tasks, ${String(executors)} executors, ${String(losses)} changes of Redis, ${hours.toFixed(1)} simulated hours in ${(tookMs / 1000).toFixed(1)} s (${(perMinute / 60).toFixed(2)} a second, ${perMinute.toFixed(0)} a minute), ${String(violations.length)} violations`,
  );
}

async function main(): Promise<void> {
  const options = parseArguments(process.argv.slice(2));
  if (options.isSingle) {
    replay(options);
    return;
  }
  const startedMs = performance.now();
  const { violations, simulatedMs } = await campaign(options);
  if (options.isBench) {
    const perMinute = (simulatedMs / HOUR_MS / (performance.now() - startedMs)) * MINUTE_MS;
    say(
      `${perMinute.toFixed(0)} simulated cluster-hours a minute on ${String(availableParallelism())} cores (3 masters, 10 agents, 3 frameworks)`,
    );
  }
  if (violations.length > 0) process.exitCode = 1;
}

function serve(): void {
  const { hours } = workerData as { hours: number | undefined };
  parentPort?.on('message', (seed: number) => {
    const { violation, tasks, executors, losses, simulatedMs } = simulate(seed, { hours });
    const result: Result = { seed, violation, tasks, executors, losses, simulatedMs };
    parentPort?.postMessage(result);
  });
}

if (isMainThread) await main();
else serve();
