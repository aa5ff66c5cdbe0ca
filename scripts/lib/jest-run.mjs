// Runs jest over some folders of test/ and reads back what happened. Used by test.mjs, check.mjs and sim.mjs.

import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** ES modules in jest run in `vm` contexts, which Node 20 still calls experimental. */
const NODE_FLAGS = ['--disable-warning=ExperimentalWarning', '--experimental-vm-modules'];
const JEST = join(ROOT, 'node_modules/jest/bin/jest.js');

/**
 * The kinds of tests: name as in `--only`, path below test/, and in which of the runs of jest they are: those of one kernel
 * together, with real limits and timeouts, after those that only compute; last, alone, those whose faults are chance.
 */
export const KINDS = [
  { name: 'tidy', path: 'test/tidy.test.ts', run: 'first' },
  { name: 'unit', path: 'test/unit', run: 'first' },
  { name: 'property', path: 'test/property', run: 'first' },
  { name: 'contract', path: 'test/contract', run: 'first' },
  { name: 'sim', path: 'test/sim', run: 'first' },
  { name: 'system', path: 'test/system', run: 'system' },
  { name: 'chaos', path: 'test/chaos', run: 'alone' },
];

/** Kinds that are run only if they are asked for: minutes in a virtual machine that is root's business. */
export const MORE_KINDS = [{ name: 'vm', path: 'test/vm', run: 'alone' }];

/** Runs jest with its output on ours; resolves to its exit code, also when a signal ended it (as the shell has it). */
function spawnJest(args, env) {
  const child = spawn(process.execPath, [...NODE_FLAGS, JEST, ...args], {
    cwd: ROOT,
    stdio: 'inherit',
    env: { ...process.env, ...env },
  });
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => resolve(code ?? 1));
  });
}

/** Sorts one jest report; a test file that could not even be loaded counts as one failure. */
function summarize(report) {
  const summary = { passed: 0, failed: [], skipped: [] };
  for (const file of report.testResults) {
    const path = relative(ROOT, file.name);
    const failedBefore = summary.failed.length;
    for (const { status, ancestorTitles, title, failureMessages } of file.assertionResults) {
      if (status === 'passed') summary.passed += 1;
      else if (status === 'failed') {
        summary.failed.push({ path, ancestorTitles, title, why: failureMessages[0] });
      } else summary.skipped.push({ path, ancestorTitles, title });
    }
    if (file.status === 'failed' && summary.failed.length === failedBefore) {
      summary.failed.push({
        path,
        ancestorTitles: [],
        title: 'could not be run',
        why: file.message,
      });
    }
  }
  return summary;
}

/** What to hand to jest: the files that were asked for and belong to one of the kinds, else the kinds' folders. */
function pathsOf(kinds, files) {
  const isIn = (file, { path }) => file === path || file.startsWith(`${path}/`);
  const paths = kinds.flatMap((kind) =>
    files.length > 0 ? files.filter((file) => isIn(file, kind)) : [kind.path],
  );
  return paths.filter((path) => existsSync(join(ROOT, path)));
}

/**
 * Runs the given kinds, one jest after the other.
 *
 * @param {readonly (typeof KINDS)[number][]} kinds  kinds whose path does not exist are left out
 * @param {{ files?: string[], args?: string[], env?: Record<string, string> }} options
 *   files: run only these, given relative to the root; args: further arguments of jest, e.g. `-t`; both default to none
 * @typedef {{ path: string, ancestorTitles: string[], title: string, why?: string }} Test
 * @returns {Promise<{ passed: number, failed: Test[], skipped: Test[] }>}
 */
export async function runKinds(kinds, { files = [], args = [], env = {} } = {}) {
  const total = { passed: 0, failed: [], skipped: [] };
  const folder = await mkdtemp(join(tmpdir(), 'kaon-test-'));
  try {
    for (const run of ['first', 'system', 'alone']) {
      const paths = pathsOf(
        kinds.filter((kind) => kind.run === run),
        files,
      );
      if (paths.length === 0) continue;
      const outputFile = join(folder, `${run}.json`);
      const mode = run === 'alone' ? ['--runInBand'] : [];
      const report = ['--json', `--outputFile=${outputFile}`, '--passWithNoTests'];
      const code = await spawnJest([...paths, ...mode, ...report, ...args], env);
      const summary = existsSync(outputFile)
        ? summarize(JSON.parse(await readFile(outputFile, 'utf8')))
        : { passed: 0, failed: [], skipped: [] };
      total.passed += summary.passed;
      // jest can fail without a failing test (a broken configuration, a crash): that is a failure all the same.
      if (code !== 0 && summary.failed.length === 0) {
        summary.failed.push({ path: run, ancestorTitles: [], title: `jest ended with ${code}` });
      }
      total.failed.push(...summary.failed);
      total.skipped.push(...summary.skipped);
    }
  } finally {
    await rm(folder, { recursive: true });
  }
  return total;
}
