/** Artifacts over http and https from servers that do what servers do. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { mkdtempSync, rmSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { type AddressInfo, createServer as createTcpServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import {
  afterAll,
  afterEach,
  beforeAll,
  beforeEach,
  describe,
  expect,
  jest,
  test,
} from '@jest/globals';
import {
  type ArtifactBed,
  buildHelper,
  createBed,
  startServer,
  tarOf,
  type TestServer,
  uriOf,
  zipOf,
} from '../support/artifact-bed.ts';

// Each starts processes, on a machine that may be busy.
jest.setTimeout(120_000);

type Answer = (
  response: ServerResponse,
  path: string,
  headers: NodeJS.Dict<string | string[]>,
) => void;

let helper: Awaited<ReturnType<typeof buildHelper>>;
let bed: ArtifactBed;
let server: TestServer;
let answer: Answer;

beforeAll(async () => {
  helper = await buildHelper();
});
afterAll(() => {
  helper.remove();
});
beforeEach(async () => {
  bed = createBed(helper.argv);
  answer = (response) => response.end('content');
  server = await startServer((request, response) => {
    answer(response, request.url ?? '', request.headers);
  });
});
afterEach(async () => {
  await server.close();
  bed.close();
});

const inWork = (...parts: string[]): string => join(bed.work, ...parts);
const text = (...parts: string[]): string => readFileSync(inWork(...parts), 'utf8');
const at = (path: string, more: Parameters<typeof uriOf>[1] = {}): ReturnType<typeof uriOf> =>
  uriOf(`${server.origin}${path}`, more);
const sha256 = (content: string | Uint8Array): string =>
  createHash('sha256').update(content).digest('hex');
const redirectTo = (location: string): Answer => {
  return (response) => response.writeHead(302, { location }).end();
};

describe('a download', () => {
  test('has the last part of the path as name, without query and encoding', async () => {
    await bed.fetch(at('/a/one%20file.txt?token=1#part'));
    expect([text('one file.txt'), server.requests]).toEqual([
      'content',
      ['GET /a/one%20file.txt?token=1'],
    ]);
  });

  test('that is an archive by name is extracted, and another one is not', async () => {
    const archives: Record<string, Buffer> = {
      '/a.tar': tarOf([{ path: 'a', content: 'a' }]),
      '/b.tar.gz': gzipSync(tarOf([{ path: 'b', content: 'b' }])),
      '/c.TGZ': gzipSync(tarOf([{ path: 'c', content: 'c' }])),
      '/d.zip?x': zipOf([{ path: 'd', content: 'd' }]),
      '/e.jar': zipOf([{ path: 'never', content: '' }]),
    };
    answer = (response, path) => response.end(archives[path]);
    await bed.fetch(
      ...Object.keys(archives).map((path) => at(path)),
      at('/a.tar', { extract: false, path: 'kept.tar' }),
    );
    expect(readdirSync(bed.work).sort()).toEqual(['a', 'b', 'c', 'd', 'e.jar', 'kept.tar']);
  });

  test('is what the server sent, also if it says that it is compressed', async () => {
    const bytes = gzipSync(tarOf([{ path: 'x', content: 'x' }]));
    answer = (response) => response.writeHead(200, { 'content-encoding': 'gzip' }).end(bytes);
    await bed.fetch(at('/a.tgz', { sha256: sha256(bytes) }));
    expect(text('x')).toBe('x');
  });

  test('sends user and password of the URI, and names neither', async () => {
    let authorization: unknown;
    answer = (response, _, headers) => {
      authorization = headers['authorization'];
      response.writeHead(403).end();
    };
    const uri = `${server.origin.replace('//', '//me:secret@')}/x?key=secret`;
    const failure = await bed.failureOf(uriOf(uri));
    expect([failure, authorization]).toEqual([
      `artifact ${server.origin}/x?...: status 403`,
      `Basic ${Buffer.from('me:secret').toString('base64')}`,
    ]);
  });

  test('that the server refuses is not tried again', async () => {
    answer = (response) => response.writeHead(404).end('not here');
    expect(await bed.failureOf(at('/x'))).toBe(`artifact ${server.origin}/x: status 404`);
    expect(server.requests).toHaveLength(1);
  });

  test.each([204, 206, 304])('with status %d fails', async (status) => {
    answer = (response) => response.writeHead(status).end();
    expect(await bed.failureOf(at('/x'))).toContain(`: status ${String(status)}`);
  });

  test('is tried three times if the server fails', async () => {
    answer = (response) =>
      response.writeHead(server.requests.length < 3 ? 503 : 200).end('at last');
    await bed.fetch(at('/x'));
    expect([text('x'), server.requests.length]).toEqual(['at last', 3]);
  });

  test('fails after the third time, and the log has the others', async () => {
    answer = (response) => response.writeHead(500).end();
    expect(await bed.failureOf(at('/x'))).toContain(': status 500 (tried 3 times)');
    const retried = bed.log.lines.seen.filter(({ event }) => event === 'artifact.download-retried');
    expect(retried.map(({ fields }) => fields['attempt'])).toEqual([1, 2]);
  });

  test('that breaks off is tried again and not there by half', async () => {
    answer = (response) => {
      response.writeHead(200, { 'content-length': 7 });
      if (server.requests.length === 3) response.end('content');
      else response.write('cont', () => response.destroy());
    };
    await bed.fetch(at('/x'));
    expect([text('x'), server.requests.length]).toEqual(['content', 3]);
  });

  test('that always breaks off fails', async () => {
    answer = (response) => {
      response.writeHead(200, { 'content-length': 7 });
      response.write('cont', () => response.destroy());
    };
    expect(await bed.failureOf(at('/x'))).toContain('the connection broke off (tried 3 times)');
    expect([readdirSync(bed.work), bed.unfinished()]).toEqual([[], []]);
  });

  test('from where nobody listens fails', async () => {
    await server.close();
    expect(await bed.failureOf(at('/x'))).toContain(': connection refused (tried 3 times)');
  });

  test('of which nothing comes any more is given up', async () => {
    bed.use({ limits: { idleTimeoutMs: 50 } });
    answer = (response) => response.write('c');
    expect(await bed.failureOf(at('/x'))).toContain(': no data for 0.05 s (tried 3 times)');
    expect(bed.unfinished()).toEqual([]);
  });

  test('that is not answered at all is given up', async () => {
    bed.use({ limits: { idleTimeoutMs: 50 } });
    answer = () => undefined;
    expect(await bed.failureOf(at('/x'))).toContain(': no data for 0.05 s (tried 3 times)');
  });

  test('over a connection that is never there is given up', async () => {
    bed.use({ limits: { connectTimeoutMs: 50 } });
    const sockets: Socket[] = [];
    const silent = createTcpServer((socket) => sockets.push(socket));
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
    const { port } = silent.address() as AddressInfo;
    const failure = await bed.failureOf(uriOf(`https://127.0.0.1:${String(port)}/x`));
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => silent.close(resolve));
    expect(failure).toContain(': no connection for 0.05 s (tried 3 times)');
  });

  test.each([
    ['that it announces', { 'content-length': 11 }],
    ['without a word', {}],
  ])('with more bytes than allowed %s fails', async (_, headers) => {
    bed.use({ limits: { downloadMaxBytes: 10 } });
    answer = (response) => response.writeHead(200, headers).end('12345678901');
    expect(await bed.failureOf(at('/x'))).toContain(': it is larger than 10 bytes');
  });

  test('with another digest is neither extracted nor there', async () => {
    const bytes = tarOf([{ path: 'x', content: 'x' }]);
    answer = (response) => response.end(bytes);
    const wanted = sha256('other');
    expect(await bed.failureOf(at('/a.tar', { sha256: wanted }))).toContain(
      `: its sha256 is ${sha256(bytes)}, not ${wanted}`,
    );
    expect([readdirSync(bed.work), bed.unfinished()]).toEqual([[], []]);
  });

  test('that fails ends the others', async () => {
    answer = (response, path) => {
      if (path === '/bad') response.writeHead(404).end();
      else response.write('for ever');
    };
    const failure = await bed.failureOf(at('/a'), at('/b'), at('/c'), at('/bad'), at('/d'));
    expect(failure).toContain('/bad: status 404');
    while ((await server.connections()) > 0) await pause(5);
    expect(bed.unfinished()).toEqual([]);
  });

  test('that is cancelled leaves neither a connection nor a file', async () => {
    const cancel = new AbortController();
    answer = (response) => {
      response.write('some');
      cancel.abort();
    };
    const fetched = bed.use().fetch([at('/x')], { work: bed.work }, cancel.signal);
    await expect(fetched).rejects.toMatchObject({ code: 'artifact-cancelled' });
    while ((await server.connections()) > 0) await pause(5);
    expect([bed.unfinished(), readdirSync(bed.work)]).toEqual([[], []]);
  });

  test('is not begun if it is cancelled already', async () => {
    const fetched = bed.use().fetch([at('/x')], { work: bed.work }, AbortSignal.abort());
    await expect(fetched).rejects.toMatchObject({ code: 'artifact-cancelled' });
    expect(server.requests).toEqual([]);
  });
});

describe('a redirect', () => {
  test('is followed ten times', async () => {
    answer = (response, path) => {
      const count = Number(path.slice(1));
      if (count === 10) response.end('content');
      else response.writeHead(302, { location: `${String(count + 1)}?next` }).end();
    };
    answer = withoutQuery(answer);
    await bed.fetch(at('/0'));
    expect([text('0'), server.requests.length]).toEqual(['content', 11]);
  });

  test('is not followed an eleventh time', async () => {
    answer = redirectTo('/again');
    expect(await bed.failureOf(at('/x'))).toContain(': more than 10 redirects');
    expect(server.requests).toHaveLength(11);
  });

  test.each([
    ['file:///etc/passwd', 'it is redirected to file:'],
    ['data:,x', 'it is redirected to data:'],
    ['ftp://127.0.0.1/x', 'it is redirected to ftp:'],
    ['http://', 'it is redirected without a valid address'],
  ])('to %s is not followed', async (location, words) => {
    answer = redirectTo(location);
    expect(await bed.failureOf(at('/x'))).toContain(words);
    expect(readdirSync(bed.work)).toEqual([]);
  });

  test('without an address fails', async () => {
    answer = (response) => response.writeHead(301).end();
    expect(await bed.failureOf(at('/x'))).toContain('it is redirected without a valid address');
  });

  test('to another server does not take the password along', async () => {
    let seen: unknown = 'nothing';
    const other = await startServer((request, response) => {
      seen = request.headers.authorization;
      response.end('content');
    });
    answer = redirectTo(`${other.origin}/y`);
    await bed.fetch(uriOf(`${server.origin.replace('//', '//me:secret@')}/x`));
    await other.close();
    expect([text('x'), seen]).toEqual(['content', undefined]);
  });
});

function withoutQuery(inner: Answer): Answer {
  return (response, path, headers) => {
    inner(response, path.replace(/\?.*/, ''), headers);
  };
}

describe('over https', () => {
  let directory: string;
  let key: string;
  let cert: string;
  let close: () => Promise<void>;
  let origin: string;

  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'kaon-tls-'));
    const [keyFile, certFile] = [join(directory, 'key'), join(directory, 'cert')];
    const subject = ['-subj', '/CN=127.0.0.1', '-addext', 'subjectAltName=IP:127.0.0.1'];
    const files = ['-keyout', keyFile, '-out', certFile];
    const kind = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
    const args = ['req', '-x509', ...kind, ...files, '-days', '2', ...subject];
    execFileSync('openssl', args, { stdio: 'ignore' });
    key = readFileSync(keyFile, 'utf8');
    cert = readFileSync(certFile, 'utf8');
  });
  afterAll(() => {
    rmSync(directory, { recursive: true });
  });
  beforeEach(async () => {
    const tls = createTlsServer({ key, cert }, (request, response) => {
      if (request.url === '/down') redirectTo(`${server.origin}/x`)(response, '', {});
      else response.end('encrypted');
    });
    await new Promise<void>((resolve) => tls.listen(0, '127.0.0.1', resolve));
    origin = `https://127.0.0.1:${String((tls.address() as AddressInfo).port)}`;
    close = () =>
      new Promise((resolve) => {
        tls.close(() => {
          resolve();
        });
        tls.closeAllConnections();
      });
  });
  afterEach(() => close());

  test('a server that a known authority vouches for is believed', async () => {
    bed.use({ ca: cert });
    await bed.fetch(uriOf(`${origin}/x`));
    expect(text('x')).toBe('encrypted');
  });

  test('another one is not, and not asked again', async () => {
    expect(await bed.failureOf(uriOf(`${origin}/x`))).toBe(
      `artifact ${origin}/x: self-signed certificate`,
    );
  });

  test('a redirect to http is followed only if the digest is known', async () => {
    bed.use({ ca: cert });
    expect(await bed.failureOf(uriOf(`${origin}/down`))).toContain('from https: to http:');
    await bed.fetch(uriOf(`${origin}/down`, { sha256: sha256('content') }));
    expect(text('down')).toBe('content');
  });
});
