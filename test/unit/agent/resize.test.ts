/** Other limits for a task that runs. */
import { describe, expect, test } from '@jest/globals';
import type { AgentEffect } from '../../../agent/core/events.ts';
import { registrationOf } from '../../../agent/core/state.ts';
import { agentWithRunning, journaled, lines, messages } from '../../support/agent-bench.ts';
import { amount, frameworkIdOf, launchIdOf, sessionOf, taskIdOf } from '../../support/builders.ts';
import { benchWithTasks, createExecutorBench, type ExecutorBench } from './executor-bench.ts';

/** `r1: 2 cpus 512`, or why not. */
function answers(effects: readonly AgentEffect[]): string[] {
  return messages(effects, 'TaskResized').map(({ resizeId, resources, error }) => {
    const now = resources && ` ${String(resources.cpuMillis)} ${String(resources.memMib)}`;
    return `${resizeId}:${now ?? ''}${error === undefined ? '' : ` ${error}`}`;
  });
}

function groupResized(
  bench: ExecutorBench,
  limits: ReturnType<typeof amount>,
  error?: string,
): AgentEffect[] {
  const { key = bench.executor.key } = bench.entry('t1') ?? {};
  return bench.do({
    ...{ type: 'unit.resized', key, launchId: launchIdOf('k1'), resizeId: sessionOf('r1'), limits },
    ...(error !== undefined && { error }),
  });
}

describe('a task of an executor that is to have more', () => {
  test('has it when its container has grown', () => {
    const bench = benchWithTasks(['t1']);
    const effects = bench.resize('t1', amount(2, 256));
    expect(lines(effects)).toEqual(['limits e1 2.1 cpus, 288M']);
    expect(journaled(effects)).toEqual([
      { type: 'resize', launchId: 'k1', resources: amount(2, 256) },
    ]);
    expect(answers(bench.resized())).toEqual(['r1: 2000 256']);
    expect(registrationOf(bench.state).tasks[0]?.resources).toEqual(amount(2, 256));
  });

  test('has it at once if there is room for it', () => {
    const bench = benchWithTasks(['t1', 't2']);
    bench.update('t2', 'TASK_FINISHED');
    expect(answers(bench.resize('t1', amount(2, 256)))).toEqual(['r1: 2000 256']);
  });

  test('waits while nobody knows what its container has', () => {
    const bench = benchWithTasks(['t1']);
    bench.resize('t1', amount(2, 256));
    expect(answers(bench.resizeFailed())).toEqual([]);
    bench.agent.wait(1000);
    expect(answers(bench.resized())).toEqual(['r1: 2000 256']);
  });

  test('waits for a shrink that is on its way to be made good', () => {
    const bench = benchWithTasks(['t1', 't2']);
    bench.update('t2', 'TASK_FINISHED');
    bench.agent.wait(200);
    bench.agent.wait(200); // 288 -> 160
    expect(answers(bench.resize('t1', amount(2, 256)))).toEqual([]);
    expect(answers(bench.resized())).toEqual([]);
    expect(answers(bench.resized())).toEqual(['r1: 2000 256']);
  });

  test('and has ended meanwhile is told so', () => {
    const bench = benchWithTasks(['t1']);
    bench.resize('t1', amount(2, 256));
    bench.update('t1', 'TASK_FINISHED');
    expect(answers(bench.resized())).toEqual(['r1: 2000 256 the task has ended']);
  });

  test('twice by one wish is answered once', () => {
    const bench = benchWithTasks(['t1']);
    bench.resize('t1', amount(2, 256));
    expect(lines(bench.resize('t1', amount(2, 256)))).toEqual([]);
    expect(answers(bench.resized())).toEqual(['r1: 2000 256']);
  });

  test('and whose executor ends meanwhile ends, and nothing more is said of it', () => {
    const bench = benchWithTasks(['t1']);
    bench.resize('t1', amount(2, 256));
    bench.ended();
    expect(answers([...bench.resized(), ...bench.agent.wait(5000)])).toEqual([]);
  });
});

test('a task of an executor that is to have less has it at once, and its container shrinks later', () => {
  const bench = benchWithTasks(['t1']);
  expect(answers(bench.resize('t1', amount(0.5, 64)))).toEqual(['r1: 500 64']);
  bench.agent.wait(200);
  expect(lines(bench.agent.wait(200))).toEqual(['limits e1 0.6 cpus, 96M']);
});

describe('a task with a cgroup of its own', () => {
  test('has more when first the container and then its cgroup has grown', () => {
    const bench = benchWithTasks(['t1'], { isolation: 'task' });
    expect(lines(bench.resize('t1', amount(2, 256)))).toEqual(['limits e1 2.1 cpus, 288M']);
    expect(lines(bench.resized())).toEqual(['resize t1 2 cpus, 256M']);
    expect(answers(groupResized(bench, amount(2, 256)))).toEqual(['r1: 2000 256']);
  });

  test('has less when its cgroup has shrunk, and then the container does', () => {
    const bench = benchWithTasks(['t1'], { isolation: 'task' });
    expect(lines(bench.resize('t1', amount(0.5, 64)))).toEqual(['resize t1 0.5 cpus, 64M']);
    expect(answers(groupResized(bench, amount(0.5, 64)))).toEqual(['r1: 500 64']);
    bench.agent.wait(200);
    expect(lines(bench.agent.wait(200))).toEqual(['limits e1 0.6 cpus, 96M']);
  });

  test('that cannot have less because it uses it has what it can have, and the container with it', () => {
    const bench = benchWithTasks(['t1'], { isolation: 'task' });
    bench.resize('t1', amount(0.5, 64));
    expect(answers(groupResized(bench, amount(0.5, 100), 'in use'))).toEqual([
      'r1: 500 100 in use',
    ]);
    expect(bench.executor.needed).toEqual(amount(0.6, 132));
  });

  test('that was made before its task is handed over is changed, too', () => {
    const bench = createExecutorBench({ isolation: 'task' });
    bench.host('t1');
    bench.started();
    bench.register();
    bench.disconnect();
    const { key = bench.executor.key } = bench.entry('t1') ?? {};
    const cgroupProcs = ['/sys/fs/cgroup/x/cgroup.procs'];
    bench.do({ type: 'hosted.prepared', key, launchId: launchIdOf('k1'), cgroupProcs });
    expect(lines(bench.resize('t1', amount(0.5, 64)))).toEqual(['resize t1 0.5 cpus, 64M']);
  });

  test('whose task has ended by the time it was changed is nobody’s', () => {
    const bench = benchWithTasks(['t1'], { isolation: 'task' });
    bench.resize('t1', amount(0.5, 64));
    bench.update('t1', 'TASK_FINISHED');
    expect(groupResized(bench, amount(0.5, 64))).toEqual([]);
  });
});

describe('a task with a unit of its own', () => {
  const wish = {
    type: 'ResizeTask' as const,
    resizeId: sessionOf('r1'),
    frameworkId: frameworkIdOf('f1'),
    taskId: taskIdOf('t1'),
    resources: amount(2, 256),
  };

  test('has other limits when its unit has, on disk too', () => {
    const bench = agentWithRunning();
    expect(lines(bench.do({ type: 'message', message: wish }))).toEqual([
      'rewrite t1',
      'resize t1 2 cpus, 256M',
    ]);
    const { key, launchId } = bench.entry('t1') ?? {};
    const resized = { type: 'unit.resized' as const, resizeId: wish.resizeId };
    const effects = bench.do({
      ...{ ...resized, key: key as never, launchId: launchId as never, limits: amount(2, 256) },
    });
    expect(lines(effects)).toEqual(['rewrite t1', 'TaskResized']);
    expect(answers(effects)).toEqual(['r1: 2000 256']);
    expect(bench.entry('t1')?.task.resources).toEqual(amount(2, 256));
  });

  test('that is to have less counts as it was until it has, on disk too', () => {
    const bench = agentWithRunning();
    const message = { ...wish, resources: amount(0.5, 64) };
    expect(lines(bench.do({ type: 'message', message }))).toEqual([
      'rewrite t1',
      'resize t1 0.5 cpus, 64M',
    ]);
    expect(registrationOf(bench.state).tasks[0]?.resources).toEqual(amount(1, 128));
  });

  test('that is not started yet is told so', () => {
    const bench = agentWithRunning();
    bench.run('t2');
    const message = { ...wish, taskId: taskIdOf('t2') };
    expect(answers(bench.do({ type: 'message', message }))).toEqual([
      'r1: 1000 128 the task has not been started yet',
    ]);
  });

  test.each([
    ['has ended', wish, true],
    ['is not known', { ...wish, taskId: taskIdOf('t9') }, false],
    ['is another launch', { ...wish, launchId: launchIdOf('k0') }, false],
  ])('that %s has ended', (_which, message, ends) => {
    const bench = agentWithRunning();
    if (ends) bench.ended('t1');
    expect(answers(bench.do({ type: 'message', message }))).toEqual(['r1: the task has ended']);
  });
});

test('a task of an executor that has ended is not changed', () => {
  const bench = benchWithTasks(['t1']);
  bench.update('t1', 'TASK_FINISHED');
  expect(answers(bench.resize('t1', amount(2, 256)))).toEqual(['r1: the task has ended']);
  expect(bench.executor.needed).toEqual(bench.info.resources);
});
