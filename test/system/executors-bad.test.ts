/** Schedulers and executors that do everything wrong, on a real cluster: each is told so, and nobody else notices. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { Redis } from 'ioredis';
import type { ExecutorDescription, TaskDescription } from '../../framework/index.ts';
import { bedReason } from '../beds/available.ts';
import type { ClusterBed } from '../beds/cluster.ts';
import { leadInstead, until } from '../beds/cluster.ts';
import { processesOf, unitsOf, useOf } from '../support/cluster-probe.ts';
import type { LiveFramework, LiveOptions } from '../support/live-framework.ts';
import {
  actingExecutor,
  dataTask,
  defaultExecutor,
  EXECUTOR_RESOURCES as OWN,
  shellTask,
  startFramework,
} from '../support/live-framework.ts';
import { startSettledCluster } from '../support/settled-cluster.ts';

const reason = bedReason('systemd') ?? bedReason('redis');
const suite = reason === undefined ? describe : describe.skip;
const TEST_TIMEOUT_MS = 120_000;
/** More than anybody keeps of the updates of one task that nobody acknowledges. */
const KEPT_MAX = 200;

suite(`bad schedulers and executors${reason === undefined ? '' : ` (${reason})`}`, () => {
  let cluster: ClusterBed;
  let giveBack: () => Promise<void>;
  const frameworks: LiveFramework[] = [];
  beforeAll(async () => {
    cluster = await startSettledCluster(['--resources', 'cpus=4,mem=2G']);
    // Offers that a test holds shall stay valid, however slow it is.
    giveBack = await leadInstead(cluster, '--offer-timeout', '1h');
  }, 180_000);
  afterEach(async () => {
    await Promise.all(frameworks.splice(0).map((framework) => framework.stop()));
  }, TEST_TIMEOUT_MS);
  afterAll(async () => {
    await giveBack();
    await cluster.stop();
  }, 120_000);
  const start = async (name: string, options: LiveOptions = {}): Promise<LiveFramework> => {
    const framework = await startFramework(cluster.redis, { name }, options);
    frameworks.push(framework);
    return framework;
  };
  const endOf = async (framework: LiveFramework, taskId: string): Promise<unknown[]> => {
    const { state, reason: why, message } = await framework.endOf(taskId);
    return [state, why, message];
  };
  /** A well-behaved framework: that its tasks run, now, on the same node. */
  const othersRun = async (): Promise<void> => {
    const framework = await start('others');
    const executor = defaultExecutor('others');
    framework.launch(shellTask('command', 'exit 0'), shellTask('hosted', 'exit 0', { executor }));
    await framework.reaches('command', 'TASK_FINISHED');
    await framework.reaches('hosted', 'TASK_FINISHED');
  };
  const gone = async (unit: string): Promise<void> => {
    await until(async () => !(await unitsOf(cluster)).includes(unit));
  };

  describe('a scheduler', () => {
    test(
      'that launches on the offer of another framework is refused, and the offer stays good',
      async () => {
        const owner = await start('owner', { isHoarder: true });
        const offer = await owner.offers.first(() => true);
        const thief = await start('thief', { isHoarder: true });
        thief.driver.launchTasks(offer.offerId, [shellTask('stolen', 'exit 0')]);
        const [state, why, message] = await endOf(thief, 'stolen');
        expect([state, why]).toEqual(['TASK_LOST', 'REASON_INVALID_OFFERS']);
        expect(message).toContain(`offer ${offer.offerId} is not valid`);
        owner.driver.launchTasks(offer.offerId, [shellTask('own', 'exit 0')]);
        await owner.reaches('own', 'TASK_FINISHED');
      },
      TEST_TIMEOUT_MS,
    );

    test(
      'that launches on an offer twice is refused the second time, and the first task runs',
      async () => {
        const framework = await start('twice', { isHoarder: true });
        const { driver } = framework;
        const { offerId } = await framework.offers.first(() => true);
        driver.launchTasks(offerId, [shellTask('first', 'exit 0')]);
        driver.launchTasks(offerId, [shellTask('second', 'exit 0')]);
        expect((await endOf(framework, 'second')).slice(0, 2)).toEqual([
          'TASK_LOST',
          'REASON_INVALID_OFFERS',
        ]);
        await framework.reaches('first', 'TASK_FINISHED');
      },
      TEST_TIMEOUT_MS,
    );

    test(
      'that kills a task that never was is told so',
      async () => {
        const framework = await start('killer');
        framework.driver.killTask('never-was');
        const { reason: why, message } = await framework.reaches('never-was', 'TASK_UNKNOWN');
        expect(why).toBe('REASON_TASK_UNKNOWN');
        expect(message).toContain('never-was');
      },
      TEST_TIMEOUT_MS,
    );

    test(
      'that asks for more than its offer, with the executor, is told the numbers',
      async () => {
        const framework = await start('greedy', { isHoarder: true });
        const { offerId } = await framework.offers.first(() => true);
        const executor = defaultExecutor('greedy');
        const resources = { cpuMillis: 4000, memMib: 416 };
        framework.driver.launchTasks(offerId, [
          shellTask('big', 'exit 0', { executor, resources }),
        ]);
        const [state, why, message] = await endOf(framework, 'big');
        expect([state, why]).toEqual(['TASK_ERROR', 'REASON_RESOURCES_EXCEED_OFFER']);
        expect(message).toMatch(
          /needs 4 cpus, 416M and its executor, .*, 0\.1 cpus, 96M, together 4\.1 cpus, 512M, of the offer 4 cpus, 2G is left/,
        );
      },
      TEST_TIMEOUT_MS,
    );

    test(
      'that describes an executor of the same id otherwise is refused, and the first one goes on',
      async () => {
        const framework = await start('otherwise');
        framework.launch(shellTask('first', 'sleep 300', { executor: defaultExecutor('same') }));
        await framework.reaches('first', 'TASK_RUNNING');
        const executor = defaultExecutor('same', { idleTimeoutMs: 1234 });
        framework.launch(shellTask('second', 'exit 0', { executor }));
        const [state, why, message] = await endOf(framework, 'second');
        expect([state, why]).toEqual(['TASK_ERROR', 'REASON_TASK_INVALID']);
        expect(message).toContain('existing executor with the same id is not compatible');
        framework.launch(shellTask('third', 'exit 0', { executor: defaultExecutor('same') }));
        await framework.reaches('third', 'TASK_FINISHED');
        expect(framework.statesOf('first').at(-1)).toBe('TASK_RUNNING');
      },
      TEST_TIMEOUT_MS,
    );

    const executor = { executorId: 'e', name: 'e', resources: OWN } as ExecutorDescription;
    const check = { check: { type: 'tcp', port: 1 } } as const;
    test.each<[string, Partial<TaskDescription>, RegExp]>([
      [
        'a task of the default executor without a command',
        { executor, command: undefined },
        /a task of the default executor must have a command/,
      ],
      [
        'a health check without an executor',
        { healthCheck: check },
        /a health check needs the default executor/,
      ],
      ['neither command nor executor', { command: undefined }, /either an executor or/],
      [
        'a command beside an executor that has one',
        { executor: actingExecutor('both') },
        /not both/,
      ],
      ['10 MB of data', { executor, data: 'x'.repeat(10_000_000) }, /data.*65536/],
      ['more files than one task may have', { uris: Array(65).fill({ uri: '/x' }) }, /uris.*64/],
    ])(
      'that launches %s is told what is wrong, and its other task runs',
      async (_what, more, words) => {
        const framework = await start('invalid');
        framework.launch(shellTask('bad', 'exit 0', more), shellTask('good', 'exit 0'));
        const [state, why, message] = await endOf(framework, 'bad');
        expect([state, why]).toEqual(['TASK_ERROR', 'REASON_TASK_INVALID']);
        expect(message).toMatch(words);
        await framework.reaches('good', 'TASK_FINISHED');
      },
      TEST_TIMEOUT_MS,
    );

    test(
      'that acknowledges nothing has a bounded number of updates kept, and others do not notice',
      async () => {
        const framework = await start('silent', { implicitAcknowledgements: false });
        framework.launch(dataTask('flood', 'flood 1000', actingExecutor('silent')));
        await framework.reaches('flood', 'TASK_RUNNING');
        await othersRun();
        const { data } = await framework.reaches('flood', 'TASK_FINISHED');
        expect(Number(data)).toBeGreaterThan(KEPT_MAX);
        const redis = new Redis(cluster.redis.replace('unix://', ''));
        const records = await redis.hgetall('kaon:{default}:registry:tasks');
        redis.disconnect();
        const kept = Object.values(records).map((text) => JSON.parse(text).unacknowledged.length);
        expect(Math.max(...kept)).toBeLessThanOrEqual(KEPT_MAX);
      },
      TEST_TIMEOUT_MS,
    );
  });

  describe('an executor', () => {
    test.each<[string, (id: string) => ExecutorDescription, string, RegExp]>([
      [
        'whose command does not exist',
        (id) => actingExecutor(id, { command: { argv: ['/no/such/program'] } }),
        'REASON_COMMAND_NOT_EXECUTABLE',
        /"\/no\/such\/program" cannot be executed/,
      ],
      [
        'whose user does not exist',
        (id) => defaultExecutor(id, { user: 'nosuchuser' }),
        'REASON_CONTAINER_LAUNCH_FAILED',
        /user "nosuchuser" does not exist/,
      ],
      [
        'that never registers',
        (id) =>
          actingExecutor(id, {
            command: { argv: ['sleep', '300'] },
            registrationTimeoutMs: 500,
          }),
        'REASON_EXECUTOR_REGISTRATION_TIMEOUT',
        /executor never did not register within 500ms/,
      ],
    ])(
      '%s fails its task with the reason, and is lost',
      async (_what, describeIt, why, words) => {
        const framework = await start('failing');
        const task = { data: 'x', command: undefined } as object;
        const described = describeIt('never');
        const isDefault = described.command === undefined;
        framework.launch(
          shellTask('task', 'exit 0', { executor: described, ...(isDefault ? {} : task) }),
        );
        const [state, found, message] = await endOf(framework, 'task');
        expect([state, found]).toEqual(['TASK_FAILED', why]);
        expect(message).toMatch(words);
        expect((await framework.lossOf('never')).message).toMatch(words);
        await until(async () => (await useOf(cluster)).executorCount === 0);
        expect(await unitsOf(cluster)).toEqual([]);
      },
      TEST_TIMEOUT_MS,
    );

    test.each([
      ['exits at once', { command: { argv: ['sh', '-c', 'exit 7'] } }, 'x'],
      ['exits when it gets a task', {}, 'leave 7'],
    ])(
      'that %s loses its task, with the code',
      async (_what, more, data) => {
        const framework = await start('leaving');
        framework.launch(dataTask('task', data, actingExecutor('leaver', more)));
        const words = 'Lost executor leaver: exited with code 7';
        expect(await endOf(framework, 'task')).toEqual([
          'TASK_LOST',
          'REASON_EXECUTOR_TERMINATED',
          words,
        ]);
        expect((await framework.lossOf('leaver')).message).toBe(words);
      },
      TEST_TIMEOUT_MS,
    );

    test(
      'that floods its agent with updates and messages holds up nobody else, and is heard to the end',
      async () => {
        const framework = await start('flooding');
        const room = { resources: { cpuMillis: 1000, memMib: 512 } };
        framework.launch(dataTask('flood', 'flood 3000', actingExecutor('flooder', room)));
        await framework.reaches('flood', 'TASK_RUNNING');
        await othersRun();
        await othersRun();
        const { data } = await framework.reaches('flood', 'TASK_FINISHED');
        expect(Number(data)).toBeGreaterThan(1000);
        await othersRun();
      },
      TEST_TIMEOUT_MS,
    );

    test(
      'that does not listen is ended after its grace period, with its tasks',
      async () => {
        const framework = await start('deaf');
        const executor = actingExecutor('deaf', { shutdownGracePeriodMs: 300 });
        framework.launch(dataTask('task', 'deaf', executor));
        const { agentId = '', unit = '' } = await framework.reaches('task', 'TASK_RUNNING');
        framework.driver.killTask('task', 0);
        framework.driver.shutdownExecutor('deaf', agentId);
        expect((await framework.lossOf('deaf')).message).toMatch(/was shut down: .*signal 9/);
        expect((await framework.endOf('task')).state).toBe('TASK_KILLED');
        await gone(unit);
      },
      TEST_TIMEOUT_MS,
    );

    test.each([
      ['an executor', (script: string) => dataTask('task', `spawn ${script}`, actingExecutor('f'))],
      ['a task', (script: string) => shellTask('task', script, { executor: defaultExecutor('f') })],
    ])(
      'whose %s leaves a daemon behind takes that with it',
      async (_whose, taskOf) => {
        const framework = await start('forking');
        const path = join(cluster.directory, `daemon-${String(framework.driver.frameworkId)}`);
        const daemon = `setsid sh -c "setsid sh -c 'echo up > ${path}; sleep 300' &"; sleep 300`;
        framework.launch(taskOf(daemon));
        const { agentId = '', unit = '' } = await framework.reaches('task', 'TASK_RUNNING');
        await until(() => existsSync(path) && readFileSync(path, 'utf8') === 'up\n');
        const pids = await processesOf(cluster, unit);
        expect(pids.length).toBeGreaterThan(3);
        framework.driver.shutdownExecutor('f', agentId);
        await framework.lossOf('f');
        await gone(unit);
        const alive = await cluster.inside('sh', '-c', `kill -0 ${pids.join(' ')}`);
        expect(alive.exitCode).not.toBe(0);
        expect((await cluster.inside('pgrep', '-f', 'sleep 300')).stdout).toBe('');
      },
      TEST_TIMEOUT_MS,
    );
  });
});
