/** The commands that read the event log, against a real Redis: what they take from it, and when they refuse. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { assertKept, readEventsAfter } from '../../cli/event-log.ts';
import { parsePosition } from '../../protocol/event-position.ts';
import type { EventPosition } from '../../protocol/event-position.ts';
import { readClusterAtOnce } from '../../cli/registry.ts';
import { readPresent, replayTo } from '../../cli/replay.ts';
import { systemClock } from '../../io/clock.ts';
import { silentLog } from '../../io/log.ts';
import { openRedisStore, type RedisStore } from '../../io/redis-store.ts';
import type { Commit, Lease } from '../../io/store.ts';
import { MASTER_SETTINGS_DEFAULT, runMaster } from '../../master/master.ts';
import { snapshotOf, sourceOf } from '../../master/snapshot.ts';
import { takeChanges } from '../../master/core/state.ts';
import { EVENTS_MAX_ENTRIES } from '../../protocol/limits.ts';
import { compareProjections, projectionOf } from '../../protocol/replay.ts';
import type { MasterEffect } from '../../master/core/effects.ts';
import { bedReason } from '../beds/available.ts';
import { startRedisBed, type RedisBed } from '../beds/redis.ts';
import { masterIdOf } from '../support/builders.ts';
import { createMasterBench, eventsOf, type MasterBench } from '../support/master-bench.ts';
import { beginTerm, commitOf } from '../support/store-harness.ts';

const reason = bedReason('redis');
const describeRedis = reason === undefined ? describe : describe.skip;
const suffix = reason === undefined ? '' : ` (skipped: ${reason})`;

function place(text: string): EventPosition {
  const found = parsePosition(text);
  if (!found) throw new Error(`not a place: ${text}`);
  return found;
}

describeRedis(`a replay from a real Redis${suffix}`, () => {
  let bed: RedisBed;
  let store: RedisStore;
  let lease: Lease;
  let bench: MasterBench;
  let clusters = 0;
  let cluster: string;
  let commits = 0;

  beforeAll(async () => {
    bed = await startRedisBed();
  });
  afterAll(() => bed.stop());

  beforeEach(async () => {
    cluster = `c${String((clusters += 1))}`;
    store = await openRedisStore({ url: bed.url, cluster, log: silentLog, name: 'test' });
    lease = await beginTerm(store, masterIdOf('m1'));
    bench = createMasterBench();
    commits = 0;
  });
  afterEach(() => store.close());

  /** Commits what the bench has done, as a master would. @returns id of the newest entry of the log */
  async function commit(
    effects: readonly MasterEffect[],
    more: Partial<Commit> = {},
  ): Promise<string> {
    const changes = takeChanges(bench.state);
    const events = eventsOf(effects).map((event) => JSON.stringify(event));
    const result = await store.commit(
      commitOf(lease, (commits += 1), { changes, events, ...more }),
    );
    expect(result.ok).toBe(true);
    const [newest] = await store.redis.xrevrange(store.keys.events, '+', '-', 'COUNT', 1);
    return newest?.[0] ?? '0-0';
  }

  const withSnapshot = (): Partial<Commit> => ({ snapshot: snapshotOf(bench.state) });

  test('shows the cluster after each event, and agrees with the registry at the end', async () => {
    await commit([], withSnapshot());
    const first = await commit(bench.registerAgent('a1'));
    await commit(bench.registerAgent('a2'), withSnapshot());
    await commit(bench.registerFramework('f1'));
    const then = await replayTo(store, place(first), []);
    expect([...then.projection.agents.keys()]).toEqual(['a1']);
    const { projection, at } = await readPresent(store);
    const now = await replayTo(store, at, []);
    expect(compareProjections(now.projection, projection)).toEqual([]);
    expect(compareProjections(projection, projectionOf(sourceOf(bench.state)))).toEqual([]);
    expect(now.last).toMatch(/\.\d+$/);
  });

  test('begins with what a master stores at the begin of its term, without anything to do', async () => {
    await store.releaseLease(lease);
    const abort = new AbortController();
    const settings = MASTER_SETTINGS_DEFAULT;
    const masterId = masterIdOf('m2');
    const master = runMaster(
      { store, clock: systemClock, log: silentLog, masterId, settings },
      abort.signal,
    );
    const reader = await openRedisStore({ url: bed.url, cluster, log: silentLog, name: 'reader' });
    let entries: unknown[] = [];
    while (entries.length === 0) {
      const from = ['STREAMS', reader.keys.snapshots, '0'] as const;
      [[, entries = []] = []] = (await reader.redis.xread('BLOCK', 4000, ...from)) ?? [];
    }
    const { projection, at } = await readPresent(reader);
    const replayed = await replayTo(reader, at, []);
    const differences = compareProjections(replayed.projection, projection);
    abort.abort();
    await master;
    await reader.close();
    expect([entries.length, differences]).toEqual([1, []]);
  });

  test('reads registry and log of one moment also in one go', async () => {
    await commit(bench.registerAgent('a1'));
    const entry = await commit(bench.registerFramework('f1'));
    const found = await readClusterAtOnce(store);
    expect(found.entry).toBe(entry);
    expect(
      compareProjections(projectionOf(found.cluster), projectionOf(sourceOf(bench.state))),
    ).toEqual([]);
  });

  test('of a moment before the oldest snapshot is refused, and the oldest moment named', async () => {
    await expect(replayTo(store, place('5-0'), [])).rejects.toMatchObject({
      code: 'not-found',
      message: expect.stringContaining('no snapshot'),
    });
    const entry = await commit(bench.registerAgent('a1'), withSnapshot());
    await expect(replayTo(store, place('5-0'), [])).rejects.toMatchObject({
      code: 'not-found',
      message: expect.stringContaining('the oldest moment that is kept is'),
      hint: expect.stringContaining(new Date(place(entry).ms).toISOString()),
    });
  });

  test('never begins with a snapshot whose next events have been dropped', async () => {
    const entry = await commit(bench.registerAgent('a1'), withSnapshot());
    const after = place(entry);
    await expect(assertKept(store, after)).resolves.toBeUndefined();
    const fill = store.redis.pipeline();
    // More than the limit, so that the oldest entries go with the next commit; whole nodes of a hundred at a time.
    for (let count = 0; count < EVENTS_MAX_ENTRIES + 200; count += 1) {
      fill.xadd(store.keys.events, '*', 'events', '[]');
    }
    await fill.exec();
    const last = await commit(bench.registerAgent('a2'));
    await expect(assertKept(store, after)).rejects.toMatchObject({ code: 'events-dropped' });
    await expect(replayTo(store, place(last), [])).rejects.toMatchObject({ code: 'not-found' });
  });

  test('goes on after an event within a commit with the next one of that commit', async () => {
    const entry = await commit([...bench.registerAgent('a1'), ...bench.registerAgent('a2')]);
    const seen: string[] = [];
    const range = { after: place(`${entry}.1`), to: '+' };
    for await (const event of readEventsAfter(store, range, [])) seen.push(event.id);
    expect(seen).toEqual([`${entry}.2`]);
  });
});
