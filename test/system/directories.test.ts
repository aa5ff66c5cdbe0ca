/** Directories of reservations with disk on a real cluster: they outlive tasks, agents and the memory of Redis. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { Redis } from 'ioredis';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { ReservationRow } from '../../io/reservation-rows.ts';
import { bedReason } from '../beds/available.ts';
import { type ClusterBed, type Ended, startClusterBed, until } from '../beds/cluster.ts';
import { kaonOk, withoutWaiting } from '../support/kaon-words.ts';
import { defaultExecutor, shellTask, startFramework } from '../support/live-framework.ts';

const TEST_TIMEOUT_MS = 120_000;
const reason = bedReason('systemd') ?? bedReason('redis');
const suite = reason === undefined ? describe : describe.skip;

suite(reason === undefined ? 'directories' : `directories (skipped: ${reason})`, () => {
  let cluster: ClusterBed;
  let agentId = '';
  let reservationId = '';
  beforeAll(async () => {
    const users = ['--task-user', 'nobody', '--allow-user', 'daemon', '--allow-root'];
    const kept = ['--reserve-for', 'ops:cpus=0.5,mem=256M,disk=1G'];
    cluster = await startClusterBed(['--resources', 'cpus=4,mem=2G,disk=10G', ...kept, ...users]);
    agentId = (await listed())[0]?.agentId ?? '';
    const said = await ok('reserve', agentId, 'eng', 'cpus=2,mem=1G,disk=4G');
    reservationId = / (r\S+)\n$/.exec(said)?.[1] ?? '';
  }, TEST_TIMEOUT_MS);
  afterAll(() => cluster.stop(), TEST_TIMEOUT_MS);

  const ok = (...argv: string[]): Promise<string> => kaonOk(cluster, argv);
  const listed = async (): Promise<ReservationRow[]> =>
    JSON.parse(await ok('reservations', '--json')) as ReservationRow[];
  const small = ['--cpus', '0.2', '--mem', '32M'];
  const withDisk = ['--role', 'eng', ...small, '--resource', 'disk=1G'];
  const sh = (script: string): string[] => ['--', 'sh', '-c', script];
  const run = (script: string, ...more: string[]): Promise<Ended> =>
    cluster.kaon('run', ...withDisk, ...more, ...sh(script));
  const place = (): string => join(cluster.directory, 'agent', 'directories', reservationId);

  test(
    'a task with disk of a reservation writes there, and the next one reads it',
    async () => {
      const wrote = await run(
        'echo "$KAON_DIRECTORY $KAON_DIRECTORIES"; echo kept > "$KAON_DIRECTORY/note"',
      );
      const path = join(place(), 'data');
      expect(wrote).toMatchObject({ exitCode: 0, stdout: `${path} ${path}\n` });
      const { mode, uid } = statSync(path);
      expect([mode & 0o777, uid]).toEqual([0o700, 65_534]);
      expect(await run('cat "$KAON_DIRECTORY/note"')).toMatchObject({ stdout: 'kept\n' });
      const rows = await listed();
      expect(rows.map((row) => [row.role, row.hasDirectory])).toEqual([
        ['eng', true],
        ['ops', false],
      ]);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'whoever has no disk of it sees nothing of it',
    async () => {
      const look = `echo "[$KAON_DIRECTORY]"; ls ${join(cluster.directory, 'agent')}; cat ${place()}/data/note; true`;
      const words = look.replaceAll('$KAON', '${KAON').replace('RECTORY]', 'RECTORY-}]');
      const same = await cluster.kaon('run', '--role', 'eng', ...small, ...sh(words));
      expect(same.stdout).toBe('[]\nsandboxes\n');
      expect(same.stderr).toMatch(/note: No such file or directory/);
      const disk = ['--resource', 'disk=1G'];
      const other = await cluster.kaon('run', ...small, ...disk, ...sh(words));
      expect(other.stdout).toBe('[]\nsandboxes\n');
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'what the settings of the agent keep for a role has a directory by the name of the role',
    async () => {
      const ops = ['--role', 'ops', ...small, '--resource', 'disk=500M'];
      await ok('run', ...ops, ...sh('echo 1 > "$KAON_DIRECTORY/one"'));
      const kept = join(cluster.directory, 'agent', 'directories', 'static+3aops', 'data');
      expect(readdirSync(kept)).toEqual(['one']);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'a task as another user is told why it cannot have it',
    async () => {
      const other = await run('true', '--user', 'daemon');
      expect(other.exitCode).not.toBe(0);
      expect(other.stderr).toMatch(
        /has files of user 65534, and the task is to run as daemon \(1\): run it as that user, or give .* chown -R/,
      );
      // Without capabilities root is a user as any other.
      const root = await run('true', '--user', 'root');
      expect(root.stderr).toMatch(/and the task is to run as root \(0\)/);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'tasks of an executor have the directory of the task that it was started for',
    async () => {
      const framework = await startFramework(cluster.redis, { name: 'hosted', role: 'eng' });
      const resources = { cpuMillis: 100, memMib: 32, others: { disk: 100 } };
      const executor = defaultExecutor('shared');
      const task = (id: string, script: string): ReturnType<typeof shellTask> => {
        return { ...shellTask(id, script, { executor }), resources };
      };
      framework.launch(
        task('first', 'cat "$KAON_DIRECTORY/note"; echo more > "$KAON_DIRECTORY/more"'),
      );
      expect((await framework.endOf('first')).certificate?.stdoutTail).toBe('kept\n');
      framework.launch(task('second', 'cat "$KAON_DIRECTORY/more"'));
      expect((await framework.endOf('second')).certificate?.stdoutTail).toBe('more\n');
      await framework.stop();
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'it is there after agent and Redis were killed and the cluster has forgotten everything, under a task that went on',
    async () => {
      const gate = join(cluster.directory, 'gate');
      const script = `until [ -e ${gate} ]; do sleep 0.1; done; cat "$KAON_DIRECTORY/note"`;
      const id = (await ok('run', '--detach', '--name', 'long', ...withDisk, ...sh(script))).trim();
      const used = async (): Promise<number | undefined> =>
        (await listed()).find((row) => row.reservationId === reservationId)?.used.others?.['disk'];
      await until(async () => (await ok('tasks')).includes(' running '));
      for (const pid of cluster.daemons('agent')) process.kill(pid, 'SIGKILL');
      const redis = new Redis(cluster.redis.replace('unix://', ''));
      await redis.flushall();
      redis.disconnect();
      await until(async () => (await used()) === 1024);
      const [row] = (await listed()).filter(({ role }) => role === 'eng');
      expect(row).toMatchObject({ reservationId, hasDirectory: true });
      expect(await ok('events')).toMatch(/ reservation\.adopted .* whose directory is there$/m);
      const busy = await cluster.kaon('unreserve', agentId, reservationId, '--destroy');
      expect(busy.stderr).toMatch(/ is in use: tasks have /);
      await cluster.inside('touch', gate);
      await until(async () => (await used()) === undefined);
      const logs = await cluster.kaon('logs', id);
      expect(logs).toMatchObject({ stdout: 'kept\n' });
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'it ends with the reservation, when somebody says so, and not before',
    async () => {
      const refused = await cluster.kaon('unreserve', agentId, reservationId);
      expect([refused.exitCode, withoutWaiting(refused.stderr)]).toEqual([
        1,
        `kaon: reservation ${reservationId} of agent ${agentId} has a directory with what tasks have left there: say --destroy to have it removed for good\n`,
      ]);
      expect(existsSync(join(place(), 'data', 'note'))).toBe(true);
      expect(await ok('unreserve', agentId, reservationId, '--destroy')).toMatch(
        /, and what tasks have left in its directory is removed\n$/,
      );
      await until(() => !existsSync(place()));
      await until(async () => (await ok('events')).includes('directory.removed'));
      expect(readdirSync(join(cluster.directory, 'agent', 'removed'))).toEqual([]);
      expect((await listed()).map(({ role }) => role)).toEqual(['ops']);
    },
    TEST_TIMEOUT_MS,
  );
});
