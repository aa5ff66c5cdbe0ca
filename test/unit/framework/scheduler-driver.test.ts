import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { Scheduler } from '../../../framework/scheduler.ts';
import { SchedulerDriver } from '../../../framework/scheduler-driver.ts';
import type { FakeStore } from '../../../io/fake/store.ts';
import type { Message } from '../../../protocol/messages.ts';
import type { OfferConstraints } from '../../../protocol/offer-constraints.ts';
import { agentIdOf, offerIdOf, taskInfo, taskStatus } from '../../support/builders.ts';
import type { ManualClock } from '../../support/manual-clock.ts';
import type { Watch } from '../../support/watch.ts';
import { codeThrownBy, DriverBench, frameworkId, registered } from './driver-bench.ts';

let bench: DriverBench;
let clock: ManualClock;
let calls: Watch<string>;
let driver: SchedulerDriver;

beforeEach(() => {
  bench = new DriverBench();
  ({ clock, calls } = bench);
  driver = bench.driver();
});

afterEach(() => bench.end());

const quiet: Scheduler = { resourceOffers: () => undefined, statusUpdate: () => undefined };

describe('a driver', () => {
  test.each([
    ['My Shop (v2)!', /^my_shop_v2_\.[a-z0-9]{6}$/],
    ['(v2)', /^v2_\.[a-z0-9]{6}$/],
    ['店', /^framework\.[a-z0-9]{6}$/],
  ])('of a framework called %s makes an id out of that', (name, pattern) => {
    expect(new SchedulerDriver(quiet, { name }, { environment: {} }).frameworkId).toMatch(pattern);
  });

  test('waits for a master before it registers', async () => {
    await driver.start();
    await clock.pass(3000);
    expect(bench.typesSaid()).toEqual([]);
    bench.lead();
    await clock.pass(1000);
    expect(bench.typesSaid()).toEqual(['RegisterFramework']);
  });

  test('is running when it has started, and starting it again changes nothing', async () => {
    expect(driver.status).toBe('DRIVER_NOT_STARTED');
    expect(await driver.start()).toBe('DRIVER_RUNNING');
    expect(await driver.start()).toBe('DRIVER_RUNNING');
  });

  test('that cannot reach Redis is aborted', async () => {
    const lost = new SchedulerDriver(quiet, { name: 'x' }, { redis: 'redis://127.0.0.1:1' });
    await expect(lost.start()).rejects.toMatchObject({ code: 'redis-unreachable' });
    expect(await lost.join()).toBe('DRIVER_ABORTED');
  });
});

describe('callbacks', () => {
  test('tell of everything that the master says, in order', async () => {
    await bench.connect(driver);
    bench.tell(
      registered(false),
      { type: 'ResourceOffers', offers: [] },
      { type: 'RescindResourceOffer', offerId: offerIdOf('o1'), reason: 'why' },
      { type: 'StatusUpdate', status: taskStatus('f1', 't1', 'TASK_LOST') },
      { type: 'LostAgent', agentId: agentIdOf('a1') },
      registered(true),
    );
    await calls.count(6);
    expect(calls.seen).toEqual([
      'registered f1 m1 1',
      'offers 0',
      'rescinded o1',
      'status t1 TASK_LOST',
      'lost a1',
      'reregistered',
    ]);
  });

  test('of a cluster that has forgotten the framework are those of a return', async () => {
    await bench.connect(driver);
    bench.tell(registered(false), registered(false));
    await calls.count(2);
    expect(calls.seen).toEqual(['registered f1 m1 1', 'reregistered']);
  });

  test('come one at a time: the next waits for the promise of the last', async () => {
    let finish: () => void = () => undefined;
    driver = bench.driver({
      statusUpdate: (_driver, { state }) => {
        calls.push(state);
        return new Promise((resolve) => (finish = resolve));
      },
    });
    await bench.connect(driver);
    bench.tell(
      { type: 'StatusUpdate', status: taskStatus('f1', 't1', 'TASK_RUNNING') },
      { type: 'StatusUpdate', status: taskStatus('f1', 't1', 'TASK_FINISHED') },
    );
    await calls.count(1);
    await clock.pass(10);
    expect(calls.seen).toEqual(['TASK_RUNNING']);
    finish();
    await calls.count(2);
    expect(calls.seen).toEqual(['TASK_RUNNING', 'TASK_FINISHED']);
  });

  test('that take long hold up neither heartbeats nor calls', async () => {
    driver = bench.driver({ resourceOffers: () => new Promise<never>(() => undefined) });
    await bench.connect(driver);
    await bench.toldOf(registered(false), { type: 'ResourceOffers', offers: [] });
    await clock.pass(60_000);
    driver.reviveOffers();
    await clock.pass(0);
    expect(bench.typesSaid()).toEqual(['RegisterFramework', 'ReviveOffers']);
    // The last heartbeat is at most a little more than its interval ago.
    expect(bench.model.silentClients(clock.monotonicMs() - 10_000)).toEqual([]);
  });

  test('of which there are many let timers through between them', async () => {
    let nowMs = 0;
    const slow = { ...clock, monotonicMs: () => nowMs };
    driver = bench.driver(
      {
        statusUpdate: (_driver, { taskId }) => {
          nowMs += 20;
          calls.push(taskId);
          setImmediate(() => {
            calls.push('timer');
          });
        },
      },
      { clock: slow },
    );
    await bench.connect(driver);
    const status = (taskId: string): Message => ({
      type: 'StatusUpdate',
      status: taskStatus('f1', taskId, 'TASK_RUNNING'),
    });
    bench.tell(status('t1'), status('t2'));
    await calls.count(4);
    expect(calls.seen).toEqual(['t1', 'timer', 't2', 'timer']);
  });

  test('tell of an absence of masters, but not of a short one', async () => {
    await bench.connect(driver);
    bench.model.releaseLease(bench.lead());
    await clock.pass(9000);
    expect(calls.seen).toEqual([]);
    await clock.pass(3000);
    expect(calls.seen).toEqual(['disconnected']);
  });

  test('tell of the end of an absence, also if the next master goes on where the last has stopped', async () => {
    await bench.connect(driver);
    await bench.toldOf(registered(false));
    bench.model.releaseLease(bench.lead());
    await clock.pass(12_000);
    bench.lead();
    await clock.pass(1000);
    expect(calls.seen).toEqual(['registered f1 m1 1', 'disconnected', 'reregistered']);
    expect(bench.typesSaid()).toEqual(['RegisterFramework']);
  });

  test('do not tell of a return if nobody was told of an absence', async () => {
    await bench.connect(driver);
    await bench.toldOf(registered(false));
    bench.model.releaseLease(bench.lead());
    await clock.pass(5000);
    bench.lead();
    await clock.pass(5000);
    expect(calls.seen).toEqual(['registered f1 m1 1']);
  });
});

describe('an update', () => {
  const running = taskStatus('f1', 't1', 'TASK_RUNNING');
  const acknowledgement = {
    type: 'StatusUpdateAcknowledgement',
    frameworkId: 'f1',
    taskId: 't1',
    updateId: 't1.TASK_RUNNING',
  };

  test('is acknowledged when its callback has returned', async () => {
    await bench.connect(driver);
    bench.tell({ type: 'StatusUpdate', status: running });
    await calls.count(1);
    await clock.pass(0);
    expect(bench.said().at(-1)).toEqual(acknowledgement);
  });

  test('whose callback failed is not acknowledged, and the driver aborts', async () => {
    driver = bench.driver({
      statusUpdate: () => {
        throw new Error('disk full');
      },
    });
    await bench.connect(driver);
    bench.tell({ type: 'StatusUpdate', status: running });
    expect(await driver.join()).toBe('DRIVER_ABORTED');
    expect(calls.seen).toEqual(['error a callback of the scheduler failed: disk full']);
    expect(bench.typesSaid()).not.toContain('StatusUpdateAcknowledgement');
  });

  test('that wants no acknowledgement gets none', async () => {
    await bench.connect(driver);
    const { updateId: _updateId, ...status } = taskStatus('f1', 't1', 'TASK_ERROR');
    bench.tell({ type: 'StatusUpdate', status });
    await calls.count(1);
    await clock.pass(0);
    expect(bench.typesSaid()).toEqual(['RegisterFramework']);
  });

  test('is acknowledged by the scheduler alone if it wants to', async () => {
    driver = bench.driver({}, { implicitAcknowledgements: false });
    await bench.connect(driver);
    await bench.toldOf(registered(false), { type: 'StatusUpdate', status: running });
    expect(bench.typesSaid()).toEqual(['RegisterFramework']);
    driver.acknowledgeStatusUpdate(running);
    await clock.pass(0);
    expect(bench.said().at(-1)).toEqual(acknowledgement);
  });

  test('without an id needs no acknowledgement of the scheduler either', async () => {
    driver = bench.driver({}, { implicitAcknowledgements: false });
    await bench.connect(driver);
    const { updateId: _updateId, ...status } = running;
    driver.acknowledgeStatusUpdate(status);
    await clock.pass(0);
    expect(bench.typesSaid()).toEqual(['RegisterFramework']);
  });

  test('is not acknowledged by both', () => {
    const acknowledge = (): void => {
      driver.acknowledgeStatusUpdate(running);
    };
    expect(codeThrownBy(acknowledge)).toBe('implicit-acknowledgements');
  });
});

describe('calls', () => {
  test('say what they are named after', async () => {
    await bench.connect(driver);
    driver.requestResources([]);
    driver.launchTasks(offerIdOf('o1'), [taskInfo('t1')]);
    driver.launchTasks([offerIdOf('o2'), offerIdOf('o3')], []);
    driver.declineOffer(offerIdOf('o4'), { refuseMs: 7 });
    driver.declineOffer([offerIdOf('o5'), offerIdOf('o6')]);
    driver.declineOffer([]);
    driver.killTask(taskInfo('t1').taskId, 9);
    driver.reviveOffers();
    driver.suppressOffers();
    await clock.pass(0);
    expect(bench.said().slice(1)).toEqual([
      { type: 'RequestResources', frameworkId, requests: [] },
      { type: 'LaunchTasks', frameworkId, offerIds: ['o1'], tasks: [taskInfo('t1')] },
      { type: 'LaunchTasks', frameworkId, offerIds: ['o2', 'o3'], tasks: [] },
      { type: 'DeclineOffers', frameworkId, offerIds: ['o4'], filters: { refuseMs: 7 } },
      { type: 'DeclineOffers', frameworkId, offerIds: ['o5', 'o6'] },
      { type: 'KillTask', frameworkId, taskId: 't1', by: 'framework', gracePeriodMs: 9 },
      { type: 'ReviveOffers', frameworkId },
      { type: 'SuppressOffers', frameworkId },
    ]);
  });

  test('mean what they were made with, whatever becomes of that later', async () => {
    await bench.connect(driver);
    const task = taskInfo('t1');
    driver.launchTasks(offerIdOf('o1'), [task]);
    task.name = 'another';
    await clock.pass(0);
    expect(bench.said().at(-1)).toMatchObject({ tasks: [{ name: 't1' }] });
  });

  test('before the registration are said after it, in order', async () => {
    const starting = driver.start();
    driver.requestResources([]);
    await starting;
    driver.suppressOffers();
    await clock.pass(0);
    expect(bench.typesSaid()).toEqual([]);
    bench.lead();
    await clock.pass(1000);
    expect(bench.typesSaid()).toEqual(['RegisterFramework', 'RequestResources', 'SuppressOffers']);
  });

  test('of a driver that has not started, or has stopped, say nothing', async () => {
    driver.reviveOffers();
    await bench.connect(driver);
    await driver.stop();
    driver.reviveOffers();
    await clock.pass(0);
    expect(bench.typesSaid()).toEqual(['RegisterFramework', 'UnregisterFramework']);
  });

  test('to reconcile very many tasks are several messages, of none one', async () => {
    await bench.connect(driver);
    driver.reconcileTasks();
    driver.reconcileTasks(Array.from({ length: 10_001 }, (_, index) => `t${String(index)}`));
    await clock.pass(0);
    const lengths = bench
      .said()
      .flatMap((each) => (each.type === 'ReconcileTasks' ? [each.taskIds.length] : []));
    expect(lengths).toEqual([0, 10_000, 1]);
  });
});

describe('the end', () => {
  test.each<[string, () => Promise<unknown>, string, string]>([
    ['stop', () => driver.stop(), 'UnregisterFramework', 'DRIVER_STOPPED'],
    ['stop with failover', () => driver.stop(true), 'DeactivateFramework', 'DRIVER_STOPPED'],
    ['detach', () => driver.detach(), 'DetachFramework', 'DRIVER_STOPPED'],
    ['abort', () => driver.abort(), 'DeactivateFramework', 'DRIVER_ABORTED'],
  ])('by %s is said to the master, and ends `join`', async (_title, end, type, status) => {
    await bench.connect(driver);
    await end();
    expect(bench.typesSaid()).toEqual(['RegisterFramework', type]);
    expect(await driver.join()).toBe(status);
  });

  test('by an error of the master is told to the scheduler, and nothing follows', async () => {
    await bench.connect(driver);
    bench.tell(
      { type: 'FrameworkError', code: 'x', message: 'no such role' },
      { type: 'ResourceOffers', offers: [] },
    );
    expect(await driver.join()).toBe('DRIVER_ABORTED');
    expect(calls.seen).toEqual(['error no such role']);
  });

  test('of a driver that never met a master needs none', async () => {
    await driver.start();
    expect(await driver.stop()).toBe('DRIVER_STOPPED');
  });

  test('while it starts leaves no connection behind', async () => {
    const starting = driver.start();
    await driver.stop();
    await starting;
    bench.lead();
    await clock.pass(5000);
    expect([driver.status, ...bench.typesSaid()]).toEqual(['DRIVER_STOPPED']);
  });

  test('by abort lets no callback through, and does not wait for ever for a Redis that is away', async () => {
    await bench.connect(driver);
    bench.tell(registered(false));
    const never = (): Promise<never> => new Promise<never>(() => undefined);
    (bench.store as Pick<FakeStore, 'append'>).append = never;
    const aborted = driver.abort();
    await clock.pass(3000);
    expect(await aborted).toBe('DRIVER_ABORTED');
    expect(calls.seen).toEqual([]);
  });

  test('by abort may be followed by a new driver of the same framework in this process', async () => {
    await bench.connect(driver);
    await bench.toldOf(registered(false));
    await driver.abort();
    const next = await bench.connect(bench.driver());
    await bench.toldOf(registered(true), { type: 'ResourceOffers', offers: [] });
    expect(calls.seen).toEqual(['registered f1 m1 1', 'reregistered', 'offers 0']);
    expect([driver.status, next.status]).toEqual(['DRIVER_ABORTED', 'DRIVER_RUNNING']);
  });

  test('comes to a driver whose framework another one has taken over', async () => {
    await bench.connect(driver);
    await bench.toldOf(registered(false));
    const next = await bench.connect(bench.driver());
    await bench.toldOf(registered(true));
    // It finds out by a heartbeat; on a busy machine its callbacks need more than one turn of the event loop.
    while (driver.status === 'DRIVER_RUNNING') await clock.pass(1000);
    expect(await driver.join()).toBe('DRIVER_ABORTED');
    expect(next.status).toBe('DRIVER_RUNNING');
    expect(calls.seen.filter((call) => call.startsWith('error'))).toEqual([
      'error framework failed over: another scheduler has registered with this framework id',
    ]);
  });
});

describe('offer constraints', () => {
  const constraints: OfferConstraints = { '*': [[{ attribute: 'rack', predicate: 'exists' }]] };

  test('of the description are part of the registration; those of a role it does not have are refused', async () => {
    const made = bench.driver({}, {}, { frameworkId, offerConstraints: constraints });
    await bench.connect(made);
    expect(bench.said()).toMatchObject([{ framework: { offerConstraints: constraints } }]);
    const strange = { eng: constraints['*'] ?? [] };
    expect(codeThrownBy(() => bench.driver({}, {}, { offerConstraints: strange }))).toBe(
      'framework-invalid',
    );
  });

  test('that are set are said to the master', async () => {
    await bench.connect(driver);
    driver.setOfferConstraints(constraints);
    await clock.pass(1000);
    expect(bench.said().at(-1)).toEqual({
      type: 'UpdateOfferConstraints',
      frameworkId,
      offerConstraints: constraints,
    });
  });

  test('that are set before the start are those of the registration', async () => {
    driver.setOfferConstraints(constraints);
    await bench.connect(driver);
    expect(bench.said()).toMatchObject([{ framework: { offerConstraints: constraints } }]);
  });
});
