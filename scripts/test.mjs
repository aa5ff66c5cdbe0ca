// Runs the tests and says what was not run. The last line is always `N passed, N failed, N skipped`.
//
// Usage: node scripts/test.mjs [--only unit,property] [FILE.test.ts ...] [jest's own arguments]
//
// A test that cannot run on this machine is skipped by its describe, whose title carries the reason. That is fine on a
// laptop; with CI=true it fails the run, because a gate that silently tests less is no gate.

import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { KINDS, MORE_KINDS, ROOT, runKinds } from './lib/jest-run.mjs';

/** EX_USAGE of sysexits.h, as install.sh has it. */
const EXIT_USAGE = 64;

/** Takes `--only` and its value out of the arguments; without it, all kinds. */
function takeKinds(args) {
  const at = args.findIndex((arg) => arg === '--only' || arg.startsWith('--only='));
  if (at === -1) return KINDS;
  const [flag] = args.splice(at, 1);
  const value = flag === '--only' ? args.splice(at, 1)[0] : flag.slice('--only='.length);
  const names = (value ?? '').split(',');
  const all = [...KINDS, ...MORE_KINDS];
  const unknown = names.filter((name) => !all.some((kind) => kind.name === name));
  if (unknown.length > 0) {
    const known = all.map((kind) => kind.name).join(',');
    console.error(`unknown kind of test "${unknown.join(',')}"; one or more of ${known}`);
    process.exit(EXIT_USAGE);
  }
  return all.filter((kind) => names.includes(kind.name));
}

/** The system tests start the built command; testing yesterday's would be worse than not testing. */
function buildFirst() {
  if (!existsSync(join(ROOT, 'cli/main.ts')) || process.env.KAON_DIST !== undefined) return;
  const { status } = spawnSync(process.execPath, ['scripts/build.mjs', '--no-types'], {
    cwd: ROOT,
    stdio: 'inherit',
  });
  if (status !== 0) process.exit(1);
}

/** One line per skipped describe (or lone test) with the number of tests in it. */
function printSkipped(skipped) {
  if (skipped.length === 0) return;
  const counts = new Map();
  for (const { path, ancestorTitles, title } of skipped) {
    const line = `${path}: ${ancestorTitles.length > 0 ? ancestorTitles.join(' > ') : title}`;
    counts.set(line, (counts.get(line) ?? 0) + 1);
  }
  console.log('\nskipped:');
  for (const [line, count] of counts)
    console.log(`  ${line} (${count} ${count === 1 ? 'test' : 'tests'})`);
}

/** Lines of a failure that the end of a run repeats, and of how many failures. */
const WHY_LINES = 15;
const WHYS = 10;

/** Every test that failed, after the pages of output in which they are found one by one. */
function printFailed(failed) {
  if (failed.length > 0) console.log('\nfailed:');
  for (const [index, { path, ancestorTitles, title, why }] of failed.entries()) {
    console.log(`  ${path}: ${[...ancestorTitles, title].join(' > ')}`);
    if (why !== undefined && index < WHYS) console.log(firstLinesOf(why));
  }
}

/** What is below them in the message of a failure is the stack. */
function firstLinesOf(why) {
  const lines = stripVTControlCharacters(why)
    .split('\n')
    .filter((line) => line.trim() !== '' && !/^\s+at /.test(line));
  return lines
    .slice(0, WHY_LINES)
    .map((line) => `    | ${line}`)
    .join('\n');
}

const args = process.argv.slice(2);
const kinds = takeKinds(args);
const files = args
  .filter((arg) => arg.endsWith('.test.ts'))
  .map((file) => relative(ROOT, resolve(file)));
const jestArgs = args.filter((arg) => !arg.endsWith('.test.ts'));
const isSystemAsked = files.length === 0 || files.some((file) => file.startsWith('test/system/'));
if (isSystemAsked && kinds.some((kind) => kind.name === 'system')) buildFirst();

const { passed, failed, skipped } = await runKinds(kinds, { files, args: jestArgs });
// `-t` leaves out tests on purpose; listing the rest of the suite would bury the one that was asked for.
if (jestArgs.length === 0) printSkipped(skipped);
if (process.env.CI === 'true' && skipped.length > 0) {
  console.log('\nCI=true: a skipped test fails the run');
}
printFailed(failed);
console.log(`\n${passed} passed, ${failed.length} failed, ${skipped.length} skipped`);
if (failed.length > 0 || (process.env.CI === 'true' && skipped.length > 0)) process.exitCode = 1;
// Nothing at all was run: a wrong filter or a missing folder must not look like success.
if (passed + failed.length === 0) process.exitCode = 1;
