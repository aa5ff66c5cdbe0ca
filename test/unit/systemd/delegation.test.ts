import { describe, expect, test } from '@jest/globals';
import { delegatedControllers, judgeDelegation } from '../../../systemd/delegation.ts';

const MANAGER = '/user.slice/user-1000.slice/user@1000.service';

function delegatedWith(controllers: string | undefined): readonly string[] {
  const file = `/sys/fs/cgroup${MANAGER}/cgroup.controllers`;
  const read = (path: string): string | undefined => (path === file ? controllers : undefined);
  return delegatedControllers({ read }, { root: '/sys/fs/cgroup', version: 'v2', path: MANAGER });
}

describe('controllers of a user', () => {
  test('are those in the cgroup of the manager, of those that Kaon sets limits with', () => {
    expect(delegatedWith('cpuset cpu io memory pids\n')).toEqual(['cpu', 'memory', 'pids']);
    expect(delegatedWith('memory pids\n')).toEqual(['memory', 'pids']);
  });

  test('are none where there are none, and where the cgroup cannot be read', () => {
    expect(delegatedWith('\n')).toEqual([]);
    expect(delegatedWith(undefined)).toEqual([]);
  });

  test('are none on cgroup v1, whatever is there', () => {
    const place = { root: '/sys/fs/cgroup', version: 'v1', path: MANAGER } as const;
    expect(delegatedControllers({ read: () => 'cpu memory pids' }, place)).toEqual([]);
  });
});

describe('an agent of a user', () => {
  const on = { version: 'v2', uid: 1000, available: ['cpu', 'memory', 'pids'] } as const;

  test('promises all limits with all controllers', () => {
    expect(judgeDelegation(['cpu', 'memory', 'pids'], on)).toEqual({ ok: true, lacking: [] });
  });

  test('does without the CPU controller, and says so', () => {
    expect(judgeDelegation(['memory', 'pids'], on)).toEqual({ ok: true, lacking: ['cpu'] });
  });

  test.each([
    [
      ['cpu', 'pids'],
      'user 1000 was not given the cgroup controllers for memory (it has cpu, pids)',
    ],
    [['memory'], 'controllers for cpu, pids (it has memory)'],
    [[], 'controllers for cpu, memory, pids (it has none)'],
  ] as const)('does not start with %j', (held, words) => {
    const judged = judgeDelegation(held, on);
    expect(judged).toMatchObject({ ok: false, message: expect.stringContaining(words) });
    expect(judged).toMatchObject({ hint: expect.stringContaining('Delegate=cpu memory pids') });
    expect(judged).toMatchObject({ hint: expect.stringContaining('--unlimited') });
  });

  test('is told that the kernel lacks it where no delegation would help', () => {
    const judged = judgeDelegation(['cpu', 'pids'], { ...on, available: ['cpu', 'pids'] });
    expect(judged).toMatchObject({
      ok: false,
      message: expect.stringContaining('has no cgroup controller for memory'),
      hint: expect.stringContaining('cgroup_disable=memory'),
    });
  });

  test('is told on cgroup v1 that no delegation would help', () => {
    const judged = judgeDelegation([], { ...on, version: 'v1' });
    expect(judged).toMatchObject({ ok: false, message: expect.stringContaining('cgroup v1') });
    expect(judged).toMatchObject({ hint: expect.not.stringContaining('Delegate=') });
  });
});
