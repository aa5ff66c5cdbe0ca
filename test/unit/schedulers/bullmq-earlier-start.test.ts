/** Jobs that are taken although an earlier start of them may live, because somebody has taken them for stalled. */
import { beforeEach, expect, test } from '@jest/globals';
import type { Job } from 'bullmq';
import type { Offer, SchedulerDriver, TaskStatus } from '../../../framework/index.ts';
import type { QueueState } from '../../../schedulers/bullmq/core/selection.ts';
import { JobLife } from '../../../schedulers/bullmq/job-life.ts';
import { NO_SPEC } from '../../../schedulers/bullmq/job-spec.ts';
import { JobTasks } from '../../../schedulers/bullmq/job-tasks.ts';
import { Placing } from '../../../schedulers/bullmq/placing.ts';
import type { QueueWindow } from '../../../schedulers/bullmq/queue-window.ts';
import { silentLog } from '../../../io/log.ts';
import { NO_RESOURCES } from '../../../protocol/resources.ts';
import { frameworkIdOf } from '../../support/builders.ts';
import { createManualClock } from '../../support/manual-clock.ts';

const RESOURCES = { cpuMillis: 100, memMib: 32 };
const SPEC = { ...NO_SPEC, resources: RESOURCES, command: { argv: ['true'] } };
const OFFER = {
  offerId: 'o1',
  agentId: 'a1',
  hostname: 'node-1',
  resources: { cpuMillis: 4000, memMib: 4096 },
  attributes: {},
  executorIds: [],
} as unknown as Offer;

let asked: string[];
let launched: string[];
let tasks: JobTasks;
let driver: SchedulerDriver;

beforeEach(() => {
  asked = [];
  launched = [];
  tasks = new JobTasks();
  driver = {
    frameworkId: frameworkIdOf('f1'),
    reconcileTasks: (ids: string[]) => asked.push(...ids.map(startOf)),
    launchTasks: (_offerIds: string[], list: { taskId: string }[]) =>
      launched.push(...list.map(({ taskId }) => startOf(taskId))),
    declineOffer: () => undefined,
    acknowledgeStatusUpdate: () => undefined,
  } as unknown as SchedulerDriver;
});

function startOf(taskId: string): string {
  return taskId.split('.').at(-1) ?? '';
}

/** A queue whose one job has been started before, and is taken now. */
function windowOf(job: { readonly attemptsStarted: number }, toldStart: number): QueueWindow {
  const candidate = { jobId: '1', resources: RESOURCES, attributes: {}, group: '', priority: 0 };
  const state = (): QueueState => ({
    ...{ name: 'mail', weight: 1, room: 10, held: NO_RESOURCES, quota: undefined },
    ...{ groupLimit: undefined, candidates: [candidate], running: new Map() },
    turns: { count: 0, of: new Map() },
  });
  const taken = { id: '1', timestamp: 5, attemptsMade: 0, opts: {}, ...job } as unknown as Job;
  const queue = {
    name: 'mail',
    qualifiedName: 'bull:mail',
    toldStart: () => Promise.resolve(toldStart),
  };
  return {
    ...{ queue, settings: { name: 'mail' }, state, candidate: () => candidate },
    ...{ take: () => Promise.resolve([taken]), specOf: () => ({ ok: true, spec: SPEC }) },
    ...{ add: () => undefined, remove: () => undefined },
  } as unknown as QueueWindow;
}

/** Takes the job of the window on an offer. */
async function place(window: QueueWindow): Promise<JobLife> {
  const clock = createManualClock();
  const common = { windows: [window], tasks, clock, log: silentLog };
  const life = new JobLife({
    ...{ ...common, frameworkId: frameworkIdOf('f1'), lostMax: 3 },
    wakeIn: () => undefined,
  });
  const placing = new Placing({
    ...common,
    rules: () => ({ nowMs: 0, patienceMs: 1000, isPlaceable: () => true }),
    reject: () => undefined,
    removed: () => undefined,
    hasMoved: () => false,
    onLaunched: () => undefined,
  });
  placing.addOffers([OFFER]);
  await placing.place(driver);
  return life;
}

function statusOf(start: number, state: TaskStatus['state']): TaskStatus {
  const known = [...tasks.values()].find((task) => task.start === start);
  return { taskId: known?.taskId, agentId: 'a1', state } as unknown as TaskStatus;
}

function phases(): string[] {
  return [...tasks.values()].map(({ start, phase }) => `${String(start)} ${phase}`);
}

test('a start whose predecessor was told is launched', async () => {
  await place(windowOf({ attemptsStarted: 2 }, 1));
  expect({ asked, launched }).toEqual({ asked: [], launched: ['2'] });
});

test('a first start has no predecessor', async () => {
  await place(windowOf({ attemptsStarted: 1 }, 0));
  expect({ asked, launched }).toEqual({ asked: [], launched: ['1'] });
});

test('of a start whose predecessor was not told the predecessor is asked for, and nothing is launched', async () => {
  await place(windowOf({ attemptsStarted: 2 }, 0));
  expect({ asked, launched }).toEqual({ asked: ['1'], launched: [] });
  expect(phases()).toEqual(['1 recovering']);
});

test('if the predecessor lives the job goes on with it', async () => {
  const life = await place(windowOf({ attemptsStarted: 2 }, 0));
  life.update(driver, statusOf(1, 'TASK_RUNNING'));
  await life.close();
  expect(phases()).toEqual(['1 launched']);
  expect(launched).toEqual([]);
});

test('if nobody knows the predecessor the job waits for a place with its own start', async () => {
  const life = await place(windowOf({ attemptsStarted: 2 }, 0));
  life.update(driver, statusOf(1, 'TASK_UNKNOWN'));
  await new Promise((resolve) => setImmediate(resolve));
  expect(phases()).toEqual(['2 held']);
});
