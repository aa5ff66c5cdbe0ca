/** The master's shell with a framework and an agent that are real up to their ends, over both stores. */
import { beforeEach, expect, test } from '@jest/globals';
import { systemClock } from '../../io/clock.ts';
import type { Store } from '../../io/store.ts';
import { MASTER_SETTINGS_DEFAULT, runMaster } from '../../master/master.ts';
import { ENTRY_MAX_BYTES } from '../../protocol/limits.ts';
import { executorIdOf, executorTask, masterIdOf, sessionOf } from '../support/builders.ts';
import { taskInfo } from '../support/builders.ts';
import { startScriptedAgent, type ScriptedAgent } from '../support/scripted-agent.ts';
import { startScriptedFramework, type ScriptedFramework } from '../support/scripted-framework.ts';
import { describeStores, LEASE_MS, type StoreHarness } from '../support/store-harness.ts';
import { createWatch, createWatchedLog, type Watch } from '../support/watch.ts';

interface RunningMaster {
  readonly log: ReturnType<typeof createWatchedLog>;
  readonly leading: Watch<boolean>;
  stop(): Promise<void>;
}

describeStores('a master on %s', ['FakeStore', 'RedisStore'], ({ open, atEnd }) => {
  let harness: StoreHarness;

  beforeEach(async () => {
    harness = await open();
  });

  async function startMaster(id: string, leaseMs = LEASE_MS): Promise<RunningMaster> {
    const store = await harness.another();
    const log = createWatchedLog();
    const leading = createWatch<boolean>();
    const abort = new AbortController();
    const ended = runMaster(
      {
        store,
        clock: systemClock,
        log,
        masterId: masterIdOf(id),
        settings: { ...MASTER_SETTINGS_DEFAULT, leaseMs },
        onLeading: (isLeading) => {
          leading.push(isLeading);
        },
      },
      abort.signal,
    );
    const stop = async (): Promise<void> => {
      abort.abort();
      await ended;
      await store.close();
    };
    atEnd(stop);
    return { log, leading, stop };
  }

  async function startAgent(id: string): Promise<ScriptedAgent> {
    const agent = startScriptedAgent(await harness.another(), id);
    atEnd(() => agent.stop());
    await agent.received('AgentRegistered');
    return agent;
  }

  async function startFramework(name: string): Promise<ScriptedFramework> {
    const framework = await startScriptedFramework(await harness.another(), { name });
    atEnd(() => framework.stop());
    await framework.called('registered');
    return framework;
  }

  /** Ids of the tasks in the history; it is written with the commit that the acknowledgement makes. */
  async function historyOf(): Promise<string[]> {
    const tasks = await harness.history();
    return tasks.map((task) => (JSON.parse(task) as { taskId: string }).taskId);
  }

  test('takes a task from its offer to its history', async () => {
    await startMaster('m1');
    const agent = await startAgent('a1');
    const framework = await startFramework('shop');
    const { frameworkId } = framework.driver;

    const offer = await framework.offered();
    framework.driver.launchTasks(offer.offerId, [taskInfo('t1')]);
    const { task, framework: owner } = await agent.received('RunTask');
    expect([task.taskId, owner.name]).toEqual(['t1', 'shop']);

    agent.say(frameworkId, 't1', 'TASK_RUNNING');
    await framework.updated('t1', 'TASK_RUNNING');
    agent.say(frameworkId, 't1', 'TASK_FINISHED');
    await framework.updated('t1', 'TASK_FINISHED');
    await agent.received(
      'StatusUpdateAcknowledgement',
      ({ updateId }) => updateId === 't1.TASK_FINISHED',
    );
    expect(await historyOf()).toEqual(['t1']);
    expect((await harness.store.loadSnapshot()).registry.tasks.size).toBe(0);
  });

  test('takes an executor from its first task to its end, and keeps it meanwhile', async () => {
    await startMaster('m1');
    const agent = await startAgent('a1');
    const framework = await startFramework('shop');
    const { frameworkId } = framework.driver;
    const executors = async (): Promise<string[]> => [
      ...(await harness.store.loadSnapshot()).registry.executors.keys(),
    ];

    const offer = await framework.offered();
    framework.driver.launchTasks(offer.offerId, [executorTask('t1')]);
    const { executorLaunchId: launchId, task } = await agent.received('RunTask');
    const executorId = executorIdOf('e1');
    expect([task.executor?.executorId, await executors()]).toEqual([
      executorId,
      [`a1/${frameworkId}/e1`],
    ]);

    agent.say(frameworkId, 't1', 'TASK_FINISHED');
    await framework.updated('t1', 'TASK_FINISHED');
    if (launchId === undefined) throw new Error('the launch has no executor');
    const ids = { frameworkId, executorId, launchId };
    agent.mailbox.send({ type: 'ExitedExecutor', ...ids, message: 'exited with code 0' });
    while ((await executors()).length > 0) await systemClock.sleep(5);
    const events = (await harness.events()).join();
    expect(events).toContain('"type":"executor.removed"');
  });

  test('skips what it cannot read, counts it, and goes on', async () => {
    const master = await startMaster('m1');
    await master.leading.first(Boolean);
    const session = sessionOf('s1');
    const bad = [
      'not json',
      '[{"type":"Nonsense"},{"type":"ReviveOffers","frameworkId":7},42,null]',
      `["${'x'.repeat(ENTRY_MAX_BYTES)}"]`,
    ];
    for (const [index, messages] of bad.entries()) {
      await harness.store.append({ client: 'agent:bad', session, sequence: index + 1, messages });
    }
    await startAgent('a1');
    const lines = await master.log.lines.count(6, ({ event }) => event === 'inbox.bad-message');
    expect(lines.map(({ fields }) => fields['code'])).toEqual([
      'not-json',
      'unknown-type',
      'invalid',
      'invalid',
      'invalid',
      'too-large',
    ]);
  });

  test('does not act on a session that is not registered', async () => {
    await startMaster('m1');
    await startAgent('a1');
    const framework = await startFramework('shop');
    const { frameworkId } = framework.driver;
    await harness.store.append({
      client: `framework:${frameworkId}`,
      session: sessionOf('s9'),
      sequence: 1,
      messages: JSON.stringify([{ type: 'UnregisterFramework', frameworkId }]),
    });
    const agent = await startAgent('a2');
    await framework.offered((offer) => offer.agentId === agent.agentId);
    expect((await harness.store.loadSnapshot()).registry.frameworks.size).toBe(1);
  });

  test('that stops gives its place to the next, whose offers are the same', async () => {
    const first = await startMaster('m1');
    await first.leading.first(Boolean);
    const agent = await startAgent('a1');
    const framework = await startFramework('shop');
    const offer = await framework.offered();
    const second = await startMaster('m2');
    await second.log.lines.first(({ event }) => event === 'master.standby');

    await first.stop();
    await second.leading.first(Boolean);
    framework.driver.launchTasks(offer.offerId, [taskInfo('t1')]);
    await agent.received('RunTask');
    expect(framework.callbacks.seen.map(({ name }) => name)).not.toContain('offerRescinded');
    expect(await harness.store.leader()).toMatchObject({ masterId: 'm2', epoch: 2 });
  });

  test('that stops is followed by the first commit of the next at once, not when its lease would be over', async () => {
    const first = await startMaster('m1');
    await startAgent('a1');
    const second = await startMaster('m2');
    await second.log.lines.first(({ event }) => event === 'master.standby');
    const before = await harness.store.loadSnapshot();
    const stopping = first.stop();
    const agent = startScriptedAgent(await harness.another(), 'a2');
    atEnd(() => agent.stop());
    await agent.received('AgentRegistered');
    await stopping;
    expect(await harness.store.leader()).toMatchObject({ masterId: 'm2' });
    expect((await harness.store.loadSnapshot()).commitNumber).toBeGreaterThan(before.commitNumber);
  });

  test('that is told to step down lets the other lead, long before its lease is over', async () => {
    const first = await startMaster('m1');
    const agent = await startAgent('a1');
    const second = await startMaster('m2');
    await second.log.lines.first(({ event }) => event === 'master.standby');
    // It says so before it listens, and has little time to come when the place is free.
    await harness.hasWaiter(2);
    expect(await harness.store.releaseLeaseOf(masterIdOf('m1'))).toBe(true);
    await second.leading.first(Boolean);
    await first.leading.first((isLeading) => !isLeading);
    expect(await harness.store.leader()).toMatchObject({ masterId: 'm2' });
    // What it was in the middle of goes on with the other.
    agent.mailbox.send({ type: 'UnregisterAgent', agentId: agent.agentId });
    await agent.mailbox.flushed();
    await second.log.lines.first(({ event }) => /^agent\.(left|removed|gone)/.test(event));
  });

  test('that is told to step down and has nobody to follow it leads again', async () => {
    const master = await startMaster('m1');
    await master.leading.first(Boolean);
    await harness.store.releaseLeaseOf(masterIdOf('m1'));
    await master.leading.count(2, Boolean);
    expect(await harness.store.leader()).toMatchObject({ masterId: 'm1', epoch: 2 });
  });

  test.each([
    ['restarts', (server: StoreHarness) => server.restartServer()],
    ['loses everything', (server: StoreHarness) => server.flushServer()],
  ])('whose Redis %s begins a new term, to which every agent comes', async (_what, fault) => {
    const master = await startMaster('m1', 1000);
    await startAgent('a1');
    await fault(harness);
    const begins = new Set(['cluster.empty', 'redis.data-lost']);
    const [, second] = await master.log.lines.count(2, ({ event }) => begins.has(event));
    expect(second).toBeDefined();
    await master.leading.count(2, Boolean);
    await startAgent('a2');
    const { agents } = (await harness.store.loadSnapshot()).registry;
    expect([...agents.keys()]).toContain('a2');
  });

  test('goes on above an epoch that one of its agents has seen', async () => {
    const master = await startMaster('m1');
    await master.leading.first(Boolean);
    // Above the time in seconds, at which epochs go on after a loss.
    const leaderSeen = { masterId: 'm9', epoch: 9_000_000_041 };
    const agent = startScriptedAgent(await harness.another(), 'a1', { leaderSeen });
    atEnd(() => agent.stop());
    await agent.received('AgentRegistered');
    await master.log.lines.first(({ event }) => event === 'master.epoch-raised');
    expect(await harness.store.leader()).toMatchObject({
      masterId: 'm1',
      epoch: 9_000_000_042,
    });
    await startAgent('a2');
    expect(master.leading.seen).toEqual([true]);
  });

  test('that is stopped while it takes the lease does not stay the leader', async () => {
    const master = await startMaster('m1');
    await master.stop();
    expect(await harness.store.leader()).toBeUndefined();
  });

  test('that another has deposed writes nothing more', async () => {
    const master = await startMaster('m1');
    await startAgent('a1');
    const thief = await steal(harness);
    const before = await harness.store.loadSnapshot();

    await harness.store.append({
      client: 'agent:a2',
      session: sessionOf('s1'),
      sequence: 1,
      messages: '[]',
    });
    await master.leading.first((isLeading) => !isLeading);
    expect(await harness.store.loadSnapshot()).toEqual(before);
    expect(await harness.store.leader()).toMatchObject(thief);
  });

  test('that was deposed leads again when the other is gone, and has lost nothing', async () => {
    // Nobody says that it was: it notices when it renews its lease.
    const master = await startMaster('m1', 3000);
    const agent = await startAgent('a1');
    const framework = await startFramework('shop');
    const offer = await framework.offered();
    const thief = await steal(harness);
    await master.leading.first((isLeading) => !isLeading);

    framework.driver.launchTasks(offer.offerId, [taskInfo('t1')]);
    await harness.store.releaseLease(thief);
    await agent.received('RunTask');
    expect(agent.countOf('RunTask')).toBe(1);
  });

  test('answers what was said while nobody led', async () => {
    const agent = startScriptedAgent(await harness.another(), 'a1');
    atEnd(() => agent.stop());
    await agent.mailbox.flushed();
    await startMaster('m1');
    await expect(agent.received('AgentRegistered')).resolves.toBeDefined();
  });

  test('shuts a framework’s tasks down when it stops', async () => {
    await startMaster('m1');
    const agent = await startAgent('a1');
    const framework = await startFramework('shop');
    framework.driver.launchTasks((await framework.offered()).offerId, [taskInfo('t1')]);
    await agent.received('RunTask');
    await framework.driver.stop();
    const { frameworkId } = framework.driver;
    expect(await agent.received('ShutdownFramework')).toMatchObject({ frameworkId });
  });
});

/**
 * Takes the leadership from whoever has it, as a master does whose rival has been paused for too long. Not by naming the
 * lease to replace: that would be announced, and the rival is to find out by itself.
 */
async function steal({
  store,
  expireLease,
}: StoreHarness): Promise<NonNullable<Awaited<ReturnType<Store['acquireLease']>>>> {
  for (;;) {
    await expireLease();
    const lease = await store.acquireLease(masterIdOf('thief'), LEASE_MS);
    // Else the rival was faster: it has noticed meanwhile, and has come back.
    if (lease) return lease;
  }
}
