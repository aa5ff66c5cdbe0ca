/** What processors want of their jobs, done by a real BullMQ in a real Redis. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { FlowProducer, Queue, Worker, type Job, type JobsOptions } from 'bullmq';
import {
  createAssembler,
  splitIntoFrames,
  takeFrame,
} from '../../schedulers/bullmq/core/frames.ts';
import { ProcessorCalls } from '../../schedulers/bullmq/processor-calls.ts';
import type {
  CallAnswer,
  Frame,
  ProcessorCall,
  ProcessorEnd,
} from '../../schedulers/bullmq/processor-messages.ts';
import { bedReason } from '../beds/available.ts';
import { startRedisBed, type RedisBed } from '../beds/redis.ts';
import { createWatch, createWatchedLog, type Watch } from '../support/watch.ts';

const reason = bedReason('redis');
const suite = reason === undefined ? describe : describe.skip;
const TOKEN = 'the-token';

suite(reason === undefined ? 'calls' : `calls (skipped: ${reason})`, () => {
  let bed: RedisBed;
  let queue: Queue;
  let taker: Worker;
  let calls: ProcessorCalls;
  let log: ReturnType<typeof createWatchedLog>;
  /** What the executor was sent, put together. */
  let answers: Watch<{ readonly taskId: string; readonly sequence: number; answer: CallAnswer }>;
  /** What was noted before a job was moved, with the state that it had then. */
  let notes: string[];
  let serial = 0;

  beforeAll(async () => {
    bed = await startRedisBed();
  });
  afterAll(() => bed.stop());

  beforeEach(async () => {
    serial += 1;
    const connection = { path: bed.socketPath, maxRetriesPerRequest: null };
    queue = new Queue(`q${String(serial)}`, { connection });
    taker = new Worker(queue.name, null, { connection, autorun: false });
    await taker.waitUntilReady();
    answers = createWatch();
    log = createWatchedLog();
    const texts = createAssembler({ unfinishedMax: 10 });
    calls = new ProcessorCalls({
      log,
      send: (_taskId, data) => {
        const frame = JSON.parse(data) as Frame;
        const text = takeFrame(texts, frame);
        if (text === undefined) return;
        const { taskId, sequence } = frame;
        answers.push({ taskId, sequence, answer: JSON.parse(text) as CallAnswer });
      },
      noteMoved: async (taskId, isMoved) => {
        const [state] = await Promise.all((await queue.getJobs()).map((job) => job.getState()));
        notes.push(`${taskId} ${String(isMoved)} ${state ?? 'gone'}`);
      },
    });
    notes = [];
  });

  afterEach(async () => {
    await taker.close();
    await queue.close();
  });

  /** A job that runs as task t1. */
  async function startJob(data: unknown = {}, options: JobsOptions = {}): Promise<Job> {
    await queue.add('sum', data, options);
    return takeJob();
  }

  async function takeJob(): Promise<Job> {
    const job = await taker.getNextJob(TOKEN);
    if (!job) throw new Error('there is no job');
    calls.track('t1', job, TOKEN);
    return job;
  }

  function say(sequence: number, call: ProcessorCall): void {
    const text = JSON.stringify({ sequence, call });
    for (const frame of splitIntoFrames({ taskId: 't1', sequence }, text)) calls.receive(frame);
  }

  async function ask(sequence: number, call: ProcessorCall): Promise<CallAnswer> {
    say(sequence, call);
    return (await answers.first((one) => one.sequence === sequence)).answer;
  }

  /** As BullMQ has it now. */
  const stored = async ({ id }: Job): Promise<Job> => (await queue.getJob(id ?? '')) as Job;
  const logsOf = async ({ id }: Job): Promise<string[]> => (await queue.getJobLogs(id ?? '')).logs;
  const endWith = (end: Partial<ProcessorEnd>): string => JSON.stringify(end);

  test('log, progress and data are stored', async () => {
    const job = await startJob({ a: 1 });
    expect(await ask(1, { call: 'log', rows: ['a', 'b'] })).toEqual({ ok: true });
    await ask(2, { call: 'updateProgress', value: { done: 3 } });
    await ask(3, { call: 'updateData', data: { a: 2 } });
    expect(await logsOf(job)).toEqual(['a', 'b']);
    expect(await stored(job)).toMatchObject({ progress: { done: 3 }, data: { a: 2 } });
  });

  test('only as many rows of log are kept as the job wants', async () => {
    const job = await startJob({}, { keepLogs: 2 });
    await ask(1, { call: 'log', rows: ['a', 'b', 'c'] });
    expect(await logsOf(job)).toEqual(['b', 'c']);
  });

  test('a call that comes again is answered again and not done again', async () => {
    const job = await startJob();
    await ask(1, { call: 'log', rows: ['a'] });
    say(1, { call: 'log', rows: ['a'] });
    await answers.count(2, ({ sequence }) => sequence === 1);
    expect(await logsOf(job)).toEqual(['a']);
  });

  test('a call that comes again while it is being done is done once', async () => {
    const job = await startJob();
    for (let count = 0; count < 3; count += 1) say(1, { call: 'log', rows: ['a'] });
    await ask(2, { call: 'log', rows: ['b'] });
    expect(await logsOf(job)).toEqual(['a', 'b']);
  });

  test('a job is sent as BullMQ would send it to a sandbox', async () => {
    const job = await startJob({ text: 'ü"'.repeat(100_000) });
    const answer = await ask(1, { call: 'getJob' });
    expect(answer).toEqual({ ok: true, value: JSON.parse(JSON.stringify(job.asJSONSandbox())) });
  });

  test('a job that is too large to be sent is an error', async () => {
    await startJob({ text: 'x'.repeat(3_000_000) });
    const answer = await ask(1, { call: 'getJob' });
    expect(answer).toMatchObject({
      ok: false,
      error: { message: expect.stringMatching(/^the answer is too large: 3\d+ characters/) },
    });
  });

  test('a job that is no more is an error', async () => {
    const job = await startJob();
    await queue.obliterate({ force: true });
    expect(await ask(1, { call: 'updateProgress', value: 1 })).toMatchObject({ ok: false });
    expect(await ask(2, { call: 'moveToDelayed', timestamp: 1 })).toMatchObject({
      ok: false,
      error: { name: 'Error', message: expect.stringContaining(job.id ?? '') },
    });
  });

  describe('of a parent', () => {
    beforeEach(async () => {
      const flow = new FlowProducer({ connection: { path: bed.socketPath } });
      const child = { name: 'child', queueName: `${queue.name}-children`, data: {} };
      await flow.add({ name: 'parent', queueName: queue.name, children: [child] });
      await flow.close();
      const connection = { path: bed.socketPath, maxRetriesPerRequest: null };
      const children = new Worker(child.queueName, null, { connection, autorun: false });
      const job = await children.getNextJob(TOKEN);
      await job?.moveToCompleted(7, TOKEN, false);
      await children.close();
    });

    test('get the results and numbers of its children', async () => {
      await takeJob();
      const values = await ask(1, { call: 'getChildrenValues' });
      expect(Object.values((values as { value: object }).value)).toEqual([7]);
      expect(await ask(2, { call: 'getIgnoredChildrenFailures' })).toEqual({ ok: true, value: {} });
      expect(await ask(3, { call: 'getDependenciesCount', options: { processed: true } })).toEqual({
        ...{ ok: true, value: { processed: 1 } },
      });
      expect(await ask(4, { call: 'getDependencies' })).toMatchObject({
        value: { unprocessed: [] },
      });
    });

    test('do not move it if no child is left', async () => {
      await takeJob();
      expect(await ask(1, { call: 'moveToWaitingChildren' })).toEqual({ ok: true, value: false });
      expect(await calls.finish('t1', undefined)).toEqual({ output: '', moved: false });
      expect(notes).toEqual(['t1 true active', 't1 false active']);
    });
  });

  test('a job is delayed with the token that it was taken with', async () => {
    const job = await startJob();
    await ask(1, { call: 'moveToDelayed', timestamp: Date.now() + 3_600_000 });
    expect(await job.getState()).toBe('delayed');
    expect(notes).toEqual(['t1 true active']);
    expect(await calls.finish('t1', undefined)).toEqual({ output: '', moved: true });
  });

  test('a job is put back', async () => {
    const job = await startJob();
    await ask(1, { call: 'moveToWait' });
    expect(await job.getState()).toBe('waiting');
    expect((await calls.finish('t1', undefined)).moved).toBe(true);
  });

  test('a job that has been put back stays so when it cannot be moved once more', async () => {
    const job = await startJob();
    await ask(1, { call: 'moveToWait' });
    expect(await ask(2, { call: 'moveToDelayed', timestamp: 1 })).toMatchObject({ ok: false });
    expect(await job.getState()).toBe('waiting');
    expect(notes).toEqual(['t1 true active']);
    expect((await calls.finish('t1', undefined)).moved).toBe(true);
  });

  test('a job waits for a child that it has added', async () => {
    const job = await startJob();
    const parent = { id: job.id ?? '', queue: job.queueQualifiedName };
    const more = new Queue(`${queue.name}-more`, { connection: { path: bed.socketPath } });
    await more.add('child', {}, { parent });
    await more.close();
    expect(await ask(1, { call: 'moveToWaitingChildren' })).toEqual({ ok: true, value: true });
    expect(await job.getState()).toBe('waiting-children');
    expect((await calls.finish('t1', undefined)).moved).toBe(true);
  });

  test('what a task says at its end is done before it is finished, and once', async () => {
    const job = await startJob();
    say(1, { call: 'log', rows: ['a'] });
    const end = endWith({
      outcome: { outcome: 'returned', value: 3 },
      calls: [
        { sequence: 1, call: { call: 'log', rows: ['a'] } },
        { sequence: 2, call: { call: 'log', rows: ['b'] } },
      ],
      output: 'words',
    });
    expect(await calls.finish('t1', end)).toEqual({
      outcome: { outcome: 'returned', value: 3 },
      output: 'words',
      moved: false,
    });
    await calls.finish('t1', end);
    expect(await logsOf(job)).toEqual(['a', 'b']);
  });

  test('an outcome that came as a call is that of the job', async () => {
    await startJob();
    const outcome = { outcome: 'returned', value: 'x'.repeat(1_000_000) } as const;
    await ask(1, { call: 'outcome', outcome: JSON.stringify(outcome) });
    expect(await calls.finish('t1', endWith({}))).toEqual({ outcome, output: '', moved: false });
  });

  test('a scheduler that has taken over goes on with the next number', async () => {
    const job = await startJob();
    await ask(5, { call: 'log', rows: ['e'] });
    expect(await logsOf(job)).toEqual(['e']);
  });

  test('a call that nobody understands is refused, and does not hold up the next', async () => {
    const job = await startJob();
    expect(await ask(1, { call: 'moveToTheMoon' } as never)).toMatchObject({
      ok: false,
      error: { message: 'this call is not understood by the scheduler' },
    });
    await ask(2, { call: 'log', rows: ['a'] });
    expect(await logsOf(job)).toEqual(['a']);
  });

  test.each([
    '',
    'no JSON',
    '{}',
    '[1]',
    '{"taskId":"t1","sequence":0,"part":0,"parts":1,"text":""}',
  ])('garbage (%j) is dropped', async (data) => {
    await startJob();
    calls.receive(data);
    expect(log.lines.seen.map(({ event }) => event)).toEqual(['call.ignored']);
    expect(await calls.finish('t1', data)).toMatchObject({ output: '', moved: false });
  });

  test('calls of unknown and forgotten tasks are ignored', async () => {
    const job = await startJob();
    calls.forget('t1');
    say(1, { call: 'log', rows: ['a'] });
    calls.track('t1', job, TOKEN);
    await ask(2, { call: 'log', rows: ['b'] });
    expect(await logsOf(job)).toEqual(['b']);
    expect(await calls.finish('no-such-task', undefined)).toEqual({ output: '', moved: false });
  });
});
