/**
 * What a machine is handed: packages of two versions, Node as a tarball, and a producer of BullMQ jobs, all in one tar file
 * that is the machine's second disk.
 */
import { execFileSync } from 'node:child_process';
import {
  cpSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

const TREE = fileURLToPath(new URL('../..', import.meta.url));

/** Versions of the two packages. */
export interface Versions {
  readonly current: string;
  readonly next: string;
}

/** The file for the second disk, and what is in it. */
export interface Delivery {
  /** A tar file of install.sh, kaon.tgz, kaon-next.tgz, node.tgz and producer.mjs. */
  readonly path: string;
  readonly versions: Versions;
}

/**
 * Packs the tree. Its dist/ has to be built, or another one named by KAON_DIST.
 *
 * @param folder  for the result, and for what it is made of meanwhile
 */
export async function makeDelivery(folder: string): Promise<Delivery> {
  const current = readManifest().version;
  const versions = { current, next: `${current}-next.1` };
  const files = join(folder, 'delivery');
  mkdirSync(files);
  pack(files, 'kaon.tgz', versions.current);
  pack(files, 'kaon-next.tgz', versions.next);
  packNode(files);
  await bundleProducer(join(files, 'producer.mjs'));
  cpSync(join(TREE, 'install.sh'), join(files, 'install.sh'));
  const path = join(folder, 'delivery.tar');
  execFileSync('tar', ['-C', files, '-cf', path, '.']);
  rmSync(files, { recursive: true });
  return { path, versions };
}

interface Manifest {
  readonly version: string;
  readonly files: readonly string[];
}

function readManifest(): Manifest {
  return JSON.parse(readFileSync(join(TREE, 'package.json'), 'utf8')) as Manifest;
}

/** As `npm pack` in the tree would, with another version number in everything that says one. */
function pack(folder: string, name: string, version: string): void {
  const staging = join(folder, 'staging');
  const { version: built, files } = readManifest();
  for (const file of ['package.json', ...files.filter((entry) => !entry.startsWith('!'))]) {
    const source =
      file === 'dist' ? (process.env['KAON_DIST'] ?? join(TREE, file)) : join(TREE, file);
    mkdirSync(dirname(join(staging, file)), { recursive: true });
    cpSync(source, join(staging, file), { recursive: true });
  }
  if (version !== built) renameVersion(staging, built, version);
  const packed = execFileSync('npm', ['pack', '--silent', '--ignore-scripts'], { cwd: staging });
  renameSync(join(staging, packed.toString().trim()), join(folder, name));
  rmSync(staging, { recursive: true });
}

/** Version numbers are literals in what esbuild makes; a second build would take longer and say the same. */
function renameVersion(staging: string, from: string, to: string): void {
  const code = readdirSync(join(staging, 'dist'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.js'))
    .map((name) => join(staging, 'dist', name));
  let count = 0;
  for (const path of [join(staging, 'package.json'), ...code]) {
    const text = readFileSync(path, 'utf8');
    const changed = text.replaceAll(`"${from}"`, `"${to}"`);
    if (changed === text) continue;
    writeFileSync(path, changed);
    count += 1;
  }
  if (count < 2)
    throw new Error(`"${from}" was to be found in package.json and dist/, it is in ${count} files`);
}

/** The Node of this process, laid out as a release. gzip level 0: a machine in an emulator unpacks it, and nobody sends it. */
function packNode(folder: string): void {
  const name = `node-${process.version}-linux-x64`;
  const top = join(folder, name);
  mkdirSync(join(top, 'bin'), { recursive: true });
  cpSync(process.execPath, join(top, 'bin/node'), { dereference: true });
  writeFileSync(join(top, 'LICENSE'), 'See nodejs.org.\n');
  execFileSync('tar', ['-C', folder, '-cf', `${top}.tar`, name]);
  rmSync(top, { recursive: true });
  writeFileSync(join(folder, 'node.tgz'), gzipSync(readFileSync(`${top}.tar`), { level: 0 }));
  rmSync(`${top}.tar`);
}

async function bundleProducer(outfile: string): Promise<void> {
  await build({
    absWorkingDir: TREE,
    entryPoints: ['test/vm/producer.ts'],
    outfile,
    bundle: true,
    platform: 'node',
    target: 'node20',
    format: 'esm',
    legalComments: 'none',
    logLevel: 'warning',
    banner: {
      js: "import { createRequire } from 'node:module';\nconst require = createRequire(import.meta.url);",
    },
  });
}
