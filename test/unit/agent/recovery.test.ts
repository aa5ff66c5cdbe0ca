import { describe, expect, test } from '@jest/globals';
import { judgeAbsentUnit, judgeFoundUnit, recoveredEntry } from '../../../agent/core/recovery.ts';
import { taskKey } from '../../../protocol/ids.ts';
import type { LaunchId } from '../../../protocol/ids.ts';
import {
  agentIdOf,
  frameworkIdOf,
  frameworkInfo,
  taskIdOf,
  taskInfo,
  taskStatus,
} from '../../support/builders.ts';
import { agentWithRunning, createAgentBench } from '../../support/agent-bench.ts';

const LAUNCH = {
  key: taskKey(frameworkIdOf('f1'), taskIdOf('t1')),
  launchId: '1.1.1' as LaunchId,
};

describe('a checkpoint without an end whose unit is not there', () => {
  test.each([
    [
      'after a reboot',
      { sameBoot: false, wasExecuted: true },
      'the node was rebooted while the task was on it',
    ],
    [
      "after an end of its user's systemd",
      { sameBoot: false, wasExecuted: true, isOfUser: true },
      "its user's systemd ended (without lingering: with the last session), or the node was rebooted, while the task was on it",
    ],
    [
      'whose command ran',
      { sameBoot: true, wasExecuted: true },
      'its unit vanished while no agent was running',
    ],
  ])('%s is lost', (_when, found, message) => {
    expect(judgeAbsentUnit(LAUNCH, found)).toEqual({ type: 'unit.lost', ...LAUNCH, message });
  });

  test('and whose command never ran is started', () => {
    expect(judgeAbsentUnit(LAUNCH, { sameBoot: true, wasExecuted: false })).toBeUndefined();
  });
});

test('a kill that was asked for before goes on, and is overdue if its time is not known', () => {
  const remembered = {
    framework: frameworkInfo('f1'),
    detached: false,
    task: taskInfo('t1'),
    launchId: LAUNCH.launchId,
    unit: 'kaon-a1-t1-l1.service',
    kill: 'operator' as const,
  };
  expect(recoveredEntry(remembered).kill).toEqual({ by: 'operator', deadlineMs: 0 });
  const dated = recoveredEntry({ ...remembered, killAtMs: 700 });
  expect(dated.kill).toEqual({ by: 'operator', deadlineMs: 700 });
});

describe('a unit that no checkpoint speaks of', () => {
  const found = {
    cluster: 'c1',
    agentId: agentIdOf('a1'),
    framework: frameworkInfo('f1'),
    detached: true,
    task: taskInfo('t1'),
    launchId: LAUNCH.launchId,
    unit: 'kaon-a1-t1-1.1.1.service',
  };

  test('is a task again, as it says', () => {
    const verdict = judgeFoundUnit(createAgentBench().state, 'c1', found);
    expect(verdict).toMatchObject({
      action: 'adopt',
      entry: { ...LAUNCH, detached: true, unit: found.unit, started: false },
    });
  });

  test.each([
    ['another agent', { agentId: agentIdOf('a2') }, 'it belongs to agent a2 of cluster c1'],
    ['another cluster', { cluster: 'c2' }, 'it belongs to agent a1 of cluster c2'],
  ])('of %s is left alone for good', (_whose, more, why) => {
    const verdict = judgeFoundUnit(createAgentBench().state, 'c1', { ...found, ...more });
    expect(verdict).toEqual({ action: 'leave', why, isFinal: true });
  });

  test('is left alone while another launch of its task is there', () => {
    const { state } = agentWithRunning();
    const verdict = judgeFoundUnit(state, 'c1', found);
    expect(verdict).toMatchObject({ action: 'leave', isFinal: false });
  });

  test('is released if its end is known', () => {
    const { state } = createAgentBench();
    const status = taskStatus('f1', 't1', 'TASK_FINISHED');
    state.ended.set(LAUNCH.launchId, { status, acknowledgedAtMs: 0 });
    expect(judgeFoundUnit(state, 'c1', found).action).toBe('release');
  });
});
