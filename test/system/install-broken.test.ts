/** What can go wrong while `install.sh` works: each time it says so, and the node is as before or the next run goes on. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import {
  INSTALL,
  type InstallBed,
  type InstallRun,
  listTree,
  listTreeExactly,
  runInstall,
  startInstallBed,
} from '../beds/install-root.ts';

const GO_ON =
  'install.sh: not finished; what ran before goes on. Run the same command again to go on,';

let bed: InstallBed;

beforeEach(() => {
  bed = startInstallBed();
});

afterEach(() => {
  bed.stop();
});

/** The root without what differs each time: random keys, and what systemd keeps of accounts. */
function contents(root: string): string[] {
  return listTree(root).filter((entry) => !/\/etc\/(g?shadow|.*-|\.pwd\.lock)$/.test(entry));
}

/** A folder with a program that does what it always does, but something else at its nth call. */
function breakingAt(name: string, call: number, instead: string): string {
  const folder = join(bed.directory, `stubs-${name}-${String(call)}`);
  const count = join(folder, 'count');
  const real = execFileSync('sh', ['-c', `command -v ${name}`], { encoding: 'utf8' }).trim();
  bed.stub(
    folder,
    name,
    `echo >>${count}\nif [ $(wc -l <${count}) -eq ${String(call)} ]; then ${instead}; fi\nexec ${real} "$@"`,
  );
  return folder;
}

describe('a run that ends in the middle', () => {
  const points = [
    ['cp', 2, 'echo "cp: error writing: Input/output error" >&2; exit 1'],
    ['mv', 1, 'exit 1'],
    ['mv', 12, 'kill -KILL $PPID'],
    ['chmod', 3, 'kill -TERM $PPID; sleep 1'],
    ['mkdir', 6, 'kill -INT $PPID; sleep 1'],
    ['ln', 1, 'kill -KILL $PPID'],
  ] as const;

  test.each(points)(
    'at call %2$i of %1$s is gone on with by the next one',
    async (name, call, instead) => {
      const clean = startInstallBed();
      try {
        const folder = bed.package();
        const args = ['agent', 'bullmq', '--from', folder, '--yes'];
        await clean.install(args);
        const broken = await bed.install(args, { path: breakingAt(name, call, instead) });
        expect(broken.code).not.toBe(0);
        if (broken.signal === null)
          expect(broken.err).toMatch(
            /install.sh: (not finished; what ran before goes on|ended before anything)/,
          );
        const again = await bed.install(args);
        expect({ code: again.code, err: again.err }).toEqual({ code: 0, err: '' });
        expect(contents(bed.root)).toEqual(contents(clean.root));
        expect(bed.read('/var/lib/kaon/install/manifest')).toBe(
          clean.read('/var/lib/kaon/install/manifest'),
        );
      } finally {
        clean.stop();
      }
    },
  );

  test.each(points)(
    'at call %2$i of %1$s is taken back by --uninstall',
    async (name, call, instead) => {
      const before = contents(bed.root);
      await bed.install(['agent', 'bullmq', '--from', bed.package(), '--yes'], {
        path: breakingAt(name, call, instead),
      });
      const { code, err } = await bed.install(['--uninstall', '--purge', '--yes']);
      expect({ code, err }).toEqual({ code: 0, err: '' });
      expect(contents(bed.root)).toEqual(before);
    },
  );

  test.each(points)(
    'at call %2$i of %1$s leaves a version that runs',
    async (name, call, instead) => {
      await bed.install(['agent', '--from', bed.package(), '--yes']);
      const next = bed.package({ version: '1.1.0', files: { 'dist/man/kaon-new.1': 'new\n' } });
      await bed.install(['agent', 'bullmq', '--from', next, '--yes'], {
        path: breakingAt(name, call, instead),
      });
      const now = /"version": "(.*)"/.exec(bed.read('/usr/lib/kaon/current/package.json'))?.[1];
      expect(['1.0.0', '1.1.0']).toContain(now);
      expect(bed.read('/usr/lib/kaon/current/dist/kaon.js')).toContain(
        `console.log('${now ?? ''}')`,
      );
      expect(bed.read('/usr/bin/kaon')).toMatch(/\nexec .* "\$@"\n$/);
      expect(bed.read('/etc/systemd/system/kaon-agent.service')).toMatch(/WantedBy=.*\n$/);
    },
  );

  test('says before the next one that it goes on with it', async () => {
    const folder = bed.package();
    await bed.install(['agent', '--from', folder, '--yes'], {
      path: breakingAt('ln', 1, 'exit 1'),
    });
    const { out } = await bed.install(['agent', '--from', folder, '--dry-run']);
    expect(out).toContain(
      '  warn  an installation was not finished here; this one goes on with it\n',
    );
  });
});

describe('no space', () => {
  /** Runs in a mount namespace of its own, where the root is a file system of this size. */
  async function installOn(
    options: string,
    args: readonly string[],
  ): Promise<InstallRun & { readonly left: string[] }> {
    const listing = join(bed.directory, 'left');
    const script = [
      `mount -t tmpfs -o ${options} tmpfs "$KAON_ROOT"`,
      'mkdir -p "$KAON_ROOT/usr/bin"',
      'printf "#!/bin/sh\\necho v20.11.0\\n" >"$KAON_ROOT/usr/bin/node"; chmod 755 "$KAON_ROOT/usr/bin/node"',
      'status=0; "$@" || status=$?',
      `(cd "$KAON_ROOT" && find . -type f) >${listing}`,
      'exit $status',
    ].join('\n');
    const run = await runInstall(['--root', bed.root, ...args], {
      before: ['unshare', '--mount', '--propagation', 'private', 'sh', '-c', script, 'sh'],
      env: { KAON_ROOT: bed.root },
    });
    return { ...run, left: readFileSync(listing, 'utf8').trim().split('\n') };
  }

  test('is seen before anything is written', async () => {
    const { code, out, left } = await installOn('size=1m', [
      'agent',
      '--from',
      bed.package(),
      '--yes',
    ]);
    expect(code).toBe(69);
    expect(out).toMatch(
      /  FAIL  0 MB free for .*\/usr\/lib\/kaon, and \d+ MB are needed\n        make room there\n/,
    );
    expect(left).toEqual(['./usr/bin/node']);
  });

  test('that nobody could see before ends it, and gives back what half a copy took', async () => {
    // Files are counted, too, and df does not say so.
    const { code, err, left } = await installOn('size=64m,nr_inodes=40', [
      'agent',
      '--from',
      bed.package(),
      '--yes',
    ]);
    expect(code).toBe(1);
    expect(err).toContain('No space left on device');
    expect(err).toContain(GO_ON);
    expect(left.filter((path) => path.includes('.kaon-new'))).toEqual([]);
  });
});

describe('a package', () => {
  test.each([
    [
      'is cut',
      (path: string) => {
        truncateSync(path, 3000);
      },
      'is broken',
    ],
    [
      'is no tarball',
      (path: string) => {
        writeFileSync(path, 'hello\n');
      },
      'is broken',
    ],
    [
      'does not have the checksum beside it',
      (path: string) => {
        writeFileSync(`${path}.sha256`, `${'0'.repeat(64)}  kaon.tgz\n`);
      },
      'has the checksum',
    ],
  ])('that %s is refused, and nothing is changed', async (_what, spoil, words) => {
    const path = bed.tarball(bed.package());
    spoil(path);
    const before = listTreeExactly(bed.root);
    const { code, err } = await bed.install(['agent', '--from', path, '--yes']);
    expect(code).toBe(65);
    expect(err).toContain(`install.sh: ${path} ${words}`);
    expect(listTreeExactly(bed.root)).toEqual(before);
  });

  test.each(['dist/kaon.js', 'package.json'])('without %s is refused', async (part) => {
    const path = bed.tarball(bed.package({ files: { [part]: undefined } }));
    const { code, err } = await bed.install(['agent', '--from', path, '--yes']);
    expect(code).toBe(65);
    expect(err).toContain('is no package of Kaon');
  });

  test('with the right checksum beside it is taken', async () => {
    const path = bed.tarball(bed.package());
    writeFileSync(`${path}.sha256`, execFileSync('sha256sum', [path]));
    expect((await bed.install(['agent', '--from', path, '--yes'])).code).toBe(0);
  });

  test('is fetched by its version, with its checksum', async () => {
    const path = bed.tarball(bed.package({ version: '2.0.0' }));
    const releases = dirname(path);
    execFileSync('mv', [path, join(releases, 'kaon-2.0.0.tgz')]);
    const sum = execFileSync('sha256sum', ['kaon-2.0.0.tgz'], { cwd: releases, encoding: 'utf8' });
    const env = { KAON_RELEASES: `file://${releases}` };
    const args = ['agent', '--version', '2.0.0', '--yes'];
    const without = await bed.install(args, { env });
    expect(without.code).toBe(69);
    expect(without.err).toMatch(
      /cannot fetch file:.*SHASUMS256.txt: .*; without a network give --from TARBALL\n/,
    );
    writeFileSync(
      join(releases, 'SHASUMS256.txt'),
      sum.replace(/^./, (digit) => (digit === '0' ? '1' : '0')),
    );
    const wrong = await bed.install(args, { env });
    expect(wrong.code).toBe(65);
    writeFileSync(join(releases, 'SHASUMS256.txt'), sum);
    expect((await bed.install(args, { env })).code).toBe(0);
    expect(bed.read('/usr/lib/kaon/current/package.json')).toContain('2.0.0');
  });
});

describe('a tarball of Node', () => {
  test.each([
    [
      'with a wrong checksum',
      '24.1.0',
      (path: string) => {
        writeFileSync(
          join(dirname(path), 'SHASUMS256.txt'),
          `${'0'.repeat(64)}  ${basename(path)}\n`,
        );
      },
      'has the checksum',
    ],
    [
      'that is cut',
      '24.1.0',
      (path: string) => {
        rmSync(join(dirname(path), 'SHASUMS256.txt'));
        truncateSync(path, 60);
      },
      'is not a tarball of Node',
    ],
    [
      'of an old version',
      '18.20.4',
      () => undefined,
      'has node 18.20.4, and 20 or later is needed',
    ],
  ])('%s is refused, and nothing is changed', async (_what, version, spoil, words) => {
    const path = bed.nodeTarball(version);
    spoil(path);
    const before = listTreeExactly(bed.root);
    const { code, err } = await bed.install([
      'agent',
      '--from',
      bed.package(),
      '--node',
      path,
      '--yes',
    ]);
    expect(code).toBe(65);
    expect(err).toContain(words);
    expect(listTreeExactly(bed.root)).toEqual(before);
  });
});

test('files of others that are in the way are named, and nothing is changed', async () => {
  bed.write('/usr/bin/kaon', 'another program\n');
  const before = listTreeExactly(bed.root);
  const { code, out, err } = await bed.install(['agent', '--from', bed.package(), '--yes']);
  expect(code).toBe(69);
  expect(out).toContain(`  FAIL  ${bed.root}/usr/bin/kaon is there already, and not from here\n`);
  expect(err).toBe('install.sh: 1 check failed; nothing was changed\n');
  expect(listTreeExactly(bed.root)).toEqual(before);
});

test('a script that broke off in the middle does nothing', async () => {
  const lines = readFileSync(INSTALL, 'utf8').split('\n');
  const cuts = lines
    .map((_line, index) => index)
    .filter((index) => index % 40 === 7 || index > lines.length - 9);
  const from = bed.package();
  const before = listTreeExactly(bed.root);
  for (const cut of cuts.filter((index) => index < lines.length - 2)) {
    const script = join(bed.directory, 'cut.sh');
    writeFileSync(script, lines.slice(0, cut).join('\n'));
    const { out } = await bed.install(['agent', '--from', from, '--yes'], { script });
    expect([cut, out]).toEqual([cut, '']);
  }
  expect(listTreeExactly(bed.root)).toEqual(before);
  expect(existsSync(join(bed.root, '/usr/lib/kaon'))).toBe(false);
});
