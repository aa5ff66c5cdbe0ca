/**
 * From what was thrown to what a person reads and what a script gets: two lines at most on standard error, and an exit
 * code. A stack trace only for what must not happen, because that is for whoever repairs Kaon.
 */
import { codeOf, KaonError, messageOf } from '../protocol/errors.ts';
import { escapeControls } from './words.ts';

/** Exit codes of every command but `kaon run`, which has its command's own; `kaon --help` documents them. */
export const EXIT_OK = 0;
export const EXIT_FAILED = 1;
export const EXIT_USAGE = 2;
export const EXIT_NOT_FOUND = 3;
export const EXIT_UNREACHABLE = 4;
/** EX_NOPERM of sysexits.h: the token is missing, not good, or not good for this. */
export const EXIT_FORBIDDEN = 77;
/** EX_CONFIG of sysexits.h: starting again cannot help, as the daemons' units say with `RestartPreventExitStatus=`. */
export const EXIT_CONFIG = 78;
export const EXIT_INTERRUPTED = 130;

const EXIT_CODES: Readonly<Record<string, number>> = {
  usage: EXIT_USAGE,
  ambiguous: EXIT_USAGE,
  'redis-url': EXIT_USAGE,
  'not-found': EXIT_NOT_FOUND,
  'redis-unreachable': EXIT_UNREACHABLE,
  'agent-unreachable': EXIT_UNREACHABLE,
  'agent-moved': EXIT_CONFIG,
  'agent-id-taken': EXIT_CONFIG,
  'agent-state': EXIT_CONFIG,
  'user-mode': EXIT_CONFIG,
  'limits-not-held': EXIT_CONFIG,
  'registry-too-new': EXIT_CONFIG,
  'redis-evicts': EXIT_CONFIG,
  'redis-too-old': EXIT_CONFIG,
  'redis-tls-file': EXIT_CONFIG,
  'api-listen': EXIT_CONFIG,
  'api-refused': EXIT_CONFIG,
  'api-tls': EXIT_CONFIG,
  'config-invalid': EXIT_CONFIG,
  credential: EXIT_CONFIG,
  'cluster-key': EXIT_CONFIG,
  'token-malformed': EXIT_CONFIG,
  'token-missing': EXIT_CONFIG,
  unauthenticated: EXIT_FORBIDDEN,
  forbidden: EXIT_FORBIDDEN,
  'token-forged': EXIT_FORBIDDEN,
  'token-unknown': EXIT_FORBIDDEN,
  'token-revoked': EXIT_FORBIDDEN,
  'token-rotated': EXIT_FORBIDDEN,
  'token-expired': EXIT_FORBIDDEN,
};

/** A command line that asks for something that does not exist or makes no sense. */
export function usageError(message: string, hint?: string): KaonError {
  return new KaonError('usage', message, hint === undefined ? {} : { hint });
}

/** @returns the exit code that stands for what was thrown */
export function exitCodeFor(error: unknown): number {
  return EXIT_CODES[codeOf(error) ?? ''] ?? EXIT_FAILED;
}

/** @returns what to write to standard error: `kaon: message`, a hint, and a stack only for a fault of Kaon itself */
export function describeFailure(error: unknown): string {
  const hint = (error as { hint?: unknown } | null)?.hint;
  // Lines are ours; what else moves the cursor may come from a task's name or a server's reply.
  const message = messageOf(error).split('\n').map(escapeControls).join('\n');
  const lines = [`kaon: ${message}`];
  if (typeof hint === 'string') lines.push(`hint: ${hint}`);
  if (!isOperating(error)) {
    const stack = error instanceof Error ? (error.stack ?? '') : '';
    lines.push(
      'this is a fault of Kaon; please report it with these lines:',
      stack.split('\n').slice(1).join('\n'),
    );
  }
  return `${lines.join('\n')}\n`;
}

/** Failures of the world have a code (ours, Node's, zod's none) or come from Redis; the rest are broken assumptions. */
function isOperating(error: unknown): boolean {
  const name = (error as { name?: unknown } | null)?.name;
  const code = codeOf(error);
  if (code !== undefined) return !code.startsWith('ERR_');
  return name === 'ReplyError' || name === 'ZodError';
}
