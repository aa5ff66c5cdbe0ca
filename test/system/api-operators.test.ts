/** What operators do by HTTP to agents, and ask of the leader; offer constraints and a whitelist on a real master. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { silentLog } from '../../io/log.ts';
import { RedisStore } from '../../io/redis-store.ts';
import { bedReason } from '../beds/available.ts';
import { KAON, startCommand, until } from '../beds/cluster.ts';
import type { Running } from '../beds/cluster.ts';
import { startRedisBed, type RedisBed } from '../beds/redis.ts';
import { askApi, errorCodeOf, type AskOptions } from '../support/api-client.ts';
import { amount, taskInfo } from '../support/builders.ts';
import { startScriptedAgent } from '../support/scripted-agent.ts';
import { startScriptedFramework, type ScriptedFramework } from '../support/scripted-framework.ts';

const TIMEOUT_MS = 120_000;
const reason = bedReason('redis');
const suite = reason === undefined ? describe : describe.skip;

suite(reason === undefined ? 'operators by HTTP' : `operators by HTTP (skipped: ${reason})`, () => {
  let redis: RedisBed;
  let master: Running;
  let url: string;
  let directory: string;
  const settings = (): string => join(directory, 'master.toml');
  const stops: (() => Promise<unknown>)[] = [];

  beforeAll(async () => {
    redis = await startRedisBed();
    directory = mkdtempSync(join(tmpdir(), 'kaon-operators-'));
    writeFileSync(settings(), 'lease = "2s"\nwhitelist = "a*"\n');
    const argv = ['master', '--listen', '0', '--config', settings()];
    const environment = { KAON_REDIS: redis.url, KAON_CLUSTER: 'c' };
    master = startCommand([process.execPath, KAON, ...argv], environment);
    await master.seen('api.listening');
    url = /api\.listening url=(\S+)/.exec(master.printed())?.[1] ?? '';
    for (const [agentId, rack] of [
      ['a1', 'x'],
      ['a2', 'y'],
      ['b1', 'x'],
    ] as const) {
      const store = open(agentId);
      const agent = startScriptedAgent(store, agentId, { info: { attributes: { rack } } });
      stops.push(() => agent.stop());
    }
    await until(async () => {
      const { body } = await ask('/v1/agents');
      return (body?.['agents'] as object[] | undefined)?.length === 3;
    });
  }, TIMEOUT_MS);
  afterAll(async () => {
    for (const stop of stops) await stop();
    master.child.kill('SIGKILL');
    await master.ended;
    await redis.stop();
    rmSync(directory, { recursive: true });
  }, TIMEOUT_MS);

  function open(name: string): RedisStore {
    const store = new RedisStore({ url: redis.url, cluster: 'c', log: silentLog, name });
    stops.push(() => store.close());
    return store;
  }
  const ask = (path: string, options?: AskOptions): ReturnType<typeof askApi> =>
    askApi(`${url}${path}`, options);
  const act = async (path: string, body?: object): Promise<string> => {
    const options = body ? { body: JSON.stringify(body) } : {};
    const reply = await ask(path, { method: 'POST', ...options });
    return `${String(reply.status)} ${String(reply.body?.['result'] ?? errorCodeOf(reply))}`;
  };
  /** `AGENT code` of each agent, and how many units fit. */
  const explained = async (need: object): Promise<unknown> => {
    const reply = await ask('/v1/explain', {
      method: 'POST',
      body: JSON.stringify({ resources: { cpuMillis: 1000, memMib: 1024 }, ...need }),
    });
    expect(reply.status).toBe(200);
    const agents = reply.body?.['agents'] as { agentId: string; code: string }[];
    return [
      reply.body?.['fits'],
      ...agents.map(({ agentId, code }) => `${agentId} ${code}`).sort(),
    ];
  };

  test('what would fit is told agent by agent, also of one that is not on the whitelist', async () => {
    expect(await explained({})).toEqual([8, 'a1 free', 'a2 free', 'b1 not-whitelisted']);
    expect(await explained({ attributes: { rack: 'y' } })).toEqual([
      4,
      'a1 attribute',
      'a2 free',
      'b1 not-whitelisted',
    ]);
    expect(await act('/v1/explain', { resources: { cpuMillis: 0, memMib: 0 } })).toBe(
      '400 bad-body',
    );
    expect(await act('/v1/explain', { cpus: 1 })).toBe('400 bad-body');
  });

  test('an agent is drained and undrained, deactivated and reactivated', async () => {
    expect(await act('/v1/agents/a1/drain', { in: '0s', deadline: '10m' })).toBe(
      '200 drain-requested',
    );
    expect(await act('/v1/agents/a2/deactivate')).toBe('200 deactivated');
    expect(await explained({})).toEqual([0, 'a1 drained', 'a2 deactivated', 'b1 not-whitelisted']);
    const { body } = await ask('/v1/agents/a2');
    expect(body?.['deactivatedAtMs']).toBeGreaterThan(0);
    expect(await act('/v1/agents/a1/undrain')).toBe('200 undrained');
    expect(await act('/v1/agents/a2/reactivate')).toBe('200 reactivated');
    expect(await explained({})).toEqual([8, 'a1 free', 'a2 free', 'b1 not-whitelisted']);
  });

  test(
    'a master that reads its settings again takes up another whitelist, and another smallest offer',
    async () => {
      const reload = async (text: string, expected: readonly unknown[]): Promise<void> => {
        writeFileSync(settings(), `lease = "2s"\n${text}`);
        master.child.kill('SIGHUP');
        let found: unknown;
        await until(async () => {
          found = await explained({});
          return JSON.stringify(found) === JSON.stringify(expected);
        });
        expect(found).toEqual(expected);
      };
      await reload('', [12, 'a1 free', 'a2 free', 'b1 free']);
      await reload('whitelist = "a1,b*"', [8, 'a1 free', 'a2 not-whitelisted', 'b1 free']);
      await reload('minimum-offer = { cpus = 1, mem = "64G" }', [
        ...[0, 'a1 too-small', 'a2 too-small', 'b1 too-small'],
      ]);
      await reload('whitelist = "a*"', [8, 'a1 free', 'a2 free', 'b1 not-whitelisted']);
    },
    TIMEOUT_MS,
  );

  test.each<[string, object | undefined, string]>([
    ['/v1/agents/a1/undrain', undefined, '409 drain-refused'],
    ['/v1/agents/a1/reactivate', undefined, '409 deactivation-refused'],
    ['/v1/agents/a9/drain', undefined, '404 not-found'],
    ['/v1/agents/a1/drain', { in: 'soon' }, '400 bad-body'],
    ['/v1/agents/a1/drain', { deadline: '99999999h' }, '400 bad-body'],
    ['/v1/agents/a1/deactivate', { force: true }, '400 bad-body'],
    ['/v1/roles/eng/prod', { weight: 2 }, '200 updated'],
    ['/v1/roles/eng/..x', { weight: 0 }, '400 bad-body'],
  ])('POST %s with %j is answered with %s', async (path, body, answer) => {
    expect(await act(path, body)).toBe(answer);
  });

  describe('with a framework', () => {
    let framework: ScriptedFramework;
    beforeAll(async () => {
      framework = await startScriptedFramework(open('framework'), {
        name: 'shop',
        offerConstraints: { '*': [[{ attribute: 'rack', predicate: 'matches', pattern: 'x*' }]] },
      });
      stops.unshift(() => framework.stop());
      await framework.called('registered');
    }, TIMEOUT_MS);

    test(
      'why it is not offered an agent, and what is known of its task, are told by id and by name',
      async () => {
        const { driver } = framework;
        const offer = await framework.offered(({ agentId }) => agentId === 'a1');
        driver.requestResources([{ resources: amount(1, 128), attributes: { rack: 'y' } }]);
        driver.launchTasks(offer.offerId, [taskInfo('t1', { name: 'web' })]);
        await until(async () => (await ask(`/v1/tasks/${driver.frameworkId}/t1`)).status === 200);
        for (const path of ['/v1/why/t1', '/v1/why/web', `/v1/why/${driver.frameworkId}/t1`]) {
          expect(await ask(path)).toMatchObject({
            status: 200,
            body: { taskId: 't1', agentId: 'a1', state: 'TASK_STAGING' },
          });
        }
        for (const id of ['shop', driver.frameworkId]) {
          const { body } = await ask(`/v1/why/${id}`);
          expect(body?.['needs']).toMatchObject([{ counts: { constraint: 1 }, fits: 0 }]);
        }
        expect((await ask('/v1/why/nosuch')).status).toBe(404);
        expect((await ask('/v1/why/f/t9')).status).toBe(404);
      },
      TIMEOUT_MS,
    );

    test(
      'its constraints may change, and let it be offered what they have kept from it',
      async () => {
        framework.driver.setOfferConstraints({
          '*': [[{ attribute: 'rack', predicate: 'notEquals', value: 'x' }]],
        });
        expect(await framework.offered(({ agentId }) => agentId === 'a2')).toMatchObject({
          attributes: { rack: 'y' },
        });
      },
      TIMEOUT_MS,
    );
  });
});
