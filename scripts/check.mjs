// The gate before every commit: format, lint, types, and the tests that need neither root nor a built dist/.
// Everything runs even if an earlier step fails, so that one run names all there is to repair.
//
// Usage: node scripts/check.mjs [--static]      without the tests, for whoever runs all of them anyway

import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { ROOT } from './lib/jest-run.mjs';

const modules = join(ROOT, 'node_modules');

/** Two at a time on two cores; the longest steps come first. */
const PARALLEL = 2;
const STEPS = [
  { name: 'lint', args: [join(modules, 'eslint/bin/eslint.js'), '--max-warnings=0', '.'] },
  { name: 'types', args: [join(modules, 'typescript/bin/tsc'), '--noEmit'] },
  {
    name: 'format',
    args: [
      join(modules, 'prettier/bin/prettier.cjs'),
      ...['--check', '--log-level=warn', '--cache', '.'],
    ],
  },
  {
    name: 'tests',
    args: [join(ROOT, 'scripts/test.mjs'), '--only', 'tidy,unit,property,contract,sim'],
    // The full number of seeds belongs to `npm test` and to the nightly run.
    env: { KAON_SIM_SEEDS: '50' },
  },
];

/** Runs a step and keeps its output together, since two of them write at the same time. */
function run({ name, args, env = {} }) {
  const startedAtMs = performance.now();
  const child = spawn(process.execPath, args, { cwd: ROOT, env: { ...process.env, ...env } });
  const chunks = [];
  child.stdout.on('data', (chunk) => chunks.push(chunk));
  child.stderr.on('data', (chunk) => chunks.push(chunk));
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => {
      const seconds = ((performance.now() - startedAtMs) / 1000).toFixed(1);
      const output = Buffer.concat(chunks).toString().trim();
      resolve({ name, isOk: code === 0, seconds, output });
    });
  });
}

const isStatic = process.argv.includes('--static');
const waiting = STEPS.filter(({ name }) => !isStatic || name !== 'tests');
const failed = [];

async function lane() {
  for (let step = waiting.shift(); step !== undefined; step = waiting.shift()) {
    const { name, isOk, seconds, output } = await run(step);
    if (!isOk) failed.push(name);
    if (output !== '' && (!isOk || name === 'tests')) console.log(`${output}\n`);
    console.log(`${isOk ? 'ok    ' : 'FAILED'} ${name} (${seconds} s)`);
  }
}

await Promise.all(Array.from({ length: PARALLEL }, lane));
if (failed.length > 0) {
  console.log(`\ncheck failed: ${failed.join(', ')}`);
  process.exitCode = 1;
}
