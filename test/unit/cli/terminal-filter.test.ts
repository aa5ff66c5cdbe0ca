import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { TerminalFilter } from '../../../cli/terminal-filter.ts';

function filtered(...pieces: (string | Buffer)[]): string {
  const filter = new TerminalFilter();
  const out = pieces.map((piece) => filter.push(Buffer.from(piece)));
  return Buffer.concat([...out, filter.flush()]).toString();
}

describe('output on a terminal', () => {
  test.each([
    ['text, tabs and line ends', 'a\tb\r\nGrüße 🦊\n', 'a\tb\r\nGrüße 🦊\n'],
    ['colours', '\u001b[1;31mred\u001b[0m\u001b[m', '\u001b[1;31mred\u001b[0m\u001b[m'],
    ['a cleared screen', '\u001b[2J\u001b[H', '^[[2J^[[H'],
    ['another title', '\u001b]0;mine\u0007', '^[]0;mine^G'],
    ['a write to the clipboard', '\u001b]52;c;aGk=\u001b\\', '^[]52;c;aGk=^[\\'],
    ['a question to the terminal', '\u001b[6n', '^[[6n'],
    ['a control of eight bits', '\u009b2J', '\\x9b2J'],
    ['a bell and a NUL', '\u0007\u0000', '^G^@'],
    ['an escape at the end', 'x\u001b', 'x^['],
    ['half a colour at the end', 'x\u001b[1;3', 'x^[[1;3'],
    ['other bytes of two', 'à\u00a0é', 'à\u00a0é'],
  ])('%s: %j is %j', (_what, text, shown) => {
    expect(filtered(text)).toBe(shown);
  });

  test('a colour that is cut between two pieces is still one', () => {
    expect(filtered('a\u001b', '[3', '1mb')).toBe('a\u001b[31mb');
  });

  test('however output is cut, the same is shown, and nothing that a terminal obeys but colours', () => {
    const piece = fc.constantFrom('a', '\u001b', '[', '31', ';', 'm', 'J', '\u009b', 'ü', '\u0007');
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 12 }), fc.nat(), (parts, cut) => {
        const bytes = Buffer.from(parts.join(''));
        const at = cut % (bytes.length + 1);
        const whole = filtered(bytes);
        expect(filtered(bytes.subarray(0, at), bytes.subarray(at))).toBe(whole);
        expect(whole.replaceAll(/\u001b\[[0-9;:]*m/g, '')).not.toMatch(
          /[\u001b\u0007\u0080-\u009f]/,
        );
      }),
    );
  });
});
