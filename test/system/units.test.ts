/** The unit files as they are installed, in a real systemd: what becomes of leadership and tasks when it kills and restarts. */
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { Queue } from 'bullmq';
import { Redis } from 'ioredis';
import type { TaskStatus } from '../../protocol/task.ts';
import { bedReason } from '../beds/available.ts';
import { bootUnitsNode, type DaemonUnit, type UnitsNode } from '../beds/cluster-units.ts';
import { KAON, startCommand, until } from '../beds/cluster.ts';
import { ask, freePorts, LOOPBACK } from '../beds/redis-process.ts';
import { startRedisBed, type RedisBed } from '../beds/redis.ts';

const MASTER = 'kaon-master.service';
const SECOND_MASTER = 'kaon-master-second.service';
const AGENT = 'kaon-agent.service';
const BULLMQ = 'kaon-bullmq.service';
/** Far longer than a test may take: whoever leads sooner has not waited for its end. */
const LEASE = '10m';
/** Longer than a daemon on a busy machine stands still by itself, seconds. */
const WATCHDOG_S = 20;
/** Of Redis; nobody may see it. */
const PASSWORD = 'geheim/@:%1';

/** Says its pid, once more on SIGUSR1, and ends: a task sees no file that the test could make. */
const saysItsPid = (exitCode: number): string =>
  `trap 'echo pid $$; exit ${String(exitCode)}' USR1; echo pid $$; while :; do sleep 0.1; done`;

const reason = bedReason('systemd') ?? bedReason('redis');
const suite = reason === undefined ? describe : describe.skip;
const run = promisify(execFile);

suite(`the unit files${reason === undefined ? '' : ` (${reason})`}`, () => {
  let directory: string;
  let redis: RedisBed;
  let node: UnitsNode;
  let client: Redis;
  /** The address without the password, as it is in a file of settings. */
  let address: string;
  let master: DaemonUnit;
  let agent: DaemonUnit;

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'kaon-units-'));
    mkdirSync(join(directory, 'boot'));
    const [port = 0] = await freePorts(1);
    redis = await startRedisBed({ args: ['--port', String(port), '--bind', LOOPBACK] });
    await ask({ path: redis.socketPath }, (asked) => asked.config('SET', 'requirepass', PASSWORD));
    client = new Redis(redis.socketPath, { password: PASSWORD });
    address = `redis://${LOOPBACK}:${String(port)}`;
    node = await bootUnitsNode(join(directory, 'boot'));
    const secrets = { 'redis-password': `${PASSWORD}\n` };
    master = { daemon: 'master', settings: `redis = "${address}"\nlease = "${LEASE}"\n`, secrets };
    agent = {
      daemon: 'agent',
      settings: [
        `redis = "${address}"`,
        `state-dir = ${JSON.stringify(join(directory, 'agent'))}`,
        'resources = { cpus = 1, mem = "256M" }',
        '',
      ].join('\n'),
      secrets,
    };
    await node.installDaemon(master);
    await node.installDaemon({ ...master, name: SECOND_MASTER });
    await node.installDaemon(agent);
    await node.systemctl('start', MASTER);
    await until(async () => (await leaderToken()) !== '');
    await node.systemctl('start', SECOND_MASTER, AGENT);
  }, 120_000);
  afterAll(async () => {
    client.disconnect();
    await node.stop();
    await redis.stop();
    rmSync(directory, { recursive: true, force: true });
  }, 120_000);

  const leaderToken = async (): Promise<string> =>
    (await client.get('kaon:{default}:leader')) ?? '';
  const mainPid = (unit: string): Promise<string> => node.show(unit, 'MainPID');
  const status = (unit: string): Promise<string> => node.show(unit, 'StatusText');
  /** The command as a person on the node has it. */
  const kaon = (...argv: string[]): ReturnType<typeof startCommand> =>
    startCommand([process.execPath, KAON, ...argv], {
      KAON_REDIS: address.replace('//', `//:${encodeURIComponent(PASSWORD)}@`),
    });
  const detach = async (...argv: string[]): Promise<string> =>
    (
      await kaon('run', '--detach', '--mem', '32M', ...argv, '--', 'sleep', '1000').ended
    ).stdout.trim();
  const taskOf = async (taskId: string): Promise<{ state: string; status: TaskStatus }> => {
    const { stdout } = await kaon('tasks', '--all', '--json').ended;
    return JSON.parse(stdout).find((task: { taskId: string }) => task.taskId === taskId);
  };
  const running = async (...argv: string[]): Promise<{ taskId: string; unit: string }> => {
    const taskId = await detach(...argv);
    await until(async () => (await taskOf(taskId)).state === 'TASK_RUNNING');
    return { taskId, unit: (await taskOf(taskId)).status.unit ?? '' };
  };

  /** What is written to the journal can be read from it a moment later. */
  const untilJournal = (text: string | RegExp, ...args: string[]): Promise<void> =>
    until(async () => {
      const said = await node.journal(...args);
      return typeof text === 'string' ? said.includes(text) : text.test(said);
    });
  /** The same of what `systemctl status` shows of it. */
  const untilShown = (text: string, unit: string): Promise<void> =>
    until(async () =>
      (await node.run('systemctl', 'status', '--no-pager', '--full', unit)).stdout.includes(text),
    );

  /** Tells the one task that runs to say its pid and to end. */
  const goOn = async (): Promise<void> => {
    let unit: string | undefined;
    // Its output may be here before the registry has where it runs.
    await until(async () => {
      const { stdout } = await kaon('tasks', '--json').ended;
      const [task] = JSON.parse(stdout) as { status?: TaskStatus }[];
      unit = task?.status?.unit;
      return unit !== undefined;
    });
    await node.systemctl('kill', '--signal=USR1', unit ?? '');
  };

  test('are clean for systemd-analyze verify', async () => {
    for (const unit of [MASTER, AGENT, BULLMQ]) {
      const path = join(directory, unit);
      const text = readFileSync(resolve('systemd/units', unit), 'utf8');
      // Where Kaon is not installed the command would be the one thing to complain of.
      writeFileSync(path, text.replaceAll('/usr/bin/kaon', '/bin/true'));
      const { stdout, stderr } = await run('systemd-analyze', ['verify', '--man=no', path]);
      expect({ unit, stdout, stderr }).toEqual({ unit, stdout: '', stderr: '' });
    }
  }, 120_000);

  test.each([
    [MASTER, 20],
    [BULLMQ, 20],
    [AGENT, 40],
  ])(
    'leave %s little that it could do to its node',
    async (unit, tenths) => {
      const argv = ['security', '--offline=true', `--threshold=${String(tenths)}`, '--no-pager'];
      // Ends with an error if the exposure is above the threshold.
      const { stdout } = await run('systemd-analyze', [...argv, resolve('systemd/units', unit)]);
      expect(stdout).toContain(`Overall exposure level for ${unit}: `);
    },
    120_000,
  );

  test('say in systemctl status what a daemon is doing', async () => {
    await until(async () => /^leads, epoch \d+: 1 agent, /.test(await status(MASTER)));
    await until(async () => /^stands by; \S+ leads$/.test(await status(SECOND_MASTER)));
    await until(async () => (await status(AGENT)) === 'no tasks run');
    const { taskId } = await running();
    await until(async () => (await status(AGENT)) === '1 task runs');
    await kaon('kill', taskId).ended;
    await until(async () => (await status(AGENT)) === 'no tasks run');
  }, 120_000);

  test('are started without Redis, and say that they wait for it', async () => {
    const [port = 0] = await freePorts(1);
    const name = 'kaon-master-waiting.service';
    const away = `${LOOPBACK}:${String(port)}`;
    await node.installDaemon({ ...master, name, settings: `redis = "redis://${away}"` });
    // Comes back when the daemon is ready.
    await node.systemctl('start', name);
    expect(await node.show(name, 'ActiveState')).toBe('active');
    await until(async () => (await status(name)).includes('ECONNREFUSED'));
    expect(await status(name)).toBe(
      `waiting for Redis at redis://:***@${away}: connect ECONNREFUSED ${away}`,
    );
    await node.systemctl('stop', name);
    expect(await node.show(name, 'Result')).toBe('success');
  }, 120_000);

  test('show secrets to nobody', async () => {
    for (const unit of [MASTER, AGENT]) {
      const pid = join('/proc', await mainPid(unit));
      const read = async (file: string): Promise<string> =>
        (await node.run('cat', join(pid, file))).stdout;
      const seen = [
        await node.systemctl('show', unit),
        await node.systemctl('status', '--no-pager', '--lines=1000', unit),
        await node.systemctl('cat', unit),
        await node.journal('--unit', unit, '--output=verbose'),
        await read('environ'),
        await read('cmdline'),
      ];
      for (const text of seen) {
        expect(text).not.toContain('geheim');
        expect(text).not.toBe('');
      }
    }
  }, 120_000);

  test('give the journal fields by which a task, its agent and what happened are found', async () => {
    const { taskId } = await running('--name', 'web');
    const agentId = (await taskOf(taskId)).status.agentId ?? '';
    await kaon('kill', taskId).ended;
    const entries = async (...matches: string[]): Promise<Record<string, string>[]> => {
      const text = await node.journal('--output=json', ...matches);
      return text
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => JSON.parse(line) as Record<string, string>);
    };
    const byTask = [`KAON_TASK_ID=${taskId}`, `_SYSTEMD_UNIT=${AGENT}`];
    await until(async () => (await entries(...byTask, 'KAON_EVENT=task.ended')).length > 0);
    const [started] = await entries(...byTask, 'KAON_EVENT=task.started');
    expect(started).toMatchObject({
      MESSAGE: expect.stringContaining(`task.started taskId=${taskId} frameworkId=`),
      PRIORITY: '6',
      SYSLOG_IDENTIFIER: 'kaon-agent',
      KAON_AGENT_ID: agentId,
      _PID: await mainPid(AGENT),
    });
    const framework = `KAON_FRAMEWORK_ID=${started?.['KAON_FRAMEWORK_ID'] ?? ''}`;
    expect((await entries(framework, `KAON_AGENT_ID=${agentId}`)).length).toBeGreaterThan(1);
  }, 120_000);

  test('have a daemon that hangs killed and started again, and its task runs on', async () => {
    await node.installDaemon({ ...agent, lines: [`WatchdogSec=${String(WATCHDOG_S)}`] });
    await node.systemctl('restart', AGENT);
    const { taskId, unit } = await running();
    const [before, task] = [await mainPid(AGENT), await mainPid(unit)];
    await node.systemctl('kill', '--signal=STOP', AGENT);
    await until(async () => !['0', before].includes(await mainPid(AGENT)));
    await untilJournal(`Watchdog timeout (limit ${String(WATCHDOG_S)}s)!`, '--unit', AGENT);
    // What lives is left alone: its watchdog is fed for more than twice its length.
    const after = await mainPid(AGENT);
    await until(async () => (await status(AGENT)) === '1 task runs');
    const fedAtUs = async (): Promise<number> =>
      Number(await node.show(AGENT, 'WatchdogTimestampMonotonic'));
    const firstUs = await fedAtUs();
    await until(async () => (await fedAtUs()) > firstUs + 2 * WATCHDOG_S * 1_000_000);
    expect([await mainPid(AGENT), await mainPid(unit)]).toEqual([after, task]);
    await kaon('kill', taskId).ended;
    await node.installDaemon(agent);
    await node.systemctl('restart', AGENT);
  }, 300_000);

  test('have a reload apply what needs no restart, and say what does', async () => {
    const pid = await mainPid(AGENT);
    const { taskId, unit } = await running();
    const task = await mainPid(unit);
    node.configure(
      AGENT,
      `${agent.settings.replace('256M', '192M')}bus = "unix:path=/x"\n[attribute]\nrack = "b2"\n`,
    );
    await node.systemctl('reload', AGENT);
    const seen = async (): Promise<{ attributes: object; total: object }> =>
      JSON.parse((await kaon('agents', '--json').ended).stdout)[0];
    await until(async () => JSON.stringify(await seen()).includes('"rack":"b2"'));
    expect(JSON.stringify(await seen())).toContain('192');
    for (const line of [
      /setting\.changed key=resources .*cpus=1,mem=192M.* effect=now/,
      /setting\.changed key=bus .* effect="after a restart"/,
    ]) {
      await untilJournal(line, '--unit', AGENT, '--output=cat');
    }
    await until(async () => (await node.show(AGENT, 'ActiveState')) === 'active');
    expect([await mainPid(AGENT), await mainPid(unit)]).toEqual([pid, task]);
    await kaon('kill', taskId).ended;
    node.configure(AGENT, agent.settings);
    await node.systemctl('reload', AGENT);
  }, 120_000);

  test('have a reload of a wrong file fail in words, and the old settings stay', async () => {
    const pid = await mainPid(SECOND_MASTER);
    node.configure(SECOND_MASTER, `${master.settings}log_level = "debug"\n`);
    const reload = await node.run('systemctl', 'reload', SECOND_MASTER);
    expect(reload.exitCode).not.toBe(0);
    const words = 'unknown setting "log_level"; did you mean "log-level"?';
    await untilShown(`${SECOND_MASTER}.toml:3: ${words}`, SECOND_MASTER);
    // The same, past the check.
    await node.systemctl('kill', '--signal=HUP', SECOND_MASTER);
    const notRead = ['KAON_EVENT=settings.not-read', '--output=cat'];
    await untilJournal('the old ones stay', ...notRead);
    // Until the process has said that it is ready again, systemd shows it as `reloading`.
    await until(async () => (await node.show(SECOND_MASTER, 'ActiveState')) === 'active');
    expect(await mainPid(SECOND_MASTER)).toBe(pid);
    // Put right, it is read by the same process.
    node.configure(SECOND_MASTER, `${master.settings}offer-timeout = "20s"\n`);
    await node.systemctl('reload', SECOND_MASTER);
    const changed = ['KAON_EVENT=setting.changed', `_SYSTEMD_UNIT=${SECOND_MASTER}`];
    await untilJournal('key=offer-timeout before=30s value=20s', ...changed);
    expect(await mainPid(SECOND_MASTER)).toBe(pid);
  }, 120_000);

  test('do not try a wrong file again', async () => {
    const name = 'kaon-master-wrong.service';
    await node.installDaemon({ ...master, name, settings: 'lease = "1x"' });
    const start = await node.run('systemctl', 'start', name);
    expect(start.exitCode).not.toBe(0);
    // One that waits to be started again has the state auto-restart.
    expect([
      await node.show(name, 'SubState'),
      await node.show(name, 'ExecMainStatus'),
      await node.show(name, 'NRestarts'),
    ]).toEqual(['failed', '78', '0']);
    await untilShown(`${name}.toml:1: lease 1x: not a duration; write 30s, 5m or 1h30m`, name);
  }, 120_000);

  test('a leader that systemd has seen die gives way at once, long before its lease is over', async () => {
    const before = await leaderToken();
    const unit = (await status(MASTER)).startsWith('leads') ? MASTER : SECOND_MASTER;
    const pid = await mainPid(unit);
    await node.systemctl('kill', '--signal=KILL', unit);
    await until(async () => ![before, ''].includes(await leaderToken()));
    // And the unit is started again, as a standby.
    await until(async () => !['0', pid].includes(await mainPid(unit)));
    const [epochBefore, epochNow] = [before, await leaderToken()].map((token) =>
      parseInt(token, 10),
    );
    expect(epochNow).toBe((epochBefore ?? 0) + 1);
    // The end of the service named the dead master by the start of the unit, whoever was faster to replace it.
    const said = new RegExp(
      `master ${before.split(' ')[1] ?? ''} (does not lead any more|did not lead)`,
    );
    await untilJournal(said, '--unit', unit);
  }, 120_000);

  test('a restart of the agent leaves its task running', async () => {
    const task = kaon('run', '--mem', '32M', '--', 'sh', '-c', saysItsPid(4));
    await task.seen('pid ');
    const before = await mainPid(AGENT);
    await node.systemctl('restart', AGENT);
    await goOn();
    const { stdout, exitCode } = await task.ended;
    const [first, second] = stdout.trim().split('\n');
    expect(await mainPid(AGENT)).not.toBe(before);
    expect({ exitCode, isSameProcess: first === second }).toEqual({
      exitCode: 4,
      isSameProcess: true,
    });
  }, 120_000);

  test('a restart of the scheduler of queues leaves its jobs running, and a wrong configuration is not tried again', async () => {
    // The form that there was before there was TOML.
    const settings = JSON.stringify({ queues: [{ name: 'mail', cpus: 0.1, mem: '32M' }] });
    const bullmq: DaemonUnit = {
      ...{ daemon: 'bullmq', suffix: '.json', settings, secrets: master.secrets ?? {} },
      lines: [`Environment=KAON_REDIS=${address}`],
    };
    await node.installDaemon(bullmq);
    await node.systemctl('start', BULLMQ);
    const connection = client.duplicate({ maxRetriesPerRequest: null });
    const queue = new Queue('mail', { connection });
    try {
      const { id = '' } = await queue.add('letter', { command: ['sh', '-c', saysItsPid(0)] });
      const job = async (): Promise<Awaited<ReturnType<typeof queue.getJob>>> => queue.getJob(id);
      const before = await mainPid(BULLMQ);
      await until(async () =>
        (await queue.getJobLogs(id)).logs.some((row) => row.includes('pid ')),
      );
      await node.systemctl('restart', BULLMQ);
      expect(await mainPid(BULLMQ)).not.toBe(before);
      await until(async () => (await status(BULLMQ)) === 'works on 1 queue, 1 job has a task');
      await goOn();
      await until(async () => (await job())?.finishedOn !== undefined);
      const { returnvalue, attemptsStarted } = (await job()) ?? {};
      const [first, second] = (returnvalue as { stdout: string }).stdout.trim().split('\n');
      expect({ isSameProcess: first === second, attemptsStarted }).toEqual({
        isSameProcess: true,
        attemptsStarted: 1,
      });

      const wrong = '[[queues]]\nname = "mail"\ncpu = 1\n';
      await node.installDaemon({ ...bullmq, suffix: '.toml', settings: wrong });
      await node.run('systemctl', 'restart', BULLMQ);
      await until(async () => (await node.show(BULLMQ, 'ActiveState')) === 'failed');
      expect(await node.show(BULLMQ, 'ExecMainStatus')).toBe('78');
    } finally {
      await queue.close();
      connection.disconnect();
    }
  }, 240_000);

  test('an agent that is killed and stays away leaves its tasks to systemd: one is stopped in time, one goes on', async () => {
    const stops = await running('--when-unreachable', 'stop:15s');
    const stays = await running();

    await node.installDaemon({ ...agent, lines: ['Restart=no'] });
    const setAtUs = Number(
      await node.show('kaon-fence-*-15000ms.timer', 'ActiveEnterTimestampMonotonic'),
    );
    await node.systemctl('kill', '--signal=KILL', AGENT);
    await until(async () => (await mainPid(AGENT)) === '0');
    await until(async () => (await mainPid(stops.unit)) === '0');
    const endedAtUs = Number(await node.show(stops.unit, 'ExecMainExitTimestampMonotonic'));
    // The agent may have set the timer once more before it died: then it is longer.
    expect(setAtUs).toBeGreaterThan(0);
    expect(endedAtUs - setAtUs).toBeGreaterThanOrEqual(15_000_000);
    expect([await mainPid(AGENT), await mainPid(stays.unit)]).toEqual([
      '0',
      expect.not.stringMatching(/^0$/),
    ]);

    await node.installDaemon(agent);
    await node.systemctl('start', AGENT);
    await until(async () => (await taskOf(stops.taskId)).state === 'TASK_KILLED');
    expect((await taskOf(stops.taskId)).status).toMatchObject({
      reason: 'REASON_STOPPED_WHEN_UNREACHABLE',
      certificate: { signal: 15 },
    });
    expect((await taskOf(stays.taskId)).state).toBe('TASK_RUNNING');
    await kaon('kill', stays.taskId).ended;
  }, 240_000);

  test('an agent that was refused is not started again', async () => {
    const name = 'kaon-agent-second.service';
    // Its state directory does not say who it is.
    const state = join(directory, 'other', 'agent');
    mkdirSync(state, { recursive: true });
    writeFileSync(join(state, 'agent.json'), 'not an identity');
    const settings = agent.settings.replace(join(directory, 'agent'), join(directory, 'other'));
    await node.installDaemon({ ...agent, name, settings });
    await node.run('systemctl', 'start', name);
    await until(async () => (await node.show(name, 'ActiveState')) === 'failed');
    // One that waits to be started again has the state auto-restart.
    expect([
      await node.show(name, 'SubState'),
      await node.show(name, 'ExecMainStatus'),
      await node.show(name, 'NRestarts'),
    ]).toEqual(['failed', '78', '0']);
  }, 120_000);
});
