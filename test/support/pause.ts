/**
 * How long to wait before a question is asked again. One that starts a command is asked less often than one that reads a
 * file: it must not take the processor from what it waits for.
 */
import { setTimeout as sleep } from 'node:timers/promises';

const PAUSE_MAX_MS = 1500;

/**
 * @param askedMs when the question was asked that has been answered now (`performance.now`): twice as long as that took is
 * waited
 */
export async function pauseAfter(askedMs: number, leastMs: number): Promise<void> {
  const tookMs = performance.now() - askedMs;
  await sleep(Math.max(leastMs, Math.min(PAUSE_MAX_MS, 2 * tookMs)));
}
