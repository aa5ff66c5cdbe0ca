/**
 * A connection to a message bus that comes back: reconnects with back-off, and keeps to the bus daemon's limits.
 *
 * A call that is under way when the connection breaks fails at once with `bus-down`; nothing is
 * repeated here, because only the caller knows what may be repeated.
 */
import { KaonError, messageOf } from '../protocol/errors.ts';
import { connectBus, type BusCall, type BusConnection, type BusSignal } from './bus-connection.ts';
import { createSlots } from './slots.ts';

/** dbus-daemon refuses more than 128 calls without answer per connection, for root too. */
const CALLS_IN_FLIGHT_MAX = 64;
const CALL_TIMEOUT_MS = 10_000;
const RETRY_MIN_MS = 20;
const RETRY_MAX_MS = 1_000;

/** The part of the log that is used; `io/log.ts` fits. */
export interface BusLog {
  info(event: string, fields?: Readonly<Record<string, unknown>>): void;
  warn(event: string, fields?: Readonly<Record<string, unknown>>): void;
}

/** Where the bus is, what to hear of it, and whom to tell. */
export interface BusOptions {
  /** `unix:path=...` */
  readonly address: string;
  /** Fixed for the life of the bus: rules are added on each connection and never removed. */
  readonly matchRules: readonly string[];
  readonly onSignal: (signal: BusSignal) => void;
  /** Runs on every new connection before it counts as up; a failure makes the connection be tried again. */
  readonly onConnected: (connection: BusConnection) => Promise<void>;
  readonly onState: (state: 'up' | 'down') => void;
  readonly log?: BusLog;
}

/** The bus through all its connections: it comes back by itself. */
export interface Bus {
  /** @throws KaonError `bus-down` at once while there is no connection; else as BusConnection */
  call(call: BusCall, timeoutMs?: number): Promise<readonly unknown[]>;
  /** Resolves as soon as the bus is up, false after `timeoutMs` or once it was closed. */
  waitUp(timeoutMs: number): Promise<boolean>;
  close(): void;
}

/** Starts to connect and returns at once; `onState('up')` tells when it works. */
export function openBus(options: BusOptions): Bus {
  const bus = new ReconnectingBus(options);
  bus.start();
  return bus;
}

class ReconnectingBus implements Bus {
  private readonly options: BusOptions;
  private readonly slots = createSlots(CALLS_IN_FLIGHT_MAX);
  private readonly upWaiters = new Set<(up: boolean) => void>();
  private connection: BusConnection | undefined;
  private isClosed = false;
  private retryMs = RETRY_MIN_MS;
  private retryTimer: NodeJS.Timeout | undefined;

  constructor(options: BusOptions) {
    this.options = options;
  }

  start(): void {
    void this.connect();
  }

  async call(request: BusCall, timeoutMs = CALL_TIMEOUT_MS): Promise<readonly unknown[]> {
    const leave = await this.slots.enter();
    try {
      if (this.connection === undefined) {
        const message = `no connection to the message bus at ${this.options.address}`;
        throw new KaonError('bus-down', message);
      }
      return await this.connection.call(request, timeoutMs);
    } finally {
      leave();
    }
  }

  waitUp(timeoutMs: number): Promise<boolean> {
    if (this.connection !== undefined || this.isClosed) return Promise.resolve(!this.isClosed);
    return new Promise((resolve) => {
      const settle = (up: boolean): void => {
        clearTimeout(timer);
        this.upWaiters.delete(settle);
        resolve(up);
      };
      const timer = setTimeout(() => settle(false), timeoutMs);
      this.upWaiters.add(settle);
    });
  }

  close(): void {
    this.isClosed = true;
    clearTimeout(this.retryTimer);
    this.connection?.end();
    this.connection = undefined;
    this.settleWaiters(false);
  }

  private async connect(): Promise<void> {
    let ended: string | undefined;
    let fresh: BusConnection | undefined;
    try {
      fresh = await connectBus({
        address: this.options.address,
        matchRules: this.options.matchRules,
        timeoutMs: CALL_TIMEOUT_MS,
        onSignal: this.options.onSignal,
        onEnd: (reason) => {
          ended = reason;
          this.lost(reason);
        },
      });
      await this.options.onConnected(fresh);
    } catch (error) {
      fresh?.end();
      this.retry(messageOf(error));
      return;
    }
    if (this.isClosed) fresh.end();
    else if (ended !== undefined) this.retry(ended);
    else this.up(fresh);
  }

  private up(connection: BusConnection): void {
    this.connection = connection;
    this.retryMs = RETRY_MIN_MS;
    this.options.onState('up');
    this.settleWaiters(true);
  }

  private lost(reason: string): void {
    if (this.connection === undefined) return;
    this.connection = undefined;
    if (this.isClosed) return;
    this.options.onState('down');
    this.retry(reason);
  }

  private retry(reason: string): void {
    if (this.isClosed) return;
    const { retryMs } = this;
    this.options.log?.warn('bus.retry', { address: this.options.address, reason, retryMs });
    this.retryTimer = setTimeout(() => void this.connect(), retryMs);
    this.retryMs = Math.min(retryMs * 2, RETRY_MAX_MS);
  }

  private settleWaiters(up: boolean): void {
    for (const settle of [...this.upWaiters]) settle(up);
  }
}
