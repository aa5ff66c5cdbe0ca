/** An agent and an executor on the wire, with real files: what is said when, and what is on disk by then. */
import {
  appendFileSync,
  mkdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { openCheckpoints } from '../../agent/checkpoint.ts';
import { silentLog } from '../../io/log.ts';
import { KaonError } from '../../protocol/errors.ts';
import type { TaskGroupId } from '../../protocol/ids.ts';
import {
  agentIdOf,
  amount,
  executorIdOf,
  executorInfo,
  executorTask,
  frameworkIdOf,
  frameworkInfo,
  launchIdOf,
  sessionOf,
  taskIdOf,
} from '../support/builders.ts';
import type { ExecutorPeer } from './executor-peer.ts';
import { updateOf } from './executor-peer.ts';
import { RestartingAgent } from './restarting-agent.ts';

const INFO = executorInfo('e1');
const COMMAND = { command: { argv: ['true'], environment: {} } };
const T1 = { frameworkId: frameworkIdOf('f1'), taskId: taskIdOf('t1') };

let agent: RestartingAgent;

/** The executor has registered and has been given its first task. */
async function registered(info = INFO, more: object = {}): Promise<ExecutorPeer> {
  agent.host(1, info, more);
  await agent.executorStarted();
  const peer = agent.register();
  await peer.told('RunTask');
  return peer;
}

beforeEach(async () => {
  agent = new RestartingAgent();
  await agent.start();
});
afterEach(() => agent.remove());

test('an executor is started, registers, is given its task, and what it reports reaches the framework', async () => {
  agent.host(1, INFO, { data: 'work' });
  await agent.executorStarted();
  const peer = agent.register();
  const [first, second] = await peer.lines.count(2);
  expect(first).toMatchObject({
    ...{ type: 'ExecutorRegistered', executorInfo: INFO },
    ...{ frameworkInfo: { frameworkId: 'f1' }, agentInfo: { agentId: 'a1' } },
  });
  expect(second).toMatchObject({ type: 'RunTask', launchId: 'k1', task: { data: 'work' } });
  expect(second).not.toHaveProperty('task.executor');
  expect(second).not.toHaveProperty('sandbox');
  peer.say({ type: 'StatusUpdate', update: updateOf('k1', 'TASK_FINISHED', { data: 'done' }) });
  expect(await agent.hub.status('k1', 'TASK_FINISHED')).toMatchObject({
    ...{ data: 'done', source: 'SOURCE_EXECUTOR', executorId: 'e1' },
  });
  expect(await peer.told('StatusUpdateAcknowledgement')).toMatchObject({
    updateId: 'k1-TASK_FINISHED',
  });
});

test('a task is given when the container has been made larger, and the container is', async () => {
  const peer = await registered();
  agent.host(2, INFO);
  await peer.told('RunTask', ({ launchId }) => launchId === 'k2');
  expect(agent.systemd.limitsOf(agent.unit ?? '')).toEqual({ cpuMillis: 2100, memoryMib: 288 });
  peer.say({ type: 'StatusUpdate', update: updateOf('k1', 'TASK_FINISHED') });
  await agent.until(() => agent.systemd.limitsOf(agent.unit ?? '')?.memoryMib === 160);
});

test('memory that is in use is told of, and taken away when it is not', async () => {
  const peer = await registered();
  agent.systemd.useMemory(agent.unit ?? '', 150 * 2 ** 20);
  peer.say({ type: 'StatusUpdate', update: updateOf('k1', 'TASK_FINISHED') });
  const delayed = await agent.hub.heard('ContainerShrink', ({ isDelayed }) => isDelayed);
  expect(delayed).toMatchObject({ neededMib: 32, launchId: 'E.e1' });
  expect(delayed.limitMib).toBeGreaterThanOrEqual(150);
  agent.systemd.useMemory(agent.unit ?? '', 0);
  expect(await agent.hub.heard('ContainerShrink', ({ isDelayed }) => !isDelayed)).toMatchObject({
    ...{ limitMib: 32, neededMib: 32 },
  });
});

test('a group is given in one message', async () => {
  const groupId = 'g1' as TaskGroupId;
  for (const number of ['1', '2']) {
    agent.send({
      type: 'RunTask',
      framework: frameworkInfo('f1'),
      launchId: launchIdOf(`k${number}`),
      task: executorTask(`t${number}`, INFO, { groupId }),
      executorLaunchId: launchIdOf('E.e1'),
      groupSize: 2,
    });
  }
  await agent.executorStarted();
  const { tasks } = await agent.register().told('RunTaskGroup');
  expect(tasks.map(({ launchId }) => launchId)).toEqual(['k1', 'k2']);
});

test('a kill, a message and a shutdown are passed on', async () => {
  const peer = await registered();
  const executor = { ...{ frameworkId: T1.frameworkId, agentId: agentIdOf('a1') } };
  agent.send(
    { type: 'KillTask', ...T1, by: 'framework', gracePeriodMs: 700 },
    { type: 'FrameworkToExecutor', ...executor, executorId: executorIdOf('e1'), data: 'hello' },
    { type: 'ShutdownExecutor', ...executor, executorId: executorIdOf('e1') },
  );
  expect((await peer.lines.count(5)).slice(2)).toMatchObject([
    { type: 'KillTask', taskId: 't1', launchId: 'k1' },
    { type: 'FrameworkToExecutor', data: 'hello' },
    { type: 'ShutdownExecutor' },
  ]);
});

describe('what an executor says to its framework', () => {
  test('goes straight into that one’s stream, and what cannot be delivered is dropped', async () => {
    const sent: string[] = [];
    Object.assign(agent.hub.store, {
      sendToFramework: (_frameworkId: string, messages: string) => {
        sent.push(messages);
        return sent.length === 1 ? Promise.reject(new Error('away')) : Promise.resolve('sent');
      },
    });
    const peer = await registered();
    peer.say({ type: 'ExecutorToFramework', data: 'one' });
    peer.say({ type: 'ExecutorToFramework', data: 'two' });
    await agent.until(() => sent.length === 2);
    expect(sent.flatMap((text) => JSON.parse(text) as unknown)).toMatchObject([
      { type: 'ExecutorToFramework', agentId: 'a1', executorId: 'e1', data: 'one' },
      { data: 'two' },
    ]);
  });

  test('and cannot be delivered for a long time is kept from filling the memory', async () => {
    let waiting = 0;
    Object.assign(agent.hub.store, {
      sendToFramework: () => {
        waiting += 1;
        return new Promise(() => undefined);
      },
    });
    const peer = await registered();
    for (let count = 0; count < 3000; count += 1) {
      peer.say({ type: 'ExecutorToFramework', data: 'x' });
    }
    peer.say({ type: 'StatusUpdate', update: updateOf('k1', 'TASK_RUNNING') });
    await agent.hub.status('k1', 'TASK_RUNNING');
    expect(waiting).toBe(1000);
  });
});

describe('while the journal cannot be written', () => {
  const journals = (): string => join(agent.directory, 'executors');

  test('updates go on to the framework, and are acknowledged when it can', async () => {
    rmSync(journals(), { recursive: true });
    const peer = await registered();
    peer.say({ type: 'StatusUpdate', update: updateOf('k1', 'TASK_RUNNING') });
    await agent.hub.status('k1', 'TASK_RUNNING');
    peer.say({ type: 'StatusUpdate', update: updateOf('k1', 'TASK_FINISHED') });
    await agent.hub.status('k1', 'TASK_FINISHED');
    // A word that is not held back follows those that are.
    agent.send({
      ...{ type: 'FrameworkToExecutor', frameworkId: T1.frameworkId, agentId: agentIdOf('a1') },
      ...{ executorId: executorIdOf('e1'), data: 'x' },
    });
    await peer.told('FrameworkToExecutor');
    const types = (): string[] => peer.lines.seen.map(({ type }) => type);
    expect(types()).not.toContain('StatusUpdateAcknowledgement');
    mkdirSync(journals());
    await peer.told('StatusUpdateAcknowledgement', ({ updateId }) => updateId.endsWith('FINISHED'));
    expect(agent.journal).toContain('k1-TASK_FINISHED');
  });

  test('because the disk is full, tasks run and end', async () => {
    symlinkSync('/dev/full', join(journals(), 'E.e1'));
    const peer = await registered();
    peer.say({ type: 'StatusUpdate', update: updateOf('k1', 'TASK_FINISHED') });
    agent.hub.acknowledge(await agent.hub.status('k1', 'TASK_FINISHED'));
    agent.host(2, INFO);
    await peer.told('RunTask', ({ launchId }) => launchId === 'k2');
    agent.systemd.finish(agent.unit ?? '', { exitKind: 'exited', exitStatus: 0 });
    await agent.hub.status('k2', 'TASK_LOST');
    rmSync(join(journals(), 'E.e1'), { force: true });
  });
});

test('the ends of its tasks are on disk before the checkpoint of an executor goes', async () => {
  await agent.stop();
  const journals: string[] = [];
  const checkpoints = await openCheckpoints(agent.directory, silentLog);
  agent.changes.checkpoints = {
    ...checkpoints,
    retire: (launchId) => {
      journals.push(agent.journal);
      checkpoints.retire(launchId);
    },
  };
  await agent.start();
  await registered();
  agent.systemd.finish(agent.unit ?? '', { exitKind: 'exited', exitStatus: 3 });
  await agent.hub.heard('ExitedExecutor');
  expect(journals).toEqual([expect.stringContaining('k1 end {')]);
});

test('an executor that has ended leaves no journal when nobody can ask for its tasks’ ends again', async () => {
  await registered();
  agent.systemd.finish(agent.unit ?? '', { exitKind: 'exited', exitStatus: 3 });
  const lost = await agent.hub.status('k1', 'TASK_LOST');
  expect(lost.message).toBe('Lost executor e1: exited with code 3');
  expect(agent.journal).toContain('k1 end');
  agent.hub.acknowledge(lost);
  await agent.until(() => agent.journal.includes('k1 acknowledged'));
  agent.clock.aheadMs += 301_000;
  await agent.until(() => agent.journal === '');
});

describe('a task with a command', () => {
  test('has a directory and output files, whose end is in its certificate', async () => {
    agent.host(1, INFO, COMMAND);
    await agent.executorStarted();
    const peer = agent.register();
    const { sandbox } = await peer.told('RunTask');
    // Where the container sees it, and only those of its own tasks beside it.
    const own = realpathSync(agent.sandboxOf('t1', 'k1'));
    expect(own).toContain('/hosted/E.e1/k1');
    expect(sandbox).toEqual({
      work: join(own, 'work'),
      stdout: join(own, 'stdout'),
      stderr: join(own, 'stderr'),
    });
    appendFileSync(sandbox?.stdout ?? '', 'hello\n');
    const update = updateOf('k1', 'TASK_FAILED', { exitCode: 3, startedAtMs: 5 });
    peer.say({ type: 'StatusUpdate', update });
    expect(await agent.hub.status('k1', 'TASK_FAILED')).toMatchObject({
      certificate: {
        ...{ exitCode: 3, startedAtMs: 5 },
        ...{ stdoutBytes: 6, stdoutTail: 'hello\n', stderrBytes: 0 },
      },
    });
  });

  test('whose output cannot be read ends all the same', async () => {
    const peer = await registered(INFO, COMMAND);
    const stdout = join(agent.sandboxOf('t1', 'k1'), 'stdout');
    rmSync(stdout);
    mkdirSync(stdout);
    peer.say({ type: 'StatusUpdate', update: updateOf('k1', 'TASK_FINISHED', { exitCode: 0 }) });
    expect(await agent.hub.status('k1', 'TASK_FINISHED')).toMatchObject({
      certificate: { exitCode: 0 },
    });
  });

  test('and files that cannot be had fails, and is never given', async () => {
    await agent.stop();
    agent.changes.fetcher = {
      fetch: () => Promise.reject(new KaonError('artifact-failed', 'http://x/y: 404')),
    };
    await agent.start();
    agent.host(1, INFO, { uris: [{ uri: 'http://x/y', executable: false, cache: false }] });
    expect(await agent.hub.status('k1', 'TASK_FAILED')).toMatchObject({
      ...{ reason: 'REASON_ARTIFACT_FAILED', message: 'http://x/y: 404' },
    });
  });

  test('that is killed while its files are fetched is not waited for', async () => {
    await agent.stop();
    let isCancelled = false;
    agent.changes.fetcher = {
      fetch: (_uris, _target, signal) =>
        new Promise((_resolve, reject) => {
          signal.addEventListener('abort', () => {
            isCancelled = true;
            reject(new KaonError('artifact-cancelled', 'cancelled'));
          });
        }),
    };
    await agent.start();
    agent.host(1, INFO, { uris: [{ uri: 'http://x/y', executable: false, cache: false }] });
    await agent.executorStarted();
    agent.send({ type: 'KillTask', ...T1, by: 'framework' });
    await agent.hub.status('k1', 'TASK_KILLED');
    await agent.until(() => isCancelled);
  });
});

describe('a task with limits of its own', () => {
  const alone = executorInfo('e1', { isolation: 'task' });
  const groups = (): ReturnType<RestartingAgent['systemd']['taskGroupsOf']> =>
    agent.systemd.taskGroupsOf(agent.unit ?? '');

  test('has a cgroup with them when it is given, and none when it has ended', async () => {
    const peer = await registered(alone);
    const { cgroupProcs } = await peer.told('RunTask');
    expect(cgroupProcs).toEqual([expect.stringContaining('task-k1/cgroup.procs')]);
    expect(groups().get('k1')?.limits).toEqual({ cpuMillis: 1000, memoryMib: 128 });
    const use = { oomKills: 1, memoryPeakBytes: 2 ** 27 };
    agent.systemd.useTaskGroup(agent.unit ?? '', 'k1', use);
    peer.say({ type: 'StatusUpdate', update: updateOf('k1', 'TASK_FAILED', { signal: 9 }) });
    expect(await agent.hub.status('k1', 'TASK_FAILED')).toMatchObject({
      reason: 'REASON_CONTAINER_LIMITATION_MEMORY',
      certificate: { signal: 9, ...use, memoryLimitBytes: 128 * 2 ** 20 },
    });
    await agent.until(() => groups().size === 0);
  });

  test('that its executor does not end in time is ended by the agent, and its use is not forgotten', async () => {
    const peer = await registered(alone);
    agent.systemd.useTaskGroup(agent.unit ?? '', 'k1', { cpuUsec: 777 });
    agent.send({ type: 'KillTask', ...T1, by: 'framework', gracePeriodMs: 0 });
    await agent.until(() => groups().size === 0);
    peer.say({ type: 'StatusUpdate', update: updateOf('k1', 'TASK_KILLED') });
    expect(await agent.hub.status('k1', 'TASK_KILLED')).toMatchObject({
      certificate: { cpuUsec: 777 },
    });
  });

  test('on a node that has none for it fails, and says why', async () => {
    Object.assign(agent.systemd, {
      openTaskGroup: () => Promise.reject(new KaonError('task-cgroup-unavailable', 'no cpu here')),
    });
    await agent.restart();
    agent.host(1, alone);
    await agent.executorStarted();
    agent.register();
    expect(await agent.hub.status('k1', 'TASK_FAILED')).toMatchObject({ message: 'no cpu here' });
  });

  test('is given other limits', async () => {
    const peer = await registered(alone);
    peer.say({ type: 'StatusUpdate', update: updateOf('k1', 'TASK_RUNNING') });
    await agent.hub.status('k1', 'TASK_RUNNING');
    const wish = { type: 'ResizeTask' as const, ...T1, resizeId: sessionOf('r1') };
    agent.send({ ...wish, resources: amount(2, 256) });
    expect(await agent.hub.heard('TaskResized')).toEqual({
      ...{ type: 'TaskResized', ...T1, launchId: 'k1', resizeId: 'r1' },
      resources: amount(2, 256),
    });
    expect(groups().get('k1')?.limits).toEqual({ cpuMillis: 2000, memoryMib: 256 });
    expect(agent.systemd.limitsOf(agent.unit ?? '')?.memoryMib).toBe(288);
  });
});

test('a unit whose container cannot be changed is tried again until it can', async () => {
  const peer = await registered();
  const { resizeUnit } = agent.systemd;
  let failures = 2;
  Object.assign(agent.systemd, {
    resizeUnit: (...args: Parameters<typeof resizeUnit>) => {
      failures -= 1;
      return failures >= 0
        ? Promise.resolve({ ok: false, message: 'no such file' })
        : resizeUnit(...args);
    },
  });
  await agent.stop();
  await agent.start();
  await peer.closed;
  const again = agent.comeBack({ k1: 't1' });
  agent.host(2, INFO);
  await again.told('RunTask', ({ launchId }) => launchId === 'k2');
  expect(failures).toBeLessThan(0);
});

test('a token that belongs to another executor opens nothing', async () => {
  await registered();
  agent.host(2, executorInfo('e2'));
  await agent.until(() => hasToken('e2'));
  const token = readFileSync(join(agent.sandboxOf('e1', 'E.e1'), 'token'), 'utf8');
  const liar = agent.connect();
  liar.say({ type: 'RegisterExecutor', token, frameworkId: 'f1', executorId: 'e2' });
  expect(await liar.refusal()).toMatchObject({ code: 'not-authenticated' });
});

function hasToken(executorId: string): boolean {
  const path = join(agent.sandboxOf(executorId, `E.${executorId}`), 'token');
  return statSync(path, { throwIfNoEntry: false }) !== undefined;
}
