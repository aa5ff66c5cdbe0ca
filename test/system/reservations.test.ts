/** Reservations by the command line on a real cluster: who may use what is kept for a role, and that it outlives a leader. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { ReservationRow } from '../../io/reservation-rows.ts';
import { bedReason } from '../beds/available.ts';
import { type ClusterBed, startClusterBed, until } from '../beds/cluster.ts';
import { kaonFailed, kaonOk } from '../support/kaon-words.ts';

const TEST_TIMEOUT_MS = 120_000;
const reason = bedReason('systemd') ?? bedReason('redis');
const suite = reason === undefined ? describe : describe.skip;

suite(reason === undefined ? 'reservations' : `reservations (skipped: ${reason})`, () => {
  let cluster: ClusterBed;
  let agentId = '';
  beforeAll(async () => {
    const reserved = ['--reserve-for', 'ops:cpus=1,mem=256M'];
    cluster = await startClusterBed(['--resources', 'cpus=4,mem=2G', ...reserved]);
    const [row] = await listed();
    agentId = row?.agentId ?? '';
  }, TEST_TIMEOUT_MS);
  afterAll(() => cluster.stop(), TEST_TIMEOUT_MS);

  const ok = (...argv: string[]): Promise<string> => kaonOk(cluster, argv);
  const failed = (...argv: string[]): Promise<string> => kaonFailed(cluster, argv);
  const listed = async (): Promise<ReservationRow[]> =>
    JSON.parse(await ok('reservations', '--json')) as ReservationRow[];
  const usedOf = async (role: string): Promise<number | undefined> =>
    (await listed()).find((row) => row.role === role)?.used.cpuMillis;

  test(
    'what an agent keeps by its settings is used by its role, and has to stay',
    async () => {
      const [row] = await listed();
      expect(row).toMatchObject({ reservationId: 'static:ops', role: 'ops', isStatic: true });
      await ok('run', '--detach', '--role', 'ops', '--cpus', '0.5', '--', 'sleep', '300');
      await until(async () => (await usedOf('ops')) === 500);
      expect(await failed('unreserve', agentId, 'static:ops')).toMatch(
        /^1 kaon: reservation static:ops of agent .* is from the settings of the agent/,
      );
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'what is reserved is for its role alone, also under the next leader, and comes back',
    async () => {
      const said = await ok('reserve', agentId, 'eng', 'cpus=3,mem=1G', '--label', 'team=search');
      const id = / (r\S+)\n$/.exec(said)?.[1] ?? '';
      expect(said).toBe(`3 cpus, 1G of agent ${agentId} for role eng: ${id}\n`);
      await ok('step-down', '--current');
      const other = cluster.start('run', '--cpus', '2', '--name', 'other', '--', 'echo', 'late');
      const own = await ok('run', '--role', 'eng/prod', '--cpus', '2', '--', 'echo', 'in time');
      expect(own).toBe('in time\n');
      let words = '';
      await until(async () => {
        const frameworks = JSON.parse(await ok('frameworks', '--json')) as {
          info: { frameworkId: string; role: string };
          demand?: unknown[];
        }[];
        const waiting = frameworks.find(
          ({ info, demand }) => info.role === '*' && (demand?.length ?? 0) > 0,
        );
        if (!waiting) return false;
        words = await ok('why', waiting.info.frameworkId);
        return words.includes('reserved:');
      });
      expect(words).toMatch(/1 agent reserved\n.*reserved: .* for eng/);
      await ok(
        'run',
        '--detach',
        '--role',
        'eng',
        '--cpus',
        '1',
        '--name',
        'long',
        '--',
        'sleep',
        '300',
      );
      await until(async () => (await usedOf('eng')) === 1000);
      expect(await failed('unreserve', agentId, id)).toMatch(
        /^1 kaon: .* is in use: tasks have 1 cpus/,
      );
      await ok('kill', 'long');
      await until(async () => (await usedOf('eng')) === 0);
      expect(await ok('unreserve', agentId, id)).toContain('not reserved for role eng any more');
      const { exitCode, stdout } = await other.ended;
      expect({ exitCode, stdout }).toEqual({ exitCode: 0, stdout: 'late\n' });
    },
    TEST_TIMEOUT_MS,
  );

  test.each([
    [['reserve', 'AGENT', 'eng', 'cpus=64'], /^1 kaon: 64 cpus, 0B asked, agent .* neither used/],
    [['reserve', 'AGENT', 'eng', 'cpus=0'], /^2 kaon: the list cpus=0: nothing of anything/],
    [['reserve', 'AGENT', 'a//b', 'cpus=1'], /^2 kaon: role "a\/\/b" has an empty part/],
    [['reserve', 'nosuch', 'eng', 'cpus=1'], /^3 kaon: no agent nosuch/],
    [['unreserve', 'AGENT', 'r9'], /^1 kaon: agent .* has no reservation r9/],
  ])(
    'kaon %j is refused in words',
    async (argv, words) => {
      expect(await failed(...argv.map((word) => (word === 'AGENT' ? agentId : word)))).toMatch(
        words,
      );
    },
    TEST_TIMEOUT_MS,
  );
});
