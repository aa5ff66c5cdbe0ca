/** Statuses of tasks that the scheduler knows nothing of: it has been replaced, or Redis has forgotten what it took. */
import { describe, expect, test } from '@jest/globals';
import type { Job } from 'bullmq';
import type { SchedulerDriver, TaskStatus } from '../../../framework/index.ts';
import { jobDigest, taskIdOf } from '../../../schedulers/bullmq/job-ids.ts';
import { JobLife } from '../../../schedulers/bullmq/job-life.ts';
import { NO_SPEC } from '../../../schedulers/bullmq/job-spec.ts';
import { JobTasks } from '../../../schedulers/bullmq/job-tasks.ts';
import type { QueueWindow } from '../../../schedulers/bullmq/queue-window.ts';
import { silentLog } from '../../../io/log.ts';
import { agentIdOf, frameworkIdOf, launchIdOf } from '../../support/builders.ts';
import { createManualClock } from '../../support/manual-clock.ts';

const REF = { queue: 'bull:mail', jobId: '1', createdAtMs: 5 };

const JOB = { id: '1', timestamp: 5, attemptsStarted: 1, attemptsMade: 0, opts: {} };

/**
 * A queue with one job that answers each question a turn later than it was asked.
 *
 * @param toldStart the last of its starts whose end was told
 */
function queueWithJob(
  job: Partial<Job>,
  toldStart = 0,
): { window: QueueWindow; failed: string[]; told: number[] } {
  const told: number[] = [];
  const failed: string[] = [];
  const later = <T>(value: T): Promise<T> => new Promise((resolve) => setImmediate(resolve, value));
  const queue = {
    name: 'mail',
    qualifiedName: REF.queue,
    adopt: () => later('ours'),
    job: () => later(job),
    addLogs: () => later(undefined),
    toldStart: () => later(toldStart),
    noteTold: (_jobId: string, start: number) => {
      told.push(start);
      return later(undefined);
    },
    fail: (_job: Job, { message }: Error) => {
      failed.push(message);
      return later(undefined);
    },
  };
  const window = {
    queue,
    drop: () => undefined,
    add: () => undefined,
    remove: () => undefined,
    specOf: () => ({ ok: true, spec: { ...NO_SPEC, command: { argv: ['false'] } } }),
  };
  return { window: window as unknown as QueueWindow, failed, told };
}

function statusOf(state: TaskStatus['state']): TaskStatus {
  return {
    frameworkId: frameworkIdOf('f1'),
    taskId: taskIdOf(REF, 'mail', 1),
    agentId: agentIdOf('a1'),
    launchId: launchIdOf('k1'),
    source: 'SOURCE_AGENT',
    state,
    ...(state === 'TASK_FAILED' && { message: 'exited with code 9', certificate: { exitCode: 9 } }),
  };
}

function lifeOf(window: QueueWindow): { life: JobLife; tasks: JobTasks } {
  const tasks = new JobTasks();
  const life = new JobLife({
    ...{ windows: [window], tasks, frameworkId: frameworkIdOf('f1'), lostMax: 3 },
    clock: createManualClock(),
    log: silentLog,
    wakeIn: () => undefined,
  });
  return { life, tasks };
}

test('an end that comes while the job of its task is looked for is told, and acknowledged after that', async () => {
  expect(jobDigest(REF)).toBe(statusOf('TASK_RUNNING').taskId.split('.')[2]);
  const { window, failed } = queueWithJob(JOB as Partial<Job>);
  const { life, tasks } = lifeOf(window);
  const acknowledged: string[] = [];
  const driver = {
    acknowledgeStatusUpdate: ({ state }: TaskStatus) =>
      acknowledged.push(`${state} after ${String(failed.length)}`),
  } as unknown as SchedulerDriver;
  // What a scheduler hears that comes after one that was killed: that the task runs, and right after it the end.
  life.update(driver, statusOf('TASK_RUNNING'));
  life.update(driver, statusOf('TASK_FAILED'));
  await life.close();
  expect(failed).toEqual(['exited with code 9']);
  expect(acknowledged).toEqual(['TASK_RUNNING after 0', 'TASK_FAILED after 1']);
  expect(tasks.size).toBe(0);
});

describe('an end of a task that nobody knows', () => {
  const endOf = async (
    job: object,
    toldStart: number,
  ): Promise<{ failed: string[]; told: number[]; acknowledged: number }> => {
    const { window, failed, told } = queueWithJob({ ...JOB, ...job }, toldStart);
    const { life } = lifeOf(window);
    let acknowledged = 0;
    const acknowledgeStatusUpdate = (): void => void (acknowledged += 1);
    life.update({ acknowledgeStatusUpdate } as unknown as SchedulerDriver, statusOf('TASK_FAILED'));
    await life.close();
    return { failed, told, acknowledged };
  };

  test.each([
    ['whose job waits again, put back by a check for stalled ones', { attemptsStarted: 1 }],
    ['that Redis has forgotten to have been started', { attemptsStarted: 0 }],
  ])('and %s is told, and that is noted', async (_why, job) => {
    expect(await endOf(job, 0)).toEqual({
      ...{ failed: ['exited with code 9'], told: [1], acknowledged: 1 },
    });
  });

  test.each([
    ['was told before, as the job is tried again', { attemptsStarted: 1, attemptsMade: 1 }, 1],
    ['was told before, and the job runs for the second time', { attemptsStarted: 2 }, 1],
    ['was the last of its job', { attemptsStarted: 1, finishedOn: 7 }, 0],
  ])('and %s is acknowledged, and that is all', async (_why, job, toldStart) => {
    expect(await endOf(job, toldStart)).toEqual({ failed: [], told: [], acknowledged: 1 });
  });
});
