import { beforeEach, describe, expect, test } from '@jest/globals';
import { RedisModel } from '../../../io/fake/model.ts';
import type { Lease } from '../../../io/store.ts';
import { START } from '../../../io/store.ts';
import { masterIdOf, sessionOf } from '../../support/builders.ts';
import { commitOf } from '../../support/store-harness.ts';

const client = 'framework:f1';
const session = sessionOf('s1');
const masterId = masterIdOf('m1');

let nowMs: number;
let model: RedisModel;

beforeEach(() => {
  nowMs = 1000;
  model = new RedisModel(() => nowMs);
});

function lead(): Lease {
  const lease = model.acquireLease(masterId, 60_000);
  if (!lease) throw new Error('the lease is held by another');
  model.beginTerm(lease);
  return lease;
}

const appendTwo = (from: number): string[] =>
  [from, from + 1].map((sequence) =>
    model.append({ client, session, sequence, messages: `[${String(sequence)}]` }),
  );

const inbox = (): string[] => model.readInbox(START, 10).map(({ messages }) => messages);

describe('a copy', () => {
  test('does not change with what it is a copy of, nor does what was promoted change it', () => {
    const lease = lead();
    model.commit(commitOf(lease, 1, { sessions: [{ client, session }], events: ['1'] }));
    appendTwo(1);
    const replica = model.copy();
    const later = { registry: 'tasks', key: 'k', value: '{}' } as const;
    model.commit(commitOf(lease, 2, { changes: [later], events: ['2'], cursor: '1-2' }));
    for (let times = 0; times < 2; times += 1) {
      model.promote(replica);
      expect(model.loadSnapshot()).toMatchObject({ commitNumber: 1, cursor: START });
      expect([model.events, inbox()]).toEqual([['1'], ['[1]', '[2]']]);
      appendTwo(3);
      expect(inbox()).toHaveLength(4);
    }
  });

  test('that is promoted has ids that readers of the old one have read already', () => {
    appendTwo(1);
    const replica = model.copy();
    appendTwo(3);
    const cursor = model.readInbox(START, 10).at(-1)?.id ?? START;
    model.promote(replica);
    expect(appendTwo(3)).toEqual(['appended', 'appended']);
    expect(model.readInbox(cursor, 10)).toEqual([]);
  });

  test('that is promoted reports a gap to who has sent more than it knows', () => {
    const replica = model.copy();
    appendTwo(1);
    model.promote(replica);
    expect(appendTwo(3)).toEqual(['gap', 'gap']);
  });

  test('that is promoted is another server, with the lease that it knew', () => {
    const lease = lead();
    model.commit(commitOf(lease, 1));
    const before = model.serverId;
    model.promote(model.copy());
    expect(model.serverId).not.toBe(before);
    expect(model.leader()).toMatchObject(lease);
    expect(model.renewLease(lease, 60_000)).toBe('server-changed');
  });
});

test('a restart keeps the data or not, and ends every connection', () => {
  const connection = model.connect();
  appendTwo(1);
  model.restart(true);
  expect([inbox(), model.isConnected(connection)]).toEqual([['[1]', '[2]'], false]);
  model.restart(false);
  expect([inbox(), model.leader()]).toEqual([[], undefined]);
});

test('losing everything is not another server, and the next term finds it out', () => {
  model.commit(commitOf(lead(), 1));
  const before = model.serverId;
  model.flushAll();
  expect(model.serverId).toBe(before);
  const lease = model.acquireLease(masterId, 60_000);
  expect(lease && model.beginTerm(lease)).toMatchObject({
    ok: true,
    lostBefore: expect.any(Number),
  });
});

test('a last word is gone after a minute', () => {
  const farewell = '["bye"]';
  model.commit(commitOf(lead(), 1, { endedStreams: [{ client, session, farewell }] }));
  expect(model.readClient(client, session, START)).toMatchObject([{ messages: farewell }]);
  nowMs += 60_000;
  expect(model.readClient(client, session, START)).toEqual([]);
});
