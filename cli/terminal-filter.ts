/**
 * What a task has printed, made fit for a terminal: text, line ends, tabs, colours. Other sequences could rename the window, write
 * to the clipboard, answer in the reader's name, or make lines look like the prompt; they are shown, and not obeyed.
 */

const ESC = 0x1b;
/** ECMA-48, "SGR": `ESC [`, numbers, `m`. Longer than any that is meant. */
const COLOUR = /^\u001b\[[0-9;:]{0,64}m/;
const UNFINISHED_COLOUR = /^\u001b(\[[0-9;:]{0,64})?$/;
/** The first byte of U+0080 to U+009F in UTF-8: controls that some terminals obey as they obey ESC. */
const C1_LEAD = 0xc2;
const ALLOWED = new Set([0x08, 0x09, 0x0a, 0x0d]);

/** One stream of output, in pieces that may be cut anywhere. */
export class TerminalFilter {
  #rest: Buffer = Buffer.alloc(0);

  /** @returns the piece and what was kept of the one before, less what may go on in the next */
  push(bytes: Buffer): Buffer {
    const text = Buffer.concat([this.#rest, bytes]);
    this.#rest = Buffer.alloc(0);
    const parts: Buffer[] = [];
    let plainFrom = 0;
    for (let at = 0; at < text.length;) {
      const found = this.#look(text, at);
      if (found === 0) {
        at += 1;
        continue;
      }
      parts.push(text.subarray(plainFrom, at));
      if (found === undefined) {
        this.#rest = Buffer.from(text.subarray(at));
        return Buffer.concat(parts);
      }
      parts.push(Buffer.from(shown(text.subarray(at, at + found))));
      at += found;
      plainFrom = at;
    }
    parts.push(text.subarray(plainFrom));
    return Buffer.concat(parts);
  }

  /** @returns what was kept: the output has ended, and with it what it began */
  flush(): Buffer {
    const rest = shown(this.#rest);
    this.#rest = Buffer.alloc(0);
    return Buffer.from(rest);
  }

  /** @returns how many bytes from there on must not be obeyed, 0 if none; undefined if the next piece decides */
  #look(text: Buffer, at: number): number | undefined {
    const byte = text[at] ?? 0;
    if (byte === C1_LEAD) {
      const next = text[at + 1];
      if (next === undefined) return undefined;
      return next >= 0x80 && next <= 0x9f ? 2 : 0;
    }
    if (byte !== ESC) return byte < 0x20 && !ALLOWED.has(byte) ? 1 : 0;
    const ahead = text.subarray(at, at + 68).toString('latin1');
    if (COLOUR.test(ahead)) return 0;
    return UNFINISHED_COLOUR.test(ahead) ? undefined : 1;
  }
}

/** As cat(1) shows them with `-v`, and without their meaning. */
function shown(bytes: Buffer): string {
  return [...bytes]
    .filter((byte) => byte !== C1_LEAD || bytes.length === 1)
    .map((byte) => {
      if (byte === C1_LEAD) return '\ufffd';
      if (byte >= 0x80) return `\\x${byte.toString(16)}`;
      return byte < 0x20 ? `^${String.fromCharCode(byte + 0x40)}` : String.fromCharCode(byte);
    })
    .join('');
}
