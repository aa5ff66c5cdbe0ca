import { describe, expect, test } from '@jest/globals';
import {
  ID_MAX_CHARS,
  isOlderSession,
  masterIdOfInvocation,
  numberedSession,
  SessionId,
  sessionNumber,
  TaskId,
  taskKey,
} from '../../../protocol/ids.ts';
import { agentName, frameworkName, keysOf } from '../../../protocol/keys.ts';
import { agentIdOf, frameworkIdOf, sessionOf, taskIdOf } from '../../support/builders.ts';

describe('an id', () => {
  test.each(['a', '0', 'web-1.2_3:x', 'x'.repeat(ID_MAX_CHARS)])('may be %j', (id) => {
    expect(TaskId.safeParse(id).success).toBe(true);
  });

  test.each([
    '',
    '-a',
    '.',
    '..',
    'a/b',
    'a b',
    'a\nb',
    'ä',
    'a\0',
    '{a}',
    'x'.repeat(ID_MAX_CHARS + 1),
    7,
    null,
  ])('may not be %j', (id) => {
    expect(TaskId.safeParse(id).success).toBe(false);
  });
});

test('a task key keeps the tasks of two frameworks apart', () => {
  expect(taskKey(frameworkIdOf('a'), taskIdOf('b.c'))).not.toBe(
    taskKey(frameworkIdOf('a.b'), taskIdOf('c')),
  );
});

describe('the keys of a cluster', () => {
  const keys = keysOf('prod');

  test('share one hash tag, so that one script may touch them all', () => {
    const names = [
      keys.leader,
      keys.inbox,
      keys.registry.tasks,
      keys.client(agentName(agentIdOf('a1')), sessionOf('s1')),
      keys.output(sessionOf('r1')),
    ];
    expect(names.filter((name) => !name.startsWith('kaon:{prod}:'))).toEqual([]);
  });

  test('begin with the name of the client that they belong to, and none is like the stream of a session', () => {
    const name = agentName(agentIdOf('a1'));
    const names = [
      keys.alive(name),
      keys.sessionNumber(name),
      keys.sequence(name, sessionOf('s1')),
      keys.direct(name, sessionOf('s1')),
      keys.agentRequests(agentIdOf('a1')),
    ];
    const rests = names.map((key) => key.replace('kaon:{prod}:agent:a1:', ''));
    expect(rests.filter((rest) => SessionId.safeParse(rest).success)).toEqual([]);
    expect(rests.filter((rest) => !rest.startsWith('/'))).toEqual([]);
  });

  test('give each session of a client a stream of its own', () => {
    const name = frameworkName(frameworkIdOf('f1'));
    expect(keys.client(name, sessionOf('s1'))).toBe('kaon:{prod}:framework:f1:s1');
  });
});

describe('a numbered session', () => {
  const numbers = [1, 35, 36, 1_700_000_000_000_000, Number.MAX_SAFE_INTEGER];

  test.each(numbers)('is an id of which the number %d can be read', (number) => {
    const session = numberedSession(number);
    expect(SessionId.safeParse(session).success).toBe(true);
    expect(sessionNumber(session)).toBe(number);
  });

  test('sorts by its number', () => {
    const sessions = numbers.map((number) => numberedSession(number));
    expect([...sessions].sort()).toEqual(sessions);
  });

  test('is older than one with a higher number, and younger than any without', () => {
    expect(isOlderSession(numberedSession(7), numberedSession(8))).toBe(true);
    expect(isOlderSession(numberedSession(8), numberedSession(8))).toBe(false);
    expect(isOlderSession(numberedSession(8), numberedSession(7))).toBe(false);
    expect(isOlderSession('sabcdefghi', numberedSession(1))).toBe(true);
    expect(isOlderSession('s1', 's2')).toBe(false);
  });
});

test('a master that systemd has started is named after its host and that start', () => {
  const id = masterIdOfInvocation('node 1.example', '0123456789abcdef0123456789abcdef');
  expect(id).toBe('node_1_example.0123456789ab');
});
