/** `kaon submit` on real nodes: a framework moves in, and outlives the node that hosts it. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { randomBytes } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { Redis } from 'ioredis';
import { bedReason } from '../beds/available.ts';
import { type Ended, jsonOf, until } from '../beds/cluster.ts';
import { NODE_REDIS, type NodesBed, startNodesBed } from '../beds/nodes.ts';

const reason = bedReason('systemd') ?? bedReason('redis');
const suite = reason === undefined ? describe : describe.skip;

/**
 * Longer than the pause between two heartbeats (6 s), and shorter than anybody wants to wait. Agents have more, because
 * after a loss of data all of them have to be back in that time, however busy the machine is.
 */
const TIMEOUTS = ['--agent-timeout', '20s', '--framework-timeout', '8s'];
const SMALL = ['-c', '0.5', '-m', '128M', '--attribute', 'host=yes'];
/** Longer than the framework timeout and what a standby adds to it, and than 15 s. */
const AWAY_MS = 24_000;

interface Task {
  readonly taskId: string;
  readonly frameworkId: string;
  readonly name: string;
  readonly state: string;
  readonly agentId: string;
  readonly launchId: string;
  readonly status?: { readonly message?: string };
}

interface Framework {
  readonly info: { readonly frameworkId: string; readonly labels: Record<string, string> };
  readonly state: string;
}

suite(`kaon submit${reason === undefined ? '' : ` (${reason})`}`, () => {
  let bed: NodesBed;
  let files: string;
  beforeAll(async () => {
    bed = await startNodesBed(
      [
        { name: 'host-1', resources: 'cpus=2,mem=1G', attributes: ['host=yes'] },
        { name: 'host-2', resources: 'cpus=2,mem=1G', attributes: ['host=yes'] },
        { name: 'work', resources: 'cpus=2,mem=1G', attributes: ['work=yes'] },
      ],
      TIMEOUTS,
    );
    // Below what the tasks of the nodes see.
    files = join(bed.directory, 'files');
    mkdirSync(files);
  }, 360_000);
  afterAll(() => bed.stop(), 120_000);
  afterEach(async () => {
    for (const { taskId, frameworkId } of await tasks()) {
      await bed.kaon('kill', '--grace', '0s', `${frameworkId}/${taskId}`);
    }
    await until(async () => (await tasks()).length === 0);
  }, 240_000);

  const submit = (...args: string[]): Promise<Ended> =>
    bed.kaon('submit', '--node-redis', NODE_REDIS, ...args);
  const list = <T>(...args: string[]): Promise<T[]> => jsonOf<T[]>(bed, ...args);
  const tasks = (): Promise<Task[]> => list<Task>('tasks');
  const runnersOf = async (name: string): Promise<Task[]> =>
    (await tasks()).filter((task) => task.name === name && task.state === 'TASK_RUNNING');
  const agentsOf = async (name: string): Promise<string[]> =>
    (await runnersOf(name)).map(({ agentId }) => agentId).sort();
  const frameworkOf = async (id: string): Promise<Framework | undefined> =>
    (await list<Framework>('frameworks')).find(({ info }) => info.frameworkId === id);
  /** The runner that hosts it now. */
  const activeOf = async (frameworkId: string): Promise<Task> => {
    let found: Task | undefined;
    await until(async () => {
      const host = await frameworkOf(`submit.${frameworkId}`);
      found = (await tasks()).find(({ taskId }) => taskId === host?.info.labels['runner']);
      return found !== undefined;
    });
    return found as Task;
  };
  const logsOf = async (taskId: string): Promise<string> => {
    const { stdout, stderr } = await bed.kaon('logs', taskId);
    return stdout + stderr;
  };
  const submitted = ({ stdout, stderr }: Ended): { frameworkId: string; taskId: string } => {
    const [, frameworkId, taskId] =
      /^framework (\S+) is hosted on \S+ by task ([^:]+):/.exec(stdout) ?? [];
    if (frameworkId === undefined || taskId === undefined) throw new Error(stdout + stderr);
    return { frameworkId, taskId };
  };
  const endOf = async (taskId: string): Promise<Task> => {
    let found: Task | undefined;
    await until(async () => {
      found = (await list<Task>('tasks', '--all')).find((task) => task.taskId === taskId);
      return found !== undefined && /FINISHED|FAILED|KILLED|LOST/.test(found.state);
    });
    return found as Task;
  };
  /** Pids on that node whose command line has the text. */
  const pidsOn = async (node: string, text: string): Promise<string[]> => {
    const found = await bed.nodes.get(node)?.run('pgrep', '-f', text);
    return (found?.stdout ?? '').split('\n').filter((pid) => pid !== '');
  };
  /** A shell that has more than one command, so that it stays. */
  const sleeper = (seconds: string): string[] => ['--', 'sh', '-c', `sleep ${seconds}; exit 1`];

  test('a framework that was submitted outlives its node, and its tasks never notice', async () => {
    const outcome = await submit(
      ...[...SMALL, '-n', 'keeper', '--env', 'KEEP_ON=work=yes'],
      ...['examples/submit-scheduler.ts', '--', '2', 'sleep', '1000'],
    );
    expect(outcome.stderr).toMatch(/TASK_RUNNING[^]*framework failed over/);
    expect(outcome.exitCode).toBe(0);
    const { frameworkId, taskId } = submitted(outcome);
    const launches = async (): Promise<string[]> =>
      (await tasks())
        .filter((task) => task.frameworkId === frameworkId && task.state === 'TASK_RUNNING')
        .map((task) => `${task.taskId} ${task.launchId}`)
        .sort();
    await until(async () => (await launches()).length === 2);
    await until(async () => (await agentsOf('keeper')).join() === 'host-1,host-2');
    const before = await launches();
    const { agentId: lost } = await activeOf(frameworkId);

    await bed.cutPower(lost);
    await until(async () => (await activeOf(frameworkId)).taskId !== taskId);
    const { taskId: next, agentId: other } = await activeOf(frameworkId);
    await until(async () => (await logsOf(next)).includes('keep-1 TASK_RUNNING'));
    expect(await logsOf(next)).toContain(`keeping 2 tasks as framework ${frameworkId}`);
    await until(async () => (await frameworkOf(frameworkId))?.state === 'active');
    expect(other).not.toBe(lost);

    await bed.boot(lost);
    await until(async () => (await agentsOf('keeper')).join() === 'host-1,host-2');
    expect((await activeOf(frameworkId)).taskId).toBe(next);
    expect(await launches()).toEqual(before);
  }, 480_000);

  test('a runner that is killed alone is replaced, and one program is at work', async () => {
    const { frameworkId, taskId } = submitted(
      await submit(...SMALL, '-n', 'killed', ...sleeper('7001')),
    );
    await until(async () => (await agentsOf('killed')).length === 2);
    const { agentId } = await activeOf(frameworkId);
    const unit = `kaon-*-${taskId}-*.service`;
    await bed.nodes.get(agentId)?.systemctl('kill', '--kill-whom=main', '-s', 'KILL', unit);
    await until(async () => (await activeOf(frameworkId)).taskId !== taskId);
    const { agentId: other } = await activeOf(frameworkId);
    await until(async () => (await pidsOn(other, '^sleep 7001')).length === 1);
    expect(await pidsOn(agentId, 'sleep 7001')).toEqual([]);
    await until(async () => (await agentsOf('killed')).length === 2);
  }, 240_000);

  test('a node that ends its tasks in order hands over, and does not end the framework', async () => {
    const { frameworkId, taskId } = submitted(
      await submit(...SMALL, '-n', 'shutdown', ...sleeper('7002')),
    );
    await until(async () => (await agentsOf('shutdown')).length === 2);
    const { agentId } = await activeOf(frameworkId);
    await bed.nodes.get(agentId)?.systemctl('stop', `kaon-*-${taskId}-*.service`);
    await until(async () => (await activeOf(frameworkId)).taskId !== taskId);
    const { taskId: next } = await activeOf(frameworkId);
    expect(await logsOf(next)).toMatch(/taking over/);
  }, 240_000);

  test('a node that is cut off goes on with its program until it is back, and then not', async () => {
    const { frameworkId, taskId } = submitted(
      await submit(...SMALL, '-n', 'cutoff', ...sleeper('7007')),
    );
    await until(async () => (await agentsOf('cutoff')).length === 2);
    const { agentId } = await activeOf(frameworkId);
    const before = await pidsOn(agentId, '^sleep 7007');
    bed.cutOff(agentId);
    await until(async () => (await activeOf(frameworkId)).taskId !== taskId);
    const next = await activeOf(frameworkId);
    await until(async () => (await pidsOn(next.agentId, '^sleep 7007')).length === 1);
    const during = await pidsOn(agentId, '^sleep 7007');
    bed.resume(agentId);
    expect(during).toEqual(before);
    await until(async () => (await pidsOn(agentId, '^sleep 7007')).length === 0);
    await until(async () => (await agentsOf('cutoff')).length === 2);
    expect((await activeOf(frameworkId)).taskId).toBe(next.taskId);
  }, 360_000);

  test('a kill of the active runner ends all of it, and the tasks of the framework go on', async () => {
    const { frameworkId, taskId } = submitted(
      await submit(...SMALL, '-n', 'over', 'examples/submit-scheduler.ts', '--', '1'),
    );
    await until(async () => (await agentsOf('over')).length === 2);
    await until(async () => (await logsOf(taskId)).includes('keep-0 TASK_RUNNING'));
    await bed.kaon('kill', taskId);
    await until(async () => (await agentsOf('over')).length === 0);
    await until(async () => (await frameworkOf(`submit.${frameworkId}`)) === undefined);
    expect((await tasks()).map((task) => task.taskId)).toEqual(['keep-0']);
  }, 240_000);

  test('a program that leaves with 0 is done, and so is its standby', async () => {
    const signal = join(files, 'go');
    const program = ['--', 'sh', '-c', 'while [ ! -e "$1" ]; do sleep 0.2; done', 'sh', signal];
    const { frameworkId, taskId } = submitted(await submit(...SMALL, '-n', 'done', ...program));
    await until(async () => (await agentsOf('done')).length === 2);
    writeFileSync(signal, '');
    expect((await endOf(taskId)).state).toBe('TASK_FINISHED');
    await until(async () => (await frameworkOf(`submit.${frameworkId}`)) === undefined);
    expect(await agentsOf('done')).toEqual([]);
  }, 240_000);

  test('a program that fails is started again, and then its task has failed with its last words', async () => {
    const program = ['--', 'sh', '-c', 'echo "attempt of $KAON_FRAMEWORK_ID"; exit 7'];
    const { frameworkId, taskId } = submitted(
      await submit(...SMALL, '-n', 'fails', '--max-restarts', '1', ...program),
    );
    const { state, status } = await endOf(taskId);
    expect([state, status?.message]).toEqual(['TASK_FAILED', 'exited with code 7']);
    expect((await logsOf(taskId)).match(new RegExp(`attempt of ${frameworkId}`, 'g'))).toHaveLength(
      2,
    );
    expect(await logsOf(taskId)).toContain('after 1 restarts in a row; it is not started again');
  }, 240_000);

  test('while Redis is away nothing is stopped and nobody takes over, unless that was asked for', async () => {
    const keeps = submitted(await submit(...SMALL, '-n', 'keeps', ...sleeper('7003')));
    const stops = submitted(
      await submit(...SMALL, '-n', 'stops', '--when-unreachable', 'stop:15s', ...sleeper('7004')),
    );
    await until(async () => (await agentsOf('keeps')).length === 2);
    await until(async () => (await agentsOf('stops')).length === 2);
    const { agentId: keeping } = await activeOf(keeps.frameworkId);
    const { agentId: stopping } = await activeOf(stops.frameworkId);
    const before = await pidsOn(keeping, 'sleep 7003');
    const redis = bed.redis.pid() ?? 0;
    process.kill(redis, 'SIGSTOP');
    // The time itself is what is tested.
    await new Promise((done) => setTimeout(done, AWAY_MS));
    const during = [await pidsOn(keeping, 'sleep 7003'), await pidsOn(stopping, '^sleep 7004')];
    process.kill(redis, 'SIGCONT');
    expect(during).toEqual([before, []]);
    await until(async () => (await pidsOn(stopping, '^sleep 7004')).length === 1);
    expect((await activeOf(keeps.frameworkId)).taskId).toBe(keeps.taskId);
    expect((await activeOf(stops.frameworkId)).taskId).toBe(stops.taskId);
    expect(await pidsOn(keeping, 'sleep 7003')).toEqual(before);
  }, 360_000);

  test('a Redis that loses everything changes nothing of who hosts', async () => {
    const { frameworkId, taskId } = submitted(
      await submit(...SMALL, '-n', 'lost', ...sleeper('7005')),
    );
    await until(async () => (await agentsOf('lost')).length === 2);
    const { agentId } = await activeOf(frameworkId);
    const before = await pidsOn(agentId, 'sleep 7005');
    const client = new Redis(bed.redis.socketPath);
    await client.flushall();
    client.disconnect();
    await until(async () => (await frameworkOf(`submit.${frameworkId}`))?.state === 'active');
    await until(async () => (await agentsOf('lost')).length === 2);
    await until(async () => (await recoveringMs()) === 0);
    expect((await activeOf(frameworkId)).taskId).toBe(taskId);
    expect(await pidsOn(agentId, 'sleep 7005')).toEqual(before);
  }, 240_000);
  const recoveringMs = async (): Promise<number> => {
    const status = await jsonOf<{ recovering: { remainingMs: number } | null }>(bed, 'status');
    return status.recovering?.remainingMs ?? 0;
  };

  test('a framework is hosted once', async () => {
    const { frameworkId, taskId } = submitted(
      await submit(...SMALL, '-n', 'once', ...sleeper('7006')),
    );
    const { exitCode, stderr } = await submit('--framework-id', frameworkId, ...sleeper('1'));
    expect(exitCode).toBe(1);
    expect(stderr).toContain(`framework ${frameworkId} is hosted by task ${taskId} already`);
  }, 120_000);

  test('a program that comes by a URI finds kaon/framework, and its output can be followed', async () => {
    const module = join(files, 'comes.mjs');
    writeFileSync(module, "import { fits } from 'kaon/framework';\nconsole.log(typeof fits);\n");
    const { stdout, exitCode } = await submit(
      ...[...SMALL, '-n', 'comes', '--standby', 'no', '--uri', `file://${module}`, '-f'],
      ...['--', 'node', 'comes.mjs'],
    );
    expect(stdout).toMatch(/^framework comes\.[^]*\nfunction\n$/);
    expect(exitCode).toBe(0);
  }, 120_000);

  test('a runner that cannot reach Redis fails, with what it said', async () => {
    const { stderr, exitCode } = await submit(
      ...[...SMALL, '--node-redis', 'redis://127.0.0.1:1', '--', 'true'],
    );
    expect(exitCode).toBe(1);
    expect(stderr).toMatch(
      /TASK_FAILED: exited with code 4\n.*its last output:\n.*127\.0\.0\.1:1[^]*hint: --node-redis/,
    );
  }, 120_000);

  test('a submission that fits nowhere says why it waits, and Ctrl-C leaves nothing behind', async () => {
    const waiting = bed.start('submit', '-m', '100G', '--', 'true');
    await waiting.seen('waiting: no agent is large enough for 1 cpus, 100G');
    waiting.child.kill('SIGINT');
    expect((await waiting.ended).exitCode).toBe(130);
    // It ends when it has said so, which is before the master has heard it.
    await until(async () => {
      const left = (await list<Framework>('frameworks')).map(({ info }) => info.frameworkId);
      return !left.some((id) => id.startsWith('submit.true.'));
    });
  }, 120_000);

  test.each<[string, string[], number, RegExp]>([
    ['no such file', ['./missing.ts'], 2, /^kaon: \.\/missing\.ts: there is no such file\n/],
    ['a name that is none', ['-n', 'a b', '--', 'true'], 2, /^kaon: --name a b: not a name/],
    ['no program', [], 2, /^kaon: missing required argument 'program'/],
  ])(
    '%s is refused',
    async (_what, args, code, message) => {
      const { stderr, exitCode } = await submit(...args);
      expect(stderr).toMatch(message);
      expect(exitCode).toBe(code);
    },
    120_000,
  );

  test('an error of syntax is shown as esbuild says it', async () => {
    const module = join(files, 'bad.ts');
    writeFileSync(module, 'const a = ;\n');
    const { stderr, exitCode } = await submit(module);
    expect(stderr).toMatch(/\[ERROR\] Unexpected ";"\n[^]*bad\.ts:1:10:\n.*const a = ;/);
    expect(exitCode).toBe(1);
  }, 120_000);

  test('a program that is too large is refused, with what to do', async () => {
    const module = join(files, 'large.mjs');
    writeFileSync(module, `console.log('${randomBytes(300_000).toString('base64')}');\n`);
    const { stderr, exitCode } = await submit(module);
    expect(stderr).toMatch(/has \d+ KiB compressed, and may have 150 KiB\nhint: .*--uri http/);
    expect(exitCode).toBe(1);
  }, 120_000);
});
