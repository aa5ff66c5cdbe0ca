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
import { bootUnitsNode, execLine, type UnitsNode } from '../beds/cluster-units.ts';
import { KAON, startCommand, until } from '../beds/cluster.ts';
import { startRedisBed, type RedisBed } from '../beds/redis.ts';

const MASTER = 'kaon-master.service';
const SECOND_MASTER = 'kaon-master-second.service';
const AGENT = 'kaon-agent.service';
const BULLMQ = 'kaon-bullmq.service';
/** Far longer than a test may take: whoever leads sooner has not waited for its end. */
const LEASE = '10m';

const reason = bedReason('systemd') ?? bedReason('redis');
const suite = reason === undefined ? describe : describe.skip;
const run = promisify(execFile);

suite(`the unit files${reason === undefined ? '' : ` (${reason})`}`, () => {
  let directory: string;
  let redis: RedisBed;
  let node: UnitsNode;
  let client: Redis;
  /** The drop-in of the agent, by lines. */
  let agent: string[];

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'kaon-units-'));
    mkdirSync(join(directory, 'boot'));
    redis = await startRedisBed();
    client = new Redis(redis.socketPath);
    node = await bootUnitsNode(join(directory, 'boot'));
    const settings = [`Environment=KAON_REDIS=${redis.url}`];
    const kaon = [process.execPath, KAON];
    const master = [
      ...settings,
      'ExecStart=',
      `ExecStart=${execLine([...kaon, 'master', '--lease', LEASE])}`,
    ];
    master.push('ExecStopPost=', `ExecStopPost=${execLine([...kaon, 'step-down'])}`);
    const agentArgv = [
      'agent',
      '--state-dir',
      join(directory, 'agent'),
      '--resources',
      'cpus=1,mem=256M',
    ];
    agent = [
      '[Service]',
      ...settings,
      'ExecStart=',
      `ExecStart=${execLine([...kaon, ...agentArgv])}`,
      '',
    ];
    await node.install(MASTER, ['[Service]', ...master, ''].join('\n'));
    await node.install(MASTER, ['[Service]', ...master, ''].join('\n'), SECOND_MASTER);
    await node.install(AGENT, agent.join('\n'));
    await node.systemctl('start', MASTER);
    await until(async () => (await leaderToken()) !== '');
    await node.systemctl('start', SECOND_MASTER, AGENT);
  }, 60_000);
  afterAll(async () => {
    client.disconnect();
    await node.stop();
    await redis.stop();
    rmSync(directory, { recursive: true, force: true });
  }, 60_000);

  const leaderToken = async (): Promise<string> =>
    (await client.get('kaon:{default}:leader')) ?? '';
  const mainPid = async (unit: string): Promise<string> =>
    (await node.systemctl('show', '--property=MainPID', '--value', unit)).trim();

  test('are clean for systemd-analyze verify', async () => {
    for (const unit of [MASTER, AGENT, BULLMQ]) {
      const path = join(directory, unit);
      const text = readFileSync(resolve('systemd/units', unit), 'utf8');
      // Where Kaon is not installed the command would be the one thing to complain of.
      writeFileSync(path, text.replaceAll('/usr/bin/kaon', '/bin/true'));
      const { stdout, stderr } = await run('systemd-analyze', ['verify', '--man=no', path]);
      expect({ unit, stdout, stderr }).toEqual({ unit, stdout: '', stderr: '' });
    }
  }, 30_000);

  test('a leader that systemd has seen die gives way at once, long before its lease is over', async () => {
    const before = await leaderToken();
    const pid = await mainPid(MASTER);
    await node.systemctl('kill', '--signal=KILL', MASTER);
    await until(async () => ![before, ''].includes(await leaderToken()));
    // And the unit is started again, as a standby.
    await until(async () => !['0', pid].includes(await mainPid(MASTER)));
    const [epochBefore, epochNow] = [before, await leaderToken()].map((token) =>
      parseInt(token, 10),
    );
    expect(epochNow).toBe((epochBefore ?? 0) + 1);
    // The end of the service named the dead master by the start of the unit, whoever was faster to replace it.
    const said = new RegExp(
      `master ${before.split(' ')[1] ?? ''} (does not lead any more|did not lead)`,
    );
    await until(async () => said.test((await node.run('journalctl', '-u', MASTER)).stdout));
  }, 60_000);

  test('a restart of the agent leaves its task running', async () => {
    const script = 'echo $$; until [ -e "$0" ]; do sleep 0.1; done; echo $$; exit 4';
    const go = join(directory, 'go');
    const argv = [process.execPath, KAON, 'run', '--redis', redis.url, '--mem', '32M'];
    const task = startCommand([...argv, '--', 'sh', '-c', script, go]);
    await task.seen('\n');
    const before = await mainPid(AGENT);
    await node.systemctl('restart', AGENT);
    writeFileSync(go, '');
    const { stdout, exitCode } = await task.ended;
    const [first, second] = stdout.trim().split('\n');
    expect(await mainPid(AGENT)).not.toBe(before);
    expect({ exitCode, isSameProcess: first === second }).toEqual({
      exitCode: 4,
      isSameProcess: true,
    });
  }, 60_000);

  test('a restart of the scheduler of queues leaves its jobs running, and a wrong configuration is not tried again', async () => {
    const config = join(directory, 'bullmq.json');
    const go = join(directory, 'go-on');
    const dropIn = [
      '[Unit]',
      'ConditionPathExists=',
      `ConditionPathExists=${config}`,
      '[Service]',
      // The test's files and its Redis are there.
      'PrivateTmp=no',
      `Environment=KAON_REDIS=${redis.url}`,
      'ExecStart=',
      `ExecStart=${execLine([process.execPath, KAON, 'bullmq', '--config', config])}`,
      '',
    ].join('\n');
    writeFileSync(config, JSON.stringify({ queues: [{ name: 'mail', cpus: 0.1, mem: '32M' }] }));
    await node.install(BULLMQ, dropIn);
    await node.systemctl('start', BULLMQ);
    const connection = client.duplicate({ maxRetriesPerRequest: null });
    const queue = new Queue('mail', { connection });
    try {
      const script = 'echo $$; until [ -e "$0" ]; do sleep 0.1; done; echo $$';
      const { id = '' } = await queue.add('letter', { command: ['sh', '-c', script, go] });
      const job = async (): Promise<Awaited<ReturnType<typeof queue.getJob>>> => queue.getJob(id);
      const before = await mainPid(BULLMQ);
      await until(async () =>
        (await queue.getJobLogs(id)).logs.some((row) => row.includes('stdout')),
      );
      await node.systemctl('restart', BULLMQ);
      expect(await mainPid(BULLMQ)).not.toBe(before);
      writeFileSync(go, '');
      await until(async () => (await job())?.finishedOn !== undefined);
      const { returnvalue, attemptsStarted } = (await job()) ?? {};
      const [first, second] = (returnvalue as { stdout: string }).stdout.trim().split('\n');
      expect({ isSameProcess: first === second, attemptsStarted }).toEqual({
        isSameProcess: true,
        attemptsStarted: 1,
      });

      writeFileSync(config, JSON.stringify({ queues: [{ name: 'mail', cpu: 1 }] }));
      await node.systemctl('restart', BULLMQ);
      const show = (property: string): Promise<string> =>
        node.systemctl('show', `--property=${property}`, '--value', BULLMQ);
      await until(async () => (await show('ActiveState')).trim() === 'failed');
      expect(await show('ExecMainStatus')).toBe('78\n');
    } finally {
      await queue.close();
      connection.disconnect();
    }
  }, 120_000);

  test('an agent that is killed and stays away leaves its tasks to systemd: one is stopped in time, one goes on', async () => {
    const stopAfterMs = 15_000;
    const kaon = (...argv: string[]): ReturnType<typeof startCommand> =>
      startCommand([process.execPath, KAON, ...argv], { KAON_REDIS: redis.url });
    const detach = async (...argv: string[]): Promise<string> =>
      (
        await kaon('run', '--detach', '--mem', '32M', ...argv, '--', 'sleep', '1000').ended
      ).stdout.trim();
    const taskOf = async (taskId: string): Promise<{ state: string; status: TaskStatus }> => {
      const { stdout } = await kaon('tasks', '--all', '--json').ended;
      return JSON.parse(stdout).find((task: { taskId: string }) => task.taskId === taskId);
    };
    const stops = await detach('--when-unreachable', 'stop:15s');
    const stays = await detach();
    for (const taskId of [stops, stays])
      await until(async () => (await taskOf(taskId)).state === 'TASK_RUNNING');
    const [{ status: stopped }, { status: kept }] = [await taskOf(stops), await taskOf(stays)];

    await node.install(AGENT, [...agent, 'Restart=no', ''].join('\n'));
    const diedAtMs = Date.now();
    await node.systemctl('kill', '--signal=KILL', AGENT);
    await until(async () => (await mainPid(AGENT)) === '0');
    await until(async () => (await mainPid(stopped.unit ?? '')) === '0');
    const tookMs = Date.now() - diedAtMs;
    // The timer counts from the last answered heartbeat that set it, a quarter of its time before at most and some.
    expect(tookMs).toBeGreaterThan(stopAfterMs / 2);
    expect(tookMs).toBeLessThan(stopAfterMs + 3000);
    expect([await mainPid(AGENT), await mainPid(kept.unit ?? '')]).toEqual([
      '0',
      expect.not.stringMatching(/^0$/),
    ]);

    await node.install(AGENT, agent.join('\n'));
    await node.systemctl('start', AGENT);
    await until(async () => (await taskOf(stops)).state === 'TASK_KILLED');
    expect((await taskOf(stops)).status).toMatchObject({
      reason: 'REASON_STOPPED_WHEN_UNREACHABLE',
      certificate: { signal: 15 },
    });
    expect((await taskOf(stays)).state).toBe('TASK_RUNNING');
    await kaon('kill', stays).ended;
  }, 120_000);

  test('an agent that was refused is not started again', async () => {
    const second = 'kaon-agent-second.service';
    // Its state directory does not say who it is.
    const state = join(directory, 'other', 'agent');
    mkdirSync(state, { recursive: true });
    writeFileSync(join(state, 'agent.json'), 'not an identity');
    const settings = agent
      .join('\n')
      .replaceAll(join(directory, 'agent'), join(directory, 'other'));
    await node.install(AGENT, settings, second);
    await node.systemctl('start', second);
    const show = (property: string): Promise<string> =>
      node.systemctl('show', `--property=${property}`, '--value', second);
    await until(async () => (await show('ActiveState')).trim() === 'failed');
    // A second later it would have been started again.
    await new Promise((done) => setTimeout(done, 2000));
    expect(await show('ActiveState')).toBe('failed\n');
    expect(await show('ExecMainStatus')).toBe('78\n');
    expect(await show('NRestarts')).toBe('0\n');
  }, 60_000);
});
