/** What is offered at all, by the command line on a real cluster: deactivation, the smallest need, and what is known of tasks. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { bedReason } from '../beds/available.ts';
import { type ClusterBed, startClusterBed, until } from '../beds/cluster.ts';
import { kaonFailed, kaonOk } from '../support/kaon-words.ts';

const TEST_TIMEOUT_MS = 120_000;
const reason = bedReason('systemd') ?? bedReason('redis');
const suite = reason === undefined ? describe : describe.skip;

suite(reason === undefined ? 'what is offered' : `what is offered (skipped: ${reason})`, () => {
  let cluster: ClusterBed;
  let agentId: string;
  beforeAll(async () => {
    cluster = await startClusterBed(['--resources', 'cpus=4,mem=2G', '--attribute', 'rack=a']);
    const agents = JSON.parse(await ok('agents', '--json')) as { info: { agentId: string } }[];
    agentId = agents[0]?.info.agentId ?? '';
  }, TEST_TIMEOUT_MS);
  afterAll(() => cluster.stop(), TEST_TIMEOUT_MS);

  const ok = (...argv: string[]): Promise<string> => kaonOk(cluster, argv);

  test(
    'explain says whether something would fit, how often, and what stands in the way',
    async () => {
      expect(await ok('explain', '--cpus', '1', '--mem', '256M', '--count', '4')).toMatch(
        /^it could be offered now\n  needs 4 x \(1 cpus, 256M\)\n    4 units would fit at this moment\n/,
      );
      const { exitCode, stdout } = await cluster.kaon('explain', '--cpus', '5', '--role', 'eng');
      expect(exitCode).toBe(1);
      expect(stdout).toMatch(/^it could not be offered now\n  needs 1 x .* under role eng\n/);
      expect(stdout).toMatch(/no unit would fit at this moment\n    1 agent too-small\n/);
      const asked = await cluster.kaon('explain', '--attribute', 'rack=b', '--json');
      expect(JSON.parse(asked.stdout)).toMatchObject({ fits: 0, counts: { attribute: 1 } });
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'a node that is deactivated takes nothing new, why says so for the task that waits, and reactivating lets it go',
    async () => {
      expect(await ok('deactivate', agentId)).toMatch(
        / is not offered any more; no task is on it\n$/,
      );
      expect(await ok('agents')).toMatch(/ deactivated /);
      const waiting = cluster.start('run', '--name', 'late', '--', 'echo', 'at last');
      let words = '';
      await until(async () => {
        const { exitCode, stdout } = await cluster.kaon('why', 'late');
        words = stdout;
        return exitCode === 0;
      });
      expect(words).toMatch(/1 agent deactivated\n {6}.*: an operator has deactivated it\n/);
      expect(await ok('reactivate', agentId)).toMatch(/ may be offered again\n$/);
      const { exitCode, stdout } = await waiting.ended;
      expect({ exitCode, stdout }).toEqual({ exitCode: 0, stdout: 'at last\n' });
      expect(await kaonFailed(cluster, ['reactivate', agentId])).toMatch(
        /^1 kaon: agent .* is not deactivated/,
      );
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'of a task that runs, or has ended, why says so in a line',
    async () => {
      await ok('run', '--detach', '--name', 'long', '--', 'sleep', '300');
      await until(async () => /^task long\.\w+ is running on agent /.test(await ok('why', 'long')));
      await cluster.kaon('run', '--name', 'bad', '--', 'sh', '-c', 'exit 3');
      await until(async () => (await ok('why', 'bad')).includes('ago: '));
      expect(await ok('why', 'bad')).toMatch(
        /^task bad\.\w+ is failed on agent .*, .* ago: exited with code 3; reason REASON_COMMAND_EXITED; ran for .*\n/,
      );
      expect(JSON.parse(await ok('why', 'bad', '--json'))).toMatchObject({ state: 'TASK_FAILED' });
      expect(await ok('frameworks')).toMatch(/ ROLES /);
    },
    TEST_TIMEOUT_MS,
  );
});
