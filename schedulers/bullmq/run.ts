/** A scheduler of queues from its start to its end: connections, the lease, what comes back, the work, and the way out. */
import { hostname } from 'node:os';
import type { Redis } from 'ioredis';
import type { FrameworkId } from '../../framework/index.ts';
import { KaonError, SchedulerDriver } from '../../framework/index.ts';
import type { Clock } from '../../io/clock.ts';
import { randomName, systemClock } from '../../io/clock.ts';
import { endConnection } from '../../io/end-connection.ts';
import type { Log } from '../../io/log.ts';
import { connectOrFail, connectRedis } from '../../io/redis-connection.ts';
import { requireHealthyRedis } from '../../io/redis-health.ts';
import { messageOf } from '../../protocol/errors.ts';
import type { ReadAgents } from './agent-sizes.ts';
import { lockTokenOf } from './job-ids.ts';
import { SchedulerLease } from './lease.ts';
import { publishQueues } from './published.ts';
import { JobQueue } from './queue.ts';
import { watchQueues } from './queue-watch.ts';
import { QueueWindow } from './queue-window.ts';
import { BullmqScheduler } from './scheduler.ts';
import type { SchedulerSettings } from './settings.ts';
import { SETTINGS_DEFAULT } from './settings.ts';

/** Locks are extended, and looked after, so often, milliseconds. */
const LOCKS_MS = 15_000;
/** Locks of jobs that run on while no scheduler is there, milliseconds. */
const HANDOVER_LOCK_MS = 3_600_000;
/** So often it is asked whether everything that was found is clear now, milliseconds. */
const RECOVERED_MS = 250;
/** So often it is looked whether all that runs has ended, milliseconds. */
const DRAINED_MS = 50;
/** Leaving may take so long, milliseconds. */
const GOODBYE_MS = 5000;

/** Where everything is, and what is wanted. */
export interface RunBullmqOptions {
  readonly settings: SchedulerSettings;
  /** Of the cluster. */
  readonly redis: string;
  readonly cluster: string;
  /** Of the queues. */
  readonly queueRedis: string;
  readonly readAgents?: ReadAgents;
  readonly log: Log;
  readonly clock?: Clock;
  /** Called each time that one of its loops has come round. */
  readonly onRound?: (round: SchedulerRound) => void;
  /** Gets the connection that all of them need. */
  readonly onConnection?: (redis: Redis) => void;
  /** Waits for a Redis that is away at the start, however long it takes. Default: it fails. */
  readonly isPatient?: boolean;
  /** When it is aborted nothing more is taken, and when all that runs has ended so has this. */
  readonly drainSignal?: AbortSignal;
}

/** A loop of a scheduler that has come round: without them nothing goes on. */
export interface SchedulerRound {
  readonly loop: 'lease' | 'locks';
  /** How many have a task; absent: it stands by, or has just begun. */
  readonly jobs?: () => number;
}

/** @returns id of the framework of the scheduler of that name */
export function frameworkIdOf({ name, role }: SchedulerSettings): FrameworkId {
  const plain = (part: string): string => part.replaceAll(/[^\w-]/g, '_');
  const own = name === SETTINGS_DEFAULT.name ? '' : `.${plain(name)}`;
  // Another sign than before a name: of the two the one must not be taken for the other.
  const ofRole = role === SETTINGS_DEFAULT.role ? '' : `:${plain(role)}`;
  return `bullmq${own}${ofRole}` as FrameworkId;
}

/**
 * Runs until `signal` is aborted; then jobs that run go on, and wait for the next scheduler of this name.
 *
 * @throws KaonError `redis-unreachable`, `redis-evicts` and the like; `bullmq-aborted` if it cannot go on
 */
export async function runBullmq(options: RunBullmqOptions, signal: AbortSignal): Promise<void> {
  const { queueRedis, log, settings, clock = systemClock } = options;
  const tag = /\{([^}]+)\}/.exec(settings.prefix)?.[1] ?? settings.prefix;
  const connect = (name: string): Redis =>
    connectRedis({ url: queueRedis, log, name, cluster: tag });
  const redis = connect('bullmq');
  options.onConnection?.(redis);
  if (options.isPatient !== true) await connectOrFail(redis, queueRedis);
  const watching = connect('bullmq-watch');
  const [endRedis, endWatching] = [endOnce(redis), endOnce(watching)];
  const left = new AbortController();
  const onStop = (): void => {
    endWatching();
    // With Redis away everything would wait until it is back; without its connection it fails.
    void clock.sleep(2 * GOODBYE_MS, left.signal).then(endRedis);
  };
  signal.addEventListener('abort', onStop);
  try {
    await requireHealthyRedis({ redis, log, clock }, signal);
    const lease = new SchedulerLease({
      ...{ redis, clock, log },
      onRound: () => options.onRound?.({ loop: 'lease' }),
      key: `${settings.prefix}-kaon:scheduler:${frameworkIdOf(settings)}`,
      holder: `${hostname()} process ${String(process.pid)} ${randomName(6)}`,
    });
    if (!(await lease.acquire(signal))) return;
    try {
      await new Run({ ...options, clock }, { redis, watching, lease, onStop }).execute(signal);
    } finally {
      await lease.release();
    }
  } finally {
    left.abort();
    endWatching();
    endRedis();
  }
}

/** @returns ends a connection, the first time that it is called: a second end would keep the process for two seconds */
function endOnce(redis: Redis): () => void {
  let isEnded = false;
  return () => {
    if (!isEnded) endConnection(redis);
    isEnded = true;
  };
}

interface Connections {
  readonly redis: Redis;
  readonly watching: Redis;
  readonly lease: SchedulerLease;
  /** Nothing is watched any more, and what is left to do has some time, but not for ever. */
  readonly onStop: () => void;
}

class Run {
  readonly #options: RunBullmqOptions & { readonly clock: Clock };
  readonly #connections: Connections;
  readonly #windows: readonly QueueWindow[];
  readonly #scheduler: BullmqScheduler;
  readonly #driver: SchedulerDriver;
  readonly #stop = new AbortController();
  #serverRunId = '';
  #locksKept: Promise<void> = Promise.resolve();
  #failure: string | undefined;

  constructor(options: RunBullmqOptions & { readonly clock: Clock }, connections: Connections) {
    const { settings, clock, log, redis, cluster, readAgents } = options;
    this.#options = options;
    this.#connections = connections;
    const frameworkId = frameworkIdOf(settings);
    this.#windows = settings.queues.map((queueSettings) => {
      const queue = new JobQueue({
        name: queueSettings.name,
        prefix: settings.prefix,
        redis: connections.redis,
        log,
        token: lockTokenOf(frameworkId),
        lockMs: settings.lockMs,
        workerName: `kaon.${frameworkId}`,
        limiter: queueSettings.limiter,
      });
      return new QueueWindow({ queue, settings: queueSettings, clock, log });
    });
    this.#scheduler = new BullmqScheduler({
      ...{ settings, windows: this.#windows, frameworkId, clock, log },
      ...(readAgents && { readAgents }),
      onError: (message) => {
        this.#fail(message);
      },
    });
    this.#driver = new SchedulerDriver(
      this.#scheduler,
      { name: settings.name, frameworkId, role: settings.role, hostname: hostname() },
      { redis, cluster, clock, log, implicitAcknowledgements: false },
    );
  }

  async execute(signal: AbortSignal): Promise<void> {
    const { log } = this.#options;
    const stop = this.#stop.signal;
    signal.addEventListener('abort', () => {
      this.#stop.abort();
    });
    stop.addEventListener('abort', this.#connections.onStop);
    if (signal.aborted) return;
    await publishQueues(this.#connections.redis, this.#driver.frameworkId, this.#options.settings);
    await this.#scheduler.recover();
    await this.#driver.start();
    log.info('bullmq.started', {
      frameworkId: this.#driver.frameworkId,
      queues: this.#windows.map(({ queue }) => queue.name).join(','),
    });
    const work = Promise.all([
      ...[this.#watch(stop), this.#keepLocks(stop), this.#keepLease(stop), this.#drain(stop)],
    ]);
    await this.#startStalledChecks(stop);
    await work;
    await this.#leave();
    if (this.#failure !== undefined) throw new KaonError('bullmq-aborted', this.#failure);
  }

  #fail(message: string): void {
    this.#failure ??= message;
    this.#stop.abort();
  }

  async #watch(stop: AbortSignal): Promise<void> {
    const { clock, log, settings } = this.#options;
    const byQueue = new Map(this.#windows.map((window) => [window.queue, window]));
    const { watching } = this.#connections;
    const watch = {
      ...{ redis: watching, clock, log, prefix: settings.prefix, queues: [...byQueue.keys()] },
      onChange: (queue: JobQueue) => {
        byQueue.get(queue)?.markStale();
        this.#scheduler.wake();
      },
      onCancel: (request: Parameters<BullmqScheduler['cancel']>[0]) =>
        this.#scheduler.cancel(request),
    };
    await watchQueues(watch, stop);
  }

  async #drain(stop: AbortSignal): Promise<void> {
    const { drainSignal, clock } = this.#options;
    if (!drainSignal) return;
    await new Promise((resolve) => {
      for (const signal of [drainSignal, stop]) {
        if (signal.aborted) resolve(undefined);
        signal.addEventListener('abort', resolve, { once: true });
      }
    });
    this.#scheduler.drain();
    while (!stop.aborted && this.#scheduler.hasRunning) await clock.sleep(DRAINED_MS, stop);
    this.#stop.abort();
  }

  async #keepLocks(stop: AbortSignal): Promise<void> {
    const { clock, log, settings } = this.#options;
    const [first] = this.#windows;
    this.#connections.redis.on('ready', () => {
      // Redis may have been away for longer than a lock lasts, or have forgotten some.
      void this.#keepLocksOnce(first).catch((error: unknown) => {
        log.warn('locks.not-extended', { error: messageOf(error) });
      });
    });
    while (!stop.aborted) {
      this.#options.onRound?.({ loop: 'locks', jobs: () => this.#scheduler.tasks.size });
      try {
        await this.#keepLocksOnce(first);
      } catch (error) {
        log.warn('locks.not-extended', { error: messageOf(error) });
      }
      await clock.sleep(Math.min(LOCKS_MS, settings.lockMs / 4), stop);
    }
  }

  /** One round after the other: what one knows of a changed Redis the next one must not take for the work of people. */
  #keepLocksOnce(first: QueueWindow | undefined): Promise<void> {
    const round = this.#locksKept.then(() => this.#keepLocksNow(first));
    this.#locksKept = round.catch(() => undefined); // Said by whoever has asked for it.
    return round;
  }

  async #keepLocksNow(first: QueueWindow | undefined): Promise<void> {
    const runId = (await first?.queue.serverRunId()) ?? '';
    const hasChanged = this.#serverRunId !== '' && runId !== this.#serverRunId;
    await this.#scheduler.keepLocks(hasChanged);
    // Known only when a whole round has been made with it.
    this.#serverRunId = runId;
  }

  async #keepLease(stop: AbortSignal): Promise<void> {
    const isOurs = await this.#connections.lease.keep(stop);
    if (!isOurs) this.#fail('another scheduler of this name has taken over');
  }

  /** Only when every job that has a task is locked: until then one of them could look as if nobody had it. */
  async #startStalledChecks(stop: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    while (this.#scheduler.isRecovering && !stop.aborted) await clock.sleep(RECOVERED_MS, stop);
    if (stop.aborted) return;
    await Promise.all(this.#windows.map(({ queue }) => queue.startStalledChecks()));
  }

  async #leave(): Promise<void> {
    const { clock, log } = this.#options;
    const patience = new AbortController();
    const left = this.#leaveInOrder().catch((error: unknown) => {
      log.warn('bullmq.not-left', { error: messageOf(error) });
    });
    await Promise.race([left, clock.sleep(GOODBYE_MS, patience.signal)]);
    patience.abort();
  }

  async #leaveInOrder(): Promise<void> {
    const { log } = this.#options;
    const running = await this.#scheduler.close();
    for (const { queue } of this.#windows) {
      const own = [...this.#scheduler.tasks.values()].filter(
        ({ window }) => window.queue === queue,
      );
      const ids = own.map(({ job }) => job.id ?? '');
      await queue.extendLocks(ids, HANDOVER_LOCK_MS);
    }
    if (this.#driver.status === 'DRIVER_RUNNING') await this.#driver.stop(true);
    await Promise.all(this.#windows.map(({ queue }) => queue.close()));
    log.info('bullmq.stopped', { running });
  }
}
