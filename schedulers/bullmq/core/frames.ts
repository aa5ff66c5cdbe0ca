/**
 * Texts that are longer than one framework message: cut into frames, and put together again from frames that may come
 * twice, in any order, or not at all. What is kept of unfinished texts is bounded. Pure.
 */

/** Characters of one frame's text, at most. */
const PIECE_MAX_CHARS = 48_000;
/** JSON of such a text, characters: a message takes 64 Ki, and the rest of the frame needs its part. */
const PIECE_JSON_MAX_CHARS = 60_000;
const FRAME_MAX_PARTS = 1000;

/**
 * Longest text that is sent or put together, characters. A result of 1 MiB is carried as JSON in JSON, which can make two
 * characters of each one.
 */
export const FRAMED_TEXT_MAX_CHARS = 2 * 1_048_576 + 4096;

/** Whose text it is; both together name it. */
export interface FrameAddress {
  readonly taskId: string;
  readonly sequence: number;
}

/** A part of a text; `part` counts from 0. */
export interface FramePart extends FrameAddress {
  readonly part: number;
  readonly parts: number;
  readonly text: string;
}

/**
 * @param text at most `FRAMED_TEXT_MAX_CHARS`
 * @returns the JSON of each frame, in order; one frame for an empty text
 */
export function splitIntoFrames({ taskId, sequence }: FrameAddress, text: string): string[] {
  const pieces: string[] = [];
  for (let at = 0; at < text.length || at === 0;) {
    let piece = text.slice(at, at + PIECE_MAX_CHARS);
    // A text of quotes and backslashes gets twice as long once more; halving ends, since no sign takes more than six.
    while (JSON.stringify(piece).length > PIECE_JSON_MAX_CHARS) {
      piece = piece.slice(0, Math.ceil(piece.length / 2));
    }
    pieces.push(piece);
    at += Math.max(1, piece.length);
  }
  const parts = pieces.length;
  return pieces.map((piece, part) =>
    JSON.stringify({ taskId, sequence, part, parts, text: piece } satisfies FramePart),
  );
}

/** Bounds of an assembler. */
export interface AssemblerLimits {
  /** Texts of which something has come, but not all; beyond it the one that was begun first is given up. */
  readonly unfinishedMax: number;
}

interface Unfinished {
  readonly pieces: (string | undefined)[];
  missing: number;
  chars: number;
}

/** Changed in place by the functions of this file. */
export interface Assembler {
  readonly limits: AssemblerLimits;
  /** Keyed by address, oldest first. */
  readonly unfinished: Map<string, Unfinished>;
}

/** Nothing has come yet. */
export function createAssembler(limits: AssemblerLimits): Assembler {
  return { limits, unfinished: new Map() };
}

/**
 * Takes a frame. One that cannot be part of a text makes nothing of it be kept: whoever sends it sends it whole again.
 *
 * @returns the text, if this was the last missing part of it
 */
export function takeFrame(assembler: Assembler, frame: FramePart): string | undefined {
  const { part, parts, text } = frame;
  const key = keyOf(frame);
  if (parts > FRAME_MAX_PARTS || part >= parts) return undefined;
  if (parts === 1) {
    assembler.unfinished.delete(key);
    return text;
  }
  const entry = entryOf(assembler, key, parts);
  if (entry.pieces[part] !== undefined) return undefined;
  entry.pieces[part] = text;
  entry.missing -= 1;
  entry.chars += text.length;
  if (entry.chars > FRAMED_TEXT_MAX_CHARS) {
    assembler.unfinished.delete(key);
    return undefined;
  }
  if (entry.missing > 0) return undefined;
  assembler.unfinished.delete(key);
  return entry.pieces.join('');
}

/** Nothing of this text is wanted any more. */
export function dropFrames(assembler: Assembler, address: FrameAddress): void {
  assembler.unfinished.delete(keyOf(address));
}

function entryOf({ unfinished, limits }: Assembler, key: string, parts: number): Unfinished {
  const known = unfinished.get(key);
  if (known?.pieces.length === parts) return known;
  const entry: Unfinished = {
    pieces: Array.from({ length: parts }, () => undefined),
    missing: parts,
    chars: 0,
  };
  unfinished.delete(key);
  unfinished.set(key, entry);
  if (unfinished.size > limits.unfinishedMax) {
    const [oldest] = unfinished.keys();
    if (oldest !== undefined) unfinished.delete(oldest);
  }
  return entry;
}

function keyOf({ taskId, sequence }: FrameAddress): string {
  return `${String(sequence)} ${taskId}`;
}
