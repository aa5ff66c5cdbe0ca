/** Other limits for what runs: of a task's own unit, or of its own cgroup in its executor's. */
import type { Log } from '../io/log.ts';
import { KaonError, messageOf } from '../protocol/errors.ts';
import type { Resources } from '../protocol/resources.ts';
import type { Systemd } from '../systemd/port.ts';
import type { AgentEffect, AgentEvent } from './core/events.ts';
import type { UnitEntry } from './core/state.ts';
import { isExecutor } from './core/state.ts';
import { frameworkSlice } from './core/unit-names.ts';
import type { ExecutorHost } from './executor-host.ts';

/** What limits are changed with. */
export interface Resizing {
  readonly systemd: Systemd;
  readonly log: Log;
  readonly host: ExecutorHost;
  readonly agentTag: string;
}

/** @returns what has become of the wish, as an event for the core; never throws */
export async function resize(
  resizing: Resizing,
  { entry, limits, resizeId }: Extract<AgentEffect, { type: 'unit.resize' }>,
): Promise<AgentEvent> {
  const { key, launchId, unit } = entry;
  const result = (inForce: Resources, error?: string): AgentEvent => ({
    ...{ type: 'unit.resized', key, launchId, resizeId, limits: inForce },
    ...(error !== undefined && { error }),
  });
  try {
    const inForce =
      !isExecutor(entry) && entry.hosted
        ? await resizing.host.resizeTask(entry, limits)
        : await resizeUnit(resizing, entry, limits);
    resizing.log.info('unit.resized', { unit, ...inForce });
    const isLess = inForce.memMib > limits.memMib;
    return result(inForce, isLess ? 'its memory is in use: the limit is not lower yet' : undefined);
  } catch (error) {
    return result(entry.task.resources, messageOf(error));
  }
}

async function resizeUnit(
  { systemd, agentTag }: Resizing,
  { framework, unit }: UnitEntry,
  limits: Resources,
): Promise<Resources> {
  const slice = frameworkSlice(agentTag, framework.frameworkId);
  const { cpuMillis, memMib: memoryMib } = limits;
  const result = await systemd.resizeUnit(slice, unit, { cpuMillis, memoryMib });
  if (!result.ok) throw new KaonError('resize-failed', result.message);
  return { cpuMillis, memMib: result.memoryMib };
}
