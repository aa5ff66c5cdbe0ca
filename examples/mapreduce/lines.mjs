/**
 * Text files as MapReduce reads and writes them: the lines of a split, and writers that keep little in memory. All of it
 * is synchronous, because it runs in the process of one attempt, which has nothing else to do.
 */
import { closeSync, fstatSync, fsyncSync, openSync, readSync, writeSync } from 'node:fs';

const NEWLINE = 10;
const READ_BYTES = 256 * 1024;
const WRITE_CHARS = 64 * 1024;
/** A longer line would take the memory of the whole attempt. */
const LINE_MAX_BYTES = 64 * 1024 * 1024;

/**
 * The lines whose first byte is in [start, end): so each line of a file belongs to exactly one of its splits, however
 * they cut it. A split that begins in the middle of a line leaves that line to the one before, and reads its own last line
 * to the end, which may be beyond its own.
 *
 * @param path of a regular file
 * @param options.encoding of the lines that are given out: `latin1` keeps every byte as it is, as one character
 * @param options.cursor its `offset` is that of the line that was given out last
 * @throws Error if the file is shorter than `end`, or has a line of more than `lineMaxBytes` (default 64 MiB)
 */
export function* linesIn(path, options) {
  const { start, end, encoding, cursor = {} } = options;
  const { readBytes = READ_BYTES, lineMaxBytes = LINE_MAX_BYTES } = options;
  const file = openSync(path, 'r');
  try {
    checkLength(file, path, end);
    const chunk = Buffer.allocUnsafe(readBytes);
    // The byte before says whether a line begins at the start itself.
    let isSkipping = start > 0;
    let chunkOffset = isSkipping ? start - 1 : start;
    cursor.offset = chunkOffset;
    let pieces = [];
    let piecesBytes = 0;
    for (;;) {
      const length = readSync(file, chunk, 0, readBytes, chunkOffset);
      if (length === 0) break;
      const read = chunk.subarray(0, length);
      let from = 0;
      for (;;) {
        if (!isSkipping && piecesBytes === 0) {
          cursor.offset = chunkOffset + from;
          if (cursor.offset >= end) return;
        }
        const newline = read.indexOf(NEWLINE, from);
        if (newline === -1) break;
        if (isSkipping) isSkipping = false;
        else if (piecesBytes === 0) yield read.toString(encoding, from, newline);
        else {
          pieces.push(read.subarray(from, newline));
          yield Buffer.concat(pieces).toString(encoding);
          pieces = [];
          piecesBytes = 0;
        }
        from = newline + 1;
      }
      if (!isSkipping && from < length) {
        pieces.push(Buffer.from(read.subarray(from)));
        piecesBytes += length - from;
        if (piecesBytes > lineMaxBytes) throw tooLong(path, cursor.offset, lineMaxBytes);
      }
      chunkOffset += length;
      if (isSkipping && chunkOffset >= end) return;
    }
    if (piecesBytes > 0) yield Buffer.concat(pieces).toString(encoding);
  } finally {
    closeSync(file);
  }
}

function checkLength(file, path, end) {
  const stat = fstatSync(file);
  if (!stat.isFile()) throw new Error(`${path} is not a regular file`);
  if (stat.size >= end) return;
  throw new Error(
    `${path} has ${stat.size} bytes, and should have ${end} at least: it has changed`,
  );
}

function tooLong(path, offset, lineMaxBytes) {
  return new Error(
    `${path} has a line of more than ${lineMaxBytes / 1048576} MiB at byte ${offset}: too long for this memory`,
  );
}

/** A new file that is written piece by piece. */
export class TextWriter {
  #file;
  #encoding;
  #pieces = [];
  #chars = 0;
  /** Written to the file so far. */
  bytes = 0;

  /**
   * @param path must not exist
   * @throws Error of the operating system
   */
  constructor(path, encoding) {
    this.#file = openSync(path, 'wx');
    this.#encoding = encoding;
  }

  /** @throws Error of the operating system, or if the encoding has no byte for a character */
  write(text) {
    this.#pieces.push(text);
    this.#chars += text.length;
    if (this.#chars >= WRITE_CHARS) this.flush();
  }

  flush() {
    const text = this.#pieces.join('');
    this.#pieces = [];
    this.#chars = 0;
    if (this.#encoding === 'latin1' && /[^\0-\xff]/.test(text)) {
      throw new Error('the output has characters that its encoding, latin1, does not have');
    }
    const bytes = Buffer.from(text, this.#encoding);
    for (let from = 0; from < bytes.length;) from += writeSync(this.#file, bytes, from);
    this.bytes += bytes.length;
  }

  /** @param isDurable true to be on disk before this returns */
  close(isDurable = false) {
    try {
      this.flush();
      if (isDurable) fsyncSync(this.#file);
    } finally {
      closeSync(this.#file);
    }
  }

  /** Without what has not been written yet. */
  abandon() {
    closeSync(this.#file);
  }
}
