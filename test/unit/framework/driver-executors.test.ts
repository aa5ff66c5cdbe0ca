/** What a driver has for executors: groups, messages and which way they take, shutdown, other limits. */
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { TaskDescription } from '../../../framework/descriptions.ts';
import type { SchedulerDriver } from '../../../framework/scheduler-driver.ts';
import type { FakeStore } from '../../../io/fake/store.ts';
import type { ExecutorId, SessionId } from '../../../protocol/ids.ts';
import { DATA_MAX_CHARS } from '../../../protocol/limits.ts';
import type { Message } from '../../../protocol/messages.ts';
import type { TaskState } from '../../../protocol/task-state.ts';
import { agentIdOf, amount, offerIdOf, taskIdOf, taskStatus } from '../../support/builders.ts';
import type { LogLine, Watch } from '../../support/watch.ts';
import { createWatchedLog } from '../../support/watch.ts';
import { codeThrownBy, DriverBench, frameworkId, offer, registered } from './driver-bench.ts';

const agentId = agentIdOf('a1');
const executorId = 'e1' as ExecutorId;

let bench: DriverBench;
let driver: SchedulerDriver;
let logged: Watch<LogLine>;

beforeEach(async () => {
  bench = new DriverBench();
  const log = createWatchedLog();
  logged = log.lines;
  driver = await bench.connect(bench.driver({}, { log }));
  await bench.toldOf(registered(false));
});

afterEach(() => bench.end());

const settled = (): Promise<void> => bench.clock.pass(0);
const offers = (...list: string[]): Message => ({
  type: 'ResourceOffers',
  offers: list.map((each) => offer(`o-${each}`, { agentId: agentIdOf(each) })),
});
const update = (state: TaskState): Message => ({
  type: 'StatusUpdate',
  status: taskStatus('f1', 't1', state, { agentId }),
});
const messageOf = (data: string): Message => ({
  type: 'FrameworkToExecutor',
  frameworkId,
  agentId,
  executorId,
  data,
});

/** A task of executor e1, which runs the commands of its tasks. */
const task = (taskId: string, own: Partial<TaskDescription> = {}): TaskDescription => ({
  taskId,
  name: taskId,
  resources: amount(1, 64),
  command: { argv: ['true'] },
  executor: { executorId, name: 'e', resources: amount(0.1, 32) },
  ...own,
});

describe('a message to an executor', () => {
  test('goes by way of the master while nothing is known of the agent', async () => {
    driver.sendFrameworkMessage(executorId, agentId, 'hello');
    await settled();
    expect(bench.said().at(-1)).toEqual(messageOf('hello'));
    expect(bench.requestsOf('a1')).toEqual([]);
  });

  test.each<[string, () => Message]>([
    ['an offer', () => offers('a1')],
    ['a running task', () => update('TASK_RUNNING')],
    [
      'a message of an executor',
      () => ({ type: 'ExecutorToFramework', frameworkId, agentId, executorId, data: '' }),
    ],
  ])('goes straight to the agent after %s there', async (_title, told) => {
    await bench.toldOf(told());
    driver.sendFrameworkMessage(executorId, agentId, 'one');
    driver.sendFrameworkMessage(executorId, agentId, 'two');
    await settled();
    expect(bench.requestsOf('a1')).toEqual([messageOf('one'), messageOf('two')]);
    expect(bench.typesSaid()).not.toContain('FrameworkToExecutor');
  });

  test('of another agent than those that are known goes by way of the master', async () => {
    await bench.toldOf(offers('a2'));
    driver.sendFrameworkMessage(executorId, agentId, 'hello');
    await settled();
    expect(bench.typesSaid()).toContain('FrameworkToExecutor');
  });

  test.each<[string, () => Message]>([
    ['is lost', () => ({ type: 'LostAgent', agentId })],
    ['cannot be reached', () => update('TASK_UNREACHABLE')],
    ['is gone', () => update('TASK_GONE_BY_OPERATOR')],
  ])('goes by way of the master again after the agent %s', async (_title, told) => {
    await bench.toldOf(offers('a1'), told());
    driver.sendFrameworkMessage(executorId, agentId, 'hello');
    await settled();
    expect(bench.said().at(-1)?.type).toBe('FrameworkToExecutor');
    expect(bench.requestsOf('a1')).toEqual([]);
  });

  test('is not about an agent on which a task has only ended', async () => {
    await bench.toldOf(update('TASK_LOST'));
    driver.sendFrameworkMessage(executorId, agentId, 'hello');
    await settled();
    expect(bench.requestsOf('a1')).toEqual([]);
  });

  test('that cannot be written is dropped, and logged', async () => {
    await bench.toldOf(offers('a1'));
    const fail = (): Promise<never> => Promise.reject(new Error('OOM of some kind'));
    (bench.store as Pick<FakeStore, 'requestAgent'>).requestAgent = fail;
    driver.sendFrameworkMessage(executorId, agentId, 'hello');
    const line = await logged.first(({ event }) => event === 'framework-message.dropped');
    expect(line.fields).toMatchObject({ agentId, executorId, error: 'OOM of some kind' });
    expect(driver.status).toBe('DRIVER_RUNNING');
  });

  test('is dropped while a thousand others wait for Redis, which is said once', async () => {
    await bench.toldOf(offers('a1'));
    const waiting: (() => void)[] = [];
    let written = 0;
    (bench.store as Pick<FakeStore, 'requestAgent'>).requestAgent = () => {
      written += 1;
      return new Promise((resolve) => waiting.push(resolve));
    };
    for (let count = 0; count < 1010; count += 1) driver.sendFrameworkMessage('e1', 'a1', 'x');
    expect(written).toBe(1000);
    expect(logged.seen.filter(({ event }) => event.startsWith('framework-message'))).toHaveLength(
      1,
    );
    for (const write of waiting) write();
    await settled();
    driver.sendFrameworkMessage('e1', 'a1', 'x');
    expect(written).toBe(1001);
  });

  test('of an ended driver goes nowhere', async () => {
    await bench.toldOf(offers('a1'));
    await driver.stop();
    driver.sendFrameworkMessage(executorId, agentId, 'hello');
    await settled();
    expect(bench.requestsOf('a1')).toEqual([]);
  });

  test('has a largest size', async () => {
    await bench.toldOf(offers('a1'));
    driver.sendFrameworkMessage(executorId, agentId, 'x'.repeat(DATA_MAX_CHARS));
    const tooLarge = (): void => {
      driver.sendFrameworkMessage(executorId, agentId, 'x'.repeat(DATA_MAX_CHARS + 1));
    };
    expect(codeThrownBy(tooLarge)).toBe('data-too-large');
    await settled();
    expect(bench.requestsOf('a1')).toHaveLength(1);
  });
});

describe('callbacks', () => {
  test('tell what an executor says, that one has ended, and what became of other limits', async () => {
    const resizeId = 'r.1' as SessionId;
    const taskId = taskIdOf('t1');
    bench.tell(
      { type: 'ExecutorToFramework', frameworkId, agentId, executorId, data: 'hello' },
      { type: 'ExecutorLost', agentId, executorId, message: 'exited with code 3' },
      { type: 'TaskResized', resizeId, frameworkId, taskId, resources: amount(1, 64), error: 'no' },
      { type: 'TaskResized', resizeId, frameworkId, taskId, resources: amount(2, 64) },
    );
    await bench.calls.count(5);
    expect(bench.calls.seen.slice(1)).toEqual([
      'message e1 a1 hello',
      'executor lost e1 a1 exited with code 3',
      'resized {"resizeId":"r.1","taskId":"t1","resources":{"cpuMillis":1000,"memMib":64},"error":"no"}',
      'resized {"resizeId":"r.1","taskId":"t1","resources":{"cpuMillis":2000,"memMib":64}}',
    ]);
  });

  test('that a scheduler does not have are not missed', async () => {
    const none = { frameworkMessage: undefined, executorLost: undefined, taskResized: undefined };
    await driver.abort();
    const simple = await bench.connect(bench.driver(none as never));
    await bench.toldOf(
      { type: 'ExecutorToFramework', frameworkId, agentId, executorId, data: 'hello' },
      { type: 'ExecutorLost', agentId, executorId, message: 'exited with code 3' },
    );
    expect(simple.status).toBe('DRIVER_RUNNING');
  });
});

describe('a group of tasks', () => {
  test('is one launch whose tasks have one group', async () => {
    const groupId = driver.launchTaskGroup(offerIdOf('o1'), [task('t1'), task('t2')], {
      refuseMs: 1,
    });
    await settled();
    const tasks = [task('t1', { groupId }), task('t2', { groupId })];
    const filters = { refuseMs: 1 };
    const launch = { type: 'LaunchTasks', frameworkId, offerIds: ['o1'], tasks, filters };
    expect(bench.said().at(-1)).toEqual(launch);
  });

  test('has a group id of its own each time, also if its tasks were described with one', async () => {
    const first = driver.launchTaskGroup(offerIdOf('o1'), [task('t1')]);
    const second = driver.launchTaskGroup(offerIdOf('o2'), [task('t2', { groupId: first })]);
    await settled();
    expect(second).not.toBe(first);
    expect(bench.said().at(-1)).toMatchObject({ tasks: [{ groupId: second }] });
  });

  test.each<[string, string, readonly TaskDescription[]]>([
    ['no tasks', 'no-tasks', []],
    ['a task without an executor', 'invalid-argument', [task('t1', { executor: undefined })]],
    [
      'tasks of two executors',
      'mixed-executors',
      [
        task('t1'),
        task('t2', { executor: { executorId: 'e2', name: 'e', resources: amount(0.1, 32) } }),
      ],
    ],
    [
      'tasks that say different things of one executor',
      'mixed-executors',
      [task('t1'), task('t2', { executor: { executorId, name: 'e', resources: amount(0.2, 32) } })],
    ],
  ])('with %s is refused at once', async (_title, code, tasks) => {
    expect(codeThrownBy(() => driver.launchTaskGroup(offerIdOf('o1'), tasks))).toBe(code);
    await settled();
    expect(bench.typesSaid()).toEqual(['RegisterFramework']);
  });

  test('may name its executor with a default or with what that is', () => {
    const explicit = {
      ...task('t1').executor,
      isolation: 'container',
    } as TaskDescription['executor'];
    const call = (): unknown =>
      driver.launchTaskGroup(offerIdOf('o1'), [task('t1'), task('t2', { executor: explicit })]);
    expect(codeThrownBy(call)).toBeUndefined();
  });
});

describe('calls', () => {
  test('end an executor, and ask for other limits by an id that is told', async () => {
    driver.shutdownExecutor('e1', 'a1');
    const first = driver.resizeTask('t1', amount(2, 256));
    const second = driver.resizeTask('t1', amount(1, 256));
    await settled();
    expect(first).not.toBe(second);
    expect(bench.said().slice(1)).toEqual([
      { type: 'ShutdownExecutor', frameworkId, agentId: 'a1', executorId: 'e1' },
      {
        type: 'ResizeTask',
        resizeId: first,
        frameworkId,
        taskId: 't1',
        resources: { cpuMillis: 2000, memMib: 256 },
      },
      {
        type: 'ResizeTask',
        resizeId: second,
        frameworkId,
        taskId: 't1',
        resources: { cpuMillis: 1000, memMib: 256 },
      },
    ]);
  });
});
