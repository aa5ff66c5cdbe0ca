/**
 * BullMQ as it comes, in a process of its own: a `Worker` whose processor does nothing, does nothing in a child process
 * (BullMQ's sandbox), or runs the command of the job.
 */
import { execFile } from 'node:child_process';
import { createRequire } from 'node:module';
import { resolve } from 'node:path';
import { promisify } from 'node:util';
import type * as Bullmq from 'bullmq';
import type { Job, WorkerOptions } from 'bullmq';

/** How a baseline does its jobs. */
export type BaselineKind = 'in-process' | 'sandboxed' | 'command';

/** What the process of a baseline is started with. */
export interface BaselinePart {
  readonly socketPath: string;
  readonly queue: string;
  readonly kind: BaselineKind;
  readonly concurrency: number;
}

/** Data of a job for `kaon bullmq` and for the baseline that runs commands. */
export interface CommandData {
  readonly command: readonly string[];
}

export const PROCESSOR = resolve('bench/bullmq-processor.mjs');

/** The package itself and not a copy in a bundle: it looks for the program of its child processes beside its own files. */
export function loadBullmq(): typeof Bullmq {
  return createRequire(resolve('package.json'))('bullmq') as typeof Bullmq;
}

/** Works until SIGTERM; says `ready` to its parent, and ends with it. */
export async function runBaseline(part: BaselinePart): Promise<void> {
  const { Worker } = loadBullmq();
  const options: WorkerOptions = {
    connection: { path: part.socketPath, maxRetriesPerRequest: null },
    concurrency: part.concurrency,
  };
  const worker = new Worker(part.queue, processorOf(part.kind), options);
  worker.on('error', (error) => {
    process.stderr.write(`${part.kind}: ${error.message}\n`);
  });
  const end = (): void => {
    // Forced: a job that is under way is not waited for, and neither is the next one.
    void worker.close(true).finally(() => process.exit(0));
  };
  process.once('SIGTERM', end);
  process.once('disconnect', end);
  await worker.waitUntilReady();
  process.send?.('ready');
}

/** Output is collected, as every task of Kaon has its own: people want to know why a command has failed. */
function processorOf(kind: BaselineKind): string | ((job: Job<CommandData>) => Promise<unknown>) {
  const run = promisify(execFile);
  switch (kind) {
    case 'in-process':
      return () => Promise.resolve(undefined);
    case 'sandboxed':
      return PROCESSOR;
    case 'command':
      return async ({ data }) => {
        const [program = '', ...args] = data.command;
        const { stdout } = await run(program, args);
        return stdout;
      };
  }
}
