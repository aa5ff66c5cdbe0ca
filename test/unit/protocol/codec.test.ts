import { describe, expect, test } from '@jest/globals';
import { z } from 'zod';
import type { Decoded } from '../../../protocol/codec.ts';
import {
  decodeEntry,
  decodeMessage,
  decodeTask,
  decodeWith,
  encodeEntries,
} from '../../../protocol/codec.ts';
import {
  ENTRY_FULL_BYTES,
  ENTRY_MAX_BYTES,
  ENTRY_MAX_MESSAGES,
  MESSAGE_MAX_BYTES,
  UNREACHABLE_STOP_MIN_MS,
} from '../../../protocol/limits.ts';
import type { Message } from '../../../protocol/messages.ts';
import { agentInfo, taskInfo } from '../../support/builders.ts';

const revive = { type: 'ReviveOffers', frameworkId: 'f1' } as Message;

/** `code: message` of what could not be decoded, or `ok`. */
function outcome<T>(decoded: Decoded<T>): string {
  return decoded.ok ? 'ok' : `${decoded.code}: ${decoded.message}`;
}

function unwrap<T>(decoded: Decoded<T>): T {
  if (!decoded.ok) throw new Error(decoded.message);
  return decoded.value;
}

describe('an entry', () => {
  test('may be a single message that somebody wrote by hand', () => {
    expect(decodeEntry(JSON.stringify(revive)).map(outcome)).toEqual(['ok']);
  });

  test('that is not JSON is one bad result', () => {
    expect(decodeEntry('{"type":').map((result) => result.ok || result.code)).toEqual(['not-json']);
  });

  test('that is too large is not even parsed', () => {
    const [result] = decodeEntry('x'.repeat(ENTRY_MAX_BYTES + 1));
    expect(result).toEqual({
      ok: false,
      code: 'too-large',
      message: 'entry of 16777217 characters, limit 16777216',
    });
  });

  test('with a bad message between good ones keeps the good ones', () => {
    const text = JSON.stringify([revive, { type: 'Nonsense' }, 7, revive]);
    expect(decodeEntry(text).map(outcome)).toEqual([
      'ok',
      'unknown-type: unknown message type "Nonsense"',
      'invalid: not a message: it has no type',
      'ok',
    ]);
  });

  test('without messages is nothing', () => {
    expect(decodeEntry('[]')).toEqual([]);
  });
});

describe('a message', () => {
  test.each([
    ['null', null, 'invalid: not a message: it has no type'],
    ['a list', [], 'invalid: not a message: it has no type'],
    ['a type that is a number', { type: 1 }, 'invalid: not a message: it has no type'],
    [
      'a type of every object',
      { type: 'constructor' },
      'unknown-type: unknown message type "constructor"',
    ],
    [
      'a type that is a prototype',
      { type: '__proto__' },
      'unknown-type: unknown message type "__proto__"',
    ],
    [
      'a field of another type',
      { type: 'ReviveOffers', frameworkId: 7 },
      'invalid: ReviveOffers: frameworkId: Invalid input: expected string, received number',
    ],
    [
      'an id with a slash',
      { type: 'ReviveOffers', frameworkId: 'a/b' },
      'invalid: ReviveOffers: frameworkId: an id is letters, digits, "_", ".", ":" and "-", and starts with a letter or digit',
    ],
  ])('%s is told', (_title, value, expected) => {
    expect(outcome(decodeMessage(value))).toBe(expected);
  });

  test('of a newer peer loses the keys that we do not know, and is taken', () => {
    expect(decodeMessage({ ...revive, sinceVersion: 9 })).toEqual({ ok: true, value: revive });
  });

  test('of an older peer gets the defaults of what it does not say', () => {
    const kill = { type: 'KillTask', frameworkId: 'f1', taskId: 't1' };
    expect(unwrap(decodeMessage(kill))).toEqual({ ...kill, by: 'framework' });
  });

  test('of an older agent registers it with what it does not say left empty', () => {
    const register = { type: 'RegisterAgent', agent: agentInfo('a1'), session: 's1', tasks: [] };
    expect(unwrap(decodeMessage(register))).toEqual({
      ...register,
      node: '',
      frameworks: [],
      executors: [],
      ended: [],
    });
  });

  test.each(['AgentError', 'MarkAgentGone', 'UpdateFramework', 'RunTask'])(
    '%s without what it is about is told so',
    (type) => {
      expect(outcome(decodeMessage({ type }))).toMatch(new RegExp(`^invalid: ${type}: `));
    },
  );

  test('cannot bring a prototype in through a map', () => {
    const text =
      '{"type":"RegisterFramework","session":"s1","framework":{"frameworkId":"f1","name":"f","labels":{"__proto__":"x","constructor":"y"}}}';
    const [message] = decodeEntry(text).map(unwrap);
    const labels = message?.type === 'RegisterFramework' ? message.framework.labels : {};
    expect(Object.getPrototypeOf(labels)).toBe(Object.getPrototypeOf({}));
    expect(({} as Record<string, unknown>)['x']).toBeUndefined();
  });

  test('may launch tasks that are not valid: they are judged one by one', () => {
    const launch = {
      type: 'LaunchTasks',
      frameworkId: 'f1',
      offerIds: ['o1'],
      tasks: [{}, 7, null],
    };
    expect(outcome(decodeMessage(launch))).toBe('ok');
  });
});

describe('packing', () => {
  test('no messages make no entries', () => {
    expect(encodeEntries([])).toEqual([]);
  });

  test('an entry takes no more messages than its limit', () => {
    const entries = encodeEntries(Array.from({ length: ENTRY_MAX_MESSAGES + 1 }, () => revive));
    expect(entries.map((entry) => decodeEntry(entry).length)).toEqual([ENTRY_MAX_MESSAGES, 1]);
  });

  test('an entry of several messages stays within its bytes, even if each character takes three', () => {
    const text = '€'.repeat(50_000);
    const message = { type: 'FrameworkError', code: 'x', message: text } as Message;
    const entries = encodeEntries(Array.from({ length: 20 }, () => message));
    const largest = Math.max(...entries.map((entry) => Buffer.byteLength(entry)));
    expect(largest).toBeLessThanOrEqual(ENTRY_FULL_BYTES);
  });

  test('a message that is larger than an entry goes alone, and the order stays', () => {
    const large = {
      type: 'FrameworkError',
      code: 'x'.repeat(ENTRY_FULL_BYTES),
      message: '',
    } as Message;
    const types = encodeEntries([revive, large, revive]).map((entry) =>
      decodeEntry(entry).map((decoded) => unwrap(decoded).type),
    );
    expect(types).toEqual([['ReviveOffers'], ['FrameworkError'], ['ReviveOffers']]);
  });

  test('the most tasks that one launch may have fit into an entry', () => {
    const tasks = Array.from({ length: 10_000 }, (_, index) => taskInfo(`task-${String(index)}`));
    const launch = {
      type: 'LaunchTasks',
      frameworkId: 'f1',
      offerIds: ['o1'],
      tasks,
    } as unknown as Message;
    const [entry = ''] = encodeEntries([launch]);
    expect(decodeEntry(entry).map(outcome)).toEqual(['ok']);
  });
});

describe('a task that is not valid', () => {
  const argv = ['true'];
  test.each<[string, object, string]>([
    ['no id', { taskId: undefined }, 'taskId: Invalid input: expected string, received undefined'],
    [
      'an id with a space',
      { taskId: 'a b' },
      'taskId: an id is letters, digits, "_", ".", ":" and "-"',
    ],
    ['no name', { name: '' }, 'name: Too small'],
    [
      'too little memory',
      { resources: { cpuMillis: 100, memMib: 3 } },
      'resources.memMib: Too small',
    ],
    [
      'too little CPU',
      { resources: { cpuMillis: 9, memMib: 32 } },
      'resources.cpuMillis: Too small',
    ],
    [
      'a fraction of a MiB',
      { resources: { cpuMillis: 100, memMib: 4.5 } },
      'resources.memMib: Invalid input: expected int',
    ],
    ['an empty command', { command: { argv: [] } }, 'command.argv: Too small'],
    [
      'a NUL in an argument',
      { command: { argv: ['a\0b'] } },
      'command.argv.0: must not contain a NUL character',
    ],
    [
      'an argument that is a number',
      { command: { argv: ['sleep', 5] } },
      'command.argv.1: Invalid input: expected string',
    ],
    [
      'a variable with "="',
      { command: { argv, environment: { 'A=B': 'x' } } },
      'command.environment.A=B: ',
    ],
    [
      'a NUL in a variable',
      { command: { argv, environment: { A: '\0' } } },
      'command.environment.A: must not contain a NUL',
    ],
    ['a user with a slash', { command: { argv, user: 'a/b' } }, 'command.user: not a user name'],
    [
      'a relative directory',
      { command: { argv, workingDirectory: 'tmp' } },
      'command.workingDirectory: must be an absolute path',
    ],
    ['a time limit of 0', { maxCompletionTimeMs: 0 }, 'maxCompletionTimeMs: Too small'],
    ['a grace period over an hour', { killGracePeriodMs: 3_600_001 }, 'killGracePeriodMs: Too big'],
    ['a negative grace period', { killGracePeriodMs: -1 }, 'killGracePeriodMs: Too small'],
    [
      'too many labels',
      { labels: Object.fromEntries(Array.from({ length: 65 }, (_, n) => [`l${String(n)}`, ''])) },
      'labels: at most 64 labels',
    ],
    ['a label that is a number', { labels: { a: 1 } }, 'labels.a: Invalid input'],
  ])('%s: the field is named', (_title, wrong, expected) => {
    expect(outcome(decodeTask({ ...taskInfo('t1'), ...wrong }))).toContain(`invalid: ${expected}`);
  });

  test.each([null, undefined, 7, 'task', []])('%j is no task', (value) => {
    expect(outcome(decodeTask(value))).toMatch(/^invalid: message: /);
  });

  test('names at most five faults', () => {
    const wrong = {
      taskId: 1,
      name: 1,
      resources: 1,
      command: 1,
      killGracePeriodMs: 'x',
      labels: 1,
    };
    expect(outcome(decodeTask(wrong)).split('; ')).toHaveLength(5);
  });

  test.each([
    ['keep', 'ok'],
    [{ stopAfterMs: UNREACHABLE_STOP_MIN_MS }, 'ok'],
    [
      { stopAfterMs: UNREACHABLE_STOP_MIN_MS - 1 },
      'invalid: whenUnreachable.stopAfterMs: Too small: expected number to be >=15000',
    ],
    ['stop', 'invalid: whenUnreachable: Invalid input'],
  ])('when unreachable %j: %s', (whenUnreachable, expected) => {
    expect(outcome(decodeTask({ ...taskInfo('t1'), whenUnreachable }))).toBe(expected);
  });

  test('larger than a message may be', () => {
    const command = { argv: ['x'.repeat(MESSAGE_MAX_BYTES)], environment: {} };
    expect(outcome(decodeTask(taskInfo('t1', { command })))).toMatch(
      /^too-large: task of \d+ characters/,
    );
  });
});

test('a task that says little gets the defaults', () => {
  const task = {
    taskId: 't1',
    name: 't',
    resources: { cpuMillis: 10, memMib: 4 },
    command: { argv: ['a'] },
  };
  expect(unwrap(decodeTask(task))).toEqual({
    ...task,
    command: { argv: ['a'], environment: {} },
    exclusive: false,
    killGracePeriodMs: 5000,
    uris: [],
    whenUnreachable: 'keep',
    labels: {},
  });
});

describe('a stored record', () => {
  const schema = z.object({ count: z.int() });

  test.each([
    ['{"count":1}', 'ok'],
    ['{"count":', 'not-json'],
    ['{"count":"1"}', 'invalid: count: Invalid input: expected number, received string'],
  ])('%s is %s', (text, expected) => {
    expect(outcome(decodeWith(schema, text))).toContain(expected);
  });
});
