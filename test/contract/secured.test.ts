/**
 * A secured cluster on a real Redis against somebody who may write whatever they like into it, but has no token: into the
 * inbox, into the streams of agents, into the registry, into the principals.
 */
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { RedisStore } from '../../io/redis-store.ts';
import { revokePrincipal, rotatePrincipal } from '../../io/principals.ts';
import { macOfAppend, sealEntry } from '../../io/signing.ts';
import type { Append } from '../../io/store.ts';
import { START } from '../../io/store.ts';
import type { Token } from '../../io/tokens.ts';
import { keyOf } from '../../io/tokens.ts';
import type { SessionId } from '../../protocol/ids.ts';
import type { ClientName } from '../../protocol/keys.ts';
import type { Message } from '../../protocol/messages.ts';
import type { ClusterEvent } from '../../protocol/records.ts';
import { bedReason } from '../beds/available.ts';
import { until } from '../beds/cluster.ts';
import { agentIdOf, executorTask, frameworkIdOf, taskIdOf, taskInfo } from '../support/builders.ts';
import type { ScriptedAgent } from '../support/scripted-agent.ts';
import { startScriptedAgent } from '../support/scripted-agent.ts';
import type { ScriptedFramework } from '../support/scripted-framework.ts';
import { startScriptedFramework } from '../support/scripted-framework.ts';
import type { SecuredCluster } from '../support/secured-cluster.ts';
import { CLUSTER_KEY, startSecuredCluster } from '../support/secured-cluster.ts';
import { createWatchedLog } from '../support/watch.ts';

const reason = bedReason('redis');
const suite = reason === undefined ? describe : describe.skip;
const OPERATOR: ClientName = 'operator:op@desk.1';
const GONE: Message = { type: 'MarkAgentGone', agentId: agentIdOf('nobody') };

suite(`a secured cluster${reason === undefined ? '' : ` (${reason})`}`, () => {
  let cluster: SecuredCluster;
  let intruder: RedisStore;
  const ends: (() => Promise<void>)[] = [];

  beforeEach(async () => {
    cluster = await startSecuredCluster();
    ({ intruder } = cluster);
  });
  afterEach(async () => {
    for (const end of ends.splice(0).reverse()) await end();
    await cluster.stop();
  });

  const startAgent = async (token: Token, log = createWatchedLog()): Promise<ScriptedAgent> => {
    const agent = startScriptedAgent(await cluster.store(token, log), 'a1');
    ends.push(() => agent.stop());
    return agent;
  };
  const startFramework = async (token: Token): Promise<ScriptedFramework> => {
    const store = await cluster.store(token);
    const framework = await startScriptedFramework(store, {
      name: 'shop',
      frameworkId: frameworkIdOf('f1'),
    });
    ends.push(() => framework.stop());
    return framework;
  };
  const agentToken = (): Promise<Token> =>
    cluster.create({ name: 'a1', kind: 'agent', agentId: agentIdOf('a1') });
  const frameworkToken = (name = 'shop'): Promise<Token> =>
    cluster.create({ name, kind: 'framework', roles: ['*'] });
  const refusal = (code: string): Promise<ClusterEvent> =>
    cluster.event('request.refused', (event) => event.reason === code);
  const answers = async (client: ClientName, session: SessionId): Promise<string[]> =>
    (await intruder.readClient(client, session, START, 0)).map(({ messages }) => messages);

  /** Writes an entry as the store does, but past it: with whatever signature. */
  const inject = async (
    append: Append,
    key?: Buffer,
    name = 'op',
    generation = 1,
  ): Promise<void> => {
    const { client, session, sequence, messages } = append;
    const place = intruder.keys.prefix;
    const mac = key && macOfAppend(key, { place, client, session }, sequence, messages);
    const proof = mac ? ['principal', name, 'generation', String(generation), 'mac', mac] : [];
    const fields = ['from', client, 'session', session, 'sequence', String(sequence)];
    await intruder.redis.xadd(intruder.keys.inbox, '*', ...fields, 'messages', messages, ...proof);
  };
  const entry = async (message: Message, client = OPERATOR, sequence = 1): Promise<Append> => {
    const session = await intruder.openSession(client);
    return { client, session, sequence, messages: JSON.stringify([message]) };
  };
  /** All that the inbox has, as it came; copied while no master leads. */
  const copyOfInbox = async (): Promise<string[][]> => {
    const entries = await intruder.redis.xrange(intruder.keys.inbox, '-', '+');
    return entries.map(([, fields]) => fields);
  };

  describe('takes no entry', () => {
    test('that is not signed, and says so where its writer reads', async () => {
      await cluster.startMaster('m1');
      const append = await entry(GONE);
      await inject(append);
      await refusal('unauthenticated');
      expect(await answers(append.client, append.session)).toEqual([
        expect.stringContaining('"type":"RequestRefused","code":"unauthenticated"'),
      ]);
    });

    test.each([
      ['a wrong signature', (): Buffer => Buffer.alloc(32, 1)],
      ['the key of another cluster', (): Buffer => keyOf(Buffer.alloc(32, 9), 'op', 1)],
      ['the cluster key itself', (): Buffer => CLUSTER_KEY],
    ])('with %s', async (_what, key) => {
      await cluster.startMaster('m1');
      const { generation } = await cluster.create({ name: 'op', kind: 'operator' });
      await inject(await entry(GONE), key(), 'op', generation);
      expect(await refusal('token-forged')).not.toHaveProperty('principal');
    });

    test('that was signed for another client, session, place or text', async () => {
      await cluster.startMaster('m1');
      const { generation, key } = await cluster.create({ name: 'op', kind: 'operator' });
      const append = await entry(GONE);
      const { client, session, sequence, messages } = append;
      const place = intruder.keys.prefix;
      const mac = macOfAppend(key, { place, client, session }, sequence, messages);
      const proof = ['principal', 'op', 'generation', String(generation), 'mac', mac];
      const write = (change: Partial<Append>): Promise<unknown> => {
        const other = { ...append, ...change };
        const fields = ['from', other.client, 'session', other.session];
        fields.push('sequence', String(other.sequence), 'messages', other.messages, ...proof);
        return intruder.redis.xadd(intruder.keys.inbox, '*', ...fields);
      };
      await write({ client: 'operator:root@desk.2' });
      await write({ session: await intruder.openSession(client) });
      await write({ sequence: 2 });
      await write({ messages: '[]' });
      const last = await entry(GONE, 'operator:last@desk.9');
      await inject(last);
      await cluster.event('request.refused', ({ message = '' }) => message.startsWith(last.client));
      // The same refusals of one client are one event; the client of another name has its own.
      const codes = (await cluster.events('request.refused')).map(({ reason: code }) => code);
      expect(codes).toEqual(['token-forged', 'token-forged', 'unauthenticated']);
    });

    test('of a token that was revoked, replaced, or has expired', async () => {
      await cluster.startMaster('m1');
      const tokens: Token[] = [];
      for (const name of ['gone', 'old', 'late']) {
        tokens.push(
          await cluster.create({
            name,
            kind: 'operator',
            ...(name === 'late' && { expiresAtMs: (await intruder.nowMs()) - 1 }),
          }),
        );
      }
      const { redis, keys } = intruder;
      await revokePrincipal(redis, keys, CLUSTER_KEY, { name: 'gone', by: 'root@desk' });
      await rotatePrincipal(redis, keys, CLUSTER_KEY, { name: 'old', by: 'root@desk' });
      await cluster.event('principal.rotated');
      for (const { name, generation, key } of tokens) {
        await inject(await entry(GONE, `operator:${name}@desk.1`), key, name, generation);
      }
      await refusal('token-expired');
      const told = (await cluster.events('request.refused')).map((event) => [
        event.reason,
        event.principal,
      ]);
      expect(told).toEqual([
        ['token-revoked', 'gone'],
        ['token-rotated', 'old'],
        ['token-expired', 'late'],
      ]);
    });

    test('twice, from the same leader or the next one', async () => {
      const op = await cluster.create({ name: 'op', kind: 'operator' });
      const agent = await agentToken();
      const client: ClientName = 'operator:op@desk.1';
      const signed = await cluster.store(op);
      const session = await signed.openSession(client);
      const message: Message = { type: 'MarkAgentGone', agentId: agentIdOf('a1') };
      await signed.append({ client, session, sequence: 1, messages: JSON.stringify([message]) });
      const [copy = []] = await copyOfInbox();
      const first = await cluster.startMaster('m1');
      await refusalOrNothing();
      await startAgent(agent);
      await cluster.event('agent.registered');
      await intruder.redis.xadd(intruder.keys.inbox, '*', ...copy);
      expect(await refusal('token-replayed')).toMatchObject({ principal: 'op' });
      await first.stop();
      await cluster.startMaster('m2');
      const before = (await cluster.events('request.refused')).length;
      await intruder.redis.xadd(intruder.keys.inbox, '*', ...copy);
      await until(async () => (await cluster.events('request.refused')).length > before);
      expect(await cluster.events('agent.removed')).toEqual([]);
    });

    test('of a session that nobody remembers any more', async () => {
      const { key, generation } = await cluster.create({ name: 'op', kind: 'operator' });
      await cluster.startMaster('m1');
      const append = await entry(GONE);
      const tenMinutesAgo = (await intruder.nowMs()) * 1000 - 600_000_000;
      const session = `s${tenMinutesAgo.toString(36).padStart(11, '0')}` as SessionId;
      await inject({ ...append, session }, key, 'op', generation);
      expect(await refusal('token-stale')).toMatchObject({ principal: 'op' });
    });
  });

  const refusalOrNothing = async (): Promise<void> => {
    // The consumed entry was acted on: no agent of that name, so nothing to see; its number is remembered all the same.
    await until(async () => (await intruder.redis.hlen(intruder.keys.heard)) > 0);
  };

  test('takes a token at once that was made a moment ago', async () => {
    await cluster.startMaster('m1');
    const framework = await startFramework(await frameworkToken());
    await framework.called('registered');
    expect(await cluster.events('request.refused')).toEqual([]);
  });

  test('tells a driver whose token is not good why, and the driver ends', async () => {
    await cluster.startMaster('m1');
    const { name, generation } = await frameworkToken();
    const framework = await startFramework({ name, generation, key: Buffer.alloc(32) });
    const error = await framework.called('error');
    expect(error).toMatchObject({ what: expect.stringContaining('is not one of this cluster') });
    expect(framework.driver.status).toBe('DRIVER_ABORTED');
  });

  test('runs a task from its offer to its end', async () => {
    await cluster.startMaster('m1');
    const agent = await startAgent(await agentToken());
    const framework = await startFramework(await frameworkToken());
    framework.driver.launchTasks((await framework.offered()).offerId, [taskInfo('t1')]);
    expect(await agent.received('RunTask')).toMatchObject({ framework: { principal: 'shop' } });
    agent.say('f1', 't1', 'TASK_RUNNING');
    await framework.updated('t1', 'TASK_RUNNING');
    agent.say('f1', 't1', 'TASK_FINISHED');
    await framework.updated('t1', 'TASK_FINISHED');
    expect(await cluster.event('task.launched')).toMatchObject({ principal: 'shop' });
  });

  test('carries what is said to an executor by way of the master, which knows whose it is', async () => {
    await cluster.startMaster('m1');
    const agent = await startAgent(await agentToken());
    const framework = await startFramework(await frameworkToken());
    framework.driver.launchTasks((await framework.offered()).offerId, [executorTask('t1')]);
    await agent.received('RunTask');
    framework.driver.sendFrameworkMessage('e1', 'a1', 'hello');
    expect(await agent.received('FrameworkToExecutor')).toMatchObject({ data: 'hello' });
    const { redis, keys } = intruder;
    expect(await redis.exists(keys.agentRequests(agent.agentId))).toBe(0);
  });

  test('goes on with its clients under the next leader', async () => {
    const first = await cluster.startMaster('m1');
    const agent = await startAgent(await agentToken());
    const framework = await startFramework(await frameworkToken());
    const offer = await framework.offered();
    framework.driver.launchTasks(offer.offerId, [taskInfo('t1')]);
    await agent.received('RunTask');
    await first.stop();
    const second = await cluster.startMaster('m2');
    agent.say('f1', 't1', 'TASK_RUNNING');
    await framework.updated('t1', 'TASK_RUNNING');
    framework.driver.killTask('t1');
    await agent.received('KillTask');
    expect(await cluster.events('request.refused')).toEqual([]);
    expect(second.lines.seen.filter(({ event }) => event === 'registry.bad-record')).toEqual([]);
  });

  describe('an agent with a token', () => {
    const attack: Message = {
      type: 'ShutdownFramework',
      frameworkId: frameworkIdOf('f1'),
    };
    const streamOf = async (agent: ScriptedAgent): Promise<string> => {
      await agent.received('AgentRegistered');
      return intruder.keys.client('agent:a1', agent.mailbox.session);
    };

    test('starts nothing that its master has not signed', async () => {
      await cluster.startMaster('m1');
      const log = createWatchedLog();
      const token = await agentToken();
      const agent = await startAgent(token, log);
      const stream = await streamOf(agent);
      const messages = JSON.stringify([attack]);
      const where = { place: intruder.keys.prefix, client: 'agent:a1', session: '' };
      const seals = [
        sealEntry(
          Buffer.alloc(32),
          { ...where, session: agent.mailbox.session },
          '999-1',
          messages,
        ),
        // Good in another session.
        sealEntry(token.key, where, '999-1', messages),
      ];
      await intruder.redis.xadd(stream, '*', 'messages', messages);
      for (const { position, mac } of seals) {
        const fields = ['messages', messages, 'position', position, 'mac', mac];
        await intruder.redis.xadd(stream, '*', ...fields);
      }
      const refused = await log.lines.count(3, ({ event }) => event === 'stream.entry-refused');
      expect(refused.map(({ fields }) => [fields['problem'], fields['count']])).toEqual([
        ['it is not signed', 1],
        ['its signature is wrong', 2],
        ['its signature is wrong', 3],
      ]);
      expect(agent.countOf('ShutdownFramework')).toBe(0);
    });

    test('does not launch again what is put into its stream once more', async () => {
      await cluster.startMaster('m1');
      const log = createWatchedLog();
      const agent = await startAgent(await agentToken(), log);
      const framework = await startFramework(await frameworkToken());
      framework.driver.launchTasks((await framework.offered()).offerId, [taskInfo('t1')]);
      const stream = await streamOf(agent);
      await agent.received('RunTask');
      for (const [, fields] of await intruder.redis.xrange(stream, '-', '+')) {
        await intruder.redis.xadd(stream, '*', ...fields);
      }
      const refused = await log.lines.first(({ event }) => event === 'stream.entry-refused');
      expect(refused.fields['problem']).toBe('it has been read before');
      framework.driver.killTask('t1');
      await agent.received('KillTask');
      expect(agent.countOf('RunTask')).toBe(1);
    });

    test('believes a refusal that is not signed, as long as its master has signed nothing', async () => {
      await cluster.startMaster('m1');
      const { name, generation } = await agentToken();
      const agent = await startAgent({ name, generation, key: Buffer.alloc(32) });
      expect(await agent.received('AgentError')).toMatchObject({ code: 'token-forged' });
    });

    test('of one node says nothing for another', async () => {
      await cluster.startMaster('m1');
      const token = await cluster.create({ name: 'n2', kind: 'agent', agentId: agentIdOf('a2') });
      const agent = await startAgent(token);
      expect(await agent.received('AgentError')).toMatchObject({
        code: 'forbidden',
        message: 'not allowed: token n2 is of agent a2, and may not speak as agent:a1',
      });
      expect(await cluster.events('agent.registered')).toEqual([]);
    });
  });

  describe('the next leader', () => {
    test('takes no record that no master has written: a task that is slipped in is not launched', async () => {
      const first = await cluster.startMaster('m1');
      const agent = await startAgent(await agentToken());
      const framework = await startFramework(await frameworkToken());
      framework.driver.launchTasks((await framework.offered()).offerId, [taskInfo('t1')]);
      await agent.received('RunTask');
      agent.say('f1', 't1', 'TASK_RUNNING');
      await framework.updated('t1', 'TASK_RUNNING');
      await first.stop();
      const { redis, keys } = intruder;
      const hash = keys.registry.tasks;
      const record = JSON.parse((await redis.hget(hash, 'f1/t1')) ?? '{}') as object;
      const evil = {
        ...record,
        taskId: 'evil',
        launchId: 'evil',
        unheard: true,
        state: 'TASK_STAGING',
      };
      await redis.hset(hash, 'f1/evil', JSON.stringify(evil));
      const second = await cluster.startMaster('m2');
      const bad = await second.lines.first(({ event }) => event === 'registry.bad-record');
      expect(bad.fields['key']).toBe('f1/evil');
      await until(async () => (await redis.hexists(hash, 'f1/evil')) === 0);
      // It has gone through a recovery; what really runs is known again by its agent.
      await until(async () => (await redis.hexists(hash, 'f1/t1')) === 1);
      expect(agent.countOf('RunTask')).toBe(1);
    });

    test('with another key than the last one believes nothing of it', async () => {
      const first = await cluster.startMaster('m1');
      await startAgent(await agentToken());
      await cluster.event('agent.registered');
      await first.stop();
      const second = await cluster.startMaster('m2', Buffer.alloc(32, 9));
      const bad = await second.lines.first(
        ({ event, fields }) => event === 'registry.bad-record' && fields['registry'] === 'agents',
      );
      expect(bad.fields['error']).toContain('not sealed with the cluster key');
    });
  });

  describe('principals in Redis', () => {
    test('that somebody adds without the key count nothing, and are told', async () => {
      const { redis, keys } = intruder;
      const name = 'evil';
      const acts = [{ number: 1, type: 'created', by: 'root@desk', atMs: 1 }];
      const record = { name, kind: 'admin', generation: 1, createdAtMs: 1, acts };
      await redis.hset(keys.principals, name, `${'A'.repeat(43)} ${JSON.stringify(record)}`);
      await redis.incr(keys.principalChanges);
      await cluster.startMaster('m1');
      await cluster.event('principal.forged');
      const key = keyOf(CLUSTER_KEY, name, 1);
      // Nobody without the cluster key has this one; with a record it would have been let in.
      await inject(await entry(GONE), key, name);
      expect(await refusal('token-unknown')).toMatchObject({ principal: name });
    });

    test('that are lost, or are older ones again, come back from a master that has seen them', async () => {
      const { redis, keys } = intruder;
      await cluster.create({ name: 'op', kind: 'operator' });
      const old = (await redis.hget(keys.principals, 'op')) ?? '';
      await revokePrincipal(redis, keys, CLUSTER_KEY, { name: 'op', by: 'root@desk' });
      const newest = await redis.hget(keys.principals, 'op');
      await cluster.startMaster('m1');
      await cluster.event('principal.revoked');
      for (const found of [old, '']) {
        if (found === '') await redis.hdel(keys.principals, 'op');
        else await redis.hset(keys.principals, 'op', found);
        await redis.incr(keys.principalChanges);
        await until(async () => (await redis.hget(keys.principals, 'op')) === newest);
      }
    });
  });

  test('lets an operator do what it may, and the log has who it was', async () => {
    await cluster.startMaster('m1');
    const agent = await startAgent(await agentToken());
    const framework = await startFramework(await frameworkToken());
    framework.driver.launchTasks((await framework.offered()).offerId, [taskInfo('t1')]);
    await agent.received('RunTask');
    const op = await cluster.store(await cluster.create({ name: 'op', kind: 'operator' }));
    const kill: Message = {
      type: 'KillTask',
      frameworkId: frameworkIdOf('f1'),
      taskId: taskIdOf('t1'),
      by: 'operator',
    };
    await op.append(await entry(kill));
    await agent.received('KillTask');
    expect(await cluster.event('task.kill-requested')).toMatchObject({ principal: 'op' });
  });
});
