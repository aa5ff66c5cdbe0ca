/** The executor of processors as it is built, as a process of its own, with real processor files and an agent that is a script. */
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import type { Job } from 'bullmq';
import type { ExecutorUpdate, LaunchedTask } from '../../protocol/executor-messages.ts';
import { ProcessorCalls, type FinishedJob } from '../../schedulers/bullmq/processor-calls.ts';
import {
  endOf,
  killTask,
  launchedTask,
  runningOf,
  runTask,
  startExecutor,
  startFakeAgent,
  statesOf,
  type ExecutorProcess,
  type FakeAgentSocket,
} from '../support/fake-agent-socket.ts';
import { createWatch, createWatchedLog, type Watch } from '../support/watch.ts';

let dist: string;
let agent: FakeAgentSocket;
let executor: ExecutorProcess;
let calls: ProcessorCalls;
/** What was done to jobs: `log a`, in order. */
let done: Watch<string>;
/** Framework messages of the executor that shall be lost, by their number from 1. */
let lostMessages: number[];

beforeAll(async () => {
  dist = await mkdtemp(join(tmpdir(), 'kaon-dist-'));
  const only = 'processor-executor,processor-child';
  await promisify(execFile)(process.execPath, [
    'scripts/build.mjs',
    ...['--out', dist, '--only', only],
  ]);
});
afterAll(() => rm(dist, { recursive: true, force: true }));

beforeEach(async () => {
  agent = await startFakeAgent();
  done = createWatch<string>();
  lostMessages = [];
  calls = new ProcessorCalls({
    log: createWatchedLog(),
    send: (_taskId, data) => {
      agent.send({ type: 'FrameworkToExecutor', data });
    },
    noteMoved: () => Promise.resolve(),
  });
});

afterEach(async () => {
  await agent.comeBack();
  agent.send({ type: 'ShutdownExecutor', gracePeriodMs: 0 });
  executor.signal('SIGTERM');
  await executor.exit;
  await agent.close();
  expect(agent.faults).toEqual([]);
});

/** Starts the executor of a processor file with that text, and does what its processors ask for. */
async function start(source: string, ...flags: string[]): Promise<void> {
  const file = join(agent.directory, 'processor.mjs');
  writeFileSync(file, source);
  await startProgram(file, ...flags);
}

async function startProgram(...args: string[]): Promise<void> {
  const program = [process.execPath, join(dist, 'processor-executor.js'), ...args];
  // An agent starts it in its sandbox.
  const argv = ['sh', '-c', 'cd "$0" && exec "$@"', agent.directory, ...program];
  executor = startExecutor(argv, { ...agent.environment, SETTING: 'x' });
  await agent.heard.count(1);
  void pump();
}

/** What the executor says to the scheduler reaches it, but for what is lost. */
async function pump(): Promise<void> {
  for (let count = 1; ; count += 1) {
    const heard = await agent.heard.count(
      count,
      ({ message }) => message.type === 'ExecutorToFramework',
    );
    const message = heard[count - 1]?.message;
    if (lostMessages.includes(count)) continue;
    if (message?.type === 'ExecutorToFramework') calls.receive(message.data);
  }
}

/** A job without a queue: it notes what is done to it. */
function fakeJob(data: unknown): Job {
  const note =
    (name: string, answer?: unknown) =>
    async (...words: unknown[]): Promise<unknown> => {
      done.push([name, ...words.map((word) => JSON.stringify(word))].join(' '));
      return answer;
    };
  return {
    asJSONSandbox: () => ({ id: '1', name: 'sum', data: JSON.stringify(data), opts: {} }),
    log: note('log'),
    updateProgress: note('updateProgress'),
    updateData: note('updateData'),
    getChildrenValues: note('getChildrenValues', { 'bull:q:2': 7 }),
    getDependenciesCount: note('getDependenciesCount', { processed: 1 }),
    moveToDelayed: note('moveToDelayed'),
    moveToWait: async () => Promise.reject(new Error('missing lock')),
  } as unknown as Job;
}

type More = Parameters<typeof launchedTask>[1] & {
  readonly cgroupProcs?: string[];
  /** The job is not in the task's data. */
  readonly isLarge?: boolean;
  /** The processor, for an executor that asks for it. */
  readonly code?: string;
};

function jobTask(taskId: string, data: unknown = {}, more: More = {}): LaunchedTask {
  const { cgroupProcs, isLarge = false, code, ...info } = more;
  const job = fakeJob(data);
  calls.track(taskId, job, 'the-token', code);
  const fields = isLarge ? {} : { job: JSON.stringify(job.asJSONSandbox()) };
  const text = JSON.stringify({ token: 'the-token', ...fields });
  return { ...launchedTask(taskId, { ...info, data: text }), ...(cgroupProcs && { cgroupProcs }) };
}

async function run(
  launched: LaunchedTask,
): Promise<{ readonly end: ExecutorUpdate; readonly job: FinishedJob }> {
  agent.send(runTask(launched));
  return finished(launched);
}

async function finished({
  task,
}: LaunchedTask): Promise<{ readonly end: ExecutorUpdate; readonly job: FinishedJob }> {
  const end = await endOf(agent, task.taskId);
  return { end, job: await calls.finish(task.taskId, end.data) };
}

async function resultOf(launched: LaunchedTask): Promise<unknown> {
  const { job, end } = await run(launched);
  expect(end).toMatchObject({ state: 'TASK_FINISHED' });
  return job.outcome?.outcome === 'returned' ? job.outcome.value : job.outcome;
}

async function errorOf(launched: LaunchedTask): Promise<unknown> {
  const { job, end } = await run(launched);
  expect(end).toMatchObject({ state: 'TASK_FAILED' });
  return job.outcome?.outcome === 'threw' ? job.outcome.error : job.outcome;
}

async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await delay(5);
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

/** A promise that ends when the signal does. */
const UNTIL_ABORT = `const untilAbort = (signal) => new Promise((resolve, reject) =>
  signal.addEventListener('abort', () => reject(new Error(signal.reason))));`;

/** A processor whose job is over when the test says so. */
const WAITS_FOR_GO = `import { existsSync, writeFileSync } from 'node:fs';
  import { setTimeout as delay } from 'node:timers/promises';
  export default async (job) => { while (!existsSync(job.data + '/go')) await delay(5);
    await job.log('back'); writeFileSync(job.data + '/gone', ''); return 1; };`;

describe('a job', () => {
  test('gets its data, and its result travels with the last update', async () => {
    await start('export default async (job, token) => ({ sum: job.data.a + job.data.b, token });');
    const { end, job } = await run(jobTask('t1', { a: 1, b: 2 }));
    expect(job.outcome).toEqual({ outcome: 'returned', value: { sum: 3, token: 'the-token' } });
    expect(end.message).toBe('its processor has returned');
    expect(end.endedAtMs).toBeGreaterThanOrEqual(end.startedAtMs ?? Infinity);
    expect(statesOf(agent, 't1').at(-1)).toBe('TASK_FINISHED');
  });

  test('is reported as running if it takes longer than a moment', async () => {
    await start(WAITS_FOR_GO);
    const launched = jobTask('t1', agent.directory);
    agent.send(runTask(launched));
    await runningOf(agent, 't1');
    writeFileSync(join(agent.directory, 'go'), '');
    await finished(launched);
    expect(statesOf(agent, 't1')).toEqual(['TASK_RUNNING', 'TASK_FINISHED']);
  });

  test('that returns nothing has the result null', async () => {
    await start('export default () => undefined;');
    expect(await resultOf(jobTask('t1'))).toBeNull();
  });

  test('finds the fields of the job', async () => {
    await start('export default (job) => [job.id, job.name, job.opts, job.returnValue];');
    expect(await resultOf(jobTask('t1'))).toEqual(['1', 'sum', {}, {}]);
  });

  test('runs in a warm process after another one', async () => {
    await start('let count = 0; export default () => [process.pid, (count += 1)];');
    const first = (await resultOf(jobTask('t1'))) as number[];
    expect(await resultOf(jobTask('t2'))).toEqual([first[0], 2]);
  });

  test('of a CommonJS file is run, too', async () => {
    await start('');
    writeFileSync(join(agent.directory, 'processor.cjs'), 'module.exports = async () => 7;');
    writeFileSync(
      join(agent.directory, 'processor.mjs'),
      'import processor from "./processor.cjs"; export default { default: processor };',
    );
    expect(await resultOf(jobTask('t1'))).toBe(7);
  });

  test('sees the environment of the executor without its secrets', async () => {
    await start(`export default () => [process.env.SETTING, Object.keys(process.env)
      .filter((name) => /SOCKET|TOKEN/.test(name))];`);
    expect(await resultOf(jobTask('t1'))).toEqual(['x', []]);
  });

  test('finds its ports and the like in the environment, and those of no job before it', async () => {
    await start(`export default () => [process.pid, ...Object.entries(process.env)
      .filter(([name]) => /PORTS|GPUS/.test(name)).map((pair) => pair.join('=')).sort()];`);
    const numbers = { ports: [31_000, 31_001], gpus: [3] };
    const [pid, ...found] = (await resultOf(jobTask('t1', {}, { numbers }))) as unknown[];
    expect(found).toEqual([
      ...['KAON_GPUS=3', 'KAON_GPUS_0=3', 'KAON_PORTS=31000,31001'],
      ...['KAON_PORTS_0=31000', 'KAON_PORTS_1=31001'],
    ]);
    expect(await resultOf(jobTask('t2', {}, { numbers: { ports: [31_002] } }))).toEqual([
      ...[pid, 'KAON_PORTS=31002', 'KAON_PORTS_0=31002'],
    ]);
    expect(await resultOf(jobTask('t3'))).toEqual([pid]);
  });

  test('runs beside others', async () => {
    await start(`${UNTIL_ABORT} export default async (job, token, signal) => untilAbort(signal);`);
    const tasks = ['t1', 't2', 't3'].map((taskId) => jobTask(taskId));
    agent.send(...tasks.map(runTask));
    for (const { task } of tasks) await runningOf(agent, task.taskId);
    agent.send(...tasks.map((task) => killTask(task)));
    for (const task of tasks) expect((await finished(task)).end.state).toBe('TASK_KILLED');
  });

  test('whose task has no job in its data is refused', async () => {
    await start('export default () => 1;');
    agent.send(runTask(launchedTask('t1', { data: '{}' })));
    expect(await endOf(agent, 't1')).toMatchObject({
      state: 'TASK_ERROR',
      reason: 'REASON_TASK_INVALID',
    });
  });

  test('leaves its last lines in the update, also of more than a pipe takes at once', async () => {
    await start(`export default () => {
      for (let i = 1; i <= 100000; i += 1) console.log('line ' + i);
    };`);
    const { job } = await run(jobTask('t1'));
    expect(job.output).toMatch(/\nline 100000\n$/);
  });

  test('leaves what it has written to standard error in the update', async () => {
    await start(`export default () => {
      process.stderr.write('last words');
    };`);
    expect((await run(jobTask('t1'))).job.output).toBe('last words');
    await until(() => executor.said().includes('last words'));
  });

  test('leaves its last lines in the update', async () => {
    await start(`export default () => {
      for (let i = 1; i <= 1000; i += 1) console.log('line ' + i);
      process.stdout.write('last words');
    };`);
    const { job } = await run(jobTask('t1'));
    expect(job.output).toMatch(/^line \d+\nline [^]*\nline 1000\nlast words$/);
    expect(job.output.length).toBeLessThanOrEqual(4000);
  });
});

describe('an error', () => {
  test('keeps name, message and stack', async () => {
    await start(`class UnrecoverableError extends Error { name = 'UnrecoverableError'; }
      export default async function sum() { throw new UnrecoverableError('no such account'); }`);
    const error = await errorOf(jobTask('t1'));
    expect(error).toMatchObject({ name: 'UnrecoverableError', message: 'no such account' });
    expect(error).toMatchObject({ stack: expect.stringMatching(/at .*sum .*processor\.mjs/) });
    const end = await endOf(agent, 't1');
    expect(end.message).toBe('its processor has thrown UnrecoverableError: no such account');
  });

  test('can be anything', async () => {
    await start('export default (job) => { throw job.data; };');
    expect(await errorOf(jobTask('t1', 'no'))).toMatchObject({ name: 'Error', message: 'no' });
  });

  test('that nobody catches is that of the job, and the process ends', async () => {
    await start(`export default (job) => job.data.isLate
      ? new Promise(() => setImmediate(() => { throw new Error('late'); })) : process.pid;`);
    const pid = (await resultOf(jobTask('t1'))) as number;
    expect(await errorOf(jobTask('t2', { isLate: true }))).toMatchObject({ message: 'late' });
    await until(() => !isAlive(pid));
    expect(await resultOf(jobTask('t3'))).not.toBe(pid);
  });

  test.each([
    ['a number that JSON has not', '10n', /^the result cannot be written as JSON: .*BigInt/],
    ['a circle', '(() => { const a = {}; a.a = a; return a; })()', /cannot be written as JSON/],
    [
      'too much',
      `'x'.repeat(1_048_576)`,
      /^the result is too large: 1048578 bytes of JSON, at most 1048576 are allowed$/,
    ],
  ])('is what a result of %s becomes', async (_what, value, message) => {
    await start(`export default () => ${value};`);
    expect(await errorOf(jobTask('t1'))).toMatchObject({ message: expect.stringMatching(message) });
  });

  test('is what an argument that JSON has not becomes', async () => {
    await start('export default (job) => job.updateProgress(10n);');
    const message = expect.stringMatching(/^the argument of updateProgress cannot be written/);
    expect(await errorOf(jobTask('t1'))).toMatchObject({ message });
  });

  test('of a file that cannot be imported is told', async () => {
    await start('import "./no-such-file.mjs"; export default () => 1;');
    const { end, job } = await run(jobTask('t1'));
    expect(end).toMatchObject({ state: 'TASK_FAILED', reason: 'REASON_COMMAND_NOT_EXECUTABLE' });
    expect(end.message).toMatch(/^not started on node-1: its processor file cannot be imported: /);
    expect(job.outcome).toMatchObject({
      outcome: 'threw',
      error: { message: expect.stringContaining('no-such-file.mjs') },
    });
  });

  test('of a file without a processor is told', async () => {
    await start('export const processor = 1;');
    const message = expect.stringContaining('no function is exported in processor file');
    expect(await errorOf(jobTask('t1'))).toMatchObject({ message });
  });
});

describe('the job object', () => {
  test('logs, sets progress and data in order', async () => {
    await start(`export default async (job) => {
      await job.log('a'); await job.updateProgress(50); await job.updateData({ b: 2 });
      return [job.progress, job.data];
    };`);
    expect(await resultOf(jobTask('t1', { a: 1 }))).toEqual([50, { b: 2 }]);
    expect(done.seen).toEqual(['log "a"', 'updateProgress 50', 'updateData {"b":2}']);
  });

  test('gets answers', async () => {
    await start(`export default async (job) => [await job.getChildrenValues(),
      await job.getDependenciesCount({ processed: true })];`);
    expect(await resultOf(jobTask('t1'))).toEqual([{ 'bull:q:2': 7 }, { processed: 1 }]);
    expect(done.seen).toEqual(['getChildrenValues', 'getDependenciesCount {"processed":true}']);
  });

  test('gets answers also if messages are lost', async () => {
    lostMessages = [1];
    await start('export default (job) => job.getChildrenValues();');
    expect(await resultOf(jobTask('t1'))).toEqual({ 'bull:q:2': 7 });
  });

  test('tells of an error of the scheduler', async () => {
    await start('export default (job) => job.moveToWait();');
    expect(await errorOf(jobTask('t1'))).toMatchObject({ message: 'missing lock' });
  });

  test('moves the job with the token of the scheduler', async () => {
    await start(`export default async (job, token) => {
      await job.moveToDelayed(1700, token);
      throw Object.assign(new Error('later'), { name: 'DelayedError' });
    };`);
    const { job } = await run(jobTask('t1'));
    expect(job).toMatchObject({ moved: true, outcome: { error: { name: 'DelayedError' } } });
    expect(done.seen).toEqual(['moveToDelayed 1700 "the-token"']);
  });

  test('has data that are too large for a task', async () => {
    await start('export default (job) => job.data.text.length;');
    expect(await resultOf(jobTask('t1', { text: 'ü"'.repeat(200_000) }, { isLarge: true }))).toBe(
      400_000,
    );
  });

  test('is dead after the end of its job', async () => {
    await start(`let old; export default async (job) => {
      if (!old) { old = job; return 1; }
      return old.log('x').catch((error) => error.message);
    };`);
    await resultOf(jobTask('t1'));
    expect(await resultOf(jobTask('t2'))).toMatch(/^the job is over/);
  });
});

describe('what is more than an update takes', () => {
  test('a result of a mebibyte arrives', async () => {
    await start(`export default () => '"'.repeat(500_000);`);
    expect(await resultOf(jobTask('t1'))).toBe('"'.repeat(500_000));
  });

  test('ten thousand rows of log arrive', async () => {
    await start(`export default (job) => {
      for (let i = 0; i < 10_000; i += 1) void job.log('row ' + i);
    };`);
    await resultOf(jobTask('t1'));
    expect(done.seen).toEqual(
      Array.from({ length: 10_000 }, (_none, index) => `log "row ${String(index)}"`),
    );
  });

  test('is given up by a kill', async () => {
    lostMessages = Array.from({ length: 1000 }, (_none, index) => index + 1);
    await start(`export default () => '"'.repeat(500_000);`);
    const launched = jobTask('t1');
    agent.send(runTask(launched));
    await agent.heard.first(({ message }) => message.type === 'ExecutorToFramework');
    agent.send(killTask(launched, 50));
    const { end, job } = await finished(launched);
    expect(end).toMatchObject({
      state: 'TASK_KILLED',
      message: 'killed on request: its processor has returned',
    });
    expect(job.outcome).toBeUndefined();
  });
});

describe('a kill', () => {
  test('aborts the signal of a job', async () => {
    await start(`${UNTIL_ABORT} export default async (job, token, signal) => untilAbort(signal);`);
    const launched = jobTask('t1');
    agent.send(runTask(launched));
    await runningOf(agent, 't1');
    // However slow it is, nobody ends it before it has heard.
    agent.send(killTask(launched, 60_000));
    const { end, job } = await finished(launched);
    expect(end).toMatchObject({
      state: 'TASK_KILLED',
      reason: 'REASON_KILLED_BY_FRAMEWORK',
      message: 'killed on request: its processor has thrown Error: cancelled',
    });
    expect(job.outcome).toMatchObject({ error: { message: 'cancelled' } });
    expect(statesOf(agent, 't1')).toEqual(['TASK_RUNNING', 'TASK_KILLING', 'TASK_KILLED']);
  });

  test('stands also if the processor returns a result', async () => {
    await start(`${UNTIL_ABORT} export default async (job, token, signal) =>
      untilAbort(signal).catch(() => process.pid);`);
    const launched = jobTask('t1');
    agent.send(runTask(launched));
    await runningOf(agent, 't1');
    agent.send(killTask(launched));
    expect((await finished(launched)).end.state).toBe('TASK_KILLED');
  });

  test('ends an endless loop after its grace period', async () => {
    await start('export default (job) => { while (job.data.isEndless); return 1; };');
    const launched = jobTask('t1', { isEndless: true });
    agent.send(runTask(launched));
    await runningOf(agent, 't1');
    agent.send(killTask(launched, 3_600_000), killTask(launched, 50));
    expect((await finished(launched)).end).toMatchObject({
      state: 'TASK_KILLED',
      message: 'killed on request: ended by signal 9 (SIGKILL)',
      signal: 9,
    });
    expect(await resultOf(jobTask('t2'))).toBe(1);
  });

  test('ends a task whose file is still being imported', async () => {
    await start('await new Promise(() => setInterval(() => undefined, 1e6)); export default 1;');
    const launched = jobTask('t1');
    agent.send(runTask(launched), killTask(launched));
    expect((await finished(launched)).end).toMatchObject({
      state: 'TASK_KILLED',
      message: 'killed on request: it had not been started',
    });
  });

  test('ends a job that waits for its data', async () => {
    lostMessages = Array.from({ length: 1000 }, (_none, index) => index + 1);
    await start('export default () => 1;');
    const launched = jobTask('t1', {}, { isLarge: true });
    agent.send(runTask(launched));
    await runningOf(agent, 't1');
    agent.send(killTask(launched));
    expect((await finished(launched)).end).toMatchObject({ state: 'TASK_KILLED' });
  });
});

describe('a limit of time', () => {
  const LIMITED = { maxCompletionTimeMs: 300, killGracePeriodMs: 50 };
  const limit = {
    state: 'TASK_FAILED',
    reason: 'REASON_MAX_COMPLETION_TIME_REACHED',
    message: 'ran longer than its limit of 300ms',
  };
  /** The time counts from the launch on, and a process that has to be started first may need more than there is. */
  const startWarm = async (then: string): Promise<void> => {
    await start(`${UNTIL_ABORT} export default async (job, token, signal) => {
      if (job.data.isQuick) return 1; ${then} };`);
    expect(await resultOf(jobTask('t0', { isQuick: true }))).toBe(1);
  };

  test('aborts the signal of a job', async () => {
    await startWarm('return untilAbort(signal);');
    const { end, job } = await run(jobTask('t1', {}, { ...LIMITED, killGracePeriodMs: 60_000 }));
    expect(end).toMatchObject(limit);
    expect(job.outcome).toMatchObject({ error: { message: 'timeout' } });
  });

  test('ends an endless loop', async () => {
    await startWarm('for (;;);');
    const { end } = await run(jobTask('t1', {}, LIMITED));
    expect(end).toMatchObject({ ...limit, signal: 9 });
  });
});

describe('a process that ends in the middle of a job', () => {
  test.each<[string, string, object]>([
    [
      'an exit code',
      'process.exit(3)',
      { reason: 'REASON_COMMAND_EXITED', message: 'exited with code 3', exitCode: 3 },
    ],
    [
      'the exit code 0',
      'process.exit(0)',
      { message: 'exited with code 0 before its processor had returned', exitCode: 0 },
    ],
    [
      'a signal',
      `process.kill(process.pid, 'SIGKILL')`,
      { reason: 'REASON_COMMAND_SIGNALED', message: 'ended by signal 9 (SIGKILL)', signal: 9 },
    ],
  ])('with %s has failed, with its last words', async (_with, how, expected) => {
    await start(
      `export default () => { console.log('oh'); ${how}; return new Promise(() => {}); };`,
    );
    const { end, job } = await run(jobTask('t1'));
    expect(end).toMatchObject({ state: 'TASK_FAILED', ...expected });
    expect(job).toMatchObject({ output: 'oh\n', moved: false });
    expect(job.outcome).toBeUndefined();
  });

  test('has said what it has said', async () => {
    await start(`export default async (job) => { await job.log('a'); process.exit(3); };`);
    await run(jobTask('t1'));
    expect(done.seen).toEqual(['log "a"']);
  });

  test('is another one for a job that it had not begun', async () => {
    // It is idle when it ends, or has just been given the next job: nobody can tell beforehand.
    await start(
      'export default () => { setImmediate(() => process.exit(9)); return process.pid; };',
    );
    for (let number = 1; number <= 10; number += 1) {
      expect(await resultOf(jobTask(`t${String(number)}`))).toEqual(expect.any(Number));
    }
  });
});

describe('children without a job', () => {
  test('are ended, but for those that stay warm', async () => {
    await start(
      `export default () => new Promise((resolve) => setTimeout(resolve, 100, process.pid));`,
      ...['--warm', '1'],
    );
    const tasks = ['t1', 't2', 't3'].map((taskId) => jobTask(taskId));
    agent.send(...tasks.map(runTask));
    const pids = await Promise.all(
      tasks.map(async (task) => {
        const { job } = await finished(task);
        return job.outcome?.outcome === 'returned' ? (job.outcome.value as number) : 0;
      }),
    );
    expect(new Set(pids).size).toBe(3);
    await until(() => pids.filter(isAlive).length === 1);
    const warm = pids.find(isAlive);
    expect(await resultOf(jobTask('t4'))).toBe(warm);
  });

  test('that have grown are replaced', async () => {
    await start(`const kept = []; export default (job) => {
      kept.push(Buffer.alloc(job.data.mib * 1_048_576, 1)); return process.pid; };`);
    const small = (await resultOf(jobTask('t1', { mib: 1 }))) as number;
    expect(await resultOf(jobTask('t2', { mib: 100 }))).toBe(small);
    expect(await resultOf(jobTask('t3', { mib: 1 }))).not.toBe(small);
    await until(() => !isAlive(small));
  });
});

describe('an executor that has no file', () => {
  const codeOf = (source: string): string => gzipSync(source).toString('base64');
  const COUNTS = { code: codeOf('export default (job) => job.data * 2;') };
  /** Numbers of the messages that ask for the processor. */
  const asked = (): string[] =>
    agent.heard.seen.flatMap(({ message }) =>
      message.type === 'ExecutorToFramework' && message.data.includes('getProcessor')
        ? [(JSON.parse(message.data) as { taskId: string }).taskId]
        : [],
    );
  /** In the order in which the tasks were given; nothing reaches the scheduler for now. */
  const giveUnheard = async (...tasks: LaunchedTask[]): Promise<void> => {
    lostMessages = Array.from({ length: 1000 }, (_none, index) => index + 1);
    agent.send(...tasks.map(runTask));
    await until(() => asked().length > 0);
  };
  const hearAgain = (): void => {
    lostMessages = [];
  };

  test('asks the scheduler for the code, and keeps it for the jobs that follow', async () => {
    await startProgram();
    expect(await resultOf(jobTask('t1', 21, COUNTS))).toBe(42);
    expect(await resultOf(jobTask('t2', 4, COUNTS))).toBe(8);
    expect(asked()).toEqual(['t1']);
    expect(existsSync(join(agent.directory, 'processor.mjs'))).toBe(true);
  });

  test('asks once for all tasks that wait', async () => {
    await startProgram();
    const tasks = [1, 2, 3].map((data) => jobTask(`t${String(data)}`, data, COUNTS));
    await giveUnheard(...tasks);
    hearAgain();
    const results = await Promise.all(tasks.map(finished));
    expect(results.map(({ job }) => job.outcome)).toEqual(
      [2, 4, 6].map((value) => ({ outcome: 'returned', value })),
    );
    expect(new Set(asked())).toEqual(new Set(['t1']));
  });

  test('has the next task ask when the one that has asked is killed', async () => {
    await startProgram();
    const [first, second] = [jobTask('t1', 1, COUNTS), jobTask('t2', 2, COUNTS)];
    await giveUnheard(first, second);
    agent.send(killTask(first));
    expect((await finished(first)).end.state).toBe('TASK_KILLED');
    await until(() => asked().includes('t2'));
    hearAgain();
    expect((await finished(second)).job.outcome).toEqual({ outcome: 'returned', value: 4 });
  });

  test.each([
    ['is not there', undefined, /the scheduler has no processor for it/],
    ['is no archive', 'bm8=', /the processor cannot be kept: /],
    ['is no program', codeOf('this is not JavaScript'), /processor file cannot be imported: /],
  ])('fails its tasks with words if the code %s', async (_what, code, words) => {
    await startProgram();
    const tasks = ['t1', 't2'].map((id) => jobTask(id, 1, code === undefined ? {} : { code }));
    agent.send(...tasks.map(runTask));
    for (const task of tasks) {
      const { end } = await finished(task);
      expect(end).toMatchObject({ state: 'TASK_FAILED', message: expect.stringMatching(words) });
    }
  });

  test('asks again for the task after those that failed without it', async () => {
    await startProgram();
    expect((await run(jobTask('t1', 1))).end.state).toBe('TASK_FAILED');
    expect(await resultOf(jobTask('t2', 2, COUNTS))).toBe(4);
  });
});

describe('control groups', () => {
  test('are joined before a job begins', async () => {
    await start(`import { readFileSync } from 'node:fs';
      export default (job) => job.data.map((file) => readFileSync(file, 'utf8'));`);
    const cgroupProcs = ['one', 'two'].map((name) => join(agent.directory, name));
    expect(await resultOf(jobTask('t1', cgroupProcs, { cgroupProcs }))).toEqual(['0', '0']);
  });

  test('that cannot be joined keep a job from being run', async () => {
    await start('export default () => 1;');
    const { end, job } = await run(jobTask('t1', {}, { cgroupProcs: ['/no/such/cgroup.procs'] }));
    expect(end).toMatchObject({ state: 'TASK_FAILED', reason: 'REASON_CONTAINER_LAUNCH_FAILED' });
    expect(end.message).toMatch(/: its control group could not be joined: .*no\/such/);
    expect(job.outcome).toBeUndefined();
  });

  const reason = cgroupReason();
  const real = reason === undefined ? test : test.skip;
  real(`of the kernel are left before the end is told${reason ?? ''}`, async () => {
    await start(`import { readFileSync } from 'node:fs';
      export default () => [process.pid, readFileSync('/proc/self/cgroup', 'utf8')];`);
    const name = `kaon-test-${String(executor.pid)}`;
    const roots = cgroupRoots().map((root) => join(root, name));
    const procsOf = (group: string): string[] =>
      roots.map((root) => join(root, group, 'cgroup.procs'));
    for (const root of roots) for (const group of ['executor', 't1', 't2']) mkdirGroup(root, group);
    for (const file of procsOf('executor')) writeFileSync(file, String(executor.pid));
    const pids: unknown[] = [];
    for (const taskId of ['t1', 't2']) {
      const cgroupProcs = procsOf(taskId);
      const [pid, inside] = (await resultOf(jobTask(taskId, {}, { cgroupProcs }))) as unknown[];
      expect(inside).toContain(`/${name}/${taskId}\n`);
      expect(cgroupProcs.map((file) => readFileSync(file, 'utf8'))).toEqual(roots.map(() => ''));
      pids.push(pid);
    }
    expect(pids[1]).toBe(pids[0]);
    await executor.end();
    await until(() => procsOf('executor').every((file) => readFileSync(file, 'utf8') === ''));
    for (const root of roots) {
      for (const group of ['executor', 't1', 't2', '.']) rmdirSync(join(root, group));
    }
  });
});

describe('a shutdown', () => {
  test('ends all jobs, reports them and ends the process', async () => {
    await start(`${UNTIL_ABORT} export default async (job, token, signal) => {
      if (job.data.isDeaf) for (;;); return untilAbort(signal); };`);
    const tasks = [jobTask('t1'), jobTask('t2', { isDeaf: true })];
    agent.send(...tasks.map(runTask));
    for (const { task } of tasks) await runningOf(agent, task.taskId);
    agent.send({ type: 'ShutdownExecutor', gracePeriodMs: 100 });
    expect(await executor.exit).toEqual({ code: 0, signal: null });
    const ends = await Promise.all(tasks.map(async (task) => (await finished(task)).end));
    const why = 'killed because its executor is shut down';
    expect(ends).toMatchObject([
      { reason: 'REASON_EXECUTOR_TERMINATED', message: expect.stringMatching(`^${why}`) },
      { message: `${why}: ended by signal 9 (SIGKILL)`, signal: 9 },
    ]);
  });
});

describe('when the agent is away', () => {
  test('a job goes on, and is reported when it is back', async () => {
    await start(WAITS_FOR_GO);
    const launched = jobTask('t1', agent.directory);
    agent.send(runTask(launched));
    await runningOf(agent, 't1');
    await agent.goAway();
    writeFileSync(join(agent.directory, 'go'), '');
    await until(() => existsSync(join(agent.directory, 'gone')));
    await agent.comeBack();
    expect((await finished(launched)).job.outcome).toEqual({ outcome: 'returned', value: 1 });
    expect(done.seen).toEqual(['log "back"']);
  });
});

test('many jobs are all accounted for, through a connection that breaks', async () => {
  await start('export default async (job) => { await job.log(job.data); return job.data; };');
  const names = Array.from({ length: 500 }, (_none, index) => `t${String(index)}`);
  const tasks = names.map((name) => jobTask(name, name));
  agent.send(...tasks.slice(0, 20).map(runTask));
  await agent.updates.count(20);
  agent.drop();
  // An agent gives again what it has heard nothing of.
  await agent.heard.first(({ message }) => message.type === 'ReregisterExecutor');
  agent.send(...tasks.slice(0, 20).map(runTask));
  const results: unknown[] = [];
  for (const [index, task] of tasks.entries()) {
    if (index >= 20) agent.send(runTask(task));
    results.push((await finished(task)).job.outcome);
  }
  expect(results).toEqual(names.map((value) => ({ outcome: 'returned', value })));
  expect([...done.seen].sort()).toEqual(names.map((name) => `log "${name}"`).sort());
}, 120_000);

test('started by hand it says what is missing', async () => {
  executor = startExecutor([process.execPath, join(dist, 'processor-executor.js'), 'file'], {});
  expect(await executor.exit).toEqual({ code: 64, signal: null });
  expect(executor.said()).toContain('KAON_EXECUTOR_SOCKET is not set');
});

/** Hierarchies in which a process of ours can be put into groups of ours. */
function cgroupRoots(): string[] {
  const root = '/sys/fs/cgroup';
  if (existsSync(join(root, 'cgroup.controllers'))) return [root];
  return ['memory', 'pids'].map((name) => join(root, name));
}

function mkdirGroup(root: string, group: string): void {
  mkdirSync(join(root, group), { recursive: true });
}

/** @returns words for the title; undefined if there can be cgroups of ours */
function cgroupReason(): string | undefined {
  try {
    for (const root of cgroupRoots()) {
      const directory = join(root, `kaon-try-${String(process.pid)}`);
      mkdirSync(directory);
      rmdirSync(directory);
    }
    return undefined;
  } catch {
    return ' (skipped: cgroups cannot be made here)';
  }
}
