/** Executors of a framework's own, other limits for what runs, and what a framework is owed, on a real cluster. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, describe, test } from '@jest/globals';
import { DATA_MAX_CHARS } from '../../framework/index.ts';
import { bedReason } from '../beds/available.ts';
import type { ClusterBed } from '../beds/cluster.ts';
import { leadInstead, leftovers, startClusterBed, until } from '../beds/cluster.ts';
import {
  isEmpty,
  limitsOf,
  listing,
  processesOf,
  propertyOf,
  unitsOf,
  useOf,
} from '../support/cluster-probe.ts';
import type { LiveFramework, LiveOptions } from '../support/live-framework.ts';
import {
  actingExecutor,
  dataTask,
  defaultExecutor,
  EXECUTOR_RESOURCES as OWN,
  shellTask,
  startFramework,
} from '../support/live-framework.ts';

const reason = bedReason('systemd') ?? bedReason('redis');
const suite = reason === undefined ? describe : describe.skip;
const TEST_TIMEOUT_MS = 120_000;
/** 200 MiB in memory that is really touched. */
const ALLOCATE_200_MIB = [
  process.execPath,
  '-e',
  'const all = []; for (let i = 0; i < 20; i += 1) all.push(Buffer.alloc(10 << 20, 1));',
];

suite(`executors and limits${reason === undefined ? '' : ` (${reason})`}`, () => {
  let cluster: ClusterBed;
  let giveBack: () => Promise<void>;
  const frameworks: LiveFramework[] = [];
  beforeAll(async () => {
    cluster = await startClusterBed(['--resources', 'cpus=4,mem=2G']);
    // Offers that a test holds shall stay valid, however slow it is.
    giveBack = await leadInstead(cluster, '--offer-timeout', '1h');
  }, 180_000);
  afterEach(async () => {
    const left = frameworks.splice(0);
    await Promise.all(left.map((framework) => framework.stop()));
    // What they have left is torn down after that, and would be counted with what the next test has. The test that ends the
    // cluster leaves none.
    if (left.length > 0) await until(() => isEmpty(cluster));
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
  /** Another scheduler of the same framework. */
  const takeOver = async (
    { driver }: LiveFramework,
    options: LiveOptions = {},
  ): Promise<LiveFramework> => {
    await driver.abort();
    const { frameworkId } = driver;
    const next = await startFramework(cluster.redis, { name: 'next', frameworkId }, options);
    frameworks.push(next);
    return next;
  };
  const resize = (framework: LiveFramework, taskId: string, ...args: string[]) =>
    cluster.kaon('task', 'resize', taskId, '--framework', framework.driver.frameworkId, ...args);

  test(
    'scheduler and executor speak to each other, before and after the agent was killed',
    async () => {
      const framework = await start('talk');
      framework.launch(dataTask('task', 'hold', actingExecutor('talk')));
      const { agentId = '', unit = '' } = await framework.reaches('task', 'TASK_RUNNING');
      const say = (words: string): void => {
        framework.driver.sendFrameworkMessage('talk', agentId, words);
      };
      say('hello');
      const first = await framework.messages.first(({ data }) => data.endsWith(': hello'));
      const [agent = NaN] = cluster.daemons('agent');
      process.kill(agent, 'SIGKILL');
      // Best effort: what is said while the executor looks for the next agent may be lost.
      const again = framework.messages.first(({ data }) => data.endsWith(': again'));
      let isAnswered = false;
      void again.then(() => (isAnswered = true));
      await until(() => {
        say('again');
        return isAnswered;
      });
      expect(first).toEqual({
        executorId: 'talk',
        agentId,
        data: (await again).data.replace('again', 'hello'),
      });
      expect(await propertyOf(cluster, unit, 'ActiveState')).toBe('active');
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'large results that are reported while there is no agent all arrive, each once',
    async () => {
      const framework = await start('results');
      const executor = actingExecutor('results', { resources: { cpuMillis: 500, memMib: 512 } });
      const ids = Array.from({ length: 300 }, (_item, index) => `r${String(index)}`);
      const path = join(cluster.directory, 'results');
      const resources = { cpuMillis: 10, memMib: 4 };
      framework.launch(
        ...ids.map((id) => ({ ...dataTask(id, `wait ${path} 60000`, executor), resources })),
      );
      for (const id of ids) await framework.reaches(id, 'TASK_RUNNING');
      await cluster.inside('systemctl', 'stop', 'kaon-agent');
      writeFileSync(path, '');
      const said = `${path}.said`;
      await until(() => existsSync(said) && readFileSync(said).length === ids.length);
      await cluster.inside('systemctl', 'start', 'kaon-agent');
      for (const id of ids) expect((await framework.endOf(id)).data?.length).toBe(60_000);
      const ends = framework.statuses.seen.filter(({ state }) => state === 'TASK_FINISHED');
      // One may come again until its acknowledgement has arrived; it is the same one then.
      expect(new Set(ends.map(({ updateId }) => updateId)).size).toBe(ids.length);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'a message may be as long as the limit says, and no longer',
    async () => {
      const framework = await start('long');
      framework.launch(dataTask('task', 'hold', actingExecutor('long')));
      const { agentId = '' } = await framework.reaches('task', 'TASK_RUNNING');
      const { driver } = framework;
      expect(() => {
        driver.sendFrameworkMessage('long', agentId, 'x'.repeat(DATA_MAX_CHARS + 1));
      }).toThrow(`data of ${String(DATA_MAX_CHARS + 1)} characters`);
      driver.sendFrameworkMessage('long', agentId, `repeat ${String(DATA_MAX_CHARS)}`);
      const { data } = await framework.messages.first(() => true);
      expect(data.length).toBe(DATA_MAX_CHARS);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'a running task is given more and less by the command line, and is the same process',
    async () => {
      const framework = await start('resize');
      framework.launch(shellTask('lives', 'exec sleep 300'));
      const { unit = '' } = await framework.reaches('lives', 'TASK_RUNNING');
      const pid = await propertyOf(cluster, unit, 'MainPID');
      const more = await resize(framework, 'lives', '--cpus', '1.5', '--mem', '256M');
      expect(more).toMatchObject({ exitCode: 0, stderr: '' });
      expect(more.stdout).toBe('task lives now has 1.5 cpus, 256M (had 0.1 cpus, 16M)\n');
      expect(await limitsOf(cluster, unit)).toEqual({ cpuMillis: 1500, memMib: 256 });
      expect((await useOf(cluster)).used).toEqual({ cpuMillis: 1500, memMib: 256 });
      expect((await resize(framework, 'lives', '--mem', '32M')).exitCode).toBe(0);
      expect(await limitsOf(cluster, unit)).toEqual({ cpuMillis: 1500, memMib: 32 });
      expect((await useOf(cluster)).used).toEqual({ cpuMillis: 1500, memMib: 32 });
      expect(await propertyOf(cluster, unit, 'MainPID')).toBe(pid);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'more than the node has is refused with the numbers, and changes nothing',
    async () => {
      const framework = await start('refused');
      framework.launch(shellTask('small', 'exec sleep 300'));
      const { unit = '' } = await framework.reaches('small', 'TASK_RUNNING');
      const { exitCode, stderr } = await resize(framework, 'small', '--cpus', '9', '--mem', '8G');
      expect(exitCode).not.toBe(0);
      expect(stderr).toMatch(/small.*9 cpus.*8G.*asked.*3.9 cpus.* free/);
      expect(await limitsOf(cluster, unit)).toEqual({ cpuMillis: 100, memMib: 16 });
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'a task of an executor is given more and less, and its container follows',
    async () => {
      const framework = await start('resize-hosted');
      framework.launch(
        shellTask('hosted', 'exec sleep 300', { executor: defaultExecutor('container') }),
      );
      const { unit = '' } = await framework.reaches('hosted', 'TASK_RUNNING');
      const pids = await processesOf(cluster, unit);
      expect((await resize(framework, 'hosted', '--mem', '200M')).exitCode).toBe(0);
      expect(await limitsOf(cluster, unit)).toEqual({ cpuMillis: 200, memMib: OWN.memMib + 200 });
      const resizeId = framework.driver.resizeTask('hosted', { cpuMillis: 300, memMib: 24 });
      const outcome = await framework.resized.first((each) => each.resizeId === resizeId);
      expect(outcome.resources).toEqual({ cpuMillis: 300, memMib: 24 });
      const now = { cpuMillis: 400, memMib: OWN.memMib + 24 };
      await until(async () => (await limitsOf(cluster, unit)).memMib === now.memMib);
      expect(await limitsOf(cluster, unit)).toEqual(now);
      expect(await processesOf(cluster, unit)).toEqual(pids);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'a task with a cgroup of its own that needs too much memory dies alone, and is told why',
    async () => {
      const framework = await start('alone');
      const executor = defaultExecutor('alone', { isolation: 'task' });
      framework.launch(
        shellTask('good', 'exec sleep 300', { executor }),
        shellTask('greedy', '', {
          executor,
          command: { argv: ALLOCATE_200_MIB },
          resources: { cpuMillis: 500, memMib: 64 },
        }),
      );
      const { state, reason: why, message } = await framework.endOf('greedy');
      expect([state, why]).toEqual(['TASK_FAILED', 'REASON_CONTAINER_LIMITATION_MEMORY']);
      expect(message).toMatch(/^killed by the kernel: memory limit 64M, peak 6[34]/);
      const { stdout } = await cluster.kaon('task', `${framework.driver.frameworkId}/greedy`);
      expect(stdout).toMatch(/memory limit 64M, peak 6[34]/);
      expect(stdout).toMatch(/memory peak +6[34]\S* .*64M/);
      framework.launch(shellTask('after', 'exit 0', { executor }));
      await framework.reaches('after', 'TASK_FINISHED');
      expect(framework.statesOf('good').at(-1)).toBe('TASK_RUNNING');
      expect(framework.lost.seen).toEqual([]);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'a task that is a command is one process, and nothing is beside it',
    async () => {
      const framework = await start('single');
      framework.launch(shellTask('single', 'exec sleep 300'));
      const { unit = '' } = await framework.reaches('single', 'TASK_RUNNING');
      const pid = Number(await propertyOf(cluster, unit, 'MainPID'));
      expect(await processesOf(cluster, unit)).toEqual([pid]);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'an update is owed until it is acknowledged, also to the next scheduler',
    async () => {
      const first = await start('owed', { implicitAcknowledgements: false });
      first.launch(shellTask('owed', 'exit 3'));
      const ended = await first.endOf('owed');
      const second = await takeOver(first, { implicitAcknowledgements: false });
      const again = await second.endOf('owed');
      expect(again).toEqual(ended);
      for (const status of second.statuses.seen) second.driver.acknowledgeStatusUpdate(status);
      const isKnown = async (): Promise<boolean> =>
        (await listing<{ taskId: string }>(cluster, 'tasks')).some(
          ({ taskId }) => taskId === 'owed',
        );
      await until(async () => !(await isKnown()));
      const third = await takeOver(second);
      third.launch(shellTask('other', 'exit 0'));
      await third.endOf('other');
      expect(third.statesOf('owed')).toEqual([]);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'several offers of one agent are accepted together',
    async () => {
      const framework = await start('several', { isHoarder: true });
      const { driver } = framework;
      const whole = await framework.offers.first(() => true);
      const half = shellTask('half', 'exec sleep 300', {
        resources: { cpuMillis: 2000, memMib: 64 },
      });
      driver.launchTasks(whole.offerId, [half], { refuseMs: 0 });
      await framework.reaches('half', 'TASK_RUNNING');
      const [, rest] = await framework.offers.count(2);
      driver.killTask('half');
      await framework.reaches('half', 'TASK_KILLED');
      const [, , freed] = await framework.offers.count(3);
      expect([rest, freed].map((offer) => offer?.resources.cpuMillis)).toEqual([2000, 2000]);
      const most = shellTask('most', 'exit 0', { resources: { cpuMillis: 3500, memMib: 64 } });
      driver.launchTasks([...framework.held.keys()].slice(-2) as never, [most]);
      await framework.reaches('most', 'TASK_FINISHED');
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'a framework that leaves takes its tasks and executors with it',
    async () => {
      const framework = await start('leaves');
      framework.launch(
        shellTask('command', 'exec sleep 300'),
        shellTask('hosted', 'exec sleep 300', { executor: defaultExecutor('leaving') }),
        dataTask('own', 'hold', actingExecutor('own')),
      );
      for (const id of ['command', 'hosted', 'own']) await framework.reaches(id, 'TASK_RUNNING');
      expect((await unitsOf(cluster)).length).toBe(3);
      await framework.stop();
      await until(() => isEmpty(cluster));
      expect((await useOf(cluster)).used).toEqual({ cpuMillis: 0, memMib: 0 });
      expect((await cluster.inside('pgrep', '-f', 'sleep 300')).stdout).toBe('');
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'Ctrl-C on kaon dev ends executors and their tasks, and nothing is left',
    async () => {
      const framework = await start('last');
      framework.launch(
        shellTask('hosted', 'exec sleep 300', { executor: defaultExecutor('last') }),
        dataTask('own', 'hold', actingExecutor('own')),
      );
      await framework.reaches('hosted', 'TASK_RUNNING');
      await framework.reaches('own', 'TASK_RUNNING');
      // A driver whose Redis is gone waits for another one; this one has nothing more to say.
      await frameworks.pop()?.driver.abort();
      const log = readFileSync(join(cluster.directory, 'agent.log'), 'utf8');
      expect(log).not.toMatch(/unhandled|TypeError|AssertionError/i);
      await giveBack();
      expect(await cluster.stop()).toBe(0);
      expect(leftovers(cluster.directory, cluster.pid)).toEqual([]);
    },
    TEST_TIMEOUT_MS,
  );
});
