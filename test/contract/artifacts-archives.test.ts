/** Archives into a sandbox, as another user: what comes out, and what is refused. */
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
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
import { gzipSync } from 'node:zlib';
import * as tar from 'tar';
import {
  type ArtifactBed,
  buildHelper,
  createBed,
  dataUri,
  NOBODY,
  type TarEntry,
  tarOf,
  uriOf,
  type ZipEntry,
  zipOf,
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

const extract = (bytes: Uint8Array, path?: string): ReturnType<typeof uriOf> =>
  uriOf(dataUri(bytes), { extract: true, ...(path !== undefined && { path }) });
const inWork = (...parts: string[]): string => join(bed.work, ...parts);
const text = (...parts: string[]): string => readFileSync(inWork(...parts), 'utf8');
const modeOf = (...parts: string[]): string =>
  (lstatSync(inWork(...parts)).mode & 0o7777).toString(8);

/** Everything below a directory, as paths. */
function listAll(directory: string): string[] {
  return readdirSync(directory, { recursive: true }).map(String).sort();
}

describe('a tar archive', () => {
  const entries: TarEntry[] = [
    { path: './', type: 'Directory' },
    { path: 'bin/', type: 'Directory', mode: 0o2775 },
    { path: 'bin/run', content: '#!/bin/sh\n', mode: 0o775 },
    { path: 'bin/start', type: 'SymbolicLink', linkpath: 'run' },
    { path: 'lib/deep/x.txt', content: 'x' },
    { path: 'lib/deep/up', type: 'SymbolicLink', linkpath: '../../bin/run' },
    { path: 'bin/again', type: 'Link', linkpath: 'bin/run' },
    { path: 'secret', content: 's', mode: 0o600 },
    { path: 'read-only', content: 'r', mode: 0o444 },
  ];

  test.each([
    ['plain', (bytes: Buffer) => bytes],
    ['gzipped', (bytes: Buffer) => gzipSync(bytes)],
  ])('that is %s is extracted with its links, rights and times', async (_, pack) => {
    await bed.fetch(extract(pack(tarOf(entries))));
    expect({
      run: [text('bin/run'), modeOf('bin/run'), lstatSync(inWork('bin/run')).nlink],
      directory: modeOf('bin'),
      links: [readlinkSync(inWork('bin/start')), readlinkSync(inWork('lib/deep/up'))],
      deep: [text('lib/deep/x.txt'), modeOf('lib/deep/x.txt'), modeOf('lib/deep')],
      modes: [modeOf('secret'), modeOf('read-only')],
      time: statSync(inWork('bin/run')).mtimeMs,
      owner: lstatSync(inWork('bin/start')).uid,
    }).toEqual({
      run: ['#!/bin/sh\n', '755', 2],
      directory: '755',
      links: ['run', '../../bin/run'],
      deep: ['x', '644', '755'],
      modes: ['600', '644'],
      time: 1_600_000_000_000,
      owner: NOBODY.uid,
    });
  });

  test('of a real program with a long name and a large file is extracted whole', async () => {
    const source = join(bed.directory, 'source');
    const name = `${'directory/'.repeat(15)}${'n'.repeat(120)}`;
    mkdirSync(join(source, name, '..'), { recursive: true });
    const content = Buffer.alloc(3_000_001, 'abc');
    writeFileSync(join(source, name), content);
    const file = join(bed.directory, 'real.tgz');
    await tar.create({ file, cwd: source, gzip: true }, ['directory']);
    await bed.fetch(uriOf(`file://${file}`));
    expect(readFileSync(inWork(name)).equals(content)).toBe(true);
  });

  test('is extracted into its path, which is made', async () => {
    await bed.fetch(extract(tarOf([{ path: 'a/b', content: 'b' }]), 'app/v1'));
    expect([text('app/v1/a/b'), lstatSync(inWork('app')).uid]).toEqual(['b', NOBODY.uid]);
  });

  test('replaces the files that are there, and the links instead of what they lead to', async () => {
    const outside = join(bed.directory, 'outside');
    writeFileSync(outside, 'outside', { mode: 0o666 });
    writeFileSync(inWork('old'), 'old');
    symlinkSync(outside, inWork('link'));
    await bed.fetch(
      extract(
        tarOf([
          { path: 'old', content: 'new' },
          { path: 'link', content: 'new' },
          { path: 'link', content: 'newer' },
        ]),
      ),
    );
    expect([text('old'), text('link'), readFileSync(outside, 'utf8')]).toEqual([
      'new',
      'newer',
      'outside',
    ]);
  });

  test.each<[string, TarEntry[], string]>([
    ['a name that leads out', [{ path: '../evil' }], 'entry "../evil": its name leads out'],
    ['a name that leads out later', [{ path: 'a/../../evil' }], 'its name leads out'],
    ['an absolute name', [{ path: '/evil' }], 'entry "/evil": its name is absolute'],
    [
      'a link to an absolute path',
      [{ path: 'l', type: 'SymbolicLink', linkpath: '/etc' }],
      'entry "l": it is a symbolic link to "/etc", an absolute path',
    ],
    [
      'a link that leads out',
      [{ path: 'd/l', type: 'SymbolicLink', linkpath: '../../x' }],
      'entry "d/l": it is a symbolic link to "../../x", which is outside of the directory',
    ],
    [
      'a link that leads out over another one',
      [
        { path: 'up/l', type: 'SymbolicLink', linkpath: '..' },
        { path: 'evil', type: 'SymbolicLink', linkpath: 'up/l/../x' },
      ],
      'entry "evil": it is a symbolic link to "up/l/../x"; .. is allowed at the beginning only',
    ],
    [
      'a file that is written through a link',
      [
        { path: 'd/x', content: 'x' },
        { path: 'l', type: 'SymbolicLink', linkpath: 'd' },
        { path: 'l/y', content: 'y' },
      ],
      'entry "l/y": "into/l" is a symbolic link',
    ],
    [
      'a directory in place of a link',
      [
        { path: 'd/x', content: 'x' },
        { path: 'l', type: 'SymbolicLink', linkpath: 'd' },
        { path: 'l', type: 'Directory' },
      ],
      'entry "l": "into/l" is a symbolic link',
    ],
    [
      'a hard link that leads out',
      [{ path: 'h', type: 'Link', linkpath: '../x' }],
      'entry "h": its name leads out',
    ],
    [
      'a hard link to an absolute path',
      [{ path: 'h', type: 'Link', linkpath: '/etc/passwd' }],
      'entry "h": its name is absolute',
    ],
    [
      'a hard link to what is not in the archive',
      [{ path: 'h', type: 'Link', linkpath: 'there' }],
      'entry "h": it is a hard link to "into/there", which is no file of the archive',
    ],
    [
      'a hard link to a link, which would lead elsewhere from another place',
      [
        { path: 'a/b/l', type: 'SymbolicLink', linkpath: '../../x' },
        { path: 'l', type: 'Link', linkpath: 'a/b/l' },
      ],
      'entry "l": it is a hard link to "into/a/b/l", which is no file of the archive',
    ],
    ['a device', [{ path: 'n', type: 'CharacterDevice' }], 'entry "n": devices are not supported'],
    ['a named pipe', [{ path: 'p', type: 'FIFO' }], 'entry "p": named pipes are not supported'],
    ['a sparse file', [{ path: 's', type: 'SparseFile' }], 'entry "s": sparse files are not'],
    ['a setuid file', [{ path: 'su', mode: 0o4755 }], 'entry "su": it is setuid or setgid'],
    ['a setgid file', [{ path: 'sg', mode: 0o2755 }], 'entry "sg": it is setuid or setgid'],
    [
      'a file instead of a directory',
      [{ path: 'old/', type: 'Directory' }, { path: 'old' }],
      'entry "old": there is a directory in its place',
    ],
    [
      'a file in place of all',
      [{ path: '.' }],
      'entry ".": it is a file in place of the directory',
    ],
  ])('with %s fails the fetch', async (_, evil, words) => {
    writeFileSync(inWork('there'), 'not of the archive');
    const before = listAll(join(bed.work, '..'));
    const archive = tarOf([{ path: 'first', content: '1' }, ...evil]);
    const failure = await bed.failureOf(extract(archive, 'into'));
    const made = listAll(join(bed.work, '..')).filter((path) => !before.includes(path));
    expect(failure).toContain(words);
    expect(made.filter((path) => !/^work\/into(\/|$)/.test(path))).toEqual([]);
  });

  test.each<[string, () => Buffer, string]>([
    [
      'cut off within a file',
      () => tarOf([{ path: 'a', content: 'a'.repeat(2000) }]).subarray(0, 1024),
      'the archive is damaged: TAR_BAD_ARCHIVE: Truncated input',
    ],
    [
      'cut off within its compression',
      () => gzipSync(tarOf([{ path: 'a', content: 'abcdefgh'.repeat(200) }])).subarray(0, 90),
      'the archive is damaged: unexpected end of file',
    ],
    [
      'damaged in its compression',
      () => {
        const bytes = gzipSync(tarOf([{ path: 'a', content: 'a' }]));
        bytes[20] = (bytes[20] ?? 0) ^ 0xff;
        return bytes;
      },
      'the archive is damaged',
    ],
    [
      'compressed twice',
      () => gzipSync(gzipSync(tarOf([{ path: 'a', content: 'a' }]))),
      'it is neither tar nor zip',
    ],
    ['no archive at all', () => Buffer.alloc(2000, 'text'), 'it is neither tar nor zip'],
    ['empty', () => Buffer.alloc(0), 'it is neither tar nor zip'],
    [
      'compressed by xz',
      () => Buffer.from('fd377a585a0000', 'hex'),
      'it is compressed by xz: only .tar, .tar.gz and .zip can be',
    ],
    ['compressed by bzip2', () => Buffer.from('BZh91AY'), 'it is compressed by bzip2'],
    ['compressed by zstd', () => Buffer.from('28b52ffd00', 'hex'), 'it is compressed by zstd'],
  ])('that is %s fails the fetch', async (_, bytes, words) => {
    expect(await bed.failureOf(extract(bytes()))).toContain(words);
  });

  test('that is damaged leaves no half of a file', async () => {
    const bytes = tarOf([{ path: 'a', content: 'a'.repeat(2000) }]).subarray(0, 1024);
    await bed.failureOf(extract(bytes));
    expect(listAll(bed.work)).toEqual([]);
  });

  test('with more bytes than a fetch may write fails it, and the file is gone', async () => {
    bed.use({ limits: { writeMaxBytes: 100_000 } });
    const bytes = gzipSync(
      tarOf([
        { path: 'small', content: 's' },
        { path: 'bomb', content: Buffer.alloc(200_000) },
      ]),
    );
    expect(await bed.failureOf(extract(bytes))).toContain('it is too large');
    expect(listAll(bed.work)).not.toContain('bomb');
  });

  test('of nothing but headers counts by its own size', async () => {
    bed.use({ limits: { writeMaxBytes: 100_000 } });
    const comment = '1024 comment='.padEnd(1023, 'x') + '\n';
    const headers = Array.from({ length: 100 }, () => ({
      path: 'pax',
      type: 'GlobalExtendedHeader',
      content: comment,
    }));
    const bytes = gzipSync(tarOf([{ path: 'a' }, ...headers]));
    expect(await bed.failureOf(extract(bytes))).toContain('it is too large');
  });

  test('with more entries than a fetch may have fails it', async () => {
    bed.use({ limits: { entriesMax: 10 } });
    const archive = (name: string): Buffer =>
      tarOf(Array.from({ length: 6 }, (_, index) => ({ path: `${name}${String(index)}` })));
    const failure = await bed.failureOf(extract(archive('a')), extract(archive('b')));
    expect(failure).toContain('entry "b4": there are too many entries in it');
  });

  test('with few entries in many directories has too many, too', async () => {
    bed.use({ limits: { entriesMax: 30 } });
    const failure = await bed.failureOf(extract(tarOf([{ path: `${'a/'.repeat(40)}x` }])));
    expect(failure).toContain('there are too many entries in it');
  });
});

describe('a zip archive', () => {
  test('is extracted with its links, rights and times', async () => {
    const entries: ZipEntry[] = [
      { path: 'bin/', mode: 0o040755 },
      { path: 'bin/run', mode: 0o100775, content: '#!/bin/sh\n', isDeflated: true },
      { path: 'bin/start', mode: 0o120777, content: 'run' },
      { path: 'lib/x.txt', content: 'x'.repeat(100_000), isDeflated: true },
      { path: 'empty' },
    ];
    await bed.fetch(extract(zipOf(entries)));
    expect({
      run: [text('bin/run'), modeOf('bin/run')],
      link: readlinkSync(inWork('bin/start')),
      x: [text('lib/x.txt').length, modeOf('lib/x.txt'), modeOf('lib')],
      empty: text('empty'),
      time: statSync(inWork('bin/run')).mtime.toISOString(),
      owner: lstatSync(inWork('bin/run')).uid,
    }).toEqual({
      run: ['#!/bin/sh\n', '755'],
      link: 'run',
      x: [100_000, '644', '755'],
      empty: '',
      time: '2020-01-01T00:00:00.000Z',
      owner: NOBODY.uid,
    });
  });

  test.each<[string, ZipEntry[], string]>([
    ['a name that leads out', [{ path: '../evil' }], 'invalid relative path: ../evil'],
    [
      'a name that leads out by backslashes',
      [{ path: 'a\\..\\..\\evil' }],
      'invalid relative path',
    ],
    ['an absolute name', [{ path: '/evil' }], 'absolute path: /evil'],
    [
      'a link that leads out',
      [{ path: 'l', mode: 0o120777, content: '../x' }],
      'entry "l": it is a symbolic link to "../x", which is outside',
    ],
    [
      'a link to an absolute path',
      [{ path: 'l', mode: 0o120777, content: '/etc/passwd' }],
      'an absolute path',
    ],
    [
      'a link longer than any path',
      [{ path: 'l', mode: 0o120777, content: 'x'.repeat(5000) }],
      'entry "l": it is a symbolic link too long',
    ],
    [
      'a file that is written through a link',
      [{ path: 'd/' }, { path: 'l', mode: 0o120777, content: 'd' }, { path: 'l/x' }],
      'entry "l/x": "into/l" is a symbolic link',
    ],
    [
      'a device',
      [{ path: 'n', mode: 0o020666 }],
      'entry "n": devices and named pipes are not supported',
    ],
    ['a setuid file', [{ path: 'su', mode: 0o104755 }], 'entry "su": it is setuid or setgid'],
    [
      'an encrypted file',
      [{ path: 'e', isEncrypted: true, content: 'e'.repeat(12), uncompressedSize: 0 }],
      'entry "e": it is encrypted',
    ],
    [
      'an unknown compression',
      [{ path: 'z', method: 14, content: 'z' }],
      'entry "z": compression method 14 is not supported',
    ],
    [
      'a file whose checksum is another one',
      [{ path: 'c', content: 'c', crc32: 1 }],
      'entry "c": its checksum is another one',
    ],
    [
      'a file that is larger than it says',
      [{ path: 'b', content: 'b'.repeat(1000), isDeflated: true, uncompressedSize: 10 }],
      'entry "b": too many bytes in the stream',
    ],
    [
      'damaged data',
      [{ path: 'b', content: 'no deflated data', method: 8 }],
      'entry "b": its data is damaged',
    ],
  ])('with %s fails the fetch', async (_, evil, words) => {
    const before = listAll(join(bed.work, '..'));
    const failure = await bed.failureOf(
      extract(zipOf([{ path: 'first', content: '1' }, ...evil]), 'into'),
    );
    const made = listAll(join(bed.work, '..')).filter((path) => !before.includes(path));
    expect(failure).toContain(words);
    expect(made.filter((path) => !/^work\/into(\/|$)/.test(path))).toEqual([]);
    expect(['b', 'c'].filter((name) => existsSync(inWork('into', name)))).toEqual([]);
  });

  test('that expands to more than a fetch may write fails it', async () => {
    bed.use({ limits: { writeMaxBytes: 100_000 } });
    const bomb = zipOf([{ path: 'bomb', content: Buffer.alloc(1_000_000), isDeflated: true }]);
    expect(await bed.failureOf(extract(bomb))).toContain('entry "bomb": it is too large');
  });

  test('that is cut off fails the fetch', async () => {
    const bytes = zipOf([{ path: 'a', content: 'a'.repeat(100) }]).subarray(0, 100);
    expect(await bed.failureOf(extract(bytes))).toContain('it cannot be read: End of central');
  });
});
