import { expect, test } from '@jest/globals';
import { plain } from '../../../cli/style.ts';
import { describeTask } from '../../../cli/task-block.ts';
import { viewOfLive } from '../../../cli/task-view.ts';
import type { AgentRecord, ExecutorRecord, TaskRecord } from '../../../protocol/records.ts';
import { agentIdOf, agentInfo, amount, frameworkIdOf } from '../../support/builders.ts';
import { executorIdOf, executorInfo } from '../../support/builders.ts';
import { launchIdOf, sessionOf, taskIdOf, taskInfo } from '../../support/builders.ts';

const agent: AgentRecord = {
  info: agentInfo('a1'),
  newestSession: sessionOf('s1'),
  node: 'n1',
  state: 'unreachable',
  registeredAtMs: 0,
  awaySinceMs: 60_000,
  writtenOff: [],
};

function lines(more: Partial<TaskRecord>, executor?: ExecutorRecord): string[] {
  const record: TaskRecord = {
    frameworkId: frameworkIdOf('f1'),
    taskId: taskIdOf('t1'),
    launchId: launchIdOf('1.t.1'),
    agentId: agentIdOf('a1'),
    name: 't1',
    resources: amount(1, 128),
    state: 'TASK_UNREACHABLE',
    launchedAtMs: 0,
    updatedAtMs: 60_000,
    unheard: false,
    unacknowledged: [],
    ...more,
  };
  const facts = { view: viewOfLive(record, []), agent, executor, nowMs: 90_000, events: [] };
  return describeTask(facts, plain).split('\n');
}

test('a task whose node is cut off says for how long, and that it goes on if the node lives', () => {
  const text = lines({ info: taskInfo('t1') });
  expect(text).toContain('agent       a1 (node-of-a1, unreachable for 30s)');
  expect(text.find((line) => line.startsWith('note'))).toMatch(
    /^note {8}unreachable since .*, for 30s$/,
  );
  expect(text).toEqual(
    expect.arrayContaining([
      '            it goes on if its node lives, and is running again when the agent is back',
      '            if the node will not come back: kaon gone a1',
    ]),
  );
  expect(text.filter((line) => /^(if cut off|exclusive)/.test(line))).toEqual([]);
});

test('a task that its node stops says by when, also if only its agent knows of the promise', () => {
  const whenUnreachable = { stopAfterMs: 60_000 };
  const { killGracePeriodMs } = taskInfo('t1');
  const rules = { whenUnreachable, exclusive: true, killGracePeriodMs };
  const text = lines({ rules, stoppedByMs: 120_000 }).join('\n');
  expect(text).toMatch(/its node has stopped it by .*, in 30s; then it has ended as TASK_GONE/);
  expect(text).toContain('if cut off  its node stops it after 1m without contact');
  expect(text).toContain('exclusive   not while another of its name may run');
});

test('a task of an executor says which, and what that has for itself', () => {
  const executorId = executorIdOf('e1');
  const executor: ExecutorRecord = {
    agentId: agentIdOf('a1'),
    frameworkId: frameworkIdOf('f1'),
    launchId: launchIdOf('1.t.0'),
    info: executorInfo('e1'),
    launchedAtMs: 0,
  };
  expect(lines({ executorId }, executor)).toContain('executor    e1 (0.1 cpus, 32M of its own)');
  expect(lines({ executorId })).toContain('executor    e1 (not there any more)');
});

test('a task that is being resized says to what, and who wants it', () => {
  const resize = { resizeId: sessionOf('r1'), by: 'operator' as const, resources: amount(2, 256) };
  expect(lines({ state: 'TASK_RUNNING', resize })).toContain(
    'note        operator wants 2 cpus, 256M for it; its agent has not answered yet',
  );
});
