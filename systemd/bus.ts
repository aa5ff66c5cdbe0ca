/**
 * A connection to a message bus that comes back: reconnects with back-off, and keeps to the bus daemon's limits.
 *
 * A call that is under way when the connection breaks fails at once with `bus-down`; nothing is
 * repeated here, because only the caller knows what may be repeated.
 */
import { KaonError, messageOf } from '../protocol/errors.ts';
import { connectBus, type BusCall, type BusConnection, type BusSignal } from './bus-connection.ts';

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

export interface Bus {
  /** @throws KaonError `bus-down` at once while there is no connection; else as BusConnection */
  call(call: BusCall, timeoutMs?: number): Promise<readonly unknown[]>;
  /** Resolves as soon as the bus is up, false after `timeoutMs` or once it was closed. */
  waitUp(timeoutMs: number): Promise<boolean>;
  close(): void;
}

/** Starts to connect and returns at once; `onState('up')` tells when it works. */
export function openBus(options: BusOptions): Bus {
  let connection: BusConnection | undefined;
  let closed = false;
  let retryMs = RETRY_MIN_MS;
  let retryTimer: NodeJS.Timeout | undefined;
  let inFlight = 0;
  const queue: (() => void)[] = [];
  const upWaiters = new Set<(up: boolean) => void>();

  const settleWaiters = (up: boolean): void => {
    for (const settle of [...upWaiters]) settle(up);
  };

  const retry = (reason: string): void => {
    if (closed) return;
    options.log?.warn('bus.retry', { address: options.address, reason, retryMs });
    retryTimer = setTimeout(() => void connect(), retryMs);
    retryMs = Math.min(retryMs * 2, RETRY_MAX_MS);
  };

  const lost = (reason: string): void => {
    if (connection === undefined) return;
    connection = undefined;
    if (closed) return;
    options.onState('down');
    retry(reason);
  };

  const connect = async (): Promise<void> => {
    let ended: string | undefined;
    let fresh: BusConnection | undefined;
    try {
      fresh = await connectBus({
        address: options.address,
        matchRules: options.matchRules,
        timeoutMs: CALL_TIMEOUT_MS,
        onSignal: options.onSignal,
        onEnd: (reason) => {
          ended = reason;
          lost(reason);
        },
      });
      await options.onConnected(fresh);
    } catch (error) {
      fresh?.end();
      return retry(messageOf(error));
    }
    if (closed) return fresh.end();
    if (ended !== undefined) return retry(ended);
    connection = fresh;
    retryMs = RETRY_MIN_MS;
    options.onState('up');
    settleWaiters(true);
  };

  const enter = (): Promise<void> | undefined => {
    if (inFlight++ < CALLS_IN_FLIGHT_MAX) return undefined;
    return new Promise((resolve) => queue.push(resolve));
  };
  const leave = (): void => {
    inFlight -= 1;
    queue.shift()?.();
  };

  const call = async (request: BusCall, timeoutMs = CALL_TIMEOUT_MS): Promise<readonly unknown[]> => {
    const turn = enter();
    if (turn !== undefined) await turn;
    try {
      if (connection === undefined) {
        throw new KaonError('bus-down', `no connection to the message bus at ${options.address}`);
      }
      return await connection.call(request, timeoutMs);
    } finally {
      leave();
    }
  };

  const waitUp = (timeoutMs: number): Promise<boolean> => {
    if (connection !== undefined || closed) return Promise.resolve(!closed);
    return new Promise((resolve) => {
      const settle = (up: boolean): void => {
        clearTimeout(timer);
        upWaiters.delete(settle);
        resolve(up);
      };
      const timer = setTimeout(() => settle(false), timeoutMs);
      upWaiters.add(settle);
    });
  };

  const close = (): void => {
    closed = true;
    clearTimeout(retryTimer);
    connection?.end();
    connection = undefined;
    settleWaiters(false);
  };

  void connect();
  return { call, waitUp, close };
}
