/**
 * A secured cluster as it is run: master and agent as their unit files start them, with their secrets in files, and people
 * with tokens of each kind.
 */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { Redis } from 'ioredis';
import { bedReason } from '../beds/available.ts';
import { bootUnitsNode, type UnitsNode } from '../beds/cluster-units.ts';
import { type Ended, KAON, startCommand, until } from '../beds/cluster.ts';
import { freePorts, LOOPBACK } from '../beds/redis-process.ts';
import { startRedisBed, type RedisBed } from '../beds/redis.ts';
import { withoutWaiting } from '../support/kaon-words.ts';

const reason = bedReason('systemd') ?? bedReason('redis');
const suite = reason === undefined ? describe : describe.skip;

const FORBIDDEN = 77;
const CONFIG = 78;
const RUN_FAILED = 125;

interface TaskRow {
  readonly taskId: string;
  readonly state: string;
}

suite(`a secured cluster${reason === undefined ? '' : ` (${reason})`}`, () => {
  let directory: string;
  let redis: RedisBed;
  let client: Redis;
  let node: UnitsNode;
  let address: string;
  let keyFile: string;
  const made: string[] = [];

  const start = (
    argv: readonly string[],
    environment: Record<string, string> = {},
  ): ReturnType<typeof startCommand> =>
    startCommand([process.execPath, KAON, ...argv], { KAON_REDIS: address, ...environment });
  const kaon = (token: string | undefined, ...argv: string[]): Promise<Ended> =>
    start(argv, token === undefined ? {} : { KAON_TOKEN_FILE: join(directory, token) }).ended;
  const withKey = (...argv: string[]): Promise<Ended> =>
    kaon(undefined, 'token', ...argv, '--cluster-key-file', keyFile);
  /** Makes a token, or makes it anew, and puts it into a file of its name. */
  const keep = async (
    what: 'create' | 'rotate',
    name: string,
    ...flags: string[]
  ): Promise<void> => {
    const { stdout, stderr, exitCode } = await withKey(what, name, ...flags);
    expect({ stderr, exitCode }).toMatchObject({ exitCode: 0 });
    made.push(stdout.trim());
    writeFileSync(join(directory, name), stdout);
  };
  const eventsText = async (): Promise<string> =>
    (await kaon(undefined, 'events', '--limit', '1000')).stdout;
  const stateOf = async (taskId: string): Promise<string | undefined> => {
    const { stdout } = await kaon(undefined, 'tasks', '--all', '--json');
    return (JSON.parse(stdout) as TaskRow[]).find((task) => task.taskId === taskId)?.state;
  };
  const detached = async (token: string): Promise<string> => {
    const argv = ['run', '--detach', '--mem', '32M', '--', 'sleep', '1000'];
    const { stdout, stderr } = await kaon(token, ...argv);
    expect(withoutWaiting(stderr)).toBe('');
    const taskId = stdout.trim();
    await until(async () => (await stateOf(taskId)) === 'TASK_RUNNING');
    return taskId;
  };

  /** With the token of node1 as it is now. */
  const installAgent = async (): Promise<void> => {
    await node.installDaemon({
      daemon: 'agent',
      settings: [
        `redis = "${address}"`,
        'agent-id = "node1"',
        `state-dir = ${JSON.stringify(join(directory, 'agent'))}`,
        'resources = { cpus = 1, mem = "256M" }',
        '',
      ].join('\n'),
      secrets: { token: readFileSync(join(directory, 'node1'), 'utf8') },
    });
  };

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'kaon-secured-'));
    mkdirSync(join(directory, 'boot'));
    const [port = 0] = await freePorts(1);
    redis = await startRedisBed({ args: ['--port', String(port), '--bind', LOOPBACK] });
    address = `redis://${LOOPBACK}:${String(port)}`;
    client = new Redis(redis.socketPath);
    const { stdout: clusterKey } = await kaon(undefined, 'token', 'new-key');
    made.push(clusterKey.trim());
    keyFile = join(directory, 'cluster-key');
    writeFileSync(keyFile, clusterKey, { mode: 0o600 });
    await keep('create', 'node1', '--kind', 'agent', '--agent', 'node1');
    node = await bootUnitsNode(join(directory, 'boot'));
    await node.installDaemon({
      daemon: 'master',
      settings: `redis = "${address}"\n`,
      secrets: { 'cluster-key': clusterKey },
    });
    await installAgent();
    await node.systemctl('start', 'kaon-master.service', 'kaon-agent.service');
    await keep('create', 'ci', '--kind', 'framework', '--role', '*');
    await keep('create', 'op', '--kind', 'operator', '--expires', '90d');
    await keep('create', 'guest', '--kind', 'viewer');
    await until(async () => (await kaon(undefined, 'agents')).stdout.includes('node1'));
  }, 180_000);
  afterAll(async () => {
    client.disconnect();
    await node.stop();
    await redis.stop();
    rmSync(directory, { recursive: true, force: true });
  }, 120_000);

  test('runs a command for a framework token, and its output comes back', async () => {
    const argv = ['run', '--mem', '32M', '--', 'sh', '-c', 'echo hello; exit 3'];
    const { stdout, exitCode } = await kaon('ci', ...argv);
    expect({ stdout, exitCode }).toEqual({ stdout: 'hello\n', exitCode: 3 });
  }, 120_000);

  test('lets nobody run anything without a token, and says what to do', async () => {
    const { stderr, exitCode } = await kaon(undefined, 'run', 'true');
    expect(exitCode).toBe(RUN_FAILED);
    expect(withoutWaiting(stderr)).toMatch(
      /^kaon: the cluster is secured and no token was given; hint: kaon token create .*KAON_TOKEN_FILE=/,
    );
  }, 120_000);

  test('refuses a token that was not copied whole, and one of another cluster', async () => {
    const cut = readFileSync(join(directory, 'ci'), 'utf8').slice(0, 40);
    writeFileSync(join(directory, 'cut'), cut);
    const mangled = await kaon('cut', 'run', 'true');
    expect(mangled).toMatchObject({ exitCode: CONFIG, stdout: '' });
    expect(mangled.stderr).toContain('hint: was it copied whole?');
    expect(mangled.stderr).not.toContain(cut);

    const { stdout: otherKey } = await kaon(undefined, 'token', 'new-key');
    writeFileSync(join(directory, 'other-key'), otherKey);
    const argv = ['token', 'create', 'ci', '--kind', 'admin'];
    const flags = ['--cluster', 'other', '--cluster-key-file', join(directory, 'other-key')];
    writeFileSync(
      join(directory, 'foreign'),
      (await kaon(undefined, '--cluster', 'other', ...argv, ...flags.slice(2))).stdout,
    );
    const foreign = await kaon('foreign', 'run', 'true');
    expect(foreign.exitCode).toBe(RUN_FAILED);
    expect(foreign.stderr).toContain('the token is not one of this cluster');
  }, 120_000);

  test('lets an operator kill what a framework runs, and a viewer nothing', async () => {
    const taskId = await detached('ci');
    const viewer = await kaon('guest', 'kill', taskId);
    expect(viewer).toMatchObject({ exitCode: FORBIDDEN, stdout: '' });
    expect(viewer.stderr).toContain('token guest is a viewer, which may not speak as an operator');
    const nobody = await kaon(undefined, 'kill', taskId);
    expect(nobody.exitCode).toBe(FORBIDDEN);
    expect(nobody.stderr).toContain('the cluster is secured and no token was given\nhint: ');
    expect(await stateOf(taskId)).toBe('TASK_RUNNING');
    const operator = await kaon('op', 'kill', taskId);
    expect(operator.exitCode).toBe(0);
    expect(await stateOf(taskId)).toBe('TASK_KILLED');
  }, 120_000);

  test('says in kaon events who has done what, and who was refused', async () => {
    const events = await eventsText();
    expect(events).toMatch(/principal\.created .* ci .* kind framework; roles \* .* by \S+@/);
    expect(events).toMatch(/agent\.registered .* by node1$/m);
    expect(events).toMatch(/framework\.registered .* by ci$/m);
    expect(events).toMatch(/task\.launched .* by ci$/m);
    expect(events).toMatch(/task\.kill-requested .* by op$/m);
    expect(events).toMatch(/request\.refused .*forbidden: operator:.* KillTask: .* by guest$/m);
    expect(events).toMatch(/request\.refused .*unauthenticated: framework:run\./);
  }, 120_000);

  test('launches nothing for users that a token may not name', async () => {
    const refused = await kaon('ci', 'run', '--user', 'root', 'true');
    expect(refused.exitCode).not.toBe(0);
    expect(refused.stderr).toContain(
      'token ci may not run tasks as user root, it may name no user at all',
    );
  }, 120_000);

  test('goes on with the tasks of a token that is revoked, and takes no more of it', async () => {
    await keep('create', 'brief', '--kind', 'framework', '--role', '*');
    const taskId = await detached('brief');
    expect(await withKey('revoke', 'brief')).toMatchObject({ exitCode: 0 });
    expect(await withKey('revoke', 'brief')).toMatchObject({ exitCode: 0 });
    expect(await withKey('revoke', 'nobody')).toMatchObject({ exitCode: 1 });
    await until(async () => / principal\.revoked .* brief /.test(await eventsText()));
    const { stderr, exitCode } = await kaon('brief', 'run', 'true');
    expect({ stderr, exitCode }).toMatchObject({ exitCode: RUN_FAILED });
    expect(stderr).toContain('the token was revoked');
    expect(await kaon('brief', 'whoami')).toMatchObject({ exitCode: FORBIDDEN });
    expect(await stateOf(taskId)).toBe('TASK_RUNNING');
    expect((await kaon('op', 'kill', taskId)).exitCode).toBe(0);
  }, 120_000);

  test('gives an agent whose token is replaced the reason, and takes it back with the new one', async () => {
    const taskId = await detached('ci');
    await keep('rotate', 'node1');
    await until(async () => (await node.show('kaon-agent.service', 'ExecMainStatus')) === '77');
    const words = 'agent node1 was refused: the token was replaced by a newer one';
    // The journal has it a moment after the agent has ended.
    await until(async () => (await node.journal('-u', 'kaon-agent.service')).includes(words));
    await node.systemctl('stop', 'kaon-agent.service');
    await installAgent();
    await node.systemctl('start', 'kaon-agent.service');
    await until(async () => (await stateOf(taskId)) === 'TASK_RUNNING');
    expect((await kaon('op', 'kill', taskId)).exitCode).toBe(0);
  }, 120_000);

  test('has no token in Redis, in command lines, in logs, in events or in what is printed of it', async () => {
    await client.call('SAVE');
    const dump = readFileSync(join(dirnameOf(redis), 'dump.rdb')).toString('latin1');
    const inbox = JSON.stringify(await client.xrange('kaon:{default}:inbox', '-', '+'));
    const lines = readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .map((pid) => commandLine(pid));
    const logs = await node.journal('-u', 'kaon-*');
    const listed = (await withKey('ls')).stdout + (await withKey('ls', '--json')).stdout;
    const events = (await kaon(undefined, 'events', '--json', '--limit', '1000')).stdout;
    const places = { dump, inbox, lines: lines.join('\n'), logs, listed, events };
    expect(made.length).toBeGreaterThan(5);
    for (const secret of made) {
      for (const [place, text] of Object.entries(places)) {
        const key = secret.slice(-43);
        expect({ place, has: text.includes(secret) || text.includes(key) }).toEqual({
          place,
          has: false,
        });
      }
    }
  }, 120_000);
});

function dirnameOf({ socketPath }: RedisBed): string {
  return join(socketPath, '..');
}

function commandLine(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return ''; // It ended between two looks.
  }
}
