/** `kaon task resize` against a real Redis and a real master, with an agent that answers as it is told. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { resizeTask } from '../../cli/commands/resize.ts';
import { executorRows } from '../../cli/commands/executors.ts';
import { readCluster } from '../../cli/registry.ts';
import { systemClock } from '../../io/clock.ts';
import { silentLog } from '../../io/log.ts';
import { openRedisStore, type RedisStore } from '../../io/redis-store.ts';
import { MASTER_SETTINGS_DEFAULT, runMaster } from '../../master/master.ts';
import { addResources } from '../../protocol/resources.ts';
import { bedReason } from '../beds/available.ts';
import { startRedisBed, type RedisBed } from '../beds/redis.ts';
import { amount, executorInfo, executorTask, masterIdOf } from '../support/builders.ts';
import { startScriptedAgent, type ScriptedAgent } from '../support/scripted-agent.ts';
import { startScriptedFramework, type ScriptedFramework } from '../support/scripted-framework.ts';

const reason = bedReason('redis');
const describeRedis = reason === undefined ? describe : describe.skip;
const suffix = reason === undefined ? '' : ` (skipped: ${reason})`;

describeRedis(`kaon task resize${suffix}`, () => {
  let bed: RedisBed;
  let store: RedisStore;
  let agent: ScriptedAgent;
  let framework: ScriptedFramework;
  let stopMaster: () => Promise<void>;
  let clusters = 0;

  beforeAll(async () => {
    bed = await startRedisBed();
  });
  afterAll(() => bed.stop());

  /** Task t1 of executor e1 runs on agent a1 with 1 core and 128 MiB, beside a small one; the agent has 4 and 8 GiB. */
  beforeEach(async () => {
    const cluster = `c${String((clusters += 1))}`;
    const open = (name: string): Promise<RedisStore> =>
      openRedisStore({ url: bed.url, cluster, log: silentLog, name });
    store = await open('cli');
    const ofMaster = await open('master');
    const abort = new AbortController();
    const settings = MASTER_SETTINGS_DEFAULT;
    const master = runMaster(
      { store: ofMaster, clock: systemClock, log: silentLog, masterId: masterIdOf('m1'), settings },
      abort.signal,
    );
    stopMaster = async () => {
      abort.abort();
      await master;
      await ofMaster.close();
    };
    agent = startScriptedAgent(await open('agent'), 'a1');
    await agent.received('AgentRegistered');
    framework = await startScriptedFramework(await open('framework'), { name: 'shop' });
    const offer = await framework.offered();
    const small = executorTask('two', 'e1', { resources: amount(0.1, 4) });
    framework.driver.launchTasks(offer.offerId, [executorTask('t1'), small]);
    await agent.received('RunTask');
    agent.say(framework.driver.frameworkId, 't1', 'TASK_RUNNING');
    await framework.updated('t1', 'TASK_RUNNING');
  });
  afterEach(async () => {
    await framework.stop();
    await agent.stop();
    await stopMaster();
    await store.close();
  });

  const resize = (cpus: number, memMib: number): Promise<string> =>
    resizeTask(store, { resources: amount(cpus, memMib) }, 't1');

  /** The agent does what it is asked, or says why not. */
  async function answer(error?: string): Promise<void> {
    const { resizeId, frameworkId, taskId, launchId, resources } =
      await agent.received('ResizeTask');
    agent.mailbox.send({
      type: 'TaskResized',
      ...{ resizeId, frameworkId, taskId },
      ...(launchId !== undefined && { launchId }),
      resources: error === undefined ? resources : amount(1, 128),
      ...(error !== undefined && { error }),
    });
  }

  test('says what the task has, and what it had', async () => {
    const [said] = await Promise.all([resize(2, 1024), answer()]);
    expect(said).toBe('task t1 now has 2 cpus, 1G (had 1 cpus, 128M)');
  });

  test('leaves what is not named as it is', async () => {
    const resources = { memMib: 64 };
    const [said] = await Promise.all([resizeTask(store, { resources }, 't1'), answer()]);
    expect(said).toBe('task t1 now has 1 cpus, 64M (had 1 cpus, 128M)');
  });

  test('to what it has already asks nobody', async () => {
    expect(await resize(1, 128)).toBe('task t1 has 1 cpus, 128M already');
    expect(agent.countOf('ResizeTask')).toBe(0);
  });

  test('beyond what is free fails with the words of the master', async () => {
    await expect(resize(5, 128)).rejects.toMatchObject({
      code: 'resize-refused',
      message: 'task t1: 5 cpus, 128M asked, it has 1 cpus, 128M; agent a1 has 2.8 cpus, 7.8G free',
    });
  });

  test('that the agent cannot do fails with its words, and with what the task has', async () => {
    const [failed] = await Promise.allSettled([resize(1, 64), answer('its memory is in use')]);
    expect(failed).toMatchObject({
      reason: {
        code: 'resize-failed',
        message: 'task t1 has 1 cpus, 128M: its memory is in use',
      },
    });
  });

  test('of a task that nobody knows is an error', async () => {
    const resources = amount(1, 64);
    await expect(resizeTask(store, { resources }, 'nope')).rejects.toMatchObject({
      code: 'not-found',
    });
  });

  test('of a task of another framework than the named one is an error', async () => {
    const wish = { framework: 'other', resources: amount(1, 64) };
    await expect(resizeTask(store, wish, 't1')).rejects.toMatchObject({ code: 'not-found' });
  });

  test('of one of several tasks that are meant is an error', async () => {
    const wish = { resources: amount(1, 64) };
    await expect(resizeTask(store, wish, 't')).rejects.toMatchObject({ code: 'ambiguous' });
  });

  test('of a task that has ended is an error', async () => {
    agent.say(framework.driver.frameworkId, 't1', 'TASK_FAILED');
    await framework.updated('t1', 'TASK_FAILED');
    await agent.received(
      'StatusUpdateAcknowledgement',
      ({ updateId }) => updateId === 't1.TASK_FAILED',
    );
    await expect(resize(1, 64)).rejects.toMatchObject({
      code: 'task-ended',
      message: expect.stringMatching(/^task t1 has ended, .* ago: failed;/),
    });
  });

  test('is counted with the executor that the task belongs to', async () => {
    await Promise.all([resize(2, 1024), answer()]);
    const [row] = executorRows(await readCluster(store));
    expect([row?.taskCount, row?.total]).toEqual([
      2,
      addResources(executorInfo('e1').resources, amount(2.1, 1028)),
    ]);
  });
});
