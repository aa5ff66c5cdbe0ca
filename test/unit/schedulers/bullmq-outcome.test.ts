import { describe, expect, test } from '@jest/globals';
import type { TaskReason, TaskState, TaskStatus } from '../../../framework/index.ts';
import { cancelled, outcomeOf } from '../../../schedulers/bullmq/core/outcome.ts';

const statusOf = (state: TaskState, reason?: TaskReason, message = 'words'): TaskStatus =>
  ({ taskId: 'q.1.abc.1', state, message, ...(reason && { reason }) }) as unknown as TaskStatus;
const kindOf = (state: TaskState, reason?: TaskReason, cancelReason?: string): string =>
  outcomeOf(statusOf(state, reason), cancelReason).kind;

describe('a task that has ended', () => {
  test('well is done', () => {
    expect(outcomeOf(statusOf('TASK_FINISHED'), undefined)).toEqual({ kind: 'done' });
  });

  test('by its own fault is an attempt that has failed, with its words', () => {
    expect(outcomeOf(statusOf('TASK_FAILED'), undefined)).toEqual({
      ...{ kind: 'failed', message: 'words', isFinal: false },
    });
  });

  test.each<TaskState>(['TASK_KILLED', 'TASK_ERROR'])('as %s is not tried again', (state) => {
    expect(outcomeOf(statusOf(state), undefined)).toMatchObject({ kind: 'failed', isFinal: true });
  });

  test.each<TaskState>(['TASK_LOST', 'TASK_DROPPED', 'TASK_GONE', 'TASK_GONE_BY_OPERATOR'])(
    'as %s is lost',
    (state) => {
      expect(outcomeOf(statusOf(state), undefined)).toEqual({ kind: 'lost', message: 'words' });
    },
  );

  test('because it had to make room is tried again, unless it was to be cancelled', () => {
    expect(outcomeOf(statusOf('TASK_KILLED', 'REASON_PREEMPTED'), undefined)).toEqual({
      ...{ kind: 'preempted', message: 'words' },
    });
    expect(kindOf('TASK_KILLED', 'REASON_PREEMPTED', 'stop it')).toBe('failed');
    expect(kindOf('TASK_FINISHED', 'REASON_PREEMPTED')).toBe('done');
  });

  test('because its node was cut off is lost, though it was killed', () => {
    expect(kindOf('TASK_KILLED', 'REASON_STOPPED_WHEN_UNREACHABLE')).toBe('lost');
    expect(kindOf('TASK_FAILED', 'REASON_STOPPED_WHEN_UNREACHABLE')).toBe('lost');
  });

  test('and says nothing is told by its reason, or its state', () => {
    const { message: _none, ...silent } = statusOf(
      'TASK_FAILED',
      'REASON_COMMAND_EXECUTOR_FAILED' as TaskReason,
    );
    expect(outcomeOf(silent as TaskStatus, undefined)).toMatchObject({
      message: 'REASON_COMMAND_EXECUTOR_FAILED',
    });
    const { reason: _neither, ...mute } = silent;
    expect(outcomeOf(mute as TaskStatus, undefined)).toMatchObject({ message: 'TASK_FAILED' });
  });
});

describe('a task that was never started', () => {
  test.each<TaskReason>(['REASON_INVALID_OFFERS', 'REASON_RESOURCES_EXCEED_OFFER'])(
    'for %s is launched again at once',
    (reason) => {
      expect(outcomeOf(statusOf('TASK_LOST', reason), undefined)).toMatchObject({
        ...{ kind: 'again', afterMs: 0 },
      });
    },
  );

  test('because another one of its name still runs is launched again later', () => {
    expect(outcomeOf(statusOf('TASK_LOST', 'REASON_TASK_EXCLUSIVE'), undefined)).toMatchObject({
      ...{ kind: 'again', afterMs: 2000 },
    });
  });

  test('because it runs already, does', () => {
    expect(kindOf('TASK_LOST', 'REASON_TASK_DUPLICATE')).toBe('running');
    expect(kindOf('TASK_LOST', 'REASON_TASK_DUPLICATE', 'stop it')).toBe('running');
  });

  test('and that nobody knows is launched again', () => {
    expect(kindOf('TASK_UNKNOWN')).toBe('again');
  });
});

describe('a cancelled job', () => {
  test.each<[TaskState, TaskReason | undefined]>([
    ['TASK_KILLED', undefined],
    ['TASK_FAILED', undefined],
    ['TASK_LOST', undefined],
    ['TASK_LOST', 'REASON_INVALID_OFFERS'],
    ['TASK_UNKNOWN', undefined],
  ])('has failed for good with the words of whoever wanted it, also as %s %s', (state, reason) => {
    expect(outcomeOf(statusOf(state, reason), 'no longer needed')).toEqual({
      ...{ kind: 'failed', message: 'cancelled: no longer needed', isFinal: true },
    });
  });

  test('that has finished meanwhile is done', () => {
    expect(kindOf('TASK_FINISHED', undefined, 'too late')).toBe('done');
  });

  test('without a reason says cancelled', () => {
    expect(cancelled('').message).toBe('cancelled');
  });
});
