/** A framework whose scheduler does nothing by itself: its callbacks can be waited for, its calls are the test's. */
import { SchedulerDriver } from '../../framework/scheduler-driver.ts';
import type { FrameworkDescription } from '../../framework/scheduler-driver.ts';
import type { Store } from '../../io/store.ts';
import type { Offer, TaskStatus } from '../../protocol/task.ts';
import { createWatch } from './watch.ts';
import type { Watch } from './watch.ts';

export type Callback =
  | { readonly name: 'registered' | 'reregistered' | 'disconnected' }
  | { readonly name: 'offer'; readonly offer: Offer }
  | { readonly name: 'offerRescinded' | 'agentLost' | 'error'; readonly what: string }
  | { readonly name: 'status'; readonly status: TaskStatus };

export interface ScriptedFramework {
  readonly driver: SchedulerDriver;
  readonly callbacks: Watch<Callback>;
  /** The first offer, come or to come, for which `isIt` holds. */
  offered(isIt?: (offer: Offer) => boolean): Promise<Offer>;
  updated(taskId: string, state: TaskStatus['state']): Promise<TaskStatus>;
  called(name: Callback['name']): Promise<Callback>;
  stop(): Promise<void>;
}

export async function startScriptedFramework(
  store: Store,
  description: FrameworkDescription,
): Promise<ScriptedFramework> {
  const callbacks = createWatch<Callback>();
  const driver = new SchedulerDriver(
    {
      registered: () => callbacks.push({ name: 'registered' }),
      reregistered: () => callbacks.push({ name: 'reregistered' }),
      disconnected: () => callbacks.push({ name: 'disconnected' }),
      resourceOffers: (_driver, offers) => {
        for (const offer of offers) callbacks.push({ name: 'offer', offer });
      },
      offerRescinded: (_driver, offerId) =>
        callbacks.push({ name: 'offerRescinded', what: offerId }),
      statusUpdate: (_driver, status) => callbacks.push({ name: 'status', status }),
      agentLost: (_driver, agentId) => callbacks.push({ name: 'agentLost', what: agentId }),
      error: (_driver, message) => callbacks.push({ name: 'error', what: message }),
    },
    description,
    { store },
  );
  await driver.start();
  return {
    driver,
    callbacks,
    offered: async (isIt = () => true) => {
      const found = await callbacks.first((each) => each.name === 'offer' && isIt(each.offer));
      if (found.name !== 'offer') throw new Error('not an offer');
      return found.offer;
    },
    updated: async (taskId, state) => {
      const found = await callbacks.first(
        ({ name, ...each }) =>
          name === 'status' &&
          'status' in each &&
          each.status.taskId === taskId &&
          each.status.state === state,
      );
      if (found.name !== 'status') throw new Error('not a status');
      return found.status;
    },
    called: (name) => callbacks.first((each) => each.name === name),
    stop: async () => {
      await driver.abort();
      await store.close();
    },
  };
}
