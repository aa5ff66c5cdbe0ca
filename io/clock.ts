/** Time and chance for the shells. Cores get them as values; tests and the simulator bring their own. */
import { randomBytes } from 'node:crypto';

/** Time as a shell may see it. Only `wallMs` means anything outside this process. */
export interface Clock {
  /** Monotonic milliseconds; only differences mean something. */
  monotonicMs(): number;
  /** Wall clock, milliseconds since 1970; never compared with another host's. */
  wallMs(): number;
  /** Resolves after `ms`, or at once when `signal` is aborted. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

/** The clock of this process. */
export const systemClock: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
  sleep: (ms, signal) =>
    new Promise((resolve) => {
      if (signal?.aborted === true) {
        resolve();
        return;
      }
      const done = (): void => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', done);
        resolve();
      };
      const timer = setTimeout(done, ms);
      signal?.addEventListener('abort', done);
    }),
};

/** A number in [0, 1), another one each time. */
export type Random = () => number;

/** Chance for what need not be secret. */
export const systemRandom: Random = () => Math.random();

const ALPHABET = 'abcdefghijkmnpqrstuvwxyz23456789';

/** @returns a random name part of `length` characters that people can read aloud (no l, o, 0, 1) */
export function randomName(length: number): string {
  let name = '';
  // 32 letters: the low five bits of each byte choose one without bias.
  for (const byte of randomBytes(length)) name += ALPHABET.charAt(byte & 31);
  return name;
}
