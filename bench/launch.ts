/**
 * How many real tasks one agent starts and ends, against a loop of bare `StartTransientUnit` calls with the same limits
 * to the same systemd, in the same run, turn by turn; and how long one takes on an idle cluster.
 */
import { SchedulerDriver, isTerminal } from '../framework/index.ts';
import type { Offer, Scheduler, TaskId, TaskStatus } from '../framework/index.ts';
import { openBus } from '../systemd/bus.ts';
import { transientUnit } from '../systemd/properties.ts';
import type { UnitProperty } from '../systemd/properties.ts';
import { systemdCalls } from '../systemd/systemd-calls.ts';
import { startClusterBed } from '../test/beds/cluster.ts';
import type { ClusterBed } from '../test/beds/cluster.ts';
import type { BenchResult } from './harness.ts';
import { cpuMsOf, median, percentile } from './harness.ts';

const TASKS = 400;
const REPETITIONS = 5;
const RAW_IN_FLIGHT = 8;
/** Tasks that the framework keeps under way: enough that the agent always has some to start. */
const WINDOW = 24;
const LATENCY_TASKS = 200;
const RESOURCES = { cpuMillis: 50, memMib: 16 };

/** Runs the benchmark on a cluster of its own. */
export async function run(): Promise<BenchResult> {
  const cluster = await startClusterBed(['--resources', 'cpus=64,mem=16G']);
  try {
    return await measure(cluster);
  } finally {
    await cluster.stop();
  }
}

async function measure(cluster: ClusterBed): Promise<BenchResult> {
  const init = cluster.init();
  const raw = await connectRaw(init);
  const rates = { raw: [] as number[], kaon: [] as number[] };
  const pidOneMs = { raw: [] as number[], kaon: [] as number[] };
  const [agent = 0] = cluster.daemons('agent');
  const [master = 0] = cluster.daemons('master');
  const daemonMs = { agent: [] as number[], master: [] as number[] };
  await launchMany(cluster, TASKS, WINDOW); // Warms all of it up.
  for (let repetition = 0; repetition < REPETITIONS; repetition += 1) {
    let before = cpuMsOf(init);
    rates.raw.push(await raw.loop(TASKS));
    pidOneMs.raw.push((cpuMsOf(init) - before) / TASKS);
    before = cpuMsOf(init);
    const [agentBefore, masterBefore] = [cpuMsOf(agent), cpuMsOf(master)];
    rates.kaon.push((await launchMany(cluster, TASKS, WINDOW)).perSecond);
    pidOneMs.kaon.push((cpuMsOf(init) - before) / TASKS);
    daemonMs.agent.push((cpuMsOf(agent) - agentBefore) / TASKS);
    daemonMs.master.push((cpuMsOf(master) - masterBefore) / TASKS);
  }
  raw.close();
  const { latenciesMs } = await launchMany(cluster, LATENCY_TASKS, 1);
  const ratios = rates.kaon.map((rate, index) => rate / (rates.raw[index] ?? NaN));
  return {
    name: 'launch',
    about: `Command tasks (\`true\`, all limits set) through one agent on real systemd, from launch to acknowledged end, against bare StartTransientUnit calls (${String(RAW_IN_FLIGHT)} in flight, collected by systemd, nothing read) to the same systemd in turns of ${String(TASKS)}.`,
    figures: [
      { name: 'raw units', value: median(rates.raw), unit: '/s' },
      { name: 'tasks through the agent', value: median(rates.kaon), unit: '/s' },
      { name: 'tasks over raw units', value: median(ratios), unit: 'x', mark: { atLeast: 0.85 } },
      { name: 'process 1, raw', value: median(pidOneMs.raw), unit: 'ms CPU/unit' },
      { name: 'process 1, tasks', value: median(pidOneMs.kaon), unit: 'ms CPU/task' },
      { name: 'agent', value: median(daemonMs.agent), unit: 'ms CPU/task' },
      { name: 'master', value: median(daemonMs.master), unit: 'ms CPU/task' },
      {
        name: 'accept to running, idle, p50',
        value: median(latenciesMs),
        unit: 'ms',
        mark: { atMost: 12 },
      },
      { name: 'accept to running, idle, p99', value: percentile(latenciesMs, 0.99), unit: 'ms' },
    ],
    notes: [
      'A raw unit is started and forgotten. A task also keeps its unit after the end until its certificate is stored, has a slice whose counters (peak memory, OOM kills) outlive its processes, a checkpoint and a sandbox on disk, and four messages through Redis.',
    ],
  };
}

interface Launched {
  readonly perSecond: number;
  /** From the call of `launchTasks` to the callback with TASK_RUNNING. */
  readonly latenciesMs: readonly number[];
}

/** Launches `count` tasks, at most `window` at a time, and waits for the end of all of them. */
async function launchMany(cluster: ClusterBed, count: number, window: number): Promise<Launched> {
  const scheduler = new WindowScheduler(count, window);
  const driver = new SchedulerDriver(scheduler, { name: 'bench' }, { redis: cluster.redis });
  await driver.start();
  const launched = await scheduler.done;
  await driver.stop();
  return launched;
}

class WindowScheduler implements Scheduler {
  readonly done: Promise<Launched>;
  readonly #count: number;
  readonly #window: number;
  readonly #launchedAtMs = new Map<TaskId, number>();
  readonly #latenciesMs: number[] = [];
  #startedAtMs = 0;
  #launched = 0;
  #ended = 0;
  #finish: (launched: Launched) => void = () => undefined;

  constructor(count: number, window: number) {
    this.#count = count;
    this.#window = window;
    this.done = new Promise((resolve) => {
      this.#finish = resolve;
    });
  }

  registered(driver: SchedulerDriver): void {
    this.#ask(driver);
  }

  resourceOffers(driver: SchedulerDriver, offers: readonly Offer[]): void {
    for (const offer of offers) this.#use(driver, offer);
  }

  statusUpdate(driver: SchedulerDriver, status: TaskStatus): void {
    const nowMs = performance.now();
    if (status.state === 'TASK_RUNNING') {
      this.#latenciesMs.push(nowMs - (this.#launchedAtMs.get(status.taskId) ?? NaN));
    }
    if (!isTerminal(status.state)) return;
    if (status.state !== 'TASK_FINISHED')
      throw new Error(`${status.taskId}: ${status.message ?? ''}`);
    this.#ended += 1;
    if (this.#ended === this.#count) {
      const seconds = (nowMs - this.#startedAtMs) / 1000;
      this.#finish({ perSecond: this.#count / seconds, latenciesMs: this.#latenciesMs });
    } else this.#ask(driver);
  }

  #ask(driver: SchedulerDriver): void {
    const live = this.#launched - this.#ended;
    const count = Math.min(this.#window - live, this.#count - this.#launched);
    driver.requestResources(count > 0 ? [{ resources: RESOURCES, count, attributes: {} }] : []);
  }

  #use(driver: SchedulerDriver, offer: Offer): void {
    const room = Math.min(
      Math.floor(offer.resources.cpuMillis / RESOURCES.cpuMillis),
      this.#window - (this.#launched - this.#ended),
      this.#count - this.#launched,
    );
    if (this.#launched === 0) this.#startedAtMs = performance.now();
    const taskIds = Array.from(
      { length: room },
      () => `b${String((this.#launched += 1))}` as TaskId,
    );
    for (const taskId of taskIds) this.#launchedAtMs.set(taskId, performance.now());
    const tasks = taskIds.map((taskId) => ({
      taskId,
      name: 'bench',
      resources: RESOURCES,
      command: { argv: ['true'] },
    }));
    driver.launchTasks(offer.offerId, tasks, { refuseMs: 0 });
    this.#ask(driver);
  }
}

/** Bare calls over the same client library, on the bus of the cluster's own systemd. */
async function connectRaw(
  init: number,
): Promise<{ loop: (count: number) => Promise<number>; close: () => void }> {
  const gone = new Map<string, () => void>();
  const manager =
    "type='signal',sender='org.freedesktop.systemd1',interface='org.freedesktop.systemd1.Manager'";
  const bus = openBus({
    address: `unix:path=/proc/${String(init)}/root/run/dbus/system_bus_socket`,
    matchRules: [`${manager},member='UnitRemoved'`],
    onSignal: ({ member, body }) => {
      if (member === 'UnitRemoved') gone.get(String(body[0]))?.();
    },
    onConnected: (connection) => systemdCalls((call) => connection.call(call, 5000)).subscribe(),
    onState: () => undefined,
  });
  await bus.waitUp(5000);
  const calls = systemdCalls((call) => bus.call(call));
  let next = 0;
  const one = async (): Promise<void> => {
    const name = `raw-${String((next += 1))}.service`;
    const removed = new Promise<void>((resolve) => gone.set(name, resolve));
    await calls.startTransient({ name, properties: rawProperties(name), auxiliary: [] });
    await removed;
    gone.delete(name);
  };
  const loop = async (count: number): Promise<number> => {
    const startedAtMs = performance.now();
    let left = count;
    const runner = async (): Promise<void> => {
      while (left > 0) {
        left -= 1;
        await one();
      }
    };
    await Promise.all(Array.from({ length: RAW_IN_FLIGHT }, runner));
    return (count * 1000) / (performance.now() - startedAtMs);
  };
  return { loop, close: bus.close.bind(bus) };
}

/** The properties of a task's service and its limits, without what keeps it after its end. */
function rawProperties(name: string): UnitProperty[] {
  const unit = transientUnit(
    {
      name,
      slice: 'kaon-raw.slice',
      description: 'bench',
      argv: ['true'],
      workingDirectory: '/tmp',
      stdoutPath: '/dev/null',
      stderrPath: '/dev/null',
      environment: {},
      ...RESOURCES,
      memoryMib: RESOURCES.memMib,
      tasksMax: 4096,
      stopTimeoutMs: 5000,
      journalFields: {},
    },
    'v1',
  );
  const keeping = [
    'RemainAfterExit',
    'CollectMode',
    'Slice',
    'MemoryAccounting',
    'TasksAccounting',
  ];
  const [slice] = unit.auxiliary;
  const all = [...unit.properties, ...(slice?.properties.slice(1) ?? [])];
  return [
    ...all.filter((property) => !keeping.includes(property.name)),
    { name: 'Slice', signature: 's', value: 'kaon-raw.slice' },
    { name: 'CollectMode', signature: 's', value: 'inactive-or-failed' },
  ];
}
