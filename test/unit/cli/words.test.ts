import { describe, expect, test } from '@jest/globals';
import { paintFor, plain } from '../../../cli/style.ts';
import {
  escapeControls,
  formatBar,
  formatPercent,
  formatUse,
  quoteArgv,
  shortState,
} from '../../../cli/words.ts';

describe('words', () => {
  test('states are short and lower case', () => {
    expect(shortState('TASK_GONE_BY_OPERATOR')).toBe('gone by operator');
  });

  test.each([
    [0, 4, '0%'],
    [1, 1000, '0.1%'],
    [999, 1000, '99%'],
    [4, 4, '100%'],
    [1, 0, '-'],
  ])('%d of %d is %s', (part, whole, text) => {
    expect(formatPercent(part, whole)).toBe(text);
  });

  test.each([
    [0, 10, '[----------]'],
    [0.001, 10, '[#---------]'],
    [9.99, 10, '[#########-]'],
    [10, 10, '[##########]'],
    [11, 10, '[##########]'],
    [1, 0, '[----------]'],
  ])('the bar of %d of %d is %s', (part, whole, text) => {
    expect(formatBar(part, whole, 10)).toBe(text);
  });

  test('a peak just below its limit is not shown as the limit', () => {
    expect(formatUse(67_108_863, 67_108_864)).toBe('63.9M of 64M (99%)');
  });

  test('a command line can be pasted into a shell', () => {
    expect(quoteArgv(['sh', '-c', "echo 'a b'", ''])).toBe("sh -c 'echo '\\''a b'\\''' ''");
  });

  test('what moves the cursor or turns the line is escaped', () => {
    expect(escapeControls('a\tb\r\x00\u200fé')).toBe('a\\tb\\r\\x00\\u{200f}é');
  });
});

describe('colours', () => {
  test('are for terminals', () => {
    expect(paintFor({ isTTY: true }, {})('red', 'x')).toBe('\x1b[31mx\x1b[39m');
    expect(paintFor({ isTTY: false }, {})).toBe(plain);
  });

  test('are off with NO_COLOR, unless it is empty, and on a dumb terminal', () => {
    expect(paintFor({ isTTY: true }, { NO_COLOR: '1' })).toBe(plain);
    expect(paintFor({ isTTY: true }, { NO_COLOR: '' })).not.toBe(plain);
    expect(paintFor({ isTTY: true }, { TERM: 'dumb' })).toBe(plain);
  });
});
