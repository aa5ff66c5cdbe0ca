/** Roles by the command line on a real cluster: a limit holds a task back, `kaon why` says so, and its end lets it go. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { bedReason } from '../beds/available.ts';
import { type ClusterBed, startClusterBed, until } from '../beds/cluster.ts';
import { kaonFailed, kaonOk } from '../support/kaon-words.ts';

const TEST_TIMEOUT_MS = 120_000;
const reason = bedReason('systemd') ?? bedReason('redis');
const suite = reason === undefined ? describe : describe.skip;

suite(reason === undefined ? 'roles' : `roles (skipped: ${reason})`, () => {
  let cluster: ClusterBed;
  beforeAll(async () => {
    cluster = await startClusterBed(['--resources', 'cpus=4,mem=2G']);
  }, TEST_TIMEOUT_MS);
  afterAll(() => cluster.stop(), TEST_TIMEOUT_MS);

  const ok = (...argv: string[]): Promise<string> => kaonOk(cluster, argv);
  const failed = (...argv: string[]): Promise<string> => kaonFailed(cluster, argv);
  const running = async (): Promise<number> => {
    const tasks = JSON.parse(await ok('tasks', '--json')) as { state: string }[];
    return tasks.filter(({ state }) => state === 'TASK_RUNNING').length;
  };

  test(
    'a limit holds a task back, why says so, and the task runs when the limit is gone',
    async () => {
      expect(await ok('quota', 'set', '*', '--limit', 'cpus=1')).toBe('role *: limit 1 cpus\n');
      await ok('run', '--detach', '--cpus', '1', '--name', 'first', '--', 'sleep', '300');
      const second = cluster.start(
        'run',
        '--cpus',
        '1',
        '--name',
        'second',
        '--',
        'echo',
        'at last',
      );
      let words = '';
      await until(async () => {
        const { stdout } = await cluster.kaon('frameworks', '--json');
        const waiting = (
          JSON.parse(stdout) as { info: { frameworkId: string }; demand?: unknown[] }[]
        )
          .filter(({ demand }) => (demand?.length ?? 0) > 0)
          .map(({ info }) => info.frameworkId);
        if (waiting.length === 0) return false;
        words = await ok('why', waiting[0] ?? '');
        return words.includes('quota');
      });
      expect(words).toMatch(
        /needs 1 x \(1 cpus, 128M\)\n    quota of role \* exhausted: it holds 1 cpus/,
      );
      expect(words).toMatch(/1 agent free/);
      expect(await running()).toBe(1);
      expect(await ok('quota', 'remove', '*')).toBe('role *: no weight and no quota\n');
      const { exitCode, stdout } = await second.ended;
      expect({ exitCode, stdout }).toEqual({ exitCode: 0, stdout: 'at last\n' });
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'are listed as a tree, with what they hold and what was said of them',
    async () => {
      await ok('weight', 'set', 'eng/prod', '2.5');
      await ok('quota', 'set', 'eng', '--guarantee', 'cpus=1', '--limit', 'cpus=2,mem=1G');
      const rows = (await ok('roles')).split('\n').map((line) => line.trim().split(/\s{2,}/));
      expect(rows.find(([role]) => role === 'eng')).toEqual(
        expect.arrayContaining(['1 cpus', '2 cpus, 1G']),
      );
      expect(rows.find(([role]) => role === 'eng/prod')).toEqual(expect.arrayContaining(['2.5']));
      const listed = JSON.parse(await ok('roles', '--json')) as { role: string; weight: number }[];
      expect(listed.find(({ role }) => role === 'eng/prod')?.weight).toBe(2.5);
    },
    TEST_TIMEOUT_MS,
  );

  test.each([
    [['quota', 'set', 'ci', '--guarantee', 'cpus=64'], /^1 kaon: all guarantees together would be/],
    [['quota', 'set', 'ci'], /^2 kaon: nothing to set/],
    [['quota', 'set', 'ci', '--limit', 'cpus=much'], /^2 kaon: --limit/],
    [['quota', 'set', 'a//b', '--limit', 'cpus=1'], /^2 kaon: role "a\/\/b" has an empty part/],
    [['quota', 'set', '../x', '--limit', 'cpus=1'], /^2 kaon: role ..\/x has a part ../],
    [['quota'], /^2 kaon: kaon quota needs to know what to do/],
    [['weight', 'set', 'ci', '0'], /^2 kaon: .*not a number above 0/],
    [['weight', 'set', 'ci', 'NaN'], /^2 kaon: .*not a number above 0/],
    [['why', 'nosuch'], /^3 kaon: no task nosuch/],
  ])(
    'kaon %j is refused in words',
    async (argv, words) => {
      expect(await failed(...argv)).toMatch(words);
    },
    TEST_TIMEOUT_MS,
  );
});
