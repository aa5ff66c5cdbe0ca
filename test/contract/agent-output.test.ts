/** Readers of output that are gone: a real file, and a clock and a store of the test's. */
import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { serveOutput } from '../../agent/output.ts';
import { silentLog } from '../../io/log.ts';
import type { OutputChunk, Store, StreamEntry } from '../../io/store.ts';
import { encodeEntries } from '../../protocol/codec.ts';
import {
  agentIdOf,
  executorIdOf,
  frameworkIdOf,
  sessionOf,
  taskIdOf,
} from '../support/builders.ts';
import { createManualClock, type ManualClock } from '../support/manual-clock.ts';

let sandbox: string;
let clock: ManualClock;
let stop: AbortController;
let waiting: OutputChunk[];
let ends: string[];
let takes: boolean;
let failsToEnd: boolean;
let isLive: boolean;
let isSecured: boolean;
/** Reader and bytes of each chunk. */
let written: string[];

/** Types of what is no request for output. */
let said: string[];

let session: string;
let requests: StreamEntry[];
let wake: () => void;

/** A request of that reader to follow the task. */
function request(id: string, readId: string): StreamEntry {
  const [messages = ''] = encodeEntries([
    {
      type: 'ReadOutput',
      readId: sessionOf(readId),
      frameworkId: frameworkIdOf('f1'),
      taskId: taskIdOf('t1'),
      stdout: true,
      stderr: false,
      follow: true,
    },
  ]);
  return { id, messages };
}

/** A store with requests in it, whose readers take what was written or do not. */
function storeWithRequests(): Store {
  const after = (cursor: string): StreamEntry[] =>
    requests.filter(({ id }) => Number.parseInt(id, 10) > Number.parseInt(cursor, 10));
  return {
    get isSecured() {
      return isSecured;
    },
    readAgentRequests: async (_agentId: string, cursor: string, blockMs: number) => {
      if (after(cursor).length === 0) {
        const woken = new AbortController();
        wake = () => {
          woken.abort();
        };
        await clock.sleep(blockMs, woken.signal);
      }
      return after(cursor);
    },
    writeOutput: (readId: string, chunks: readonly OutputChunk[]) => {
      if (failsToEnd && chunks.some(({ kind }) => kind === 'end'))
        return Promise.reject(new Error('READONLY'));
      for (const chunk of chunks) {
        if (chunk.kind === 'end') ends.push(chunk.error);
        else {
          waiting.push(chunk);
          written.push(`${readId} ${chunk.bytes.toString().trim()}`);
        }
      }
      const count = waiting.length;
      if (takes) waiting = [];
      return Promise.resolve(count);
    },
    removeAgentRequest: (_agentId: string, removed: string) => {
      requests = requests.filter(({ id }) => id !== removed);
      return Promise.resolve();
    },
  } as unknown as Store;
}

/** Real milliseconds for the file system, and the clock's own time for everything else. */
async function pass(ms: number): Promise<void> {
  for (let left = ms; left > 0; left -= 1000) {
    await pause(1);
    await clock.pass(1000);
  }
}

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await pass(1000);
}

beforeEach(() => {
  sandbox = mkdtempSync(join(tmpdir(), 'kaon-output-'));
  writeFileSync(join(sandbox, 'stdout'), 'one\n');
  clock = createManualClock();
  stop = new AbortController();
  stop.signal.addEventListener('abort', () => {
    wake();
  });
  waiting = [];
  ends = [];
  takes = true;
  failsToEnd = false;
  isLive = true;
  isSecured = false;
  written = [];
  said = [];
  session = '1';
  requests = [request('500-0', 'r1')];
  wake = () => undefined;
  void serveOutput(
    {
      store: storeWithRequests(),
      clock,
      log: silentLog,
      agentId: agentIdOf('a1'),
      findSandbox: () => Promise.resolve(sandbox),
      isLive: () => isLive,
      session: () => sessionOf(session),
      onMessage: (message) => void said.push(message.type),
    },
    stop.signal,
  );
});
afterEach(() => {
  stop.abort();
  rmSync(sandbox, { recursive: true, force: true });
});

test('a reader that has taken what there is may wait for more as long as it likes', async () => {
  await pass(300_000);
  appendFileSync(join(sandbox, 'stdout'), 'two\n');
  await pass(120_000);
  expect(ends).toEqual([]);
});

test('a reader that takes nothing of what waits for it is given up after a minute', async () => {
  takes = false;
  await pass(55_000);
  expect(ends).toEqual([]);
  await until(() => ends.length > 0);
  expect(ends).toEqual(['its reader took nothing for 60 s']);
});

test('a reader that has left is given up a minute after the next output', async () => {
  await pass(10_000);
  takes = false;
  appendFileSync(join(sandbox, 'stdout'), 'two\n');
  await until(() => ends.length > 0);
  expect(ends).toEqual(['its reader took nothing for 60 s']);
});

test('requests in another Redis are answered although their ids are lower, and none is answered twice', async () => {
  await until(() => written.length === 1);
  requests = [request('7-0', 'r2'), request('8-0', 'r1')];
  session = '2';
  await until(() => written.length === 2);
  await pass(5000);
  expect(written).toEqual(['r1 one', 'r2 one']);
  appendFileSync(join(sandbox, 'stdout'), 'two\n');
  await until(() => written.length === 4);
  expect(written.slice(2).sort()).toEqual(['r1 two', 'r2 two']);
  isLive = false;
  await until(() => requests.length === 0);
  expect(ends).toEqual(['', '']);
});

test('a request that somebody removes while it is followed is answered to its end', async () => {
  await until(() => written.length === 1);
  requests = [];
  session = '2';
  await pass(5000);
  appendFileSync(join(sandbox, 'stdout'), 'two\n');
  isLive = false;
  await until(() => ends.length > 0);
  expect([written, ends]).toEqual([['r1 one', 'r1 two'], ['']]);
});

test('an answer whose end could not be written is given again', async () => {
  await until(() => written.length === 1);
  failsToEnd = true;
  isLive = false;
  await pass(5000);
  expect(ends).toEqual([]);
  failsToEnd = false;
  await until(() => requests.length === 0);
  expect([ends, requests]).toEqual([[''], []]);
});

/** Something for an executor, past the master. */
function wordForExecutor(id: string): StreamEntry {
  const [messages = ''] = encodeEntries([
    {
      type: 'FrameworkToExecutor',
      frameworkId: frameworkIdOf('f1'),
      agentId: agentIdOf('a1'),
      executorId: executorIdOf('e1'),
      data: 'hello',
    },
  ]);
  return { id, messages };
}

test('what is sent to an executor past the master is handed over once, and leaves the stream', async () => {
  await until(() => written.length === 1);
  requests = [...requests, wordForExecutor('600-0')];
  wake();
  await until(() => said.length > 0);
  session = '2';
  await pass(5000);
  expect([said, requests.map(({ id }) => id)]).toEqual([['FrameworkToExecutor'], ['500-0']]);
});

test('in a secured cluster it is dropped: nobody knows who has written it', async () => {
  await until(() => written.length === 1);
  isSecured = true;
  requests = [...requests, wordForExecutor('600-0')];
  wake();
  await until(() => requests.length === 1);
  expect(said).toEqual([]);
});
