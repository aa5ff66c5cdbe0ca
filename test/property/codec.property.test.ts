import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { decodeEntry, decodeMessage, decodeTask, encodeEntries } from '../../protocol/codec.ts';
import { ENTRY_FULL_BYTES, ENTRY_MAX_MESSAGES } from '../../protocol/limits.ts';
import { anyMessage, anyTask } from '../support/arbitraries.ts';

test('messages come back as they were sent, in order', () => {
  fc.assert(
    fc.property(fc.array(anyMessage, { maxLength: 40 }), (messages) => {
      const decoded = encodeEntries(messages).flatMap(decodeEntry);
      // What the wire carries is JSON: dictionaries without a prototype come back as plain objects.
      expect(decoded).toEqual(
        messages.map((value) => ({
          ok: true,
          value: JSON.parse(JSON.stringify(value)) as unknown,
        })),
      );
    }),
  );
});

test('a valid task is valid', () => {
  fc.assert(fc.property(anyTask, (task) => decodeTask(task).ok));
});

test('entries of many messages stay within their limits', () => {
  const anyLong = fc.integer({ min: 0, max: 200_000 }).map((length) => 'é'.repeat(length));
  const anyError = anyLong.map((code) => ({ type: 'FrameworkError', code, message: '' }) as const);
  fc.assert(
    fc.property(fc.array(anyError, { maxLength: 20 }), (messages) => {
      for (const entry of encodeEntries(messages)) {
        const count = decodeEntry(entry).length;
        expect(count).toBeLessThanOrEqual(ENTRY_MAX_MESSAGES);
        if (count > 1) expect(Buffer.byteLength(entry)).toBeLessThanOrEqual(ENTRY_FULL_BYTES);
      }
    }),
    { numRuns: 20 },
  );
});

test('nothing that is parsed or typed makes the decoder throw', () => {
  fc.assert(fc.property(fc.string(), (text) => Array.isArray(decodeEntry(text))));
  fc.assert(fc.property(fc.jsonValue(), (value) => typeof decodeMessage(value).ok === 'boolean'));
});

test('no damage to a message makes the decoder throw', () => {
  const anyDamage = fc.tuple(anyMessage, fc.string(), fc.jsonValue());
  fc.assert(
    fc.property(anyDamage, ([message, key, value]) => {
      for (const at of [key, ...Object.keys(message)]) {
        expect(typeof decodeMessage({ ...message, [at]: value }).ok).toBe('boolean');
      }
    }),
  );
});
