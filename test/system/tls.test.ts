/**
 * TLS as people use it: certificates made by `kaon certs`, a real Redis that speaks nothing else, and every way in which the
 * two do not fit, told in one line; then the same certificates for the API of a master.
 */
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { execFileSync, type ChildProcess } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { RedisStore } from '../../io/redis-store.ts';
import { withTlsPaths } from '../../io/redis-url.ts';
import { bedReason } from '../beds/available.ts';
import { KAON, startCommand, until, type Ended, type Running } from '../beds/cluster.ts';
import { ask, endProcess, freePorts, LOOPBACK, startRedisProcess } from '../beds/redis-process.ts';
import { askApi } from '../support/api-client.ts';
import { createWatchedLog } from '../support/watch.ts';

const TIMEOUT_MS = 120_000;
const reason = bedReason('redis-tls');
const suite = reason === undefined ? describe : describe.skip;
const suffix = reason === undefined ? '' : ` (${reason})`;

/** Of `kaon events` in a Redis that holds nothing. */
const CONNECTED = { exitCode: 0, stdout: '', stderr: 'no such events\n' };

function openssl(...args: string[]): string {
  return execFileSync('openssl', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

function runKaon(
  args: readonly string[],
  environment: Record<string, string> = {},
): Promise<Ended> {
  return startCommand([process.execPath, KAON, ...args], environment).ended;
}

/** Paths of one certificate, as the flags of Redis and of Kaon name them. */
interface Pair {
  readonly cert: string;
  readonly key: string;
}

/** Two authorities, and what they have signed; made once for all tests. */
interface Certificates {
  readonly directory: string;
  readonly ca: string;
  readonly otherCa: string;
  readonly server: Pair;
  readonly client: Pair;
  /** For localhost and 127.0.0.1 too, but ended a day ago. */
  readonly ended: Pair;
  /** For another host. */
  readonly elsewhere: Pair;
  /** Of the other authority. */
  readonly foreign: Pair;
}

async function makeCertificates(): Promise<Certificates> {
  const directory = mkdtempSync(join(tmpdir(), 'kaon-tls-'));
  const [own, other] = [join(directory, 'own'), join(directory, 'other')];
  const certs = async (...args: string[]): Promise<void> => {
    const { exitCode, stderr } = await runKaon(['certs', ...args]);
    if (exitCode !== 0) throw new Error(stderr);
  };
  for (const dir of [own, other]) await certs('init', '--dir', dir);
  const here = ['--host', 'localhost', '--ip', LOOPBACK];
  await certs('issue', 'server', '--dir', own, ...here);
  await certs('issue', 'client', '--dir', own, '--client');
  await certs('issue', 'elsewhere', '--dir', own, '--host', 'redis.example.org');
  await certs('issue', 'foreign', '--dir', other, ...here);
  const pair = (dir: string, name: string): Pair => ({
    cert: join(dir, `${name}.crt`),
    key: join(dir, `${name}.key`),
  });
  return {
    directory: own,
    ca: join(own, 'ca.crt'),
    otherCa: join(other, 'ca.crt'),
    server: pair(own, 'server'),
    client: pair(own, 'client'),
    elsewhere: pair(own, 'elsewhere'),
    foreign: pair(other, 'foreign'),
    ended: endCertificate(own, pair(own, 'server')),
  };
}

/** The same key and names in a certificate that is over. */
function endCertificate(directory: string, { key }: Pair): Pair {
  const path = join(directory, 'old');
  writeFileSync(`${path}.ext`, `subjectAltName=IP:${LOOPBACK},DNS:localhost\n`);
  openssl('req', '-new', '-key', key, '-subj', '/CN=old', '-out', `${path}.csr`);
  const authority = ['-CA', join(directory, 'ca.crt'), '-CAkey', join(directory, 'ca.key')];
  const signed = ['-days', '-1', '-set_serial', '7', '-extfile', `${path}.ext`];
  openssl('x509', '-req', '-in', `${path}.csr`, ...authority, ...signed, '-out', `${path}.pem`);
  return { cert: `${path}.pem`, key };
}

interface Server {
  readonly port: number;
  readonly child: ChildProcess;
}

/** @param argv e.g. `['--cluster-enabled', 'yes']` */
async function startTlsRedis(
  { ca, client }: Certificates,
  { cert, key }: Pair,
  { port, argv = [] }: { readonly port?: number; readonly argv?: readonly string[] } = {},
): Promise<Server> {
  const [free = 0] = port === undefined ? await freePorts(1) : [port];
  const tls = [
    ...['--port', '0', '--tls-port', String(free), '--bind', LOOPBACK, '--save', ''],
    ...['--tls-cert-file', cert, '--tls-key-file', key, '--tls-ca-cert-file', ca],
  ];
  // The bed only asks whether it is there, whatever is wrong with its certificate.
  const seen = {
    cert: readFileSync(client.cert),
    key: readFileSync(client.key),
    rejectUnauthorized: false,
  };
  const child = await startRedisProcess([...tls, ...argv], {
    host: LOOPBACK,
    port: free,
    tls: seen,
  });
  return { port: free, child };
}

suite(`kaon certs${suffix}`, () => {
  let directory: string;
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'kaon-certs-'));
  });
  afterAll(() => {
    rmSync(directory, { recursive: true });
  });
  const certs = (...args: string[]): Promise<Ended> =>
    runKaon(['certs', ...args, ...(args[0] === 'check' ? [] : ['--dir', join(directory, 'd')])]);
  const path = (name: string): string => join(directory, 'd', name);

  test(
    'makes an authority and certificates that openssl approves of, with secret keys',
    async () => {
      const made = await certs('init');
      expect(made).toMatchObject({ exitCode: 0, stderr: '' });
      expect(made.stdout).toContain('kaon certs issue redis --dir');
      const issued = await certs(
        'issue',
        'redis1',
        '--host',
        'redis1.example.org',
        '--ip',
        '10.0.0.5',
      );
      expect(issued).toMatchObject({ exitCode: 0, stderr: '' });
      expect(issued.stdout).toContain(`tls-cert-file ${path('redis1.crt')}`);
      expect(issued.stdout).toContain('redis = "rediss://redis1.example.org:6379"');
      const { stdout } = await certs('issue', 'node1', '--client', '--days', '90');
      expect(stdout).not.toContain('redis.conf');
      for (const [name, purpose] of [
        ['redis1', 'sslserver'],
        ['redis1', 'sslclient'],
        ['node1', 'sslclient'],
      ] as const) {
        const verified = openssl(
          'verify',
          '-CAfile',
          path('ca.crt'),
          '-purpose',
          purpose,
          path(`${name}.crt`),
        );
        expect(verified).toContain('OK');
      }
      for (const name of ['ca', 'redis1', 'node1']) {
        expect(statSync(path(`${name}.key`)).mode & 0o777).toBe(0o600);
        expect(openssl('x509', '-in', path(`${name}.crt`), '-noout', '-text')).toContain(
          'ASN1 OID: prime256v1',
        );
      }
      expect(
        openssl('x509', '-in', path('ca.crt'), '-noout', '-ext', 'basicConstraints'),
      ).toContain('CA:TRUE, pathlen:0');
    },
    TIMEOUT_MS,
  );

  test('does not use a client certificate for a server', () => {
    const verify = (): string =>
      openssl('verify', '-CAfile', path('ca.crt'), '-purpose', 'sslserver', path('node1.crt'));
    expect(verify).toThrow(/unsuitable certificate purpose|unsupported certificate purpose/);
  });

  test(
    'replaces nothing unless it is told to',
    async () => {
      const before = readFileSync(path('node1.crt'), 'utf8');
      for (const args of [['init'], ['issue', 'node1']]) {
        const { exitCode, stderr } = await certs(...args);
        expect([exitCode, stderr]).toEqual([
          1,
          expect.stringContaining('is there already, and was left as it is'),
        ]);
      }
      expect(readFileSync(path('node1.crt'), 'utf8')).toBe(before);
      expect((await certs('issue', 'node1', '--client', '--force')).exitCode).toBe(0);
      expect(readFileSync(path('node1.crt'), 'utf8')).not.toBe(before);
      expect(statSync(path('node1.key')).mode & 0o777).toBe(0o600);
    },
    TIMEOUT_MS,
  );

  test(
    'lists what there is, and warns before an end',
    async () => {
      await certs('issue', 'brief', '--client', '--days', '10');
      const { stdout, stderr, exitCode } = await certs('ls');
      expect(exitCode).toBe(0);
      expect(stdout).toMatch(/^ca +authority .* good$/m);
      expect(stdout).toMatch(
        /^redis1 +server, client +redis1\.example\.org, 10\.0\.0\.5 .* good$/m,
      );
      expect(stdout).toMatch(/^brief +client .* 9 +ends soon$/m);
      expect(stderr).toMatch(/^kaon: .*brief\.crt: it ends in 9 days, at \d{4}-/);
      const json = JSON.parse((await certs('ls', '--json')).stdout) as { name: string }[];
      expect(json.map(({ name }) => name)).toEqual(['ca', 'brief', 'node1', 'redis1']);
    },
    TIMEOUT_MS,
  );

  test(
    'checks a certificate, its authority, and its key',
    async () => {
      expect(await certs('check', path('redis1.crt'))).toMatchObject({
        exitCode: 0,
        stdout: expect.stringContaining('verdict    good') as unknown,
      });
      expect((await certs('check', path('brief.crt'), '--days', '14')).exitCode).toBe(1);
      copyFileSync(path('redis1.key'), path('brief.key'));
      chmodSync(path('node1.key'), 0o644);
      const wrong = await certs('check', path('brief.crt'));
      expect([wrong.exitCode, wrong.stdout]).toEqual([
        1,
        expect.stringContaining('is the key of another certificate'),
      ]);
      const open = await certs('check', path('node1.crt'));
      expect([open.exitCode, open.stdout]).toEqual([
        1,
        expect.stringContaining('everybody may read'),
      ]);
      expect((await certs('check', '/nonexistent.crt')).exitCode).toBe(3);
      expect((await certs('check', path('redis1.key'))).stderr).toContain(
        'is not a certificate in PEM',
      );
    },
    TIMEOUT_MS,
  );

  test(
    'says what is missing',
    async () => {
      const empty = join(directory, 'empty');
      mkdirSync(empty);
      const none = await runKaon(['certs', 'issue', 'x', '--dir', empty]);
      expect([none.exitCode, none.stderr]).toEqual([
        1,
        expect.stringContaining(`no authority in ${empty}`),
      ]);
      const without = await runKaon(['certs', 'init', '--dir', empty], { PATH: '/nonexistent' });
      expect(without.stderr).toContain('the program openssl is not installed\nhint: install it');
      expect(existsSync(join(empty, 'ca.crt'))).toBe(false);
      const long = await certs('issue', 'x', '--days', '9999');
      expect(long.stderr).toContain('9999 days are more than the authority has left');
    },
    TIMEOUT_MS,
  );
});

suite(`a Redis with TLS${suffix}`, () => {
  let made: Certificates;
  const servers: Server[] = [];
  beforeAll(async () => {
    made = await makeCertificates();
  }, TIMEOUT_MS);
  afterEach(async () => {
    await Promise.all(servers.splice(0).map(({ child }) => endProcess(child)));
  });
  afterAll(() => {
    rmSync(join(made.directory, '..'), { recursive: true });
  });

  async function serve(pair: Pair, argv: readonly string[] = []): Promise<Server> {
    const server = await startTlsRedis(made, pair, { argv });
    servers.push(server);
    return server;
  }
  const flags = (paths: { ca?: string } & Partial<Pair>): string[] =>
    Object.entries(paths).flatMap(([name, path]) => [`--redis-${name}`, path]);
  const good = (): { ca: string } & Pair => ({ ca: made.ca, ...made.client });
  const events = (url: string, ...more: string[]): Promise<Ended> =>
    runKaon(['events', '--redis', url, ...more]);

  test(
    'is reached with an authority of ours and a client certificate, by flags or the environment',
    async () => {
      const { port } = await serve(made.server);
      const url = `rediss://localhost:${String(port)}`;
      expect(await events(url, ...flags(good()))).toMatchObject(CONNECTED);
      const environment = {
        KAON_REDIS: url,
        KAON_REDIS_CA: made.ca,
        KAON_REDIS_CERT: made.client.cert,
        KAON_REDIS_KEY: made.client.key,
      };
      expect(await runKaon(['events'], environment)).toMatchObject(CONNECTED);
    },
    TIMEOUT_MS,
  );

  interface Misfit {
    readonly what: string;
    readonly server: 'server' | 'ended' | 'elsewhere' | 'foreign';
    readonly with: () => { ca?: string } & Partial<Pair>;
    readonly scheme?: 'redis' | 'rediss';
    readonly says: RegExp;
    readonly hint: string;
  }
  const DATE = String.raw`\d{4}-\d\d-\d\d \d\d:\d\d UTC`;
  const misfits: Misfit[] = [
    {
      what: 'a server certificate that has ended',
      server: 'ended',
      with: good,
      says: new RegExp(
        `the certificate of 127.0.0.1:\\d+ has ended at ${DATE} \\(CN=old, issued by CN=Kaon CA .*\\)`,
      ),
      hint: 'kaon certs issue NAME --force',
    },
    {
      what: 'a server certificate of another authority',
      server: 'foreign',
      with: good,
      says: new RegExp(
        `is not signed by CN=Kaon CA .* in .*/own/ca.crt \\(CN=foreign, issued by CN=Kaon CA .*, valid until ${DATE}\\)`,
      ),
      hint: 'is it the right server',
    },
    {
      what: 'an authority that this system does not trust',
      server: 'server',
      with: () => ({ ...made.client }),
      says: /is signed by nobody whom this system trusts \(CN=server, issued by CN=Kaon CA /,
      hint: '--redis-ca PATH',
    },
    {
      what: 'a server certificate for another host',
      server: 'elsewhere',
      with: good,
      says: /is for DNS:redis\.example\.org, and not for 127\.0\.0\.1 \(CN=elsewhere, issued by /,
      hint: 'kaon certs issue NAME --server --ip 127.0.0.1',
    },
    {
      what: 'no client certificate',
      server: 'server',
      with: () => ({ ca: made.ca }),
      says: /wants a client certificate, and none was given/,
      hint: '--redis-cert PATH --redis-key PATH',
    },
    {
      what: 'a client certificate of another authority',
      server: 'server',
      with: () => ({ ca: made.ca, ...made.foreign }),
      says: new RegExp(
        `refuses the client certificate .*/foreign.crt.*\\(CN=foreign, issued by CN=Kaon CA .*, valid until ${DATE}\\)`,
      ),
      hint: 'tls-ca-cert-file',
    },
    {
      what: 'a client certificate that has ended',
      server: 'server',
      with: () => ({ ca: made.ca, ...made.ended }),
      says: new RegExp(
        `refuses the client certificate .*/old.pem: it has ended at ${DATE} \\(CN=old, issued by `,
      ),
      hint: 'kaon certs issue NAME --client --force',
    },
    {
      what: 'an address without TLS',
      server: 'server',
      with: () => ({}),
      scheme: 'redis',
      says: /speaks TLS \(it shows CN=server, issued by CN=Kaon CA .*\), and the address does not/,
      hint: 'write rediss:// in the address',
    },
  ];

  test.each(misfits)(
    'says what is wrong with $what',
    async (misfit) => {
      const { port } = await serve(made[misfit.server]);
      const url = `${misfit.scheme ?? 'rediss'}://127.0.0.1:${String(port)}`;
      const { exitCode, stderr } = await events(url, ...flags(misfit.with()));
      expect(exitCode).toBe(4);
      const [line = '', hint = '', ...rest] = stderr.split('\n');
      expect(line).toMatch(/^kaon: cannot use Redis at rediss?:\/\/127\.0\.0\.1:\d+: /);
      expect(line).toMatch(misfit.says);
      expect(hint).toContain(misfit.hint);
      expect(rest).toEqual(['']);
    },
    TIMEOUT_MS,
  );

  test(
    'says that a port speaks Redis without TLS',
    async () => {
      const [port = 0] = await freePorts(1);
      const argv = ['--port', String(port), '--bind', LOOPBACK, '--save', ''];
      servers.push({ port, child: await startRedisProcess(argv, { host: LOOPBACK, port }) });
      const { exitCode, stderr } = await events(
        `rediss://127.0.0.1:${String(port)}`,
        ...flags(good()),
      );
      expect(exitCode).toBe(4);
      expect(stderr).toMatch(
        /127\.0\.0\.1:\d+ speaks Redis without TLS, and the address asks for TLS\nhint: .*tls-port/,
      );
    },
    TIMEOUT_MS,
  );

  test.each<[string, () => { ca?: string } & Partial<Pair>, number, string]>([
    [
      'that are not there',
      () => ({ ca: '/nonexistent/ca.crt' }),
      78,
      'cannot read ca of the Redis address',
    ],
    ['of which one is a key', () => ({ ca: made.client.key }), 78, 'is not a certificate in PEM'],
    [
      'that do not belong together',
      () => ({ cert: made.client.cert, key: made.foreign.key }),
      78,
      'is not that of the certificate',
    ],
    [
      'of which the key is missing',
      () => ({ cert: made.client.cert }),
      2,
      'cert and key go together',
    ],
  ])(
    'is not even asked with certificates %s',
    async (_what, paths, code, words) => {
      const { exitCode, stderr } = await events('rediss://127.0.0.1:1', ...flags(paths()));
      expect([exitCode, stderr]).toEqual([code, expect.stringContaining(words)]);
    },
    TIMEOUT_MS,
  );

  test(
    'is told of by a daemon in one line, and over when it is over',
    async () => {
      const { port, child } = await serve(made.ended);
      const log = createWatchedLog();
      const url = withTlsPaths(`rediss://127.0.0.1:${String(port)}`, good());
      const store = new RedisStore({ url, cluster: 'c', log, name: 'test' });
      try {
        const asked = store.nowMs();
        await log.lines.first(({ event }) => event === 'redis.tls');
        await endProcess(child);
        servers.push(await startTlsRedis(made, made.server, { port }));
        await asked;
        await log.lines.first(
          ({ event, fields }) => event === 'redis.recovered' && fields['fault'] === 'tls',
        );
        const told = log.lines.seen.filter(({ event }) => event === 'redis.tls');
        expect(told).toEqual([
          expect.objectContaining({
            fields: expect.objectContaining({
              text: expect.stringContaining('has ended at') as unknown,
              hint: expect.stringContaining('kaon certs issue') as unknown,
            }) as unknown,
          }),
        ]);
      } finally {
        await store.close();
      }
    },
    TIMEOUT_MS,
  );

  test(
    'gets certificates that were renewed on disk at the next connection',
    async () => {
      const files = join(made.directory, '..', 'in-use');
      mkdirSync(files);
      const use = (ca: string, pair: Pair): { ca: string } & Pair => {
        const paths = {
          ca: join(files, 'ca.crt'),
          cert: join(files, 'n.crt'),
          key: join(files, 'n.key'),
        };
        copyFileSync(ca, paths.ca);
        copyFileSync(pair.cert, paths.cert);
        copyFileSync(pair.key, paths.key);
        return paths;
      };
      const { port, child } = await serve(made.server);
      const url = withTlsPaths(`rediss://127.0.0.1:${String(port)}`, use(made.ca, made.client));
      const log = createWatchedLog();
      const store = new RedisStore({ url, cluster: 'c', log, name: 'test' });
      try {
        await store.nowMs();
        // Half of it has been written when the server goes: the old ones are still good for nothing else.
        writeFileSync(join(files, 'n.crt'), 'half');
        await endProcess(child);
        use(made.otherCa, made.foreign);
        const other = { ...made, ca: made.otherCa, client: made.foreign };
        servers.push(await startTlsRedis(other, made.foreign, { port }));
        expect(await store.nowMs()).toBeGreaterThan(0);
      } finally {
        await store.close();
      }
    },
    TIMEOUT_MS,
  );

  test(
    'that is a Redis Cluster is reached, and says what is wrong with its certificate',
    async () => {
      const cluster = ['--cluster-enabled', 'yes', '--tls-cluster', 'yes'];
      const dir = mkdtempSync(join(made.directory, '..', 'node-'));
      const { port } = await serve(made.server, [...cluster, '--dir', dir, ...(await busOf())]);
      const tls = {
        ca: readFileSync(made.ca),
        cert: readFileSync(made.client.cert),
        key: readFileSync(made.client.key),
      };
      await ask({ host: LOOPBACK, port, tls }, (redis) =>
        redis.call('CLUSTER', 'ADDSLOTSRANGE', '0', '16383'),
      );
      const url = `rediss+cluster://127.0.0.1:${String(port)}`;
      await until(async () => (await events(url, ...flags(good()))).exitCode === 0);
      const { stderr } = await events(url, '--redis-ca', made.otherCa);
      expect(stderr).toMatch(
        /the certificate of 127\.0\.0\.1:\d+ is not signed by .* in .*\/other\/ca\.crt/,
      );
    },
    TIMEOUT_MS,
  );

  /** The bus of a node is 10000 above its port, which may be above all ports. */
  async function busOf(): Promise<string[]> {
    const [bus = 0] = await freePorts(1);
    return ['--cluster-port', String(bus)];
  }

  test(
    'that Sentinels watch is reached, and they say what is wrong with their certificate',
    async () => {
      const server = await serve(made.server);
      const [port = 0] = await freePorts(1);
      const dir = mkdtempSync(join(made.directory, '..', 'sentinel-'));
      const configuration = join(dir, 'sentinel.conf');
      writeFileSync(
        configuration,
        [
          ...[
            'port 0',
            `tls-port ${String(port)}`,
            `bind ${LOOPBACK}`,
            `dir ${dir}`,
            'tls-replication yes',
          ],
          `tls-cert-file ${made.server.cert}`,
          `tls-key-file ${made.server.key}`,
          `tls-ca-cert-file ${made.ca}`,
          `sentinel monitor kaon ${LOOPBACK} ${String(server.port)} 1`,
          '',
        ].join('\n'),
      );
      const tls = {
        ca: readFileSync(made.ca),
        cert: readFileSync(made.client.cert),
        key: readFileSync(made.client.key),
      };
      const child = await startRedisProcess([configuration, '--sentinel'], {
        host: LOOPBACK,
        port,
        tls,
      });
      servers.push({ port, child });
      const url = `rediss+sentinel://127.0.0.1:${String(port)}/kaon`;
      expect(await events(url, ...flags(good()))).toMatchObject(CONNECTED);
      const { stderr } = await events(url, ...flags({ ca: made.ca }));
      expect(stderr).toContain('wants a client certificate, and none was given');
    },
    TIMEOUT_MS,
  );

  describe('and the API of its master', () => {
    let server: Server;
    let master: Running | undefined;
    afterEach(async () => {
      master?.child.kill('SIGKILL');
      await master?.ended;
    });

    async function startMaster(pair: Pair, ...more: string[]): Promise<string> {
      server = await serve(made.server);
      const listen = ['--listen', '0', '--tls-cert', pair.cert, '--tls-key', pair.key, ...more];
      const redis = ['--redis', `rediss://localhost:${String(server.port)}`, ...flags(good())];
      master = startCommand([process.execPath, KAON, 'master', ...listen, ...redis]);
      await master.seen('api.listening');
      const url = /api\.listening url=(\S+)/.exec(master.printed())?.[1] ?? '';
      return url.replace('127.0.0.1', 'localhost');
    }
    const read = (path: string): string => readFileSync(path, 'utf8');

    test(
      'speaks HTTPS with a certificate that others can check',
      async () => {
        const url = await startMaster(made.server);
        expect(url).toMatch(/^https:/);
        const tls = { ca: read(made.ca) };
        await until(async () => (await askApi(`${url}/healthz`, { tls })).status === 200);
        await expect(
          askApi(`${url}/healthz`, { tls: { ca: read(made.otherCa) } }),
        ).rejects.toMatchObject({
          code: expect.stringMatching(/SELF_SIGNED|UNABLE_TO/) as unknown,
        });
        const other = {
          tls: { ...tls, servername: 'localhost' },
          headers: { Host: 'other.example' },
        };
        expect((await askApi(`${url}/healthz`, other)).status).toBe(421);
        await expect(askApi(`${url.replace('https', 'http')}/healthz`)).rejects.toThrow();
        expect((await askApi(`${url}/healthz`, { tls })).status).toBe(200);
      },
      TIMEOUT_MS,
    );

    test(
      'is for clients with a certificate only, if it was told so',
      async () => {
        const url = await startMaster(made.server, '--tls-client-ca', made.ca);
        const ca = read(made.ca);
        const as = ({ cert, key }: Pair): ReturnType<typeof askApi> =>
          askApi(`${url}/v1/whoami`, { tls: { ca, cert: read(cert), key: read(key) } });
        await until(async () => (await as(made.client)).status === 200);
        expect((await as(made.client)).body).toEqual({ name: 'CN=client', kind: null });
        await expect(askApi(`${url}/v1/whoami`, { tls: { ca } })).rejects.toThrow();
        await expect(as(made.foreign)).rejects.toThrow();
        await expect(as(made.ended)).rejects.toThrow();
      },
      TIMEOUT_MS,
    );
  });
});
