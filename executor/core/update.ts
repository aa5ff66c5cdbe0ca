/** What an author of an executor may say of a task, and what the agent would not take. Pure. */
import type { ExecutorTaskState, ExecutorUpdate } from '../../protocol/executor-messages.ts';
import { DATA_MAX_CHARS, TEXT_MAX_CHARS } from '../../protocol/limits.ts';
import { isExecutorState } from './states.ts';

/** A status update as an executor says it: the rest is added by the driver. */
export type UpdateDescription = Omit<
  ExecutorUpdate,
  'taskId' | 'launchId' | 'updateId' | 'state'
> & {
  readonly taskId: string;
  /** Default: the newest launch of the task. */
  readonly launchId?: string;
  readonly state: ExecutorTaskState;
};

/** Why something was not done, for a program and for a person. */
export interface Refusal {
  readonly ok: false;
  readonly code: string;
  readonly message: string;
}

type Check = (value: unknown) => boolean;

const wholeNumber =
  (min: number, max: number): Check =>
  (value) =>
    Number.isInteger(value) && (value as number) >= min && (value as number) <= max;

/** What the agent checks of each field, but for the length of the message, which is cut. */
const CHECKS: Readonly<Record<string, Check>> = {
  data: (value) => typeof value === 'string' && value.length <= DATA_MAX_CHARS,
  message: (value) => typeof value === 'string',
  reason: (value) => typeof value === 'string' && value.startsWith('REASON_'),
  healthy: (value) => typeof value === 'boolean',
  exitCode: wholeNumber(0, 255),
  signal: wholeNumber(1, 64),
  startedAtMs: wholeNumber(0, Number.MAX_SAFE_INTEGER),
  endedAtMs: wholeNumber(0, Number.MAX_SAFE_INTEGER),
};

/** @returns undefined if the agent will take it; `state-not-allowed` (rule L6) or `update-invalid` */
export function problemOfUpdate(update: UpdateDescription): Refusal | undefined {
  const { taskId, state } = update;
  if (!isExecutorState(state)) {
    return {
      ok: false,
      code: 'state-not-allowed',
      message: `an executor may not report ${String(state)} (of task ${taskId})`,
    };
  }
  for (const [field, value] of Object.entries(update)) {
    if (value === undefined || (CHECKS[field]?.(value) ?? true)) continue;
    const shown =
      typeof value === 'string' && value.length > 100
        ? `${String(value.length)} characters, at most ${String(DATA_MAX_CHARS)} are allowed`
        : JSON.stringify(value);
    return {
      ok: false,
      code: 'update-invalid',
      message: `the update ${state} of task ${taskId} has an invalid ${field}: ${shown}`,
    };
  }
  return undefined;
}

/** Words for people that are too long lose their end instead of the update. */
export function cutToSize(text: string): string {
  return text.length <= TEXT_MAX_CHARS ? text : text.slice(0, TEXT_MAX_CHARS);
}
