/**
 * The reports of examples/bullmq, heavy and light ones in one queue, done twice with the same memory: by one plain BullMQ worker
 * on one host, and by `kaon bullmq` on three nodes. Says what became of the jobs, and of the memory.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Queue } from 'bullmq';
import type { EndedTask } from '../../protocol/records.ts';
import { detectCgroupVersion, readCgroupUse } from '../../systemd/cgroup-use.ts';
import { sliceCgroup } from '../../systemd/names.ts';
import type { CgroupUse } from '../../systemd/port.ts';
import { bootUnitsNode, type UnitsNode } from './cluster-units.ts';
import { startCommand } from './cluster.ts';
import { startNodesBed, type NodesBed } from './nodes.ts';
import { startRedisBed, type RedisBed } from './redis.ts';

const EXAMPLE = resolve('examples/bullmq');
const QUEUE = 'reports';

/** Each holds one heavy report and some light ones. */
const NODE_NAMES = ['node-1', 'node-2', 'node-3'];
const NODE_MEM_MIB = 800;
const NODE_CPUS = 3;
/** What all nodes have together, and the one host alone, MiB. */
export const FARM_MEM_MIB = NODE_NAMES.length * NODE_MEM_MIB;
/** What a report has that says nothing: room for a light one. */
const LIGHT = ['--cpus', '0.5', '--mem', '64M'];

const PLAIN_SLICE = 'plain.slice';
const PLAIN_UNIT = 'plain.service';
const KAON_SLICE = 'kaon.slice';
const LOOK_MS = 100;
/** BullMQ takes a job of a dead worker for stalled after 30 s, and its second look is 30 s later. */
const STALLED_MS = 90_000;

/** How many of each. */
export interface Reports {
  readonly light: number;
  readonly heavy: number;
}

/** What became of all of them. */
export interface FarmOutcome {
  readonly finished: number;
  /** By their names. */
  readonly finishedByName: Readonly<Record<string, number>>;
  readonly failed: number;
  /** `failedReason` of the failed ones, each once. */
  readonly reasons: readonly string[];
  /** Neither the one nor the other, and nothing has happened for a minute and a half. */
  readonly lost: number;
  readonly seconds: number;
  /** High-water mark of the host, or of the tasks of each node. */
  readonly memoryPeaksBytes: readonly number[];
  /** Processes that the kernel has ended. */
  readonly oomKills: number;
}

/** The same under Kaon, with each task. */
export interface KaonOutcome extends FarmOutcome {
  readonly tasks: readonly EndedTask[];
}

/** One host, one worker, one limit around all of it. */
export async function runPlainFarm(reports: Reports): Promise<FarmOutcome> {
  const redis = await startRedisBed();
  const directory = mkdtempSync(join(tmpdir(), 'kaon-bed-reports-'));
  try {
    const boot = join(directory, 'boot');
    mkdirSync(boot);
    const host = await bootUnitsNode(boot);
    try {
      await produce(redis, reports);
      return await runPlain(redis, host);
    } finally {
      await host.stop();
    }
  } finally {
    await redis.stop();
    rmSync(directory, { recursive: true, force: true });
  }
}

async function runPlain(redis: RedisBed, host: UnitsNode): Promise<FarmOutcome> {
  const memoryMax = `MemoryMax=${String(FARM_MEM_MIB)}M`;
  await host.systemctl('set-property', '--runtime', PLAIN_SLICE, 'MemoryAccounting=yes', memoryMax);
  const argv = [process.execPath, join(EXAMPLE, 'plain-worker.mjs'), '--redis', redis.url];
  // The kindest that there is to such a worker: what the kernel ends is one child, and the unit goes on, or starts again.
  const properties = ['OOMPolicy=continue', 'Restart=always', 'MemoryAccounting=yes'];
  properties.push(`Slice=${PLAIN_SLICE}`, `WorkingDirectory=${resolve('.')}`);
  const unit = [`--unit=${PLAIN_UNIT}`, ...properties.flatMap((each) => ['-p', each])];
  const { exitCode, stderr } = await host.run('systemd-run', ...unit, ...argv);
  if (exitCode !== 0) throw new Error(`the plain worker did not start: ${stderr}`);
  let oomKills = 0;
  const outcome = await jobsDone(redis, () => {
    // Gone for a moment when the unit starts again.
    oomKills = Math.max(oomKills, useOf(host, join(PLAIN_SLICE, PLAIN_UNIT)).oomKills ?? 0);
  });
  return { ...outcome, memoryPeaksBytes: [peakOf(host, PLAIN_SLICE)], oomKills };
}

/** Three nodes with an agent each, and `kaon bullmq`. */
export async function runKaonFarm(reports: Reports): Promise<KaonOutcome> {
  const resources = `cpus=${String(NODE_CPUS)},mem=${String(NODE_MEM_MIB)}M`;
  const bed = await startNodesBed(NODE_NAMES.map((name) => ({ name, resources })));
  try {
    await produce(bed.redis, reports);
    return await runKaon(bed);
  } finally {
    await bed.stop();
  }
}

async function runKaon(bed: NodesBed): Promise<KaonOutcome> {
  const processor = join(EXAMPLE, 'report.mjs');
  const argv = ['--queue', QUEUE, '--processor', processor, ...LIGHT];
  const kaon = bed.start('bullmq', ...argv);
  try {
    const outcome = await Promise.race([
      jobsDone(bed.redis, () => undefined),
      kaon.ended.then(({ exitCode, stderr }): never => {
        throw new Error(`kaon bullmq has ended with ${String(exitCode)}: ${stderr}`);
      }),
    ]);
    const memoryPeaksBytes = [...bed.nodes.values()].map((node) => peakOf(node, KAON_SLICE));
    const tasks = await endedTasks(bed);
    const oomKills = tasks.reduce(
      (sum, { status }) => sum + (status?.certificate?.oomKills ?? 0),
      0,
    );
    return { ...outcome, memoryPeaksBytes, oomKills, tasks };
  } finally {
    kaon.child.kill('SIGTERM');
    await kaon.ended;
  }
}

async function endedTasks(bed: NodesBed): Promise<readonly EndedTask[]> {
  const { stdout } = await bed.kaon('tasks', '--all', '--json');
  return JSON.parse(stdout) as EndedTask[];
}

async function produce({ url }: RedisBed, { light, heavy }: Reports): Promise<void> {
  const counts = ['--light', String(light), '--heavy', String(heavy)];
  const argv = [join(EXAMPLE, 'produce.mjs'), ...counts, '--queue', QUEUE, '--redis', url];
  const { exitCode, stderr } = await startCommand([process.execPath, ...argv]).ended;
  if (exitCode !== 0) throw new Error(`no jobs: ${stderr}`);
}

type Jobs = Omit<FarmOutcome, 'memoryPeaksBytes' | 'oomKills'>;

/** Waits until all jobs have ended, or nothing ends any more. @param look called now and then meanwhile */
async function jobsDone({ socketPath }: RedisBed, look: () => void): Promise<Jobs> {
  const queue = new Queue(QUEUE, { connection: { path: socketPath } });
  const startedAtMs = performance.now();
  try {
    let ended = -1;
    let endedAtMs = startedAtMs;
    for (;;) {
      const counts = await queue.getJobCounts();
      const { completed = 0, failed = 0 } = counts;
      const total = Object.values(counts).reduce((sum, each) => sum + each, 0);
      if (completed + failed > ended) [ended, endedAtMs] = [completed + failed, performance.now()];
      look();
      if (ended === total || performance.now() - endedAtMs > STALLED_MS) {
        const [done, bad] = await Promise.all([queue.getCompleted(), queue.getFailed()]);
        return {
          finished: done.length,
          finishedByName: countsOf(done.map(({ name }) => name)),
          failed: bad.length,
          reasons: [...new Set(bad.map(({ failedReason }) => failedReason))],
          lost: total - done.length - bad.length,
          seconds: (endedAtMs - startedAtMs) / 1000,
        };
      }
      await sleep(LOOK_MS);
    }
  } finally {
    await queue.close();
  }
}

function countsOf(names: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const name of names) counts[name] = (counts[name] ?? 0) + 1;
  return counts;
}

function useOf({ inside }: UnitsNode, unit: string): CgroupUse {
  const { cgroupRoot } = inside;
  return readCgroupUse(cgroupRoot, detectCgroupVersion(cgroupRoot), unit);
}

function peakOf(node: UnitsNode, slice: string): number {
  return useOf(node, sliceCgroup(slice)).memoryPeakBytes ?? NaN;
}
