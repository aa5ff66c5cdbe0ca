/** Live cgroups of a manager that holds no limits: every wish for others is granted, because none is in force. */
import { KaonError } from '../protocol/errors.ts';
import type { LiveCgroups } from './live-cgroups.ts';
import { createTurns } from './turns.ts';

/** @returns what `manager.ts` needs of live cgroups where the agent was told to run tasks without limits */
export function liveWithoutLimits(): LiveCgroups {
  const granted: LiveCgroups['resizeUnit'] = (_slice, _name, { memoryMib }) =>
    Promise.resolve({ ok: true, memoryMib });
  return {
    inTurn: createTurns(),
    release: () => Promise.resolve(),
    resizeUnit: granted,
    openTaskGroup: (_slice, unit, group) =>
      Promise.reject(
        new KaonError(
          'task-cgroup-unavailable',
          `no cgroup of its own for ${group} in ${unit}: this agent holds no limits (--unlimited)`,
        ),
      ),
    resizeTaskGroup: (_slice, _unit, group) =>
      Promise.resolve({ ok: false, message: `${group} has no cgroup` }),
    readTaskGroup: () => undefined,
    closeTaskGroup: () => Promise.resolve(),
  };
}
