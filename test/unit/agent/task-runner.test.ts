import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { CheckpointChange, TaskCheckpoint } from '../../../agent/checkpoint.ts';
import { recoveredEntry } from '../../../agent/core/recovery.ts';
import type { AgentTaskEntry, ExecutorEntry } from '../../../agent/core/state.ts';
import type { EndedUnit } from '../../../agent/core/verdict.ts';
import type { AgentEvent } from '../../../agent/core/events.ts';
import { createAgentState } from '../../../agent/core/state.ts';
import type { Fetcher } from '../../../agent/artifacts/index.ts';
import { addExecutor } from '../../../agent/core/executors.ts';
import { createIntroduction } from '../../../agent/executor-introduction.ts';
import { TaskRunner } from '../../../agent/task-runner.ts';
import { Fences } from '../../../agent/fences.ts';
import { decodeUnitRecord, UNIT_RECORD_FIELD } from '../../../agent/unit-record.ts';
import { silentLog } from '../../../io/log.ts';
import { KaonError } from '../../../protocol/errors.ts';
import type { ExecutorInfo } from '../../../protocol/executor.ts';
import type { LaunchId } from '../../../protocol/ids.ts';
import type { TaskInfo } from '../../../protocol/task.ts';
import { createFakeSystemd, type FakeSystemd } from '../../../systemd/fake.ts';
import {
  agentIdOf,
  executorInfo,
  frameworkInfo,
  launchIdOf,
  taskInfo,
} from '../../support/builders.ts';
import { createManualClock, type ManualClock } from '../../support/manual-clock.ts';
import { policyOf } from '../../support/policies.ts';

let directory: string;
let systemd: FakeSystemd;
let clock: ManualClock;
let stop: AbortController;
let written: TaskCheckpoint[];
let discarded: string[];
let changes: CheckpointChange[];
let isDiskFull: boolean;
let events: AgentEvent[];
let entry: AgentTaskEntry;
let runner: TaskRunner;
/** What becomes of artifacts. */
let fetch: Fetcher['fetch'];

/** A launch of `t1` that nothing is known of yet. */
function entryOf(more: Partial<TaskInfo> = {}): AgentTaskEntry {
  return recoveredEntry({
    framework: frameworkInfo('f1'),
    detached: false,
    task: taskInfo('t1', more),
    launchId: 'l1' as LaunchId,
    unit: 'kaon-a1-t1-l1.service',
  });
}

const types = (): string[] => events.map(({ type }) => type);

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'kaon-runner-'));
  clock = createManualClock();
  systemd = createFakeSystemd({ nowMs: () => clock.monotonicMs() });
  stop = new AbortController();
  written = [];
  discarded = [];
  changes = [];
  isDiskFull = false;
  events = [];
  fetch = () => Promise.resolve();
  entry = entryOf();
  const common = { systemd, clock, log: silentLog, agentTag: 'a1' };
  runner = new TaskRunner({
    ...common,
    directory,
    bootId: 'boot',
    signal: stop.signal,
    cluster: 'test',
    agentId: agentIdOf('a1'),
    fences: new Fences({ ...common, inUse: () => new Set([20_000]) }),
    fetcher: { fetch: (...wanted) => fetch(...wanted) },
    executors: createIntroduction({
      socketPath: '/agent/executors.sock',
      agentId: agentIdOf('a1'),
      defaultExecutor: ['/bin/default-executor'],
    }),
    policy: policyOf(directory),
    programs: { KAON_PROGRAM: '/kaon.js' },
    checkpoints: {
      write: (checkpoint) => {
        if (isDiskFull) throw new Error('ENOSPC: no space left on device');
        written.push(checkpoint);
      },
      update: (_launchId, change) => void changes.push(change),
      discard: (launchId) => void discarded.push(launchId),
      retire: () => undefined,
      forgetEnded: () => undefined,
      readAll: () => Promise.resolve([]),
      readEnded: () => Promise.resolve([]),
    },
    onEvent: (event) => {
      events.push(event);
      if (event.type === 'unit.ended') entry.state = 'TASK_FINISHED';
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
  expect(types()).toEqual(['unit.started', 'unit.ended']);
  expect(written.at(-1)).toMatchObject({ ended: { certificate: { exitCode: 0 } } });
});

test('a unit that is not there any more is remembered as lost before that is told', async () => {
  runner.start(entry);
  await settle();
  await systemd.releaseUnit(entry.unit);
  runner.look(entry);
  await settle();
  expect(types()).toEqual(['unit.started', 'unit.lost']);
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
  expect([tries, types()]).toEqual([1, []]);
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
  expect(types()).toEqual(['unit.started']);
});

test('the unit of a task says whose it is', async () => {
  runner.start(entry);
  await settle();
  const fields = await systemd.readJournalFields(entry.unit);
  expect(decodeUnitRecord(fields?.[UNIT_RECORD_FIELD] ?? '')).toMatchObject({
    ok: true,
    value: { cluster: 'test', agentId: 'a1', launchId: 'l1', task: { taskId: 't1' } },
  });
});

test('a kill is stored with the time at which force follows', async () => {
  await clock.pass(1000);
  entry.kill = { by: 'operator', deadlineMs: clock.monotonicMs() + 5000 };
  runner.update(entry);
  expect(changes).toMatchObject([{ kill: 'operator', killAtMs: clock.wallMs() + 5000 }]);
});

test('a command that systemd may change is in a script that others cannot read', async () => {
  entry = entryOf({ command: { argv: ['/bin/echo', '$x;'], environment: { A: '$b' } } });
  runner.start(entry);
  await settle();
  const { argv = [], environment } = systemd.specOf(entry.unit) ?? {};
  const [, path = ''] = argv;
  expect(argv).toEqual(['/bin/sh', join(directory, 'sandboxes', 'f1', 't1', 'l1', 'command')]);
  expect(readFileSync(path, 'utf8')).toContain("exec '/bin/echo' '$x;'\n");
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(environment).toMatchObject({ A: '$b' });
});

describe('while the disk is full', () => {
  test('a task starts all the same, because its unit says whose it is', async () => {
    isDiskFull = true;
    runner.start(entry);
    await settle();
    expect([types(), written]).toEqual([['unit.started'], []]);
  });

  test('an end is told, and the unit keeps it until the framework knows it', async () => {
    runner.start(entry);
    await settle();
    isDiskFull = true;
    systemd.finish(entry.unit, { exitKind: 'exited', exitStatus: 4, result: 'exit-code' });
    runner.look(entry);
    await settle();
    expect(events.at(-1)).toMatchObject({
      type: 'unit.ended',
      ended: { certificate: { exitCode: 4 } },
    });
    expect(await systemd.readUnit(entry.unit)).toMatchObject({ exitStatus: 4 });
    runner.forget(entry);
    await settle();
    expect(await systemd.readUnit(entry.unit)).toBeUndefined();
  });

  test('a start that fails leaves no checkpoint that the next agent would start from', async () => {
    systemd = Object.assign(systemd, {
      startUnit: () => {
        isDiskFull = true;
        return Promise.resolve({ ok: false, kind: 'refused', message: 'no' });
      },
    });
    runner.start(entry);
    await settle();
    expect([types(), discarded]).toEqual([['unit.failed'], ['l1']]);
  });
});

describe('a task that is to be stopped when its node is cut off', () => {
  beforeEach(() => {
    entry = entryOf({ whenUnreachable: { stopAfterMs: 20_000 } });
  });

  test('is behind a fence that was set before its start', async () => {
    runner.start(entry);
    await settle();
    expect(systemd.specOf(entry.unit)?.fence).toBe('kaon-fence-a1-20000ms');
    expect(systemd.armsOf('kaon-fence-a1-20000ms')).toBe(1);
  });

  test('and was stopped by its fence says so with its end', async () => {
    runner.start(entry);
    await settle();
    await clock.pass(20_000);
    systemd.fireFence('kaon-fence-a1-20000ms');
    runner.look(entry);
    await settle();
    expect(events.at(-1)).toMatchObject({
      type: 'unit.ended',
      ended: { fenced: true, certificate: { signal: 15 } },
    });
    expect(written.at(-1)).toMatchObject({ ended: { fenced: true } });
  });

  test('and ended by itself does not, although its fence has fired since', async () => {
    runner.start(entry);
    await settle();
    await clock.pass(5000);
    systemd.finish(entry.unit, { exitKind: 'exited', exitStatus: 0 });
    await clock.pass(15_000);
    systemd.fireFence('kaon-fence-a1-20000ms');
    runner.look(entry);
    await settle();
    expect(events.at(-1)).toMatchObject({ type: 'unit.ended', ended: { fenced: false } });
  });
});

describe('the unit of an executor', () => {
  const start = async (more: Partial<ExecutorInfo> = {}): Promise<ExecutorEntry> => {
    const launch = { framework: frameworkInfo('f1'), detached: false, launchId: launchIdOf('x1') };
    const identity = { agentId: agentIdOf('a1'), agentTag: 'a1', hostname: 'node7' };
    const info = executorInfo('e1', more);
    const executor = addExecutor(createAgentState(identity), { ...launch, info }, 0);
    runner.start(executor);
    await settle();
    return executor;
  };
  const sandbox = (): string => join(directory, 'sandboxes', 'f1', 'e1', 'x1');

  test('knows where its agent listens, and has a token that others cannot read', async () => {
    const { unit } = await start();
    const path = join(sandbox(), 'token');
    expect(systemd.specOf(unit)?.environment).toMatchObject({
      KAON_AGENT_ID: 'a1',
      KAON_FRAMEWORK_ID: 'f1',
      KAON_EXECUTOR_ID: 'e1',
      KAON_EXECUTOR_SOCKET: '/agent/executors.sock',
      KAON_EXECUTOR_TOKEN_FILE: path,
      KAON_SANDBOX: join(sandbox(), 'work'),
    });
    expect(readFileSync(path, 'utf8')).toMatch(/^[0-9a-f]{64}$/);
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  test('has the limits of all that is known to be in it, and says them when it runs', async () => {
    const { unit } = await start();
    expect(systemd.specOf(unit)).toMatchObject({ cpuMillis: 100, memoryMib: 32 });
    expect(events).toMatchObject([
      { type: 'unit.started', key: 'f1//e1', limits: { cpuMillis: 100, memMib: 32 } },
    ]);
  });

  test('runs the default executor if it has no command of its own', async () => {
    const { unit } = await start({ command: undefined });
    expect(systemd.specOf(unit)?.argv).toEqual(['/bin/default-executor']);
  });

  test('can have cgroups of tasks in it if they are to have their own', async () => {
    expect(systemd.specOf((await start({ isolation: 'task' })).unit)?.delegate).toBe(true);
  });

  test('says that it is an executor’s, so that it is known again without a checkpoint', async () => {
    const { unit } = await start();
    const fields = await systemd.readJournalFields(unit);
    expect(decodeUnitRecord(fields?.[UNIT_RECORD_FIELD] ?? '')).toMatchObject({
      value: { launchId: 'x1', task: { executor: { executorId: 'e1' } } },
    });
  });

  test('whose limits nobody knows has a certificate that does not speak of them', async () => {
    const executor = await start();
    systemd.finish(executor.unit, { exitKind: 'exited', exitStatus: 0 });
    runner.look(executor);
    await settle();
    const { certificate } = (events.at(-1) as { ended: EndedUnit }).ended;
    expect(certificate).not.toHaveProperty('memoryLimitBytes');
  });
});

describe('artifacts', () => {
  const uris = [{ uri: 'http://x/y', executable: false, cache: false }];

  test('are put into the sandbox before the start', async () => {
    const seen: unknown[] = [];
    fetch = (wanted, target) => {
      seen.push(wanted, target.work, systemd.specOf(entry.unit));
      return Promise.resolve();
    };
    entry = entryOf({ uris });
    runner.start(entry);
    await settle();
    const work = join(directory, 'sandboxes', 'f1', 't1', 'l1', 'work');
    expect([seen, types()]).toEqual([[uris, work, undefined], ['unit.started']]);
  });

  test('that cannot be had fail the task for that', async () => {
    fetch = () => Promise.reject(new KaonError('artifact-failed', 'http://x/y: 404'));
    entry = entryOf({ uris });
    runner.start(entry);
    await settle();
    expect(events).toMatchObject([
      { type: 'unit.failed', reason: 'REASON_ARTIFACT_FAILED', message: 'http://x/y: 404' },
    ]);
    expect(written.at(-1)).toMatchObject({ failed: { reason: 'REASON_ARTIFACT_FAILED' } });
  });

  test('are not waited for by a task that is killed meanwhile', async () => {
    fetch = (_wanted, _target, signal) =>
      new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => {
          reject(new KaonError('artifact-cancelled', 'cancelled'));
        });
      });
    entry = entryOf({ uris });
    runner.start(entry);
    await settle();
    entry.kill = { by: 'framework', deadlineMs: 0 };
    runner.update(entry);
    await settle();
    expect(events).toMatchObject([{ type: 'unit.failed', isStopped: true }]);
    expect(systemd.specOf(entry.unit)).toBeUndefined();
  });

  test('that an agent is fetching when it stops are left to the next one', async () => {
    fetch = (_wanted, _target, signal) =>
      new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => {
          reject(new KaonError('artifact-cancelled', 'cancelled'));
        });
      });
    entry = entryOf({ uris });
    runner.start(entry);
    await settle();
    stop.abort();
    await settle();
    expect([types(), written.at(-1)?.failed]).toEqual([[], undefined]);
  });
});
