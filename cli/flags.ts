/**
 * Values of single flags, from text to numbers. Each function either returns what was meant or throws a usage error
 * that repeats flag and value, says what is wrong, and shows what would be right.
 */
import type { KaonError } from '../protocol/errors.ts';
import { TASK_CPU_MILLIS_MIN, TASK_MEM_MIB_MIN } from '../protocol/limits.ts';
import {
  formatCpus,
  formatDuration,
  formatMib,
  parseCpus,
  parseDuration,
  parseMib,
  parseSize,
} from '../protocol/quantities.ts';
import { CPU_MILLIS_MAX, MEM_MIB_MAX } from '../protocol/resources.ts';
import { parsePosition } from '../protocol/event-position.ts';
import type { EventPosition } from '../protocol/event-position.ts';
import { usageError } from './failure.ts';
import type { Moment } from './options.ts';

/** A flag and its value as they were written. */
export interface Flag {
  /** `--mem` */
  readonly flag: string;
  readonly value: string;
  /** What was typed, if `value` is only a part of it. */
  readonly typed?: string;
}

/** @returns the error for a flag's value: `--mem 12x: not a size; write 128M or 1.5G` */
export function flagError({ flag, value, typed = value }: Flag, problem: string): KaonError {
  return usageError(`${flag} ${typed === '' ? "''" : typed}: ${problem}`);
}

/** @returns thousandths of a core, from the least that a task may have */
export function cpusOf(flag: Flag, leastMillis = TASK_CPU_MILLIS_MIN): number {
  const cpuMillis = parseCpus(flag.value);
  if (cpuMillis === undefined) {
    throw flagError(flag, 'not a number of cores; write 0.5, 2 or 250m (thousandths)');
  }
  if (cpuMillis < leastMillis) {
    const what = cpuMillis === 0 ? 'must be more than 0' : 'too little';
    throw flagError(flag, `${what}; the minimum is ${formatCpus(leastMillis)}`);
  }
  if (cpuMillis > CPU_MILLIS_MAX) {
    throw flagError(flag, `too much; the maximum is ${formatCpus(CPU_MILLIS_MAX)}`);
  }
  return cpuMillis;
}

/** @returns MiB, from the least that a task may have */
export function memOf(flag: Flag, leastMib = TASK_MEM_MIB_MIN): number {
  const memMib = parseMib(flag.value);
  if (memMib === undefined) throw flagError(flag, 'not a size; write 128M or 1.5G');
  if (memMib < leastMib) {
    // Who writes 128 means megabytes; it would be 128 bytes.
    const bare = /^\s*[1-9]\d*\s*$/.test(flag.value)
      ? `; a bare number is bytes, write ${flag.value.trim()}M`
      : '';
    const what = parseSize(flag.value) === 0 ? 'must be more than 0' : 'too little';
    throw flagError(flag, `${what}; the minimum is ${formatMib(leastMib)}${bare}`);
  }
  if (memMib > MEM_MIB_MAX)
    throw flagError(flag, `too much; the maximum is ${formatMib(MEM_MIB_MAX)}`);
  return memMib;
}

/** A range of durations, milliseconds; both ends are allowed. */
export interface DurationRange {
  readonly minMs: number;
  readonly maxMs: number;
}

/** Ten years: a sum with a time of day stays a safe integer. */
export const DURATION_MAX_MS = 315_360_000_000;

/** @returns milliseconds within the range */
export function durationOf(flag: Flag, { minMs, maxMs }: DurationRange): number {
  const ms = parseDuration(flag.value);
  if (ms === undefined) throw flagError(flag, 'not a duration; write 30s, 5m or 1h30m');
  if (ms < minMs) {
    const what = ms === 0 ? 'must be more than 0' : 'too short';
    throw flagError(flag, `${what}; the minimum is ${formatDuration(minMs)}`);
  }
  if (ms > maxMs) throw flagError(flag, `too long; the maximum is ${formatDuration(maxMs)}`);
  return ms;
}

/** @returns the place in the event log */
export function placeOf(flag: Flag): EventPosition {
  const place = parsePosition(flag.value);
  if (place) return place;
  throw flagError(flag, 'not an id of an event; kaon events shows them, 1795200792000-0.1');
}

/** A day, and perhaps a time of it, and perhaps a zone; without one it is local time, as all times that are shown. */
const ISO_TIME = /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d(?:\.\d+)?)?)(Z|[+-]\d\d:?\d\d)?)?$/;
/** Milliseconds since 1970, from 2001 on: fewer digits are seconds. */
const EPOCH_MS = /^\d{13}$/;

/** @returns the moment: a time, a duration ago, or an id of an event */
export function momentOf(flag: Flag): Moment {
  const value = flag.value.trim();
  const after = parsePosition(value);
  if (after) return { after };
  if (EPOCH_MS.test(value)) return { atMs: Number(value) };
  const agoMs = parseDuration(value);
  if (agoMs !== undefined) return { agoMs };
  const [, day, time = '00:00', zone = ''] = ISO_TIME.exec(value) ?? [];
  const atMs = day === undefined ? Number.NaN : Date.parse(`${day}T${time}${zone}`);
  if (!Number.isNaN(atMs)) return { atMs };
  throw flagError(
    flag,
    'not a moment; write 10m (ago), 2026-11-20T18:53:12 (local time, or with Z), or an id from kaon events',
  );
}

/** @returns bytes, at least 1 */
export function sizeOf(flag: Flag): number {
  const bytes = parseSize(flag.value);
  if (bytes === undefined) throw flagError(flag, 'not a size; write 64K, 1M or a number of bytes');
  if (bytes === 0) throw flagError(flag, 'must be more than 0');
  return bytes;
}

/** @returns a whole number from 1 to `max` */
export function countFlagOf(flag: Flag, max: number): number {
  const count = /^\d+$/.test(flag.value) ? Number(flag.value) : Number.NaN;
  if (!(count >= 1 && count <= max))
    throw flagError(flag, `not a whole number from 1 to ${String(max)}`);
  return count;
}

/** @returns the value, if it is one of the allowed ones */
export function choiceOf<T extends string>(flag: Flag, choices: readonly T[]): T {
  const choice = choices.find((one) => one === flag.value);
  if (choice === undefined) throw flagError(flag, `not one of ${choices.join(', ')}`);
  return choice;
}

/** What a `KEY=VALUE` flag takes. */
export interface PairRule {
  readonly key: RegExp;
  /** What a key is, for the error: `a variable name`. */
  readonly keyIs: string;
  readonly maxItems: number;
  readonly maxValueChars: number;
  readonly example: string;
}

/** @returns the pairs of a flag that may be given several times; a key that is given twice has its last value */
export function pairsOf(
  flag: string,
  values: readonly string[],
  rule: PairRule,
): Record<string, string> {
  const pairs: Record<string, string> = {};
  for (const value of values) {
    const at = value.indexOf('=');
    if (at < 0) throw flagError({ flag, value }, `not KEY=VALUE; write ${rule.example}`);
    const key = value.slice(0, at);
    const text = value.slice(at + 1);
    if (!rule.key.test(key)) {
      throw flagError(
        { flag, value },
        `${JSON.stringify(key)} is not ${rule.keyIs}; write ${rule.example}`,
      );
    }
    if (text.length > rule.maxValueChars) {
      throw flagError(
        { flag, value: `${key}=...` },
        `a value of ${String(text.length)} characters; the maximum is ${String(rule.maxValueChars)}`,
      );
    }
    pairs[key] = text;
  }
  const count = Object.keys(pairs).length;
  if (count > rule.maxItems) {
    throw usageError(`${flag} ${String(count)} times; the maximum is ${String(rule.maxItems)}`);
  }
  return pairs;
}
