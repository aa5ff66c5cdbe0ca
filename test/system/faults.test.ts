/** What happens to real tasks when the parts of a real cluster die, restart, or are given nonsense. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { Redis } from 'ioredis';
import { bedReason } from '../beds/available.ts';
import type { ClusterBed } from '../beds/cluster.ts';
import { KAON, leftovers, startClusterBed, startCommand, until } from '../beds/cluster.ts';
import type { RedisBed } from '../beds/redis.ts';
import { startRedisBed } from '../beds/redis.ts';

const reason = bedReason('systemd') ?? bedReason('redis');
const suite = reason === undefined ? describe : describe.skip;
const COUNT_TO_FOUR = 'for i in 1 2 3 4; do echo $i; sleep 0.7; done; exit 3';

suite(`a cluster whose parts fail${reason === undefined ? '' : ` (${reason})`}`, () => {
  let cluster: ClusterBed;
  beforeAll(async () => {
    cluster = await startClusterBed(['--resources', 'cpus=4,mem=2G']);
  }, 180_000);
  afterAll(async () => {
    await cluster.stop();
  }, 120_000);

  test('a task outlives the agent, and the next agent reports its output and its end', async () => {
    const running = cluster.start('run', '--', 'sh', '-c', COUNT_TO_FOUR);
    await running.seen('1\n');
    const [agent] = cluster.daemons('agent');
    // Process 0 would be the whole group of this one.
    if (agent === undefined) throw new Error('there is no agent');
    process.kill(agent, 'SIGKILL');
    const { stdout, exitCode } = await running.ended;
    expect({ stdout, exitCode }).toEqual({ stdout: '1\n2\n3\n4\n', exitCode: 3 });
  }, 120_000);

  test('the end of a task that ended while there was no agent is exact', async () => {
    const running = cluster.start(
      'run',
      '--mem',
      '32M',
      '--',
      'sh',
      '-c',
      'echo up; sleep 1; exit 5',
    );
    await running.seen('up');
    await cluster.inside('systemctl', 'stop', 'kaon-agent');
    await until(
      async () => (await cluster.inside('pgrep', '-f', 'sleep 1; exit 5')).exitCode !== 0,
    );
    await cluster.inside('systemctl', 'start', 'kaon-agent');
    const { stdout, exitCode } = await running.ended;
    expect({ stdout, exitCode }).toEqual({ stdout: 'up\n', exitCode: 5 });
  }, 120_000);

  test('a task whose unit was stopped by hand while there was no agent ends as it did, and is not started again', async () => {
    const running = cluster.start(
      'run',
      '--name',
      'byhand',
      '--',
      'sh',
      '-c',
      'echo once; sleep 60',
    );
    await running.seen('once');
    await cluster.inside('systemctl', 'stop', 'kaon-agent');
    await cluster.inside('systemctl', 'stop', 'kaon-*-byhand.*.service');
    await cluster.inside('systemctl', 'start', 'kaon-agent');
    const { stdout, stderr, exitCode } = await running.ended;
    expect({ stdout, exitCode }).toEqual({ stdout: 'once\n', exitCode: 143 });
    expect(stderr).toContain('ended by signal 15');
  }, 120_000);

  test('tasks go on through a re-execution of systemd and a restart of the bus', async () => {
    const running = cluster.start('run', '--', 'sh', '-c', COUNT_TO_FOUR);
    await running.seen('1\n');
    await cluster.inside('systemctl', 'daemon-reexec');
    await cluster.inside('pkill', '-KILL', '-x', 'dbus-daemon');
    const { stdout, exitCode } = await running.ended;
    expect({ stdout, exitCode }).toEqual({ stdout: '1\n2\n3\n4\n', exitCode: 3 });
    expect((await cluster.kaon('run', '--', 'true')).exitCode).toBe(0);
  }, 120_000);

  test('bad entries in the inbox are skipped, counted in the log, and stop nobody', async () => {
    const redis = new Redis(cluster.redis.replace('unix://', ''));
    const inbox = 'kaon:{default}:inbox';
    const from = ['from', 'framework:evil', 'session', 's1', 'sequence', '1'];
    await redis.xadd(inbox, '*', ...from, 'messages', 'this is not JSON');
    await redis.xadd(inbox, '*', ...from, 'messages', '[{"type":"NoSuchMessage"}]');
    await redis.xadd(inbox, '*', ...from, 'messages', '[{"type":"LaunchTasks","offerIds":5}]');
    await redis.xadd(inbox, '*', ...from, 'messages', `["${'x'.repeat(17 << 20)}"]`);
    await redis.xadd(inbox, '*', 'nothing', 'of the kind');
    const { exitCode } = await cluster.kaon('run', '--', 'true');
    redis.disconnect();
    expect(exitCode).toBe(0);
    const log = await startCommand(['cat', join(cluster.directory, 'master.log')]).ended;
    expect(log.stdout).toMatch(/inbox\.bad-message .*code=not-json/);
    expect(log.stdout).toMatch(/inbox\.bad-message .*code=unknown-type/);
    expect(log.stdout).toMatch(/inbox\.bad-message .*code=too-large/);
  }, 120_000);

  test('the framework of the README runs its task and leaves', async () => {
    const command = [process.execPath, 'examples/hello.mjs'];
    const { stdout, exitCode } = await startCommand(command, { KAON_REDIS: cluster.redis }).ended;
    expect({ stdout, exitCode }).toEqual({
      stdout: 'TASK_RUNNING \nTASK_FINISHED exited with code 0\n',
      exitCode: 0,
    });
  }, 120_000);

  test('the streams can be read with redis-cli', async () => {
    const socket = cluster.redis.replace('unix://', '');
    const { stdout } = await startCommand([
      'redis-cli',
      '-s',
      socket,
      'XRANGE',
      'kaon:{default}:events',
      '-',
      '+',
      'COUNT',
      '3',
    ]).ended;
    expect(stdout).toContain('agent.registered');
  }, 120_000);

  test.each([
    [['run', '--mem', '12x', '--', 'true'], '--mem 12x'],
    [['run', '--cpus', '0', '--', 'true'], '--cpus 0'],
    [['run', '--cpus', '-1', '--', 'true'], '-1'],
    [['run', '--nonsense', '--', 'true'], '--nonsense'],
    [['run'], 'command'],
    [['nonsense'], 'nonsense'],
  ])(
    '%j is refused with 2 and says what was wrong',
    async (args, said) => {
      const { stderr, exitCode } = await cluster.kaon(...args);
      expect(exitCode).toBe(2);
      expect(stderr).toContain(said);
    },
    120_000,
  );

  test('a Redis that is not there is named, with what to do, and gives 4', async () => {
    const { stderr, exitCode } = await cluster.kaon(
      'agents',
      '--redis',
      'redis://user:secret@127.0.0.1:1',
    );
    expect(exitCode).toBe(4);
    expect(stderr).toContain('KAON_REDIS');
    expect(stderr).not.toContain('secret');
  }, 120_000);
});

suite(`Redis${reason === undefined ? '' : ` (${reason})`}`, () => {
  test.each([
    ['crashes and comes back with its file', (redis: RedisBed) => redis.restart()],
    ['loses everything', (redis: RedisBed) => flush(redis)],
  ])(
    '%s: tasks go on, and their output and end arrive',
    async (_what, fault) => {
      const redis = await startRedisBed({ appendonly: 'yes' });
      const cluster = await startClusterBed(['--resources', 'cpus=4,mem=2G'], redis.url);
      try {
        const count = 'for i in 1 2 3 4 5 6 7 8 9; do echo $i; sleep 1; done; exit 3';
        const running = cluster.start('run', '--', 'sh', '-c', count);
        await running.seen('2\n');
        await fault(redis);
        const { stdout, exitCode } = await running.ended;
        expect({ stdout, exitCode }).toEqual({
          stdout: '1\n2\n3\n4\n5\n6\n7\n8\n9\n',
          exitCode: 3,
        });
      } finally {
        await cluster.stop();
        await redis.stop();
      }
    },
    120_000,
  );
});

async function flush(redis: RedisBed): Promise<void> {
  const client = new Redis(redis.socketPath);
  await client.flushall();
  client.disconnect();
}

suite(`a full disk${reason === undefined ? '' : ` (${reason})`}`, () => {
  test('fails the task that needs room, with the reason, and nobody else', async () => {
    const cluster = await startClusterBed(['--resources', 'cpus=4,mem=2G']);
    const sandboxes = join(cluster.directory, 'agent', 'sandboxes');
    try {
      mkdirSync(sandboxes, { recursive: true });
      // Inside, where the agent is: the mount goes with the private systemd.
      const mounted = await cluster.inside(
        'mount',
        '-t',
        'tmpfs',
        '-o',
        'size=1m,nr_inodes=64',
        'tmpfs',
        sandboxes,
      );
      expect(mounted.exitCode).toBe(0);
      // What it would say of that is on the same full disk; that it failed, and with what code, is not.
      const full = await cluster.kaon(
        'run',
        '--',
        'sh',
        '-c',
        'dd if=/dev/zero of=fill bs=64k count=64 || exit 28',
      );
      expect(full.exitCode).toBe(28);
      await cluster.inside(
        'sh',
        '-c',
        `i=0; while touch ${sandboxes}/$i 2>/dev/null; do i=$((i+1)); done; true`,
      );
      const refused = await cluster.kaon('run', '--', 'true');
      expect(refused.stderr).toMatch(/sandbox could not be made.*(ENOSPC|no space)/);
      await cluster.inside('sh', '-c', `rm -rf ${sandboxes}/*`);
      expect((await cluster.kaon('run', '--', 'true')).exitCode).toBe(0);
    } finally {
      await cluster.stop();
    }
  }, 240_000);
});

suite(`the end of kaon dev${reason === undefined ? '' : ` (${reason})`}`, () => {
  test('leaves no process, mount, cgroup or file behind, though tasks were running', async () => {
    const cluster = await startClusterBed();
    await cluster.kaon('run', '--detach', '--', 'sleep', '300');
    const exitCode = await cluster.stop();
    expect(exitCode).toBe(0);
    expect(leftovers(cluster.directory, cluster.pid)).toEqual([]);
  }, 240_000);

  test('by SIGKILL takes its processes with it too', async () => {
    const cluster = await startClusterBed();
    await cluster.kaon('run', '--detach', '--', 'sleep', '300');
    process.kill(cluster.pid, 'SIGKILL');
    await until(() => leftovers(cluster.directory, 0).length === 0);
    await cluster.stop();
  }, 240_000);

  test('is refused a second time in the same directory, with the pid of the first', async () => {
    const cluster = await startClusterBed();
    const second = await cluster.kaon('dev', '--state-dir', cluster.directory);
    await cluster.stop();
    expect(second.stderr).toContain(String(cluster.pid));
    expect(second.exitCode).toBe(1);
  }, 240_000);

  test('is clear about what is missing where no systemd can be had', async () => {
    const command = [
      'setpriv',
      '--reuid',
      '65534',
      '--regid',
      '65534',
      '--clear-groups',
      process.execPath,
    ];
    const { stderr, exitCode } = await startCommand([
      ...command,
      KAON,
      'dev',
      '--state-dir',
      '/tmp/kaon-none',
    ]).ended;
    expect(exitCode).not.toBe(0);
    expect(stderr).toMatch(/needs root|run it with sudo/);
  }, 120_000);
});
