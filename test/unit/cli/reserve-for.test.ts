import { describe, expect, test } from '@jest/globals';
import { parseReserveFor } from '../../../cli/reserve-for.ts';
import { amount } from '../../support/builders.ts';

describe('--reserve-for', () => {
  test('names a role and what is kept for it, as often as it is given', () => {
    expect(parseReserveFor(['eng:cpus=2,mem=4G', 'eng/prod:mem=512M'])).toEqual([
      { role: 'eng', resources: amount(2, 4096) },
      { role: 'eng/prod', resources: amount(0, 512) },
    ]);
  });

  test('takes a role with a colon in it', () => {
    expect(parseReserveFor(['a:b:cpus=1'])).toEqual([{ role: 'a:b', resources: amount(1, 0) }]);
  });

  test.each([
    ['eng', /--reserve-for eng: not ROLE:LIST; write eng:cpus=2,mem=4G/],
    ['eng:', /not a list of resources/],
    ['eng:cpus=0', /--reserve-for eng:cpus=0: nothing of anything/],
    ['../x:cpus=1', /has a part \.\./],
  ])('%s is refused in words', (value, words) => {
    expect(() => parseReserveFor([value])).toThrow(words);
  });

  test('is given for each role once', () => {
    expect(() => parseReserveFor(['eng:cpus=1', 'eng:mem=1G'])).toThrow(/role eng is given twice/);
  });
});
