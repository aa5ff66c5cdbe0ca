import { describe, expect, test } from '@jest/globals';
import { GLOB_MAX_CHARS, matchesGlob } from '../../../protocol/glob.ts';
import type { AttributeConstraint } from '../../../protocol/offer-constraints.ts';
import { OfferConstraints, satisfies, unsatisfied } from '../../../protocol/offer-constraints.ts';

describe('a pattern', () => {
  test.each([
    ['a', 'a', true],
    ['a', 'ab', false],
    ['', '', true],
    ['', 'a', false],
    ['*', '', true],
    ['*', 'anything', true],
    ['a*', 'a', true],
    ['*a', 'ba', true],
    ['a*a', 'a', false],
    ['a*a', 'aa', true],
    ['a*b*c', 'a-b-b-c', true],
    ['a*b*c', 'a-c-b', false],
    ['*b*', 'abc', true],
    ['**', '', true],
    ['a.c', 'abc', false],
    ['[a-z]+', 'b', false],
    ['ab*bc', 'abc', false],
    ['*ab*ab*', 'xabab', true],
    ['*ab*ab', 'xab', false],
  ])('%j matches %j: %p', (pattern, text, matches) => {
    expect(matchesGlob(pattern, text)).toBe(matches);
  });

  test('says what the regular expression of the same meaning says', () => {
    const texts = ['', 'a', 'b', 'ab', 'ba', 'aab', 'aba', 'bab', 'abab', 'bbaab'];
    const patterns = ['', '*', 'a*', '*a', 'a*b', '*a*b*', 'a*a*b', '**b', 'b*a*', 'ab*ab', '*ab*'];
    for (const pattern of patterns) {
      const expected = new RegExp(`^${pattern.replaceAll('*', '.*')}$`);
      for (const text of texts) {
        expect([pattern, text, matchesGlob(pattern, text)]).toEqual([
          pattern,
          text,
          expected.test(text),
        ]);
      }
    }
  });

  test('of the longest and worst kind is answered, and does not backtrack', () => {
    const pattern = '*a'.repeat(GLOB_MAX_CHARS / 2);
    expect(matchesGlob(`${pattern.slice(0, -1)}b`, 'a'.repeat(1024))).toBe(false);
  });
});

describe('a constraint', () => {
  const has = { rack: 'a1', zone: 'eu-1' };
  test.each<[AttributeConstraint, boolean]>([
    [{ attribute: 'rack', predicate: 'exists' }, true],
    [{ attribute: 'disk', predicate: 'exists' }, false],
    [{ attribute: 'constructor', predicate: 'exists' }, false],
    [{ attribute: 'rack', predicate: 'notExists' }, false],
    [{ attribute: 'disk', predicate: 'notExists' }, true],
    [{ attribute: 'rack', predicate: 'equals', value: 'a1' }, true],
    [{ attribute: 'rack', predicate: 'equals', value: 'a' }, false],
    [{ attribute: 'disk', predicate: 'equals', value: '' }, false],
    [{ attribute: 'rack', predicate: 'notEquals', value: 'a' }, true],
    [{ attribute: 'disk', predicate: 'notEquals', value: 'a' }, true],
    [{ attribute: 'zone', predicate: 'matches', pattern: 'eu-*' }, true],
    [{ attribute: 'disk', predicate: 'matches', pattern: '*' }, false],
    [{ attribute: 'zone', predicate: 'notMatches', pattern: 'us-*' }, true],
    [{ attribute: 'disk', predicate: 'notMatches', pattern: '*' }, true],
  ])('%j: %p', (constraint, holds) => {
    expect(satisfies(has, [[constraint]])).toBe(holds);
    expect(unsatisfied(has, [[constraint]]).length).toBe(holds ? 0 : 1);
  });

  test('is one of a group that all hold, and any group is enough', () => {
    const yes: AttributeConstraint = { attribute: 'rack', predicate: 'exists' };
    const no: AttributeConstraint = { attribute: 'rack', predicate: 'notExists' };
    expect([
      satisfies(has, [[yes, no]]),
      satisfies(has, [[yes, no], [yes]]),
      satisfies(has, [[no], [no]]),
    ]).toEqual([false, true, false]);
  });

  test('that means nothing is refused', () => {
    const isValid = (value: unknown): boolean => OfferConstraints.safeParse(value).success;
    const equals = { attribute: 'rack', predicate: 'equals', value: 'a' };
    expect(isValid({ '*': [[equals]] })).toBe(true);
    expect(isValid({})).toBe(true);
    for (const wrong of [
      { '*': [] },
      { '*': [[]] },
      { 'a//b': [[equals]] },
      { '*': [[{ attribute: 'rack', predicate: 'like', value: 'a' }]] },
      { '*': [[{ attribute: 'rack', predicate: 'matches', pattern: 'x'.repeat(257) }]] },
      { '*': Array.from({ length: 20 }, () => Array.from({ length: 60 }, () => equals)) },
    ]) {
      expect([wrong, isValid(wrong)]).toEqual([wrong, false]);
    }
  });
});
