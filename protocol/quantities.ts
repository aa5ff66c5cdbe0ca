/**
 * Sizes, times and CPU amounts as people write them, and back. Parsers return undefined for anything that they
 * do not understand completely, so that a caller can say what was asked and what would be right.
 */

const MIB = 1024 * 1024;
const SIZE_FACTOR: Readonly<Record<string, number>> = {
  k: 1024,
  m: MIB,
  g: 1024 * MIB,
  t: 1024 * 1024 * MIB,
};
const DURATION_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
};

/**
 * `128M`, `1.5G`, `1GiB`, `64MB` (powers of 1024, as systemd reads them), `1048576` (bytes).
 *
 * @returns bytes, a whole number, or undefined
 */
export function parseSize(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*(?:([kmgt])(?:i?b)?|b)?$/i.exec(text.trim());
  if (!match) return undefined;
  const bytes = Number(match[1]) * (SIZE_FACTOR[(match[2] ?? '').toLowerCase()] ?? 1);
  return Number.isSafeInteger(Math.round(bytes)) ? Math.round(bytes) : undefined;
}

/** @returns whole MiB, rounded up, or undefined if `parseSize` does not understand it. */
export function parseMib(text: string): number | undefined {
  const bytes = parseSize(text);
  return bytes === undefined ? undefined : Math.ceil(bytes / MIB);
}

/**
 * `2`, `0.5`, `250m` (thousandths).
 *
 * @returns thousandths of a core; undefined if it is not a number or is finer than a thousandth
 */
export function parseCpus(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)(m?)$/.exec(text.trim());
  if (!match) return undefined;
  const millis = Number(match[1]) * (match[2] === 'm' ? 1 : 1000);
  const whole = Math.round(millis);
  return Math.abs(whole - millis) < 1e-6 && Number.isSafeInteger(whole) ? whole : undefined;
}

/**
 * `30s`, `5m`, `1h30m`, `250ms`, `2d`; a bare number is seconds.
 *
 * @returns whole milliseconds, or undefined
 */
export function parseDuration(text: string): number | undefined {
  const trimmed = text.trim();
  if (/^\d+(\.\d+)?$/.test(trimmed)) return Math.round(Number(trimmed) * 1000);
  if (!/^(\d+(\.\d+)?(ms|s|m|h|d|w))+$/.test(trimmed)) return undefined;
  let ms = 0;
  for (const part of trimmed.matchAll(/(\d+(?:\.\d+)?)(ms|[smhdw])/g)) {
    ms += Number(part[1]) * (DURATION_MS[part[2] ?? ''] ?? Number.NaN);
  }
  return Number.isSafeInteger(Math.round(ms)) ? Math.round(ms) : undefined;
}

/** `0.5`, `2`, `0.125`. */
export function formatCpus(cpuMillis: number): string {
  return String(cpuMillis / 1000);
}

/** `128M`, `1.5G`, `2T`: the largest unit in which the number is at least 1. */
export function formatMib(memMib: number): string {
  return formatBytes(memMib * MIB);
}

/** `0B`, `512B`, `1.5K`, `255.9M`; one decimal at most, and none that is zero. */
export function formatBytes(bytes: number): string {
  const sign = bytes < 0 ? '-' : '';
  let rest = Math.abs(bytes);
  let unit = 0;
  while (rest >= 1024 && unit < 4) {
    rest /= 1024;
    unit += 1;
  }
  // Truncated and not rounded: a peak below the limit is never shown as the limit itself.
  return `${sign}${String(Math.floor(rest * 10) / 10)}${'BKMGT'.charAt(unit)}`;
}

/** `850ms`, `1.2s`, `42s`, `3m20s`, `5h12m`, `9d4h`. */
export function formatDuration(ms: number): string {
  if (ms < 0) return `-${formatDuration(-ms)}`;
  if (ms < 1000) return `${String(Math.round(ms))}ms`;
  if (ms < 10_000) return `${String(Math.floor(ms / 100) / 10)}s`;
  const seconds = Math.floor(ms / 1000);
  if (seconds < 60) return `${String(seconds)}s`;
  if (seconds < 3600) return pair(seconds, 60, 'm', 's');
  if (seconds < 86_400) return pair(Math.floor(seconds / 60), 60, 'h', 'm');
  return pair(Math.floor(seconds / 3600), 24, 'd', 'h');
}

function pair(amount: number, base: number, big: string, small: string): string {
  const rest = amount % base;
  return `${String(Math.floor(amount / base))}${big}${rest > 0 ? `${String(rest)}${small}` : ''}`;
}
