import { describe, expect, test } from '@jest/globals';
import { plain } from '../../../cli/style.ts';
import { formatTable } from '../../../cli/table.ts';
import type { Column } from '../../../cli/table.ts';

interface Row {
  readonly id: string;
  readonly count: number;
  readonly message: string;
}

const COLUMNS: Column<Row>[] = [
  { title: 'ID', text: ({ id }) => id },
  { title: 'COUNT', text: ({ count }) => String(count), align: 'right', isSpare: true },
  { title: 'MESSAGE', text: ({ message }) => message, shrinksTo: 8 },
];
const ROWS: Row[] = [
  { id: 'web.x7k2', count: 3, message: 'exited with code 0' },
  { id: 'a', count: 12345678, message: '' },
];

const table = (width: number | undefined, rows = ROWS): string =>
  formatTable(COLUMNS, rows, { width, paint: plain });

describe('a table', () => {
  test('is as wide as its content where there is no terminal', () => {
    expect(table(undefined)).toBe(
      [
        'ID           COUNT  MESSAGE',
        'web.x7k2         3  exited with code 0',
        'a         12345678',
        '',
      ].join('\n'),
    );
  });

  test('cuts what may shrink to the width of the terminal', () => {
    expect(table(30)).toBe(
      [
        'ID           COUNT  MESSAGE',
        'web.x7k2         3  exited wi…',
        'a         12345678',
        '',
      ].join('\n'),
    );
  });

  test('leaves out what can be spared before it cuts anything else', () => {
    expect(table(20)).toBe(['ID        MESSAGE', 'web.x7k2  exited wi…', 'a', ''].join('\n'));
  });

  test.each([1, 5, 9, 17, 24, 60])('never has a line of more than %d columns', (width) => {
    const lines = table(width).split('\n');
    expect(Math.max(...lines.map((line) => [...line].length))).toBeLessThanOrEqual(width);
  });

  test('shows control characters instead of sending them to the terminal', () => {
    const rows = [{ id: 'a\n\x1b[31m', count: 1, message: 'turned\u202eround' }];
    expect(table(undefined, rows).split('\n')[1]).toBe(
      'a\\n\\x1b[31m      1  turned\\u{202e}round',
    );
  });

  test('colours a cell without changing where the next one begins', () => {
    const paint = (_look: string, text: string): string => `<${text}>`;
    const columns: Column<Row>[] = [
      { title: 'ID', text: ({ id }) => id, paint: (text) => `<${text}>` },
      { title: 'N', text: () => '1' },
    ];
    expect(formatTable(columns, ROWS, { width: undefined, paint })).toBe(
      ['<ID>        <N>', '<web.x7k2>  1', '<a>         1', ''].join('\n'),
    );
  });

  test('has its titles even if there are no rows', () => {
    expect(table(undefined, [])).toBe('ID  COUNT  MESSAGE\n');
  });
});
