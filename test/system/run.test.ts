/** `kaon run` behaves like running the command here; on a real Redis, a real systemd, and real cgroups. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { bedReason } from '../beds/available.ts';
import type { ClusterBed, Ended } from '../beds/cluster.ts';
import { startClusterBed, until } from '../beds/cluster.ts';
import { withoutWaiting } from '../support/kaon-words.ts';

const reason = bedReason('systemd') ?? bedReason('redis');
const suite = reason === undefined ? describe : describe.skip;

/** 200 MiB in memory that is really touched, in the node that runs this test. */
const ALLOCATE_200_MIB = [
  process.execPath,
  '-e',
  'const all = []; for (let i = 0; i < 20; i += 1) all.push(Buffer.alloc(10 << 20, 1));',
];

suite(`kaon run${reason === undefined ? '' : ` (${reason})`}`, () => {
  let cluster: ClusterBed;
  beforeAll(async () => {
    cluster = await startClusterBed(['--resources', 'cpus=4,mem=2G']);
  }, 180_000);
  afterAll(async () => {
    await cluster.stop();
  }, 120_000);
  const run = (...args: string[]): Promise<Ended> => cluster.kaon('run', ...args);

  test('output arrives on the same streams, and the exit code is the exit code', async () => {
    const { stdout, stderr, exitCode } = await run(
      '--',
      'sh',
      '-c',
      'echo out; echo err >&2; exit 7',
    );
    const own = withoutWaiting(stderr);
    expect({ stdout, own, exitCode }).toEqual({ stdout: 'out\n', own: 'err\n', exitCode: 7 });
  }, 120_000);

  test('a command that ends by a signal gives 128 and the signal', async () => {
    const { exitCode } = await run('--', 'sh', '-c', 'kill -SEGV $$');
    expect(exitCode).toBe(139);
  }, 120_000);

  test('binary output of several megabytes arrives byte for byte', async () => {
    const make =
      'for (let i = 0; i < 4096; i += 1) process.stdout.write(Buffer.alloc(1024, i % 256))';
    const { stdoutBytes } = await run('--', process.execPath, '-e', make);
    const expected = Buffer.concat(
      Array.from({ length: 4096 }, (_item, i) => Buffer.alloc(1024, i % 256)),
    );
    expect(stdoutBytes.equals(expected)).toBe(true);
  }, 120_000);

  test('arguments and environment reach the command as they are', async () => {
    const nasty = ['$HOME', '%n %%', 'a "b" \'c\'', '', 'ünïcödé \n line', '\\t'];
    const print =
      'process.stdout.write(JSON.stringify([process.argv.slice(1), process.env.NASTY]))';
    const { stdout } = await run(
      '--env',
      'NASTY=$x %h "q"',
      '--',
      process.execPath,
      '-e',
      print,
      '--',
      ...nasty,
    );
    expect(JSON.parse(stdout)).toEqual([nasty, '$x %h "q"']);
  }, 120_000);

  test('a task over its memory limit fails with that reason, and the peak', async () => {
    const { stderr, exitCode } = await run('--mem', '64M', '--', ...ALLOCATE_200_MIB);
    expect(stderr).toMatch(/TASK_FAILED: killed by the kernel: memory limit 64M, peak 6[34]/);
    expect(exitCode).toBe(137);
  }, 120_000);

  test('a child that is killed for memory fails the task, whatever its parent does', async () => {
    const { stderr, exitCode } = await run(
      '--mem',
      '64M',
      '--',
      'sh',
      '-c',
      '"$@"; exit 0',
      'sh',
      ...ALLOCATE_200_MIB,
    );
    expect(stderr).toContain('memory limit 64M');
    expect(exitCode).toBe(1);
  }, 120_000);

  test('a task whose child was killed for memory does not go on half dead', async () => {
    const { stderr, exitCode } = await run(
      '--mem',
      '64M',
      '--',
      'sh',
      '-c',
      '"$@" & sleep 60',
      'sh',
      ...ALLOCATE_200_MIB,
    );
    expect(stderr).toContain('memory limit 64M');
    expect(exitCode).toBe(137);
  }, 120_000);

  test('a busy loop gets the CPU that it asked for and no more', async () => {
    const loop = 'const end = Date.now() + 3000; while (Date.now() < end);';
    await run('--name', 'busy', '--cpus', '0.2', '--', process.execPath, '-e', loop);
    const [task] = JSON.parse((await cluster.kaon('tasks', '--all', '--json')).stdout).filter(
      ({ name }: { name: string }) => name === 'busy',
    );
    const { cpuUsec, startedAtMs, endedAtMs } = task.status.certificate;
    expect(cpuUsec / 1000 / (endedAtMs - startedAtMs)).toBeLessThan(0.24);
  }, 120_000);

  test('a timeout ends the task with 124', async () => {
    const { stderr, exitCode } = await run('--timeout', '1s', '--', 'sleep', '60');
    expect(stderr).toContain('ran longer than its limit of 1s');
    expect(exitCode).toBe(124);
  }, 120_000);

  test('a command that does not exist gives 127 and says where it was looked for', async () => {
    const { stderr, exitCode } = await run('--', 'no-such-command');
    expect(stderr).toContain('command "no-such-command" cannot be executed');
    expect(exitCode).toBe(127);
  }, 120_000);

  test.each<[string, string[], number, string]>([
    ['does not exist', ['no-such-command', '$x;'], 127, 'command "no-such-command" cannot be'],
    ['is no program', ['/etc/passwd', '$x;'], 127, 'command "/etc/passwd" cannot be executed'],
  ])(
    'a command that goes through a script and %s gives its exit code and says why',
    async (_how, argv, code, why) => {
      const { stderr, exitCode } = await run('--', ...argv);
      expect(stderr).toContain(why);
      expect(exitCode).toBe(code);
    },
    120_000,
  );

  test('a command that goes through a script and leaves with 127 itself has left with 127', async () => {
    const { stderr, exitCode } = await run('--', 'sh', '-c', 'exit $((127))');
    expect([withoutWaiting(stderr), exitCode]).toEqual(['', 127]);
  }, 120_000);

  test('a command that goes through a script runs as its user, with its environment', async () => {
    const argv = ['--user', 'nobody', '--env', 'A=$b;', '--', 'sh', '-c', 'echo "$(id -un) $A"'];
    expect((await run(...argv)).stdout).toBe('nobody $b;\n');
  }, 120_000);

  test('a user that does not exist gives 126 and names it', async () => {
    const { stderr, exitCode } = await run('--user', 'nobody-here', '--', 'true');
    expect(stderr).toContain('user "nobody-here" does not exist');
    expect(exitCode).toBe(126);
  }, 120_000);

  test('a task runs as the user that was asked for, in a directory of its own', async () => {
    const { stdout } = await run('--user', 'nobody', '--', 'sh', '-c', 'id -un; touch here && ls');
    expect(stdout).toBe('nobody\nhere\n');
  }, 120_000);

  test('a task larger than any node waits, and says that no node is large enough', async () => {
    const waiting = cluster.start('run', '--cpus', '64', '--', 'true');
    await waiting.seen('no agent is large enough for 64 cpus');
    waiting.child.kill('SIGINT');
    expect((await waiting.ended).exitCode).toBe(130);
  }, 120_000);

  test('Ctrl-C kills the task and gives 130', async () => {
    const running = cluster.start(
      'run',
      '--name',
      'interrupted',
      '--',
      'sh',
      '-c',
      'echo here; sleep 60',
    );
    await running.seen('here');
    running.child.kill('SIGINT');
    expect((await running.ended).exitCode).toBe(130);
    expect((await cluster.kaon('tasks')).stdout).not.toContain('interrupted');
  }, 120_000);

  test('a task that ignores SIGTERM is killed after its grace period', async () => {
    const running = cluster.start(
      'run',
      '--kill-grace',
      '1s',
      '--',
      'sh',
      '-c',
      "trap '' TERM; echo deaf; while :; do sleep 1; done",
    );
    await running.seen('deaf');
    running.child.kill('SIGINT');
    expect((await running.ended).exitCode).toBe(130);
  }, 120_000);

  test('processes that a command leaves behind are ended with it', async () => {
    await run('--', 'sh', '-c', 'sleep 4711 & exit 0');
    const { stdout } = await cluster.inside('ps', '-eo', 'args');
    expect(stdout).not.toContain('sleep 4711');
  }, 120_000);

  test('a detached task goes on without its client, and can be looked at, followed and killed', async () => {
    const { stdout } = await run(
      '--detach',
      '--name',
      'left',
      '--',
      'sh',
      '-c',
      'echo begun; sleep 300',
    );
    const taskId = stdout.trim();
    // The id is told once the agent has the task: there is nothing to wait for.
    expect((await cluster.kaon('task', taskId)).stdout).toContain('running');
    await until(async () => (await cluster.kaon('logs', taskId)).stdout === 'begun\n');
    const killed = await cluster.kaon('kill', taskId);
    expect(killed.exitCode).toBe(0);
    const { stdout: ended } = await cluster.kaon('tasks', '--all', '--json');
    expect(JSON.parse(ended).find((task: { taskId: string }) => task.taskId === taskId).state).toBe(
      'TASK_KILLED',
    );
  }, 120_000);

  test('a detached task that ends at once has its id told, and is known by it', async () => {
    const { stdout, stderr, exitCode } = await run('--detach', '--name', 'brief', '--', 'false');
    expect(stdout).toMatch(/^brief\.[a-z0-9]+\n$/);
    // The client leaves when the task runs, or hears of its end before that.
    expect([0, 1]).toContain(exitCode);
    expect(withoutWaiting(stderr) === '').toBe(exitCode === 0);
    const task = (): Promise<Ended> => cluster.kaon('task', stdout.trim(), '--json');
    expect((await task()).exitCode).toBe(0);
    await until(async () => (await task()).stdout.includes('TASK_FAILED'));
  }, 120_000);

  test('several instances run side by side, each line with the number of its instance', async () => {
    const { stdout } = await run('--instances', '3', '--cpus', '0.5', '--', 'sh', '-c', 'echo hi');
    expect(stdout.split('\n').sort()).toEqual(['', '[0] hi', '[1] hi', '[2] hi']);
  }, 120_000);

  test('systemctl shows the command, the slice and the limits of a running task', async () => {
    const running = cluster.start(
      'run',
      '--cpus',
      '0.5',
      '--mem',
      '64M',
      '--',
      'sh',
      '-c',
      'echo up; sleep 60',
    );
    await running.seen('up');
    const { stdout: status } = await cluster.inside(
      'systemctl',
      'status',
      'kaon-*.service',
      '--no-pager',
    );
    const slice = await cluster.inside(
      'systemctl',
      'show',
      'kaon-run.*-*.slice',
      '-p',
      'MemoryMax,CPUQuotaPerSecUSec,TasksMax',
    );
    running.child.kill('SIGINT');
    await running.ended;
    expect(status).toContain('sleep 60');
    expect(status).toContain('/kaon.slice/kaon-run.');
    expect(status).toContain('0.5 cpus, 64M');
    expect(slice.stdout).toContain('MemoryMax=67108864');
    expect(slice.stdout).toContain('CPUQuotaPerSecUSec=500ms');
    expect(slice.stdout).toContain('TasksMax=4096');
  }, 120_000);

  test('two hundred at once all come back with their own output', async () => {
    const all = Array.from({ length: 200 }, (_item, i) =>
      run('--cpus', '0.05', '--mem', '8M', '--', 'sh', '-c', `echo ${String(i)}`),
    );
    const results = await Promise.all(all);
    const odd = results
      .map(({ exitCode, stdout, stderr }, i) => ({ i, exitCode, stdout, stderr }))
      .filter(({ i, exitCode, stdout }) => exitCode !== 0 || stdout !== `${String(i)}\n`);
    expect(odd).toEqual([]);
  }, 900_000);

  test('nothing of the tasks is left in systemd', async () => {
    await until(async () => {
      const { stdout } = await cluster.inside(
        'systemctl',
        'list-units',
        '--all',
        '--plain',
        '--no-legend',
        'kaon-*',
      );
      const left = stdout
        .trim()
        .split('\n')
        .filter((line) => !/^(● )?kaon-(keeper-\S+|agent|boot)\.(service|target)/.test(line));
      return left.length === 0;
    });
    const { stdout } = await cluster.inside(
      'find',
      '/sys/fs/cgroup',
      '-path',
      '*kaon-*',
      '-name',
      '*.service',
      '-type',
      'd',
    );
    expect(
      stdout.split('\n').filter((line) => line !== '' && !/kaon-(keeper|agent)/.test(line)),
    ).toEqual([]);
  }, 120_000);
});
