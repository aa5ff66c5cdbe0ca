/** Colours, for terminals only. Meaning never depends on them. */
import { styleText } from 'node:util';
import type { TaskState } from '../protocol/task-state.ts';
import { shortState } from './words.ts';

/** What text can be made to look like. */
export type Look = 'bold' | 'dim' | 'red' | 'green' | 'yellow' | 'cyan';

/** Wraps text in the look, or returns it as it is where there are no colours. */
export type Paint = (look: Look, text: string) => string;

/** No colours: what files, pipes and tests get. */
export const plain: Paint = (_look, text) => text;

/**
 * @param stream where the text goes
 * @param environment `NO_COLOR` (https://no-color.org) with any value but '' turns colours off, and so does a dumb terminal
 */
export function paintFor(
  stream: { readonly isTTY?: boolean },
  environment: Readonly<Record<string, string | undefined>> = process.env,
): Paint {
  const isOff = (environment['NO_COLOR'] ?? '') !== '' || environment['TERM'] === 'dumb';
  if (stream.isTTY !== true || isOff) return plain;
  // `styleText` would look at standard output by itself; what counts is the stream that the text goes to.
  return (look, text) => styleText(look, text, { validateStream: false });
}

const LOOK_OF_STATE: Readonly<Partial<Record<TaskState, Look>>> = {
  TASK_RUNNING: 'green',
  TASK_FINISHED: 'dim',
  TASK_KILLING: 'yellow',
  TASK_KILLED: 'yellow',
  TASK_UNREACHABLE: 'yellow',
  TASK_UNKNOWN: 'yellow',
  TASK_STAGING: 'cyan',
  TASK_STARTING: 'cyan',
};

/** @returns the state as tables show it: `running`, in its colour; ends that nobody wished for are red */
export function paintState(paint: Paint, state: TaskState): string {
  return paint(LOOK_OF_STATE[state] ?? 'red', shortState(state));
}
