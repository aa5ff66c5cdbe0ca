/** One timer for many reasons: the earliest counts, and whoever is woken by it says when the next is due. */
import type { Clock } from '../../io/clock.ts';

/** setTimeout takes no more, milliseconds. */
const LONGEST_MS = 2 ** 31 - 1;

/** Wakes once for all that has asked until then. */
export class WakeTimer {
  readonly #clock: Clock;
  readonly #wake: () => void;
  #waiting: AbortController | undefined;
  #atMs = Infinity;

  constructor(clock: Clock, wake: () => void) {
    this.#clock = clock;
    this.#wake = wake;
  }

  /** In so many milliseconds at the latest. */
  in(ms: number): void {
    const atMs = this.#clock.monotonicMs() + Math.min(ms, LONGEST_MS);
    if (this.#waiting && this.#atMs <= atMs) return;
    this.stop();
    const waiting = new AbortController();
    this.#waiting = waiting;
    this.#atMs = atMs;
    void this.#clock.sleep(Math.min(ms, LONGEST_MS), waiting.signal).then(() => {
      if (this.#waiting !== waiting) return;
      this.#waiting = undefined;
      this.#wake();
    });
  }

  stop(): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.abort('stopped');
  }
}
