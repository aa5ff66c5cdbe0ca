import { describe, expect, test } from '@jest/globals';
import {
  agentSlicePatterns,
  agentUnitPattern,
  fenceName,
  fencePattern,
  frameworkSlice,
  keeperUnit,
  taskUnit,
} from '../../../agent/core/unit-names.ts';
import { ID_MAX_CHARS } from '../../../protocol/ids.ts';
import { taskSliceName } from '../../../systemd/names.ts';

const TAG = '0123abcd';
const OTHER = '9999ffff';

/** fnmatch(3) for patterns whose only magic is `*`. */
function matches(pattern: string, name: string): boolean {
  const parts = pattern.split('*').map((part) => part.replaceAll(/[.\\]/g, '\\$&'));
  return new RegExp(`^${parts.join('.*')}$`).test(name);
}

describe('the slice of a framework', () => {
  test('is no slice in a slice, whatever its id has in it', () => {
    expect(frameworkSlice(TAG, 'web-shop:1')).toBe('kaon-web\\x2dshop\\x3a1:0123abcd.slice');
  });

  test('of another agent, and what is in it, is not among those of this one', () => {
    const slicesOf = (tag: string): string[] => {
      const slice = frameworkSlice(tag, `x:${TAG}`);
      return [slice, taskSliceName(slice, taskUnit(tag, `y-:${TAG}-z`, '3.1.4'))];
    };
    const isOurs = (name: string): boolean =>
      agentSlicePatterns(TAG).some((pattern) => matches(pattern, name));
    expect(slicesOf(TAG).map(isOurs)).toEqual([true, true]);
    expect(slicesOf(OTHER).map(isOurs)).toEqual([false, false]);
  });
});

test('a fence is of one agent and one time', () => {
  expect(fenceName(TAG, 15_000)).toBe('kaon-fence-0123abcd-15000ms');
  expect(matches(fencePattern(TAG), `${fenceName(TAG, 15_000)}.timer`)).toBe(true);
  expect(matches(fencePattern(OTHER), `${fenceName(TAG, 15_000)}.timer`)).toBe(false);
});

describe('the unit of a task', () => {
  test('begins as the pattern of its agent says', () => {
    const prefix = agentUnitPattern('a1').replace('*.service', '');
    expect(taskUnit('a1', 't1', 'k1').startsWith(prefix)).toBe(true);
  });

  test('and its slice are short enough for systemd, even if the ids are all dashes', () => {
    const longest = taskUnit(TAG, `x${'-'.repeat(ID_MAX_CHARS - 1)}`, '9'.repeat(30));
    const slice = frameworkSlice(TAG, `x${':'.repeat(ID_MAX_CHARS - 1)}`);
    expect(longest.length).toBeLessThan(255);
    expect(taskSliceName(slice, longest).length).toBeLessThan(255);
  });

  test('is not the keeper, whatever the task is called', () => {
    expect(taskUnit('a1', 'keeper', 'k1')).not.toBe(keeperUnit('a1'));
  });
});
