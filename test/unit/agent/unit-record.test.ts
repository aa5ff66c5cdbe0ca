import { expect, test } from '@jest/globals';
import { decodeUnitRecord, encodeUnitRecord } from '../../../agent/unit-record.ts';
import type { LaunchId } from '../../../protocol/ids.ts';
import type { TaskInfo } from '../../../protocol/task.ts';
import { agentIdOf, frameworkInfo, taskInfo } from '../../support/builders.ts';

const recordOf = (task: TaskInfo): Parameters<typeof encodeUnitRecord>[0] => ({
  cluster: 'c',
  agentId: agentIdOf('a1'),
  framework: frameworkInfo('f1', { failoverTimeoutMs: 7 }),
  detached: true,
  task,
  launchId: '3.1.4' as LaunchId,
  bootId: 'boot',
  sandbox: '/s',
});

test('a record says everything that a task is gone on with', () => {
  const task = taskInfo('t1', {
    whenUnreachable: { stopAfterMs: 20_000 },
    exclusive: true,
    killGracePeriodMs: 1234,
    labels: { 'a b': '"%n" $HOME' },
  });
  expect(decodeUnitRecord(encodeUnitRecord(recordOf(task)))).toEqual({
    ok: true,
    value: { version: 1, ...recordOf(task) },
  });
});

test('a record stays small, and has no environment, whatever the task brings', () => {
  const task = taskInfo('t1', {
    command: {
      argv: ['sh', '-c', 'x'.repeat(200_000)],
      environment: { SECRET: 'y'.repeat(1000) },
    },
    labels: Object.fromEntries(Array.from({ length: 64 }, (_, n) => [`l${n}`, 'z'.repeat(1000)])),
  });
  const text = encodeUnitRecord(recordOf(task));
  expect(text.length).toBeLessThan(4000);
  const decoded = decodeUnitRecord(text);
  expect(decoded).toMatchObject({ ok: true, value: { task: { labels: {} } } });
  expect(decoded).toMatchObject({ value: { task: { command: { environment: {} } } } });
  expect(decoded).toMatchObject({
    value: { task: { command: { argv: ['sh', '-c', 'x'.repeat(1020)] } } },
  });
});

test('what is no record is told, and not thrown', () => {
  expect(decodeUnitRecord('not base64 of anything').ok).toBe(false);
});
