/** Places in the event log, as people and programs write them. Pure. */

/**
 * The place after an event: `MS-N.I` after the I-th (from 1) of the entry `MS-N` of the stream, which holds the events of
 * one commit; `MS-N` after all of it.
 */
export interface EventPosition {
  readonly ms: number;
  readonly sequence: number;
  /** Infinity: after the whole entry. */
  readonly index: number;
}

/** @returns the place, or undefined if the text is not one */
export function parsePosition(text: string): EventPosition | undefined {
  const match = /^(\d{1,15})-(\d{1,15})(?:\.(\d{1,9}))?$/.exec(text);
  if (!match) return undefined;
  const index = match[3] === undefined ? Infinity : Number(match[3]);
  return { ms: Number(match[1]), sequence: Number(match[2]), index };
}

/** @returns less than 0 if `a` is before `b`, 0 if they are the same place */
export function comparePositions(a: EventPosition, b: EventPosition): number {
  return a.ms - b.ms || a.sequence - b.sequence || (a.index === b.index ? 0 : a.index - b.index);
}

/** @returns the entry of the stream: `MS-N` */
export function entryOf({ ms, sequence }: EventPosition): string {
  return `${String(ms)}-${String(sequence)}`;
}

/** @returns the place as it is written */
export function formatPosition(position: EventPosition): string {
  const { index } = position;
  return Number.isFinite(index) ? `${entryOf(position)}.${String(index)}` : entryOf(position);
}
