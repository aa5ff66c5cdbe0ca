/** The command line of the JobTracker. */
import { readFileSync } from 'node:fs';
import { basename, isAbsolute, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

export const USAGE = `Usage: node job-tracker.mjs --input FILE... --output DIRECTORY --map PROGRAM [options]

Runs one MapReduce job on a cluster of Kaon, and ends with it.

  --input FILE[@NODE,NODE]  what to read, a file or a directory of files; and the nodes, host names or ids of agents, on
                            which a map task reads it best; may be repeated
  --output DIRECTORY        where the results go; empty, or not there yet
  --map PROGRAM             wordcount, or a file that exports map(line, emit) and reduce(key, values, emit): it travels
                            with the job. Or an http:, https: or file: URL that each node reads
  --installed               PROGRAM is a path that is the same on all nodes; nothing travels
  --reduces R               reduce tasks, and parts of the result (default: 1)
  --split SIZE              input of one map task (default: 16M)
  --attempts N              so often a task may fail (default: 4)
  --locality-wait SECONDS   how long to wait for a node that has the input (default: 3)
  --map-cpus, --map-mem     what a map task may use (default: 0.9, 256M)
  --reduce-cpus, --reduce-mem   what a reduce task may use (default: 0.9, 256M)
  --shuffle-host HOST       where map outputs are served on each node (default: its own host name)
  --isolation KIND          container: tasks of a node share one set of limits (default); task: each has its own
  --redis URL               address of Redis (default: KAON_REDIS)
  --cluster NAME            (default: KAON_CLUSTER)

SIZE is a number of bytes, or one with K, M or G. Exit codes: 0 done, 1 failed, 2 wrong usage.`;

/** More would not fit into what a reduce task is told. */
export const MAPS_MAX = 5000;
const REDUCES_MAX = 10_000;
/** Each task of a launch carries the description of its executor, and so the program. */
const PROGRAM_MAX_BYTES = 32 * 1024;

const UNITS = { '': 1, K: 1024, M: 1024 ** 2, G: 1024 ** 3 };

/** Somebody has typed something wrong. */
export class UsageError extends Error {}

/**
 * @returns the options, with defaults; see `USAGE`
 * @throws UsageError
 */
export function parseOptions(argv) {
  const text = (value) => ({ type: 'string', ...(value !== undefined && { default: value }) });
  let values;
  try {
    ({ values } = parseArgs({
      args: argv,
      options: {
        input: { type: 'string', multiple: true, default: [] },
        ...{ output: text(), map: text(), installed: { type: 'boolean', default: false } },
        ...{ reduces: text('1'), split: text('16M'), attempts: text('4') },
        ...{ 'locality-wait': text('3'), isolation: text('container') },
        ...{ 'map-cpus': text('0.9'), 'map-mem': text('256M') },
        ...{ 'reduce-cpus': text('0.9'), 'reduce-mem': text('256M') },
        ...{ 'shuffle-host': text(), redis: text(), cluster: text() },
      },
    }));
  } catch (error) {
    throw new UsageError(error.message, { cause: error });
  }
  for (const name of ['output', 'map']) {
    if (!values[name]) throw new UsageError(`--${name} is missing`);
  }
  if (values.input.length === 0) throw new UsageError('--input is missing');
  if (!['container', 'task'].includes(values.isolation)) {
    throw new UsageError(`--isolation ${values.isolation}: not container or task`);
  }
  const resources = (kind) => ({
    cpuMillis: Math.round(numberIn(values, `${kind}-cpus`, { min: 0.01, max: 1024 }) * 1000),
    memMib: Math.ceil(sizeIn(values, `${kind}-mem`) / UNITS.M),
  });
  return {
    inputs: values.input,
    output: resolve(values.output),
    program: programOf(values.map, values.installed),
    reduces: wholeIn(values, 'reduces', { min: 1, max: REDUCES_MAX }),
    splitBytes: sizeIn(values, 'split'),
    attemptsMax: wholeIn(values, 'attempts', { min: 1, max: 100 }),
    localityWaitMs: numberIn(values, 'locality-wait', { min: 0, max: 3600 }) * 1000,
    resourcesOf: { map: resources('map'), reduce: resources('reduce') },
    isolation: values.isolation,
    shuffleHost: values['shuffle-host'],
    redis: values.redis,
    cluster: values.cluster,
  };
}

function numberIn(values, name, { min, max }) {
  const value = Number(values[name]);
  if (values[name] !== '' && value >= min && value <= max) return value;
  throw new UsageError(`--${name} ${values[name]}: not a number from ${min} to ${max}`);
}

function wholeIn(values, name, range) {
  const value = numberIn(values, name, range);
  if (Number.isInteger(value)) return value;
  throw new UsageError(`--${name} ${values[name]}: not a whole number`);
}

function sizeIn(values, name) {
  const [, digits, unit = ''] = /^(\d+)([KMG]?)$/i.exec(values[name]) ?? [];
  const bytes = Number(digits) * UNITS[unit.toUpperCase()];
  if (bytes > 0 && Number.isSafeInteger(bytes)) return bytes;
  throw new UsageError(`--${name} ${values[name]}: not a size such as 64K, 16M or 1G`);
}

/**
 * Where a TaskTracker finds the program, relative to its sandbox or absolute, and what has to be put there before.
 *
 * @returns `{name, path, uris}`
 * @throws UsageError
 */
function programOf(text, isInstalled) {
  const isUrl = /^(https?|file):/.test(text);
  if (isInstalled) {
    if (isAbsolute(text)) return { name: basename(text), path: text, uris: [] };
    throw new UsageError(`--map ${text}: --installed wants an absolute path`);
  }
  const name = basename(isUrl ? new URL(text).pathname : text).replace(/(\.m?js)?$/, '.mjs');
  const path = `program/${name}`;
  if (isUrl) return { name, path, uris: [{ uri: text, path, extract: false }] };
  const file = /[./]/.test(text) ? text : fileURLToPath(new URL(`${text}.mjs`, import.meta.url));
  let bytes;
  try {
    bytes = readFileSync(file);
  } catch (error) {
    throw new UsageError(`--map ${text}: ${error.message}`, { cause: error });
  }
  if (bytes.length > PROGRAM_MAX_BYTES) {
    throw new UsageError(
      `--map ${text}: more than ${PROGRAM_MAX_BYTES / 1024} KiB do not travel; name a URL, or use --installed`,
    );
  }
  const uri = `data:text/javascript;base64,${bytes.toString('base64')}`;
  return { name, path, uris: [{ uri, path, extract: false }] };
}
