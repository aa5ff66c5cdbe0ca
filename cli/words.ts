/** Small pieces of text that several commands show: times, shares, commands, names. Pure. */
import { formatBytes, formatCpus, formatDuration, formatMib } from '../protocol/quantities.ts';
import type { TaskState } from '../protocol/task-state.ts';

/** `TASK_RUNNING` as `running`, `TASK_GONE_BY_OPERATOR` as `gone by operator`. */
export function shortState(state: TaskState): string {
  return state
    .replace(/^TASK_/, '')
    .toLowerCase()
    .replaceAll('_', ' ');
}

/** `2026-11-20 18:53:12`, local time. */
export function formatTime(atMs: number): string {
  const two = (part: number): string => String(part).padStart(2, '0');
  const at = new Date(atMs);
  const day = `${String(at.getFullYear())}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  return `${day} ${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

/** Time from one moment to another; 0 where the clock of one was ahead. */
export function formatSpan(fromMs: number, toMs: number): string {
  return formatDuration(Math.max(0, toMs - fromMs));
}

/** @returns `37%`, or `-` of nothing; below one percent with a decimal */
export function formatPercent(part: number, whole: number): string {
  if (whole <= 0) return '-';
  const percent = (part / whole) * 100;
  if (percent > 0 && percent < 1) return `${percent.toFixed(1)}%`;
  // Truncated: what is not full is never shown as 100 %.
  return `${String(Math.floor(percent))}%`;
}

/** @returns `[####------]`; the first mark stands for anything at all, the last one for all of it */
export function formatBar(part: number, whole: number, width = 20): string {
  const share = whole <= 0 ? 0 : Math.min(1, Math.max(0, part / whole));
  const marks = share > 0 ? Math.max(1, Math.floor(share * width)) : 0;
  return `[${'#'.repeat(marks)}${'-'.repeat(width - marks)}]`;
}

/** `used/offered/total` or `used/total`, as cores. */
export function formatCpuParts(...parts: readonly number[]): string {
  return parts.map(formatCpus).join('/');
}

/** The same in MiB: `1.5G/8G`. */
export function formatMibParts(...parts: readonly number[]): string {
  return parts.map((part) => (part === 0 ? '0' : formatMib(part))).join('/');
}

/** `63.9M of 64M (99%)`; without a limit only the amount. */
export function formatUse(bytes: number, limitBytes: number | undefined): string {
  if (limitBytes === undefined) return formatBytes(bytes);
  return `${formatBytes(bytes)} of ${formatBytes(limitBytes)} (${formatPercent(bytes, limitBytes)})`;
}

/** Microseconds of CPU as `1.2s`. */
export function formatUsec(usec: number): string {
  return formatDuration(usec / 1000);
}

/** `1 task`, `2 tasks`. */
export function countOf(count: number, noun: string): string {
  return `${String(count)} ${noun}${count === 1 ? '' : 's'}`;
}

/** A command line that a shell would read back as the same arguments. */
export function quoteArgv(argv: readonly string[]): string {
  const quote = (argument: string): string =>
    /^[\w@%+=:,./-]+$/.test(argument) ? argument : `'${argument.replaceAll("'", "'\\''")}'`;
  return argv.map(quote).join(' ');
}

/** `rack=a1 zone=b`. */
export function formatLabels(labels: Readonly<Record<string, string>>): string {
  return Object.entries(labels)
    .map(([key, value]) => `${key}=${/\s/.test(value) ? JSON.stringify(value) : value}`)
    .join(' ');
}

/**
 * Control and invisible formatting characters as `\n`, `\x1b`, `\u{202e}`: a task's name or message must not move the
 * cursor or turn the line around.
 */
export function escapeControls(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (character) => {
    const named = { '\n': '\\n', '\r': '\\r', '\t': '\\t' }[character];
    if (named !== undefined) return named;
    const code = character.codePointAt(0) ?? 0;
    const hex = code.toString(16);
    return code < 256 ? `\\x${hex.padStart(2, '0')}` : `\\u{${hex}}`;
  });
}
