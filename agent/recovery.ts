/**
 * A new agent finds its tasks again: checkpoints say what was launched, systemd says what became of it. Nothing is
 * started twice, and an end that was read before is told as it was read.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { TaskCheckpoint } from './checkpoint.ts';
import { keepEnded } from './core/ended.ts';
import { judgeAbsentUnit, recoveredEntry } from './core/recovery.ts';
import type { AgentTaskEntry } from './core/state.ts';
import { createAgentState } from './core/state.ts';
import type { AgentEvent, LaunchRef } from './core/events.ts';
import { step } from './core/step.ts';
import { agentUnitPattern } from './core/unit-names.ts';
import { hasEnd, killDue, knownEvents } from './checkpoint-events.ts';
import type { ExecutorNews } from './recovery-executors.ts';
import { recoverExecutors } from './recovery-executors.ts';
import type { RecoveryOptions } from './recovery-options.ts';

/**
 * Fills an empty state. Effects are not performed: updates are sent when the agent registers.
 *
 * @returns what has become of executors meanwhile, which has effects
 */
export async function recover(options: RecoveryOptions): Promise<ExecutorNews> {
  const { state, systemd, checkpoints, runner, adopter, log } = options;
  await recoverEnded(options);
  // Of two launches of one task the ended one comes first: the other one would not be there if it had not gone.
  const all = (await checkpoints.readAll()).sort((a, b) => Number(hasEnd(b)) - Number(hasEnd(a)));
  const executors = all.filter(({ task }) => task.executor !== undefined);
  const news = await recoverExecutors(options, executors);
  for (const checkpoint of all) {
    if (checkpoint.task.executor) continue;
    const entry = recoveredEntry({ ...checkpoint, killAtMs: killDue(checkpoint, options.clock) });
    const older = state.tasks.get(entry.key);
    if (older) runner.forget(older);
    state.tasks.set(entry.key, entry);
    const found = await recoverTask(options, checkpoint, entry);
    log.info('task.recovered', { unit: entry.unit, taskId: entry.task.taskId, found });
  }
  await adopter.adopt(await systemd.listUnits(agentUnitPattern(state.agentTag)));
  return news;
}

async function recoverEnded({ state, checkpoints, clock }: RecoveryOptions): Promise<void> {
  for (const { checkpoint, agoMs } of await checkpoints.readEnded(clock.wallMs())) {
    if (checkpoint.task.executor) {
      state.endedExecutors.set(checkpoint.launchId, clock.monotonicMs() - agoMs);
      continue;
    }
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
    isOfUser: options.ofUser !== undefined,
    isFenced: checkpoint.task.whenUnreachable !== 'keep',
    // The file is made when all is ready and before systemd is asked: from then on it may have run.
    wasExecuted: checkpoint.rebuilt || existsSync(join(checkpoint.sandbox, 'stdout')),
  });
  if (absent) {
    runner.lose(entry, absent.message);
    tell(absent);
  } else runner.start(entry);
  return absent ? 'no unit' : 'not started yet';
}
