/** What both stores keep of signatures and seals, as they were given: they verify nothing. */
import { beforeEach, expect, test } from '@jest/globals';
import type { Store } from '../../io/store.ts';
import { START } from '../../io/store.ts';
import { sessionOf } from '../support/builders.ts';
import { beginTerm, commitOf, describeStores } from '../support/store-harness.ts';

const STORES = ['FakeStore', 'RedisStore'] as const;
const client = 'agent:a1';
const session = sessionOf('s1');

describeStores('%s, of a secured cluster,', STORES, ({ open }) => {
  let store: Store;

  beforeEach(async () => {
    ({ store } = await open());
  });

  test('hands the signature of an entry to the master', async () => {
    const signature = { principal: 'ci', generation: 3, mac: 'm-_1' };
    await store.append({ client, session, sequence: 1, messages: '[1]', signature });
    await store.append({ client, session, sequence: 2, messages: '[2]' });
    const entries = await store.readInbox(START, 10, 0);
    expect(entries.map(({ id: _id, ...entry }) => entry)).toEqual([
      { from: client, session, sequence: 1, messages: '[1]', signature },
      { from: client, session, sequence: 2, messages: '[2]' },
    ]);
  });

  test('hands the seal of an entry to its client, also that of a last word', async () => {
    const lease = await beginTerm(store);
    const [first, last] = [
      { position: '1-1', mac: 'a' },
      { position: '2-1', mac: 'b' },
    ];
    const send = { client, session, messages: '["a"]' } as const;
    await store.commit(commitOf(lease, 1, { sends: [{ ...send, seal: first }, send] }));
    const read = async (cursor = START): Promise<readonly unknown[]> =>
      (await store.readClient(client, session, cursor, 0)).map(({ id: _id, ...entry }) => entry);
    expect(await read()).toEqual([{ messages: '["a"]', seal: first }, { messages: '["a"]' }]);
    const end = { client, session, farewell: '["bye"]', seal: last } as const;
    const cursor = (await store.readClient(client, session, START, 0)).at(-1)?.id;
    await store.commit(commitOf(lease, 2, { endedStreams: [end] }));
    expect(await read(cursor)).toEqual([{ messages: '["bye"]', seal: last }]);
  });

  test('keeps what was heard of sessions for the next leader, with the commit and not without it', async () => {
    const lease = await beginTerm(store);
    const heard = [
      { session: 's1 agent:a1', value: '4 1000' },
      { session: 's2 agent:a2', value: '9 2000' },
    ];
    await store.commit(commitOf(lease, 1, { heard }));
    await store.commit(commitOf(lease, 3, { heard: [{ session: 's3', value: 'no' }] }));
    const change = [
      { session: 's1 agent:a1', value: undefined },
      { session: 's2 agent:a2', value: '10 3000' },
    ];
    await store.commit(commitOf(lease, 2, { heard: change }));
    expect((await store.loadSnapshot()).heard).toEqual(new Map([['s2 agent:a2', '10 3000']]));
  });

  test('reads principals again only when they have changed', async () => {
    const before = await store.readPrincipals();
    expect(before?.sealed).toEqual(new Map());
    expect(await store.readPrincipals(before?.version)).toBeUndefined();
    expect(await store.changePrincipal('ci', '', 'one')).toBe(true);
    const after = await store.readPrincipals(before?.version);
    expect(after?.sealed).toEqual(new Map([['ci', 'one']]));
    expect(await store.readPrincipals(after?.version)).toBeUndefined();
  });

  test('changes a principal only from what was read', async () => {
    await store.changePrincipal('ci', '', 'one');
    expect(await store.changePrincipal('ci', '', 'two')).toBe(false);
    expect(await store.changePrincipal('ci', 'one', 'two')).toBe(true);
    expect(await store.changePrincipal('ci', 'one', 'three')).toBe(false);
    expect((await store.readPrincipals())?.sealed).toEqual(new Map([['ci', 'two']]));
  });
});
