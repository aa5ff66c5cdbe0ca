/**
 * Tables of text: columns as wide as their content, two spaces between them. On a terminal a line never wraps: columns
 * that may shrink do, then the line is cut. Into a file or pipe everything is written whole.
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
  /** May be cut on a narrow terminal. Default false. */
  readonly shrinks?: boolean;
}

/** How a table is written. */
export interface TableOptions {
  /** Columns of the terminal; undefined: not a terminal, nothing is cut. */
  readonly width: number | undefined;
  /** For the titles. */
  readonly paint: Paint;
}

const GAP = '  ';
/** A column that shrinks keeps so many characters, or its title. */
const SHRUNK_MIN = 8;

/** @returns the lines of the table, each with its newline; the titles alone if there are no rows */
export function formatTable<T>(
  columns: readonly Column<T>[],
  rows: readonly T[],
  { width, paint }: TableOptions,
): string {
  const cells = rows.map((row) => columns.map((column) => escapeControls(column.text(row))));
  const widths = columns.map(({ title }, index) =>
    cells.reduce((widest, row) => Math.max(widest, lengthOf(row[index] ?? '')), title.length),
  );
  if (width !== undefined) shrink(widths, columns, width);
  const titles = columns.map(({ title }) => title);
  const lines = [joinCells(columns, titles, widths, (text) => paint('bold', text))];
  rows.forEach((row, index) => {
    const painted = (text: string, at: number): string => columns[at]?.paint?.(text, row) ?? text;
    lines.push(joinCells(columns, cells[index] ?? [], widths, painted));
  });
  return lines.map((line) => `${line}\n`).join('');
}

/** Takes what is too much from the columns that may shrink, the last one first; then from the end of the line. */
function shrink<T>(widths: number[], columns: readonly Column<T>[], width: number): void {
  let excess = widths.reduce((sum, one) => sum + one + GAP.length, -GAP.length) - width;
  const take = (index: number, least: number): void => {
    const taken = Math.min(Math.max(0, excess), Math.max(0, (widths[index] ?? 0) - least));
    widths[index] = (widths[index] ?? 0) - taken;
    excess -= taken;
  };
  for (let index = columns.length - 1; index >= 0; index -= 1) {
    const { shrinks = false, title = '' } = columns[index] ?? {};
    if (shrinks) take(index, Math.max(SHRUNK_MIN, title.length));
  }
  for (let index = columns.length - 1; index > 0 && excess > 0; index -= 1) {
    take(index, 0);
    // A column of no width does not need its gap either.
    if (widths[index] === 0) excess -= GAP.length;
  }
}

function joinCells<T>(
  columns: readonly Column<T>[],
  cells: readonly string[],
  widths: readonly number[],
  paint: (text: string, index: number) => string,
): string {
  const parts: string[] = [];
  columns.forEach(({ align = 'left' }, index) => {
    const width = widths[index] ?? 0;
    if (width === 0) return;
    const text = cut(cells[index] ?? '', width);
    const padding = ' '.repeat(Math.max(0, width - lengthOf(text)));
    const painted = paint(text, index);
    parts.push(align === 'right' ? padding + painted : painted + padding);
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
