import { beforeEach, describe, expect, test } from '@jest/globals';
import type { Ledger } from '../../../executor/core/ledger.ts';
import {
  acknowledge,
  createLedger,
  isLive,
  rememberOn,
  takeLaunch,
  takeUpdate,
  unsaidOn,
} from '../../../executor/core/ledger.ts';
import { isEnd, isExecutorState } from '../../../executor/core/states.ts';
import { ExecutorTaskState, ExecutorUpdate } from '../../../protocol/executor-messages.ts';
import { isTerminal, TaskState } from '../../../protocol/task-state.ts';
import { launchIdOf } from '../../support/builders.ts';
import { launchedTask } from '../../support/fake-agent-socket.ts';

let ledger: Ledger;

beforeEach(() => {
  ledger = createLedger();
  takeLaunch(ledger, launchedTask('t1'));
});

/** Says it on connection 1, and returns the update's id. */
function say(taskId: string, state: ExecutorTaskState): string {
  const taken = takeUpdate(ledger, { taskId, state }, 1);
  if (!taken.ok || !taken.update) throw new Error('not taken');
  return taken.update.updateId;
}

describe('a launch', () => {
  test('is taken once', () => {
    expect(takeLaunch(ledger, launchedTask('t1'))).toBe(false);
    expect(takeLaunch(ledger, launchedTask('t1', { launchId: 'another' }))).toBe(true);
  });

  test('lives until something is said of its end', () => {
    say('t1', 'TASK_RUNNING');
    expect(isLive(ledger, launchIdOf('launch-of-t1'))).toBe(true);
    say('t1', 'TASK_FINISHED');
    expect(isLive(ledger, launchIdOf('launch-of-t1'))).toBe(false);
    expect(isLive(ledger, launchIdOf('never-heard-of'))).toBe(false);
  });

  test('is remembered until its end has been acknowledged, and known after that', () => {
    const running = say('t1', 'TASK_RUNNING');
    const finished = say('t1', 'TASK_FINISHED');
    acknowledge(ledger, running);
    expect(rememberOn(ledger, 2).tasks).toHaveLength(1);
    acknowledge(ledger, finished);
    expect(rememberOn(ledger, 3)).toEqual({ tasks: [], updates: [] });
    expect(takeLaunch(ledger, launchedTask('t1'))).toBe(false);
  });

  test('is forgotten in the end, so that memory has a bound', () => {
    for (let index = 0; index <= 10_000; index += 1) {
      const taskId = `n${String(index)}`;
      takeLaunch(ledger, launchedTask(taskId));
      acknowledge(ledger, say(taskId, 'TASK_FINISHED'));
    }
    expect(ledger.ended.size).toBe(10_000);
    expect(takeLaunch(ledger, launchedTask('n0'))).toBe(true);
    expect(takeLaunch(ledger, launchedTask('n1'))).toBe(false);
  });
});

describe('an update', () => {
  test('fits the schema of the protocol', () => {
    const taken = takeUpdate(
      ledger,
      { taskId: 't1', state: 'TASK_FAILED', exitCode: 3, startedAtMs: 5, message: 'why' },
      0,
    );
    expect(taken.ok && ExecutorUpdate.parse(taken.update)).toMatchObject({ exitCode: 3 });
  });

  test('names the newest launch of its task, unless it names one', () => {
    takeLaunch(ledger, launchedTask('t1', { launchId: 'second' }));
    expect(takeUpdate(ledger, { taskId: 't1', state: 'TASK_RUNNING' }, 1)).toMatchObject({
      update: { launchId: 'second' },
    });
    const first = { taskId: 't1', launchId: 'launch-of-t1', state: 'TASK_KILLED' } as const;
    expect(takeUpdate(ledger, first, 1)).toMatchObject({ update: { launchId: 'launch-of-t1' } });
    expect(isLive(ledger, launchIdOf('second'))).toBe(true);
  });

  test('is owed until it is acknowledged, and said once on each connection', () => {
    const first = say('t1', 'TASK_RUNNING');
    expect(unsaidOn(ledger, 1)).toEqual([]);
    expect(unsaidOn(ledger, 2)).toMatchObject([{ updateId: first }]);
    expect(unsaidOn(ledger, 2)).toEqual([]);
    acknowledge(ledger, first);
    expect(unsaidOn(ledger, 3)).toEqual([]);
  });

  test('after the end of its task is taken for nothing, acknowledged or not', () => {
    const end = say('t1', 'TASK_FINISHED');
    const late = { taskId: 't1', state: 'TASK_KILLED' } as const;
    expect(takeUpdate(ledger, late, 1)).toEqual({ ok: true, update: undefined });
    acknowledge(ledger, end);
    expect(takeUpdate(ledger, late, 1)).toEqual({ ok: true, update: undefined });
    const named = { ...late, launchId: 'launch-of-t1' };
    expect(takeUpdate(ledger, named, 1)).toEqual({ ok: true, update: undefined });
  });

  test.each([
    ['of an unknown task', { taskId: 't9', state: 'TASK_RUNNING' as const }, 'unknown-task'],
    [
      'of a launch of another task',
      { taskId: 't9', launchId: 'launch-of-t1', state: 'TASK_RUNNING' as const },
      'unknown-task',
    ],
    ['without a state', { taskId: 't1', state: undefined as never }, 'state-not-allowed'],
    [
      'with an exit code of no process',
      { taskId: 't1', state: 'TASK_FAILED' as const, exitCode: 256 },
      'update-invalid',
    ],
    [
      'with half a signal',
      { taskId: 't1', state: 'TASK_FAILED' as const, signal: 1.5 },
      'update-invalid',
    ],
    [
      'with a time before 1970',
      { taskId: 't1', state: 'TASK_FAILED' as const, endedAtMs: -1 },
      'update-invalid',
    ],
    [
      'with data that is no text',
      { taskId: 't1', state: 'TASK_FAILED' as const, data: {} as never },
      'update-invalid',
    ],
  ])('%s is refused', (_what, description, code) => {
    expect(takeUpdate(ledger, description, 1)).toMatchObject({ ok: false, code });
    expect(ledger.owed.size).toBe(0);
  });
});

describe('the states of an executor', () => {
  test.each(TaskState.options)('and %s are as the protocol says', (state) => {
    const isAllowed = ExecutorTaskState.safeParse(state).success;
    expect(isExecutorState(state)).toBe(isAllowed);
    if (isExecutorState(state)) expect(isEnd(state)).toBe(isTerminal(state));
  });

  test('a registration repeats no more than a line holds: the rest follows, and of tasks not what they were to do', () => {
    ledger = createLedger();
    const data = 'x'.repeat(60_000);
    takeLaunch(ledger, { ...launchedTask('t1'), task: { ...launchedTask('t1').task, data } });
    for (let index = 0; index < 40; index += 1) {
      takeUpdate(ledger, { taskId: 't1', state: 'TASK_RUNNING', data }, 1);
    }
    const { tasks, updates } = rememberOn(ledger, 2);
    expect(JSON.stringify({ tasks, updates }).length).toBeLessThan(1_100_000);
    expect(tasks).toMatchObject([{ task: { taskId: 't1', uris: [] } }]);
    expect([...updates, ...unsaidOn(ledger, 2)].map(({ updateId }) => updateId)).toEqual(
      Array.from({ length: 40 }, (_, index) => `u${String(index + 1)}`),
    );
  });
});
