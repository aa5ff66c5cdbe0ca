/**
 * Hears that the leadership has changed: a master that gives its lease up says so on a channel. Needs a connection of
 * its own, which is made when somebody waits for the first time. An announcement may get lost with the connection, so
 * every wait has a limit.
 */
import type { Redis } from 'ioredis';
import { endConnection } from './end-connection.ts';
import type { ConnectOptions } from './redis-connection.ts';
import { connectRedis } from './redis-connection.ts';

/** One channel of one store. */
export class LeaderChanges {
  readonly #options: ConnectOptions;
  readonly #channel: string;
  #subscriber: Redis | undefined;
  #subscribed: Promise<void> | undefined;
  /** Something was announced that no wait has taken notice of yet. */
  #changed = false;
  #closed = false;
  readonly #waiting = new Set<() => void>();

  constructor(options: ConnectOptions, channel: string) {
    this.#options = options;
    this.#channel = channel;
  }

  /**
   * Resolves when there may have been a change since the last wait, after `timeoutMs`, or when this is closed or
   * `signal` aborted.
   *
   * @returns false if only the time is over
   */
  async wait(timeoutMs: number, signal?: AbortSignal): Promise<boolean> {
    this.#subscribe();
    if (!this.#changed && !this.#closed && signal?.aborted !== true) {
      await new Promise<void>((resolve) => {
        const done = (): void => {
          clearTimeout(timer);
          this.#waiting.delete(done);
          signal?.removeEventListener('abort', done);
          resolve();
        };
        const timer = setTimeout(done, timeoutMs);
        this.#waiting.add(done);
        signal?.addEventListener('abort', done);
      });
    }
    const changed = this.#changed;
    this.#changed = false;
    return changed;
  }

  close(): void {
    this.#closed = true;
    if (this.#subscriber) endConnection(this.#subscriber);
    this.note();
  }

  #subscribe(): void {
    if (this.#closed) return;
    if (!this.#subscriber) {
      this.#subscriber = connectRedis(this.#options);
      this.#subscriber.on('message', () => {
        this.note();
      });
      // After a reconnection: what was announced meanwhile was not heard.
      this.#subscriber.on('ready', () => {
        this.note();
      });
    }
    this.#subscribed ??= this.#subscriber.subscribe(this.#channel).then(
      () => {
        this.note(); // What was announced before it was not heard either.
      },
      () => {
        this.#subscribed = undefined; // The next wait tries again; until then its timeout is the limit.
      },
    );
  }

  /** Wakes whoever waits: something else says that the leadership should be looked at. */
  note(): void {
    this.#changed = true;
    for (const wake of [...this.#waiting]) wake();
  }
}
