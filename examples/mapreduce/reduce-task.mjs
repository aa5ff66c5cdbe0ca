/** A reduce task: copies its partition of every map output, merges, and gives each key to the user's `reduce`. */
import { mkdirSync } from 'node:fs';
import { fetchAll } from './fetch.mjs';
import { TextWriter } from './lines.mjs';
import { callUser } from './program.mjs';
import { forEachGroup, mergeRuns } from './sorted.mjs';

/** Map outputs that are not there (any more). */
export class OutputsLost extends Error {
  constructor(lost, problem) {
    super(`${lost.length} map outputs could not be had: ${problem}`);
    this.lost = lost;
  }
}

/**
 * @param order.outputs of all map tasks: `[{tracker, output}]`
 * @param order.directory to make, for what is copied
 * @param order.target file to write, which must not exist
 * @returns counters
 * @throws OutputsLost; Error with the key, if the user's function fails
 */
export async function runReduce({ partition, outputs, directory, target }, program) {
  mkdirSync(directory, { recursive: true });
  const { files, lost, problem } = await fetchAll({ outputs, partition, directory });
  if (lost.length > 0) throw new OutputsLost(lost, problem);
  const { reduce, encoding } = program;
  const writer = new TextWriter(target, encoding);
  const counters = { keys: 0, results: 0, copiedBytes: 0, resultBytes: 0 };
  for (const { end } of files) counters.copiedBytes += end;
  const emit = (key, value) => {
    counters.results += 1;
    writer.write(`${key}\t${typeof value === 'string' ? value : JSON.stringify(value)}\n`);
  };
  try {
    forEachGroup(mergeRuns(files, directory), (key, values) => {
      counters.keys += 1;
      callUser(
        'reduce',
        () => `the key ${JSON.stringify(key)}`,
        () => reduce(key, values, emit),
      );
    });
  } catch (error) {
    writer.abandon();
    throw error;
  }
  // On disk: the job may be called done because of it.
  writer.close(true);
  counters.resultBytes = writer.bytes;
  return counters;
}
