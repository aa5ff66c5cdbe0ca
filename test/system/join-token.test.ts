/** `kaon join-token` and `kaon acl` as they are typed, on Redis servers that keep users, forget them, or allow none. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { Redis } from 'ioredis';
import { parseJoinLine } from '../../io/join-line.ts';
import { readPrincipals } from '../../io/principals.ts';
import { makeClusterKey, parseClusterKey, parseToken } from '../../io/tokens.ts';
import { keysOf } from '../../protocol/keys.ts';
import { bedReason } from '../beds/available.ts';
import type { Ended } from '../beds/cluster.ts';
import { KAON, startCommand } from '../beds/cluster.ts';
import type { RedisBed } from '../beds/redis.ts';
import { startRedisBed } from '../beds/redis.ts';

const reason = bedReason('redis');
const suite = reason === undefined ? describe : describe.skip;

suite(`kaon join-token${reason === undefined ? '' : ` (${reason})`}`, () => {
  let directory: string;
  let keeping: RedisBed;
  const beds: RedisBed[] = [];

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'kaon-join-'));
    writeFileSync(join(directory, 'users.acl'), '');
    keeping = await startRedisBed({ args: ['--aclfile', join(directory, 'users.acl')] });
  }, 120_000);
  afterAll(async () => {
    await keeping.stop();
    rmSync(directory, { recursive: true, force: true });
  }, 120_000);
  afterEach(async () => {
    for (const bed of beds.splice(0)) await bed.stop();
  });

  const open = async (...args: string[]): Promise<RedisBed> => {
    const bed = await startRedisBed({ args });
    beds.push(bed);
    return bed;
  };
  const kaon = ({ url }: RedisBed, ...args: string[]): Promise<Ended> =>
    startCommand([process.execPath, KAON, ...args], { KAON_REDIS: url }).ended;
  const create = (bed: RedisBed, ...args: string[]): Promise<Ended> =>
    kaon(bed, 'join-token', 'create', ...args);

  test('prints one line that a node joins by, and the user is in the ACL file, without the password', async () => {
    const made = await create(keeping, '--role', 'agent', '--name', 'n1');
    expect(made.exitCode).toBe(0);
    const [, line = ''] = /^sh install\.sh agent --join (\S+)\n$/.exec(made.stdout) ?? [];
    const said = parseJoinLine(line);
    const user = 'kaon.agent.n1~default';
    expect(said).toMatchObject({ cluster: 'default', agentId: 'n1', redisUser: user });
    expect(said?.redis).toBe(`unix://${user}@${keeping.socketPath}`);
    const file = readFileSync(join(directory, 'users.acl'), 'utf8');
    expect(file).toContain(`user ${user} on `);
    expect(file).not.toContain(said?.redisPassword);
    expect(made.stderr).toContain('this line is secret');
    expect(made.stderr).toContain('the user default of Redis has no password');
    const login = { username: user, password: said?.redisPassword ?? '', protocol: 2 } as const;
    const redis = new Redis(keeping.socketPath, { ...login, disableClientInfo: true });
    expect(await redis.ping()).toBe('PONG');
    await redis.quit();
  }, 120_000);

  test('sets the variables of a program, for another cluster, with an address as it is seen there', async () => {
    const node = ['--node-redis', 'redis://default:secret@10.0.0.5:6379'];
    const made = await create(
      keeping,
      '--cluster',
      'prod',
      '--role',
      'viewer',
      '--name',
      'ann',
      ...node,
    );
    expect(made.stdout).toMatch(
      /^export KAON_REDIS='redis:\/\/kaon\.viewer\.ann~prod:[\w-]{43}@10\.0\.0\.5:6379' KAON_CLUSTER='prod'\n$/,
    );
    const { stdout } = await kaon(keeping, 'join-token', 'ls', '--cluster', 'prod');
    expect(stdout).toMatch(/viewer +ann +kaon\.viewer\.ann~prod +0/);
  }, 120_000);

  test('in a secured cluster makes, renews and ends the token too', async () => {
    const text = makeClusterKey();
    const file = join(directory, 'cluster-key');
    writeFileSync(file, `${text}\n`);
    const clusterKey = parseClusterKey(text) ?? Buffer.alloc(0);
    const redis = new Redis(keeping.socketPath, { protocol: 2 });
    const principal = async (): Promise<unknown> =>
      (await readPrincipals(redis, keysOf('default'), clusterKey)).records.get('n7');
    const key = ['--cluster-key', file];
    const args = ['--role', 'agent', '--name', 'n7', '--json', ...key];
    const tokenOf = ({ stdout }: Ended): ReturnType<typeof parseToken> =>
      parseToken((JSON.parse(stdout) as { token: string }).token);
    const first = tokenOf(await create(keeping, ...args));
    expect(await principal()).toMatchObject({ kind: 'agent', agentId: 'n7' });
    const second = tokenOf(await create(keeping, ...args, '--force'));
    expect(second?.generation).toBeGreaterThan(first?.generation ?? Infinity);
    await kaon(keeping, 'join-token', 'revoke', 'n7', ...key);
    expect(await principal()).toMatchObject({ revokedAtMs: expect.any(Number) as unknown });
    const third = tokenOf(await create(keeping, ...args));
    expect(third?.generation).toBeGreaterThan(second?.generation ?? Infinity);
    await redis.quit();
  }, 120_000);

  test('says what to do where Redis forgets its users, and the line that it prints is one of an ACL file', async () => {
    const forgetful = await open();
    const made = await create(forgetful, '--role', 'master', '--name', 'm1');
    expect(made.exitCode).toBe(0);
    expect(made.stderr).toContain('is lost with the next restart of Redis');
    const line = /^user kaon\.master\.m1~default .*$/m.exec(made.stderr)?.[0] ?? '';
    const file = join(directory, 'pasted.acl');
    writeFileSync(file, `${line}\n`);
    const other = await open('--aclfile', file);
    const { stdout } = await kaon(other, 'join-token', 'ls');
    expect(stdout).toContain('kaon.master.m1~default');
  }, 120_000);

  test('is told where Redis has no ACL, and makes nothing', async () => {
    const closed = await open('--rename-command', 'ACL', '');
    const made = await create(closed, '--role', 'agent');
    expect(made).toMatchObject({ exitCode: 1, stdout: '' });
    expect(made.stderr).toMatch(/kaon: cannot read the users: .*unknown command/);
    expect(made.stderr).toContain('hint: give the address of a user that may use ACL');
  }, 120_000);

  test.each([
    [['create'], 2, '--role is missing'],
    [['create', '--role', 'robber'], 2, 'not one of agent'],
    [['create', '--role', 'agent', '--name', 'a:b'], 2, '--name a:b: an agent has'],
    [['revoke', 'nobody'], 3, 'no user for nobody in cluster default'],
    [[], 2, 'create, revoke NAME or ls'],
  ])(
    'refuses %j',
    async (args, code, words) => {
      const { exitCode, stderr } = await kaon(keeping, 'join-token', ...args);
      expect(exitCode).toBe(code);
      expect(stderr).toContain(words);
    },
    120_000,
  );

  test('kaon acl file is an ACL file that Redis takes, kaon acl print what redis-cli does', async () => {
    const { stdout: lines, stderr: passwords } = await kaon(keeping, 'acl', 'file');
    expect(passwords.trim().split('\n')).toHaveLength(6);
    const file = join(directory, 'all.acl');
    writeFileSync(file, lines);
    const bed = await open('--aclfile', file);
    const redis = new Redis(bed.socketPath, { protocol: 2 });
    const users = await redis.acl('USERS');
    expect(users).toHaveLength(7);
    for (const user of users) if (user !== 'default') await redis.acl('DELUSER', user);
    const hash = ['--password-hash', 'a'.repeat(64)];
    const { stdout: commands } = await kaon(keeping, 'acl', 'print', ...hash);
    const cli = startCommand(['redis-cli', '-s', bed.socketPath]);
    cli.child.stdin?.end(commands);
    expect((await cli.ended).stdout.trim().split(/\s+/)).toEqual(Array(6).fill('OK'));
    expect(await redis.acl('USERS')).toHaveLength(7);
    await redis.quit();
  }, 120_000);
});
