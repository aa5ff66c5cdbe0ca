/**
 * The image that test/vm boots, made by image/recipe.sh once and kept outside of the tree: the next run finds it by a hash
 * of everything that the recipe is. Images of other recipes, and what runs that were killed have left, are removed.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const RECIPE_FOLDER = fileURLToPath(new URL('image', import.meta.url));
const SUITE = 'bookworm';
/** Programs and the Debian packages that have them. */
const TOOLS: Readonly<Record<string, string>> = {
  'qemu-system-x86_64': 'qemu-system-x86',
  mmdebstrap: 'mmdebstrap',
  'mkfs.ext4': 'e2fsprogs',
};
/** The disk is made by debootstrapping over a network that may be slow; seen: one to four minutes. */
const BUILD_TIMEOUT_MS = 12 * 60_000;

/** A built image: files that a machine boots and does not change. */
export interface Image {
  readonly kernel: string;
  readonly initrd: string;
  readonly disk: string;
}

/** A folder of this run alone, in the cache; removed by the caller, or by a later run when this process is gone. */
export function makeWorkFolder(): string {
  const folder = join(cacheFolder(), `work-${process.pid}`);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  return folder;
}

/**
 * Finds the image or makes it, which takes minutes, and installs what is needed for that and for booting it.
 *
 * @throws Error with the output of what failed
 */
export function provideImage(): Image {
  installTools();
  const key = recipeKey();
  const folder = join(cacheFolder(), `image-${key}`);
  removeOthers(key);
  if (!existsSync(folder)) build(folder);
  return {
    kernel: join(folder, 'vmlinuz'),
    initrd: join(folder, 'initrd'),
    disk: join(folder, 'disk.ext4'),
  };
}

/** @returns why no machine can be booted here, as a sentence; undefined if one can */
export function machineReason(): string | undefined {
  if (process.arch !== 'x64') return `the image is for x86-64, and this is ${process.arch}`;
  if (process.getuid?.() !== 0) return 'only root can make the image';
  const missing = missingTools();
  if (missing.length > 0 && !isInPath('apt-get')) return `${missing.join(', ')} not in PATH`;
  return undefined;
}

function cacheFolder(): string {
  return join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'kaon-vm');
}

/** Whatever changes one of the files of the recipe makes another image. */
function recipeKey(): string {
  const hash = createHash('sha256');
  for (const name of readdirSync(RECIPE_FOLDER).sort()) {
    hash.update(`${name}\0`).update(readFileSync(join(RECIPE_FOLDER, name)));
  }
  return hash.digest('hex').slice(0, 16);
}

function removeOthers(key: string): void {
  mkdirSync(cacheFolder(), { recursive: true });
  for (const name of readdirSync(cacheFolder())) {
    const [, kind, id = ''] = /^(image|work|build)-(.+)$/.exec(name) ?? [];
    const isWanted = kind === 'image' ? id === key : isRunning(Number(id));
    if (kind !== undefined && !isWanted) {
      rmSync(join(cacheFolder(), name), { recursive: true, force: true });
    }
  }
}

function isRunning(pid: number): boolean {
  return existsSync(`/proc/${pid}`);
}

function missingTools(): string[] {
  return Object.keys(TOOLS).filter((program) => !isInPath(program));
}

function isInPath(program: string): boolean {
  const folders = [...(process.env['PATH'] ?? '').split(':'), '/usr/sbin', '/sbin'];
  return folders.some((folder) => existsSync(join(folder, program)));
}

function installTools(): void {
  const packages = missingTools().map((program) => TOOLS[program] ?? program);
  if (packages.length === 0) return;
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  runOrThrow('apt-get', ['-qq', 'update'], env);
  runOrThrow('apt-get', ['-qq', '-y', '--no-install-recommends', 'install', ...packages], env);
}

/** Built beside its place and renamed, so that one that is there is complete. */
function build(folder: string): void {
  const half = join(cacheFolder(), `build-${process.pid}`);
  mkdirSync(half, { recursive: true });
  try {
    const env = { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` };
    runOrThrow('sh', [join(RECIPE_FOLDER, 'recipe.sh'), half, ...aptSources()], env);
    renameSync(half, folder);
  } finally {
    rmSync(half, { recursive: true, force: true });
  }
}

/**
 * Those files of this machine's apt that are about the suite: it may have a mirror of its own. None, on another
 * distribution or release, leaves mmdebstrap its default.
 */
function aptSources(): string[] {
  const folder = '/etc/apt/sources.list.d';
  const parts = existsSync(folder) ? readdirSync(folder).map((name) => join(folder, name)) : [];
  return ['/etc/apt/sources.list', ...parts].filter(
    (file) =>
      /\.(list|sources)$/.test(file) &&
      existsSync(file) &&
      new RegExp(`^(deb |Suites:)(.* )?${SUITE}( |$)`, 'm').test(readFileSync(file, 'utf8')),
  );
}

function runOrThrow(program: string, args: readonly string[], env: NodeJS.ProcessEnv): void {
  const { status, signal, error, stdout, stderr } = spawnSync(program, args, {
    env,
    encoding: 'utf8',
    timeout: BUILD_TIMEOUT_MS,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  if (status === 0) return;
  const how = error?.message ?? `exit code ${String(status)}, signal ${String(signal)}`;
  throw new Error(`${program} ${args.join(' ')}: ${how}\n${stdout}${stderr}`);
}
