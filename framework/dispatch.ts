/**
 * Messages of the master as callbacks of the scheduler: one at a time, in the order in which they came. The next one waits
 * until the last has returned or its promise has settled; heartbeats and calls do not wait for them.
 */
import { setImmediate as turn } from 'node:timers/promises';
import type { Clock } from '../io/clock.ts';
import type { Log } from '../io/log.ts';
import { messageOf } from '../protocol/errors.ts';
import type { Message, MessageOf } from '../protocol/messages.ts';
import type { TaskStatus } from '../protocol/task.ts';
import type { MasterInfo, Scheduler } from './scheduler.ts';
import type { SchedulerDriver } from './scheduler-driver.ts';

/** So long callbacks are called in a row before timers and connections have their turn, milliseconds. */
const SLICE_MS = 10;

/** Whose callbacks, and what follows from them. */
export interface DispatchOptions {
  readonly scheduler: Scheduler;
  /** What each callback is handed. */
  readonly driver: SchedulerDriver;
  readonly clock: Clock;
  readonly log: Log;
  /** False from the end of the driver on: no callback comes any more. */
  readonly isRunning: () => boolean;
  /** The callback of this status has returned. */
  readonly onHandled: (status: TaskStatus) => void;
  /** The driver cannot go on: a callback has failed, or the master has said so. */
  readonly onFailed: (message: string) => void;
}

/** The callbacks of one driver. */
export class Dispatch {
  readonly #options: DispatchOptions;
  #last: Promise<void> = Promise.resolve();
  /** When the callbacks that are being called in a row began. */
  #sliceStartMs = 0;
  /** The master has answered a registration of this driver. */
  #hasRegistered = false;
  /** The scheduler has been told that there is no master. */
  #isDisconnected = false;

  constructor(options: DispatchOptions) {
    this.#options = options;
  }

  /** @returns when the callbacks of all of them have returned */
  receive(messages: readonly Message[]): Promise<void> {
    this.#sliceStartMs = this.#options.clock.monotonicMs();
    for (const message of messages) this.#take(message);
    return this.#last;
  }

  noMaster(): void {
    this.#isDisconnected = true;
    this.#call(({ scheduler, driver }) => scheduler.disconnected?.(driver));
  }

  /** Whoever was told that there is no master hears of the next one, also if that one goes on where the last has stopped. */
  newMaster(master: MasterInfo): void {
    if (!this.#isDisconnected || !this.#hasRegistered) return;
    this.#isDisconnected = false;
    this.#call(({ scheduler, driver }) => scheduler.reregistered?.(driver, master));
  }

  /** The last callback of all, when the one that runs has returned. */
  async fail(message: string): Promise<void> {
    const { scheduler, driver, log } = this.#options;
    this.#last = this.#last
      .then(() => scheduler.error?.(driver, message))
      .catch((error: unknown) => {
        log.error('scheduler.error-callback-failed', { error: messageOf(error) });
      });
    await this.#last;
  }

  #take(message: Message): void {
    switch (message.type) {
      case 'FrameworkRegistered':
        this.#registered(message);
        return;
      case 'ResourceOffers':
        this.#call(({ scheduler, driver }) => scheduler.resourceOffers(driver, message.offers));
        return;
      case 'RescindResourceOffer':
        this.#call(({ scheduler, driver }) => scheduler.offerRescinded?.(driver, message.offerId));
        return;
      case 'StatusUpdate':
        this.#call(async ({ scheduler, driver, onHandled }) => {
          await scheduler.statusUpdate(driver, message.status);
          onHandled(message.status);
        });
        return;
      case 'InverseOffer': {
        const { type: _type, ...offer } = message;
        this.#call(({ scheduler, driver }) => scheduler.inverseOffer?.(driver, offer));
        return;
      }
      case 'RescindInverseOffer':
        this.#call(({ scheduler, driver }) =>
          scheduler.inverseOfferRescinded?.(driver, message.agentId),
        );
        return;
      case 'LostAgent':
        this.#call(({ scheduler, driver }) => scheduler.agentLost?.(driver, message.agentId));
        return;
      case 'FrameworkError':
        this.#options.onFailed(message.message);
        return;
      default:
        this.#takeOfExecutor(message);
    }
  }

  #takeOfExecutor(message: Message): void {
    switch (message.type) {
      case 'ExecutorToFramework': {
        const { executorId, agentId, data } = message;
        this.#call(({ scheduler, driver }) =>
          scheduler.frameworkMessage?.(driver, executorId, agentId, data),
        );
        return;
      }
      case 'ExecutorLost': {
        const { executorId, agentId, message: words } = message;
        this.#call(({ scheduler, driver }) =>
          scheduler.executorLost?.(driver, executorId, agentId, words),
        );
        return;
      }
      case 'TaskResized': {
        const { resizeId, taskId, resources, error } = message;
        const outcome = {
          resizeId,
          taskId,
          ...(resources && { resources }),
          ...(error !== undefined && { error }),
        };
        this.#call(({ scheduler, driver }) => scheduler.taskResized?.(driver, outcome));
        return;
      }
      default:
        this.#options.log.warn('message.unexpected', { type: message.type });
    }
  }

  #registered({ known, frameworkId, master }: MessageOf<'FrameworkRegistered'>): void {
    // A cluster that does not know a framework that it had registered has lost its memory: what was launched before is to
    // be reconciled, as after any other return.
    const isReturn = known || this.#hasRegistered;
    this.#hasRegistered = true;
    this.#isDisconnected = false;
    this.#call(({ scheduler, driver }) =>
      isReturn
        ? scheduler.reregistered?.(driver, master)
        : scheduler.registered?.(driver, frameworkId, master),
    );
  }

  #call(callback: (options: DispatchOptions) => void | Promise<void> | undefined): void {
    const { isRunning, log, onFailed } = this.#options;
    this.#last = this.#last.then(async () => {
      if (!isRunning()) return;
      try {
        await callback(this.#options);
      } catch (error) {
        log.error('scheduler.callback-failed', { error: messageOf(error) });
        onFailed(`a callback of the scheduler failed: ${messageOf(error)}`);
      }
      await this.#yieldIfLong();
    });
  }

  /** A long chain of resolved promises would let no timer through, and so no heartbeat. */
  async #yieldIfLong(): Promise<void> {
    const { clock } = this.#options;
    if (clock.monotonicMs() - this.#sliceStartMs < SLICE_MS) return;
    await turn();
    this.#sliceStartMs = clock.monotonicMs();
  }
}
