import { describe, expect, test } from '@jest/globals';
import type { Offer, SchedulerDriver, TaskId, TaskStatus } from '../../../framework/index.ts';
import { exitCodeOf } from '../../../schedulers/run/exit-code.ts';
import { RunScheduler } from '../../../schedulers/run/run-scheduler.ts';
import { whyWaiting } from '../../../schedulers/run/why-waiting.ts';

const HALF = { cpuMillis: 500, memMib: 64 };

/** Notes the calls that a scheduler makes, in words. */
function fakeDriver(): { driver: SchedulerDriver; calls: string[] } {
  const calls: string[] = [];
  const driver = {
    requestResources: (requests: { count: number }[]) =>
      calls.push(`request ${String(requests[0]?.count ?? 0)}`),
    launchTasks: (offerId: string, tasks: { taskId: string }[]) =>
      calls.push(`launch ${tasks.map(({ taskId }) => taskId).join(',')} on ${offerId}`),
    declineOffer: (offerId: string) => calls.push(`decline ${offerId}`),
    killTask: (taskId: string) => calls.push(`kill ${taskId}`),
    reconcileTasks: (taskIds: string[]) => calls.push(`reconcile ${taskIds.join(',')}`),
  };
  return { driver: driver as unknown as SchedulerDriver, calls };
}

function offer(offerId: string, cpuMillis: number): Offer {
  return {
    offerId,
    resources: { cpuMillis, memMib: 4096 },
    agentId: 'a1',
    hostname: 'node-1',
  } as unknown as Offer;
}

function status(taskId: string, state: TaskStatus['state'], more: object = {}): TaskStatus {
  return { taskId, state, source: 'SOURCE_AGENT', ...more } as TaskStatus;
}

function runOf(...ids: string[]): {
  scheduler: RunScheduler;
  done: () => boolean;
  running: string[];
} {
  let isDone = false;
  const running: string[] = [];
  const scheduler = new RunScheduler(
    {
      taskIds: ids as TaskId[],
      task: { name: 'x', resources: HALF, command: { argv: ['true'] } },
      attributes: {},
    },
    {
      onError: () => undefined,
      onRunning: (taskId) => running.push(taskId),
      onDone: () => {
        isDone = true;
      },
    },
  );
  return { scheduler, done: () => isDone, running };
}

describe('kaon run --distinct-hosts', () => {
  interface Asked {
    readonly count: number;
    readonly maxPerAgent?: number;
    readonly notOn?: readonly string[];
  }
  /** A run of so many instances, with what it asked for last and where it has launched what. */
  function distinct(instances: number): {
    scheduler: RunScheduler;
    driver: SchedulerDriver;
    asked: () => Asked | undefined;
    calls: string[];
  } {
    const { driver: base, calls } = fakeDriver();
    let asked: Asked | undefined;
    const requestResources = ([first]: readonly Asked[]): void => {
      asked = first;
    };
    const driver = { ...base, requestResources } as unknown as SchedulerDriver;
    const taskIds = Array.from({ length: instances }, (_none, index) => `t${String(index + 1)}`);
    const scheduler = new RunScheduler(
      {
        taskIds: taskIds as TaskId[],
        task: { name: 'x', resources: HALF, command: { argv: ['true'] } },
        attributes: {},
        distinctHosts: true,
      },
      { onError: () => undefined, onDone: () => undefined },
    );
    return { scheduler, driver, asked: () => asked, calls };
  }
  const on = (agentId: string, offerId = `of-${agentId}`): Offer =>
    ({ ...offer(offerId, 4000), agentId }) as unknown as Offer;

  test('asks for one unit on each agent, on any of them at first', () => {
    const { scheduler, driver, asked } = distinct(3);
    scheduler.registered(driver);
    expect(asked()).toMatchObject({ count: 3, maxPerAgent: 1, notOn: [] });
  });

  test('launches one on each agent, however large the offer, and asks for the rest elsewhere', () => {
    const { scheduler, driver, asked, calls } = distinct(3);
    scheduler.resourceOffers(driver, [on('a1'), on('a2')]);
    expect(calls).toEqual(['launch t1 on of-a1', 'launch t2 on of-a2']);
    expect(asked()).toMatchObject({ count: 1, notOn: ['a1', 'a2'] });
  });

  test('declines another offer of an agent that has one, in the same turn and later', () => {
    const { scheduler, driver, calls } = distinct(3);
    scheduler.resourceOffers(driver, [on('a1'), on('a1', 'more')]);
    scheduler.resourceOffers(driver, [on('a1', 'late')]);
    expect(calls).toEqual(['launch t1 on of-a1', 'decline more', 'decline late']);
  });

  test('may use an agent again when the instance there has ended, and not while it is unreachable', () => {
    const { scheduler, driver, calls, asked } = distinct(2);
    scheduler.resourceOffers(driver, [on('a1')]);
    scheduler.statusUpdate(driver, status('t1', 'TASK_UNREACHABLE'));
    scheduler.resourceOffers(driver, [on('a1', 'early')]);
    expect(asked()).toMatchObject({ count: 1, notOn: ['a1'] });
    scheduler.statusUpdate(driver, status('t1', 'TASK_FINISHED'));
    scheduler.resourceOffers(driver, [on('a1', 'late')]);
    expect(calls).toEqual(['launch t1 on of-a1', 'decline early', 'launch t2 on late']);
  });

  test('may use an agent again whose offer had gone before the launch arrived', () => {
    const { scheduler, driver, asked } = distinct(2);
    scheduler.resourceOffers(driver, [on('a1'), on('a2')]);
    expect(asked()).toBeUndefined();
    scheduler.statusUpdate(driver, status('t1', 'TASK_LOST', { reason: 'REASON_INVALID_OFFERS' }));
    expect(asked()).toMatchObject({ count: 1, notOn: ['a2'] });
  });

  test('names no more agents than a request may exclude, and declines the others itself', () => {
    const { scheduler, driver, asked, calls } = distinct(1002);
    const agents = Array.from({ length: 1001 }, (_none, index) => `n${String(index)}`);
    scheduler.resourceOffers(
      driver,
      agents.map((agentId) => on(agentId)),
    );
    expect([asked()?.count, asked()?.notOn?.length]).toEqual([1, 1000]);
    scheduler.resourceOffers(driver, [on('n1000', 'again')]);
    expect(calls.at(-1)).toBe('decline again');
  });

  test('keeps to it when it has to register again', () => {
    const { scheduler, driver, asked } = distinct(2);
    scheduler.resourceOffers(driver, [on('a1')]);
    scheduler.reregistered(driver);
    expect(asked()).toMatchObject({ count: 1, maxPerAgent: 1, notOn: ['a1'] });
  });
});

describe('the scheduler of kaon run', () => {
  test('asks for what is not placed, places as many as fit, and asks for the rest', () => {
    const { scheduler } = runOf('t1', 't2', 't3');
    const { driver, calls } = fakeDriver();
    scheduler.registered(driver);
    scheduler.resourceOffers(driver, [offer('o1', 1000)]);
    expect(calls).toEqual(['request 3', 'launch t1,t2 on o1', 'request 1']);
  });

  test('declines an offer that is too small', () => {
    const { scheduler } = runOf('t1');
    const { driver, calls } = fakeDriver();
    scheduler.resourceOffers(driver, [offer('o1', 100)]);
    expect(calls).toEqual(['decline o1', 'request 1']);
  });

  test('launches again what an offer that had gone did not take', () => {
    const { scheduler, done } = runOf('t1');
    const { driver, calls } = fakeDriver();
    scheduler.resourceOffers(driver, [offer('o1', 500)]);
    scheduler.statusUpdate(driver, status('t1', 'TASK_LOST', { reason: 'REASON_INVALID_OFFERS' }));
    expect([calls.at(-1), scheduler.waiting, done()]).toEqual(['request 1', 1, false]);
  });

  test('is done when the last instance has ended', () => {
    const { scheduler, done } = runOf('t1', 't2');
    const { driver } = fakeDriver();
    scheduler.resourceOffers(driver, [offer('o1', 1000)]);
    scheduler.statusUpdate(driver, status('t1', 'TASK_FINISHED'));
    expect(done()).toBe(false);
    scheduler.statusUpdate(driver, status('t2', 'TASK_FAILED'));
    expect(done()).toBe(true);
  });

  test('asks what became of its tasks when it had to register again', () => {
    const { scheduler } = runOf('t1', 't2');
    const { driver, calls } = fakeDriver();
    scheduler.resourceOffers(driver, [offer('o1', 500)]);
    scheduler.reregistered(driver);
    expect(calls.slice(-2)).toEqual(['request 1', 'reconcile t1']);
  });

  test('says of a task that it runs when it does, and not when the master has only launched it', () => {
    const { scheduler, running } = runOf('t1');
    const { driver } = fakeDriver();
    scheduler.resourceOffers(driver, [offer('o1', 500)]);
    scheduler.statusUpdate(driver, status('t1', 'TASK_STAGING'));
    scheduler.statusUpdate(driver, status('t1', 'TASK_UNREACHABLE'));
    expect(running).toEqual([]);
    scheduler.statusUpdate(driver, status('t1', 'TASK_RUNNING'));
    expect(running).toEqual(['t1']);
  });

  test('does not launch a task again that the master does not know: it may have run', () => {
    const { scheduler, done } = runOf('t1');
    const { driver } = fakeDriver();
    scheduler.resourceOffers(driver, [offer('o1', 500)]);
    scheduler.statusUpdate(driver, status('t1', 'TASK_UNKNOWN'));
    expect([scheduler.waiting, done()]).toEqual([0, true]);
  });

  test('kills what runs when it is cancelled, and has nothing to wait for if nothing does', () => {
    const placed = runOf('t1');
    const { driver, calls } = fakeDriver();
    placed.scheduler.resourceOffers(driver, [offer('o1', 500)]);
    expect(placed.scheduler.cancel(driver)).toBe(true);
    expect(calls.at(-1)).toBe('kill t1');
    expect(runOf('t1').scheduler.cancel(driver)).toBe(false);
  });
});

test.each([
  ['TASK_FINISHED', {}, 0],
  ['TASK_FAILED', { certificate: { exitCode: 7 } }, 7],
  ['TASK_FAILED', { certificate: { signal: 11 } }, 139],
  ['TASK_FAILED', { certificate: { exitCode: 0, oomKills: 1 } }, 1],
  ['TASK_KILLED', { certificate: { signal: 15 } }, 143],
  ['TASK_FAILED', { reason: 'REASON_MAX_COMPLETION_TIME_REACHED' }, 124],
  ['TASK_FAILED', { reason: 'REASON_CONTAINER_LAUNCH_FAILED' }, 126],
  ['TASK_FAILED', { reason: 'REASON_COMMAND_NOT_EXECUTABLE' }, 127],
  ['TASK_LOST', {}, 125],
  ['TASK_UNKNOWN', {}, 125],
] as const)('%s %j gives exit code %i', (state, more, code) => {
  expect(exitCodeOf(status('t1', state, more))).toBe(code);
});

describe('why a command waits', () => {
  const room = (hostname: string, free: number, more: object = {}) => ({
    hostname,
    active: true,
    total: { cpuMillis: 4000, memMib: 4096 },
    free: { cpuMillis: free, memMib: 4096 },
    attributes: {},
    ...more,
  });

  test.each([
    ['no agent has registered', [], {}],
    ['none of the 1 agents is reachable', [room('a', 4000, { active: false })], {}],
    ['has rack=r1', [room('a', 4000)], { rack: 'r1' }],
    ['no agent is large enough', [room('a', 4000, { total: { cpuMillis: 100, memMib: 64 } })], {}],
    ['most is free on b, 0.25 cpus', [room('a', 100), room('b', 250)], {}],
    ['are free on a', [room('a', 4000)], {}],
  ])('%s', (said, agents, attributes) => {
    expect(whyWaiting(agents, HALF, attributes)).toContain(said);
  });
});
