/**
 * Of several schedulers with one name one works, and the others stand by. The lease only decides who; that a job is not run
 * twice does not depend on it: one framework id has one scheduler, and one name one task.
 */
import type { Redis } from 'ioredis';
import type { Clock } from '../../io/clock.ts';
import type { Script } from '../../io/define-script.ts';
import { defineScript } from '../../io/define-script.ts';
import type { Log } from '../../io/log.ts';
import { messageOf } from '../../protocol/errors.ts';
import { DROP_LEASE, HOLD_LEASE } from './scripts.ts';

/** How long a lease lasts that nobody renews, and how often it is renewed or asked for, milliseconds. */
const LEASE_MS = 10_000;
const RENEW_MS = 2500;

/** Whose lease, and who wants it. */
export interface LeaseOptions {
  readonly redis: Redis;
  readonly key: string;
  /** For people, too: the host and the process. */
  readonly holder: string;
  readonly clock: Clock;
  readonly log: Log;
  /** Called each time before Redis is asked for it. */
  readonly onRound?: (() => void) | undefined;
}

/** The right to be the scheduler of a framework. */
export class SchedulerLease {
  readonly #options: LeaseOptions;
  readonly #hold: Script;
  readonly #drop: Script;

  constructor(options: LeaseOptions) {
    this.#options = options;
    this.#hold = defineScript(options.redis, HOLD_LEASE, 1);
    this.#drop = defineScript(options.redis, DROP_LEASE, 1);
  }

  /** Waits until it is ours. @returns false if `signal` was aborted before */
  async acquire(signal: AbortSignal): Promise<boolean> {
    const { clock, log, redis, key } = this.#options;
    let isSaid = false;
    while (!signal.aborted) {
      if (await this.#tryHold()) return true;
      if (!isSaid) {
        log.warn('bullmq.standing-by', {
          holder: await redis.get(key),
          hint: 'another scheduler has this name; it takes over when that one ends. For other queues choose another --name',
        });
      }
      isSaid = true;
      await clock.sleep(RENEW_MS, signal);
    }
    return false;
  }

  /**
   * Renews it until it is somebody else's, or `signal` is aborted. A Redis that refuses, for want of memory say, has not
   * given it to anybody else.
   *
   * @returns false if it was lost
   */
  async keep(signal: AbortSignal): Promise<boolean> {
    const { clock, log } = this.#options;
    while (!signal.aborted) {
      await clock.sleep(RENEW_MS, signal);
      if (signal.aborted) return true;
      try {
        if (!(await this.#tryHold())) return false;
      } catch (error) {
        if (!signal.aborted) log.warn('lease.not-renewed', { error: messageOf(error) });
      }
    }
    return true;
  }

  async #tryHold(): Promise<boolean> {
    const { key, holder, onRound } = this.#options;
    onRound?.();
    return (await this.#hold([key, holder, LEASE_MS])) === 1;
  }

  /** Somebody who stands by may have it at once. */
  async release(): Promise<void> {
    const { key, holder, log } = this.#options;
    try {
      await this.#drop([key, holder]);
    } catch (error) {
      log.debug('lease.not-released', { error: messageOf(error) }); // It ends by itself.
    }
  }
}
