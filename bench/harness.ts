/** What every benchmark shares: the shape of a result, medians, a calibration of the machine, CPU and memory of processes. */
import { readFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { formatBytes } from '../protocol/quantities.ts';

/** One number, with the mark it is held against. */
export interface Figure {
  readonly name: string;
  readonly value: number;
  /** `/s`, `ms`, `MB`, `x` (a ratio), `us/task`, ... */
  readonly unit: string;
  readonly mark?: { readonly atLeast: number } | { readonly atMost: number };
}

/** What one benchmark found. */
export interface BenchResult {
  readonly name: string;
  /** What is measured against what, in one or two sentences. */
  readonly about: string;
  readonly figures: readonly Figure[];
  /** What a reader must know to use the numbers. */
  readonly notes: readonly string[];
}

/** @returns true if there is no mark, or it is met */
export function meetsMark({ value, mark }: Figure): boolean {
  if (mark === undefined) return true;
  return 'atLeast' in mark ? value >= mark.atLeast : value <= mark.atMost;
}

/** @returns the value below which a share `p` of the values lies (nearest rank); NaN for none */
export function percentile(values: readonly number[], p: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * p))] ?? NaN;
}

/** The middle one. */
export function median(values: readonly number[]): number {
  return percentile(values, 0.5);
}

/** Milliseconds for a loop of 3e8 steps, median of 3 parts times 10: compares machines, and this one with itself. */
export function calibrate(): number {
  const parts = [0, 1, 2].map(() => {
    const startedAtMs = performance.now();
    let sum = 0;
    for (let step = 0; step < 3e7; step += 1) sum += step % 7;
    return sum > 0 ? (performance.now() - startedAtMs) * 10 : 0;
  });
  return median(parts);
}

/** The machine in a line. */
export function describeMachine(): string {
  const model = cpus()[0]?.model.trim() ?? 'unknown CPU';
  return `${String(cpus().length)} x ${model}, ${formatBytes(totalmem())}, Linux ${release()}, Node ${process.version}`;
}

/** proc(5): user and system time of a process with its threads, milliseconds (in steps of a clock tick, 10 ms). */
export function cpuMsOf(pid: number): number {
  const stat = readFileSync(`/proc/${String(pid)}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

/** Resident memory of a process, megabytes (10^6). */
export function residentMbOf(pid: number): number {
  const kib = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${String(pid)}/status`, 'utf8'))?.[1];
  return (Number(kib) * 1024) / 1e6;
}
