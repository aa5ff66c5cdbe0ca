/** A secured cluster on a Redis of its own: masters with a guard, clients with tokens, and whoever can write to Redis and has none. */
import { systemClock } from '../../io/clock.ts';
import type { NewPrincipal } from '../../io/principals.ts';
import { addPrincipal } from '../../io/principals.ts';
import type { RedisStore } from '../../io/redis-store.ts';
import { openRedisStore } from '../../io/redis-store.ts';
import type { Token } from '../../io/tokens.ts';
import { makeToken, parseToken } from '../../io/tokens.ts';
import { Guard } from '../../master/guard.ts';
import { MASTER_SETTINGS_DEFAULT, runMaster } from '../../master/master.ts';
import type { ClusterEvent } from '../../protocol/records.ts';
import { until } from '../beds/cluster.ts';
import { startRedisBed } from '../beds/redis.ts';
import { masterIdOf } from './builders.ts';
import { LEASE_MS } from './store-harness.ts';
import type { LogLine, Watch } from './watch.ts';
import { createWatch, createWatchedLog } from './watch.ts';

export const CLUSTER_KEY = Buffer.alloc(32, 7);

export interface SecuredCluster {
  /** Of somebody who can write to Redis, and has no token. */
  readonly intruder: RedisStore;
  /** Another client, with that token. */
  store(token?: Token, log?: ReturnType<typeof createWatchedLog>): Promise<RedisStore>;
  create(principal: Omit<NewPrincipal, 'by'>): Promise<Token>;
  startMaster(id: string, clusterKey?: Buffer): Promise<RunningMaster>;
  /** All events so far of that type. */
  events(type: string): Promise<ClusterEvent[]>;
  /** The first event of that type for which `isIt` holds, come or to come. */
  event(type: string, isIt?: (event: ClusterEvent) => boolean): Promise<ClusterEvent>;
  stop(): Promise<void>;
}

export interface RunningMaster {
  readonly lines: Watch<LogLine>;
  stop(): Promise<void>;
}

export async function startSecuredCluster(): Promise<SecuredCluster> {
  const bed = await startRedisBed();
  const ends: (() => Promise<void>)[] = [];
  const open = async (token?: Token, log = createWatchedLog()): Promise<RedisStore> => {
    const store = await openRedisStore({ url: bed.url, cluster: 'c', log, name: 'test', token });
    ends.push(() => store.close());
    return store;
  };
  const intruder = await open();
  const { redis, keys } = intruder;
  const allEvents = async (): Promise<ClusterEvent[]> => {
    const entries = await redis.xrange(keys.events, '-', '+');
    return entries.flatMap(([, fields]) => JSON.parse(fields[1] ?? '[]') as ClusterEvent[]);
  };
  return {
    intruder,
    store: open,
    create: async (principal) => {
      const record = await addPrincipal(redis, keys, CLUSTER_KEY, {
        ...principal,
        by: 'root@desk',
      });
      const token = parseToken(makeToken(CLUSTER_KEY, record.name, record.generation));
      if (!token) throw new Error('no token');
      return token;
    },
    startMaster: async (id, clusterKey = CLUSTER_KEY) => {
      const log = createWatchedLog();
      const store = await open(undefined, log);
      const leading = createWatch<boolean>();
      const abort = new AbortController();
      const ended = runMaster(
        {
          store,
          clock: systemClock,
          log,
          masterId: masterIdOf(id),
          settings: { ...MASTER_SETTINGS_DEFAULT, leaseMs: LEASE_MS },
          guard: new Guard({ clusterKey, store, keys: store.keys, log }),
          onLeading: (isLeading) => {
            leading.push(isLeading);
          },
        },
        abort.signal,
      );
      const stop = async (): Promise<void> => {
        abort.abort();
        await ended;
      };
      ends.push(stop);
      await leading.first((isLeading) => isLeading);
      return { lines: log.lines, stop };
    },
    events: async (type) => (await allEvents()).filter((event) => event.type === type),
    event: async (type, isIt = () => true) => {
      let found: ClusterEvent | undefined;
      await until(async () => {
        found = (await allEvents()).find((event) => event.type === type && isIt(event));
        return found !== undefined;
      });
      return found as unknown as ClusterEvent;
    },
    stop: async () => {
      for (const end of ends.reverse()) await end();
      await bed.stop();
    },
  };
}
