import { describe, expect, test } from '@jest/globals';
import { pickTask } from '../../../cli/task-view.ts';
import type { TaskView } from '../../../cli/task-view.ts';
import { messageOfTask, ranFor } from '../../../cli/commands/tasks.ts';
import type { AgentId, FrameworkId, TaskId } from '../../../protocol/ids.ts';
import type { TaskRecord } from '../../../protocol/records.ts';

/** `framework/task`, named as the part of the id before the dot. */
function view(key: string, more: Partial<TaskView> = {}): TaskView {
  const [frameworkId = '', taskId = ''] = key.split('/');
  return {
    frameworkId: frameworkId as FrameworkId,
    frameworkName: frameworkId.split('.')[0] ?? '',
    taskId: taskId as TaskId,
    agentId: 'a1' as AgentId,
    name: taskId.split('.')[0] ?? '',
    resources: { cpuMillis: 500, memMib: 128 },
    state: 'TASK_RUNNING',
    launchedAtMs: 1000,
    isUnheard: false,
    isUnacknowledged: false,
    record: {} as TaskRecord,
    ...more,
  };
}

const live = [view('run.a/web.x7'), view('run.b/web.x9'), view('ci.c/build.k1'), view('ci.c/x')];
const ended = [view('run.d/old.1', { endedAtMs: 5 }), view('run.e/x.2', { endedAtMs: 4 })];
const pick = (asked: string): string | undefined => pickTask(asked, live, ended)?.taskId;

describe('a task is found by', () => {
  test.each([
    ['web.x7', 'web.x7'],
    ['build', 'build.k1'],
    ['web.x9', 'web.x9'],
    ['bu', 'build.k1'],
    ['old', 'old.1'],
    ['run.b/web', 'web.x9'],
    ['ci/build', 'build.k1'],
    ['run.b/w', 'web.x9'],
  ])('%s', (asked, taskId) => {
    expect(pick(asked)).toBe(taskId);
  });

  test('its whole id, although others begin with it', () => {
    expect(pick('x')).toBe('x');
  });

  test('nothing that is not there, and not by an empty word', () => {
    expect([pick('nope'), pick(''), pick('run/')]).toEqual([undefined, undefined, undefined]);
  });

  test('more of its id if several are meant, which are then listed', () => {
    expect(() => pick('web')).toThrow(
      expect.objectContaining({
        code: 'ambiguous',
        message: expect.stringMatching(
          /2 tasks:\n {2}run\.a\/web\.x7 {2}web, running\n {2}run\.b\/web\.x9/,
        ),
      }),
    );
  });

  test('its id in the history, where the newest of several runs is meant', () => {
    const runs = [view('f/t', { endedAtMs: 9 }), view('f/t', { endedAtMs: 3 })];
    expect(pickTask('t', [], runs)?.endedAtMs).toBe(9);
  });
});

describe('the table of tasks says', () => {
  test('how long the process ran where the node knows it, else since the launch', () => {
    const certificate = { startedAtMs: 2000, endedAtMs: 5000 };
    const status = { certificate } as TaskView['status'] & object;
    expect(ranFor(view('f/t', { endedAtMs: 9000, status }), 0)).toBe('3s');
    expect(ranFor(view('f/t', { endedAtMs: 9000 }), 0)).toBe('8s');
    expect(ranFor(view('f/t'), 11_000)).toBe('10s');
  });

  test('what a task that is not there yet waits for, and who wants it gone', () => {
    expect(messageOfTask(view('f/t', { isUnheard: true, killRequested: 'operator' }), 0)).toBe(
      'waiting for its agent; kill requested by operator',
    );
    expect(messageOfTask(view('f/t', { endedAtMs: 1, isUnacknowledged: true }), 0)).toBe(
      'its framework has not acknowledged it',
    );
  });

  test('since when a task is unreachable, and what its node does with it', () => {
    const cutOff = { state: 'TASK_UNREACHABLE', unreachable: { sinceMs: 1000 } } as const;
    expect(messageOfTask(view('f/t', cutOff), 61_000)).toBe('for 1m; goes on if its node lives');
    const unreachable = { sinceMs: 1000, stoppedByMs: 91_000 };
    expect(messageOfTask(view('f/t', { ...cutOff, unreachable }), 61_000)).toBe(
      'for 1m; its node stops it within 30s',
    );
  });
});
