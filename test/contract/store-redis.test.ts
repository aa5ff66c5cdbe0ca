/** What only a real Redis does: replies that get lost, entries of other people, servers that are not there. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { createLog, silentLog } from '../../io/log.ts';
import { openRedisStore, type RedisStore } from '../../io/redis-store.ts';
import { START } from '../../io/store.ts';
import type { KaonError } from '../../protocol/errors.ts';
import { bedReason } from '../beds/available.ts';
import { startRedisBed, type RedisBed } from '../beds/redis.ts';
import { masterIdOf, sessionOf } from '../support/builders.ts';
import {
  startReplyDroppingProxy,
  type ReplyDroppingProxy,
} from '../support/reply-dropping-proxy.ts';
import { beginTerm, commitOf } from '../support/store-harness.ts';

const reason = bedReason('redis');
const describeRedis = reason === undefined ? describe : describe.skip;
const suffix = reason === undefined ? '' : ` (skipped: ${reason})`;
const client = 'framework:f1';
const session = sessionOf('s1');

describeRedis(`a store on a real Redis${suffix}`, () => {
  let bed: RedisBed;
  let clusters = 0;

  beforeAll(async () => {
    bed = await startRedisBed();
  });
  afterAll(() => bed.stop());

  function open(url = bed.url, cluster = `c${String((clusters += 1))}`): Promise<RedisStore> {
    return openRedisStore({ url, cluster, log: silentLog, name: 'test' });
  }

  describe('whose replies get lost', () => {
    let proxy: ReplyDroppingProxy;
    let store: RedisStore;

    beforeEach(async () => {
      proxy = await startReplyDroppingProxy(bed.socketPath);
      store = await open(proxy.url);
    });
    afterEach(async () => {
      await store.close();
      await proxy.stop();
    });

    test('appends an entry once, although ioredis sends it again', async () => {
      await store.append({ client, session, sequence: 1, messages: '["a"]' });
      proxy.dropNextReply();
      const result = await store.append({ client, session, sequence: 2, messages: '["b"]' });
      expect([proxy.dropped(), result]).toEqual([1, 'duplicate']);
      const entries = await store.redis.xrange(store.keys.inbox, '-', '+');
      expect(entries).toHaveLength(2);
    });

    test('leads with the later epoch, if it has taken the lease twice', async () => {
      const first = await store.acquireLease(masterIdOf('m1'), 60_000);
      proxy.dropNextReply();
      const lease = await store.acquireLease(masterIdOf('m1'), 60_000);
      const epoch = (first?.epoch ?? 0) + 2;
      expect([proxy.dropped(), lease?.epoch]).toEqual([1, epoch]);
      expect(await store.leader()).toMatchObject({ epoch });
    });

    test('goes on under the raised epoch', async () => {
      const lease = await beginTerm(store);
      proxy.dropNextReply();
      const raised = { ...lease, epoch: 9 };
      expect([await store.raiseEpoch(lease, 9), proxy.dropped()]).toEqual([raised, 1]);
    });

    test('says by which connection it leads after each reconnection', async () => {
      const lease = await beginTerm(store);
      const before = await store.redis.get(store.keys.leaderConnection);
      proxy.dropNextReply();
      await store.nowMs();
      // Somebody who keeps the lease is woken to renew it.
      while ((await store.redis.get(store.keys.leaderConnection)) === before) {
        await store.waitForLeaderChange(1000);
        await store.renewLease(lease, 60_000);
      }
      expect(await store.isLeaderGone(lease)).toBe(false);
    });

    test('commits once, and says that it has', async () => {
      const lease = await beginTerm(store);
      proxy.dropNextReply();
      const commit = commitOf(lease, 1, { sends: [{ client, session, messages: '[]' }] });
      expect(await store.commit(commit)).toEqual({ ok: true, overflowing: [] });
      expect(proxy.dropped()).toBe(1);
      expect(await store.readClient(client, session, START, 0)).toHaveLength(1);
    });

    test('goes on reading', async () => {
      await store.append({ client, session, sequence: 1, messages: '["a"]' });
      expect(await store.readInbox(START, 10, 1)).toHaveLength(1);
      proxy.dropNextReply();
      expect(await store.readInbox(START, 10, 1)).toHaveLength(1);
    });
  });

  describe('into which somebody has written by hand', () => {
    let store: RedisStore;

    beforeEach(async () => {
      store = await open();
    });
    afterEach(() => store.close());

    test('reads entries with other fields as entries that say nothing', async () => {
      await store.redis.xadd(store.keys.inbox, '*', 'foo', 'bar');
      await store.redis.xadd(store.keys.inbox, '*', 'messages', 'not json', 'messages', 'twice');
      await store.redis.xadd(store.keys.inbox, '*', '__proto__', 'x', 'constructor', 'y');
      await store.redis.xadd(store.keys.inbox, '*', 'messages', Buffer.from([0xff, 0xfe]));
      const entries = await store.readInbox(START, 10, 0);
      expect(entries.map(({ id: _id, ...entry }) => entry)).toEqual([
        { from: '', session: '', sequence: 0, messages: '' },
        { from: '', session: '', sequence: 0, messages: 'twice' },
        { from: '', session: '', sequence: 0, messages: '' },
        { from: '', session: '', sequence: 0, messages: '\ufffd\ufffd' },
      ]);
    });

    test('reads a client’s stream and its output likewise', async () => {
      await store.redis.xadd(store.keys.client(client, session), '*', 'foo', 'bar');
      await store.redis.xadd(store.keys.output(session), '*', 'foo', 'bar');
      const [entry] = await store.readClient(client, session, START, 0);
      const [output] = await store.readOutput(session, START, 0);
      expect([entry?.messages, output?.chunk.kind]).toEqual(['', 'end']);
    });

    test('does not take a leader that nobody could be for a leader', async () => {
      await store.redis.set(store.keys.leader, 'me');
      expect(await store.leader()).toBeUndefined();
    });
  });

  test('keeps clusters apart', async () => {
    const [one, two] = [await open(), await open()];
    await one.append({ client, session, sequence: 1, messages: '[]' });
    expect(await two.readInbox(START, 10, 0)).toEqual([]);
    await Promise.all([one.close(), two.close()]);
  });

  test('that is closed ends its waiting reads, and closing does not wait', async () => {
    const store = await open();
    const waiting = store.readInbox(START, 10, 60_000);
    const standby = store.waitForLeaderChange(60_000);
    await Promise.all([
      store.close(),
      expect(waiting).rejects.toThrow('Connection is closed'),
      standby.catch(() => undefined),
    ]);
  });

  test('whose user may not ask for connections waits for the end of the lease', async () => {
    const admin = await open();
    const rules = ['on', '>pw', '~*', '&*', '+@all', '-client|id', '-client|list'];
    await admin.redis.call('ACL', 'SETUSER', 'limited', ...rules);
    const url = bed.url.replace('unix://', 'unix://limited:pw@localhost');
    const [leading, standby] = [await open(url, 'acl'), await open(url, 'acl')];
    const lease = await beginTerm(leading);
    expect(await standby.redis.exists(standby.keys.leaderConnection)).toBe(0);
    await standby.redis.set(standby.keys.leaderConnection, `999999999 1 m1`);
    expect(await standby.isLeaderGone(lease)).toBe(false);
    expect(await leading.renewLease(lease, 60_000)).toBeGreaterThan(0);
    await Promise.all([admin, leading, standby].map((store) => store.close()));
  });

  test('that is closed while Redis is away ends whatever waits for it', async () => {
    const own = await startRedisBed();
    const store = await open(own.url);
    const stop = new AbortController();
    await store.readInbox(START, 10, 1);
    await own.kill();
    const interrupted = store.readInbox(START, 10, 60_000, stop.signal);
    const calls = [
      store.append({ client, session, sequence: 1, messages: '[]' }),
      store.readClient(client, session, START, 60_000),
    ];
    const ends = calls.map((call) => expect(call).rejects.toThrow('Connection is closed'));
    while (store.redis.status !== 'reconnecting') await new Promise(setImmediate);
    stop.abort();
    await store.close();
    await Promise.all(ends);
    expect(await interrupted).toEqual([]);
    await own.stop();
  });

  test('that went away is found again, and calls meanwhile wait', async () => {
    const own = await startRedisBed({ appendonly: 'yes' });
    const store = await open(own.url);
    await store.append({ client, session, sequence: 1, messages: '[]' });
    await own.kill();
    const result = store.append({ client, session, sequence: 2, messages: '[]' });
    await own.restart();
    // What the append-only file had not yet is a gap; that the call is answered is what counts.
    expect(['appended', 'gap']).toContain(await result);
    await store.close();
    await own.stop();
  });
});

describe('a Redis that is not there', () => {
  const failure = async (url: string): Promise<KaonError> => {
    const opened = openRedisStore({ url, cluster: 'c', log: silentLog, name: 'test' });
    return opened.then(
      () => Promise.reject(new Error('it is there')),
      (error: unknown) => error as KaonError,
    );
  };

  test('is an error that says where, why, and what to do', async () => {
    const error = await failure('unix:///nonexistent/redis.sock');
    expect(error).toMatchObject({
      code: 'redis-unreachable',
      message: expect.stringMatching(
        /^cannot use Redis at unix:\/\/\/nonexistent\/redis\.sock: .*ENOENT/,
      ) as unknown,
      hint: expect.stringContaining('KAON_REDIS') as unknown,
    });
  });

  test('is an error that does not tell the password, nor does the log', async () => {
    const lines: string[] = [];
    const log = createLog({ write: (line) => lines.push(line) });
    const url = 'unix://ann:geheim@localhost/nonexistent/redis.sock';
    const error: unknown = await openRedisStore({ url, cluster: 'c', log, name: 'test' }).catch(
      (e: unknown) => e,
    );
    expect(`${String(error)} ${lines.join('')}`).not.toContain('geheim');
    expect(lines.join('')).toContain('redis.unreachable');
  });
});
