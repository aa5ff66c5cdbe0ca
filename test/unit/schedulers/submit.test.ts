import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { decodeDataUri } from '../../../agent/artifacts/data-uri.ts';
import { parseSubmitOptions } from '../../../cli/commands/submit-options.ts';
import type { Offer, SchedulerDriver, TaskId, TaskStatus } from '../../../framework/index.ts';
import { decodeTask } from '../../../protocol/codec.ts';
import type { AgentId, FrameworkId } from '../../../protocol/ids.ts';
import { keysOf } from '../../../protocol/keys.ts';
import { bundledName, isModule } from '../../../schedulers/submit/bundle.ts';
import type { ProgramEnd } from '../../../schedulers/submit/core/hosting.ts';
import { Program } from '../../../schedulers/submit/program.ts';
import {
  isKillRequested,
  labelsOf,
  readHost,
  readHostView,
} from '../../../schedulers/submit/registry-view.ts';
import type { RegistryReader } from '../../../schedulers/submit/registry-view.ts';
import { prepareProgram, readSandbox } from '../../../schedulers/submit/sandbox.ts';
import type { Assignment } from '../../../schedulers/submit/submission.ts';
import {
  hostIdOf,
  packProgram,
  PROGRAM_PATH,
  runnerTask,
  Submission,
  SUBMISSION_PATH,
} from '../../../schedulers/submit/submission.ts';
import { SubmitScheduler } from '../../../schedulers/submit/submit-scheduler.ts';
import { createWatch } from '../../support/watch.ts';
import { frameworkInfo } from '../../support/builders.ts';

const HALF = { cpuMillis: 500, memMib: 64 };
const ASSIGNMENT: Assignment = {
  role: 'first',
  taskId: 'web.f' as TaskId,
  agentId: 'a1' as AgentId,
  hostname: 'node-1',
};

function submissionOf(more: object = {}): Submission {
  const frameworkId = 'web.abc' as FrameworkId;
  return Submission.parse({
    hostId: hostIdOf(frameworkId),
    frameworkId,
    name: 'web',
    family: 'web.f',
    program: { type: 'file', file: 'web.mjs', args: ['--depth', '3'] },
    redis: 'redis://user:secret@10.0.0.5',
    cluster: 'default',
    environment: { GREETING: 'hello' },
    user: undefined,
    resources: HALF,
    ...more,
  });
}

let directory: string;
beforeEach(() => {
  directory = realpathSync(mkdtempSync(join(tmpdir(), 'kaon-submit-')));
});
afterEach(() => {
  rmSync(directory, { recursive: true, force: true });
});

/** What an agent does with the artifacts of a task, as far as they travel with it. */
function putArtifacts(task: ReturnType<typeof runnerTask>): void {
  for (const { uri, path = '' } of task.uris ?? []) {
    if (!uri.startsWith('data:')) continue;
    mkdirSync(dirname(join(directory, path)), { recursive: true });
    writeFileSync(join(directory, path), decodeDataUri(uri));
  }
}

describe('the task of a runner', () => {
  test('is one that the master takes', () => {
    const uris = [{ uri: 'http://files/data.tar.gz' }];
    const task = runnerTask(submissionOf({ uris, user: 'www' }), ASSIGNMENT, packProgram('1'));
    expect(decodeTask(task)).toMatchObject({
      ok: true,
      value: {
        taskId: 'web.f',
        resources: HALF,
        command: { user: 'www' },
        whenUnreachable: 'keep',
        uris: [{ path: SUBMISSION_PATH }, { path: PROGRAM_PATH }, uris[0]],
      },
    });
  });

  test('has neither environment nor address where every user of the node can read them', () => {
    const { command } = runnerTask(submissionOf(), ASSIGNMENT, packProgram('1'));
    expect(JSON.stringify(command)).not.toMatch(/secret|GREETING/);
  });

  test('brings to its sandbox what the next runner is made of', () => {
    const packed = packProgram('console.log(1)');
    putArtifacts(runnerTask(submissionOf(), ASSIGNMENT, packed));
    const sandbox = readSandbox(directory);
    expect(sandbox).toEqual({ submission: submissionOf(), assignment: ASSIGNMENT, packed });
    expect(statSync(join(directory, SUBMISSION_PATH)).mode & 0o777).toBe(0o600);
  });

  test('is refused if its program is too large, with what to do', () => {
    const random = Buffer.from(Array.from({ length: 200_000 }, (_, index) => (index * 7919) % 251));
    const packed = Buffer.concat([random, random]);
    expect(() => runnerTask(submissionOf(), ASSIGNMENT, packed)).toThrow(
      expect.objectContaining({
        code: 'program-too-large',
        message: 'the program has 391 KiB compressed, and may have 150 KiB',
        hint: expect.stringContaining('--uri http://'),
      }),
    );
  });

  test('is refused if all of it together is too large', () => {
    const environment = { LARGE: 'x'.repeat(100_000), LARGER: 'y'.repeat(100_000) };
    expect(() => runnerTask(submissionOf({ environment }), ASSIGNMENT, undefined)).toThrow(
      expect.objectContaining({ code: 'program-too-large' }),
    );
  });
});

describe('the sandbox of a runner', () => {
  test('has the program unpacked, and the modules of Kaon by name', () => {
    const packed = packProgram('export const x = 1;');
    const programs = join(directory, 'programs');
    mkdirSync(join(programs, 'framework'), { recursive: true });
    writeFileSync(join(programs, 'framework', 'index.js'), '// the SDK');
    const sandbox = { submission: submissionOf(), assignment: ASSIGNMENT, packed };
    const argv = prepareProgram(directory, sandbox, programs);
    expect(argv).toEqual([process.execPath, join(directory, 'web.mjs'), '--depth', '3']);
    expect(readFileSync(join(directory, 'web.mjs'), 'utf8')).toBe(gunzipSync(packed).toString());
    const module = join(directory, 'node_modules/kaon');
    const { exports } = JSON.parse(readFileSync(join(module, 'package.json'), 'utf8')) as {
      exports: Record<string, string>;
    };
    expect(readFileSync(join(module, exports['./framework'] ?? ''), 'utf8')).toBe('// the SDK');
  });

  test('can be prepared once more, when Kaon has moved meanwhile', () => {
    const program = { type: 'command', argv: ['true'] };
    const sandbox = {
      submission: submissionOf({ program }),
      assignment: ASSIGNMENT,
      packed: undefined,
    };
    prepareProgram(directory, sandbox, '/nowhere');
    expect(prepareProgram(directory, sandbox, directory)).toEqual(['true']);
    expect(realpathSync(join(directory, 'node_modules/kaon/programs'))).toBe(directory);
  });

  test('without a submission is told so', () => {
    expect(() => readSandbox(directory)).toThrow(
      expect.objectContaining({
        code: 'not-a-runner',
        hint: expect.stringContaining('kaon submit'),
      }),
    );
  });
});

describe('what a runner reads of the registry', () => {
  const HOST = hostIdOf('web.abc' as FrameworkId);
  const keys = keysOf('test');
  function reader(records: Record<string, object>): RegistryReader {
    const texts = new Map(
      Object.entries(records).map(([name, record]) => [name, JSON.stringify(record)]),
    );
    return {
      keys,
      redis: {
        hget: (key: string, field: string) =>
          Promise.resolve(texts.get(`${key.slice(keys.prefix.length)} ${field}`) ?? null),
      },
      nowMs: () => Promise.resolve(5000),
      leader: () => Promise.resolve({ masterId: 'm' }),
    };
  }
  const active = { activeId: 'web.f' as TaskId, activeSinceMs: 4000, failures: 2 };
  const labels = labelsOf(active, 'web.abc' as FrameworkId);
  const recordWith = (of: Record<string, string>): object => ({
    ...{ info: frameworkInfo(HOST, { labels: of }), session: 's1', newestSession: 's1' },
    ...{ state: 'active', registeredAtMs: 1, suppressed: false, filters: [], deferred: [] },
  });
  const record = recordWith(labels);
  const taskRecord = (more: object = {}): object => ({
    ...{ frameworkId: HOST, taskId: 'web.f', launchId: '1.t.1', agentId: 'a1', name: 'web' },
    ...{ resources: HALF, state: 'TASK_RUNNING', launchedAtMs: 1, updatedAtMs: 1 },
    ...{ unheard: false, unacknowledged: [], ...more },
  });

  test('says who hosts, since when, and whether its task lives', async () => {
    const view = await readHostView(
      reader({
        [`registry:frameworks ${HOST}`]: record,
        [`registry:tasks ${HOST}/web.f`]: taskRecord(),
        'registry:cluster state': { format: 1, recoveringUntilMs: 9, isNew: false, tornDown: [] },
      }),
      HOST,
    );
    expect(view).toEqual({
      nowMs: 5000,
      hasLeader: true,
      recoveringUntilMs: 9,
      host: { state: 'active', disconnectedAtMs: undefined, ...active },
      active: { state: 'TASK_RUNNING', reason: undefined },
    });
  });

  test('knows no active runner of a framework that its submitter has registered', async () => {
    const submitters = recordWith({ hosts: 'web.abc' });
    const host = await readHost(reader({ [`registry:frameworks ${HOST}`]: submitters }), HOST);
    expect(host).toMatchObject({ activeId: undefined, activeSinceMs: 0, failures: 0 });
  });

  test('takes nothing for gone that it cannot read', async () => {
    const unreadable = reader({ [`registry:frameworks ${HOST}`]: { of: 'another version' } });
    await expect(readHostView(unreadable, HOST)).rejects.toMatchObject({
      code: 'registry-unreadable',
    });
  });

  test.each([
    [undefined, false],
    ['operator', true],
    ['framework', true],
  ] as const)('tells a kill by %s: %s', async (killRequested, expected) => {
    const task = taskRecord({ ...(killRequested && { killRequested }) });
    const source = reader({ [`registry:tasks ${HOST}/web.f`]: task });
    expect(await isKillRequested(source, HOST, active.activeId)).toBe(expected);
  });
});

describe('the scheduler of a submitter', () => {
  const told: string[] = [];
  const calls: string[] = [];
  const driver = {
    requestResources: (requests: unknown[]) => calls.push(`request ${String(requests.length)}`),
    launchTasks: (offerId: string) => calls.push(`launch on ${offerId}`),
    declineOffer: (offerId: string) => calls.push(`decline ${offerId}`),
    reconcileTasks: (taskIds: string[]) => calls.push(`reconcile ${taskIds.join()}`),
  } as unknown as SchedulerDriver;
  let scheduler: SubmitScheduler;
  beforeEach(() => {
    told.length = 0;
    calls.length = 0;
    scheduler = new SubmitScheduler(
      {
        taskId: ASSIGNMENT.taskId,
        resources: HALF,
        attributes: { rack: 'r1' },
        taskFor: (agentId, hostname) =>
          runnerTask(submissionOf(), { ...ASSIGNMENT, agentId, hostname }, undefined),
      },
      {
        onLaunched: ({ hostname }) => told.push(`launched on ${hostname}`),
        onStatus: ({ state }) => told.push(state),
        onHandedOver: () => told.push('handed over'),
        onFailed: ({ state }) => told.push(`failed with ${state}`),
        onError: (message) => told.push(`error: ${message}`),
      },
    );
  });
  const offer = (offerId: string, cpuMillis: number, rack = 'r1'): Offer =>
    ({
      ...{ offerId, agentId: 'a1', hostname: 'node-1', attributes: { rack } },
      resources: { cpuMillis, memMib: 1024 },
    }) as unknown as Offer;
  const status = (state: TaskStatus['state'], more: object = {}): TaskStatus =>
    ({ taskId: ASSIGNMENT.taskId, state, source: 'SOURCE_AGENT', ...more }) as TaskStatus;
  const MOVED = 'framework failed over: another scheduler has registered with this framework id';

  test('launches one task, on the first offer that fits', () => {
    scheduler.registered(driver);
    const offers = [offer('o1', 100), offer('o2', 900, 'r2'), offer('o3', 900), offer('o4', 900)];
    scheduler.resourceOffers(driver, offers);
    expect(calls).toEqual([
      ...['request 1', 'decline o1', 'decline o2', 'launch on o3', 'decline o4', 'request 0'],
    ]);
  });

  test('is done when its task has taken over', () => {
    scheduler.resourceOffers(driver, [offer('o1', 900)]);
    scheduler.statusUpdate(driver, status('TASK_RUNNING'));
    scheduler.error(driver, MOVED);
    expect(told).toEqual(['launched on node-1', 'TASK_RUNNING', 'handed over']);
  });

  test('has failed when its task has ended before', () => {
    scheduler.resourceOffers(driver, [offer('o1', 900)]);
    scheduler.statusUpdate(driver, status('TASK_FAILED'));
    expect(told.slice(1)).toEqual(['TASK_FAILED', 'failed with TASK_FAILED']);
  });

  test('takes another offer if the first had gone', () => {
    scheduler.resourceOffers(driver, [offer('o1', 900)]);
    scheduler.statusUpdate(driver, status('TASK_LOST', { reason: 'REASON_INVALID_OFFERS' }));
    scheduler.resourceOffers(driver, [offer('o2', 900)]);
    expect(calls.slice(-3)).toEqual(['request 1', 'launch on o2', 'request 0']);
  });

  test('says what else is wrong: a framework that is taken over before anything was launched', () => {
    scheduler.error(driver, MOVED);
    expect(told).toEqual([`error: ${MOVED}`]);
  });

  test('hears nothing of tasks of an earlier submission', () => {
    scheduler.statusUpdate(driver, status('TASK_LOST', { taskId: 'web.e' }));
    expect(told).toEqual([]);
  });
});

describe('the process of a program', () => {
  /** Runs it to its end. */
  async function run(
    argv: string[],
    act: (program: Program) => Promise<void> = () => Promise.resolve(),
  ): Promise<ProgramEnd> {
    const ends = createWatch<ProgramEnd>();
    const environment = { PATH: process.env['PATH'] };
    const onEnded = (end: ProgramEnd): void => ends.push(end);
    const program = new Program({ argv, directory, environment, onEnded });
    program.start();
    await act(program);
    return ends.first(() => true);
  }

  test.each<[string[], ProgramEnd]>([
    [['sh', '-c', 'exit 3'], { exitCode: 3, words: 'left with 3' }],
    [['sh', '-c', 'kill -SEGV $$'], { exitCode: 139, words: 'was ended by SIGSEGV' }],
    [
      ['no-such-program'],
      { exitCode: 127, words: 'could not be started: spawn no-such-program ENOENT' },
    ],
  ])('%j ends as a shell would say it', async (argv, end) => {
    expect(await run(argv)).toEqual(end);
  });

  test('is ended with all that it has started', async () => {
    const path = join(directory, 'child');
    const script = 'sleep 600 & echo $! > writing; mv writing child; wait';
    const ended = run(['sh', '-c', script], async (program) => {
      await until(() => existsSync(path));
      program.kill();
    });
    expect((await ended).exitCode).toBe(137);
    const child = Number(readFileSync(path, 'utf8'));
    await until(() => !isRunning(child));
  });
});

/** One that has ended and that nobody has waited for is none. */
function isRunning(pid: number): boolean {
  const path = `/proc/${String(pid)}/stat`;
  return existsSync(path) && !/\) Z /.test(readFileSync(path, 'utf8'));
}

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((done) => setTimeout(done, 10));
}

describe('the options of kaon submit', () => {
  const connection = { redis: 'redis://here', cluster: 'default' };

  test('are one core, 512M, a standby and ten restarts, and the name of the program', () => {
    expect(parseSubmitOptions({}, connection, ['./src/frame work.ts'])).toEqual({
      ...connection,
      ...{ cpuMillis: 1000, memMib: 512, name: 'frame_work', isStandbyWanted: true },
      ...{ maxRestarts: 10, environment: {}, attributes: {}, uris: [], whenUnreachable: 'keep' },
      ...{ nodeRedis: 'redis://here', follow: false },
    });
  });

  test('have the name of a command without its folder', () => {
    expect(parseSubmitOptions({}, connection, ['/usr/bin/python3.11']).name).toBe('python3_11');
  });

  test.each<[Record<string, string | string[]>, RegExp]>([
    [{ name: 'a/b' }, /^--name a\/b: not a name/],
    [{ name: 'x'.repeat(41) }, /not a name; it has 1 to 40/],
    [{ frameworkId: '-' }, /^--framework-id -: an id is letters/],
    [{ frameworkId: 'x'.repeat(94) }, /too long; .* at most 93 characters/],
    [{ standby: 'perhaps' }, /^--standby perhaps: not one of yes, no/],
    [{ maxRestarts: '1.5' }, /^--max-restarts 1.5: not a whole number from 0/],
    [{ maxRestarts: '9999999' }, /from 0 to 1000000/],
    [{ uri: ['http://ok/a', 'ftp://no/b'] }, /^--uri ftp:\/\/no\/b: not http/],
    [{ whenUnreachable: 'stop:1s' }, /--when-unreachable stop:1s: too short; the minimum is 15s/],
  ])('%j is refused', (raw, message) => {
    expect(() => parseSubmitOptions(raw, connection, ['true'])).toThrow(
      expect.objectContaining({ code: 'usage', message: expect.stringMatching(message) }),
    );
  });
});

describe('a program by its name', () => {
  test.each([
    ['./a.ts', true],
    ['/srv/a.mts', true],
    ['a.js', true],
    ['a.mjs', true],
    ['a.py', false],
    ['node', false],
    ['./ts', false],
  ])('%s is a module: %s', (program, expected) => {
    expect(isModule(program)).toBe(expected);
  });

  test.each([
    ['src/web.ts', 'web.mjs'],
    ['übung 1.mjs', '_bung_1.mjs'],
    ['.ts.ts', 'ts.mjs'],
  ])('%s is %s in the sandbox', (path, name) => {
    expect(bundledName(path)).toBe(name);
  });
});
