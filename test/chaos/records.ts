/** What a framework writes down, at once and in order, so that it and the checkers know it after any crash. */
import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import type { TaskStatus } from '../../protocol/task.ts';
import type { PlannedTask } from './tasks.ts';

/** `launch` is written before the launch is asked for, `kill` before the kill is. */
export type FrameworkRecord =
  | {
      readonly type: 'launch';
      readonly atMs: number;
      readonly agentId: string;
      readonly task: PlannedTask;
    }
  | {
      readonly type: 'kill';
      readonly atMs: number;
      readonly taskId: string;
      readonly by: 'framework' | 'operator';
    }
  | { readonly type: 'update'; readonly atMs: number; readonly status: TaskStatus }
  /** The driver gave up on its framework. */
  | { readonly type: 'aborted'; readonly atMs: number; readonly message: string }
  /** Nothing of it is open any more, and it wants nothing. */
  | { readonly type: 'drained'; readonly atMs: number };

export type NewRecord = FrameworkRecord extends infer R
  ? R extends unknown
    ? Omit<R, 'atMs'>
    : never
  : never;

export function appendRecord(path: string, record: NewRecord): FrameworkRecord {
  const stamped = { ...record, atMs: Date.now() } as FrameworkRecord;
  appendFileSync(path, `${JSON.stringify(stamped)}\n`);
  return stamped;
}

/** A last line that a SIGKILL cut short is left out. */
export function readRecords(path: string): FrameworkRecord[] {
  if (!existsSync(path)) return [];
  const text = readFileSync(path, 'utf8');
  const lines = text.slice(0, text.lastIndexOf('\n') + 1).split('\n');
  return lines.filter((line) => line !== '').map((line) => JSON.parse(line) as FrameworkRecord);
}
