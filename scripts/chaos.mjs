// Runs the chaos campaign: real masters, agents, Redis and frameworks, with faults that follow from a seed.
//
// Usage: npm run chaos -- [--minutes N | --seconds N] [--seed N] [--only FAULT,FAULT] [--sentinel yes]
//
// It builds everything into a directory of its own, because dist/ may change while it runs, and starts the campaign in a
// mount namespace of its own, so that what it mounts is seen by nobody else and ends with it. Needs root.

import { spawn, spawnSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import { ROOT } from './lib/jest-run.mjs';

const EXIT_USAGE = 64;
const SECONDS_PER_MINUTE = 60;

/** @returns seed and seconds as text; ends the process on anything else */
function readArguments(argv) {
  const wanted = {
    seed: String(Math.floor(Date.now() / 1000) % 1_000_000),
    seconds: '60',
    only: '',
    sentinel: 'no',
  };
  for (let index = 0; index < argv.length; index += 2) {
    const [flag, value = ''] = [argv[index], argv[index + 1]];
    if (flag === '--only') wanted.only = value;
    else if (flag === '--sentinel') wanted.sentinel = value;
    else if (!/^\d+(\.\d+)?$/.test(value)) refuse(`${flag} wants a number, got "${value}"`);
    else if (flag === '--minutes') wanted.seconds = String(Number(value) * SECONDS_PER_MINUTE);
    else if (flag === '--seconds') wanted.seconds = value;
    else if (flag === '--seed') wanted.seed = value;
    else refuse(`unknown argument ${flag}`);
  }
  return wanted;
}

function refuse(message) {
  console.error(message);
  process.exit(EXIT_USAGE);
}

/** The command as users get it, and the campaign's own programs, each a file that needs no node_modules. */
async function buildPrograms(directory) {
  const argv = ['scripts/build.mjs', '--no-types', '--out', join(directory, 'dist')];
  const { status } = spawnSync(process.execPath, argv, {
    cwd: ROOT,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  if (status !== 0) throw new Error('the command does not build');
  await build({
    absWorkingDir: ROOT,
    entryPoints: ['main', 'framework-child', 'clock-shim'].map((name) => `test/chaos/${name}.ts`),
    outdir: directory,
    outExtension: { '.js': '.mjs' },
    bundle: true,
    platform: 'node',
    target: 'node20',
    format: 'esm',
    sourcemap: 'inline',
    banner: {
      js: [
        "import { createRequire as createRequireForBundle } from 'node:module';",
        'const require = createRequireForBundle(import.meta.url);',
      ].join('\n'),
    },
    external: ['osx-temperature-sensor', 'x11'],
    logLevel: 'warning',
  });
}

/** Runs it to its end; Ctrl-C reaches it by itself, a SIGTERM is passed on, and our end is after its. */
function runCampaign(directory, { seed, seconds, only, sentinel }) {
  const namespace = ['--mount', '--propagation', 'private', 'setpriv', '--pdeathsig', 'KILL'];
  const program = [process.execPath, '--enable-source-maps', join(directory, 'main.mjs')];
  const args = [
    '--directory',
    directory,
    '--seed',
    seed,
    '--seconds',
    seconds,
    '--only',
    only,
    '--sentinel',
    sentinel,
  ];
  const child = spawn('unshare', [...namespace, ...program, ...args], {
    cwd: ROOT,
    stdio: 'inherit',
  });
  process.on('SIGINT', () => undefined);
  process.on('SIGTERM', () => child.kill('SIGTERM'));
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => resolve(code ?? 1));
  });
}

const wanted = readArguments(process.argv.slice(2));
// Short: a unix socket's path has at most 107 characters.
const directory = await mkdtemp(join(tmpdir(), 'kaon-chaos-'));
try {
  await buildPrograms(directory);
  process.exitCode = await runCampaign(directory, wanted);
} finally {
  await rm(directory, { recursive: true, force: true });
}
