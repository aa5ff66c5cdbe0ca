/** Downloads that are kept: for whom, for how long, and what happens to them in a crash. */
import { createHash } from 'node:crypto';
import {
  appendFileSync,
  chownSync,
  copyFileSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
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
import type { Fetcher, FetcherOptions } from '../../agent/artifacts/index.ts';
import type { Uri } from '../../protocol/command.ts';
import {
  type ArtifactBed,
  buildHelper,
  createBed,
  HASTY_CLOCK,
  NOBODY,
  startServer,
  type TestServer,
  uriOf,
} from '../support/artifact-bed.ts';

// Each starts processes, on a machine that may be busy.
jest.setTimeout(120_000);

let helper: Awaited<ReturnType<typeof buildHelper>>;
let bed: ArtifactBed;
let server: TestServer;
let answer: (request: IncomingMessage, response: ServerResponse) => void;
let nowMs: number;
let works: number;

beforeAll(async () => {
  helper = await buildHelper();
});
afterAll(() => {
  helper.remove();
});
beforeEach(async () => {
  bed = createBed(helper.argv);
  [nowMs, works] = [1_000_000, 0];
  answer = (_, response) => response.end('content');
  server = await startServer((request, response) => {
    answer(request, response);
  });
});
afterEach(async () => {
  await server.close();
  bed.close();
});

const sha256 = (content: string): string => createHash('sha256').update(content).digest('hex');
const cached = (path: string, more: Partial<Uri> = {}): Uri =>
  uriOf(`${server.origin}${path}`, { cache: true, ...more });
const kept = (): string[] =>
  readdirSync(join(bed.directory, 'artifacts/cache')).filter((name) => !name.endsWith('.json'));
const keptPath = (): string => join(bed.directory, 'artifacts/cache', kept()[0] ?? 'none');

/** Each use is a second later than the one before it. */
function agent(options: Partial<FetcherOptions> = {}): Fetcher {
  const wallMs = (): number => (nowMs += 1000);
  return bed.use({ clock: { ...HASTY_CLOCK, wallMs }, ...options });
}

/** Fetches into a sandbox of its own. @returns what the only file in it holds */
async function fetchOne(fetcher: Fetcher, uri: Uri, signal?: AbortSignal): Promise<string> {
  const work = `${bed.work}.${String((works += 1))}`;
  mkdirSync(work);
  chownSync(work, NOBODY.uid, NOBODY.gid);
  await fetcher.fetch([uri], { work, ids: NOBODY }, signal ?? new AbortController().signal);
  const [name = 'none'] = readdirSync(work);
  return readFileSync(join(work, name), 'utf8');
}

/** Serves `content` under an entity tag, and says 304 to whoever has it. */
function serveTagged(content: () => string): void {
  answer = (request, response) => {
    const etag = `"${sha256(content()).slice(0, 8)}"`;
    const isSame = request.headers['if-none-match'] === etag;
    response.writeHead(isSame ? 304 : 200, { etag }).end(isSame ? undefined : content());
  };
}

describe('a cached artifact', () => {
  test('with a digest is downloaded once', async () => {
    const fetcher = agent();
    const uri = cached('/x', { sha256: sha256('content') });
    const contents = [await fetchOne(fetcher, uri), await fetchOne(fetcher, uri)];
    expect([contents, server.requests]).toEqual([['content', 'content'], ['GET /x']]);
  });

  test('that is not asked to be kept is downloaded each time', async () => {
    const fetcher = agent();
    const uri = uriOf(`${server.origin}/x`, { sha256: sha256('content') });
    await fetchOne(fetcher, uri);
    await fetchOne(fetcher, uri);
    expect([server.requests.length, kept()]).toEqual([2, []]);
  });

  test('that many want at once is downloaded once', async () => {
    let respond = (): void => undefined;
    answer = (_, response) => {
      respond = () => response.end('content');
    };
    const fetcher = agent();
    const fetches = Array.from({ length: 5 }, () => fetchOne(fetcher, cached('/x')));
    while (server.requests.length === 0) await pause(5);
    respond();
    expect(await Promise.all(fetches)).toEqual(Array(5).fill('content'));
    expect(server.requests).toEqual(['GET /x']);
  });

  test('goes on being downloaded for the one who still waits', async () => {
    let respond = (): void => undefined;
    answer = (_, response) => {
      respond = () => response.end('content');
    };
    const fetcher = agent();
    const cancel = new AbortController();
    const first = fetchOne(fetcher, cached('/x'), cancel.signal);
    const outcome = expect(first).rejects.toMatchObject({ code: 'artifact-cancelled' });
    const second = fetchOne(fetcher, cached('/x'));
    while (server.requests.length === 0) await pause(5);
    cancel.abort();
    await outcome;
    respond();
    expect([await second, server.requests.length]).toEqual(['content', 1]);
  });

  test('is downloaded no more when nobody waits, and may be asked for again', async () => {
    const fetcher = agent();
    const cancel = new AbortController();
    answer = (_, response) => {
      response.write('some');
      cancel.abort();
    };
    const fetched = fetchOne(fetcher, cached('/x'), cancel.signal);
    await expect(fetched).rejects.toMatchObject({ code: 'artifact-cancelled' });
    while ((await server.connections()) > 0) await pause(5);
    expect([bed.unfinished(), kept()]).toEqual([[], []]);
    answer = (_, response) => response.end('all');
    expect(await fetchOne(fetcher, cached('/x'))).toBe('all');
  });

  test('without a digest is asked for, and taken again if it is the same', async () => {
    serveTagged(() => 'content');
    const fetcher = agent();
    const contents = [await fetchOne(fetcher, cached('/x')), await fetchOne(fetcher, cached('/x'))];
    expect([contents, server.requests.length]).toEqual([['content', 'content'], 2]);
    expect(kept()).toHaveLength(1);
  });

  test('that has changed is downloaded, and the old copy goes', async () => {
    let content = 'old';
    serveTagged(() => content);
    const fetcher = agent();
    const before = await fetchOne(fetcher, cached('/x'));
    content = 'new';
    expect([before, await fetchOne(fetcher, cached('/x'))]).toEqual(['old', 'new']);
    expect(readFileSync(keptPath(), 'utf8')).toBe('new');
    expect(kept()).toHaveLength(1);
  });

  test('is asked for by its date if there is no tag', async () => {
    const date = 'Wed, 21 Oct 2015 07:28:00 GMT';
    let asked: unknown;
    answer = ({ headers }, response) => {
      asked = headers['if-modified-since'];
      const isSame = asked === date;
      response.writeHead(isSame ? 304 : 200, { 'last-modified': date });
      response.end(isSame ? undefined : 'content');
    };
    const fetcher = agent();
    await fetchOne(fetcher, cached('/x'));
    expect([await fetchOne(fetcher, cached('/x')), asked]).toEqual(['content', date]);
  });

  test('of which the server says nothing is downloaded each time', async () => {
    const fetcher = agent();
    await fetchOne(fetcher, cached('/x'));
    answer = (_, response) => response.end('other');
    expect(await fetchOne(fetcher, cached('/x'))).toBe('other');
  });

  test('that was redirected shows its tag to the address that gave it alone', async () => {
    let target = '/v1';
    const tags: unknown[] = [];
    answer = ({ url, headers }, response) => {
      tags.push(`${url ?? ''} ${String(headers['if-none-match'])}`);
      if (url === '/latest') response.writeHead(302, { location: target }).end();
      else response.writeHead(200, { etag: '"1"' }).end(url);
    };
    const fetcher = agent();
    await fetchOne(fetcher, cached('/latest'));
    await fetchOne(fetcher, cached('/latest'));
    target = '/v2';
    expect(await fetchOne(fetcher, cached('/latest'))).toBe('/v2');
    expect(tags).toEqual([
      '/latest undefined',
      '/v1 undefined',
      '/latest undefined',
      '/v1 "1"',
      '/latest undefined',
      '/v2 undefined',
    ]);
  });

  test('of a server that is gone is good with a digest, and fails without one', async () => {
    serveTagged(() => 'content');
    const fetcher = agent();
    const uri = cached('/x', { sha256: sha256('content') });
    await fetchOne(fetcher, uri);
    await fetchOne(fetcher, cached('/x'));
    await server.close();
    expect(await fetchOne(fetcher, uri)).toBe('content');
    await expect(fetchOne(fetcher, cached('/x'))).rejects.toMatchObject({
      message: `artifact ${server.origin}/x: connection refused (tried 3 times)`,
    });
  });

  test('with another digest is not kept', async () => {
    const fetcher = agent();
    const fetched = fetchOne(fetcher, cached('/x', { sha256: sha256('other') }));
    await expect(fetched).rejects.toMatchObject({ code: 'artifact-failed' });
    expect([kept(), bed.unfinished()]).toEqual([[], []]);
  });

  test('is open for as long as it is needed', async () => {
    serveTagged(() => 'content');
    const fetcher = agent();
    const digest = sha256('content');
    for (const more of [{}, {}, { sha256: digest }, { sha256: digest }])
      await fetchOne(fetcher, cached('/x', more));
    await fetchOne(fetcher, cached('/y', { sha256: sha256('other') })).catch(() => undefined);
    expect(bed.open()).toEqual([]);
  });

  test('can be read by the agent’s user only', async () => {
    await fetchOne(agent(), cached('/x'));
    expect(lstatSync(keptPath()).mode & 0o777).toBe(0o600);
  });
});

describe('after a restart of the agent', () => {
  const uri = (): Uri => cached('/x', { sha256: sha256('content') });
  const restarted = async (): Promise<[string, number]> => {
    const before = server.requests.length;
    const content = await fetchOne(agent(), uri());
    return [content, server.requests.length - before];
  };

  test('what was kept is there', async () => {
    await fetchOne(agent(), uri());
    expect(await restarted()).toEqual(['content', 0]);
  });

  test.each<[string, () => void]>([
    ['has other bytes', () => writeFileSync(keptPath(), 'CONTENT')],
    ['is too short', () => truncateSync(keptPath(), 3)],
    ['is too long', () => appendFileSync(keptPath(), '!')],
    ['has no record', () => renameSync(recordPath(), `${recordPath()}.1.tmp`)],
    ['has half a record', () => truncateSync(recordPath(), 20)],
    [
      'has a record of another version',
      () => {
        writeFileSync(
          recordPath(),
          readFileSync(recordPath(), 'utf8').replace('"version":1', '"version":2'),
        );
      },
    ],
    ['is only a record', () => renameSync(keptPath(), `${keptPath()}.gone`)],
  ])('what %s is downloaded anew', async (_, damage) => {
    await fetchOne(agent(), uri());
    damage();
    expect(await restarted()).toEqual(['content', 1]);
    expect(readdirSync(join(bed.directory, 'artifacts/cache'))).toHaveLength(2);
  });

  test('what was half downloaded is gone', () => {
    const path = join(bed.directory, 'artifacts/unfinished/half');
    writeFileSync(path, 'half');
    agent();
    expect(bed.unfinished()).toEqual([]);
  });

  test('what does not fit any more goes', async () => {
    await fetchOne(agent(), uri());
    agent({ cacheMaxBytes: 3 });
    while (kept().length > 0) await pause(5);
    expect(readdirSync(join(bed.directory, 'artifacts/cache'))).toEqual([]);
  });
});

function recordPath(): string {
  return keptPath().replace(/\.[^.]*$/, '.json');
}

test('a copy that is damaged while the agent runs is not used', async () => {
  const fetcher = agent();
  const uri = cached('/x', { sha256: sha256('content') });
  await fetchOne(fetcher, uri);
  copyFileSync('/dev/null', keptPath());
  expect([await fetchOne(fetcher, uri), server.requests.length]).toEqual(['content', 2]);
  expect(bed.log.lines.seen.map(({ event }) => event)).toContain('artifact.cache-damaged');
});

describe('when there is no room for all', () => {
  const ten = (path: string): Uri => cached(path, { sha256: sha256(`${path}.......`) });

  beforeEach(() => {
    answer = ({ url = '' }, response) => response.end(`${url}.......`);
  });

  test('what was not used for longest goes', async () => {
    const fetcher = agent({ cacheMaxBytes: 20 });
    for (const path of ['/a', '/b', '/a', '/c']) await fetchOne(fetcher, ten(path.padEnd(3, '-')));
    server.requests.length = 0;
    for (const path of ['/c-', '/a-', '/b-']) await fetchOne(fetcher, ten(path));
    expect(server.requests).toEqual(['GET /b-']);
  });

  test('the order outlives the agent', async () => {
    const first = agent({ cacheMaxBytes: 20 });
    for (const path of ['/a-', '/b-', '/a-']) await fetchOne(first, ten(path));
    const second = agent({ cacheMaxBytes: 20 });
    await fetchOne(second, ten('/c-'));
    server.requests.length = 0;
    await fetchOne(second, ten('/a-'));
    expect(server.requests).toEqual([]);
  });

  test('what is larger than all room is handed over and not kept', async () => {
    const fetcher = agent({ cacheMaxBytes: 9 });
    expect(await fetchOne(fetcher, ten('/a-'))).toBe('/a-.......');
    expect([kept(), bed.unfinished()]).toEqual([[], []]);
  });

  test('nothing is kept in no room at all', async () => {
    const fetcher = agent({ cacheMaxBytes: 0 });
    expect(await fetchOne(fetcher, ten('/a-'))).toBe('/a-.......');
    expect(kept()).toEqual([]);
  });

  test('what is in use stays', async () => {
    const fetcher = agent({ cacheMaxBytes: 10 });
    await fetchOne(fetcher, ten('/a-'));
    let release = (): void => undefined;
    answer = (_, response) => {
      release = () => response.end('/z');
    };
    // It has the first one open while it waits for its second.
    const work = `${bed.work}.both`;
    mkdirSync(work);
    const uris = [ten('/a-'), uriOf(`${server.origin}/z`)];
    const both = fetcher.fetch(uris, { work }, new AbortController().signal);
    while (!server.requests.includes('GET /z')) await pause(5);
    const finish = release;
    answer = ({ url = '' }, response) => response.end(`${url}.......`);
    await fetchOne(fetcher, ten('/b-'));
    finish();
    await both;
    server.requests.length = 0;
    await fetchOne(fetcher, ten('/a-'));
    expect(server.requests).toEqual([]);
    await fetchOne(fetcher, ten('/b-'));
    expect(server.requests).toEqual(['GET /b-']);
    expect(kept()).toHaveLength(1);
  });
});
