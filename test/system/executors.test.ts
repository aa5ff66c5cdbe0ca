/** Executors, artifacts and limits as the author of a framework and an operator meet them, on a real cluster. */
import { createHash } from 'node:crypto';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { isTerminal } from '../../framework/index.ts';
import { bedReason } from '../beds/available.ts';
import type { ClusterBed } from '../beds/cluster.ts';
import { startClusterBed, until } from '../beds/cluster.ts';
import type { TestServer } from '../support/artifact-bed.ts';
import { startServer, tarOf } from '../support/artifact-bed.ts';
import {
  isEmpty,
  limitsOf,
  listing,
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

suite(`executors${reason === undefined ? '' : ` (${reason})`}`, () => {
  let cluster: ClusterBed;
  const frameworks: LiveFramework[] = [];
  beforeAll(async () => {
    cluster = await startClusterBed(['--resources', 'cpus=4,mem=2G']);
  }, 180_000);
  afterEach(async () => {
    await Promise.all(frameworks.splice(0).map((framework) => framework.stop()));
    // What it has left is torn down after that, and would be counted with what the next test has.
    await until(() => isEmpty(cluster));
  }, TEST_TIMEOUT_MS);
  afterAll(async () => {
    await cluster.stop();
  }, 120_000);
  const start = async (name: string, options?: LiveOptions): Promise<LiveFramework> => {
    const framework = await startFramework(cluster.redis, { name }, options);
    frameworks.push(framework);
    return framework;
  };
  /** A file that tasks wait for. */
  const gate = (name: string): { path: string; open: () => void; shut: () => void } => {
    const path = join(cluster.directory, name);
    const open = (): void => {
      writeFileSync(path, '');
    };
    return {
      path,
      open,
      shut: () => {
        rmSync(path);
      },
    };
  };
  const waitsFor = ({ path }: { path: string }, then: string): string =>
    `while [ ! -e ${path} ]; do sleep 0.05; done; ${then}`;
  const logsOf = async ({ driver }: LiveFramework, taskId: string): Promise<string[]> => {
    const { stdout, stderr } = await cluster.kaon('logs', `${driver.frameworkId}/${taskId}`);
    return [stdout, stderr];
  };
  const mainPidOf = (unit: string): Promise<string> => propertyOf(cluster, unit, 'MainPID');

  test(
    'the default executor runs commands in one unit whose limits are its own and theirs, and their ends are exact',
    async () => {
      const framework = await start('commands');
      const executor = defaultExecutor('shared');
      const go = gate('commands');
      const ends = { three: 'exit 3', zero: 'echo out; echo err >&2', signal: 'kill -SEGV $$' };
      const tasks = Object.entries(ends).map(([taskId, then]) =>
        shellTask(taskId, waitsFor(go, then), { executor }),
      );
      framework.launch(...tasks);
      const running = await Promise.all(
        tasks.map(({ taskId }) => framework.reaches(taskId, 'TASK_RUNNING')),
      );
      const [unit = ''] = new Set(running.map((status) => status.unit));
      expect(new Set(running.map((status) => status.unit)).size).toBe(1);
      expect(await propertyOf(cluster, unit, 'ActiveState')).toBe('active');
      expect(await limitsOf(cluster, unit)).toEqual({ cpuMillis: 400, memMib: 96 + 3 * 16 });
      const slice = await propertyOf(cluster, unit, 'Slice');
      expect(await propertyOf(cluster, slice, 'MemoryMax')).toBe(String((96 + 48) << 20));
      expect(await propertyOf(cluster, slice, 'CPUQuotaPerSecUSec')).toBe('400ms');
      go.open();
      const [three, zero, signal] = await Promise.all(
        tasks.map(({ taskId }) => framework.endOf(taskId)),
      );
      expect([three?.state, three?.certificate?.exitCode]).toEqual(['TASK_FAILED', 3]);
      expect([zero?.state, zero?.certificate?.exitCode]).toEqual(['TASK_FINISHED', 0]);
      expect([signal?.state, signal?.certificate?.signal]).toEqual(['TASK_FAILED', 11]);
      expect(await logsOf(framework, 'zero')).toEqual(['out\n', 'err\n']);
      await until(async () => (await limitsOf(cluster, unit)).memMib === OWN.memMib);
      expect(await limitsOf(cluster, unit)).toEqual(OWN);
      expect(await propertyOf(cluster, slice, 'MemoryMax')).toBe(String(96 << 20));
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'a task may have the id of its executor, and its output is its own',
    async () => {
      const framework = await start('namesakes');
      const executor = defaultExecutor('namesake');
      framework.launch(shellTask('namesake', 'echo task', { executor }));
      await framework.reaches('namesake', 'TASK_FINISHED');
      expect(await logsOf(framework, 'namesake')).toEqual(['task\n', '']);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'an executor and its tasks outlive the agent, and the next one gives it more',
    async () => {
      const framework = await start('survivor');
      const executor = defaultExecutor('survivor');
      const go = gate('survivor');
      framework.launch(shellTask('before', waitsFor(go, 'exit 3'), { executor }));
      const { unit = '' } = await framework.reaches('before', 'TASK_RUNNING');
      const pid = await mainPidOf(unit);
      const [agent = NaN] = cluster.daemons('agent');
      process.kill(agent, 'SIGKILL');
      framework.launch(shellTask('after', 'exit 0', { executor }));
      expect((await framework.endOf('after')).unit).toBe(unit);
      go.open();
      expect((await framework.endOf('before')).message).toBe('exited with code 3');
      expect(await mainPidOf(unit)).toBe(pid);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'what ends while there is no agent is told, as one update',
    async () => {
      const framework = await start('absent');
      const executor = defaultExecutor('absent');
      const go = gate('absent');
      const ended = gate('absent-ended');
      const script = waitsFor(go, `echo last words; touch ${ended.path}; exit 4`);
      framework.launch(shellTask('alone', script, { executor }));
      await framework.reaches('alone', 'TASK_RUNNING');
      await cluster.inside('systemctl', 'stop', 'kaon-agent');
      go.open();
      await until(() => existsSync(ended.path));
      await cluster.inside('systemctl', 'start', 'kaon-agent');
      const { state, message, certificate } = await framework.endOf('alone');
      expect([state, message]).toEqual(['TASK_FAILED', 'exited with code 4']);
      expect(certificate?.stdoutTail).toBe('last words\n');
      framework.launch(shellTask('next', 'exit 0', { executor }));
      await framework.endOf('next');
      // It may come again, as every update until its acknowledgement has arrived; it is the same one then.
      const told = framework.statuses.seen.filter(({ taskId }) => taskId === 'alone');
      const ends = told.filter(
        (status) => isTerminal(status.state) && status.updateId !== undefined,
      );
      expect(new Set(ends.map(({ updateId }) => updateId)).size).toBe(1);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'an executor that is killed is lost with its tasks, and its resources are free',
    async () => {
      const framework = await start('lost');
      const executor = actingExecutor('fragile');
      framework.launch(dataTask('a', 'hold', executor), dataTask('b', 'hold', executor));
      const { unit = '' } = await framework.reaches('a', 'TASK_RUNNING');
      await framework.reaches('b', 'TASK_RUNNING');
      await cluster.inside('kill', '-KILL', await mainPidOf(unit));
      const lost = await framework.lossOf('fragile');
      expect(lost.message).toBe('Lost executor fragile: ended by signal 9 (SIGKILL)');
      expect(framework.statesOf('a').at(-1)).toBe('TASK_LOST');
      const { reason: why, message } = await framework.endOf('b');
      expect([why, message]).toEqual(['REASON_EXECUTOR_TERMINATED', lost.message]);
      const none = { cpuMillis: 0, memMib: 0 };
      await until(async () => (await useOf(cluster)).executorCount === 0);
      expect((await useOf(cluster)).used).toEqual(none);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'an executor without tasks is counted, and goes when it is told to',
    async () => {
      const framework = await start('idle');
      framework.launch(dataTask('short', 'finish', actingExecutor('waiting')));
      await framework.reaches('short', 'TASK_FINISHED');
      await until(async () => (await useOf(cluster)).taskCount === 0);
      const { used, executorCount, info } = await useOf(cluster);
      expect({ used, executorCount }).toEqual({ used: OWN, executorCount: 1 });
      const rows = await listing<{ taskCount: number; total: object }>(cluster, 'executors');
      expect(rows.map(({ taskCount, total }) => ({ taskCount, total }))).toEqual([
        { taskCount: 0, total: OWN },
      ]);
      framework.driver.shutdownExecutor('waiting', info.agentId);
      expect((await framework.lossOf('waiting')).message).toContain('was shut down');
      await until(async () => (await useOf(cluster)).executorCount === 0);
      expect(await unitsOf(cluster)).toEqual([]);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'an executor that has been idle for as long as it may goes by itself',
    async () => {
      const framework = await start('brief');
      const executor = defaultExecutor('brief', { idleTimeoutMs: 300 });
      framework.launch(shellTask('one', 'exit 0', { executor }));
      await framework.reaches('one', 'TASK_FINISHED');
      expect((await framework.lossOf('brief')).message).toContain('not needed any more');
      // The same description may be launched again.
      framework.launch(shellTask('two', 'exit 0', { executor }));
      await framework.reaches('two', 'TASK_FINISHED');
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'shutting an executor down ends its tasks first, as politely as they let it',
    async () => {
      const framework = await start('shutdown');
      const executor = defaultExecutor('polite', { shutdownGracePeriodMs: 60_000 });
      const script = 'trap "echo bye; exit 0" TERM; echo up; while :; do sleep 0.05; done';
      framework.launch(shellTask('polite', script, { executor }));
      const { agentId = '' } = await framework.reaches('polite', 'TASK_RUNNING');
      await until(async () => (await logsOf(framework, 'polite'))[0] === 'up\n');
      framework.driver.shutdownExecutor('polite', agentId);
      await framework.lossOf('polite');
      const { state } = await framework.endOf('polite');
      expect(state).toBe('TASK_KILLED');
      const [stdout] = await logsOf(framework, 'polite');
      expect(stdout).toBe('up\nbye\n');
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'when one of a group fails the others are ended',
    async () => {
      const framework = await start('group');
      const executor = defaultExecutor('group');
      const go = gate('group');
      framework.launchGroup(
        shellTask('bad', waitsFor(go, 'exit 9'), { executor }),
        shellTask('good', 'sleep 300', { executor }),
      );
      await framework.reaches('good', 'TASK_RUNNING');
      go.open();
      const { state, reason: why, message } = await framework.endOf('good');
      expect([state, why]).toEqual(['TASK_KILLED', 'REASON_TASK_GROUP_FAILED']);
      expect(message).toContain('bad');
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'when one of a group is not valid none is started',
    async () => {
      const framework = await start('mixed');
      const executor = defaultExecutor('mixed');
      const { command: _command, ...without } = shellTask('bad', 'exit 0', { executor });
      framework.launchGroup(shellTask('good', 'exit 0', { executor }), without);
      const bad = await framework.endOf('bad');
      const good = await framework.endOf('good');
      expect([bad.state, bad.reason]).toEqual(['TASK_ERROR', 'REASON_TASK_INVALID']);
      expect([good.state, good.reason]).toEqual(['TASK_ERROR', 'REASON_TASK_GROUP_FAILED']);
      expect(framework.statesOf('good')).toEqual(['TASK_ERROR']);
      expect(await unitsOf(cluster)).toEqual([]);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'health checks by command, HTTP and TCP find a task healthy, and end it when it is not any more',
    async () => {
      const framework = await start('health');
      const executor = defaultExecutor('health');
      const works = gate('works');
      works.open();
      const [http, tcp] = await freePorts(2);
      const server = (port: number, code: string): string[] => [
        process.execPath,
        '-e',
        `const { existsSync } = require('fs'); const isUp = () => existsSync(${JSON.stringify(works.path)}); ${code}.listen(${String(port)}, '127.0.0.1', function () { setInterval(() => isUp() || this.close?.(), 20); });`,
      ];
      const timing = { intervalMs: 50, gracePeriodMs: 20_000, failuresMax: 2, timeoutMs: 5000 };
      const memory = { resources: { cpuMillis: 300, memMib: 64 } };
      framework.launch(
        shellTask('by-command', 'sleep 300', {
          executor,
          healthCheck: {
            check: { type: 'command', argv: ['test', '-e', works.path] },
            ...timing,
          },
        }),
        shellTask('by-http', '', {
          ...memory,
          executor,
          command: {
            argv: server(
              http,
              "require('http').createServer((_, answer) => answer.writeHead(isUp() ? 204 : 503).end())",
            ),
          },
          healthCheck: { check: { type: 'http', port: http, path: '/health' }, ...timing },
        }),
        shellTask('by-tcp', '', {
          ...memory,
          executor,
          command: {
            argv: server(tcp, "require('net').createServer((socket) => socket.destroy())"),
          },
          healthCheck: { check: { type: 'tcp', port: tcp }, ...timing },
        }),
      );
      const ids = ['by-command', 'by-http', 'by-tcp'];
      for (const id of ids) {
        await framework.statuses.first(({ taskId, healthy }) => taskId === id && healthy === true);
      }
      works.shut();
      for (const id of ids) {
        const { state, reason: why, healthy } = await framework.endOf(id);
        expect([id, state, why, healthy]).toEqual([
          id,
          'TASK_FAILED',
          'REASON_HEALTH_CHECK_FAILED',
          false,
        ]);
      }
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'a task of the default executor ends after its time, and one that does not listen after its grace period',
    async () => {
      const framework = await start('times');
      const executor = defaultExecutor('times');
      const deaf = 'trap "" TERM; echo up; while :; do sleep 0.05; done';
      framework.launch(
        shellTask('long', 'sleep 300', { executor, maxCompletionTimeMs: 300 }),
        shellTask('deaf', deaf, { executor }),
        shellTask('listens', 'exec sleep 300', { executor }),
      );
      const long = await framework.endOf('long');
      expect([long.state, long.reason]).toEqual([
        'TASK_FAILED',
        'REASON_MAX_COMPLETION_TIME_REACHED',
      ]);
      await framework.reaches('deaf', 'TASK_RUNNING');
      await until(async () => (await logsOf(framework, 'deaf'))[0] === 'up\n');
      framework.driver.killTask('deaf', 200);
      framework.driver.killTask('listens', 30_000);
      const killed = await framework.endOf('deaf');
      expect([killed.state, killed.certificate?.signal]).toEqual(['TASK_KILLED', 9]);
      const ended = await framework.endOf('listens');
      expect([ended.state, ended.certificate?.signal]).toEqual(['TASK_KILLED', 15]);
    },
    TEST_TIMEOUT_MS,
  );

  describe('artifacts', () => {
    const SCRIPT = '#!/bin/sh\necho "tool says $1"\n';
    const ARCHIVE = gzipSync(tarOf([{ path: 'share/words.txt', content: 'extracted\n' }]));
    const EVIL = gzipSync(tarOf([{ path: '../../evil.txt', content: 'x' }]));
    const FILES: Readonly<Record<string, Buffer>> = {
      '/app.tar.gz': ARCHIVE,
      '/tool.sh': Buffer.from(SCRIPT),
      '/evil.tar.gz': EVIL,
    };
    let server: TestServer;
    beforeAll(async () => {
      server = await startServer((request, response) => {
        const body = FILES[request.url ?? ''];
        response.writeHead(body ? 200 : 404).end(body);
      });
    });
    afterAll(() => server.close());
    const shaOf = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

    test.each([
      ['a command', undefined],
      ['the default executor', defaultExecutor('fetching')],
    ])(
      'a task of %s finds them in its sandbox: extracted, executable, checked',
      async (_what, executor) => {
        const framework = await start('artifacts');
        const uris = [
          { uri: `${server.origin}/app.tar.gz`, path: 'app', sha256: shaOf(ARCHIVE) },
          { uri: `${server.origin}/tool.sh`, executable: true, sha256: shaOf(Buffer.from(SCRIPT)) },
        ];
        const script = 'cat app/share/words.txt && ./tool.sh hello';
        framework.launch(shellTask('uses', script, { uris, ...(executor && { executor }) }));
        const { message } = await framework.endOf('uses');
        expect(message).toBe('exited with code 0');
        expect(await logsOf(framework, 'uses')).toEqual(['extracted\ntool says hello\n', '']);
      },
      TEST_TIMEOUT_MS,
    );

    test.each([
      ['has another checksum', '/tool.sh', { sha256: '0'.repeat(64) }, /its sha256 is .* not 0000/],
      ['leads out of the sandbox', '/evil.tar.gz', {}, /its name leads out of the directory/],
      ['is not there', '/nothing', {}, /status 404/],
    ])(
      'one that %s fails the task before it is started, and says why',
      async (_what, path, more, words) => {
        const framework = await start('refused');
        const uris = [{ uri: `${server.origin}${path}`, ...more }];
        const executor = defaultExecutor('refused');
        framework.launch(shellTask('command', 'exit 0', { uris }));
        framework.launch(shellTask('hosted', 'exit 0', { uris, executor }));
        for (const taskId of ['command', 'hosted']) {
          const { state, reason: why, message } = await framework.endOf(taskId);
          expect([taskId, state, why]).toEqual([taskId, 'TASK_FAILED', 'REASON_ARTIFACT_FAILED']);
          expect(message).toMatch(words);
        }
        const found = await cluster.inside('find', cluster.directory, '-name', 'evil.txt');
        expect(found.stdout).toBe('');
      },
      TEST_TIMEOUT_MS,
    );
  });
});

/** Ports that nobody listens on now. */
async function freePorts(count: number): Promise<[number, number]> {
  const servers = Array.from({ length: count }, () => createServer());
  const ports: number[] = [];
  for (const server of servers) {
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
    ports.push((server.address() as AddressInfo).port);
  }
  await Promise.all(servers.map((server) => new Promise((done) => server.close(done))));
  return ports as [number, number];
}
