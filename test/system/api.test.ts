/** The HTTP API of masters as real processes: who may ask what, what a kill does, and what bad clients can do: nothing. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { silentLog } from '../../io/log.ts';
import type { NewPrincipal } from '../../io/principals.ts';
import { addPrincipal, revokePrincipal } from '../../io/principals.ts';
import { RedisStore } from '../../io/redis-store.ts';
import { makeToken, parseToken } from '../../io/tokens.ts';
import { bedReason } from '../beds/available.ts';
import { KAON, startClusterBed, startCommand, until } from '../beds/cluster.ts';
import type { ClusterBed, Running } from '../beds/cluster.ts';
import { startRedisBed, type RedisBed } from '../beds/redis.ts';
import { askApi, errorCodeOf, sendRaw, type AskOptions } from '../support/api-client.ts';
import { taskInfo } from '../support/builders.ts';
import { withoutWaiting } from '../support/kaon-words.ts';
import { startScriptedAgent, type ScriptedAgent } from '../support/scripted-agent.ts';
import { startScriptedFramework, type ScriptedFramework } from '../support/scripted-framework.ts';

const TIMEOUT_MS = 120_000;
/** Far longer than any test: who leads does not lose it because the machine stands still. */
const LEASE = '10m';
const reason = bedReason('redis');
const suite = reason === undefined ? describe : describe.skip;
const suffix = reason === undefined ? '' : ` (${reason})`;

interface ApiMaster {
  readonly url: string;
  readonly running: Running;
}

/** A master with an API on a free port, as soon as it listens. */
async function startMaster(
  redis: string,
  environment: Record<string, string> = {},
  ...args: string[]
): Promise<ApiMaster> {
  const running = startCommand(
    [process.execPath, KAON, 'master', '--listen', '0', '--lease', LEASE, ...args],
    { KAON_REDIS: redis, KAON_CLUSTER: 'c', ...environment },
  );
  await running.seen('api.listening');
  const url = /api\.listening url=(\S+)/.exec(running.printed())?.[1] ?? '';
  await until(async () => (await askApi(`${url}/healthz`)).status === 200);
  return { url, running };
}

async function end({ running }: ApiMaster): Promise<void> {
  running.child.kill('SIGKILL');
  await running.ended;
}

/** Until the master itself says that it leads: others see its lease before it has begun. */
async function untilLeading(url: string): Promise<void> {
  await until(async () => (await askApi(`${url}/healthz`)).body?.['state'] === 'leading');
}

suite(`the API of a master in an open cluster${suffix}`, () => {
  let redis: RedisBed;
  let master: ApiMaster;
  beforeAll(async () => {
    redis = await startRedisBed();
    master = await startMaster(redis.url);
    await untilLeading(master.url);
  }, TIMEOUT_MS);
  afterAll(async () => {
    await end(master);
    await redis.stop();
  });
  const ask = (path: string, options?: AskOptions): ReturnType<typeof askApi> =>
    askApi(`${master.url}${path}`, options);

  test('listens on the loopback alone, and asks nobody for a token', async () => {
    expect(master.url).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/);
    expect(await ask('/v1/whoami')).toMatchObject({
      status: 200,
      body: { name: 'http', kind: null },
    });
  });

  test(
    'says what the commands say',
    async () => {
      const environment = { KAON_REDIS: redis.url, KAON_CLUSTER: 'c' };
      const said = await startCommand([process.execPath, KAON, 'status', '--json'], environment)
        .ended;
      const { leader: _one, ...expected } = JSON.parse(said.stdout) as Record<string, unknown>;
      const { leader: _other, ...answered } = (await ask('/v1/status')).body ?? {};
      expect(answered).toEqual(expected);
    },
    TIMEOUT_MS,
  );

  test.each([
    ['/v1/agents', { agents: [], unreadable: 0 }],
    ['/v1/frameworks', { frameworks: [], unreadable: 0 }],
    ['/v1/offers', { offers: [], unreadable: 0 }],
    ['/v1/tasks?state=running,TASK_FAILED', { tasks: [], isMore: false, unreadable: 0 }],
    ['/v1/leader', { answeredBy: { state: 'leading' } }],
  ])('%s is %j', async (path, body) => {
    expect(await ask(path)).toMatchObject({ status: 200, body });
  });

  test('events are told from a place on, without a gap and none twice', async () => {
    const all = (await ask('/v1/events?limit=5000')).body?.['events'] as { id: string }[];
    const first = (await ask('/v1/events?after=0-0&limit=1')).body;
    const rest = (await ask(`/v1/events?after=${String(first?.['next'])}`)).body;
    expect([...(first?.['events'] as []), ...(rest?.['events'] as [])]).toEqual(all);
    expect(all.length).toBeGreaterThan(0);
    expect(rest?.['next']).toBe(all.at(-1)?.id);
  });

  test('every answer forbids to keep it, to guess what it is, and to read it from elsewhere', async () => {
    for (const path of ['/healthz', '/nowhere', '/v1/tasks?x=1']) {
      const { headers } = await ask(path, { headers: { Origin: 'http://evil.example' } });
      expect(headers).toMatchObject({
        'content-type': 'application/json; charset=utf-8',
        'cache-control': 'no-store',
        'x-content-type-options': 'nosniff',
      });
      expect(Object.keys(headers).filter((name) => name.startsWith('access-control'))).toEqual([]);
    }
  });

  test.each<[string, string, AskOptions, number, string | undefined]>([
    ['nothing there', '/v2/tasks', {}, 404, 'no-such-path'],
    ['another method', '/v1/tasks', { method: 'PUT' }, 405, 'method-not-allowed'],
    ['a preflight', '/v1/tasks', { method: 'OPTIONS' }, 405, 'method-not-allowed'],
    ['no JSON wanted', '/v1/tasks', { headers: { Accept: 'text/html' } }, 406, 'only-json'],
    ['another host', '/v1/tasks', { headers: { Host: 'evil.example' } }, 421, 'wrong-host'],
    ['an unknown agent', '/v1/agents/__proto__', {}, 404, 'not-found'],
    ['an unknown task', '/v1/tasks/f/constructor', {}, 404, 'not-found'],
    ['a bad parameter', '/v1/tasks?limit=1e3', {}, 400, 'bad-parameter'],
    ['traversal', '/v1/agents/..%2f..%2fetc', {}, 400, 'bad-request'],
    [
      'a web page',
      '/v1/tasks/f/t/kill',
      { method: 'POST', headers: { Origin: 'http://127.0.0.1' } },
      403,
      'browser-refused',
    ],
    [
      'a form',
      '/v1/tasks/f/t/kill',
      { method: 'POST', body: 'a=1', headers: { 'Content-Type': 'text/plain' } },
      415,
      'not-json',
    ],
    ['no JSON sent', '/v1/tasks/f/t/kill', { method: 'POST', body: '{' }, 400, 'bad-json'],
    [
      'a prototype',
      '/v1/tasks/f/t/kill',
      { method: 'POST', body: '{"__proto__":{"x":1}}' },
      400,
      'bad-body',
    ],
    [
      'an unknown field',
      '/v1/tasks/f/t/kill',
      { method: 'POST', body: '{"grace":"5s"}' },
      400,
      'bad-body',
    ],
    [
      'an endless grace period',
      '/v1/tasks/f/t/kill',
      { method: 'POST', body: '{"gracePeriod":"9h"}' },
      400,
      'bad-body',
    ],
    ['a list', '/v1/tasks/f/t/kill', { method: 'POST', body: '[]' }, 400, 'bad-body'],
    [
      'an oversized body',
      '/v1/tasks/f/t/kill',
      { method: 'POST', body: `"${'x'.repeat(65_600)}"` },
      413,
      'body-too-large',
    ],
    ['an unknown task to kill', '/v1/tasks/f/t/kill', { method: 'POST' }, 404, 'not-found'],
    ['an unknown agent to give up', '/v1/agents/a/gone', { method: 'POST' }, 404, 'not-found'],
  ])('%s is refused', async (_what, path, options, status, code) => {
    const reply = await ask(path, options);
    expect([reply.status, errorCodeOf(reply)]).toEqual([status, code]);
    expect(reply.text).not.toMatch(/at .*\.(?:js|ts)|node_modules/);
  });

  test('HEAD is GET without its body', async () => {
    const reply = await ask('/v1/tasks', { method: 'HEAD' });
    expect([reply.status, reply.text]).toEqual([200, '']);
    expect(Number(reply.headers['content-length'])).toBeGreaterThan(0);
  });

  test.each([
    [
      'a line of headers too many',
      `GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ${'a'.repeat(9000)}\r\n\r\n`,
      431,
    ],
    ['no HTTP', 'SSH-2.0-OpenSSH_9.6\r\n\r\n', 400],
    ['no host', 'GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n', 400],
    [
      'an injected header',
      'GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: a\rSet-Cookie: b\r\n\r\n',
      400,
    ],
    [
      'two lengths',
      'POST /v1/tasks/f/t/kill HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}',
      400,
    ],
    [
      'a length and chunks',
      'POST /v1/tasks/f/t/kill HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
      400,
    ],
    [
      'another server as target',
      'GET http://evil.example/healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n',
      400,
    ],
    ['a tunnel', 'CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: localhost\r\n\r\n', 400],
    [
      'another protocol',
      'GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n',
      400,
    ],
  ])(
    'bytes with %s are refused, and the connection ends',
    async (_what, text, status) => {
      const reply = await sendRaw(master.url, text);
      expect(reply).toMatch(new RegExp(`^HTTP/1\\.1 ${String(status)} `));
      expect(reply).not.toMatch(/^Set-Cookie/m);
    },
    TIMEOUT_MS,
  );

  test(
    'a client that is slow with its headers, or its body, is cut off, and others are served meanwhile',
    async () => {
      const headers = sendRaw(master.url, 'GET /healthz HTTP/1.1\r\nHost: loc');
      const body = sendRaw(
        master.url,
        'POST /v1/tasks/f/t/kill HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{',
      );
      expect((await ask('/healthz')).status).toBe(200);
      expect(await headers).toMatch(/^HTTP\/1\.1 408 /);
      expect(await body).toMatch(/^HTTP\/1\.1 408 /);
    },
    TIMEOUT_MS,
  );

  test(
    'reserves something of an agent and gives it back, or says why not',
    async () => {
      const store = new RedisStore({
        ...{ url: redis.url, cluster: 'c', log: silentLog, name: 'agent' },
      });
      const agent = startScriptedAgent(store, 'a7');
      await agent.received('AgentRegistered');
      const post = (path: string, json: unknown): ReturnType<typeof askApi> =>
        ask(`/v1/agents/a7/${path}`, { method: 'POST', body: JSON.stringify(json) });
      const resources = { cpuMillis: 1000, memMib: 512 };
      const made = await post('reserve', { role: 'eng', resources, labels: { team: 'search' } });
      expect(made).toMatchObject({ status: 200, body: { result: 'reserved' } });
      const { body } = await ask('/v1/reservations');
      const rows = body?.['reservations'] as { reservationId: string }[];
      expect(rows).toMatchObject([
        { agentId: 'a7', role: 'eng', resources, labels: { team: 'search' }, isStatic: false },
      ]);
      const tooMuch = await post('reserve', {
        role: 'eng',
        resources: { ...resources, memMib: 9e5 },
      });
      expect([tooMuch.status, errorCodeOf(tooMuch)]).toEqual([409, 'reservation-refused']);
      const { reservationId } = rows[0] ?? {};
      const wrong = await post('unreserve', { reservationId, destroy: 'yes' });
      expect(wrong.status).toBe(400);
      const ended = await post('unreserve', { reservationId, destroy: true });
      expect(ended).toMatchObject({ status: 200, body: { result: 'unreserved' } });
      await agent.stop();
      await store.close();
    },
    TIMEOUT_MS,
  );
});

suite(`a master with an API${suffix}`, () => {
  let redis: RedisBed;
  let masters: ApiMaster[];
  beforeEach(async () => {
    redis = await startRedisBed();
    masters = [];
  });
  afterEach(async () => {
    await Promise.all(masters.map(end));
    await redis.stop();
  });

  test(
    'answers while it stands by, and says so; and leads when the leader has died',
    async () => {
      masters.push(await startMaster(redis.url));
      await untilLeading(masters[0]?.url ?? '');
      const standby = await startMaster(redis.url);
      masters.push(standby);
      expect((await askApi(`${standby.url}/healthz`)).body).toEqual({
        status: 'ok',
        state: 'standing by',
      });
      expect((await askApi(`${standby.url}/v1/leader`)).body).toMatchObject({
        answeredBy: { state: 'standing by' },
      });
      masters[0]?.running.child.kill('SIGKILL');
      await untilLeading(standby.url);
    },
    TIMEOUT_MS,
  );

  test(
    'says that Redis is away, and serves again when it is back',
    async () => {
      const master = await startMaster(redis.url);
      masters.push(master);
      await redis.kill();
      await until(async () => (await askApi(`${master.url}/healthz`)).status === 503);
      const reply = await askApi(`${master.url}/v1/tasks`);
      expect([reply.status, errorCodeOf(reply)]).toEqual([503, 'redis-unreachable']);
      await redis.restart();
      await until(async () => (await askApi(`${master.url}/healthz`)).status === 200);
    },
    TIMEOUT_MS,
  );

  test(
    'ends cleanly whatever its clients are doing',
    async () => {
      const master = await startMaster(redis.url);
      const { hostname, port } = new URL(master.url);
      const hanging = connect({ host: hostname, port: Number(port) });
      hanging.on('error', () => undefined); // `close` follows.
      const isClosed = new Promise((done) => hanging.once('close', done));
      const isAnswered = new Promise((done) => hanging.once('data', done));
      // A whole request and half of another: with the answer to the first the master is known to have both.
      hanging.write('GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /heal');
      await isAnswered;
      master.running.child.kill('SIGTERM');
      expect((await master.running.ended).exitCode).toBe(0);
      await isClosed;
    },
    TIMEOUT_MS,
  );

  test(
    'ends at once, with words, where it may not or cannot listen',
    async () => {
      const taken = createServer();
      await new Promise<void>((done) => taken.listen(0, '127.0.0.1', done));
      const { port } = taken.address() as AddressInfo;
      const outcome = async (listen: string): Promise<[number | null, string]> => {
        const argv = [process.execPath, KAON, 'master', '--listen', listen];
        const { exitCode, stderr } = await startCommand(argv, { KAON_REDIS: redis.url }).ended;
        return [exitCode, stderr];
      };
      try {
        expect(await outcome(String(port))).toEqual([
          78,
          expect.stringContaining(
            `cannot listen on 127.0.0.1:${String(port)}: another process listens there\nhint: ss`,
          ),
        ]);
        expect(await outcome('0.0.0.0:0')).toEqual([
          78,
          expect.stringContaining('the API would listen on 0.0.0.0 without TLS'),
        ]);
      } finally {
        await new Promise((done) => taken.close(done));
      }
    },
    TIMEOUT_MS,
  );
});

suite(`the API of a master in a secured cluster${suffix}`, () => {
  const clusterKey = randomBytes(32);
  let directory: string;
  let redis: RedisBed;
  let master: ApiMaster;
  let store: RedisStore;
  const clients: { stop(): Promise<void> }[] = [];
  const tokens: Record<string, string> = {};

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'kaon-api-'));
    const path = join(directory, 'cluster-key');
    writeFileSync(path, clusterKey.toString('hex'), { mode: 0o600 });
    redis = await startRedisBed();
    store = new RedisStore({ url: redis.url, cluster: 'c', log: silentLog, name: 'test' });
    for (const kind of ['viewer', 'operator', 'admin', 'agent'] as const)
      await create(kind, { kind });
    master = await startMaster(redis.url, { KAON_CLUSTER_KEY_FILE: path });
    await untilLeading(master.url);
  }, TIMEOUT_MS);
  afterAll(async () => {
    for (const client of clients) await client.stop();
    await end(master);
    await store.close();
    await redis.stop();
    rmSync(directory, { recursive: true });
  }, TIMEOUT_MS);

  async function create(
    name: string,
    more: Pick<NewPrincipal, 'kind'> & Partial<NewPrincipal>,
  ): Promise<void> {
    const agent = more.kind === 'agent' ? { agentId: 'a1' as never } : {};
    const made = await addPrincipal(store.redis, store.keys, clusterKey, {
      name,
      by: 'test',
      ...agent,
      ...more,
    });
    tokens[name] = makeToken(clusterKey, name, made.generation);
  }
  const ask = (path: string, options?: AskOptions): ReturnType<typeof askApi> =>
    askApi(`${master.url}${path}`, options);

  test('tells anybody that it lives, and nothing else', async () => {
    expect(await ask('/healthz')).toMatchObject({ status: 200, body: { state: 'leading' } });
    for (const path of ['/v1/leader', '/v1/status', '/v1/tasks', '/v1/whoami']) {
      const reply = await ask(path);
      expect([reply.status, errorCodeOf(reply)]).toEqual([401, 'unauthenticated']);
      expect(reply.headers['www-authenticate']).toBe('Bearer realm="kaon"');
    }
  });

  test('knows who asks', async () => {
    const { body } = await ask('/v1/whoami', { token: tokens['operator'] ?? '' });
    expect(body).toEqual({ name: 'operator', kind: 'operator' });
  });

  test.each<[string, () => Record<string, string>, string]>([
    ['no token at all', () => ({ Authorization: 'Bearer x' }), 'token-forged'],
    [
      'a token of another cluster',
      () => ({ Authorization: `Bearer ${makeToken(randomBytes(32), 'admin', 1)}` }),
      'token-forged',
    ],
    [
      'a token of nobody',
      () => ({ Authorization: `Bearer ${makeToken(clusterKey, 'nobody', 1)}` }),
      'token-unknown',
    ],
    [
      'an older token',
      () => ({ Authorization: `Bearer ${makeToken(clusterKey, 'admin', 1)}` }),
      'token-rotated',
    ],
    [
      'a cut token',
      () => ({ Authorization: `Bearer ${(tokens['admin'] ?? '').slice(0, -1)}` }),
      'token-forged',
    ],
    [
      'another scheme',
      () => ({ Authorization: `Basic ${tokens['admin'] ?? ''}` }),
      'unauthenticated',
    ],
  ])('refuses %s', async (_what, headers, code) => {
    const reply = await ask('/v1/tasks', { headers: headers() });
    expect([reply.status, errorCodeOf(reply)]).toEqual([401, code]);
    expect(reply.text).not.toContain((tokens['admin'] ?? '').slice(-43));
  });

  test('a token that is revoked is refused from then on', async () => {
    await create('brief', { kind: 'viewer' });
    const token = tokens['brief'] ?? '';
    expect((await ask('/v1/leader', { token })).status).toBe(200);
    await revokePrincipal(store.redis, store.keys, clusterKey, { name: 'brief', by: 'test' });
    const reply = await ask('/v1/leader', { token });
    expect([reply.status, errorCodeOf(reply)]).toEqual([401, 'token-revoked']);
  });

  test('a viewer changes nothing, and an agent does not even read', async () => {
    const kill = await ask('/v1/tasks/f/t/kill', { method: 'POST', token: tokens['viewer'] ?? '' });
    expect([kill.status, errorCodeOf(kill)]).toEqual([403, 'forbidden']);
    expect(kill.text).toContain(
      'token viewer is of kind viewer, which may not change anything here',
    );
    expect((await ask('/v1/tasks', { token: tokens['agent'] ?? '' })).status).toBe(403);
  });

  test(
    'an operator deactivates an agent and asks what fits, in his name; a viewer may do neither',
    async () => {
      const { framework } = await startTask('t0');
      const token = tokens['operator'] ?? '';
      const post = (path: string, by: string, body = ''): ReturnType<typeof askApi> =>
        ask(path, { method: 'POST', token: by, ...(body !== '' && { body }) });
      for (const [action, type] of [
        ['deactivate', 'agent.deactivated'],
        ['reactivate', 'agent.reactivated'],
        ['drain', 'agent.drain-requested'],
        ['undrain', 'agent.undrained'],
      ] as const) {
        expect(await post(`/v1/agents/a1/${action}`, token)).toMatchObject({
          status: 200,
          body: { event: { type, agentId: 'a1', principal: 'operator' } },
        });
        expect((await post(`/v1/agents/a1/${action}`, tokens['viewer'] ?? '')).status).toBe(403);
      }
      const need = '{"resources":{"cpuMillis":1000,"memMib":64}}';
      expect((await post('/v1/explain', token, need)).status).toBe(200);
      expect((await post('/v1/explain', tokens['viewer'] ?? '', need)).status).toBe(403);
      const path = `/v1/why/${framework.driver.frameworkId}/t0`;
      expect((await ask(path, { token })).body).toMatchObject({ taskId: 't0', agentId: 'a1' });
      expect((await ask(path, { token: tokens['viewer'] ?? '' })).status).toBe(403);
      await forgetRescinded(framework, token);
    },
    TIMEOUT_MS,
  );

  test(
    'what an operator kills is killed, in his name',
    async () => {
      const { agent, framework } = await startTask('t1');
      const path = `/v1/tasks/${framework.driver.frameworkId}/t1`;
      const token = tokens['operator'] ?? '';
      const reply = await ask(`${path}/kill`, {
        method: 'POST',
        token,
        body: '{"gracePeriod":"2s"}',
      });
      expect(reply).toMatchObject({
        status: 200,
        body: {
          result: 'kill-requested',
          event: { type: 'task.kill-requested', taskId: 't1', principal: 'operator' },
        },
      });
      expect(await agent.received('KillTask')).toMatchObject({
        taskId: 't1',
        by: 'operator',
        gracePeriodMs: 2000,
      });
      agent.say(framework.driver.frameworkId, 't1', 'TASK_KILLED');
      await framework.updated('t1', 'TASK_KILLED');
      await until(async () => (await ask(path, { token })).body?.['ended'] === true);
      const again = await ask(`${path}/kill`, { method: 'POST', token });
      expect(again.body).toMatchObject({ result: 'had-ended', task: { state: 'TASK_KILLED' } });
    },
    TIMEOUT_MS,
  );

  test(
    'an agent that is active is given up only if somebody insists, and the event says who',
    async () => {
      const token = tokens['admin'] ?? '';
      const { agent } = await startTask('t2');
      const refused = await ask('/v1/agents/a1/gone', { method: 'POST', token });
      expect([refused.status, errorCodeOf(refused)]).toEqual([409, 'agent-active']);
      // It would register again as soon as it is given up.
      clients.splice(clients.indexOf(agent), 1);
      await agent.stop();
      const done = await ask('/v1/agents/a1/gone', {
        method: 'POST',
        token,
        body: '{"force":true}',
      });
      expect(done).toMatchObject({ status: 200, body: { result: 'gone', agentId: 'a1' } });
      expect(done.body?.['ended']).toContainEqual(expect.objectContaining({ taskId: 't2' }));
      const events = (await ask('/v1/events?limit=50', { token })).body?.['events'];
      expect(events).toContainEqual(expect.objectContaining({ agentId: 'a1', principal: 'admin' }));
      const again = await ask('/v1/agents/a1/gone', { method: 'POST', token });
      expect(again.body).toMatchObject({ result: 'was-gone' });
    },
    TIMEOUT_MS,
  );

  let running: { agent: ScriptedAgent; framework: ScriptedFramework } | undefined;
  const usedOffers = new Set<string>();

  /** Offers that were made before the one that is out are not to be launched on. */
  async function forgetRescinded(framework: ScriptedFramework, token: string): Promise<void> {
    let out: string | undefined;
    await until(async () => {
      const { body } = await ask('/v1/offers', { token });
      out = (body?.['offers'] as { offerId: string }[])[0]?.offerId;
      return out !== undefined;
    });
    await framework.offered(({ offerId }) => offerId === out);
    for (const callback of framework.callbacks.seen) {
      if (callback.name === 'offer') usedOffers.add(callback.offer.offerId);
    }
    usedOffers.delete(out ?? '');
  }

  /** A task that runs on agent `a1`, of a framework whose master is the one under test. */
  async function startTask(taskId: string): Promise<NonNullable<typeof running>> {
    running ??= await startClients();
    const { agent, framework } = running;
    const isOut = (offerId: string): boolean =>
      !framework.callbacks.seen.some(
        (callback) => callback.name === 'offerRescinded' && callback.what === offerId,
      );
    const offer = await framework.offered(
      ({ offerId }) => !usedOffers.has(offerId) && isOut(offerId),
    );
    usedOffers.add(offer.offerId);
    framework.driver.launchTasks(offer.offerId, [taskInfo(taskId)]);
    await agent.received('RunTask', ({ task }) => task.taskId === taskId);
    agent.say(framework.driver.frameworkId, taskId, 'TASK_RUNNING');
    await framework.updated(taskId, 'TASK_RUNNING');
    return running;
  }

  async function startClients(): Promise<NonNullable<typeof running>> {
    const open = (name: string): RedisStore => {
      const token = parseToken(tokens[name] ?? '');
      return new RedisStore({ url: redis.url, cluster: 'c', log: silentLog, name, token });
    };
    const agent = startScriptedAgent(open('agent'), 'a1');
    const framework = await startScriptedFramework(open('admin'), { name: 'shop' });
    clients.push(framework, agent);
    await framework.called('registered');
    return { agent, framework };
  }
});

const systemdReason = bedReason('systemd') ?? reason;
const systemdSuite = systemdReason === undefined ? describe : describe.skip;

systemdSuite(
  `a task on a real node${systemdReason === undefined ? '' : ` (${systemdReason})`}`,
  () => {
    let cluster: ClusterBed;
    let standby: ApiMaster;
    beforeAll(async () => {
      cluster = await startClusterBed(['--resources', 'cpus=2,mem=1G']);
      standby = await startMaster(cluster.redis, { KAON_CLUSTER: 'default' });
    }, 180_000);
    afterAll(async () => {
      await end(standby);
      await cluster.stop();
    }, 120_000);

    test(
      'is seen and killed by the API of a master that stands by',
      async () => {
        const nap = ['run', '--detach', '--name', 'nap', '--', 'sleep', '600'];
        const started = await cluster.kaon(...nap);
        expect([started.exitCode, withoutWaiting(started.stderr)]).toEqual([0, '']);
        const id = started.stdout.trim();
        const { url } = standby;
        const find = async (query: string): Promise<Record<string, unknown> | undefined> => {
          const { body } = await askApi(`${url}/v1/tasks${query}`);
          const tasks = body?.['tasks'] as Record<string, unknown>[];
          return tasks.find(({ taskId }) => id.endsWith(String(taskId)));
        };
        const { frameworkId, taskId } = (await find('?state=running,staging,starting')) ?? {};
        const path = `/v1/tasks/${String(frameworkId)}/${String(taskId)}`;
        const reply = await askApi(`${url}${path}/kill`, { method: 'POST' });
        expect(reply).toMatchObject({ status: 200, body: { result: 'kill-requested' } });
        await until(async () => (await askApi(`${url}${path}`)).body?.['ended'] === true);
        expect((await askApi(`${url}${path}`)).body).toMatchObject({
          state: 'TASK_KILLED',
          name: 'nap',
        });
        expect(await find('?state=killed&limit=10')).toBeDefined();
        expect(await find('')).toBeUndefined();
      },
      TIMEOUT_MS,
    );
  },
);
