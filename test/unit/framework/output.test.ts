/** `readOutput` of a driver: the test is the agent. */
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { OutputRequest } from '../../../framework/output.ts';
import type { SchedulerDriver } from '../../../framework/scheduler-driver.ts';
import type { OutputChunk } from '../../../io/store.ts';
import { START } from '../../../io/store.ts';
import type { SessionId } from '../../../protocol/ids.ts';
import { taskStatus } from '../../support/builders.ts';
import { DriverBench } from './driver-bench.ts';

const END: OutputChunk = { kind: 'end', error: '' };

let bench: DriverBench;
let driver: SchedulerDriver;

beforeEach(async () => {
  bench = new DriverBench();
  driver = await bench.connect(bench.driver());
});

afterEach(() => bench.end());

const text = (
  offset: number,
  value: string,
  kind: 'stdout' | 'stderr' = 'stdout',
): OutputChunk => ({ kind, offset, bytes: Buffer.from(value) });

/** Requests that agent a1 has had, in order. */
const requests = () =>
  bench.requestsOf('a1').flatMap((message) => (message.type === 'ReadOutput' ? [message] : []));

/** The agent answers the reader of that task. */
function answer(taskId: string, ...chunks: OutputChunk[]): void {
  const request = requests().find((each) => each.taskId === taskId);
  bench.model.writeOutput(request?.readId as SessionId, chunks);
}

/** What nobody has taken of each answer. */
const left = () => requests().map(({ readId }) => bench.model.readOutput(readId, START));

/** Begins to read, and gathers what comes. */
function read(taskId: string, more: Partial<OutputRequest> = {}) {
  const seen: string[] = [];
  const ended = driver.readOutput({
    taskId,
    agentId: 'a1',
    follow: true,
    onChunk: (kind, bytes) => void seen.push(`${kind} ${bytes.toString()}`),
    ...more,
  });
  return { seen, ended };
}

describe('reading output', () => {
  test('brings the bytes that the agent has written, to the end of the task', async () => {
    const { seen, ended } = read('t1');
    await bench.clock.pass(0);
    answer('t1', text(0, 'ab'), text(0, 'X', 'stderr'));
    await bench.clock.pass(1000);
    answer('t1', text(2, 'c'), END);
    await bench.clock.pass(1000);
    expect(await ended).toEqual({ error: '' });
    expect(seen).toEqual(['stdout ab', 'stderr X', 'stdout c']);
  });

  test('asks for both kinds up to now, unless it is told otherwise', async () => {
    void read('t1', { follow: undefined });
    void read('t2', { stdout: false, lastBytes: 10 });
    await bench.clock.pass(0);
    expect(requests()).toMatchObject([
      { taskId: 't1', frameworkId: 'f1', stdout: true, stderr: true, follow: false },
      { taskId: 't2', stdout: false, stderr: true, follow: true, lastBytes: 10 },
    ]);
    expect(requests()[0]).not.toHaveProperty('lastBytes');
  });

  test('of one task does not wait for that of others, which are quiet', async () => {
    const quiet = Array.from({ length: 100 }, (_, n) => read(`quiet-${String(n)}`));
    await bench.clock.pass(5000);
    const { seen, ended } = read('t1');
    await bench.clock.pass(0);
    answer('t1', text(0, 'ab'), END);
    await bench.clock.pass(20);
    expect(await ended).toEqual({ error: '' });
    expect(seen).toEqual(['stdout ab']);
    expect(quiet.every((each) => each.seen.length === 0)).toBe(true);
  });

  test('of a quiet task costs one look a second, and blocks nothing', async () => {
    const waits: number[] = [];
    const readOutput = bench.store.readOutput.bind(bench.store);
    bench.store.readOutput = (readId, cursor, blockMs) => {
      waits.push(blockMs);
      return readOutput(readId, cursor, blockMs);
    };
    void read('t1');
    await bench.clock.pass(10_000);
    expect(waits.length).toBeLessThan(20);
    expect(new Set(waits)).toEqual(new Set([0]));
  });

  test('of a task that has ended does not wait for the next look', async () => {
    const { seen, ended } = read('t1');
    await bench.clock.pass(10_000);
    const status = taskStatus('f1', 't1', 'TASK_FINISHED');
    bench.tell({ type: 'StatusUpdate', status });
    await bench.clock.pass(0);
    // The agent is a little later than the master.
    answer('t1', text(0, 'ab'), END);
    await bench.clock.pass(10);
    expect(await ended).toEqual({ error: '' });
    expect(seen).toEqual(['stdout ab']);
  });

  test('says why the agent could not go on', async () => {
    const { ended } = read('t1');
    await bench.clock.pass(0);
    answer('t1', { kind: 'end', error: 'no output of task t1 here' });
    await bench.clock.pass(1000);
    expect(await ended).toEqual({ error: 'no output of task t1 here' });
  });

  test('ends when its signal is aborted, and takes its answer out of the store', async () => {
    const stop = new AbortController();
    const { ended } = read('t1', { signal: stop.signal });
    await bench.clock.pass(0);
    answer('t1', text(0, 'unread'));
    stop.abort();
    expect(await ended).toEqual({ error: '' });
    expect(left()).toEqual([[]]);
    expect(await read('t2', { signal: AbortSignal.abort() }).ended).toEqual({ error: '' });
  });

  test('ends with the driver, which takes the answer out of the store', async () => {
    const readings = [read('t1'), read('t2')];
    await bench.clock.pass(0);
    answer('t2', text(0, 'unread'));
    await driver.stop();
    expect(await Promise.all(readings.map(({ ended }) => ended))).toEqual([
      { error: 'the driver has ended' },
      { error: 'the driver has ended' },
    ]);
    expect(left()).toEqual([[], []]);
    expect(await read('t3').ended).toEqual({ error: 'the driver is not connected' });
  });

  test('whose receiver never settles holds the end of the driver up for a second only', async () => {
    const taken: string[] = [];
    const onChunk = (kind: string): Promise<void> => {
      taken.push(kind);
      return new Promise<never>(() => undefined);
    };
    void read('t1', { onChunk });
    await bench.clock.pass(0);
    answer('t1', text(0, 'ab'));
    await bench.clock.pass(20);
    expect(taken).toEqual(['stdout']);
    const stopped = driver.stop();
    await bench.clock.pass(1000);
    expect(await stopped).toBe('DRIVER_STOPPED');
  });

  test('fails with what its receiver throws', async () => {
    const { ended } = read('t1', {
      onChunk: () => {
        throw new Error('disk full');
      },
    });
    await bench.clock.pass(0);
    answer('t1', text(0, 'ab'));
    const failed = expect(ended).rejects.toThrow('disk full');
    await bench.clock.pass(1000);
    await failed;
  });

  test.each<[string, RegExp, Partial<Record<keyof OutputRequest | 'tail', unknown>>]>([
    ['of something that is no task', /taskId/, { taskId: 'no task' }],
    ['of something that is no agent', /"no agent" is no id of an agent/, { agentId: 'no agent' }],
    ['of a negative number of bytes', /lastBytes/, { lastBytes: -1 }],
    ['with a field that there is not', /has no field tail/, { tail: 10 }],
    ['without a receiver', /onChunk/, { onChunk: undefined }],
  ])('%s is refused, and nobody asked', async (_what, message, wrong) => {
    await expect(read('t1', wrong as Partial<OutputRequest>).ended).rejects.toMatchObject({
      code: 'invalid-argument',
      message: expect.stringMatching(message) as unknown,
    });
    expect(requests()).toEqual([]);
  });
});
