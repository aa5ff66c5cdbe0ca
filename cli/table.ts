/**
 * Tables of text: columns as wide as their content, two spaces between them. On a terminal a line never wraps: columns
 * that can be spared are left out, those that may shrink do, then the line is cut. A file or pipe gets everything.
 */
import type { Paint } from './style.ts';
import { escapeControls } from './words.ts';

/** One column over rows of type `T`. */
export interface Column<T> {
  readonly title: string;
  /** What a cell says; control characters in it are escaped. */
  readonly text: (row: T) => string;
  /** Colours a cell: gets the text as it will be shown, returns it with the same visible width. */
  readonly paint?: (text: string, row: T) => string;
  /** Default `left`; numbers are easier to compare `right`. */
  readonly align?: 'left' | 'right';
  /** May be cut to so many characters (or its title's) on a narrow terminal. Default: it is not cut. */
  readonly shrinksTo?: number;
  /** Left out first on a narrow terminal. Default false. */
  readonly isSpare?: boolean;
}

/** How a table is written. */
export interface TableOptions {
  /** Columns of the terminal; undefined: not a terminal, nothing is cut. */
  readonly width: number | undefined;
  /** For the titles. */
  readonly paint: Paint;
}

const GAP = '  ';

/** A column, its cells as text, and how many characters wide it is shown. */
interface Filled<T> {
  readonly column: Column<T>;
  readonly cells: readonly string[];
  width: number;
}

/** @returns the lines of the table, each with its newline; the titles alone if there are no rows */
export function formatTable<T>(
  columns: readonly Column<T>[],
  rows: readonly T[],
  { width, paint }: TableOptions,
): string {
  const filled = columns.map((column) => fill(column, rows));
  const shown = width === undefined ? filled : fit(filled, width);
  const titles = shown.map(({ column }) => column.title);
  const lines = [joinCells(shown, titles, (text) => paint('bold', text))];
  rows.forEach((row, index) => {
    const cells = shown.map((one) => one.cells[index] ?? '');
    lines.push(joinCells(shown, cells, (text, { paint: color }) => color?.(text, row) ?? text));
  });
  return lines.map((line) => `${line}\n`).join('');
}

function fill<T>(column: Column<T>, rows: readonly T[]): Filled<T> {
  const cells = rows.map((row) => escapeControls(column.text(row)));
  const width = cells.reduce(
    (widest, cell) => Math.max(widest, lengthOf(cell)),
    column.title.length,
  );
  return { column, cells, width };
}

/** @returns the columns to show, with widths that sum up to `width` at most */
function fit<T>(filled: readonly Filled<T>[], width: number): Filled<T>[] {
  const shown = [...filled];
  const over = (widthOf: (one: Filled<T>) => number): number =>
    shown.reduce((sum, one) => sum + widthOf(one) + GAP.length, -GAP.length) - width;
  while (over(leastWidth) > 0) {
    const spare = shown.findIndex(({ column }) => column.isSpare === true);
    if (spare < 0) break;
    shown.splice(spare, 1);
  }
  // The last columns first: what stands at the end is said in most words.
  for (const one of shown.toReversed()) {
    one.width = Math.max(
      leastWidth(one),
      one.width -
        Math.max(
          0,
          over(({ width: current }) => current),
        ),
    );
  }
  for (let last = shown.at(-1); last; last = shown.at(-1)) {
    const excess = over(({ width: current }) => current);
    if (excess <= 0) break;
    if (last.width > excess || shown.length === 1) last.width = Math.max(1, last.width - excess);
    else shown.pop();
  }
  return shown;
}

function leastWidth<T>({ column, width }: Filled<T>): number {
  const { shrinksTo, title } = column;
  return shrinksTo === undefined ? width : Math.min(width, Math.max(shrinksTo, title.length));
}

function joinCells<T>(
  shown: readonly Filled<T>[],
  cells: readonly string[],
  paint: (text: string, column: Column<T>) => string,
): string {
  const parts = shown.map(({ column, width }, index) => {
    const text = cut(cells[index] ?? '', width);
    const padding = ' '.repeat(width - lengthOf(text));
    return column.align === 'right' ? padding + paint(text, column) : paint(text, column) + padding;
  });
  return parts.join(GAP).trimEnd();
}

function lengthOf(text: string): number {
  return [...text].length;
}

function cut(text: string, width: number): string {
  const characters = [...text];
  if (characters.length <= width) return text;
  return `${characters.slice(0, Math.max(0, width - 1)).join('')}…`;
}
