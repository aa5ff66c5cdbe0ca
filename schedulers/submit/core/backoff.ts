/** How long after a failure the next attempt begins. */

const FIRST_MS = 1000;
const LONGEST_MS = 60_000;

/** What has worked for so long was no failure of the start: counting begins anew, milliseconds. */
export const STABLE_MS = 300_000;

/** @returns milliseconds: 1 s after the first failure in a row, twice as much after each further one, at most a minute */
export function delayAfter(failures: number): number {
  if (failures <= 0) return 0;
  return Math.min(FIRST_MS * 2 ** Math.min(failures - 1, 20), LONGEST_MS);
}

/**
 * @param ranMs how long it had worked before it failed
 * @returns failures in a row, with this one
 */
export function failuresAfter(failures: number, ranMs: number): number {
  return ranMs >= STABLE_MS ? 1 : failures + 1;
}
