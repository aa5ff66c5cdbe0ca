/**
 * The log of what is wrong with Redis: one line when a fault begins and one when it is over, however many connections
 * and calls it meets. `redis.unreachable` ends with `redis.reachable`, every other with `redis.recovered`.
 */
import { messageOf } from '../protocol/errors.ts';
import type { Log } from './log.ts';
import type { RedisFaultCode } from './redis-errors.ts';
import { explainRedisError } from './redis-errors.ts';

/** A call that takes longer is worth a line, milliseconds. */
const SLOW_MS = 1000;
/** At most one such line in this time, milliseconds. */
const SLOW_LINE_MS = 10_000;
/** What somebody has to set right is said again after this time, milliseconds: nothing else will end it. */
const REMINDER_MS = 600_000;
const NEEDS_SOMEBODY: ReadonlySet<RedisFaultCode> = new Set([
  'login-refused',
  'no-permission',
  'scripts-missing',
]);

/** Whose faults, and the monotonic time, milliseconds. */
export interface RedisFaultsOptions {
  readonly log: Log;
  /** As it may be shown. */
  readonly url: string;
  readonly monotonicMs?: () => number;
}

interface Fault {
  readonly code: RedisFaultCode;
  readonly sinceMs: number;
  toldAtMs: number;
  /** Connections or calls that have met it. */
  readonly victims: Set<string>;
}

/** Faults of one Redis, shared by the connections of one store. */
export class RedisFaults {
  readonly #options: RedisFaultsOptions;
  readonly #faults = new Map<string, Fault>();
  #slowLineAtMs = -Infinity;
  #slowUntold = 0;

  constructor(options: RedisFaultsOptions) {
    this.#options = options;
  }

  /** A connection could not be made, or was lost. */
  connectionFailed(connection: string, error: unknown): void {
    this.#begin(explainRedisError(error), { victim: `connection ${connection}`, error });
  }

  /** A connection can be used: whatever was wrong with it is over. */
  connectionReady(connection: string): void {
    const victim = `connection ${connection}`;
    for (const [key, fault] of this.#faults) {
      if (fault.victims.delete(victim) && fault.victims.size === 0) this.#end(key, fault);
    }
  }

  /** @param call names what was called; two calls of one name need the same of Redis */
  callFailed(call: string, error: unknown): void {
    const explanation = explainRedisError(error);
    // What belongs to a connection is told by its own events, and an error of our own is for the caller.
    if (explanation.code === 'unreachable' || explanation.code === 'other') return;
    this.#begin(explanation, { victim: `call ${call}`, error });
  }

  /** A call of that name was answered: what it failed with before is over, for the others too. */
  callAnswered(call: string): void {
    if (this.#faults.size === 0) return;
    for (const [key, fault] of this.#faults) {
      if (fault.victims.has(`call ${call}`)) this.#end(key, fault);
    }
  }

  /** How long a call took, without the time that it was told to wait. */
  callTook(command: string, tookMs: number): void {
    if (tookMs < SLOW_MS) return;
    const nowMs = this.#nowMs();
    if (nowMs - this.#slowLineAtMs < SLOW_LINE_MS) {
      this.#slowUntold += 1;
      return;
    }
    const { log, url } = this.#options;
    const more = this.#slowUntold === 0 ? undefined : this.#slowUntold;
    log.warn('redis.slow', { url, command, tookMs: Math.round(tookMs), more });
    this.#slowLineAtMs = nowMs;
    this.#slowUntold = 0;
  }

  #begin(
    { code, text, hint }: ReturnType<typeof explainRedisError>,
    { victim, error }: { readonly victim: string; readonly error: unknown },
  ): void {
    // Each command that is forbidden is a fault of its own: another one may be allowed.
    const key = code === 'no-permission' ? `${code} ${victim}` : code;
    const nowMs = this.#nowMs();
    const fault = this.#faults.get(key);
    if (fault) {
      fault.victims.add(victim);
      if (!NEEDS_SOMEBODY.has(code) || nowMs - fault.toldAtMs < REMINDER_MS) return;
      fault.toldAtMs = nowMs;
    } else {
      const victims = new Set([victim]);
      this.#faults.set(key, { code, sinceMs: nowMs, toldAtMs: nowMs, victims });
    }
    const { log, url } = this.#options;
    const lastsMs = fault && Math.round(nowMs - fault.sinceMs);
    const since = lastsMs === undefined ? {} : { lastsMs };
    log.warn(`redis.${code}`, { url, text, hint, error: messageOf(error), ...since });
  }

  #end(key: string, { code, sinceMs }: Fault): void {
    this.#faults.delete(key);
    const { log, url } = this.#options;
    const lastedMs = Math.round(this.#nowMs() - sinceMs);
    if (code === 'unreachable') log.info('redis.reachable', { url, lastedMs });
    else log.info('redis.recovered', { url, fault: code, lastedMs });
  }

  #nowMs(): number {
    return (this.#options.monotonicMs ?? (() => performance.now()))();
  }
}
