/** An agent that is stopped and started again at every point in the life of an executor and its tasks. */
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { Uri } from '../../protocol/command.ts';
import {
  agentIdOf,
  executorIdOf,
  executorInfo,
  frameworkIdOf,
  taskIdOf,
} from '../support/builders.ts';
import type { ExecutorPeer } from './executor-peer.ts';
import { updateOf } from './executor-peer.ts';
import { RestartingAgent } from './restarting-agent.ts';

const INFO = executorInfo('e1');
const T1 = { frameworkId: frameworkIdOf('f1'), taskId: taskIdOf('t1') };
const KILL = { type: 'KillTask' as const, ...T1, by: 'framework' as const };
const SHUTDOWN = {
  ...{ type: 'ShutdownExecutor' as const, frameworkId: T1.frameworkId, agentId: agentIdOf('a1') },
  executorId: executorIdOf('e1'),
};

let agent: RestartingAgent;

/** The executor has registered and has been given its first task. */
async function registered(info = INFO): Promise<ExecutorPeer> {
  agent.host(1, info);
  await agent.executorStarted();
  const peer = agent.register();
  await peer.told('RunTask');
  return peer;
}

/** As `registered`, and it has said that its task runs. */
async function running(info = INFO): Promise<ExecutorPeer> {
  const peer = await registered(info);
  peer.say({ type: 'StatusUpdate', update: updateOf('k1', 'TASK_RUNNING') });
  await peer.told('StatusUpdateAcknowledgement');
  return peer;
}

const leftIn = (folder: string): string[] => readdirSync(join(agent.directory, folder));

beforeEach(async () => {
  agent = new RestartingAgent();
  await agent.start();
});
afterEach(() => agent.remove());

describe('an agent that is restarted', () => {
  test('while an executor is prepared starts it once, with what it had to run', async () => {
    let fetches = 0;
    const fetch = (): Promise<void> => {
      fetches += 1;
      // The first one takes longer than its agent lives.
      return fetches === 1 ? new Promise(() => undefined) : Promise.resolve();
    };
    agent.changes.fetcher = { fetch };
    await agent.restart();
    await agent.hub.registered();
    agent.host(1, { ...INFO, uris: [Uri.parse({ uri: 'data:,x', path: 'x' })] });
    await agent.until(() => fetches === 1);
    await agent.restart();
    expect(await agent.hub.registered()).toMatchObject({
      tasks: [{ launchId: 'k1', state: 'TASK_STAGING', executorLaunchId: 'E.e1' }],
      executors: [{ launchId: 'E.e1' }],
    });
    await agent.executorStarted();
    await agent.register().told('RunTask', ({ launchId }) => launchId === 'k1');
    expect(fetches).toBe(2);
  });

  test('after systemd was asked for an executor, of which nothing is there, starts none', async () => {
    let starts = 0;
    // Whether it was asked in fact, and somebody has removed the unit since, cannot be known.
    agent.systemd.startUnit = () => {
      starts += 1;
      return new Promise(() => undefined);
    };
    agent.host(1, INFO);
    await agent.until(() => starts === 1);
    await agent.restart();
    expect(await agent.hub.registered()).toMatchObject({
      tasks: [{ launchId: 'k1', state: 'TASK_LOST' }],
      executors: [],
    });
    expect(starts).toBe(1);
  });

  test('before an executor has registered lets it register, and gives it what waits', async () => {
    agent.host(1, INFO);
    await agent.executorStarted();
    await agent.restart();
    const peer = agent.register();
    await peer.told('ExecutorRegistered');
    await peer.told('RunTask', ({ launchId }) => launchId === 'k1');
  });

  test('gives an executor again what has not reached it, and nothing that has', async () => {
    await registered();
    agent.host(2, INFO);
    await agent.until(() => agent.journal.includes('k2 launch'));
    await agent.restart();
    const peer = agent.comeBack({ k1: 't1' });
    await peer.told('ExecutorReregistered');
    await peer.told('RunTask', ({ launchId }) => launchId === 'k2');
    expect(peer.lines.seen.filter(({ type }) => type === 'RunTask')).toHaveLength(1);
  });

  test('tells what it had not been able to tell', async () => {
    await running();
    await agent.restart();
    expect(await agent.hub.status('k1', 'TASK_RUNNING')).toMatchObject({
      ...{ updateId: 'k1.k1-TASK_RUNNING', source: 'SOURCE_EXECUTOR' },
    });
  });

  test('reports an end that nobody has acknowledged, and forgets it when somebody has', async () => {
    const peer = await running();
    peer.say({ type: 'StatusUpdate', update: updateOf('k1', 'TASK_FINISHED', { data: 'result' }) });
    await peer.told('StatusUpdateAcknowledgement', ({ updateId }) => updateId.endsWith('FINISHED'));
    await agent.restart();
    const { tasks } = await agent.hub.registered();
    expect(tasks).toMatchObject([{ launchId: 'k1', state: 'TASK_FINISHED' }]);
    const status = await agent.hub.status('k1', 'TASK_FINISHED');
    expect(status.data).toBe('result');
    agent.hub.acknowledge(status);
    await agent.until(() => agent.journal.includes('k1 acknowledged'));
    await agent.restart();
    expect(await agent.hub.registered()).toMatchObject({
      tasks: [],
      ended: [{ launchId: 'k1' }],
      executors: [{ launchId: 'E.e1' }],
    });
  });

  test('takes from an executor what that has said to nobody', async () => {
    await running();
    await agent.restart();
    const peer = agent.comeBack({ k1: 't1' }, [updateOf('k1', 'TASK_FINISHED', { data: 'x' })]);
    expect(await agent.hub.status('k1', 'TASK_FINISHED')).toMatchObject({ data: 'x' });
    await peer.told('StatusUpdateAcknowledgement');
  });

  test('goes on with a kill', async () => {
    await running();
    agent.send({ ...KILL, gracePeriodMs: 600_000 });
    await agent.until(() => agent.journal.includes('k1 kill'));
    await agent.restart();
    const peer = agent.comeBack({ k1: 't1' });
    const { gracePeriodMs } = await peer.told('KillTask');
    expect(gracePeriodMs).toBeGreaterThan(500_000);
  });

  test('ends a task that was killed and never got to its executor', async () => {
    agent.host(1, INFO);
    await agent.executorStarted();
    await agent.restart();
    agent.send(KILL);
    await agent.until(() => agent.journal.includes('k1 kill'));
    agent.register();
    expect(await agent.hub.status('k1', 'TASK_KILLED')).toMatchObject({
      reason: 'REASON_KILLED_DURING_LAUNCH',
    });
  });

  test('goes on with a shutdown', async () => {
    await running(executorInfo('e1', { shutdownGracePeriodMs: 600_000 }));
    agent.send(SHUTDOWN);
    await agent.until(() => leftIn('live').length === 1 && checkpoint().includes('"kill"'));
    await agent.restart();
    await agent.comeBack({ k1: 't1' }).told('ShutdownExecutor');
    agent.systemd.finish(agent.unit ?? '', { exitKind: 'exited', exitStatus: 0 });
    expect(await agent.hub.status('k1', 'TASK_KILLED')).toMatchObject({
      reason: 'REASON_KILLED_BY_FRAMEWORK',
    });
  });

  test('gives a running executor the limits of what is in it', async () => {
    const peer = await running();
    agent.host(2, INFO);
    await peer.told('RunTask', ({ launchId }) => launchId === 'k2');
    await agent.stop();
    await agent.systemd.resizeUnit('', agent.unit ?? '', { cpuMillis: 9000, memoryMib: 4096 });
    await agent.start();
    const limits = { cpuMillis: 2100, memoryMib: 288 };
    const inForce = (): object | undefined => agent.systemd.limitsOf(agent.unit ?? '');
    await agent.until(() => JSON.stringify(inForce()) === JSON.stringify(limits));
  });

  test('waits for an executor that has registered once, whatever its time to register is', async () => {
    let ticks = 0;
    const onTick = (): void => void (ticks += 1);
    agent.changes.hooks = { onTick, watchInfo: () => undefined };
    // Time enough to register at first, on any machine; what is short of it is added when it counts.
    const info = executorInfo('e1', { registrationTimeoutMs: 600_000 });
    await running(info);
    await agent.restart();
    agent.clock.aheadMs += 601_000;
    const before = ticks;
    await agent.until(() => ticks > before);
    agent.host(2, info);
    await agent.until(() => agent.systemd.limitsOf(agent.unit ?? '')?.memoryMib === 288);
    expect(checkpoint()).not.toContain('"kill"');
    await agent.comeBack({ k1: 't1' }).told('RunTask');
  });

  test('says of an executor that was ended because it did not register that it was that', async () => {
    Object.assign(agent.systemd, { killUnit: () => Promise.resolve(true) });
    agent.host(1, executorInfo('e1', { registrationTimeoutMs: 1 }));
    await agent.executorStarted();
    await agent.until(() => checkpoint().includes('"kill"'));
    await agent.restart();
    agent.systemd.finish(agent.unit ?? '', { exitKind: 'killed', exitStatus: 15 });
    expect(await agent.hub.status('k1', 'TASK_FAILED')).toMatchObject({
      reason: 'REASON_EXECUTOR_REGISTRATION_TIMEOUT',
    });
  });

  test('again and again knows the same', async () => {
    const peer = await running();
    agent.host(2, INFO);
    await peer.told('RunTask', ({ launchId }) => launchId === 'k2');
    for (let count = 0; count < 3; count += 1) {
      await agent.restart();
      const { tasks, executors } = await agent.hub.registered();
      expect(tasks).toMatchObject([
        { launchId: 'k1', state: 'TASK_RUNNING' },
        { launchId: 'k2', state: 'TASK_STAGING' },
      ]);
      expect(executors).toHaveLength(1);
    }
  });
});

test('a connection to systemd that comes up while an agent recovers takes no unit for one without a checkpoint', async () => {
  await running();
  agent.hub.run('k9', 't9');
  await agent.hub.status('k9', 'TASK_RUNNING');
  await agent.restart();
  await agent.hub.status('k9', 'TASK_RUNNING');
  const events = agent.log.lines.seen.map(({ event }) => event);
  expect(events).toContain('systemd.connection');
  expect(events).not.toContain('unit.adopted');
});

describe('an executor that has ended while no agent was there', () => {
  test('loses its tasks with what systemd knows of it, and the master is told of both', async () => {
    await running();
    await agent.stop();
    agent.systemd.finish(agent.unit ?? '', { exitKind: 'exited', exitStatus: 7 });
    await agent.start();
    expect(await agent.hub.status('k1', 'TASK_LOST')).toMatchObject({
      message: 'Lost executor e1: exited with code 7',
    });
    await agent.hub.heard('ExitedExecutor', ({ launchId }) => launchId === 'E.e1');
    await agent.until(() => leftIn('live').length === 0);
    expect(leftIn('ended')).toEqual(['E.e1.json']);
  });

  test('because of its memory fails them for that', async () => {
    await running();
    await agent.stop();
    const end = { exitKind: 'killed' as const, exitStatus: 9, oomKills: 1 };
    agent.systemd.finish(agent.unit ?? '', { ...end, result: 'oom-kill' });
    await agent.start();
    const status = await agent.hub.status('k1', 'TASK_FAILED');
    expect(status.reason).toBe('REASON_CONTAINER_LIMITATION_MEMORY');
    expect(status.message).toContain('memory limit 160M');
    expect(status.certificate).not.toHaveProperty('memoryLimitBytes', 0);
  });

  test('with its node loses them', async () => {
    await running();
    await agent.stop();
    await agent.systemd.releaseUnit(agent.unit ?? '');
    agent.bootId = 'another';
    await agent.start();
    const status = await agent.hub.status('k1', 'TASK_LOST');
    expect(status.message).toContain('the node was rebooted');
  });

  test('and whose end was read before is told as it was read', async () => {
    await running();
    agent.hub.cutOff();
    agent.systemd.finish(agent.unit ?? '', { exitKind: 'exited', exitStatus: 7 });
    await agent.hub.heard('ExitedExecutor');
    await agent.restart();
    const { tasks, executors } = await agent.hub.registered();
    expect(executors).toEqual([]);
    expect(tasks).toMatchObject([{ launchId: 'k1', state: 'TASK_LOST' }]);
    const status = await agent.hub.status('k1', 'TASK_LOST');
    expect(status.message).toBe('Lost executor e1: exited with code 7');
    agent.hub.acknowledge(status);
    await agent.until(() => agent.journal.includes('k1 acknowledged'));
    agent.clock.aheadMs += 301_000;
    await agent.until(() => leftIn('executors').length === 0);
  });

  test('is not started again by a task that comes late', async () => {
    await running();
    agent.systemd.finish(agent.unit ?? '', { exitKind: 'exited', exitStatus: 0 });
    await agent.hub.heard('ExitedExecutor');
    await agent.restart();
    agent.host(2, INFO);
    const { status } = await agent.hub.heard(
      'StatusUpdate',
      (message) => message.status.launchId === 'k2',
    );
    expect(status).toMatchObject({ state: 'TASK_DROPPED' });
  });
});

describe('an executor whose checkpoint is lost', () => {
  const spoil = (folder: string, name: string): void => {
    rmSync(join(agent.directory, folder, name));
  };

  test('goes on with what its journal says', async () => {
    await running();
    await agent.stop();
    spoil('live', 'E.e1.json');
    await agent.start();
    expect(await agent.hub.registered()).toMatchObject({
      tasks: [{ launchId: 'k1', state: 'TASK_RUNNING' }],
      executors: [{ launchId: 'E.e1' }],
    });
    const peer = agent.comeBack({ k1: 't1' });
    await peer.told('ExecutorReregistered');
    expect(leftIn('live')).toEqual(['E.e1.json']);
  });

  test('and whose unit is gone loses the tasks of its journal', async () => {
    await running();
    await agent.stop();
    await agent.systemd.releaseUnit(agent.unit ?? '');
    spoil('live', 'E.e1.json');
    await agent.start();
    const status = await agent.hub.status('k1', 'TASK_LOST');
    expect(status.message).toBe('Lost executor e1: it ended while no agent was running');
    agent.hub.acknowledge(status);
    await agent.until(() => agent.journal.includes('k1 acknowledged'));
    agent.clock.aheadMs += 301_000;
    await agent.until(() => leftIn('executors').length === 0);
  });

  test('and its journal, too, is known by its unit, and ends the tasks that its master has called lost', async () => {
    await running();
    await agent.stop();
    spoil('live', 'E.e1.json');
    spoil('executors', 'E.e1');
    await agent.start();
    expect(await agent.hub.registered()).toMatchObject({
      tasks: [],
      executors: [{ launchId: 'E.e1' }],
    });
    const before = agent.systemd.limitsOf(agent.unit ?? '');
    agent.host(2, INFO);
    await agent.until(() => agent.journal.includes('k2 launch'));
    expect(agent.systemd.limitsOf(agent.unit ?? '')).toEqual(before);
    const peer = agent.comeBack({ k1: 't1' });
    expect(await peer.told('KillTask')).toMatchObject({ taskId: 't1', launchId: 'k1' });
    await peer.told('RunTask', ({ launchId }) => launchId === 'k2');
  });

  test('is not spoken of again and again once it is known', async () => {
    await running();
    await agent.stop();
    spoil('live', 'E.e1.json');
    spoil('executors', 'E.e1');
    await agent.start();
    agent.systemd.disconnect();
    agent.systemd.reconnect();
    agent.systemd.disconnect();
    agent.systemd.reconnect();
    agent.hub.run('k9', 't9');
    await agent.hub.status('k9', 'TASK_RUNNING');
    const events = agent.log.lines.seen.map(({ event }) => event);
    expect(events.filter((event) => event === 'unit.adopted')).toHaveLength(1);
    expect(events).not.toContain('unit.unknown');
  });
});

test('a journal that says more than a registration can hold is cut to what matters', async () => {
  await running();
  await agent.stop();
  const launch = agent.journal.split('\n').find((line) => line.startsWith('k1 launch')) ?? '';
  const update = { type: 'update', taken: { update: updateOf('k1', 'TASK_FINISHED') } };
  const over = [
    launch,
    `k1 update ${JSON.stringify(update)}`,
    'k1 acknowledged {"type":"acknowledged","launchId":"k1"}',
  ];
  const many = Array.from({ length: 12_000 }, (_, index) =>
    over.map((line) => line.replaceAll('k1', `z${String(index)}`)),
  ).flat();
  writeFileSync(join(agent.directory, 'executors', 'E.e1'), [agent.journal, ...many].join('\n'));
  await agent.start();
  const { ended } = await agent.hub.registered();
  expect(ended).toHaveLength(1000);
  expect(ended.at(-1)?.launchId).toBe('z11999');
});

function checkpoint(): string {
  return JSON.stringify(
    leftIn('live').map((name) => readFileSync(join(agent.directory, 'live', name), 'utf8')),
  ).replaceAll('\\', '');
}
