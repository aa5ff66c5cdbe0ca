/**
 * A new agent finds its tasks again: checkpoints say what was launched, systemd says what became of it. Nothing is
 * started twice, and an end that was read before is told as it was read.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Clock } from '../io/clock.ts';
import type { Log } from '../io/log.ts';
import type { Systemd } from '../systemd/port.ts';
import type { Adopter } from './adopt.ts';
import type { Checkpoints, TaskCheckpoint } from './checkpoint.ts';
import { keepEnded } from './core/ended.ts';
import { judgeAbsentUnit, recoveredEntry } from './core/recovery.ts';
import type { AgentState, AgentTaskEntry } from './core/state.ts';
import { createAgentState } from './core/state.ts';
import type { AgentEvent, LaunchRef } from './core/step.ts';
import { step } from './core/step.ts';
import { agentUnitPattern } from './core/unit-names.ts';
import { readOutputEnd } from './sandbox.ts';
import type { TaskRunner } from './task-runner.ts';

/** The longest grace period that a task or a kill can have, milliseconds. */
const KILL_GRACE_MAX_MS = 3_600_000;

/** The empty state to fill, and what is known of before. */
export interface RecoveryOptions {
  readonly state: AgentState;
  readonly systemd: Systemd;
  readonly checkpoints: Checkpoints;
  readonly runner: TaskRunner;
  readonly adopter: Adopter;
  readonly clock: Clock;
  readonly log: Log;
  readonly bootId: string;
}

/** Fills an empty state. Effects are not performed: updates are sent when the agent registers. */
export async function recover(options: RecoveryOptions): Promise<void> {
  const { state, systemd, checkpoints, runner, adopter, log } = options;
  await recoverEnded(options);
  // Of two launches of one task the ended one comes first: the other one would not be there if it had not gone.
  const all = (await checkpoints.readAll()).sort((a, b) => Number(hasEnd(b)) - Number(hasEnd(a)));
  for (const checkpoint of all) {
    const entry = recoveredEntry({ ...checkpoint, killAtMs: killDue(checkpoint, options.clock) });
    const older = state.tasks.get(entry.key);
    if (older) runner.forget(older);
    state.tasks.set(entry.key, entry);
    const found = await recoverTask(options, checkpoint, entry);
    log.info('task.recovered', { unit: entry.unit, taskId: entry.task.taskId, found });
  }
  await adopter.adopt(await systemd.listUnits(agentUnitPattern(state.agentTag)));
}

async function recoverEnded({ state, checkpoints, clock }: RecoveryOptions): Promise<void> {
  for (const { checkpoint, agoMs } of await checkpoints.readEnded(clock.wallMs())) {
    const entry = recoveredEntry(checkpoint);
    const alone = createAgentState(state);
    alone.tasks.set(entry.key, entry);
    for (const event of knownEvents(checkpoint, entry)) step(alone, event, 0);
    const acknowledgedAtMs = clock.monotonicMs() - agoMs;
    if (entry.last) keepEnded(state, entry.launchId, { status: entry.last, acknowledgedAtMs });
  }
}

/** @returns what was found, for the log */
async function recoverTask(
  options: RecoveryOptions,
  checkpoint: TaskCheckpoint,
  entry: AgentTaskEntry,
): Promise<string> {
  const { state, systemd, runner } = options;
  const tell = (event: AgentEvent): void => {
    step(state, event, 0);
  };
  const known = knownEvents(checkpoint, entry);
  if (known.length > 0) {
    known.forEach(tell);
    if (checkpoint.ended) runner.release(entry);
    return 'ended';
  }
  const launch: LaunchRef = { key: entry.key, launchId: entry.launchId };
  const status = await systemd.readUnit(entry.unit);
  if (status) {
    tell({ type: 'unit.started', ...launch });
    runner.look(entry);
    return status.subState;
  }
  const absent = judgeAbsentUnit(launch, {
    sameBoot: checkpoint.bootId === options.bootId,
    // systemd makes the file when it executes the command.
    isFenced: checkpoint.task.whenUnreachable !== 'keep',
    wasExecuted: checkpoint.rebuilt || existsSync(join(checkpoint.sandbox, 'stdout')),
  });
  if (absent) {
    runner.lose(entry, absent.message);
    tell(absent);
  } else runner.start(entry);
  return absent ? 'no unit' : 'not started yet';
}

/** A clock that was set meanwhile makes nobody wait longer than a grace period can be. */
function killDue({ killAtMs }: TaskCheckpoint, clock: Clock): number | undefined {
  if (killAtMs === undefined) return undefined;
  const leftMs = Math.max(0, killAtMs - clock.wallMs());
  return clock.monotonicMs() + Math.min(leftMs, KILL_GRACE_MAX_MS);
}

function hasEnd({ failed, ended, lost }: TaskCheckpoint): boolean {
  return failed !== undefined || ended !== undefined || lost !== undefined;
}

/** What the checkpoint itself says of the end; empty if it says nothing. */
function knownEvents(checkpoint: TaskCheckpoint, { key, launchId }: LaunchRef): AgentEvent[] {
  const { failed, ended, lost, sandbox } = checkpoint;
  if (failed) return [{ type: 'unit.failed', key, launchId, ...failed }];
  if (lost !== undefined) return [{ type: 'unit.lost', key, launchId, message: lost }];
  if (!ended) return [];
  const certificate = { ...ended.certificate, ...readOutputEnd(sandbox) };
  return [
    { type: 'unit.started', key, launchId },
    { type: 'unit.ended', key, launchId, ended: { ...ended, certificate } },
  ];
}
