/**
 * One MapReduce job as a framework of its own, from its input to its output: the JobTracker of the Hadoop story, told in
 * docs/mapreduce.md.
 *
 *   node examples/mapreduce/job-tracker.mjs --input book.txt --output counts --map wordcount --reduces 4
 */
import { fileURLToPath } from 'node:url';
import { SchedulerDriver } from 'kaon/framework';
import { countDone, createJob, isDone } from './job.mjs';
import { createDelay } from './locality.mjs';
import { MAPS_MAX, parseOptions, USAGE, UsageError } from './options.mjs';
import { openOutput } from './output.mjs';
import { createScheduler } from './scheduler.mjs';
import { readInput, splitsOf } from './splits.mjs';

const TASK_TRACKER = fileURLToPath(new URL('task-tracker.mjs', import.meta.url));
const EXIT_FAILED = 1;
const EXIT_USAGE = 2;
/** A job dies with its JobTracker; so long its tasks go on without one. */
const FAILOVER_TIMEOUT_MS = 30_000;

/** Of the TaskTracker itself, on top of what its tasks have. */
const TRACKER_RESOURCES = { cpuMillis: 200, memMib: 128 };

function describeTracker({ program, reduces, shuffleHost, isolation }) {
  return {
    executorId: 'task-tracker',
    name: 'task-tracker',
    resources: TRACKER_RESOURCES,
    command: { argv: [process.execPath, TASK_TRACKER] },
    uris: program.uris,
    isolation,
    data: JSON.stringify({ program: program.path, reduces, shuffleHost }),
  };
}

/** @returns `progress`, which says something when a percent has been gained, or anything was lost */
function createReport(job) {
  let said = '';
  let percentSaid = -1;
  const tell = (line) => console.log(line);
  return {
    event: tell,
    warning: (line) => console.error(line),
    progress: () => {
      const [maps, reduces] = [countDone(job.maps), countDone(job.reduces)];
      const total = job.maps.length + job.reduces.length;
      const percent = Math.floor((100 * (maps + reduces)) / total);
      const line = `maps ${maps}/${job.maps.length}, reduces ${reduces}/${job.reduces.length}`;
      if (line !== said && percent !== percentSaid) tell(line);
      [said, percentSaid] = [line, percent];
    },
  };
}

function readInputs({ inputs, splitBytes }) {
  const files = inputs.flatMap(readInput);
  const splits = splitsOf(files, splitBytes);
  if (splits.length > MAPS_MAX) {
    throw new Error(
      `${splits.length} map tasks are too many, at most ${MAPS_MAX}: choose a larger --split`,
    );
  }
  return { splits, bytes: files.reduce((sum, file) => sum + file.bytes, 0) };
}

function summarize(job, { totals, startedMs, bytes }) {
  const { map, reduce } = totals.counters;
  const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
  const cpu = ((map.cpuMs ?? 0) + reduce.cpuMs) / 1000;
  const lines = [
    `done in ${seconds} s: ${bytes} bytes, ${map.lines ?? 0} lines, ${map.emitted ?? 0} records, ${reduce.keys} keys`,
    `shuffled ${reduce.copiedBytes} bytes, wrote ${reduce.resultBytes}; ${job.repeated} attempts repeated`,
    `largest process: map ${mib(map.peakKib)} MiB, reduce ${mib(reduce.peakKib)} MiB; CPU ${cpu.toFixed(1)} s`,
  ];
  if (totals.placed > 0)
    lines.push(`${totals.near} of ${totals.placed} map tasks ran where their input is`);
  return lines.join('\n');
}

const mib = (kib = 0) => Math.round(kib / 1024);

async function runJob(options) {
  const startedMs = performance.now();
  const { splits, bytes } = readInputs(options);
  const job = createJob(splits, options);
  const output = openOutput(options.output);
  try {
    const report = createReport(job);
    const executor = describeTracker(options);
    const delay = createDelay(options.localityWaitMs);
    const { resourcesOf, redis, cluster } = options;
    const scheduler = createScheduler({ job, executor, resourcesOf, delay, output, report });
    const driver = new SchedulerDriver(
      scheduler,
      { name: `mapreduce ${options.program.name}`, failoverTimeoutMs: FAILOVER_TIMEOUT_MS },
      { ...(redis && { redis }), ...(cluster && { cluster }) },
    );
    report.progress();
    stopOnSignals(driver, job);
    await driver.run();
    if (job.failure === '' && !isDone(job)) job.failure = 'it was stopped before its end';
    if (job.failure !== '') throw new Error(`the job has failed: ${job.failure}`);
    output.finish();
    console.log(summarize(job, { totals: scheduler.totals, startedMs, bytes }));
  } catch (error) {
    output.abandon();
    throw error;
  }
}

/** Ctrl-C ends the job, and not only this process. */
function stopOnSignals(driver, job) {
  for (const signal of ['SIGINT', 'SIGTERM']) {
    process.once(signal, () => {
      if (job.failure === '') job.failure = `it was ended by ${signal}`;
      void driver.stop();
    });
  }
}

try {
  await runJob(parseOptions(process.argv.slice(2)));
} catch (error) {
  console.error(error.message);
  if (error instanceof UsageError) console.error(`\n${USAGE}`);
  process.exitCode = error instanceof UsageError ? EXIT_USAGE : EXIT_FAILED;
}
