/** The last lines of an output, kept while it is written. Pure. */

/** The tail of a text, cut where a line begins. */
export function lastLines(text: string, maxChars: number): string {
  if (text.length <= maxChars) return text;
  const tail = text.slice(-maxChars);
  const lineAt = tail.indexOf('\n') + 1;
  // A line that is longer than all of it shows its end at least.
  return lineAt > 0 && lineAt < tail.length ? tail.slice(lineAt) : tail;
}
