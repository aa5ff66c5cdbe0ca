/** Tasks that are ended so that what has waited too long can run. Agents have 4 cores and 8 GiB. */
import { describe, expect, test } from '@jest/globals';
import type { MasterEffect } from '../../../master/core/effects.ts';
import type { MasterOptions } from '../../../master/core/state.ts';
import type { Amounts } from '../../../protocol/resources.ts';
import type { ResourceRequest, TaskInfo } from '../../../protocol/task.ts';
import { amount, frameworkIdOf, sessionOf, taskInfo, taskStatus } from '../../support/builders.ts';
import { createMasterBench, eventsOf, type MasterBench, sent } from '../../support/master-bench.ts';

const AFTER_MS = 30_000;
const HOUR_MS = 3_600_000;

function ask(bench: MasterBench, frameworkId: string, request: Partial<ResourceRequest>): void {
  const requests = [{ resources: amount(1, 128), count: 1, attributes: {}, ...request }];
  const message = { type: 'RequestResources' as const, frameworkId: frameworkIdOf(frameworkId) };
  bench.say(`framework:${frameworkId}`, { ...message, requests });
}

/** A framework whose tasks run, and that wants nothing more. */
function runs(
  bench: MasterBench,
  frameworkId: string,
  role: string,
  tasks: readonly TaskInfo[],
): void {
  bench.registerFramework(frameworkId, { role });
  bench.launch(frameworkId, bench.offerOf(frameworkId).offerId, [...tasks], HOUR_MS);
  for (const { taskId } of tasks) {
    bench.update('a1', taskStatus(frameworkId, taskId, 'TASK_RUNNING'));
    bench.acknowledge(frameworkId, taskId, `${taskId}.TASK_RUNNING`);
  }
  bench.say(`framework:${frameworkId}`, {
    type: 'RequestResources',
    frameworkId: frameworkIdOf(frameworkId),
    requests: [],
  });
}

function quota(bench: MasterBench, role: string, wish: object): void {
  const message = { type: 'UpdateRole' as const, requestId: sessionOf('r1'), force: true };
  bench.say('operator:me@here', { ...message, role: role, ...wish });
}

function killed(effects: readonly MasterEffect[]): string[] {
  return sent(effects, 'agent:a1', 'KillTask').map(({ taskId, by }) => `${taskId} by ${by}`);
}

const small = (taskId: string, priority?: number, others?: Amounts): TaskInfo =>
  taskInfo(taskId, {
    resources: { ...amount(1, 128), ...(others && { others }) },
    ...(priority !== undefined && { priority }),
  });

/** `low` of role eng/batch fills a1 with four tasks; `high` of eng/prod asks for one core. */
function fullBench(
  request: Partial<ResourceRequest> = { priority: 10 },
  options: Partial<MasterOptions> = { preemptAfterMs: AFTER_MS },
): MasterBench {
  const bench = createMasterBench(options);
  bench.registerAgent('a1');
  runs(bench, 'low', 'eng/batch', [small('t1', 5), small('t2'), small('t3'), small('t4', 10)]);
  bench.registerFramework('high', { role: 'eng/prod' });
  ask(bench, 'high', request);
  bench.wait(0);
  return bench;
}

describe('a need of a higher priority', () => {
  test('has the lowest and newest task of its tree ended, when it has waited for so long', () => {
    const bench = fullBench();
    expect(killed(bench.wait(AFTER_MS - 1))).toEqual([]);
    const effects = bench.wait(1);
    expect(killed(effects)).toEqual(['t3 by preemption']);
    expect(eventsOf(effects).map(({ type, message }) => [type, message])).toEqual([
      [
        'agent.preempted',
        '1 cpus, 128M for high under role eng/prod, priority 10, have waited long enough',
      ],
      [
        'task.kill-requested',
        '1 cpus, 128M for high under role eng/prod, priority 10, have waited long enough',
      ],
    ]);
    expect(killed(bench.wait(AFTER_MS))).toEqual([]);
  });

  test('is offered what has become free, before the framework that lost it', () => {
    const bench = fullBench();
    ask(bench, 'low', { count: 5 });
    bench.wait(AFTER_MS);
    bench.update('a1', taskStatus('low', 't3', 'TASK_KILLED'));
    expect([bench.offersOf('high'), bench.offersOf('low')]).toEqual([['a1 1 128'], []]);
    // The agent is everybody's again.
    bench.launch('high', bench.offerOf('high').offerId, [small('h1')]);
    ask(bench, 'high', { count: 1, resources: amount(8, 128) });
    bench.update('a1', taskStatus('low', 't2', 'TASK_FINISHED'));
    bench.wait(1000);
    expect(bench.offersOf('low')).toEqual(['a1 1 128']);
  });

  test('ends as many as it needs, and none that would not help', () => {
    const bench = fullBench({ priority: 10, resources: amount(2, 128) });
    expect(killed(bench.wait(AFTER_MS))).toEqual(['t3 by preemption', 't2 by preemption']);
  });

  test('ends nothing if all of lower priority together are not enough', () => {
    const bench = fullBench({ priority: 10, resources: amount(4, 128) });
    expect(killed(bench.wait(AFTER_MS))).toEqual([]);
  });

  test.each([
    ['of the same priority', fullBench({ priority: 0 })],
    ['without preemption', fullBench({ priority: 10 }, {})],
  ])('ends nothing: %s', (_what, bench) => {
    expect(killed(bench.wait(HOUR_MS))).toEqual([]);
  });

  test('ends nothing of another tree', () => {
    const bench = createMasterBench({ preemptAfterMs: AFTER_MS });
    bench.registerAgent('a1');
    runs(bench, 'low', 'ops', [small('t1'), small('t2'), small('t3'), small('t4')]);
    bench.registerFramework('high', { role: 'eng/prod' });
    ask(bench, 'high', { priority: 1000 });
    bench.wait(0);
    expect(killed(bench.wait(HOUR_MS))).toEqual([]);
  });

  test('ends nothing where the limit of its role is in the way', () => {
    const bench = fullBench();
    quota(bench, 'eng/prod', { limit: { cpuMillis: 500 } });
    expect(killed(bench.wait(HOUR_MS))).toEqual([]);
  });

  test('within one role makes room below its limit', () => {
    const bench = createMasterBench({ preemptAfterMs: AFTER_MS });
    bench.registerAgent('a1');
    quota(bench, 'eng', { limit: { cpuMillis: 2000 } });
    runs(bench, 'low', 'eng', [small('t1'), small('t2', 3)]);
    bench.registerFramework('high', { role: 'eng' });
    ask(bench, 'high', { priority: 1 });
    bench.wait(0);
    // Two cores are free, and no use to it: a task has to end all the same.
    expect(killed(bench.wait(AFTER_MS))).toEqual(['t1 by preemption']);
  });

  test('is given up if its victims do not end', () => {
    const bench = fullBench();
    bench.wait(AFTER_MS);
    bench.wait(HOUR_MS);
    expect(bench.state.preemptions.size).toBe(0);
  });

  test('leaves the agent to the others when nothing is to be preempted any more', () => {
    const bench = fullBench();
    bench.wait(AFTER_MS);
    Object.assign(bench.state.options, { preemptAfterMs: undefined });
    bench.wait(HOUR_MS);
    expect(bench.state.preemptions.size).toBe(0);
  });

  test('ends nothing for a part of a gang', () => {
    const bench = fullBench({ priority: 10, count: 8, gang: true });
    expect(killed(bench.wait(AFTER_MS))).toEqual([]);
  });

  test('that is not there any more leaves the agent to the others', () => {
    const bench = fullBench();
    ask(bench, 'low', { count: 5 });
    bench.wait(AFTER_MS);
    bench.update('a1', taskStatus('low', 't3', 'TASK_KILLED'));
    bench.say('framework:high', {
      type: 'UnregisterFramework',
      frameworkId: frameworkIdOf('high'),
    });
    bench.wait(1000);
    expect(bench.offersOf('low')).toEqual(['a1 1 128']);
  });

  test('counts other resources too', () => {
    const bench = createMasterBench({ preemptAfterMs: AFTER_MS });
    bench.registerAgent('a1', { resources: { ...amount(4, 8192), others: { gpus: 1 } } });
    runs(bench, 'low', 'eng', [small('t1'), small('t2', 0, { gpus: 1 })]);
    bench.registerFramework('high', { role: 'eng' });
    bench.decline('high', bench.offerOf('high').offerId);
    ask(bench, 'high', { priority: 1, resources: { ...amount(1, 128), others: { gpus: 1 } } });
    bench.wait(0);
    expect(killed(bench.wait(AFTER_MS))).toEqual(['t2 by preemption']);
  });
});

describe('a need of a role that holds less than it was promised', () => {
  test('has tasks of others ended that hold more than they were, whatever their priority', () => {
    const bench = createMasterBench({ preemptAfterMs: AFTER_MS });
    bench.registerAgent('a1');
    runs(bench, 'low', 'ops', [small('t1', 9), small('t2', 9), small('t3', 9), small('t4', 9)]);
    // ops keeps three cores, prod has been promised one.
    quota(bench, 'ops', { guarantee: { cpuMillis: 3000 } });
    quota(bench, 'prod', { guarantee: { cpuMillis: 1000 } });
    bench.registerFramework('high', { role: 'prod' });
    ask(bench, 'high', { priority: -5 });
    bench.wait(0);
    expect(killed(bench.wait(AFTER_MS))).toEqual(['t4 by preemption']);
  });

  test('has nothing ended of roles that hold no more than they were promised', () => {
    const bench = createMasterBench({ preemptAfterMs: AFTER_MS });
    bench.registerAgent('a1');
    runs(bench, 'low', 'ops', [small('t1'), small('t2'), small('t3'), small('t4')]);
    quota(bench, 'ops', { guarantee: { cpuMillis: 4000 } });
    quota(bench, 'prod', { guarantee: { cpuMillis: 1000 } });
    bench.registerFramework('high', { role: 'prod' });
    ask(bench, 'high', {});
    bench.wait(0);
    expect(killed(bench.wait(HOUR_MS))).toEqual([]);
  });
});
