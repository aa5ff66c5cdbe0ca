/**
 * Tasks through one executor on one node with real systemd, from launch to acknowledged end: tasks that do nothing, with and
 * without a cgroup for each; real commands in the default executor; one at a time in a warm one; and other limits for a task
 * that runs.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { resolve } from 'node:path';
import { isTerminal, SchedulerDriver } from '../framework/index.ts';
import type {
  ExecutorDescription,
  Offer,
  TaskDescription,
  TaskStatus,
} from '../framework/index.ts';
import { startClusterBed } from '../test/beds/cluster.ts';
import type { ClusterBed } from '../test/beds/cluster.ts';
import type { BenchResult, Figure } from './harness.ts';
import { cpuMsOf, median, percentile, residentMbOf } from './harness.ts';

const REPETITIONS = 5;
const TASKS = 6000;
const WINDOW = 500;
const COMMANDS = 2000;
const COMMAND_WINDOW = 100;
const SINGLE_TASKS = 400;
const RESIZES = 400;
/** All in one call. */
const BURSTS = [1000, 5000, 10_000];
/** The smallest that there are: it is not resources that are to be measured. */
const RESOURCES = { cpuMillis: 10, memMib: 4 };

type Executor = ExecutorDescription;

const NOOP: Executor = {
  executorId: 'noop',
  name: 'noop',
  resources: { cpuMillis: 1000, memMib: 256 },
  command: { argv: [process.execPath, resolve('dist/bench.js'), '--part', 'noop-executor', '{}'] },
};
const DEFAULT: Executor = {
  executorId: 'default',
  name: 'default',
  resources: { cpuMillis: 2000, memMib: 128 },
};

/** Runs the benchmark on a cluster of its own. */
export async function run(): Promise<BenchResult> {
  const cluster = await startClusterBed(['--resources', 'cpus=256,mem=64G']);
  try {
    return await measure(cluster);
  } finally {
    await cluster.stop();
  }
}

async function measure(cluster: ClusterBed): Promise<BenchResult> {
  const noop = await Bench.open(cluster, NOOP);
  const plain = await repeat(noop, { count: TASKS, window: WINDOW });
  const bursts: Figure[] = [];
  const perTask: number[] = [];
  for (const count of BURSTS) {
    const { perSecond, firstRunningMs } = await noop.launch({ count, window: count });
    perTask.push(1e6 / perSecond);
    bursts.push(
      { name: `${String(count)} in one accept`, value: perSecond, unit: '/s' },
      {
        name: `${String(count)} in one accept, first TASK_RUNNING`,
        value: firstRunningMs,
        unit: 'ms',
      },
    );
  }
  const single = await noop.launch({ count: SINGLE_TASKS, window: 1 });
  await noop.close();

  const alone = await Bench.open(cluster, { ...NOOP, executorId: 'alone', isolation: 'task' });
  const isolated = await repeat(alone, { count: COMMANDS, window: COMMAND_WINDOW });
  await alone.close();

  const commands = await Bench.open(cluster, DEFAULT, { argv: ['true'] });
  const real = await repeat(commands, { count: COMMANDS, window: COMMAND_WINDOW });
  const residentMb = residentMbOf(pidOf(cluster, 'default-executor.js'));
  await commands.close();

  const resizes = await measureResizes(cluster);
  return {
    name: 'executor',
    about: `Tasks through one executor on one node, from launch to acknowledged end, on real systemd: no-op tasks (${String(WINDOW)} at a time), the same with a cgroup for each, and \`true\` in the default executor (${String(COMMAND_WINDOW)} at a time). Mesos 1.12 on a machine of this kind: 610 to 700 no-op tasks/s, 30/s and 164 s to the first TASK_RUNNING with 5,000 in one accept, 2.6 ms one at a time.`,
    figures: [
      { name: 'no-op tasks', value: plain.perSecond, unit: '/s', mark: { atLeast: 3000 } },
      ...plain.cpu,
      ...bursts,
      {
        name: 'time a task, 10,000 over 1,000 in one accept',
        value: (perTask[2] ?? NaN) / (perTask[0] ?? NaN),
        unit: 'x',
        mark: { atMost: 1.5 },
      },
      {
        name: 'with a cgroup for each',
        value: isolated.perSecond,
        unit: '/s',
        mark: { atLeast: 500 },
      },
      {
        name: 'commands in the default executor',
        value: real.perSecond,
        unit: '/s',
        mark: { atLeast: 500 },
      },
      {
        name: 'accept to running, warm, p50',
        value: median(single.latenciesMs),
        unit: 'ms',
        mark: { atMost: 2.5 },
      },
      {
        name: 'accept to running, warm, p99',
        value: percentile(single.latenciesMs, 0.99),
        unit: 'ms',
      },
      { name: 'resize of a running task, p50', value: median(resizes), unit: 'ms' },
      {
        name: 'resize of a running task, p99',
        value: percentile(resizes, 0.99),
        unit: 'ms',
        mark: { atMost: 10 },
      },
      {
        name: 'default executor, resident',
        value: residentMb,
        unit: 'MB',
        mark: { atMost: 60 },
      },
    ],
    notes: [
      'A resize is measured from the call of the framework to its callback: through the master, the agent and systemd, and back. Tasks of executors are launched with the container of their executor large enough already in most turns: it grows at once and shrinks a little later.',
    ],
  };
}

interface Turns {
  readonly perSecond: number;
  readonly cpu: readonly Figure[];
}

/** The middle of several turns, after one to warm up. */
async function repeat(bench: Bench, load: Load): Promise<Turns> {
  await bench.launch(load);
  const rates: number[] = [];
  const before = bench.cpuMs();
  for (let turn = 0; turn < REPETITIONS; turn += 1) {
    rates.push((await bench.launch(load)).perSecond);
  }
  const after = bench.cpuMs();
  const cpu = [...after].map(([name, ms]) => ({
    name: `${name}, CPU`,
    value: ((ms - (before.get(name) ?? 0)) * 1000) / (REPETITIONS * load.count),
    unit: 'us/task',
  }));
  return { perSecond: median(rates), cpu };
}

interface Load {
  readonly count: number;
  /** Under way at the same time. */
  readonly window: number;
}

interface Launched {
  readonly perSecond: number;
  readonly firstRunningMs: number;
  /** From the call of `launchTasks` to the callback with TASK_RUNNING. */
  readonly latenciesMs: readonly number[];
}

interface Turn extends Load {
  readonly startedAtMs: number;
  readonly launchedAtMs: Map<string, number>;
  readonly latenciesMs: number[];
  firstRunningMs: number;
  launched: number;
  ended: number;
  readonly finish: (launched: Launched) => void;
}

/** One framework with one executor, for several turns. */
class Bench {
  readonly #cluster: ClusterBed;
  readonly #executor: Executor;
  readonly #command: TaskDescription['command'];
  readonly #driver: SchedulerDriver;
  #turn: Turn | undefined;
  #offers: Offer[] = [];
  #next = 0;
  #executorId: { agentId: Offer['agentId'] } | undefined;

  static async open(
    cluster: ClusterBed,
    executor: Executor,
    command?: TaskDescription['command'],
  ): Promise<Bench> {
    const bench = new Bench(cluster, executor, command);
    await bench.#driver.start();
    await bench.launch({ count: 1, window: 1 });
    return bench;
  }

  private constructor(
    cluster: ClusterBed,
    executor: Executor,
    command: TaskDescription['command'],
  ) {
    this.#cluster = cluster;
    this.#executor = executor;
    this.#command = command;
    this.#driver = new SchedulerDriver(
      {
        resourceOffers: (_driver, offers) => {
          this.#offers.push(...offers);
          this.#fill();
        },
        offerRescinded: (_driver, offerId) => {
          this.#offers = this.#offers.filter((offer) => offer.offerId !== offerId);
        },
        statusUpdate: (_driver, status) => {
          this.#onStatus(status);
        },
      },
      { name: `bench ${executor.executorId}` },
      { redis: cluster.redis },
    );
  }

  launch(load: Load): Promise<Launched> {
    return new Promise((finish) => {
      this.#turn = {
        ...load,
        startedAtMs: performance.now(),
        launchedAtMs: new Map(),
        latenciesMs: [],
        firstRunningMs: NaN,
        launched: 0,
        ended: 0,
        finish,
      };
      this.#ask();
      this.#fill();
    });
  }

  /** CPU of everybody that takes part, by name. */
  cpuMs(): ReadonlyMap<string, number> {
    const [agent = 0] = this.#cluster.daemons('agent');
    const [master = 0] = this.#cluster.daemons('master');
    const program = this.#executor.command ? 'noop-executor' : 'default-executor.js';
    return new Map([
      ['master', cpuMsOf(master)],
      ['agent', cpuMsOf(agent)],
      ['executor', cpuMsOf(pidOf(this.#cluster, program))],
      ['framework', cpuMsOf(process.pid)],
    ]);
  }

  async close(): Promise<void> {
    await this.#driver.stop();
  }

  #fill(): void {
    const turn = this.#turn;
    if (!turn) return;
    const room = Math.min(turn.window - (turn.launched - turn.ended), turn.count - turn.launched);
    const offers = this.#offers.splice(0);
    if (room <= 0 || offers.length === 0) {
      this.#offers = offers;
      return;
    }
    const millis = offers.reduce((sum, offer) => sum + offer.resources.cpuMillis, 0);
    // Its own resources are taken from the first offer only.
    const own = this.#executorId ? 0 : this.#executor.resources.cpuMillis;
    const count = Math.min(room, Math.floor((millis - own) / RESOURCES.cpuMillis));
    this.#executorId ??= offers[0];
    const nowMs = performance.now();
    const tasks = Array.from({ length: count }, (): TaskDescription => {
      const taskId = `b${String((this.#next += 1))}`;
      turn.launchedAtMs.set(taskId, nowMs);
      const what = this.#command ? { command: this.#command } : {};
      return { taskId, name: 'bench', resources: RESOURCES, executor: this.#executor, ...what };
    });
    turn.launched += count;
    this.#driver.launchTasks(
      offers.map(({ offerId }) => offerId),
      tasks,
      { refuseMs: 0 },
    );
    this.#ask();
  }

  #ask(): void {
    const turn = this.#turn;
    const wanted = turn
      ? Math.min(turn.window - (turn.launched - turn.ended), turn.count - turn.launched)
      : 0;
    const own = this.#executorId ? [] : [{ resources: this.#executor.resources }];
    this.#driver.requestResources(
      wanted > 0 ? [{ resources: RESOURCES, count: wanted }, ...own] : [],
    );
  }

  #onStatus(status: TaskStatus): void {
    const turn = this.#turn;
    if (!turn) return;
    const nowMs = performance.now();
    if (status.state === 'TASK_RUNNING') {
      turn.latenciesMs.push(nowMs - (turn.launchedAtMs.get(status.taskId) ?? NaN));
      if (Number.isNaN(turn.firstRunningMs)) turn.firstRunningMs = nowMs - turn.startedAtMs;
    }
    if (!isTerminal(status.state)) return;
    if (status.state !== 'TASK_FINISHED') {
      throw new Error(`${status.taskId}: ${status.state}, ${status.message ?? ''}`);
    }
    turn.ended += 1;
    if (turn.ended === turn.count) {
      this.#turn = undefined;
      const perSecond = (turn.count * 1000) / (nowMs - turn.startedAtMs);
      turn.finish({
        perSecond,
        firstRunningMs: turn.firstRunningMs,
        latenciesMs: turn.latenciesMs,
      });
    } else this.#ask();
  }
}

/** A task that runs gets more and less, in turns. */
async function measureResizes(cluster: ClusterBed): Promise<number[]> {
  const latenciesMs: number[] = [];
  let sentAtMs = 0;
  let next: (() => void) | undefined;
  let isLaunched = false;
  let isRunning: () => void = () => undefined;
  const running = new Promise<void>((done) => {
    isRunning = done;
  });
  const driver = new SchedulerDriver(
    {
      resourceOffers: (own, offers) => {
        for (const { offerId } of offers) {
          if (isLaunched) own.declineOffer(offerId);
          else {
            const resources = { cpuMillis: 100, memMib: 64 };
            const command = { argv: ['sleep', '1000'] };
            own.launchTasks(offerId, [{ taskId: 'r1', name: 'resized', resources, command }]);
          }
          isLaunched = true;
        }
      },
      statusUpdate: (_own, { state }) => {
        if (state === 'TASK_RUNNING') isRunning();
      },
      taskResized: (_own, { error }) => {
        if (error !== undefined) throw new Error(error);
        latenciesMs.push(performance.now() - sentAtMs);
        next?.();
      },
    },
    { name: 'bench resize' },
    { redis: cluster.redis },
  );
  await driver.start();
  await running;
  for (let index = 0; index < RESIZES; index += 1) {
    const isMore = index % 2 === 0;
    sentAtMs = performance.now();
    await new Promise<void>((done) => {
      next = done;
      const resources = { cpuMillis: isMore ? 250 : 100, memMib: isMore ? 128 : 64 };
      driver.resizeTask('r1', resources);
    });
  }
  await driver.stop();
  return latenciesMs;
}

/** The process of this cluster's node that has this in its command line and was not started by a shell. */
function pidOf(cluster: ClusterBed, argument: string): number {
  const node = readlinkSync(`/proc/${String(cluster.init())}/ns/pid`);
  const found = readdirSync('/proc').filter((name) => {
    if (!/^\d+$/.test(name)) return false;
    try {
      if (readlinkSync(`/proc/${name}/ns/pid`) !== node) return false;
      const argv = readFileSync(`/proc/${name}/cmdline`, 'utf8').split('\0');
      return argv[0]?.endsWith('node') === true && argv.some((word) => word.endsWith(argument));
    } catch {
      return false; // It ended between two looks.
    }
  });
  if (found.length !== 1) throw new Error(`${String(found.length)} processes of ${argument}`);
  return Number(found[0]);
}
