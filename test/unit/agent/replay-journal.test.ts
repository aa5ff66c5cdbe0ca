import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { AgentEffect, JournalLine } from '../../../agent/core/events.ts';
import { addExecutor } from '../../../agent/core/executors.ts';
import { replayJournal } from '../../../agent/core/replay-journal.ts';
import type { AgentState, ExecutorEntry } from '../../../agent/core/state.ts';
import { createAgentState } from '../../../agent/core/state.ts';
import { ExecutorJournals } from '../../../agent/executor-journal.ts';
import { silentLog } from '../../../io/log.ts';
import type { TaskStatus } from '../../../protocol/task.ts';
import { amount, frameworkInfo, launchIdOf } from '../../support/builders.ts';
import { benchWithTasks, createExecutorBench, type ExecutorBench } from './executor-bench.ts';
import { anyActions, perform, pictureOf } from './random-executor.ts';

/** The next agent, with what the journal says. */
function replayed(
  bench: ExecutorBench,
  lines: readonly JournalLine[] = bench.journal,
): { readonly state: AgentState; readonly executor: ExecutorEntry } {
  const state = createAgentState(bench.state);
  return { state, executor: added(state, bench.info, lines) };
}

function added(
  state: AgentState,
  info: ExecutorBench['info'],
  lines: readonly JournalLine[],
): ExecutorEntry {
  const launch = { framework: frameworkInfo('f1'), detached: false, launchId: launchIdOf('x1') };
  const executor = addExecutor(state, { ...launch, info }, 0);
  replayJournal(state, executor, lines, 0);
  return executor;
}

describe('whatever happens to an executor and its tasks', () => {
  test('the next agent knows the same of them by the journal', () => {
    fc.assert(
      fc.property(anyActions, fc.boolean(), (actions, isAlone) => {
        const bench = createExecutorBench({ isolation: isAlone ? 'task' : 'container' });
        for (const action of actions) perform(bench, action);
        const next = replayed(bench);
        expect(pictureOf(next.state, next.executor)).toEqual(
          pictureOf(bench.state, bench.executor),
        );
        // It forgets later what is too old, and does not remember what was never taken.
        const ended = [...bench.state.ended.values()].flatMap(({ status }) =>
          status.state === 'TASK_DROPPED' ? [] : (status.launchId ?? []),
        );
        expect([...next.state.ended.keys()]).toEqual(expect.arrayContaining(ended));
      }),
    );
  });

  test('the next agent knows the same by a journal on disk that was written anew again and again', () => {
    const directory = mkdtempSync(join(tmpdir(), 'kaon-journal-'));
    try {
      fc.assert(
        fc.property(anyActions, (actions) => {
          const bench = createExecutorBench();
          const { agentId } = bench.state;
          const options = { directory, agentId, log: silentLog, compactBytes: 1000 };
          const journals = new ExecutorJournals(options);
          for (const action of actions) {
            for (const effect of perform(bench, action)) {
              if (effect.type === 'journal.append') journals.append(effect.executor, effect.line);
            }
            journals.flush();
          }
          journals.close();
          const [read] = new ExecutorJournals(options).readAll();
          const next = replayed(bench, read?.lines ?? []);
          journals.remove(bench.executor);
          expect(pictureOf(next.state, next.executor)).toEqual(
            pictureOf(bench.state, bench.executor),
          );
        }),
      );
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });

  test('what is said of a task for the first time is in the journal before', () => {
    fc.assert(
      fc.property(anyActions, (actions) => {
        const bench = createExecutorBench();
        const said = new Set<string>();
        for (const action of actions) checkOrder(perform(bench, action), said);
      }),
    );
  });

  test('a journal of which lines are missing is read all the same', () => {
    fc.assert(
      fc.property(anyActions, fc.infiniteStream(fc.boolean()), (actions, keep) => {
        const bench = createExecutorBench();
        for (const action of actions) perform(bench, action);
        const lines = bench.journal.filter(() => keep.next().value);
        const { state, executor } = replayed(bench, lines);
        const hosted = [...state.tasks.values()];
        const ended = hosted.filter(({ key }) => !executor.tasks.has(key));
        expect(executor.unacknowledged).toBe(ended.length);
        const needed = [...executor.tasks.values()].reduce(
          (sum, { task }) => sum + task.resources.memMib,
          executor.info.resources.memMib,
        );
        expect(executor.needed.memMib).toBe(needed);
      }),
    );
  });
});

/** An update that has never been said has its line in front of it. */
function checkOrder(effects: readonly AgentEffect[], said: Set<string>): void {
  const written: JournalLine[] = [];
  for (const effect of effects) {
    if (effect.type === 'journal.append') written.push(effect.line);
    if (effect.type !== 'message.send' || effect.message.type !== 'StatusUpdate') continue;
    const { status } = effect.message;
    const id = status.updateId;
    if (id === undefined || said.has(id)) continue; // Dropped or refused, or said again.
    said.add(id);
    expect(written.some((line) => isOf(line, status))).toBe(true);
  }
}

function isOf(line: JournalLine, { updateId, launchId }: TaskStatus): boolean {
  if (line.type === 'end') return line.status.updateId === updateId;
  if (line.type !== 'update') return false;
  const { update } = line.taken;
  return `${update.launchId}.${update.updateId}` === updateId && update.launchId === launchId;
}

describe('a task in a journal', () => {
  test('that was launched may have been handed over, which only its executor knows', () => {
    const { executor } = replayed(benchWithTasks(['t1']));
    expect([...executor.tasks.values()]).toMatchObject([{ started: true, state: 'TASK_STAGING' }]);
    expect(executor.waiting.size).toBe(0);
  });

  test('that was to be killed has the rest of its time again', () => {
    const bench = benchWithTasks(['t1']);
    bench.agent.kill('t1', 700);
    const { executor } = replayed(bench);
    expect([...executor.tasks.values()]).toMatchObject([
      { kill: { by: 'framework', deadlineMs: 700 } },
    ]);
  });

  test('that was given other limits has them', () => {
    const bench = benchWithTasks(['t1']);
    bench.resize('t1', amount(2, 256));
    expect(replayed(bench).executor.needed).toEqual(amount(2.1, 288));
  });

  test('with an end that only its agent has found is owed as it was told', () => {
    const bench = benchWithTasks(['t1']);
    bench.ended();
    const { state, executor } = replayed(bench);
    expect([...state.tasks.values()]).toMatchObject([
      { state: 'TASK_LOST', last: { message: 'Lost executor e1: exited with code 3' } },
    ]);
    expect([executor.tasks.size, executor.unacknowledged]).toEqual([0, 1]);
  });
});

test('an acknowledgement that is read twice counts once, and takes no later launch away', () => {
  const bench = benchWithTasks(['t1']);
  bench.update('t1', 'TASK_FINISHED', { updateId: 'f' });
  bench.agent.acknowledge('t1', 'k1.f');
  bench.host('t1', { launchId: 'k2' });
  const { state, executor } = replayed(bench, [
    ...bench.journal,
    { type: 'acknowledged', launchId: launchIdOf('k1') },
  ]);
  expect(executor.unacknowledged).toBe(0);
  expect([...state.tasks.values()]).toMatchObject([{ launchId: 'k2' }]);
});

test('an executor that has registered once has registered for the next agent, too', () => {
  expect(replayed(benchWithTasks(['t1'])).executor.isRegistered).toBe(true);
});

describe('of two launches of one task in two journals', () => {
  const launch = (launchId: string): JournalLine => {
    const bench = createExecutorBench();
    bench.host('t1', { launchId });
    return bench.journal[0] as JournalLine;
  };
  const ended = (launchId: string): JournalLine[] => {
    const bench = createExecutorBench();
    bench.host('t1', { launchId });
    bench.update('t1', 'TASK_FINISHED');
    return bench.journal;
  };

  test.each([
    ['first', [ended('k1'), [launch('k2')]]],
    ['last', [[launch('k2')], ended('k1')]],
  ])('the one that lives counts, also if the ended one is read %s', (_when, journals) => {
    const { state, info } = createExecutorBench();
    const executors = journals.map((lines) => added(state, info, lines));
    expect([...state.tasks.values()]).toMatchObject([{ launchId: 'k2', state: 'TASK_STAGING' }]);
    expect(executors.map(({ unacknowledged }) => unacknowledged)).toEqual([0, 0]);
  });
});
