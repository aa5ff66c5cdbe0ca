/** Cuts a stream of text into lines, in time linear in its length however the text is chopped up. */

/** Bounds the memory that a peer can take with a line that does not end. */
const LINE_MAX_CHARS = 64 * 1024 * 1024;

/** Lines of one connection. */
export class LineSplitter {
  #parts: string[] = [];
  #partChars = 0;

  /** @returns the lines that this piece completes, without their ends; undefined if a line has grown too long */
  push(piece: string): string[] | undefined {
    const lines: string[] = [];
    let from = 0;
    for (let end = piece.indexOf('\n'); end !== -1; end = piece.indexOf('\n', from)) {
      lines.push(this.#take(piece.slice(from, end)));
      from = end + 1;
    }
    if (from < piece.length) {
      this.#parts.push(piece.slice(from));
      this.#partChars += piece.length - from;
    }
    return this.#partChars > LINE_MAX_CHARS ? undefined : lines;
  }

  #take(last: string): string {
    if (this.#parts.length === 0) return last;
    const line = this.#parts.join('') + last;
    this.#parts = [];
    this.#partChars = 0;
    return line;
  }
}
