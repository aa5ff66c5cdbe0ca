/**
 * The fences of an agent: for each time after which tasks are to be stopped when their node is cut off, one timer of
 * systemd's. It is set again while heartbeats are answered, and stops these tasks when it is not: agent, network and Redis
 * may all be dead by then.
 */
import type { Clock } from '../io/clock.ts';
import type { Log } from '../io/log.ts';
import { messageOf } from '../protocol/errors.ts';
import type { WhenUnreachable } from '../protocol/command.ts';
import type { Systemd, UnitStatus } from '../systemd/port.ts';
import { isContact, isFenceDue, wasFenced } from './core/fences.ts';
import { fenceName, fencePattern } from './core/unit-names.ts';

/** How often a timer is tried to be set before a launch is given up. */
const ENSURE_TRIES = 3;
/** What fences work with. */
export interface FencesOptions {
  readonly systemd: Systemd;
  readonly clock: Clock;
  readonly log: Log;
  readonly agentTag: string;
  /** The times of all tasks that may have a process, milliseconds. */
  readonly inUse: () => ReadonlySet<number>;
}

/** Sets, sets again and removes the timers. */
export class Fences {
  readonly #options: FencesOptions;
  /** When each was set last, by monotonic time. */
  readonly #setAtMs = new Map<number, number>();
  /** One change at a time: a fence must not be removed while a task is started behind it. */
  #changes: Promise<unknown> = Promise.resolve();

  constructor(options: FencesOptions) {
    this.#options = options;
  }

  /**
   * Makes sure that the timer runs; one that does is not touched, because a launch is no proof that others are reachable.
   *
   * @throws what systemd says if it cannot be made
   */
  ensure(stopAfterMs: number): Promise<void> {
    return this.#oneByOne(async () => {
      const name = this.#nameOf(stopAfterMs);
      for (let left = ENSURE_TRIES; ; left -= 1) {
        // This waits for systemd where it is away; setting does not.
        const { isArmed } = await this.#options.systemd.readFence(name);
        if (isArmed) return;
        try {
          await this.#set(stopAfterMs);
        } catch (error) {
          if (left <= 1) throw error;
        }
      }
    });
  }

  /** A heartbeat was answered: the cluster knows that this node lives. */
  onHeartbeat(isOk: boolean, tookMs: number): void {
    if (!isContact(isOk, tookMs)) return;
    const nowMs = this.#options.clock.monotonicMs();
    for (const stopAfterMs of this.#options.inUse()) {
      const sinceSetMs = nowMs - (this.#setAtMs.get(stopAfterMs) ?? -Infinity);
      if (!isFenceDue(stopAfterMs, sinceSetMs)) continue;
      this.#set(stopAfterMs).catch((error: unknown) => {
        // Set at the next heartbeat; until then it only stops tasks too early.
        this.#options.log.warn('fence.set-failed', { stopAfterMs, error: messageOf(error) });
      });
    }
  }

  /** Whether a unit of that time was stopped by its fence, and not by its own doing or by somebody else. */
  async hasStopped(when: WhenUnreachable, status: UnitStatus): Promise<boolean> {
    if (when === 'keep') return false;
    const { firedAtMs } = await this.#options.systemd.readFence(this.#nameOf(when.stopAfterMs));
    return wasFenced(status, firedAtMs);
  }

  /** Removes the timers that no task needs. */
  tidy(): Promise<void> {
    return this.#oneByOne(async () => {
      const { systemd, agentTag, inUse, log } = this.#options;
      for (const { name } of await systemd.listUnits(fencePattern(agentTag))) {
        const wanted = [...inUse()].map((stopAfterMs) => `${this.#nameOf(stopAfterMs)}.timer`);
        if (wanted.includes(name)) continue;
        await systemd.removeFence(name.replace(/\.timer$/, ''));
        log.debug('fence.removed', { name });
      }
    });
  }

  async #set(stopAfterMs: number): Promise<void> {
    const { systemd, clock } = this.#options;
    this.#setAtMs.set(stopAfterMs, clock.monotonicMs());
    try {
      await systemd.armFence(this.#nameOf(stopAfterMs), stopAfterMs);
    } catch (error) {
      // It may not run at all now: the next heartbeat sets it, and does not wait its turn.
      this.#setAtMs.delete(stopAfterMs);
      throw error;
    }
  }

  #oneByOne(change: () => Promise<void>): Promise<void> {
    const done = this.#changes.then(change, change);
    this.#changes = done.catch(() => undefined); // Told to who asked for it.
    return done;
  }

  #nameOf(stopAfterMs: number): string {
    return fenceName(this.#options.agentTag, stopAfterMs);
  }
}
