/**
 * Patterns with `*`, which stands for any characters or none; everything else stands for itself. Not regular expressions: of
 * these a few characters can keep a process busy for ever, and patterns come from users.
 */

/** Characters of a pattern. */
export const GLOB_MAX_CHARS = 256;

/** Does the whole text match? Cost: at most the lengths of both multiplied, in practice their sum. */
export function matchesGlob(pattern: string, text: string): boolean {
  const [first = '', ...rest] = pattern.split('*');
  const last = rest.pop();
  if (last === undefined) return text === pattern;
  if (text.length < first.length + last.length) return false;
  if (!text.startsWith(first) || !text.endsWith(last)) return false;
  const end = text.length - last.length;
  let from = first.length;
  // The leftmost place of each part leaves the most to those that follow.
  for (const part of rest) {
    const at = text.indexOf(part, from);
    if (at === -1 || at + part.length > end) return false;
    from = at + part.length;
  }
  return true;
}
