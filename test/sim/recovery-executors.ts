/** A new agent finds its executors again: the rules of `agent/recovery-executors.ts`. */
import { pruneEnded } from '../../agent/core/ended.ts';
import type { Context } from '../../agent/core/events.ts';
import {
  addExecutor,
  executorEnded,
  executorStarted,
  forgetExecutor,
  registrationFailure,
} from '../../agent/core/executors.ts';
import { replayJournal } from '../../agent/core/replay-journal.ts';
import type { ExecutorEntry } from '../../agent/core/state.ts';
import { judgeExecutorLost } from '../../agent/core/verdict-hosted.ts';
import { executorKey } from '../../protocol/ids.ts';
import type { LaunchId } from '../../protocol/ids.ts';
import type { Checkpoint } from './disk.ts';
import type { DiskJournal } from './journals.ts';
import type { ExecutorNews, RecoveryOptions } from './recovery.ts';
import { hasEnd, judgeAbsent, knownEvents } from './recovery.ts';

type Next = (news: ExecutorNews) => void;
type Journals = Map<LaunchId, DiskJournal>;

/** Adds executors and their tasks to the state. @param all checkpoints of executors */
export function recoverExecutors(
  options: RecoveryOptions,
  all: readonly Checkpoint[],
  done: Next,
): void {
  const { disk, state, world } = options;
  const news: ExecutorNews = { events: [], effects: [] };
  const journals: Journals = new Map(
    disk.readJournals().map((journal) => [journal.head.launchId, journal]),
  );
  const checkpoints = [...all].sort((a, b) => Number(hasEnd(b)) - Number(hasEnd(a)));
  const next = (): void => {
    const checkpoint = checkpoints.shift();
    if (checkpoint) {
      const executor = addRecovered(options, checkpoint, journals);
      if (executor) lookFor(options, { checkpoint, executor, news }, next);
      else next();
      return;
    }
    const [alone] = journals;
    if (alone) {
      journals.delete(alone[0]);
      recoverWithoutCheckpoint(options, { journal: alone[1], news }, next);
      return;
    }
    for (const launchId of pruneEnded(state, world.nowMs))
      news.effects.push({ type: 'ended.forget', launchId });
    done(news);
  };
  next();
}

function addRecovered(
  { state, world }: RecoveryOptions,
  checkpoint: Checkpoint,
  journals: Journals,
): ExecutorEntry | undefined {
  const { task, framework, detached, launchId, unit, kill, killAtMs = 0 } = checkpoint;
  const { executor: info } = task;
  if (!info) return undefined;
  const asked = kill && { kill: { by: kill, deadlineMs: killAtMs } };
  const launch = { framework, detached, info, launchId, unit, ...asked };
  const executor = addExecutor(state, launch, world.nowMs);
  const journal = journals.get(launchId);
  journals.delete(launchId);
  if (journal) replayJournal(state, executor, journal.lines, world.nowMs);
  if (kill === 'agent' && executor.tasks.size > 0)
    executor.failure = registrationFailure(executor.info);
  return executor;
}

interface Found {
  readonly checkpoint: Checkpoint;
  readonly executor: ExecutorEntry;
  readonly news: ExecutorNews;
}

function lookFor(
  options: RecoveryOptions,
  { checkpoint, executor, news }: Found,
  next: () => void,
): void {
  const { state, systemd, runner, world, process } = options;
  const known = knownEvents(checkpoint, executor);
  if (known.length > 0) {
    news.events.push(...known);
    if (checkpoint.ended) runner.release(executor);
    next();
    return;
  }
  systemd.readUnit(executor.unit, (unit) => {
    process.run(() => {
      const absent = unit ? undefined : judgeAbsent(options, checkpoint, executor);
      if (unit) {
        executorStarted({ state, nowMs: world.nowMs, effects: [] }, executor, undefined);
        runner.look(executor);
      } else if (absent) {
        runner.lose(executor, absent.message);
        news.events.push(absent);
      } else runner.start(executor);
      next();
    });
  });
}

/** A journal alone: its executor has ended before, or its checkpoint is lost. */
function recoverWithoutCheckpoint(
  options: RecoveryOptions,
  { journal, news }: { readonly journal: DiskJournal; readonly news: ExecutorNews },
  next: () => void,
): void {
  const { state, world, systemd, runner, process } = options;
  const { head, lines } = journal;
  const cx: Context = { state, nowMs: world.nowMs, effects: news.effects };
  const living = state.executors.get(executorKey(head.framework.frameworkId, head.info.executorId));
  const executor = addExecutor(state, head, world.nowMs);
  replayJournal(state, executor, lines, world.nowMs);
  const over = (): void => {
    if (executor.tasks.size > 0) {
      const why = 'it ended while no agent was running';
      executorEnded(cx, executor, judgeExecutorLost(executor, why));
    } else forgetExecutor(cx, executor);
    if (living) state.executors.set(living.key, living);
    next();
  };
  if (living || state.endedExecutors.has(head.launchId)) {
    over();
    return;
  }
  systemd.readUnit(head.unit, (unit) => {
    process.run(() => {
      if (!unit) {
        over();
        return;
      }
      runner.adopt(executor);
      executorStarted({ ...cx, effects: [] }, executor, undefined);
      runner.look(executor);
      next();
    });
  });
}
