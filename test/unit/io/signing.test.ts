import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  ClientSigner,
  isSigned,
  macOfAppend,
  positionOf,
  sealEntry,
  sealRecord,
  unsealRecord,
} from '../../../io/signing.ts';
import { silentLog } from '../../../io/log.ts';
import type { StreamEntry } from '../../../io/store.ts';
import { sessionOf } from '../../support/builders.ts';
import { createWatchedLog } from '../../support/watch.ts';

const key = Buffer.alloc(32, 3);
const token = { name: 'a1', generation: 1, key };
const place = 'kaon:{c}:';
const client = 'agent:a1';
const session = sessionOf('s1');
const where = { place, client, session };

const entry = (id: string, position: string | undefined, messages = '[1]'): StreamEntry => ({
  id,
  messages,
  ...(position !== undefined && { seal: sealEntry(key, where, position, messages) }),
});
const checked = (...entries: StreamEntry[]): string[] =>
  new ClientSigner(token, place, silentLog)
    .check(client, session, entries)
    .map(({ messages }) => messages);

describe('an entry of the inbox', () => {
  test('is signed for one place alone', () => {
    const text = fc.string();
    const entries = fc.record({ client: text, session: text, sequence: fc.nat(), messages: text });
    fc.assert(
      fc.property(entries, entries, (one, other) => {
        // A name with a zero byte spoils the entries of its own client only.
        fc.pre(!/\0/.test(one.client + one.session + other.client + other.session));
        const mac = macOfAppend(key, { place, ...one }, one.sequence, one.messages);
        const signature = { principal: 'a1', generation: 1, mac };
        const { client: from, ...rest } = other;
        const isSame = JSON.stringify(one) === JSON.stringify(other);
        expect(isSigned(key, place, { id: '1-1', from, ...rest, signature })).toBe(isSame);
        const own = { id: '1-1', from: one.client, ...one, signature };
        expect(isSigned(key, place, own)).toBe(true);
        expect(isSigned(key, 'kaon:{d}:', own)).toBe(false);
        expect(isSigned(Buffer.alloc(32), place, own)).toBe(false);
      }),
    );
  });

  test('of a client with a token names whose it is, and its signature is good', () => {
    const append = { client, session, sequence: 1, messages: '[]' } as const;
    const signature = new ClientSigner(token, place, silentLog).sign(append);
    const { client: from, ...rest } = append;
    expect(signature).toMatchObject({ principal: 'a1', generation: 1 });
    expect(isSigned(key, place, { id: '1-1', from, ...rest, signature })).toBe(true);
  });

  test('without a mac is not signed', () => {
    const none = { id: '1-1', from: client, session, sequence: 1, messages: '[]' };
    expect(isSigned(key, place, none)).toBe(false);
  });
});

describe('an entry for an agent', () => {
  test('is believed in the order of its positions, each once', () => {
    const positions = [positionOf(1, 1), positionOf(1, 2), positionOf(2, 1), positionOf(10, 1)];
    const entries = positions.map((position, index) => entry(`1-${String(index)}`, position));
    expect(checked(...entries)).toEqual(['[1]', '[1]', '[1]', '[1]']);
    expect(checked(entries[2] ?? entry('', ''), ...entries)).toEqual([
      '[1]',
      '[]',
      '[]',
      '[]',
      '[1]',
    ]);
  });

  test('of another session, cluster or client is not believed', () => {
    const seals = [
      sealEntry(key, { ...where, session: 's2' }, '1-1', '[1]'),
      sealEntry(key, { ...where, place: 'kaon:{d}:' }, '1-1', '[1]'),
      sealEntry(key, { ...where, client: 'agent:a2' }, '1-1', '[1]'),
      { ...sealEntry(key, where, '1-1', '[1]'), position: '1-2' },
    ];
    const entries = seals.map((seal) => ({ id: '1-1', messages: '[1]', seal }));
    expect(checked(...entries)).toEqual(['[]', '[]', '[]', '[]']);
  });

  test('that an inbox entry was signed for is not taken for one', () => {
    const mac = macOfAppend(key, where, 1, '[1]');
    expect(checked({ id: '1-1', messages: '[1]', seal: { position: '1', mac } })).toEqual(['[]']);
  });

  test('begins anew with each session', () => {
    const signer = new ClientSigner(token, place, silentLog);
    const read = (of: string, position: string): string | undefined => {
      const seal = sealEntry(key, { ...where, session: of }, position, '[1]');
      return signer.check(client, sessionOf(of), [{ id: '1-1', messages: '[1]', seal }])[0]
        ?.messages;
    };
    expect([read('s1', '9-1'), read('s2', '1-1'), read('s2', '1-1')]).toEqual(['[1]', '[1]', '[]']);
  });

  test('that is not signed is read over, logged and counted', () => {
    const log = createWatchedLog();
    const signer = new ClientSigner(token, place, log);
    expect(signer.check(client, session, [entry('5-1', undefined)])).toEqual([
      { id: '5-1', messages: '[]' },
    ]);
    expect(log.lines.seen.map(({ event, fields }) => [event, fields['count']])).toEqual([
      ['stream.entry-refused', 1],
    ]);
  });

  const refusal = '[{"type":"AgentError","code":"token-unknown","message":"no"}]';
  test('may be a refusal that is not signed, as long as nothing was', () => {
    expect(checked(entry('1-1', undefined, refusal))).toEqual([refusal]);
    expect(checked(entry('1-1', '1-1'), entry('1-2', undefined, refusal))).toEqual(['[1]', '[]']);
  });

  test.each([
    '[{"type":"AgentError","code":"c","message":"m"},{"type":"ShutdownFramework","frameworkId":"f"}]',
    '[{"type":"AgentError","code":"c","message":"m","type":"ShutdownFramework","frameworkId":"f"}]',
    '{"type":"ShutdownFramework","frameworkId":"f"}',
  ])('hides nothing else in a refusal: %s', (messages) => {
    expect(checked(entry('1-1', undefined, messages))).toEqual(['[]']);
  });
});

describe('a record of the registry', () => {
  const at = { place, registry: 'tasks', key: 'f1/t1' } as const;
  const anyRecord = fc.dictionary(fc.string(), fc.jsonValue(), { minKeys: 1 });

  test('comes out of its seal as it was, and other readers see the same record', () => {
    fc.assert(
      fc.property(anyRecord, (record) => {
        const json = JSON.stringify(record);
        const sealed = sealRecord(key, at, json);
        expect(unsealRecord(key, at, sealed)).toBe(json);
        const { seal: _seal, ...seen } = JSON.parse(sealed) as Record<string, unknown>;
        const { seal: _own, ...given } = JSON.parse(json) as Record<string, unknown>;
        expect(seen).toEqual(given);
      }),
    );
  });

  test('is good in its own place alone, and unchanged', () => {
    const sealed = sealRecord(key, at, '{"n":1}');
    expect([
      unsealRecord(key, { ...at, key: 'f1/t2' }, sealed),
      unsealRecord(key, { ...at, registry: 'agents' }, sealed),
      unsealRecord(Buffer.alloc(32), at, sealed),
      unsealRecord(key, at, sealed.replace('1', '2')),
      unsealRecord(key, at, '{"n":1}'),
      unsealRecord(key, at, ''),
    ]).toEqual([undefined, undefined, undefined, undefined, undefined, undefined]);
  });
});
