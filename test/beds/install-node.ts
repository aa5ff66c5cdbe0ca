/**
 * A node that `install.sh` may change: a private systemd whose /etc, /usr and /var are this machine's with a layer over
 * them. What is written goes into the layer, which is gone with the node.
 */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { KAON } from './cluster.ts';
import { type InstallOptions, type InstallRun, runInstall, TREE } from './install-root.ts';
import { startSystemdBed } from './private-systemd.ts';

/** What is in the layer of the node, from outside. */
export interface InstallNode {
  /** Runs `install.sh` on the node. */
  install(args: readonly string[], options?: InstallOptions): Promise<InstallRun>;
  /** Runs a command there and returns what it printed. @throws Error if it fails */
  run(...argv: string[]): string;
  /** One property of a unit. */
  show(unit: string, property: string): string;
  /** Makes a folder with the package as it was built, under another version. */
  package(version: string, files?: Readonly<Record<string, string>>): string;
  /** Files that are in the layer, or removed by it: paths, sorted. */
  written(): string[];
  stop(): Promise<void>;
}

/**
 * The layers are on a tmpfs. systemd reads unit files from where the bed tells it to, which is not where they are
 * installed: so that folder is put there.
 */
const LAYERS = `
mount -t tmpfs tmpfs /mnt
for folder in etc usr var; do
  mkdir -p /mnt/$folder/upper /mnt/$folder/work
  mount -t overlay -o lowerdir=/$folder,upperdir=/mnt/$folder/upper,workdir=/mnt/$folder/work overlay /$folder
done
rm -rf /etc/kaon /var/lib/kaon
mkdir -p /run/systemd/system.control
mount --bind /etc/systemd/system /run/systemd/system.control
`;

/** @param directory for packages; existing, and not below /run */
export async function startInstallNode(directory: string): Promise<InstallNode> {
  const bed = await startSystemdBed();
  try {
    bed.run('sh', '-ec', LAYERS);
  } catch (error) {
    await bed.stop();
    throw error;
  }
  return {
    install: (args, options) => runInstall(args, { before: bed.inside.nsenter([]), ...options }),
    run: (...argv) => bed.run(...argv),
    show: (unit, property) => bed.run('systemctl', 'show', '--value', '-p', property, unit).trim(),
    package: (version, files = {}) => makeRealPackage(join(directory, version), version, files),
    written: () =>
      bed
        .run('sh', '-c', 'cd /mnt && find etc/upper usr/upper var/upper ! -type d')
        .trim()
        .split('\n')
        .map((path) => path.replace('/upper/', '/'))
        .sort(),
    stop: () => bed.stop(),
  };
}

function makeRealPackage(
  folder: string,
  version: string,
  files: Readonly<Record<string, string>>,
): string {
  mkdirSync(folder, { recursive: true });
  cpSync(dirname(KAON), join(folder, 'dist'), { recursive: true });
  for (const part of ['units', 'config', 'sysusers.d', 'tmpfiles.d', 'with-journal'])
    cpSync(join(TREE, 'systemd', part), join(folder, 'systemd', part), { recursive: true });
  cpSync(join(TREE, 'install.sh'), join(folder, 'install.sh'));
  const manifest = readFileSync(join(TREE, 'package.json'), 'utf8');
  writeFileSync(
    join(folder, 'package.json'),
    manifest.replace(/^ {2}"version": ".*"/m, `  "version": "${version}"`),
  );
  for (const [path, text] of Object.entries(files)) writeFileSync(join(folder, path), text);
  return folder;
}

/** A folder as nodejs.org has it, with this very node as its newest version 24. */
export function makeNodeMirror(directory: string): string {
  const folder = join(directory, 'latest-v24.x');
  const name = 'node-v24.99.0-linux-x64';
  mkdirSync(join(folder, name, 'bin'), { recursive: true });
  cpSync(process.execPath, join(folder, name, 'bin/node'));
  writeFileSync(join(folder, name, 'LICENSE'), 'a license\n');
  execFileSync('tar', ['-I', 'gzip -1', '-cf', `${name}.tar.gz`, name], { cwd: folder });
  const sums = execFileSync('sha256sum', [`${name}.tar.gz`], { cwd: folder });
  writeFileSync(join(folder, 'SHASUMS256.txt'), sums);
  return `file://${directory}`;
}
