// Builds dist/ from the sources: one esbuild run for everything that is executed, `tsc` beside it for the type
// declarations of `kaon/framework`, `kaon/executor` and `kaon/bullmq`. The result needs no node_modules at run time, so a node gets a
// handful of files.
//
// Usage: node scripts/build.mjs [--no-types] [--out DIRECTORY] [--only NAME,...]

import { spawn } from 'node:child_process';
import { chmod, mkdir, readFile, readdir, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { packagePages } from './lib/pages.mjs';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
/** Instead of dist/: for whoever must not see a later build while it runs. */
const OUT = valueOf('--out');
const DIST = OUT === undefined ? join(ROOT, 'dist') : resolve(OUT);
/** Names of entries: for whoever needs no more than those. What else there is stays as it was. */
const ONLY = valueOf('--only')?.split(',');
const HASHBANG = '#!/usr/bin/env node\n';

/** Everything that can be started or imported. An entry whose source does not exist (yet) is left out. */
const ENTRIES = [
  { source: 'cli/main.ts', name: 'kaon', isCommand: true },
  { source: 'cli/demo.ts', name: 'demo', isCommand: true },
  { source: 'bench/main.ts', name: 'bench', isCommand: true },
  { source: 'framework/index.ts', name: 'framework/index', isCommand: false },
  { source: 'executor/index.ts', name: 'executor/index', isCommand: false },
  { source: 'schedulers/bullmq/index.ts', name: 'bullmq/index', isCommand: false },
  { source: 'executor/default/main.ts', name: 'default-executor', isCommand: false },
  { source: 'agent/artifacts/main.ts', name: 'artifact-fetcher', isCommand: false },
  { source: 'schedulers/bullmq/processor/main.ts', name: 'processor-executor', isCommand: false },
  {
    source: 'schedulers/bullmq/processor/child-main.ts',
    name: 'processor-child',
    isCommand: false,
  },
];

function valueOf(option) {
  const at = process.argv.indexOf(option);
  return at === -1 ? undefined : (process.argv[at + 1] ?? '');
}

/** Runs esbuild in memory; nothing in dist/ changes when a source does not compile. */
async function bundle(entries) {
  const { version } = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8'));
  const { outputFiles } = await build({
    absWorkingDir: ROOT,
    entryPoints: entries.map(({ source, name }) => ({ in: source, out: name })),
    outdir: DIST,
    bundle: true,
    write: false,
    platform: 'node',
    target: 'node20',
    format: 'esm',
    // A command that is imported with `import()` becomes a chunk of its own, so that `kaon --version` does not read
    // the D-Bus and Redis clients first.
    splitting: true,
    chunkNames: 'chunks/[name]-[hash]',
    sourcemap: true,
    sourcesContent: false,
    legalComments: 'none',
    define: { __KAON_VERSION__: JSON.stringify(version) },
    // Bundled CommonJS packages call `require('events')`, which an ES module does not have.
    banner: {
      js: [
        "import { createRequire as createRequireForBundle } from 'node:module';",
        'const require = createRequireForBundle(import.meta.url);',
      ].join('\n'),
    },
    // What is asked for only where it exists: a sensor of macOS (systeminformation, inside a `try`), and the X server
    // as a way to find the session bus (dbus-next), while Kaon speaks to the system bus alone.
    external: ['osx-temperature-sensor', 'x11'],
    logLevel: 'warning',
  });
  return outputFiles;
}

/** Gives a command its first line, and shifts its source map by the line that was added. */
function withHashbang(files, path) {
  const code = files.find((file) => file.path === path);
  if (code.text.startsWith('#!')) return new Map();
  const map = JSON.parse(files.find((file) => file.path === `${path}.map`).text);
  map.mappings = `;${map.mappings}`;
  return new Map([
    [path, HASHBANG + code.text],
    [`${path}.map`, JSON.stringify(map)],
  ]);
}

/** Writes what differs from what is there, so that a rebuild does not disturb a daemon that runs from dist/. */
async function writeIfChanged(path, contents) {
  const bytes = Buffer.from(contents);
  if (existsSync(path) && bytes.equals(await readFile(path))) return;
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, bytes);
}

/** Removes chunks and entries of earlier builds: their hashed names would pile up. */
async function removeStale(kept) {
  for (const entry of await readdir(DIST, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    const isOurs = entry.isFile() && /\.js(\.map)?$/.test(entry.name);
    if (isOurs && !kept.has(path)) await rm(path);
  }
}

/** Writes manual pages and completion, and removes those of commands that are gone. */
async function writePages() {
  const { version } = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8'));
  const pages = await packagePages({ root: ROOT, version });
  for (const { path, text } of pages) await writeIfChanged(join(DIST, path), text);
  const kept = new Set(pages.map(({ path }) => basename(path)));
  for (const name of await readdir(join(DIST, 'man'))) {
    if (!kept.has(name)) await rm(join(DIST, 'man', name));
  }
}

/** Emits the .d.ts of what can be imported, and of what they refer to; resolves to whether `tsc` was content. */
function emitTypes() {
  const tsc = join(ROOT, 'node_modules/typescript/bin/tsc');
  const child = spawn(process.execPath, [tsc, '--project', 'tsconfig.build.json'], {
    cwd: ROOT,
    stdio: 'inherit',
  });
  return new Promise((resolve) => child.on('close', (code) => resolve(code === 0)));
}

async function main() {
  const startedAt = new Date();
  const entries = ENTRIES.filter(
    ({ source, name }) => existsSync(join(ROOT, source)) && (ONLY?.includes(name) ?? true),
  );
  const unknown = ONLY?.filter((name) => !entries.some((entry) => entry.name === name)) ?? [];
  if (unknown.length > 0) throw new Error(`no such entry: ${unknown.join(', ')}`);
  const isWithoutTypes = ONLY !== undefined || process.argv.includes('--no-types');
  const hasTypes = !isWithoutTypes && existsSync(join(ROOT, 'framework/index.ts'));
  const types = hasTypes ? emitTypes() : Promise.resolve(true);

  const files = entries.length > 0 ? await bundle(entries) : [];
  const rewritten = new Map();
  const commands = entries
    .filter((entry) => entry.isCommand)
    .map(({ name }) => join(DIST, `${name}.js`));
  for (const path of commands) {
    for (const [name, contents] of withHashbang(files, path)) rewritten.set(name, contents);
  }
  await mkdir(DIST, { recursive: true });
  for (const file of files)
    await writeIfChanged(file.path, rewritten.get(file.path) ?? file.contents);
  for (const path of commands) await chmod(path, 0o755);
  if (ONLY === undefined) {
    await removeStale(new Set(files.map((file) => file.path)));
    await writePages();
  }
  if (!(await types)) {
    process.exitCode = 1;
    return;
  }

  // install.sh compares the sources with this file. It is written last, so that a failed build is tried again, and
  // dated back to the start, so that what was saved meanwhile counts as newer. A build without types is not complete.
  if (!isWithoutTypes) {
    await writeFile(join(DIST, '.built'), '');
    await utimes(join(DIST, '.built'), startedAt, startedAt);
  }
  for (const path of commands) {
    console.log(`${relative(ROOT, path)} ${Math.ceil((await stat(path)).size / 1024)} KiB`);
  }
  console.log(`built in ${((Date.now() - startedAt.getTime()) / 1000).toFixed(1)} s`);
}

try {
  await main();
} catch (error) {
  // esbuild has printed what does not compile, with file and line; its own stack says nothing more.
  if (error.errors === undefined) throw error;
  process.exitCode = 1;
}
