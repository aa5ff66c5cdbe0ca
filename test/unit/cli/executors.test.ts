/** `kaon executors`: which rows, and what is summed. */
import { expect, test } from '@jest/globals';
import { executorColumns, executorRows } from '../../../cli/commands/executors.ts';
import type { Cluster } from '../../../cli/registry.ts';
import { plain } from '../../../cli/style.ts';
import { formatTable } from '../../../cli/table.ts';
import { agentExecutor, agentIdOf, agentTask, amount } from '../../support/builders.ts';
import { executorIdOf, frameworkInfo } from '../../support/builders.ts';

const executor = (frameworkId: string, agentId: string, executorId: string): object => ({
  ...agentExecutor(frameworkId, executorId),
  agentId: agentIdOf(agentId),
  launchedAtMs: 1000,
});
const task = (frameworkId: string, agentId: string, taskId: string, more: object = {}): object => ({
  ...agentTask(frameworkId, taskId, { executorId: executorIdOf('e1'), resources: amount(1, 128) }),
  agentId: agentIdOf(agentId),
  ...more,
});
const cluster = {
  frameworks: [{ info: frameworkInfo('f2.k3', { name: 'crawler' }) }],
  executors: [
    executor('f2.k3', 'a1', 'e1'),
    executor('f1', 'a2', 'e1'),
    executor('f1', 'a1', 'e1'),
  ],
  tasks: [
    task('f1', 'a1', 't1'),
    task('f1', 'a1', 't2'),
    task('f1', 'a1', 't3', { state: 'TASK_FAILED' }),
    task('f1', 'a1', 't4', { executorId: undefined }),
    task('f2.k3', 'a1', 't5'),
    task('f2.k3', 'a9', 't6'),
  ],
} as unknown as Cluster;

test('executors are shown with their live tasks, and what they hold together', () => {
  const rows = executorRows(cluster);
  expect(formatTable(executorColumns(61_000), rows, { width: undefined, paint: plain })).toBe(
    [
      'EXECUTOR  FRAMEWORK  AGENT  TASKS  OWN            TOTAL           AGE',
      'e1        f1         a1         2  0.1 cpus, 32M  2.1 cpus, 288M   1m',
      'e1        f1         a2         0  0.1 cpus, 32M  0.1 cpus, 32M    1m',
      'e1        f2.k3      a1         1  0.1 cpus, 32M  1.1 cpus, 160M   1m',
      '',
    ].join('\n'),
  );
});

test.each([
  ['f2', 1],
  ['crawler', 1],
  ['f1', 2],
  ['nope', 0],
])('those of framework %s are %d', (framework, count) => {
  expect(executorRows(cluster, framework)).toHaveLength(count);
});
