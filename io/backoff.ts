/** How long to wait before something is tried again: longer each time, and not in step with everybody else. */
import type { Random } from './clock.ts';

/** First and longest pause, milliseconds. */
export const RETRY_MIN_MS = 250;
export const RETRY_MAX_MS = 5000;
/** A regular interval is so much shorter or longer, as a part of it. */
const SPREAD = 0.2;

/** The pauses of one thing that is tried until it succeeds. */
export class Backoff {
  readonly #random: Random;
  #pauseMs = RETRY_MIN_MS;

  constructor(random: Random) {
    this.#random = random;
  }

  /** @returns milliseconds until the next attempt: between half and all of a pause that doubles from 250 ms to 5 s */
  next(): number {
    const pauseMs = this.#pauseMs;
    this.#pauseMs = Math.min(2 * pauseMs, RETRY_MAX_MS);
    return Math.round(pauseMs * (0.5 + this.#random() / 2));
  }

  /** It has succeeded: the next failure is the first one. */
  reset(): void {
    this.#pauseMs = RETRY_MIN_MS;
  }
}

/** @returns an interval up to 20 % shorter or longer, so that thousands that began together drift apart */
export function spreadInterval(intervalMs: number, random: Random): number {
  return Math.round(intervalMs * (1 + SPREAD * (2 * random() - 1)));
}
