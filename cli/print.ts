/** How the listing commands write: a table for people, or JSON for programs. */
import type { Unreadable } from './registry.ts';
import { tellUnreadable } from './registry.ts';
import { paintFor } from './style.ts';
import type { Paint } from './style.ts';
import { formatTable } from './table.ts';
import type { Column } from './table.ts';

/** Writes a value as JSON, indented, with a newline. */
export function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
}

/** One listing. */
export interface Listing<T> {
  readonly rows: readonly T[];
  readonly columns: (paint: Paint) => readonly Column<T>[];
  /** What `--json` prints of a row. */
  readonly json: (row: T) => unknown;
  /** What is said, on standard error, where there are no rows: `no agents`. */
  readonly none: string;
  readonly unreadable: readonly Unreadable[];
}

/** Writes a listing, cut to the terminal unless it was asked for wide. Standard output gets nothing else. */
export function printListing<T>(listing: Listing<T>, how: { json: boolean; wide: boolean }): void {
  const { rows, columns, json, none, unreadable } = listing;
  tellUnreadable(unreadable);
  if (how.json) {
    printJson(rows.map(json));
    return;
  }
  if (rows.length === 0) {
    process.stderr.write(`${none}\n`);
    return;
  }
  const paint = paintFor(process.stdout);
  // A terminal that does not know its size says 0.
  const width = process.stdout.isTTY && !how.wide ? process.stdout.columns || undefined : undefined;
  process.stdout.write(formatTable(columns(paint), rows, { width, paint }));
}
