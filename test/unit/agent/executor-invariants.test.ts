/** What holds for an executor and its tasks whatever happens to them, in any order. */
import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { AgentEffect } from '../../../agent/core/events.ts';
import { isTerminal, mayBecome } from '../../../protocol/task-state.ts';
import { amount } from '../../support/builders.ts';
import { createExecutorBench, type ExecutorBench } from './executor-bench.ts';
import { type Action, anyActions, perform } from './random-executor.ts';

/** The container as the kernel has it: limits in force, and those that may be at any moment. */
class Container {
  #inForceMib = 0;
  #onItsWayMib: number | undefined;

  /** What an action of the test says of it. */
  answer(bench: ExecutorBench, { what }: Action): void {
    if (what === 'started' && !bench.executor.started) {
      this.#inForceMib = bench.executor.needed.memMib;
    }
    if (what === 'resized') this.#inForceMib = this.#onItsWayMib ?? this.#inForceMib;
    if (what === 'resizeFailed' && this.#onItsWayMib !== undefined) this.#inForceMib = 0;
    if (what === 'resized' || what === 'resizeFailed') this.#onItsWayMib = undefined;
  }

  take(effect: AgentEffect): void {
    if (effect.type === 'container.resize') this.#onItsWayMib = effect.limits.memMib;
  }

  get leastMib(): number {
    return Math.min(this.#inForceMib, this.#onItsWayMib ?? Infinity);
  }
}

/** What the executor and the tasks that it has been given need. */
function givenMib({ executor }: ExecutorBench): number {
  const given = [...executor.tasks.values()].filter(({ started }) => started);
  return given.reduce(
    (sum, { task }) => sum + task.resources.memMib,
    executor.info.resources.memMib,
  );
}

test('a task is handed over only into a container that has room for all that is in it, and keeps it', () => {
  fc.assert(
    fc.property(anyActions, (actions) => {
      const bench = createExecutorBench();
      const container = new Container();
      for (const action of actions) {
        if (action.what !== 'host' || bench.journal.length > 0) container.answer(bench, action);
        for (const effect of perform(bench, action)) {
          container.take(effect);
          if (effect.type !== 'hosted.give') continue;
          expect(container.leastMib).toBeGreaterThanOrEqual(givenMib(bench));
        }
      }
    }),
  );
});

test('a task is handed over once to an executor that stays connected', () => {
  fc.assert(
    fc.property(anyActions, (actions) => {
      const bench = createExecutorBench();
      let given = new Set<string>();
      for (const action of actions) {
        if (action.what === 'return' || action.what === 'register') given = new Set();
        for (const effect of perform(bench, action)) {
          if (effect.type !== 'hosted.give') continue;
          for (const { launchId } of effect.entries) {
            expect(given).not.toContain(launchId);
            given.add(launchId);
          }
        }
      }
    }),
  );
});

test('a task of a group is handed over with all of its group', () => {
  fc.assert(
    fc.property(anyActions, (actions) => {
      const bench = createExecutorBench({ isolation: 'task' });
      for (const effect of actions.flatMap((action) => perform(bench, action))) {
        if (effect.type !== 'hosted.give') continue;
        const size = effect.entries[0]?.hosted?.groupSize ?? 1;
        expect(effect.entries.length).toBeGreaterThanOrEqual(size);
      }
    }),
  );
});

test('a task ends once, and never goes back', () => {
  fc.assert(
    fc.property(anyActions, (actions) => {
      const bench = createExecutorBench();
      const states = new Map<string, string>();
      for (const effect of actions.flatMap((action) => perform(bench, action))) {
        if (effect.type !== 'message.send' || effect.message.type !== 'StatusUpdate') continue;
        const { launchId = '', state, updateId } = effect.message.status;
        if (updateId === undefined) continue; // Dropped or refused: nothing is kept of it.
        const before = states.get(launchId) as typeof state | undefined;
        const isRepeated = before === state && isTerminal(state);
        expect(isRepeated || before === undefined || mayBecome(before, state)).toBe(true);
        states.set(launchId, state);
      }
    }),
  );
});

test('when nothing happens any more nothing waits for ever', () => {
  fc.assert(
    fc.property(anyActions, fc.boolean(), (actions, isAlone) => {
      const bench = createExecutorBench({ isolation: isAlone ? 'task' : 'container' });
      for (const action of actions) perform(bench, action);
      const { executor } = bench;
      if (executor.kill) return; // It ends, and its tasks with it.
      bench.started();
      bench.comeBack([]);
      for (let count = 0; count < 5; count += 1) {
        for (const { task } of executor.waiting) bench.prepared(task.taskId);
        while (executor.resizing) bench.resized();
        bench.agent.wait(60_000);
      }
      expect(executor.waiting.size).toBe(0);
      expect(executor.granted).toEqual(executor.needed);
    }),
  );
});

test('what is needed is what is there', () => {
  fc.assert(
    fc.property(anyActions, (actions) => {
      const bench = createExecutorBench();
      for (const action of actions) {
        perform(bench, action);
        const { executor, state } = bench;
        const live = [...state.tasks.values()].filter(
          (entry) => entry.hosted && !isTerminal(entry.state),
        );
        expect([...executor.tasks.values()]).toEqual(live);
        const sum = live.reduce((total, { task }) => total + task.resources.memMib, 32);
        expect(executor.needed.memMib).toBe(sum);
        expect(executor.unacknowledged).toBe(state.tasks.size - live.length);
      }
    }),
  );
});

test('a container of which nobody wants anything is as large as its executor', () => {
  const bench = createExecutorBench();
  bench.host('t1');
  bench.started();
  bench.register();
  bench.update('t1', 'TASK_FINISHED');
  bench.agent.wait(200);
  bench.agent.wait(200);
  bench.resized();
  expect(bench.executor.granted).toEqual(amount(0.1, 32));
});
