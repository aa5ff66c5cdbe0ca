/** The agent's socket with real connections: who is believed, who is cut off, and that nobody holds up the others. */
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { ExecutorRef } from '../../agent/core/events.ts';
import type { ExecutorServerOptions, KnownMessage } from '../../agent/executor-server.ts';
import { ExecutorServer } from '../../agent/executor-server.ts';
import { systemClock } from '../../io/clock.ts';
import { silentLog } from '../../io/log.ts';
import { executorKey } from '../../protocol/ids.ts';
import { EXECUTOR_LINE_MAX_BYTES } from '../../protocol/limits.ts';
import { executorIdOf, frameworkIdOf, launchIdOf } from '../support/builders.ts';
import { createWatch, type Watch } from '../support/watch.ts';
import { ExecutorPeer } from './executor-peer.ts';

interface Heard {
  readonly what: 'registered' | 'message' | 'disconnected';
  readonly launchId: string;
  readonly message?: KnownMessage;
  readonly type?: string;
}

let directory: string;
let path: string;
let server: ExecutorServer;
let heard: Watch<Heard>;
const peers: ExecutorPeer[] = [];

/** `e1` has the launch `x1` and the token `token-of-e1`. */
function authenticate(said: {
  readonly token: string;
  readonly frameworkId: string;
  readonly executorId: string;
}): ExecutorRef | undefined {
  const { token, frameworkId, executorId } = said;
  if (token !== `token-of-${executorId}` || frameworkId !== 'f1') return undefined;
  const key = executorKey(frameworkIdOf('f1'), executorIdOf(executorId));
  return { key, launchId: launchIdOf(executorId.replace('e', 'x')) };
}

async function listen(more: Partial<ExecutorServerOptions> = {}): Promise<void> {
  server = new ExecutorServer({
    ...{ path, clock: systemClock, log: silentLog, authenticate },
    onRegistered: ({ launchId }, { type }) => {
      heard.push({ what: 'registered', launchId, type });
    },
    onMessage: ({ launchId }, message) => {
      heard.push({ what: 'message', launchId, message });
    },
    onDisconnected: ({ launchId }) => {
      heard.push({ what: 'disconnected', launchId });
    },
    ...more,
  });
  await server.listen();
}

function connected(): ExecutorPeer {
  const peer = new ExecutorPeer(path);
  peers.push(peer);
  return peer;
}

const introduction = (executorId: string, more: object = {}): object => ({
  type: 'RegisterExecutor',
  ...{ token: `token-of-${executorId}`, frameworkId: 'f1', executorId },
  ...more,
});

const update = (number: number, more: object = {}): object => ({
  type: 'StatusUpdate',
  update: {
    ...{ taskId: 't1', launchId: 'k1', updateId: `u${String(number)}`, state: 'TASK_RUNNING' },
    ...more,
  },
});

async function registered(executorId = 'e1'): Promise<ExecutorPeer> {
  const peer = connected();
  peer.say(introduction(executorId));
  const launchId = executorId.replace('e', 'x');
  await heard.first((item) => item.what === 'registered' && item.launchId === launchId);
  return peer;
}

const messagesOf = (launchId: string): Heard[] =>
  heard.seen.filter((item) => item.what === 'message' && item.launchId === launchId);

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'kaon-socket-'));
  path = join(directory, 'executors.sock');
  heard = createWatch();
});
afterEach(async () => {
  await Promise.all(peers.splice(0).map((peer) => peer.leave()));
  server.close();
  rmSync(directory, { recursive: true, force: true });
});

describe('an executor', () => {
  beforeEach(() => listen());

  test('with its token is known, and hears what is said to it after the turn', async () => {
    const peer = await registered();
    server.send(launchIdOf('x1'), { type: 'FrameworkToExecutor', data: 'one' });
    server.send(launchIdOf('x1'), { type: 'FrameworkToExecutor', data: 'two' });
    expect(peer.lines.seen).toEqual([]);
    server.flush();
    expect(await peer.lines.count(2)).toMatchObject([{ data: 'one' }, { data: 'two' }]);
  });

  test('that comes back says what it remembers', async () => {
    const peer = connected();
    peer.say(introduction('e1', { type: 'ReregisterExecutor', tasks: [], updates: [] }));
    expect(await heard.first(() => true)).toMatchObject({ type: 'ReregisterExecutor' });
  });

  test('that is not connected is told nothing', () => {
    server.send(launchIdOf('x1'), { type: 'FrameworkToExecutor', data: 'lost' });
    expect(() => {
      server.flush();
    }).not.toThrow();
  });

  test('that leaves is missed once', async () => {
    const peer = await registered();
    peer.socket.end();
    await heard.first(({ what }) => what === 'disconnected');
    await peer.closed;
    expect(heard.seen.map(({ what }) => what)).toEqual(['registered', 'disconnected']);
  });

  test('that connects again takes the place of its old connection, and is not missed', async () => {
    const before = await registered();
    const after = connected();
    after.say(introduction('e1'));
    await before.closed;
    await heard.count(2, ({ what }) => what === 'registered');
    server.send(launchIdOf('x1'), { type: 'FrameworkToExecutor', data: 'x' });
    server.flush();
    expect(await after.lines.first(() => true)).toMatchObject({ data: 'x' });
    expect(heard.seen.filter(({ what }) => what === 'disconnected')).toEqual([]);
  });
});

describe('a connection is refused', () => {
  beforeEach(() => listen());

  test.each<[string, object, string]>([
    ['with a wrong token', introduction('e1', { token: 'x' }), 'not-authenticated'],
    [
      'with the token of another executor',
      introduction('e1', { token: 'token-of-e2' }),
      'not-authenticated',
    ],
    ['of another framework', introduction('e1', { frameworkId: 'f2' }), 'not-authenticated'],
    ['without a token', introduction('e1', { token: undefined }), 'invalid'],
    ['that has not registered', update(1), 'not-registered'],
    ['with a message that does not exist', { type: 'Launch' }, 'invalid'],
    ['with what is for executors', { type: 'KillTask', taskId: 't1' }, 'invalid'],
    ['with a list', [1, 2], 'invalid'],
    ['with nothing', null as never, 'invalid'],
  ])('%s', async (_why, message, code) => {
    const peer = connected();
    peer.say(message);
    expect(await peer.refusal()).toMatchObject({ type: 'ExecutorError', code });
    expect(heard.seen).toEqual([]);
  });

  test.each(['{"type":"RegisterExecutor"', 'hello', '', '\0', '{}{}'])(
    'with a line of %j, which is no JSON',
    async (line) => {
      const peer = connected();
      peer.socket.write(`${line}\n`);
      expect(await peer.refusal()).toMatchObject({ code: 'invalid' });
    },
  );

  test('that registers twice, and its executor is missed at once', async () => {
    const peer = await registered();
    peer.say(introduction('e1'), update(1));
    expect(await peer.refusal()).toMatchObject({ code: 'registered' });
    expect(heard.seen.map(({ what }) => what)).toEqual(['registered', 'disconnected']);
  });

  test('of a known executor that says what cannot be read, and is missed once', async () => {
    const peer = await registered();
    peer.say(update(1), update(2, { state: 'TASK_STAGING' }), update(3));
    expect(await peer.refusal()).toMatchObject({
      code: 'invalid',
      message: expect.stringContaining('update.state'),
    });
    expect(messagesOf('x1')).toHaveLength(1);
    expect(heard.seen.filter(({ what }) => what === 'disconnected')).toHaveLength(1);
  });

  test.each([
    ['a known executor', true],
    ['a stranger', false],
  ])('with a line of %s that is too long', async (_whose, isKnown) => {
    const peer = isKnown ? await registered() : connected();
    peer.socket.write(Buffer.alloc(EXECUTOR_LINE_MAX_BYTES, 'x'));
    peer.socket.write('x\n');
    expect(await peer.refusal()).toMatchObject({ code: 'too-large' });
  });
});

test('a line of the greatest length is taken', async () => {
  await listen();
  const peer = await registered();
  const [start = '', end = ''] = JSON.stringify(update(1, { unknown: '?' })).split('?');
  const filler = 'x'.repeat(EXECUTOR_LINE_MAX_BYTES - start.length - end.length);
  peer.socket.write(`${start}${filler}${end}\n`);
  expect(await heard.first(({ what }) => what === 'message')).toMatchObject({
    message: { update: { updateId: 'u1' } },
  });
});

test('a token that cannot be looked at closes the connection without a word, so that it comes again', async () => {
  await listen({
    authenticate: () => {
      throw new Error('EMFILE: too many open files');
    },
  });
  const peer = connected();
  peer.say(introduction('e1'));
  await peer.closed;
  expect([peer.lines.seen, heard.seen]).toEqual([[], []]);
});

describe('strangers', () => {
  test('who say nothing are cut off after their time, and executors who say nothing are not', async () => {
    await listen({ introductionMs: 50 });
    const executor = await registered();
    const stranger = connected();
    expect(await stranger.refusal()).toMatchObject({ code: 'no-registration' });
    executor.say(update(1));
    await heard.first(({ what }) => what === 'message');
  });

  test('however many do not keep an executor away', async () => {
    await listen({ introductionMs: 600_000 });
    const strangers = Array.from({ length: 200 }, connected);
    await Promise.all(strangers.slice(0, 136).map(({ closed }) => closed));
    await registered();
    expect(strangers.filter(({ socket }) => socket.readyState === 'open').length).toBeLessThan(65);
  });

  test('however much they say keep no more than a few lines of it in memory', async () => {
    await listen({ introductionMs: 600_000 });
    const strangers = Array.from({ length: 6 }, connected);
    for (const { socket } of strangers) socket.write(Buffer.alloc(EXECUTOR_LINE_MAX_BYTES, 'x'));
    const closed = await Promise.race(
      strangers.map((stranger) => stranger.closed.then(() => stranger)),
    );
    expect(closed.lines.seen).toEqual([]);
    await registered();
  });
});

describe('what is said', () => {
  beforeEach(() => listen());

  test('in many lines of one piece is taken line by line', async () => {
    const peer = connected();
    peer.say(introduction('e1'), ...Array.from({ length: 500 }, (_, index) => update(index)));
    await heard.count(500, ({ what }) => what === 'message');
    expect(messagesOf('x1').map(idOf)).toEqual(
      Array.from({ length: 500 }, (_, index) => `u${String(index)}`),
    );
  });

  test('in one line of many pieces is taken once, with its characters whole', async () => {
    const peer = await registered();
    const bytes = Buffer.from(`${JSON.stringify(update(1, { data: 'käön € 𝄞' }))}\n`);
    for (const byte of bytes) {
      await new Promise((resolve) => peer.socket.write(Buffer.from([byte]), resolve));
    }
    expect(await heard.first(({ what }) => what === 'message')).toMatchObject({
      message: { update: { data: 'käön € 𝄞' } },
    });
  });

  test('without the end of its line is not taken', async () => {
    const peer = await registered();
    peer.socket.write(JSON.stringify(update(1)));
    peer.socket.end();
    await heard.first(({ what }) => what === 'disconnected');
    expect(messagesOf('x1')).toEqual([]);
  });
});

test('a flood of one executor does not hold up another, and is taken whole in the end', async () => {
  const taken = { x1: [] as (string | undefined)[], x2: [] as (string | undefined)[] };
  await listen({
    onMessage: ({ launchId }, message) => {
      taken[launchId === 'x1' ? 'x1' : 'x2'].push(idOf({ message }));
    },
  });
  const until = async (holds: () => boolean): Promise<void> => {
    while (!holds()) await pause(5);
  };
  const flooding = await registered('e1');
  const other = await registered('e2');
  flooding.say(...Array.from({ length: 100_000 }, (_, index) => update(index)));
  await until(() => taken.x1.length > 0);
  for (const count of [1, 2]) {
    other.say(update(count));
    await until(() => taken.x2.length === count);
    expect(taken.x1.length).toBeLessThan(100_000);
  }
  await until(() => taken.x1.length === 100_000);
  expect(taken.x1).toEqual(Array.from({ length: 100_000 }, (_, index) => `u${String(index)}`));
});

function idOf({ message }: Pick<Heard, 'message'>): string | undefined {
  return message?.type === 'StatusUpdate' ? message.update.updateId : undefined;
}

describe('an executor that does not read', () => {
  const say = (data: string): void => {
    server.send(launchIdOf('x1'), { type: 'FrameworkToExecutor', data });
    server.flush();
  };

  test('is cut off when too much waits for it', async () => {
    await listen({ unreadMaxBytes: 100_000 });
    const peer = await registered();
    peer.socket.pause();
    while (heard.seen.every(({ what }) => what !== 'disconnected')) {
      say('x'.repeat(60_000));
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(heard.seen.map(({ what }) => what)).toEqual(['registered', 'disconnected']);
  });

  test('yet is told all of one turn, however much that is', async () => {
    await listen({ unreadMaxBytes: 100_000 });
    const peer = await registered();
    for (let count = 0; count < 50; count += 1) {
      const data = 'x'.repeat(60_000);
      server.send(launchIdOf('x1'), { type: 'FrameworkToExecutor', data });
    }
    server.flush();
    expect(await peer.lines.count(50)).toHaveLength(50);
  });
});

describe('the socket', () => {
  test('can be reached by every user of the node', async () => {
    await listen();
    expect(statSync(path).mode & 0o777).toBe(0o666);
  });

  test('takes the place of a file that an agent has left', async () => {
    writeFileSync(path, '');
    await listen();
    await registered();
  });

  test('takes the place of the socket of an agent that was killed', async () => {
    const before = createServer();
    await new Promise<void>((resolve) => before.listen(path, resolve));
    await listen();
    await registered();
    before.close();
  });

  test('with too long a path is refused with what to do', async () => {
    path = join(directory, 'x'.repeat(100));
    await expect(listen()).rejects.toMatchObject({
      code: 'executor-socket',
      hint: expect.stringContaining('--state-dir'),
    });
  });

  test('that cannot be made says why', async () => {
    path = join(directory, 'none', 'executors.sock');
    await expect(listen()).rejects.toMatchObject({
      code: 'executor-socket',
      message: expect.stringContaining(path),
    });
  });

  test('that is closed ends all connections, and nobody is missed', async () => {
    await listen();
    const peer = await registered();
    const stranger = connected();
    await new Promise((resolve) => stranger.socket.once('connect', resolve));
    server.close();
    await Promise.all([peer.closed, stranger.closed]);
    expect(heard.seen.map(({ what }) => what)).toEqual(['registered']);
  });
});
