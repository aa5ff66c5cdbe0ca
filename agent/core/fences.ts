/**
 * When a task that is to be stopped without contact is safe from its fence, and when its fence was what stopped it. Pure:
 * the timers are systemd's.
 */

/** A heartbeat that was answered later than this proves too little, milliseconds: the timer counts from the answer. */
const ANSWER_MAX_MS = 1000;
/**
 * Between the elapse of a timer and the stop of its units, milliseconds; both are systemd's own times. A busy process 1 takes
 * long, and by then nothing else stops these units; before it, only the granularity of a timer.
 */
const STOP_AFTER_MAX_MS = 60_000;
const STOP_BEFORE_MAX_MS = 2000;

/** True if the answer to a heartbeat proves that the cluster knows of this node's life at this moment. */
export function isContact(isOk: boolean, tookMs: number): boolean {
  return isOk && tookMs <= ANSWER_MAX_MS;
}

/** True if a timer of that length should be set again: four times in it are enough, and each costs process 1 something. */
export function isFenceDue(stopAfterMs: number, sinceSetMs: number): boolean {
  return sinceSetMs >= stopAfterMs / 4;
}

/** systemd's times of a unit, milliseconds since 1970; 0 for what has not happened. */
export interface UnitTimes {
  readonly leftActiveAtMs: number;
  readonly exitedAtMs: number;
}

/**
 * Whether the fence that fired at `firedAtMs` stopped the unit: one that ended by itself, before or after, was not. A
 * process that ends by itself does so before its unit stops being active; one that is stopped, after that.
 */
export function wasFenced({ leftActiveAtMs, exitedAtMs }: UnitTimes, firedAtMs: number): boolean {
  if (leftActiveAtMs === 0 || leftActiveAtMs >= exitedAtMs) return false;
  const sinceMs = leftActiveAtMs - firedAtMs;
  return sinceMs >= -STOP_BEFORE_MAX_MS && sinceMs <= STOP_AFTER_MAX_MS;
}
