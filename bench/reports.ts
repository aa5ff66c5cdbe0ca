/**
 * Heavy and light jobs in one queue (examples/bullmq), before and after: one plain BullMQ worker on one host, and `kaon bullmq`
 * on three nodes, with the same memory and the same jobs. What counts is which jobs are done, not how fast.
 */
import type { EndedTask } from '../protocol/records.ts';
import type { FarmOutcome } from '../test/beds/report-farm.ts';
import { FARM_MEM_MIB, runKaonFarm, runPlainFarm } from '../test/beds/report-farm.ts';
import type { BenchResult, Figure } from './harness.ts';

const REPORTS = { light: 60, heavy: 18 };
const BYTES_PER_MIB = 1_048_576;

/** Runs both, one after the other. */
export async function run(): Promise<BenchResult> {
  const before = await runPlainFarm(REPORTS);
  const after = await runKaonFarm(REPORTS);
  return {
    name: 'reports',
    about: `The reports of examples/bullmq: ${String(REPORTS.light)} light jobs (some 30 MiB each) and ${String(REPORTS.heavy)} heavy ones (some 300 MiB) in one queue, and ${String(FARM_MEM_MIB)} MiB for all of it: one host with a plain BullMQ \`Worker\`, concurrency 10, in child processes; then three nodes with \`kaon bullmq\`.`,
    figures: [
      ...figuresOf('plain', before),
      ...figuresOf('Kaon', after).map((figure) =>
        MUST_BE_ZERO.test(figure.name) ? { ...figure, mark: { atMost: 0 } } : figure,
      ),
      {
        name: 'Kaon: most that a job used of its limit',
        value: Math.max(...after.tasks.map(shareOfLimit)),
        unit: 'x',
        mark: { atMost: 1 },
      },
    ],
    notes: [
      `Why jobs failed in the plain worker: ${before.reasons.join('; ') || 'none did'}. The kernel ends whatever is largest when the host is full, and that need not be what filled it; the job does not say why it ended.`,
      'Memory is the high-water mark of the host (the page cache counts, and is given back when memory is short), and for Kaon the sum of those of its nodes, which need not have been at the same time.',
    ],
  };
}

const MUST_BE_ZERO = /failed|lost|OOM/;

function figuresOf(who: string, outcome: FarmOutcome): Figure[] {
  const memoryBytes = outcome.memoryPeaksBytes.reduce((sum, each) => sum + each, 0);
  return [
    { name: `${who}: jobs finished`, value: outcome.finished, unit: '' },
    { name: `${who}: jobs failed`, value: outcome.failed, unit: '' },
    { name: `${who}: jobs lost`, value: outcome.lost, unit: '' },
    { name: `${who}: processes that the kernel ended (OOM)`, value: outcome.oomKills, unit: '' },
    { name: `${who}: memory, most`, value: memoryBytes / BYTES_PER_MIB, unit: 'MiB' },
    { name: `${who}: all done after`, value: outcome.seconds, unit: 's' },
  ];
}

function shareOfLimit({ status }: EndedTask): number {
  const { memoryPeakBytes = NaN, memoryLimitBytes = NaN } = status?.certificate ?? {};
  return memoryPeakBytes / memoryLimitBytes;
}
