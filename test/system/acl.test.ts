/**
 * A whole cluster in which each process has a user of its own in Redis, made as people make them, by `kaon join-token`;
 * and the user that everybody had before is locked. What everybody has to do works, and Redis has refused none of it.
 */
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { Redis } from 'ioredis';
import type { AclRole } from '../../io/acl.ts';
import { redisUserOf } from '../../io/acl.ts';
import { bedReason } from '../beds/available.ts';
import type { UnitsNode } from '../beds/cluster-units.ts';
import { bootUnitsNode } from '../beds/cluster-units.ts';
import type { Ended, Running } from '../beds/cluster.ts';
import { daemonsOf, KAON, startCommand, until } from '../beds/cluster.ts';
import type { RedisBed } from '../beds/redis.ts';
import { startRedisBed } from '../beds/redis.ts';

const ADMIN = 'admin-password';
const reason = bedReason('systemd') ?? bedReason('redis');
const suite = reason === undefined ? describe : describe.skip;

suite('a cluster whose processes have users of Redis', () => {
  let directory: string;
  let redis: RedisBed;
  let admin: Redis;
  let node: UnitsNode;
  let master: Running;
  let agent: Running;
  /** Commands that wait for a task; whatever became of their test, they end with it. */
  const waiting: Running[] = [];
  const urls = new Map<AclRole, string>();

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'kaon-acl-'));
    mkdirSync(join(directory, 'boot'));
    // A task, whose user is anybody, leaves notes for the test there.
    mkdirSync(join(directory, 'notes'));
    chmodSync(directory, 0o711);
    chmodSync(join(directory, 'notes'), 0o777);
    const users = join(directory, 'users.acl');
    writeFileSync(users, '');
    redis = await startRedisBed({ appendonly: 'yes', args: ['--aclfile', users] });
    admin = new Redis(redis.socketPath, { protocol: 2, disableClientInfo: true });
    await admin.acl('SETUSER', 'default', 'resetpass', `>${ADMIN}`);
    for (const role of ['master', 'agent', 'operator', 'viewer'] as const) {
      urls.set(role, await create('--role', role, '--name', `${role}1`));
    }
    urls.set('framework', await create('--role', 'framework', '--name', 'run'));
    node = await bootUnitsNode(join(directory, 'boot'));
    master = startCommand([process.execPath, KAON, 'master', '--redis', urlOf('master')]);
    agent = startAgent(urlOf('agent'));
    await until(async () => (await kaonAs('viewer', 'agents')).stdout.includes('active'));
  }, 240_000);
  afterAll(async () => {
    for (const { child } of waiting) child.kill('SIGKILL');
    master.child.kill('SIGTERM');
    await Promise.all([master.ended, stopAgent()]);
    await admin.quit();
    await node.stop();
    await redis.stop();
    rmSync(directory, { recursive: true, force: true });
  }, 180_000);

  const urlOf = (role: AclRole): string => urls.get(role) ?? '';
  const adminUrl = (): string => redis.url.replace('unix://', `unix://default:${ADMIN}@`);
  const kaonBy = (url: string, ...args: string[]): Promise<Ended> =>
    startCommand([process.execPath, KAON, ...args], { KAON_REDIS: url }).ended;
  const kaonAs = (role: AclRole, ...args: string[]): Promise<Ended> => kaonBy(urlOf(role), ...args);

  /** @returns the address of the user that was made */
  async function create(...args: string[]): Promise<string> {
    const made = await kaonBy(adminUrl(), 'join-token', 'create', '--json', ...args);
    expect(made.stderr).toContain('this line is secret');
    const { redis: url, redisPassword } = JSON.parse(made.stdout) as Record<string, string>;
    return (url ?? '').replace('@', `:${redisPassword ?? ''}@`);
  }

  function startAgent(url: string): Running {
    const paths = ['--state-dir', join(directory, 'agent'), '--expose', join(directory, 'notes')];
    const state = [...paths, '--resources', 'cpus=2,mem=512M'];
    const argv = [
      process.execPath,
      KAON,
      'agent',
      '--agent-id',
      'agent1',
      '--redis',
      url,
      ...state,
    ];
    return startCommand(node.inside.nsenter(argv));
  }

  function startTask(...args: string[]): Running {
    const environment = { KAON_REDIS: urlOf('operator') };
    const task = startCommand([process.execPath, KAON, 'run', ...args], environment);
    waiting.push(task);
    return task;
  }

  /** What was started is `nsenter`, which does not pass a signal on. */
  async function stopAgent(): Promise<void> {
    for (const pid of daemonsOf('agent', directory)) process.kill(pid, 'SIGTERM');
    await agent.ended;
  }

  /** What Redis has refused since the last call, and to whom. */
  async function refusals(): Promise<string[]> {
    const entries = (await admin.acl('LOG')) as (string | number)[][];
    await admin.acl('LOG', 'RESET');
    return entries.map((fields) => {
      const of = (name: string): string => String(fields[fields.indexOf(name) + 1]);
      return `${of('username')} ${of('reason')} ${of('object')}`;
    });
  }

  test('runs commands of a framework and of an operator, with their output', async () => {
    for (const role of ['framework', 'operator'] as const) {
      const { stdout, exitCode } = await kaonAs(role, 'run', '--', 'echo', 'hello');
      expect({ role, stdout, exitCode }).toEqual({ role, stdout: 'hello\n', exitCode: 0 });
    }
  }, 120_000);

  test('shows a viewer everything, and ends tasks for an operator', async () => {
    const task = startTask('--name', 'long', '--', 'sh', '-c', 'echo up; sleep 600');
    await task.seen('up');
    for (const command of ['status', 'tasks', 'agents', 'events', 'frameworks', 'offers']) {
      const { exitCode, stderr } = await kaonAs('viewer', command);
      expect({ command, exitCode }).toEqual({ command, exitCode: 0 });
      expect(stderr).not.toContain('may not');
    }
    expect((await kaonAs('viewer', 'tasks')).stdout).toContain('long');
    expect((await kaonAs('viewer', 'replay')).exitCode).toBe(0);
    expect(await kaonAs('operator', 'logs', 'long')).toMatchObject({
      stdout: 'up\n',
      exitCode: 0,
    });
    expect(await kaonAs('operator', 'kill', 'long')).toMatchObject({ exitCode: 0 });
    await task.ended;
    expect((await kaonAs('viewer', 'tasks', '--all')).stdout).toContain('long');
  }, 180_000);

  test('has refused nobody what they have to do', async () => {
    // A command whose task waits for more than a moment looks for the reason, and has to do without.
    const why =
      /^\S*framework\S* key \S+:registry:(?:cluster|roles|frameworks|offers|executors|tasks)$/;
    expect((await refusals()).filter((refusal) => !why.test(refusal))).toEqual([]);
  });

  test('tells a viewer at once that it may not run or kill anything', async () => {
    const run = await kaonAs('viewer', 'run', '--', 'true');
    expect(run).toMatchObject({ exitCode: 125, stdout: '' });
    expect(run.stderr).toContain('kaon join-token create --role framework');
    const other = await kaonAs('agent', 'run', '--', 'true');
    expect(other.exitCode).not.toBe(0);
    expect(other.stderr).toContain('may not do that');
    const wrong = await kaonBy(urlOf('viewer').replace(/:[^:@]+@/, ':wrong@'), 'status');
    expect(wrong.exitCode).toBe(4);
    expect(wrong.stderr).toContain('does not know this user, or the password is wrong');
    await refusals();
  }, 120_000);

  test('goes on when Redis has forgotten the scripts and cut every connection', async () => {
    await admin.script('FLUSH');
    await admin.call('CLIENT', 'KILL', 'TYPE', 'normal');
    const { stdout, exitCode } = await kaonAs('framework', 'run', '--', 'echo', 'again');
    expect({ stdout, exitCode }).toEqual({ stdout: 'again\n', exitCode: 0 });
  }, 120_000);

  test('a node that is revoked keeps its tasks, says so, and is back with a new password', async () => {
    const beats = join(directory, 'notes', 'beats');
    const script = `i=0; while [ ! -e "$0.stop" ]; do i=$((i+1)); echo $i > "$0"; sleep 0.2; done; exit 7`;
    const task = startTask('--', 'sh', '-c', script, beats);
    await until(() => existsSync(beats));
    const revoked = await kaonBy(adminUrl(), 'join-token', 'revoke', 'agent1');
    expect(revoked).toMatchObject({ exitCode: 0 });
    await agent.seen('redis.login-refused');
    const before = Number(readFileSync(beats, 'utf8'));
    await until(() => Number(readFileSync(beats, 'utf8')) > before + 5);
    expect(agent.child.exitCode).toBeNull();
    const again = await kaonBy(adminUrl(), 'join-token', 'revoke', 'agent1');
    expect(again).toMatchObject({ exitCode: 3 });
    expect(again.stderr).toContain('was it revoked before?');

    await stopAgent();
    agent = startAgent(await create('--role', 'agent', '--name', 'agent1'));
    writeFileSync(`${beats}.stop`, '');
    expect(await task.ended).toMatchObject({ exitCode: 7 });
  }, 240_000);

  test('a user that exists is not made twice, and with --force the old password ends', async () => {
    const args = ['join-token', 'create', '--role', 'viewer', '--name', 'viewer1'];
    const refused = await kaonBy(adminUrl(), ...args);
    expect(refused).toMatchObject({ exitCode: 1, stdout: '' });
    expect(refused.stderr).toContain('--force');
    const old = urlOf('viewer');
    urls.set('viewer', await create(...args.slice(2), '--force'));
    expect((await kaonBy(old, 'status')).exitCode).toBe(4);
    expect((await kaonAs('viewer', 'status')).exitCode).toBe(0);
    const { stdout } = await kaonBy(adminUrl(), 'join-token', 'ls', '--json');
    const users = (JSON.parse(stdout) as { user: string }[]).map(({ user }) => user);
    expect(users).toContain(redisUserOf({ role: 'viewer', name: 'viewer1', cluster: 'default' }));
  }, 120_000);

  test('whoever may not use ACL is told so, and makes nobody', async () => {
    const args = ['join-token', 'create', '--role', 'viewer', '--name', 'ann'];
    const refused = await kaonAs('operator', ...args);
    expect(refused).toMatchObject({ exitCode: 1, stdout: '' });
    expect(refused.stderr).toContain('a user that may use ACL');
  }, 120_000);
});
