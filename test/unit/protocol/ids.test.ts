import { describe, expect, test } from '@jest/globals';
import { ID_MAX_CHARS, TaskId, taskKey } from '../../../protocol/ids.ts';
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
      keys.sequence(sessionOf('s1')),
      keys.client(agentName(agentIdOf('a1')), sessionOf('s1')),
      keys.output(sessionOf('r1')),
    ];
    expect(names.filter((name) => !name.startsWith('kaon:{prod}:'))).toEqual([]);
  });

  test('give each session of a client a stream of its own', () => {
    const name = frameworkName(frameworkIdOf('f1'));
    expect(keys.client(name, sessionOf('s1'))).toBe('kaon:{prod}:framework:f1:s1');
  });
});
