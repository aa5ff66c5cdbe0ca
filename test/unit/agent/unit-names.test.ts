import { describe, expect, test } from '@jest/globals';
import {
  agentUnitPattern,
  frameworkSlice,
  keeperUnit,
  taskUnit,
} from '../../../agent/core/unit-names.ts';
import { ID_MAX_CHARS } from '../../../protocol/ids.ts';

test('a dash in a framework id does not make a slice in a slice', () => {
  expect(frameworkSlice('web-shop')).toBe('kaon-web\\x2dshop.slice');
});

describe('the unit of a task', () => {
  test('begins as the pattern of its agent says', () => {
    const prefix = agentUnitPattern('a1').replace('*.service', '');
    expect(taskUnit('a1', 't1', 'k1').startsWith(prefix)).toBe(true);
  });

  test('is short enough for systemd, even if its id is all dashes', () => {
    const longest = taskUnit('a'.repeat(40), `x${'-'.repeat(ID_MAX_CHARS - 1)}`, 'k'.repeat(20));
    expect(longest.length).toBeLessThan(255);
  });

  test('is not the keeper, whatever the task is called', () => {
    expect(taskUnit('a1', 'keeper', 'k1')).not.toBe(keeperUnit('a1'));
  });
});
