/** Files into a sandbox: with whose rights, in place of what, and what is left when it is cut off. */
import { spawn } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { createHash } from 'node:crypto';
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
import type { HelperRequest } from '../../agent/artifacts/request.ts';
import {
  type ArtifactBed,
  buildHelper,
  createBed,
  dataUri,
  NOBODY,
  tarOf,
  uriOf,
} from '../support/artifact-bed.ts';

// Each starts processes, on a machine that may be busy.
jest.setTimeout(120_000);

let helper: Awaited<ReturnType<typeof buildHelper>>;
let bed: ArtifactBed;

beforeAll(async () => {
  helper = await buildHelper();
});
afterAll(() => {
  helper.remove();
});
beforeEach(() => {
  bed = createBed(helper.argv);
});
afterEach(() => {
  bed.close();
});

const inWork = (...parts: string[]): string => join(bed.work, ...parts);
const text = (...parts: string[]): string => readFileSync(inWork(...parts), 'utf8');
const sha256 = (content: string | Uint8Array): string =>
  createHash('sha256').update(content).digest('hex');
const never = (): AbortSignal => new AbortController().signal;

/** A file of the node that is not in the sandbox. */
function nodeFile(name: string, content: string | Uint8Array, mode = 0o644): string {
  const path = join(bed.directory, name);
  writeFileSync(path, content);
  chmodSync(path, mode);
  return path;
}

/** A helper that is another one at first, and the real one when it is started again. */
function helperAfter(first: string): string[] {
  const mark = inWork('started');
  const script = nodeFile('first.mjs', first);
  const shell = `if [ -e '${mark}' ]; then exec "$@"; else echo $$ >'${mark}'; exec '${process.execPath}' '${script}'; fi`;
  return ['/bin/sh', '-c', shell, 'sh', ...helper.argv];
}

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await pause(5);
}

describe('an artifact', () => {
  test('is a file of the task’s user that others may read', async () => {
    await bed.fetch(uriOf('data:,hello%20there', { path: 'a/b.txt' }));
    const { uid, gid, mode } = lstatSync(inWork('a/b.txt'));
    expect([text('a/b.txt'), uid, gid, mode & 0o7777]).toEqual([
      'hello there',
      NOBODY.uid,
      NOBODY.gid,
      0o644,
    ]);
    expect(lstatSync(inWork('a')).uid).toBe(NOBODY.uid);
  });

  test('that is executable can be executed by all', async () => {
    await bed.fetch(uriOf('data:,%23!/bin/sh', { path: 'run', executable: true }));
    expect(lstatSync(inWork('run')).mode & 0o7777).toBe(0o755);
  });

  test('of the node has the last part of its path as name', async () => {
    const path = nodeFile('one file.txt', 'one');
    await bed.fetch(uriOf(path), uriOf(`file://${encodeURI(path)}`, { path: 'two' }));
    expect([text('one file.txt'), text('two')]).toEqual(['one', 'one']);
  });

  test('replaces a file that is there, also one of an earlier fetch', async () => {
    await bed.fetch(uriOf('data:,1', { path: 'x' }));
    await bed.fetch(uriOf('data:,2', { path: 'x' }));
    expect([text('x'), readdirSync(bed.work)]).toEqual(['2', ['x']]);
  });

  test('is not put where a directory is', async () => {
    mkdirSync(inWork('x'));
    expect(await bed.failureOf(uriOf('data:,1', { path: 'x' }))).toBe(
      'artifact data:,...: there is a directory in its place',
    );
  });

  test.each([
    [
      'before the archive',
      (file: ReturnType<typeof uriOf>, archive: typeof file) => [file, archive],
    ],
    [
      'after the archive',
      (file: ReturnType<typeof uriOf>, archive: typeof file) => [archive, file],
    ],
  ])('does not share its place with what comes out of an archive: %s', async (_, order) => {
    const archive = uriOf(dataUri(tarOf([{ path: 'x', content: '2' }])), { extract: true });
    const failure = await bed.failureOf(...order(uriOf('data:,1', { path: 'x' }), archive));
    expect(failure).toContain('another artifact of the task has put a file in its place');
  });

  test('whose digest is another one is not there at all', async () => {
    const path = nodeFile('file', 'content');
    const wanted = sha256('other');
    expect(await bed.failureOf(uriOf(path, { sha256: wanted }))).toBe(
      `artifact ${path}: its sha256 is ${sha256('content')}, not ${wanted}`,
    );
    expect(readdirSync(bed.work)).toEqual([]);
  });

  test.each(['file', 'data'])('(%s:) is extracted only if its digest is right', async (kind) => {
    const archive = tarOf([{ path: 'x', content: 'x' }]);
    const uri = kind === 'file' ? nodeFile('a.tar', archive) : dataUri(archive);
    const wrong = uriOf(uri, { extract: true, sha256: sha256('other') });
    expect(await bed.failureOf(wrong)).toContain('its sha256 is');
    expect(readdirSync(bed.work)).toEqual([]);
    await bed.fetch(uriOf(uri, { extract: true, sha256: sha256(archive) }));
    expect(readdirSync(bed.work)).toEqual(['x']);
  });

  test('larger than a fetch may write fails it', async () => {
    bed.use({ limits: { writeMaxBytes: 10 } });
    const six = uriOf('data:,123456', { path: 'a' });
    expect(await bed.failureOf(six, { ...six, path: 'b' })).toContain('it is too large');
    expect(readdirSync(bed.work)).toEqual(['a']);
  });

  test('that does not fit on the disk fails with these words', async () => {
    const mount = `mount -t tmpfs -o size=64k tmpfs '${bed.work}' && exec "$@"`;
    const argv = ['/usr/bin/unshare', '--mount', '/bin/sh', '-c', mount, 'sh', ...helper.argv];
    const fetcher = bed.use({ helperArgv: argv });
    const path = nodeFile('large', Buffer.alloc(200_000));
    const archive = nodeFile('large.tar', tarOf([{ path: 'in', content: Buffer.alloc(200_000) }]));
    const fetch = (uri: string): Promise<void> => fetcher.fetch([uriOf(uri)], bed, never());
    await expect(fetch(path)).rejects.toMatchObject({
      code: 'artifact-failed',
      message: `artifact ${path}: no space left on the disk`,
    });
    await expect(fetch(archive)).rejects.toMatchObject({
      message: `artifact ${archive}: entry "in": no space left on the disk`,
    });
  });
});

describe('a task of another user', () => {
  test('gets no file that this user may not read, not even by the agent’s group', async () => {
    const secret = nodeFile('secret', 's', 0o640);
    expect(await bed.failureOf(uriOf(secret))).toBe(`artifact ${secret}: permission denied`);
    expect(await bed.failureOf(uriOf('file:///etc/shadow'))).toBe(
      'artifact file:///etc/shadow: permission denied',
    );
    expect(readdirSync(bed.work)).toEqual([]);
  });

  test('gets no file of the agent by way of a link', async () => {
    symlinkSync(nodeFile('secret', 's', 0o600), inWork('link'));
    const failure = await bed.failureOf(uriOf(inWork('link'), { path: 'copy' }));
    expect(failure).toContain('permission denied');
  });

  test('learns nothing of the agent’s environment or files from the helper', async () => {
    await bed.fetch(
      uriOf('/proc/self/environ'),
      uriOf('/proc/self/status'),
      uriOf('data:,1', { path: 'x' }),
    );
    expect(text('environ')).toBe('');
    expect(text('status')).toMatch(/^Groups:\s*$/m);
    expect(text('status')).toMatch(/^Uid:\t65534\t65534\t65534\t65534$/m);
    expect(text('status')).toMatch(/^CapPrm:\t0+$/m);
  });

  test('gets nothing written through a link that it has planted', async () => {
    const outside = join(bed.directory, 'outside');
    mkdirSync(outside);
    chmodSync(outside, 0o777);
    symlinkSync(outside, inWork('out'));
    symlinkSync(nodeFile('open', 'old', 0o666), inWork('file'));
    const archive = tarOf([{ path: 'x', content: 'x' }]);
    expect(await bed.failureOf(uriOf('data:,1', { path: 'out/x' }))).toContain(
      '"out" is a symbolic link',
    );
    expect(await bed.failureOf(uriOf(dataUri(archive), { extract: true, path: 'out' }))).toContain(
      '"out" is a symbolic link',
    );
    await bed.fetch(uriOf('data:,new', { path: 'file' }));
    expect([text('file'), readFileSync(join(bed.directory, 'open'), 'utf8')]).toEqual([
      'new',
      'old',
    ]);
    expect(readdirSync(outside)).toEqual([]);
  });

  test('gets nothing written where the user may not write', async () => {
    mkdirSync(inWork('of-root'), { mode: 0o755 });
    expect(await bed.failureOf(uriOf('data:,1', { path: 'of-root/x' }))).toContain(
      'permission denied',
    );
  });

  test.each([
    ['a directory', () => bed.work],
    ['a device', () => '/dev/zero'],
  ])('gets no copy of %s', async (_, path) => {
    expect(await bed.failureOf(uriOf(path(), { path: 'x' }))).toContain('it is not a regular file');
  });

  test('gets no copy of a named pipe, and is not kept waiting for one', async () => {
    const pipe = inWork('pipe');
    await new Promise((resolve) => spawn('mkfifo', ['-m', '666', pipe]).once('close', resolve));
    expect(await bed.failureOf(uriOf(pipe, { path: 'x' }))).toContain('it is not a regular file');
  });

  test('cannot look into the directory of downloads', () => {
    const modes = ['unfinished', 'cache'].map(
      (name) => lstatSync(join(bed.directory, 'artifacts', name)).mode & 0o777,
    );
    expect(modes).toEqual([0o700, 0o700]);
  });
});

test('without another user artifacts belong to the agent’s own', async () => {
  const path = nodeFile('secret', 's', 0o600);
  await bed.use().fetch([uriOf(path)], { work: bed.work }, never());
  expect([text('secret'), lstatSync(inWork('secret')).uid]).toEqual(['s', process.getuid?.()]);
});

test('a fetch of nothing needs no helper', async () => {
  bed.use({ helperArgv: ['/nowhere'] });
  await bed.fetch();
  expect(readdirSync(bed.work)).toEqual([]);
});

describe('a helper', () => {
  test.each<[string, readonly string[], string]>([
    [
      'that is not there',
      ['/nowhere'],
      'helper for artifacts: it could not be started: spawn /nowhere ENOENT',
    ],
    [
      'whose code is not there',
      [process.execPath, '/nowhere.js'],
      "it ended with code 1: Error: Cannot find module '/nowhere.js'",
    ],
    ['that answers nonsense', ['/bin/echo', '{"ok":"yes"}'], 'it ended with code 0'],
    [
      'that talks without end',
      [process.execPath, '-e', "for(;;) require('fs').writeSync(1, 'x'.repeat(65536))"],
      'it ended with signal SIGKILL',
    ],
  ])('%s fails the fetch', async (_, helperArgv, words) => {
    bed.use({ helperArgv });
    expect(await bed.failureOf(uriOf('data:,1', { path: 'x' }))).toContain(words);
  });

  test('that blames an artifact which is none is believed the rest', async () => {
    bed.use({ helperArgv: ['/bin/echo', '{"ok":false,"artifact":7,"message":"no"}'] });
    expect(await bed.failureOf(uriOf('data:,1', { path: 'x' }))).toBe(
      'artifact into the sandbox: no',
    );
  });

  test('that takes too long is ended', async () => {
    bed.use({
      helperArgv: helperAfter('setInterval(() => undefined, 1000);'),
      clock: {
        monotonicMs: () => 0,
        wallMs: () => 0,
        sleep: () => until(() => existsSync(inWork('started'))),
      },
    });
    expect(await bed.failureOf(uriOf('data:,1', { path: 'x' }))).toContain(
      'it took longer than 3600 s',
    );
  });

  test('that is cancelled is gone, and so is the file that it was writing', async () => {
    const first = `
      import { createInterface } from 'node:readline';
      import { writeFileSync } from 'node:fs';
      createInterface({ input: process.stdin }).once('line', (line) => {
        const { work, temporary } = JSON.parse(line);
        writeFileSync(work + '/' + temporary, 'half');
        writeFileSync(work + '/half-written', '');
      });
      setInterval(() => undefined, 1000);`;
    const fetcher = bed.use({ helperArgv: helperAfter(first) });
    const cancel = new AbortController();
    const target = { work: bed.work, ids: NOBODY };
    const fetched = fetcher.fetch([uriOf('data:,1', { path: 'x' })], target, cancel.signal);
    const outcome = expect(fetched).rejects.toMatchObject({ code: 'artifact-cancelled' });
    await until(() => existsSync(inWork('half-written')));
    cancel.abort();
    await outcome;
    expect(readdirSync(bed.work).sort()).toEqual(['half-written', 'started']);
    expect(existsSync(`/proc/${text('started').trim()}`)).toBe(false);
  });

  test('whose agent was killed ends and leaves no half of a file', async () => {
    const sizeBytes = 8 * 1024 ** 3;
    const path = nodeFile('huge', '');
    truncateSync(path, sizeBytes);
    const request: HelperRequest = {
      work: bed.work,
      temporary: '.artifact',
      writeMaxBytes: 2 * sizeBytes,
      entriesMax: 1,
      artifacts: [{ source: { path }, action: 'file', target: ['copy'], mode: 0o644 }],
    };
    const [program = '', ...args] = helper.argv;
    for (;;) {
      const child = spawn(program, args, { stdio: ['pipe', 'ignore', 'inherit'], ...NOBODY });
      const ended = new Promise((resolve) => child.once('close', resolve));
      const hasEnded = (): boolean => child.exitCode !== null;
      const isStopped = (): boolean =>
        readFileSync(`/proc/${String(child.pid)}/stat`, 'utf8').includes(') T ');
      child.stdin.write(`${JSON.stringify(request)}\n`);
      await until(() => hasEnded() || existsSync(inWork('.artifact')));
      // Its file must not be complete when its agent goes, and to look at that takes time.
      child.kill('SIGSTOP');
      await until(() => hasEnded() || isStopped());
      const { size = Infinity } = statSync(inWork('.artifact'), { throwIfNoEntry: false }) ?? {};
      const isHalf = size < sizeBytes / 2;
      if (isHalf) child.stdin.destroy();
      child.kill('SIGCONT');
      const exitCode = await ended;
      if (isHalf) {
        expect(exitCode).toBe(1);
        break;
      }
      rmSync(inWork('copy'));
    }
    expect(readdirSync(bed.work)).toEqual([]);
  });
});

test('no file of the agent stays open or unfinished, whatever became of the fetch', async () => {
  const good = uriOf('data:,1', { path: 'x' });
  await bed.fetch(good);
  await bed.failureOf(good, uriOf('/nowhere'));
  expect([bed.open(), bed.unfinished()]).toEqual([[], []]);
});
