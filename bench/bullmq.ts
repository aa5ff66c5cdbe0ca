/**
 * Jobs a second of `kaon bullmq`, with limits for each job, against the ways in which BullMQ runs jobs by itself, without: in
 * the process, in child processes, as commands. All on one machine and one Redis, in turns; and what a job on an idle cluster
 * waits.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { startClusterBed } from '../test/beds/cluster.ts';
import type { ClusterBed } from '../test/beds/cluster.ts';
import { startRedisBed } from '../test/beds/redis.ts';
import type { RedisBed } from '../test/beds/redis.ts';
import type { CommandData } from './bullmq-baselines.ts';
import type { Side } from './bullmq-sides.ts';
import { startBaseline, startKaon } from './bullmq-sides.ts';
import type { BenchResult, Figure } from './harness.ts';
import { cpuMsOf, median, percentile } from './harness.ts';

const ROUNDS = 5;
/** No round begins after so long, milliseconds: on a machine that is busy with other things fewer of them are enough. */
const ROUNDS_MAX_MS = 90_000;
/** Jobs at a time, on each side: on two cores none of the baselines is faster with 4, 8 or 32. */
const CONCURRENCY = 16;
/** Jobs of a backlog, by how fast they are: a second or two each. */
const COMMANDS = 400;
const UNITS = 200;
const PROCESSED = 1000;
/** Jobs one by one, on each side. */
const SINGLE_JOBS = 100;
/** Between two of them: nothing of the last one is under way any more. */
const PAUSE_MS = 30;
/** More than the jobs need: executors have resources of their own. */
const AGENT = ['--resources', `cpus=${String(CONCURRENCY + 4)},mem=16G`];

const TRUE: CommandData = { command: ['true'] };

/** What was measured of one side, in order. */
interface Measured {
  readonly perSecond: number[];
  /** From `add` to completion of the jobs of a backlog, of all rounds. */
  readonly backlogMs: number[];
  /** The same of jobs that came alone. */
  readonly aloneMs: number[];
  /** CPU time of the side's own process, microseconds a job. */
  readonly cpuUs: number[];
}

type SideName = 'inProcess' | 'sandboxed' | 'command' | 'shared' | 'unit' | 'warm';

/** Runs the benchmark on a Redis and a cluster of its own. */
export async function run(): Promise<BenchResult> {
  const redis = await startRedisBed();
  try {
    const cluster = await startClusterBed(AGENT, redis.url);
    try {
      return await measure(redis, cluster);
    } finally {
      await cluster.stop();
    }
  } finally {
    await redis.stop();
  }
}

async function measure(redis: RedisBed, cluster: ClusterBed): Promise<BenchResult> {
  const sides = new Map<SideName, Side>();
  const { socketPath } = redis;
  const baseline = { socketPath, concurrency: CONCURRENCY };
  const kaon = { socketPath, cluster, concurrency: CONCURRENCY };
  try {
    sides.set(
      'inProcess',
      await startBaseline({ ...baseline, kind: 'in-process', jobs: PROCESSED, data: {} }),
    );
    sides.set(
      'sandboxed',
      await startBaseline({ ...baseline, kind: 'sandboxed', jobs: PROCESSED, data: {} }),
    );
    sides.set(
      'command',
      await startBaseline({ ...baseline, kind: 'command', jobs: COMMANDS, data: TRUE }),
    );
    const shared = { ...TRUE, executor: 'shared' };
    sides.set('shared', await startKaon({ ...kaon, name: 'shared', jobs: COMMANDS, data: shared }));
    sides.set('unit', await startKaon({ ...kaon, name: 'unit', jobs: UNITS, data: TRUE }));
    sides.set(
      'warm',
      await startKaon({ ...kaon, name: 'warm', jobs: PROCESSED, data: {}, isWarm: true }),
    );
    const measured = new Map<SideName, Measured>();
    for (const [name, side] of sides) {
      await side.queue.runBacklog(side.jobs, side.data); // Warms it up.
      measured.set(name, { perSecond: [], backlogMs: [], aloneMs: [], cpuUs: [] });
    }
    await measureBacklogs(sides, measured);
    await measureSingleJobs(sides, measured);
    return resultOf((name) => measured.get(name) as Measured);
  } finally {
    for (const side of sides.values()) await side.stop();
  }
}

/** In turns, so that all have the same share of what else happens on the machine. */
async function measureBacklogs(
  sides: ReadonlyMap<SideName, Side>,
  measured: ReadonlyMap<SideName, Measured>,
): Promise<void> {
  const startedAtMs = performance.now();
  for (let round = 0; round < ROUNDS; round += 1) {
    if (round > 0 && performance.now() - startedAtMs > ROUNDS_MAX_MS) return;
    for (const [name, { queue, jobs, data, pid }] of sides) {
      const before = cpuMsOf(pid);
      const { perSecond, latenciesMs } = await queue.runBacklog(jobs, data);
      const into = measured.get(name);
      into?.perSecond.push(perSecond);
      into?.backlogMs.push(...latenciesMs);
      into?.cpuUs.push(((cpuMsOf(pid) - before) * 1000) / jobs);
    }
  }
}

async function measureSingleJobs(
  sides: ReadonlyMap<SideName, Side>,
  measured: ReadonlyMap<SideName, Measured>,
): Promise<void> {
  for (let turn = 0; turn < SINGLE_JOBS; turn += 1) {
    for (const [name, { queue, data }] of sides) {
      measured.get(name)?.aloneMs.push(await queue.runOne(data));
      await sleep(PAUSE_MS);
    }
  }
}

function resultOf(of: (name: SideName) => Measured): BenchResult {
  const rate = (name: SideName): number => median(of(name).perSecond);
  /** The middle of the rounds' ratios: what disturbs a round disturbs both sides of it. */
  const ratio = (name: SideName, to: SideName): number =>
    median(of(name).perSecond.map((each, round) => each / (of(to).perSecond[round] ?? NaN)));
  const added = (name: SideName): number =>
    median(of(name).aloneMs) - median(of('command').aloneMs);
  return {
    name: 'bullmq',
    about: `BullMQ jobs through \`kaon bullmq\`, with limits for each of them, and through BullMQ's own \`Worker\`, without: a processor that does nothing, in its process or in child processes (sandboxed), and the command \`true\`, by \`execFile\`, which collects its output. A backlog is added before (${String(PROCESSED)} jobs for processors, ${String(COMMANDS)} or ${String(UNITS)} commands), ${String(CONCURRENCY)} run at a time; medians of ${String(of('command').perSecond.length)} rounds in turns. Then ${String(SINGLE_JOBS)} jobs one by one, from \`add\` to the event \`completed\`.`,
    figures: [
      { name: 'commands, BullMQ', value: rate('command'), unit: '/s' },
      { name: 'commands, Kaon, in an executor', value: rate('shared'), unit: '/s' },
      { name: 'commands, Kaon, a unit each', value: rate('unit'), unit: '/s' },
      {
        name: 'commands in an executor, Kaon over BullMQ',
        value: ratio('shared', 'command'),
        unit: 'x',
        mark: { atLeast: 0.7 },
      },
      { name: 'commands in units, Kaon over BullMQ', value: ratio('unit', 'command'), unit: 'x' },
      { name: 'processor, BullMQ, in process', value: rate('inProcess'), unit: '/s' },
      { name: 'processor, BullMQ, sandboxed', value: rate('sandboxed'), unit: '/s' },
      { name: 'processor, Kaon, warm', value: rate('warm'), unit: '/s' },
      {
        name: 'warm processor, Kaon over sandboxed',
        value: ratio('warm', 'sandboxed'),
        unit: 'x',
        mark: { atLeast: 0.5 },
      },
      {
        name: "warm processor, Kaon over BullMQ's commands",
        value: ratio('warm', 'command'),
        unit: 'x',
        mark: { atLeast: 3 },
      },
      ...(['command', 'shared', 'unit', 'inProcess', 'sandboxed', 'warm'] as const).flatMap(
        (name) => timesOf(LABELS[name], of(name)),
      ),
      {
        name: 'added to a command alone, in an executor, p50',
        value: added('shared'),
        unit: 'ms',
        mark: { atMost: 30 },
      },
      {
        name: 'added to a command alone, a unit each, p50',
        value: added('unit'),
        unit: 'ms',
        mark: { atMost: 30 },
      },
    ],
    notes: [
      'CPU is that of the process which takes the jobs: the `Worker` (which also starts the commands) or `kaon bullmq`. Under a backlog a job mostly waits for those before it.',
    ],
  };
}

const LABELS: Readonly<Record<SideName, string>> = {
  inProcess: 'processor, BullMQ, in process',
  sandboxed: 'processor, BullMQ, sandboxed',
  command: 'commands, BullMQ',
  shared: 'commands, Kaon, in an executor',
  unit: 'commands, Kaon, a unit each',
  warm: 'processor, Kaon, warm',
};

function timesOf(label: string, { backlogMs, aloneMs, cpuUs }: Measured): Figure[] {
  return [
    { name: `${label}: backlog, p50`, value: median(backlogMs), unit: 'ms' },
    { name: `${label}: backlog, p99`, value: percentile(backlogMs, 0.99), unit: 'ms' },
    { name: `${label}: alone, p50`, value: median(aloneMs), unit: 'ms' },
    { name: `${label}: alone, p99`, value: percentile(aloneMs, 0.99), unit: 'ms' },
    { name: `${label}: CPU`, value: median(cpuUs), unit: 'us/job' },
  ];
}
