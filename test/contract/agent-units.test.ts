/** What agents find and leave in a real systemd: tasks without checkpoints, other agents' units, fences that fire. */
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { findTraces } from '../../agent/adopt.ts';
import { openCheckpoints } from '../../agent/checkpoint.ts';
import { agentTagOf } from '../../agent/identity.ts';
import { silentLog } from '../../io/log.ts';
import type { LaunchId } from '../../protocol/ids.ts';
import { agentIdOf, frameworkIdOf, taskIdOf } from '../support/builders.ts';
import { type AgentOnOptions, type RunningAgent, startAgentOn } from '../beds/agents.ts';
import { bedReason } from '../beds/available.ts';
import { startSystemdBed, type SystemdBed } from '../beds/private-systemd.ts';
import { unitSpec } from '../beds/unit-specs.ts';

const TEST_TIMEOUT_MS = 120_000;
const reason = bedReason('systemd');
const suite = reason === undefined ? describe : describe.skip;
const FOREVER = { command: { argv: ['sleep', '1000'], environment: {} } };
const SH = (script: string): typeof FOREVER => ({
  command: { argv: ['sh', '-c', script], environment: {} },
});

suite(reason === undefined ? 'agents' : `agents (skipped: ${reason})`, () => {
  let bed: SystemdBed;
  const running: RunningAgent[] = [];
  const start = async (name: string, options?: AgentOnOptions): Promise<RunningAgent> => {
    const agent = await startAgentOn(bed, name, options);
    running.push(agent);
    return agent;
  };
  const units = (): string[] =>
    bed
      .run('systemctl', 'list-units', '--all', '--plain', '--no-legend', 'kaon-*.service')
      .split('\n')
      .map((line) => line.split(' ')[0] ?? '')
      .filter((name) => name !== '');
  const until = async (holds: () => boolean): Promise<void> => {
    while (!holds()) await new Promise((resolve) => setTimeout(resolve, 20));
  };

  beforeAll(async () => {
    bed = await startSystemdBed();
  }, TEST_TIMEOUT_MS);
  afterEach(async () => {
    for (const agent of running.splice(0)) await agent.stop();
  });
  afterAll(() => bed.stop(), TEST_TIMEOUT_MS);

  test.each([
    ['lost', (path: string) => rmSync(path)],
    ['damaged', (path: string) => writeFileSync(path, '{"version":2,')],
    ['from a later version', (path: string) => writeFileSync(path, '{"version":99}')],
  ])(
    'a task whose checkpoint is %s is known by its unit, can be killed, and ends with a certificate',
    async (how, spoil) => {
      const name = `lost${String(how.length)}`;
      const first = await start(name);
      first.hub.run('1.1.1', 't1', FOREVER);
      const { unit } = await first.hub.status('1.1.1', 'TASK_RUNNING');
      await first.stop();
      const live = join(first.directory, 'live');
      spoil(join(live, '1.1.1.json'));

      const second = await start(name);
      const { tasks, frameworks } = await second.hub.registered();
      expect(tasks).toMatchObject([{ launchId: '1.1.1', state: 'TASK_RUNNING', unit }]);
      expect(frameworks).toMatchObject([{ info: { frameworkId: 'f1' }, detached: false }]);
      expect(readdirSync(live)).toContain('1.1.1.json');
      const kill = { frameworkId: frameworkIdOf('f1'), taskId: taskIdOf('t1') };
      second.hub.send({ type: 'KillTask', ...kill, by: 'framework' });
      expect(await second.hub.status('1.1.1', 'TASK_KILLED')).toMatchObject({
        certificate: { signal: 15, oomKills: 0 },
      });
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'a task that ended without an agent and without a checkpoint is reported with its certificate',
    async () => {
      const first = await start('ended');
      const gate = join(bed.directory, 'ended.gate');
      first.hub.run('1.1.1', 't1', SH(`until [ -e ${gate} ]; do sleep 0.05; done; exit 7`));
      const { unit = '' } = await first.hub.status('1.1.1', 'TASK_RUNNING');
      await first.stop();
      rmSync(join(first.directory, 'live', '1.1.1.json'));
      writeFileSync(gate, '');
      await until(() => bed.run('systemctl', 'show', '-p', 'MainPID', unit) === 'MainPID=0\n');
      const second = await start('ended');
      expect(await second.hub.status('1.1.1', 'TASK_FAILED')).toMatchObject({
        message: 'exited with code 7',
        certificate: { exitCode: 7 },
      });
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'an end that was acknowledged is told again by the next agent, word for word, if the master wants it',
    async () => {
      const first = await start('again');
      first.hub.run('1.1.1', 't1', SH('echo out; exit 7'));
      first.hub.acknowledge(await first.hub.status('1.1.1', 'TASK_RUNNING'));
      const told = await first.hub.status('1.1.1', 'TASK_FAILED');
      first.hub.acknowledge(told);
      await until(() => readdirSync(join(first.directory, 'live')).length === 0);
      await first.stop();

      const second = await start('again');
      const { tasks, ended } = await second.hub.registered();
      expect(tasks).toEqual([]);
      expect(ended).toEqual([{ frameworkId: 'f1', taskId: 't1', launchId: '1.1.1' }]);
      const master = { masterId: 'm2', epoch: 2 };
      const resend = ['1.1.1' as LaunchId];
      const agentId = agentIdOf('again');
      second.hub.send({ type: 'AgentRegistered', agentId, master, resend });
      expect(await second.hub.status('1.1.1', 'TASK_FAILED')).toEqual(told);
      // Nor does a master without memory start it once more.
      second.hub.run('1.1.1', 't1', SH('echo out; exit 7'));
      second.hub.run('1.1.2', 't2', SH('exit 0'));
      await second.hub.status('1.1.2', 'TASK_FINISHED');
      expect(second.hub.countOf('StatusUpdate')).toBe(4);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'on a full disk tasks run and end, are told, and run once, whatever becomes of the agent',
    async () => {
      const isDiskFull = (): boolean => true;
      const trace = join(bed.directory, 'full.trace');
      const script = `echo ran >> ${trace}; sleep 0.5; exit 3`;
      const first = await start('full', { isDiskFull });
      first.hub.run('1.1.1', 't1', SH(script));
      await first.hub.status('1.1.1', 'TASK_RUNNING');
      await first.stop();

      const second = await start('full', { isDiskFull });
      const told = await second.hub.status('1.1.1', 'TASK_FAILED');
      expect(told.certificate).toMatchObject({ exitCode: 3 });
      await second.stop();

      const third = await start('full');
      expect(await third.hub.status('1.1.1', 'TASK_FAILED')).toEqual(told);
      for (const state of ['TASK_RUNNING', 'TASK_FAILED'] as const) {
        third.hub.acknowledge(await third.hub.status('1.1.1', state));
      }
      await until(() => !units().includes(told.unit ?? ''));
      expect(readFileSync(trace, 'utf8')).toBe('ran\n');
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'an agent without its identity is found in its checkpoints, and in the units of its directory',
    async () => {
      const agent = await start('traced');
      agent.hub.run('1.1.1', 't1', FOREVER);
      await agent.hub.status('1.1.1', 'TASK_RUNNING');
      await agent.stop();
      const { directory } = agent;
      const checkpoints = await openCheckpoints(directory, silentLog);
      const options = { directory, cluster: 'test', systemd: bed.systemd, checkpoints };
      expect(await findTraces(options)).toEqual(['traced', 'traced']);
      checkpoints.discard('1.1.1' as LaunchId);
      expect(await findTraces(options)).toEqual(['traced']);
      expect(await findTraces({ ...options, cluster: 'other' })).toEqual([]);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'a task that is killed while its agent restarts has been killed, and does not outlive its grace period',
    async () => {
      const first = await start('killed');
      const output = (task: string, launch: string): string =>
        readFileSync(join(first.directory, 'sandboxes', 'f1', task, launch, 'stdout'), 'utf8');
      const wait = 'echo ready; while :; do sleep 0.1; done';
      first.hub.run('1.1.1', 't1', SH(`trap "" TERM; ${wait}`));
      const end = 'echo term; sleep 1; trap - TERM; kill -TERM $$';
      first.hub.run('1.1.2', 't2', SH(`trap '${end}' TERM; ${wait}`));
      await Promise.all(['1.1.1', '1.1.2'].map((id) => first.hub.status(id, 'TASK_RUNNING')));
      // Before, SIGTERM finds no trap.
      await until(() => output('t1', '1.1.1') === 'ready\n' && output('t2', '1.1.2') === 'ready\n');
      const kill = { type: 'KillTask', frameworkId: frameworkIdOf('f1'), by: 'framework' } as const;
      const gracePeriodMs = 3000;
      const killedAtMs = Date.now();
      first.hub.send({ ...kill, taskId: taskIdOf('t1'), gracePeriodMs });
      first.hub.send({ ...kill, taskId: taskIdOf('t2'), gracePeriodMs: 60_000 });
      // Before, SIGTERM may not have left the agent yet.
      await until(() => output('t2', '1.1.2').endsWith('term\n'));
      await first.stop();

      const second = await start('killed');
      // As a master does that was told of the kill and not of its end.
      second.hub.send({ ...kill, taskId: taskIdOf('t1') });
      const statuses = ['1.1.2', '1.1.1'].map((id) => second.hub.status(id, 'TASK_KILLED'));
      const [asked, forced] = await Promise.all(statuses);
      const reason = 'REASON_KILLED_BY_FRAMEWORK';
      expect(asked).toMatchObject({ reason, certificate: { signal: 15 } });
      expect(forced).toMatchObject({ reason, certificate: { signal: 9 } });
      // Less what the agents and systemd round: their clocks have whole milliseconds, each its own.
      const tookMs = (forced?.certificate?.endedAtMs ?? 0) - killedAtMs;
      expect(tookMs).toBeGreaterThanOrEqual(gracePeriodMs - 20);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'a unit with the name of ours and another owner is left alone, and spoken of once',
    async () => {
      const tag = agentTagOf('test', agentIdOf('polite'));
      const foreign = unitSpec(`${tag}-x-9.9.9`, ['sleep', '1000'], {
        slice: `kaon-f1:${tag}.slice`,
        journalFields: { KAON_UNIT: Buffer.from('{"version":1}').toString('base64url') },
      });
      await bed.systemd.startUnit(foreign);
      const agent = await start('polite');
      const line = await agent.log.lines.first(({ event }) => event === 'unit.unknown');
      expect(line.fields).toMatchObject({ unit: foreign.name, action: 'left alone' });
      agent.hub.run('1.1.1', 't1', SH('exit 0'));
      await agent.hub.status('1.1.1', 'TASK_FINISHED');
      expect(await bed.systemd.readUnit(foreign.name)).toMatchObject({ subState: 'running' });
      expect(agent.log.lines.seen.filter(({ event }) => event === 'unit.unknown')).toHaveLength(1);
      await bed.systemd.releaseUnit(foreign.name);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'two agents of two clusters on one node run the same task, and neither touches the units of the other',
    async () => {
      const [one, two] = [
        await start('twin', { cluster: 'c1' }),
        await start('twin', { cluster: 'c2' }),
      ];
      for (const { hub } of [one, two]) hub.run('1.1.1', 't1', FOREVER);
      const statuses = await Promise.all(
        [one, two].map(({ hub }) => hub.status('1.1.1', 'TASK_RUNNING')),
      );
      // Slices come and go with each, and are swept every 50 ms.
      for (let count = 2; count < 12; count += 1) {
        const launchId = `1.1.${String(count)}`;
        for (const { hub } of [one, two]) hub.run(launchId, `s${launchId}`, SH('exit 0'), launchId);
        const ends = [one, two].map(({ hub }) => hub.status(launchId, 'TASK_FINISHED'));
        expect(await Promise.all(ends)).toHaveLength(2);
      }
      await one.stop();
      rmSync(one.directory, { recursive: true, force: true });
      await two.stop();
      const again = await start('twin', { cluster: 'c2' });
      const [, { unit: twos = '' } = {}] = statuses;
      expect((await again.hub.registered()).tasks).toContainEqual(
        expect.objectContaining({ launchId: '1.1.1', state: 'TASK_RUNNING', unit: twos }),
      );
      for (const { unit = '' } of statuses) {
        expect(await bed.systemd.readUnit(unit)).toMatchObject({ subState: 'running' });
      }
      expect(statuses[0]?.unit).not.toBe(statuses[1]?.unit);
      expect(units()).toEqual(expect.arrayContaining(statuses.map(({ unit }) => unit)));
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'a refusal of the master stops the agent with its words, and its tasks go on',
    async () => {
      const agent = await start('refused');
      agent.hub.run('1.1.1', 't1', FOREVER);
      const { unit = '' } = await agent.hub.status('1.1.1', 'TASK_RUNNING');
      agent.hub.send({ type: 'AgentError', code: 'agent-id-taken', message: 'another node' });
      await expect(agent.ended).rejects.toMatchObject({
        code: 'agent-id-taken',
        message: 'agent refused was refused: another node',
      });
      expect(await bed.systemd.readUnit(unit)).toMatchObject({ subState: 'running' });
    },
    TEST_TIMEOUT_MS,
  );

  /** @returns false if the agent that had contact was too slow to show by its task that it had */
  async function stopWithoutContact(attempt: string): Promise<boolean> {
    const stopAfterMs = 15_000;
    const limited = { ...FOREVER, whenUnreachable: { stopAfterMs } };
    const dead = await start(`dead${attempt}`);
    const [cut, fine] = [await start(`cut${attempt}`), await start(`fine${attempt}`)];
    const sinceMs = performance.now();
    dead.hub.run('1.1.2', 't2', FOREVER);
    const launchedAtMs = Date.now();
    for (const { hub } of [dead, cut, fine]) hub.run('1.1.1', 't1', limited);
    const { unit = '' } = await dead.hub.status('1.1.1', 'TASK_RUNNING');
    const { unit: kept = '' } = await dead.hub.status('1.1.2', 'TASK_RUNNING');
    const { unit: connected = '' } = await fine.hub.status('1.1.1', 'TASK_RUNNING');
    await dead.stop();
    cut.hub.cutOff();

    await until(() => bed.run('systemctl', 'show', '-p', 'MainPID', unit) === 'MainPID=0\n');
    const tookMs = Date.now() - launchedAtMs;
    expect(tookMs).toBeGreaterThan(stopAfterMs - 1000);
    expect(tookMs).toBeLessThan(stopAfterMs + 30_000);
    const stopped = {
      reason: 'REASON_STOPPED_WHEN_UNREACHABLE',
      message: expect.stringContaining('after 15s without contact'),
      certificate: { signal: 15 },
    };
    expect(await cut.hub.status('1.1.1', 'TASK_KILLED')).toMatchObject(stopped);
    const next = await start(`dead${attempt}`);
    expect(await next.hub.status('1.1.1', 'TASK_KILLED')).toMatchObject(stopped);
    // Without its heartbeats it would have been stopped by now.
    await new Promise((resolve) => setTimeout(resolve, 1500));
    expect(await bed.systemd.readUnit(kept)).toMatchObject({ subState: 'running' });
    const status = await bed.systemd.readUnit(connected);
    // Its fence is set again with each heartbeat, every 4 to 6 s: where the machine stood still it has fired rightly.
    const contactsMs = [sinceMs, ...fine.hub.heartbeatsMs, performance.now()];
    const gapsMs = contactsMs.map((atMs, index) => atMs - (contactsMs[index - 1] ?? atMs));
    if (Math.max(...gapsMs) > 9000) return false;
    expect(status).toMatchObject({ subState: 'running' });
    return true;
  }

  test('without contact a task that says so is stopped after its time, agent or not; others go on, and its agent tells', async () => {
    let isShown = false;
    for (let attempt = 1; !isShown && attempt <= 5; attempt += 1) {
      isShown = await stopWithoutContact(String(attempt));
    }
    expect(isShown).toBe(true);
  }, 600_000);
});
