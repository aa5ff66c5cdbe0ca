/**
 * `npm run bench [NAME...]`: runs the benchmarks, prints what they found, and (when all ran) writes bench/README.md.
 * Figures are ratios and medians of one run on one machine; marks are what the project holds itself to.
 */
import { writeFileSync } from 'node:fs';
import type { BenchResult, Figure } from './harness.ts';
import { calibrate, describeMachine, meetsMark } from './harness.ts';

const BENCHES: Readonly<Record<string, () => Promise<{ run: () => Promise<BenchResult> }>>> = {
  throughput: () => import('./throughput.ts'),
  launch: () => import('./launch.ts'),
  allocator: () => import('./allocator.ts'),
  footprint: () => import('./footprint.ts'),
  executor: () => import('./executor.ts'),
  bullmq: () => import('./bullmq.ts'),
  reports: () => import('./reports.ts'),
  failover: () => import('./failover.ts'),
};

/** Parts of a benchmark that run in processes of their own: `bench.js --part NAME JSON`. They end by a signal. */
const PARTS: Readonly<Record<string, (part: never) => Promise<void>>> = {
  agents: async (part) => (await import('./throughput-agents.ts')).runAgents(part),
  frameworks: async (part) => (await import('./throughput-frameworks.ts')).runFrameworks(part),
  'bullmq-baseline': async (part) => (await import('./bullmq-baselines.ts')).runBaseline(part),
  'noop-executor': async () => (await import('./executor-noop.ts')).runNoopExecutor(),
  'failover-load': async (part) => (await import('./failover-load.ts')).runLoad(part),
  'failover-crowd': async (part) => (await import('./failover-crowd.ts')).runCrowd(part),
};

async function main(names: readonly string[]): Promise<number> {
  const [flag, part = '', json = ''] = names;
  if (flag === '--part') {
    await PARTS[part]?.(JSON.parse(json) as never);
    return 0;
  }
  const unknown = names.filter((name) => !(name in BENCHES));
  if (unknown.length > 0) {
    process.stderr.write(
      `no benchmark ${unknown.join(', ')}; there are ${Object.keys(BENCHES).join(', ')}\n`,
    );
    return 2;
  }
  const chosen = names.length === 0 ? Object.keys(BENCHES) : names;
  const calibrationMs = calibrate();
  const sections: string[] = [];
  for (const name of chosen) {
    const load = BENCHES[name];
    if (!load) continue;
    const section = describeResult(await (await load()).run());
    process.stdout.write(`${section}\n`);
    sections.push(section);
  }
  if (names.length === 0) writeFileSync('bench/README.md', page(sections, calibrationMs));
  return 0;
}

function page(sections: readonly string[], calibrationMs: number): string {
  const date = new Date().toISOString().slice(0, 10);
  return `# Benchmarks

Written by \`npm run bench\` on ${date}: ${describeMachine()}. Calibration (a loop of 3e8 steps): ${calibrationMs.toFixed(0)} ms.
Everything of a benchmark runs on the same cores at the same time, the load generator too. Machines like this one are shared and noisy:
compare ratios, and repeat. \`npm run bench -- NAME\` runs one.

${sections.join('\n')}`;
}

function describeResult({ name, about, figures, notes }: BenchResult): string {
  const rows = figures.map(
    (figure) => `| ${figure.name} | ${show(figure)} | ${showMark(figure)} |`,
  );
  return `## ${name}

${about}

| figure | value | mark |
|---|---|---|
${rows.join('\n')}

${notes.join('\n\n')}
`;
}

function show({ value, unit }: Figure): string {
  const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2;
  if (unit === '') return String(value);
  return unit === 'x' ? `${value.toFixed(2)}` : `${value.toFixed(digits)} ${unit}`;
}

function showMark(figure: Figure): string {
  const { mark } = figure;
  if (mark === undefined) return '';
  const text =
    'atLeast' in mark ? `at least ${String(mark.atLeast)}` : `at most ${String(mark.atMost)}`;
  return `${text}: ${meetsMark(figure) ? 'met' : '**missed**'}`;
}

process.exitCode = await main(process.argv.slice(2));
