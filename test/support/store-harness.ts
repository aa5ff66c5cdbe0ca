/**
 * The two stores of the contract suite behind one set of handles for what the interface hides: time that passes, and
 * what people read (events, history).
 */
import { afterAll, afterEach, beforeAll, describe, test } from '@jest/globals';
import type { StoredSnapshot } from '../../io/fake/data.ts';
import { FakeStore } from '../../io/fake/store.ts';
import { RedisModel } from '../../io/fake/model.ts';
import { silentLog } from '../../io/log.ts';
import type { RedisStore } from '../../io/redis-store.ts';
import { openRedisStore } from '../../io/redis-store.ts';
import type { Commit, Lease, Store, StreamId } from '../../io/store.ts';
import { START } from '../../io/store.ts';
import type { MasterId } from '../../protocol/ids.ts';
import { INBOX_MAX_ENTRIES } from '../../protocol/limits.ts';
import { bedReason } from '../beds/available.ts';
import { startRedisClusterBed } from '../beds/redis-cluster.ts';
import { startTlsRedisBed } from '../beds/redis-tls.ts';
import { startRedisBed, type RedisBed } from '../beds/redis.ts';

/** Of a lease that nobody is to lose: longer than any test, also on a machine that stands still for a while. */
export const LEASE_MS = 600_000;
/** Between which Redis answers others. */
const FILL_SCRIPTS = 20;

/** One cluster in one test. */
export interface StoreHarness {
  readonly store: Store;
  /** Another client of the same cluster. */
  another(): Promise<Store>;
  /** As if the lease's time were over. */
  expireLease(): Promise<void>;
  /** Puts as many entries into the inbox as it may hold. */
  fillInbox(): Promise<void>;
  /** Resolves when so many, default 1, are really waiting for a change of the leader. */
  hasWaiter(howMany?: number): Promise<void>;
  /** Resolves when somebody is really waiting for entries of a stream. */
  hasReader(): Promise<void>;
  events(): Promise<string[]>;
  history(): Promise<string[]>;
  quarantine(): Promise<string[]>;
  snapshots(): Promise<StoredSnapshot[]>;
  /** Id of the newest entry of the events. */
  lastEventId(): Promise<StreamId>;
  /** Some milliseconds go by in Redis. */
  passTime(): Promise<void>;
  /** Redis ends and starts again, with its data. */
  restartServer(): Promise<void>;
  /** Redis loses everything, and goes on. */
  flushServer(): Promise<void>;
  close(): Promise<void>;
}

interface StoreKind {
  start(): Promise<void>;
  open(): Promise<StoreHarness>;
  stop(): Promise<void>;
}

function fakeKind(): StoreKind {
  return {
    start: () => Promise.resolve(),
    stop: () => Promise.resolve(),
    open: () => {
      let nowMs = 1_700_000_000_000;
      const model = new RedisModel(() => nowMs, 0);
      const stores: FakeStore[] = [];
      const another = (): FakeStore => {
        const store = new FakeStore(model);
        stores.push(store);
        return store;
      };
      return Promise.resolve({
        store: another(),
        another: () => Promise.resolve(another()),
        expireLease: () => {
          nowMs += model.leader()?.remainingMs ?? 0;
          return Promise.resolve();
        },
        fillInbox: () => {
          const session = 'filler' as never;
          for (let sequence = 1; sequence <= INBOX_MAX_ENTRIES; sequence += 1) {
            model.append({ client: 'agent:filler', session, sequence, messages: '[]' });
          }
          return Promise.resolve();
        },
        // A store in memory waits from the moment of the call on.
        hasWaiter: () => Promise.resolve(),
        hasReader: () => Promise.resolve(),
        events: () => Promise.resolve([...model.events]),
        history: () => Promise.resolve([...model.history]),
        quarantine: () => Promise.resolve([...model.quarantine]),
        snapshots: () => Promise.resolve([...model.snapshots]),
        lastEventId: () => Promise.resolve(model.lastEventId),
        passTime: () => {
          nowMs += 10;
          return Promise.resolve();
        },
        restartServer: () => {
          model.restart(true);
          return Promise.resolve();
        },
        flushServer: () => {
          model.flushAll();
          return Promise.resolve();
        },
        close: async () => {
          for (const store of stores) await store.close();
        },
      });
    },
  };
}

/** What a suite needs of a Redis, whichever it is. */
interface StoreBed {
  readonly url: string;
  /** Restarts the server that has the keys of the cluster, which keeps its data. */
  restart(cluster: string): Promise<void>;
  stop(): Promise<void>;
}

/** With its file, so that a restart finds the data again. */
const startPlainBed = (): Promise<RedisBed> => startRedisBed({ appendonly: 'yes' });

/** A server for the whole suite, and a cluster name for each test. */
function redisKind(): StoreKind {
  return kindOn(startPlainBed);
}

/** The same on TLS with client certificates. */
function tlsKind(): StoreKind {
  return kindOn(startTlsRedisBed);
}

/** The same on a Redis Cluster. */
function redisClusterKind(): StoreKind {
  return kindOn(async () => {
    const bed = await startRedisClusterBed({ appendonly: 'yes' });
    const restart = async (cluster: string): Promise<void> => {
      const port = await bed.ownerOf(cluster);
      await bed.kill(port);
      await bed.restart(port);
    };
    return { ...bed, restart };
  });
}

function kindOn(startBed: () => Promise<StoreBed>): StoreKind {
  let bed: StoreBed | undefined;
  let clusters = 0;
  const running = (): StoreBed => {
    if (!bed) throw new Error('the Redis bed was not started');
    return bed;
  };
  return {
    start: async () => {
      bed = await startBed();
    },
    stop: () => running().stop(),
    open: async () => {
      clusters += 1;
      const cluster = `c${String(clusters)}`;
      const stores: RedisStore[] = [];
      const another = async (): Promise<RedisStore> => {
        const options = { url: running().url, cluster, log: silentLog, name: `test-${cluster}` };
        const opened = await openRedisStore(options);
        stores.push(opened);
        return opened;
      };
      const store = await another();
      const { redis, keys } = store;
      // As if there had been leaders before, so that tests can name the epochs that follow.
      await redis.set(keys.epoch, 0);
      return {
        store,
        another,
        expireLease: async () => {
          await redis.pexpire(keys.leader, 0);
        },
        fillInbox: async () => {
          // Not all at once: a server that answers nobody for so long is not to be told from one that hangs.
          const count = INBOX_MAX_ENTRIES / FILL_SCRIPTS;
          const script = `for i = 1, ${String(count)} do redis.call('XADD', KEYS[1], '*', 'messages', '[]') end`;
          for (let run = 0; run < FILL_SCRIPTS; run += 1) await redis.eval(script, 1, keys.inbox);
        },
        hasWaiter: async (howMany = 1) => {
          let count = 0;
          while (count < howMany) {
            const [, subscribers] = await redis.pubsub('NUMSUB', keys.leaderChannel);
            count = Number(subscribers);
          }
        },
        hasReader: async () => {
          // Of this cluster: a reader of the test before may not have been cut off yet.
          const isBlocked = new RegExp(` name=kaon-test-${cluster}-.* flags=b`);
          while (
            !String(await redis.client('LIST'))
              .split('\n')
              .some((row) => isBlocked.test(row))
          );
        },
        events: async () => {
          const entries = await redis.xrange(keys.events, '-', '+');
          return entries.flatMap(([, fields]) =>
            (JSON.parse(fields[1] ?? '[]') as unknown[]).map((event) => JSON.stringify(event)),
          );
        },
        history: async () => {
          const entries = await redis.xrange(keys.history, '-', '+');
          return entries.map(([, fields]) => fields[1] ?? '');
        },
        quarantine: async () => {
          const entries = await redis.xrange(keys.quarantine, '-', '+');
          return entries.map(([, fields]) => fields[1] ?? '');
        },
        snapshots: async () => {
          const entries = await redis.xrange(keys.snapshots, '-', '+');
          return entries.map(([, [, state = '', , event = '']]) => ({ state, event }));
        },
        lastEventId: async () => {
          const [newest] = await redis.xrevrange(keys.events, '+', '-', 'COUNT', 1);
          return newest?.[0] ?? START;
        },
        passTime: async () => {
          const startMs = await store.nowMs();
          while ((await store.nowMs()) < startMs + 10);
        },
        restartServer: () => running().restart(cluster),
        flushServer: async () => {
          await redis.flushall();
        },
        close: async () => {
          for (const opened of stores) await opened.close();
        },
      };
    },
  };
}

interface StoreBehind {
  readonly bed: Parameters<typeof bedReason>[0] | undefined;
  readonly kind: () => StoreKind;
}

const STORES = {
  FakeStore: { bed: undefined, kind: fakeKind },
  RedisStore: { bed: 'redis', kind: redisKind },
  'RedisStore on a Redis Cluster': { bed: 'redis', kind: redisClusterKind },
  'RedisStore with TLS': { bed: 'redis-tls', kind: tlsKind },
} as const satisfies Record<string, StoreBehind>;
type StoreName = keyof typeof STORES;

/** What a suite does with its store; each test has a cluster of its own. */
interface StoreScene {
  /** For `beforeEach`; it is closed after the test. */
  open(): Promise<StoreHarness>;
  /** What else to end after the test: what came last first, and all of it before the store is closed. */
  atEnd(end: () => Promise<void>): void;
}

/**
 * One suite for each of the stores. One that cannot be had here is skipped, and its title says why.
 *
 * @param title with `%s` where the name of the store goes
 */
export function describeStores(
  title: string,
  names: readonly StoreName[],
  suite: (scene: StoreScene) => void,
): void {
  for (const name of names) {
    const { bed, kind }: StoreBehind = STORES[name];
    const full = title.replace('%s', name);
    const reason = bed && bedReason(bed);
    if (reason === undefined) describe(full, () => suiteOn(kind(), suite));
    else {
      describe.skip(`${full} (skipped: ${reason})`, () =>
        test('all of the contract', () => undefined));
    }
  }
}

function suiteOn(kind: StoreKind, suite: (scene: StoreScene) => void): void {
  const ends: (() => Promise<void>)[] = [];
  beforeAll(() => kind.start());
  suite({
    open: async () => {
      const harness = await kind.open();
      ends.push(() => harness.close());
      return harness;
    },
    atEnd: (end) => {
      ends.push(end);
    },
  });
  // Hooks run in the order in which they are defined: those of the suite still have the store.
  afterEach(async () => {
    for (const end of ends.splice(0).reverse()) await end();
  });
  afterAll(() => kind.stop());
}

/** A commit that changes nothing but what is said. */
export function commitOf(
  lease: Lease,
  number: number,
  more: Partial<Commit> & { readonly cursor?: StreamId } = {},
): Commit {
  return {
    lease,
    number,
    cursor: '0-0',
    changes: [],
    sessions: [],
    endedStreams: [],
    sends: [],
    events: [],
    history: [],
    quarantine: [],
    snapshot: undefined,
    ...more,
  };
}

/** Takes the lease and begins a term, as a master does before it loads. */
export async function beginTerm(store: Store, masterId = 'm1', leaseMs = LEASE_MS): Promise<Lease> {
  const lease = await store.acquireLease(masterId as MasterId, leaseMs);
  if (!lease) throw new Error('the lease is held by another');
  const term = await store.beginTerm(lease);
  if (!term.ok) throw new Error('the lease was lost at once');
  return lease;
}
