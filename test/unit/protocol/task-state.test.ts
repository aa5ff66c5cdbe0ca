import { describe, expect, test } from '@jest/globals';
import type { TaskState } from '../../../protocol/task-state.ts';
import { isTerminal, mayBecome, TaskState as taskStates } from '../../../protocol/task-state.ts';

const STATES: readonly TaskState[] = taskStates.options;

describe('a task', () => {
  test('goes from staging over running and killing to an end', () => {
    const way: TaskState[] = [
      'TASK_STAGING',
      'TASK_STARTING',
      'TASK_RUNNING',
      'TASK_KILLING',
      'TASK_KILLED',
    ];
    const steps = way.slice(1).map((to, index) => mayBecome(way[index] ?? 'TASK_UNKNOWN', to));
    expect(steps).toEqual([true, true, true, true]);
  });

  test.each<[TaskState, TaskState]>([
    ['TASK_RUNNING', 'TASK_STARTING'],
    ['TASK_RUNNING', 'TASK_STAGING'],
    ['TASK_KILLING', 'TASK_RUNNING'],
  ])('does not go back from %s to %s', (from, to) => {
    expect(mayBecome(from, to)).toBe(false);
  });

  test('may repeat its state while it lives, because an update is delivered at least once', () => {
    const living = STATES.filter((state) => !isTerminal(state));
    expect(living.filter((state) => !mayBecome(state, state))).toEqual([]);
  });

  test('may end at any time', () => {
    const living = STATES.filter((state) => !isTerminal(state));
    expect(living.filter((state) => !mayBecome(state, 'TASK_LOST'))).toEqual([]);
  });

  test('may come back from unreachable', () => {
    expect(mayBecome('TASK_UNREACHABLE', 'TASK_RUNNING')).toBe(true);
  });

  test('never leaves a terminal state, not even for the same', () => {
    const left = STATES.filter(isTerminal).flatMap((from) =>
      STATES.filter((to) => mayBecome(from, to)),
    );
    expect(left).toEqual([]);
  });
});
