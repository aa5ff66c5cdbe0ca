/** The `data` of a task's last update: how the processor ended, what has not been answered yet, its last words. */
import type { ProcessorCall } from '../processor-messages.ts';
import type { Numbered } from '../core/call-ledger.ts';

/** Outcome and calls, JSON; the limit of an update is 64 Ki. */
const END_MAX_CHARS = 60_000;
/** JSON of the output. */
const OUTPUT_JSON_MAX_CHARS = 5000;
/** An outcome beyond this is sent as a call if there is too much of everything. */
const OUTCOME_MAX_CHARS = 40_000;

/** What there is to tell at the end of a job. */
export interface TaskEnd {
  /** JSON of `ProcessorOutcome`; undefined if there is none, or it was sent as a call. */
  readonly outcome: string | undefined;
  readonly calls: readonly Numbered<ProcessorCall>[];
  readonly output: string;
}

/** Text for the update; or what has to be done first: make a call of the outcome, or wait for answers. */
export type WrittenEnd =
  | { readonly ok: true; readonly data: string }
  | { readonly ok: false; readonly isOutcomeTooLarge: boolean };

/** Writes the JSON of a `ProcessorEnd`, if it is not too much for an update. */
export function writeEnd({ outcome, calls, output }: TaskEnd): WrittenEnd {
  const callsText = calls.length === 0 ? '[]' : JSON.stringify(calls);
  const outcomeChars = outcome?.length ?? 0;
  if (outcomeChars + callsText.length > END_MAX_CHARS) {
    return { ok: false, isOutcomeTooLarge: outcomeChars > OUTCOME_MAX_CHARS };
  }
  const outcomeText = outcome === undefined ? '' : `"outcome":${outcome},`;
  return {
    ok: true,
    data: `{${outcomeText}"calls":${callsText},"output":${outputText(output)}}`,
  };
}

/** Escapes can make six characters of one. */
function outputText(output: string): string {
  let tail = output;
  while (JSON.stringify(tail).length > OUTPUT_JSON_MAX_CHARS) {
    tail = tail.slice(Math.ceil(tail.length / 4));
  }
  return JSON.stringify(tail);
}
