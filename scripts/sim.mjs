// Runs the simulation alone: many seeds, or one seed again.
//
// Usage: npm run sim -- [--seed N | --seeds COUNT] [jest's own arguments]
//
// The tests read the two numbers from KAON_SIM_SEED and KAON_SIM_SEEDS, because jest has no arguments of its own for
// them. A failing run prints its seed; `--seed N` replays exactly that one.

import { KINDS, runKinds } from './lib/jest-run.mjs';

const EXIT_USAGE = 64;
const VARIABLES = { '--seed': 'KAON_SIM_SEED', '--seeds': 'KAON_SIM_SEEDS' };

const env = {};
const args = [];
const argv = process.argv.slice(2);
while (argv.length > 0) {
  const [flag, inline] = argv.shift().split('=', 2);
  if (!(flag in VARIABLES)) {
    args.push(inline === undefined ? flag : `${flag}=${inline}`);
    continue;
  }
  const value = inline ?? argv.shift();
  if (!/^\d+$/.test(value ?? '')) {
    console.error(`${flag} wants a whole number, got "${value ?? ''}"`);
    process.exit(EXIT_USAGE);
  }
  env[VARIABLES[flag]] = value;
}

const kinds = KINDS.filter((kind) => kind.name === 'sim');
const { passed, failed, skipped } = await runKinds(kinds, { args, env });
console.log(`\n${passed} passed, ${failed} failed, ${skipped.length} skipped`);
if (failed > 0 || passed === 0) process.exitCode = 1;
