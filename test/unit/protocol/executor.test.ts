/** What tasks and executors may say of themselves, and what does not go together. */
import { describe, expect, test } from '@jest/globals';
import { HealthCheck, Uri } from '../../../protocol/command.ts';
import { ExecutorInfo, isSameExecutor } from '../../../protocol/executor.ts';
import { ExecutorMessage } from '../../../protocol/executor-messages.ts';
import { problemOf, TaskInfo } from '../../../protocol/task.ts';

const resources = { cpuMillis: 100, memMib: 32 };
const command = { argv: ['true'] };
const own = { executorId: 'e1', name: 'e1', resources };
const custom = { ...own, command };

const task = (more: Record<string, unknown>): TaskInfo =>
  TaskInfo.parse({ taskId: 't1', name: 't1', resources, ...more });
const executor = (more: Record<string, unknown> = {}): ExecutorInfo =>
  ExecutorInfo.parse({ ...own, ...more });

describe('what a task is made of', () => {
  test.each([
    ['a command', { command }],
    ['a command of the default executor', { command, executor: own }],
    ['a task of an executor with a command of its own', { executor: custom, data: 'x' }],
    ['a group in an executor', { command, executor: own, groupId: 'g1' }],
    [
      'a health check of the default executor',
      { command, executor: own, healthCheck: { check: { type: 'tcp', port: 80 } } },
    ],
  ])('%s goes together', (_name, more) => {
    expect(problemOf(task(more))).toBeUndefined();
  });

  test.each([
    ['neither command nor executor', {}, 'either an executor or a command'],
    ['both', { command, executor: custom }, 'not both'],
    ['a default executor without a command', { executor: own }, 'must have a command'],
    ['a group without an executor', { command, groupId: 'g1' }, 'needs an executor'],
    [
      'a health check without an executor',
      { command, healthCheck: { check: { type: 'http', port: 80 } } },
      'needs the default executor',
    ],
    [
      'a health check of another executor',
      { executor: custom, healthCheck: { check: { type: 'http', port: 80 } } },
      'default executor only',
    ],
    [
      'another user than that of the default executor',
      { command: { argv: ['true'], user: 'nobody' }, executor: own },
      'runs as the user of its executor',
    ],
    [
      'a user beside the command of an executor',
      { executor: { ...custom, user: 'nobody' } },
      'belongs into that command',
    ],
    [
      'another rule for nodes that are cut off than its executor has',
      { command, executor: own, whenUnreachable: { stopAfterMs: 60_000 } },
      'share one container',
    ],
  ])('%s does not', (_name, more, words) => {
    expect(problemOf(task(more))).toContain(words);
  });
});

test('two descriptions of an executor are the same whatever the order of their fields', () => {
  const a = executor({ labels: { x: '1', y: '2' }, data: 'd' });
  const b = ExecutorInfo.parse({ data: 'd', labels: { y: '2', x: '1' }, ...own });
  expect(isSameExecutor(a, b)).toBe(true);
  expect(isSameExecutor(a, executor({ data: 'other' }))).toBe(false);
  expect(isSameExecutor(a, executor({ ...custom, data: 'd' }))).toBe(false);
});

describe('an artifact', () => {
  test.each(['../up', '/abs', 'a/../../b', ''])('cannot be put at %j', (path) => {
    expect(Uri.safeParse({ uri: 'http://x/y', path }).success).toBe(false);
  });

  test.each(['ABCDEF', 'a'.repeat(63), `${'a'.repeat(63)}G`])('has no digest %j', (sha256) => {
    expect(Uri.safeParse({ uri: 'http://x/y', sha256 }).success).toBe(false);
  });

  test('is by default not executable, not kept, and extracted by its name', () => {
    expect(Uri.parse({ uri: 'http://x/y' })).toEqual({
      uri: 'http://x/y',
      executable: false,
      cache: false,
    });
  });
});

test.each([
  [{ type: 'tcp', port: 0 }],
  [{ type: 'http', port: 80, path: 'no-slash' }],
  [{ type: 'command', argv: [] }],
  [{ type: 'ping' }],
])('a health check %j is refused', (check) => {
  expect(HealthCheck.safeParse({ check }).success).toBe(false);
});

test.each(['TASK_STAGING', 'TASK_LOST', 'TASK_UNREACHABLE', 'TASK_GONE', 'TASK_DROPPED'])(
  'an executor may not report %s',
  (state) => {
    const update = { taskId: 't1', launchId: '1.1.1', updateId: 'u1', state };
    expect(ExecutorMessage.safeParse({ type: 'StatusUpdate', update }).success).toBe(false);
  },
);
