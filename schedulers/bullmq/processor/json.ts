/** What a processor hands over, as JSON: with words for what JSON cannot carry, and for what is too much. */
import { messageOf } from '../../../protocol/errors.ts';
import type { ProcessorError, ProcessorOutcome } from '../processor-messages.ts';

/** JSON of a result, or of one call, bytes. */
const VALUE_MAX_BYTES = 1_048_576;
/** Of a stack. An error is told in one message, also if it comes from the depths of a recursion. */
const STACK_MAX_CHARS = 16_000;
const MESSAGE_MAX_CHARS = 16_000;

/**
 * @param what names the value for people: `the result`
 * @throws Error with words for the author of the processor
 */
export function toJson(value: unknown, what: string): string {
  const text = stringify(value, what);
  // No sign has more than three bytes in UTF-8 for each of its characters here: most texts need not be counted.
  if (text.length * 3 <= VALUE_MAX_BYTES) return text;
  const bytes = Buffer.byteLength(text);
  if (bytes <= VALUE_MAX_BYTES) return text;
  throw new Error(
    `${what} is too large: ${String(bytes)} bytes of JSON, at most ${String(VALUE_MAX_BYTES)} are allowed`,
  );
}

function stringify(value: unknown, what: string): string {
  try {
    // Undefined, a function, a symbol: what JSON has for them is nothing, or null.
    return JSON.stringify(value) ?? 'null';
  } catch (error) {
    throw new Error(`${what} cannot be written as JSON: ${messageOf(error)}`, { cause: error });
  }
}

/** Anything that was thrown, as an error that crosses a wire; the kind of it (`UnrecoverableError`) is in its name. */
export function toProcessorError(thrown: unknown): ProcessorError {
  const error = isErrorLike(thrown) ? thrown : new Error(textOf(thrown));
  const { name, message, stack } = error;
  return {
    name: typeof name === 'string' && name !== '' ? name : 'Error',
    message: textOf(message).slice(0, MESSAGE_MAX_CHARS),
    ...(typeof stack === 'string' && { stack: stack.slice(0, STACK_MAX_CHARS) }),
  };
}

function isErrorLike(
  thrown: unknown,
): thrown is { name: unknown; message: unknown; stack: unknown } {
  return typeof thrown === 'object' && thrown !== null && 'message' in thrown;
}

function textOf(value: unknown): string {
  try {
    return String(value);
  } catch {
    // An object without a prototype, for example.
    return 'something that has no words';
  }
}

/** An end of a job, ready to be sent. */
export interface WrittenOutcome {
  readonly kind: ProcessorOutcome['outcome'];
  /** JSON of `ProcessorOutcome`. */
  readonly outcome: string;
  /** In short, of an error. */
  readonly words?: string;
}

/** @throws Error as `toJson` */
export function returned(value: unknown): WrittenOutcome {
  return {
    kind: 'returned',
    outcome: `{"outcome":"returned","value":${toJson(value, 'the result')}}`,
  };
}

/** Of an error that was thrown, or of anything else that was. */
export function threw(thrown: unknown): WrittenOutcome {
  const error = toProcessorError(thrown);
  const outcome: ProcessorOutcome = { outcome: 'threw', error };
  return {
    kind: 'threw',
    outcome: JSON.stringify(outcome),
    words: `${error.name}: ${error.message}`.slice(0, 1000),
  };
}
