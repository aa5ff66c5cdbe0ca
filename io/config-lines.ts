/**
 * On which line a key of a TOML file stands. The parser keeps no places of keys, so this looks for them in the text: only for
 * messages, and a file written in an unusual way costs no more than the number of a line.
 */

/** `state-dir = ...`, `"state-dir" = ...`, `attribute.rack = ...` */
const ASSIGNMENT = /^\s*(?:"([^"]+)"|'([^']+)'|([\w-]+))\s*[.=]/;
/** `[attribute]`, `[[queues]]` */
const HEADER = /^\s*\[{1,2}\s*(?:"([^"]+)"|'([^']+)'|([\w-]+))/;

/** @returns the line, from 1, of each key of the outermost table: where it appears first */
export function linesOfKeys(text: string): Map<string, number> {
  const lines = new Map<string, number>();
  let isOutermost = true;
  text.split('\n').forEach((line, index) => {
    const header = HEADER.exec(line);
    const isHeader = header !== null && !/^\s*\[.*=/.test(line);
    if (isHeader) isOutermost = false;
    const found = isHeader ? header : isOutermost ? ASSIGNMENT.exec(line) : null;
    const key = found?.[1] ?? found?.[2] ?? found?.[3];
    if (key !== undefined && !lines.has(key)) lines.set(key, index + 1);
  });
  return lines;
}
