/**
 * `kaon agent --user` under a real `systemd --user`, as an ordinary user: what it refuses, what it says, and a life of tasks
 * in the user's own units. On cgroup v1, where nothing is delegated to users, without limits.
 */
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { TaskStatus } from '../../protocol/task.ts';
import { detectCgroupVersion } from '../../systemd/cgroup-use.ts';
import { bedReason } from '../beds/available.ts';
import { execLine } from '../beds/cluster-units.ts';
import { type Ended, KAON, startCommand, until } from '../beds/cluster.ts';
import { startRedisBed, type RedisBed } from '../beds/redis.ts';
import { BED_USER, startUserBed, type UserBed } from '../beds/user-systemd.ts';

const AGENT = 'kaon-agent.service';
const KAON_ARGV = [process.execPath, KAON];
const IS_V1 = detectCgroupVersion('/sys/fs/cgroup') === 'v1';
/** What it takes to start here. */
const MODE = IS_V1 ? ['--user', '--unlimited'] : ['--user'];

const reason = bedReason('systemd') ?? bedReason('redis');
const suite = reason === undefined ? describe : describe.skip;

interface TaskRow {
  readonly taskId: string;
  readonly state: string;
  readonly status: TaskStatus;
}

suite(`an agent of a user${reason === undefined ? '' : ` (${reason})`}`, () => {
  let bed: UserBed;
  let redis: RedisBed;
  let master: ReturnType<typeof startCommand>;

  const kaon = (...argv: string[]): Promise<Ended> =>
    startCommand([...KAON_ARGV, ...argv], { KAON_REDIS: redis.url }).ended;
  const run = (...argv: string[]): Promise<Ended> => kaon('run', '--mem', '32M', ...argv);
  /** The agent in the foreground, as somebody types it; it ends because it refuses to start. */
  const refused = (flags: readonly string[], environment = {}): Promise<Ended> =>
    bed.start([...KAON_ARGV, 'agent', ...flags], { KAON_REDIS: redis.url, ...environment }).ended;
  const taskOf = async (taskId: string): Promise<TaskRow | undefined> => {
    const tasks = JSON.parse((await kaon('tasks', '--all', '--json')).stdout) as TaskRow[];
    return tasks.find((task) => task.taskId === taskId);
  };
  const detached = async (...argv: string[]): Promise<TaskRow> => {
    const taskId = (await run('--detach', ...argv)).stdout.trim();
    await until(async () => (await taskOf(taskId))?.state === 'TASK_RUNNING');
    return (await taskOf(taskId)) as TaskRow;
  };
  const show = async (unit: string, property: string): Promise<string> =>
    (await bed.systemctl('show', `--property=${property}`, '--value', unit)).trim();
  const ended = async (taskId: string): Promise<TaskRow> => {
    await until(async () => (await taskOf(taskId))?.status.certificate !== undefined);
    return (await taskOf(taskId)) as TaskRow;
  };

  beforeAll(async () => {
    redis = await startRedisBed({ args: ['--unixsocketperm', '777'] });
    chmodSync(dirname(redis.socketPath), 0o711);
    master = startCommand([...KAON_ARGV, 'master'], { KAON_REDIS: redis.url });
    bed = await startUserBed();
    const dropIn = [
      '[Service]',
      `Environment=KAON_REDIS=${redis.url}`,
      'ExecStart=',
      `ExecStart=${execLine([...KAON_ARGV, 'agent', ...MODE])}`,
      '',
    ];
    await bed.install(AGENT, dropIn.join('\n'));
    // A file of the user's own is read without being named.
    const settings = join(bed.home, '.config', 'kaon');
    mkdirSync(settings);
    writeFileSync(join(settings, 'agent.toml'), 'resources = { cpus = 1, mem = "256M" }\n');
    await bed.systemctl('enable', '--now', AGENT);
    await until(async () => (await kaon('agents', '--json')).stdout.includes('"active"'));
  }, 180_000);
  afterAll(async () => {
    master.child.kill();
    await master.ended;
    await bed.stop();
    await redis.stop();
  }, 120_000);

  describe('says what is wrong and starts nothing', () => {
    test('as root', async () => {
      const { exitCode, stderr } = await kaon('agent', '--user');
      expect(stderr).toContain('kaon agent --user was started as root');
      expect(exitCode).toBe(78);
    });

    test('without a login', async () => {
      const nothing = { XDG_RUNTIME_DIR: '-', DBUS_SESSION_BUS_ADDRESS: '-' };
      const { exitCode, stderr } = await refused(['--user', '--unlimited'], nothing);
      expect(stderr).toContain('neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR is set');
      expect(stderr).toContain(`XDG_RUNTIME_DIR=/run/user/${String(bed.uid)}`);
      expect(exitCode).toBe(78);
    });

    test('without a bus of the user', async () => {
      const elsewhere = { XDG_RUNTIME_DIR: bed.home, DBUS_SESSION_BUS_ADDRESS: '-' };
      const { exitCode, stderr } = await refused(['--user', '--unlimited'], elsewhere);
      expect(stderr).toContain(`no message bus of user ${String(bed.uid)}: ${bed.home}/bus is not`);
      expect(exitCode).toBe(1);
    });

    test('where its state cannot be written', async () => {
      const { exitCode, stderr } = await refused([...MODE, '--state-dir', '/var/lib/kaon-no']);
      expect(stderr).toContain('state directory /var/lib/kaon-no/agent cannot be made');
      expect(exitCode).toBe(78);
    });

    test('beside another agent in the same directory', async () => {
      const { exitCode, stderr } = await refused(MODE);
      expect(stderr).toContain(`an agent runs on ${bed.home}/.local/state/kaon/agent already`);
      expect(exitCode).not.toBe(0);
    });

    test('of limits that nobody holds, if --user is not there', async () => {
      const { exitCode, stderr } = await refused(['--unlimited']);
      expect(stderr).toContain('--unlimited goes with --user');
      expect(exitCode).toBe(2);
    });

    if (IS_V1) {
      test('where the node has cgroup v1', async () => {
        const { exitCode, stderr } = await refused(['--user']);
        expect(stderr).toContain('limits of tasks cannot be held: this node uses cgroup v1');
        expect(stderr).toContain('--unlimited to run tasks without any limit');
        expect(exitCode).toBe(78);
      });
    }
  });

  test('has a unit that is clean for systemd-analyze verify', async () => {
    const path = join(bed.home, AGENT);
    const text = readFileSync(resolve('systemd/units/user', AGENT), 'utf8');
    // Where Kaon is not installed the command would be the one thing to complain of.
    writeFileSync(path, text.replaceAll('/usr/bin/kaon', '/bin/true'));
    const verify = ['systemd-analyze', '--user', 'verify', '--man=no', path];
    const { stdout, stderr } = await bed.start(verify).ended;
    expect({ stdout, stderr }).toEqual({ stdout: '', stderr: '' });
  }, 240_000);

  test('is a service of the user that is ready, warns, and shows what it does not hold', async () => {
    expect(await show(AGENT, 'ActiveState')).toBe('active');
    const { stdout: log } = await bed.asRoot('journalctl', '--no-pager');
    expect(log).toContain('user.no-linger');
    const { stdout } = await kaon('agents', '--wide');
    expect(stdout).toContain(`mode=user user=${BED_USER}`);
    expect(stdout).toContain(IS_V1 ? 'limits=none' : 'limits=cpu,memory,pids');
    expect(stdout).toContain('256M');
    expect(existsSync(join(bed.home, '.local', 'state', 'kaon', 'agent', 'agent.json'))).toBe(true);
  });

  test("runs a command as the user, in a unit of the user's systemd", async () => {
    const { stdout, exitCode } = await run(
      '--',
      'sh',
      '-c',
      'id -un; cat /proc/self/cgroup; exit 3',
    );
    expect(stdout).toMatch(new RegExp(`^${BED_USER}\n`));
    expect(stdout).toContain(
      `/user-${String(bed.uid)}.slice/kaon-user-manager.service/kaon.slice/`,
    );
    expect(exitCode).toBe(3);
  }, 240_000);

  test('shows no limit that is not in force', async () => {
    const { status } = await detached('--', 'sleep', '1000');
    const slice = await show(status.unit ?? '', 'Slice');
    const limits = await Promise.all(
      ['MemoryMax', 'CPUQuotaPerSecUSec'].map((property) => show(slice, property)),
    );
    expect(limits).toEqual(IS_V1 ? ['infinity', 'infinity'] : ['33554432', '500ms']);
    await kaon('kill', status.taskId);
    const { certificate } = (await ended(status.taskId)).status;
    expect(certificate).toMatchObject({ signal: 15 });
    expect(certificate?.memoryLimitBytes).toBe(IS_V1 ? undefined : 33_554_432);
  }, 240_000);

  test('puts the sandbox of a node around a task: nothing of the user but its own directory', async () => {
    const script = 'echo mine > file; cat file; ls -A "$0"; ls /run/user; echo no > /usr/kaon-no';
    const { stdout, stderr } = await run('--', 'sh', '-c', script, bed.home);
    // The way to its own directory, and not what is beside it.
    expect(stdout).toBe('mine\n.local\n');
    expect(stderr).toContain('/usr/kaon-no: Read-only file system');
    const alone = await run('--network', 'none', '--', 'sh', '-c', 'cat /proc/net/dev | wc -l');
    expect(alone.stdout).toBe('3\n');
    const loopback = await run('--network', 'loopback', '--', 'true');
    expect(loopback.stderr).toContain('TASK_ERROR');
  }, 240_000);

  test('refuses a task of another user for good, and takes one of its own', async () => {
    const other = await run('--user', 'daemon', '--', 'id');
    expect(other.stderr).toContain('TASK_ERROR');
    expect(other.stderr).toContain(
      `user "daemon" is refused: this is an agent of user ${BED_USER}`,
    );
    const own = await run('--user', BED_USER, '--', 'sh', '-c', 'id -u; echo $HOME');
    expect(own.stdout).toBe(`${String(bed.uid)}\n${bed.home}\n`);
  }, 240_000);

  test('finds its tasks again after a restart, killed or not', async () => {
    const script = 'trap "exit 4" TERM; echo up; while :; do sleep 0.1; done';
    const { taskId, status } = await detached('--kill-grace', '60s', '--', 'sh', '-c', script);
    // Before that its shell would end by SIGTERM.
    await until(async () => (await kaon('logs', taskId)).stdout === 'up\n');
    const pid = await show(status.unit ?? '', 'MainPID');
    await bed.systemctl('restart', AGENT);
    await bed.systemctl('kill', '--signal=KILL', '--kill-whom=main', AGENT);
    await until(async () => (await show(AGENT, 'NRestarts')) === '1');
    expect(await show(status.unit ?? '', 'MainPID')).toBe(pid);
    await kaon('kill', taskId);
    expect((await ended(taskId)).status.certificate).toMatchObject({ exitCode: 4 });
  }, 240_000);

  test('has what stops a task that is cut off, by a timer of the user', async () => {
    const { status } = await detached('--when-unreachable', 'stop:15s', '--', 'sleep', '1000');
    await bed.systemctl('stop', AGENT);
    await until(async () => (await show(status.unit ?? '', 'MainPID')) === '0');
    await bed.systemctl('start', AGENT);
    const { state, status: end } = await ended(status.taskId);
    expect({ state, reason: end.reason }).toEqual({
      state: 'TASK_KILLED',
      reason: 'REASON_STOPPED_WHEN_UNREACHABLE',
    });
  }, 240_000);

  test('warns of the agent of the node, which offers the same memory', async () => {
    const keeper = ['--slice=kaon.slice', '--unit=kaon-keeper-other', '--collect'];
    await bed.asRoot('systemd-run', ...keeper, 'sleep', '1000');
    await bed.systemctl('restart', AGENT);
    const log = async (): Promise<string> => (await bed.asRoot('journalctl', '--no-pager')).stdout;
    await until(async () => (await log()).includes('agent.neighbours others=system'));
    await bed.asRoot('systemctl', 'stop', 'kaon-keeper-other', 'kaon.slice');
  }, 240_000);

  test('says that a task went with the systemd of its user', async () => {
    const { taskId } = await detached('--', 'sleep', '1000');
    await bed.logOutAndIn();
    await until(async () => (await taskOf(taskId))?.state === 'TASK_LOST');
    expect((await taskOf(taskId))?.status.message).toContain("its user's systemd ended");
    // It was enabled, so it is back by itself.
    expect((await run('--', 'true')).exitCode).toBe(0);
  }, 240_000);
});
