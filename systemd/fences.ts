/**
 * Fences over D-Bus: timers that are set, set again, read and removed. What a fence is made of says `properties.ts`; that it
 * stops the units behind it is systemd's doing alone.
 */
import { KaonError } from '../protocol/errors.ts';
import type { FenceStatus } from './port.ts';
import { fenceUnits } from './properties.ts';
import { isNoSuchUnit } from './systemd-calls.ts';
import type { SystemdLink } from './systemd-link.ts';
import { msOfUsec } from './unit-status.ts';

/** What `manager.ts` does with fences. */
export interface FenceKeeper {
  arm(name: string, afterMs: number): Promise<void>;
  read(name: string): Promise<FenceStatus>;
  remove(name: string): Promise<void>;
}

/** @param link the connection; `arm` uses it without repeating, because a timer that is set late promises too much */
export function createFenceKeeper(link: SystemdLink): FenceKeeper {
  const { calls } = link;

  const make = async (name: string, afterMs: number): Promise<void> => {
    // Its service may be there without the timer, because units that were behind it are.
    const service = await calls.listByName(`${name}.service`);
    const units = fenceUnits(name, afterMs, service !== undefined);
    await expectDone(`${name}.timer`, () => calls.startTransient(units));
  };

  const expectDone = async (timer: string, queue: () => Promise<string>): Promise<void> => {
    const result = await link.runJob(timer, queue);
    if (result === 'done') return;
    const row = await calls.listByName(timer);
    if (row?.activeState !== 'active') {
      throw new KaonError('fence-failed', `${timer} was not set: job ${result}`);
    }
  };

  /** @returns false if there is no such timer; one that was stopped may still be loaded, and is started then */
  const restart = async (name: string): Promise<boolean> => {
    const timer = `${name}.timer`;
    if ((await calls.listByName(timer)) === undefined) return false;
    try {
      await expectDone(timer, () => calls.restartUnit(timer));
      return true;
    } catch (error) {
      if (isNoSuchUnit(error)) return false; // Unloaded between the two calls.
      throw error;
    }
  };

  return {
    arm: async (name, afterMs) => {
      if (!(await restart(name))) await make(name, afterMs);
    },
    read: async (name) => {
      const [timer, service] = await link.persist(() =>
        Promise.all([
          calls.listByName(`${name}.timer`),
          calls.unitProperty(`${name}.service`, 'InactiveExitTimestamp'),
        ]),
      );
      return {
        isArmed: timer?.activeState === 'active' && timer.subState === 'waiting',
        firedAtMs: msOfUsec(service),
      };
    },
    remove: async (name) => {
      const timer = `${name}.timer`;
      try {
        await link.persist(() => link.runJob(timer, () => calls.stopUnit(timer)));
      } catch (error) {
        if (!isNoSuchUnit(error)) throw error; // It is gone: that was the wish.
      }
    },
  };
}
