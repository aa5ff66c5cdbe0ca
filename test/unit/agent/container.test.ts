/**
 * The container of an executor: 0.1 cores and 32 MiB of its own, and 1 core and 128 MiB for each task. Memory in comments is
 * `needed / in force`, MiB.
 */
import { describe, expect, test } from '@jest/globals';
import { lines, messages } from '../../support/agent-bench.ts';
import { amount } from '../../support/builders.ts';
import {
  ALONE,
  benchWithTasks,
  createExecutorBench,
  type ExecutorBench,
  moves,
  WITH_ONE,
  WITH_TWO,
} from './executor-bench.ts';

/** What the agent does in that time, looking every 200 ms as its shell does. */
function ticks(bench: ExecutorBench, ms: number): string[] {
  const seen: string[] = [];
  for (let left = ms; left > 0; left -= 200) seen.push(...moves(bench.agent.wait(200)));
  return seen;
}

describe('a container grows', () => {
  test('to its executor and all tasks that wait, before any of them is handed over', () => {
    const bench = createExecutorBench();
    bench.host('t1');
    bench.started(); // 160 / 160
    bench.host('t2');
    bench.host('t3'); // 416 / 160
    expect(lines(bench.register())).toEqual([
      'tell e1 ExecutorRegistered',
      'limits e1 3.1 cpus, 416M',
    ]);
    expect(lines(bench.resized())).toEqual(['give e1 t1', 'give e1 t2', 'give e1 t3']);
  });

  test('before each later task', () => {
    const bench = benchWithTasks(['t1']);
    expect(moves(bench.host('t2'))).toEqual(['limits e1 2.1 cpus, 288M']);
    expect(moves(bench.resized())).toEqual(['give e1 t2']);
  });

  test('once for all that has come while it grew', () => {
    const bench = benchWithTasks(['t1']);
    bench.host('t2'); // 288 / 160 -> 288
    expect(moves(bench.host('t3'))).toEqual([]); // 416 / 160 -> 288
    expect(moves(bench.resized())).toEqual(['limits e1 3.1 cpus, 416M']);
    expect(moves(bench.resized())).toEqual(['give e1 t2', 'give e1 t3']);
  });

  test('by the component that has to and keeps the other', () => {
    const bench = benchWithTasks(['t1', 't2']);
    bench.update('t1', 'TASK_FINISHED'); // 1.1, 160 / 2.1, 288
    const task = { resources: amount(2, 16) }; // 3.1, 176 / 2.1, 288
    expect(moves(bench.host('t3', { task }))).toEqual(['limits e1 3.1 cpus, 288M']);
  });

  test('not at all for a task that it has room for', () => {
    const bench = benchWithTasks(['t1', 't2']);
    bench.update('t1', 'TASK_FINISHED'); // 160 / 288
    expect(moves(bench.host('t3'))).toEqual(['give e1 t3']);
  });

  test('again after the shrink that was on its way when a task came, which waits for it', () => {
    const bench = benchWithTasks(['t1', 't2']);
    bench.update('t1', 'TASK_FINISHED');
    expect(ticks(bench, 400)).toEqual(['limits e1 1.1 cpus, 160M']); // 160 / 288 -> 160
    expect(moves(bench.host('t3'))).toEqual([]); // 288 / 288 -> 160
    expect(moves(bench.resized())).toEqual(['limits e1 2.1 cpus, 288M']);
    expect(moves(bench.resized())).toEqual(['give e1 t3']);
  });

  test('before its executor registers, so that nothing waits for it then', () => {
    const bench = createExecutorBench();
    bench.host('t1');
    bench.started();
    bench.host('t2');
    expect(ticks(bench, 200)).toEqual(['limits e1 2.1 cpus, 288M']);
    bench.resized();
    expect(moves(bench.register())).toEqual(['give e1 t1', 'give e1 t2']);
  });

  test('to what is needed when a new agent does not know what it has', () => {
    const bench = createExecutorBench();
    bench.host('t1');
    bench.do({ type: 'unit.started', key: bench.executor.key, launchId: bench.executor.launchId });
    expect(ticks(bench, 200)).toEqual(['limits e1 1.1 cpus, 160M']);
    expect(moves(bench.register())).toEqual([]);
    expect(moves(bench.resized())).toEqual(['give e1 t1']);
  });

  test('never by the guess of an agent that does not know the tasks that are in it', () => {
    const bench = benchWithTasks(['t1']);
    bench.executor.hasJournal = false;
    bench.executor.granted = amount(0, 0);
    expect(ticks(bench, 1000)).toEqual([]);
  });
});

describe('limits that cannot be changed', () => {
  test('are tried again after a second, and nothing is handed over meanwhile', () => {
    const bench = benchWithTasks(['t1']);
    bench.host('t2');
    expect(moves(bench.resizeFailed())).toEqual([]);
    expect(ticks(bench, 800)).toEqual([]);
    expect(ticks(bench, 200)).toEqual(['limits e1 2.1 cpus, 288M']);
    expect(moves(bench.resized())).toEqual(['give e1 t2']);
  });

  test('to smaller ones may be anything, so that no task is handed over before they are known', () => {
    const bench = benchWithTasks(['t1', 't2']);
    bench.update('t1', 'TASK_FINISHED');
    ticks(bench, 400); // 160 / 288 -> 160
    bench.resizeFailed();
    expect(moves(bench.host('t3'))).toEqual([]);
    expect(ticks(bench, 1000)).toEqual(['limits e1 2.1 cpus, 288M']);
    expect(moves(bench.resized())).toEqual(['give e1 t3']);
  });

  test('of an executor that has ended meanwhile are nobody’s', () => {
    const bench = benchWithTasks(['t1']);
    bench.host('t2');
    bench.ended();
    expect([...bench.resized(WITH_TWO), ...bench.resizeFailed()]).toEqual([]);
    expect(ticks(bench, 2000)).toEqual([]);
  });
});

describe('a container shrinks', () => {
  test('a little after a task has ended', () => {
    const bench = benchWithTasks(['t1', 't2']);
    bench.agent.wait(200);
    bench.update('t1', 'TASK_FINISHED');
    expect(ticks(bench, 200)).toEqual([]);
    expect(ticks(bench, 200)).toEqual(['limits e1 1.1 cpus, 160M']);
    bench.resized();
    expect(ticks(bench, 10_000)).toEqual([]);
    expect(bench.executor.granted).toEqual(WITH_ONE);
  });

  test('when a task that waited for its executor is killed', () => {
    const bench = benchWithTasks(['t1']);
    bench.disconnect();
    bench.host('t2');
    ticks(bench, 200);
    bench.resized(); // 288 / 288
    bench.agent.kill('t2');
    expect(ticks(bench, 400)).toEqual(['limits e1 1.1 cpus, 160M']);
  });

  test('to its executor’s own when the last task has ended', () => {
    const bench = benchWithTasks(['t1']);
    bench.update('t1', 'TASK_FINISHED');
    expect(ticks(bench, 400)).toEqual(['limits e1 0.1 cpus, 32M']);
    bench.resized();
    expect(bench.executor.granted).toEqual(ALONE);
  });

  test('not at all while tasks of one size come and go', () => {
    const bench = benchWithTasks(['t1', 't2']);
    const seen: string[] = [];
    for (let count = 3; count < 103; count += 1) {
      bench.update(`t${String(count - 2)}`, 'TASK_FINISHED');
      seen.push(...moves(bench.agent.wait(70)), ...moves(bench.host(`t${String(count)}`)));
    }
    expect(seen.filter((line) => line.startsWith('limits'))).toEqual([]);
    expect(seen).toHaveLength(100);
  });

  test('while less than before comes and goes without a pause', () => {
    const bench = benchWithTasks(['t0', 't1']);
    bench.update('t0', 'TASK_FINISHED'); // 160 / 288
    const seen: string[] = [];
    for (let count = 2; count < 22; count += 1) {
      bench.update(`t${String(count - 1)}`, 'TASK_FINISHED');
      seen.push(...moves(bench.host(`t${String(count)}`)), ...moves(bench.agent.wait(50)));
      if (bench.executor.resizing) bench.resized();
    }
    expect(seen.filter((line) => line.startsWith('limits'))).toEqual(['limits e1 1.1 cpus, 160M']);
  });
});

describe('memory that is in use cannot be taken away:', () => {
  /** `t1` has ended, and what it used is still there. */
  function benchWithDelay(): ExecutorBench {
    const bench = benchWithTasks(['t1', 't2']);
    bench.update('t1', 'TASK_FINISHED');
    ticks(bench, 400); // 160 / 288 -> 160
    return bench;
  }
  const refused = amount(1.1, 250);

  test('it is said once, tried again after twice the time, and said once when it is done', () => {
    const bench = benchWithDelay();
    const said = messages(bench.resized(refused), 'ContainerShrink');
    expect(said).toEqual([
      {
        ...{ type: 'ContainerShrink', frameworkId: 'f1', executorId: 'e1', launchId: 'x1' },
        ...{ isDelayed: true, limitMib: 250, neededMib: 160 },
      },
    ]);
    for (const delayMs of [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]) {
      expect(ticks(bench, delayMs - 200)).toEqual([]);
      expect(ticks(bench, 200)).toEqual(['limits e1 1.1 cpus, 160M']);
      expect(moves(bench.resized(refused))).toEqual([]);
    }
    ticks(bench, 30_000);
    expect(messages(bench.resized(WITH_ONE), 'ContainerShrink')).toMatchObject([
      { isDelayed: false, limitMib: 160, neededMib: 160 },
    ]);
    expect(ticks(bench, 60_000)).toEqual([]);
  });

  test('it is not wanted any more when a task takes its place', () => {
    const bench = benchWithDelay();
    bench.resized(refused); // 160 / 250
    const grown = bench.host('t3'); // 288 / 250
    expect(moves(grown)).toEqual(['limits e1 2.1 cpus, 288M']);
    expect(moves(bench.resized())).toEqual(['ContainerShrink', 'give e1 t3']);
    expect(ticks(bench, 60_000)).toEqual([]);
  });

  test('a delay that begins while another task is wanted already is said and ended, too', () => {
    const bench = benchWithDelay();
    bench.host('t3', { task: { resources: amount(1, 64) } }); // 224 / 288 -> 160
    const said = messages(bench.resized(refused), 'ContainerShrink'); // 224 / 250
    expect(said).toMatchObject([{ isDelayed: true, limitMib: 250, neededMib: 224 }]);
    bench.resized(); // CPU for the third task
    const seen = ticks(bench, 2000);
    expect(seen).toEqual(['limits e1 2.1 cpus, 224M']);
    expect(messages(bench.resized(), 'ContainerShrink')).toMatchObject([{ isDelayed: false }]);
  });

  test('less of it than was wanted then may be enough by now', () => {
    const bench = benchWithDelay();
    bench.host('t3', { task: { resources: amount(0.5, 90) } }); // 250 / 288 -> 160
    expect(messages(bench.resized(refused), 'ContainerShrink')).toEqual([]);
  });
});
