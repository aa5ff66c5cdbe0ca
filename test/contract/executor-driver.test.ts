/** The driver of the executor library, over a real socket, against an agent that a test writes the script for. */
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { ExecutorDriver } from '../../executor/executor-driver.ts';
import type { ExecutorDriverOptions } from '../../executor/driver-options.ts';
import type { Executor } from '../../executor/executor.ts';
import type { ExecutorMessage, LaunchedTask } from '../../protocol/executor-messages.ts';
import type { FakeAgentSocket, Heard } from '../support/fake-agent-socket.ts';
import {
  AGENT_INFO,
  killTask,
  launchedTask,
  runTask,
  startFakeAgent,
} from '../support/fake-agent-socket.ts';
import { createWatch, createWatchedLog, type Watch } from '../support/watch.ts';

let agent: FakeAgentSocket;
let calls: Watch<string>;
let drivers: ExecutorDriver[];

beforeEach(async () => {
  agent = await startFakeAgent();
  calls = createWatch<string>();
  drivers = [];
});

afterEach(async () => {
  for (const driver of drivers) await driver.abort();
  await agent.close();
  expect(agent.faults).toEqual([]);
});

/** A driver whose callbacks are noted, unless the test has its own. */
function driverWith(
  own: Partial<Executor> = {},
  options: Partial<ExecutorDriverOptions> = {},
): ExecutorDriver {
  const executor: Executor = {
    registered: (_driver, { executorId }, { frameworkId }, { hostname }) =>
      calls.push(`registered ${executorId} ${frameworkId} ${hostname}`),
    reregistered: (_driver, { agentId }) => calls.push(`reregistered ${agentId}`),
    disconnected: () => calls.push('disconnected'),
    launchTask: (_driver, { task }) => calls.push(`launch ${task.taskId}`),
    killTask: (_driver, taskId, gracePeriodMs) =>
      calls.push(`kill ${taskId} ${String(gracePeriodMs)}`),
    frameworkMessage: (_driver, data) => calls.push(`message ${data}`),
    shutdown: (_driver, gracePeriodMs) => calls.push(`shutdown ${String(gracePeriodMs)}`),
    error: (_driver, message) => calls.push(`error ${message}`),
    ...own,
  };
  const { socketPath, tokenFile } = agent;
  const driver = new ExecutorDriver(executor, {
    ...{ socketPath, tokenFile, frameworkId: 'f1', executorId: 'e1' },
    ...options,
  });
  drivers.push(driver);
  return driver;
}

/** A driver that has registered. */
async function registeredDriver(
  own: Partial<Executor> = {},
  options: Partial<ExecutorDriverOptions> = {},
  log = createWatchedLog(),
): Promise<ExecutorDriver> {
  const driver = driverWith(own, { ...options, log });
  await driver.start();
  await log.lines.first(({ event }) => event === 'agent.registered');
  return driver;
}

/** The first message of that type, on that connection if one is named. */
async function heard<T extends ExecutorMessage['type']>(
  type: T,
  connection?: number,
): Promise<Extract<ExecutorMessage, { type: T }>> {
  const isIt = (one: Heard): boolean =>
    one.message.type === type && (connection ?? one.connection) === one.connection;
  const { message } = await agent.heard.first(isIt);
  return message as Extract<ExecutorMessage, { type: T }>;
}

/** Hands tasks over, and waits until the executor has them. */
async function launch(...tasks: LaunchedTask[]): Promise<void> {
  agent.send(...tasks.map(runTask));
  for (const { task } of tasks) await calls.first((call) => call === `launch ${task.taskId}`);
}

const running = (taskId: string) => ({ taskId, state: 'TASK_RUNNING' }) as const;
const finished = (taskId: string) => ({ taskId, state: 'TASK_FINISHED' }) as const;

describe('registration', () => {
  test('says who the executor is, with the token', async () => {
    await driverWith().start();
    expect(await heard('RegisterExecutor')).toEqual({
      type: 'RegisterExecutor',
      token: 'secret-of-e1',
      frameworkId: 'f1',
      executorId: 'e1',
    });
  });

  test('is told to the executor with what the agent has said', async () => {
    await driverWith().start();
    expect(await calls.first(() => true)).toBe('registered e1 f1 node-1');
  });

  test('goes on until there is an agent', async () => {
    await agent.goAway();
    await driverWith().start();
    await agent.comeBack();
    expect(await calls.first(() => true)).toBe('registered e1 f1 node-1');
  });

  test('is repeated as the first one if the agent was lost before it had answered', async () => {
    agent.habits.answers = false;
    await driverWith().start();
    await heard('RegisterExecutor');
    agent.habits.answers = true;
    agent.drop();
    await heard('RegisterExecutor', 2);
    expect(await calls.first(() => true)).toBe('registered e1 f1 node-1');
  });

  test('that the agent refuses aborts the driver', async () => {
    agent.habits.answers = false;
    const driver = driverWith();
    await driver.start();
    await heard('RegisterExecutor');
    agent.send({ type: 'ExecutorError', code: 'token', message: 'unknown token' });
    expect(await driver.join()).toBe('DRIVER_ABORTED');
    expect(calls.seen).toEqual(['error the agent has refused this executor: unknown token']);
  });

  test('that came too late for the agent is tried again', async () => {
    agent.habits.answers = false;
    await driverWith().start();
    await heard('RegisterExecutor');
    agent.habits.answers = true;
    agent.send({
      type: 'ExecutorError',
      code: 'no-registration',
      message: 'nobody has registered',
    });
    expect(await calls.first(() => true)).toBe('registered e1 f1 node-1');
  });

  test('without an agent in the environment is refused with the variable that is missing', () => {
    const executor = { launchTask: () => undefined, killTask: () => undefined };
    const make = (): unknown => new ExecutorDriver(executor, { socketPath: '/s', tokenFile: '/t' });
    expect(make).toThrow(
      expect.objectContaining({
        code: 'not-started-by-agent',
        message: expect.stringContaining('KAON_FRAMEWORK_ID'),
      }),
    );
  });
});

describe('callbacks', () => {
  test('tell of everything that the agent says, in order', async () => {
    await registeredDriver();
    const [t1, t2, t3] = [launchedTask('t1'), launchedTask('t2'), launchedTask('t3')];
    const groupId = 'g1' as never;
    agent.send(
      runTask(t1),
      { type: 'FrameworkToExecutor', data: 'hello' },
      { type: 'RunTaskGroup', groupId, tasks: [t2, t3] },
      killTask(t1, 700),
      { type: 'ShutdownExecutor', gracePeriodMs: 900 },
    );
    await calls.count(7);
    expect(calls.seen.slice(1)).toEqual([
      'launch t1',
      'message hello',
      'launch t2',
      'launch t3',
      'kill t1 700',
      'shutdown 900',
    ]);
  });

  test('of a group get the whole group if the executor asks for it', async () => {
    await registeredDriver({
      launchTaskGroup: (_driver, { groupId, tasks }) =>
        calls.push(`group ${groupId} ${tasks.map(({ task }) => task.taskId).join()}`),
    });
    const tasks = [launchedTask('t1'), launchedTask('t2')];
    agent.send({ type: 'RunTaskGroup', groupId: 'g1' as never, tasks });
    expect(await calls.first((call) => call.startsWith('group'))).toBe('group g1 t1,t2');
  });

  test('come one at a time, also if they take their time', async () => {
    let go: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => {
      go = resolve;
    });
    await registeredDriver({
      launchTask: async (_driver, { task }) => {
        calls.push(`begin ${task.taskId}`);
        if (task.taskId === 't1') await gate;
        calls.push(`end ${task.taskId}`);
      },
    });
    agent.send(runTask(launchedTask('t1')), runTask(launchedTask('t2')));
    await calls.first((call) => call === 'begin t1');
    go();
    await calls.first((call) => call === 'end t2');
    expect(calls.seen.slice(1)).toEqual(['begin t1', 'end t1', 'begin t2', 'end t2']);
  });

  test('that take their time do not keep updates from being acknowledged', async () => {
    const driver = await registeredDriver({
      launchTask: async (self, { task }) => {
        self.sendStatusUpdate(finished(task.taskId));
        calls.push(`launch ${task.taskId}`);
        await new Promise(() => undefined);
      },
    });
    agent.send(runTask(launchedTask('t1')));
    await agent.updates.count(1);
    expect(await driver.stop()).toBe('DRIVER_STOPPED');
  });

  test.each<[string, () => void | Promise<void>]>([
    [
      'throw',
      () => {
        throw new Error('no room');
      },
    ],
    ['are rejected', () => Promise.reject(new Error('no room'))],
  ])('that %s abort the driver', async (_how, launchTask) => {
    const driver = await registeredDriver({ launchTask });
    agent.send(runTask(launchedTask('t1')), runTask(launchedTask('t2')));
    expect(await driver.join()).toBe('DRIVER_ABORTED');
    expect(calls.seen.slice(1)).toEqual(['error a callback of the executor failed: no room']);
  });
});

describe('a launch', () => {
  test('that comes twice is run once', async () => {
    await registeredDriver();
    agent.send(
      runTask(launchedTask('t1')),
      runTask(launchedTask('t1')),
      runTask(launchedTask('t2')),
    );
    await calls.first((call) => call === 'launch t2');
    expect(calls.seen.filter((call) => call === 'launch t1')).toHaveLength(1);
  });

  test('that comes again after its end has been acknowledged is not run again', async () => {
    const driver = await registeredDriver();
    await launch(launchedTask('t1'));
    driver.sendStatusUpdate(finished('t1'));
    await agent.updates.count(1);
    agent.send(runTask(launchedTask('t1')), runTask(launchedTask('t2')));
    await calls.first((call) => call === 'launch t2');
    expect(calls.seen.filter((call) => call === 'launch t1')).toHaveLength(1);
  });

  test('of a task that has ended before is run', async () => {
    const driver = await registeredDriver();
    await launch(launchedTask('t1'));
    driver.sendStatusUpdate(finished('t1'));
    agent.send(runTask(launchedTask('t1', { launchId: 'second' })));
    await calls.count(2, (call) => call === 'launch t1');
    driver.sendStatusUpdate(running('t1'));
    const { launchId } = await agent.updates.first(({ state }) => state === 'TASK_RUNNING');
    expect(launchId).toBe('second');
  });

  test('is not killed for another launch of its task', async () => {
    await registeredDriver();
    await launch(launchedTask('t1', { launchId: 'second' }), launchedTask('t2'));
    agent.send(
      killTask(launchedTask('t1', { launchId: 'first' })),
      killTask(launchedTask('t2'), 1),
    );
    await calls.first((call) => call.startsWith('kill'));
    expect(calls.seen.at(-1)).toBe('kill t2 1');
  });
});

describe('a status update', () => {
  test('names its launch and has an id of its own', async () => {
    const driver = await registeredDriver();
    await launch(launchedTask('t1'));
    driver.sendStatusUpdate({ ...running('t1'), message: 'warm', data: 'x', healthy: true });
    driver.sendStatusUpdate({ ...finished('t1'), exitCode: 0 });
    const [first, second] = await agent.updates.count(2);
    expect(first).toMatchObject({ launchId: 'launch-of-t1', state: 'TASK_RUNNING', data: 'x' });
    expect(second?.updateId).not.toBe(first?.updateId);
  });

  test.each(['TASK_STAGING', 'TASK_LOST', 'TASK_NONSENSE'])(
    'with the state %s aborts the driver',
    async (state) => {
      const driver = await registeredDriver();
      await launch(launchedTask('t1'));
      driver.sendStatusUpdate({ taskId: 't1', state: state as never });
      expect(await driver.join()).toBe('DRIVER_ABORTED');
      expect(calls.seen.at(-1)).toBe(`error an executor may not report ${state} (of task t1)`);
    },
  );

  test('after the end of its task is ignored', async () => {
    const driver = await registeredDriver();
    await launch(launchedTask('t1'), launchedTask('t2'));
    driver.sendStatusUpdate(finished('t1'));
    driver.sendStatusUpdate({ taskId: 't1', state: 'TASK_KILLED' });
    driver.sendStatusUpdate(finished('t2'));
    await agent.updates.first(({ taskId }) => taskId === 't2');
    expect(agent.updates.seen.map(({ taskId, state }) => `${taskId} ${state}`)).toEqual([
      't1 TASK_FINISHED',
      't2 TASK_FINISHED',
    ]);
  });

  test('of a task that was never launched here is refused', async () => {
    const driver = await registeredDriver();
    expect(() => {
      driver.sendStatusUpdate(running('t9'));
    }).toThrow(expect.objectContaining({ code: 'unknown-task' }));
  });

  test('with too much data is refused before it is sent', async () => {
    const driver = await registeredDriver();
    await launch(launchedTask('t1'));
    expect(() => {
      driver.sendStatusUpdate({ ...running('t1'), data: 'x'.repeat(65_537) });
    }).toThrow('invalid data: 65537 characters, at most 65536 are allowed');
  });

  test('with too long words loses their end', async () => {
    const driver = await registeredDriver();
    await launch(launchedTask('t1'));
    driver.sendStatusUpdate({ ...running('t1'), message: 'é'.repeat(10_000) });
    const [update] = await agent.updates.count(1);
    expect(update?.message).toBe('é'.repeat(4096));
  });
});

describe('when the agent goes away, the driver', () => {
  test('says so, and comes back with tasks and with what was not acknowledged', async () => {
    agent.habits.acknowledges = false;
    const driver = await registeredDriver();
    await launch(launchedTask('t1'), launchedTask('t2'));
    driver.sendStatusUpdate(running('t1'));
    driver.sendStatusUpdate(finished('t1'));
    const [first] = await agent.updates.count(2);
    if (first) agent.acknowledge(first);
    agent.send({ type: 'FrameworkToExecutor', data: 'that is all' });
    await calls.first((call) => call === 'message that is all');
    await agent.goAway();
    await calls.first((call) => call === 'disconnected');
    driver.sendStatusUpdate(running('t2'));
    await agent.comeBack();
    const { tasks, updates } = await heard('ReregisterExecutor');
    expect(tasks.map(({ launchId, task }) => `${launchId} ${task.name}`)).toEqual([
      'launch-of-t1 t1',
      'launch-of-t2 t2',
    ]);
    expect(updates.map(({ taskId, state }) => `${taskId} ${state}`)).toEqual([
      't1 TASK_FINISHED',
      't2 TASK_RUNNING',
    ]);
    expect(await calls.first((call) => call.startsWith('re'))).toBe('registered e1 f1 node-1');
    await calls.first((call) => call === 'reregistered a1');
  });

  test('says nothing twice on one connection', async () => {
    agent.habits.acknowledges = false;
    const driver = await registeredDriver();
    await launch(launchedTask('t1'), launchedTask('t2'));
    agent.habits.answers = false;
    agent.drop();
    await heard('ReregisterExecutor', 2);
    driver.sendStatusUpdate(running('t1'));
    agent.send({ type: 'ExecutorReregistered', agentInfo: AGENT_INFO });
    await calls.first((call) => call === 'reregistered a1');
    driver.sendStatusUpdate(running('t2'));
    await agent.updates.first(({ taskId }) => taskId === 't2');
    expect(agent.updates.seen.map(({ taskId }) => taskId)).toEqual(['t1', 't2']);
  });

  test('forgets what has been acknowledged', async () => {
    const driver = await registeredDriver();
    await launch(launchedTask('t1'));
    driver.sendStatusUpdate(finished('t1'));
    await agent.updates.count(1);
    agent.send({ type: 'FrameworkToExecutor', data: 'after the acknowledgement' });
    await calls.first((call) => call.startsWith('message'));
    agent.drop();
    expect(await heard('ReregisterExecutor')).toMatchObject({ tasks: [], updates: [] });
  });

  test('runs what it was given before', async () => {
    await registeredDriver();
    agent.send(runTask(launchedTask('t1')));
    await agent.goAway();
    await calls.first((call) => call === 'disconnected');
    await agent.comeBack();
    await calls.first((call) => call === 'reregistered a1');
    expect(calls.seen).toContain('launch t1');
  });

  test('comes back as often as it has to', async () => {
    await registeredDriver();
    for (let connection = 2; connection <= 6; connection += 1) {
      agent.drop();
      await heard('ReregisterExecutor', connection);
    }
    await calls.count(5, (call) => call === 'reregistered a1');
  });

  test('comes back to an agent that has refused it since', async () => {
    await registeredDriver();
    agent.habits.answers = false;
    agent.drop();
    await heard('ReregisterExecutor', 2);
    agent.habits.answers = true;
    agent.send({ type: 'ExecutorError', code: 'not-ready', message: 'still starting' });
    await heard('ReregisterExecutor', 3);
    await calls.first((call) => call === 'reregistered a1');
  });

  test('drops messages to the framework', async () => {
    const driver = await registeredDriver();
    await agent.goAway();
    await calls.first((call) => call === 'disconnected');
    driver.sendFrameworkMessage('lost');
    await agent.comeBack();
    await calls.first((call) => call === 'reregistered a1');
    driver.sendFrameworkMessage('heard');
    expect(await heard('ExecutorToFramework')).toMatchObject({ data: 'heard' });
  });
});

describe('a driver that is aborted', () => {
  test('calls nothing any more, and closes its connection', async () => {
    const driver = await registeredDriver();
    expect(await driver.abort()).toBe('DRIVER_ABORTED');
    agent.send(runTask(launchedTask('t1')));
    expect(await driver.join()).toBe('DRIVER_ABORTED');
    expect(calls.seen).toEqual(['registered e1 f1 node-1']);
  });

  test('can be stopped, and was aborted all the same', async () => {
    const driver = await registeredDriver();
    await driver.abort();
    expect(await driver.stop()).toBe('DRIVER_STOPPED');
    expect(await driver.join()).toBe('DRIVER_ABORTED');
  });

  test('leaves room for another one in the same process', async () => {
    const first = await registeredDriver();
    await first.abort();
    const second = await registeredDriver();
    await launch(launchedTask('t1'));
    second.sendStatusUpdate(finished('t1'));
    expect(await agent.updates.count(1)).toMatchObject([{ taskId: 't1' }]);
  });
});

describe('a driver that is stopped', () => {
  test('has had everything acknowledged', async () => {
    agent.habits.acknowledges = false;
    const driver = await registeredDriver();
    await launch(launchedTask('t1'));
    driver.sendStatusUpdate(running('t1'));
    driver.sendStatusUpdate(finished('t1'));
    const stopped = driver.stop();
    const updates = await agent.updates.count(2);
    for (const update of updates) agent.acknowledge(update);
    expect(await stopped).toBe('DRIVER_STOPPED');
    expect(await driver.join()).toBe('DRIVER_STOPPED');
  });

  test('waits for an agent that is away', async () => {
    agent.habits.acknowledges = false;
    const driver = await registeredDriver();
    await launch(launchedTask('t1'));
    driver.sendStatusUpdate(finished('t1'));
    await agent.updates.count(1);
    await agent.goAway();
    const stopped = driver.stop();
    agent.habits.acknowledges = true;
    await agent.comeBack();
    expect(await stopped).toBe('DRIVER_STOPPED');
    expect(agent.updates.seen.map(({ state }) => state)).toEqual([
      'TASK_FINISHED',
      'TASK_FINISHED',
    ]);
  });

  test('gives up after its time', async () => {
    agent.habits.acknowledges = false;
    const log = createWatchedLog();
    const driver = await registeredDriver({}, { stopTimeoutMs: 30 }, log);
    await launch(launchedTask('t1'));
    driver.sendStatusUpdate(finished('t1'));
    expect(await driver.stop()).toBe('DRIVER_STOPPED');
    expect(log.lines.seen.at(-1)).toEqual({
      event: 'updates.not-acknowledged',
      fields: { count: 1, waitedMs: 30 },
    });
  });

  test('takes no task any more', async () => {
    agent.habits.acknowledges = false;
    const driver = await registeredDriver();
    await launch(launchedTask('t1'));
    driver.sendStatusUpdate(finished('t1'));
    const stopped = driver.stop();
    agent.send(runTask(launchedTask('t2')));
    agent.drop();
    const { tasks } = await heard('ReregisterExecutor');
    expect(tasks.map(({ task }) => task.taskId)).toEqual(['t1']);
    agent.updates.seen.forEach((update) => {
      agent.acknowledge(update);
    });
    await stopped;
    expect(calls.seen).not.toContain('launch t2');
  });

  test('before it was started was never started', async () => {
    const driver = driverWith();
    expect(await driver.stop()).toBe('DRIVER_NOT_STARTED');
    expect(await driver.join()).toBe('DRIVER_NOT_STARTED');
  });

  test('by a shutdown has told the executor before', async () => {
    const driver = driverWith({
      shutdown: (self, gracePeriodMs) => {
        calls.push(`shutdown ${String(gracePeriodMs)}`);
        self.sendStatusUpdate({ taskId: 't1', state: 'TASK_KILLED' });
      },
    });
    const ran = driver.run();
    await calls.count(1);
    await launch(launchedTask('t1'));
    agent.send({ type: 'ShutdownExecutor', gracePeriodMs: 800 });
    expect(await ran).toBe('DRIVER_STOPPED');
    expect(calls.seen.at(-1)).toBe('shutdown 800');
    expect(agent.updates.seen).toMatchObject([{ taskId: 't1', state: 'TASK_KILLED' }]);
  });
});

describe('what the agent says', () => {
  test('and nobody understands is skipped', async () => {
    await registeredDriver();
    agent.sendBytes('{"type":"FromTheFuture","x":1}\nno json\n[]\n7\n\n{"type":"RunTask"}\n');
    await launch(launchedTask('t1'));
    expect(calls.seen.at(-1)).toBe('launch t1');
  });

  test('may arrive in any pieces', async () => {
    await registeredDriver();
    const line = Buffer.from('{"type":"FrameworkToExecutor","data":"größer"}\n');
    const middleOfCharacter = line.indexOf(0xc3) + 1;
    agent.sendBytes(line.subarray(0, middleOfCharacter));
    agent.sendBytes(line.subarray(middleOfCharacter));
    expect(await calls.first((call) => call.startsWith('message'))).toBe('message größer');
  });

  test('may be a line of megabytes', async () => {
    await registeredDriver({
      launchTaskGroup: (_driver, { tasks }) => calls.push(`group of ${String(tasks.length)}`),
    });
    const data = 'x'.repeat(60_000);
    const tasks = Array.from({ length: 100 }, (_none, index) =>
      launchedTask(`t${String(index)}`, { data }),
    );
    agent.send({ type: 'RunTaskGroup', groupId: 'g1' as never, tasks });
    await calls.first((call) => call === 'group of 100');
  });
});

test('thousands of updates are all acknowledged, through connections that break', async () => {
  const driver = await registeredDriver({
    launchTask: (self, { task }) => {
      self.sendStatusUpdate(running(task.taskId));
      self.sendStatusUpdate(finished(task.taskId));
    },
  });
  const tasks = Array.from({ length: 3000 }, (_none, index) => launchedTask(`t${String(index)}`));
  agent.send(...tasks.slice(0, 1000).map(runTask));
  await agent.updates.count(500);
  agent.drop();
  await heard('ReregisterExecutor', 2);
  // The agent sends again what it has not heard of: all, to be on the safe side.
  agent.send(...tasks.map(runTask));
  // The updates of one connection keep their order, and those of the broken one were said again.
  await agent.updates.first(({ taskId, state }) => taskId === 't2999' && state === 'TASK_FINISHED');
  expect(await driver.stop()).toBe('DRIVER_STOPPED');
  const ended = agent.updates.seen.filter(({ state }) => state === 'TASK_FINISHED');
  expect(new Set(ended.map(({ launchId }) => launchId)).size).toBe(3000);
});
