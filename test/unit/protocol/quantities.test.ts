import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  formatBytes,
  formatCpus,
  formatDuration,
  formatMib,
  parseCpus,
  parseDuration,
  parseMib,
  parseSize,
} from '../../../protocol/quantities.ts';

describe('parseSize', () => {
  test.each([
    ['0', 0],
    ['1048576', 1_048_576],
    ['512B', 512],
    ['1K', 1024],
    ['1kb', 1024],
    ['1KiB', 1024],
    ['128M', 134_217_728],
    ['64MB', 67_108_864],
    ['1.5G', 1_610_612_736],
    [' 2 GiB ', 2_147_483_648],
    ['1t', 1_099_511_627_776],
  ])('%j is %d bytes', (text, bytes) => {
    expect(parseSize(text)).toBe(bytes);
  });

  test.each(['', 'M', '-1M', '1e3', '1.M', '.5G', '1,5G', '1P', '1MM', '0x10', 'NaN', '99999999T'])(
    '%j is no size',
    (text) => {
      expect(parseSize(text)).toBeUndefined();
    },
  );
});

describe('parseMib', () => {
  test('rounds up, so that a limit is never below what was asked for', () => {
    expect(parseMib('1025K')).toBe(2);
  });

  test('passes on what is no size', () => {
    expect(parseMib('much')).toBeUndefined();
  });
});

describe('parseCpus', () => {
  test.each([
    ['2', 2000],
    ['0.5', 500],
    ['250m', 250],
    ['0.001', 1],
    ['16384', 16_384_000],
    ['0.29', 290],
  ])('%j is %d thousandths', (text, millis) => {
    expect(parseCpus(text)).toBe(millis);
  });

  test.each(['', '-1', '0.0005', '0.5m', '1e3', '1 core', 'm', '1,5', '9e99', '99999999999999999'])(
    '%j is no amount of CPU',
    (text) => {
      expect(parseCpus(text)).toBeUndefined();
    },
  );
});

describe('parseDuration', () => {
  test.each([
    ['30', 30_000],
    ['0.5', 500],
    ['30s', 30_000],
    ['5m', 300_000],
    ['1h30m', 5_400_000],
    ['250ms', 250],
    ['1m250ms', 60_250],
    ['2d', 172_800_000],
    ['1w', 604_800_000],
    ['1.5h', 5_400_000],
  ])('%j is %d ms', (text, ms) => {
    expect(parseDuration(text)).toBe(ms);
  });

  test.each(['', 's', '-1s', '5x', '1h 30m', '5M', '1e3', '1h30', '99999999999999w'])(
    '%j is no duration',
    (text) => {
      expect(parseDuration(text)).toBeUndefined();
    },
  );
});

describe('formatBytes', () => {
  test.each([
    [0, '0B'],
    [1023, '1023B'],
    [1024, '1K'],
    [1536, '1.5K'],
    [134_217_728, '128M'],
    [2_199_023_255_552, '2T'],
    [-1024, '-1K'],
  ])('%d is %j', (bytes, text) => {
    expect(formatBytes(bytes)).toBe(text);
  });

  test('a byte below a limit does not look like the limit', () => {
    expect(formatBytes(256 * 1024 * 1024 - 1)).toBe('255.9M');
  });
});

describe('formatDuration', () => {
  test.each([
    [0, '0ms'],
    [850, '850ms'],
    [1200, '1.2s'],
    [9999, '9.9s'],
    [42_000, '42s'],
    [200_000, '3m20s'],
    [3_600_000, '1h'],
    [18_720_000, '5h12m'],
    [792_000_000, '9d4h'],
    [-850, '-850ms'],
  ])('%d ms is %j', (ms, text) => {
    expect(formatDuration(ms)).toBe(text);
  });
});

describe('what is formatted is parsed again', () => {
  test('an amount of CPU exactly', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 16_384_000 }), (millis) => {
        expect(parseCpus(formatCpus(millis))).toBe(millis);
      }),
    );
  });

  test('memory to a tenth of its unit, and never as more than it is', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1_073_741_824 }), (mib) => {
        const parsed = parseMib(formatMib(mib)) ?? Number.NaN;
        expect(parsed).toBeLessThanOrEqual(mib);
        expect(parsed).toBeGreaterThan(mib * 0.9);
      }),
    );
  });

  test('a duration to its second part, and never as longer than it is', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 315_360_000_000 }), (ms) => {
        const parsed = parseDuration(formatDuration(ms)) ?? Number.NaN;
        expect(parsed).toBeLessThanOrEqual(ms);
        expect(parsed).toBeGreaterThanOrEqual(ms * 0.9);
      }),
    );
  });
});

test('no text makes a parser throw or return a number that is not whole', () => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      for (const parse of [parseSize, parseMib, parseCpus, parseDuration]) {
        expect(Number.isSafeInteger(parse(text) ?? 0)).toBe(true);
      }
    }),
  );
});
