/**
 * The line to systemd: which of its signals mean what, and calls and jobs that outlive restarts of systemd and the bus.
 *
 * It knows no unit of its own; `manager.ts` says what to start and stop.
 */
import { KaonError, messageOf } from '../protocol/errors.ts';
import { openBus, type Bus, type BusLog } from './bus.ts';
import type { BusSignal } from './bus-connection.ts';
import { createJobWaits, type JobResult } from './jobs.ts';
import { unitOfPath } from './names.ts';
import type { SystemdConnection } from './port.ts';
import {
  MANAGER,
  SERVICE,
  SYSTEMD,
  isOutcomeUnknown,
  systemdCalls,
  unwrap,
  type SystemdCalls,
} from './systemd-calls.ts';

/** For how long a call is repeated while systemd is away. */
const RECOVER_MS = 30_000;
const REPEAT_MS = 20;
/** Longest wait for a job's end before the unit itself is looked at. */
const JOB_LOOK_MS = 10_000;

const MATCH_RULES = [
  `type='signal',sender='${SYSTEMD}',interface='${MANAGER}',member='JobRemoved'`,
  `type='signal',sender='${SYSTEMD}',interface='${MANAGER}',member='Reloading'`,
  `type='signal',sender='${SYSTEMD}',interface='org.freedesktop.DBus.Properties',member='PropertiesChanged',arg0='${SERVICE}'`,
  `type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',arg0='${SYSTEMD}'`,
];

/** Where the bus is, and whom to tell of ends and of the connection. */
export interface SystemdLinkOptions {
  readonly busAddress: string;
  /** The main process of a service may have ended. */
  /** With the properties that changed, by name. */
  readonly onEnded: (name: string, changed: ReadonlyMap<string, unknown>) => void;
  readonly onConnection: (state: SystemdConnection) => void;
  readonly log?: BusLog;
}

/** The connection to systemd with what survives its loss: repeated calls, jobs, subscriptions. */
export class SystemdLink {
  readonly calls: SystemdCalls;
  private readonly options: SystemdLinkOptions;
  private readonly bus: Bus;
  private readonly jobs = createJobWaits(JOB_LOOK_MS);

  constructor(options: SystemdLinkOptions) {
    this.options = options;
    this.bus = openBus({
      address: options.busAddress,
      matchRules: MATCH_RULES,
      onSignal: (signal) => this.onSignal(signal),
      onConnected: (connection) =>
        systemdCalls((call) => connection.call(call, RECOVER_MS)).subscribe(),
      onState: (state) => this.announce(state),
      ...(options.log === undefined ? {} : { log: options.log }),
    });
    this.calls = systemdCalls((call) => this.bus.call(call));
  }

  /** Repeats a call that may be repeated, until it has an outcome. */
  async persist<T>(call: () => Promise<T>): Promise<T> {
    const deadline = performance.now() + RECOVER_MS;
    for (;;) {
      try {
        return await call();
      } catch (error) {
        if (!isOutcomeUnknown(error) || performance.now() > deadline) throw error;
      }
      await pause(REPEAT_MS);
      if (!(await this.bus.waitUp(Math.max(deadline - performance.now(), 0)))) {
        throw new KaonError('systemd-unreachable', `no connection to systemd for ${RECOVER_MS} ms`);
      }
    }
  }

  /** Queues a job and waits until it is no longer queued, whatever is lost on the way; systemd bounds every job. */
  async runJob(name: string, queue: () => Promise<string>): Promise<JobResult> {
    const result = await this.jobs.run(queue);
    return result === 'unknown' ? this.watchJob(name) : result;
  }

  /** Waits until a unit has no job any more; `unknown` if it ended unseen. */
  async watchJob(name: string): Promise<JobResult> {
    for (;;) {
      const row = await this.persist(() => this.calls.listByName(name));
      if (row?.jobPath === undefined) return 'unknown';
      const result = await this.jobs.wait(row.jobPath);
      if (result !== 'unknown') return result;
    }
  }

  close(): void {
    this.bus.close();
    this.jobs.giveUp();
  }

  private announce(state: SystemdConnection): void {
    if (state === 'up') this.jobs.giveUp();
    this.options.onConnection(state);
  }

  private onSignal({ member, path, body }: BusSignal): void {
    if (member === 'JobRemoved') this.jobs.removed(String(body[1]), String(body[3]));
    else if (member === 'PropertiesChanged') this.onPropertiesChanged(path, body[1]);
    else if (member === 'Reloading' && body[0] === false) this.resubscribe();
    else if (member === 'NameOwnerChanged' && body[2] === '') this.announce('down');
    else if (member === 'NameOwnerChanged') this.resubscribe();
  }

  /** Starts and releases bring several property changes each; only the end of the main process is news. */
  private onPropertiesChanged(path: string, changed: unknown): void {
    const name = unitOfPath(path);
    const variants = (changed ?? {}) as Record<string, unknown>;
    const code = variants['ExecMainCode'];
    if (name === undefined || (code !== undefined && unwrap(code) === 0)) return;
    const values = Object.entries(variants).map(([key, value]) => [key, unwrap(value)] as const);
    this.options.onEnded(name, new Map(values));
  }

  /** After a reload or a re-execution: signals may have been missed, and a new systemd may not know us. */
  private resubscribe(): void {
    this.calls.subscribe().then(
      () => this.announce('up'),
      // The bus has gone as well: its reconnection subscribes and announces.
      (error: unknown) =>
        this.options.log?.warn('systemd.subscribe-failed', { error: messageOf(error) }),
    );
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
