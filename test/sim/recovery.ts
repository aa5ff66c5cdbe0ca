/** A new agent finds its tasks again: the rules of `agent/recovery.ts`. */
import { judgeAbsentUnit, recoveredEntry } from '../../agent/core/recovery.ts';
import type { AgentState, AgentTaskEntry } from '../../agent/core/state.ts';
import type { AgentEvent } from '../../agent/core/step.ts';
import type { SimNode } from './agent.ts';
import type { Checkpoint } from './disk.ts';
import type { AgentStep } from './mutation.ts';
import type { SimRunner } from './runner.ts';
import type { Process } from './world.ts';

export interface RecoveryOptions {
  readonly node: SimNode;
  readonly process: Process;
  readonly state: AgentState;
  readonly runner: SimRunner;
  readonly step: AgentStep;
  readonly done: () => void;
}

/** Fills an empty state, one checkpoint after the other. */
export function recover(options: RecoveryOptions): void {
  const { node, process, state, done } = options;
  const checkpoints = [...node.disk.checkpoints.values()];
  const next = (): void => {
    const checkpoint = checkpoints.shift();
    if (!checkpoint) {
      done();
      return;
    }
    const entry = recoveredEntry(checkpoint);
    state.tasks.set(entry.key, entry);
    recoverTask(options, checkpoint, entry, next);
  };
  process.after(0, next);
}

function recoverTask(
  options: RecoveryOptions,
  checkpoint: Checkpoint,
  entry: AgentTaskEntry,
  next: () => void,
): void {
  const { node, process, state, runner, step } = options;
  const { key } = entry;
  const tell = (event: AgentEvent): void => {
    step(state, event, 0);
  };
  if (checkpoint.failed !== undefined) {
    tell({ type: 'unit.failed', key, message: checkpoint.failed });
    next();
    return;
  }
  if (checkpoint.ended) {
    tell({ type: 'unit.started', key });
    runner.release(entry);
    tell({ type: 'unit.ended', key, ended: checkpoint.ended });
    next();
    return;
  }
  node.systemd.readUnit(entry.unit, (unit) => {
    process.after(0, () => {
      // Nobody stops units by hand here, so one that is not there and has no end was never executed.
      const found = { sameBoot: checkpoint.bootId === node.bootId, wasExecuted: false };
      const absent = unit ? undefined : judgeAbsentUnit(key, found);
      if (unit) {
        tell({ type: 'unit.started', key });
        runner.look(entry);
      } else if (absent) tell(absent);
      else runner.start(entry);
      next();
    });
  });
}
