/** Whether a task works: what the results of its checks, one after the other, make of it. Pure. */
import type { HealthCheck } from '../../../protocol/command.ts';

/** Changed in place by the functions of this file. Times are monotonic milliseconds. */
export interface Health {
  readonly rules: HealthCheck;
  readonly startedMs: number;
  /** When the next check is due; undefined while one is under way. */
  nextCheckMs: number | undefined;
  /** In a row, of those that count. */
  failures: number;
  /** What it was last found to be; undefined until something has been found. */
  isHealthy: boolean | undefined;
}

/** What follows from a check: nothing, or the task's health has changed, or the task is to be ended. */
export type HealthOutcome = 'nothing' | 'changed' | 'failed';

/** Of a task that has just started. */
export function createHealth(rules: HealthCheck, nowMs: number): Health {
  return {
    rules,
    startedMs: nowMs,
    nextCheckMs: nowMs + rules.delayMs,
    failures: 0,
    isHealthy: undefined,
  };
}

/**
 * Takes the result of a check. Failures in the grace period after the start do not count, unless the task has been healthy
 * before: a server that is still loading is not a broken one.
 *
 * @param isGood what the check has found
 */
export function noteCheck(health: Health, isGood: boolean, nowMs: number): HealthOutcome {
  const { rules, startedMs, isHealthy } = health;
  health.nextCheckMs = nowMs + rules.intervalMs;
  if (isGood) {
    health.failures = 0;
    health.isHealthy = true;
    return isHealthy === true ? 'nothing' : 'changed';
  }
  const isStarting = isHealthy === undefined && nowMs - startedMs < rules.gracePeriodMs;
  if (isStarting) return 'nothing';
  health.failures += 1;
  health.isHealthy = false;
  if (health.failures >= rules.failuresMax) return 'failed';
  return isHealthy === false ? 'nothing' : 'changed';
}
