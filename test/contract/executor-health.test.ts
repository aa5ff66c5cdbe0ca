/** Health checks of the default executor: real commands, servers and ports, in its own process. */
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer as createHttpServer, type Server } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { createServer as createTcpServer, type Server as TcpServer } from 'node:net';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import type { HealthCheck } from '../../protocol/command.ts';
import { HealthCheck as HealthCheckSchema } from '../../protocol/command.ts';
import type { ExecutorUpdate, LaunchedTask } from '../../protocol/executor-messages.ts';
import type { ExecutorProcess, FakeAgentSocket } from '../support/fake-agent-socket.ts';
import {
  buildExecutors,
  endOf,
  killTask,
  launchedCommand,
  runTask,
  startExecutor,
  startFakeAgent,
  statesOf,
} from '../support/fake-agent-socket.ts';

let dist: string;
let agent: FakeAgentSocket;
let executor: ExecutorProcess;
let servers: (Server | TcpServer)[];

beforeAll(async () => {
  dist = await mkdtemp(join(tmpdir(), 'kaon-dist-'));
  await buildExecutors(dist);
});
afterAll(() => rm(dist, { recursive: true, force: true }));

beforeEach(async () => {
  servers = [];
  agent = await startFakeAgent();
  const argv = [process.execPath, join(dist, 'default-executor.js')];
  executor = startExecutor(argv, agent.environment);
  await agent.heard.count(1);
});

afterEach(async () => {
  agent.send({ type: 'ShutdownExecutor', gracePeriodMs: 0 });
  executor.signal('SIGTERM');
  await executor.exit;
  await agent.close();
  for (const server of servers) server.close();
  expect(agent.faults).toEqual([]);
});

/** A check that is done often, and whose failures count from the first one on. */
function rulesFor(check: HealthCheck['check'], more: Partial<HealthCheck> = {}): HealthCheck {
  return HealthCheckSchema.parse({ check, intervalMs: 10, gracePeriodMs: 0, ...more });
}

/** Hands over a task that runs until it is ended. */
function runChecked(healthCheck: HealthCheck, script = 'sleep 1000'): LaunchedTask {
  const launched = launchedCommand(agent.directory, 't1', ['/bin/sh', '-c', script], {
    healthCheck,
    killGracePeriodMs: 100,
    command: { environment: { COLOUR: 'green' } },
  });
  agent.send(runTask(launched));
  return launched;
}

const healthIs = (healthy: boolean): Promise<ExecutorUpdate> =>
  agent.updates.first((update) => update.state === 'TASK_RUNNING' && update.healthy === healthy);

async function listen(server: Server | TcpServer): Promise<number> {
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}

/** A port of this node that nobody listens on. */
async function freePort(): Promise<number> {
  const server = createTcpServer();
  const port = await listen(server);
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Of nobody: made for this test, and valid for a name that is not asked for. */
const KEY = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgcKFwOXLyOSUdIuvu
P8o051pLiB/dWFs21c9m5OL/ZBqhRANCAASV0kG3SGktkmd3+npUV530ab1k54XI
i1SAmHY5jGIz1hNcLoj/BM+RGoyyn/q9TDAQP3wbtOG6LxNyQ6J4Zgrn
-----END PRIVATE KEY-----`;
const CERTIFICATE = `-----BEGIN CERTIFICATE-----
MIIBgDCCASWgAwIBAgIUYqkC5dVOBmTpbX5y+sS8RkxrPJ4wCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJa2Fvbi10ZXN0MCAXDTI2MTEyMTAxNDYxNVoYDzIxMjYxMDI4
MDE0NjE1WjAUMRIwEAYDVQQDDAlrYW9uLXRlc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAASV0kG3SGktkmd3+npUV530ab1k54XIi1SAmHY5jGIz1hNcLoj/BM+R
Goyyn/q9TDAQP3wbtOG6LxNyQ6J4Zgrno1MwUTAdBgNVHQ4EFgQUb5hFG5pEzcrm
7rEBjPTDBoeU2/QwHwYDVR0jBBgwFoAUb5hFG5pEzcrm7rEBjPTDBoeU2/QwDwYD
VR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNJADBGAiEA1YXE6ohXwg299EcO1m94
i8MXmwdKXALbk0VRU2LJ/ZQCIQDMdVbwiHtBC4HDfgs4zEDdiD/0+my6TLlSERPT
NXMZvg==
-----END CERTIFICATE-----`;

describe('a command', () => {
  const command = (script: string): HealthCheck['check'] => ({
    type: 'command',
    argv: ['/bin/sh', '-c', script],
  });

  test('that leaves with 0 makes its task healthy', async () => {
    runChecked(rulesFor(command('exit 0')));
    expect(await healthIs(true)).toMatchObject({ message: 'its health check has passed' });
  });

  test('that fails makes its task unhealthy, and ends it when it has failed too often', async () => {
    runChecked(rulesFor(command('echo first; echo no room >&2; exit 4'), { failuresMax: 3 }));
    expect(await healthIs(false)).toMatchObject({
      message: 'its health check has failed: exited with code 4: no room',
    });
    expect(await endOf(agent, 't1')).toMatchObject({
      state: 'TASK_FAILED',
      reason: 'REASON_HEALTH_CHECK_FAILED',
      message: 'killed because 3 health checks in a row failed: exited with code 4: no room',
      healthy: false,
      signal: 15,
    });
  });

  test('runs in the directory and the environment of its task', async () => {
    const script = '[ "$COLOUR $KAON_TASK_ID" = "green t1" ] && [ "$PWD" = "$KAON_SANDBOX" ]';
    runChecked(rulesFor(command(script)));
    await healthIs(true);
  });

  test('tells each change once', async () => {
    const rules = rulesFor(command('[ -e well ]'), { failuresMax: 1000, gracePeriodMs: 60_000 });
    const launched = runChecked(rules, 'touch well; sleep 1000');
    await healthIs(true);
    rmSync(join(launched.sandbox?.work ?? '', 'well'));
    await healthIs(false);
    agent.send(killTask(launched));
    await endOf(agent, 't1');
    expect(statesOf(agent, 't1')).toEqual([
      ...['TASK_RUNNING', 'TASK_RUNNING', 'TASK_RUNNING'],
      ...['TASK_KILLING', 'TASK_KILLED'],
    ]);
  });

  test('that takes too long has failed, and is ended', async () => {
    runChecked(rulesFor(command('sleep 1000'), { timeoutMs: 50, failuresMax: 1 }));
    expect(await endOf(agent, 't1')).toMatchObject({
      message: 'killed because its health check failed: no answer within 50ms',
    });
  });

  test('that is not there has failed', async () => {
    const check = { type: 'command' as const, argv: ['no-such-check'] };
    runChecked(rulesFor(check, { failuresMax: 1 }));
    expect(await endOf(agent, 't1')).toMatchObject({
      message:
        'killed because its health check failed: command "no-such-check" could not be executed (ENOENT)',
    });
  });

  test('that fails in the grace period ends nothing', async () => {
    const rules = rulesFor(command('echo >> checks; [ -e well ]'), {
      failuresMax: 1,
      gracePeriodMs: 3_600_000,
    });
    const work = runChecked(rules).sandbox?.work ?? '';
    const checks = join(work, 'checks');
    while (!existsSync(checks) || readFileSync(checks).length < 3) await delay(5);
    writeFileSync(join(work, 'well'), '');
    await healthIs(true);
    expect(statesOf(agent, 't1')).toEqual(['TASK_RUNNING', 'TASK_RUNNING']);
  });
});

describe('a request', () => {
  async function serve(statusOf: (path: string) => number): Promise<number> {
    return listen(
      createHttpServer(({ url = '' }, response) => {
        response.writeHead(statusOf(url)).end('body');
      }),
    );
  }

  test.each([200, 204, 302, 399])(
    'that is answered with %d makes its task healthy',
    async (status) => {
      const port = await serve((path) => (path === '/health?deep=1' ? status : 500));
      runChecked(rulesFor({ type: 'http', scheme: 'http', port, path: '/health?deep=1' }));
      await healthIs(true);
    },
  );

  test.each([404, 503])('that is answered with %d has failed', async (status) => {
    const port = await serve(() => status);
    runChecked(rulesFor({ type: 'http', scheme: 'http', port, path: '/' }, { failuresMax: 1 }));
    expect(await endOf(agent, 't1')).toMatchObject({
      message: `killed because its health check failed: http port ${String(port)} answered ${String(status)}`,
    });
  });

  test('that is not answered in time has failed', async () => {
    const port = await listen(createTcpServer(() => undefined));
    const rules = rulesFor(
      { type: 'http', scheme: 'http', port, path: '/' },
      { failuresMax: 1, timeoutMs: 50 },
    );
    runChecked(rules);
    expect(await endOf(agent, 't1')).toMatchObject({
      message: 'killed because its health check failed: no answer within 50ms',
    });
  });

  test('that nobody takes has failed', async () => {
    const port = await freePort();
    runChecked(rulesFor({ type: 'http', scheme: 'http', port, path: '/' }, { failuresMax: 1 }));
    expect(await endOf(agent, 't1')).toMatchObject({
      message: `killed because its health check failed: no answer from http port ${String(port)}: ECONNREFUSED`,
    });
  });

  test('over https takes any certificate', async () => {
    const server = createHttpsServer({ key: KEY, cert: CERTIFICATE }, (_request, response) => {
      response.end('well');
    });
    const port = await listen(server);
    runChecked(rulesFor({ type: 'http', scheme: 'https', port, path: '/' }));
    await healthIs(true);
  });
});

describe('a connection', () => {
  /** What this machine calls itself: some have no IPv6. */
  const own = Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .map(({ address }) => address)
    .filter((address) => ['127.0.0.1', '::1'].includes(address));

  test.each(own)('that %s accepts makes its task healthy', async (address) => {
    const server = createTcpServer((socket) => socket.end());
    servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, address, resolve));
    runChecked(rulesFor({ type: 'tcp', port: (server.address() as AddressInfo).port }));
    await healthIs(true);
  });

  test('that nobody accepts has failed', async () => {
    const port = await freePort();
    runChecked(rulesFor({ type: 'tcp', port }, { failuresMax: 2 }));
    expect(await endOf(agent, 't1')).toMatchObject({
      reason: 'REASON_HEALTH_CHECK_FAILED',
      message: `killed because 2 health checks in a row failed: no connection to port ${String(port)}: ECONNREFUSED`,
    });
  });
});

test('a group ends with a task whose health checks fail', async () => {
  const healthCheck = rulesFor({ type: 'tcp', port: await freePort() }, { failuresMax: 1 });
  const sleep = ['sleep', '1000'];
  const tasks = [
    launchedCommand(agent.directory, 't1', sleep, { healthCheck }),
    launchedCommand(agent.directory, 't2', sleep),
  ];
  agent.send({ type: 'RunTaskGroup', groupId: 'g1' as never, tasks });
  const { reason, message } = await endOf(agent, 't2');
  expect(reason).toBe('REASON_TASK_GROUP_FAILED');
  expect(message).toContain('task t1 of its group failed (killed because its health check failed');
});
