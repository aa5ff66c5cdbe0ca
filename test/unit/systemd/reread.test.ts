import { describe, expect, test } from '@jest/globals';
import {
  isSafeArgument,
  isSafeDirectory,
  isSafeProgram,
  isSafeRoot,
  safeDescription,
} from '../../../systemd/reread.ts';

describe('what systemd reads again as it was told', () => {
  test.each(['', 'a b', 'A=1', '-x', '{a,b}', '(x)|&<>*?~#!^', 'Grüße 🦊'])(
    'is argument %j',
    (text) => {
      expect(isSafeArgument(text)).toBe(true);
    },
  );
  test.each(['$', 'a$b', ';', 'a;b', '"', "'", '\\', '%n', '\n', '\u007f'])(
    'is not argument %j',
    (text) => {
      expect(isSafeArgument(text)).toBe(false);
    },
  );
  test.each(['ls', '/bin/ls', '/opt/.venv/bin/python3.11', 'g++', '/a=b/c'])(
    'is program %j',
    (text) => {
      expect(isSafeProgram(text)).toBe(true);
    },
  );
  test.each([
    '',
    '/',
    '-x',
    '@x',
    '+x',
    '!x',
    ':x',
    '/a b',
    '/a//b',
    '/a/../b',
    '/a/',
    '/$a',
    '/ü',
  ])('is not program %j', (text) => {
    expect(isSafeProgram(text)).toBe(false);
  });
  test.each(['/tmp\nUser=root', '/tmp ', '/tmp\\', '/a b', 'tmp'])(
    'is not directory %j',
    (text) => {
      expect(isSafeDirectory(text)).toBe(false);
    },
  );
  test('is a state directory without what systemd escapes or expands', () => {
    expect(['/var/lib/kaon', '/home/jürgen/my data'].every(isSafeRoot)).toBe(true);
    expect(['/a$b', '/a\nb', '/a%b', '/a/../b'].some(isSafeRoot)).toBe(false);
  });
});

test('a description is one line, and does not go on into the next one', () => {
  expect(safeDescription(' a\nUser=root\r\n\tb \\')).toBe('a User=root b');
});
