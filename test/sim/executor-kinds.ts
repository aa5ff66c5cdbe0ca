/** The executors that a framework has, and the tasks that it launches with them. */
import type { ExecutorInfo } from '../../protocol/executor.ts';
import type { ExecutorId } from '../../protocol/ids.ts';
import type { Character } from './character.ts';
import type { Random } from './random.ts';
import type { Timing } from './timing.ts';

const KINDS_MAX = 3;

/** Draws them; a framework that comes back knows them still. */
export function drawExecutors(
  random: Random,
  { executors, stopAfter }: Character,
  timing: Timing,
): ExecutorInfo[] {
  if (executors === 0) return [];
  return Array.from({ length: random.int(1, KINDS_MAX) }, (_, index): ExecutorInfo => {
    const isDefault = random.chance(0.5);
    const goesByItself = random.chance(0.3);
    const isFenced = random.chance(stopAfter);
    return {
      executorId: `x${index + 1}` as ExecutorId,
      name: 'executor',
      resources: { cpuMillis: random.int(1, 20) * 10, memMib: random.int(16, 64) },
      ...(!isDefault && { command: { argv: ['executor'], environment: {} } }),
      uris: [],
      isolation: random.pick(['container', 'task']),
      registrationTimeoutMs: timing.executorRegistrationMs,
      shutdownGracePeriodMs: random.int(0, 3000),
      ...((isDefault || goesByItself) && { idleTimeoutMs: timing.executorIdleMs }),
      whenUnreachable: isFenced ? { stopAfterMs: random.pick([15_000, 20_000]) } : 'keep',
      labels: {},
    };
  });
}

/** What makes a task one of an executor. */
export function ofExecutor(random: Random, info: ExecutorInfo, nonsense: number): object {
  const isAnother = random.chance(nonsense);
  const executor = isAnother ? { ...info, name: 'another' } : info;
  const { command, whenUnreachable } = info;
  return { executor, whenUnreachable, command: command ? undefined : { argv: ['work'] } };
}
