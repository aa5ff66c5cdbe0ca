/** Runs a campaign as scripts/chaos.mjs has built it, and says how it went. Exit code 0: no violation. */
import { rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { runCampaign, type Outcome } from './campaign.ts';
import { Chronicle } from './chronicle.ts';
import { FAULTS, type FaultKind } from './plan.ts';

const LAST_LINES = 60;
const VIOLATIONS_SHOWN = 20;
const LINES_ABOUT_TASK = 16;
const EXIT_VIOLATED = 1;
const EXIT_FAILED = 2;
const EXIT_INTERRUPTED = 130;

const { values } = parseArgs({
  options: {
    directory: { type: 'string', default: '' },
    seed: { type: 'string', default: '1' },
    seconds: { type: 'string', default: '60' },
    only: { type: 'string', default: '' },
    sentinel: { type: 'string', default: 'no' },
  },
});
const seed = Number(values.seed);
const chronicle = new Chronicle();
const stop = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop.abort());

const out = (text: string): void => void process.stdout.write(`${text}\n`);

async function main(): Promise<number> {
  const only = values.only.split(',').filter((kind): kind is FaultKind => kind in FAULTS);
  out(`seed ${String(seed)}, faults for ${values.seconds} s`);
  const directory = join(values.directory, 'run');
  const outcome = await runCampaign({
    directory,
    programs: values.directory,
    seed,
    seconds: Number(values.seconds),
    only,
    isWatched: values.sentinel === 'yes',
    chronicle,
    signal: stop.signal,
  });
  rmSync(directory, { recursive: true, force: true });
  report(outcome);
  return outcome.violations.length === 0 ? 0 : EXIT_VIOLATED;
}

function report(outcome: Outcome): void {
  const { faults, launched, started, finished, commits, epochs, violations } = outcome;
  if (violations.length > 0) {
    showLog();
    out('');
    for (const { rule, taskId, message } of violations.slice(0, VIOLATIONS_SHOWN)) {
      out(`VIOLATED ${rule}: ${taskId ?? ''} ${message}`);
      for (const line of taskId ? chronicle.about(taskId).slice(-LINES_ABOUT_TASK) : [])
        out(`    ${line}`);
    }
  }
  out('');
  out(`seed      ${String(seed)}`);
  out(`faults    ${[...faults].map(([kind, count]) => `${kind} ${String(count)}`).join(', ')}`);
  const lost = `lost with what Redis lost ${String(launched - finished)}`;
  out(
    `tasks     launched ${String(launched)}, ran ${String(started)}, ended ${String(finished)}, ${lost}`,
  );
  out(`leaders   ${String(epochs)} in ${String(commits)} commits`);
  const count = violations.length === 0 ? 'ok' : `${String(violations.length)} violations`;
  out(`verdict   ${count}`);
  if (violations.length > 0) out(`again     npm run chaos -- --seed ${String(seed)}`);
}

function showLog(): void {
  const path = join(tmpdir(), `kaon-chaos-seed-${String(seed)}.log`);
  chronicle.read();
  chronicle.write(path);
  out(`\nthe last ${String(LAST_LINES)} lines of ${path}:`);
  for (const line of chronicle.last(LAST_LINES)) out(line);
}

try {
  process.exitCode = await main();
} catch (error) {
  if (stop.signal.aborted) {
    out('interrupted');
    process.exitCode = EXIT_INTERRUPTED;
  } else {
    showLog();
    out(`the campaign of seed ${String(seed)} could not be run: ${String((error as Error).stack)}`);
    process.exitCode = EXIT_FAILED;
  }
} finally {
  chronicle.close();
  // A connection that waits for a Redis that has been stopped would keep this process.
  process.exit();
}
