/** A driver of framework f1 on a fake store and a clock that stands still; the test is the master. */
import type { FrameworkDescription } from '../../../framework/descriptions.ts';
import type { Scheduler } from '../../../framework/scheduler.ts';
import type { DriverOptions } from '../../../framework/driver-options.ts';
import { SchedulerDriver } from '../../../framework/scheduler-driver.ts';
import { RedisModel } from '../../../io/fake/model.ts';
import { FakeStore } from '../../../io/fake/store.ts';
import type { Lease } from '../../../io/store.ts';
import { START } from '../../../io/store.ts';
import type { KaonError } from '../../../protocol/errors.ts';
import type { FrameworkId, SessionId } from '../../../protocol/ids.ts';
import type { ClientName } from '../../../protocol/keys.ts';
import type { Message } from '../../../protocol/messages.ts';
import type { Offer } from '../../../protocol/task.ts';
import { agentIdOf, amount, frameworkIdOf, masterIdOf, offerIdOf } from '../../support/builders.ts';
import { createManualClock } from '../../support/manual-clock.ts';
import { commitOf } from '../../support/store-harness.ts';
import { createWatch } from '../../support/watch.ts';

export const frameworkId: FrameworkId = frameworkIdOf('f1');
const client: ClientName = 'framework:f1';

/** The answer to a registration. */
export const registered = (known: boolean): Message => ({
  type: 'FrameworkRegistered',
  frameworkId,
  known,
  master: { masterId: 'm1', epoch: 1 },
});

/** An offer of 4 cores and 4 GiB of agent a1. */
export function offer(offerId: string, more: Partial<Offer> = {}): Offer {
  return {
    offerId: offerIdOf(offerId),
    frameworkId,
    role: '*',
    agentId: agentIdOf('a1'),
    hostname: 'node-of-a1',
    resources: amount(4, 4096),
    attributes: {},
    executorIds: [],
    expiresAtMs: 0,
    ...more,
  };
}

/** Code of the error that a call throws; undefined if it throws none. */
export function codeThrownBy(call: () => unknown): string | undefined {
  return thrownBy(call)?.code;
}

/** The error that a call throws. */
export function thrownBy(call: () => unknown): KaonError | undefined {
  try {
    call();
  } catch (error) {
    return error as KaonError;
  }
  return undefined;
}

export class DriverBench {
  readonly clock = createManualClock();
  readonly model = new RedisModel(() => this.clock.monotonicMs());
  readonly store = new FakeStore(this.model);
  /** Callbacks, as short texts. */
  readonly calls = createWatch<string>();
  readonly #drivers: SchedulerDriver[] = [];

  /** A driver whose callbacks are noted, unless the test has its own. */
  driver(
    own: Partial<Scheduler> = {},
    options: DriverOptions = {},
    description: Partial<FrameworkDescription> = { frameworkId },
  ): SchedulerDriver {
    const { calls, clock, store } = this;
    const scheduler: Scheduler = {
      registered: (_driver, id, { masterId, epoch }) =>
        calls.push(`registered ${id} ${masterId} ${String(epoch)}`),
      reregistered: () => calls.push('reregistered'),
      disconnected: () => calls.push('disconnected'),
      resourceOffers: (_driver, offers) => calls.push(`offers ${String(offers.length)}`),
      offerRescinded: (_driver, offerId) => calls.push(`rescinded ${offerId}`),
      statusUpdate: (_driver, status) => calls.push(`status ${status.taskId} ${status.state}`),
      agentLost: (_driver, agentId) => calls.push(`lost ${agentId}`),
      executorLost: (_driver, executorId, agentId, message) =>
        calls.push(`executor lost ${executorId} ${agentId} ${message}`),
      frameworkMessage: (_driver, executorId, agentId, data) =>
        calls.push(`message ${executorId} ${agentId} ${data}`),
      taskResized: (_driver, outcome) => calls.push(`resized ${JSON.stringify(outcome)}`),
      error: (_driver, message) => calls.push(`error ${message}`),
      ...own,
    };
    const driver = new SchedulerDriver(
      scheduler,
      { name: 'shop', ...description },
      { store, clock, environment: {}, ...options },
    );
    this.#drivers.push(driver);
    return driver;
  }

  lead(): Lease {
    const held = this.model.leader();
    if (held) return held;
    const lease = this.model.acquireLease(masterIdOf('m1'), 1_000_000_000);
    if (!lease) throw new Error('somebody else leads');
    this.model.beginTerm(lease);
    return lease;
  }

  /** What the framework has said: everything of its last session. */
  said(): Message[] {
    const entries = this.model.readInbox(START, 1000);
    const session = entries.at(-1)?.session;
    return entries
      .filter((entry) => entry.session === session)
      .flatMap(({ messages }) => JSON.parse(messages) as Message[]);
  }

  typesSaid(): string[] {
    return this.said().map(({ type }) => type);
  }

  /** What was said past the master to an agent. */
  requestsOf(agentId: string): Message[] {
    const entries = this.model.readRequests(`agent:${agentId}:/requests`, START);
    return entries.flatMap(({ messages }) => JSON.parse(messages) as Message[]);
  }

  /** The master registers the framework in its session and tells it these. */
  tell(...messages: Message[]): void {
    const lease = this.lead();
    const session = this.model.readInbox(START, 1000).at(-1)?.session as SessionId;
    const { commitNumber } = this.model.loadSnapshot();
    const sends = [{ client, session, messages: JSON.stringify(messages) }];
    this.model.commit(
      commitOf(lease, commitNumber + 1, { sessions: [{ client, session }], sends }),
    );
  }

  /** Tells and waits until the callbacks that follow have begun. */
  async toldOf(...messages: Message[]): Promise<void> {
    this.tell(...messages);
    await this.clock.pass(0);
  }

  /** Starts a driver with a leader there, to the point where it has sent its registration. */
  async connect(driver: SchedulerDriver): Promise<SchedulerDriver> {
    this.lead();
    await driver.start();
    await this.clock.pass(0);
    return driver;
  }

  async end(): Promise<void> {
    for (const driver of this.#drivers) await driver.abort();
    await this.store.close();
  }
}
