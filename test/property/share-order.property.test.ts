/** The order of siblings by their shares stays what a sort would make of it, whoever moves where. */
import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { orderByShare, setShare } from '../../master/core/allocator/share-order.ts';

/** Few, so that many are equal. */
const anyShare = fc.constantFrom(0, 0.1, 0.2, 0.3, 1);

test('members are in the order of their shares, then of their numbers, after any moves', () => {
  fc.assert(
    fc.property(
      fc.array(anyShare, { minLength: 1, maxLength: 20 }),
      fc.array(fc.tuple(fc.nat(19), anyShare), { maxLength: 30 }),
      (start, moves) => {
        const shares = [...start];
        const order = orderByShare(shares);
        for (const [any, share] of moves) {
          const member = any % shares.length;
          shares[member] = share;
          setShare(order, member, share);
        }
        const sorted = [...shares.keys()].sort(
          (a, b) => (shares[a] ?? 0) - (shares[b] ?? 0) || a - b,
        );
        expect([...order.members]).toEqual(sorted);
        expect([...order.shares]).toEqual(shares);
      },
    ),
  );
});
