/**
 * Stops slices that nothing needs any more: of frameworks that are gone, and of tasks whose unit somebody else stopped.
 * Only those of one agent: a start by another one could not be held back meanwhile.
 *
 * systemd starts a slice for whoever names it and keeps it for ever. What is in a slice requires it
 * (systemd.slice(5)), so a slice that no loaded unit requires is empty, ended units included.
 */
import { messageOf } from '../protocol/errors.ts';
import type { BusLog } from './bus.ts';
import type { SystemdCalls } from './systemd-calls.ts';

/** How often slices are swept; an empty one costs a few cgroup directories until then. */
export const SWEEP_MS = 10_000;

/** What a sweep takes. */
export interface SliceSweep {
  /** Globs of the slices. */
  readonly patterns: readonly string[];
  readonly systemd: Pick<SystemdCalls, 'listByPatterns' | 'requiredBy'>;
  /** Stops a unit and waits for it: a start that came upon a queued stop would be refused. */
  readonly stop: (name: string) => Promise<unknown>;
  /**
   * Runs `work` while no start is under way. Without it a unit could start in the slice between the
   * look and the stop, and would be stopped with it.
   */
  readonly withoutStarts: (work: () => Promise<void>) => Promise<void>;
  readonly log?: BusLog;
}

/** One pass, leaves first, so that a framework's slice goes in the same pass as its last task's. */
export async function sweepSlices({
  patterns,
  systemd,
  stop,
  withoutStarts,
  log,
}: SliceSweep): Promise<void> {
  try {
    const rows = await systemd.listByPatterns(...patterns);
    const names = rows.filter((row) => row.activeState === 'active').map((row) => row.name);
    for (const name of names.sort((a, b) => b.length - a.length)) {
      if ((await systemd.requiredBy(name)).length > 0) continue;
      await withoutStarts(async () => {
        if ((await systemd.requiredBy(name)).length === 0) await stop(name);
      });
    }
  } catch (error) {
    // Only a matter of tidiness: the next pass does it.
    log?.warn('systemd.sweep-failed', { error: messageOf(error) });
  }
}
