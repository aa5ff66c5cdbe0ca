/**
 * What users of each role may do on a real Redis: all that their processes have to, and of a long table of other things
 * nothing. A command counts as refused only if Redis names the rights as the reason.
 */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { Redis } from 'ioredis';
import type { AclRole, AclSubject } from '../../io/acl.ts';
import { ACL_ROLES, aclRulesOf, hashedPassword, redisUserOf } from '../../io/acl.ts';
import { digestOf, loadScripts } from '../../io/define-script.ts';
import { silentLog } from '../../io/log.ts';
import { explainRedisError } from '../../io/redis-errors.ts';

import { lastHeard } from '../../io/liveness.ts';
import { readStatus } from '../../io/cluster-status.ts';
import { RedisStore } from '../../io/redis-store.ts';
import { readAgentSizes } from '../../cli/registry.ts';
import { readClusterAtOnce, readHistory } from '../../io/registry.ts';
import { APPEND, CLIENT_SCRIPTS, COMMIT, HEARTBEAT, OPEN_SESSION } from '../../io/scripts.ts';
import type { Commit, Lease } from '../../io/store.ts';
import { START } from '../../io/store.ts';
import { agentName, frameworkName, keysOf } from '../../protocol/keys.ts';
import { bedReason } from '../beds/available.ts';
import type { RedisBed } from '../beds/redis.ts';
import { startRedisBed } from '../beds/redis.ts';
import { agentIdOf, frameworkIdOf, masterIdOf, sessionOf } from '../support/builders.ts';
import { commitOf, LEASE_MS } from '../support/store-harness.ts';

const CLUSTER = 'c';
const P = `kaon:{${CLUSTER}}:`;
const keys = keysOf(CLUSTER);
const PASSWORD = 'pw';
const NAMES: Readonly<Record<AclRole, string>> = {
  agent: 'a1',
  framework: 'shop',
  bullmq: 'mail',
  viewer: 'ann',
  operator: 'bob',
  master: 'm1',
};

/** Nobody has these rights: about the server, other keys, other clusters, and the text of scripts. */
const ALL_MUST_NOT: readonly string[][] = [
  ['FLUSHALL'],
  ['FLUSHDB'],
  ['CONFIG', 'GET', '*'],
  ['CONFIG', 'SET', 'maxmemory', '1'],
  ['CONFIG', 'REWRITE'],
  ['ACL', 'LIST'],
  ['ACL', 'SETUSER', 'evil', 'on', 'nopass', '~*', '+@all'],
  ['ACL', 'DELUSER', 'default'],
  ['ACL', 'GETUSER', 'default'],
  ['KEYS', '*'],
  ['SCAN', '0'],
  ['RANDOMKEY'],
  ['DBSIZE'],
  ['MONITOR'],
  ['SHUTDOWN', 'NOSAVE'],
  ['DEBUG', 'SLEEP', '0'],
  ['SAVE'],
  ['BGSAVE'],
  ['BGREWRITEAOF'],
  ['REPLICAOF', 'NO', 'ONE'],
  ['SLOWLOG', 'GET'],
  ['LATENCY', 'LATEST'],
  ['MODULE', 'LIST'],
  ['CLIENT', 'KILL', 'TYPE', 'normal'],
  ['CLIENT', 'PAUSE', '1'],
  ['CLIENT', 'NO-EVICT', 'on'],
  ['SWAPDB', '0', '1'],
  ['SCRIPT', 'FLUSH'],
  ['SCRIPT', 'KILL'],
  ['FUNCTION', 'LIST'],
  ['FUNCTION', 'FLUSH'],
  ['FCALL', 'f', '0'],
  ['EVAL', "return redis.call('GET', 'mine')", '1', 'mine'],
  ['MIGRATE', '127.0.0.1', '1', 'mine', '0', '1'],
  ['DUMP', `${P}leader`],
  ['RESTORE', `${P}x`, '0', 'x'],
  ['OBJECT', 'FREQ', `${P}leader`],
  ['COPY', `${P}leader`, `${P}x`],
  ['SORT', `${P}inbox`],
  ['RENAME', `${P}inbox`, `${P}x`],
  ['GET', 'mine'],
  ['SET', 'mine', '1'],
  ['GET', 'kaon:{other}:leader'],
  ['XADD', 'kaon:{other}:inbox', '*', 'a', 'b'],
  ['HGETALL', 'kaon:{other}:registry:tasks'],
  ['SUBSCRIBE', 'kaon:{other}:leader-changed'],
  ['SUBSCRIBE', 'news'],
  ['PSUBSCRIBE', '*'],
  ['PUBLISH', 'news', 'x'],
];

/** What only the master does. */
const CLIENTS_MUST_NOT: readonly string[][] = [
  ['CLIENT', 'LIST'],
  ['SCRIPT', 'LOAD', 'return 1'],
  ['EVAL', 'return 1', '0'],
  ['EVAL', `return redis.call('SET', '${P}leader', '9 evil')`, '0'],
  ['PUBLISH', `${P}leader-changed`, 'x'],
  ['SET', `${P}leader`, '9 evil'],
  ['DEL', `${P}leader`],
  ['SET', `${P}epoch`, '9'],
  ['SET', `${P}cursor`, '9 9-0'],
  ['SET', `${P}server`, 'x'],
  ['SET', `${P}session-floor`, '9'],
  ['HSET', `${P}registry:agents`, 'a1', '{}'],
  ['HSET', `${P}registry:tasks`, 'f/t', '{}'],
  ['HDEL', `${P}registry:agents`, 'a2'],
  ['HSET', `${P}sessions`, 'agent:a2', 's1'],
  ['HGETALL', `${P}sessions`],
  ['HSET', `${P}principals`, 'root', '{}'],
  ['HGETALL', `${P}principals`],
  ['ZADD', `${P}liveness`, '9', 'agent:a2'],
  ['ZREM', `${P}liveness`, 'agent:a2'],
  ['XADD', `${P}events`, '*', 'events', '[]'],
  ['XTRIM', `${P}events`, 'MAXLEN', '0'],
  ['XTRIM', `${P}inbox`, 'MAXLEN', '0'],
  ['XDEL', `${P}inbox`, '1-1'],
  ['DEL', `${P}inbox`],
  ['EXPIRE', `${P}inbox`, '1'],
  ['SET', `${P}inbox`, 'x'],
  ['XADD', `${P}history`, '*', 'task', '{}'],
  ['XADD', `${P}snapshots`, '*', 'state', '{}'],
  ['SET', `${P}agent:a2:/alive`, '9'],
  ['SET', `${P}agent:a2:/session-number`, '9'],
  ['SET', `${P}agent:a2:/sequence:s1`, '9'],
  ['XADD', `${P}agent:a2:s1`, '*', 'messages', '[]'],
  ['XTRIM', `${P}agent:a2:s1`, 'MAXLEN', '0'],
  ['XREAD', 'STREAMS', `${P}agent:a2:s1`, '0'],
  ['XREAD', 'STREAMS', `${P}agent:a2:/requests`, '0'],
  ['XDEL', `${P}agent:a2:/requests`, '1-1'],
  ['DEL', `${P}agent:a2:s1`],
  [
    'EVALSHA',
    digestOf(APPEND),
    '2',
    `${P}agent:a2:/sequence:s1`,
    `${P}inbox`,
    '1',
    '9',
    'x',
    'y',
    'z',
  ],
  ['EVALSHA', digestOf(OPEN_SESSION), '2', `${P}session-floor`, `${P}session-floor`],
  [
    ...['EVALSHA', digestOf(HEARTBEAT), '4', `${P}sessions`, `${P}agent:a2:/alive`],
    ...[`${P}agent:a2:s1`, `${P}agent:a2:/sequence:s1`, 'agent:a2', 's1', '0-0'],
  ],
  [
    ...['EVALSHA', digestOf(COMMIT), '5', `${P}leader`, `${P}cursor`, `${P}inbox`, `${P}server`],
    ...[`${P}registry:tasks`, '1 m1', '2', '0-0', '9', 'H', '2', 'f/t', '{}'],
  ],
];

/** What an agent or a framework has no reason to read. */
const CANNOT_READ: readonly string[][] = [
  ['XREAD', 'STREAMS', `${P}inbox`, '0'],
  ['XRANGE', `${P}inbox`, '-', '+'],
  ['XRANGE', `${P}events`, '-', '+'],
  ['XRANGE', `${P}history`, '-', '+'],
  ['HGETALL', `${P}registry:tasks`],
  ['HSCAN', `${P}registry:tasks`, '0'],
  ['HGET', `${P}registry:frameworks`, 'shop'],
  ['GET', `${P}cursor`],
  ['MGET', `${P}agent:a2:/alive`],
  ['ZRANGEBYSCORE', `${P}liveness`, '-inf', '+inf'],
];

const MUST_NOT: Readonly<Record<AclRole, readonly string[][]>> = {
  agent: [
    ...CLIENTS_MUST_NOT,
    ...CANNOT_READ,
    ['GET', `${P}leader`],
    ['HSCAN', `${P}registry:agents`, '0'],
    ['SUBSCRIBE', `${P}leader-changed`],
    // Itself, beyond what it does there.
    ['XADD', `${P}agent:a1:s1`, '*', 'messages', '[]'],
    ['SET', `${P}agent:a1:s1`, 'x'],
    ['DEL', `${P}agent:a1:s1`],
    ['XADD', `${P}agent:a1:/requests`, '*', 'messages', '[]'],
    // A framework: only beside what its master tells it.
    ['XADD', `${P}framework:shop:s1`, '*', 'messages', '[]'],
    ['XREAD', 'STREAMS', `${P}framework:shop:s1`, '0'],
    ['XREAD', 'STREAMS', `${P}framework:shop:/direct:s1`, '0'],
    ['SET', `${P}framework:shop:/alive`, '1'],
    ['XREAD', 'STREAMS', `${P}output:r1`, '0'],
    ['DEL', `${P}output:r1`],
    // The name of another one that only begins like its own.
    ['SET', `${P}agent:a11:/alive`, '1'],
    ['XREAD', 'STREAMS', `${P}agent:a11:s1`, '0'],
  ],
  framework: frameworkMustNot('shop'),
  bullmq: [
    // It brings its own scripts, for the keys of its queues.
    ...frameworkMustNot('mail').filter(([command, ...rest]) => !isPlainEval(command, rest)),
    ['EVAL', `return redis.call('GET', '${P}leader-connection')`, '1', 'bull:q:id'],
    ['EVAL', `return redis.call('HSET', '${P}registry:tasks', 'a', 'b')`, '1', 'bull:q:id'],
    ['SET', 'bullet:x', '1'],
  ],
  viewer: [
    ...CLIENTS_MUST_NOT,
    ['EVALSHA', digestOf(APPEND), '2', `${P}operator:x:/sequence:s1`, `${P}inbox`, '1'],
    ['XADD', `${P}inbox`, '*', 'from', 'operator:x'],
    ['XADD', `${P}agent:a1:/requests`, '*', 'messages', '[]'],
    ['XREAD', 'STREAMS', `${P}output:r1`, '0'],
    ['XREAD', 'STREAMS', `${P}framework:shop:s1`, '0'],
    ['SET', `${P}framework:shop:/alive`, '1'],
    ['SET', `${P}operator:x:/sequence:s1`, '1'],
  ],
  operator: [
    ...CLIENTS_MUST_NOT,
    ['XADD', `${P}framework:shop:s1`, '*', 'messages', '[]'],
    ['SET', `${P}framework:shop:s1`, 'x'],
    ['DEL', `${P}framework:shop:s1`],
    ['XADD', `${P}output:r1`, '*', 'end', ''],
  ],
  master: [
    ['SUBSCRIBE', `${P}other`],
    ['PUBLISH', 'kaon:{other}:leader-changed', 'x'],
    ['EVAL', "return redis.call('GET', 'kaon:{other}:leader')", '0'],
    ['EVAL', "return redis.call('FLUSHALL')", '0'],
    ['HGETALL', 'bull:q:1'],
  ],
};

function frameworkMustNot(name: string): string[][] {
  return [
    ...CLIENTS_MUST_NOT,
    ...CANNOT_READ,
    ['HSET', `${P}registry:agents`, 'a1', '{}'],
    ['SUBSCRIBE', `${P}events`],
    ['XADD', `${P}framework:${name}:s1`, '*', 'messages', '[]'],
    ['SET', `${P}framework:${name}:s1`, 'x'],
    ['DEL', `${P}framework:${name}.k3:s1`],
    ['XADD', `${P}output:r1`, '*', 'end', ''],
    // Others, also those whose names begin like its own.
    ...['bank', `${name}s`, `${name}-2`, `${name}_2`].flatMap((other) => [
      ['XREAD', 'STREAMS', `${P}framework:${other}:s1`, '0'],
      ['XTRIM', `${P}framework:${other}:s1`, 'MAXLEN', '0'],
      ['SET', `${P}framework:${other}:/alive`, '1'],
      ['SET', `${P}framework:${other}:/sequence:s1`, '1'],
      ['XDEL', `${P}framework:${other}:/direct:s1`, '1-1'],
    ]),
    ['SET', `${P}operator:x:/sequence:s1`, '1'],
  ];
}

/** The text of a script is refused in words of its own. */
function isTextRefused(message: string): boolean {
  return /^NOPERM .*'eval'/.test(message);
}

function isPlainEval(command: string | undefined, rest: readonly string[]): boolean {
  return command === 'EVAL' && rest[1] !== undefined && !rest[0]?.includes('redis.call');
}

const reason = bedReason('redis');
(reason === undefined ? describe : describe.skip)('a user of Redis', () => {
  let bed: RedisBed;
  let admin: Redis;
  const open: (Redis | RedisStore)[] = [];

  beforeAll(async () => {
    bed = await startRedisBed({ args: ['--enable-debug-command', 'yes'] });
    admin = new Redis(bed.socketPath, { protocol: 2 });
    for (const role of ACL_ROLES) await createUser(role);
    await loadScripts(admin, [...CLIENT_SCRIPTS, COMMIT]);
    await admin.xadd(keys.inbox, '*', 'from', 'x');
    await admin.set(keys.leader, '1 m1');
    await admin.hset(keys.registry.agents, 'a1', '{}');
    await admin.hset(keys.sessions, 'agent:a2', 's1');
  }, 120_000);
  afterAll(async () => {
    for (const one of open) await (one instanceof RedisStore ? one.close() : one.quit());
    await admin.quit();
    await bed.stop();
  }, 120_000);

  const subjectOf = (role: AclRole): AclSubject => ({ role, cluster: CLUSTER, name: NAMES[role] });

  async function createUser(role: AclRole): Promise<void> {
    const subject = subjectOf(role);
    const rules = ['reset', 'on', hashedPassword(PASSWORD), ...aclRulesOf(subject)];
    await admin.acl('SETUSER', redisUserOf(subject), ...rules);
  }

  function connectAs(role: AclRole): Redis {
    const username = redisUserOf(subjectOf(role));
    const options = { username, password: PASSWORD, protocol: 2, disableClientInfo: true } as const;
    const redis = new Redis(bed.socketPath, { ...options, enableReadyCheck: false });
    open.push(redis);
    return redis;
  }

  function storeAs(role: AclRole): RedisStore {
    const user = `${redisUserOf(subjectOf(role))}:${PASSWORD}@`;
    const url = bed.url.replace('unix://', `unix://${user}`);
    const store = new RedisStore({ url, cluster: CLUSTER, log: silentLog, name: role });
    open.push(store);
    return store;
  }

  async function refusalOf(
    redis: Redis,
    [command = '', ...args]: readonly string[],
  ): Promise<string> {
    try {
      const reply = await redis.call(command, ...args);
      return `${command} ${args.join(' ')} was answered: ${JSON.stringify(reply)}`;
    } catch (error) {
      const { message } = error as Error;
      const isRefused = explainRedisError(error).code === 'no-permission' || isTextRefused(message);
      return isRefused ? 'refused' : `${command} ${args.join(' ')} failed otherwise: ${message}`;
    }
  }

  describe.each(ACL_ROLES)('for the role %s', (role) => {
    const forbidden = [...ALL_MUST_NOT, ...MUST_NOT[role]];

    test('is refused everything in a table of at least forty commands', async () => {
      const redis = connectAs(role);
      const answers: string[] = [];
      for (const command of forbidden) answers.push(await refusalOf(redis, command));
      expect(answers.filter((answer) => answer !== 'refused')).toEqual([]);
      expect(new Set(forbidden.map((command) => command.join(' '))).size).toBeGreaterThanOrEqual(
        40,
      );
      expect([await admin.xlen(keys.inbox), await admin.get(keys.leader)]).toEqual([1, '1 m1']);
    });
  });

  describe('does what its process has to', () => {
    let master: RedisStore;
    let lease: Lease;
    let commits = 0;
    const commit = async (change: Partial<Commit>): Promise<void> => {
      commits += 1;
      const result = await master.commit(commitOf(lease, commits, change));
      expect(result).toMatchObject({ ok: true });
    };

    beforeAll(async () => {
      await admin.flushall();
      await admin.script('FLUSH');
      master = storeAs('master');
      const taken = await master.acquireLease(masterIdOf('m1'), LEASE_MS);
      if (!taken) throw new Error('the master does not lead');
      lease = taken;
      expect(await master.beginTerm(lease)).toMatchObject({ ok: true });
      await loadScripts(master.redis, CLIENT_SCRIPTS);
    });

    test('a master: it takes, renews and gives up its lease, sees others, loads, and reads the inbox', async () => {
      expect(await master.renewLease(lease, LEASE_MS)).toEqual(expect.any(Number));
      expect(await master.isLeaderGone(lease)).toBe(false);
      expect(await master.loadSnapshot()).toMatchObject({ commitNumber: commits });
      expect(await master.readInbox(START, 10, 1)).toEqual([]);
      const changes = [{ registry: 'tasks', key: 'f/t', value: '{}' }] as const;
      const heard = { events: ['{}'], history: ['{}'], quarantine: ['{}'], snapshot: '{}' };
      await commit({ changes, ...heard });
      await commit({ changes: [{ registry: 'tasks', key: 'f/t', value: undefined }] });
      expect(await master.waitForLeaderChange(1)).toBeDefined();
    });

    test('an agent: sessions, entries, heartbeats, its streams, answers, and words to frameworks', async () => {
      const [agent, agentId] = [storeAs('agent'), agentIdOf('a1')];
      const client = agentName(agentId);
      const session = await agent.openSession(client);
      expect(await agent.append({ client, session, sequence: 1, messages: '[]' })).toBe('appended');
      const frameworkId = frameworkIdOf('shop.k3');
      const sessions = [
        { client, session },
        { client: frameworkName(frameworkId), session: sessionOf('s1') },
      ];
      await commit({ sessions, sends: [{ client, session, messages: '["hello"]' }] });
      const [entry] = await agent.readClient(client, session, START, 1000);
      expect(await agent.heartbeat(client, session, entry?.id ?? START)).toBe('ok');
      await master.requestAgent(agentId, '["read"]');
      const [request] = await agent.readAgentRequests(agentId, START, 1000);
      await agent.removeAgentRequest(agentId, request?.id ?? START);
      expect(await agent.writeOutput(sessionOf('r1'), [{ kind: 'end', error: '' }])).toBe(1);
      expect(await agent.sendToFramework(frameworkId, '["word"]')).toBe('sent');
      expect(await agent.nowMs()).toBeGreaterThan(0);
    });

    test.each([
      ['framework', 'framework:shop'],
      ['framework', 'framework:shop.k3x9'],
      ['bullmq', 'framework:mail.k3'],
      ['operator', 'framework:run.k3'],
    ] as const)(
      'a %s that is %s: sessions, entries, heartbeats, its streams, output, the leader, the nodes',
      async (role, client) => {
        const store = storeAs(role);
        const frameworkId = frameworkIdOf(client.slice('framework:'.length));
        const session = await store.openSession(client);
        const entry = { client, session, sequence: 1, messages: '[]' } as const;
        expect(await store.append(entry)).toBe('appended');
        await commit({
          sessions: [{ client, session }],
          sends: [{ client, session, messages: '["hello"]' }],
        });
        const agent = storeAs('agent');
        expect(await agent.sendToFramework(frameworkId, '["word"]')).toBe('sent');
        const entries = await store.readClient(client, session, START, 1000);
        expect(entries.map(({ messages }) => messages)).toEqual(['["hello"]', '["word"]']);
        expect(await store.heartbeat(client, session, entries[0]?.id ?? START)).toBe('ok');
        const readId = sessionOf(`r-${client.replace(':', '-')}`);
        await store.requestAgent(agentIdOf('a1'), '["read"]');
        await agent.writeOutput(readId, [{ kind: 'end', error: '' }]);
        expect(await store.readOutput(readId, START, 1000)).toHaveLength(1);
        await store.endOutput(readId);
        expect(await store.leader()).toMatchObject(lease);
        expect(await store.waitForLeaderChange(1)).toBeDefined();
        expect(await readAgentSizes(store)).toEqual([]);
      },
    );

    test.each(['viewer', 'operator'] as const)('a %s sees the cluster', async (role) => {
      const store = storeAs(role);
      const { found } = await readStatus(store, { redis: bed.url, cluster: CLUSTER });
      expect(found.leader).toMatchObject({ epoch: lease.epoch });
      expect((await readClusterAtOnce(store)).cluster.tasks).toEqual([]);
      expect(await lastHeard(store.redis, store.keys, 'agent:a1')).toEqual(expect.any(Number));
      const kept = [];
      for await (const record of readHistory(store, [])) kept.push(record);
      expect(await store.redis.xlen(store.keys.events)).toBe(1);
    });

    test('an operator tells the master', async () => {
      const operator = storeAs('operator');
      const entry = { client: 'operator:bob@pc.k3', session: sessionOf('s1') } as const;
      expect(await operator.append({ ...entry, sequence: 1, messages: '[]' })).toBe('appended');
    });
  });

  test('cannot run what no master has loaded, and is told what to do', async () => {
    const agent = storeAs('agent');
    await admin.script('FLUSH');
    await expect(agent.openSession('agent:a1')).rejects.toMatchObject({
      code: 'scripts-missing',
      hint: expect.stringContaining('a master loads them') as unknown,
    });
    await loadScripts(admin, CLIENT_SCRIPTS);
    expect(await agent.openSession('agent:a1')).toEqual(expect.any(String));
  });
});
