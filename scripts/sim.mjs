// Runs the simulation alone: many seeds on all cores, one seed again with its log, or the mark of its speed.
//
// Usage: npm run sim -- [--seed N | --seeds COUNT [--from N]] [--long [--hours H]] [--bench]
//
//   --seeds COUNT  runs of the small, stormy cluster from seed 1 or `--from`; default 1000
//   --seed N       exactly that run again, one line per event
//   --long         the cluster of 3 masters, 10 agents and 3 frameworks, hours at a time; `--hours` says how many
//   --bench        the same, and how many simulated cluster-hours it does a minute

import { build } from 'esbuild';
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const OUTPUT = join(ROOT, 'dist/.sim.mjs');

await build({
  entryPoints: [join(ROOT, 'test/sim/campaign.ts')],
  outfile: OUTPUT,
  bundle: true,
  platform: 'node',
  format: 'esm',
  target: 'node20',
  packages: 'external',
  sourcemap: 'inline',
  logLevel: 'error',
});

const flags = process.env.KAON_SIM_NODE_FLAGS?.split(' ') ?? [];
const child = spawn(
  process.execPath,
  ['--enable-source-maps', ...flags, OUTPUT, ...process.argv.slice(2)],
  { cwd: ROOT, stdio: 'inherit' },
);
child.on('close', (code) => {
  process.exitCode = code ?? 1;
});
