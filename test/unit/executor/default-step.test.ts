/** What the default executor decides, without a process. */
import { beforeEach, describe, expect, test } from '@jest/globals';
import type { TasksState } from '../../../executor/default/core/state.ts';
import { createTasksState } from '../../../executor/default/core/state.ts';
import type { TaskEffect, TaskEvent } from '../../../executor/default/core/step.ts';
import { step } from '../../../executor/default/core/step.ts';
import { HealthCheck } from '../../../protocol/command.ts';
import type { LaunchedTask } from '../../../protocol/executor-messages.ts';
import type { TaskInfo } from '../../../protocol/task.ts';
import { launchedTask } from '../../support/fake-agent-socket.ts';

let state: TasksState;
let nowMs: number;

beforeEach(() => {
  state = createTasksState();
  nowMs = 1000;
});

function task(taskId: string, more: Partial<TaskInfo> & { launchId?: string } = {}): LaunchedTask {
  const command = { argv: ['sleep', '9'], environment: {} };
  const sandbox = { work: '/w', stdout: '/w/out', stderr: '/w/err' };
  return { ...launchedTask(taskId, { command, ...more }), sandbox };
}

const refOf = ({ task: { taskId }, launchId }: LaunchedTask) => ({ taskId, launchId });

/** Effects in short: `spawn t1`, `t1 TASK_RUNNING`, `signal t1 15`, `alarm t1 1500`. */
function happen(event: TaskEvent): string[] {
  return step(state, event, nowMs).map(short);
}

function short(effect: TaskEffect): string {
  switch (effect.type) {
    case 'spawn':
      return `spawn ${effect.launched.task.taskId}`;
    case 'signal':
      return `signal ${effect.taskId} ${String(effect.signal)}`;
    case 'alarm':
      return `alarm ${effect.taskId} ${String(effect.atMs)}`;
    case 'update': {
      const { taskId, state: reported, reason, healthy } = effect.update;
      return [taskId, reported, reason, healthy].filter((part) => part !== undefined).join(' ');
    }
    default:
      return `${effect.type} ${effect.taskId}`;
  }
}

/** Launches tasks, together or alone, and lets them run. */
function start(tasks: readonly LaunchedTask[], isGroup = false): string[] {
  const effects = happen({ type: 'launch', tasks, isGroup });
  const started = tasks.flatMap((one) => happen({ type: 'spawned', ...refOf(one), wallMs: 7 }));
  return [...effects, ...started];
}

const exited = (one: LaunchedTask, exitCode: number): TaskEvent => ({
  type: 'exited',
  ...refOf(one),
  exit: { exitCode },
  wallMs: 9,
});
const kill = (taskId: string, gracePeriodMs: number): TaskEvent => ({
  type: 'kill',
  taskId: taskId as never,
  gracePeriodMs,
});
const alarm = (one: LaunchedTask): TaskEvent => ({ type: 'alarm', ...refOf(one) });

const [t1, t2, t3] = [task('t1'), task('t2'), task('t3')];

describe('a task', () => {
  test('without limits needs no alarm', () => {
    expect(start([t1])).toEqual(['spawn t1', 't1 TASK_RUNNING']);
    expect(happen(exited(t1, 0))).toEqual(['t1 TASK_FINISHED', 'forget t1']);
    expect(state.tasks.size).toBe(0);
  });

  test('that runs already is not launched again under another launch', () => {
    start([t1]);
    const again = task('t1', { launchId: 'second' });
    expect(happen({ type: 'launch', tasks: [again], isGroup: false })).toEqual([
      't1 TASK_ERROR REASON_TASK_DUPLICATE',
      'forget t1',
    ]);
    expect(happen(exited(t1, 0))).toContain('t1 TASK_FINISHED');
  });

  test('is not touched by what happens to another launch of it', () => {
    start([t1]);
    const old = task('t1', { launchId: 'old' });
    expect(happen(exited(old, 1))).toEqual([]);
    expect(happen(alarm(old))).toEqual([]);
  });

  test('is not launched while the executor is shut down', () => {
    happen({ type: 'shutdown', gracePeriodMs: 100 });
    expect(start([t1])).toEqual(['t1 TASK_KILLED REASON_EXECUTOR_TERMINATED', 'forget t1']);
  });
});

describe('a kill', () => {
  test('is SIGTERM, after the grace period SIGKILL, and that again and again', () => {
    start([t1]);
    expect(happen(kill('t1', 500))).toEqual(['t1 TASK_KILLING', 'signal t1 15', 'alarm t1 1500']);
    nowMs = 1500;
    expect(happen(alarm(t1))).toEqual(['signal t1 9', 'alarm t1 2500']);
    nowMs = 2500;
    expect(happen(alarm(t1))).toEqual(['signal t1 9', 'alarm t1 3500']);
  });

  test('without a grace period is SIGKILL at once', () => {
    start([t1]);
    expect(happen(kill('t1', 0)).slice(1, 3)).toEqual(['signal t1 15', 'signal t1 9']);
  });

  test('that comes again shortens the grace period and never prolongs it', () => {
    start([t1]);
    happen(kill('t1', 500));
    expect(happen(kill('t1', 5000))).toEqual([]);
    expect(happen(kill('t1', 100))).toEqual(['alarm t1 1100']);
    expect(happen(kill('t1', 0))).toEqual(['signal t1 9', 'alarm t1 2000']);
  });

  test('of a task whose process is being made waits for it', () => {
    happen({ type: 'launch', tasks: [t1], isGroup: false });
    expect(happen(kill('t1', 500))).toEqual(['alarm t1 1500']);
    expect(happen({ type: 'spawned', ...refOf(t1), wallMs: 7 })).toEqual([
      't1 TASK_RUNNING',
      't1 TASK_KILLING',
      'signal t1 15',
    ]);
  });

  test('of nobody does nothing', () => {
    expect(happen(kill('t9', 500))).toEqual([]);
  });

  test('makes a task killed, however its command leaves', () => {
    start([t1]);
    happen(kill('t1', 500));
    expect(happen(exited(t1, 0))).toEqual([
      't1 TASK_KILLED REASON_KILLED_BY_FRAMEWORK',
      'forget t1',
    ]);
  });
});

describe('a group', () => {
  test('starts together', () => {
    const launch = { type: 'launch', tasks: [t1, t2], isGroup: true } as const;
    expect(happen(launch)).toEqual(['spawn t1', 'spawn t2']);
  });

  test('of which one cannot be run is not started at all', () => {
    const bad = launchedTask('t2');
    expect(happen({ type: 'launch', tasks: [t1, bad, t3], isGroup: true })).toEqual([
      't2 TASK_ERROR REASON_TASK_INVALID',
      'forget t2',
      't1 TASK_KILLED REASON_TASK_GROUP_FAILED',
      'forget t1',
      't3 TASK_KILLED REASON_TASK_GROUP_FAILED',
      'forget t3',
    ]);
    expect(state.tasks.size).toBe(0);
  });

  test('ends with the first one that fails, and says which', () => {
    start([t1, t2, t3], true);
    happen(exited(t1, 0));
    const effects = step(state, exited(t2, 3), nowMs);
    expect(effects.map(short)).toEqual([
      't2 TASK_FAILED REASON_COMMAND_EXITED',
      'forget t2',
      't3 TASK_KILLING',
      'signal t3 15',
      'alarm t3 6000',
    ]);
    const [end] = step(state, exited(t3, 0), nowMs);
    expect(end).toMatchObject({
      update: {
        message:
          'killed because task t2 of its group failed (exited with code 3): exited with code 0',
      },
    });
  });

  test('ends with one that is killed, and keeps no grace period of its own', () => {
    start([t1, t2], true);
    expect(happen(kill('t1', 300))).toEqual([
      ...['t1 TASK_KILLING', 'signal t1 15', 'alarm t1 1300'],
      ...['t2 TASK_KILLING', 'signal t2 15', 'alarm t2 1300'],
    ]);
    expect(happen(exited(t1, 1))).toEqual([
      't1 TASK_KILLED REASON_KILLED_BY_FRAMEWORK',
      'forget t1',
    ]);
    expect(happen(exited(t2, 1))).toEqual([
      't2 TASK_KILLED REASON_KILLED_BY_FRAMEWORK',
      'forget t2',
    ]);
  });

  test('is no other group', () => {
    start([t1, t2], true);
    start([t3]);
    happen(exited(t1, 1));
    expect(happen(exited(t3, 0))).toContain('t3 TASK_FINISHED');
  });
});

describe('a limit of time', () => {
  const limited = task('t1', { maxCompletionTimeMs: 400, killGracePeriodMs: 50 });

  test('ends the task when it is over', () => {
    expect(start([limited])).toEqual(['spawn t1', 't1 TASK_RUNNING', 'alarm t1 1400']);
    nowMs = 1400;
    expect(happen(alarm(limited))).toEqual(['t1 TASK_KILLING', 'signal t1 15', 'alarm t1 1450']);
    expect(happen(exited(limited, 0))).toEqual([
      't1 TASK_FAILED REASON_MAX_COMPLETION_TIME_REACHED',
      'forget t1',
    ]);
  });

  test('is not over for an alarm that is early', () => {
    start([limited]);
    nowMs = 1399;
    expect(happen(alarm(limited))).toEqual(['alarm t1 1400']);
  });

  test('fails the group at once', () => {
    start([limited, t2], true);
    nowMs = 1400;
    expect(happen(alarm(limited))).toContain('signal t2 15');
  });

  test('does not make a failure of a task that is being killed', () => {
    start([limited]);
    happen(kill('t1', 5000));
    nowMs = 1400;
    expect(happen(alarm(limited))).toEqual(['alarm t1 6000']);
  });
});

describe('health checks', () => {
  const healthCheck = HealthCheck.parse({
    check: { type: 'tcp', port: 80 },
    delayMs: 100,
    intervalMs: 1000,
    failuresMax: 2,
    gracePeriodMs: 0,
  });
  const checked = task('t1', { healthCheck });
  const result = (problem?: string): TaskEvent => ({ type: 'checked', ...refOf(checked), problem });

  test('are done after the delay, and then with the interval between them', () => {
    expect(start([checked])).toContain('alarm t1 1100');
    nowMs = 1100;
    expect(happen(alarm(checked))).toEqual(['check t1']);
    nowMs = 1150;
    expect(happen(result())).toEqual(['t1 TASK_RUNNING true', 'alarm t1 2150']);
    nowMs = 2150;
    expect(happen(alarm(checked))).toEqual(['check t1']);
    expect(happen(result())).toEqual(['alarm t1 3150']);
  });

  test('that fail too often end the task', () => {
    start([checked]);
    nowMs = 1100;
    happen(alarm(checked));
    expect(happen(result('no'))).toEqual(['t1 TASK_RUNNING false', 'alarm t1 2100']);
    nowMs = 2100;
    happen(alarm(checked));
    expect(happen(result('no'))).toEqual(['t1 TASK_KILLING', 'signal t1 15', 'alarm t1 7100']);
    expect(happen(exited(checked, 0))).toEqual([
      't1 TASK_FAILED REASON_HEALTH_CHECK_FAILED false',
      'forget t1',
    ]);
  });

  test('stop when the task is being ended', () => {
    start([checked]);
    happen(kill('t1', 5000));
    nowMs = 1100;
    expect(happen(alarm(checked))).toEqual(['alarm t1 6000']);
    expect(happen(result('no'))).toEqual([]);
  });

  test('do not put off the end of its time', () => {
    const both = task('t1', { healthCheck, maxCompletionTimeMs: 500 });
    start([both]);
    nowMs = 1100;
    expect(happen(alarm(both))).toEqual(['check t1', 'alarm t1 1500']);
    nowMs = 1500;
    expect(happen(alarm(both))).toContain('signal t1 15');
  });
});

describe('a shutdown', () => {
  test('ends everything, with SIGKILL before the time of the executor is over', () => {
    start([t1]);
    expect(happen({ type: 'shutdown', gracePeriodMs: 1000 })).toEqual([
      't1 TASK_KILLING',
      'signal t1 15',
      'alarm t1 1800',
    ]);
    expect(happen(exited(t1, 0))).toContain('t1 TASK_KILLED REASON_EXECUTOR_TERMINATED');
  });

  test('ends what is being killed sooner', () => {
    start([t1]);
    happen(kill('t1', 60_000));
    expect(happen({ type: 'shutdown', gracePeriodMs: 1000 })).toEqual(['alarm t1 1800']);
  });
});
