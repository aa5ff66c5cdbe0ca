/** One suite for both stores: what the master and its clients rely on, held against the fake and a real Redis. */
import { beforeEach, describe, expect, test } from '@jest/globals';
import type { Lease, OutputChunk, Store } from '../../io/store.ts';
import { DIRECT_ENTRIES_MAX, START } from '../../io/store.ts';
import { isOlderSession, sessionNumber } from '../../protocol/ids.ts';
import { CLIENT_STREAM_MAX_ENTRIES } from '../../protocol/limits.ts';
import { agentIdOf, frameworkIdOf, masterIdOf, sessionOf } from '../support/builders.ts';
import type { StoreHarness } from '../support/store-harness.ts';
import { beginTerm, commitOf, describeStores } from '../support/store-harness.ts';

/** Below the time after which Kaon takes the connection for dead. */
const BLOCK_MS = 6000;
const client = 'framework:f1';
const session = sessionOf('s1');
const masterId = masterIdOf('m1');

const append = (
  store: Store,
  sequence: number,
  messages = `["${String(sequence)}"]`,
): Promise<string> => store.append({ client, session, sequence, messages });

const inboxOf = async (store: Store): Promise<string[]> =>
  (await store.readInbox(START, 10, 0)).map(({ messages }) => messages);

const lead = (store: Store): Promise<Lease> => beginTerm(store);

/** Registers `framework:f1` with session s1. */
async function register(store: Store): Promise<Lease> {
  const lease = await lead(store);
  await store.commit(commitOf(lease, 1, { sessions: [{ client, session }] }));
  return lease;
}

const STORES = [
  'FakeStore',
  'RedisStore',
  'RedisStore on a Redis Cluster',
  'RedisStore with TLS',
] as const;

describeStores('%s', STORES, ({ open }) => {
  let harness: StoreHarness;
  let store: Store;

  beforeEach(async () => {
    harness = await open();
    store = harness.store;
  });

  describe('the inbox', () => {
    test('has entries in order, with who sent them in which session', async () => {
      await append(store, 1, '["a"]');
      await append(store, 2, '["b"]');
      const entries = await store.readInbox(START, 10, 0);
      expect(entries.map(({ id: _id, ...entry }) => entry)).toEqual([
        { from: client, session, sequence: 1, messages: '["a"]' },
        { from: client, session, sequence: 2, messages: '["b"]' },
      ]);
    });

    test('takes an entry once, however often it is sent', async () => {
      const results = [
        await append(store, 1),
        await append(store, 1),
        await append(store, 2),
        await append(store, 1),
      ];
      expect(results).toEqual(['appended', 'duplicate', 'appended', 'duplicate']);
      expect(await inboxOf(store)).toEqual(['["1"]', '["2"]']);
    });

    test('refuses an entry whose predecessor it does not have', async () => {
      await append(store, 1);
      expect(await append(store, 3)).toBe('gap');
      expect(await inboxOf(store)).toEqual(['["1"]']);
    });

    test('counts each session for itself', async () => {
      await append(store, 1);
      const other = { client, session: sessionOf('s2'), sequence: 1, messages: '[]' } as const;
      expect(await store.append(other)).toBe('appended');
    });

    test('refuses entries when it is full, and takes them when there is room', async () => {
      await harness.fillInbox();
      expect(await append(store, 1)).toBe('full');
      const last = (await store.readInbox(START, 200_000, 0)).at(-1)?.id ?? START;
      await store.commit(commitOf(await lead(store), 1, { cursor: last }));
      expect(await append(store, 1)).toBe('appended');
    });

    test('is read from after the cursor, as far as was asked for', async () => {
      for (const sequence of [1, 2, 3]) await append(store, sequence);
      const [first] = await store.readInbox(START, 1, 0);
      const rest = await store.readInbox(first?.id ?? START, 1, 0);
      expect(rest.map(({ messages }) => messages)).toEqual(['["2"]']);
    });

    test('wakes a reader that waits', async () => {
      const reader = await harness.another();
      const waiting = reader.readInbox(START, 10, BLOCK_MS);
      await harness.hasReader();
      await append(store, 1);
      expect((await waiting).map(({ messages }) => messages)).toEqual(['["1"]']);
    });

    test('is no longer waited for when the reader is told to stop, and can be read again', async () => {
      const stop = new AbortController();
      const waiting = store.readInbox(START, 10, 60_000, stop.signal);
      await store.nowMs();
      stop.abort();
      expect(await waiting).toEqual([]);
      expect(await store.readInbox(START, 10, 60_000, stop.signal)).toEqual([]);
      await append(store, 1);
      expect(await inboxOf(store)).toEqual(['["1"]']);
    });

    test('is empty for a reader that has waited in vain', async () => {
      expect(await store.readInbox(START, 10, 1)).toEqual([]);
    });

    test('keeps text as it is: quotes, newlines, other scripts', async () => {
      const text = '["\\u0000 \\" \\n €\u{1F600}"]';
      await append(store, 1, text);
      expect(await inboxOf(store)).toEqual([text]);
    });
  });

  describe('a session', () => {
    test('has a number that is later than all before of its client', async () => {
      const other = await harness.another();
      const ids = [
        await store.openSession(client),
        await other.openSession(client),
        await store.openSession(client),
        await store.openSession(client),
      ];
      const numbers = ids.map((id) => sessionNumber(id));
      expect(numbers).toEqual([...new Set(numbers)].sort((x, y) => x - y));
      expect(ids).toEqual([...ids].sort());
    });

    test('that is opened after Redis has lost everything is still the later one', async () => {
      let before = await store.openSession(client);
      for (let count = 0; count < 100; count += 1) before = await store.openSession(client);
      await harness.flushServer();
      // The clock goes on meanwhile; a hundred sessions in their microseconds are soon behind it.
      await harness.passTime();
      const after = await store.openSession(client);
      expect(isOlderSession(before, after)).toBe(true);
      expect(isOlderSession(after, before)).toBe(false);
    });
  });

  describe('a commit', () => {
    test('of who does not lead is refused, and says who does', async () => {
      const nobody = await store.commit(commitOf({ masterId, epoch: 1 }, 1));
      expect(nobody).toEqual({ ok: false, code: 'fenced', found: 'nobody' });
      await lead(store);
      const other = await store.commit(commitOf({ masterId: masterIdOf('m2'), epoch: 1 }, 1));
      expect(other).toEqual({ ok: false, code: 'fenced', found: '1 m1' });
      const epoch = await store.commit(commitOf({ masterId, epoch: 0 }, 1));
      expect(epoch).toEqual({ ok: false, code: 'fenced', found: '1 m1' });
    });

    test('of a lease that has expired is refused, and nothing of it is written', async () => {
      const lease = await lead(store);
      await append(store, 1);
      await harness.expireLease();
      const result = await store.commit(
        commitOf(lease, 1, {
          changes: [{ registry: 'tasks', key: 'f1/t1', value: '{}' }],
          sends: [{ client, session, messages: '[]' }],
          events: ['{}'],
          history: ['{}'],
        }),
      );
      expect(result).toEqual({ ok: false, code: 'fenced', found: 'nobody' });
      const snapshot = await store.loadSnapshot();
      expect([snapshot.commitNumber, snapshot.registry.tasks.size]).toEqual([0, 0]);
      expect(await store.readClient(client, session, START, 0)).toEqual([]);
      expect([await harness.events(), await harness.history()]).toEqual([[], []]);
      expect(await inboxOf(store)).toHaveLength(1);
    });

    test('that is sent twice is applied once', async () => {
      const lease = await lead(store);
      const commit = commitOf(lease, 1, {
        sends: [{ client, session, messages: '["x"]' }],
        events: ['{"n":1}'],
      });
      const results = [await store.commit(commit), await store.commit(commit)];
      expect(results).toEqual([
        { ok: true, overflowing: [] },
        { ok: true, overflowing: [] },
      ]);
      expect(await store.readClient(client, session, START, 0)).toHaveLength(1);
      expect(await harness.events()).toHaveLength(1);
    });

    test('out of order is refused, and says where the cluster is', async () => {
      const lease = await lead(store);
      await store.commit(commitOf(lease, 1, { cursor: '5-1' }));
      await store.commit(commitOf(lease, 2, { cursor: '5-2' }));
      const refused = { ok: false, code: 'out-of-order', found: '2 5-2' };
      expect(await store.commit(commitOf(lease, 4))).toEqual(refused);
      expect(await store.commit(commitOf(lease, 1))).toEqual(refused);
    });

    test('writes and deletes records', async () => {
      const lease = await lead(store);
      await store.commit(
        commitOf(lease, 1, {
          changes: [
            { registry: 'agents', key: 'a1', value: '{"n":1}' },
            { registry: 'agents', key: 'a2', value: '{"n":2}' },
            { registry: 'tasks', key: 'f1/t1', value: '{"n":3}' },
          ],
        }),
      );
      await store.commit(
        commitOf(lease, 2, {
          cursor: '7-7',
          changes: [
            { registry: 'agents', key: 'a1', value: undefined },
            { registry: 'agents', key: 'a2', value: '{"n":4}' },
            { registry: 'offers', key: 'gone', value: undefined },
          ],
        }),
      );
      expect(await store.loadSnapshot()).toEqual({
        commitNumber: 2,
        cursor: '7-7',
        heard: new Map(),
        registry: {
          cluster: new Map(),
          roles: new Map(),
          agents: new Map([['a2', '{"n":4}']]),
          frameworks: new Map(),
          executors: new Map(),
          tasks: new Map([['f1/t1', '{"n":3}']]),
          offers: new Map(),
        },
      });
    });

    test('sends messages that wake their reader, and keeps their order', async () => {
      const lease = await lead(store);
      const reader = await harness.another();
      const waiting = reader.readClient(client, session, START, BLOCK_MS);
      await harness.hasReader();
      await store.commit(
        commitOf(lease, 1, {
          sends: [
            { client, session, messages: '["a"]' },
            { client, session, messages: '["b"]' },
            { client: 'agent:a1', session, messages: '["c"]' },
          ],
        }),
      );
      expect((await waiting).map(({ messages }) => messages)).toEqual(['["a"]', '["b"]']);
    });

    test('consumes the inbox, and leaves what comes after the cursor', async () => {
      const lease = await lead(store);
      await append(store, 1);
      await append(store, 2);
      const [first] = await store.readInbox(START, 1, 0);
      const cursor = first?.id ?? START;
      await store.commit(commitOf(lease, 1, { cursor }));
      const rest = await store.readInbox(cursor, 10, 0);
      expect(rest.map(({ messages }) => messages)).toEqual(['["2"]']);
    });

    test('keeps what could not be taken, for people', async () => {
      const lease = await lead(store);
      await store.commit(commitOf(lease, 1, { quarantine: ['{"n":1}', '{"n":2}'] }));
      await store.commit(commitOf(lease, 2));
      expect(await harness.quarantine()).toEqual(['{"n":1}', '{"n":2}']);
    });

    test('keeps the last four states of the cluster, with the last event that is in each', async () => {
      const lease = await lead(store);
      await store.commit(commitOf(lease, 1, { snapshot: '0' }));
      await store.commit(commitOf(lease, 2, { snapshot: '1', events: ['{"n":1}'] }));
      const first = await harness.lastEventId();
      await store.commit(commitOf(lease, 3, { snapshot: '2' }));
      await store.commit(commitOf(lease, 4, { events: ['{"n":2}'] }));
      await store.commit(commitOf(lease, 5, { snapshot: '3', events: ['{"n":3}', '{"n":4}'] }));
      const third = await harness.lastEventId();
      await store.commit(commitOf(lease, 6, { snapshot: '4' }));
      expect(await harness.snapshots()).toEqual([
        { state: '1', event: first },
        { state: '2', event: first },
        { state: '3', event: third },
        { state: '4', event: third },
      ]);
    });

    test('that keeps a state before there was any event says so', async () => {
      await store.commit(commitOf(await lead(store), 1, { snapshot: '{}' }));
      expect(await harness.snapshots()).toEqual([{ state: '{}', event: START }]);
    });

    test('ends streams', async () => {
      const lease = await lead(store);
      await store.commit(commitOf(lease, 1, { sends: [{ client, session, messages: '["a"]' }] }));
      await store.commit(commitOf(lease, 2, { endedStreams: [{ client, session }] }));
      expect(await store.readClient(client, session, START, 0)).toEqual([]);
    });

    test('ends a stream with a last word for whoever still reads it', async () => {
      const lease = await lead(store);
      await store.commit(commitOf(lease, 1, { sends: [{ client, session, messages: '["a"]' }] }));
      const [first] = await store.readClient(client, session, START, 0);
      const farewell = '["bye"]';
      await store.commit(commitOf(lease, 2, { endedStreams: [{ client, session, farewell }] }));
      const rest = await store.readClient(client, session, first?.id ?? START, 0);
      expect(rest.map(({ messages }) => messages)).toEqual(['["bye"]']);
    });

    test('appends events and history, in order', async () => {
      const lease = await lead(store);
      await store.commit(
        commitOf(lease, 1, { events: ['{"n":1}', '{"n":2}'], history: ['{"t":1}'] }),
      );
      await store.commit(
        commitOf(lease, 2, { events: ['{"n":3}'], history: ['{"t":2}', '{"t":3}'] }),
      );
      expect(await harness.events()).toEqual(['{"n":1}', '{"n":2}', '{"n":3}']);
      expect(await harness.history()).toEqual(['{"t":1}', '{"t":2}', '{"t":3}']);
    });

    test('of more than ten thousand changes is one commit', async () => {
      const lease = await lead(store);
      const keys = Array.from({ length: 12_001 }, (_, index) => `k${String(index)}`);
      const changes = keys.map((key) => ({ registry: 'tasks' as const, key, value: `"${key}"` }));
      const sessions = keys.map((key) => ({ client: `agent:${key}` as const, session }));
      await store.commit(commitOf(lease, 1, { changes, sessions }));
      const { registry } = await store.loadSnapshot();
      expect([registry.tasks.size, registry.tasks.get('k12000')]).toEqual([12_001, '"k12000"']);
      const deletions = changes.map((change) => ({ ...change, value: undefined }));
      const ends = sessions.map((each) => ({ ...each, session: undefined }));
      await store.commit(commitOf(lease, 2, { changes: deletions, sessions: ends }));
      expect((await store.loadSnapshot()).registry.tasks.size).toBe(0);
      expect(await store.silentClients(Number.MAX_SAFE_INTEGER)).toEqual([]);
    });

    test('of a hundred thousand tasks that end is one commit', async () => {
      const lease = await lead(store);
      const history = Array.from({ length: 100_000 }, (_, index) => String(index));
      expect(await store.commit(commitOf(lease, 1, { history }))).toEqual({
        ok: true,
        overflowing: [],
      });
    });

    test('names clients that do not read', async () => {
      const lease = await lead(store);
      const sends = Array.from(
        { length: CLIENT_STREAM_MAX_ENTRIES + 2 },
        () => ({ client, session, messages: '[]' }) as const,
      );
      const other = { client: 'agent:a1', session, messages: '[]' } as const;
      expect(await store.commit(commitOf(lease, 1, { sends: [other, ...sends] }))).toEqual({
        ok: true,
        overflowing: [client],
      });
    });
  });

  describe('a heartbeat', () => {
    test('of a client that is not registered is answered so', async () => {
      expect(await store.heartbeat(client, session, START)).toBe('unknown');
    });

    test('in the registered session is fine, and in another it says that the client has moved', async () => {
      await register(store);
      expect(await store.heartbeat(client, session, START)).toBe('ok');
      expect(await store.heartbeat(client, sessionOf('s0'), START)).toBe('moved');
    });

    test('of a client whose session has ended is unknown', async () => {
      const lease = await register(store);
      await store.commit(commitOf(lease, 2, { sessions: [{ client, session: undefined }] }));
      expect(await store.heartbeat(client, session, START)).toBe('unknown');
    });

    test('keeps what the client has not read', async () => {
      const lease = await register(store);
      const sends = ['["a"]', '["b"]', '["c"]'].map(
        (messages) => ({ client, session, messages }) as const,
      );
      await store.commit(commitOf(lease, 2, { sends }));
      const [first] = await store.readClient(client, session, START, 0);
      const cursor = first?.id ?? START;
      await store.heartbeat(client, session, cursor);
      const rest = await store.readClient(client, session, cursor, 0);
      expect(rest.map(({ messages }) => messages)).toEqual(['["b"]', '["c"]']);
    });

    test('tells when a client was last heard of', async () => {
      await register(store);
      const nowMs = await store.nowMs();
      await store.heartbeat(client, session, START);
      expect(await store.silentClients(nowMs)).toEqual([]);
      const [silent] = await store.silentClients(nowMs + 60_000);
      expect(silent?.client).toBe(client);
      expect(silent?.seenMs).toBeGreaterThanOrEqual(nowMs);
      expect(silent?.seenMs).toBeLessThan(nowMs + 60_000);
    });

    test('that never came is missed from the registration on', async () => {
      const nowMs = await store.nowMs();
      await register(store);
      expect(await store.silentClients(nowMs)).toEqual([]);
      expect(await store.silentClients(nowMs + 60_000)).toMatchObject([{ client }]);
    });

    test('is not expected of a client that has gone', async () => {
      const lease = await register(store);
      await store.commit(commitOf(lease, 2, { sessions: [{ client, session: undefined }] }));
      expect(await store.silentClients(Number.MAX_SAFE_INTEGER)).toEqual([]);
    });
  });

  test('an empty cluster is a snapshot of nothing', async () => {
    expect(await store.loadSnapshot()).toEqual({
      commitNumber: 0,
      cursor: '0-0',
      heard: new Map(),
      registry: {
        cluster: new Map(),
        roles: new Map(),
        agents: new Map(),
        executors: new Map(),
        frameworks: new Map(),
        tasks: new Map(),
        offers: new Map(),
      },
    });
  });

  describe('requests to an agent', () => {
    const agentId = agentIdOf('a1');

    test('wake it, and stay until they are answered', async () => {
      const agent = await harness.another();
      const waiting = agent.readAgentRequests(agentId, START, BLOCK_MS);
      await harness.hasReader();
      await store.requestAgent(agentId, '["read"]');
      const [request] = await waiting;
      expect(request?.messages).toBe('["read"]');
      expect(await store.readAgentRequests(agentId, START, 0)).toHaveLength(1);
      await store.removeAgentRequest(agentId, request?.id ?? START);
      expect(await store.readAgentRequests(agentId, START, 0)).toEqual([]);
    });

    test('of another agent are not seen', async () => {
      await store.requestAgent(agentId, '[]');
      expect(await store.readAgentRequests(agentIdOf('a2'), START, 0)).toEqual([]);
    });
  });

  describe('a message past the master', () => {
    const frameworkId = frameworkIdOf('f1');
    const textsIn = async (inSession = session): Promise<string[]> =>
      (await store.readClient(client, inSession, START, 0)).map(({ messages }) => messages);

    /** A framework that has been answered, so that its session has a stream. */
    async function answer(): Promise<Lease> {
      const lease = await lead(store);
      const sends = [{ client, session, messages: '["registered"]' }] as const;
      await store.commit(commitOf(lease, 1, { sessions: [{ client, session }], sends }));
      return lease;
    }

    test('comes to its framework beside what the leader says, marked as what it is, and once', async () => {
      const lease = await answer();
      const agent = await harness.another();
      expect(await agent.sendToFramework(frameworkId, '["hello"]')).toBe('sent');
      await store.commit(
        commitOf(lease, 2, { sends: [{ client, session, messages: '["offer"]' }] }),
      );
      const entries = await store.readClient(client, session, START, 0);
      expect(entries.map(({ messages, isDirect }) => [messages, isDirect])).toEqual([
        ['["registered"]', undefined],
        ['["offer"]', undefined],
        ['["hello"]', true],
      ]);
      expect(await textsIn()).toEqual(['["registered"]', '["offer"]']);
    });

    test('wakes its reader, who has read all that was there before', async () => {
      await answer();
      const [registered] = await store.readClient(client, session, START, 0);
      const cursor = registered?.id ?? START;
      await store.heartbeat(client, session, cursor);
      const reader = await harness.another();
      const waiting = reader.readClient(client, session, cursor, BLOCK_MS);
      await harness.hasReader();
      await store.sendToFramework(frameworkId, '["hello"]');
      expect((await waiting).map(({ messages }) => messages)).toEqual(['["hello"]']);
    });

    test('to a framework that nobody has registered goes nowhere', async () => {
      await answer();
      expect(await store.sendToFramework(frameworkIdOf('f2'), '["hello"]')).toBe('unknown');
    });

    test('may come before the answer of the leader', async () => {
      await register(store);
      expect(await store.sendToFramework(frameworkId, '["hello"]')).toBe('sent');
      expect(await textsIn()).toEqual(['["hello"]']);
    });

    test('to a framework that has registered again comes into its new session', async () => {
      const lease = await answer();
      const later = sessionOf('s2');
      await store.commit(
        commitOf(lease, 2, {
          sessions: [{ client, session: later }],
          endedStreams: [{ client, session, farewell: '["moved"]' }],
          sends: [{ client, session: later, messages: '["registered"]' }],
        }),
      );
      expect(await store.sendToFramework(frameworkId, '["hello"]')).toBe('sent');
      expect(await textsIn(later)).toEqual(['["registered"]', '["hello"]']);
      expect(await textsIn()).toEqual(['["moved"]']);
    });

    test('to a framework that has left goes nowhere, also while its farewell is there', async () => {
      const lease = await answer();
      await store.commit(
        commitOf(lease, 2, {
          sessions: [{ client, session: undefined }],
          endedStreams: [{ client, session, farewell: '["bye"]' }],
        }),
      );
      expect(await store.sendToFramework(frameworkId, '["hello"]')).toBe('unknown');
    });

    test("is refused when the framework does not read, and takes none of the leader's room", async () => {
      const lease = await answer();
      const entry = { client, session, messages: '[]' } as const;
      const sent = await Promise.all(
        Array.from({ length: DIRECT_ENTRIES_MAX }, () =>
          store.sendToFramework(frameworkId, '["hello"]'),
        ),
      );
      expect(new Set(sent)).toEqual(new Set(['sent']));
      expect(await store.sendToFramework(frameworkId, '["over"]')).toBe('full');
      const sends = Array.from({ length: CLIENT_STREAM_MAX_ENTRIES - 1 }, () => entry);
      expect(await store.commit(commitOf(lease, 2, { sends }))).toEqual({
        ok: true,
        overflowing: [],
      });
    });
  });

  describe('output', () => {
    const readId = sessionOf('r1');
    const chunk = (
      kindOfOutput: 'stdout' | 'stderr',
      offset: number,
      bytes: Buffer,
    ): OutputChunk => ({
      kind: kindOfOutput,
      offset,
      bytes,
    });

    test('comes as the bytes that were written, in order, with its end', async () => {
      const binary = Buffer.from([0, 255, 10, 13, 128, 0]);
      await store.writeOutput(readId, [
        chunk('stdout', 0, binary),
        chunk('stderr', 7, Buffer.from('äh')),
        chunk('stdout', 6, Buffer.alloc(0)),
        { kind: 'end', error: '' },
      ]);
      const chunks = (await store.readOutput(readId, START, 0)).map((read) => read.chunk);
      expect(chunks).toEqual([
        { kind: 'stdout', offset: 0, bytes: binary },
        { kind: 'stderr', offset: 7, bytes: Buffer.from('äh') },
        { kind: 'stdout', offset: 6, bytes: Buffer.alloc(0) },
        { kind: 'end', error: '' },
      ]);
    });

    test('may end with an error', async () => {
      await store.writeOutput(readId, [{ kind: 'end', error: 'no such task' }]);
      const [read] = await store.readOutput(readId, START, 0);
      expect(read?.chunk).toEqual({ kind: 'end', error: 'no such task' });
    });

    test('that was read is gone, and its writer sees that there is room', async () => {
      const some = [chunk('stdout', 0, Buffer.from('a')), chunk('stdout', 1, Buffer.from('b'))];
      expect(await store.writeOutput(readId, some)).toBe(2);
      const read = await store.readOutput(readId, START, 0);
      expect(await store.writeOutput(readId, [])).toBe(0);
      expect(await store.readOutput(readId, read.at(-1)?.id ?? START, 0)).toEqual([]);
    });

    test('wakes its reader', async () => {
      const reader = await harness.another();
      const waiting = reader.readOutput(readId, START, BLOCK_MS);
      await harness.hasReader();
      await store.writeOutput(readId, [chunk('stdout', 0, Buffer.from('x'))]);
      expect(await waiting).toHaveLength(1);
    });

    test('that nobody wants any more is gone', async () => {
      await store.writeOutput(readId, [chunk('stdout', 0, Buffer.from('x'))]);
      await store.endOutput(readId);
      expect(await store.readOutput(readId, START, 0)).toEqual([]);
    });
  });
});
