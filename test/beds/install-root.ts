/**
 * Where `install.sh` is tried: a root directory of its own for `--root`, and small packages that have everything the
 * script looks at and no program that runs. No terminal, whoever starts the tests.
 */
import { spawn, execFileSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The tree that is tested. */
export const TREE = fileURLToPath(new URL('../..', import.meta.url));
/** The script that is tested. */
export const INSTALL = join(TREE, 'install.sh');

const PASSWD =
  'root:x:0:0:root:/root:/bin/bash\nredis:x:107:113::/var/lib/redis:/usr/sbin/nologin\n';
const GROUP = 'root:x:0:\nredis:x:113:\n';

/** How a run ended. */
export interface InstallRun {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly out: string;
  readonly err: string;
}

/** How a run is made. */
export interface InstallOptions {
  /** Default `sh`. */
  readonly shell?: string;
  /** Folders before those of PATH. */
  readonly path?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string;
  /** Default: the one of the tree. */
  readonly script?: string;
  /** What starts the shell: `['unshare', '--mount', ...]`. */
  readonly before?: readonly string[];
}

/** A package that differs from the usual one. */
export interface PackageOptions {
  readonly version?: string;
  /** More files, or others, by their paths in the package; undefined leaves one out. */
  readonly files?: Readonly<Record<string, string | undefined>>;
}

/** One root, and what is installed there. */
export interface InstallBed {
  readonly directory: string;
  readonly root: string;
  /** Runs `install.sh` with `--root`. */
  install(args: readonly string[], options?: InstallOptions): Promise<InstallRun>;
  /** Makes a folder with a package. */
  package(options?: PackageOptions): string;
  /** Makes a tarball of such a folder, as `npm pack` does. */
  tarball(folder: string): string;
  /** Makes a tarball of Node whose `node` says that it is `version`. */
  nodeTarball(version: string): string;
  /** Makes a program that is found first, if the folder is in `path`. */
  stub(folder: string, name: string, script: string): void;
  write(path: string, text: string): void;
  read(path: string): string;
  stop(): void;
}

/** @returns a bed whose root has accounts and the unit of a Redis, as an image of a distribution has */
export function startInstallBed(): InstallBed {
  const directory = mkdtempSync(join(tmpdir(), 'kaon-bed-install-'));
  const root = join(directory, 'root');
  // An installer that is killed cannot tidy up.
  const scratch = join(directory, 'tmp');
  mkdirSync(scratch);
  let count = 0;
  const next = (): string => join(directory, `made-${String((count += 1))}`);
  const bed: InstallBed = {
    directory,
    root,
    install: (args, options) =>
      runInstall(['--root', root, ...args], {
        ...options,
        env: { TMPDIR: scratch, ...options?.env },
      }),
    package: (options = {}) => makePackage(next(), options),
    tarball: (folder) => {
      const path = join(next(), 'kaon.tgz');
      mkdirSync(dirname(path));
      execFileSync('tar', ['-czf', path, '--transform', 's,^\\.,package,', '-C', folder, '.']);
      return path;
    },
    nodeTarball: (version) => makeNodeTarball(next(), version),
    stub: (folder, name, script) => {
      writeProgram(join(folder, name), script);
    },
    write: (path, text) => {
      mkdirSync(dirname(join(root, path)), { recursive: true });
      writeFileSync(join(root, path), text);
    },
    read: (path) => readFileSync(join(root, path), 'utf8'),
    stop: () => {
      rmSync(directory, { recursive: true, force: true });
    },
  };
  bed.write('/etc/passwd', PASSWD);
  bed.write('/etc/group', GROUP);
  bed.write('/etc/os-release', 'ID=debian\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n');
  writeProgram(join(root, '/usr/bin/node'), 'echo v20.11.0');
  return bed;
}

/** Runs `install.sh` as a process without a terminal. */
export function runInstall(
  args: readonly string[],
  { shell = 'sh', path, env = {}, input = '', script = INSTALL, before = [] }: InstallOptions = {},
): Promise<InstallRun> {
  const [command = '', ...rest] = [...before, shell, script, ...args];
  const PATH = [...(path === undefined ? [] : [path]), process.env['PATH'] ?? ''].join(':');
  const child = spawn(command, rest, {
    // A session of its own: nothing to ask on.
    detached: true,
    stdio: 'pipe',
    env: { PATH, LC_ALL: 'C', TMPDIR: tmpdir(), ...env },
  });
  let out = '';
  let err = '';
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()));
  child.stdin.on('error', () => undefined);
  child.stdin.end(input);
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => {
      resolve({ code, signal, out, err });
    });
  });
}

/** Every file of a folder: `755 directory`, `644 file`, or where a link leads; sorted. */
export function listTree(folder: string): string[] {
  const list = (path: string): string[] =>
    readdirSync(join(folder, path)).flatMap((name) => {
      const below = `${path}/${name}`;
      const stat = lstatSync(join(folder, below));
      if (stat.isSymbolicLink()) return [`${below} -> ${readlinkSync(join(folder, below))}`];
      const mode = (stat.mode & 0o7777).toString(8);
      if (!stat.isDirectory()) return [`${mode} ${below}`];
      return [`${mode} ${below}/`, ...list(below)];
    });
  return list('').sort();
}

/** As `listTree`, with inodes, times and sizes: the same twice if nothing was written. */
export function listTreeExactly(folder: string): string[] {
  return listTree(folder).map((entry) => {
    const path = entry.replace(/^\d+ | -> .*$/g, '');
    const { ino, mtimeMs, size } = lstatSync(join(folder, path));
    return [entry, ino, mtimeMs, size].join(' ');
  });
}

function makePackage(folder: string, { version = '1.0.0', files = {} }: PackageOptions): string {
  const usual: Record<string, string | undefined> = {
    'package.json': `{\n  "name": "kaon",\n  "version": "${version}"\n}\n`,
    LICENSE: 'a license\n',
    'README.md': 'read me\n',
    'dist/kaon.js': `#!/usr/bin/env node\nconsole.log('${version}');\n`,
    'dist/man/kaon.1': '.TH KAON 1\n',
    'dist/man/kaon-agent.8': '.TH KAON-AGENT 8\n',
    'dist/completion/kaon.bash': 'complete kaon\n',
    'dist/completion/_kaon': '#compdef kaon\n',
    'dist/completion/kaon.fish': 'complete -c kaon\n',
    'systemd/config/master.toml':
      '# A master.\n\n# redis = "redis://127.0.0.1:6379"\n# cluster = "default"\n# lease = "3s"\n',
    'systemd/config/agent.toml':
      '# An agent.\n\n# redis = "redis://127.0.0.1:6379"\n# cluster = "default"\n# reserve = "mem=512M"\n\n[attribute]\n# rack = "a1"\n',
    'systemd/config/bullmq.toml': '# Queues.\n',
  };
  for (const [path, text] of Object.entries({ ...usual, ...files })) {
    if (text === undefined) continue;
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), text);
  }
  for (const part of ['units', 'sysusers.d', 'tmpfiles.d'])
    cpSync(join(TREE, 'systemd', part), join(folder, 'systemd', part), { recursive: true });
  for (const part of ['install.sh', 'systemd/with-journal'])
    cpSync(join(TREE, part), join(folder, part));
  return folder;
}

function makeNodeTarball(folder: string, version: string): string {
  const name = `node-v${version}-linux-x64`;
  writeProgram(join(folder, name, 'bin/node'), `echo v${version}`);
  writeProgram(join(folder, name, 'bin/npm'), 'exit 1');
  writeFileSync(join(folder, name, 'LICENSE'), 'a license\n');
  const path = join(folder, `${name}.tar.gz`);
  execFileSync('tar', ['-czf', path, '-C', folder, name]);
  const sum = execFileSync('sha256sum', [path], { encoding: 'utf8' }).split(' ')[0] ?? '';
  writeFileSync(join(folder, 'SHASUMS256.txt'), `${sum}  ${name}.tar.gz\n`);
  return path;
}

function writeProgram(path: string, script: string): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, `#!/bin/sh\n${script}\n`);
  chmodSync(path, 0o755);
}
