/** A short campaign with a fixed seed; `npm run chaos -- --minutes N --seed S` is the long one. */
import { spawn } from 'node:child_process';
import { expect, describe, test } from '@jest/globals';
import { bedReason } from '../beds/available.ts';

const SEED = '1';
const SECONDS = '45';
const TIMEOUT_MS = 480_000;

const reason = bedReason('systemd') ?? bedReason('redis');
const suite = reason === undefined ? describe : describe.skip;

suite(
  `real processes under every kind of fault${reason === undefined ? '' : ` (${reason})`}`,
  () => {
    test(
      'run each task once to its own end, tell it exactly, and leave nothing behind',
      async () => {
        const argv = ['scripts/chaos.mjs', '--seed', SEED, '--seconds', SECONDS];
        const { exitCode, output } = await run([process.execPath, ...argv]);
        // The whole output is what a person needs to see, and jest prints no more than what is compared.
        expect({ exitCode, output: exitCode === 0 ? '' : output }).toEqual({
          exitCode: 0,
          output: '',
        });
        expect(output).toContain('verdict   ok');
      },
      TIMEOUT_MS,
    );
  },
);

function run(argv: readonly string[]): Promise<{ exitCode: number | null; output: string }> {
  const [program = '', ...args] = argv;
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()));
  return new Promise((resolve) => {
    child.once('close', (exitCode) => resolve({ exitCode, output }));
  });
}
