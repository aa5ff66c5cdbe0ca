/**
 * A new agent finds its tasks again: checkpoints say what was launched, systemd says what became of it. Nothing is
 * started twice, and an end that was read before is told as it was read.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Log } from '../io/log.ts';
import type { Systemd } from '../systemd/port.ts';
import type { Checkpoints, TaskCheckpoint } from './checkpoint.ts';
import { judgeAbsentUnit, recoveredEntry } from './core/recovery.ts';
import type { AgentState, AgentTaskEntry } from './core/state.ts';
import type { AgentEvent } from './core/step.ts';
import { step } from './core/step.ts';
import { readOutputEnd } from './sandbox.ts';
import type { TaskRunner } from './task-runner.ts';

/** The empty state to fill, and what is known of before. */
export interface RecoveryOptions {
  readonly state: AgentState;
  readonly systemd: Systemd;
  readonly checkpoints: Checkpoints;
  readonly runner: TaskRunner;
  readonly log: Log;
  readonly bootId: string;
}

/** Fills an empty state. Effects are not performed: updates are sent when the agent registers. */
export async function recover(options: RecoveryOptions): Promise<void> {
  const { state, checkpoints, log } = options;
  for (const checkpoint of await checkpoints.readAll()) {
    const entry = recoveredEntry(checkpoint);
    state.tasks.set(entry.key, entry);
    const found = await recoverTask(options, checkpoint, entry);
    log.info('task.recovered', { unit: entry.unit, taskId: entry.task.taskId, found });
  }
}

/** @returns what was found, for the log */
async function recoverTask(
  options: RecoveryOptions,
  checkpoint: TaskCheckpoint,
  entry: AgentTaskEntry,
): Promise<string> {
  const { state, systemd, runner } = options;
  const { key } = entry;
  const tell = (event: AgentEvent): void => {
    step(state, event, 0);
  };
  if (checkpoint.failed) {
    tell({ type: 'unit.failed', key, ...checkpoint.failed });
    return 'not started';
  }
  if (checkpoint.ended) {
    tell({ type: 'unit.started', key });
    runner.release(entry);
    const { result, certificate } = checkpoint.ended;
    const output = readOutputEnd(checkpoint.sandbox);
    tell({
      type: 'unit.ended',
      key,
      ended: { result, certificate: { ...certificate, ...output } },
    });
    return 'ended';
  }
  if (checkpoint.lost !== undefined) {
    tell({ type: 'unit.lost', key, message: checkpoint.lost });
    return 'lost';
  }
  const status = await systemd.readUnit(entry.unit);
  if (status) {
    tell({ type: 'unit.started', key });
    runner.look(entry);
    return status.subState;
  }
  const absent = judgeAbsentUnit(key, {
    sameBoot: checkpoint.bootId === options.bootId,
    // systemd makes the file when it executes the command.
    wasExecuted: existsSync(join(checkpoint.sandbox, 'stdout')),
  });
  if (absent) tell(absent);
  else runner.start(entry);
  return absent ? 'no unit' : 'not started yet';
}
