/** A clock that goes on only when it is told to. */
import { setImmediate as turn } from 'node:timers/promises';
import type { Clock } from '../../io/clock.ts';

export interface ManualClock extends Clock {
  /** Lets time pass in steps, from one sleeper that is due to the next, and everything that follows from it. */
  pass(ms: number): Promise<void>;
}

/** Some turns of the event loop: enough for a chain of resolved promises between two sleeps. */
async function settle(): Promise<void> {
  for (let count = 0; count < 5; count += 1) await turn();
}

export function createManualClock(): ManualClock {
  let nowMs = 0;
  const sleepers = new Set<{ readonly atMs: number; readonly wake: () => void }>();
  return {
    monotonicMs: () => nowMs,
    wallMs: () => nowMs,
    sleep: (ms, signal) =>
      new Promise((resolve) => {
        if (signal?.aborted === true) {
          resolve();
          return;
        }
        const wake = (): void => {
          sleepers.delete(sleeper);
          signal?.removeEventListener('abort', wake);
          resolve();
        };
        const sleeper = { atMs: nowMs + ms, wake };
        sleepers.add(sleeper);
        signal?.addEventListener('abort', wake);
      }),
    pass: async (ms) => {
      const endMs = nowMs + ms;
      await settle();
      for (;;) {
        const [next] = [...sleepers].sort((a, b) => a.atMs - b.atMs);
        if (!next || next.atMs > endMs) break;
        nowMs = next.atMs;
        next.wake();
        await settle();
      }
      nowMs = endMs;
    },
  };
}
