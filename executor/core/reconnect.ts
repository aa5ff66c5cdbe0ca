/** How long to wait before the agent is tried again. Pure. */

/** The first pause, and the longest, milliseconds: an agent that restarts is back soon, and is not far away. */
const PAUSE_FIRST_MS = 20;
/** A connection that has lasted so long makes the next failure the first one. */
export const PAUSE_MAX_MS = 1000;

/**
 * @param failures connections that were lost or not made since one lasted; at least 1
 * @param chance in [0, 1)
 * @returns milliseconds: between half and all of a pause that doubles, so that not all executors of a node come at once
 */
export function reconnectPauseMs(failures: number, chance: number): number {
  const pauseMs = Math.min(PAUSE_FIRST_MS * 2 ** (failures - 1), PAUSE_MAX_MS);
  return Math.round(pauseMs * (0.5 + chance / 2));
}
