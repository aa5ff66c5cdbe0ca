import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { Scheduler } from '../../../framework/scheduler.ts';
import { SchedulerDriver } from '../../../framework/scheduler-driver.ts';
import { RedisModel } from '../../../io/fake/model.ts';
import { FakeStore } from '../../../io/fake/store.ts';
import type { Lease } from '../../../io/store.ts';
import { START } from '../../../io/store.ts';
import type { FrameworkId, SessionId } from '../../../protocol/ids.ts';
import type { ClientName } from '../../../protocol/keys.ts';
import type { Message } from '../../../protocol/messages.ts';
import {
  agentIdOf,
  frameworkIdOf,
  masterIdOf,
  offerIdOf,
  taskInfo,
  taskStatus,
} from '../../support/builders.ts';
import { createManualClock, type ManualClock } from '../../support/manual-clock.ts';
import { commitOf } from '../../support/store-harness.ts';
import { createWatch, type Watch } from '../../support/watch.ts';

const frameworkId: FrameworkId = frameworkIdOf('f1');
const client: ClientName = 'framework:f1';

let clock: ManualClock;
let model: RedisModel;
let store: FakeStore;
let calls: Watch<string>;
let driver: SchedulerDriver;

beforeEach(() => {
  clock = createManualClock();
  model = new RedisModel(() => clock.monotonicMs());
  store = new FakeStore(model);
  calls = createWatch<string>();
  driver = driverWith({});
});

afterEach(async () => {
  await driver.abort();
  await store.close();
});

/** A driver of framework f1 whose callbacks are noted, unless the test has its own. */
function driverWith(own: Partial<Scheduler>): SchedulerDriver {
  const scheduler: Scheduler = {
    registered: (_driver, id, { masterId, epoch }) =>
      calls.push(`registered ${id} ${masterId} ${String(epoch)}`),
    reregistered: () => calls.push('reregistered'),
    disconnected: () => calls.push('disconnected'),
    resourceOffers: (_driver, offers) => calls.push(`offers ${String(offers.length)}`),
    offerRescinded: (_driver, offerId) => calls.push(`rescinded ${offerId}`),
    statusUpdate: (_driver, status) => calls.push(`status ${status.taskId} ${status.state}`),
    agentLost: (_driver, agentId) => calls.push(`lost ${agentId}`),
    error: (_driver, message) => calls.push(`error ${message}`),
    ...own,
  };
  return new SchedulerDriver(scheduler, { name: 'shop', frameworkId }, { store, clock });
}

function lead(): Lease {
  const held = model.leader();
  if (held) return held;
  const lease = model.acquireLease(masterIdOf('m1'), 1_000_000_000);
  if (!lease) throw new Error('somebody else leads');
  model.beginTerm(lease);
  return lease;
}

/** What the framework has said: everything of its last session. */
function said(): Message[] {
  const entries = model.readInbox(START, 1000);
  const session = entries.at(-1)?.session;
  return entries
    .filter((entry) => entry.session === session)
    .flatMap(({ messages }) => JSON.parse(messages) as Message[]);
}

const typesSaid = (): string[] => said().map(({ type }) => type);

/** The master registers the framework in its session and tells it these. */
function tell(...messages: Message[]): void {
  const lease = lead();
  const session = model.readInbox(START, 1000).at(-1)?.session as SessionId;
  const { commitNumber } = model.loadSnapshot();
  const sends = [{ client, session, messages: JSON.stringify(messages) }];
  model.commit(commitOf(lease, commitNumber + 1, { sessions: [{ client, session }], sends }));
}

/** Starts the driver with a leader there, to the point where it has sent its registration. */
async function connect(): Promise<void> {
  lead();
  await driver.start();
  await clock.pass(0);
}

const registered = (known: boolean): Message => ({
  type: 'FrameworkRegistered',
  frameworkId,
  known,
  master: { masterId: 'm1', epoch: 1 },
});

describe('a driver', () => {
  test('makes an id out of the name of the framework', () => {
    const named = new SchedulerDriver(
      { resourceOffers: () => undefined, statusUpdate: () => undefined },
      { name: 'My Shop (v2)!' },
    );
    expect(named.frameworkId).toMatch(/^my_shop_v2_\.[a-z0-9]{6}$/);
  });

  test('of a framework that is not well described is not made', () => {
    const scheduler: Scheduler = { resourceOffers: () => undefined, statusUpdate: () => undefined };
    expect(() => new SchedulerDriver(scheduler, { name: 'x', failoverTimeoutMs: -1 })).toThrow(
      'failoverTimeoutMs',
    );
  });

  test('waits for a master before it registers', async () => {
    await driver.start();
    await clock.pass(3000);
    expect(typesSaid()).toEqual([]);
    lead();
    await clock.pass(1000);
    expect(typesSaid()).toEqual(['RegisterFramework']);
  });

  test('is running when it has started, and starting it again changes nothing', async () => {
    expect(driver.status).toBe('DRIVER_NOT_STARTED');
    expect(await driver.start()).toBe('DRIVER_RUNNING');
    expect(await driver.start()).toBe('DRIVER_RUNNING');
  });
});

describe('callbacks', () => {
  test('tell of everything that the master says, in order', async () => {
    await connect();
    tell(
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
    await connect();
    tell(registered(false), registered(false));
    await calls.count(2);
    expect(calls.seen).toEqual(['registered f1 m1 1', 'reregistered']);
  });

  test('come one at a time: the next waits for the promise of the last', async () => {
    let finish: () => void = () => undefined;
    driver = driverWith({
      statusUpdate: (_driver, { state }) => {
        calls.push(state);
        return new Promise((resolve) => (finish = resolve));
      },
    });
    await connect();
    tell(
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

  test('tell of an absence of masters, but not of a short one', async () => {
    await connect();
    model.releaseLease(lead());
    await clock.pass(9000);
    expect(calls.seen).toEqual([]);
    await clock.pass(3000);
    expect(calls.seen).toEqual(['disconnected']);
  });
});

describe('an update', () => {
  test('is acknowledged when its callback has returned', async () => {
    await connect();
    tell({ type: 'StatusUpdate', status: taskStatus('f1', 't1', 'TASK_RUNNING') });
    await calls.count(1);
    await clock.pass(0);
    expect(said().at(-1)).toEqual({
      type: 'StatusUpdateAcknowledgement',
      frameworkId: 'f1',
      taskId: 't1',
      updateId: 't1.TASK_RUNNING',
    });
  });

  test('whose callback failed is not acknowledged, and the driver aborts', async () => {
    driver = driverWith({
      statusUpdate: () => {
        throw new Error('disk full');
      },
    });
    await connect();
    tell({ type: 'StatusUpdate', status: taskStatus('f1', 't1', 'TASK_RUNNING') });
    expect(await driver.join()).toBe('DRIVER_ABORTED');
    expect(calls.seen).toEqual(['error a callback of the scheduler failed: disk full']);
    expect(typesSaid()).not.toContain('StatusUpdateAcknowledgement');
  });

  test('that wants no acknowledgement gets none', async () => {
    await connect();
    const { updateId: _updateId, ...status } = taskStatus('f1', 't1', 'TASK_ERROR');
    tell({ type: 'StatusUpdate', status });
    await calls.count(1);
    await clock.pass(0);
    expect(typesSaid()).toEqual(['RegisterFramework']);
  });
});

describe('calls', () => {
  test('say what they are named after', async () => {
    await connect();
    driver.requestResources([]);
    driver.launchTasks(offerIdOf('o1'), [taskInfo('t1')]);
    driver.launchTasks([offerIdOf('o2'), offerIdOf('o3')], []);
    driver.declineOffer(offerIdOf('o4'), { refuseMs: 7 });
    driver.killTask(taskInfo('t1').taskId, 9);
    driver.reviveOffers();
    driver.suppressOffers();
    await clock.pass(0);
    expect(said().slice(1)).toEqual([
      { type: 'RequestResources', frameworkId, requests: [] },
      { type: 'LaunchTasks', frameworkId, offerIds: ['o1'], tasks: [taskInfo('t1')] },
      { type: 'LaunchTasks', frameworkId, offerIds: ['o2', 'o3'], tasks: [] },
      { type: 'DeclineOffers', frameworkId, offerIds: ['o4'], filters: { refuseMs: 7 } },
      { type: 'KillTask', frameworkId, taskId: 't1', by: 'framework', gracePeriodMs: 9 },
      { type: 'ReviveOffers', frameworkId },
      { type: 'SuppressOffers', frameworkId },
    ]);
  });

  // `Mailbox.send` appends before `start` has opened a session, so the master drops the entry. `failing` goes with that.
  test('before the registration are said after it', async () => {
    await driver.start();
    driver.suppressOffers();
    await clock.pass(0);
    lead();
    await clock.pass(1000);
    expect(typesSaid()).toEqual(['RegisterFramework', 'SuppressOffers']);
  });

  test('of a driver that has not started, or has stopped, say nothing', async () => {
    driver.reviveOffers();
    await connect();
    await driver.stop();
    driver.reviveOffers();
    await clock.pass(0);
    expect(typesSaid()).toEqual(['RegisterFramework', 'UnregisterFramework']);
  });
});

describe('the end', () => {
  test.each<[string, () => Promise<unknown>, string, string]>([
    ['stop', () => driver.stop(), 'UnregisterFramework', 'DRIVER_STOPPED'],
    ['stop with failover', () => driver.stop(true), 'DeactivateFramework', 'DRIVER_STOPPED'],
    ['detach', () => driver.detach(), 'DetachFramework', 'DRIVER_STOPPED'],
    ['abort', () => driver.abort(), 'DeactivateFramework', 'DRIVER_ABORTED'],
  ])('by %s is said to the master, and ends `join`', async (_title, end, type, status) => {
    await connect();
    await end();
    expect(typesSaid()).toEqual(['RegisterFramework', type]);
    expect(await driver.join()).toBe(status);
  });

  test('by an error of the master is told to the scheduler, and nothing follows', async () => {
    await connect();
    tell(
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
});
