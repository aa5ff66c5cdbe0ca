import { describe, expect, test } from '@jest/globals';
import type { EndedUnit } from '../../../agent/core/verdict.ts';
import { judge, judgeLaunch } from '../../../agent/core/verdict.ts';
import { taskInfo } from '../../support/builders.ts';

const MIB = 1024 * 1024;
/** 128 MiB, 60 s. */
const task = taskInfo('t1', { maxCompletionTimeMs: 60_000 });

const ended = (result: string, certificate: EndedUnit['certificate']): EndedUnit => ({
  result,
  certificate,
});

describe('an ended task', () => {
  test.each<[string, EndedUnit, 'framework' | 'operator' | undefined, object]>([
    [
      'that exited with 0 has finished',
      ended('success', { exitCode: 0 }),
      undefined,
      { state: 'TASK_FINISHED', message: 'exited with code 0' },
    ],
    [
      'that exited with 3 has failed',
      ended('exit-code', { exitCode: 3 }),
      undefined,
      { state: 'TASK_FAILED', reason: 'REASON_COMMAND_EXITED', message: 'exited with code 3' },
    ],
    [
      'that died of a signal has failed, and the signal is named',
      ended('core-dump', { signal: 11 }),
      undefined,
      {
        state: 'TASK_FAILED',
        reason: 'REASON_COMMAND_SIGNALED',
        message: 'ended by signal 11 (SIGSEGV)',
      },
    ],
    [
      'that died of a signal without a name has its number told',
      ended('signal', { signal: 35 }),
      undefined,
      { state: 'TASK_FAILED', message: 'ended by signal 35' },
    ],
    [
      'that never began in its time to start was not started',
      ended('start-timeout', { signal: 15 }),
      undefined,
      {
        state: 'TASK_FAILED',
        reason: 'REASON_CONTAINER_LAUNCH_FAILED',
        message: 'not started: its command had not begun in the time that a start may take',
      },
    ],
    [
      'of which nothing is known has failed',
      ended('resources', {}),
      undefined,
      { state: 'TASK_FAILED', reason: 'REASON_COMMAND_EXITED', message: 'ended in an unknown way' },
    ],
    [
      'that was killed for its framework is killed',
      ended('signal', { signal: 15 }),
      'framework',
      {
        state: 'TASK_KILLED',
        reason: 'REASON_KILLED_BY_FRAMEWORK',
        message: 'killed on request of the framework: ended by signal 15 (SIGTERM)',
      },
    ],
    [
      'that was killed by an operator, and left in good order, is killed',
      ended('success', { exitCode: 0 }),
      'operator',
      {
        state: 'TASK_KILLED',
        reason: 'REASON_KILLED_BY_OPERATOR',
        message: 'killed on request of the operator: exited with code 0',
      },
    ],
    [
      'that ran too long has failed, and its limit is told',
      ended('timeout', { signal: 15 }),
      undefined,
      {
        state: 'TASK_FAILED',
        reason: 'REASON_MAX_COMPLETION_TIME_REACHED',
        message: 'ran longer than its limit of 1m',
      },
    ],
    [
      'that was killed and took too long to stop is killed',
      ended('timeout', { signal: 9 }),
      'framework',
      { state: 'TASK_KILLED' },
    ],
    [
      'that went over its memory was ended by the kernel, and not by signal 9',
      ended('oom-kill', { signal: 9, oomKills: 1, memoryPeakBytes: 128 * MIB }),
      undefined,
      {
        state: 'TASK_FAILED',
        reason: 'REASON_CONTAINER_LIMITATION_MEMORY',
        message: 'killed by the kernel: memory limit 128M, peak 128M',
      },
    ],
    [
      'whose children went over the memory is told how many',
      ended('exit-code', { exitCode: 137, oomKills: 3 }),
      undefined,
      { message: 'killed by the kernel: memory limit 128M (3 processes)' },
    ],
    [
      'that went over its memory while it was killed failed for memory',
      ended('oom-kill', { signal: 9 }),
      'framework',
      { reason: 'REASON_CONTAINER_LIMITATION_MEMORY' },
    ],
    [
      'of which the kernel killed nothing was not ended for memory',
      ended('signal', { signal: 9, oomKills: 0 }),
      undefined,
      { reason: 'REASON_COMMAND_SIGNALED' },
    ],
  ])('%s', (_title, unit, killedBy, expected) => {
    expect(judge(unit, task, killedBy)).toMatchObject(expected);
  });
});

describe('a task that its node stopped for want of contact', () => {
  const cutOff = taskInfo('t1', { whenUnreachable: { stopAfterMs: 90_000 } });

  test.each<[string, EndedUnit, string]>([
    ['ended by SIGTERM', ended('success', { signal: 15 }), 'ended by signal 15 (SIGTERM)'],
    ['left with 0', ended('success', { exitCode: 0 }), 'exited with code 0'],
    ['had to be killed', ended('timeout', { signal: 9 }), 'ended by signal 9 (SIGKILL)'],
  ])('and that %s was killed for that', (_how, unit, words) => {
    expect(judge({ ...unit, fenced: true }, cutOff, undefined)).toEqual({
      state: 'TASK_KILLED',
      reason: 'REASON_STOPPED_WHEN_UNREACHABLE',
      message: `stopped by its node after 1m30s without contact to the cluster: ${words}`,
    });
  });

  test('while it was being killed on request was killed on request', () => {
    const unit = { ...ended('success', { signal: 15 }), fenced: true };
    expect(judge(unit, cutOff, 'framework').reason).toBe('REASON_KILLED_BY_FRAMEWORK');
  });
});

test('a task without a limit of time has not reached one, however long its stop took', () => {
  expect(judge(ended('timeout', { signal: 9 }), taskInfo('t1'), undefined)).toMatchObject({
    reason: 'REASON_COMMAND_SIGNALED',
  });
});

describe('a task that was never executed', () => {
  const withCommand = taskInfo('t1', {
    command: { argv: ['serve', '-x'], environment: {}, user: 'ghost', workingDirectory: '/gone' },
  });

  test.each([
    [200, 'not started on node7: working directory /gone cannot be entered'],
    [209, 'not started on node7: the file for standard output cannot be opened'],
    [216, 'not started on node7: the group of user "ghost" does not exist there'],
    [217, 'not started on node7: user "ghost" does not exist there'],
    [255, 'not started on node7: systemd said no'],
    [undefined, 'not started on node7: systemd said no'],
  ])('because of status %s says so', (exitStatus, message) => {
    expect(judgeLaunch(withCommand, 'node7', { exitStatus, message: 'systemd said no' })).toEqual({
      state: 'TASK_FAILED',
      reason: 'REASON_CONTAINER_LAUNCH_FAILED',
      message,
    });
  });

  test('because this node will never do what it asks for is an error, not a failure', () => {
    const failure = { reason: 'REASON_TASK_INVALID', message: 'user "root" is refused' } as const;
    expect(judgeLaunch(withCommand, 'node7', failure)).toEqual({
      state: 'TASK_ERROR',
      reason: 'REASON_TASK_INVALID',
      message: 'not started on node7: user "root" is refused',
    });
  });

  test('because there is no such command has a reason of its own', () => {
    expect(judgeLaunch(withCommand, 'node7', { exitStatus: 203, message: '' }).reason).toBe(
      'REASON_COMMAND_NOT_EXECUTABLE',
    );
  });
});
