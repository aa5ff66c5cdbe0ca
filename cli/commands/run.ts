/**
 * `kaon run`: runs a command in the cluster as if it ran here. Output, exit code and Ctrl-C behave alike; what differs
 * is where it runs, and that its limits hold.
 */
import { hostname, userInfo } from 'node:os';
import { SchedulerDriver } from '../../framework/index.ts';
import type { TaskDescription, TaskId, TaskStatus } from '../../framework/index.ts';
import { randomName, systemClock } from '../../io/clock.ts';
import { silentLog } from '../../io/log.ts';
import { isForbidden } from '../../io/redis-errors.ts';
import { openRedisStore } from '../../io/redis-store.ts';
import type { RedisStore } from '../../io/redis-store.ts';
import { findToken } from '../../io/secrets.ts';
import { idPart } from '../../protocol/ids.ts';
import { exitCodeOf } from '../../schedulers/run/exit-code.ts';
import type { RunRequest } from '../../schedulers/run/run-scheduler.ts';
import { RunScheduler } from '../../schedulers/run/run-scheduler.ts';
import { whyWaiting } from '../../schedulers/run/why-waiting.ts';
import type { RunOptions } from '../options.ts';
import { TASK_LABEL } from '../run-label.ts';
import { readAgentRooms } from '../registry.ts';
import { OutputOfTasks } from './run-output.ts';

/** A placement that takes longer than this is explained, milliseconds; and again when the reason changes. */
const EXPLAIN_AFTER_MS = 2000;
const NOT_TO_BE_SEEN = 'for an offer; this user of Redis may not see why';
/** The client of a command that was cut off has so long to come back before its tasks are killed. */
const FAILOVER_TIMEOUT_MS = 600_000;
/** Leaving may take so long, milliseconds. */
const GOODBYE_MS = 3000;
const EXIT_SIGINT = 130;
const EXIT_SIGTERM = 143;
const EXIT_KAON = 125;

/** @returns the exit code */
export async function run(options: RunOptions, argv: readonly string[]): Promise<number> {
  const { redis, cluster } = options;
  const opening = { url: redis, cluster, log: silentLog, name: 'run', token: findToken() };
  const store = await openRedisStore(opening);
  return new Run(options, argv, store).execute();
}

class Run {
  readonly #options: RunOptions;
  readonly #store: RedisStore;
  readonly #taskIds: readonly TaskId[];
  readonly #scheduler: RunScheduler;
  readonly #driver: SchedulerDriver;
  readonly #output: OutputOfTasks;
  readonly #task: Omit<TaskDescription, 'taskId'>;
  readonly #explaining = new AbortController();
  readonly #unplaced: Set<TaskId>;
  #finish: (exitCode: number) => void = () => undefined;
  #interrupts = 0;
  #interruptCode: number | undefined;

  constructor(options: RunOptions, argv: readonly string[], store: RedisStore) {
    this.#options = options;
    this.#store = store;
    const name = options.name ?? idPart((argv[0] ?? 'task').split('/').at(-1) ?? 'task');
    this.#taskIds = taskIdsOf(name, options.instances);
    this.#unplaced = new Set(this.#taskIds);
    this.#task = taskOf(options, argv, name);
    this.#scheduler = new RunScheduler(
      { ...placesOf(options), taskIds: this.#taskIds, task: this.#task },
      {
        onLaunched: (taskId, { agentId }) => {
          if (!options.detach) this.#output.follow(taskId, agentId);
        },
        onRunning: (taskId) => {
          this.#output.placed(taskId);
          this.#place(taskId);
        },
        onStatus: (status) => {
          this.#output.ended(status);
          this.#place(status.taskId);
          if (options.detach && !isSuccess(status)) this.#say(describeFailure(status));
        },
        onError: (message) => {
          this.#say(message);
          this.#finish(EXIT_KAON);
        },
        onDone: () => {
          // What has ended by now was placed, and its id is told all the same.
          if (!options.detach || this.#interruptCode !== undefined) void this.#done();
        },
      },
    );
    this.#driver = new SchedulerDriver(
      this.#scheduler,
      {
        name: 'run',
        user: userInfo().username,
        hostname: hostname(),
        labels: { [TASK_LABEL]: name },
        ...(options.role !== undefined && { role: options.role }),
        ...(!options.detach && { failoverTimeoutMs: FAILOVER_TIMEOUT_MS }),
      },
      { store },
    );
    this.#output = new OutputOfTasks({
      store,
      openStore: () =>
        openRedisStore({
          url: options.redis,
          cluster: options.cluster,
          log: silentLog,
          name: 'run-output',
        }),
      frameworkId: this.#driver.frameworkId,
      taskIds: this.#taskIds,
      say: (text) => {
        this.#say(text);
      },
    });
  }

  async execute(): Promise<number> {
    const finished = new Promise<number>((resolve) => {
      this.#finish = resolve;
    });
    const onSigint = (): void => void this.#interrupt(EXIT_SIGINT);
    const onSigterm = (): void => void this.#interrupt(EXIT_SIGTERM);
    process.on('SIGINT', onSigint).on('SIGTERM', onSigterm).on('SIGHUP', onSigterm);
    await this.#driver.start();
    void this.#explainWaiting();
    const exitCode = await finished;
    this.#explaining.abort();
    // Without Redis there is nobody to say goodbye to; the failover timeout does it.
    const stopped = this.#driver.status === 'DRIVER_RUNNING' && this.#driver.stop();
    const patience = new AbortController();
    await Promise.race([stopped, systemClock.sleep(GOODBYE_MS, patience.signal)]);
    patience.abort();
    await this.#store.close();
    return exitCode;
  }

  async #done(): Promise<void> {
    this.#explaining.abort();
    await this.#output.complete();
    const statuses = [...this.#scheduler.ended.values()];
    if (!this.#options.detach) {
      for (const status of statuses) if (deservesWords(status)) this.#say(describeFailure(status));
    }
    this.#finish(this.#interruptCode ?? Math.max(0, ...statuses.map(exitCodeOf)));
  }

  /** The first Ctrl-C asks the tasks to end, the second ends them; before there is a task there is nothing to wait for. */
  #interrupt(exitCode: number): void {
    this.#interrupts += 1;
    this.#interruptCode = exitCode;
    const pending = this.#scheduler.cancel(this.#driver, this.#interrupts > 1 ? 0 : undefined);
    if (!pending || this.#interrupts > 2) this.#finish(exitCode);
    else if (process.stderr.isTTY)
      this.#say(this.#interrupts > 1 ? 'killing' : 'ending; once more to kill');
  }

  async #explainWaiting(): Promise<void> {
    const { signal } = this.#explaining;
    let said = '';
    while (!signal.aborted) {
      await systemClock.sleep(EXPLAIN_AFTER_MS, signal);
      if (signal.aborted || this.#scheduler.waiting === 0) continue;
      const reason = await this.#whyWaiting().catch(whyNotKnown);
      if (reason !== said && this.#scheduler.waiting > 0) this.#say(`waiting: ${reason}`);
      // Each question would be one more that Redis has refused, in its log.
      if (reason === NOT_TO_BE_SEEN) return;
      said = reason;
    }
  }

  async #whyWaiting(): Promise<string> {
    if (!(await this.#store.leader())) {
      return `no master is leading cluster ${this.#options.cluster}; is one running? (kaon status)`;
    }
    const rooms = await readAgentRooms(this.#store);
    return whyWaiting(rooms, this.#task.resources, this.#options.attributes);
  }

  /** Placed means that its agent has it: from then on it needs nobody here. Until then the launch may still be refused. */
  #place(taskId: TaskId): void {
    if (this.#unplaced.delete(taskId) && this.#unplaced.size === 0 && this.#options.detach) {
      void this.#detach();
    }
  }

  async #detach(): Promise<void> {
    if (this.#interruptCode !== undefined) return;
    await this.#driver.detach();
    for (const taskId of this.#taskIds) process.stdout.write(`${taskId}\n`);
    const failed = [...this.#scheduler.ended.values()].find((status) => !isSuccess(status));
    this.#finish(failed ? exitCodeOf(failed) : 0);
  }

  #say(text: string): void {
    process.stderr.write(`kaon: ${text}\n`);
  }
}

/** What all the others have is for operators; a framework of its own user waits as well without it. */
function whyNotKnown(error: unknown): string {
  if (isForbidden(error)) return NOT_TO_BE_SEEN;
  throw error;
}

function placesOf({
  attributes,
  distinctHosts,
  gang,
  placement,
}: RunOptions): Omit<RunRequest, 'taskIds' | 'task'> {
  return { attributes, distinctHosts, gang, ...(placement && { placement }) };
}

function taskIdsOf(name: string, instances: number): TaskId[] {
  const base = `${name}.${randomName(5)}`;
  if (instances === 1) return [base as TaskId];
  return Array.from({ length: instances }, (_item, index) => `${base}.${String(index)}` as TaskId);
}

function taskOf(
  options: RunOptions,
  argv: readonly string[],
  name: string,
): Omit<TaskDescription, 'taskId'> {
  return {
    name,
    resources: {
      cpuMillis: options.cpuMillis,
      memMib: options.memMib,
      ...(options.others && { others: options.others }),
    },
    command: {
      argv: [...argv],
      environment: { ...options.environment },
      ...(options.user !== undefined && { user: options.user }),
      ...(options.workingDirectory !== undefined && { workingDirectory: options.workingDirectory }),
      ...(options.sandboxing && { sandboxing: options.sandboxing }),
    },
    ...(options.timeoutMs !== undefined && { maxCompletionTimeMs: options.timeoutMs }),
    ...(options.killGraceMs !== undefined && { killGracePeriodMs: options.killGraceMs }),
    whenUnreachable: options.whenUnreachable,
    exclusive: options.exclusive,
    ...(options.priority !== undefined && { priority: options.priority }),
  };
}

function isSuccess(status: TaskStatus): boolean {
  return status.state === 'TASK_FINISHED';
}

/** A command that fails by itself says so itself; what Kaon, the kernel or systemd did must be said. */
function deservesWords(status: TaskStatus): boolean {
  return (
    !isSuccess(status) &&
    status.reason !== 'REASON_COMMAND_EXITED' &&
    status.state !== 'TASK_KILLED'
  );
}

function describeFailure(status: TaskStatus): string {
  return `task ${status.taskId} ${status.state}: ${status.message ?? status.reason ?? 'no reason was given'}`;
}
