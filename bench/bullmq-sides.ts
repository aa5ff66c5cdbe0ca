/** Who does the jobs of one queue in the BullMQ benchmark: BullMQ's own `Worker`, or `kaon bullmq`; each a process. */
import type { ChildProcess } from 'node:child_process';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { ClusterBed } from '../test/beds/cluster.ts';
import { endProcess } from '../test/beds/redis-process.ts';
import type { BaselineKind, BaselinePart } from './bullmq-baselines.ts';
import { PROCESSOR } from './bullmq-baselines.ts';
import { BenchQueue } from './bullmq-queue.ts';

/** One side of a comparison, with its load. */
export interface Side {
  readonly queue: BenchQueue;
  /** Jobs of one backlog. */
  readonly jobs: number;
  /** Data of each job. */
  readonly data: object;
  /** The process that takes the jobs. */
  readonly pid: number;
  stop(): Promise<void>;
}

interface Load {
  readonly socketPath: string;
  readonly concurrency: number;
  readonly jobs: number;
  readonly data: object;
}

/** BullMQ alone. Resolves when its process is ready to work. */
export async function startBaseline({
  kind,
  socketPath,
  concurrency,
  ...load
}: Load & { readonly kind: BaselineKind }): Promise<Side> {
  const part: BaselinePart = { socketPath, queue: `bench-${kind}`, kind, concurrency };
  const entry = fileURLToPath(import.meta.url).replace(/chunks\/[^/]*$/, 'bench.js');
  // BullMQ pipes each of its child processes into one stream, of which Node warns.
  const child = fork(entry, ['--part', 'bullmq-baseline', JSON.stringify(part)], {
    execArgv: ['--no-warnings'],
  });
  await Promise.race([once(child, 'message'), endOf(child, `baseline ${kind}`)]);
  const queue = await BenchQueue.open(socketPath, part.queue);
  return sideOf(child, queue, load);
}

/** `kaon bullmq` on the cluster. Resolves when it has done its first job. */
export async function startKaon({
  name,
  cluster,
  socketPath,
  concurrency,
  isWarm = false,
  ...load
}: Load & {
  readonly name: string;
  readonly cluster: ClusterBed;
  /** By a processor in warm executors. */
  readonly isWarm?: boolean;
}): Promise<Side> {
  const queueName = `bench-kaon-${name}`;
  const queue = await BenchQueue.open(socketPath, queueName);
  const argv = ['--queue', queueName, '--name', queueName, '--log-level', 'warn'];
  argv.push('--queue-redis', `unix://${socketPath}`);
  argv.push('--cpus', '1', '--mem', '256M', '--concurrency', String(concurrency));
  if (isWarm) argv.push('--processor', PROCESSOR, '--warm', String(concurrency));
  const { child, printed } = cluster.start('bullmq', ...argv);
  try {
    await Promise.race([queue.runOne(load.data), endOf(child, `kaon bullmq of ${queueName}`)]);
  } catch (error) {
    await endProcess(child, 'SIGKILL');
    await queue.close();
    throw new Error(`kaon bullmq does no jobs; it said: ${printed()}`, { cause: error });
  }
  return sideOf(child, queue, load);
}

function sideOf(child: ChildProcess, queue: BenchQueue, load: Pick<Load, 'jobs' | 'data'>): Side {
  return {
    ...load,
    queue,
    pid: child.pid ?? 0,
    stop: async () => {
      await endProcess(child, 'SIGTERM');
      await queue.close();
    },
  };
}

/** Rejects when the process ends, for whoever waits for a word of it. */
async function endOf(child: ChildProcess, what: string): Promise<never> {
  const [code] = (await once(child, 'exit')) as [number | null];
  throw new Error(`${what} has ended with ${String(code)}`);
}
