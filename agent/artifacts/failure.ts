/** Words for whatever goes wrong with an artifact: which one, and why, for the person who named it. */
import { codeOf, KaonError, messageOf } from '../../protocol/errors.ts';

const LABEL_MAX_CHARS = 200;
/** With the label far less than what a status update may say. */
const WORDS_MAX_CHARS = 2000;

const WORDS: Readonly<Record<string, string>> = {
  EACCES: 'permission denied',
  EAI_AGAIN: 'the name of the host could not be looked up',
  ECONNREFUSED: 'connection refused',
  ECONNRESET: 'the connection broke off',
  EDQUOT: 'disk quota exceeded',
  EHOSTUNREACH: 'the host cannot be reached',
  EISDIR: 'it is a directory',
  ELOOP: 'too many symbolic links',
  ENAMETOOLONG: 'its name is too long',
  ENETUNREACH: 'the network cannot be reached',
  ENOENT: 'no such file',
  ENOSPC: 'no space left on the disk',
  ENOTDIR: 'no such file',
  ENOTFOUND: 'no such host',
  EPERM: 'permission denied',
  EPIPE: 'the connection broke off',
  EROFS: 'the file system is read-only',
  ETIMEDOUT: 'no answer',
};

/** An artifact that must not be or cannot be fetched, in words that go behind its name. */
export function refused(words: string, cause?: unknown): KaonError {
  return new KaonError('artifact-refused', words, { cause });
}

/** @throws KaonError `artifact-refused` with both digests, if they differ */
export function refuseOtherDigest(found: string, wanted: string): void {
  if (found !== wanted) throw refused(`its sha256 is ${found}, not ${wanted}`);
}

/** Why, of anything that was thrown. */
export function describeFailure(error: unknown): string {
  return WORDS[codeOf(error) ?? ''] ?? messageOf(error);
}

/** The failure of a whole fetch: `artifact http://host/file: status 404`. */
export function artifactFailed(label: string, error: unknown): KaonError {
  const words = describeFailure(error).slice(0, WORDS_MAX_CHARS);
  return new KaonError('artifact-failed', `artifact ${label}: ${words}`, { cause: error });
}

/** What a fetch rejects with when its signal was aborted. */
export function artifactCancelled(): KaonError {
  return new KaonError('artifact-cancelled', 'fetching artifacts was cancelled');
}

/**
 * The name of an artifact for messages and logs. Without user, password and query, which may be secrets, and without the
 * content of a `data:` URI.
 */
export function labelOf(uri: string): string {
  if (/^data:/i.test(uri)) return `${shorten(uri.split(',', 1)[0] ?? '')},...`;
  if (!/^https?:/i.test(uri) || !URL.canParse(uri)) return shorten(uri);
  const { protocol, host, pathname, search } = new URL(uri);
  return shorten(`${protocol}//${host}${pathname}${search === '' ? '' : '?...'}`);
}

/** @returns the text as a terminal can take it, cut off where it is too long for a message */
export function shorten(text: string): string {
  const start = text.slice(0, LABEL_MAX_CHARS).replace(/\p{Cc}/gu, '?');
  return text.length <= LABEL_MAX_CHARS ? start : `${start}...`;
}
