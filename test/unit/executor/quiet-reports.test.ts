/** Which reports of short commands are told, with the timers of the test. */
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import type { UpdateDescription } from '../../../executor/index.ts';
import { quietMsOf, QuietReports } from '../../../executor/default/quiet-reports.ts';

describe('quiet reports', () => {
  let told: string[];
  let reports: QuietReports;
  const take = (taskId: string, state: UpdateDescription['state'], message?: string): void =>
    reports.take({ taskId, state, ...(message !== undefined && { message }) });

  beforeEach(() => {
    jest.useFakeTimers();
    told = [];
    reports = new QuietReports(
      ({ taskId, state, message = '' }) => told.push([taskId, state, message].join(' ').trim()),
      20,
    );
  });
  afterEach(() => {
    jest.useRealTimers();
  });

  test('tell a command that ends in time as ended only', () => {
    take('a', 'TASK_RUNNING');
    jest.advanceTimersByTime(19);
    take('a', 'TASK_FINISHED');
    jest.advanceTimersByTime(1000);
    expect(told).toEqual(['a TASK_FINISHED']);
  });

  test('tell that a longer one runs, and its end after that', () => {
    take('a', 'TASK_RUNNING');
    jest.advanceTimersByTime(20);
    take('a', 'TASK_FAILED');
    expect(told).toEqual(['a TASK_RUNNING', 'a TASK_FAILED']);
  });

  test('hold back nothing but the first word of a task', () => {
    take('a', 'TASK_RUNNING');
    take('b', 'TASK_RUNNING');
    take('a', 'TASK_RUNNING', 'healthy');
    expect(told).toEqual(['a TASK_RUNNING healthy']);
    jest.advanceTimersByTime(20);
    expect(told).toEqual(['a TASK_RUNNING healthy', 'b TASK_RUNNING']);
  });

  test('hold nothing back where nobody has asked for it', () => {
    reports = new QuietReports(({ state }) => told.push(state), 0);
    take('a', 'TASK_RUNNING');
    expect(told).toEqual(['TASK_RUNNING']);
  });
});

test.each([
  [undefined, 0],
  ['{"quietMs":20}', 20],
  ['{"quietMs":5000}', 1000],
  ['{"quietMs":-1}', 0],
  ['{"quietMs":"20"}', 0],
  ['{}', 0],
  ['null', 0],
  ['not JSON', 0],
])('executor data %s means %d ms', (data, expected) => {
  expect(quietMsOf(data === undefined ? {} : { data })).toBe(expected);
});
