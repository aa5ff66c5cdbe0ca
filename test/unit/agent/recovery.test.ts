import { describe, expect, test } from '@jest/globals';
import { judgeAbsentUnit, recoveredEntry } from '../../../agent/core/recovery.ts';
import { taskKey } from '../../../protocol/ids.ts';
import { frameworkIdOf, taskIdOf, taskInfo } from '../../support/builders.ts';

const KEY = taskKey(frameworkIdOf('f1'), taskIdOf('t1'));

describe('a checkpoint without an end whose unit is not there', () => {
  test.each([
    [
      'after a reboot',
      { sameBoot: false, wasExecuted: true },
      'the node was rebooted while the task was on it',
    ],
    [
      'whose command ran',
      { sameBoot: true, wasExecuted: true },
      'its unit vanished while no agent was running',
    ],
  ])('%s is lost', (_when, found, message) => {
    expect(judgeAbsentUnit(KEY, found)).toEqual({ type: 'unit.lost', key: KEY, message });
  });

  test('and whose command never ran is started', () => {
    expect(judgeAbsentUnit(KEY, { sameBoot: true, wasExecuted: false })).toBeUndefined();
  });
});

test('a kill that was asked for before is overdue', () => {
  const remembered = {
    frameworkId: frameworkIdOf('f1'),
    frameworkName: 'run',
    task: taskInfo('t1'),
    launchId: 'l1',
    unit: 'kaon-a1-t1-l1.service',
    kill: 'operator' as const,
  };
  expect(recoveredEntry(remembered).kill).toEqual({ by: 'operator', deadlineMs: 0 });
});
