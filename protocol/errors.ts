/**
 * `KaonError`: an operation that failed for a reason outside the code (Redis gone, unit not started, no permission).
 * Told apart by `code`, because `instanceof` does not hold across realms and copies of the package.
 */

/** What else a `KaonError` may carry. */
export interface KaonErrorDetails {
  readonly cause?: unknown;
  /** What to do about it, in one sentence, for the person who reads the message. */
  readonly hint?: string;
}

/**
 * `code` is for programs (`redis-unreachable`), the message for people: what was attempted and what was
 * found.
 */
export class KaonError extends Error {
  readonly code: string;
  readonly hint: string | undefined;

  constructor(code: string, message: string, details: KaonErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = 'KaonError';
    this.code = code;
    this.hint = details.hint;
  }
}

/** The `code` of anything that was thrown: KaonError's, Node's (`ECONNREFUSED`), or undefined. */
export function codeOf(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === 'string' ? code : undefined;
}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  return (error as { message?: unknown } | null)?.message === undefined
    ? String(error)
    : String((error as { message: unknown }).message);
}
