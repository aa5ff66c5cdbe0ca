/** A new agent finds its tasks again: the rules of `agent/recovery.ts`. */
import type { AgentState, AgentTaskEntry } from '../../agent/core/state.ts';
import type { AgentEvent } from '../../agent/core/step.ts';
import { taskKey } from '../../protocol/ids.ts';
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
    const entry = entryOf(checkpoint);
    state.tasks.set(entry.key, entry);
    recoverTask(options, checkpoint, entry, next);
  };
  process.after(0, next);
}

function entryOf(checkpoint: Checkpoint): AgentTaskEntry {
  const { frameworkId, frameworkName, task, launchId, unit, kill } = checkpoint;
  return {
    key: taskKey(frameworkId, task.taskId),
    frameworkId,
    frameworkName,
    task,
    launchId,
    unit,
    state: 'TASK_STAGING',
    started: false,
    ...(kill && { kill: { by: kill, deadlineMs: 0 } }),
    updates: [],
  };
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
      if (unit) {
        tell({ type: 'unit.started', key });
        runner.look(entry);
      } else if (checkpoint.bootId !== node.bootId) {
        tell({ type: 'unit.lost', key, message: 'the node was rebooted' });
      } else runner.start(entry);
      next();
    });
  });
}
