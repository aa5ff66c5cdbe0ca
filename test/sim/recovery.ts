/** A new agent finds its tasks again: the rules of `agent/recovery.ts` and `agent/adopt.ts`. */
import { keepEnded } from '../../agent/core/ended.ts';
import { judgeAbsentUnit, recoveredEntry } from '../../agent/core/recovery.ts';
import type { AgentState, AgentTaskEntry } from '../../agent/core/state.ts';
import { createAgentState } from '../../agent/core/state.ts';
import type { AgentEvent } from '../../agent/core/step.ts';
import { step as productionStep } from '../../agent/core/step.ts';
import type { Checkpoint, Disk } from './disk.ts';
import type { AgentStep } from './mutation.ts';
import type { SimRunner } from './runner.ts';
import type { SimSystemd, SimUnit } from './systemd.ts';
import type { Process } from './world.ts';

export interface RecoveryOptions {
  readonly systemd: SimSystemd;
  readonly disk: Disk;
  readonly bootId: number;
  readonly process: Process;
  readonly state: AgentState;
  readonly runner: SimRunner;
  readonly step: AgentStep;
  readonly remembersEnds: boolean;
}

/** Fills an empty state, one checkpoint after the other. */
export function recover(options: RecoveryOptions, done: () => void): void {
  const { disk, process, state, systemd } = options;
  if (options.remembersEnds) recoverEnded(options);
  // Of two launches of one task the ended one comes first, as in production.
  const checkpoints = [...disk.live.values()].sort((a, b) => Number(hasEnd(b)) - Number(hasEnd(a)));
  const next = (): void => {
    const checkpoint = checkpoints.shift();
    if (!checkpoint) {
      systemd.listUnits((listed) => {
        process.run(() => {
          adoptUnknown(options, listed);
          done();
        });
      });
      return;
    }
    const entry = recoveredEntry(checkpoint);
    const older = state.tasks.get(entry.key);
    if (older) options.runner.forget(older);
    state.tasks.set(entry.key, entry);
    recoverTask(options, checkpoint, entry, next);
  };
  process.after(0, next);
}

function hasEnd({ failed, ended, lost }: Checkpoint): boolean {
  return failed !== undefined || ended !== undefined || lost !== undefined;
}

function recoverEnded({ disk, state }: RecoveryOptions): void {
  for (const { checkpoint, retiredAtMs } of disk.ended.values()) {
    const entry = recoveredEntry(checkpoint);
    const alone = createAgentState(state);
    alone.tasks.set(entry.key, entry);
    for (const event of knownEvents(checkpoint, entry)) productionStep(alone, event, 0);
    if (entry.last)
      keepEnded(state, entry.launchId, { status: entry.last, acknowledgedAtMs: retiredAtMs });
  }
}

function recoverTask(
  options: RecoveryOptions,
  checkpoint: Checkpoint,
  entry: AgentTaskEntry,
  next: () => void,
): void {
  const { systemd, disk, bootId, process, state, runner, step } = options;
  const { key, launchId } = entry;
  const known = knownEvents(checkpoint, entry);
  if (known.length > 0) {
    for (const event of known) step(state, event, 0);
    if (checkpoint.ended) runner.release(entry);
    next();
    return;
  }
  systemd.readUnit(entry.unit, (unit) => {
    process.run(() => {
      const absent = judgeAbsentUnit(entry, {
        sameBoot: checkpoint.bootId === bootId,
        isFenced: checkpoint.task.whenUnreachable !== 'keep',
        wasExecuted: checkpoint.rebuilt || disk.executed.has(launchId),
      });
      if (unit) {
        step(state, { type: 'unit.started', key, launchId }, 0);
        runner.look(entry);
      } else if (absent) {
        runner.lose(entry, absent.message);
        step(state, absent, 0);
      } else runner.start(entry);
      next();
    });
  });
}

function knownEvents(
  { failed, lost, ended }: Checkpoint,
  { key, launchId }: AgentTaskEntry,
): AgentEvent[] {
  if (failed !== undefined) return [{ type: 'unit.failed', key, launchId, message: failed }];
  if (lost !== undefined) return [{ type: 'unit.lost', key, launchId, message: lost }];
  if (!ended) return [];
  return [
    { type: 'unit.started', key, launchId },
    { type: 'unit.ended', key, launchId, ended },
  ];
}

/** Units that no checkpoint speaks of are known from their own records. @returns the events of their coming */
export function adoptUnknown(
  { state, runner }: Pick<RecoveryOptions, 'state' | 'runner'>,
  listed: ReadonlyMap<string, SimUnit>,
  tell?: (event: AgentEvent) => void,
): void {
  const known = new Set([...state.tasks.values()].map(({ unit }) => unit));
  for (const [unit, { spec }] of listed) {
    if (known.has(unit)) continue;
    const entry = recoveredEntry({ ...spec, unit });
    if (state.tasks.has(entry.key)) continue;
    if (state.ended.has(entry.launchId)) {
      runner.release(entry);
      continue;
    }
    state.tasks.set(entry.key, entry);
    runner.adopt(entry);
    const event = { type: 'unit.started' as const, key: entry.key, launchId: entry.launchId };
    if (tell) tell(event);
    else productionStep(state, event, 0);
    runner.look(entry);
  }
}
