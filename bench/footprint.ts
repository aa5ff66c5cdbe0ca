/** What Kaon costs when it does nothing, and how long a person waits for the command line. */
import { execFileSync, spawnSync } from 'node:child_process';
import { KAON, startClusterBed } from '../test/beds/cluster.ts';
import type { BenchResult } from './harness.ts';
import { median, percentile, residentMbOf } from './harness.ts';

const STARTS = 21;
const RUNS = 25;
/** After so long a daemon has settled: what it needed to start has been collected. */
const IDLE_MS = 10_000;

/** Runs the benchmark on a cluster of its own. */
export async function run(): Promise<BenchResult> {
  const cluster = await startClusterBed();
  try {
    const versionMs = repeat(STARTS, () => execFileSync(process.execPath, [KAON, '--version']));
    const nodeMs = repeat(STARTS, () => execFileSync(process.execPath, ['-e', '0']));
    const environment = { ...process.env, KAON_REDIS: cluster.redis };
    const runMs = repeat(RUNS, () => {
      const { status } = spawnSync(process.execPath, [KAON, 'run', '--', 'true'], {
        env: environment,
      });
      if (status !== 0) throw new Error(`kaon run -- true ended with ${String(status)}`);
    });
    await new Promise((resolve) => setTimeout(resolve, IDLE_MS));
    const [master = 0] = cluster.daemons('master');
    const [agent = 0] = cluster.daemons('agent');
    return {
      name: 'footprint',
      about:
        'Resident memory of an idle master and agent, and wall time of commands from a shell on an idle cluster.',
      figures: [
        {
          name: 'master, resident',
          value: residentMbOf(master),
          unit: 'MB',
          mark: { atMost: 100 },
        },
        { name: 'agent, resident', value: residentMbOf(agent), unit: 'MB', mark: { atMost: 100 } },
        { name: 'node -e 0, p50', value: median(nodeMs), unit: 'ms' },
        {
          name: 'kaon --version, p50',
          value: median(versionMs),
          unit: 'ms',
          mark: { atMost: 150 },
        },
        { name: 'kaon run -- true, p50', value: median(runMs), unit: 'ms', mark: { atMost: 300 } },
        { name: 'kaon run -- true, p90', value: percentile(runMs, 0.9), unit: 'ms' },
      ],
      notes: ['Memory is VmRSS, of which some 40 MB are Node itself, shared between processes.'],
    };
  } finally {
    await cluster.stop();
  }
}

function repeat(count: number, action: () => void): number[] {
  return Array.from({ length: count }, () => {
    const startedAtMs = performance.now();
    action();
    return performance.now() - startedAtMs;
  });
}
