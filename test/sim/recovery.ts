/** A new agent finds its tasks again: the rules of `agent/recovery.ts` and `agent/adopt.ts`. */
import { keepEnded } from '../../agent/core/ended.ts';
import { addExecutor } from '../../agent/core/executors.ts';
import { judgeAbsentUnit, judgeFoundExecutor, recoveredEntry } from '../../agent/core/recovery.ts';
import type { AgentState, AgentTaskEntry, UnitEntry } from '../../agent/core/state.ts';
import { createAgentState } from '../../agent/core/state.ts';
import type { AgentEffect, AgentEvent } from '../../agent/core/events.ts';
import { step as productionStep } from '../../agent/core/step.ts';
import type { Checkpoint, Disk } from './disk.ts';
import type { AgentStep } from './mutation.ts';
import { recoverExecutors } from './recovery-executors.ts';
import type { SimRunner } from './runner.ts';
import type { SimSystemd, SimUnit, SimUnitSpec } from './systemd.ts';
import type { Process, World } from './world.ts';

export interface RecoveryOptions {
  readonly world: World;
  readonly systemd: SimSystemd;
  readonly disk: Disk;
  readonly bootId: number;
  readonly process: Process;
  readonly state: AgentState;
  readonly runner: SimRunner;
  readonly step: AgentStep;
  readonly remembersEnds: boolean;
}

/** What has become of executors meanwhile: to be done and told once the agent can. */
export interface ExecutorNews {
  readonly events: AgentEvent[];
  readonly effects: AgentEffect[];
}

/** Fills an empty state, one checkpoint after the other. */
export function recover(options: RecoveryOptions, done: (news: ExecutorNews) => void): void {
  const { disk, process, state, systemd } = options;
  recoverEnded(options);
  // Of two launches of one task the ended one comes first, as in production.
  const all = [...disk.live.values()].sort((a, b) => Number(hasEnd(b)) - Number(hasEnd(a)));
  const checkpoints = all.filter(({ task }) => !task.executor);
  const next = (news: ExecutorNews): void => {
    const checkpoint = checkpoints.shift();
    if (!checkpoint) {
      systemd.listUnits((listed) => {
        process.run(() => {
          adoptUnknown(options, listed);
          done(news);
        });
      });
      return;
    }
    const entry = recoveredEntry(checkpoint);
    const older = state.tasks.get(entry.key);
    if (older) options.runner.forget(older);
    state.tasks.set(entry.key, entry);
    recoverTask(options, checkpoint, entry, () => {
      next(news);
    });
  };
  process.after(0, () => {
    recoverExecutors(
      options,
      all.filter(({ task }) => task.executor),
      next,
    );
  });
}

export function hasEnd({ failed, ended, lost }: Checkpoint): boolean {
  return failed !== undefined || ended !== undefined || lost !== undefined;
}

function recoverEnded({ disk, state, remembersEnds }: RecoveryOptions): void {
  for (const { checkpoint, retiredAtMs } of disk.ended.values()) {
    if (checkpoint.task.executor) {
      state.endedExecutors.set(checkpoint.launchId, retiredAtMs);
      continue;
    }
    if (!remembersEnds) continue;
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
  const { systemd, process, state, runner, step } = options;
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
      const absent = unit ? undefined : judgeAbsent(options, checkpoint, entry);
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

/** What became of a unit that is not there; undefined: it was never started. */
export function judgeAbsent(
  { bootId, disk }: RecoveryOptions,
  checkpoint: Checkpoint,
  entry: UnitEntry,
): ReturnType<typeof judgeAbsentUnit> {
  return judgeAbsentUnit(entry, {
    sameBoot: checkpoint.bootId === bootId,
    isFenced: checkpoint.task.whenUnreachable !== 'keep',
    wasExecuted: checkpoint.rebuilt || disk.executed.has(entry.launchId),
  });
}

export function knownEvents(
  { failed, lost, ended }: Checkpoint,
  { key, launchId }: UnitEntry,
): AgentEvent[] {
  if (failed !== undefined) return [{ type: 'unit.failed', key, launchId, message: failed }];
  if (lost !== undefined) return [{ type: 'unit.lost', key, launchId, message: lost }];
  if (!ended) return [];
  return [
    { type: 'unit.started', key, launchId },
    { type: 'unit.ended', key, launchId, ended },
  ];
}

type Adopting = Pick<RecoveryOptions, 'world' | 'systemd' | 'state' | 'runner'>;

/** Units that no checkpoint speaks of are known from their own records. @returns the events of their coming */
export function adoptUnknown(
  options: Adopting,
  listed: ReadonlyMap<string, SimUnit>,
  tell?: (event: AgentEvent) => void,
): void {
  const { state } = options;
  const entries = [...state.tasks.values(), ...state.executors.values()];
  const known = new Set(entries.map(({ unit }) => unit));
  for (const [unit, { spec }] of listed) {
    if (known.has(unit)) continue;
    const entry = spec.task.executor ? foundExecutor(options, spec) : foundTask(options, spec);
    if (!entry) continue;
    options.runner.adopt(entry);
    const event = { type: 'unit.started' as const, key: entry.key, launchId: entry.launchId };
    if (tell) tell(event);
    else productionStep(state, event, options.world.nowMs);
    options.runner.look(entry);
  }
}

function foundTask({ state, runner }: Adopting, spec: SimUnitSpec): UnitEntry | undefined {
  const entry = recoveredEntry({ ...spec, unit: spec.name });
  if (state.tasks.has(entry.key)) return undefined;
  if (state.ended.has(entry.launchId)) {
    runner.release(entry);
    return undefined;
  }
  state.tasks.set(entry.key, entry);
  return entry;
}

/** Its tasks are known again when it connects. */
function foundExecutor(
  { world, systemd, state }: Adopting,
  { framework, detached, task, launchId, name: unit }: SimUnitSpec,
): UnitEntry | undefined {
  const { executor: info } = task;
  if (!info) return undefined;
  const { executorId } = info;
  const whose = { cluster: 'sim', agentId: state.agentId };
  const launch = { framework, detached, task, launchId, unit };
  const verdict = judgeFoundExecutor(state, 'sim', { ...launch, ...whose, executorId });
  if (verdict.action === 'release') systemd.releaseUnit(unit, () => undefined);
  if (verdict.action !== 'adopt') return undefined;
  return addExecutor(state, { framework, detached, info, launchId, unit }, world.nowMs);
}
