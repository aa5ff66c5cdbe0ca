/** What a master does with a registry or an inbox that it cannot read: it says so, keeps it aside, and goes on. */
import { beforeEach, expect, test } from '@jest/globals';
import { systemClock } from '../../io/clock.ts';
import type { RegistryChange } from '../../io/store.ts';
import { Leadership } from '../../master/leadership.ts';
import type { MasterDependencies } from '../../master/master.ts';
import { MASTER_SETTINGS_DEFAULT, runMaster } from '../../master/master.ts';
import { REGISTRY_FORMAT } from '../../protocol/records.ts';
import { agentTask, frameworkInfo, masterIdOf, sessionOf } from '../support/builders.ts';
import { startScriptedAgent } from '../support/scripted-agent.ts';
import {
  beginTerm,
  commitOf,
  describeStores,
  LEASE_MS,
  type StoreHarness,
} from '../support/store-harness.ts';
import { createWatchedLog } from '../support/watch.ts';

describeStores('a master on %s', ['FakeStore', 'RedisStore'], ({ open, atEnd }) => {
  let harness: StoreHarness;

  beforeEach(async () => {
    harness = await open();
  });

  /** As an earlier leader might have left it, sound or not. */
  async function storeRecords(changes: readonly RegistryChange[]): Promise<void> {
    const { store } = harness;
    const lease = await beginTerm(store, 'm0');
    const result = await store.commit(commitOf(lease, 1, { changes }));
    expect(result.ok).toBe(true);
    await store.releaseLease(lease);
  }

  async function dependencies(): Promise<
    MasterDependencies & { log: ReturnType<typeof createWatchedLog> }
  > {
    return {
      store: await harness.another(),
      clock: systemClock,
      log: createWatchedLog(),
      masterId: masterIdOf('m1'),
      settings: { ...MASTER_SETTINGS_DEFAULT, leaseMs: LEASE_MS },
    };
  }

  async function startMaster(): Promise<ReturnType<typeof createWatchedLog>> {
    const master = await dependencies();
    const abort = new AbortController();
    const ended = runMaster(master, abort.signal);
    atEnd(async () => {
      abort.abort();
      await ended;
      await master.store.close();
    });
    return master.log;
  }

  test('names a record that it cannot read, keeps it in the quarantine, and takes it out of the registry', async () => {
    await storeRecords([
      { registry: 'tasks', key: 'f1/t1', value: '{"half' },
      { registry: 'agents', key: 'a1', value: '{"state":"odd"}' },
    ]);
    const log = await startMaster();
    const lines = await log.lines.count(2, ({ event }) => event === 'registry.bad-record');
    expect(lines.map(({ fields }) => fields['key']).sort()).toEqual(['a1', 'f1/t1']);
    const agent = startScriptedAgent(await harness.another(), 'a1');
    atEnd(() => agent.stop());
    await agent.received('AgentRegistered');
    const kept = (await harness.quarantine()).map((text) => JSON.parse(text) as object);
    expect(kept).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ registry: 'tasks', key: 'f1/t1', value: '{"half' }),
        expect.objectContaining({ registry: 'agents', key: 'a1', value: '{"state":"odd"}' }),
      ]),
    );
    const { registry } = await harness.store.loadSnapshot();
    expect([...registry.tasks.keys()]).toEqual([]);
  });

  test('has the task of a bad record back when its agent registers', async () => {
    await storeRecords([{ registry: 'tasks', key: 'f1/t1', value: 'null' }]);
    await startMaster();
    const agent = startScriptedAgent(await harness.another(), 'a1', {
      tasks: [agentTask('f1', 't1')],
      frameworks: [{ info: frameworkInfo('f1'), detached: false }],
    });
    atEnd(() => agent.stop());
    await agent.received('AgentRegistered');
    const { registry } = await harness.store.loadSnapshot();
    expect(JSON.parse(registry.tasks.get('f1/t1') ?? '{}')).toMatchObject({
      taskId: 't1',
      state: 'TASK_RUNNING',
    });
  });

  test('does not lead a cluster that a newer Kaon has written, and changes nothing of it', async () => {
    const format = REGISTRY_FORMAT + 1;
    const value = JSON.stringify({ format, somethingNew: true });
    await storeRecords([{ registry: 'cluster', key: 'state', value }]);
    const master = await dependencies();
    atEnd(() => master.store.close());
    await expect(runMaster(master, new AbortController().signal)).rejects.toMatchObject({
      code: 'registry-too-new',
    });
    const { registry, commitNumber } = await harness.store.loadSnapshot();
    expect([commitNumber, registry.cluster.get('state')]).toEqual([1, value]);
    expect(await harness.store.leader()).toBeUndefined();
  });

  test('leaves an entry out on which it has failed before, and keeps it', async () => {
    const { store } = harness;
    const append = { client: 'agent:a1' as const, session: sessionOf('s1'), sequence: 1 };
    await store.append({ ...append, messages: '[{"type":"AnyThing"}]' });
    const [entry] = await store.readInbox('0-0', 1, 0);
    const master = await dependencies();
    atEnd(() => master.store.close());
    const lease = await master.store.acquireLease(master.masterId, LEASE_MS);
    if (!lease || !entry) throw new Error('no lease or no entry');
    const leadership = new Leadership({ ...master, lease, poisoned: new Set([entry.id]) });
    const running = leadership.run();
    await master.log.lines.first(
      ({ event, fields }) => event === 'inbox.bad-message' && fields['code'] === 'poisoned',
    );
    const agent = startScriptedAgent(await harness.another(), 'a2');
    await agent.received('AgentRegistered');
    leadership.stop('stopped');
    await running;
    await agent.stop();
    expect((await harness.quarantine()).map((text) => JSON.parse(text) as object)).toEqual([
      expect.objectContaining({
        entry: entry.id,
        from: 'agent:a1',
        messages: '[{"type":"AnyThing"}]',
      }),
    ]);
  });
});
