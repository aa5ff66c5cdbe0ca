/** The default executor as it is built, as a process of its own, with real commands. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import type { ExecutorUpdate, LaunchedTask } from '../../protocol/executor-messages.ts';
import type { ExecutorProcess, FakeAgentSocket } from '../support/fake-agent-socket.ts';
import {
  buildExecutors,
  endOf,
  killTask,
  launchedCommand,
  launchedTask,
  runningOf,
  runTask,
  startExecutor,
  startFakeAgent,
  statesOf,
} from '../support/fake-agent-socket.ts';

let dist: string;
let agent: FakeAgentSocket;
let executor: ExecutorProcess;

beforeAll(async () => {
  dist = await mkdtemp(join(tmpdir(), 'kaon-dist-'));
  await buildExecutors(dist);
});
afterAll(() => rm(dist, { recursive: true, force: true }));

beforeEach(async () => {
  agent = await startFakeAgent();
  executor = startExecutor([process.execPath, join(dist, 'default-executor.js')], {
    ...agent.environment,
    LANG: 'C.UTF-8',
    SECRET_OF_THE_EXECUTOR: 'x',
  });
  await agent.heard.count(1);
});

/** Tasks are children of the executor in sessions of their own: they are ended by it, or nobody ends them. */
afterEach(async () => {
  await agent.comeBack();
  agent.send({ type: 'ShutdownExecutor', gracePeriodMs: 0 });
  executor.signal('SIGTERM');
  await executor.exit;
  await agent.close();
  expect(agent.faults).toEqual([]);
});

type More = Parameters<typeof launchedCommand>[3];

const command = (taskId: string, argv: readonly string[], more?: More): LaunchedTask =>
  launchedCommand(agent.directory, taskId, argv, more);
const shell = (taskId: string, script: string, more?: More): LaunchedTask =>
  command(taskId, ['/bin/sh', '-c', script], more);

/** Hands one task over, and waits for its end. */
async function run(launched: LaunchedTask): Promise<ExecutorUpdate> {
  agent.send(runTask(launched));
  return endOf(agent, launched.task.taskId);
}

/** Hands tasks over, as a group, and waits until all of them run. */
async function runGroup(...tasks: LaunchedTask[]): Promise<void> {
  agent.send({ type: 'RunTaskGroup', groupId: 'g1' as never, tasks });
  for (const { task } of tasks) await runningOf(agent, task.taskId);
}

const stdoutOf = ({ sandbox }: LaunchedTask): string => readFileSync(sandbox?.stdout ?? '', 'utf8');
const stderrOf = ({ sandbox }: LaunchedTask): string => readFileSync(sandbox?.stderr ?? '', 'utf8');

async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await delay(5);
}

/** The process id that a task has written into a file of its working directory. */
async function pidIn({ sandbox }: LaunchedTask, name: string): Promise<number> {
  const path = join(sandbox?.work ?? '', name);
  await until(() => existsSync(path) && readFileSync(path, 'utf8').endsWith('\n'));
  return Number(await readFile(path, 'utf8'));
}

/** A zombie that nobody has waited for yet is no process any more. */
function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${String(pid)}/status`, 'utf8'));
  } catch {
    // There is no such process.
    return false;
  }
}

describe('a command', () => {
  test('runs and finishes', async () => {
    const before = Date.now();
    const end = await run(command('t1', ['true']));
    expect(end).toMatchObject({
      state: 'TASK_FINISHED',
      message: 'exited with code 0',
      exitCode: 0,
      launchId: 'launch-of-t1',
    });
    expect(statesOf(agent, 't1')).toEqual(['TASK_RUNNING', 'TASK_FINISHED']);
    expect(end.startedAtMs).toBeGreaterThanOrEqual(before);
    expect(end.endedAtMs).toBeGreaterThanOrEqual(end.startedAtMs ?? Infinity);
  });

  test.each<[string, string, object]>([
    [
      'an exit code',
      'exit 3',
      { reason: 'REASON_COMMAND_EXITED', message: 'exited with code 3', exitCode: 3 },
    ],
    [
      'a signal',
      'kill -9 $$',
      { reason: 'REASON_COMMAND_SIGNALED', message: 'ended by signal 9 (SIGKILL)', signal: 9 },
    ],
  ])('that leaves with %s has failed', async (_with, script, expected) => {
    expect(await run(shell('t1', script))).toMatchObject({ state: 'TASK_FAILED', ...expected });
  });

  test.each<[string, string[], More, string, string]>([
    [
      'is not there',
      ['no-such-program'],
      {},
      'REASON_COMMAND_NOT_EXECUTABLE',
      'not started on node-1: command "no-such-program" cannot be executed: it does not exist there, or is not executable',
    ],
    [
      'is not executable',
      ['/etc/passwd'],
      {},
      'REASON_COMMAND_NOT_EXECUTABLE',
      'not started on node-1: command "/etc/passwd" cannot be executed: it does not exist there, or is not executable',
    ],
    [
      'has no directory to run in',
      ['true'],
      { command: { workingDirectory: '/no/such/directory' } },
      'REASON_CONTAINER_LAUNCH_FAILED',
      'not started on node-1: working directory /no/such/directory cannot be entered',
    ],
  ])('that %s is not started', async (_why, argv, more, reason, message) => {
    const end = await run(command('t1', argv, more));
    expect(end).toMatchObject({ state: 'TASK_FAILED', reason, message });
    expect(statesOf(agent, 't1')).toEqual(['TASK_FAILED']);
  });

  test('without a file for its output is not started', async () => {
    const launched = command('t1', ['true']);
    const stdout = '/no/such/directory/stdout';
    const sandbox = { work: '/', stderr: '/dev/null', ...launched.sandbox, stdout };
    expect(await run({ ...launched, sandbox })).toMatchObject({
      reason: 'REASON_CONTAINER_LAUNCH_FAILED',
      message: `not started on node-1: the file for its output cannot be opened: ${stdout}`,
    });
  });

  test('adds its output to the files of its sandbox', async () => {
    const launched = shell('t1', 'echo out; echo err >&2; echo more');
    await run(launched);
    expect([stdoutOf(launched), stderrOf(launched)]).toEqual(['out\nmore\n', 'err\n']);
  });

  test('runs in its sandbox', async () => {
    const launched = command('t1', ['pwd']);
    await run(launched);
    expect(stdoutOf(launched)).toBe(`${launched.sandbox?.work ?? ''}\n`);
  });

  test('is searched relative to the directory that it asks for', async () => {
    const launched = command('t1', ['./true'], { command: { workingDirectory: '/bin' } });
    expect(await run(launched)).toMatchObject({ state: 'TASK_FINISHED' });
  });

  test('has an environment without the secrets of its executor', async () => {
    const launched = command('t1', ['/usr/bin/env'], {
      command: { environment: { MINE: 'a b=c\n"d"', LANG: 'de_DE' } },
    });
    await run(launched);
    const work = launched.sandbox?.work ?? '';
    expect(stdoutOf(launched).split('\n').sort()).toEqual(
      [
        '',
        '"d"',
        `HOME=${work}`,
        'KAON_EXECUTOR_ID=e1',
        `KAON_EXECUTOR_SANDBOX=${agent.environment['KAON_SANDBOX'] ?? ''}`,
        'KAON_FRAMEWORK_ID=f1',
        `KAON_SANDBOX=${work}`,
        'KAON_TASK_ID=t1',
        'LANG=de_DE',
        'MINE=a b=c',
        `PATH=${process.env['PATH'] ?? ''}`,
      ].sort(),
    );
  });

  test('without a command is an error of its framework', async () => {
    expect(await run(launchedTask('t1'))).toMatchObject({
      state: 'TASK_ERROR',
      reason: 'REASON_TASK_INVALID',
      message: 'not started: it has no command',
    });
  });

  test('takes nothing with it that it has left in its process group', async () => {
    const launched = shell('t1', 'sleep 1000 & echo $! > left');
    await run(launched);
    const left = await pidIn(launched, 'left');
    await until(() => !isAlive(left));
  });
});

describe('a kill', () => {
  test('ends a task with SIGTERM', async () => {
    const launched = command('t1', ['sleep', '1000']);
    agent.send(runTask(launched));
    await runningOf(agent, 't1');
    agent.send(killTask(launched));
    expect(await endOf(agent, 't1')).toMatchObject({
      state: 'TASK_KILLED',
      reason: 'REASON_KILLED_BY_FRAMEWORK',
      message: 'killed on request: ended by signal 15 (SIGTERM)',
      signal: 15,
    });
    expect(statesOf(agent, 't1')).toEqual(['TASK_RUNNING', 'TASK_KILLING', 'TASK_KILLED']);
  });

  /** Says `ready` in a file when it obeys no SIGTERM any more. */
  const deaf = (taskId: string): LaunchedTask =>
    shell(taskId, 'trap "" TERM; echo $$ > ready; while :; do sleep 1000; done');

  test('ends a task that does not obey with SIGKILL after its grace period', async () => {
    const launched = deaf('t1');
    agent.send(runTask(launched));
    await pidIn(launched, 'ready');
    agent.send(killTask(launched, 50));
    expect(await endOf(agent, 't1')).toMatchObject({
      state: 'TASK_KILLED',
      message: 'killed on request: ended by signal 9 (SIGKILL)',
    });
  });

  test('that comes again can shorten the grace period', async () => {
    const launched = deaf('t1');
    agent.send(runTask(launched));
    await pidIn(launched, 'ready');
    agent.send(killTask(launched, 3_600_000), killTask(launched, 50));
    expect(await endOf(agent, 't1')).toMatchObject({ state: 'TASK_KILLED', signal: 9 });
  });

  test('reaches all processes of the task', async () => {
    const launched = shell('t1', 'sh -c "echo \\$\\$ > inner; exec sleep 1000" & wait');
    agent.send(runTask(launched));
    const inner = await pidIn(launched, 'inner');
    agent.send(killTask(launched));
    await endOf(agent, 't1');
    await until(() => !isAlive(inner));
  });

  test('of a task that has ended changes nothing', async () => {
    const launched = command('t1', ['true']);
    await run(launched);
    agent.send(killTask(launched));
    await run(command('t2', ['true']));
    expect(statesOf(agent, 't1')).toEqual(['TASK_RUNNING', 'TASK_FINISHED']);
  });
});

describe('a limit of time', () => {
  test('ends a task that runs longer', async () => {
    const end = await run(command('t1', ['sleep', '1000'], { maxCompletionTimeMs: 50 }));
    expect(end).toMatchObject({
      state: 'TASK_FAILED',
      reason: 'REASON_MAX_COMPLETION_TIME_REACHED',
      message: 'ran longer than its limit of 50ms',
      signal: 15,
    });
  });

  test('of ten years is none for a quick command', async () => {
    const end = await run(shell('t1', 'sleep 0.05', { maxCompletionTimeMs: 315_360_000_000 }));
    expect(end).toMatchObject({ state: 'TASK_FINISHED' });
  });
});

describe('a group', () => {
  const sleeping = (taskId: string): LaunchedTask => command(taskId, ['sleep', '1000']);

  test('ends when one of its tasks fails', async () => {
    await runGroup(sleeping('t1'), shell('t2', 'exit 3'), sleeping('t3'));
    const message =
      'killed because task t2 of its group failed (exited with code 3): ended by signal 15 (SIGTERM)';
    for (const taskId of ['t1', 't3']) {
      expect(await endOf(agent, taskId)).toMatchObject({
        state: 'TASK_KILLED',
        reason: 'REASON_TASK_GROUP_FAILED',
        message,
      });
    }
    expect(await endOf(agent, 't2')).toMatchObject({ reason: 'REASON_COMMAND_EXITED' });
  });

  test('ends when one of its tasks cannot be started', async () => {
    const tasks = [sleeping('t1'), command('t2', ['no-such-program'])];
    agent.send({ type: 'RunTaskGroup', groupId: 'g1' as never, tasks });
    expect(await endOf(agent, 't2')).toMatchObject({ reason: 'REASON_COMMAND_NOT_EXECUTABLE' });
    expect(await endOf(agent, 't1')).toMatchObject({ reason: 'REASON_TASK_GROUP_FAILED' });
  });

  test('ends when one of its tasks is killed', async () => {
    const killed = sleeping('t1');
    await runGroup(killed, sleeping('t2'));
    agent.send(killTask(killed));
    expect(await endOf(agent, 't1')).toMatchObject({
      message: 'killed on request: ended by signal 15 (SIGTERM)',
    });
    expect(await endOf(agent, 't2')).toMatchObject({
      state: 'TASK_KILLED',
      reason: 'REASON_KILLED_BY_FRAMEWORK',
      message: 'killed because task t1 of its group was to be killed: ended by signal 15 (SIGTERM)',
    });
  });

  test('goes on when one of its tasks finishes', async () => {
    const waiting = shell('t2', 'while [ ! -e go ]; do sleep 0.01; done');
    await runGroup(command('t1', ['true']), waiting);
    await endOf(agent, 't1');
    await run(command('t3', ['touch', join(waiting.sandbox?.work ?? '', 'go')]));
    expect(await endOf(agent, 't2')).toMatchObject({ state: 'TASK_FINISHED' });
  });
});

describe('with control groups', () => {
  /** Files that stand for `cgroup.procs`: what a process has written to them can be read. */
  const procs = (...names: string[]): string[] => names.map((name) => join(agent.directory, name));

  test('a task joins all of them before it begins', async () => {
    const cgroupProcs = procs('one', 'two');
    const launched = command('t1', ['cat', ...cgroupProcs], { cgroupProcs });
    expect(await run(launched)).toMatchObject({ state: 'TASK_FINISHED' });
    expect(stdoutOf(launched)).toBe('0\n0\n');
  });

  test('a task that cannot join is not run', async () => {
    const cgroupProcs = procs('one', 'no/such');
    const launched = command('t1', ['echo', 'run'], { cgroupProcs });
    const end = await run(launched);
    expect(end).toMatchObject({ state: 'TASK_FAILED', reason: 'REASON_CONTAINER_LAUNCH_FAILED' });
    expect(end.message).toMatch(/its control group could not be joined: .*no\/such/);
    expect(stdoutOf(launched)).toBe('');
  });

  test('a command that is not there is told from one that exits alike', async () => {
    const cgroupProcs = procs('one');
    const missing = await run(command('t1', ['no-such-program'], { cgroupProcs }));
    expect(missing).toMatchObject({ reason: 'REASON_COMMAND_NOT_EXECUTABLE' });
    expect(missing.message).toContain('no-such-program');
    const exited = await run(shell('t2', 'exit 127', { cgroupProcs }));
    expect(exited).toMatchObject({ reason: 'REASON_COMMAND_EXITED', exitCode: 127 });
  });

  test('words and variables reach the command as they are', async () => {
    const words = ['$HOME', '`id`', "it's", '"', '\\', '', 'a\nb', '-n', '*'];
    const environment = { IFS: 'x', ENV: 'production', OPTIND: '7', n: '1', PWD: '/p' };
    const script = 'for w do printf "[%s]" "$w"; done';
    const argv = ['/bin/sh', '-c', script, 'sh', ...words];
    const cgroupProcs = procs('one');
    const spoken = command('t1', argv, { cgroupProcs });
    const variables = command('t2', ['/usr/bin/env'], { cgroupProcs, command: { environment } });
    await run(spoken);
    await run(variables);
    expect(stdoutOf(spoken)).toBe(words.map((word) => `[${word}]`).join(''));
    const lines = stdoutOf(variables).split('\n');
    expect(lines).toEqual(
      expect.arrayContaining(Object.entries(environment).map((one) => one.join('='))),
    );
    expect(lines).not.toContainEqual(expect.stringMatching(/^(OLDPWD|SHLVL|_)=/));
  });
});

describe('a shutdown', () => {
  test('kills all tasks, reports them and ends the process', async () => {
    const tasks = ['t1', 't2', 't3'].map((taskId) => command(taskId, ['sleep', '1000']));
    agent.send(...tasks.map(runTask));
    await runningOf(agent, 't3');
    agent.send({ type: 'ShutdownExecutor', gracePeriodMs: 60_000 });
    expect(await executor.exit).toEqual({ code: 0, signal: null });
    for (const { task } of tasks) {
      expect(await endOf(agent, task.taskId)).toMatchObject({
        state: 'TASK_KILLED',
        reason: 'REASON_EXECUTOR_TERMINATED',
        message: 'killed because its executor is shut down: ended by signal 15 (SIGTERM)',
      });
    }
  });

  test('kills what does not obey before its own time is over', async () => {
    const launched = shell('t1', 'trap "" TERM; echo $$ > ready; while :; do sleep 1000; done');
    agent.send(runTask(launched));
    await pidIn(launched, 'ready');
    agent.send({ type: 'ShutdownExecutor', gracePeriodMs: 100 });
    expect(await executor.exit).toEqual({ code: 0, signal: null });
    expect(await endOf(agent, 't1')).toMatchObject({ signal: 9 });
  });

  test('by SIGTERM is one as well', async () => {
    agent.send(runTask(command('t1', ['sleep', '1000'])));
    await runningOf(agent, 't1');
    executor.signal('SIGTERM');
    expect(await executor.exit).toEqual({ code: 0, signal: null });
    expect(await endOf(agent, 't1')).toMatchObject({ reason: 'REASON_EXECUTOR_TERMINATED' });
  });
});

describe('when the agent is away', () => {
  test('tasks go on, and are reported when it is back', async () => {
    const launched = shell('t1', 'while [ ! -e go ]; do sleep 0.01; done; touch gone');
    agent.send(runTask(launched));
    await runningOf(agent, 't1');
    await agent.goAway();
    const path = (name: string): string => join(launched.sandbox?.work ?? '', name);
    writeFileSync(path('go'), '');
    await until(() => existsSync(path('gone')));
    await agent.comeBack();
    expect(await endOf(agent, 't1')).toMatchObject({ state: 'TASK_FINISHED', exitCode: 0 });
  });
});

describe('many tasks', () => {
  test('run at the same time', async () => {
    const tasks = Array.from({ length: 200 }, (_none, index) =>
      command(`t${String(index)}`, ['sleep', '1000']),
    );
    agent.send(...tasks.map(runTask));
    await agent.updates.count(200, ({ state }) => state === 'TASK_RUNNING');
    agent.send({ type: 'ShutdownExecutor', gracePeriodMs: 60_000 });
    expect(await executor.exit).toEqual({ code: 0, signal: null });
    const ends = agent.updates.seen.filter(({ state }) => state === 'TASK_KILLED');
    expect(new Set(ends.map(({ taskId }) => taskId)).size).toBe(200);
  });

  test('a thousand quick ones are all accounted for, through a connection that breaks', async () => {
    const tasks = Array.from({ length: 1000 }, (_none, index) =>
      index % 10 === 0
        ? shell(`t${String(index)}`, 'exit 1')
        : command(`t${String(index)}`, ['true']),
    );
    agent.send(...tasks.map(runTask));
    await agent.updates.count(300);
    agent.drop();
    // An agent gives again what it has heard nothing of.
    await agent.heard.first(({ message }) => message.type === 'ReregisterExecutor');
    agent.send(...tasks.map(runTask));
    for (const { task } of tasks) await endOf(agent, task.taskId);
    const failed = agent.updates.seen.filter(({ state }) => state === 'TASK_FAILED');
    expect(new Set(failed.map(({ taskId }) => taskId)).size).toBe(100);
    for (const { task } of tasks) expect(statesOf(agent, task.taskId)).toHaveLength(2);
  }, 240_000);
});

test('started by hand it says what is missing', async () => {
  const lonely = startExecutor([process.execPath, join(dist, 'default-executor.js')], {});
  expect(await lonely.exit).toEqual({ code: 64, signal: null });
  expect(lonely.said()).toContain('KAON_EXECUTOR_SOCKET is not set');
});
