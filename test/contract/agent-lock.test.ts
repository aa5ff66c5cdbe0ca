/** The lock of a state directory between real processes: the kernel gives it back, however its holder ends. */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { build } from 'esbuild';
import { lockDirectory } from '../../agent/directory-lock.ts';

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'kaon-lock-'));
});
afterEach(() => {
  rmSync(directory, { recursive: true, force: true });
});

test('an agent that was killed leaves no lock behind, and its pid was named while it lived', async () => {
  const source = join(directory, 'holder.ts');
  const outfile = join(directory, 'holder.mjs');
  const lock = join(import.meta.dirname, '../../agent/directory-lock.ts');
  writeFileSync(
    source,
    `import { lockDirectory } from ${JSON.stringify(lock)};
    await lockDirectory(${JSON.stringify(directory)});
    console.log('held'); setInterval(() => {}, 1000);`,
  );
  await build({ entryPoints: [source], outfile, bundle: true, platform: 'node', format: 'esm' });
  const holder = spawn(process.execPath, [outfile], { stdio: ['ignore', 'pipe', 'inherit'] });
  await new Promise((resolve) => holder.stdout.once('data', resolve));
  await expect(lockDirectory(directory)).rejects.toMatchObject({
    code: 'agent-running',
    message: `an agent runs on ${directory} already, pid ${String(holder.pid)}`,
  });
  const gone = new Promise((resolve) => holder.once('exit', resolve));
  holder.kill('SIGKILL');
  await gone;
  const release = await lockDirectory(directory);
  expect(release).toBeInstanceOf(Function);
  release();
}, 120_000);
