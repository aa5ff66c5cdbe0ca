/**
 * A new agent finds its executors again: checkpoints say which there were, journals what they had to do, and systemd what
 * became of them. They have gone on meanwhile, and connect again by themselves.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { executorKey } from '../protocol/ids.ts';
import type { TaskCheckpoint } from './checkpoint.ts';
import { hasEnd, killDue, knownEvents } from './checkpoint-events.ts';
import type { AgentEffect, AgentEvent, Context } from './core/events.ts';
import { pruneEnded } from './core/ended.ts';
import {
  addExecutor,
  executorEnded,
  executorStarted,
  forgetExecutor,
  registrationFailure,
} from './core/executors.ts';
import { judgeAbsentUnit } from './core/recovery.ts';
import { replayJournal } from './core/replay-journal.ts';
import type { ExecutorEntry } from './core/state.ts';
import { judgeExecutorLost } from './core/verdict-hosted.ts';
import type { ReadJournal } from './executor-journal-text.ts';
import type { RecoveryOptions } from './recovery-options.ts';

/** What has become of executors: to be told to the core, and to be done, once its effects can be performed. */
export interface ExecutorNews {
  readonly events: AgentEvent[];
  readonly effects: AgentEffect[];
}

/**
 * Adds executors and their tasks to the state.
 *
 * @param checkpoints those of executors
 */
export async function recoverExecutors(
  options: RecoveryOptions,
  checkpoints: readonly TaskCheckpoint[],
): Promise<ExecutorNews> {
  const { journals, log } = options;
  const byLaunch = new Map(journals.readAll().map((read) => [read.head.launchId, read]));
  const news: ExecutorNews = { events: [], effects: [] };
  // Of two launches of one executor the ended one comes first, and makes room.
  for (const checkpoint of [...checkpoints].sort((a, b) => Number(hasEnd(b)) - Number(hasEnd(a)))) {
    const executor = addRecovered(options, checkpoint, byLaunch.get(checkpoint.launchId));
    if (!executor) continue;
    byLaunch.delete(checkpoint.launchId);
    const { unit, tasks } = executor;
    const found = await lookFor(options, checkpoint, executor, news);
    log.info('executor.recovered', { unit, tasks: tasks.size, found });
  }
  for (const journal of byLaunch.values()) await recoverWithoutCheckpoint(options, journal, news);
  // A journal may tell of more ends than are worth to be remembered, or than fit into a registration.
  for (const launchId of pruneEnded(options.state, options.clock.monotonicMs())) {
    news.effects.push({ type: 'ended.forget', launchId });
  }
  return news;
}

function addRecovered(
  { state, clock }: RecoveryOptions,
  checkpoint: TaskCheckpoint,
  journal: ReadJournal | undefined,
): ExecutorEntry | undefined {
  const { task, framework, detached, launchId, unit, kill } = checkpoint;
  if (!task.executor) return undefined;
  const deadlineMs = killDue(checkpoint, clock) ?? 0;
  const launch = {
    ...{ framework, detached, info: task.executor, launchId, unit },
    directories: task.directories,
    ...(kill && { kill: { by: kill, deadlineMs } }),
  };
  const nowMs = clock.monotonicMs();
  const executor = addExecutor(state, launch, nowMs);
  if (journal) replayJournal(state, executor, journal.lines, nowMs);
  // Why it was ended is not in the checkpoint: without tasks it does not matter, and with tasks it can be but one thing.
  if (kill === 'agent' && executor.tasks.size > 0) {
    executor.failure = registrationFailure(executor.info);
  }
  return executor;
}

/** @returns what was found, for the log */
async function lookFor(
  options: RecoveryOptions,
  checkpoint: TaskCheckpoint,
  executor: ExecutorEntry,
  { events }: ExecutorNews,
): Promise<string> {
  const { state, systemd, runner, clock, bootId } = options;
  const known = knownEvents(checkpoint, executor);
  if (known.length > 0) {
    events.push(...known);
    if (checkpoint.ended) runner.release(executor);
    return 'ended';
  }
  const status = await systemd.readUnit(executor.unit);
  if (status) {
    const cx = { state, nowMs: clock.monotonicMs(), effects: [] };
    executorStarted(cx, executor, undefined);
    runner.look(executor);
    return status.subState;
  }
  const absent = judgeAbsentUnit(executor, {
    sameBoot: checkpoint.bootId === bootId,
    isOfUser: options.ofUser !== undefined,
    isFenced: checkpoint.task.whenUnreachable !== 'keep',
    wasExecuted: checkpoint.rebuilt || existsSync(join(checkpoint.sandbox, 'stdout')),
  });
  if (absent) {
    runner.lose(executor, absent.message);
    events.push(absent);
  } else runner.start(executor);
  return absent ? 'no unit' : 'not started yet';
}

/**
 * A journal alone: its executor has ended before and some ends of its tasks have not been acknowledged, or its checkpoint is
 * lost.
 */
async function recoverWithoutCheckpoint(
  options: RecoveryOptions,
  { head, lines }: ReadJournal,
  { effects }: ExecutorNews,
): Promise<void> {
  const { state, clock, log, systemd, runner } = options;
  const { launchId, unit } = head;
  const cx: Context = { state, nowMs: clock.monotonicMs(), effects };
  const living = state.executors.get(executorKey(head.framework.frameworkId, head.info.executorId));
  const executor = addExecutor(state, head, cx.nowMs);
  replayJournal(state, executor, lines, cx.nowMs);
  const isThere = !living && !state.endedExecutors.has(launchId);
  if (isThere && (await systemd.readUnit(unit)) !== undefined) {
    log.warn('executor.recovered', { unit, tasks: executor.tasks.size, found: 'no checkpoint' });
    runner.adopt(executor);
    executorStarted({ ...cx, effects: [] }, executor, undefined);
    runner.look(executor);
    return;
  }
  log.info('executor.recovered', { unit, tasks: executor.tasks.size, found: 'ended before' });
  if (executor.tasks.size > 0) {
    executorEnded(cx, executor, judgeExecutorLost(executor, 'it ended while no agent was running'));
  } else forgetExecutor(cx, executor);
  if (living) state.executors.set(living.key, living);
}
