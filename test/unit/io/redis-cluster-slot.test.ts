import { expect, test } from '@jest/globals';
import { slotOf } from '../../../io/redis-cluster-slot.ts';

// As CLUSTER KEYSLOT of Redis 7.0.15 has it.
test.each([
  ['123456789', 12739],
  ['foo', 12182],
  ['default', 5718],
  ['shop', 3808],
])('the slot of %j is %i', (tag, slot) => {
  expect(slotOf(tag)).toBe(slot);
});
