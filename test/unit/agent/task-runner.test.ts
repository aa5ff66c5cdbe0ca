import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import type { TaskCheckpoint } from '../../../agent/checkpoint.ts';
import { recoveredEntry } from '../../../agent/core/recovery.ts';
import type { AgentTaskEntry } from '../../../agent/core/state.ts';
import { TaskRunner } from '../../../agent/task-runner.ts';
import { silentLog } from '../../../io/log.ts';
import { createFakeSystemd, type FakeSystemd } from '../../../systemd/fake.ts';
import { agentIdOf, frameworkIdOf, taskInfo } from '../../support/builders.ts';
import { createManualClock, type ManualClock } from '../../support/manual-clock.ts';

let directory: string;
let systemd: FakeSystemd;
let clock: ManualClock;
let stop: AbortController;
let written: TaskCheckpoint[];
let events: string[];
let entry: AgentTaskEntry;
let runner: TaskRunner;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'kaon-runner-'));
  systemd = createFakeSystemd();
  clock = createManualClock();
  stop = new AbortController();
  written = [];
  events = [];
  entry = recoveredEntry({
    frameworkId: frameworkIdOf('f1'),
    frameworkName: 'run',
    task: taskInfo('t1'),
    launchId: 'l1',
    unit: 'kaon-a1-t1-l1.service',
  });
  runner = new TaskRunner({
    systemd,
    clock,
    directory,
    log: silentLog,
    bootId: 'boot',
    signal: stop.signal,
    checkpoints: {
      agentId: () => Promise.resolve(agentIdOf('a1')),
      write: (checkpoint) => void written.push(checkpoint),
      remove: () => undefined,
      readAll: () => Promise.resolve([]),
    },
    onEvent: ({ type }) => {
      events.push(type);
      if (type === 'unit.ended') entry.state = 'TASK_FINISHED';
    },
  });
});
afterEach(() => {
  rmSync(directory, { recursive: true, force: true });
});

async function settle(): Promise<void> {
  for (let count = 0; count < 20; count += 1) await turn();
}

test('a unit that changes while its end is being taken keeps that end, and is not called lost', async () => {
  runner.start(entry);
  await settle();
  systemd.finish(entry.unit, { exitKind: 'exited', exitStatus: 0 });
  runner.look(entry);
  runner.look(entry);
  await settle();
  expect(events).toEqual(['unit.started', 'unit.ended']);
  expect(written.at(-1)).toMatchObject({ ended: { certificate: { exitCode: 0 } } });
});

test('a unit that is not there any more is remembered as lost before that is told', async () => {
  runner.start(entry);
  await settle();
  await systemd.releaseUnit(entry.unit);
  runner.look(entry);
  await settle();
  expect(events).toEqual(['unit.started', 'unit.lost']);
  expect(written.at(-1)).toHaveProperty('lost');
});

test('a start without an answer is neither a start nor a failure, and is not tried after the stop', async () => {
  let tries = 0;
  Object.assign(systemd, {
    startUnit: () => {
      tries += 1;
      return Promise.reject(new Error('no answer'));
    },
  });
  runner.start(entry);
  await settle();
  stop.abort();
  await clock.pass(60_000);
  expect([tries, events]).toEqual([1, []]);
});

test('a start without an answer whose unit is there has started', async () => {
  const start = systemd.startUnit;
  Object.assign(systemd, {
    startUnit: async (...spec: Parameters<typeof start>) => {
      await start(...spec);
      throw new Error('the answer was lost');
    },
  });
  runner.start(entry);
  await settle();
  await clock.pass(1000);
  await settle();
  expect(events).toEqual(['unit.started']);
});
